package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// Namespace begins the name of every metric but those of the Go runtime and the
// process.
const Namespace = "alpha_oracle_worker"

// other is the label of what is on no list.
const other = "other"

// scrapeTime bounds one scrape.
const scrapeTime = 5 * time.Second

// Options name what a worker has. The lists are those of the labels.
type Options struct {
	// Version is that of the program.
	Version string
	// Jobs are the scheduled jobs, Datasets what they store, Providers whom
	// they ask, Limiters the names of the limits, and Servers what the worker
	// needs to be there.
	Jobs, Datasets, Providers, Limiters, Servers []string
	// Alarms are the kinds of alarms.
	Alarms []string
	// Pools tells how the connection pools are, without asking a server; nil:
	// there are none.
	Pools func() []Pool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Pool is a pool of connections.
type Pool struct {
	Name string
	// InUse, Idle and Max count connections.
	InUse, Idle, Max int
	// Waits counts those who had to wait for a connection since the start, or
	// to open one.
	Waits int64
}

// Metrics holds the figures. It is safe for concurrent use. All methods but
// Handler and Keep may be called on a nil one, and do nothing then: a command
// that nobody scrapes needs none.
type Metrics struct {
	o        Options
	registry *prometheus.Registry

	runs, units, rows, calls *prometheus.CounterVec
	duration, call, wait     *prometheus.HistogramVec
	refused                  *prometheus.GaugeVec
	feed                     prometheus.Gauge
	alarms                   *prometheus.CounterVec
	heartbeats               *prometheus.CounterVec

	state
}

// New returns metrics that are all zero.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{o: o, registry: prometheus.NewRegistry()}
	m.addCounters()
	m.addState()
	m.addProcess()
	m.zero()
	return m
}

// Handler serves the metrics. A scrape asks no server.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, Timeout: scrapeTime, EnableOpenMetrics: true})
}

// Gatherer gives the metrics as values.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: Namespace, Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: Namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) addCounters() {
	m.runs = m.counter("runs_total", "Runs of this process that have ended, by how: ok, partial, quota, failed, interrupted.", "job_name", "status")
	m.duration = m.histogram("run_duration_seconds", "How long runs took.", []float64{1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 24 * 3600}, "job_name")
	m.units = m.counter("units_total", "Units (symbols, documents) of ended runs, by outcome; only stored and unchanged are done.", "job_name", "outcome")
	m.rows = m.counter("rows_total", "Rows compared with the database: new, corrected (a stored value differed) or unchanged (not written).", "dataset", "change")
	m.calls = m.counter("provider_calls_total", "Calls to providers, each try, by class of their status; no_answer: the network or the time ended it; no_status: the protocol has none.", "provider", "status")
	m.call = m.histogram("provider_call_duration_seconds", "From the start of a call to the beginning of its answer, without the wait for the limit.", []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}, "provider")
	m.wait = m.histogram("limiter_wait_seconds", "How long calls waited for their limit and the ledger.", []float64{.001, .01, .1, 1, 5, 15, 60, 300, 1800}, "limiter")
	m.refused = m.gauge("provider_key_refused", "1 while the newest call to the provider was refused: the key, its plan or the request.", "provider")
	m.feed = m.gauge("feed_up", "1 while the newest call to a source of bars had an answer, or there was none yet; 0 while there is no answer or an error of the server.").WithLabelValues()
	m.alarms = m.counter("alarm_deliveries_total", "Tries to deliver an alarm to the webhook: ok or failed.", "kind", "result")
	m.heartbeats = m.counter("heartbeats_total", "Pings of the heartbeat URL: ok or failed. None is sent while bars are late.", "result")
}

func (m *Metrics) addProcess() {
	m.gauge("build_info", "1, with the version of the worker and of Go.", "version", "go_version").WithLabelValues(m.o.Version, runtime.Version()).Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if m.o.Pools != nil {
		m.registry.MustRegister(newPools(m.o.Pools))
	}
}

// zero makes every series, so that the first event is an increase too.
func (m *Metrics) zero() {
	for _, job := range with(m.o.Jobs) {
		m.duration.WithLabelValues(job)
		for _, status := range statuses() {
			m.runs.WithLabelValues(job, status)
		}
		for _, outcome := range outcomes() {
			m.units.WithLabelValues(job, outcome)
		}
	}
	for _, dataset := range with(m.o.Datasets) {
		for _, change := range []string{"new", "corrected", "unchanged"} {
			m.rows.WithLabelValues(dataset, change)
		}
	}
	for _, provider := range with(m.o.Providers) {
		m.call.WithLabelValues(provider)
		m.refused.WithLabelValues(provider)
		for _, status := range []string{"2xx", "3xx", "4xx", "5xx", noAnswer, noStatus} {
			m.calls.WithLabelValues(provider, status)
		}
	}
	for _, limiter := range with(m.o.Limiters) {
		m.wait.WithLabelValues(limiter)
	}
	for _, result := range []string{"ok", "failed"} {
		m.heartbeats.WithLabelValues(result)
		for _, kind := range with(m.o.Alarms) {
			m.alarms.WithLabelValues(kind, result)
		}
	}
	m.feed.Set(1)
}

func with(names []string) []string { return append(slices.Clone(names), other) }

func statuses() []string {
	return []string{string(sweep.OK), string(sweep.Partial), string(sweep.OutOfQuota), string(sweep.Failed), string(sweep.WasInterrupted), other}
}

func outcomes() []string {
	names := []string{other}
	for _, o := range sweep.Outcomes() {
		names = append(names, string(o))
	}
	return names
}

// among returns name if it is on the list, else "other".
func among(list []string, name string) string {
	if slices.Contains(list, name) {
		return name
	}
	return other
}

// RunEnded counts a run and its units.
func (m *Metrics) RunEnded(r sweep.Report) {
	if m == nil {
		return
	}
	job := among(m.o.Jobs, r.Job)
	m.runs.WithLabelValues(job, among(statuses(), string(r.Status))).Inc()
	m.duration.WithLabelValues(job).Observe(max(0, r.FinishedAt.Sub(r.StartedAt).Seconds()))
	for outcome, n := range r.Outcomes {
		m.units.WithLabelValues(job, among(outcomes(), string(outcome))).Add(float64(n))
	}
}

// Saved counts rows that a save has compared with what was stored.
func (m *Metrics) Saved(dataset string, c market.Changes) {
	if m == nil {
		return
	}
	dataset = among(m.o.Datasets, dataset)
	m.rows.WithLabelValues(dataset, "new").Add(float64(c.Inserted))
	m.rows.WithLabelValues(dataset, "corrected").Add(float64(c.Updated))
	m.rows.WithLabelValues(dataset, "unchanged").Add(float64(c.Unchanged))
}

// The classes of calls without an HTTP status.
const (
	noAnswer = "no_answer"
	noStatus = "no_status"
)

// Called counts a call over HTTP and its time; status is 0 if there was no
// answer.
func (m *Metrics) Called(provider string, status int, took time.Duration) {
	if m == nil {
		return
	}
	provider = among(m.o.Providers, provider)
	m.calls.WithLabelValues(provider, class(status)).Inc()
	m.call.WithLabelValues(provider).Observe(took.Seconds())
}

func class(status int) string {
	if status < 200 || status > 599 {
		return noAnswer
	}
	return string(rune('0'+status/100)) + "xx"
}

// Sent counts a call of a protocol without statuses, when it is sent.
func (m *Metrics) Sent(provider string) {
	if m != nil {
		m.calls.WithLabelValues(among(m.o.Providers, provider), noStatus).Inc()
	}
}

// Refused notes whether a provider refuses the key or the request.
func (m *Metrics) Refused(provider string, is bool) {
	if m != nil {
		m.refused.WithLabelValues(among(m.o.Providers, provider)).Set(number(is))
	}
}

// FeedUp notes whether the sources of bars can be reached.
func (m *Metrics) FeedUp(is bool) {
	if m != nil {
		m.feed.Set(number(is))
	}
}

// Waited counts a call's wait for its limit.
func (m *Metrics) Waited(limiter string, d time.Duration) {
	if m != nil {
		m.wait.WithLabelValues(among(m.o.Limiters, limiter)).Observe(max(0, d.Seconds()))
	}
}

// AlarmTried counts a try to deliver an alarm.
func (m *Metrics) AlarmTried(kind string, err error) {
	if m != nil {
		m.alarms.WithLabelValues(among(m.o.Alarms, kind), result(err)).Inc()
	}
}

// HeartbeatTried counts a ping of the heartbeat URL.
func (m *Metrics) HeartbeatTried(err error) {
	if m != nil {
		m.heartbeats.WithLabelValues(result(err)).Inc()
	}
}

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

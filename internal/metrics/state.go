package metrics

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Every is how often [Metrics.Keep] reads the state.
	Every = 15 * time.Second
	// readTime bounds one reading.
	readTime = 10 * time.Second
)

// State is what is read from the database, Redis and the limits. What could not
// be read is nil, and keeps the figures that it had; a job or a limit that is not
// among those that were read has none any more.
type State struct {
	Jobs   []Job
	Limits []Limit
	// Servers tells of each server whether it answers.
	Servers map[string]bool
	Bars    *Bars
}

// Job is how a scheduled job is.
type Job struct {
	Name string
	// LastSuccess is the end of its newest run that was ok; zero: none.
	LastSuccess time.Time
	// Next is when its next period is due.
	Next time.Time
	// Missed and GaveUp count the periods since the newest complete one that
	// came to nothing.
	Missed, GaveUp int
	// QuotaRatio is the calls that a period needs by those that the limits
	// allow until the next one; 0 if that is not known.
	QuotaRatio float64
}

// Limit is a window of a limiter.
type Limit struct {
	Name string
	// Left is what may go now; nil if nobody knows.
	Left  *int
	Limit int
}

// Bars is how the newest session whose deadline has passed is stored.
type Bars struct {
	In, Excused, Missing int
	// InTime says that they are in, as the heartbeat goes by.
	InTime bool
	// Stale is the number of recent sessions that are not in.
	Stale int
}

// state are the metrics that Keep sets.
type state struct {
	success, next, lost, ratio *prometheus.GaugeVec
	left, limit                *prometheus.GaugeVec
	server, symbols            *prometheus.GaugeVec
	inTime                     *prometheus.GaugeVec
	stale, read                prometheus.Gauge
	failures                   prometheus.Counter
}

func (m *Metrics) addState() {
	m.success = m.gauge("job_last_success_timestamp_seconds", "When the newest run of the job that was ok has ended, as Unix time, of all replicas; absent if there was none.", "job_name")
	m.next = m.gauge("job_next_period_timestamp_seconds", "When the next period of the job is due, as Unix time.", "job_name")
	m.lost = m.gauge("job_lost_periods", "Periods of the job since its newest complete one that were missed or given up.", "job_name", "state")
	m.ratio = m.gauge("quota_plan_ratio", "Calls that a period of the job needs by those that the limits allow until the next one; above 1 it never completes in time.", "job_name")
	m.left = m.gauge("limiter_tokens", "Calls that may go now: of a sliding window the burst, of a day what is left; absent if nobody knows.", "limiter")
	m.limit = m.gauge("limiter_limit", "Calls in the window.", "limiter")
	m.server = m.gauge("server_up", "1 while the server answers.", "server")
	m.symbols = m.gauge("session_symbols", "Symbols of the newest session whose deadline has passed: in, excused (no source has it) or missing.", "state")
	m.inTime = m.gauge("bars_in_time", "1 while the bars of the newest session whose deadline has passed are in, as the heartbeat goes by; absent until that is known.")
	m.stale = m.gauge("stale_sessions", "Sessions, of the five newest whose deadline has passed, whose bars are not in.").WithLabelValues()
	m.read = m.gauge("state_read_timestamp_seconds", "When the database, Redis and the limits were last read for these metrics, as Unix time.").WithLabelValues()
	m.failures = m.counter("state_read_failures_total", "Readings of the database, Redis and the limits that failed, in whole or in part.").WithLabelValues()
}

// Keep reads the state now and every [Every], until ctx ends. A reading that
// takes long delays the next one and no scrape.
func (m *Metrics) Keep(ctx context.Context, read func(context.Context) (State, error)) {
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for {
		m.readOnce(ctx, read)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Metrics) readOnce(ctx context.Context, read func(context.Context) (State, error)) {
	bounded, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	s, err := read(bounded)
	if ctx.Err() != nil {
		return
	}
	m.Set(s)
	if err != nil {
		m.failures.Inc()
		return
	}
	m.read.Set(unix(m.o.Now()))
}

// Set sets the figures of a state, and takes away those of jobs and limits that
// it does not have any more.
func (m *Metrics) Set(s State) {
	m.forget(s)
	for _, j := range s.Jobs {
		m.setJob(j)
	}
	for _, l := range s.Limits {
		name := among(m.o.Limiters, l.Name)
		m.limit.WithLabelValues(name).Set(float64(l.Limit))
		m.left.DeleteLabelValues(name)
		if l.Left != nil {
			m.left.WithLabelValues(name).Set(float64(*l.Left))
		}
	}
	for server, up := range s.Servers {
		m.server.WithLabelValues(among(m.o.Servers, server)).Set(number(up))
	}
	if s.Bars != nil {
		m.inTime.WithLabelValues().Set(number(s.Bars.InTime))
		m.stale.Set(float64(s.Bars.Stale))
		m.symbols.WithLabelValues("in").Set(float64(s.Bars.In))
		m.symbols.WithLabelValues("excused").Set(float64(s.Bars.Excused))
		m.symbols.WithLabelValues("missing").Set(float64(s.Bars.Missing))
	}
}

// forget takes away what was read before, where a state has read it anew.
func (m *Metrics) forget(s State) {
	if s.Jobs != nil {
		for _, vec := range []*prometheus.GaugeVec{m.success, m.next, m.lost, m.ratio} {
			keep(vec, "job_name", m.o.Jobs, func(name string) bool {
				return slices.ContainsFunc(s.Jobs, func(j Job) bool { return j.Name == name && (vec != m.ratio || j.QuotaRatio > 0) })
			})
		}
	}
	if s.Limits != nil {
		for _, vec := range []*prometheus.GaugeVec{m.left, m.limit} {
			keep(vec, "limiter", m.o.Limiters, func(name string) bool {
				return slices.ContainsFunc(s.Limits, func(l Limit) bool { return l.Name == name })
			})
		}
	}
}

// keep takes away the series of those names that are not there.
func keep(vec *prometheus.GaugeVec, label string, names []string, there func(string) bool) {
	for _, name := range names {
		if !there(name) {
			vec.DeletePartialMatch(prometheus.Labels{label: name})
		}
	}
}

func (m *Metrics) setJob(j Job) {
	name := among(m.o.Jobs, j.Name)
	if !j.LastSuccess.IsZero() {
		m.success.WithLabelValues(name).Set(unix(j.LastSuccess))
	}
	if !j.Next.IsZero() {
		m.next.WithLabelValues(name).Set(unix(j.Next))
	}
	if j.QuotaRatio > 0 {
		m.ratio.WithLabelValues(name).Set(j.QuotaRatio)
	}
	m.lost.WithLabelValues(name, "missed").Set(float64(j.Missed))
	m.lost.WithLabelValues(name, "gave_up").Set(float64(j.GaveUp))
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// pools are the connection pools, which are looked at in each scrape: their
// figures are in memory.
type pools struct {
	stats                  func() []Pool
	connections, most, was *prometheus.Desc
}

func newPools(stats func() []Pool) *pools {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(Namespace, "", name), help, labels, nil)
	}
	return &pools{
		stats:       stats,
		connections: desc("pool_connections", "Connections of a pool, in_use or idle.", "pool", "state"),
		most:        desc("pool_connections_max", "Connections that a pool may have.", "pool"),
		was:         desc("pool_waits_total", "Times that somebody found no idle connection in the pool.", "pool"),
	}
}

// Describe implements [prometheus.Collector].
func (p *pools) Describe(to chan<- *prometheus.Desc) {
	to <- p.connections
	to <- p.most
	to <- p.was
}

// Collect implements [prometheus.Collector].
func (p *pools) Collect(to chan<- prometheus.Metric) {
	for _, one := range p.stats() {
		to <- prometheus.MustNewConstMetric(p.connections, prometheus.GaugeValue, float64(one.InUse), one.Name, "in_use")
		to <- prometheus.MustNewConstMetric(p.connections, prometheus.GaugeValue, float64(one.Idle), one.Name, "idle")
		to <- prometheus.MustNewConstMetric(p.most, prometheus.GaugeValue, float64(one.Max), one.Name)
		to <- prometheus.MustNewConstMetric(p.was, prometheus.CounterValue, float64(one.Waits), one.Name)
	}
}

package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/metrics"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// newMetrics returns the metrics of a worker with one of everything.
func newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Options{
		Version: "v1", Jobs: []string{"daily_bars"}, Datasets: []string{"bars"}, Providers: []string{"acme"},
		Limiters: []string{"acme"}, Servers: []string{"database", "redis"}, Alarms: []string{"stale_bars"},
		Pools: func() []metrics.Pool { return []metrics.Pool{{Name: "redis", InUse: 1, Idle: 2, Max: 8, Waits: 3}} },
	})
}

// fullState is one in which everything is known.
func fullState() metrics.State {
	return metrics.State{
		Jobs:    []metrics.Job{{Name: "daily_bars", LastSuccess: time.Unix(1e9, 0), Next: time.Unix(2e9, 0), Missed: 1, GaveUp: 2, QuotaRatio: 20}},
		Limits:  []metrics.Limit{{Name: "acme", Left: new(7), Limit: 25}},
		Servers: map[string]bool{"database": true, "redis": false},
		Bars:    &metrics.Bars{In: 498, Excused: 1, Missing: 1, Stale: 1},
	}
}

func families(t *testing.T, m *metrics.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	list, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.MetricFamily{}
	for _, f := range list {
		found[f.GetName()] = f
	}
	return found
}

func scrape(m *metrics.Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, _ := io.ReadAll(w.Body)
	return string(text)
}

// sweepOf runs a sweep of n symbols that end in all outcomes, each with a text of
// its own, and returns its report.
func sweepOf(ctx context.Context, m *metrics.Metrics, n int) sweep.Report {
	symbols := make([]market.Symbol, n)
	for i := range symbols {
		symbols[i] = market.Symbol(fmt.Sprintf("S%05d", i))
	}
	all := sweep.Outcomes()
	tally := sweep.Sweep{
		Workers: 1, Breaker: n + 1,
		Visit: func(_ context.Context, s market.Symbol) (sweep.Result, error) {
			var i int
			_, _ = fmt.Sscanf(string(s), "S%d", &i)
			m.Waited("acme", time.Duration(i)*time.Millisecond)
			m.Called("acme", 200+i%400, time.Duration(i)*time.Microsecond)
			m.Called("https://acme.example/"+string(s), 200, 0)
			m.Sent("acme " + string(s))
			m.Refused(string(s), true)
			m.Saved("bars", market.Changes{Inserted: 1})
			m.Saved(string(s), market.Changes{Unchanged: 1})
			m.AlarmTried(string(s), nil)
			return sweep.Result{Outcome: all[i%len(all)], Message: "no data for " + string(s), Source: string(s)}, nil
		},
	}.Run(ctx, symbols)
	return sweep.NewReport("daily_bars", "2026-03-12", 0, tally, false)
}

// The number of series is the same for 10 symbols and for 10,000, however the
// names that the counters are told.
func TestSeriesDoNotGrowWithTheUniverse(t *testing.T) {
	t.Parallel()
	series := map[int]int{}
	for _, n := range []int{10, 10_000} {
		m := newMetrics()
		report := sweepOf(t.Context(), m, n)
		if report.Symbols != n {
			t.Fatalf("the sweep had %d symbols, want %d", report.Symbols, n)
		}
		m.RunEnded(report)
		m.RunEnded(sweep.Report{Job: "S00001", Status: "S00001", Outcomes: map[sweep.Outcome]int{"S00001": 1}})
		m.Set(fullState())
		text := scrape(m)
		if i := strings.Index(text, "S0000"); i >= 0 {
			t.Errorf("a symbol is in the metrics: %s", text[max(0, i-80):i+10])
		}
		for _, line := range strings.Split(text, "\n") {
			// What the runtime adds is its own.
			if strings.HasPrefix(line, metrics.Namespace) {
				series[n]++
			}
		}
	}
	if series[10] != series[10_000] || series[10] < 50 {
		t.Errorf("%d series for 10 symbols, %d for 10,000; want as many, and some", series[10], series[10_000])
	}
}

func TestCountersCount(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	start := time.Unix(1e9, 0)
	m.RunEnded(sweep.Report{
		Job: "daily_bars", Status: sweep.Partial, StartedAt: start, FinishedAt: start.Add(90 * time.Second),
		Outcomes: map[sweep.Outcome]int{sweep.Stored: 3, sweep.NotReady: 2},
	})
	m.Saved("bars", market.Changes{Inserted: 5, Updated: 2, Unchanged: 93})
	m.Called("acme", 429, time.Second)
	m.Called("acme", 0, time.Second)
	m.Sent("acme")
	m.Refused("acme", true)
	m.FeedUp(false)
	m.Waited("acme", 12*time.Second)
	m.AlarmTried("stale_bars", errors.New("down"))
	m.HeartbeatTried(nil)
	m.Set(fullState())
	text := scrape(m)
	for _, want := range []string{
		`runs_total{job_name="daily_bars",status="partial"} 1`,
		`runs_total{job_name="daily_bars",status="ok"} 0`,
		`run_duration_seconds_sum{job_name="daily_bars"} 90`,
		`units_total{job_name="daily_bars",outcome="not_ready"} 2`,
		`rows_total{change="new",dataset="bars"} 5`,
		`rows_total{change="corrected",dataset="bars"} 2`,
		`rows_total{change="unchanged",dataset="bars"} 93`,
		`provider_calls_total{provider="acme",status="4xx"} 1`,
		`provider_calls_total{provider="acme",status="no_answer"} 1`,
		`provider_calls_total{provider="acme",status="no_status"} 1`,
		`provider_key_refused{provider="acme"} 1`,
		`feed_up 0`,
		`limiter_wait_seconds_bucket{limiter="acme",le="5"} 0`,
		`limiter_wait_seconds_bucket{limiter="acme",le="15"} 1`,
		`limiter_tokens{limiter="acme"} 7`,
		`limiter_limit{limiter="acme"} 25`,
		`alarm_deliveries_total{kind="stale_bars",result="failed"} 1`,
		`heartbeats_total{result="ok"} 1`,
		`job_last_success_timestamp_seconds{job_name="daily_bars"} 1e+09`,
		`job_next_period_timestamp_seconds{job_name="daily_bars"} 2e+09`,
		`job_lost_periods{job_name="daily_bars",state="missed"} 1`,
		`job_lost_periods{job_name="daily_bars",state="gave_up"} 2`,
		`quota_plan_ratio{job_name="daily_bars"} 20`,
		`server_up{server="redis"} 0`,
		`session_symbols{state="missing"} 1`,
		`stale_sessions 1`,
		`pool_connections{pool="redis",state="idle"} 2`,
		`pool_waits_total{pool="redis"} 3`,
	} {
		if !strings.Contains(text, "\n"+metrics.Namespace+"_"+want+"\n") {
			t.Errorf("no line %s_%s", metrics.Namespace, want)
		}
	}
	for _, want := range []string{"go_goroutines ", "process_start_time_seconds ", `build_info{go_version="go1.`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// A level that nobody knows any longer is not shown as the one that it was.
func TestUnknownLevelIsAbsent(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Set(fullState())
	m.Set(metrics.State{Limits: []metrics.Limit{{Name: "acme", Limit: 25}}})
	text := scrape(m)
	if strings.Contains(text, "limiter_tokens{") || !strings.Contains(text, `limiter_limit{limiter="acme"} 25`) {
		t.Errorf("the level is still there:\n%s", text)
	}
	if !strings.Contains(text, `server_up{server="database"} 1`) {
		t.Error("what a state does not tell was forgotten")
	}
}

// What was read and is not there any more, since the configuration is another one,
// goes; what could not be read stays.
func TestWhatIsGoneGoes(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Set(fullState())
	m.Set(metrics.State{})
	all := families(t, m)
	names := []string{"job_last_success_timestamp_seconds", "job_next_period_timestamp_seconds", "job_lost_periods", "quota_plan_ratio", "limiter_tokens", "limiter_limit"}
	for _, name := range names {
		if all["alpha_oracle_worker_"+name] == nil {
			t.Errorf("%s has gone, though nothing was read", name)
		}
	}
	m.Set(metrics.State{Jobs: []metrics.Job{}, Limits: []metrics.Limit{}})
	all = families(t, m)
	for _, name := range names {
		if f := all["alpha_oracle_worker_"+name]; f != nil {
			t.Errorf("%s is still there: %v", name, f)
		}
	}
	m.Set(fullState())
	fits := fullState()
	fits.Jobs[0].QuotaRatio = 0
	m.Set(fits)
	if f := families(t, m)["alpha_oracle_worker_quota_plan_ratio"]; f != nil {
		t.Errorf("a ratio that nobody knows any more: %v", f)
	}
}

// Nobody says that bars are late, or in time, before they were looked for.
func TestBarsInTime(t *testing.T) {
	t.Parallel()
	const name = "alpha_oracle_worker_bars_in_time"
	m := newMetrics()
	if strings.Contains(scrape(m), "\n"+name+" ") {
		t.Error("it is known before anything was read")
	}
	for _, in := range []bool{false, true} {
		s := fullState()
		s.Bars.InTime = in
		m.Set(s)
		if want := map[bool]string{false: " 0\n", true: " 1\n"}[in]; !strings.Contains(scrape(m), name+want) {
			t.Errorf("in time %t: no %s%s", in, name, want)
		}
	}
}

// A scrape is answered while the database hangs, with the figures of the last
// reading, and no reading goes on for longer than its time.
func TestScrapeWaitsForNoServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics()
		ctx, cancel := context.WithCancel(t.Context())
		var readings atomic.Int64
		var hangs atomic.Bool
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.Keep(ctx, func(ctx context.Context) (metrics.State, error) {
				readings.Add(1)
				if hangs.Load() {
					<-ctx.Done()
					return metrics.State{}, ctx.Err()
				}
				return fullState(), nil
			})
		}()
		synctest.Wait()
		for range 5 {
			if !strings.Contains(scrape(m), "stale_sessions 1\n") {
				t.Error("the state is not shown")
			}
		}
		if n := readings.Load(); n != 1 {
			t.Errorf("%d readings for 5 scrapes, want 1", n)
		}
		hangs.Store(true)
		time.Sleep(metrics.Every + time.Second)
		synctest.Wait()
		before := time.Now()
		text := scrape(m)
		if !strings.Contains(text, "stale_sessions 1\n") || time.Since(before) != 0 {
			t.Errorf("a scrape while a reading hangs took %s:\n%s", time.Since(before), text)
		}
		time.Sleep(metrics.Every)
		synctest.Wait()
		if text := scrape(m); !strings.Contains(text, "state_read_failures_total 1\n") || readings.Load() != 3 {
			t.Errorf("a reading that hung is not counted as failed, or %d readings", readings.Load())
		}
		cancel()
		<-ended
	})
}

func TestNoMetricsAreFine(t *testing.T) {
	t.Parallel()
	var m *metrics.Metrics
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	m.RunEnded(sweep.Report{})
	m.Saved("bars", market.Changes{})
	m.Called("acme", 200, 0)
	m.Sent("acme")
	m.Refused("acme", true)
	m.FeedUp(true)
	m.Waited("acme", 0)
	m.AlarmTried("stale_bars", nil)
	m.HeartbeatTried(nil)
}

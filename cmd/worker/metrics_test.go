package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/alpha-oracle/worker/internal/alarm"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

// receiver stands for who gets alarms and heartbeats.
type receiver struct {
	mu     sync.Mutex
	events []alarm.Event
	bodies string
	beats  int
}

// heard returns what has come since it was asked last.
func (r *receiver) heard() (events []string, beats int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		events = append(events, e.State+" "+string(e.Kind))
	}
	beats = r.beats
	r.events, r.beats = nil, 0
	return events, beats
}

// watched is a worker between the start and the end of its work.
type watched struct {
	*app
	*receiver
	s   *services
	man *watchman
	log *syncBuffer
	// ahead is how far its clock was set forward, in nanoseconds.
	ahead atomic.Int64
}

// watched starts what watches over a worker, at a time after the deadline of the
// session of most tests.
func (w *world) watched() *watched {
	w.t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies += string(body)
		if strings.HasPrefix(req.URL.Path, "/beat") {
			r.beats++
			return
		}
		var e alarm.Event
		if err := json.Unmarshal(body, &e); err != nil {
			w.t.Errorf("%v: %s", err, body)
		}
		r.events = append(r.events, e)
	}))
	w.t.Cleanup(server.Close)
	w.env["SA_ALARM__WEBHOOK_URL"] = server.URL + "/hook/TOKENofTheHook"
	w.env["SA_ALARM__WEBHOOK_SECRET"] = "KEYofTheSignature"
	w.env["SA_ALARM__HEARTBEAT_URL"] = server.URL + "/beat/TOKENofTheBeat"
	cfg, err := loadConfig("", environOf(w.env))
	if err != nil {
		w.t.Fatal(err)
	}
	out := &syncBuffer{}
	v := &watched{receiver: r, log: out}
	begin, start := market.NewDate(2026, 3, 13).In(market.NewYork(), 10, 0), time.Now()
	now := func() time.Time { return begin.Add(time.Since(start) + time.Duration(v.ahead.Load())) }
	v.app = &app{cfg: cfg, redact: secret.Redactor(cfg.secrets()...), now: now, clock: now}
	v.Stderr = out
	v.app.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(out), zap.DebugLevel))
	if v.s, err = v.openServices(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(v.s.close)
	if err := v.s.ready(w.t.Context(), true); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(v.startMetrics(w.t.Context(), v.s))
	v.man = newWatchman(v.watch)
	return v
}

// step looks, after the clock was set forward.
func (v *watched) step(t *testing.T, later time.Duration) {
	t.Helper()
	v.ahead.Add(int64(later))
	v.man.step(t.Context())
}

func (v *watched) scrape() string {
	rec := httptest.NewRecorder()
	v.watch.handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

// noSecrets fails for a key, a token or a URL with one in what was said.
func (v *watched) noSecrets(t *testing.T, more ...string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	text := v.scrape() + v.bodies + v.log.String() + strings.Join(more, "")
	for _, no := range []string{canary, "TOKENof", "KEYof"} {
		if i := strings.Index(text, no); i >= 0 {
			t.Errorf("%s is told: ...%s", no, text[max(0, i-200):i+len(no)])
		}
	}
}

// A run shows in the metrics, the heartbeat beats once the bars are in, and not
// before, and an alarm says that they were not.
func TestServeIsWatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Premium: true})
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,BRK.B"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	v := w.watched()
	v.step(t, 0)
	if events, beats := v.heard(); len(events)+beats > 0 {
		t.Errorf("at the start: %v, %d beats", events, beats)
	}
	v.step(t, 20*time.Minute)
	if events, beats := v.heard(); !slices.Equal(events, []string{"raised stale_bars"}) || beats > 0 {
		t.Errorf("after 20 minutes without bars: %v, %d beats", events, beats)
	}
	report, err := v.scheduledBars(t.Context(), v.s, session, store.SeenAll())
	if err != nil || report.Failed > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	v.step(t, 2*time.Minute)
	if events, beats := v.heard(); !slices.Equal(events, []string{"ended stale_bars"}) || beats != 1 {
		t.Errorf("after the run: %v, %d beats", events, beats)
	}
	v.step(t, time.Minute)
	v.step(t, alarm.Beat)
	if events, beats := v.heard(); len(events) > 0 || beats != 1 {
		t.Errorf("five minutes later: %v, %d beats", events, beats)
	}
	state, err := v.watch.state(t.Context())
	if err != nil {
		t.Error(err)
	}
	v.watch.metrics.Set(state)
	text := v.scrape()
	for _, want := range []string{
		`runs_total{job_name="daily_bars",status="ok"} 1`,
		`units_total{job_name="daily_bars",outcome="stored"} 3`,
		`rows_total{change="new",dataset="bars"} 300`,
		`provider_calls_total{provider="alpha_vantage",status="2xx"} 3`,
		`limiter_wait_seconds_count{limiter="alpha_vantage"} 3`,
		`limiter_limit{limiter="alpha_vantage"} 60000`,
		`session_symbols{state="in"} 3`,
		`bars_in_time 1`,
		`stale_sessions 0`,
		`server_up{server="database"} 1`,
		`feed_up 1`,
	} {
		if !strings.Contains(text, "alpha_oracle_worker_"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if found := regexp.MustCompile(`AAPL|MSFT|BRK|http:`).FindString(text); found != "" {
		t.Errorf("%s is in the metrics", found)
	}
	v.noSecrets(t)
}

// What one run of a session has found of a symbol for good stays known, however
// many runs for something else come after it, until its bar is in.
func TestExcusedSymbolsStayExcused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,BADSYM,IBM"
	v := w.watched()
	ended := func(period string, work func(store.Run) error) {
		t.Helper()
		run, err := v.s.db.Begin(t.Context(), "daily_bars", period, "a test")
		if err == nil {
			err = work(run)
		}
		if err == nil {
			err = run.End(t.Context(), "ok", []byte(`{"status":"ok"}`))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	save := func(symbol market.Symbol) func(store.Run) error {
		bar := market.Bar{Date: sessionDate(), Open: 1, High: 1, Low: 1, Close: 1, Volume: 1}
		return func(run store.Run) error {
			_, err := run.SaveBars(t.Context(), market.Series{Symbol: symbol, Source: "alpha_vantage", Bars: []market.Bar{bar}}, sessionDate())
			return err
		}
	}
	ended(session, save("AAPL"))
	ended(session, save("IBM"))
	ended(session, func(run store.Run) error {
		return run.SaveAttempt(t.Context(), "BADSYM", string(sweep.UnknownSymbol), "who")
	})
	ended(session, save("AAPL"))
	for range 25 {
		ended("2026-03-13", func(store.Run) error { return nil })
	}
	for _, want := range []alarm.Bars{
		{Session: sessionDate(), In: 2, Excused: 1},
		{Session: sessionDate(), In: 3},
	} {
		v.step(t, 2*time.Minute)
		if f := v.watch.look(t.Context()); f.bars == nil || !f.bars.healthy || f.bars.newest != want {
			t.Errorf("%+v, want %+v", f.bars, want)
		}
		ended(session, save("BADSYM"))
	}
}

// The jobs that ask one provider share its calls of a day.
func TestPlansShareTheDay(t *testing.T) {
	t.Parallel()
	for symbols, want := range map[int][]alarm.Plan{
		20: {{Job: "daily_bars", Units: 20, Calls: 20, Allowed: 22}, {Job: "weekly_fundamentals", Units: 20, Calls: 20, Allowed: 7 * 12}},
		24: {{Job: "daily_bars", Units: 24, Calls: 24, Allowed: 21}, {Job: "weekly_fundamentals", Units: 24, Calls: 24, Allowed: 7 * 12}},
		60: {{Job: "daily_bars", Units: 60, Calls: 60, Allowed: 16}, {Job: "weekly_fundamentals", Units: 60, Calls: 60, Allowed: 7 * 12}},
	} {
		w := newWorld(t)
		var names []string
		for i := range symbols {
			names = append(names, "S"+string(rune('A'+i/26))+string(rune('A'+i%26)))
		}
		w.env["SA_DATA__UNIVERSE__SYMBOLS"] = strings.Join(names, ",")
		w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "25"
		v := w.watched()
		v.watch.look(t.Context())
		if diff := cmp.Diff(want, v.watch.plans()); diff != "" {
			t.Errorf("%d symbols (-want +got):\n%s", symbols, diff)
		}
	}
}

// A reload counts for what is watched too, and the counters go on.
func TestWatchingGoesOnAfterAReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL"
	v := w.watched()
	v.watch.ended(sweep.Report{Job: "daily_bars", Status: sweep.OK})
	next := *v.app
	next.cfg.Universe, next.cfg.Alarm.HeartbeatURL = "AAPL,MSFT", secret.Value{}
	v.watch.use(&next, next.tasks(v.s))
	state, err := v.watch.state(t.Context())
	if err != nil || state.Bars == nil || state.Bars.Missing != 2 {
		t.Errorf("%+v, %v; want the two symbols of the new universe missing", state.Bars, err)
	}
	if text := v.scrape(); !strings.Contains(text, `runs_total{job_name="daily_bars",status="ok"} 1`) {
		t.Error("the run before the reload is forgotten")
	}
}

// The bars of Friday are not late on Sunday, nor are those of a free key before
// their time; on Monday at the open they are.
func TestAlarmsKeepQuietOnClosedDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Premium: true})
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	v := w.watched()
	if _, err := v.scheduledBars(t.Context(), v.s, session, store.SeenAll()); err != nil {
		t.Fatal(err)
	}
	v.step(t, 7*time.Hour)
	v.heard()
	for opens := market.NewDate(2026, 3, 16).In(market.NewYork(), 8, 55); v.now().Before(opens); {
		v.step(t, 30*time.Minute)
	}
	events, beats := v.heard()
	if len(events) > 0 || beats < 100 {
		t.Errorf("over a weekend: %v, %d beats", events, beats)
	}
	v.step(t, 30*time.Minute)
	v.heard()
	v.step(t, 20*time.Minute)
	if events, beats := v.heard(); !slices.Equal(events, []string{"raised stale_bars"}) || beats > 0 {
		t.Errorf("on Monday after the open: %v, %d beats", events, beats)
	}
}

// A key that is refused, a quota that cannot suffice, and periods that came to
// nothing are told once, without the key.
func TestAlarmsOfKeyQuotaAndPeriods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.simulate(simulator.Config{Key: "another key", Through: sessionDate(), Premium: true})
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,NVDA"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "2"
	v := w.watched()
	report, err := v.scheduledBars(t.Context(), v.s, session, store.SeenAll())
	if err == nil && report.Failed != 3 {
		t.Errorf("the key was taken: %+v", report)
	}
	tick := v.now().Add(-time.Hour)
	for i, state := range []string{store.Complete, store.GaveUp, store.Missed} {
		_, err := v.s.db.NotePeriod(t.Context(), store.PeriodInfo{
			Job: "daily_bars", Period: (sessionDate() + market.Date(i)).String(), State: state, Reason: "because", Tick: tick.Add(time.Duration(i) * time.Minute),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	v.step(t, time.Minute)
	events, beats := v.heard()
	slices.Sort(events)
	if want := []string{"raised gave_up_period", "raised key_refused", "raised missed_period", "raised quota_too_small"}; !slices.Equal(events, want) || beats > 0 {
		t.Errorf("%v, %d beats; want %v", events, beats, want)
	}
	v.step(t, time.Minute)
	if events, _ := v.heard(); len(events) > 0 {
		t.Errorf("told again: %v", events)
	}
	if text := v.scrape(); !strings.Contains(text, `provider_key_refused{provider="alpha_vantage"} 1`) {
		t.Error("the metrics do not show that the key is refused")
	}
	v.watch.called("alpha_vantage", transport.Attempt{Status: 404, Err: &providers.Error{Kind: providers.UnknownSymbol, Err: errors.New("who")}})
	v.step(t, time.Minute)
	if events, _ := v.heard(); !slices.Equal(events, []string{"ended key_refused"}) {
		t.Errorf("after an answer: %v", events)
	}
	v.noSecrets(t)
}

// A Redis that is gone for five minutes is told, and what the database says
// stays known.
func TestAlarmOfALostServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL"
	v := w.watched()
	v.step(t, 0)
	_ = v.s.rdb.Close()
	v.step(t, time.Minute)
	v.step(t, 4*time.Minute)
	if events, _ := v.heard(); len(events) > 0 {
		t.Errorf("after four minutes: %v", events)
	}
	v.step(t, 2*time.Minute)
	if events, _ := v.heard(); !slices.Equal(events, []string{"raised server_lost"}) {
		t.Errorf("after six minutes: %v", events)
	}
	f := v.watch.look(t.Context())
	if f.servers[redisServer] || !f.servers[databaseServer] || f.journal == nil || f.bars == nil {
		t.Errorf("facts %+v", f)
	}
}

// The log says what is wrong once, also while nobody takes the alarm.
func TestAlarmsAreLoggedWhenTheWebhookIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL"
	v := w.watched()
	v.cfg.Alarm.WebhookURL = secret.New("http://127.0.0.1:1/")
	v.step(t, 0)
	for range 4 {
		v.step(t, 20*time.Minute)
	}
	text := v.log.String()
	if tries, said := strings.Count(text, "is tried again"), strings.Count(text, "0 of 1 symbols are in, 1 are missing"); tries < 3 || said != 1 {
		t.Errorf("%d tries, and the reason is logged %d times: %s", tries, said, text)
	}
}

func TestAlarmSettings(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]map[string]string{
		"SA_ALARM__WEBHOOK_SECRET": {"SA_ALARM__WEBHOOK_URL": "https://example.com/" + canary},
		"SA_ALARM__HEARTBEAT_URL":  {"SA_ALARM__HEARTBEAT_URL": "ftp://example.com/" + canary},
		"SA_ALARM__BARS_DEADLINE":  {"SA_ALARM__BARS_DEADLINE": "12"},
	} {
		w := newWorld(t)
		for k, v := range env {
			w.env[k] = v
		}
		if s := w.run("serve"); s.code != exitUsage || !strings.Contains(s.err, name) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

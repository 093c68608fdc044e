package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/internal/tracing"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	tracing.Silence()
	if path := os.Getenv(childClock); path != "" {
		os.Exit(beProgram(path))
	}
	testenv.Main(m)
}

const (
	// canary is an API key that must turn up nowhere.
	canary = "CANARYk3y9876"
	// session is the session that most tests load.
	session = "2026-03-12"
)

func sessionDate() market.Date { return market.NewDate(2026, 3, 12) }

// world is what one test runs the program in.
type world struct {
	t     testing.TB
	sim   *simulator.Server
	url   string
	env   map[string]string
	now   func() time.Time // the program's clock; nil means time.Now
	spans tracing.Exporter // takes spans, if tracing is on, instead of an endpoint
	mu    sync.Mutex
	said  []string // everything that was ever printed
}

// newWorld starts a simulator and gives the program the embedded default.
func newWorld(t testing.TB) *world {
	t.Helper()
	sim := simulator.New(simulator.Config{Key: canary, Through: sessionDate(), Premium: true})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	w := &world{t: t, sim: sim, url: server.URL, env: map[string]string{
		"SA_DATA_DIR":                                   t.TempDir(),
		"SA_ALPHA_VANTAGE_API_KEY":                      canary,
		"SA_DATA__ALPHA_VANTAGE__BASE_URL":              server.URL,
		"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE": "60000",
		"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY":    "100000",
		"SA_LOG__LEVEL":                                 "debug",
		"SA_HTTP__ADDR":                                 "127.0.0.1:0",
	}}
	t.Cleanup(func() { w.noCanary("the output", strings.Join(w.said, "\n")) })
	return w
}

// withServers gives the program a real Redis and a real Postgres.
func (w *world) withServers() *world {
	w.env["SA_REDIS__URL"] = testenv.Redis(w.t)
	w.env["SA_DATABASE__URL"] = testenv.Postgres(w.t)
	return w
}

// said is what one call of the program printed and how it ended.
type said struct {
	code     int
	out, err string
}

func (w *world) run(args ...string) said {
	w.t.Helper()
	return w.runContext(w.t.Context(), args...)
}

func (w *world) runContext(ctx context.Context, args ...string) said {
	w.t.Helper()
	environ := make([]string, 0, len(w.env))
	for name, value := range w.env {
		environ = append(environ, name+"="+value)
	}
	sort.Strings(environ)
	var out, errs syncBuffer
	code := run(ctx, args, process{Environ: environ, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: w.now, Spans: w.spans})
	s := said{code, out.String(), errs.String()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, s.out, s.err)
	return s
}

// awaitCalls returns when the provider has had n calls, or the test is over.
func (w *world) awaitCalls(n int) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for len(w.sim.Calls()) < n {
		select {
		case <-w.t.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// syncBuffer takes writes of several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// daily runs daily-bars with --json and returns its report and exit code.
func (w *world) daily(args ...string) (sweep.Report, int) {
	w.t.Helper()
	return w.job("daily-bars", args...)
}

// job runs a job with --json and returns its report and exit code.
func (w *world) job(name string, args ...string) (sweep.Report, int) {
	w.t.Helper()
	s := w.run(append([]string{"run", name, "--json"}, args...)...)
	var r sweep.Report
	if err := json.Unmarshal([]byte(s.out), &r); err != nil {
		w.t.Fatalf("standard output is no report: %v\n%s\n%s", err, s.out, s.err)
	}
	if r.Symbols != r.Fetched+r.Skipped+r.Failed || len(r.Failures) != r.Failed {
		w.t.Errorf("the counts do not add up: %+v", r)
	}
	return r, s.code
}

// open opens the services as the program does.
func (w *world) open() *services {
	w.t.Helper()
	cfg, err := loadConfig("", environOf(w.env))
	if err != nil {
		w.t.Fatal(err)
	}
	a := &app{cfg: cfg, now: time.Now, redact: func(s string) string { return s }}
	s, err := a.openServices(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.close)
	return s
}

func environOf(env map[string]string) []string {
	environ := make([]string, 0, len(env))
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	return environ
}

func (w *world) redis() *redis.Client {
	w.t.Helper()
	o, err := redis.ParseURL(w.env["SA_REDIS__URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	w.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (w *world) noCanary(where, text string) {
	w.t.Helper()
	if i := strings.Index(text, canary); i >= 0 {
		w.t.Errorf("the key is in %s: ...%s", where, text[max(0, i-200):i+len(canary)])
	}
}

// checkBars compares the stored bars of a symbol with the simulator's model,
// over the hundred sessions that a run stores.
func checkBars(t testing.TB, db store.DB, symbol market.Symbol, last market.Date) {
	t.Helper()
	from, err := market.NYSE().Back(last, 99)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := market.NYSE().Sessions(from, last)
	if err != nil {
		t.Fatal(err)
	}
	series, err := db.Bars(t.Context(), symbol, market.Range{From: 1, To: last + 5000})
	if err != nil {
		t.Fatal(err)
	}
	if len(series.Bars) != len(sessions) {
		t.Errorf("%s has %d bars, want %d", symbol, len(series.Bars), len(sessions))
		return
	}
	for i, d := range sessions {
		if want := simulator.Bar(symbol, d); series.Bars[i] != want {
			t.Errorf("%s: stored %+v, served %+v", symbol, series.Bars[i], want)
			return
		}
	}
}

func list(symbols []market.Symbol) string {
	names := make([]string, len(symbols))
	for i, s := range symbols {
		names[i] = string(s)
	}
	return strings.Join(names, ",")
}

func newTestLog() *zap.Logger { return zap.NewNop() }

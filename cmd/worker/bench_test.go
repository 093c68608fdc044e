//go:build bench

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// rounds is how often each run is measured; the median counts.
func rounds() int { return bench.Pick(3, 1) }

// benchWorld is a world without limits, on real servers that write through.
func benchWorld(t *testing.T) (*world, []market.Symbol) {
	t.Helper()
	w := newWorld(t)
	w.env["SA_REDIS__URL"] = testenv.Redis(t)
	w.env["SA_DATABASE__URL"] = testenv.PostgresServer(t).URL()
	w.env["SA_LOG__LEVEL"] = "warn"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "1000000"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "1000000"
	return w, market.SP500()[:bench.Pick(len(market.SP500()), 20)]
}

// empty takes everything out of the stores.
func (w *world) empty() {
	w.t.Helper()
	w.exec("truncate ohlcv, ingest_items, ingest_watermarks, ingest_attempts, ingest_corrections, ingest_calls, ingest_runs")
	w.redis().FlushDB(w.t.Context())
}

//nolint:paralleltest // it is measured alone
func TestFigureFullRun(t *testing.T) {
	w, symbols := benchWorld(t)
	w.daily("--date", session, "--symbols", "AAPL")
	ours := bench.Median(rounds(), func() time.Duration {
		w.empty()
		// The limiter starts without tokens and fills up at 15,500 a second.
		started := time.Now()
		report, code := w.daily("--date", session, "--symbols", list(symbols))
		if code != exitOK || report.Fetched != len(symbols) {
			t.Fatalf("exit %d, %+v", code, report.Outcomes)
		}
		return time.Since(started)
	})
	w.stages(symbols)
	theirs := bench.Median(rounds(), func() time.Duration {
		w.empty()
		return w.oneByOne(symbols)
	})
	bench.Note(t, "full run, Postgres and Redis, start-up included", float64(len(symbols))/ours.Seconds(), "symbols/s")
	bench.Note(t, "one worker, single-row upserts, SISMEMBER per symbol", float64(len(symbols))/theirs.Seconds(), "symbols/s")
	bench.AtLeast(t, "full run against that baseline", theirs.Seconds()/ours.Seconds(), 10, "times")
}

// oneByOne is the baseline: what a plain loop would do.
func (w *world) oneByOne(symbols []market.Symbol) time.Duration {
	w.t.Helper()
	ctx, rdb := w.t.Context(), w.redis()
	conn, err := pgx.Connect(ctx, w.env["SA_DATABASE__URL"])
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	started := time.Now()
	for _, s := range symbols {
		if err := w.loadOne(ctx, rdb, conn, s); err != nil {
			w.t.Fatal(err)
		}
	}
	return time.Since(started)
}

func (w *world) loadOne(ctx context.Context, rdb *redis.Client, conn *pgx.Conn, s market.Symbol) error {
	const key = "jobs:daily_bars:" + session + ":done"
	if done, err := rdb.SIsMember(ctx, key, string(s)).Result(); err != nil || done {
		return err
	}
	url := w.url + "/query?function=TIME_SERIES_DAILY&apikey=" + canary + "&symbol=" + s.In(market.AlphaVantage)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var document struct {
		Series map[string]map[string]string `json:"Time Series (Daily)"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return err
	}
	for date, bar := range document.Series {
		if err := upsertOne(ctx, conn, s, date, bar); err != nil {
			return err
		}
	}
	return rdb.SAdd(ctx, key, string(s)).Err()
}

func upsertOne(ctx context.Context, conn *pgx.Conn, s market.Symbol, date string, bar map[string]string) error {
	numbers := make([]float64, 0, 5)
	for _, field := range []string{"1. open", "2. high", "3. low", "4. close", "5. volume"} {
		n, err := strconv.ParseFloat(bar[field], 64)
		if err != nil {
			return err
		}
		numbers = append(numbers, n)
	}
	_, err := conn.Exec(ctx, `insert into ohlcv (symbol, timestamp, open, high, low, close, volume, source)
		values ($1, $2::date, $3, $4, $5, $6, $7, 'alpha_vantage')
		on conflict (symbol, timestamp) do update set open = excluded.open, high = excluded.high,
			low = excluded.low, close = excluded.close, volume = excluded.volume, source = excluded.source`,
		string(s), date, numbers[0], numbers[1], numbers[2], numbers[3], int64(numbers[4]))
	return err
}

// clocked adds up the time that a part of the run takes, over all workers.
type clocked struct{ nanos atomic.Int64 }

func (c *clocked) since(started time.Time) { c.nanos.Add(int64(time.Since(started))) }

type clockedSource struct {
	dailybars.Source
	fetch *clocked
}

func (c clockedSource) DailyBars(ctx context.Context, s market.Symbol, r market.Range) (market.Series, error) {
	defer c.fetch.since(time.Now())
	return c.Source.DailyBars(ctx, s, r)
}

type clockedStore struct {
	dailybars.Store
	save *clocked
}

func (c clockedStore) SaveBars(ctx context.Context, s market.Series, d market.Date) (market.Changes, error) {
	defer c.save.since(time.Now())
	return c.Store.SaveBars(ctx, s, d)
}

type clockedDone struct {
	dailybars.DoneSet
	add *clocked
}

func (c clockedDone) Add(ctx context.Context, symbols ...market.Symbol) error {
	defer c.add.since(time.Now())
	return c.DoneSet.Add(ctx, symbols...)
}

// stages prints where the time of a full run goes.
func (w *world) stages(symbols []market.Symbol) {
	w.t.Helper()
	w.empty()
	s, ctx := w.open(), w.t.Context()
	cfg, err := loadConfig("", environOf(w.env))
	if err != nil {
		w.t.Fatal(err)
	}
	a := &app{cfg: cfg, log: newTestLog(), now: time.Now, redact: func(s string) string { return s }}
	sources, err := a.bars(ctx, s, "")
	if err != nil {
		w.t.Fatal(err)
	}
	defer sources.close()
	run, err := s.db.Begin(ctx, dailybars.Name, session, newOwner())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = run.Release() }()
	var fetch, save, add clocked
	job := a.dailyBars(s, request{session: sessionDate(), through: sessionDate()}, sources, run)
	job.Source = clockedSource{sources, &fetch}
	job.Store, job.Done = clockedStore{run, &save}, clockedDone{job.Done, &add}
	plan, err := job.Plan(ctx, sessionDate(), symbols)
	if err != nil {
		w.t.Fatal(err)
	}
	started := time.Now()
	job.Run(ctx, plan)
	total := float64(time.Since(started)) * workers
	for _, part := range []struct {
		name string
		c    *clocked
	}{{"permission, call and decoding", &fetch}, {"commit", &save}, {"done-set", &add}} {
		bench.Note(w.t, "share of the workers' time: "+part.name, 100*float64(part.c.nanos.Load())/total, "%")
	}
}

// trips counts the round trips of a Redis client.
type trips struct {
	mu    sync.Mutex
	names []string
}

func (t *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (t *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		t.mu.Lock()
		t.names = append(t.names, cmd.Name())
		t.mu.Unlock()
		return next(ctx, cmd)
	}
}

func (t *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		t.mu.Lock()
		t.names = append(t.names, cmds[0].Name())
		t.mu.Unlock()
		return next(ctx, cmds)
	}
}

//nolint:paralleltest // it is measured alone
func TestFigureSecondRun(t *testing.T) {
	w, symbols := benchWorld(t)
	w.daily("--date", session, "--symbols", list(symbols))
	calls := len(w.sim.Calls())
	s, ctx := w.open(), t.Context()
	cfg, err := loadConfig("", environOf(w.env))
	if err != nil {
		t.Fatal(err)
	}
	a := &app{cfg: cfg, log: newTestLog(), now: time.Now, redact: func(s string) string { return s }}
	sources, err := a.bars(ctx, s, "")
	if err != nil {
		t.Fatal(err)
	}
	defer sources.close()
	run, err := s.db.Begin(ctx, dailybars.Name, session, newOwner())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Release() }()
	hook := &trips{}
	s.rdb.AddHook(hook)
	took := bench.Median(bench.Pick(9, 3), func() time.Duration {
		job := a.dailyBars(s, request{session: sessionDate(), through: sessionDate()}, sources, run)
		hook.names = nil
		started := time.Now()
		job.Done = idempotency.New(s.rdb, s.db).DailyBars(sessionDate())
		plan, err := job.Plan(ctx, sessionDate(), symbols)
		if err != nil || len(plan.Todo) != 0 {
			t.Fatalf("%d to do, %v", len(plan.Todo), err)
		}
		job.Run(ctx, plan)
		return time.Since(started)
	})
	bench.AtMost(t, "second run of a finished session: provider calls", float64(len(w.sim.Calls())-calls), 0, "calls")
	bench.AtMost(t, "second run of a finished session: work besides start-up", float64(took)/1e6, 100, "ms")
	bench.AtMost(t, fmt.Sprintf("second run of a finished session: Redis round trips %v", hook.names), float64(len(hook.names)), 2, "trips")
}

//nolint:paralleltest // it is measured alone
func TestFigureMemory(t *testing.T) {
	w, symbols := benchWorld(t)
	w.sim = simulator.New(simulator.Config{Key: canary, Through: sessionDate()})
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = server.URL
	binary := filepath.Join(t.TempDir(), "worker")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	peak := func() float64 {
		cmd := exec.CommandContext(t.Context(), binary, "run", "daily-bars", "--date", session, "--symbols", list(symbols))
		cmd.Env = append(os.Environ(), environOf(w.env)...)
		return peakRSS(t, cmd)
	}
	work := peak()
	idle := peak()
	bench.Note(t, "peak RSS of a run with nothing to do", idle, "MiB")
	bench.AtMost(t, fmt.Sprintf("peak RSS of a run of %d symbols above that", len(symbols)), work-idle, 64, "MiB")
}

// peakRSS runs cmd and returns its highest resident memory in MiB, read from
// /proc while it runs: the kernel's own account of an ended child also holds
// the memory of the process that started it.
func peakRSS(t *testing.T, cmd *exec.Cmd) float64 {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for peak := 0.0; ; {
		select {
		case err := <-ended:
			if err != nil || peak == 0 {
				t.Fatalf("%v, peak %v", err, peak)
			}
			return peak
		case <-time.After(time.Millisecond):
			peak = max(peak, highWater(status))
		}
	}
}

// highWater reads VmHWM, in MiB; 0 when the process is gone.
func highWater(path string) float64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0
	}
	return kib / 1024
}

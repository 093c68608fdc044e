package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// await returns when ok holds.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			w.t.Fatal("waited in vain: " + what)
		}
	}
}

// serving is a worker serve that runs in the background.
type serving struct {
	errs    syncBuffer
	hangups chan os.Signal
	stop    context.CancelCauseFunc
	ended   chan int
}

func (w *world) serve(args ...string) *serving {
	w.t.Helper()
	ctx, stop := context.WithCancelCause(w.t.Context())
	s := &serving{hangups: make(chan os.Signal), stop: stop, ended: make(chan int, 1)}
	p := process{
		Environ: environOf(w.env), Stdin: strings.NewReader(""), Stdout: &syncBuffer{}, Stderr: &s.errs, Now: w.now,
		Hangups: func() (<-chan os.Signal, func()) { return s.hangups, func() {} },
	}
	go func() { s.ended <- run(ctx, args, p) }()
	w.t.Cleanup(func() { w.noCanary("the log", s.errs.String()) })
	return s
}

func (s *serving) end(t *testing.T) {
	t.Helper()
	s.stop(signalError{15})
	if code := <-s.ended; code != exitOK {
		t.Errorf("exit code %d: %s", code, s.errs.String())
	}
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), name)
	w.rewrite(path, text)
	return path
}

func (w *world) rewrite(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// A reload takes a new limit, key and universe in the midst of a run, which goes
// on with what it has not done; what is wrong changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Now: w.now, Premium: true})
	delete(w.env, "SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE")
	delete(w.env, "SA_ALPHA_VANTAGE_API_KEY")
	w.env["SA_ALPHA_VANTAGE_API_KEY_FILE"] = w.write("key", "oldkey-0123456789")
	symbols := w.write("symbols", "AAPL\n")
	limit := func(n string) string {
		return "data:\n  alpha_vantage:\n    rate_limit_per_minute: " + n + "\n  universe:\n    symbols: \"@" + symbols + "\"\n"
	}
	file := w.write("worker.yaml", limit("600"))
	s := w.serve("--config", file) // plain worker serves
	w.await("a call with the old key", func() bool { return len(w.sim.Calls()) > 0 })
	for text, want := range map[string]string{
		limit("none"): "rate_limit",
		limit("5") + "  bars:\n    sources: nobody\n":            "SA_DATA__BARS__SOURCES",
		limit("5") + "scheduler:\n  daily_bars_cron: \"x\"\n":    "SA_SCHEDULER__DAILY_BARS_CRON",
		limit("5") + "scheduler:\n  enabled: \"false\"\n":        "SA_SCHEDULER__ENABLED",
		limit("5") + "redis:\n  url: redis://127.0.0.1:1/0\n":    "SA_REDIS__URL",
		strings.Replace(limit("5"), symbols, symbols+"-gone", 1): symbols + "-gone",
	} {
		w.rewrite(file, text)
		said := len(s.errs.String())
		s.hangups <- os.Interrupt
		w.await("the refusal of "+text, func() bool { return strings.Contains(s.errs.String()[said:], "nothing has changed") })
		if line := s.errs.String()[said:]; !strings.Contains(line, want) && !strings.Contains(strings.ToLower(line), want) {
			t.Errorf("%s: the refusal does not name %s: %s", text, want, line)
		}
	}
	w.rewrite(file, limit("600"))
	w.rewrite(symbols, "AAPL\nmsft;\n")
	said := len(s.errs.String())
	s.hangups <- os.Interrupt
	w.await("the refusal of a list", func() bool { return strings.Contains(s.errs.String()[said:], "nothing has changed") })
	w.rewrite(file, limit("60000"))
	w.rewrite(symbols, "AAPL\nMSFT\nNVDA\n")
	w.rewrite(w.env["SA_ALPHA_VANTAGE_API_KEY_FILE"], canary)
	s.hangups <- os.Interrupt
	db := w.open()
	w.awaitPeriod(db, "daily_bars", session, store.Complete)
	s.end(t)
	for _, want := range []string{
		`"setting":"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE","from":"600","to":"60000"`,
		`"setting":"SA_ALPHA_VANTAGE_API_KEY","from":"[redacted]","to":"[redacted]"`,
		`"added":2,"added_first":["MSFT","NVDA"]`,
	} {
		if !strings.Contains(s.errs.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, s.errs.String())
		}
	}
	if strings.Contains(s.errs.String(), "oldkey-0123456789") {
		t.Error("the old key is in the log")
	}
	units, err := db.db.DoneUnits(t.Context(), "daily_bars", session)
	if err != nil || len(units) != 3 {
		t.Errorf("done: %v, %v", units, err)
	}
}

// While a run has its claim, its copy in Redis names the owner; then it is gone.
func TestTheClaimIsShownInRedis(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Latency: 200 * time.Millisecond, Premium: true})
	ended := make(chan said, 1)
	go func() { ended <- w.run("run", "daily-bars", "--date", session, "--symbols", "AAPL") }()
	rdb, key := w.redis(), "jobs:daily_bars:"+session+":lease"
	var shown mirroredLease
	w.await("the copy of the claim", func() bool {
		text, err := rdb.Get(t.Context(), key).Bytes()
		return err == nil && json.Unmarshal(text, &shown) == nil
	})
	if shown.Owner != newOwner() || shown.Run == 0 || shown.Since.IsZero() {
		t.Errorf("%+v", shown)
	}
	if ttl := rdb.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > mirrorLife {
		t.Errorf("it lives for %s", ttl)
	}
	if s := <-ended; s.code != exitOK {
		t.Fatalf("%+v", s)
	}
	if err := rdb.Get(t.Context(), key).Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("after the run: %v", err)
	}
}

// What repeats itself is logged once in a quarter of an hour.
func TestRepeatedEventsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(1773352800, 0)
	told := (&app{now: func() time.Time { return now }}).newTeller()
	gone := runner.Event{Job: "daily_bars", Err: errors.New("database gone")}
	say := func(e runner.Event, want bool, repeats int) {
		t.Helper()
		if n, ok := told.say(e); ok != want || n != repeats {
			t.Errorf("at %s: said %t after %d, want %t after %d", now, ok, n, want, repeats)
		}
	}
	say(gone, true, 0)
	now = now.Add(time.Minute)
	say(gone, false, 0)
	say(runner.Event{Job: "altdata", Err: gone.Err}, true, 0)
	now = now.Add(quietTime)
	say(gone, true, 1)
	say(runner.Event{Job: "daily_bars", Period: session, State: store.Complete}, true, 0)
	say(gone, true, 0)
}

// A run that Redis has left is interrupted, not failed by its provider, so that it
// goes on as soon as Redis is back.
func TestRedisGoesAwayInAScheduledRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := testenv.RedisServer(t)
	w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = server.URL(), testenv.Postgres(t)
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Premium: true})
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "600"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = list(market.SP500()[:50])
	v := w.watched()
	go func() {
		w.awaitCalls(5)
		server.Stop()
	}()
	report, err := v.scheduledBars(t.Context(), v.s, session, store.SeenAll())
	if err != nil || report.Status != sweep.WasInterrupted || !strings.Contains(report.Stopped, "redis") || report.Fetched == 0 || report.Failed == 0 {
		t.Errorf("%s, stopped by %q, %d fetched, %d failed, %v", report.Status, report.Stopped, report.Fetched, report.Failed, err)
	}
	if v.newRunner(v.s).Ready(t.Context()) == nil {
		t.Error("another attempt would begin without Redis")
	}
	server.Start()
	w.await("Redis", func() bool { return v.newRunner(v.s).Ready(t.Context()) == nil })
}

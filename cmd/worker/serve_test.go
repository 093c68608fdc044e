package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// awaitPeriod returns when the journal has a period in a state.
func (w *world) awaitPeriod(s *services, job, period, state string) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		rows, err := s.db.Periods(w.t.Context(), job, 20)
		for _, row := range rows {
			if row.Period == period && row.State == state {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-deadline:
			w.t.Fatalf("%s %s is not %s: %+v, %v", job, period, state, rows, err)
		}
	}
}

// The program runs what is due, once, on two replicas, and ends with code 0 when
// it is told to stop.
func TestServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	base, start := sessionDate().In(market.NewYork(), 18, 29).Add(56*time.Second), time.Now()
	w.now = func() time.Time { return base.Add(time.Since(start)) }
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Now: w.now, Premium: true})
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,BRK.B"
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan said, 2)
	for range 2 {
		go func() { ended <- w.runContext(ctx, "serve") }()
	}
	s := w.open()
	w.awaitPeriod(s, "daily_bars", "2026-03-11", store.Complete)
	w.awaitPeriod(s, "daily_bars", "2026-03-12", store.Complete)
	cancel(signalError{15})
	for range 2 {
		if one := <-ended; one.code != exitOK || !strings.Contains(one.err, `"stopped"`) {
			t.Errorf("exit code %d: %s", one.code, one.err)
		}
	}
	runs, err := s.db.Runs(t.Context(), "daily_bars", 20)
	if err != nil || len(runs) != 2 {
		t.Errorf("%d runs, %v: %+v", len(runs), err, runs)
	}
	if n := w.query(`SELECT count(*)::text FROM ohlcv WHERE timestamp = '2026-03-12T00:00:00Z'`); n != "3" {
		t.Errorf("%s bars of the session", n)
	}
}

// It does so on the embedded default too, beside which no other run may call.
func TestServeOnTheEmbeddedDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Now: w.now, Premium: true})
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT"
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan said, 1)
	go func() { ended <- w.runContext(ctx, "serve") }()
	s := w.open()
	w.awaitPeriod(s, "daily_bars", session, store.Complete)
	if other := w.run("run", "daily-bars", "--date", session, "--symbols", "NVDA"); other.code != exitFailed {
		t.Errorf("beside it: %+v", other)
	}
	cancel(signalError{2})
	if one := <-ended; one.code != exitOK {
		t.Errorf("exit code %d: %s", one.code, one.err)
	}
}

// It also ends with code 0 when it is told to stop while it starts.
func TestServeStoppedAtItsStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(signalError{15})
	if s := newWorld(t).withServers().runContext(ctx, "serve"); s.code != exitOK {
		t.Errorf("exit code %d: %s", s.code, s.err)
	}
}

func TestServeRefusesAWrongSchedule(t *testing.T) {
	t.Parallel()
	for env, value := range map[string]string{
		"SA_SCHEDULER__DAILY_BARS_CRON":          "30 18 * * * 1-5",
		"SA_SCHEDULER__WEEKLY_FUNDAMENTALS_CRON": "@every 1h",
		"SA_SCHEDULER__BIWEEKLY_ALTDATA_CRON":    "0 7 31 2 *",
		"SA_SCHEDULER__TIMEZONE":                 "Mars/Olympus",
		"SA_SCHEDULER__ENABLED":                  "false",
	} {
		w := newWorld(t)
		w.env[env] = value
		if s := w.run("serve"); s.code != exitUsage || !strings.Contains(s.err, env) {
			t.Errorf("%s=%s: %+v", env, value, s)
		}
	}
}

// A run by hand of the whole universe completes what the schedule has missed or
// given up; one of some symbols completes nothing.
func TestAPeriodThatIsRunByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT"
	w.env["SA_DATA__EDGAR__USER_AGENT"] = ""
	s := w.open()
	if err := s.ready(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	note := store.PeriodInfo{Job: "daily_bars", Period: session, State: store.Missed, Reason: "away", Tick: sessionDate().In(market.NewYork(), 18, 30)}
	if _, err := s.db.NotePeriod(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{{[]string{"--symbols", "AAPL"}, store.Missed}, {nil, store.Complete}} {
		if r, code := w.daily(append(c.args, "--date", session)...); code != exitOK || r.Restricted != (c.args != nil) {
			t.Errorf("exit code %d: %+v", code, r)
		}
		rows, err := s.db.Periods(t.Context(), "daily_bars", 5)
		if err != nil || len(rows) != 1 || rows[0].State != c.want {
			t.Errorf("after %v: %+v, %v; want %s", c.args, rows, err, c.want)
		}
	}
}

// After a time away the sessions that were missed come with the newest one, also
// from a source whose answer holds no other.
func TestMissedSessionsAreCaughtUpWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight().withSources("alpha_vantage", "massive")
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,BRK.B"
	if r, code := w.daily("--date", "2026-03-06"); code != exitOK {
		t.Fatalf("%+v", r)
	}
	s := w.open()
	if _, err := s.db.NotePeriod(t.Context(), store.PeriodInfo{Job: "daily_bars", Period: "2026-03-06", State: store.Complete, Tick: market.NewDate(2026, 3, 6).In(market.NewYork(), 18, 30)}); err != nil {
		t.Fatal(err)
	}
	v := w.serve("serve")
	w.awaitPeriod(s, "daily_bars", session, store.Complete)
	w.await("the missed sessions", func() bool {
		return w.query(`SELECT count(*)::text FROM ohlcv WHERE timestamp > '2026-03-06T00:00:00Z'`) == "12"
	})
	v.end(t)
}

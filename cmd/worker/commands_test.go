package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

func TestDemoTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	delete(w.env, "SA_ALPHA_VANTAGE_API_KEY")
	delete(w.env, "SA_DATA__ALPHA_VANTAGE__BASE_URL")
	first, code := w.daily("--demo")
	if code != exitOK || first.Fetched != 10 || first.ProviderCalls != 10 {
		t.Fatalf("exit %d, report %+v", code, first)
	}
	second := w.run("run", "daily-bars", "--demo")
	if second.code != exitOK || !strings.Contains(second.out, "nothing to fetch: all 10 symbols are stored") {
		t.Errorf("the second one: exit %d: %s", second.code, second.out)
	}
	w.env["SA_DATA_DIR"] += "/demo"
	series, err := w.open().db.Bars(t.Context(), "AAPL", market.Range{From: 1, To: 1 << 20})
	if err != nil || len(series.Bars) != 100 || series.Source != "simulated" {
		t.Errorf("%d bars, source %q, %v", len(series.Bars), series.Source, err)
	}
}

func TestDryRunPlansAndFetchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "60"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "2"
	s := w.run("run", "daily-bars", "--date", session, "--symbols", three, "--dry-run", "--json")
	var plan dryRun
	if err := json.Unmarshal([]byte(s.out), &plan); err != nil || s.code != exitOK {
		t.Fatalf("exit %d, %v: %s", s.code, err, s.out)
	}
	if plan.ProviderCalls != 3 || plan.CallsToday != 2 || len(plan.Order) != 3 || !plan.CompleteAt.After(time.Now()) || len(w.sim.Calls()) != 0 {
		t.Errorf("plan %+v, %d calls", plan, len(w.sim.Calls()))
	}
}

func TestForceAsksAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.daily("--date", session, "--symbols", three)
	report, code := w.daily("--date", session, "--symbols", "AAPL", "--force")
	if code != exitOK || report.ProviderCalls != 1 || report.Outcomes["unchanged"] != 1 || report.Rows != 0 {
		t.Errorf("exit %d, report %+v", code, report)
	}
	dry := w.run("run", "daily-bars", "--date", session, "--symbols", three, "--force", "--dry-run", "--json")
	if !strings.Contains(dry.out, `"provider_calls": 3`) {
		t.Errorf("what --force would do: %s", dry.out)
	}
	// What cannot be asked for anew stays done.
	w.fault("", "html")
	if _, code := w.daily("--date", session, "--symbols", three, "--force"); code == exitOK {
		t.Error("a forced run that got nothing says that all is well")
	}
	if rest, _ := w.daily("--date", session, "--symbols", three); rest.Skipped != 3 {
		t.Errorf("afterwards: %+v", rest)
	}
}

func TestStatusAndKeys(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]*world{"embedded": newWorld(t), "servers": newWorld(t).withServers()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.t = t
			w.daily("--date", session, "--symbols", three)
			s := w.run("status", "--json")
			var st status
			if err := json.Unmarshal([]byte(s.out), &st); err != nil || s.code != exitOK {
				t.Fatalf("exit %d, %v: %s %s", s.code, err, s.out, s.err)
			}
			if st.Bars.Symbols != 3 || st.Bars.Bars != 300 || st.Bars.Newest != sessionDate() || st.Bars.Sources["alpha_vantage"] != 300 || len(st.Runs) != 1 || st.Runs[0].Status != "ok" {
				t.Errorf("status %+v", st)
			}
			if len(st.Quotas) != 4 || st.Quotas[2].Name != "edgar" || st.Quotas[3].Name != "finra" || st.Quotas[1].Left == nil || *st.Quotas[1].Left != 99_997 || st.Quotas[1].Reset == nil {
				t.Errorf("quotas %+v", st.Quotas)
			}
			if words := w.run("status"); words.code != exitOK || !strings.Contains(words.out, "2026-03-12") {
				t.Errorf("in words: exit %d: %s", words.code, words.out)
			}
			const key = "jobs:daily_bars:2026-03-12:done"
			if list := w.run("keys", "list"); list.code != exitOK || !strings.Contains(list.out, key) {
				t.Errorf("keys list: exit %d: %s %s", list.code, list.out, list.err)
			}
			show := w.run("keys", "show", key)
			if show.code != exitOK || !strings.Contains(show.out, "AAPL\nBRK.B\nMSFT") || !strings.Contains(show.out, "is stored") {
				t.Errorf("keys show: exit %d: %s %s", show.code, show.out, show.err)
			}
			if none := w.run("keys", "show", "no:such:key"); none.code != exitFailed || !strings.Contains(none.err, "no:such:key") {
				t.Errorf("keys show of nothing: exit %d: %s", none.code, none.err)
			}
		})
	}
}

func TestStatusTellsHowFarEachJobIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.daily("--date", session, "--symbols", three)
	var st status
	if code := w.decode(&st, "status"); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	all := st.Datasets
	byJob := map[string]dataset{}
	for _, d := range all {
		byJob[d.Job] = d
	}
	bars, history := byJob["daily_bars"], byJob["backfill"]
	if len(all) != 4 || bars.Done == nil || *bars.Done != 3 || bars.Symbols != len(market.SP500()) || bars.Period != session || bars.Next != "2026-03-13" ||
		bars.Last == nil || bars.Last.Status != "ok" || bars.NextAt == nil || !bars.NextAt.Equal(market.NewDate(2026, time.March, 13).In(market.NewYork(), 16, 0).Add(settleTime)) {
		t.Errorf("daily bars %+v", bars)
	}
	if history.Done == nil || *history.Done != 0 || history.Missing == nil || *history.Missing != 0 || history.Last != nil {
		t.Errorf("history %+v", history)
	}
	if week := byJob["weekly_fundamentals"]; week.Next != "2026-W12" || week.Done == nil {
		t.Errorf("fundamentals %+v", week)
	}
}

func TestDoctorAndMigrate(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	if s := w.run("doctor"); s.code != exitOK || !strings.Contains(s.out, "worker migrate") || !strings.Contains(s.out, "appendonly") {
		t.Errorf("before: exit %d: %s", s.code, s.out)
	}
	if s := w.run("run", "daily-bars", "--date", session, "--symbols", three, "--no-migrate"); s.code != exitFailed || !strings.Contains(s.err, "worker migrate") {
		t.Errorf("a run without the schema: exit %d: %s", s.code, s.err)
	}
	if s := w.run("migrate"); s.code != exitOK || !strings.Contains(s.out, "before: 0") {
		t.Errorf("migrate: exit %d: %s %s", s.code, s.out, s.err)
	}
	var checks []check
	s := w.run("doctor", "--json")
	if err := json.Unmarshal([]byte(s.out), &checks); err != nil || s.code != exitOK {
		t.Fatalf("exit %d, %v: %s", s.code, err, s.out)
	}
	for _, c := range checks {
		if c.State == stateFailed || c.Name == "schema" && c.State != stateOK {
			t.Errorf("%+v", c)
		}
	}
	w.env["SA_REDIS__URL"] = "redis://127.0.0.1:1"
	if s := w.run("doctor", "--quiet"); s.code != exitFailed || !strings.Contains(s.out, "127.0.0.1:1") || strings.Contains(s.out, "calendar") {
		t.Errorf("with Redis away: exit %d: %s", s.code, s.out)
	}
}

func TestUniverseFromRedis(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	a := &app{log: newTestLog(), now: time.Now, redact: func(s string) string { return s }, cfg: config{Universe: sp500}}
	s := w.open()
	if got := a.universe(t.Context(), s, true).Symbols; len(got) != len(market.SP500()) {
		t.Errorf("built-in: %d symbols", len(got))
	}
	names := make([]string, 500)
	for i := range names {
		names[i] = "X" + string(rune('A'+i/26)) + string(rune('A'+i%26))
	}
	for text, want := range map[string]int{
		`["` + strings.Join(names, `","`) + `"]`: 500,
		`["AAPL"]`:                               len(market.SP500()), // too short to be the index
		`{"broken"`:                              len(market.SP500()),
	} {
		if err := s.rdb.Set(t.Context(), "cache:universe:sp500", text, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got := a.universe(t.Context(), s, true).Symbols; len(got) != want {
			t.Errorf("%.20s: %d symbols, want %d", text, len(got), want)
		}
	}
}

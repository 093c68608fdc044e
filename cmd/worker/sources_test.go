package main

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// withSources gives the program further sources of bars, without limits.
func (w *world) withSources(names ...string) *world {
	return w.withSourcesTo(sessionDate(), names...)
}

// withSourcesTo serves the sessions up to one.
func (w *world) withSourcesTo(through market.Date, names ...string) *world {
	w.simulate(simulator.Config{
		Key: canary, Through: through, Premium: true, Now: w.now,
		Massive: simulator.MassiveConfig{Key: canary}, Tiingo: simulator.TiingoConfig{Key: canary},
	})
	for _, name := range []string{"MASSIVE", "TIINGO"} {
		w.env["SA_"+name+"_API_KEY"] = canary
		w.env["SA_DATA__"+name+"__BASE_URL"] = w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"]
	}
	w.env["SA_DATA__MASSIVE__RATE_LIMIT_PER_MINUTE"] = "60000"
	w.env["SA_DATA__MASSIVE__YEARS"] = "30"
	w.env["SA_DATA__TIINGO__RATE_LIMIT_PER_HOUR"] = "1000000"
	w.env["SA_DATA__TIINGO__RATE_LIMIT_PER_DAY"] = "0"
	w.env["SA_DATA__BARS__SOURCES"] = strings.Join(names, ",")
	return w
}

// withGateway gives the program a gateway of its own.
func (w *world) withGateway(c gateway.Config) *gateway.Server {
	c.Through, c.Now = cmp.Or(c.Through, sessionDate()), w.now
	server := gateway.New(c)
	listener, err := (&net.ListenConfig{}).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w.t.Cleanup(func() {
		server.Close()
		if err := <-served; err != nil {
			w.t.Error(err)
		}
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	w.env["SA_BROKER__IBKR__PORT"], w.env["SA_BROKER__IBKR__CLIENT_ID"] = port, "7"
	w.env["SA_BROKER__IBKR__RATE_LIMIT_PER_SECOND"] = "30"
	return server
}

func counts(r sweep.Report) map[string]int {
	out := map[string]int{}
	for source, symbols := range r.Sources {
		out[source] = len(symbols)
	}
	return out
}

// With the day of one source spent, the run is complete through the next, and
// says what came from where.
func TestTheNextSourceCompletesTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight().withSources("alpha_vantage", "tiingo")
	symbols := market.SP500()[:40]
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "5"
	r, code := w.daily("--date", session, "--symbols", list(symbols))
	if code != exitOK || r.Fetched != 40 || r.Calls["alpha_vantage"] > 5 || r.ProviderCalls != 40 {
		t.Fatalf("exit code %d, report %+v", code, r)
	}
	if diff := gocmp.Diff(r.Calls, counts(r)); diff != "" {
		t.Errorf("sources: %s", diff)
	}
	for source, symbols := range r.Sources {
		for _, symbol := range symbols {
			series, err := w.open().db.Bars(t.Context(), symbol, market.Range{From: sessionDate(), To: sessionDate()})
			if err != nil || series.Source != source || len(series.Bars) != 1 {
				t.Errorf("%s of %s is stored from %q, %v", symbol, source, series.Source, err)
			}
		}
	}
	if w := w.run("run", "daily-bars", "--date", session, "--symbols", list(symbols), "--force"); !strings.Contains(w.out, "symbols by source: ") {
		t.Errorf("in words:\n%s", w.out)
	}
}

// With all of them spent it says when it goes on.
func TestAllSourcesAreSpent(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight().withSources("alpha_vantage", "tiingo")
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"], w.env["SA_DATA__TIINGO__RATE_LIMIT_PER_DAY"] = "2", "3"
	symbols := list(market.SP500()[:12])
	var plans []jobPlan
	w.decode(&plans, "plan", "daily-bars", "--symbols", symbols)
	if p := plans[0]; p.Calls["alpha_vantage"]+p.Calls["tiingo"] != 12 || p.Today != 5 {
		t.Errorf("plan %+v", p)
	}
	r, code := w.daily("--date", session, "--symbols", symbols)
	tomorrow := sessionDate() + 2 // of 5 calls a day, the last two go on the day after tomorrow
	if code != exitQuota || r.Fetched != 5 || r.CompleteAt == nil || market.DateOf(r.CompleteAt.In(market.NewYork())) != tomorrow {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	for _, name := range []string{"alpha_vantage: ", "tiingo: "} {
		if !strings.Contains(r.Stopped, name) {
			t.Errorf("stopped: %q", r.Stopped)
		}
	}
}

// A whole session comes in one call, whatever the number of symbols.
func TestASessionOfAllSymbolsInOneCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight().withSources("alpha_vantage", "massive")
	var d dryRun
	if w.decode(&d, "run", "daily-bars", "--date", session, "--dry-run"); d.ProviderCalls != 1 || d.Calls["massive"] != 1 {
		t.Errorf("plan %+v", d)
	}
	r, code := w.daily("--date", session)
	all := len(market.SP500())
	if code != exitOK || r.Fetched != all || r.ProviderCalls != 1 || r.Rows != all || counts(r)["massive"] != all {
		t.Fatalf("exit code %d, %d of %d fetched, %d calls, %d rows, %v", code, r.Fetched, all, r.ProviderCalls, r.Rows, counts(r))
	}
	if n := w.redis().SCard(t.Context(), "jobs:daily_bars:2026-03-12:done").Val(); int(n) != all {
		t.Errorf("%d symbols in the set", n)
	}
	if rows := w.query(`SELECT count(*)::text FROM ohlcv`); rows != strconv.Itoa(all) {
		t.Errorf("%s rows", rows)
	}
	if again, _ := w.daily("--date", session); again.ProviderCalls != 0 || again.Skipped != all {
		t.Errorf("again: %+v", again)
	}
	if holiday := w.run("run", "daily-bars", "--date", "2026-01-19"); holiday.code != exitUsage || len(w.sim.Massive().Calls()) != 1 {
		t.Errorf("a holiday: %+v, %d calls", holiday, len(w.sim.Massive().Calls()))
	}
}

// Symbols that are not asked for are stored only if that is asked for.
func TestTheWholeMarket(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight().withSources("alpha_vantage", "massive")
	r, code := w.daily("--date", session, "--symbols", "AAPL,MSFT")
	if code != exitOK || r.Symbols != 2 || r.ProviderCalls != 1 {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	all := len(market.SP500())
	if r, code = w.daily("--date", session, "--symbols", "AAPL,MSFT", "--whole-market"); code != exitOK || r.Symbols != all || r.Skipped != 2 || r.Fetched != all-2 || r.ProviderCalls != 1 {
		t.Errorf("exit code %d, %d symbols, %d fetched, %d calls", code, r.Symbols, r.Fetched, r.ProviderCalls)
	}
	w.env["SA_DATA__BARS__SOURCES"] = "alpha_vantage"
	if s := w.run("run", "daily-bars", "--date", session, "--whole-market"); s.code != exitFailed || !strings.Contains(s.err, "no configured source") {
		t.Errorf("%+v", s)
	}
}

// A session that all symbols lack is repaired by one call, a longer gap of one
// symbol by another.
func TestRepairInFewCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight().withSources("massive", "tiingo")
	symbols := list(market.SP500()[:20])
	w.report("backfill", "--years", "1", "--symbols", symbols)
	w.exec(`DELETE FROM ohlcv WHERE timestamp = '2026-02-18T00:00:00Z' OR symbol = 'AAPL' AND timestamp < '2025-08-01'`)
	want := 2
	if !slices.Contains(market.SP500()[:20], "AAPL") {
		want = 1
	}
	r, code := w.report("repair", "--symbols", symbols)
	if code != exitOK || r.ProviderCalls != want {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	for _, symbol := range market.SP500()[:20] {
		series, err := w.open().db.Bars(t.Context(), symbol, market.Range{From: sessionDate() - 365, To: sessionDate()})
		if err != nil || len(series.Bars) != sessionsIn(t, sessionDate()-365, sessionDate()) {
			t.Errorf("%s: %d bars, %v", symbol, len(series.Bars), err)
		}
	}
}

// Interactive Brokers fills what the others do not have.
func TestBarsOfTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight().withSources("alpha_vantage", "ibkr")
	server := w.withGateway(gateway.Config{})
	w.fault("MSFT", "empty_object")
	r, code := w.daily("--date", session, "--symbols", three)
	if code != exitOK || r.Fetched != 3 || !slices.Contains(r.Sources["ibkr"], "MSFT") {
		t.Fatalf("exit code %d, report %+v", code, r)
	}
	if bad := server.Report().Violations; len(bad) > 0 {
		t.Errorf("violations %v", bad)
	}
	if r, code = w.report("backfill", "--years", "2", "--symbols", "KO,NVDA,PEP", "--source", "ibkr"); code != exitOK || counts(r)["ibkr"] != 3 {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	// The gateway hears of the end a moment after the program.
	w.await("nothing is left at the gateway", func() bool { r := server.Report(); return r.Open == 0 && r.Connected == 0 })
}

func TestNamedSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight().withSources()
	r, code := w.daily("--date", session, "--symbols", "AAPL", "--source", "tiingo")
	if code != exitOK || counts(r)["tiingo"] != 1 || r.ProviderCalls != 1 {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	for _, test := range []struct {
		env, value, says string
		args             []string
	}{
		{"", "", "want one of the configured sources", []string{"run", "daily-bars", "--source", "ibkr"}},
		{"SA_DATA__BARS__SOURCES", "tiingo,tiingo", "once each", []string{"status"}},
		{"SA_DATA__BARS__SOURCES", "yahoo", "want some of", []string{"status"}},
		{"SA_BROKER__IBKR__VOLUME_IN_LOTS", "maybe", "want one of", []string{"status"}},
	} {
		other := &world{t: t, env: maps.Clone(w.env), now: w.now}
		if test.env != "" {
			other.env[test.env] = test.value
		}
		if s := other.run(test.args...); s.code != exitUsage || !strings.Contains(s.err, test.says) {
			t.Errorf("%+v: %+v", test, s)
		}
	}
	delete(w.env, "SA_TIINGO_API_KEY")
	w.env["SA_DATA__TIINGO__BASE_URL"], w.env["SA_DATA__BARS__SOURCES"] = "https://tiingo.example", "alpha_vantage,tiingo"
	if s := w.run("status"); s.code != exitUsage || !strings.Contains(s.err, "SA_TIINGO_API_KEY is not set") {
		t.Errorf("%+v", s)
	}
}

// The plan of several sources shares the calls as their limits do, and the run
// makes as many.
func TestThePlanOfSeveralSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight().withSources("alpha_vantage", "massive", "tiingo")
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "600"
	w.env["SA_DATA__MASSIVE__RATE_LIMIT_PER_MINUTE"] = "300"
	w.env["SA_DATA__TIINGO__RATE_LIMIT_PER_HOUR"] = "6000"
	symbols := list(market.SP500()[:100])
	plan := w.planned("backfill", "--symbols", symbols)
	if want := map[string]int{"alpha_vantage": 60, "massive": 30, "tiingo": 10}; !gocmp.Equal(plan.Calls, want) {
		t.Errorf("plan %v, want %v", plan.Calls, want)
	}
	r, code := w.report("backfill", "--symbols", symbols)
	if code != exitOK || r.ProviderCalls != 100 || len(counts(r)) < 2 {
		t.Fatalf("exit code %d, report %+v", code, r)
	}
}

// A share of the calls is spent on a second source; what it does not agree on is
// told, and an alarm if that is much.
func TestCrossCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight().withSources("alpha_vantage", "tiingo")
	w.env["SA_DATA__BARS__CROSS_CHECK_PERCENT"] = "25"
	alarms := w.redis().Subscribe(t.Context(), "risk:alert")
	defer func() { _ = alarms.Close() }()
	if _, err := alarms.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	symbols := market.SP500()[:20]
	r, code := w.daily("--date", session, "--symbols", list(symbols))
	if c := r.CrossCheck; code != exitOK || c == nil || c.Compared != 5 || c.Failed != 0 || len(c.Disagreements) != 0 || r.ProviderCalls != 25 {
		t.Fatalf("exit code %d, report %+v, check %+v", code, r, r.CrossCheck)
	}
	// What is stored from now on is not what was served.
	w.exec(`CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.high := NEW.high + 1; RETURN NEW; END'`)
	w.exec(`CREATE TRIGGER spoil BEFORE INSERT ON ohlcv FOR EACH ROW EXECUTE FUNCTION spoil()`)
	r, code = w.daily("--date", session, "--symbols", list(market.SP500()[20:40]))
	c := r.CrossCheck
	if code != exitOK || c == nil || len(c.Disagreements) != 5 {
		t.Fatalf("exit code %d, report %+v, check %+v", code, r, c)
	}
	if d := c.Disagreements[0]; d.Stored == d.Other || len(d.Fields) != 1 || d.Fields[0].Field != "high" || d.Fields[0].A < d.Fields[0].B+0.99 {
		t.Errorf("%+v", d)
	}
	// Other tests on this server say things too.
	message, err := alarms.ReceiveMessage(t.Context())
	for err == nil && !strings.Contains(message.Payload, "cross_check") {
		message, err = alarms.ReceiveMessage(t.Context())
	}
	if err != nil || !strings.Contains(message.Payload, `"type":"cross_check","severity":"warning","reason":"5 of 5 bars of 2026-03-12`) {
		t.Errorf("%v, %v", message, err)
	}
	if s := w.run("run", "daily-bars", "--source", "tiingo", "--date", session, "--symbols", "AAPL", "--force"); s.code != exitOK {
		t.Errorf("%+v", s)
	}
	w.env["SA_DATA__BARS__SOURCES"] = "tiingo"
	if s := w.run("status"); s.code != exitUsage || !strings.Contains(s.err, "takes two sources") {
		t.Errorf("%+v", s)
	}
}

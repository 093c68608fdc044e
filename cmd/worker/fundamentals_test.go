package main

import (
	"encoding/json"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// newWeekWorld is a world whose clock begins at noon in New York of a day, and
// whose simulator has the facts that were filed by then.
func newWeekWorld(t testing.TB, day market.Date) *world {
	t.Helper()
	w := newWorld(t)
	started := time.Now()
	w.now = func() time.Time { return day.In(market.NewYork(), 12, 0).Add(time.Since(started)) }
	w.simulate(simulator.Config{Key: canary, Now: w.now})
	w.env["SA_DATA__EDGAR__USER_AGENT"] = "Tests tests@example.com"
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = "10000"
	// The clock's day is not that of Redis.
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	return w
}

// simulate puts another simulator behind all providers.
func (w *world) simulate(c simulator.Config) {
	w.sim = simulator.New(c)
	server := httptest.NewServer(w.sim)
	w.t.Cleanup(server.Close)
	for _, name := range []string{"SA_DATA__ALPHA_VANTAGE__BASE_URL", "SA_DATA__EDGAR__BASE_URL", "SA_DATA__EDGAR__DATA_BASE_URL", "SA_DATA__FINRA__BASE_URL"} {
		w.env[name] = server.URL
	}
}

func (w *world) week(args ...string) (sweep.Report, int) {
	w.t.Helper()
	return w.job("fundamentals", args...)
}

// checkRow compares the stored row of a symbol with what the sources hold.
func (w *world) checkRow(s *services, symbol market.Symbol, day market.Date) {
	w.t.Helper()
	session, err := market.NYSE().LastClosed(w.now(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	facts := known(simulator.Facts(simulator.CIK(symbol), day), day)
	want := fundamentals.Ratios(facts, day).Merge(simulator.Overview(symbol, session))
	want.Symbol, want.Date = symbol, day
	got, ok, err := s.db.Fundamentals(w.t.Context(), symbol, day)
	if err != nil || !ok {
		w.t.Fatalf("%s: no row (%v)", symbol, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s: -served +stored\n%s", symbol, diff)
	}
}

func known(facts []market.Fact, day market.Date) []market.Fact {
	return slices.DeleteFunc(slices.Clone(facts), func(f market.Fact) bool {
		return f.Filed > day || !market.IsNeeded(f.Taxonomy, f.Concept)
	})
}

func TestFundamentalsOfTheLastWeekOfAYear(t *testing.T) {
	t.Parallel()
	saturday := market.NewDate(2027, time.January, 2)
	w := newWeekWorld(t, saturday).withServers()
	report, code := w.week("--week", "2026-W53", "--symbols", "AAPL,MSFT")
	if code != exitOK || report.Period != "2026-W53" || report.Fetched != 2 || report.Rows != 2 || len(report.Warnings) != 0 {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	// Two overviews; two documents of facts and the list of issuers.
	if len(w.sim.Calls()) != 2 || len(w.sim.EDGARCalls()) != 3 || report.ProviderCalls != 5 || report.Parts[0].ProviderCalls != 3 {
		t.Errorf("%d and %d calls, report %+v", len(w.sim.Calls()), len(w.sim.EDGARCalls()), report)
	}
	rdb, ctx := w.redis(), t.Context()
	const key = "jobs:weekly_fundamentals:2026-W53:done"
	members := rdb.SMembers(ctx, key).Val()
	slices.Sort(members)
	if ttl := rdb.TTL(ctx, key).Val(); !slices.Equal(members, []string{"AAPL", "MSFT"}) || ttl <= 7*24*time.Hour || ttl > 8*24*time.Hour {
		t.Errorf("%s holds %v for %s", key, members, ttl)
	}
	if keys := rdb.Keys(ctx, "jobs:*").Val(); len(keys) != 1 {
		t.Errorf("keys %v", keys)
	}
	s := w.open()
	for _, symbol := range []market.Symbol{"AAPL", "MSFT"} {
		w.checkRow(s, symbol, saturday)
		w.checkCache(s, symbol)
	}

	before := w.dump()
	again, code := w.week("--symbols", "AAPL,MSFT")
	if code != exitOK || again.Period != "2026-W53" || again.Skipped != 2 || again.ProviderCalls != 0 || len(again.Parts) != 0 {
		t.Errorf("again: exit %d, report %+v", code, again)
	}
	if len(w.sim.Calls())+len(w.sim.EDGARCalls()) != 5 {
		t.Error("a finished week makes calls")
	}
	if touched := rowsTouched(before, w.dump()); touched != "" {
		t.Errorf("a finished week touches rows: %s", touched)
	}
}

// rowsTouched compares two dumps, but for the run's own row.
func rowsTouched(before, after string) string {
	data := func(dump string) []string {
		return slices.DeleteFunc(strings.Split(dump, "\n"), func(line string) bool { return strings.Contains(line, "ingest_runs") })
	}
	return cmp.Diff(data(before), data(after))
}

// checkCache compares the cache of a symbol with its row.
func (w *world) checkCache(s *services, symbol market.Symbol) {
	w.t.Helper()
	key := "cache:fundamentals:" + string(symbol)
	row, _, err := s.db.Fundamentals(w.t.Context(), symbol, market.NewDate(2100, 1, 1))
	if err != nil {
		w.t.Fatal(err)
	}
	want, err := json.Marshal(row)
	if err != nil {
		w.t.Fatal(err)
	}
	rdb := w.redis()
	if got := rdb.Get(w.t.Context(), key).Val(); got != string(want) {
		w.t.Errorf("%s holds %s, want %s", key, got, want)
	}
	if ttl := rdb.TTL(w.t.Context(), key).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		w.t.Errorf("%s expires in %s", key, ttl)
	}
}

// Every figure says where it is from, in the column that other programs read.
func TestFundamentalsSayWhereTheyComeFrom(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, time.March, 12)
	w := newWeekWorld(t, day).withServers()
	if report, code := w.week("--symbols", "AAPL"); code != exitOK {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	var doc struct {
		Fields map[string]struct {
			Source, Filed, Period string
			Computed              bool
		}
	}
	text := w.query("select metadata::text from fundamentals where symbol = 'AAPL' and timestamp = '2026-03-12T00:00:00Z'")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if f := doc.Fields["debt_to_equity"]; f.Source != "edgar" || !f.Computed || f.Filed == "" || f.Filed > "2026-03-12" || f.Period >= f.Filed {
		t.Errorf("debt_to_equity: %+v", f)
	}
	if f := doc.Fields["pe_ratio"]; f.Source != "alpha_vantage" || f.Computed || f.Filed != "" {
		t.Errorf("pe_ratio: %+v", f)
	}
	if yield := w.query("select dividend_yield::text from fundamentals"); len(yield) > 1 && yield[0] != '0' {
		t.Errorf("a dividend yield of %s is no fraction", yield)
	}
}

// What a backtest asks for a day before a filing does not change with it.
func TestFactsAsOfADay(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, time.March, 12)
	w := newWeekWorld(t, day)
	if report, code := w.week("--symbols", "AAPL,MSFT"); code != exitOK {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	for _, asOf := range []market.Date{day, market.NewDate(2025, time.February, 1), market.NewDate(2020, time.August, 3)} {
		printed := w.run("export", "facts", "--as-of", asOf.String(), "--symbols", "MSFT,AAPL")
		if printed.code != exitOK {
			t.Fatal(printed.err)
		}
		want := 0
		for _, symbol := range []market.Symbol{"AAPL", "MSFT"} {
			want += len(market.AsOf(known(simulator.Facts(simulator.CIK(symbol), day), day), asOf))
		}
		lines := strings.Split(strings.TrimSpace(printed.out), "\n")
		if len(lines) != want+1 || lines[0] != "symbol,concept,unit,start,end,value,filed,accession_number" {
			t.Errorf("%s: %d rows, want %d; header %s", asOf, len(lines)-1, want, lines[0])
		}
	}
	printed := w.run("export", "facts", "--symbols", "AAPL", "--concepts", "StockholdersEquity", "--json", "--as-of", day.String())
	var doc struct {
		AsOf  string           `json:"as_of"`
		Facts []map[string]any `json:"facts"`
	}
	if err := json.Unmarshal([]byte(printed.out), &doc); err != nil || doc.AsOf != "2026-03-12" || len(doc.Facts) == 0 {
		t.Fatalf("%v: %.300s", err, printed.out)
	}
	if f := doc.Facts[0]; f["symbol"] != "AAPL" || f["start"] != nil || len(f) != 8 {
		t.Errorf("%v", f)
	}
}

// A fault of a provider is a reason in the report and never a row of nulls.
func TestFaultsOfFundamentals(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, time.March, 12)
	for _, name := range simulator.FaultsOf("OVERVIEW") {
		if takesMinutes(name) {
			continue
		}
		t.Run("overview "+name, func(t *testing.T) {
			t.Parallel()
			w := newWeekWorld(t, day)
			w.fault("AAPL", name)
			report, code := w.week("--symbols", "AAPL")
			w.checkFault(report, code, day)
			if report.Parts[0].Fetched != 1 {
				t.Errorf("the facts: %+v", report.Parts[0])
			}
		})
	}
	for _, name := range simulator.EDGARFaults() {
		if takesMinutes(name) {
			continue
		}
		t.Run("facts "+name, func(t *testing.T) {
			t.Parallel()
			w := newWeekWorld(t, day)
			w.sim.FaultEDGAR(simulator.CIK("AAPL"), simulator.Fault(name), -1)
			report, code := w.week("--symbols", "AAPL")
			facts := report.Parts[0]
			if report.Fetched != 1 || facts.Fetched+facts.Failed != 1 {
				t.Fatalf("exit %d, report %+v", code, report)
			}
			stored, err := w.open().db.Facts(t.Context(), "AAPL")
			if err != nil || (len(stored) > 0) != (facts.Fetched == 1) {
				t.Errorf("%d facts stored (%v), report %+v", len(stored), err, facts)
			}
			if facts.Failed == 1 && (facts.Failures[0].Message == "" || facts.Failures[0].Class.Done()) {
				t.Errorf("exit %d, failures %+v", code, facts.Failures)
			}
		})
	}
}

// takesMinutes knows the faults that a run waits for: it gives a call as long as
// it may take, and a provider the pause that it asks for.
func takesMinutes(fault string) bool {
	return slices.Contains([]string{"slow_headers", "slow_body", "minute_note", "burst_pattern"}, fault)
}

// checkFault holds one symbol's outcome against what is stored of it.
func (w *world) checkFault(report sweep.Report, code int, day market.Date) {
	w.t.Helper()
	row, ok, err := w.open().db.Fundamentals(w.t.Context(), "AAPL", day)
	if err != nil {
		w.t.Fatal(err)
	}
	// Without an overview there may be a row of what follows from facts.
	ok = ok && !(report.Outcomes[sweep.NoData] == 1 && fromFactsAlone(row))
	if report.Failed == 1 && (code == exitOK || report.Failures[0].Message == "" || ok) {
		w.t.Errorf("exit %d, failures %+v, row %+v", code, report.Failures, row)
	}
	if report.Fetched == 1 && (code != exitOK || !ok || row.Empty()) {
		w.t.Errorf("exit %d, row %+v", code, row)
	}
}

func fromFactsAlone(row market.Fundamentals) bool {
	return !row.Empty() && !slices.ContainsFunc(row.Figures[:], func(f market.Figure) bool { return f.Known && f.Source != "edgar" })
}

// A run that meets the end of the provider's day is resumed in the same week.
func TestAWeekTakesSeveralDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.simulate(simulator.Config{Key: canary, PerDay: 3})
	w.env["SA_DATA__EDGAR__USER_AGENT"] = "Tests tests@example.com"
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = "10000"
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "3"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,NVDA,JPM,XOM,KO,PEP"
	dry := w.run("run", "fundamentals", "--dry-run")
	if !strings.Contains(dry.out, "7 of 7 symbols") || !strings.Contains(dry.out, "3 more today") || !strings.Contains(dry.out, "sec_facts: 7 symbols") {
		t.Errorf("dry run: %s%s", dry.out, dry.err)
	}
	stored := 0
	for day := 1; day <= 3; day++ {
		report, code := w.week()
		fetched := min(3, 7-stored)
		stored += fetched
		want := exitQuota
		if stored == 7 {
			want = exitOK
		}
		if code != want || report.Fetched != fetched || report.Failed != 7-stored || report.Skipped+report.Fetched != stored {
			t.Fatalf("day %d: exit %d, report %+v", day, code, report)
		}
		if (report.CompleteAt != nil) != (stored < 7) {
			t.Errorf("day %d: complete at %v", day, report.CompleteAt)
		}
		if left := math.Ceil(float64(7-stored) / 3); report.CompleteAt != nil {
			want := nextMidnight(report.FinishedAt).Add(time.Duration(left-1) * 24 * time.Hour)
			if d := report.CompleteAt.Sub(want); d < -2*time.Hour || d > 3*time.Hour {
				t.Errorf("day %d: complete at %s, want soon after %s", day, report.CompleteAt, want)
			}
		}
		// The list of issuers and the facts of seven, on the first day.
		if facts := len(w.sim.EDGARCalls()); (facts != 8) == (day == 1) || day > 1 && facts > 0 {
			t.Errorf("day %d: %d calls to the SEC", day, facts)
		}
		if v := w.sim.Violations(); len(v) > 0 {
			t.Errorf("day %d: limits broken: %v", day, v)
		}
		w.nextDay()
	}
}

// nextDay takes the provider's day, and all calls, from simulator, ledger and
// Redis.
func (w *world) nextDay() {
	w.t.Helper()
	w.sim.Reset()
	w.exec("delete from ingest_calls")
	w.exec("delete from ingest_quotas")
	w.redis().Del(w.t.Context(), "rate_limit:alpha_vantage.day:tokens", "rate_limit:alpha_vantage.day:last_refill")
}

// Facts that could not be had with the overview complete its row later, without
// another call to the provider whose calls are few.
func TestFactsThatComeLater(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, time.March, 12)
	w := newWeekWorld(t, day)
	agent := w.env["SA_DATA__EDGAR__USER_AGENT"]
	delete(w.env, "SA_DATA__EDGAR__USER_AGENT")
	report, code := w.week("--symbols", "AAPL,MSFT")
	if code != exitOK || len(report.Parts) != 0 || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "SA_DATA__EDGAR__USER_AGENT") {
		t.Fatalf("without a user agent: exit %d, report %+v", code, report)
	}
	w.env["SA_DATA__EDGAR__USER_AGENT"] = agent
	w.sim.FaultEDGAR(simulator.CIK("MSFT"), simulator.Maintenance, -1)
	report, code = w.week("--symbols", "AAPL,MSFT")
	if code != exitPartial || report.Skipped != 2 || report.Parts[0].Failed != 1 || len(w.sim.Calls()) != 2 {
		t.Fatalf("while the SEC fails: exit %d, report %+v", code, report)
	}
	w.sim.Reset()
	if report, code = w.week("--symbols", "AAPL,MSFT"); code != exitOK || report.Parts[0].Skipped != 1 {
		t.Errorf("afterwards: exit %d, report %+v", code, report)
	}
	s := w.open()
	w.checkRow(s, "AAPL", day)
	w.checkRow(s, "MSFT", day)
	if len(w.sim.Calls()) != 0 {
		t.Errorf("%d overviews more", len(w.sim.Calls()))
	}
}

func TestFundsAndStrangersAreReasons(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, time.March, 12)
	w := newWeekWorld(t, day)
	report, code := w.week("--symbols", "AAPL,SPY,QQQ")
	if code != exitPartial || report.Fetched != 1 || report.Outcomes[sweep.NoData] != 2 {
		t.Errorf("exit %d, report %+v", code, report)
	}
	if facts := report.Parts[0]; facts.Outcomes[sweep.UnknownSymbol] != 2 {
		t.Errorf("facts %+v", facts)
	}
	w.checkRow(w.open(), "AAPL", day)
}

func TestMoreFunctions(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, time.March, 12)
	w := newWeekWorld(t, day)
	delete(w.env, "SA_DATA__EDGAR__USER_AGENT")
	w.env["SA_DATA__ALPHA_VANTAGE__FUNDAMENTALS"] = "overview, earnings, balance_sheet"
	report, code := w.week("--symbols", "AAPL")
	// The overview has the earnings' growth, so they are not asked for.
	if code != exitOK || len(w.sim.Calls()) != 2 || report.ProviderCalls != 2 {
		t.Fatalf("exit %d, %d calls, report %+v", code, len(w.sim.Calls()), report)
	}
	row, _, err := w.open().db.Fundamentals(t.Context(), "AAPL", day)
	if f := row.Figures[market.DebtToEquity]; err != nil || !f.Known || f.Source != "alpha_vantage" || !f.Computed {
		t.Errorf("debt to equity %+v (%v)", f, err)
	}
	for _, wrong := range []string{"earnings", "overview,overview", "overview,income", ","} {
		w.env["SA_DATA__ALPHA_VANTAGE__FUNDAMENTALS"] = wrong
		if s := w.run("run", "fundamentals"); s.code != exitUsage || !strings.Contains(s.err, "SA_DATA__ALPHA_VANTAGE__FUNDAMENTALS") {
			t.Errorf("%q: exit %d, %s", wrong, s.code, s.err)
		}
	}
}

func TestWeekFlag(t *testing.T) {
	t.Parallel()
	w := newWeekWorld(t, market.NewDate(2026, time.March, 12))
	for value, want := range map[string]string{
		"2026-W12":   "2026-W12 has not begun: today is 2026-03-12 in New York, in week 2026-W11",
		"2025-W53":   "2025 has 52 weeks",
		"2026-11":    "want an ISO week",
		"2026-W1":    "want an ISO week",
		"2026-03-12": "want an ISO week",
	} {
		if s := w.run("run", "fundamentals", "--week", value); s.code != exitUsage || !strings.Contains(s.err, want) {
			t.Errorf("%s: exit %d, %s", value, s.code, s.err)
		}
	}
	report, code := w.week("--week", "2026-W10", "--symbols", "AAPL")
	if code != exitOK || report.Period != "2026-W10" || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "stored under 2026-03-12") {
		t.Errorf("a week that is over: exit %d, report %+v", code, report)
	}
	w.checkRow(w.open(), "AAPL", market.NewDate(2026, time.March, 12))
}

// The user agent is what the SEC blocks by, so a wrong one is no call.
func TestAUserAgentWithoutAContact(t *testing.T) {
	t.Parallel()
	w := newWeekWorld(t, market.NewDate(2026, time.March, 12))
	w.env["SA_DATA__EDGAR__USER_AGENT"] = "worker"
	if s := w.run("run", "fundamentals"); s.code != exitUsage || !strings.Contains(s.err, "contact") {
		t.Errorf("exit %d, %s", s.code, s.err)
	}
	if n := len(w.sim.EDGARCalls()); n != 0 {
		t.Errorf("%d calls", n)
	}
	w.env["SA_DATA__EDGAR__USER_AGENT"] = ""
	if s := w.run("doctor"); !strings.Contains(s.out, "edgar user agent") {
		t.Errorf("doctor says nothing about it: %s", s.out)
	}
}

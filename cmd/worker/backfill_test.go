package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// atNight lets the program's clock run from the night after the simulator's
// newest session, with a premium key, which holds all of the history.
func (w *world) atNight() *world {
	base, start := sessionDate().In(market.NewYork(), 23, 0), time.Now()
	w.now = func() time.Time { return base.Add(time.Since(start)) }
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	return w
}

// report runs a command with --json and returns its report and exit code.
func (w *world) report(args ...string) (r sweep.Report, code int) {
	w.t.Helper()
	code = w.decode(&r, args...)
	if r.Symbols != r.Fetched+r.Skipped+r.Failed || len(r.Failures) != r.Failed {
		w.t.Errorf("the counts do not add up: %+v", r)
	}
	return r, code
}

// decode runs a command with --json and reads what it prints.
func (w *world) decode(to any, args ...string) int {
	w.t.Helper()
	s := w.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(s.out), to); err != nil {
		w.t.Fatalf("%s: standard output is no JSON: %v\n%s\n%s", args, err, s.out, s.err)
	}
	return s.code
}

func sessionsIn(t testing.TB, from, to market.Date) int {
	t.Helper()
	sessions, err := market.NYSE().Sessions(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return len(sessions)
}

func TestBackfill(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight()
	rdb := w.redis()
	completed := func() []string {
		members := rdb.SMembers(t.Context(), rediskey.BackfillCompleted).Val()
		slices.Sort(members)
		return members
	}
	rows := func() string { return w.query(`SELECT count(*)::text FROM ohlcv`) }
	both := []string{"AAPL", "MSFT"}
	years := func(n int) int {
		return sessionsIn(t, market.NewDate(2026-n, time.March, 12), sessionDate())
	}

	r, code := w.report("backfill", "--years", "2", "--symbols", "AAPL,MSFT")
	if code != exitOK || r.Fetched != 2 || r.ProviderCalls != 2 || r.Rows != 2*years(2) {
		t.Fatalf("exit code %d, report %+v", code, r)
	}
	if diff := cmp.Diff(both, completed()); diff != "" {
		t.Error(diff)
	}
	if ttl := rdb.TTL(t.Context(), rediskey.BackfillCompleted).Val(); ttl != -1 {
		t.Errorf("the set expires in %s", ttl)
	}
	if got := rows(); got != fmt.Sprint(2*years(2)) {
		t.Errorf("%s rows, want %d", got, 2*years(2))
	}

	r, code = w.report("run", "backfill", "--years", "5", "--symbols", "AAPL,MSFT")
	if code != exitOK || r.ProviderCalls != 2 || r.Rows != 2*(years(5)-years(2)) {
		t.Errorf("five years: exit code %d, report %+v", code, r)
	}
	// The set is only a copy: it comes back.
	rdb.Del(t.Context(), rediskey.BackfillCompleted)
	r, _ = w.report("backfill", "--years", "5", "--symbols", "AAPL,MSFT")
	if r.ProviderCalls != 0 || r.Skipped != 2 || len(completed()) != 2 {
		t.Errorf("again: report %+v, set %v", r, completed())
	}
	for _, symbol := range both {
		series, err := w.open().db.Bars(t.Context(), market.Symbol(symbol), market.Range{From: 1, To: sessionDate()})
		if err != nil || len(series.Bars) != years(5) {
			t.Fatalf("%d bars of %s, %v", len(series.Bars), symbol, err)
		}
		for _, b := range series.Bars {
			if want := simulator.Bar(market.Symbol(symbol), b.Date); b != want {
				t.Fatalf("stored %+v, served %+v", b, want)
			}
		}
	}

	before := rows()
	if s := w.run("backfill", "--reset", "--symbols", "AAPL,MSFT"); s.code != exitOK {
		t.Fatalf("reset: %+v", s)
	}
	if got := completed(); len(got) != 0 || rows() != before {
		t.Errorf("after --reset: set %v, %s rows of %s", got, rows(), before)
	}
	r, code = w.report("backfill", "--years", "2", "--symbols", "AAPL,MSFT")
	if code != exitOK || r.ProviderCalls != 2 || r.Rows != 0 || r.Outcomes[sweep.Unchanged] != 2 || len(completed()) != 2 {
		t.Errorf("after --reset: exit code %d, report %+v", code, r)
	}
}

func TestResetOfAllAsksFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.report("backfill", "--symbols", "AAPL")
	if s := w.run("backfill", "--reset"); s.code != exitUsage || !strings.Contains(s.err, "--yes") {
		t.Errorf("%+v", s)
	}
	if r, _ := w.report("backfill", "--symbols", "AAPL"); r.ProviderCalls != 0 {
		t.Error("a refused reset has forgotten something")
	}
	if s := w.run("backfill", "--reset", "--yes"); s.code != exitOK {
		t.Errorf("%+v", s)
	}
	if r, _ := w.report("backfill", "--symbols", "AAPL", "--years", "2", "--reset"); r.ProviderCalls != 1 {
		t.Errorf("with a range the run follows at once: %+v", r)
	}
}

// execSQLite runs a statement in the embedded database as another program would.
func (w *world) execSQLite(statement string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.env["SA_DATA_DIR"], databaseFile))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(w.t.Context(), statement); err != nil {
		w.t.Fatal(err)
	}
}

// What a free key cannot have is said before and after, and not asked for.
func TestBackfillWithAFreeKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "25"
	s := w.run("backfill", "--dry-run", "--symbols", "AAPL")
	if s.code != exitOK || !strings.Contains(s.out, "holds the newest 100 sessions only") {
		t.Errorf("%+v", s)
	}
	r, code := w.report("backfill", "--symbols", "AAPL")
	if code != exitPartial || r.Outcomes[sweep.PremiumOnly] != 1 || r.Rows < 98 || r.ProviderCalls != 1 {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	if r, code = w.report("backfill", "--symbols", "AAPL"); code != exitPartial || r.ProviderCalls != 0 {
		t.Errorf("again: exit code %d, report %+v", code, r)
	}
}

// A key that has no day limit by the settings, and no premium plan, is found out
// by the first answer.
func TestBackfillWithAKeyThatIsTakenForPremium(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.simulate(simulator.Config{Key: canary, Through: sessionDate()})
	r, code := w.report("backfill", "--symbols", "AAPL,MSFT")
	if code != exitPartial || r.Outcomes[sweep.PremiumOnly] != 2 || r.Rows < 2*98 || !strings.Contains(r.Failures[0].Message, "cannot be had with this key") {
		t.Errorf("exit code %d, report %+v", code, r)
	}
}

func TestAListingIsFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	listed := market.NewDate(2025, time.June, 2)
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Premium: true, Listed: map[market.Symbol]market.Date{"NEWCO": listed}})
	r, code := w.report("backfill", "--symbols", "NEWCO")
	if code != exitOK || r.Rows != sessionsIn(t, listed, sessionDate()) {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	if r, _ = w.report("backfill", "--symbols", "NEWCO"); r.ProviderCalls != 0 {
		t.Errorf("asked again: %+v", r)
	}
	var gaps gapReport
	w.decode(&gaps, "gaps", "--symbols", "NEWCO")
	if len(gaps.Gaps) != 0 {
		t.Errorf("gaps %+v", gaps.Gaps)
	}
	if s := w.run("why", "NEWCO", "2025-05-30"); !strings.Contains(s.out, "not listed") {
		t.Errorf("says %s", s.out)
	}
}

func TestGapsRepairAndWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight()
	w.report("backfill", "--years", "1", "--symbols", "AAPL,MSFT")
	w.exec(`DELETE FROM ohlcv WHERE symbol = 'MSFT' AND timestamp IN ('2025-08-12Z', '2025-08-13Z', '2026-02-18Z')`)

	var gaps gapReport
	w.decode(&gaps, "gaps", "--symbols", "AAPL,MSFT")
	day := func(m time.Month, d, y int) market.Date { return market.NewDate(y, m, d) }
	want := []gap{
		{Symbol: "MSFT", From: day(8, 12, 2025), To: day(8, 13, 2025), Sessions: 2, State: market.SessionLost, Reason: "was stored, its row is gone: worker repair"},
		{Symbol: "MSFT", From: day(2, 18, 2026), To: day(2, 18, 2026), Sessions: 1, State: market.SessionLost, Reason: "was stored, its row is gone: worker repair"},
	}
	if diff := cmp.Diff(want, gaps.Gaps); diff != "" || gaps.Missing != 3 {
		t.Errorf("%d missing\n%s", gaps.Missing, diff)
	}
	if s := w.run("why", "MSFT", "2025-08-12"); !strings.Contains(s.out, "lost: its bar was stored, and its row is gone") || !strings.Contains(s.out, "worker repair --symbols MSFT fetches it") {
		t.Errorf("why says %s", s.out)
	}

	r, code := w.report("repair", "--max-calls", "2", "--symbols", "AAPL,MSFT")
	if code != exitOK || r.ProviderCalls > 2 || r.Rows != 3 || r.Job != "repair" {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	w.decode(&gaps, "gaps", "--symbols", "AAPL,MSFT")
	if len(gaps.Gaps) != 0 {
		t.Errorf("gaps %+v", gaps.Gaps)
	}
	var told story
	w.decode(&told, "why", "MSFT", "2025-08-12")
	if told.State != market.SessionStored || told.FirstSeen == nil || told.Bar == nil || len(told.Attempts) != 2 || told.Source != "alpha_vantage" {
		t.Errorf("story %+v", told)
	}
	for _, at := range told.Attempts {
		if at.CallsThatDay < 1 {
			t.Errorf("attempt %+v", at)
		}
	}
}

func TestRepairKeepsToItsCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.report("backfill", "--years", "1", "--symbols", "AAPL,MSFT,NVDA")
	w.execSQLite(`DELETE FROM ohlcv WHERE timestamp LIKE '2026-02-18%'`)
	// Tries in vain count too.
	w.sim.Fault("AAPL", simulator.HTML503, 1)
	calls := len(w.sim.Calls())
	r, code := w.report("repair", "--max-calls", "2", "--symbols", "AAPL,MSFT,NVDA")
	if made := len(w.sim.Calls()) - calls; made > 2 || r.ProviderCalls > 2 {
		t.Errorf("%d calls, report %+v", made, r)
	}
	if code != exitPartial {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	rows := r.Rows
	if r, code = w.report("repair", "--symbols", "AAPL,MSFT,NVDA"); code != exitOK || rows != 1 || r.Rows != 2 {
		t.Errorf("exit code %d, report %+v", code, r)
	}
}

// A split between two runs leaves one series on one base, and the old values
// among the corrections.
func TestASplitBetweenTwoRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers().atNight()
	w.report("backfill", "--years", "2", "--to", "2026-03-10", "--symbols", "AAPL")
	on := market.NewDate(2026, time.March, 11)
	w.sim.Split("AAPL", on, 4)
	r, code := w.daily("--date", "2026-03-12", "--symbols", "AAPL")
	if code != exitOK || r.ProviderCalls != 2 {
		t.Fatalf("exit code %d, report %+v", code, r)
	}
	series, err := w.open().db.Bars(t.Context(), "AAPL", market.Range{From: market.NewDate(2024, time.March, 11), To: sessionDate()})
	if err != nil {
		t.Fatal(err)
	}
	if len(series.Bars) != sessionsIn(t, series.Bars[0].Date, sessionDate()) {
		t.Errorf("%d bars", len(series.Bars))
	}
	for _, b := range series.Bars {
		want := simulator.Bar("AAPL", b.Date)
		if b.Date < on {
			want = simulator.SplitBar(want, 4)
		}
		if b != want {
			t.Fatalf("%s is %+v, want %+v", b.Date, b, want)
		}
	}
	var told story
	w.decode(&told, "why", "AAPL", "2024-06-03")
	if len(told.Corrections) == 0 || !slices.ContainsFunc(told.Corrections, func(c correctionStory) bool {
		return c.Field == "close" && c.Old != nil && *c.Old == simulator.Bar("AAPL", market.NewDate(2024, time.June, 3)).Close
	}) {
		t.Errorf("corrections %+v", told.Corrections)
	}
	if r, _ = w.daily("--date", "2026-03-12", "--symbols", "AAPL", "--force"); r.ProviderCalls != 1 || r.Rows != 0 {
		t.Errorf("again: %+v", r)
	}
}

// A longer history, and a gap, are on the base of what is stored.
func TestASplitBeforeALongerHistory(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"longer": {"backfill", "--years", "3", "--symbols", "AAPL"},
		"gap":    {"repair", "--symbols", "AAPL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).withServers().atNight()
			w.report("backfill", "--years", "2", "--symbols", "AAPL")
			w.query(`WITH gone AS (DELETE FROM ohlcv WHERE timestamp = '2025-06-05T00:00:00Z' RETURNING 1) SELECT count(*)::text FROM gone`)
			w.sim.Split("AAPL", market.NewDate(2026, time.March, 11), 4)
			r, code := w.report(args...)
			if code != exitOK || r.ProviderCalls > 2 {
				t.Fatalf("exit code %d, report %+v", code, r)
			}
			series, err := w.open().db.Bars(t.Context(), "AAPL", market.Range{From: 1, To: sessionDate()})
			if err != nil || len(series.Bars) != sessionsIn(t, series.Bars[0].Date, sessionDate()) && name == "gap" {
				t.Fatalf("%d bars, %v", len(series.Bars), err)
			}
			for _, b := range series.Bars {
				want := simulator.Bar("AAPL", b.Date)
				if b.Date < market.NewDate(2026, time.March, 11) {
					want = simulator.SplitBar(want, 4)
				}
				if b != want {
					t.Fatalf("%s is %+v, want %+v", b.Date, b, want)
				}
			}
		})
	}
}

// planned runs worker plan of one job.
func (w *world) planned(job string, args ...string) jobPlan {
	w.t.Helper()
	var plans []jobPlan
	if code := w.decode(&plans, append([]string{"plan", job}, args...)...); code != exitOK || len(plans) != 1 {
		w.t.Fatalf("exit code %d, plans %+v", code, plans)
	}
	return plans[0]
}

// The plan for the S&P 500 at 25 calls a day says 21 days, and so does a clock
// on which a run follows each midnight.
func TestThePlanOfAFreeKeyComesTrue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	day, start := 0, time.Now()
	base := market.NewDate(2026, time.March, 13).In(market.NewYork(), 0, 30)
	w.now = func() time.Time { return base.AddDate(0, 0, day).Add(time.Since(start)) }
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "25"
	if s := w.run("plan", "daily-bars"); !strings.Contains(s.out, "(21 days)") {
		t.Errorf("the plan says\n%s", s.out)
	}
	plan := w.planned("daily-bars")
	if plan.Calls["alpha_vantage"] != len(market.SP500()) || plan.Today != 25 {
		t.Errorf("plan %+v", plan)
	}
	for ; ; day++ {
		r, code := w.daily("--date", "2026-03-12")
		if r.ProviderCalls > 25 {
			t.Fatalf("%d calls on day %d", r.ProviderCalls, day+1)
		}
		if code == exitOK || day > 30 {
			break
		}
		if code != exitQuota {
			t.Fatalf("day %d: exit code %d, %+v", day+1, code, r)
		}
	}
	if got, want := day+1, 21; got != want {
		t.Errorf("it took %d days, want %d", got, want)
	}
	if end := market.DateOf(w.now().In(market.NewYork())); end != market.DateOf(plan.CompleteAt.In(market.NewYork())) {
		t.Errorf("ended on %s, planned for %s", end, plan.CompleteAt)
	}
}

// The jobs that call one provider share its day.
func TestThePlanOfSeveralJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "4"
	var plans []jobPlan
	if code := w.decode(&plans, "plan", "--symbols", "AAPL,MSFT,NVDA"); code != exitOK || len(plans) != 4 {
		t.Fatalf("exit code %d, plans %+v", code, plans)
	}
	today := market.DateOf(w.now().In(market.NewYork()))
	for i, want := range []struct {
		job          string
		calls, today int
		end          market.Date
	}{{"daily_bars", 3, 3, today}, {"weekly_fundamentals", 3, 1, today + 1}} {
		p := plans[i]
		if p.Job != want.job || p.Calls["alpha_vantage"] != want.calls || p.Today != want.today || market.DateOf(p.CompleteAt.In(market.NewYork())) != want.end {
			t.Errorf("plan %+v, want %+v", p, want)
		}
	}
	if history := plans[3]; history.Calls["alpha_vantage"] != 0 || !strings.Contains(strings.Join(history.Notes, " "), "come with the answers of daily_bars") {
		t.Errorf("history %+v", history)
	}
}

func TestThePlanOfAMinuteLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "75"
	if s := w.run("plan", "daily-bars"); !strings.Contains(s.out, "(7 minutes)") {
		t.Errorf("the plan says\n%s", s.out)
	}
	if s := w.run("plan"); s.code != exitOK || !strings.Contains(s.out, "backfill") || !strings.Contains(s.out, "altdata") {
		t.Errorf("%+v", s)
	}
	if s := w.run("plan", "nonsense"); s.code != exitUsage {
		t.Errorf("%+v", s)
	}
}

func TestBackfillRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t).atNight()
	for _, args := range [][]string{
		{"--years", "0"},
		{"--years", "x"},
		{"--years", "2", "--from", "2020-01-01"},
		{"--to", "2030-01-01"},
		{"--from", "2026-03-07", "--to", "2026-03-08"},
		{"--from", "2026-02-01", "--to", "2026-01-01"},
		{"--from", "1900-01-01"},
		{"--source", "ibkr"},
		{"--reset", "--dry-run", "--symbols", "AAPL"},
		{"--from", "tomorrow"},
	} {
		if s := w.run(append([]string{"backfill"}, args...)...); s.code != exitUsage {
			t.Errorf("%v: exit code %d, %s%s", args, s.code, s.out, s.err)
		}
	}
	for _, args := range [][]string{{"why"}, {"why", "AAPL", "2026-03-07"}, {"why", "???"}, {"gaps", "--since", "x"}, {"repair", "--max-calls", "-1"}} {
		if s := w.run(args...); s.code != exitUsage {
			t.Errorf("%v: exit code %d, %s%s", args, s.code, s.out, s.err)
		}
	}
}

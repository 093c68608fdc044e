package fundamentals_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
)

var week = market.WeekOf(today)

// refused is an error as the providers make them.
type refused string

func (r refused) Error() string   { return "the provider said " + string(r) }
func (r refused) Outcome() string { return string(r) }
func (r refused) Stops() bool     { return r == "quota" }
func (r refused) Unwrap() error   { return errors.New(string(r)) }

// provider answers with what it is given, or with a P/E of 10.
type provider struct {
	answers map[market.Symbol]error
	rows    map[market.Symbol]market.Fundamentals
	facts   map[market.Symbol][]market.Fact
	asked   []market.Symbol
}

func (p *provider) Overview(_ context.Context, s market.Symbol) (market.Fundamentals, error) {
	p.asked = append(p.asked, s)
	if row, ok := p.rows[s]; ok || p.answers[s] != nil {
		return row, p.answers[s]
	}
	return own(market.PERatio, 10), nil
}

func (p *provider) Facts(_ context.Context, s market.Symbol) ([]market.Fact, error) {
	p.asked = append(p.asked, s)
	return p.facts[s], p.answers[s]
}

func own(f market.Field, value float64) (row market.Fundamentals) {
	row.Figures[f] = market.Figure{Value: value, Known: true, Origin: market.Origin{Source: "alpha_vantage"}}
	return row
}

// memory is a store, its ledger, Redis' done-set and cache.
type memory struct {
	events   []string
	rows     map[market.Symbol]market.Fundamentals
	facts    map[market.Symbol][]market.Fact
	coverage map[market.Symbol]market.Coverage
	done     map[market.Symbol]bool
	factDone []market.Symbol
	attempts map[market.Symbol]string
	saveErr  error
	redisErr error
}

func newMemory() *memory {
	return &memory{
		rows: map[market.Symbol]market.Fundamentals{}, facts: map[market.Symbol][]market.Fact{},
		done: map[market.Symbol]bool{}, attempts: map[market.Symbol]string{},
	}
}

func (m *memory) SaveFundamentals(_ context.Context, row market.Fundamentals) (market.Changes, error) {
	m.events = append(m.events, "commit "+string(row.Symbol))
	if m.saveErr != nil {
		return market.Changes{}, m.saveErr
	}
	m.rows[row.Symbol] = m.rows[row.Symbol].Merge(row)
	return market.Changes{Inserted: 1}, nil
}

func (m *memory) SaveFacts(_ context.Context, s market.Symbol, facts []market.Fact, _ market.Date) (market.Changes, error) {
	n := len(facts) - len(m.facts[s])
	m.facts[s] = facts
	return market.Changes{Inserted: n}, m.saveErr
}

func (m *memory) SaveAttempt(_ context.Context, s market.Symbol, outcome, _ string) error {
	m.attempts[s] = outcome
	return nil
}

func (m *memory) Coverage(context.Context, string) (map[market.Symbol]market.Coverage, error) {
	return m.coverage, nil
}

func (m *memory) DoneUnits(context.Context, string, string) ([]market.Symbol, error) {
	return m.factDone, nil
}

func (m *memory) Facts(_ context.Context, s market.Symbol) ([]market.Fact, error) {
	return m.facts[s], nil
}

func (m *memory) Fundamentals(_ context.Context, s market.Symbol, _ market.Date) (market.Fundamentals, bool, error) {
	row, ok := m.rows[s]
	return row, ok, nil
}

func (m *memory) Done(context.Context, []market.Symbol) (map[market.Symbol]bool, error) {
	return m.done, m.redisErr
}

func (m *memory) Add(_ context.Context, symbols ...market.Symbol) error {
	m.events = append(m.events, fmt.Sprintf("add %s", symbols[0]))
	m.done[symbols[0]] = true
	return m.redisErr
}

func (m *memory) Put(_ context.Context, row market.Fundamentals) error {
	m.events = append(m.events, fmt.Sprintf("cache %s", row.Symbol))
	if cmp.Diff(m.rows[row.Symbol], row) != "" {
		return errors.New("the cache is given another row than the stored one")
	}
	return nil
}

func job(p *provider, m *memory) fundamentals.Job {
	return fundamentals.Job{
		Overviews: p, Filer: p, Store: m, FactStore: m, Library: m, Done: m, Cache: m, Today: today,
		Sweep: sweep.Sweep{Workers: 1}, FactSweep: sweep.Sweep{Workers: 1},
	}
}

// runJob makes both parts and returns their reports.
func runJob(t *testing.T, j fundamentals.Job, symbols ...market.Symbol) (facts, overviews sweep.Report) {
	t.Helper()
	plan, err := j.Plan(t.Context(), week, symbols)
	if err != nil {
		t.Fatal(err)
	}
	return j.RunFacts(t.Context(), plan), j.Run(t.Context(), plan)
}

func balanceSheet() []market.Fact {
	return []market.Fact{fact("StockholdersEquity", 200), fact("LongTermDebtNoncurrent", 50)}
}

func TestARowIsFilledFromBothSources(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{facts: map[market.Symbol][]market.Fact{"AAPL": balanceSheet()}}
	facts, report := runJob(t, job(p, m), "AAPL")
	if report.Status != sweep.OK || report.Rows != 1 || facts.Rows != 2 {
		t.Errorf("facts %+v, overviews %+v", facts, report)
	}
	row := m.rows["AAPL"]
	if row.Date != today || row.Figures[market.PERatio].Value != 10 || row.Figures[market.DebtToEquity].Value != 0.25 {
		t.Errorf("stored %+v", row)
	}
	if diff := cmp.Diff([]string{"commit AAPL", "add AAPL", "cache AAPL"}, m.events); diff != "" {
		t.Error(diff)
	}
}

func TestTheOldestFiguresComeFirst(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{}
	last := market.WeekOf(today - 7).String()
	m.coverage = map[market.Symbol]market.Coverage{
		"THIS":   {Tried: week.String(), Through: today - 30},
		"FRESH":  {Tried: last, Through: today - 5},
		"OLD":    {Tried: last, Through: today - 7},
		"FAILED": {Tried: last, Through: today - 20},
		"MISSED": {Tried: market.WeekOf(today - 14).String(), Through: today - 14},
	}
	runJob(t, job(p, m), "THIS", "FRESH", "FAILED", "OLD", "MISSED", "NEVER")
	want := []market.Symbol{"NEVER", "MISSED", "OLD", "FRESH", "FAILED", "THIS"}
	if diff := cmp.Diff(want, p.asked[len(want):]); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsDoneIsNotAskedFor(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{}
	m.done["AAPL"], m.factDone = true, []market.Symbol{"AAPL", "MSFT"}
	facts, report := runJob(t, job(p, m), "AAPL", "MSFT")
	if diff := cmp.Diff([]market.Symbol{"MSFT"}, p.asked); diff != "" || facts.Skipped != 2 || report.Skipped != 1 {
		t.Errorf("asked %s, facts %+v, report %+v", diff, facts, report)
	}
	j := job(p, m)
	j.Force = true
	facts, report = runJob(t, j, "AAPL", "MSFT")
	if facts.Skipped != 0 || report.Fetched != 2 {
		t.Errorf("with Force: facts %+v, report %+v", facts, report)
	}
}

func TestWithoutAnOverviewFactsMakeTheRow(t *testing.T) {
	t.Parallel()
	m := newMemory()
	p := &provider{answers: map[market.Symbol]error{"AAPL": refused("no_data"), "SPY": refused("no_data")}}
	m.facts["AAPL"] = balanceSheet()
	j := job(p, m)
	j.Filer = nil
	var seen []sweep.Unit
	j.Sweep.Each = func(u sweep.Unit) { seen = append(seen, u) }
	_, report := runJob(t, j, "AAPL", "SPY")
	if report.Fetched != 1 || report.Outcomes[sweep.NoData] != 1 || m.done["SPY"] || m.attempts["SPY"] != "no_data" {
		t.Errorf("report %+v, attempts %v", report, m.attempts)
	}
	if m.rows["AAPL"].Figures[market.DebtToEquity].Value != 0.25 || !strings.Contains(seen[0].Message, "no_data") {
		t.Errorf("stored %+v; said %+v", m.rows["AAPL"], seen[0])
	}
	if _, ok := m.rows["SPY"]; ok {
		t.Error("a row of nulls is stored")
	}
}

func TestARefusedAnswerIsNoRow(t *testing.T) {
	t.Parallel()
	for _, class := range []string{"bad_payload", "unknown_symbol", "limit_note", "provider_error", "quota"} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			m.facts["AAPL"] = balanceSheet()
			j := job(&provider{answers: map[market.Symbol]error{"AAPL": refused(class)}}, m)
			j.Filer = nil
			_, report := runJob(t, j, "AAPL")
			if len(m.rows) != 0 || m.done["AAPL"] || report.Outcomes[sweep.Outcome(class)] != 1 {
				t.Errorf("rows %v, report %+v", m.rows, report)
			}
		})
	}
}

func TestASpentDayEndsTheRun(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{answers: map[market.Symbol]error{"MSFT": refused("quota")}}
	j := job(p, m)
	j.Filer = nil
	_, report := runJob(t, j, "AAPL", "MSFT", "NVDA")
	if report.Status != sweep.OutOfQuota || report.Fetched != 1 || report.Failed != 2 || slices.Contains(p.asked, "NVDA") || len(m.attempts) != 0 {
		t.Errorf("asked %v, attempts %v, report %+v", p.asked, m.attempts, report)
	}
}

// The facts of a symbol can come when its overview of the week is stored: after
// the SEC was down, or after a user agent was set.
func TestLateFactsCompleteTheRow(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{facts: map[market.Symbol][]market.Fact{"AAPL": balanceSheet(), "MSFT": balanceSheet()}}
	m.done["AAPL"] = true
	before := own(market.PERatio, 12)
	before.Symbol, before.Date = "AAPL", today-1
	m.rows["AAPL"] = before
	m.rows["MSFT"] = before
	p.answers = map[market.Symbol]error{"MSFT": refused("bad_payload")}
	j := job(p, m)
	plan, err := j.Plan(t.Context(), week, []market.Symbol{"AAPL", "MSFT"})
	if err != nil {
		t.Fatal(err)
	}
	p.answers = nil
	j.RunFacts(t.Context(), plan)
	if row := m.rows["AAPL"]; row.Date != today || row.Figures[market.PERatio].Value != 12 || row.Figures[market.DebtToEquity].Value != 0.25 {
		t.Errorf("stored %+v", row)
	}
	if m.rows["MSFT"].Date == today || m.done["MSFT"] {
		t.Error("a symbol without an overview is done")
	}
}

func TestMoreCallsFillWhatIsNull(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{rows: map[market.Symbol]market.Fundamentals{"AAPL": own(market.PERatio, 10)}}
	j := job(p, m)
	j.Filer = nil
	more := own(market.EarningsGrowth, 0.2)
	more.Figures[market.EarningsGrowth].Computed = true
	more.Figures[market.PERatio] = market.Figure{Value: 99, Known: true, Origin: market.Origin{Source: "other", Computed: true}}
	j.More = []fundamentals.Overviews{
		&provider{answers: map[market.Symbol]error{"AAPL": refused("quota")}, rows: map[market.Symbol]market.Fundamentals{}},
		&provider{rows: map[market.Symbol]market.Fundamentals{"AAPL": more}},
	}
	plan, err := j.Plan(t.Context(), week, []market.Symbol{"AAPL"})
	if err != nil || j.Calls(plan) != 3 {
		t.Fatalf("%d calls, %v", j.Calls(plan), err)
	}
	report := j.Run(t.Context(), plan)
	row := m.rows["AAPL"]
	if report.Fetched != 1 || row.Figures[market.EarningsGrowth].Value != 0.2 || row.Figures[market.PERatio].Value != 10 {
		t.Errorf("stored %+v, report %+v", row, report)
	}
}

func TestAStoreThatIsGoneEndsBothParts(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{facts: map[market.Symbol][]market.Fact{"AAPL": balanceSheet(), "MSFT": balanceSheet()}}
	m.saveErr = errors.New("connection refused")
	facts, report := runJob(t, job(p, m), "AAPL", "MSFT", "NVDA")
	if len(p.asked) != 2 || facts.Status != sweep.Failed || report.Status != sweep.Failed || len(m.done) != 0 {
		t.Errorf("asked %v, facts %+v, report %+v", p.asked, facts, report)
	}
}

func TestRedisBehindTheLedgerIsAWarning(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.redisErr = errors.New("redis is away")
	_, report := runJob(t, job(&provider{}, m), "AAPL")
	if report.Status != sweep.OK || len(report.Warnings) != 2 || len(m.rows) != 1 {
		t.Errorf("report %+v", report)
	}
}

func TestWeeks(t *testing.T) {
	t.Parallel()
	m := newMemory()
	plan, err := job(&provider{}, m).Plan(t.Context(), market.Week{Year: 2026, Number: 10}, []market.Symbol{"AAPL"})
	if err != nil || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "stored under 2026-03-12") {
		t.Errorf("a week that is over: %v, %v", plan.Warnings, err)
	}
	if report := job(&provider{}, m).Run(t.Context(), plan); m.rows["AAPL"].Date != today || len(report.Warnings) != 1 {
		t.Errorf("dated %s, warnings %v", m.rows["AAPL"].Date, report.Warnings)
	}
	_, err = job(&provider{}, m).Plan(t.Context(), market.Week{Year: 2026, Number: 12}, nil)
	if err == nil || !strings.Contains(err.Error(), "2026-W12 has not begun") {
		t.Errorf("a coming week: %v", err)
	}
}

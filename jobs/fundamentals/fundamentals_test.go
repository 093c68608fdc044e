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

func (m *memory) SaveFundamentals(_ context.Context, row market.Fundamentals, done bool) (market.Changes, error) {
	m.events = append(m.events, fmt.Sprintf("commit %s, done %v", row.Symbol, done))
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
		Overviews: p, Filer: p, Store: m, FactStore: m, Library: m, Done: m, Cache: m, Today: func() market.Date { return today },
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
	if diff := cmp.Diff([]string{"commit AAPL, done true", "cache AAPL", "add AAPL"}, m.events); diff != "" {
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

// What follows from reports is stored, but the provider may have its figures
// tomorrow.
func TestWithoutAnOverviewTheSymbolIsNotDone(t *testing.T) {
	t.Parallel()
	m := newMemory()
	p := &provider{answers: map[market.Symbol]error{"AAPL": refused("no_data"), "SPY": refused("no_data")}}
	m.facts["AAPL"] = balanceSheet()
	j := job(p, m)
	j.Filer = nil
	_, report := runJob(t, j, "AAPL", "SPY")
	if report.Failed != 2 || report.Rows != 1 || report.Outcomes[sweep.NoData] != 2 || len(m.done) != 0 || m.attempts["AAPL"] != "no_data" {
		t.Errorf("report %+v, attempts %v", report, m.attempts)
	}
	if m.rows["AAPL"].Figures[market.DebtToEquity].Value != 0.25 || !strings.Contains(report.Failures[0].Message, "is stored") {
		t.Errorf("stored %+v, failures %v", m.rows["AAPL"], report.Failures)
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
// the SEC was down, after a user agent was set, after a kill between the two.
func TestLateFactsCompleteTheRow(t *testing.T) {
	t.Parallel()
	before := own(market.PERatio, 12)
	before.Symbol, before.Date = "AAPL", today-1
	complete := before
	complete.Figures[market.DebtToEquity] = market.Figure{Value: 9, Known: true, Origin: market.Origin{Source: "edgar", Computed: true, Filed: filed - 90, Period: yearEnd - 90}}
	lastWeek := before
	lastWeek.Date = today - 7
	fetched := map[market.Symbol][]market.Fact{"AAPL": balanceSheet()}
	for name, tc := range map[string]struct {
		row           market.Fundamentals
		done          bool
		stored, fresh map[market.Symbol][]market.Fact
		want          float64 // debt to equity of a row of today; 0: there is none
	}{
		"facts are fetched":             {before, true, nil, fetched, 0.25},
		"facts were stored before":      {before, true, fetched, fetched, 0.25},
		"new facts":                     {complete, true, nil, fetched, 0.25},
		"nothing is new":                {complete, true, fetched, fetched, 0},
		"no overview of the week yet":   {before, false, nil, fetched, 0},
		"the overview of another week":  {lastWeek, true, nil, fetched, 0},
		"nothing follows from anything": {before, true, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := newMemory(), &provider{facts: tc.fresh, answers: map[market.Symbol]error{}}
			m.done["AAPL"], m.rows["AAPL"] = tc.done, tc.row
			for s, facts := range tc.stored {
				m.facts[s] = facts
			}
			j := job(p, m)
			plan, err := j.Plan(t.Context(), week, []market.Symbol{"AAPL"})
			if err != nil {
				t.Fatal(err)
			}
			j.RunFacts(t.Context(), plan)
			asked := len(p.asked)
			p.answers["AAPL"] = refused("provider_error")
			report := j.Run(t.Context(), plan)
			row := m.rows["AAPL"]
			if tc.want == 0 {
				if row.Date == today {
					t.Errorf("stored %+v", row)
				}
				return
			}
			if row.Date != today || row.Figures[market.DebtToEquity].Value != tc.want || report.Rows != 1 || len(p.asked) != asked {
				t.Errorf("stored %+v, report %+v", row, report)
			}
			if pe := row.Figures[market.PERatio]; pe.Value != 12 || pe.Learnt != today-1 || row.Figures[market.DebtToEquity].Learnt != 0 {
				t.Errorf("the price of another day: %+v", pe)
			}
		})
	}
}

func TestMoreCallsFillWhatIsNull(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{rows: map[market.Symbol]market.Fundamentals{"AAPL": own(market.PERatio, 10)}}
	j := job(p, m)
	j.Filer = nil
	more := own(market.EarningsGrowth, 0.2)
	more.Figures[market.PERatio] = market.Figure{Value: 99, Known: true}
	late, old := own(market.CurrentRatio, 3), own(market.CurrentRatio, 4)
	late.Figures[market.CurrentRatio].Filed = today + 1
	old.Figures[market.CurrentRatio].Period = today - 500
	answer := func(row market.Fundamentals, fills ...market.Field) fundamentals.More {
		return fundamentals.More{Overviews: &provider{rows: map[market.Symbol]market.Fundamentals{"AAPL": row}}, Fills: fills}
	}
	notNeeded := &provider{}
	j.More = []fundamentals.More{
		answer(more, market.EarningsGrowth, market.PERatio),
		{Overviews: notNeeded, Fills: []market.Field{market.EarningsGrowth}},
		{Overviews: &provider{answers: map[market.Symbol]error{"AAPL": refused("bad_payload")}}, Fills: []market.Field{market.DebtToEquity}},
		answer(late, market.CurrentRatio), answer(old, market.CurrentRatio),
	}
	plan, err := j.Plan(t.Context(), week, []market.Symbol{"AAPL"})
	if err != nil || j.Calls(plan) != 6 {
		t.Fatalf("%d calls, %v", j.Calls(plan), err)
	}
	report := j.Run(t.Context(), plan)
	row := m.rows["AAPL"]
	if report.Fetched != 1 || row.Figures[market.EarningsGrowth].Value != 0.2 || row.Figures[market.PERatio].Value != 10 || row.Figures[market.CurrentRatio].Known {
		t.Errorf("stored %+v, report %+v", row, report)
	}
	if len(notNeeded.asked) != 0 || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "AAPL is without debt_to_equity") {
		t.Errorf("asked %v, warnings %v", notNeeded.asked, report.Warnings)
	}
}

// What the overview told is kept, but its symbol is asked again when the day
// ended before the rest of it.
func TestADayThatEndsInsideASymbol(t *testing.T) {
	t.Parallel()
	m := newMemory()
	j := job(&provider{}, m)
	j.Filer = nil
	j.More = []fundamentals.More{{
		Overviews: &provider{answers: map[market.Symbol]error{"AAPL": refused("quota")}}, Fills: []market.Field{market.EarningsGrowth},
	}}
	_, report := runJob(t, j, "AAPL", "MSFT")
	if report.Status != sweep.OutOfQuota || report.Failed != 2 || m.done["AAPL"] || m.rows["AAPL"].Figures[market.PERatio].Value != 10 {
		t.Errorf("report %+v, rows %v", report, m.rows)
	}
}

// A key that the provider puts into its texts must not get into the database.
func TestTextsAreRedacted(t *testing.T) {
	t.Parallel()
	m := newMemory()
	row := own(market.PERatio, 10)
	row.Sector.Text, row.Industry.Text = "CANARY", "CANARY"
	row.Details = map[string]string{"Notice CANARY": "your key CANARY"}
	j := job(&provider{rows: map[market.Symbol]market.Fundamentals{"AAPL": row}}, m)
	j.Filer = nil
	j.Sweep.Redact = func(s string) string { return strings.ReplaceAll(s, "CANARY", "[redacted]") }
	runJob(t, j, "AAPL")
	if text := fmt.Sprintf("%+v", m.rows["AAPL"]); strings.Contains(text, "CANARY") || !strings.Contains(text, "[redacted]") {
		t.Error(text)
	}
}

// A run past midnight dates what it learns with the day on which it learns it.
func TestARowHasTheDayOfItsAnswer(t *testing.T) {
	t.Parallel()
	m := newMemory()
	j := job(&provider{}, m)
	j.Filer = nil
	plan, err := j.Plan(t.Context(), week, []market.Symbol{"AAPL"})
	if err != nil {
		t.Fatal(err)
	}
	j.Today = func() market.Date { return today + 1 }
	if j.Run(t.Context(), plan); m.rows["AAPL"].Date != today+1 {
		t.Errorf("dated %s", m.rows["AAPL"].Date)
	}
}

// Rows that the store refuses are the fault of one symbol.
func TestRowsThatTheStoreRefuses(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), &provider{}
	m.saveErr = refused("bad_payload")
	j := job(p, m)
	j.Filer = nil
	_, report := runJob(t, j, "AAPL", "MSFT")
	if len(p.asked) != 2 || report.Outcomes[sweep.BadPayload] != 2 || report.Stopped != "" {
		t.Errorf("asked %v, report %+v", p.asked, report)
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

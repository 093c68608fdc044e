package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/backfill"
)

const (
	from    = market.Date(739619) // 2026-01-03, a Saturday
	through = market.Date(739687) // 2026-03-12, a Thursday
)

func window(r market.Range) []market.Bar {
	sessions, err := market.NYSE().Sessions(r.From, r.To)
	if err != nil {
		panic(err)
	}
	bars := make([]market.Bar, len(sessions))
	for i, s := range sessions {
		bars[i] = market.Bar{Date: s, Open: 10, High: 12, Low: 9, Close: 11, Volume: 1000}
	}
	return bars
}

// source has bars of every session in has, of all symbols but those with an
// error.
type source struct {
	mu    sync.Mutex
	has   map[market.Symbol]market.Range
	errs  map[market.Symbol]error
	lacks []market.Date
	reach market.Date
	// shows is the reach that the first answer shows.
	shows market.Date
	// only are the days that an answer is about; none means those of the window.
	only  market.Days
	asked []string
}

func (s *source) Reach() (market.Date, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reach, nil
}

func (s *source) History(_ context.Context, symbol market.Symbol, r market.Range) (market.Series, market.Days, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("%s %s", symbol, r))
	s.reach = max(s.reach, s.shows)
	has, ok := s.has[symbol]
	if !ok {
		has = market.Range{From: from - 1000, To: through}
	}
	bars := window(market.Range{From: max(has.From, s.reach), To: has.To})
	bars = slices.DeleteFunc(bars, func(b market.Bar) bool { return slices.Contains(s.lacks, b.Date) })
	if s.only.Len() > 0 {
		bars = slices.DeleteFunc(bars, func(b market.Bar) bool { return !s.only.Has(b.Date) })
		return market.Series{Symbol: symbol, Source: "test", Bars: bars}, s.only, s.errs[symbol]
	}
	return market.Series{Symbol: symbol, Source: "test", Bars: bars}, market.DaysIn(market.Range{From: max(r.From, s.reach), To: r.To}), s.errs[symbol]
}

// memory is the store, the ledger and the set of a test.
type memory struct {
	mu       sync.Mutex
	coverage map[market.Symbol]market.BarCoverage
	rows     map[market.Symbol]market.Days // what is stored really
	done     map[market.Symbol]bool
	items    map[market.Symbol]bool
	tried    map[market.Symbol]market.Coverage
	said     map[market.Symbol]string
	rebased  *market.RebasedError
	// since is from when on bars are on the basis of the stored ones.
	since market.Date
	saved []string
}

func newMemory() *memory {
	return &memory{
		coverage: map[market.Symbol]market.BarCoverage{}, rows: map[market.Symbol]market.Days{}, done: map[market.Symbol]bool{},
		items: map[market.Symbol]bool{}, tried: map[market.Symbol]market.Coverage{}, said: map[market.Symbol]string{},
	}
}

func (m *memory) SaveHistory(_ context.Context, s market.Series, answered market.Range, done bool) (market.Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rebased != nil && len(s.Bars) > 0 && s.Bars[0].Date > m.rebased.Stored.From {
		return market.Changes{}, fmt.Errorf("save: %w", m.rebased)
	}
	var changes market.Changes
	if m.since > 0 {
		all := len(s.Bars)
		s.Bars = slices.DeleteFunc(s.Bars, func(b market.Bar) bool { return b.Date < m.since })
		answered.From, done = m.since, false
		changes = market.Changes{OtherBasis: all - len(s.Bars), Since: m.since}
	}
	c, n := m.coverage[s.Symbol], 0
	if c.Answered == nil {
		c.Answered = map[string]market.Days{}
	}
	var stored market.Days
	for _, b := range s.Bars {
		stored.Add(b.Date)
		if !c.Stored.Has(b.Date) {
			n++
		}
	}
	c.Stored = c.Stored.Union(stored)
	m.rows[s.Symbol] = c.Stored
	if answered != (market.Range{}) {
		c.Answered[s.Source] = c.Answered[s.Source].Union(market.DaysIn(answered))
	}
	m.coverage[s.Symbol] = c
	m.items[s.Symbol] = m.items[s.Symbol] || done
	m.saved = append(m.saved, fmt.Sprintf("%s %d %s %v", s.Symbol, len(s.Bars), answered, done))
	changes.Inserted, changes.Unchanged = n, len(s.Bars)-n
	return changes, nil
}

func (m *memory) SaveItem(_ context.Context, _, unit, _, _ string) error {
	m.items[market.Symbol(unit)] = true
	return nil
}

func (m *memory) SaveAttempt(_ context.Context, s market.Symbol, outcome, message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said[s] = outcome + ": " + message
	m.tried[s] = market.Coverage{Tried: backfill.Period}
	return nil
}

func (m *memory) BarCoverage(_ context.Context, _ market.Date, symbols ...market.Symbol) (map[market.Symbol]market.BarCoverage, error) {
	out := map[market.Symbol]market.BarCoverage{}
	for _, s := range symbols {
		if c, ok := m.coverage[s]; ok {
			out[s] = c
		}
	}
	return out, nil
}

func (m *memory) ReconcileBars(_ context.Context, r market.Range, symbols ...market.Symbol) (found, lost int, err error) {
	for _, s := range symbols {
		c, rows := m.coverage[s], m.rows[s].And(market.DaysIn(r))
		fresh, gone := rows.Minus(c.Stored), c.Stored.And(market.DaysIn(r)).Minus(rows)
		c.Stored, c.Lost = c.Stored.Union(fresh).Minus(gone), c.Lost.Union(gone)
		c.Answered = map[string]market.Days{"other": c.Answered["other"].Union(fresh), "test": c.Answered["test"].Minus(gone)}
		found, lost = found+fresh.Len(), lost+gone.Len()
		if found+lost > 0 {
			m.coverage[s] = c
		}
	}
	return found, lost, nil
}

func (m *memory) Coverage(context.Context, string) (map[market.Symbol]market.Coverage, error) {
	return m.tried, nil
}

func (m *memory) Done(context.Context, []market.Symbol) (map[market.Symbol]bool, error) {
	return m.done, nil
}

func (m *memory) Add(_ context.Context, symbols ...market.Symbol) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range symbols {
		m.done[s] = true
	}
	return nil
}

func job(src *source, m *memory) backfill.Job {
	return backfill.Job{
		Source: src, Store: m, Library: m, Done: m, Calendar: market.NYSE(), Through: through,
		Sweep: sweep.Sweep{Workers: 1},
	}
}

func run(t *testing.T, j backfill.Job, r market.Range, symbols ...market.Symbol) sweep.Report {
	t.Helper()
	plan, err := j.Plan(t.Context(), r, symbols)
	if err != nil {
		t.Fatal(err)
	}
	report := j.Run(t.Context(), plan)
	if report.Symbols != len(symbols) || report.Symbols != report.Fetched+report.Skipped+report.Failed {
		t.Errorf("%d symbols do not add up: %+v", len(symbols), report)
	}
	return report
}

func TestHistoryIsFetchedOnceAndMarked(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	r := market.Range{From: from, To: through}
	report := run(t, job(src, m), r, "AAPL", "MSFT")
	if report.Status != sweep.OK || report.Fetched != 2 || report.Rows != 2*len(window(r)) || !m.done["AAPL"] || !m.items["MSFT"] {
		t.Errorf("report %+v, done %v, items %v", report, m.done, m.items)
	}
	again := run(t, job(src, m), r, "AAPL", "MSFT")
	if again.Skipped != 2 || len(src.asked) != 2 {
		t.Errorf("report %+v, asked %v", again, src.asked)
	}
}

func TestALongerRangeCostsOnlyItsNewPart(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	src.asked = nil
	report := run(t, job(src, m), market.Range{From: from - 365, To: through}, "AAPL")
	older := market.Range{From: from - 365, To: from - 1}
	overlapping := market.Range{From: from - 365, To: from + 12}
	if diff := cmp.Diff([]string{"AAPL " + overlapping.String()}, src.asked); diff != "" {
		t.Error(diff)
	}
	if report.Rows != len(window(older)) {
		t.Errorf("%d rows, want %d", report.Rows, len(window(older)))
	}
}

func TestRowsOfAnotherProgramAreNotFetched(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	for _, b := range window(market.Range{From: from, To: through}) {
		days := m.rows["AAPL"]
		days.Add(b.Date)
		m.rows["AAPL"] = days
	}
	report := run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	if report.Skipped != 1 || len(src.asked) != 0 || !m.items["AAPL"] || !m.done["AAPL"] {
		t.Errorf("report %+v, asked %v, items %v", report, src.asked, m.items)
	}
}

func TestChunksAreAskedForOneByOne(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	j := job(src, m)
	j.Chunk = 20
	report := run(t, j, market.Range{From: from, To: through}, "AAPL")
	want := []string{"AAPL 2026-01-05..2026-02-02", "AAPL 2026-02-03..2026-03-03", "AAPL 2026-03-04..2026-03-12"}
	if diff := cmp.Diff(want, src.asked); diff != "" {
		t.Error(diff)
	}
	if report.Fetched != 1 || report.Rows != len(window(market.Range{From: from, To: through})) || !m.done["AAPL"] {
		t.Errorf("report %+v", report)
	}
	if last := m.saved[len(m.saved)-1]; !strings.HasSuffix(last, "true") || strings.HasSuffix(m.saved[0], "true") {
		t.Errorf("done before the last chunk: %v", m.saved)
	}
}

func TestWhatTheSourceDoesNotReachIsNotAskedFor(t *testing.T) {
	t.Parallel()
	reach := market.NewDate(2026, time.February, 2)
	m, src := newMemory(), &source{reach: reach}
	report := run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	if report.Outcomes[sweep.PremiumOnly] != 1 || report.Rows != len(window(market.Range{From: reach, To: through})) || m.done["AAPL"] {
		t.Errorf("report %+v, done %v", report, m.done)
	}
	if !strings.Contains(report.Failures[0].Message, "sessions before 2026-02-02 cannot be had with this key") {
		t.Errorf("says %q", report.Failures[0].Message)
	}
	again := run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	if len(src.asked) != 1 || again.Outcomes[sweep.PremiumOnly] != 1 {
		t.Errorf("asked %v, report %+v", src.asked, again)
	}
}

func TestWhatTheSourceTurnsOutNotToReach(t *testing.T) {
	t.Parallel()
	reach := market.NewDate(2026, time.February, 2)
	m, src := newMemory(), &source{shows: reach}
	beyond := len(window(market.Range{From: from, To: reach - 1}))
	report := run(t, job(src, m), market.Range{From: from, To: through}, "AAPL", "MSFT")
	if report.Outcomes[sweep.PremiumOnly] != 2 || len(m.done) != 0 || report.Rows != 2*len(window(market.Range{From: reach, To: through})) {
		t.Errorf("report %+v, done %v", report, m.done)
	}
	if want := fmt.Sprintf("%d sessions before 2026-02-02 cannot be had", beyond); !strings.Contains(m.said["AAPL"], want) {
		t.Errorf("says %q, want %q", m.said["AAPL"], want)
	}
}

func TestAShortAnswer(t *testing.T) {
	t.Parallel()
	r := market.Range{From: from, To: through}
	late := market.NewDate(2026, time.February, 2)
	for name, test := range map[string]struct {
		has     market.Range
		window  market.Range
		stored  market.Range // before the run, and not answered for
		want    sweep.Outcome
		again   int // calls of the next run
		message string
	}{
		"listed in the range":       {has: market.Range{From: late, To: through}, window: r, want: sweep.Stored},
		"listed after the range":    {has: market.Range{From: late, To: through}, window: market.Range{From: from, To: late - 4}, want: sweep.Unchanged},
		"cut at its head":           {has: market.Range{From: late, To: through}, window: r, stored: market.Range{From: from, To: from + 10}, want: sweep.BadPayload, again: 1, message: "it is cut"},
		"cut after what is stored":  {has: market.Range{From: late + 7, To: through}, window: market.Range{From: late, To: through}, stored: market.Range{From: from, To: late - 1}, want: sweep.BadPayload, again: 1, message: "it is cut"},
		"cut before what is stored": {has: market.Range{From: from - 100, To: late}, window: market.Range{From: from, To: late + 7}, stored: market.Range{From: late + 8, To: through}, want: sweep.BadPayload, again: 1, message: "it is cut"},
		"the newest bar not yet":    {has: market.Range{From: from, To: through - 1}, window: r, want: sweep.NotReady, again: 1, message: "no bar of 2026-03-12; the newest is 2026-03-11"},
		"ended long ago":            {has: market.Range{From: from, To: late}, window: market.Range{From: from, To: through - 30}, want: sweep.Stored},
		"ended before the range":    {has: market.Range{From: from - 100, To: from - 50}, window: r, want: sweep.NoData, again: 1, message: "the newest is 2025-11-14"},
		"an older end not there":    {has: market.Range{From: from, To: through - 6}, window: market.Range{From: from, To: through - 2}, want: sweep.NoData, again: 1, message: "no bar of 2026-03-10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, src := newMemory(), &source{has: map[market.Symbol]market.Range{"AAPL": test.has}}
			if test.stored != (market.Range{}) {
				var c market.BarCoverage
				for _, b := range window(test.stored) {
					c.Stored.Add(b.Date)
				}
				c.Answered = map[string]market.Days{"test": c.Stored}
				m.coverage["AAPL"], m.rows["AAPL"] = c, c.Stored
			}
			report := run(t, job(src, m), test.window, "AAPL")
			if report.Outcomes[test.want] != 1 || m.done["AAPL"] != test.want.Done() || !strings.Contains(m.said["AAPL"], test.message) {
				t.Errorf("report %+v, done %v, said %q", report, m.done, m.said["AAPL"])
			}
			src.asked = nil
			run(t, job(src, m), test.window, "AAPL")
			if len(src.asked) != test.again {
				t.Errorf("the next run makes %d calls, want %d", len(src.asked), test.again)
			}
		})
	}
}

// Of a share that is traded no longer only the newest sessions stay open.
func TestAnEndedShare(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{has: map[market.Symbol]market.Range{"AAPL": {From: from - 100, To: from + 20}}}
	for range 2 {
		report := run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
		if report.Outcomes[sweep.NoData] != 1 || m.done["AAPL"] {
			t.Errorf("report %+v", report)
		}
	}
	gaps, err := job(src, m).Gaps(t.Context(), 0, 0, []market.Symbol{"AAPL"})
	if err != nil || missing(gaps[0], market.SessionUnasked) != 10 || missing(gaps[0], market.SessionNoData) == 0 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
}

// All that an answer holds between stored bars is compared with them.
func TestAnAnswerIsComparedWithAllThatIsStored(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	run(t, job(src, m), market.Range{From: from + 30, To: through}, "AAPL")
	m.saved = nil
	run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	want := fmt.Sprintf("AAPL %d %s true", len(window(market.Range{From: from, To: through})), market.Range{From: from + 2, To: from + 27})
	if diff := cmp.Diff([]string{want}, m.saved); diff != "" {
		t.Error(diff)
	}
}

func TestSymbolsThatFailedBeforeComeLast(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{errs: map[market.Symbol]error{"BAD": errors.New("boom")}}
	r := market.Range{From: from, To: through}
	report := run(t, job(src, m), r, "BAD", "AAPL")
	if report.Fetched != 1 || report.Failed != 1 {
		t.Errorf("report %+v", report)
	}
	plan, err := job(src, m).Plan(t.Context(), r, []market.Symbol{"BAD", "NVDA"})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Todo[0].Symbol != "NVDA" || plan.Calls() != 2 {
		t.Errorf("plan %+v", plan.Todo)
	}
}

// New sessions do not keep a day's calls from the symbols of which nothing is
// there.
func TestSymbolsThatLackMostComeFirst(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	run(t, job(src, m), market.Range{From: from, To: through - 1}, "AAPL", "MSFT")
	run(t, job(src, m), market.Range{From: from, To: through - 8}, "NVDA")
	plan, err := job(src, m).Plan(t.Context(), market.Range{From: from, To: through}, []market.Symbol{"AAPL", "MSFT", "NVDA", "NEW"})
	if err != nil {
		t.Fatal(err)
	}
	order := make([]market.Symbol, len(plan.Todo))
	for i, task := range plan.Todo {
		order[i] = task.Symbol
	}
	if diff := cmp.Diff([]market.Symbol{"NEW", "NVDA", "AAPL", "MSFT"}, order); diff != "" {
		t.Error(diff)
	}
}

func TestAChangedBaseIsReadAsAWhole(t *testing.T) {
	t.Parallel()
	oldest := from - 698 // 2024-02-05
	r := market.Range{From: from, To: through}
	for _, test := range []struct {
		reach market.Date
		want  sweep.Outcome
		calls int
	}{{0, sweep.Stored, 2}, {from - 30, sweep.BadPayload, 1}} {
		m, src := newMemory(), &source{reach: test.reach}
		m.rebased = &market.RebasedError{Symbol: "AAPL", Changed: 9, Compared: 9, Ratio: 0.5, Stored: market.Range{From: oldest, To: through}}
		report := run(t, job(src, m), r, "AAPL")
		if report.Outcomes[test.want] != 1 || len(src.asked) != test.calls {
			t.Errorf("report %+v, asked %v", report, src.asked)
		}
		if test.calls == 2 && (m.coverage["AAPL"].Stored.First() > oldest+3 || !m.done["AAPL"]) {
			t.Errorf("stored from %s", m.coverage["AAPL"].Stored.First())
		}
	}
}

// Bars on another basis are not stored, and their days not answered.
func TestBarsOnAnotherBasisAreLeftOut(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	m.since = market.NewDate(2026, time.February, 2)
	report := run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	older := len(window(market.Range{From: from, To: m.since - 1}))
	if report.Outcomes[sweep.BadPayload] != 1 || m.done["AAPL"] || report.Dropped["other_basis"] != older || !strings.Contains(m.said["AAPL"], "before 2026-02-02") {
		t.Errorf("report %+v, said %q", report, m.said["AAPL"])
	}
	src.asked, m.since = nil, 0
	if run(t, job(src, m), market.Range{From: from, To: through}, "AAPL"); len(src.asked) != 1 || !m.done["AAPL"] {
		t.Errorf("asked %v, done %v", src.asked, m.done)
	}
}

func missing(g backfill.Gaps, state market.SessionState) (n int) {
	for _, gap := range g.Gaps {
		if gap.State == state {
			n += gap.Sessions
		}
	}
	return n
}

func TestRepairFetchesJustWhatIsMissing(t *testing.T) {
	t.Parallel()
	lacked := market.NewDate(2026, time.January, 20)
	m, src := newMemory(), &source{lacks: []market.Date{lacked}, has: map[market.Symbol]market.Range{"NEW": {From: through - 9, To: through}}}
	j := job(src, m)
	run(t, j, market.Range{From: from, To: through}, "AAPL", "MSFT", "NEW")
	gone := []market.Date{market.NewDate(2026, time.January, 13), market.NewDate(2026, time.January, 14), market.NewDate(2026, time.February, 18)}
	for _, d := range gone {
		m.rows["MSFT"] = m.rows["MSFT"].Minus(market.DaysIn(market.Range{From: d, To: d}))
	}
	m.rows["AAPL"] = m.rows["AAPL"].Minus(market.DaysIn(market.Range{From: gone[0], To: gone[0]}))

	gaps, err := j.Gaps(t.Context(), 0, 0, []market.Symbol{"AAPL", "MSFT", "NEW", "NONE"})
	if err != nil {
		t.Fatal(err)
	}
	if msft := gaps[1]; missing(msft, market.SessionLost) != 3 || missing(msft, market.SessionNoData) != 1 || len(msft.Gaps) != 3 {
		t.Errorf("gaps of MSFT: %+v", msft.Gaps)
	}
	if missing(gaps[2], market.SessionNotListed) == 0 || len(gaps[2].Gaps) != 1 || gaps[3].Known {
		t.Errorf("gaps of NEW %+v, of NONE %+v", gaps[2].Gaps, gaps[3])
	}

	plan, err := j.PlanRepair(t.Context(), 0, []market.Symbol{"AAPL", "MSFT", "NEW", "NONE"})
	if err != nil {
		t.Fatal(err)
	}
	if plan.First(1, nil); plan.Todo[0].Symbol != "MSFT" || plan.Todo[0].Sessions != 3 || !plan.Todo[1].Left || plan.Calls() != 1 {
		t.Errorf("plan %+v", plan.Todo)
	}
	src.asked, src.lacks = nil, append(src.lacks, gone[0])
	report := j.Run(t.Context(), plan)
	if diff := cmp.Diff([]string{"MSFT 2026-01-05..2026-03-01"}, src.asked); diff != "" {
		t.Error(diff)
	}
	if report.Job != backfill.RepairName || report.Rows != 2 || report.Fetched != 1 || report.Outcomes[sweep.Interrupted] != 1 || report.Status != sweep.Partial {
		t.Errorf("report %+v", report)
	}
	// What the source lacks now is not asked for again.
	if plan, err = j.PlanRepair(t.Context(), 0, []market.Symbol{"AAPL", "MSFT"}); err != nil || len(plan.Todo) != 1 || plan.Todo[0].Symbol != "AAPL" {
		t.Errorf("plan %+v, %v", plan.Todo, err)
	}
}

// Only the days that an answer is about are answered.
func TestAnAnswerAboutSomeDays(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	run(t, job(src, m), market.Range{From: from, To: through}, "AAPL")
	for _, day := range []market.Date{market.NewDate(2026, time.January, 20), market.NewDate(2026, time.February, 18), market.NewDate(2026, time.February, 19)} {
		src.only.Add(day)
	}
	m.rows["AAPL"] = m.rows["AAPL"].Minus(src.only)
	m.saved = nil
	plan, err := job(src, m).PlanRepair(t.Context(), 0, []market.Symbol{"AAPL"})
	if err != nil {
		t.Fatal(err)
	}
	if report := job(src, m).Run(t.Context(), plan); report.Fetched != 1 || report.Rows != 3 {
		t.Errorf("report %+v", report)
	}
	want := []string{"AAPL 1 2026-01-20..2026-01-20 false", "AAPL 2 2026-02-18..2026-02-19 false"}
	if diff := cmp.Diff(want, m.saved); diff != "" {
		t.Error(diff)
	}
}

func TestAnImpossibleRangeIsRefused(t *testing.T) {
	t.Parallel()
	for _, r := range []market.Range{{From: from, To: through + 1}, {From: from, To: from + 1}, {From: market.NewDate(1950, time.January, 1), To: through}} {
		if _, err := job(&source{}, newMemory()).Plan(t.Context(), r, []market.Symbol{"AAPL"}); err == nil {
			t.Errorf("%s is planned", r)
		}
	}
}

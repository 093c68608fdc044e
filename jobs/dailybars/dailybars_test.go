package dailybars_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/dailybars"
)

const (
	session = market.Date(739687) // 2026-03-12, a Thursday
	before  = session - 1
	after   = session + 1
)

func bar(d market.Date) market.Bar {
	return market.Bar{Date: d, Open: 10, High: 12, Low: 9, Close: 11, Volume: 1000}
}

// source answers with bars or an error per symbol and counts the calls.
type source struct {
	mu      sync.Mutex
	answers map[market.Symbol]any
	asked   []market.Symbol
	window  market.Range
	// history is the answer to each question for all, whole the questions.
	history []market.Bar
	whole   []market.Range
	reach   market.Date
}

func (s *source) DailyBars(_ context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.window = append(s.asked, symbol), window
	switch answer := s.answers[symbol].(type) {
	case error:
		return market.Series{}, answer
	case []market.Bar:
		return market.Series{Symbol: symbol, Source: "test", Bars: slices.Clone(answer)}, nil
	}
	return market.Series{Symbol: symbol, Source: "test", Bars: []market.Bar{bar(before), bar(session)}}, nil
}

// History and Reach are those of a source without bounds.
func (s *source) History(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, market.Days, error) {
	s.mu.Lock()
	s.whole = append(s.whole, window)
	bars := s.history
	s.mu.Unlock()
	return market.Series{Symbol: symbol, Source: "test", Bars: slices.Clone(bars)}, market.DaysIn(window), ctx.Err()
}

func (s *source) Reach() (market.Date, error) { return s.reach, nil }

// memory is the store, the ledger and the done-set of a test.
type memory struct {
	mu       sync.Mutex
	bars     map[market.Symbol][]market.Bar
	marked   map[market.Symbol]market.Date
	attempts map[market.Symbol]string
	said     map[market.Symbol]string
	coverage map[market.Symbol]market.Coverage
	done     map[market.Symbol]bool
	events   []string
	saveErr  error
	// rebased refuses, once, bars that begin after the oldest stored one.
	rebased *market.RebasedError
	// other refuses bars that are not on a new base.
	other   *market.BasisError
	newBase bool
	addErr  error
	doneErr error
}

func newMemory() *memory {
	return &memory{
		bars: map[market.Symbol][]market.Bar{}, marked: map[market.Symbol]market.Date{},
		attempts: map[market.Symbol]string{}, said: map[market.Symbol]string{}, done: map[market.Symbol]bool{},
	}
}

func (m *memory) SaveBars(ctx context.Context, s market.Series, d market.Date) (market.Changes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.saveErr); err != nil {
		return market.Changes{}, err
	}
	m.newBase = s.NewBase
	if m.rebased != nil && !s.NewBase && s.Bars[0].Date > m.rebased.Stored.From {
		return market.Changes{}, fmt.Errorf("save: %w", m.rebased)
	}
	if m.other != nil && !s.NewBase {
		return market.Changes{}, fmt.Errorf("save: %w", m.other)
	}
	inserted := len(s.Bars) - len(m.bars[s.Symbol])
	m.bars[s.Symbol] = s.Bars
	if !d.IsZero() {
		m.marked[s.Symbol] = d
	}
	m.events = append(m.events, "commit "+string(s.Symbol))
	return market.Changes{Inserted: inserted, Unchanged: len(s.Bars) - inserted}, nil
}

func (m *memory) SaveAttempt(_ context.Context, s market.Symbol, outcome, message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts[s], m.said[s] = outcome, message
	return nil
}

func (m *memory) Coverage(context.Context, string) (map[market.Symbol]market.Coverage, error) {
	return m.coverage, nil
}

func (m *memory) Done(context.Context, []market.Symbol) (map[market.Symbol]bool, error) {
	return m.done, m.doneErr
}

func (m *memory) Add(ctx context.Context, symbols ...market.Symbol) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.addErr); err != nil {
		return err
	}
	for _, s := range symbols {
		m.done[s] = true
		m.events = append(m.events, "add "+string(s))
	}
	return nil
}

func job(src *source, m *memory) dailybars.Job {
	return dailybars.Job{
		Source: src, Store: m, Coverage: m, Done: m, Calendar: market.NYSE(), Through: session,
		Sweep: sweep.Sweep{Workers: 1},
	}
}

func runJob(t *testing.T, j dailybars.Job, d market.Date, symbols ...market.Symbol) sweep.Report {
	t.Helper()
	plan, err := j.Plan(t.Context(), d, symbols)
	if err != nil {
		t.Fatal(err)
	}
	return j.Run(t.Context(), plan)
}

func TestASymbolIsAddedOnlyAfterItsCommit(t *testing.T) {
	t.Parallel()
	m := newMemory()
	report := runJob(t, job(&source{}, m), session, "AAPL", "MSFT")
	want := []string{"commit AAPL", "add AAPL", "commit MSFT", "add MSFT"}
	if diff := cmp.Diff(want, m.events); diff != "" {
		t.Error(diff)
	}
	if report.Status != sweep.OK || report.Fetched != 2 || report.Rows != 4 || m.marked["AAPL"] != session {
		t.Errorf("report %+v", report)
	}
}

func TestDoneSymbolsAreNotAskedFor(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	m.done["AAPL"] = true
	report := runJob(t, job(src, m), session, "AAPL", "MSFT")
	if diff := cmp.Diff([]market.Symbol{"MSFT"}, src.asked); diff != "" {
		t.Error(diff)
	}
	if report.Skipped != 1 || report.Symbols != 2 {
		t.Errorf("report %+v", report)
	}
}

func TestTheLeastRecentlyCoveredComeFirst(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	m.coverage = map[market.Symbol]market.Coverage{
		"TODAY": {Tried: "2026-03-12", Through: before - 30},
		"FRESH": {Tried: "2026-03-11", Through: before},
		"OLD":   {Tried: "2026-03-02", Through: before - 9}, // stored then
		"OLDER": {Tried: "2026-03-02", Through: before - 20},
	}
	runJob(t, job(src, m), session, "FRESH", "TODAY", "OLDER", "OLD", "NEVER")
	want := []market.Symbol{"NEVER", "OLD", "OLDER", "FRESH", "TODAY"}
	if diff := cmp.Diff(want, src.asked); diff != "" {
		t.Error(diff)
	}
}

// Symbols that fail in every session cost themselves only: the healthy ones are
// stored each time, whatever the breaker does.
func TestBadSymbolsDoNotStandInTheWay(t *testing.T) {
	t.Parallel()
	m := newMemory()
	src := &source{answers: map[market.Symbol]any{}}
	var symbols []market.Symbol
	for i := range 30 {
		s := market.Symbol(fmt.Sprintf("S%02d", i))
		symbols = append(symbols, s)
		if i%5 == 0 {
			src.answers[s] = refused{class: "bad_payload"}
		}
	}
	for d := session - 3; d <= session; d++ {
		m.done = map[market.Symbol]bool{}
		m.coverage = map[market.Symbol]market.Coverage{}
		for s, through := range m.marked {
			m.coverage[s] = market.Coverage{Tried: (d - 1).String(), Through: through}
		}
		for s := range m.attempts {
			m.coverage[s] = market.Coverage{Tried: (d - 1).String()}
		}
		for _, s := range symbols {
			if _, bad := src.answers[s].(refused); !bad {
				src.answers[s] = []market.Bar{bar(d)}
			}
		}
		if report := runJob(t, job(src, m), d, symbols...); report.Fetched != 24 {
			t.Errorf("%s: %d stored, want 24; stopped: %q", d, report.Fetched, report.Stopped)
		}
	}
}

// A reply without the session's own bar makes nothing done, but what it holds
// is kept: the call was paid for.
func TestAReplyWithoutTheSession(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		asked market.Date
		bars  []market.Bar
		want  sweep.Outcome
		kept  int
	}{
		{"newest session not there yet", session, []market.Bar{bar(before)}, sweep.NotReady, 1},
		{"nothing at all", session, []market.Bar{}, sweep.NoData, 0},
		{"traded no longer", session, []market.Bar{bar(before - 40)}, sweep.NoData, 1},
		{"an older session is missing", before, []market.Bar{bar(before - 1)}, sweep.NoData, 1},
		{"only a session that is still open", session, []market.Bar{bar(before), bar(after)}, sweep.NotReady, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			src := &source{answers: map[market.Symbol]any{"AAPL": test.bars}}
			report := runJob(t, job(src, m), test.asked, "AAPL")
			if report.Outcomes[test.want] != 1 || report.Status != sweep.Partial {
				t.Errorf("report %+v", report)
			}
			if len(m.bars["AAPL"]) != test.kept || m.marked["AAPL"] != 0 || m.done["AAPL"] {
				t.Errorf("bars %v, marked %v, done %v", m.bars, m.marked, m.done)
			}
			if m.attempts["AAPL"] != string(test.want) {
				t.Errorf("attempt %q", m.attempts["AAPL"])
			}
		})
	}
}

func TestABadBarRefusesTheWholeReply(t *testing.T) {
	t.Parallel()
	bad := bar(before)
	bad.High = 1
	m := newMemory()
	src := &source{answers: map[market.Symbol]any{"AAPL": []market.Bar{bad, bar(session)}}}
	report := runJob(t, job(src, m), session, "AAPL", "MSFT")
	if report.Outcomes[sweep.BadPayload] != 1 || len(m.bars["AAPL"]) != 0 || m.done["AAPL"] {
		t.Errorf("report %+v, bars %v", report, m.bars["AAPL"])
	}
	if !m.done["MSFT"] {
		t.Error("the other symbol was not stored")
	}
}

func TestBarsOutsideTheWindowAreNotStored(t *testing.T) {
	t.Parallel()
	m := newMemory()
	src := &source{answers: map[market.Symbol]any{"AAPL": []market.Bar{bar(session - 2000), bar(before - 1), bar(before), bar(session)}}}
	runJob(t, job(src, m), before, "AAPL")
	if diff := cmp.Diff([]market.Bar{bar(before - 1), bar(before)}, m.bars["AAPL"]); diff != "" {
		t.Error(diff)
	}
	sessions, err := market.NYSE().Sessions(src.window.From, src.window.To)
	if err != nil || len(sessions) != 100 || src.window.To != before {
		t.Errorf("asked for %v: %d sessions, %v", src.window, len(sessions), err)
	}
}

func TestAStoreThatIsGoneEndsTheRun(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{}
	m.saveErr = errors.New("connection refused")
	report := runJob(t, job(src, m), session, "AAPL", "MSFT", "NVDA")
	if len(src.asked) != 1 {
		t.Errorf("%d calls after the store was gone", len(src.asked)-1)
	}
	if report.Status != sweep.Failed || report.Failed != 3 || len(m.done) != 0 || !strings.Contains(report.Stopped, "connection refused") {
		t.Errorf("report %+v, done %v", report, m.done)
	}
}

func TestRedisBehindTheLedgerIsAWarning(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.addErr, m.doneErr = errors.New("redis is away"), errors.New("redis was away")
	report := runJob(t, job(&source{}, m), session, "AAPL")
	if report.Status != sweep.OK || len(report.Warnings) != 2 || len(m.bars["AAPL"]) != 2 {
		t.Errorf("report %+v", report)
	}
}

func TestBarsThatWerePaidForAreStoredWhenTheRunIsStopped(t *testing.T) {
	t.Parallel()
	m := newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	j := job(nil, m)
	j.Source = &stopper{cancel: cancel}
	plan, err := j.Plan(ctx, session, []market.Symbol{"AAPL", "MSFT"})
	if err != nil {
		t.Fatal(err)
	}
	report := j.Run(ctx, plan)
	if !m.done["AAPL"] || report.Fetched != 1 || report.Outcomes[sweep.Interrupted] != 1 || report.Status != sweep.WasInterrupted {
		t.Errorf("report %+v, done %v", report, m.done)
	}
	if len(m.attempts) != 0 {
		t.Errorf("a symbol that was not asked for has an attempt: %v", m.attempts)
	}
}

// stopper stops the run while its reply is on the way.
type stopper struct {
	source

	cancel func()
}

func (s *stopper) DailyBars(_ context.Context, symbol market.Symbol, _ market.Range) (market.Series, error) {
	s.cancel()
	return market.Series{Symbol: symbol, Bars: []market.Bar{bar(session)}}, nil
}

// refused is an error as the providers make them.
type refused struct {
	class    string
	notAsked bool
}

func (r refused) Error() string   { return "the key CANARY was refused" }
func (r refused) Outcome() string { return r.class }
func (r refused) NotAsked() bool  { return r.notAsked }

func TestWhatIsAnAttempt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		err  refused
		want bool
	}{
		{"an answer that was refused", refused{class: "bad_payload"}, true},
		{"a spent day", refused{class: "quota"}, false},
		{"no permission to call", refused{class: "provider_error", notAsked: true}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			j := job(&source{answers: map[market.Symbol]any{"AAPL": test.err}}, m)
			j.Sweep.Redact = func(s string) string { return strings.ReplaceAll(s, "CANARY", "[redacted]") }
			runJob(t, j, session, "AAPL")
			if _, got := m.attempts["AAPL"]; got != test.want || strings.Contains(m.said["AAPL"], "CANARY") {
				t.Errorf("attempts %v, messages %v", m.attempts, m.said)
			}
		})
	}
}

func TestForceAsksForWhatIsDone(t *testing.T) {
	t.Parallel()
	m, src := newMemory(), &source{answers: map[market.Symbol]any{"AAPL": errors.New("down")}}
	m.done["AAPL"] = true
	j := job(src, m)
	j.Force = true
	report := runJob(t, j, session, "AAPL", "MSFT")
	if len(src.asked) != 2 || report.Skipped != 0 || !m.done["AAPL"] {
		t.Errorf("asked %v, done %v, report %+v", src.asked, m.done, report)
	}
}

func TestDroppedBarsAreCounted(t *testing.T) {
	t.Parallel()
	m := newMemory()
	saturday := session - 5
	src := &source{answers: map[market.Symbol]any{
		"AAPL": []market.Bar{bar(session - 2000), bar(saturday), bar(before), bar(before), bar(session), bar(after)},
		"MSFT": []market.Bar{bar(before)},
	}}
	report := runJob(t, job(src, m), session, "AAPL", "MSFT")
	want := map[string]int{"out_of_window": 2, "no_session": 1, "repeated": 1}
	if diff := cmp.Diff(want, report.Dropped); diff != "" || report.Rows != 3 {
		t.Errorf("rows %d, dropped: %s", report.Rows, diff)
	}
}

func TestPlanRefusesWhatIsNoFinalSession(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		date market.Date
		want string
	}{
		{market.NewDate(2026, 7, 3), "no session"},
		{session + 2, "weekend"},
		{after, "no final bars yet"},
		{market.NewDate(1985, 1, 2), "1985"},
	} {
		_, err := job(&source{}, newMemory()).Plan(t.Context(), test.date, []market.Symbol{"AAPL"})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Plan(%s) = %v, want %q", test.date, err, test.want)
		}
	}
}

// A split leaves the older bars on another base unless all are read again.
func TestAChangedBaseReadsTheWholeHistory(t *testing.T) {
	t.Parallel()
	oldest := session - 400
	whole := []market.Bar{bar(session - 400), bar(before), bar(session)}
	for name, test := range map[string]struct {
		history []market.Bar
		reach   market.Date
		force   bool
		want    sweep.Outcome
		calls   int
		says    string
		newBase bool
	}{
		"all can be read":             {history: whole, want: sweep.Stored, calls: 1, newBase: true},
		"the newest bar is missing":   {history: whole[:2], want: sweep.BadPayload, calls: 1, says: "lacks the bar of 2026-03-12"},
		"the history begins later":    {history: whole[1:], want: sweep.BadPayload, calls: 1, says: "holds 2026-03-11..2026-03-12 only"},
		"it does, and force":          {history: whole[1:], force: true, want: sweep.Stored, calls: 1, newBase: true},
		"a key without history":       {reach: session - 140, want: sweep.BadPayload, says: "--force"},
		"a key without it, and force": {reach: session - 140, force: true, want: sweep.Stored, newBase: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, src := newMemory(), &source{history: test.history, reach: test.reach}
			m.rebased = &market.RebasedError{Symbol: "AAPL", Changed: 90, Compared: 99, Ratio: 0.25, Stored: market.Range{From: oldest, To: before}}
			j := job(src, m)
			j.Force = test.force
			report := runJob(t, j, session, "AAPL")
			if report.Outcomes[test.want] != 1 || len(src.whole) != test.calls || m.newBase != test.newBase {
				t.Errorf("outcomes %v, %d calls for the history, on a new base: %v", report.Outcomes, len(src.whole), m.newBase)
			}
			if len(src.whole) == 1 && src.whole[0] != (market.Range{From: oldest, To: session}) {
				t.Errorf("asked for %s", src.whole[0])
			}
			if stored := len(m.bars["AAPL"]) > 0; stored != test.want.Done() {
				t.Errorf("stored %d bars", len(m.bars["AAPL"]))
			}
			if !strings.Contains(m.said["AAPL"], test.says) {
				t.Errorf("says %q", m.said["AAPL"])
			}
		})
	}
}

// Bars on another basis than the stored ones are refused, unless they are forced.
func TestBarsOnAnotherBasis(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		m := newMemory()
		m.other = &market.BasisError{Symbol: "AAPL", Source: "ibkr", Other: "alpha_vantage", Stored: market.Range{From: before, To: before}}
		j := job(&source{}, m)
		j.Force = force
		report := runJob(t, j, session, "AAPL")
		want := sweep.BadPayload
		if force {
			want = sweep.Stored
		}
		if report.Outcomes[want] != 1 || m.newBase != force || !force && !strings.Contains(m.said["AAPL"], "two sides of a split") {
			t.Errorf("force %t: report %+v, said %q", force, report, m.said["AAPL"])
		}
	}
}

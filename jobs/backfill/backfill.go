// Package backfill loads the history of daily bars for many symbols, finds the
// sessions that are missing, and fetches just those.
//
// What is covered is known day by day: a source has answered about it, or it
// has not. A run asks for the days of its range that no source has answered
// about, so a longer range costs only its new part, and a run that was stopped
// goes on where it stopped. A symbol is done when its whole range is answered.
package backfill

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

const (
	// Name is the job's name in the ledger, in Redis and in reports.
	Name = "backfill"
	// Period is under what the job is claimed and its symbols are done,
	// whatever the range: two runs of different ranges would ask for the same
	// bars.
	Period = "history"
	// overlapDays is how many days beside a range are asked for with it, if
	// bars beside it are stored: enough sessions to tell that the source has
	// changed the base of its prices.
	overlapDays = 10
)

// Source is what this job asks of a provider.
type Source interface {
	// Reach returns the first session that can be had of it; the zero Date if
	// there is no such bound.
	Reach() (market.Date, error)
	// History returns the bars of a symbol, ascending: all that the source has
	// in window, and as many others as come with them. about are the days of
	// window for which they are the answer: those that the source reaches, or
	// just the missing sessions.
	History(ctx context.Context, symbol market.Symbol, window market.Range) (series market.Series, about market.Days, err error)
}

// Store is what this job asks of a claimed run.
type Store interface {
	// SaveHistory stores bars, the fact that their source has answered about
	// all days of answered, and with done that the symbol is done, in one
	// transaction.
	SaveHistory(ctx context.Context, series market.Series, answered market.Range, done bool) (market.Changes, error)
	// SaveItem makes a symbol done that had nothing to fetch.
	SaveItem(ctx context.Context, kind, unit, outcome, message string) error
	// SaveAttempt records that symbol was asked for without becoming done.
	SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error
}

// Library is what this job reads.
type Library interface {
	// BarCoverage returns what is known of the bars of symbols, from the year
	// of from on.
	BarCoverage(ctx context.Context, from market.Date, symbols ...market.Symbol) (map[market.Symbol]market.BarCoverage, error)
	// ReconcileBars puts that right by the rows that are stored.
	ReconcileBars(ctx context.Context, window market.Range, symbols ...market.Symbol) (found, lost int, err error)
	// Coverage tells which symbols an earlier run asked for in vain.
	Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error)
}

// DoneSet is the set of the symbols whose history is stored.
type DoneSet interface {
	Done(ctx context.Context, symbols []market.Symbol) (map[market.Symbol]bool, error)
	Add(ctx context.Context, symbols ...market.Symbol) error
}

// Job loads history. All fields but Chunk and Sweep's are required; a job that
// only plans needs no Store.
type Job struct {
	Source   Source
	Store    Store
	Library  Library
	Done     DoneSet
	Calendar *market.Calendar
	// Through is the newest session whose bars are final.
	Through market.Date
	// Chunk is the number of sessions that one call brings; 0: all of them.
	Chunk int
	// Sweep sets the workers and who is told of progress; its Visit and
	// Attempt are the job's own.
	Sweep sweep.Sweep
}

// Task is one symbol of a run.
type Task struct {
	Symbol market.Symbol
	// Ask are the ranges to be asked for, ascending, one call each.
	Ask []market.Range
	// Open are the sessions in them that are wanted.
	Open market.Days
	// Sessions is the number of sessions in them that are wanted, Beyond that
	// of those before the reach of the source.
	Sessions, Beyond int
	// Left says that the run does not ask for it, since the calls that it was
	// given are too few.
	Left bool

	known market.BarCoverage
}

// Basis is that of the bars that are stored of the symbol: raw as soon as one of
// its sources is; "" if nothing is known.
func (t Task) Basis() (basis market.Basis) {
	for source := range t.known.Answered {
		if b := market.TraitsOf(source).Basis; b == market.Raw || basis == "" {
			basis = b
		}
	}
	return basis
}

// Plan is what a run would do.
type Plan struct {
	Window market.Range
	// Todo are the symbols that are not done, in the order in which they are
	// asked for; those with no call to make come last. Skipped is the number
	// of those done.
	Todo    []Task
	Skipped int
	// Reach is the first session that can be had; zero if there is no bound.
	Reach market.Date
	// Warning says that Redis could not be asked; the plan is right all the
	// same, since it comes from the ledger.
	Warning error

	sessions market.Days
	// mark are symbols that are covered, but not marked as done. repair says
	// that the run marks none.
	mark   []market.Symbol
	repair bool
}

// Name is the name of the plan's job in reports.
func (p Plan) Name() string {
	if p.repair {
		return RepairName
	}
	return Name
}

// Calls is the number of calls of the plan, without those for tries in vain.
func (p Plan) Calls() int {
	n := 0
	for _, t := range p.Todo {
		if !t.Left {
			n += len(t.Ask)
		}
	}
	return n
}

// Plan finds what is not answered yet of window, which ends at a session that
// is final. The symbols of which most is missing come first, so that those that
// lack just the sessions since the last run do not take the calls of a day from
// the others; those that failed before come behind. It makes no provider call.
func (j Job) Plan(ctx context.Context, window market.Range, symbols []market.Symbol) (plan Plan, err error) {
	plan = Plan{Window: window}
	if plan.sessions, err = j.sessions(window); err != nil {
		return Plan{}, err
	}
	if plan.Reach, err = j.Source.Reach(); err != nil {
		return Plan{}, fmt.Errorf("find how far the source reaches: %w", err)
	}
	coverage, err := j.coverage(ctx, &plan, symbols)
	if err != nil {
		return Plan{}, err
	}
	failed, err := j.Library.Coverage(ctx, Name)
	if err != nil {
		return Plan{}, fmt.Errorf("read which symbols failed: %w", err)
	}
	done, warning := j.Done.Done(ctx, symbols)
	if done == nil {
		return Plan{}, fmt.Errorf("read which symbols are done: %w", warning)
	}
	plan.Warning = warning
	for _, s := range symbols {
		known := coverage[s]
		open := plan.sessions.Minus(known.AnsweredBy(""))
		switch {
		case open.Len() > 0:
			plan.Todo = append(plan.Todo, j.task(s, open, plan.Reach, known))
		case done[s]:
			plan.Skipped++
		default:
			plan.Skipped++
			plan.mark = append(plan.mark, s)
		}
	}
	slices.SortStableFunc(plan.Todo, func(a, b Task) int {
		return cmp.Or(rank(a, failed)-rank(b, failed), b.Sessions-a.Sessions)
	})
	return plan, nil
}

func rank(t Task, failed map[market.Symbol]market.Coverage) int {
	switch {
	case len(t.Ask) == 0:
		return 2
	case failed[t.Symbol].Tried != "":
		return 1
	}
	return 0
}

func (j Job) sessions(window market.Range) (market.Days, error) {
	sessions, err := j.Calendar.SessionDays(window)
	switch {
	case err != nil:
		return market.Days{}, err
	case window.To > j.Through:
		return market.Days{}, fmt.Errorf("there are no final bars of %s yet: the newest are those of %s", window.To, j.Through)
	case sessions.Len() == 0:
		return market.Days{}, fmt.Errorf("there is no session in %s", window)
	}
	return sessions, nil
}

// coverage returns what is known of symbols. Rows that another program has
// stored are looked for first, so that no call is made for them.
func (j Job) coverage(ctx context.Context, plan *Plan, symbols []market.Symbol) (map[market.Symbol]market.BarCoverage, error) {
	if len(symbols) == 0 {
		return map[market.Symbol]market.BarCoverage{}, nil
	}
	coverage, err := j.Library.BarCoverage(ctx, knownFrom(plan.Window), symbols...)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	var open []market.Symbol
	for _, s := range symbols {
		if plan.sessions.Minus(coverage[s].AnsweredBy("")).Len() > 0 {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return coverage, nil
	}
	found, lost, err := j.Library.ReconcileBars(ctx, plan.Window, open...)
	if err != nil {
		return nil, fmt.Errorf("compare the coverage with the rows: %w", err)
	}
	if found+lost == 0 {
		return coverage, nil
	}
	again, err := j.Library.BarCoverage(ctx, knownFrom(plan.Window), open...)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	for s, c := range again {
		coverage[s] = c
	}
	return coverage, nil
}

// knownFrom is from when on coverage is read: what was stored last before the
// window is a part of it.
func knownFrom(window market.Range) market.Date { return window.From - 366 }

// task splits the open sessions of a symbol into what can be asked for, and
// what the source does not reach.
func (j Job) task(symbol market.Symbol, open market.Days, reach market.Date, known market.BarCoverage) Task {
	t := Task{Symbol: symbol, known: known}
	if reach > 0 {
		within := open.And(market.DaysIn(market.Range{From: reach, To: j.Through}))
		t.Beyond = open.Len() - within.Len()
		open = within
	}
	t.Open, t.Sessions = open, open.Len()
	t.Ask = j.chunks(open)
	return t
}

// chunks returns the ranges of the calls that bring the given sessions.
func (j Job) chunks(sessions market.Days) []market.Range {
	if sessions.Len() == 0 {
		return nil
	}
	if j.Chunk <= 0 {
		return []market.Range{sessions.Hull()}
	}
	var chunks []market.Range
	var end market.Date
	for s := range sessions.All() {
		if n := len(chunks); n > 0 && s <= end {
			chunks[n-1].To = s
			continue
		}
		chunks = append(chunks, market.Range{From: s, To: s})
		// At the end of the calendar the chunk is as long as it gets.
		for end = s; j.length(s, end+1) <= j.Chunk && end < j.Through; {
			end++
		}
	}
	return chunks
}

func (j Job) length(from, to market.Date) int {
	sessions, err := j.Calendar.Sessions(from, to)
	if err != nil {
		return 0
	}
	return len(sessions)
}

// Run loads the plan's symbols. One symbol's failure does not stop the others;
// the report names each.
func (j Job) Run(ctx context.Context, plan Plan) sweep.Report {
	v := &visitor{Job: j, plan: plan, tasks: make(map[market.Symbol]Task, len(plan.Todo))}
	symbols := make([]market.Symbol, len(plan.Todo))
	for i, t := range plan.Todo {
		symbols[i], v.tasks[t.Symbol] = t.Symbol, t
	}
	pass := j.Sweep
	pass.Visit = v.visit
	pass.Attempt = func(ctx context.Context, symbol market.Symbol, outcome sweep.Outcome, message string) error {
		return j.Store.SaveAttempt(ctx, symbol, string(outcome), message)
	}
	tally := pass.Run(ctx, symbols)
	v.mark(ctx)
	report := sweep.NewReport(plan.Name(), plan.Window.String(), plan.Skipped, tally, ctx.Err() != nil)
	if plan.Warning != nil {
		report.Warnings = append(report.Warnings, plan.Warning.Error())
	}
	report.Warnings = append(report.Warnings, v.warnings...)
	return report
}

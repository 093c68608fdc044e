// Package fundamentals loads the key figures of many symbols, once in an ISO
// week.
//
// A run has two parts. The facts that issuers have reported to the SEC cost
// none of the quota that matters, so all symbols are asked for them first. The
// provider's own overview costs one of its calls for each symbol, of which a
// free key has 25 a day, so the symbols whose figures are the oldest come
// first, and a run that meets the end of the day is resumed on the next one.
//
// A row says what was learnt on its day: it is never dated back, and a figure
// that is computed from facts uses those that were filed by then.
package fundamentals

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

const (
	// Name is the job's name in the ledger, in Redis and in reports.
	Name = "weekly_fundamentals"
	// FactsName is the name of its first part in the ledger and in reports.
	FactsName = "sec_facts"
)

// Overviews is what this job asks of the provider whose calls are few.
type Overviews interface {
	// Overview returns the figures of a symbol as the provider has them now.
	Overview(ctx context.Context, symbol market.Symbol) (market.Fundamentals, error)
}

// Filer is what this job asks of the provider of reported facts.
type Filer interface {
	// Facts returns all that the issuer of a symbol has reported of what
	// [market.Concepts] names, in all versions.
	Facts(ctx context.Context, symbol market.Symbol) ([]market.Fact, error)
}

// Store is what this job asks of a claimed run.
type Store interface {
	Attempts
	// SaveFundamentals merges the row with the stored one of its day and,
	// if done, stores that its symbol is done, in one transaction.
	SaveFundamentals(ctx context.Context, row market.Fundamentals, done bool) (market.Changes, error)
}

// Attempts keeps what was asked for in vain.
type Attempts interface {
	// SaveAttempt records that symbol was asked for without becoming done.
	SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error
}

// FactStore is what the first part asks of its claimed run.
type FactStore interface {
	Attempts
	// SaveFacts stores the facts and that their symbol is done, in one
	// transaction.
	SaveFacts(ctx context.Context, symbol market.Symbol, facts []market.Fact, through market.Date) (market.Changes, error)
}

// Library is what is stored already.
type Library interface {
	// Coverage tells how far each symbol is covered; unknown ones are absent.
	Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error)
	// DoneUnits returns the symbols of a period that are done.
	DoneUnits(ctx context.Context, job, period string) ([]market.Symbol, error)
	// Facts returns all versions of a symbol's facts.
	Facts(ctx context.Context, symbol market.Symbol) ([]market.Fact, error)
	// Fundamentals returns the newest row that was learnt through a day.
	Fundamentals(ctx context.Context, symbol market.Symbol, through market.Date) (row market.Fundamentals, ok bool, err error)
}

// DoneSet is the week's set of symbols that are done.
type DoneSet interface {
	Done(ctx context.Context, symbols []market.Symbol) (map[market.Symbol]bool, error)
	Add(ctx context.Context, symbols ...market.Symbol) error
}

// Cache keeps the newest row of a symbol for quick readers.
type Cache interface {
	Put(ctx context.Context, row market.Fundamentals) error
}

// More is what can be asked for figures that neither the overview nor the facts
// hold, for one more call.
type More struct {
	Overviews
	// Fills are the fields that it may know. It is asked when one of them is
	// null, and fills no other.
	Fills []market.Field
}

// Job loads fundamentals. Overviews and the fields after FactStore are
// required.
type Job struct {
	Overviews Overviews
	// More are asked in their order where they are needed. An answer that is
	// none costs only its figures; a spent quota leaves the symbol for the
	// next run.
	More []More
	// Filer is asked in the first part; nil leaves that part out.
	Filer     Filer
	Store     Store
	FactStore FactStore
	Library   Library
	Done      DoneSet
	Cache     Cache
	// Today returns the date in New York: that of a row is the one on which
	// its answer arrived.
	Today func() market.Date
	// Force asks also for symbols that are done. They stay done whatever
	// comes of it.
	Force bool
	// Sweep sets the workers and who is told of progress; its Visit and
	// Attempt are the job's own. FactSweep is that of the first part.
	Sweep, FactSweep sweep.Sweep
}

// Plan is what a run would do.
type Plan struct {
	Week market.Week
	// Facts are the symbols of the first part, Overviews those of the second,
	// in the order in which they are asked for.
	Facts, Overviews []market.Symbol
	// FactsDone is the number of symbols that are left out of the first part
	// because they are done, Done are those left out of the second.
	FactsDone int
	Done      []market.Symbol
	// Warnings are about the run as a whole.
	Warnings []string

	// fresh are the symbols of which the first part has stored new facts.
	fresh *sync.Map
}

// Calls is the number of calls that the second part makes at most.
func (j Job) Calls(p Plan) int { return len(p.Overviews) * (1 + len(j.More)) }

// Plan finds the symbols that are not done for the week. Those whose figures
// are the oldest come first; among those last asked for in the same week, the
// ones that failed then come last. It makes no provider call. A week that has
// not begun is an error; one that is over is not, but its rows are dated today
// all the same.
func (j Job) Plan(ctx context.Context, week market.Week, symbols []market.Symbol) (Plan, error) {
	today := j.Today()
	if week.Monday() > today {
		return Plan{}, fmt.Errorf("week %s has not begun: today is %s, in %s", week, today, market.WeekOf(today))
	}
	plan := Plan{Week: week, fresh: &sync.Map{}}
	if week != market.WeekOf(today) {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf(
			"week %s is over: the figures are those of today and are stored under %s, the day on which they were learnt", week, today))
	}
	done, warning := j.Done.Done(ctx, symbols)
	if done == nil {
		return Plan{}, fmt.Errorf("read which symbols are done: %w", warning)
	}
	if warning != nil {
		plan.Warnings = append(plan.Warnings, warning.Error())
	}
	coverage, err := j.Library.Coverage(ctx, Name)
	if err != nil {
		return Plan{}, fmt.Errorf("read coverage: %w", err)
	}
	plan.Overviews, plan.Done = j.todo(symbols, done)
	slices.SortStableFunc(plan.Overviews, func(a, b market.Symbol) int { return byStaleness(coverage[a], coverage[b]) })
	return plan, j.planFacts(ctx, &plan, symbols)
}

func (j Job) planFacts(ctx context.Context, plan *Plan, symbols []market.Symbol) error {
	if j.Filer == nil {
		return nil
	}
	units, err := j.Library.DoneUnits(ctx, FactsName, plan.Week.String())
	if err != nil {
		return fmt.Errorf("read whose facts are stored: %w", err)
	}
	done := make(map[market.Symbol]bool, len(units))
	for _, u := range units {
		done[u] = true
	}
	var skipped []market.Symbol
	plan.Facts, skipped = j.todo(symbols, done)
	plan.FactsDone = len(skipped)
	return nil
}

// todo returns the symbols that are to be asked for, and those that are not.
func (j Job) todo(symbols []market.Symbol, done map[market.Symbol]bool) (todo, skipped []market.Symbol) {
	for _, s := range symbols {
		if done[s] && !j.Force {
			skipped = append(skipped, s)
		} else {
			todo = append(todo, s)
		}
	}
	return todo, skipped
}

func byStaleness(a, b market.Coverage) int {
	return cmp.Or(cmp.Compare(a.Tried, b.Tried), cmp.Compare(failed(a), failed(b)), cmp.Compare(a.Through, b.Through))
}

// failed is 1 for a symbol that was not stored in the week in which it was
// asked for last, and 0 for others.
func failed(c market.Coverage) int {
	if c.Tried > market.WeekOf(c.Through).String() {
		return 1
	}
	return 0
}

// RunFacts makes the first part: it stores what the issuers have reported.
func (j Job) RunFacts(ctx context.Context, plan Plan) sweep.Report {
	v := &visitor{Job: j, fresh: plan.fresh}
	pass := j.FactSweep
	pass.Visit, pass.Attempt = v.facts, record(j.FactStore)
	return sweep.NewReport(FactsName, plan.Week.String(), plan.FactsDone, pass.Run(ctx, plan.Facts), ctx.Err() != nil)
}

// Run makes the second part: it asks for the overviews, and completes the rows
// of symbols that are done with facts that came later. One symbol's failure does
// not stop the others; the report names each.
func (j Job) Run(ctx context.Context, plan Plan) sweep.Report {
	v := &visitor{Job: j, fresh: plan.fresh}
	pass := j.Sweep
	pass.Visit, pass.Attempt = v.overview, record(j.Store)
	tally := pass.Run(ctx, plan.Overviews)
	report := sweep.NewReport(Name, plan.Week.String(), len(plan.Done), tally, ctx.Err() != nil)
	if plan.Week == market.WeekOf(j.Today()) {
		report.Rows += v.complete(ctx, plan.Done)
	}
	report.Warnings = slices.Concat(plan.Warnings, v.warnings)
	return report
}

// record keeps the attempts of a part in its run.
func record(a Attempts) func(context.Context, market.Symbol, sweep.Outcome, string) error {
	return func(ctx context.Context, symbol market.Symbol, outcome sweep.Outcome, message string) error {
		return a.SaveAttempt(ctx, symbol, string(outcome), message)
	}
}

// Package dailybars loads the daily bars of one session for many symbols.
//
// A symbol is done when the session's own bar is committed. Every reply holds
// more than that bar; the bars before it, as far as the window reaches back,
// are compared with the stored ones and stored too, so that a reply also
// closes the gaps behind it. If many of them have changed at once, as after a
// split, all that is stored of the symbol is read again before any of it is
// replaced, so that no series is on two bases.
package dailybars

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// Name is the job's name in the ledger, in Redis and in reports.
const Name = "daily_bars"

// WindowSessions is how far back a reply is stored: what the smallest reply of
// the providers holds.
const WindowSessions = 100

// Source is what this job asks of a provider.
type Source interface {
	// DailyBars returns the bars of a symbol, ascending, at least those
	// of window.To and as many of the window's others as come with them.
	DailyBars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error)
	// History returns all bars of a symbol that the source has in window; about
	// are the days of window for which they are the answer. It is asked only
	// for a symbol whose stored bars are on another base than the answer.
	History(ctx context.Context, symbol market.Symbol, window market.Range) (series market.Series, about market.Days, err error)
	// Reach returns the first session that can be had; zero if all can.
	Reach() (market.Date, error)
}

// Store is what this job asks of a claimed run.
type Store interface {
	// SaveBars stores the bars and the fact that their symbol is done for
	// session in one transaction; with the zero Date the bars only. It
	// refuses bars that would leave the symbol on two bases with a
	// *[market.RebasedError].
	SaveBars(ctx context.Context, series market.Series, session market.Date) (market.Changes, error)
	// SaveAttempt records that symbol was asked for without becoming done.
	SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error
}

// Coverage tells how far each symbol is covered; unknown symbols are absent.
type Coverage interface {
	Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error)
}

// DoneSet is the session's set of symbols that are done.
type DoneSet interface {
	Done(ctx context.Context, symbols []market.Symbol) (map[market.Symbol]bool, error)
	Add(ctx context.Context, symbols ...market.Symbol) error
}

// Job loads daily bars. All fields but Sweep's are required.
type Job struct {
	Source   Source
	Store    Store
	Coverage Coverage
	Done     DoneSet
	Calendar *market.Calendar
	// Through is the newest session whose bars are final.
	Through market.Date
	// Force asks also for symbols that are done. They stay done whatever
	// comes of it. It also stores bars that are on another base than older
	// ones, if those cannot be read again.
	Force bool
	// Sweep sets the workers and who is told of progress; its Visit and
	// Attempt are the job's own.
	Sweep sweep.Sweep
}

// NoSessionError says that a date is no session of the exchange.
type NoSessionError struct {
	Date   market.Date
	Reason string
}

// Error names the date and why the exchange is closed.
func (e *NoSessionError) Error() string {
	return fmt.Sprintf("%s is no session of the New York Stock Exchange: %s", e.Date, e.Reason)
}

// Plan is what a run would do.
type Plan struct {
	Session market.Date
	// Todo are the symbols that are not done, in the order in which they
	// are asked for; Skipped is the number of those done.
	Todo    []market.Symbol
	Skipped int
	// Warning says that Redis could not be asked; the plan is right all
	// the same, since it comes from the ledger.
	Warning error
}

// Plan finds the symbols that are not done for session, the least recently
// asked for first, among those the ones that were stored then, and the least
// far covered first, so that a small daily quota comes round to all of them. It makes no provider call.
func (j Job) Plan(ctx context.Context, session market.Date, symbols []market.Symbol) (Plan, error) {
	if err := j.checkSession(session); err != nil {
		return Plan{}, err
	}
	coverage, err := j.Coverage.Coverage(ctx, Name)
	if err != nil {
		return Plan{}, fmt.Errorf("read coverage: %w", err)
	}
	done, warning := j.Done.Done(ctx, symbols)
	if done == nil {
		return Plan{}, fmt.Errorf("read which symbols are done: %w", warning)
	}
	plan := Plan{Session: session, Warning: warning}
	for _, s := range symbols {
		if done[s] && !j.Force {
			plan.Skipped++
		} else {
			plan.Todo = append(plan.Todo, s)
		}
	}
	slices.SortStableFunc(plan.Todo, func(a, b market.Symbol) int {
		x, y := coverage[a], coverage[b]
		return cmp.Or(cmp.Compare(x.Tried, y.Tried), cmp.Compare(failed(x), failed(y)), cmp.Compare(x.Through, y.Through))
	})
	return plan, nil
}

// failed is 1 for a symbol that was not stored when it was asked for last, and
// 0 for others. Among equals those come last: symbols that fail every time
// would else stand in a row at the front and look like a provider that is down.
func failed(c market.Coverage) int {
	if c.Tried > c.Through.String() {
		return 1
	}
	return 0
}

func (j Job) checkSession(session market.Date) error {
	open, err := j.Calendar.IsSession(session)
	switch {
	case err != nil:
		return err
	case !open:
		return &NoSessionError{Date: session, Reason: j.Calendar.Why(session)}
	case session > j.Through:
		return fmt.Errorf("session %s has no final bars yet: the newest that has is %s", session, j.Through)
	}
	return nil
}

// Run loads the plan's symbols. One symbol's failure does not stop the
// others; the report names each.
func (j Job) Run(ctx context.Context, plan Plan) sweep.Report {
	v := &visitor{Job: j, session: plan.Session, window: j.window(plan.Session)}
	pass := j.Sweep
	pass.Visit = v.visit
	pass.Attempt = func(ctx context.Context, symbol market.Symbol, outcome sweep.Outcome, message string) error {
		return j.Store.SaveAttempt(ctx, symbol, string(outcome), message)
	}
	tally := pass.Run(ctx, plan.Todo)
	report := sweep.NewReport(Name, plan.Session.String(), plan.Skipped, tally, ctx.Err() != nil)
	if plan.Warning != nil {
		report.Warnings = append(report.Warnings, plan.Warning.Error())
	}
	if behind := v.behind.Load(); behind != nil {
		report.Warnings = append(report.Warnings, *behind)
	}
	return report
}

// window is the WindowSessions that end with session, or as many as the
// calendar knows.
func (j Job) window(session market.Date) market.Range {
	from, err := j.Calendar.Back(session, WindowSessions-1)
	if err != nil {
		from = j.Calendar.Known().From
	}
	return market.Range{From: from, To: session}
}

// Package runner lets each period of each scheduled job be run once, on however
// many replicas: a tick is only a hint to look at the journal, the claim of the
// run in the database decides who runs it, and what is not complete is asked for
// again until the next period is due.
package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

const (
	// journalRows is how many periods of a job are looked at: more than a
	// window of any job holds.
	journalRows = 500
	// runRows is how many of the newest runs are looked through for the
	// attempts at a period.
	runRows = 100
	// look is how often the clock is looked at: a machine that slept, or whose
	// clock was set, does not wake a timer in time.
	look = 30 * time.Second
	// heldWait is how long another owner's run is left alone at a time.
	heldWait = time.Second
	// skew is how far the clocks of the database and of this machine may be
	// apart.
	skew = 15 * time.Minute
	// horizon is how many ticks are looked through for the next period.
	horizon = 1000
	// failedWait is how long a journal that cannot be read is left alone.
	failedWait = 15 * time.Second
	// lastWait is how long a journal that does not answer keeps a stop.
	lastWait = 2 * time.Second
)

// Journal is what is known of periods and runs.
type Journal interface {
	Periods(ctx context.Context, job string, limit int) ([]store.PeriodInfo, error)
	NotePeriod(ctx context.Context, p store.PeriodInfo) (noted bool, err error)
	Runs(ctx context.Context, job string, limit int) ([]store.RunInfo, error)
}

// Task is one scheduled job.
type Task struct {
	schedule.Job
	// Run claims a period, runs it and returns the report, if no more
	// has been run of it than was seen. A *[store.HeldError] says that
	// another process has it, [store.ErrPassed] that another one has run it.
	Run func(ctx context.Context, period string, seen store.Seen) (sweep.Report, error)
	// Ledger is the period of its runs in the ledger, if that is not the name
	// of the scheduled one but the same for all.
	Ledger string
}

// Event is something that a log should hold: what has become of a period, what
// is odd about the clock or the schedule, or an error after which it is tried
// again.
type Event struct {
	Job string
	// Period is "" for what is not about one, State too.
	Period, State string
	Reason        string
	Err           error
}

// Runner runs tasks. All fields but Changed, Ready and Wait are required.
type Runner struct {
	Tasks   []Task
	Journal Journal
	Now     func() time.Time
	// Tell is called from several goroutines.
	Tell func(Event)
	// Changed is when this process began with the configuration that it has:
	// what was not complete before is asked for again at once.
	Changed time.Time
	// Ready says why nothing can be run now, such as a server that is away: it
	// is looked again soon then. nil: nothing is in the way.
	Ready func(context.Context) error
	// Wait returns after d or when ctx ends; nil is a timer.
	Wait func(ctx context.Context, d time.Duration)

	mu sync.Mutex
	// ended is when this process has last ended an attempt at a period.
	ended map[string]time.Time
	// beats are when each task's loop has last turned; busy are the tasks that
	// run now, for which it does not turn.
	beats map[string]time.Time
	busy  map[string]int
}

// Serve runs what is due until ctx ends, and returns when no run is left.
func (r *Runner) Serve(ctx context.Context) {
	var all sync.WaitGroup
	for i := range r.Tasks {
		all.Go(func() { r.serve(ctx, &r.Tasks[i]) })
	}
	all.Wait()
}

func (r *Runner) serve(ctx context.Context, t *Task) {
	for ctx.Err() == nil {
		r.beat(t)
		next, err := r.Step(ctx, t)
		if err != nil && ctx.Err() == nil {
			r.Tell(Event{Job: t.Name, Err: err})
			next = r.Now().Add(failedWait)
		}
		for now := r.Now(); now.Before(next) && ctx.Err() == nil; now = r.Now() {
			r.beat(t)
			r.wait(ctx, min(next.Sub(now), look))
		}
	}
}

func (r *Runner) wait(ctx context.Context, d time.Duration) {
	if r.Wait != nil {
		r.Wait(ctx, d)
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Step does what is due of a task now, one run at most, and returns when to look
// again.
func (r *Runner) Step(ctx context.Context, t *Task) (next time.Time, err error) {
	d, open, err := r.due(ctx, t)
	var runs []store.RunInfo
	if err == nil && (d.Run != nil || open != nil) {
		// The runs, and then the journal again: what has ended by the time of
		// the journal may not be among the runs, never the other way round.
		if runs, err = r.runs(ctx, t); err == nil {
			d, open, err = r.due(ctx, t)
		}
	}
	if err != nil {
		return r.Now(), err
	}
	for _, note := range d.Notes {
		r.Tell(Event{Job: t.Name, Reason: note})
	}
	for _, row := range d.Rows {
		if err := r.note(ctx, t, row.Period, string(row.Status), row.Reason, row.Tick); err != nil {
			return r.Now(), err
		}
	}
	switch {
	case d.Run != nil:
		if open != nil && open.Period != d.Run.Period && t.live(runs, open.Period) {
			return r.Now().Add(heldWait), nil // never two of one job at a time
		}
		if open != nil && open.Period != d.Run.Period && !open.Tick.After(d.Run.Tick) {
			reason := cmp.Or(open.Reason, "begun, and not ended") + "; then " + d.Run.Period + " was due"
			if err := r.note(ctx, t, open.Period, store.GaveUp, reason, open.Tick); err != nil {
				return r.Now(), err
			}
		}
		return r.attempt(ctx, t, start{d.Run.Period, d.Run.Tick, t.seen(runs, d.Run.Period), false})
	case open == nil:
		return d.Next, nil
	}
	return r.goOn(ctx, t, open, d.Next, runs)
}

// due is what the schedule and the journal say now, and the newest period that is
// not at its end.
func (r *Runner) due(ctx context.Context, t *Task) (schedule.Decision, *store.PeriodInfo, error) {
	now := r.Now()
	rows, err := r.Journal.Periods(ctx, t.Name, journalRows)
	if err != nil {
		return schedule.Decision{}, nil, fmt.Errorf("read the journal: %w", err)
	}
	known, settled, open := read(rows, now)
	d, err := t.Due(now, settled, func(period string) bool { return known[period] })
	return d, open, err
}

// runs are the newest runs of a job, the newest first.
func (r *Runner) runs(ctx context.Context, t *Task) ([]store.RunInfo, error) {
	runs, err := r.Journal.Runs(ctx, t.Name, runRows)
	if err != nil {
		return nil, fmt.Errorf("read the runs: %w", err)
	}
	return runs, nil
}

// live reports whether a process is at work on a period.
func (t *Task) live(runs []store.RunInfo, period string) bool {
	return slices.ContainsFunc(runs, func(run store.RunInfo) bool { return run.Live && run.Period == cmp.Or(t.Ledger, period) })
}

// seen is the newest of runs that is one of a period.
func (t *Task) seen(runs []store.RunInfo, period string) store.Seen {
	for _, run := range runs {
		if run.Period == cmp.Or(t.Ledger, period) {
			return store.Seen{Run: run.ID, Ended: !run.Finished.IsZero()}
		}
	}
	if len(runs) < runRows {
		return store.Seen{}
	}
	return store.Seen{Run: runs[len(runs)-1].ID, Ended: true} // if there is one, it is older
}

// read takes from the journal which periods it has, the newest tick that it has
// settled, and the newest period that is not at its end.
func read(rows []store.PeriodInfo, now time.Time) (known map[string]bool, settled time.Time, open *store.PeriodInfo) {
	known = make(map[string]bool, len(rows))
	for i := range rows {
		row := &rows[i]
		ran := row.State != store.Missed && row.State != store.NoSession
		if !ran && row.Tick.After(now) {
			continue // written by a clock that was ahead
		}
		known[row.Period] = true
		if row.Tick.After(settled) && !row.Tick.After(now) {
			settled = row.Tick
		}
		if row.State == store.Running || row.State == store.Incomplete {
			if open == nil || row.Tick.After(open.Tick) {
				open = row
			}
		}
	}
	return known, settled, open
}

// deadline is until when a period is asked for: the first tick from next on at
// which there is another one to be run. A holiday has nothing to make way for; a
// tick whose period cannot be told counts, since Due will say so then.
func (t *Task) deadline(period string, next time.Time) time.Time {
	for range horizon {
		p, err := t.Period(next)
		if err != nil || p.Closed == "" && p.Name != period {
			break
		}
		next = t.Schedule.Next(next)
	}
	return next
}

// goOn asks again for a period that is not complete, when it is time for that,
// and looks again at the next tick at the latest.
func (r *Runner) goOn(ctx context.Context, t *Task, open *store.PeriodInfo, tick time.Time, runs []store.RunInfo) (time.Time, error) {
	begin := start{open.Period, open.Tick, t.seen(runs, open.Period), open.State == store.Running}
	last, asked := t.last(runs, open)
	if !asked {
		if at := r.endedAt(t, open.Period).Add(failedWait); at.After(r.Now()) {
			return at, nil // the ledger does not show it yet
		}
		return r.attempt(ctx, t, begin)
	}
	if last.Status != string(sweep.OK) && last.Ended.Before(r.Changed) && r.endedAt(t, open.Period).Before(r.Changed) {
		return r.attempt(ctx, t, begin)
	}
	// The waits count by this machine's clock, however far the database's is
	// behind: none is skipped, or a failing provider would be asked without end.
	if own := r.endedAt(t, open.Period); own.After(last.Ended) {
		if own.Sub(last.Ended) > skew {
			last.Reset = midnight(own)
		}
		last.Ended = own
	}
	at, ok, why := schedule.FollowUp(last)
	if deadline := t.deadline(open.Period, tick); ok && at.After(deadline) {
		at = deadline // until when a limit can change, or somebody can run it
	}
	if !ok {
		state := store.GaveUp
		if last.Status == string(sweep.OK) {
			state = store.Complete
		}
		return r.Now(), r.note(ctx, t, open.Period, state, why, open.Tick)
	}
	if at.After(r.Now()) {
		return earlier(at, tick), nil
	}
	return r.attempt(ctx, t, begin)
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// last is the last attempt at a period that has ended; asked is false if none
// has, or if one has begun since.
func (t *Task) last(runs []store.RunInfo, open *store.PeriodInfo) (last schedule.Attempt, asked bool) {
	for _, run := range runs { // the newest first
		if t.Ledger == "" && run.Period != open.Period {
			continue
		}
		if t.Ledger != "" && (run.Period != t.Ledger || run.Started.Before(open.Tick.Add(-skew))) {
			break
		}
		what, skipped, restricted := outcomes(run.Report)
		if restricted {
			continue // it was somebody's, and says nothing of the rest
		}
		if asked && run.Status != last.Status {
			break
		}
		if !asked && run.Finished.IsZero() {
			return last, false // it runs elsewhere, or was killed: the claim tells
		}
		if !asked {
			asked = true
			last = schedule.Attempt{Status: run.Status, Outcomes: what, Skipped: skipped, Ended: run.Finished, Reset: midnight(run.Finished)}
		}
		last.Number++
	}
	return last, asked
}

// outcomes reads a report: what came of the units, how many were done before, and
// whether it was for less than the whole job.
func outcomes(report []byte) (counts map[string]int, skipped int, restricted bool) {
	var r sweep.Report
	if json.Unmarshal(report, &r) != nil {
		return nil, 0, false
	}
	counts = make(map[string]int, len(r.Outcomes))
	for outcome, n := range r.Outcomes {
		counts[string(outcome)] = n
	}
	return counts, r.Skipped, r.Restricted
}

// midnight is when a provider's day begins anew after t.
func midnight(t time.Time) time.Time {
	return (market.DateOf(t.In(market.NewYork())) + 1).In(market.NewYork(), 0, 0)
}

// start is a period that is to be run, if no more has been run of it than was
// seen.
type start struct {
	period string
	tick   time.Time
	seen   store.Seen
	// noted says that the journal has the period as running.
	noted bool
}

// attempt runs a period, unless another process has it or has just had it.
func (r *Runner) attempt(ctx context.Context, t *Task, at start) (next time.Time, err error) {
	if r.Ready != nil {
		if err := r.Ready(ctx); err != nil {
			return r.Now(), fmt.Errorf("%s is not begun: %w", at.period, err)
		}
	}
	_, err = r.try(ctx, t, at)
	switch {
	case errors.Is(err, store.ErrPassed):
		return r.Now(), nil
	case errors.As(err, new(*store.HeldError)):
		return r.Now().Add(heldWait), nil
	}
	return r.Now(), err
}

// try makes one attempt at a period and notes it in the journal.
func (r *Runner) try(ctx context.Context, t *Task, at start) (sweep.Report, error) {
	period, tick := at.period, at.tick
	if !at.noted {
		if err := r.note(ctx, t, period, store.Running, "", tick); err != nil {
			return sweep.Report{}, err
		}
	}
	report, err := r.guarded(ctx, t, at)
	if errors.Is(err, store.ErrPassed) || errors.As(err, new(*store.HeldError)) {
		return report, err
	}
	r.attempted(t, period)
	switch {
	case err != nil:
		return report, fmt.Errorf("run %s: %w", period, err)
	case report.Status == sweep.OK:
		return report, r.note(ctx, t, period, store.Complete, "", tick)
	}
	return report, r.note(ctx, t, period, store.Incomplete, reason(report), tick)
}

// attempted notes that an attempt has ended now.
func (r *Runner) attempted(t *Task, period string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.ended = map[string]time.Time{}
	}
	r.ended[t.Name+" "+period] = r.Now()
}

// endedAt is when this process has last ended an attempt at a period; the zero
// Time if it has not.
func (r *Runner) endedAt(t *Task, period string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[t.Name+" "+period]
}

// guarded turns a panic of a run into an error, so that the other jobs go on.
func (r *Runner) guarded(ctx context.Context, t *Task, at start) (report sweep.Report, err error) {
	r.setBusy(t, +1)
	defer func() {
		r.setBusy(t, -1)
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return t.Run(ctx, at.period, at.seen)
}

// reason says what of a report is not complete.
func reason(report sweep.Report) string {
	text := fmt.Sprintf("%s: %d of %d not done", report.Status, report.Failed, report.Symbols)
	var classes []string
	for outcome, n := range report.Outcomes {
		if !outcome.Done() {
			classes = append(classes, fmt.Sprintf("%s %d", outcome, n))
		}
	}
	slices.Sort(classes)
	for i, class := range classes {
		text += map[bool]string{true: " (", false: ", "}[i == 0] + class
	}
	if len(classes) > 0 {
		text += ")"
	}
	return text
}

// note writes a period down, even when the run is being stopped; then there is
// less time for it, and the next start reads the same from the ledger.
func (r *Runner) note(ctx context.Context, t *Task, period, state, reason string, tick time.Time) error {
	patience := failedWait
	if ctx.Err() != nil {
		patience = lastWait
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, err := r.Journal.NotePeriod(ctx, store.PeriodInfo{Job: t.Name, Period: period, State: state, Reason: reason, Tick: tick})
	if err != nil {
		return fmt.Errorf("note %s as %s: %w", period, state, err)
	}
	if state != store.Running {
		r.Tell(Event{Job: t.Name, Period: period, State: state, Reason: reason})
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

const (
	// rehearsedCall is how long a call takes in a rehearsal.
	rehearsedCall = time.Second
	// restless is how many steps in one moment mean that they will never end.
	restless = 10_000
)

// unfinished is the result of a run whose process was killed.
const unfinished = "unfinished"

// errKilled ends a run whose process is gone.
var errKilled = errors.New("the process was killed")

// span is a time from its first moment up to its end.
type span struct{ from, to time.Time }

// rehearsal lets the runner run its tasks on a simulated clock. The tasks are
// coroutines, one of which goes on at a time: the one that is to wake first. So
// their runs overlap and share the calls of providers, in the order of time.
type rehearsal struct {
	now    time.Time
	tasks  []runner.Task
	memory *runner.Memory
	// journal is what the runner sees of memory.
	journal runner.Journal
	grants  map[string]*grants
	audit   *audit
	// work is what a run of a job does: it asks for the calls and reports what
	// came of it.
	work map[string]func(p *worker, period string) (sweep.Report, error)
	// before is when each job was due last before the rehearsal.
	before map[string]time.Time
	// rows are what has happened.
	rows  []rehearsed
	notes []string
}

// rehearsed is a run, or a period that has none.
type rehearsed struct {
	Job    string    `json:"job"`
	Period string    `json:"period"`
	Start  time.Time `json:"started_at"`
	End    time.Time `json:"finished_at"`
	// Calls are those of the run by provider; nil for what is no run.
	Calls map[string]int `json:"calls,omitempty"`
	// Result is the status of a run, or the state of a period.
	Result string `json:"result"`
	// Done of the Of symbols are done by then, of altdata days and settlement
	// dates; fetched in this run.
	Done    int `json:"done"`
	Of      int `json:"of"`
	fetched int
	Reason  string `json:"reason,omitempty"`
}

func newRehearsal(tasks []runner.Task, quotas []quota) *rehearsal {
	r := &rehearsal{tasks: tasks, before: map[string]time.Time{}, grants: map[string]*grants{}, audit: newAudit(quotas)}
	r.memory = &runner.Memory{Now: r.clock}
	r.journal = r.memory
	for _, q := range quotas {
		r.grants[q.provider] = newGrants(q)
	}
	return r
}

func (r *rehearsal) clock() time.Time { return r.now }

// settle takes all that was due before the rehearsal as done, so that it begins
// where a worker is that has been at work for long.
func (r *rehearsal) settle(ctx context.Context, start time.Time) error {
	r.now = start
	for i := range r.tasks {
		t := &r.tasks[i]
		tick := t.Schedule.Last(start)
		p, err := t.Period(tick)
		if err != nil {
			return fmt.Errorf("%s: the period of %s: %w", t.Name, tick.Format(time.RFC3339), err)
		}
		state := store.Complete
		if p.Closed != "" {
			state = store.NoSession
		}
		r.before[t.Name] = tick
		r.audit.settled(t.Name, p.Name)
		if _, err := r.memory.NotePeriod(ctx, store.PeriodInfo{Job: t.Name, Period: p.Name, State: state, Reason: p.Closed, Tick: tick}); err != nil {
			return err
		}
	}
	return nil
}

// run lets the worker live in each of the spans, which are in order, and looks at
// what it has left behind.
func (r *rehearsal) run(ctx context.Context, lives ...span) error {
	if err := r.settle(ctx, lives[0].from); err != nil {
		return err
	}
	for _, life := range lives {
		r.now = life.from
		if err := r.live(ctx, life.to); err != nil {
			return err
		}
	}
	return r.audit.judge(ctx, r, lives)
}

// worker is one task as it lives in a process.
type worker struct {
	*rehearsal
	task runner.Task
	// wake is when it goes on, steps how often it has gone on in one moment.
	wake  time.Time
	steps int
	next  func() (time.Time, bool)
	stop  func()
	// sleep returns at a time; false if the process was killed before.
	sleep func(until time.Time) bool
	err   error
	// calls are those of its run.
	calls map[string]int
}

// live lets the tasks run until end, at which the process is killed.
func (r *rehearsal) live(ctx context.Context, end time.Time) error {
	process := &runner.Runner{Journal: r.journal, Now: r.clock, Tell: r.told}
	clear(r.audit.busy)
	workers := make([]*worker, len(r.tasks))
	for i := range r.tasks {
		w := &worker{rehearsal: r, task: r.tasks[i], wake: r.now}
		w.task.Run = w.attempt
		w.next, w.stop = iter.Pull(w.serve(ctx, process))
		defer w.stop()
		workers[i] = w
	}
	for ctx.Err() == nil {
		w := slices.MinFunc(workers, func(a, b *worker) int { return a.wake.Compare(b.wake) })
		if !w.wake.Before(end) {
			r.now = end
			return nil
		}
		if err := w.goOn(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// goOn lets a worker go on until it sleeps again.
func (w *worker) goOn() error {
	if w.wake.After(w.now) {
		w.now, w.steps = w.wake, 0
	}
	if w.steps++; w.steps > restless {
		return fmt.Errorf("%s does not come to rest at %s", w.task.Name, w.now.Format(time.RFC3339))
	}
	wake, ok := w.next()
	if !ok {
		return fmt.Errorf("%s at %s: %w", w.task.Name, w.now.Format(time.RFC3339), w.err)
	}
	w.wake = wake
	return nil
}

// serve is the life of a task: as in the runner it does what is due, and sleeps
// until the next thing is.
func (w *worker) serve(ctx context.Context, process *runner.Runner) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		w.sleep = yield
		for {
			next, err := process.Step(ctx, &w.task)
			if w.err = err; err != nil || !yield(next) {
				return
			}
		}
	}
}

// attempt is one run of a period.
func (w *worker) attempt(_ context.Context, period string, _ store.Seen) (sweep.Report, error) {
	row := rehearsed{Job: w.task.Name, Period: period, Start: w.now.UTC(), Result: unfinished}
	w.calls = map[string]int{}
	w.audit.began(row)
	end := w.memory.Begin(row.Job, cmp.Or(w.task.Ledger, period))
	report, err := w.work[row.Job](w, period)
	if err == nil && len(w.calls) > 0 && !w.sleep(w.now.Add(rehearsedCall)) {
		err = errKilled
	}
	if err == nil {
		text, _ := json.Marshal(report) //nolint:errchkjson // a report is always JSON
		end(string(report.Status), text)
		row.Result, row.fetched, row.Done, row.Of = string(report.Status), report.Fetched, report.Fetched+report.Skipped, report.Symbols
	}
	row.End, row.Calls = w.now.UTC(), w.calls
	w.audit.ended(row)
	w.rows = append(w.rows, row)
	return report, err
}

// told keeps what has become of periods without a run, or of those given up.
func (r *rehearsal) told(e runner.Event) {
	switch e.State {
	case "":
		r.notes = append(r.notes, e.Job+": "+e.Reason)
	case store.NoSession, store.Missed, store.GaveUp:
		r.rows = append(r.rows, rehearsed{Job: e.Job, Period: e.Period, Start: r.now.UTC(), End: r.now.UTC(), Result: e.State, Reason: e.Reason})
	}
}

// load is a number of calls of one provider.
type load struct {
	provider string
	calls    int
}

// call makes calls of several providers at once, each as fast as its limits
// allow, until a provider's day is spent. made are those that were made.
func (w *worker) call(loads ...load) (made map[string]int, err error) {
	made = map[string]int{}
	for {
		best, slot := -1, time.Time{}
		for i, l := range loads {
			if l.calls == 0 {
				continue
			}
			if at, ok := w.grants[l.provider].next(w.now); ok && (best < 0 || at.Before(slot)) {
				best, slot = i, at
			}
		}
		if best < 0 {
			return made, nil
		}
		provider := loads[best].provider
		loads[best].calls--
		w.grants[provider].take(slot)
		if slot.After(w.now) && !w.sleep(slot) {
			return made, errKilled
		}
		w.audit.called(provider, slot)
		made[provider]++
		w.calls[provider]++
	}
}

// grants are the times at which the calls of one provider may start, as the
// limiter gives them: in a steady flow, and so many on a day of New York.
type grants struct {
	quota
	interval time.Duration
	last     time.Time
	day      market.Date
	used     int
}

func newGrants(q quota) *grants {
	// Rounded up, since a sum of intervals that is too short breaks a window.
	return &grants{quota: q, interval: time.Duration(float64(time.Second)/q.window.Rate()) + 1}
}

// next is when the next call may start; ok is false if the day is spent.
func (g *grants) next(now time.Time) (at time.Time, ok bool) {
	at = now
	if earliest := g.last.Add(g.interval); !g.last.IsZero() && earliest.After(now) {
		at = earliest
	}
	return at, g.perDay == 0 || g.left(at) > 0
}

func (g *grants) take(at time.Time) {
	if day := market.DateOf(at.In(market.NewYork())); day != g.day {
		g.day, g.used = day, 0
	}
	g.last = at
	g.used++
}

// left is what is left of the limit of the day of t.
func (g *grants) left(t time.Time) int {
	if market.DateOf(t.In(market.NewYork())) != g.day {
		return g.perDay
	}
	return g.perDay - g.used
}

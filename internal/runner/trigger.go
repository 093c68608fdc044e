package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// Trigger runs a period of a job now, whatever its schedule, and returns how
// that ended. The journal has it as it has a scheduled run: what is not complete
// is asked for again, and a period that is complete stays so. A
// *[store.HeldError] says that a run of the period goes on already, here or in
// another process. The caller has checked the name of the period.
func (r *Runner) Trigger(ctx context.Context, job, period string) (sweep.Report, error) {
	for i := range r.Tasks {
		if t := &r.Tasks[i]; t.Name == job {
			return r.try(ctx, t, start{period, r.tickOf(t, period), store.SeenAll(), false})
		}
	}
	return sweep.Report{}, fmt.Errorf("trigger %s: no such job", job)
}

// tickOf is the tick of a period, if that is the newest one or the next; else the
// zero Time, which leaves the journal's. The next is none for a job whose runs
// are told apart by the tick before them.
func (r *Runner) tickOf(t *Task, period string) time.Time {
	now := r.Now()
	ticks := []time.Time{t.Schedule.Last(now)}
	if t.Ledger == "" {
		ticks = append(ticks, t.Schedule.Next(now))
	}
	for _, tick := range ticks {
		if p, err := t.Period(tick); err == nil && p.Name == period && p.Closed == "" {
			return tick
		}
	}
	return time.Time{}
}

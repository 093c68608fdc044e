package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
)

// Outlook is what the journal knows of a job, and what comes next.
type Outlook struct {
	// Next is the next tick of the schedule.
	Next time.Time
	// Due is the period that no process has begun, although its tick Since
	// has passed; "" if there is none.
	Due   string
	Since time.Time
	// Open is the period that is not at its end; nil if there is none. It is
	// asked for again at Again, because of Why. Where that would be too late it
	// is Until, when another period is due, and this one is given up then
	// unless a limit changes or somebody runs it. With neither it runs, or will
	// as soon as a process is there to do it.
	Open         *store.PeriodInfo
	Again, Until time.Time
	Why          string
	// Live says that a process is at work on it.
	Live bool
	// Newest are the newest periods of the journal, the newest first.
	Newest []store.PeriodInfo
}

// newest is how many periods an outlook lists.
const newest = 5

// Outlook tells how a task stands, and changes nothing. It needs Journal and
// Now alone. An error is one of the journal or of the job's periods.
func (r *Runner) Outlook(ctx context.Context, t *Task) (Outlook, error) {
	now := r.Now()
	runs, err := r.runs(ctx, t)
	if err != nil {
		return Outlook{}, err
	}
	d, open, err := r.due(ctx, t)
	if err != nil {
		return Outlook{}, err
	}
	o := Outlook{Next: d.Next}
	if o.Newest, err = r.Journal.Periods(ctx, t.Name, newest); err != nil {
		return Outlook{}, fmt.Errorf("read the journal: %w", err)
	}
	if d.Run != nil {
		o.Due, o.Since = d.Run.Period, d.Run.Tick
		return o, nil
	}
	if open == nil {
		return o, nil
	}
	o.Open, o.Why, o.Live = open, open.Reason, t.live(runs, open.Period)
	last, asked := t.last(runs, open)
	if !asked {
		return o, nil
	}
	at, ok, why := schedule.FollowUp(last)
	deadline := t.deadline(open.Period, d.Next)
	switch {
	case ok && at.After(deadline):
		o.Until, o.Why = deadline, why
	case ok && at.After(now):
		o.Again, o.Why = at, why
	}
	return o, nil
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/alpha-oracle/worker/internal/runner"
)

// jobOutlook is how a scheduled job stands.
type jobOutlook struct {
	Job string `json:"job"`
	// Next is the next tick of the schedule.
	Next time.Time `json:"next"`
	// Due is a period whose tick, at DueSince, no process has answered yet.
	Due      string     `json:"due,omitempty"`
	DueSince *time.Time `json:"due_since,omitempty"`
	// Open is the period that is not at its end, in State because of Reason; it
	// is asked for again at Again. Without Again it runs, or will when a worker
	// is there.
	Open   string     `json:"open,omitempty"`
	State  string     `json:"state,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Again  *time.Time `json:"again,omitempty"`
	// Until is when it is given up, since it would be asked for again only later.
	Until *time.Time `json:"until,omitempty"`
	// Live says that a worker is at it.
	Live bool `json:"live,omitempty"`
	// Periods are the newest of the journal.
	Periods []periodStatus `json:"periods"`
}

type periodStatus struct {
	Period string     `json:"period"`
	State  string     `json:"state"`
	Reason string     `json:"reason,omitempty"`
	Due    *time.Time `json:"due,omitempty"`
	Noted  time.Time  `json:"noted"`
	Run    int64      `json:"run,omitempty"`
}

// outlooks reads how the scheduled jobs stand; with the scheduler switched off
// there are none.
func (a *app) outlooks(ctx context.Context, s *services) ([]jobOutlook, error) {
	all := []jobOutlook{}
	if !a.cfg.Schedule.Enabled {
		return all, nil
	}
	r := runner.Runner{Journal: s.db, Now: a.now}
	for _, task := range a.tasks(s) {
		o, err := r.Outlook(ctx, &task)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", task.Name, err)
		}
		all = append(all, newJobOutlook(task.Name, o))
	}
	return all, nil
}

func newJobOutlook(job string, o runner.Outlook) jobOutlook {
	j := jobOutlook{Job: job, Next: o.Next.UTC(), Due: o.Due, DueSince: moment(o.Since), Again: moment(o.Again), Until: moment(o.Until), Periods: []periodStatus{}}
	if o.Open != nil {
		j.Open, j.State, j.Reason, j.Live = o.Open.Period, o.Open.State, o.Why, o.Live
	}
	for _, p := range o.Newest {
		j.Periods = append(j.Periods, periodStatus{p.Period, p.State, p.Reason, moment(p.Tick), p.Noted.UTC(), p.RunID})
	}
	return j
}

// moment is nil for a time that is not.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

// now says in words how the job stands.
func (j jobOutlook) now() string {
	switch {
	case j.Due != "":
		return fmt.Sprintf("%s is due since %s", j.Due, j.DueSince.Format(time.RFC3339))
	case j.Again != nil:
		return fmt.Sprintf("%s again at %s", j.Open, j.Again.Format(time.RFC3339))
	case j.Until != nil:
		return fmt.Sprintf("%s is given up at %s", j.Open, j.Until.Format(time.RFC3339))
	case j.Live:
		return j.Open + " runs"
	case j.Open != "":
		return j.Open + " waits for a worker"
	case len(j.Periods) == 0:
		return "nothing has been due"
	}
	return j.Periods[0].Period + " " + j.Periods[0].State
}

func (a *app) printOutlooks(all []jobOutlook) {
	if len(all) == 0 {
		a.printf("no schedule: SA_SCHEDULER__ENABLED is false\n")
		return
	}
	t := a.newTable("scheduled job", "now", "why", "next tick")
	for _, j := range all {
		why := j.Reason
		if j.Open == "" && len(j.Periods) > 0 {
			why = j.Periods[0].Reason
		}
		t.AppendRow(table.Row{j.Job, j.now(), cmp.Or(why, "-"), j.Next.Format(time.RFC3339)})
	}
	a.printf("%s\n", t.Render())
}

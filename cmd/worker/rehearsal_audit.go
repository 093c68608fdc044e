package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
)

// mostViolations is how many are kept.
const mostViolations = 100

// audit looks at a rehearsal from outside: at each call as its provider does,
// and at the journal as somebody who has the calendar and the schedules. It
// shares no arithmetic with what grants the calls.
type audit struct {
	windows map[string]*auditWindow
	begun   map[string]int // runs of a period
	done    map[string]int // runs that were complete
	// busy is since when a job has been at a run.
	busy  map[string]time.Time
	found []string
	more  int
}

// auditWindow is what a provider counts.
type auditWindow struct {
	quota
	// ring holds the last calls, as many as the limit; at is where the oldest is.
	ring  []time.Time
	at    int
	day   market.Date
	onDay int
	// total and most are all calls and the most on a day.
	total, most int
}

func newAudit(quotas []quota) *audit {
	a := &audit{windows: map[string]*auditWindow{}, begun: map[string]int{}, done: map[string]int{}, busy: map[string]time.Time{}}
	for _, q := range quotas {
		a.windows[q.provider] = &auditWindow{quota: q, ring: make([]time.Time, q.window.Limit)}
	}
	return a
}

func (a *audit) violation(format string, args ...any) {
	if len(a.found) == mostViolations {
		a.more++
		return
	}
	a.found = append(a.found, fmt.Sprintf(format, args...))
}

// called counts a call in each window of its provider. Calls come in the order of
// time.
func (a *audit) called(provider string, at time.Time) {
	w := a.windows[provider]
	if oldest := w.ring[w.at]; !oldest.IsZero() && at.Sub(oldest) < w.window.Length {
		a.violation("%s: %d calls within %s up to %s: the limit is %d", provider, w.window.Limit+1, w.window.Length, newYorkTime(at), w.window.Limit)
	}
	w.ring[w.at] = at
	w.at = (w.at + 1) % len(w.ring)
	if day := market.DateOf(at.In(market.NewYork())); day != w.day {
		w.day, w.onDay = day, 0
	}
	w.onDay++
	w.total++
	w.most = max(w.most, w.onDay)
	if w.perDay > 0 && w.onDay > w.perDay {
		a.violation("%s: call %d of %s at %s: the limit of a day is %d", provider, w.onDay, w.day, newYorkTime(at), w.perDay)
	}
}

// settled takes note of a period that was done before the rehearsal.
func (a *audit) settled(job, period string) { a.done[job+" "+period] = 1 }

// began takes note of a run.
func (a *audit) began(row rehearsed) {
	key := row.Job + " " + row.Period
	if a.done[key] > 0 {
		a.violation("%s is run at %s, and was complete", key, newYorkTime(row.Start))
	}
	a.begun[key]++
	a.busy[row.Job] = row.Start
}

// ended takes note of how a run has ended.
func (a *audit) ended(row rehearsed) {
	if row.Result != unfinished {
		delete(a.busy, row.Job)
	}
	if row.Result == "ok" {
		a.done[row.Job+" "+row.Period]++
	}
}

// judge looks for each period that was due in the time from the first of lives on
// up to the end of the last, or up to the run that this has cut off, and compares
// what the journal says of it with what was done.
func (a *audit) judge(ctx context.Context, r *rehearsal, lives []span) error {
	first := lives[0].from
	for i := range r.tasks {
		t := &r.tasks[i]
		rows, err := r.memory.Periods(ctx, t.Name, int(^uint(0)>>1))
		if err != nil {
			return err
		}
		states := make(map[string]store.PeriodInfo, len(rows))
		for _, row := range rows {
			states[row.Period] = row
		}
		end := lives[len(lives)-1].to
		if since, busy := a.busy[t.Name]; busy {
			end = since
		}
		seen := map[string]bool{}
		var due []string // the periods that are not closed
		for tick := t.Schedule.Next(first); tick.Before(end); tick = t.Schedule.Next(tick) {
			p, err := t.Period(tick)
			if err != nil {
				return err
			}
			if seen[p.Name] {
				continue
			}
			seen[p.Name] = true
			if p.Closed == "" {
				due = append(due, p.Name)
			}
			a.period(t, p.Closed, tick, p.Name, states)
		}
		a.open(t, due, states)
	}
	return nil
}

// period judges one that was due at a tick.
func (a *audit) period(t *runner.Task, closed string, tick time.Time, name string, states map[string]store.PeriodInfo) {
	key := t.Name + " " + name
	row, known := states[name]
	switch {
	case !known:
		a.violation("%s was due at %s, and the journal does not have it", key, newYorkTime(tick))
	case closed != "" && (row.State != store.NoSession || a.begun[key] > 0):
		a.violation("%s is %s after %d runs, and there was no session: %s", key, row.State, a.begun[key], closed)
	case closed == "" && row.State == store.NoSession:
		a.violation("%s was left out as a day without session, and there is something to do: %s", key, row.Reason)
	case row.State == store.Complete && a.done[key] != 1:
		a.violation("%s is complete after %d complete runs", key, a.done[key])
	case slices.Contains([]string{store.Missed, store.GaveUp, store.NoSession}, row.State) && row.Reason == "":
		a.violation("%s is %s without a reason", key, row.State)
	}
}

// open looks for periods that were left behind: only the newest one may be asked
// for again.
func (a *audit) open(t *runner.Task, due []string, states map[string]store.PeriodInfo) {
	for i, name := range due {
		if row := states[name]; (row.State == store.Running || row.State == store.Incomplete) && i < len(due)-1 {
			a.violation("%s %s is left %s, without a reason, though %s was due", t.Name, name, row.State, due[i+1])
		}
	}
}

func newYorkTime(t time.Time) string {
	return t.In(market.NewYork()).Format("2006-01-02 15:04:05")
}

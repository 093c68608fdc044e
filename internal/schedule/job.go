package schedule

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MostRows bounds the rows of one [Decision].
const MostRows = 10_000

// ahead is how far after now a settled tick may lie and still be believed: a
// clock that was wrong by less catches up with it within a day.
const ahead = 25 * time.Hour

// Period is what a tick asks for.
type Period struct {
	// Name is the period's name in the journal: 2026-03-12, 2026-W11.
	Name string
	// Closed says why nothing is to be done, such as "no_session: Good
	// Friday"; "" if there is something.
	Closed string
	// Since says that all ticks from it on, up to the one that was asked
	// for, are of this period, so that a year of ticks costs no more than
	// its periods; the zero Time says nothing.
	Since time.Time
}

// Job is something to be done once for each period.
type Job struct {
	Name     string
	Schedule Schedule
	// Period returns the period of a tick. It is a pure function.
	Period func(tick time.Time) (Period, error)
	// Window is how old a tick may be and still be run. It is above zero.
	Window time.Duration
	// Whole says that a run brings what earlier periods have missed too.
	Whole bool
}

// Status is why a period has a row without a run.
type Status string

// The statuses of a row without a run.
const (
	// Missed: there was something to do, and it will not be done.
	Missed Status = "missed"
	// NoSession: there was nothing to do.
	NoSession Status = "no_session"
)

// Row is a period that is to be journaled without a run.
type Row struct {
	Period string
	// Tick is the newest of the period.
	Tick   time.Time
	Status Status
	// Reason says why in words.
	Reason string
}

// Run is a period that is to be run.
type Run struct {
	Period string
	// Tick is the newest of the period.
	Tick time.Time
}

// Decision is what to do about a job now.
type Decision struct {
	// Run is the one period to run; nil if there is none.
	Run *Run
	// Rows are to be journaled, in ascending order of their ticks.
	Rows []Row
	// Settled is what to pass as settled the next time, once the rows are
	// written and the run is claimed. It can be before the one that was
	// passed, if that lay in the future.
	Settled time.Time
	// Next is the first tick after now: there is nothing to do before it.
	Next time.Time
	// Older is the number of ticks without a row, since they are older than
	// those of MostRows rows.
	Older int
	// Notes are for the log: a clock that was wrong, ticks without a row.
	Notes []string
}

// Due decides what to do at now.
//
// settled is the newest tick that the journal has settled for the job. With the
// zero Time, at the first start, and with one more than 25 hours after now,
// which a wrong clock has left, the ticks of the last j.Window are looked at.
//
// known reports whether the journal has a period, in whatever state: no period
// that it has is returned. It must leave out rows that were written at a time
// after now: a clock that was ahead has called periods missed that are still to
// come.
//
// At most one period is to be run: the newest that is not closed, if its tick
// is within the window and it is not known. An older one never runs after a
// newer one. An error is one of j.Period or of a Job that is not filled in.
func (j Job) Due(now, settled time.Time, known func(period string) bool) (Decision, error) {
	if j.Window <= 0 || j.Period == nil {
		return Decision{}, fmt.Errorf("schedule of %s: %w", j.Name, errors.New("a job needs Period, and a Window above zero"))
	}
	w := walk{Job: j, now: now, known: known, seen: make(map[string]bool)}
	from, believed := w.from(settled)
	tick := j.Schedule.Last(now)
	w.Next, w.Settled = j.Schedule.Next(now), tick
	if believed {
		w.Settled = later(tick, settled)
	}
	for tick.After(from) {
		before, err := w.visit(tick)
		if err != nil {
			return Decision{}, fmt.Errorf("schedule of %s: period of the tick at %s: %w", j.Name, tick.Format(time.RFC3339), err)
		}
		tick = j.Schedule.Last(before.Add(-1))
		if len(w.Rows) == MostRows {
			w.leave(from, before)
			break
		}
	}
	slices.Reverse(w.Rows)
	return w.Decision, nil
}

// walk goes through the ticks of a job from the newest to older ones.
type walk struct {
	Job
	Decision
	now   time.Time
	known func(string) bool
	seen  map[string]bool
	// newer is the newest period that is run or known, and not closed.
	newer string
}

// from returns the instant after which ticks are looked at: settled, if it is
// believed.
func (w *walk) from(settled time.Time) (from time.Time, believed bool) {
	lies := settled.Sub(w.now)
	if lies > ahead {
		w.note("the journal has settled a tick at %s, which is %s after now: a clock was wrong, or is; looking at the last %s instead",
			settled.Format(time.RFC3339), lies.Round(time.Second), w.Window)
	}
	if settled.IsZero() || lies > ahead {
		return w.now.Add(-w.Window), false
	}
	return settled, true
}

// visit decides about the period of tick, and returns an instant up to which
// all older ticks are of other periods.
func (w *walk) visit(tick time.Time) (before time.Time, err error) {
	p, err := w.Period(tick)
	if err != nil {
		return tick, err
	}
	if !w.seen[p.Name] {
		w.seen[p.Name] = true
		w.decide(p, tick)
	}
	if p.Since.IsZero() || p.Since.After(tick) {
		return tick, nil
	}
	return p.Since, nil
}

func (w *walk) decide(p Period, tick time.Time) {
	switch age := w.now.Sub(tick); {
	case w.known(p.Name):
		if p.Closed == "" && w.newer == "" {
			w.newer = p.Name
		}
	case p.Closed != "":
		w.row(p, tick, NoSession, p.Closed)
	case age > w.Window:
		w.row(p, tick, Missed, fmt.Sprintf("the worker was away for longer than %s", w.Window))
	case w.newer == "":
		w.newer = p.Name
		w.Run = &Run{Period: p.Name, Tick: tick}
	case w.Whole:
		w.row(p, tick, Missed, fmt.Sprintf("superseded by %s, whose run brings it too", w.newer))
	default:
		w.row(p, tick, Missed, fmt.Sprintf("superseded by %s: only the newest period is caught up with", w.newer))
	}
}

func (w *walk) row(p Period, tick time.Time, status Status, reason string) {
	w.Rows = append(w.Rows, Row{Period: p.Name, Tick: tick, Status: status, Reason: reason})
}

// leave counts the ticks in (from, before) as left out.
func (w *walk) leave(from, before time.Time) {
	if _, w.Older = w.Schedule.Ticks(from, before.Add(-1), 0); w.Older > 0 {
		w.note("%d ticks from %s on have no row, since %d newer periods have one",
			w.Older, w.Schedule.Next(from).Format(time.RFC3339), MostRows)
	}
}

func (w *walk) note(format string, args ...any) {
	w.Notes = append(w.Notes, fmt.Sprintf(format, args...))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// States of a period in the journal, beside [Running].
const (
	// Incomplete is a period that will be asked again.
	Incomplete = "incomplete"
	// Complete is a period of which all is stored.
	Complete = "complete"
	// NoSession is a period in which there is nothing to ask for.
	NoSession = "no_session"
	// Missed is a period whose time was over before anybody could run it.
	Missed = "missed"
	// GaveUp is a period that was not complete by its deadline.
	GaveUp = "gave_up"
)

// PeriodInfo is a row of ingest_periods, the journal: what has become of a
// period of a job.
type PeriodInfo struct {
	Job, Period string
	// State is [Running], [Incomplete] or one of the final states: [Complete],
	// [NoSession], [Missed] and [GaveUp].
	State string
	// Reason is for people. Without one, Running leaves that of the attempt
	// before.
	Reason string
	// Tick is when the period was due, in UTC; zero if no schedule says so.
	Tick time.Time
	// Noted is when the database learnt this; NotePeriod does not read it.
	Noted time.Time
	// RunID is the newest run that the state came from; 0 if none has.
	RunID int64
}

// CheckPeriod refuses what no journal can hold. A reason it can always hold, see
// [Text].
func CheckPeriod(p PeriodInfo) error {
	switch {
	case p.Job == "" || p.Period == "" || !isText(p.Job, p.Period):
		return fmt.Errorf("period %q of job %q: want two names", p.Period, p.Job)
	case !slices.Contains([]string{Running, Incomplete, Complete, NoSession, Missed, GaveUp}, p.State):
		return fmt.Errorf("%s %s: unknown state %q", p.Job, p.Period, p.State)
	case !p.Tick.IsZero() && !storable(market.DateOf(p.Tick.UTC())):
		return fmt.Errorf("%s %s: due %s: want a year of four digits", p.Job, p.Period, p.Tick)
	case p.RunID < 0:
		return fmt.Errorf("%s %s: there is no run %d", p.Job, p.Period, p.RunID)
	}
	return nil
}

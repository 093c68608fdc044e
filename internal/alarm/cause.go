package alarm

import (
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
)

// Kind is what kind of trouble an alarm is about.
type Kind string

// The kinds.
const (
	// StaleBars: bars of a session are not in after its deadline.
	StaleBars Kind = "stale_bars"
	// MissedPeriod: a period was due while no worker was there.
	MissedPeriod Kind = "missed_period"
	// GaveUpPeriod: a period was not complete when its time was over.
	GaveUpPeriod Kind = "gave_up_period"
	// ServerLost: the database or Redis does not answer.
	ServerLost Kind = "server_lost"
	// KeyRefused: a provider refuses the key or the request.
	KeyRefused Kind = "key_refused"
	// QuotaTooSmall: a period needs more calls than the limits allow in its
	// time.
	QuotaTooSmall Kind = "quota_too_small"
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{StaleBars, MissedPeriod, GaveUpPeriod, ServerLost, KeyRefused, QuotaTooSmall}
}

// Severity is "critical" for what keeps data away as long as nobody acts, else
// "warning".
func (k Kind) Severity() string {
	switch k {
	case StaleBars, ServerLost, KeyRefused:
		return "critical"
	case MissedPeriod, GaveUpPeriod, QuotaTooSmall:
	}
	return "warning"
}

// Hold is how long a cause of the kind has to last before it is told: restarts
// and short faults of a server heal by themselves, and so does a start after
// the deadline.
func (k Kind) Hold() time.Duration {
	switch k {
	case ServerLost:
		return 5 * time.Minute
	case StaleBars:
		return 15 * time.Minute
	case MissedPeriod, GaveUpPeriod, KeyRefused, QuotaTooSmall:
	}
	return 0
}

// Cause is one thing that is wrong now.
type Cause struct {
	Kind Kind `json:"-"`
	// Subject is what it is about: a job, a session, a server, a provider.
	Subject string `json:"subject"`
	// Since tells this trouble from another one of the same subject at another
	// time. All replicas that see it must come to the same one.
	Since string `json:"since,omitempty"`
	// Reason is for people, without secrets.
	Reason string `json:"reason"`
}

func (c Cause) key() string { return string(c.Kind) + "\x00" + c.Subject + "\x00" + c.Since }

// Losses are the periods of a job since its newest good one that came to
// nothing. See [Good].
type Losses struct {
	Missed, GaveUp int
	// away are the newest of Missed in a row: those before were another time.
	away int
	// ran says that a run was met before these.
	ran bool
	// The oldest of these and the newest row of each.
	firstAway, lastMissed, firstGaveUp, lastGaveUp store.PeriodInfo
}

// Good reports whether a period has all that can be had of it: it is complete, or
// was given up when only units were left of which no source has anything. One such
// symbol in a universe is no reason for an alarm each day.
func Good(p store.PeriodInfo) bool {
	return p.State == store.Complete || p.State == store.GaveUp && schedule.Settled(p.Reason)
}

// Lost counts, in rows of the journal of one job, the newest tick first. What
// was missed before the job has ever run is not counted: nobody was there to
// miss it.
func Lost(rows []store.PeriodInfo) Losses {
	var l Losses
	for i, row := range rows {
		switch {
		case Good(row):
			return l
		case row.State == store.GaveUp:
			l.gaveUp(row)
		case row.State == store.Missed && ranBefore(rows[i+1:]):
			l.missed(row)
		}
	}
	return l
}

func (l *Losses) gaveUp(row store.PeriodInfo) {
	if l.GaveUp++; l.GaveUp == 1 {
		l.lastGaveUp = row
	}
	l.firstGaveUp = row
	l.ran = l.Missed > 0
}

// missed counts a row. One with a run between it and a later one was missed another
// time.
func (l *Losses) missed(row store.PeriodInfo) {
	if l.Missed++; l.Missed == 1 {
		l.lastMissed = row
	}
	if !l.ran {
		l.firstAway = row
		l.away++
	}
}

func ranBefore(rows []store.PeriodInfo) bool {
	for _, row := range rows {
		if row.State != store.Missed && row.State != store.NoSession {
			return true
		}
	}
	return false
}

// Causes are the losses of a job in the form of alarms.
func (l Losses) Causes(job string) []Cause {
	var all []Cause
	if l.Missed > 0 {
		all = append(all, loss(MissedPeriod, job, l.away, l.firstAway, l.lastMissed))
	}
	if l.GaveUp > 0 {
		all = append(all, loss(GaveUpPeriod, job, l.GaveUp, l.firstGaveUp, l.lastGaveUp))
	}
	return all
}

func loss(kind Kind, job string, n int, first, last store.PeriodInfo) Cause {
	reason := fmt.Sprintf("%s: %s", last.Period, last.Reason)
	if n > 1 {
		reason = fmt.Sprintf("%d periods since %s; the newest is %s", n, first.Period, reason)
	}
	return Cause{Kind: kind, Subject: job, Since: first.Period, Reason: reason}
}

// Plan is what a period of a job costs and what the limits allow.
type Plan struct {
	Job string
	// Units is the size of the universe, Calls what a period of it needs,
	// Allowed what the limits let through until the next period.
	Units, Calls, Allowed int
}

// Ratio is above 1 if the period does not fit; 0 if nothing is allowed or
// needed.
func (p Plan) Ratio() float64 {
	if p.Allowed <= 0 {
		return 0
	}
	return float64(p.Calls) / float64(p.Allowed)
}

// Causes is one cause if the period does not fit, else none.
func (p Plan) Causes() []Cause {
	if p.Ratio() <= 1 {
		return nil
	}
	return []Cause{{
		Kind: QuotaTooSmall, Subject: p.Job, Since: fmt.Sprintf("%d of %d", p.Calls, p.Allowed),
		Reason: fmt.Sprintf("%d symbols need %d calls for each period, and the limits allow %d until the next: one period takes the time of %.1f",
			p.Units, p.Calls, p.Allowed, p.Ratio()),
	}}
}

package alarm

import (
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Deadlines say until when the bars of a session have to be stored. They are
// immutable and safe for concurrent use.
type Deadlines struct {
	Calendar *market.Calendar
	// Settle is how long after its close a session is final.
	Settle time.Duration
	// After is the time from there to the deadline; 0 means that the deadline is
	// the open of the next session.
	After time.Duration
}

// Of returns the deadline of a session. Its errors are those of the calendar.
func (d Deadlines) Of(session market.Date) (time.Time, error) {
	if d.After == 0 {
		next, err := d.Calendar.Next(session)
		if err != nil {
			return time.Time{}, err
		}
		s, _, err := d.Calendar.Session(next)
		return s.Open, err
	}
	s, open, err := d.Calendar.Session(session)
	if err != nil {
		return time.Time{}, err
	}
	if !open {
		return time.Time{}, fmt.Errorf("deadline of %s: no session", session)
	}
	return s.Close.Add(d.Settle + d.After), nil
}

// Due returns the newest session whose deadline is at now or before. It is the
// same all through weekends and holidays.
func (d Deadlines) Due(now time.Time) (session market.Date, deadline time.Time, err error) {
	session, err = d.Calendar.LastClosed(now, d.Settle)
	if err != nil {
		return 0, time.Time{}, err
	}
	for {
		if deadline, err = d.Of(session); err != nil || !deadline.After(now) {
			return session, deadline, err
		}
		if session, err = d.Calendar.Previous(session); err != nil {
			return 0, time.Time{}, err
		}
	}
}

// Bars counts the symbols of the universe by what is stored of a session.
type Bars struct {
	Session market.Date
	// In have a bar.
	In int
	// Excused have none, and no source has one: it has answered for the day
	// without a bar, or said for good that it cannot.
	Excused int
	// Missing have none, and there may be one.
	Missing int
}

// CountBars counts symbols. stored is what is known of their bars, final are
// those about which sources have said that asking again brings nothing.
func CountBars(session market.Date, symbols []market.Symbol, stored map[market.Symbol]market.BarCoverage, final map[market.Symbol]bool) Bars {
	b := Bars{Session: session}
	for _, symbol := range symbols {
		c := stored[symbol]
		switch {
		case c.Stored.Has(session):
			b.In++
		case c.Lost.Has(session):
			b.Missing++ // it was there, so there is one
		case final[symbol], c.AnsweredBy("").Has(session):
			b.Excused++
		default:
			b.Missing++
		}
	}
	return b
}

// OK reports whether the bars of the session are in: those of all symbols but
// the excused, of one at least. More excused symbols than bars are no excuse: then
// it is the source or its plan.
func (b Bars) OK() bool { return b.Missing == 0 && b.In > 0 && b.In >= b.Excused }

// String is "2026-03-12: 25 of 500 symbols are in, 475 are missing".
func (b Bars) String() string {
	text := fmt.Sprintf("%s: %d of %d symbols are in", b.Session, b.In, b.In+b.Excused+b.Missing)
	if b.Missing > 0 {
		text += fmt.Sprintf(", %d are missing", b.Missing)
	}
	if b.Excused > 0 {
		text += fmt.Sprintf(", of %d no source has a bar", b.Excused)
	}
	return text
}

// Healthy reports whether the bars of the newest session whose deadline has
// passed are in, and how they are. count is asked for that session; its error,
// and those of the calendar, are returned: then nobody knows.
func (d Deadlines) Healthy(now time.Time, count func(market.Date) (Bars, error)) (bool, Bars, error) {
	session, _, err := d.Due(now)
	if err != nil {
		return false, Bars{}, fmt.Errorf("which bars have to be in: %w", err)
	}
	b, err := count(session)
	if err != nil {
		return false, Bars{}, fmt.Errorf("count the bars of %s: %w", session, err)
	}
	return b.OK(), b, nil
}

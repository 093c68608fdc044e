package market

import "fmt"

// BarCoverage is what the ledger knows of the daily bars of one symbol, day by
// day.
type BarCoverage struct {
	// Stored are the dates of the bars.
	Stored Days
	// Answered are, for each source, the days about which it has answered:
	// of a session among them that has no bar, the source has none either.
	Answered map[string]Days
	// Lost are the dates of bars that were stored once, and whose rows were
	// found to be gone; those that were stored again since are still here.
	Lost Days
}

// AnsweredBy returns the days about which source has answered, or, for "", any
// source.
func (c BarCoverage) AnsweredBy(source string) Days {
	if source != "" {
		return c.Answered[source]
	}
	var all Days
	for _, days := range c.Answered {
		all = all.Union(days)
	}
	return all
}

// SessionState says what is known of one session of one symbol. The list is
// closed.
type SessionState string

// The states of a session.
const (
	// SessionStored: its bar is stored.
	SessionStored SessionState = "stored"
	// SessionNotListed: a source has answered and its first bar is a later
	// one. Final for that source.
	SessionNotListed SessionState = "not_listed"
	// SessionNoData: a source has answered and has bars before it, but none
	// of the session.
	SessionNoData SessionState = "no_data"
	// SessionLost: its bar was stored, and its row is gone.
	SessionLost SessionState = "lost"
	// SessionUnasked: no source was asked for it, or none has answered.
	SessionUnasked SessionState = "unasked"
)

// Gap is a range of sessions in a row, without a bar, that are in one state.
type Gap struct {
	// Range is from the first of the sessions to the last.
	Range    Range
	State    SessionState
	Sessions int
}

// State tells the state of a session.
func (c BarCoverage) State(session Date) SessionState {
	return c.states(c.AnsweredBy(""), c.Stored.First())(session)
}

func (c BarCoverage) states(answered Days, listed Date) func(Date) SessionState {
	return func(session Date) SessionState {
		switch {
		case c.Stored.Has(session):
			return SessionStored
		case c.Lost.Has(session):
			return SessionLost
		case !answered.Has(session):
			return SessionUnasked
		case session < listed || listed.IsZero():
			return SessionNotListed
		}
		return SessionNoData
	}
}

// Gaps returns those of sessions that have no bar, in ascending order: sessions
// that follow each other in the set, in one state, are one gap.
func (c BarCoverage) Gaps(sessions Days) []Gap {
	missing := sessions.Minus(c.Stored)
	if missing.Len() == 0 {
		return nil
	}
	state := c.states(c.AnsweredBy(""), c.Stored.First())
	var gaps []Gap
	last := Date(0)
	for session := range sessions.And(DaysIn(missing.Hull())).All() {
		if !missing.Has(session) {
			last = session
			continue
		}
		s, n := state(session), len(gaps)
		if n > 0 && gaps[n-1].State == s && gaps[n-1].Range.To == last {
			gaps[n-1].Range.To, gaps[n-1].Sessions = session, gaps[n-1].Sessions+1
		} else {
			gaps = append(gaps, Gap{Range: Range{From: session, To: session}, State: s, Sessions: 1})
		}
		last = session
	}
	return gaps
}

// SessionDays returns the sessions between two dates, both included, as a set.
func (c *Calendar) SessionDays(r Range) (Days, error) {
	sessions, err := c.Sessions(r.From, r.To)
	if err != nil {
		return Days{}, err
	}
	var d Days
	for _, s := range sessions {
		d.Add(s)
	}
	return d, nil
}

// RebasedError refuses bars that would leave a series on two bases: many of the
// stored bars that they were compared with have other values now, as after a
// split, and bars that are not among them are stored too. The remedy is to save
// all of Stored at once.
type RebasedError struct {
	Symbol Symbol
	// Changed of Compared stored bars have a close, or an adjusted close, that
	// differs by more than a tick.
	Changed, Compared int
	// Ratio is the new close through the old one, of the oldest bar of those.
	Ratio float64
	// Stored is from the oldest stored bar of the symbol to the newest.
	Stored Range
}

// Error names the symbol, what changed and the remedy.
func (e *RebasedError) Error() string {
	return fmt.Sprintf("%s: %d of %d stored bars have other values now (the oldest times %.4g), as after a split, and others are stored from %s on: "+
		"nothing of the answer is stored before all of them are read again", e.Symbol, e.Changed, e.Compared, e.Ratio, e.Stored.From)
}

// Outcome returns the outcome class that the error puts a symbol in.
func (e *RebasedError) Outcome() string { return "bad_payload" }

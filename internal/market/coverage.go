package market

import (
	"fmt"
	"math/bits"
)

// LateSessions is for how many sessions a source may still come to have a bar
// that it lacks. Of an older session it will have none.
const LateSessions = 10

// BarCoverage is what the ledger knows of the daily bars of one symbol, day by
// day.
type BarCoverage struct {
	// Stored are the dates of the bars.
	Stored Days
	// Answered are, for each source, the days about which it has answered:
	// of a session among them that has no bar, the source has none either.
	Answered map[string]Days
	// Lost are the dates of bars that were stored once, and whose rows were
	// found to be gone; those that were stored again since are still here. An
	// answer that was given before the row was gone is not among Answered.
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

// Known returns the first day about which anything is known; the zero Date if
// nothing is.
func (c BarCoverage) Known() Date {
	first := c.Stored.First()
	for _, days := range []Days{c.AnsweredBy(""), c.Lost} {
		if d := days.First(); !d.IsZero() && (first.IsZero() || d < first) {
			first = d
		}
	}
	return first
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
	// SessionLost: its bar was stored, its row is gone, and no source has
	// answered since.
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
	listed := c.Stored.First()
	switch {
	case c.Stored.Has(session):
		return SessionStored
	case !c.AnsweredBy("").Has(session):
		if c.Lost.Has(session) {
			return SessionLost
		}
		return SessionUnasked
	case session < listed || listed.IsZero():
		return SessionNotListed
	}
	return SessionNoData
}

// Gaps returns those of sessions that have no bar, in ascending order: sessions
// that follow each other in the set, in one state, are one gap.
func (c BarCoverage) Gaps(sessions Days) []Gap {
	var g gaps
	answered, listed := c.AnsweredBy(""), c.Stored.First()
	for year, days := range sessions.Years() {
		stored, lost, asked := c.Stored.Of(year), c.Lost.Of(year), answered.Of(year)
		start := newYear(year)
		for w, all := range days {
			if all&^stored[w] == 0 { // as nearly everywhere
				g.open = g.open && all == 0
				continue
			}
			first := start + Date(64*w)
			g.add(first, all, split(stored[w], lost[w], asked[w], before(listed, first)))
		}
	}
	return g.found
}

// before returns a word whose bits of the days before listed are set, from
// first on; all of them if there is no such day.
func before(listed, first Date) uint64 {
	if listed.IsZero() {
		return ^uint64(0)
	}
	return ones(0, int(listed-first)-1)
}

// states are 64 days in each state, in the order of stateNames.
type states [5]uint64

func stateNames() [5]SessionState {
	return [...]SessionState{SessionStored, SessionLost, SessionUnasked, SessionNotListed, SessionNoData}
}

// split puts each day into its state, as State does.
func split(stored, lost, answered, before uint64) states {
	missing, unknown := answered&^stored, ^(stored | answered)
	return states{stored, unknown & lost, unknown &^ lost, missing & before, missing &^ before}
}

// gaps finds gaps, 64 days at a time.
type gaps struct {
	found []Gap
	open  bool // the last session is in the last gap
}

// add goes on with the sessions of the 64 days from first on.
func (g *gaps) add(first Date, sessions uint64, in states) {
	for rest := sessions; rest != 0; {
		state := 0
		for in[state]&rest&-rest == 0 {
			state++
		}
		others := rest &^ in[state]
		run := rest & (others&-others - 1) // up to the first of another state
		rest &^= run
		if state == 0 {
			g.open = false
			continue
		}
		g.extend(Gap{
			Range: Range{From: first + Date(bits.TrailingZeros64(run)), To: first + Date(bits.Len64(run)-1)},
			State: stateNames()[state], Sessions: bits.OnesCount64(run),
		})
	}
}

// extend adds a gap, to the last one if no session lies between them.
func (g *gaps) extend(next Gap) {
	if n := len(g.found); g.open && g.found[n-1].State == next.State {
		g.found[n-1].Range.To = next.Range.To
		g.found[n-1].Sessions += next.Sessions
	} else {
		g.found = append(g.found, next)
	}
	g.open = true
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

// HeldBy reports whether the whole history of the source, which is from the
// first date of r to the last, holds all stored bars that can be in it: those of
// sessions through the newest one that is final.
//
// The error is an [*UnknownYearError].
func (e *RebasedError) HeldBy(r Range, through Date, cal *Calendar) (bool, error) {
	known := cal.Known()
	for _, out := range []Range{
		{From: max(e.Stored.From, known.From), To: min(r.From-1, e.Stored.To)},
		{From: max(r.To+1, e.Stored.From), To: min(e.Stored.To, through)},
	} {
		if out.To < out.From {
			continue
		}
		if sessions, err := cal.Sessions(out.From, out.To); err != nil || len(sessions) > 0 {
			return false, err
		}
	}
	return true, nil
}

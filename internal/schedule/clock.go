package schedule

import (
	"iter"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// reading is what a clock on the wall shows, date and all: the Unix time at
// which a clock in UTC shows the same.
type reading int64

const (
	minute = 60
	day    = 24 * 60 * minute

	// widest bounds how far a zone is from UTC, in seconds. The real ones of
	// all times stay below 16 hours.
	widest = 26 * 60 * minute
)

func (r reading) date() market.Date { return market.DateOf(r.utc()) }
func (r reading) utc() time.Time    { return time.Unix(int64(r), 0).UTC() }
func midnight(d market.Date) reading {
	return reading(d.Time().Unix())
}

// at returns what the clock of t's zone shows at t, in whole seconds.
func at(t time.Time) reading {
	_, offset := t.Zone()
	return reading(t.Unix() + int64(offset))
}

// nextBound returns an instant after t up to which the offset of t's zone is
// that of t; it need not change there. ok is false if it never changes again.
func nextBound(t time.Time) (bound time.Time, ok bool) {
	_, bound = t.ZoneBounds()
	switch {
	case bound.IsZero():
		return bound, false
	case !bound.After(t):
		// Past the end of a zone's table, time takes each year to have 365
		// days: on 31 December of a leap year the bound is a day ago.
		return t.Add(day * time.Second), true
	}
	return bound, true
}

// bounds yields the instants in (from, to] at which the offset of from's zone
// may change.
func bounds(from, to time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		for t, ok := nextBound(from); ok && !t.After(to); t, ok = nextBound(t) {
			if !yield(t) {
				return
			}
		}
	}
}

// reached returns the latest reading that the clock of t's zone has shown at t
// or before. It is that of t, except while the clock repeats itself.
func reached(t time.Time) reading {
	latest := at(t)
	for bound := range bounds(t.Add(-2*widest*time.Second), t) {
		latest = max(latest, at(bound.Add(-time.Second)))
	}
	return latest
}

// first returns the instant at which the clock of zone first shows r or a later
// reading.
func first(r reading, zone *time.Location) time.Time {
	t := time.Unix(int64(r)-widest, 0).In(zone)
	for {
		_, offset := t.Zone()
		shown := time.Unix(int64(r)-int64(offset), 0).In(zone)
		bound, ok := nextBound(t)
		switch {
		case shown.Before(t): // the clock jumped over r at t
			return t
		case !ok || shown.Before(bound):
			return shown
		}
		t = bound
	}
}

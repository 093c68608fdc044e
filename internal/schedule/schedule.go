package schedule

import (
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// star is the bit that cron sets in a field that begins with an asterisk.
const star = 1 << 63

// horizon is how many days a match is looked for: 29 February can be eight
// years away, as from 2096.
const horizon = 9 * 366

// Schedule is a cron spec in a zone, made by [Parse]; the zero Schedule never
// ticks. It is immutable and safe for concurrent use.
type Schedule struct {
	spec string
	zone *time.Location
	// minutes are those of a day that match, in ascending order.
	minutes []int
	// The bit n stands for the day n of the month, the month n, the weekday
	// n with Sunday as 0; and star.
	days, months, weekdays uint64
}

// String returns the spec and the zone as they were given, as in
// "30 18 * * 1-5 America/New_York"; "" for the zero Schedule.
func (s Schedule) String() string {
	if s.zone == nil {
		return ""
	}
	return s.spec + " " + s.zone.String()
}

// Zone returns the zone of the schedule; nil for the zero Schedule.
func (s Schedule) Zone() *time.Location { return s.zone }

// Next returns the first tick after t, in the zone of the schedule; the zero
// Time for the zero Schedule.
func (s Schedule) Next(t time.Time) time.Time {
	if s.zone == nil {
		return time.Time{}
	}
	r, ok := s.after(reached(t.In(s.zone)))
	if !ok {
		return time.Time{}
	}
	return first(r, s.zone)
}

// Last returns the newest tick at t or before, in the zone of the schedule; the
// zero Time for the zero Schedule.
func (s Schedule) Last(t time.Time) time.Time {
	if s.zone == nil {
		return time.Time{}
	}
	r, ok := s.through(reached(t.In(s.zone)))
	if !ok {
		return time.Time{}
	}
	return first(r, s.zone)
}

// Ticks returns the newest ticks in (from, to], in ascending order and at most
// most of them; older is the number of those left out. Those are counted by
// days, not one by one.
func (s Schedule) Ticks(from, to time.Time, most int) (ticks []time.Time, older int) {
	for t := s.Last(to); t.After(from) && len(ticks) < most; t = s.Last(t.Add(-1)) {
		ticks = append(ticks, t)
	}
	slices.Reverse(ticks)
	return ticks, s.count(from, to) - len(ticks)
}

// count returns the number of ticks in (from, to].
func (s Schedule) count(from, to time.Time) int {
	if s.zone == nil {
		return 0
	}
	from, to = from.In(s.zone), to.In(s.zone)
	n := s.matches(reached(from), reached(to))
	for bound := range bounds(from, to) {
		// What the clock leaves out ticks at once, in one tick.
		n -= max(0, s.matches(reached(bound.Add(-time.Second)), at(bound))-1)
	}
	return n
}

// matches returns the number of matched readings in (after, through].
func (s Schedule) matches(after, through reading) int {
	if through <= after {
		return 0
	}
	n := s.onDay(through) - s.onDay(after)
	for d := after.date(); d < through.date(); d++ {
		if s.fits(d) {
			n += len(s.minutes)
		}
	}
	return n
}

// onDay returns the number of matched readings of r's day up to r.
func (s Schedule) onDay(r reading) int {
	if !s.fits(r.date()) {
		return 0
	}
	return s.index(r)
}

// index returns how many of the minutes of the day are at r or before.
func (s Schedule) index(r reading) int {
	i, _ := slices.BinarySearch(s.minutes, int(r-midnight(r.date()))/minute+1)
	return i
}

// after returns the first matched reading after r.
func (s Schedule) after(r reading) (reading, bool) {
	d := r.date()
	if i := s.index(r); i < len(s.minutes) && s.fits(d) {
		return s.reading(d, i), true
	}
	for range horizon {
		if d++; s.fits(d) {
			return s.reading(d, 0), true
		}
	}
	return 0, false
}

// through returns the last matched reading at r or before.
func (s Schedule) through(r reading) (reading, bool) {
	d := r.date()
	if i := s.index(r); i > 0 && s.fits(d) {
		return s.reading(d, i-1), true
	}
	for range horizon {
		if d--; s.fits(d) {
			return s.reading(d, len(s.minutes)-1), true
		}
	}
	return 0, false
}

// reading returns that of the minute with index i on d.
func (s Schedule) reading(d market.Date, i int) reading {
	return midnight(d) + reading(s.minutes[i]*minute)
}

// fits reports whether the spec matches on d. As everywhere in cron, a day of
// the month and a weekday that are both given are alternatives.
func (s Schedule) fits(d market.Date) bool {
	_, month, n := d.Time().Date()
	if s.months&(1<<month) == 0 {
		return false
	}
	ofMonth, ofWeek := s.days&(1<<n) != 0, s.weekdays&(1<<d.Weekday()) != 0
	if s.either() {
		return ofMonth || ofWeek
	}
	return ofMonth && ofWeek
}

func (s Schedule) either() bool { return (s.days|s.weekdays)&star == 0 }

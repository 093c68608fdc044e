package schedule

import (
	"fmt"
	"time"
)

// foresight is how far ahead [Schedule.Notes] looks, in days: twelve years, in
// which every date meets the Sunday on which the clocks change.
const foresight = 12 * 366

// Notes explains what may surprise about the schedule, for a log at the start:
// the next times after from that do not exist or occur twice, since the clocks
// change, with what happens then; and a day of the month together with a day of
// the week. It is empty for most schedules.
func (s Schedule) Notes(from time.Time) []string {
	if s.zone == nil {
		return nil
	}
	var notes []string
	if s.either() {
		notes = append(notes, fmt.Sprintf("%s: a day of the month and a day of the week are both given: "+
			"it fires on each day that fits one of them, not only on those that fit both", s))
	}
	var gap, fold string
	from = from.In(s.zone)
	for bound := range bounds(from, from.AddDate(0, 0, foresight)) {
		before, after := reached(bound.Add(-time.Second))+1, at(bound)
		switch {
		case gap == "" && s.matches(before-1, after-1) > 0:
			gap = fmt.Sprintf("%s: %s in %s, when the clocks go from %s forward to %s: it fires once, at the end of the gap",
				s, s.among(before, after, "does not exist", "do not exist"), s.zone, clock(before), clock(after))
		case fold == "" && s.matches(after-1, before-1) > 0:
			fold = fmt.Sprintf("%s: %s in %s, when the clocks go from %s back to %s: it fires the first time only",
				s, s.among(after, before, "occurs twice", "occur twice"), s.zone, clock(before), clock(after))
		}
	}
	for _, note := range [...]string{gap, fold} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

// among names the matched readings in [from, to): "02:30 does not exist on
// 2026-03-08".
func (s Schedule) among(from, to reading, one, many string) string {
	r, _ := s.after(from - 1)
	if n := s.matches(from-1, to-1); n > 1 {
		last, _ := s.through(to - 1)
		return fmt.Sprintf("%s to %s (%d times of it) %s on %s", clock(r), clock(last), n, many, r.date())
	}
	return fmt.Sprintf("%s %s on %s", clock(r), one, r.date())
}

func clock(r reading) string { return r.utc().Format("15:04") }

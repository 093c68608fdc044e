package market

import "time"

// filingsEnd is the hour in New York until which the SEC takes Forms 3, 4 and
// 5 for the same day (Regulation S-T, Rule 13(a)(4)).
const filingsEnd = 22

// FilingsComplete returns the instant from which the reports of insiders that
// bear the date d are all in: 22:00 in New York. The index of the day is written
// after it; until then its absence says nothing.
func FilingsComplete(d Date) time.Time { return d.In(NewYork(), filingsEnd, 0) }

// TakesFilings reports whether the SEC takes filings on d: on weekdays but for
// the federal holidays, which are not those of the exchange. On Good Friday it
// does; on Columbus Day and Veterans Day it does not. Days that the President
// closes the offices for are not known here, so a missing index of such a day
// is no proof of a fault.
func TakesFilings(d Date) bool {
	if isWeekend(d) {
		return false
	}
	// A holiday on a Saturday is kept on the Friday before it, one on a Sunday
	// on the Monday after it.
	return !isFederalHoliday(d) &&
		!(d.Weekday() == time.Friday && isFederalHoliday(d+1)) &&
		!(d.Weekday() == time.Monday && isFederalHoliday(d-1))
}

// isFederalHoliday knows the days of 5 U.S.C. 6103(a) themselves, not the days
// on which those on a weekend are kept.
func isFederalHoliday(d Date) bool {
	year, month, day := d.Time().Date()
	nth := (day-1)/7 + 1
	monday := d.Weekday() == time.Monday
	switch month {
	case time.January:
		return day == 1 || monday && nth == 3 && year >= 1986
	case time.February:
		return monday && nth == 3
	case time.May:
		return monday && day > 24
	case time.June:
		return day == 19 && year >= 2021
	case time.July:
		return day == 4
	case time.September:
		return monday && nth == 1
	case time.October:
		return monday && nth == 2
	case time.November:
		return day == 11 || d.Weekday() == time.Thursday && nth == 4
	case time.December:
		return day == 25
	}
	return false
}

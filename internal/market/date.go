package market

import (
	"fmt"
	"time"
)

// Date is a civil date: no clock, no zone. Its number is the proleptic
// Gregorian ordinal, as Python's date.toordinal() gives it, so 0001-01-01 is 1
// and the zero Date means "no date". Dates compare and subtract as numbers:
// a < b, b - a is in days.
type Date int32

// unixOrdinal is the ordinal of 1970-01-01.
const unixOrdinal = 719163

const secondsPerDay = 24 * 60 * 60

// NewDate returns the date of a year, month and day, normalised as
// [time.Date] does: 2026-02-29 becomes 2026-03-01.
func NewDate(year int, month time.Month, day int) Date {
	return DateOf(time.Date(year, month, day, 0, 0, 0, 0, time.UTC))
}

// DateOf returns the date of t in t's own zone.
func DateOf(t time.Time) Date {
	_, offset := t.Zone()
	days, rest := (t.Unix()+int64(offset))/secondsPerDay, (t.Unix()+int64(offset))%secondsPerDay
	if rest < 0 {
		days--
	}
	return Date(days + unixOrdinal)
}

// ParseDate reads a date in the form 2006-01-02 and in no other. The first one
// is 0001-01-01.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Year() < 1 {
		return 0, fmt.Errorf("date %s: want a calendar date as YYYY-MM-DD, such as 2026-03-12", quote(s))
	}
	return DateOf(t), nil
}

// Time returns the date's midnight in UTC, which is a daily bar's timestamp in
// the database.
func (d Date) Time() time.Time {
	return time.Unix((int64(d)-unixOrdinal)*secondsPerDay, 0).UTC()
}

// In returns the instant at which the date's wall clock in loc shows hour and
// minute.
func (d Date) In(loc *time.Location, hour, minute int) time.Time {
	y, m, day := d.Time().Date()
	return time.Date(y, m, day, hour, minute, 0, 0, loc)
}

// Year returns the calendar year.
func (d Date) Year() int { return d.Time().Year() }

// Weekday returns the day of the week.
func (d Date) Weekday() time.Weekday { return d.Time().Weekday() }

// IsZero reports whether d is "no date".
func (d Date) IsZero() bool { return d == 0 }

// String returns the date as 2006-01-02, and "" for the zero Date.
func (d Date) String() string {
	if d == 0 {
		return ""
	}
	return d.Time().Format(time.DateOnly)
}

// MarshalText implements [encoding.TextMarshaler].
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Date) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = 0
		return nil
	}
	parsed, err := ParseDate(string(text))
	*d = parsed
	return err
}

// Range is an inclusive range of dates.
type Range struct {
	From, To Date
}

// Contains reports whether d lies in the range.
func (r Range) Contains(d Date) bool { return r.From <= d && d <= r.To }

// String returns the range as "2026-01-02..2026-03-12".
func (r Range) String() string { return r.From.String() + ".." + r.To.String() }

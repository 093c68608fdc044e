package market

import (
	"fmt"
	"time"
)

// Week is an ISO-8601 week: it begins on Monday and belongs to the year that
// its Thursday lies in, so 2027-01-02 is in week 53 of 2026. Weeks compare
// with ==; the zero Week means "no week".
type Week struct {
	Year, Number int
}

// WeekOf returns the week that d lies in.
func WeekOf(d Date) Week {
	if d.IsZero() {
		return Week{}
	}
	year, number := d.Time().ISOWeek()
	return Week{Year: year, Number: number}
}

// ParseWeek reads a week in the form 2026-W11 and in no other. Week 53 is
// accepted only for a year that has one.
func ParseWeek(s string) (Week, error) {
	var w Week
	if len(s) == len("2026-W11") && s[4:6] == "-W" {
		year, okYear := parseDigits(s[:4])
		number, okNumber := parseDigits(s[6:])
		if okYear && okNumber {
			w = Week{Year: year, Number: number}
		}
	}
	switch {
	case w.Year < 1 || w.Number < 1 || w.Number > 53:
		return Week{}, fmt.Errorf("week %s: want an ISO week as YYYY-Www, such as 2026-W11", quote(s))
	case WeekOf(w.Monday()) != w:
		return Week{}, fmt.Errorf("week %s: %d has 52 weeks: write %v", quote(s), w.Year, WeekOf(w.Monday()))
	}
	return w, nil
}

// parseDigits reads a short run of digits; [strconv.Atoi] would take a sign.
func parseDigits(s string) (n int, ok bool) {
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	return n, true
}

// Monday returns the first day of the week; the zero Date for the zero Week.
func (w Week) Monday() Date {
	if w == (Week{}) {
		return 0
	}
	// 4 January always lies in week 1.
	fourth := NewDate(w.Year, time.January, 4)
	first := fourth - (Date(fourth.Weekday())+6)%7
	return first + Date(7*(w.Number-1))
}

// String returns the week as 2026-W11, and "" for the zero Week.
func (w Week) String() string {
	if w == (Week{}) {
		return ""
	}
	return fmt.Sprintf("%04d-W%02d", w.Year, w.Number)
}

// MarshalText implements [encoding.TextMarshaler].
func (w Week) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (w *Week) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*w = Week{}
		return nil
	}
	parsed, err := ParseWeek(string(text))
	*w = parsed
	return err
}

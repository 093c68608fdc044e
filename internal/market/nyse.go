package market

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// The years for which the rules below hold, as far as they are announced or
// known. Check [NYSE] holidays of coming years against the exchange's page
// when you move the end.
const (
	firstYear = 1990
	lastYear  = 2035
)

// nyseDays holds the days that no rule gives.
//
//go:embed nyse.csv
var nyseDays string

// nyse is built at first use; a [Calendar] never changes.
var nyse = sync.OnceValue(func() *Calendar {
	c, err := newCalendar(nyseDays)
	if err != nil {
		panic("market: the list of days in this program: " + err.Error())
	}
	return c
})

// NYSE returns the calendar of the New York Stock Exchange from 1990 to 2035:
// the exchange's rules for holidays and early closes, and the single days that
// no rule gives, such as days of mourning. Halts during a session are not in
// it.
func NYSE() *Calendar { return nyse() }

// newCalendar applies the rules, then the days of the list.
func newCalendar(list string) (*Calendar, error) {
	first, last := NewDate(firstYear, time.January, 1), NewDate(lastYear, time.December, 31)
	c := &Calendar{first: first, days: make([]*hours, last-first+1)}
	regular, weekend := &hours{open: regularOpen, close: regularClose}, &hours{closed: "weekend"}
	for d := first; d <= last; d++ {
		c.days[d-first] = regular
		if isWeekend(d) {
			c.days[d-first] = weekend
		}
	}
	for year := firstYear; year <= lastYear; year++ {
		c.addYear(year)
	}
	return c, c.addList(list)
}

func isWeekend(d Date) bool { return d.Weekday() == time.Saturday || d.Weekday() == time.Sunday }

func (c *Calendar) addYear(year int) {
	for _, h := range holidays(year) {
		if !isWeekend(h.date) {
			c.days[h.date-c.first] = &hours{closed: h.name}
		}
	}
	for _, d := range earlyCloses(year) {
		if h := c.days[d-c.first]; h.closed == "" {
			c.days[d-c.first] = &hours{open: regularOpen, close: earlyClose(d)}
		}
	}
}

type holiday struct {
	name string
	date Date
}

// holidays returns the days on which the exchange is closed by rule, on
// weekends too.
func holidays(year int) []holiday {
	days := []holiday{
		{"New Year's Day", newYearsDay(year)},
		{"Washington's Birthday", nthWeekday(year, time.February, time.Monday, 3)},
		{"Good Friday", easter(year) - 2},
		{"Memorial Day", nthWeekday(year, time.June, time.Monday, 1) - 7},
		{"Independence Day", observed(NewDate(year, time.July, 4))},
		{"Labor Day", nthWeekday(year, time.September, time.Monday, 1)},
		{"Thanksgiving Day", thanksgiving(year)},
		{"Christmas Day", observed(NewDate(year, time.December, 25))},
	}
	if year >= 1998 {
		days = append(days, holiday{"Martin Luther King Jr. Day", nthWeekday(year, time.January, time.Monday, 3)})
	}
	if year >= 2022 {
		days = append(days, holiday{"Juneteenth", observed(NewDate(year, time.June, 19))})
	}
	return days
}

// observed moves a holiday from Saturday to Friday and from Sunday to Monday.
func observed(d Date) Date {
	switch d.Weekday() {
	case time.Saturday:
		return d - 1
	case time.Sunday:
		return d + 1
	default:
		return d
	}
}

// newYearsDay moves from Sunday only: the exchange does not close on the last
// business day of a year.
func newYearsDay(year int) Date {
	d := NewDate(year, time.January, 1)
	if d.Weekday() == time.Sunday {
		d++
	}
	return d
}

func thanksgiving(year int) Date { return nthWeekday(year, time.November, time.Thursday, 4) }

// nthWeekday returns the n-th such weekday of a month, n from 1.
func nthWeekday(year int, month time.Month, day time.Weekday, n int) Date {
	first := NewDate(year, month, 1)
	ahead := (day - first.Weekday() + 7) % 7
	return first + Date(ahead) + Date(7*(n-1))
}

// easter returns Easter Sunday of the Gregorian calendar by the method of
// Meeus, Jones and Butcher.
func easter(year int) Date {
	golden, century, rest := year%19, year/100, year%100
	moon := (century - (century+8)/25 + 1) / 3
	epact := (19*golden + century - century/4 - moon + 15) % 30
	sunday := (32 + 2*(century%4) + 2*(rest/4) - epact - rest%4) % 7
	late := (golden + 11*epact + 22*sunday) / 451
	n := epact + sunday - 7*late + 114
	return NewDate(year, time.Month(n/31), n%31+1)
}

// earlyCloses returns the days on which the exchange closes early by rule,
// unless it is closed: the day after Thanksgiving, Christmas Eve, and the eve
// of Independence Day, on a Wednesday only from 2013 (the exchange took the
// Friday after the holiday before, see the list).
func earlyCloses(year int) []Date {
	days := []Date{NewDate(year, time.December, 24)}
	if year >= 1992 {
		days = append(days, thanksgiving(year)+1)
	}
	eve := NewDate(year, time.July, 3)
	if year >= 2013 || year >= 1995 && eve.Weekday() != time.Wednesday {
		days = append(days, eve)
	}
	return days
}

// earlyClose returns the minute of an early close: 14:00 until 1992, 13:00
// since.
func earlyClose(d Date) int {
	if d.Year() <= 1992 {
		return 14 * 60
	}
	return 13 * 60
}

// addList reads lines of date, "closed" or HH:MM-HH:MM, and reason.
func (c *Calendar) addList(list string) error {
	r := csv.NewReader(strings.NewReader(list))
	r.Comment = '#'
	r.FieldsPerRecord = 3
	records, err := r.ReadAll()
	if err != nil {
		return err
	}
	for _, record := range records {
		if err := c.addDay(record[0], record[1], record[2]); err != nil {
			return fmt.Errorf("day %s: %w", record[0], err)
		}
	}
	return nil
}

func (c *Calendar) addDay(date, what, reason string) error {
	d, err := ParseDate(date)
	if err != nil {
		return err
	}
	old, err := c.day(d)
	switch {
	case err != nil:
		return err
	case *old != hours{open: regularOpen, close: regularClose}:
		return fmt.Errorf("no regular session without this line: %+v", *old)
	case reason == "":
		return errors.New("a reason is missing")
	case what == "closed":
		c.days[d-c.first] = &hours{closed: reason}
		return nil
	}
	h, err := parseHours(what)
	c.days[d-c.first] = &h
	return err
}

// parseHours reads HH:MM-HH:MM.
func parseHours(s string) (hours, error) {
	from, to, _ := strings.Cut(s, "-")
	open, errOpen := time.Parse("15:04", from)
	shut, errShut := time.Parse("15:04", to)
	if errOpen != nil || errShut != nil || !open.Before(shut) {
		return hours{}, fmt.Errorf("hours %q: want closed, or hours such as 09:30-13:00", s)
	}
	return hours{open: minutes(open), close: minutes(shut)}, nil
}

func minutes(t time.Time) int { return t.Hour()*60 + t.Minute() }

package market

import (
	"fmt"
	"slices"
	"time"
)

// Short interest is counted on two settlement dates a month. FINRA's members
// report it until 18:00 in New York of the second business day after, and
// FINRA publishes it after 16:00 of the seventh.
const (
	dueAfter, dueHour         = 2, 18
	publishAfter, publishHour = 7, 16
)

// Settlements returns the dates between two dates, both included, for which
// short interest is reported, in ascending order: in each month the 15th, or
// the last business day before it, and the last business day. There are none
// if to is before from.
//
// A business day is one on which the exchange is open and banks are too, since
// nothing settles without them: they are closed on Columbus Day and Veterans
// Day besides. The error is an [*UnknownYearError].
func (c *Calendar) Settlements(from, to Date) ([]Date, error) {
	var all []Date
	if from > to {
		return nil, nil
	}
	for first := firstOfMonth(from); first <= to; first = firstOfMonth(first + 31) {
		for _, latest := range [...]Date{first + 14, firstOfMonth(first+31) - 1} {
			d, err := c.businessDay(latest)
			if err != nil {
				return nil, err
			}
			if from <= d && d <= to {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

func firstOfMonth(d Date) Date {
	year, month, _ := d.Time().Date()
	return NewDate(year, month, 1)
}

// businessDay returns the last business day that is not after d.
func (c *Calendar) businessDay(d Date) (Date, error) {
	for ; ; d-- {
		if is, err := c.isBusinessDay(d); is || err != nil {
			return dateUnless(d, err)
		}
	}
}

func (c *Calendar) isBusinessDay(d Date) (bool, error) {
	open, err := c.IsSession(d)
	return open && !isBankHoliday(d), err
}

// isBankHoliday knows the days on which banks are closed and the exchange is
// open. That a holiday on a Sunday is made up for on the Monday does not matter:
// by 12 November, what was settled in October is out.
func isBankHoliday(d Date) bool {
	return d == NewDate(d.Year(), time.November, 11) || d == nthWeekday(d.Year(), time.October, time.Monday, 2)
}

// DueAt returns until when members must report the short interest of a
// settlement date. Another date is an error that names those of its month; near
// the end of the calendar it is an [*UnknownYearError].
func (c *Calendar) DueAt(settlement Date) (time.Time, error) {
	return c.afterSettlement(settlement, dueAfter, dueHour)
}

// PublishedAt returns when the short interest of a settlement date is to be
// published, in the zone of the exchange. FINRA can be late: what is out, its
// partitions say. The errors are those of [Calendar.DueAt].
func (c *Calendar) PublishedAt(settlement Date) (time.Time, error) {
	return c.afterSettlement(settlement, publishAfter, publishHour)
}

// afterSettlement returns the full hour in New York on the n-th business day
// after a settlement date.
func (c *Calendar) afterSettlement(settlement Date, n, hour int) (time.Time, error) {
	first := firstOfMonth(settlement)
	known, err := c.Settlements(first, firstOfMonth(first+31)-1)
	if err != nil {
		return time.Time{}, err
	}
	if !slices.Contains(known, settlement) {
		return time.Time{}, fmt.Errorf("%v is no settlement date of short interest: those of its month are %v", settlement, known)
	}
	d := settlement
	for n > 0 {
		d++
		is, err := c.isBusinessDay(d)
		if err != nil {
			return time.Time{}, err
		}
		if is {
			n--
		}
	}
	return d.In(NewYork(), hour, 0), nil
}

// LastPublished returns the newest settlement date whose short interest is to
// be published at now or before. The zone of now does not matter.
func (c *Calendar) LastPublished(now time.Time) (Date, error) {
	today := DateOf(now.In(NewYork()))
	known, err := c.Settlements(today-62, today)
	for i := len(known) - 1; i >= 0 && err == nil; i-- {
		var at time.Time
		if at, err = c.PublishedAt(known[i]); err == nil && !at.After(now) {
			return known[i], nil
		}
	}
	if err == nil {
		err = fmt.Errorf("trading calendar: no settlement date in the two months before %v", today)
	}
	return 0, err
}

package market

import (
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // an image without zone files must not move a session by hours
)

// newYork is read once; a [time.Location] never changes.
var newYork = sync.OnceValue(func() *time.Location {
	loc, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic("market: zone data is linked into this program: " + err.Error())
	}
	return loc
})

// NewYork returns the zone of the exchange, in which a session has its date.
func NewYork() *time.Location { return newYork() }

// Session is one trading day.
type Session struct {
	Date Date
	// Open and Close are when regular trading begins and ends, in the zone
	// of the exchange.
	Open, Close time.Time
	// Early says that trading ends before 16:00.
	Early bool
}

// UnknownYearError says that the calendar was asked about a year that it does
// not hold: whether the exchange is open then is not guessed.
type UnknownYearError struct {
	Year  int
	Known Range
}

// Error names the year, the known ones and the remedy.
func (e *UnknownYearError) Error() string {
	return fmt.Sprintf("trading calendar: year %d is not known, only %d to %d are: ask for those, or update the worker",
		e.Year, e.Known.From.Year(), e.Known.To.Year())
}

const (
	regularOpen  = 9*60 + 30
	regularClose = 16 * 60
)

// hours is what an exchange does on a day: closed for a reason, or open
// between two minutes of the day.
type hours struct {
	closed      string
	open, close int
}

// Calendar knows the sessions of an exchange within a range of whole years.
// Outside of it every method that returns an error returns an
// [*UnknownYearError]. It is safe for concurrent use.
type Calendar struct {
	first Date
	days  []*hours // never nil; those of many days are shared
}

// Known returns the dates that the calendar holds.
func (c *Calendar) Known() Range {
	return Range{From: c.first, To: c.first + Date(len(c.days)) - 1}
}

// Remaining returns how many days after d the calendar still holds; below zero
// when d is past its end.
func (c *Calendar) Remaining(d Date) int { return int(c.Known().To) - int(d) }

func (c *Calendar) day(d Date) (*hours, error) {
	if i := int(d) - int(c.first); i >= 0 && i < len(c.days) {
		return c.days[i], nil
	}
	return nil, &UnknownYearError{Year: d.Year(), Known: c.Known()}
}

// IsSession reports whether the exchange is open on d.
func (c *Calendar) IsSession(d Date) (bool, error) {
	h, err := c.day(d)
	return err == nil && h.closed == "", err
}

// Session returns the session of d; ok is false if the exchange is closed.
func (c *Calendar) Session(d Date) (s Session, ok bool, err error) {
	h, err := c.day(d)
	if err != nil || h.closed != "" {
		return Session{}, false, err
	}
	loc := NewYork()
	return Session{
		Date:  d,
		Open:  d.In(loc, 0, h.open),
		Close: d.In(loc, 0, h.close),
		Early: h.close < regularClose,
	}, true, nil
}

// Why returns the reason why the exchange is closed on d ("weekend", "Good
// Friday"), "" if it is open, and the error's text if the year is not known.
func (c *Calendar) Why(d Date) string {
	h, err := c.day(d)
	if err != nil {
		return err.Error()
	}
	return h.closed
}

// Sessions returns the sessions between two dates, both included, in
// ascending order. There are none if to is before from.
func (c *Calendar) Sessions(from, to Date) ([]Date, error) {
	var sessions []Date
	for d := from; d <= to; d++ {
		open, err := c.IsSession(d)
		if err != nil {
			return nil, err
		}
		if open {
			sessions = append(sessions, d)
		}
	}
	return sessions, nil
}

// Next returns the first session after d.
func (c *Calendar) Next(d Date) (Date, error) { return c.step(d, 1) }

// Previous returns the last session before d.
func (c *Calendar) Previous(d Date) (Date, error) { return c.step(d, -1) }

func (c *Calendar) step(d, by Date) (Date, error) {
	for {
		d += by
		if open, err := c.IsSession(d); open || err != nil {
			return dateUnless(d, err)
		}
	}
}

func dateUnless(d Date, err error) (Date, error) {
	if err != nil {
		return 0, err
	}
	return d, nil
}

// Back returns the session n sessions before d: [Calendar.Previous] for 1. For
// 0 it is d itself, which must then be a session.
func (c *Calendar) Back(d Date, n int) (Date, error) {
	if n < 0 {
		return 0, fmt.Errorf("trading calendar: %d sessions back from %v: want 0 or more", n, d)
	}
	if n == 0 {
		open, err := c.IsSession(d)
		if err == nil && !open {
			err = fmt.Errorf("trading calendar: %v is no session: %s", d, c.Why(d))
		}
		return dateUnless(d, err)
	}
	var err error
	for ; n > 0 && err == nil; n-- {
		d, err = c.Previous(d)
	}
	return d, err
}

// LastClosed returns the newest session that had been closed for settle, or
// longer, at the instant now. The zone of now does not matter.
func (c *Calendar) LastClosed(now time.Time, settle time.Duration) (Date, error) {
	latest := now.Add(-settle)
	for d := DateOf(latest.In(NewYork())); ; d-- {
		s, open, err := c.Session(d)
		if err != nil {
			return 0, err
		}
		if open && !s.Close.After(latest) {
			return d, nil
		}
	}
}

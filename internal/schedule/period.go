package schedule

import (
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// DailyBars returns the period of a tick of s: the newest session that had been
// closed for settle at the tick. On a day without session, as it is in New
// York, the period is named after the day and closed with the reason, unless the
// tick is the first for the session before, as that of Saturday 02:00 for
// Friday's. The error is a [*market.UnknownYearError].
func DailyBars(cal *market.Calendar, settle time.Duration, s Schedule) func(tick time.Time) (Period, error) {
	return func(tick time.Time) (Period, error) {
		today := newYorkDate(tick)
		open, err := cal.IsSession(today)
		if err != nil {
			return Period{}, err
		}
		newest, err := cal.LastClosed(tick, settle)
		if err != nil {
			return Period{}, err
		}
		session, _, err := cal.Session(newest)
		if err != nil {
			return Period{}, err
		}
		begin := today.In(market.NewYork(), 0, 0)
		ready := session.Close.Add(settle)
		if first := s.Next(ready.Add(-1)); !open && first.Before(tick) {
			return Period{Name: today.String(), Closed: "no_session: " + cal.Why(today), Since: later(begin, first.Add(1))}, nil
		}
		return Period{Name: newest.String(), Since: later(begin, ready)}, nil
	}
}

// Weekly is the period of a job that is done once a week: the ISO week of the
// tick's date in New York, such as 2026-W53.
func Weekly(tick time.Time) (Period, error) {
	week := market.WeekOf(newYorkDate(tick))
	return Period{Name: week.String(), Since: week.Monday().In(market.NewYork(), 0, 0)}, nil
}

// Biweekly is the period of a job whose window begins where the last one ended,
// so that its tick needs no more than a name: its date in New York, such as
// 2026-12-15.
func Biweekly(tick time.Time) (Period, error) {
	date := newYorkDate(tick)
	return Period{Name: date.String(), Since: date.In(market.NewYork(), 0, 0)}, nil
}

func newYorkDate(t time.Time) market.Date { return market.DateOf(t.In(market.NewYork())) }

package main

import (
	"fmt"
	"math"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// pace is how fast calls may go.
type pace struct {
	perMinute float64
	// perDay is the day's limit, 0 for none; leftToday is what is left of it.
	perDay, leftToday int
}

// after is the pace when calls more have been made today.
func (p pace) after(calls int) pace {
	p.leftToday = max(0, p.leftToday-calls)
	return p
}

// eta is when a number of calls will be through.
type eta struct {
	// at is when the last of them starts.
	at time.Time
	// today is the number of calls that can be made before the day's
	// limit is spent, days how many further New York days are needed.
	today, days int
}

// estimate tells when calls will be through, under the minute and the day
// limit. With a day limit the further days start at midnight in New York.
func estimate(now time.Time, calls int, p pace) eta {
	duration := func(n int) time.Duration {
		return time.Duration(float64(n) / p.perMinute * float64(time.Minute))
	}
	if p.perDay == 0 || calls <= p.leftToday {
		return eta{at: now.Add(duration(calls)), today: calls}
	}
	left := max(p.leftToday, 0)
	rest := calls - left
	days := int(math.Ceil(float64(rest) / float64(p.perDay)))
	last := rest - (days-1)*p.perDay
	midnight := (market.DateOf(now.In(market.NewYork())) + market.Date(days)).In(market.NewYork(), 0, 0)
	return eta{at: midnight.Add(duration(last)), today: left, days: days}
}

// String says it in words, in New York time.
func (e eta) String() string {
	at := e.at.In(market.NewYork())
	if e.days == 0 {
		return at.Format("15:04:05 MST")
	}
	return fmt.Sprintf("%d more today, complete on %s", e.today, at.Format(time.DateOnly))
}

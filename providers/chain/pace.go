package chain

import (
	"fmt"
	"math"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Pace is how fast the calls of one source may go.
type Pace struct {
	// PerMinute is the greatest steady rate.
	PerMinute float64
	// PerDay is the limit of a day of New York, 0 for none; LeftToday is what
	// is left of it.
	PerDay, LeftToday int
	// Before is the number of calls that are planned to go first.
	Before int
}

// After is the pace when calls more have been made today.
func (p Pace) After(calls int) Pace {
	p.LeftToday = max(0, p.LeftToday-calls)
	return p
}

// ETA is when a number of calls will be through.
type ETA struct {
	// At is when the last of them starts.
	At time.Time
	// Today is the number of calls that can be made before the day's limit is
	// spent, Days how many further New York days are needed.
	Today, Days int
}

// Estimate tells when calls will be through, under the limits of the minute and
// of the day. With a day limit the further days start at midnight in New York.
func (p Pace) Estimate(now time.Time, calls int) ETA {
	if calls == 0 {
		return ETA{At: now}
	}
	eta := p.alone(now, p.Before+calls)
	eta.Today -= p.alone(now, p.Before).Today
	return eta
}

// alone is Estimate with no calls before them.
func (p Pace) alone(now time.Time, calls int) ETA {
	duration := func(n int) time.Duration {
		return time.Duration(float64(n) / p.PerMinute * float64(time.Minute))
	}
	if p.PerDay == 0 || calls <= p.LeftToday {
		return ETA{At: now.Add(duration(calls)), Today: calls}
	}
	left := max(p.LeftToday, 0)
	rest := calls - left
	days := int(math.Ceil(float64(rest) / float64(p.PerDay)))
	last := rest - (days-1)*p.PerDay
	midnight := (market.DateOf(now.In(market.NewYork())) + market.Date(days)).In(market.NewYork(), 0, 0)
	return ETA{At: midnight.Add(duration(last)), Today: left, Days: days}
}

// String says it in words, in New York time.
func (e ETA) String() string {
	at := e.At.In(market.NewYork())
	if e.Days == 0 {
		return at.Format("15:04:05 MST")
	}
	return fmt.Sprintf("%d more today, complete on %s", e.Today, at.Format(time.DateOnly))
}

// within returns how many of at most most calls can start until at.
func (p Pace) within(now, at time.Time, most int) int {
	low, high := 0, most
	for low < high {
		n := (low + high + 1) / 2
		if p.Estimate(now, n).At.After(at) {
			high = n - 1
		} else {
			low = n
		}
	}
	return low
}

package market

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// PayloadError says why a provider's answer is refused as a whole: what it
// holds cannot be a market's data.
type PayloadError struct {
	// Date is the day of the bar at fault; zero if there is none.
	Date Date
	// Reason names the value and the rule that it breaks.
	Reason string
}

// Error returns the date, if there is one, and the reason.
func (e *PayloadError) Error() string {
	if e.Date.IsZero() {
		return e.Reason
	}
	return fmt.Sprintf("bar of %v: %s", e.Date, e.Reason)
}

// Outcome returns the outcome class that the error puts a symbol in, as in the
// ledger and the reports.
func (e *PayloadError) Outcome() string { return "bad_payload" }

// Validate reports whether the bar can be one of a closed session: a date;
// finite prices above zero; open and close between low and high; no negative
// volume, and no volume of zero while the price moved; an adjusted close, if
// set, finite and above zero. The error is a *[PayloadError].
func (b Bar) Validate() error {
	if reason := b.fault(); reason != "" {
		return &PayloadError{Date: b.Date, Reason: reason}
	}
	return nil
}

func (b *Bar) fault() string {
	switch {
	case b.Date <= 0:
		return "bar without a date"
	case !isPrice(b.Open) || !isPrice(b.High) || !isPrice(b.Low) || !isPrice(b.Close):
		return fmt.Sprintf("open %v, high %v, low %v, close %v: a price must be a finite number above zero", b.Open, b.High, b.Low, b.Close)
	case b.High < b.Low:
		return fmt.Sprintf("high %v is below low %v", b.High, b.Low)
	case b.Open < b.Low || b.Open > b.High:
		return fmt.Sprintf("open %v is outside low %v to high %v", b.Open, b.Low, b.High)
	case b.Close < b.Low || b.Close > b.High:
		return fmt.Sprintf("close %v is outside low %v to high %v", b.Close, b.Low, b.High)
	case b.Volume < 0:
		return fmt.Sprintf("volume %d is negative", b.Volume)
	case b.Volume == 0 && b.High != b.Low:
		return fmt.Sprintf("volume is zero although the price moved from %v to %v", b.Low, b.High)
	case b.HasAdjClose && !isPrice(b.AdjClose):
		return fmt.Sprintf("adjusted close %v: a price must be a finite number above zero", b.AdjClose)
	}
	return ""
}

// isPrice is false for NaN, which compares as neither.
func isPrice(v float64) bool { return v > 0 && v <= math.MaxFloat64 }

// Cleaned is an answer's bars after [Clean], and what was left out of it.
type Cleaned struct {
	// Bars are in ascending order of their dates, one bar a date.
	Bars []Bar
	// OutOfWindow counts bars outside the window, Unfinished those after
	// the newest closed session, NoSession those of closed days, Repeats
	// those that an equal bar came before. Each bar counts once, in the
	// first of them that fits.
	OutOfWindow, Unfinished, NoSession, Repeats int
}

// Dropped names what the answer held besides the kept bars, by why.
func (c Cleaned) Dropped() map[string]int {
	counts := map[string]int{
		"out_of_window": c.OutOfWindow, "unfinished": c.Unfinished,
		"no_session": c.NoSession, "repeated": c.Repeats,
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	return counts
}

// Clean makes an answer's bars fit to be stored. bars may be in any order; the
// slice is reused for the result. It drops and counts the bars outside window,
// the bars after through (the newest closed session), the bars of days that
// are no session of cal, and repeats.
//
// The whole answer is refused with a *[PayloadError] if a bar has no date, if
// a bar that would be kept breaks a rule of [Bar.Validate], or if two bars of
// one date differ. A date inside window of a year that cal does not know is an
// [*UnknownYearError].
func Clean(bars []Bar, window Range, through Date, cal *Calendar) (Cleaned, error) {
	var c Cleaned
	kept := bars[:0]
	for i := range bars {
		keep, err := c.admit(&bars[i], window, through, cal)
		if err != nil {
			return Cleaned{}, err
		}
		switch {
		case keep && len(kept) == i:
			kept = bars[:i+1]
		case keep:
			kept = append(kept, bars[i])
		}
	}
	if err := c.takeUnique(sortByDate(kept)); err != nil {
		return Cleaned{}, err
	}
	return c, nil
}

// admit counts and drops before it validates: what a vendor writes for a
// running day or a holiday says nothing about the bars that are wanted.
func (c *Cleaned) admit(b *Bar, window Range, through Date, cal *Calendar) (bool, error) {
	switch {
	case b.Date <= 0:
		return false, b.Validate()
	case !window.Contains(b.Date):
		c.OutOfWindow++
		return false, nil
	case b.Date > through:
		c.Unfinished++
		return false, nil
	}
	open, err := cal.IsSession(b.Date)
	if err != nil {
		return false, err
	}
	if !open {
		c.NoSession++
		return false, nil
	}
	if !b.HasAdjClose {
		b.AdjClose = 0
	}
	return true, b.Validate()
}

// sortByDate sorts only what is not in one of the two orders that vendors send.
func sortByDate(bars []Bar) []Bar {
	if n := len(bars); n > 1 && bars[0].Date > bars[n-1].Date {
		slices.Reverse(bars)
	}
	for i := 1; i < len(bars); i++ {
		if bars[i].Date < bars[i-1].Date {
			slices.SortFunc(bars, func(a, b Bar) int { return cmp.Compare(a.Date, b.Date) })
			break
		}
	}
	return bars
}

func (c *Cleaned) takeUnique(sorted []Bar) error {
	c.Bars = sorted[:min(1, len(sorted))]
	for i := 1; i < len(sorted); i++ {
		b, last := &sorted[i], len(c.Bars)-1
		switch {
		case b.Date == c.Bars[last].Date && *b != c.Bars[last]:
			return &PayloadError{Date: b.Date, Reason: "the answer holds two bars of this date with different values"}
		case b.Date == c.Bars[last].Date:
			c.Repeats++
		case last+1 == i:
			c.Bars = sorted[:i+1]
		default:
			c.Bars = append(c.Bars, *b)
		}
	}
	return nil
}

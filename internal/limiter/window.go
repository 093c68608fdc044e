package limiter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

const (
	maxPause = 15 * time.Minute
	// longWindow is the length from which an exact window that is full is
	// reported as spent instead of waited for.
	longWindow = time.Hour
	// marginShare and leastMargin make up the default margin.
	marginShare = 60
	leastMargin = 200 * time.Millisecond
)

// Window is one limit of a provider.
type Window struct {
	// Name is the limit's name in Redis: alpha_vantage, alpha_vantage.day.
	Name string
	// Limit is the number of calls that the provider allows, at least 1.
	Limit int
	// Length makes a sliding window: at most Limit calls in any Length.
	Length time.Duration
	// Burst is the number of calls that may go at once after an idle
	// spell, and the highest cost of one call; 0 means 1. The rate is
	// (Limit - Burst + 1) / (Length + Margin): what may go at once cannot
	// go in a steady flow.
	Burst int
	// Margin is by how much two calls may come closer together on their way
	// than they started without a window being exceeded. 0 means a
	// 60th of Length and at least 200 ms; a negative one, none. Below 100
	// ms a window is kept for the slots only, not for calls that start a
	// moment late.
	Margin time.Duration
	// Exact keeps the times of the last Limit calls instead of a bucket: all
	// of the limit may go at once. Limit is at most 1000. If Length is an
	// hour or more, a full window is not waited for but reported as a
	// [*QuotaError], as a day is.
	Exact bool
	// Daily makes a calendar day: Limit calls from one midnight of this
	// zone to the next. Length, Burst, Margin and Exact are ignored.
	Daily *time.Location
	// Reserve is the part of a day or of an exact window that the class
	// Backfill leaves to the others.
	Reserve int
}

const maxExact = 1000

// window is a Window with its keys and arithmetic.
type window struct {
	Window
	keys           rediskey.LimiterKeys
	capacity, rate float64 // rate in tokens per second; 0 for a day
}

func newWindow(w Window) (window, error) {
	keys, err := rediskey.Limiter(w.Name)
	if err != nil {
		return window{}, err
	}
	if err := w.check(); err != nil {
		return window{}, fmt.Errorf("rate limit %s: %w", w.Name, err)
	}
	if w.Daily != nil {
		w.Exact = false
		return window{w, keys, float64(w.Limit), 0}, nil
	}
	rate := w.Rate()
	w.Burst = max(1, w.Burst)
	w.Margin = w.margin()
	if w.Exact {
		return window{w, keys, float64(w.Limit), rate}, nil
	}
	return window{w, keys, float64(w.Burst), rate}, nil
}

// Rate returns the calls per second that a sliding window lets through in the
// long run; 0 for a day.
func (w Window) Rate() float64 {
	calls := w.Limit - max(1, w.Burst) + 1
	switch {
	case w.Daily != nil:
		return 0
	case w.Exact:
		calls = w.Limit
	}
	return float64(calls) / (w.Length + w.margin()).Seconds()
}

func (w Window) check() error {
	switch {
	case w.Limit < 1:
		return fmt.Errorf("limit %d: want at least 1", w.Limit)
	case w.Daily == nil && w.Length <= 0:
		return fmt.Errorf("window of %s: want a positive length", w.Length)
	case w.Daily == nil && (w.Burst < 0 || w.Burst > w.Limit):
		return fmt.Errorf("burst %d: want 1 to the limit, %d", w.Burst, w.Limit)
	case w.Daily == nil && w.Exact && w.Limit > maxExact:
		return fmt.Errorf("limit %d: an exact window holds at most %d calls", w.Limit, maxExact)
	case w.Reserve != 0 && w.Daily == nil && !w.Exact:
		return errors.New("a bucket has no reserve: give it to a day or to an exact window")
	case w.Reserve < 0 || w.Reserve >= w.Limit && w.Reserve > 0:
		return fmt.Errorf("reserve %d: want less than the limit, %d", w.Reserve, w.Limit)
	}
	return nil
}

func (w Window) margin() time.Duration {
	switch {
	case w.Margin < 0:
		return 0
	case w.Margin > 0:
		return w.Margin
	}
	return max(w.Length/marginShare, leastMargin)
}

// mostCost is the highest cost that a caller can be granted.
func (w window) mostCost(c Class) int {
	reserve := 0
	if c == Backfill {
		reserve = w.Reserve
	}
	if w.Daily == nil && !w.Exact {
		return w.Burst
	}
	return w.Limit - reserve
}

// plain is what somebody who knows the limit alone refills in a second: no
// less than the rate.
func (w window) plain() float64 {
	if w.Daily != nil {
		return 0
	}
	return max(w.rate, float64(w.Limit)/w.Length.Seconds())
}

// deepest is more debt than pauses and slots can come to, in tokens as they
// are kept; see state.lua. What is deeper was written by something else.
func (w window) deepest(horizon time.Duration) float64 {
	return w.plain() * (maxPause.Seconds() + horizon.Seconds() + (w.capacity+maxOwed)/w.rate)
}

func newWindows(all []Window) ([]window, error) {
	if len(all) == 0 || all[0].Daily != nil || all[0].Exact {
		return nil, errors.New("the first window of a rate limit must be a sliding one that is not exact, since a pause is kept there")
	}
	var windows []window
	seen := map[string]bool{}
	for _, w := range all {
		made, err := newWindow(w)
		if err != nil {
			return nil, err
		}
		if seen[w.Name] {
			return nil, fmt.Errorf("rate limit %s: the name is used twice", w.Name)
		}
		seen[w.Name] = true
		windows = append(windows, made)
	}
	return windows, nil
}

func daysOf(windows []window) []window {
	var days []window
	for _, w := range windows {
		if w.Daily != nil {
			days = append(days, w)
		}
	}
	return days
}

// count is what the ledger says about a window: the calls since a time. The
// zero count means that it was not asked.
type count struct {
	asked bool
	since int64 // Unix seconds
	calls int
}

// arguments are the window's arguments to the scripts; see state.lua.
func (w window) arguments(now time.Time, c count) []any {
	switch {
	case w.Exact && !c.asked:
		return []any{-1}
	case w.Exact:
		return []any{min(w.Limit, c.calls)}
	case w.Daily == nil:
		return nil
	}
	left := -1
	if c.asked {
		left = max(0, w.Limit-c.calls)
	}
	resets := midnights(now, w.Daily)
	args := []any{left, c.since, len(resets)}
	for _, r := range resets {
		args = append(args, r.Unix())
	}
	return args
}

// midnights returns the starts of the local days around now, ascending. They
// span more than a day on both sides, so that Redis' clock may differ from
// ours.
func midnights(now time.Time, loc *time.Location) []time.Time {
	const before, after = 2, 3
	y, m, d := now.In(loc).Date()
	var all []time.Time
	for i := -before; i <= after; i++ {
		all = append(all, startOfDay(y, m, d+i, loc))
	}
	return all
}

// startOfDay returns the first instant of a local date. Where the clocks jump
// over midnight the day starts at the jump; where midnight comes twice, at the
// first.
func startOfDay(y int, m time.Month, d int, loc *time.Location) time.Time {
	date := time.Date(y, m, d, 12, 0, 0, 0, loc)
	midnight := time.Date(y, m, d, 0, 0, 0, 0, loc)
	if midnight.Day() != date.Day() {
		_, midnight = midnight.ZoneBounds()
		return midnight
	}
	start, _ := midnight.ZoneBounds()
	if start.IsZero() {
		return midnight
	}
	_, before := start.Add(-1).Zone()
	_, after := midnight.Zone()
	first := midnight.Add(time.Duration(after-before) * time.Second)
	if first.Before(start) && first.In(loc).Day() == date.Day() {
		return first
	}
	return midnight
}

// used asks the ledger for the calls since a time. Without a ledger all of the
// limit counts as used.
func (l *Limiter) used(ctx context.Context, w window, since int64) (count, error) {
	if l.o.Used == nil {
		return count{true, since, w.Limit}, nil
	}
	at := time.Unix(since, 0).UTC()
	if w.Daily != nil {
		at = at.In(w.Daily)
	}
	n, err := l.o.Used(ctx, at)
	if err != nil {
		return count{}, fmt.Errorf("count the calls since %s: %w", at.Format(time.RFC3339), err)
	}
	return count{true, since, n}, nil
}

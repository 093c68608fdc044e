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
	// maxWaiting is how many processes may hold a slot at once. Deeper debt
	// in Redis is taken for garbage.
	maxWaiting = 64
	// usable is the part of a refill rate that is used; the rest is margin.
	usable = 0.98
	// burstShare is the part of a limit that may go at once.
	burstShare = 20
)

// Window is one limit of a provider.
type Window struct {
	// Name is the limit's name in Redis: alpha_vantage, alpha_vantage.day.
	Name string
	// Limit is the number of calls that the provider allows, at least 1.
	Limit int
	// Length makes a sliding window: Limit calls in any Length.
	Length time.Duration
	// Daily makes a calendar day: Limit calls from one midnight of this
	// zone to the next. Length is ignored.
	Daily *time.Location
}

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
	if w.Limit < 1 {
		return window{}, fmt.Errorf("rate limit %s: limit %d: want at least 1", w.Name, w.Limit)
	}
	if w.Daily != nil {
		return window{w, keys, float64(w.Limit), 0}, nil
	}
	if w.Length <= 0 {
		return window{}, fmt.Errorf("rate limit %s: window of %s: want a positive length", w.Name, w.Length)
	}
	capacity, rate := bucket(w.Limit, w.Length)
	return window{w, keys, capacity, rate}, nil
}

// bucket returns the token bucket that keeps limit in every window of length;
// the package comment has the arithmetic.
func bucket(limit int, length time.Duration) (capacity, rate float64) {
	burst := max(1, limit/burstShare)
	return float64(burst), usable * float64(max(1, limit-burst)) / length.Seconds()
}

func newWindows(all []Window) ([]window, error) {
	if len(all) == 0 || all[0].Daily != nil {
		return nil, errors.New("the first window of a rate limit must be a sliding one, since a pause is kept there")
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

// horizon returns the longest promise, in seconds, that the windows can come
// to: the longest pause, and all processes waiting behind it.
func horizon(windows []window) float64 {
	longest := 0.0
	for _, w := range windows {
		if w.rate > 0 {
			longest = max(longest, maxWaiting/w.rate)
		}
	}
	return maxPause.Seconds() + longest
}

// count is what the ledger says about a day: the calls left since a reset. The
// zero count means that it was not asked.
type count struct {
	since int64 // Unix seconds
	left  int
}

// arguments are the window's arguments to the scripts; see state.lua.
func (w window) arguments(now time.Time, c count) []any {
	if w.Daily == nil {
		return []any{w.capacity, w.rate}
	}
	if c.since == 0 {
		c.left = -1
	}
	resets := midnights(now, w.Daily)
	args := []any{w.Limit, 0, c.left, c.since, len(resets)}
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

// used asks the ledger for the calls since a reset.
func (l *Limiter) used(ctx context.Context, w window, since int64) (count, error) {
	if l.o.Used == nil {
		return count{since: since}, nil
	}
	n, err := l.o.Used(ctx, time.Unix(since, 0).In(w.Daily))
	if err != nil {
		return count{}, fmt.Errorf("count the calls since %s: %w", time.Unix(since, 0).UTC().Format(time.RFC3339), err)
	}
	return count{since: since, left: max(0, w.Limit-n)}, nil
}

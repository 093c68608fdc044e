package main

import (
	"math"
	"slices"
	"time"
)

// excess returns by how many tokens the times, in microseconds, one of them per
// token, pass what a bucket of that capacity and rate per second lets through,
// in the worst of all windows of all lengths. It is not above 0 when they keep
// to it, and -capacity for no times.
//
// A window from the i-th to the j-th time holds j-i+1 tokens and may hold
// capacity + rate*(t[j]-t[i]). With x[k] = k - rate*t[k] the difference is
// x[j] - x[i] + 1 - capacity, so one pass that remembers the least x finds the
// worst of all pairs.
func excess(times []int64, rate, capacity float64) float64 {
	if len(times) == 0 {
		return -capacity
	}
	sorted := slices.Sorted(slices.Values(times))
	least, worst := math.Inf(1), math.Inf(-1)
	for k, t := range sorted {
		x := float64(k) - rate*float64(t-sorted[0])/1e6
		least = min(least, x)
		worst = max(worst, x-least+1-capacity)
	}
	return worst
}

// early returns how many of the starts lack a slot of their own that is not
// later than they are, by more than the tolerance. All are in microseconds.
// Slots that nobody used are no fault.
func early(starts, slots []int64, tolerance time.Duration) int {
	starts, slots = slices.Sorted(slices.Values(starts)), slices.Sorted(slices.Values(slots))
	worst, open := 0, 0
	for k, t := range starts {
		for open < len(slots) && slots[open] <= t+tolerance.Microseconds() {
			open++
		}
		worst = max(worst, k+1-open)
	}
	return worst
}

// jain returns Jain's index of fairness: 1 when all shares are equal, 1/n when
// one of n takes everything, and 0 when nobody got anything.
func jain(shares []int) float64 {
	var sum, squares float64
	for _, s := range shares {
		sum += float64(s)
		squares += float64(s) * float64(s)
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// percentile returns the least value that at least the share p of the values
// does not exceed, and 0 for no values.
func percentile[T int64 | float64](values []T, p float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// utilisation returns the share of rate that the starts between from and until
// used, all in microseconds. A bucket gives a token every 1/rate, so up to that
// much before the first start and after the last one belongs to neither; longer
// silence counts as unused. It is 0 for less than two starts.
func utilisation(starts []int64, from, until int64, rate float64) float64 {
	within := between(starts, from, until)
	if len(within) < 2 {
		return 0
	}
	gap := int64(1e6 / rate)
	first, last := within[0], within[len(within)-1]
	first, last = min(first, from+gap), max(last, until-gap)
	return float64(len(within)-1) / (rate * float64(last-first) / 1e6)
}

// between returns the times from <= t < until, ascending.
func between(times []int64, from, until int64) []int64 {
	var within []int64
	for _, t := range times {
		if from <= t && t < until {
			within = append(within, t)
		}
	}
	slices.Sort(within)
	return within
}

// spread is a median with its quartiles.
type spread struct{ low, median, high float64 }

func spreadOf(values []float64) spread {
	return spread{percentile(values, 0.25), percentile(values, 0.5), percentile(values, 0.75)}
}

// quotients divides the values of each round by those of the same round, so
// that what slows both down cancels out.
func quotients(above, below []float64) spread {
	all := make([]float64, len(above))
	for i := range all {
		all[i] = above[i] / below[i]
	}
	return spreadOf(all)
}

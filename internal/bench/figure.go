package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// Short reports whether the programs run only to show that they still work:
// on little data, and without judging a figure. BENCH_SHORT in the environment
// asks for it.
func Short() bool { return os.Getenv("BENCH_SHORT") != "" }

// Pick returns the full size, or the small one of a short run.
func Pick(full, small int) int {
	if Short() {
		return small
	}
	return full
}

// Median returns the middle one of the durations that fn takes in rounds.
func Median(rounds int, fn func() time.Duration) time.Duration {
	took := make([]time.Duration, rounds)
	for i := range took {
		took[i] = fn()
	}
	slices.Sort(took)
	return took[rounds/2]
}

// AtLeast prints a figure that must reach goal, and whether it does. A missed
// figure is printed as missed; it fails nothing, since a busy machine would.
func AtLeast(t testing.TB, name string, got, goal float64, unit string) {
	t.Helper()
	verdict(t, name, got, ">=", goal, unit, got >= goal)
}

// AtMost is AtLeast for a figure that must stay below goal.
func AtMost(t testing.TB, name string, got, goal float64, unit string) {
	t.Helper()
	verdict(t, name, got, "<=", goal, unit, got <= goal)
}

// Note prints a figure that has no goal.
func Note(t testing.TB, name string, got float64, unit string) {
	t.Helper()
	line(t, name, got, unit, "")
}

func verdict(t testing.TB, name string, got float64, sign string, goal float64, unit string, ok bool) {
	t.Helper()
	word := "met"
	switch {
	case Short():
		word = "not judged"
	case !ok:
		word = "MISSED"
	}
	line(t, name, got, unit, fmt.Sprintf("%s %-8g %s", sign, goal, word))
}

func line(t testing.TB, name string, got float64, unit, verdict string) {
	t.Helper()
	_, _ = fmt.Fprintf(t.Output(), "%-64s %12.3f %-10s %s\n", name, got, unit, verdict)
}

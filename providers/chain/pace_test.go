package chain_test

import (
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers/chain"
)

func TestEstimate(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 12, 16, 0, 0, 0, time.UTC) // noon in New York
	for _, test := range []struct {
		calls int
		pace  chain.Pace
		at    string
		days  int
	}{
		{10, chain.Pace{PerMinute: 5}, "2026-03-12T16:02:00Z", 0},
		{10, chain.Pace{PerMinute: 5, PerDay: 25, LeftToday: 25}, "2026-03-12T16:02:00Z", 0},
		{30, chain.Pace{PerMinute: 5, PerDay: 25, LeftToday: 20}, "2026-03-13T04:02:00Z", 1},
		{503, chain.Pace{PerMinute: 5, PerDay: 25, LeftToday: 25}, "2026-04-01T04:00:36Z", 20},
		{5, chain.Pace{PerMinute: 5, PerDay: 25, LeftToday: 0}, "2026-03-13T04:01:00Z", 1},
	} {
		got := test.pace.Estimate(noon, test.calls)
		if at := got.At.UTC().Format(time.RFC3339); at != test.at || got.Days != test.days {
			t.Errorf("estimate(%d, %+v) = %s in %d days, want %s in %d", test.calls, test.pace, at, got.Days, test.at, test.days)
		}
	}
}

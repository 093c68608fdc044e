package limiter_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// TestLostExactWindowCountsTheSlotsThatAreOut loses the list of an exact
// window, or has somebody else write to its keys, while all its slots are
// promised and none has come.
func TestLostExactWindowCountsTheSlotsThatAreOut(t *testing.T) {
	t.Parallel()
	const name = "provider.exact"
	var all []scenario
	for lost, keys := range map[string][]string{
		"list":        {"rate_limit_ext:" + name + ":calls"},
		"seen":        {"rate_limit_ext:" + name + ":seen"},
		"last_refill": {"rate_limit:" + name + ":last_refill"},
		"both windows": {
			"rate_limit_ext:" + name + ":calls", "rate_limit:" + name + ":tokens",
			"rate_limit:" + name + ":last_refill", tokensKey, refillKey,
		},
	} {
		all = append(all, scenario{lost, func(t *testing.T) { loseExact(t, name, keys) }})
	}
	together(t, all...)
}

func loseExact(t *testing.T, name string, keys []string) {
	w := perSecond(100)
	w.Burst = 20
	exact := limiter.Window{Name: name, Limit: 20, Length: time.Second, Exact: true}
	f := newFleet(t, testenv.Redis(t), 0, order{Windows: []limiter.Window{w, exact}})
	l := newLimiter(t, f.rdb, limiter.Options{Trace: 1000}, f.order.Windows...)
	// No ledger: all of the limit counts as used.
	counts := []limiter.Count{{}, limiter.NewCount(time.Now().Unix(), exact.Limit)}
	rounds := 0
	for deadline := time.Now().Add(20 * time.Second); rounds < 3; pass(t.Context(), 5*time.Millisecond) {
		a, err := l.Take(limiter.Question{N: exact.Limit, Cost: 1}, counts)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d rounds (%v)", rounds, err)
		}
		if a.Status != limiter.Taken {
			continue
		}
		if rounds++; rounds == 2 {
			if err := f.rdb.Del(t.Context(), keys...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.wantWindows(f.slots())
}

// TestLostDayCountsTheSlotsThatAreOut loses the level of a day while slots are
// promised for calls that the ledger cannot know yet.
func TestLostDayCountsTheSlotsThatAreOut(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	noon := time.FixedZone("noon", int((12*time.Hour - time.Since(time.Now().UTC().Truncate(24*time.Hour))).Seconds()))
	day := limiter.Window{Name: "provider.day", Limit: 20, Daily: noon}
	var ledger atomic.Int64
	o := limiter.Options{Trace: 100, Used: func(context.Context, time.Time) (int, error) { return int(ledger.Load()), nil }}
	var calls sync.WaitGroup
	start := func() {
		l := newLimiter(t, rdb, o, perSecond(50), day)
		for range day.Limit {
			calls.Go(func() {
				if l.Wait(t.Context()) == nil {
					ledger.Add(1)
				}
			})
		}
	}
	start()
	const trace = "rate_limit_ext:provider:trace"
	for {
		n, err := rdb.LLen(t.Context(), trace).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n >= 5 {
			break
		}
		pass(t.Context(), time.Millisecond)
	}
	if err := rdb.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	start()
	calls.Wait()
	if n := int(ledger.Load()); n > day.Limit {
		t.Errorf("%d calls on a day of %d", n, day.Limit)
	}
}

// TestExcessIsSeen makes sure that the curve is not kept by a checker that
// sees nothing.
func TestExcessIsSeen(t *testing.T) {
	t.Parallel()
	even := []int64{0, 100_000, 200_000, 300_000}
	if x := excess(even, 1, 10); x > nearlyNothing {
		t.Errorf("an even flow is %g over its own rate", x)
	}
	if x := excess(slices.Concat(even, []int64{350_000}), 1, 10); x < 0.499 {
		t.Errorf("a call half a token early is %g over", x)
	}
}

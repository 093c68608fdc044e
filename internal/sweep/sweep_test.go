package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// classed is an error as the providers make them.
type classed struct {
	class string
	stop  bool
}

func (e classed) Error() string   { return "answer: " + e.class }
func (e classed) Outcome() string { return e.class }
func (e classed) Stops() bool     { return e.stop }
func (e classed) Unwrap() error   { return errors.New("because of " + e.class) }

func symbols(n int) []market.Symbol {
	out := make([]market.Symbol, n)
	for i := range out {
		out[i] = market.Symbol(fmt.Sprintf("S%03d", i))
	}
	return out
}

func stored(context.Context, market.Symbol) (sweep.Result, error) {
	return sweep.Result{Outcome: sweep.Stored, Rows: 2}, nil
}

func TestEveryUnitIsVisitedOnceByBoundedWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var flying, most atomic.Int64
		seen := make(map[market.Symbol]int)
		tally := sweep.Sweep{
			Workers: 3,
			Visit: func(ctx context.Context, _ market.Symbol) (sweep.Result, error) {
				most.Store(max(most.Load(), flying.Add(1)))
				time.Sleep(time.Second)
				flying.Add(-1)
				return stored(ctx, "")
			},
			Each: func(u sweep.Unit) { seen[u.Symbol]++ },
		}.Run(t.Context(), symbols(10))
		if most.Load() != 3 {
			t.Errorf("%d units in flight, want 3", most.Load())
		}
		if len(seen) != 10 || tally.Fetched != 10 || tally.Rows != 20 || tally.Failed != 0 {
			t.Errorf("seen %d, tally %+v", len(seen), tally)
		}
	})
}

func TestOneBadUnitDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	tally := sweep.Sweep{Visit: func(ctx context.Context, s market.Symbol) (sweep.Result, error) {
		switch s {
		case "S001":
			return sweep.Result{}, classed{class: "bad_payload"}
		case "S003":
			panic("surprise")
		}
		return stored(ctx, s)
	}}.Run(t.Context(), symbols(6))
	want := map[sweep.Outcome]int{sweep.Stored: 4, sweep.BadPayload: 1, sweep.ProviderError: 1}
	if diff := cmp.Diff(want, tally.Outcomes); diff != "" {
		t.Error(diff)
	}
	report := sweep.NewReport("job", "period", 0, tally, false)
	if len(report.Failures) != 2 || report.Failures[0].Symbol != "S001" || !strings.Contains(report.Failures[1].Message, "surprise") {
		t.Errorf("failures %+v", report.Failures)
	}
	if report.Status != sweep.Partial {
		t.Errorf("status %s", report.Status)
	}
}

func TestASpentQuotaEndsTheSweepAtOnce(t *testing.T) {
	t.Parallel()
	var visits atomic.Int64
	tally := sweep.Sweep{Workers: 1, Visit: func(ctx context.Context, s market.Symbol) (sweep.Result, error) {
		if visits.Add(1) > 3 {
			return sweep.Result{}, fmt.Errorf("wrapped: %w", classed{class: "quota", stop: true})
		}
		return stored(ctx, s)
	}}.Run(t.Context(), symbols(100))
	if visits.Load() != 4 {
		t.Errorf("%d visits, want 4: three stored and the one that met the quota", visits.Load())
	}
	if tally.Fetched != 3 || tally.Outcomes[sweep.Quota] != 97 || tally.Failed != 97 || tally.Stopped != "because of quota" {
		t.Errorf("tally %+v, stopped %q", tally.Outcomes, tally.Stopped)
	}
	if last := tally.Failures[96].Message; last != "not asked: because of quota" {
		t.Errorf("a unit that was not visited says %q", last)
	}
	if got := sweep.NewReport("j", "p", 0, tally, false).Status; got != sweep.OutOfQuota {
		t.Errorf("status %s", got)
	}
}

func TestAProviderThatIsDownEndsTheSweep(t *testing.T) {
	t.Parallel()
	for class, want := range map[sweep.Outcome]int64{
		sweep.ProviderError: 4, sweep.BadPayload: 4, sweep.LimitNote: 4, sweep.NotReady: 8,
		sweep.NoData: 50, sweep.UnknownSymbol: 50,
	} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			var visits atomic.Int64
			tally := sweep.Sweep{Workers: 1, Breaker: 4, Visit: func(context.Context, market.Symbol) (sweep.Result, error) {
				visits.Add(1)
				return sweep.Result{}, classed{class: string(class)}
			}}.Run(t.Context(), symbols(50))
			if visits.Load() != want || tally.Outcomes[class] != 50 || (tally.Stopped != "") != (want < 50) {
				t.Errorf("%d visits, want %d; %v; stopped %q", visits.Load(), want, tally.Outcomes, tally.Stopped)
			}
		})
	}
}

func TestTheBreakerCountsOnlyErrorsInARow(t *testing.T) {
	t.Parallel()
	var visits atomic.Int64
	tally := sweep.Sweep{Workers: 1, Breaker: 2, Visit: func(ctx context.Context, s market.Symbol) (sweep.Result, error) {
		if visits.Add(1)%2 == 0 {
			return sweep.Result{}, errors.New("down")
		}
		return stored(ctx, s)
	}}.Run(t.Context(), symbols(20))
	if visits.Load() != 20 || tally.Stopped != "" {
		t.Errorf("%d visits, stopped %q", visits.Load(), tally.Stopped)
	}
}

// A visit in flight when the sweep is stopped may finish, but not for ever.
func TestCancellationLeavesTheRestInterrupted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		grace time.Duration
		want  int
	}{{0, 3}, {200 * time.Millisecond, 2}} {
		tally := stopped(t, test.grace)
		if tally.Fetched != test.want || tally.Outcomes[sweep.Interrupted] != 10-test.want {
			t.Errorf("grace %s: outcomes %v, want %d stored", test.grace, tally.Outcomes, test.want)
		}
		if got := sweep.NewReport("j", "p", 5, tally, true); got.Status != sweep.WasInterrupted || got.Symbols != 15 {
			t.Errorf("report %+v", got)
		}
	}
}

// stopped is a sweep of ten units of a second each, stopped after 2.5 s.
func stopped(t *testing.T, grace time.Duration) (tally sweep.Tally) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		tally = sweep.Sweep{Workers: 1, Grace: grace, Visit: func(ctx context.Context, s market.Symbol) (sweep.Result, error) {
			select {
			case <-time.After(time.Second):
				return stored(ctx, s)
			case <-ctx.Done():
				return sweep.Result{}, ctx.Err()
			}
		}}.Run(ctx, symbols(10))
	})
	return tally
}

func TestMessagesAreRedactedAndBounded(t *testing.T) {
	t.Parallel()
	tally := sweep.Sweep{
		Redact: func(s string) string { return strings.ReplaceAll(s, "CANARY", "[redacted]") },
		Visit: func(context.Context, market.Symbol) (sweep.Result, error) {
			return sweep.Result{}, errors.New("key CANARY refused " + strings.Repeat("x", 5000))
		},
	}.Run(t.Context(), symbols(1))
	message := tally.Failures[0].Message
	if strings.Contains(message, "CANARY") || !strings.Contains(message, "[redacted]") || len(message) > 400 {
		t.Errorf("message of %d bytes: %.80s", len(message), message)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		skipped     int
		tally       sweep.Tally
		interrupted bool
		want        sweep.Status
	}{
		{"nothing to do", 3, sweep.Tally{}, false, sweep.OK},
		{"all stored although a signal came", 0, sweep.Tally{Fetched: 1}, true, sweep.OK},
		{"one answer refused", 0, sweep.Tally{Failed: 1}, false, sweep.Partial},
		{"key refused at once", 0, sweep.Tally{Failed: 5, Stopped: "key refused"}, false, sweep.Failed},
		{"down after some", 0, sweep.Tally{Fetched: 2, Failed: 5, Stopped: "down"}, false, sweep.Partial},
		{"day spent", 0, sweep.Tally{Failed: 5, Stopped: "spent", Outcomes: map[sweep.Outcome]int{sweep.Quota: 5}}, false, sweep.OutOfQuota},
	} {
		if got := sweep.NewReport("j", "p", test.skipped, test.tally, test.interrupted).Status; got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// Whatever the visits do, the numbers add up and each unit is told of once.
func TestCountsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "units")
		skipped := rapid.IntRange(0, 5).Draw(t, "skipped")
		fates := rapid.SliceOfN(rapid.IntRange(0, 4), n, n).Draw(t, "fates")
		units := symbols(n)
		fate := make(map[market.Symbol]int, n)
		for i, u := range units {
			fate[u] = fates[i]
		}
		told := 0
		tally := sweep.Sweep{
			Workers: rapid.IntRange(0, 5).Draw(t, "workers"),
			Each:    func(sweep.Unit) { told++ },
			Visit: func(ctx context.Context, s market.Symbol) (sweep.Result, error) {
				switch fate[s] {
				case 0:
					return sweep.Result{Outcome: sweep.NotReady}, nil
				case 1:
					return sweep.Result{}, classed{class: "limit_note"}
				case 2:
					return sweep.Result{}, classed{class: "quota", stop: true}
				}
				return stored(ctx, s)
			},
		}.Run(t.Context(), units)
		r := sweep.NewReport("j", "p", skipped, tally, false)
		if r.Symbols != n+skipped || r.Symbols != r.Fetched+r.Skipped+r.Failed || told > n || len(r.Failures) != r.Failed {
			t.Fatalf("report %+v, told of %d", r, told)
		}
		if r.Stopped == "" && told != n {
			t.Fatalf("told of %d of %d units", told, n)
		}
	})
}

func TestClassifyIsClosed(t *testing.T) {
	t.Parallel()
	for _, o := range sweep.Outcomes() {
		if got := sweep.Classify(t.Context(), fmt.Errorf("x: %w", classed{class: string(o)})).Outcome; got != o {
			t.Errorf("Classify(%s) = %s", o, got)
		}
	}
	if got := sweep.Classify(t.Context(), errors.New("boom")).Outcome; got != sweep.ProviderError {
		t.Errorf("an unknown error is %s", got)
	}
	if got := sweep.Classify(t.Context(), classed{class: "made_up"}).Outcome; got != sweep.ProviderError {
		t.Errorf("a class outside the list is %s", got)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if got := sweep.Classify(cancelled, classed{class: "bad_payload"}).Outcome; got != sweep.Interrupted {
		t.Errorf("after the end of ctx: %s", got)
	}
}

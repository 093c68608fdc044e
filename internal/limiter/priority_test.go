package limiter_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// inOrder lets callers enter one after the other, the first of all with
// the slots shut, and returns the order in which they went.
func inOrder(t *testing.T, l *limiter.Limiter, callers ...limiter.Request) []limiter.Request {
	t.Helper()
	if err := l.Pause(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	went := make(chan limiter.Request, len(callers))
	var wg sync.WaitGroup
	for _, r := range callers {
		wg.Go(func() {
			if err := l.WaitFor(t.Context(), r); err != nil {
				t.Error(err)
			}
			went <- r
		})
		synctest.Wait()
	}
	wg.Wait()
	close(went)
	var order []limiter.Request
	for r := range went {
		order = append(order, r)
	}
	return order
}

// times returns n requests of a class.
func times(n int, c limiter.Class) []limiter.Request {
	return slices.Repeat([]limiter.Request{{Class: c, Cost: 1}}, n)
}

// oneByOne answers with slots a little apart.
func oneByOne(a asked) (any, error) {
	var delays []time.Duration
	for i := range a.n {
		delays = append(delays, time.Duration(i+1)*time.Millisecond)
	}
	return slotsAt(delays...)
}

func TestClassesGoInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, limiter.Options{}, oneByOne)
		want := slices.Concat(times(3, limiter.Scheduled), times(3, limiter.Manual), times(2, limiter.Backfill))
		mixed := slices.Clone(want)
		slices.Reverse(mixed)
		if got := inOrder(t, l, mixed...); !slices.Equal(got, want) {
			t.Errorf("went in the order %v", got)
		}
	})
}

func TestEveryTenthSlotGoesToALowerClass(t *testing.T) {
	t.Parallel()
	for name, classes := range map[string][]limiter.Class{
		"Backfill behind Scheduled":            {limiter.Backfill, limiter.Scheduled},
		"Backfill behind Manual":               {limiter.Backfill, limiter.Manual},
		"Manual behind Scheduled":              {limiter.Manual, limiter.Scheduled},
		"Backfill behind Manual and Scheduled": {limiter.Backfill, limiter.Manual, limiter.Scheduled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const callers = 100
				l, _ := newScripted(t, limiter.Options{}, oneByOne)
				var all []limiter.Request
				for _, c := range classes {
					all = append(all, times(callers, c)...)
				}
				got := inOrder(t, l, all...)[:callers]
				counts := map[limiter.Class]int{}
				for _, r := range got {
					counts[r.Class]++
				}
				lowest, first := classes[0], classes[len(classes)-1]
				if len(classes) == 2 && counts[lowest] != callers/10 {
					t.Errorf("%d of %d slots went to the lower class, want a tenth", counts[lowest], callers)
				}
				if counts[lowest] == 0 || counts[first] < callers*8/10 {
					t.Errorf("of %d slots each class got %v: none may get nothing", callers, counts)
				}
			})
		})
	}
}

// saturate keeps n callers of a class waiting until ctx ends and hands each
// grant to note.
func saturate(ctx context.Context, wg *sync.WaitGroup, l *limiter.Limiter, n int, r limiter.Request, note func(waited time.Duration)) {
	for range n {
		wg.Go(func() {
			for {
				began := time.Now()
				if l.WaitFor(ctx, r) != nil {
					return
				}
				note(time.Since(began))
			}
		})
	}
}

// tally collects what several callers saw.
type tally struct {
	mu      sync.Mutex
	at      []time.Time
	longest time.Duration
}

func (c *tally) note(waited time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, time.Now())
	c.longest = max(c.longest, waited)
}

func (c *tally) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

func TestScheduledCallGoesAheadOfAFullBackfill(t *testing.T) {
	t.Parallel()
	const together, apart = "one process", "two processes"
	for _, where := range []string{together, apart} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := perSecond(60)
				b := newMemoryBucket(w)
				b.latency = time.Millisecond
				busy, _ := b.process(t, limiter.Options{}, w)
				daily := busy
				bound := time.Duration(2/b.rate*1e9) + 5*time.Millisecond
				if where == apart {
					daily, _ = b.process(t, limiter.Options{}, w)
					bound += 100 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				var wg sync.WaitGroup
				var low, high tally
				saturate(ctx, &wg, busy, 64, limiter.Request{Class: limiter.Backfill}, low.note)
				for i := range 100 {
					time.Sleep(150*time.Millisecond + time.Duration(i)*time.Millisecond/10)
					began := time.Now()
					if err := daily.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					high.note(time.Since(began))
				}
				wg.Wait()
				if high.longest > bound {
					t.Errorf("a scheduled call waited %s under a full backfill, want at most %s", high.longest, bound)
				}
				if got, want := low.count()+high.count(), int(b.rate*20*0.99); got < want {
					t.Errorf("%d calls in 20 s, want %d: the limit is to be used", got, want)
				}
				all := append(low.at, high.at...)
				if over := tokensOver(all, b.rate, b.capacity); over > b.rate*0.05 {
					t.Errorf("%.3f calls over the curve", over)
				}
			})
		})
	}
}

// The same on a real Redis and with the real clock, so within wide bounds.
func TestScheduledCallGoesAheadOfAnotherProcessesBackfill(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	w := perSecond(60)
	busy := newLimiter(t, client(t, url), limiter.Options{}, w)
	daily := newLimiter(t, client(t, url), limiter.Options{}, w)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var low tally
	saturate(ctx, &wg, busy, 64, limiter.Request{Class: limiter.Backfill}, low.note)
	var waits []time.Duration
	for range 11 {
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if err := daily.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		waits = append(waits, time.Since(began))
	}
	cancel()
	wg.Wait()
	// In the order of arrival it would be 64 calls, 1.3 s.
	slices.Sort(waits)
	if median := waits[len(waits)/2]; median > 500*time.Millisecond {
		t.Errorf("scheduled calls waited %v", waits)
	}
}

func TestBackfillGetsItsShareUnderAnotherProcessesLoad(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{6, 60, 600} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := limiter.Window{Name: "provider", Limit: limit, Length: 10 * time.Second}
				b := newMemoryBucket(w)
				b.latency = time.Millisecond
				scheduled, _ := b.process(t, limiter.Options{}, w)
				backfill, _ := b.process(t, limiter.Options{}, w)
				long := time.Duration(1000 / b.rate * 1e9) // a thousand calls
				ctx, cancel := context.WithTimeout(t.Context(), long)
				defer cancel()
				var wg sync.WaitGroup
				var low, high tally
				saturate(ctx, &wg, scheduled, 8, limiter.Request{}, high.note)
				saturate(ctx, &wg, backfill, 8, limiter.Request{Class: limiter.Backfill}, low.note)
				wg.Wait()
				all := b.rate * long.Seconds()
				if share := float64(low.count()) / all; share < 0.05 || share > 0.15 {
					t.Errorf("backfill had %.3f of the rate, want about a tenth", share)
				}
				if used := float64(low.count()+high.count()) / all; used < 0.98 {
					t.Errorf("%.3f of the rate was used", used)
				}
			})
		})
	}
}

// provider and a day of which backfill leaves a part.
func reserving() []limiter.Window {
	return []limiter.Window{perSecond(20), {Name: "provider.day", Limit: 25, Reserve: 10, Daily: time.UTC}}
}

func TestSlotFromTheReserveIsNotForBackfill(t *testing.T) {
	t.Parallel()
	for _, c := range []limiter.Class{limiter.Manual, limiter.Backfill} {
		for _, windows := range [][]limiter.Window{nil, reserving()} {
			synctest.Test(t, func(t *testing.T) {
				l, _ := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
					if a.line == int(limiter.Scheduled) {
						return slotsAt(100 * time.Millisecond)
					}
					return askIn(time.Second, time.Second)
				}, windows...)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(50*time.Millisecond, cancel)
				go func() { _ = l.WaitFor(ctx, limiter.Request{}) }()
				synctest.Wait()
				low, stop := context.WithCancel(t.Context())
				time.AfterFunc(500*time.Millisecond, stop)
				err := l.WaitFor(low, limiter.Request{Class: c})
				if want := windows == nil || c <= limiter.Scheduled; (err == nil) != want {
					t.Errorf("class %d, reserve %t: %v", c, windows != nil, err)
				}
			})
		}
	}
}

func TestSpentForBackfillIsNotSpentForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reset := time.Now().Add(24 * time.Hour)
		l, _ := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			switch {
			case a.line == int(limiter.Scheduled):
				return slotsAt(time.Second)
			case a.call == 2:
				return slotsAt(3 * time.Second) // for the first backfill
			}
			time.Sleep(100 * time.Millisecond)
			return []any{int64(limiter.Spent), int64(2), reset.Unix()}, nil
		}, reserving()...)
		errs := map[string]chan error{}
		for _, c := range []struct {
			name  string
			class limiter.Class
		}{{"daily", limiter.Scheduled}, {"first", limiter.Backfill}, {"second", limiter.Backfill}, {"third", limiter.Backfill}} {
			done := make(chan error, 1)
			errs[c.name] = done
			go func() { done <- l.WaitFor(t.Context(), limiter.Request{Class: c.class}) }()
			synctest.Wait()
		}
		for _, name := range []string{"second", "third"} {
			err := <-errs[name]
			quota, ok := errors.AsType[*limiter.QuotaError](err)
			if !ok || quota.Name != "provider.day" || quota.Limit != 25 || quota.Reserve != 10 || !quota.Reset.Equal(reset) {
				t.Errorf("%s backfill: %v, want a QuotaError of the day with its reserve", name, err)
			}
		}
		for _, name := range []string{"first", "daily"} {
			if err := <-errs[name]; err != nil {
				t.Errorf("%s: %v, want the slot that it had or gets", name, err)
			}
		}
		if st := l.Stats(); st.Spent != 2 || st.Grants != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// A caller with no slot of its own learns at once that the day is spent, also
// while another has one.
func TestSpentIsNotAskedForAgainAndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			if a.call == 1 {
				return slotsAt(250 * time.Millisecond)
			}
			time.Sleep(time.Millisecond)
			return []any{int64(limiter.Spent), int64(2), time.Now().Unix() + 9}, nil
		}, perSecond(20), limiter.Window{Name: "provider.day", Limit: 25, Daily: time.UTC})
		daily := make(chan error, 1)
		go func() { daily <- l.Wait(t.Context()) }()
		synctest.Wait()
		began := time.Now()
		err := l.WaitFor(t.Context(), limiter.Request{Class: limiter.Backfill})
		if _, spent := errors.AsType[*limiter.QuotaError](err); !spent || time.Since(began) > 10*time.Millisecond {
			t.Errorf("%v after %s, want a QuotaError at once", err, time.Since(began))
		}
		if err := <-daily; err != nil {
			t.Errorf("the caller with the slot: %v", err)
		}
		if n := len(s.takes()); n > 3 {
			t.Errorf("%d requests for two callers", n)
		}
	})
}

func TestCostsOfOneAndTwoAreAllServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := limiter.Window{Name: "provider", Limit: 20, Length: time.Second, Burst: 4}
		b := newMemoryBucket(w)
		b.latency = 3 * time.Millisecond
		l, _ := b.process(t, limiter.Options{}, w)
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				r := limiter.Request{Class: limiter.Class(i / 2 % 3), Cost: 1 + i%2}
				if err := l.WaitFor(ctx, r); err != nil {
					t.Errorf("class %d, cost %d: %v", r.Class, r.Cost, err)
				}
			})
		}
		wg.Wait()
		if st := l.Stats(); st.Grants != 60 || st.Tokens != 90 {
			t.Errorf("%+v", st)
		}
		// Nobody gave up, so nothing is to be wasted.
		time.Sleep(time.Minute)
		if st := l.Stats(); st.Unused != 0 {
			t.Errorf("%d tokens were taken and not used", st.Unused)
		}
	})
}

// A class that may not touch the reserve gets on all the same while another
// always has callers.
func TestBackfillGetsItsShareBesideAReserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := perSecond(20)
		b := newMemoryBucket(w)
		l, _ := newScripted(t, limiter.Options{}, b.answer, w, limiter.Window{Name: "provider.day", Limit: 1e6, Reserve: 10, Daily: time.UTC})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var low, high tally
		saturate(ctx, &wg, l, 8, limiter.Request{}, high.note)
		saturate(ctx, &wg, l, 8, limiter.Request{Class: limiter.Backfill}, low.note)
		wg.Wait()
		if share := float64(low.count()) / (b.rate * 60); share < 0.05 {
			t.Errorf("backfill had %.3f of the rate, want a tenth", share)
		}
	})
}

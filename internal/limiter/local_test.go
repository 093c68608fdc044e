package limiter_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// outage is a test of some processes with more callers than the limit lets go,
// through the loss of Redis.
type outage struct {
	processes, replicas int
	window              limiter.Window
	before, down, after time.Duration
}

// run returns the times of all calls, when Redis was away, and the processes.
func (o outage) run(t *testing.T) (went []time.Time, from, to time.Time, b *memoryBucket, all []*limiter.Limiter) {
	t.Helper()
	b = newMemoryBucket(o.window)
	b.latency = time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), o.before+o.down+o.after)
	defer cancel()
	var wg sync.WaitGroup
	var calls tally
	for range o.processes {
		l, _ := b.process(t, limiter.Options{Replicas: o.replicas}, o.window)
		all = append(all, l)
		saturate(ctx, &wg, l, 4, limiter.Request{}, calls.note)
	}
	time.Sleep(o.before)
	from, to = time.Now(), time.Now().Add(o.down)
	b.setDown(errDown)
	time.Sleep(o.down)
	b.setDown(nil)
	wg.Wait()
	time.Sleep(time.Minute) // requests that are still in flight
	synctest.Wait()
	return calls.at, from, to, b, all
}

// during returns the times from one to another, both included.
func during(times []time.Time, from, to time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(times), func(at time.Time) bool { return at.Before(from) || at.After(to) })
}

func TestOutageKeepsTheLimitWithoutRedis(t *testing.T) {
	t.Parallel()
	windows := []limiter.Window{perSecond(60), {Name: "provider", Limit: 60, Length: time.Minute}, {Name: "provider", Limit: 200, Length: 5 * time.Second, Burst: 20}}
	for n := 1; n <= 5; n++ {
		for _, w := range windows {
			t.Run(fmt.Sprintf("%d processes, %d in %s", n, w.Limit, w.Length), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					scale := max(1, w.Length/(5*time.Second))
					o := outage{n, 5, w, 2 * time.Second * scale, 3 * time.Second * scale, 4 * time.Second * scale}
					went, from, to, b, all := o.run(t)
					if most := mostDuring(went, w.Length); most > w.Limit {
						t.Errorf("%d calls in a window of %d", most, w.Limit)
					}
					share := b.rate * 0.9 / 5 * float64(n)
					// The first second goes to finding out.
					away := during(went, from.Add(time.Second), to)
					if got, want := float64(len(away)), share*(o.down-time.Second).Seconds(); got < 0.6*want-float64(n) || got > want+float64(n) {
						t.Errorf("%.0f calls while Redis was away, want about %.0f", got, want)
					}
					var used int64
					for _, l := range all {
						used += l.Stats().Local
					}
					// What has left the window since then need not be told.
					least := min(used, int64(share*w.Length.Seconds()))
					if told := int64(b.owed); told > used || told < least || used == 0 {
						t.Errorf("%d tokens used without Redis, %d of them told to it, want at least %d", used, told, least)
					}
				})
			})
		}
	}
}

func TestOutageWithoutReplicasLetsNothingGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := perSecond(60)
		went, from, to, b, all := outage{3, 0, w, 2 * time.Second, 3 * time.Second, 4 * time.Second}.run(t)
		// Slots that were taken before are as good as ever.
		if away := during(went, from.Add(limiter.DefaultHorizon), to); len(away) > 0 {
			t.Errorf("%d calls while Redis was away", len(away))
		}
		if again := during(went, to, to.Add(2*time.Second)); len(again) == 0 {
			t.Error("no call after Redis had come back")
		}
		if st := all[0].Stats(); st.Local != 0 || b.owed != 0 || mostDuring(went, w.Length) > w.Limit {
			t.Errorf("%+v", st)
		}
	})
}

func TestShareWithoutRedisStartsEmpty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := limiter.Window{Name: "provider", Limit: 60, Length: time.Minute}
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, _ := b.process(t, limiter.Options{Replicas: 2}, w)
		each := time.Duration(2 / (0.9 * b.rate) * 1e9)
		last := time.Now()
		for i := range 5 {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if gap := time.Since(last); gap < each-time.Millisecond || gap > each+2*time.Second {
				t.Errorf("call %d came %s after the one before, want %s", i, gap, each)
			}
			last = time.Now()
		}
	})
}

func TestRedisIsTriedOnceASecondWithoutIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := perSecond(60)
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, s := b.process(t, limiter.Options{Replicas: 1}, w)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var calls tally
		saturate(ctx, &wg, l, 4, limiter.Request{}, calls.note)
		wg.Wait()
		takes := s.takes()
		if n := len(takes); n < 30 || n > 64 {
			t.Errorf("Redis was tried %d times in 30 s, want once in 0.5 to 1 s", n)
		}
		for i := 4; i < len(takes); i++ {
			if gap := takes[i].at.Sub(takes[i-1].at); gap < 500*time.Millisecond {
				t.Errorf("tried again after %s", gap)
			}
		}
	})
}

// A slow limit gives a process of several a call every minute; Redis is looked
// for all the same, and found when it is back.
func TestRedisIsFoundAgainWhileACallerWaitsForTheShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := limiter.Window{Name: "provider", Limit: 5, Length: time.Minute}
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, _ := b.process(t, limiter.Options{Replicas: 5}, w)
		time.AfterFunc(5*time.Second, func() { b.setDown(nil) })
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) > 7*time.Second {
			t.Errorf("%v after %s, want a call within 2 s of Redis' return after 5 s", err, time.Since(began))
		}
	})
}

// What one class was told without Redis says nothing once it is back.
func TestRecoveryForgetsTheHintsOfTheShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := limiter.Window{Name: "provider", Limit: 5, Length: time.Minute, Burst: 3}
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, _ := b.process(t, limiter.Options{Replicas: 5}, w)
		began := time.Now()
		low := make(chan time.Duration, 1)
		go func() {
			if err := l.WaitFor(t.Context(), limiter.Request{Class: limiter.Backfill}); err != nil {
				t.Error(err)
			}
			low <- time.Since(began)
		}()
		time.Sleep(5 * time.Second)
		b.setDown(nil)
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := <-low; at > 10*time.Second {
			t.Errorf("backfill went after %s, want soon after Redis was back at 5 s with tokens for both", at)
		}
	})
}

func TestCostOfTwoIsServedWithoutRedis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := limiter.Window{Name: "provider", Limit: 61, Length: time.Minute, Burst: 2}
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, _ := b.process(t, limiter.Options{Replicas: 1}, w)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		began := time.Now()
		for range 3 {
			if err := l.WaitFor(ctx, limiter.Request{Cost: 2}); err != nil {
				t.Fatal(err)
			}
		}
		if took, least := time.Since(began), time.Duration(6/(0.9*b.rate)*1e9); took < least-time.Second {
			t.Errorf("6 tokens within %s, want %s", took, least)
		}
	})
}

func TestPauseHoldsTheShareToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := perSecond(60)
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, _ := b.process(t, limiter.Options{Replicas: 1, Patience: time.Second}, w)
		for range 3 {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		_ = l.Pause(t.Context(), 20*time.Second) // nobody can be told
		if err := l.Wait(t.Context()); err != nil || time.Since(began) < 20*time.Second {
			t.Errorf("%v after %s, want 20 s", err, time.Since(began))
		}
	})
}

func TestMoreReplicasThanCallsAreRefused(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	if _, err := limiter.New(rdb, limiter.Options{Replicas: 6}, perSecond(5)); err == nil || !strings.Contains(err.Error(), "6 replicas") {
		t.Errorf("%v, want that 6 replicas cannot share 5 calls", err)
	}
}

func TestDayAndExactWindowAreRefusedWithReplicas(t *testing.T) {
	t.Parallel()
	for _, w := range []limiter.Window{
		{Name: "provider.day", Limit: 25, Daily: time.UTC},
		{Name: "provider.exact", Limit: 25, Length: time.Hour, Exact: true},
	} {
		_, err := limiter.New(client(t, testenv.Redis(t)), limiter.Options{Replicas: 1}, perSecond(60), w)
		if err == nil || !strings.Contains(err.Error(), "Replicas") {
			t.Errorf("%s: %v, want that Replicas must be 0", w.Name, err)
		}
	}
}

// What was used meanwhile is debited from every window of a real Redis.
func TestTokensUsedWithoutRedisAreDebited(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	windows := []limiter.Window{
		{Name: "provider", Limit: 10000, Length: time.Hour, Burst: 1000},
		{Name: "provider.slow", Limit: 10000, Length: 2 * time.Hour, Burst: 1000},
	}
	l := newLimiter(t, rdb, limiter.Options{}, windows...)
	now := strconv.FormatFloat(float64(time.Now().UnixMicro())/1e6, 'f', 6, 64)
	if err := rdb.MSet(t.Context(), tokensKey, "500", refillKey, now, "rate_limit:provider.slow:tokens", "500", "rate_limit:provider.slow:last_refill", now).Err(); err != nil {
		t.Fatal(err)
	}
	before, err := l.Levels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const owed = 40
	if a, err := l.Take(limiter.Question{N: 1, Cost: 1, Owed: owed}, nil); err != nil || a.Status != limiter.Taken {
		t.Fatal(a, err)
	}
	after, err := l.Levels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range windows {
		// The bucket refills three tokens a second.
		if debited := before[i].Tokens - after[i].Tokens; debited < owed+1-30 || debited > owed+1.001 {
			t.Errorf("%s: %.3f tokens debited, want %d", w.Name, debited, owed+1)
		}
	}
}

// In a small limit the processes' shares are whole calls.
func TestSmallLimitHoldsWithoutRedis(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 5; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := limiter.Window{Name: "provider", Limit: 5, Length: time.Minute}
			b := newMemoryBucket(w)
			b.setDown(errDown)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			var calls tally
			for range n {
				l, _ := b.process(t, limiter.Options{Replicas: n}, w)
				saturate(ctx, &wg, l, 2, limiter.Request{}, calls.note)
			}
			time.Sleep(18 * time.Minute)
			b.setDown(nil)
			back := time.Now()
			wg.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			var at []int64
			for _, c := range calls.at {
				at = append(at, c.UnixMicro())
			}
			slices.Sort(at)
			if most := busiest(at, w.Length); most > w.Limit {
				t.Errorf("%d processes: %d calls in a minute", n, most)
			}
			if after := during(calls.at, back, time.Now()); len(after) < 3 {
				t.Errorf("%d processes: %d calls in the two minutes after the outage", n, len(after))
			}
		})
	}
}

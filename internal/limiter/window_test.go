package limiter_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// A bucket's figures keep the limit in every half-open window, and waste no
// more than they must.
func TestBucketKeepsTheLimitInEveryWindow(t *testing.T) {
	t.Parallel()
	for limit := 1; limit <= 300; limit++ {
		for _, burst := range []int{1, 2, limit / 2, limit} {
			if burst < 1 || burst > limit {
				continue
			}
			w := limiter.Window{Name: "a", Limit: limit, Length: time.Minute, Burst: burst}
			capacity, rate, _ := limiter.Bucket(w, limiter.DefaultHorizon)
			// The most that a half-open minute can hold is less than this.
			if most := capacity + rate*60; capacity != float64(burst) || most > float64(limit+1) {
				t.Errorf("limit %d, burst %d: capacity %v and rate %v/s let %v through", limit, burst, capacity, rate, most)
			}
			if use := rate * 60 / float64(limit); burst == 1 && use < 0.98 {
				t.Errorf("limit %d: %.3f of it can be used, want 0.98", limit, use)
			}
		}
	}
}

// flow takes calls in virtual time and notes when they start.
type flow struct {
	t       *testing.T
	rdb     *redis.Client
	clock   *clock
	l       *limiter.Limiter
	windows []limiter.Window
	slots   []int64 // µs, one for each unit of cost
	limits  []int   // the highest of each window so far
}

func newFlow(t *testing.T, rdb *redis.Client, start time.Time, windows ...limiter.Window) *flow {
	t.Helper()
	if err := rdb.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	f := &flow{t: t, rdb: rdb, clock: newClock(t, rdb, start), limits: make([]int, len(windows))}
	f.configure(windows)
	return f
}

func (f *flow) configure(windows []limiter.Window) {
	f.t.Helper()
	f.windows = windows
	f.l = newLimiter(f.t, f.rdb, limiter.OnTestClock(limiter.Options{Now: f.clock.now}), windows...)
	for i, w := range windows {
		f.limits[i] = max(f.limits[i], w.Limit)
	}
}

// take asks once, and the ledger where that is wanted. The ledger knows all
// calls that were promised.
func (f *flow) take(q limiter.Question) limiter.Answer {
	f.t.Helper()
	counts := make([]limiter.Count, len(f.windows))
	for {
		a, err := f.l.Take(q, counts)
		if err != nil {
			f.t.Fatal(err)
		}
		if a.Status == limiter.Unknown {
			calls := 0
			for _, at := range f.slots {
				if at >= a.Reset*1e6 {
					calls++
				}
			}
			counts[a.Window] = limiter.NewCount(a.Reset, calls)
			continue
		}
		for _, d := range a.Delays {
			for range q.Cost {
				f.slots = append(f.slots, f.clock.micros+d.Microseconds())
			}
		}
		return a
	}
}

// check holds the calls against all windows. changed says that the limits were
// changed on the way, so that there is no one bucket to hold them against.
func (f *flow) check(r rapid.TB, changed bool) {
	given := slices.Sorted(slices.Values(f.slots))
	for i, w := range f.windows {
		switch {
		case w.Daily != nil:
			f.checkDays(r, w, f.limits[i])
			continue
		case w.Margin < 0:
			w.Length -= 2 * time.Microsecond // the grain of the slots
		}
		if most := busiest(given, w.Length); most > f.limits[i] {
			r.Fatalf("%d calls in a window of %s of %s, the limit is %d", most, w.Length, w.Name, f.limits[i])
		}
		if w.Exact || changed {
			continue
		}
		capacity, rate, _ := limiter.Bucket(w, limiter.DefaultHorizon)
		if over := excess(given, capacity, rate); len(given) > 0 && over > 1e-3 {
			r.Fatalf("%v tokens too many in %s", over, w.Name)
		}
	}
}

func (f *flow) checkDays(r rapid.TB, w limiter.Window, limit int) {
	days := map[string]int{}
	for _, at := range f.slots {
		slot := time.UnixMicro(at).In(w.Daily)
		day := slot.Format(time.DateOnly)
		if days[day]++; days[day] > limit {
			r.Fatalf("%d calls on %s, the limit is %d", days[day], day, limit)
		}
		for _, near := range []time.Duration{-limiter.Guard, limiter.Guard - time.Microsecond} {
			if other := slot.Add(near).Format(time.DateOnly); other != day {
				r.Fatalf("a call at %s, within %s of midnight", slot.Format(time.RFC3339Nano), limiter.Guard)
			}
		}
	}
}

// cost returns the highest cost that a class may ask for.
func (f *flow) cost(c limiter.Class) int {
	most := math.MaxInt
	for _, w := range f.windows {
		switch {
		case w.Daily == nil && !w.Exact:
			most = min(most, max(1, w.Burst))
		case c == limiter.Backfill:
			most = min(most, w.Limit-w.Reserve)
		default:
			most = min(most, w.Limit)
		}
	}
	return most
}

// Idle spells, bursts, batches of all classes, pauses, keys that are lost and
// limits that change, on a clock that goes on: no window that the provider
// counts ever has more calls than its limit.
func TestNoWindowIsEverExceeded(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"calls", "keys lost", "limits changed"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			rdb := patient(t, testenv.Redis(t))
			rapid.Check(t, func(r *rapid.T) {
				// Two days after this the clocks change in New York.
				start := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 3600).Draw(r, "start")) * time.Minute)
				windows := drawWindows(t, r)
				if mode != "calls" {
					// A margin is there for this, too.
					for i := range windows {
						windows[i].Margin = 0
					}
				}
				f := newFlow(t, rdb, start, windows...)
				for range rapid.IntRange(1, 12).Draw(r, "phases") {
					f.phase(r, mode)
				}
				f.check(r, mode == "limits changed")
			})
		})
	}
}

// phase is an idle spell and then a crowd that asks again and again.
func (f *flow) phase(r *rapid.T, mode string) {
	slowest := time.Duration(rapid.SampledFrom([]int64{1e3, 1e5, 1e7, 4e9, 2e10}).Draw(r, "scale")) * time.Microsecond
	f.clock.advance(slowest * time.Duration(rapid.Int64Range(0, 1000).Draw(r, "idle")) / 1000)
	f.toMidnight(r)
	if rapid.IntRange(0, 7).Draw(r, "pause?") == 0 {
		if err := f.l.Pause(f.t.Context(), time.Duration(rapid.IntRange(0, 100).Draw(r, "pause"))*time.Second); err != nil {
			f.t.Fatal(err)
		}
	}
	lose := rapid.IntRange(0, 7).Draw(r, "lose")
	for i := range rapid.IntRange(1, 25).Draw(r, "calls") {
		if mode == "keys lost" && i == lose {
			f.lose(r)
		}
		if mode == "limits changed" && i == lose {
			f.change(r)
		}
		q := limiter.Question{
			Class: limiter.Class(rapid.IntRange(0, 2).Draw(r, "class")),
			N:     rapid.IntRange(1, 32).Draw(r, "n"),
			Aged:  rapid.Bool().Draw(r, "aged"),
		}
		q.Cost = rapid.IntRange(1, f.cost(q.Class)).Draw(r, "cost")
		if a := f.take(q); a.Status == limiter.NotYet && rapid.Bool().Draw(r, "patient") {
			f.clock.advance(a.Ask)
			continue
		}
		f.clock.advance(time.Duration(rapid.SampledFrom([]int64{0, 1, 1e3, 5e4, 1e6}).Draw(r, "think")) * time.Microsecond)
	}
}

// toMidnight goes near the next end of a day, sometimes.
func (f *flow) toMidnight(r *rapid.T) {
	i := slices.IndexFunc(f.windows, func(w limiter.Window) bool { return w.Daily != nil })
	if i < 0 || rapid.IntRange(0, 2).Draw(r, "midnight?") > 0 {
		return
	}
	for _, at := range limiter.Midnights(f.clock.now(), f.windows[i].Daily) {
		near := at.Add(time.Duration(rapid.IntRange(-3000, 3000).Draw(r, "around")) * time.Millisecond)
		if near.After(f.clock.now()) {
			f.clock.set(near.UnixMicro())
			return
		}
	}
}

func (f *flow) lose(r *rapid.T) {
	keys, err := f.rdb.Keys(f.t.Context(), "rate_limit*").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(keys)
	all := rapid.Bool().Draw(r, "all lost")
	for _, key := range keys {
		// Without the share, slots that were promised at the lower rate are
		// paid back at the full one: up to a horizon too early.
		share := strings.HasSuffix(key, ":share")
		if all || !share && rapid.Bool().Draw(r, "lost "+key) {
			if err := f.rdb.Del(f.t.Context(), key).Err(); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

func (f *flow) change(r *rapid.T) {
	windows := slices.Clone(f.windows)
	w := &windows[rapid.IntRange(0, len(windows)-1).Draw(r, "window")]
	w.Limit = rapid.IntRange(max(1, w.Burst, w.Reserve+1), 100).Draw(r, "limit")
	f.configure(windows)
}

// With one call at a time no two calls start together, whatever the batches
// are, and none starts before its predecessor's share of the time is over.
func TestSlotsNeverCoincide(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	window := perSecond(37)
	_, rate, _ := limiter.Bucket(window, limiter.DefaultHorizon)
	rapid.Check(t, func(r *rapid.T) {
		f := newFlow(t, rdb, time.Unix(1772900000, rapid.Int64Range(0, 999999).Draw(r, "micros")*1000), window)
		for range 60 {
			f.take(limiter.Question{Class: limiter.Class(rapid.IntRange(0, 2).Draw(r, "class")), N: rapid.IntRange(1, 20).Draw(r, "n"), Cost: 1})
			f.clock.advance(time.Duration(rapid.SampledFrom([]int64{0, 1, 999, 27027, 300000}).Draw(r, "think")) * time.Microsecond)
		}
		if len(f.slots) < 2 {
			r.Fatal("hardly a call went")
		}
		slices.Sort(f.slots)
		for i, at := range f.slots[1:] {
			if gap := float64(at - f.slots[i]); gap < 1e6/rate-1.5 {
				r.Fatalf("two calls %v µs apart, want %v", gap, 1e6/rate)
			}
		}
	})
}

// What was there, and what came, is what went or is still there.
func TestTokensAreConserved(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	window := limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Burst: 5}
	_, rate, _ := limiter.Bucket(window, limiter.DefaultHorizon)
	owed := rate * window.Length.Seconds() / float64(window.Limit)
	read := func() (tokens, last float64) {
		texts := rdb.MGet(t.Context(), tokensKey, refillKey).Val()
		for i, to := range []*float64{&tokens, &last} {
			text, _ := texts[i].(string)
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			*to = n
		}
		return max(0, tokens) + min(0, tokens)*owed, last
	}
	rapid.Check(t, func(r *rapid.T) {
		f := newFlow(t, rdb, time.Unix(1795380318, rapid.Int64Range(0, 999999).Draw(r, "micros")*1000), window)
		f.take(limiter.Question{N: 1, Cost: 1})
		tokens0, last0 := read()
		f.slots = nil
		for range 200 {
			// The crowd takes more than comes, so nothing overflows.
			f.clock.advance(time.Duration(rapid.Int64Range(0, 90e3).Draw(r, "think")) * time.Microsecond)
			f.take(limiter.Question{N: rapid.IntRange(1, 4).Draw(r, "n"), Cost: rapid.IntRange(1, 3).Draw(r, "cost")})
			if tokens, last := read(); tokens > float64(window.Burst)-1e-9 {
				r.Fatalf("%v tokens as of %v: the test lets the bucket overflow", tokens, last)
			}
		}
		tokens, last := read()
		if want := tokens0 + rate*(last-last0) - float64(len(f.slots)); math.Abs(tokens-want) > 1e-6*200 {
			r.Fatalf("%v tokens, want %v", tokens, want)
		}
	})
}

// A caller that knows the bucket alone and this limiter together keep the
// bucket.
func TestAPlainWriterSharesTheBucket(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	window := limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Burst: 5}
	rapid.Check(t, func(r *rapid.T) {
		f := newFlow(t, rdb, time.Unix(1795380318, 0), window)
		plain := newModelWindow(window)
		for range 150 {
			f.clock.advance(time.Duration(rapid.SampledFrom([]int64{0, 1, 1e3, 3e4, 3e5}).Draw(r, "think")) * time.Microsecond)
			if rapid.Bool().Draw(r, "plain") {
				if acquirePlainly(t, rdb, plain, float64(f.clock.micros)/1e6) {
					f.slots = append(f.slots, f.clock.micros)
				}
				continue
			}
			f.take(limiter.Question{N: rapid.IntRange(1, 4).Draw(r, "n"), Cost: rapid.IntRange(1, 5).Draw(r, "cost")})
		}
		f.check(r, false)
	})
}

// A caller that refills by the plain limit, faster than the bucket is, never
// comes close to a slot that was promised before: no window gets too much.
func TestAPlainLimitBesideTheBucket(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	rapid.Check(t, func(r *rapid.T) {
		window := limiter.Window{
			Name: "provider", Limit: rapid.IntRange(1, 60).Draw(r, "limit"), Length: time.Second,
			Margin: time.Duration(rapid.SampledFrom([]int64{-1, 20, 200, 3000}).Draw(r, "margin")) * time.Millisecond,
		}
		f := newFlow(t, rdb, time.Unix(1795380318, 0), window)
		plain := newModelWindow(window)
		plain.rate = float64(window.Limit) / window.Length.Seconds()
		for range 200 {
			f.clock.advance(time.Duration(rapid.SampledFrom([]int64{0, 1e3, 2e4, 1e5, 5e5}).Draw(r, "think")) * time.Microsecond)
			if rapid.IntRange(0, 3).Draw(r, "plain") > 0 {
				if acquirePlainly(t, rdb, plain, float64(f.clock.micros)/1e6) {
					f.slots = append(f.slots, f.clock.micros)
				}
				continue
			}
			f.take(limiter.Question{N: rapid.IntRange(1, 20).Draw(r, "n"), Cost: 1})
		}
		slices.Sort(f.slots)
		// The grain of the clock and of the slots.
		if most := busiest(f.slots, window.Length-5*time.Microsecond); most > window.Limit {
			r.Fatalf("%d calls in a window, the limit is %d", most, window.Limit)
		}
	})
}

// With a wide margin the bucket is far slower than the plain limit, so that a
// debt in tokens of its own rate would be paid long before its slots are over.
func TestAPlainLimitWaitsForTheSlots(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	window := limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Margin: 4 * time.Second}
	f := newFlow(t, rdb, time.Unix(1795380318, 0), window)
	f.take(limiter.Question{N: 1, Cost: 1}) // the bucket is new
	f.clock.advance(time.Minute)
	f.take(limiter.Question{N: 20, Cost: 1})
	if len(f.slots) < 3 {
		t.Fatalf("slots %v", f.slots)
	}
	last := slices.Max(f.slots)
	plain := newModelWindow(window)
	plain.rate = float64(window.Limit) / window.Length.Seconds()
	for f.clock.micros < last+1_000_000 {
		f.clock.advance(time.Millisecond)
		if acquirePlainly(t, rdb, plain, float64(f.clock.micros)/1e6) {
			if wait := time.Duration(f.clock.micros-last) * time.Microsecond; wait < 20*time.Millisecond {
				t.Errorf("a call %s after the last slot, want at least the 20ms of the limit", wait)
			}
			return
		}
	}
	t.Error("no call in a second")
}

// Keys that are lost while slots are out cost some time and let nothing
// through too much, for all sizes of the margin.
func TestLostKeysLetNothingThrough(t *testing.T) {
	t.Parallel()
	for _, w := range []limiter.Window{
		{Name: "provider", Limit: 100, Length: time.Second},
		{Name: "provider", Limit: 100, Length: time.Second, Margin: -1, Burst: 10},
		{Name: "provider", Limit: 5, Length: time.Minute},
	} {
		t.Run(fmt.Sprintf("%d per %s, burst %d", w.Limit, w.Length, w.Burst), func(t *testing.T) {
			t.Parallel()
			f := newFlow(t, patient(t, testenv.Redis(t)), time.Unix(1772900000, 0), w)
			for i := range 400 {
				f.take(limiter.Question{N: 64, Cost: 1})
				f.clock.advance(w.Length / 23)
				if i%17 == 0 {
					if err := f.rdb.Del(t.Context(), tokensKey).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(f.slots) < w.Limit {
				t.Errorf("%d calls only", len(f.slots))
			}
			f.check(t, false)
		})
	}
}

// The rate is what a window lets through in the long run, less its margin.
func TestRateOfAWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		window limiter.Window
		want   float64
	}{
		"a margin by default": {limiter.Window{Limit: 5, Length: time.Minute}, 5.0 / 61},
		"no margin":           {limiter.Window{Limit: 5, Length: time.Minute, Margin: -1}, 5.0 / 60},
		"a burst":             {limiter.Window{Limit: 5, Length: time.Minute, Margin: time.Second, Burst: 3}, 3.0 / 61},
		"exact":               {limiter.Window{Limit: 5, Length: time.Minute, Margin: time.Second, Burst: 3, Exact: true}, 5.0 / 61},
		"a day":               {limiter.Window{Limit: 5, Daily: time.UTC}, 0},
	} {
		if got := test.window.Rate(); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

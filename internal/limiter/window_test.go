package limiter_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestBucketLeavesAMargin(t *testing.T) {
	t.Parallel()
	for limit := 1; limit <= 2000; limit++ {
		capacity, rate := limiter.Bucket(limit, time.Minute)
		if most := math.Floor(capacity + rate*60*1.02); capacity < 1 || most > float64(limit) {
			t.Errorf("limit %d: capacity %v and rate %v/s let %v through in 61.2 s", limit, capacity, rate, most)
		}
		if use := rate * 60 / float64(limit); limit >= 20 && use < 0.93 {
			t.Errorf("limit %d: %.3f of it can be used, want 0.93", limit, use)
		}
	}
	for _, c := range []struct {
		limit          int
		capacity, rate float64
	}{{1, 1, 0.98}, {5, 1, 3.92}, {8, 1, 6.86}, {60, 3, 55.86}, {300, 15, 279.3}} {
		capacity, rate := limiter.Bucket(c.limit, time.Second)
		if capacity != c.capacity || math.Abs(rate-c.rate) > 1e-9 {
			t.Errorf("limit %d: capacity %v, rate %v; want %v, %v", c.limit, capacity, rate, c.capacity, c.rate)
		}
	}
}

// busiest returns the most slots in any window of that length. Slots are in
// microseconds.
func busiest(slots []int64, length time.Duration) int {
	most, from := 0, 0
	for i, slot := range slots {
		for slot-slots[from] > length.Microseconds() {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// excess returns by how many tokens the slots go beyond a bucket, over windows
// of every length at once.
func excess(slots []int64, capacity, rate float64) float64 {
	lowest, worst := math.Inf(1), math.Inf(-1)
	for i, slot := range slots {
		x := float64(i) - rate*float64(slot-slots[0])/1e6
		lowest = min(lowest, x)
		worst = max(worst, x-lowest+1-capacity)
	}
	return worst
}

// slots returns the slots given out, in microseconds on Redis' clock.
func slots(t testing.TB, rdb *redis.Client) []int64 {
	texts, err := rdb.LRange(t.Context(), limiter.TestSlots, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []int64
	for _, text := range texts {
		slot, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, slot)
	}
	slices.Sort(all)
	return all
}

// Idle spells, bursts, pauses and waiting processes, on a clock that goes on:
// no provider window, sliding or day, ever has more calls than its limit.
func TestNoWindowIsEverExceeded(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	rapid.Check(t, func(r *rapid.T) {
		if err := rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		m := newMachine(t, r, rdb)
		for range rapid.IntRange(1, 12).Draw(r, "phases") {
			m.setClock(m.micros + rapid.Int64Range(0, 4e9).Draw(r, "idle"))
			if rapid.IntRange(0, 5).Draw(r, "pause?") == 0 {
				if err := m.l.Pause(t.Context(), time.Duration(rapid.IntRange(0, 900).Draw(r, "pause"))*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			for range rapid.IntRange(1, 30).Draw(r, "calls") {
				m.setClock(m.micros + rapid.Int64Range(0, 3e6).Draw(r, "think"))
				since := int64(0)
				if last := m.model.windows[len(m.model.windows)-1]; last.rate == 0 {
					start, _ := m.model.day(last)
					since = int64(start)
				}
				_, _, _ = m.l.Take(t.Context(), -1, 3, since) // a refusal is fine
			}
		}
		m.checkWindows(slots(t, rdb))
	})
}

func (m *machine) checkWindows(given []int64) {
	for _, w := range m.configured {
		if w.Daily == nil {
			if most := busiest(given, w.Length); most > w.Limit {
				m.r.Fatalf("%d calls in a window of %s, the limit is %d", most, w.Length, w.Limit)
			}
			if over := excess(given, limiterCapacity(w), limiterRate(w)); over > 1e-3 {
				m.r.Fatalf("%v tokens too many", over)
			}
			continue
		}
		days := map[string]int{}
		for _, slot := range given {
			day := time.UnixMicro(slot).In(w.Daily).Format(time.DateOnly)
			if days[day]++; days[day] > w.Limit {
				m.r.Fatalf("%d calls on %s, the limit is %d", days[day], day, w.Limit)
			}
		}
	}
}

func limiterCapacity(w limiter.Window) float64 {
	capacity, _ := limiter.Bucket(w.Limit, w.Length)
	return capacity
}

func limiterRate(w limiter.Window) float64 {
	_, rate := limiter.Bucket(w.Limit, w.Length)
	return rate
}

// Three processes with many callers each, in real time.
func TestProcessesShareALimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit   int
		length  time.Duration
		callers int
		calls   int // in all
	}{
		{1, 100 * time.Millisecond, 4, 15},
		{5, 300 * time.Millisecond, 10, 25},
		{20, time.Second, 10, 40},
		{200, time.Second, 30, 450},
	} {
		t.Run(fmt.Sprintf("%d per %s", c.limit, c.length), func(t *testing.T) {
			t.Parallel()
			window := limiter.Window{Name: "provider", Limit: c.limit, Length: c.length}
			url := testenv.Redis(t)
			rdb := client(t, url)
			var processes []*limiter.Limiter
			for range 3 {
				l := newLimiter(t, client(t, url), limiter.Options{}, window)
				l.RecordSlots(t)
				processes = append(processes, l)
			}
			began := time.Now()
			starts := callAll(t, processes, c.callers, c.calls)
			took := time.Since(began)

			given := slots(t, rdb)
			if len(given) != c.calls {
				t.Fatalf("%d slots for %d calls", len(given), c.calls)
			}
			if most := busiest(given, c.length); most > c.limit {
				t.Errorf("%d calls in a window, the limit is %d", most, c.limit)
			}
			if over := excess(given, limiterCapacity(window), limiterRate(window)); over > 1e-3 {
				t.Errorf("%v tokens too many", over)
			}
			for i := range starts {
				if early := given[i] - starts[i]; early > 100 {
					t.Fatalf("call %d started %d µs before its slot", i, early)
				}
			}
			ideal := time.Duration(float64(c.calls) / limiterRate(window) * float64(time.Second))
			t.Logf("%d calls in %s, ideal %s", c.calls, took, ideal)
			if took > 3*ideal {
				t.Errorf("took %s, ideal is %s: the limit is not used", took, ideal)
			}
		})
	}
}

// callAll makes calls in all and returns when they started, sorted, in Unix
// microseconds.
func callAll(t *testing.T, processes []*limiter.Limiter, callers, calls int) []int64 {
	t.Helper()
	var mu sync.Mutex
	var starts []int64
	var wg sync.WaitGroup
	left := make(chan struct{}, calls)
	for range calls {
		left <- struct{}{}
	}
	close(left)
	for i := range callers * len(processes) {
		wg.Go(func() {
			for range left {
				if err := processes[i%len(processes)].Wait(t.Context()); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				starts = append(starts, time.Now().UnixMicro())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(starts)
	return starts
}

// Keys that are lost in mid-run come back empty: of each other process at most
// the one slot that was out then goes too many.
func TestLostKeysAreEmpty(t *testing.T) {
	t.Parallel()
	for _, processes := range []int{1, 3} {
		t.Run(strconv.Itoa(processes), func(t *testing.T) {
			t.Parallel()
			window := limiter.Window{Name: "provider", Limit: 50, Length: 500 * time.Millisecond}
			url := testenv.Redis(t)
			rdb := client(t, url)
			var all []*limiter.Limiter
			for range processes {
				l := newLimiter(t, client(t, url), limiter.Options{}, window)
				l.RecordSlots(t)
				all = append(all, l)
			}
			done := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { loseKeys(t, rdb, window.Length+100*time.Millisecond, done) })
			callAll(t, all, 8, 200)
			close(done)
			wg.Wait()
			most := busiest(slots(t, rdb), window.Length)
			t.Logf("%d in a window of %d", most, window.Limit)
			if most > window.Limit+processes-1 {
				t.Errorf("%d calls in a window, the limit is %d", most, window.Limit)
			}
		})
	}
}

// loseKeys deletes a limit's keys again and again.
func loseKeys(t *testing.T, rdb *redis.Client, every time.Duration, done <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if err := rdb.Del(t.Context(), tokensKey, refillKey).Err(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDaysStartWithTheirDate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"UTC", "America/New_York", "America/Santiago", "America/Havana", "America/Asuncion",
		"Asia/Beirut", "Asia/Amman", "Asia/Kolkata", "Africa/Cairo", "Australia/Lord_Howe", "Atlantic/Azores",
	} {
		zone := location(t, name)
		for day := time.Date(2015, 1, 1, 12, 0, 0, 0, time.UTC); day.Year() < 2031; day = day.AddDate(0, 0, 5) {
			all := limiter.Midnights(day, zone)
			for i, midnight := range all {
				here, before := midnight.In(zone), midnight.Add(-1).In(zone)
				if here.YearDay() == before.YearDay() || here.Day() != day.In(zone).AddDate(0, 0, i-2).Day() {
					t.Fatalf("%s: the day around %s starts at %s", name, day.Format(time.DateOnly), here)
				}
			}
		}
	}
}

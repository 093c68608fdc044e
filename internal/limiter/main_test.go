package limiter_test

import (
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) {
	beProcess()
	testenv.Main(m)
}

// client returns a client as the worker makes it.
func client(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := limiter.ClientOptions(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// newLimiter returns a limiter as one more process would have it.
func newLimiter(t testing.TB, rdb redis.UniversalClient, o limiter.Options, windows ...limiter.Window) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(rdb, o, windows...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The limit that most tests use.
const (
	tokensKey = "rate_limit:provider:tokens"
	refillKey = "rate_limit:provider:last_refill"
)

func perSecond(limit int) limiter.Window {
	return limiter.Window{Name: "provider", Limit: limit, Length: time.Second}
}

// held returns the two keys as they are, and as alpha-oracle reads them: the
// tokens that there are now.
func held(t testing.TB, rdb *redis.Client, rate float64) (tokens, last string, level float64) {
	t.Helper()
	texts, err := rdb.MGet(t.Context(), tokensKey, refillKey).Result()
	if err != nil {
		t.Fatal(err)
	}
	tokens, _ = texts[0].(string)
	last, _ = texts[1].(string)
	n, err := strconv.ParseFloat(tokens, 64)
	if err != nil {
		t.Fatalf("tokens are %q", tokens)
	}
	at, err := strconv.ParseFloat(last, 64)
	if err != nil {
		t.Fatalf("last_refill is %q", last)
	}
	return tokens, last, n + rate*(float64(time.Now().UnixMicro())/1e6-at)
}

// clock is the time that the scripts of a limiter on a test clock see, and what
// its Options.Now may return.
type clock struct {
	t      testing.TB
	rdb    *redis.Client
	micros int64        // what the test set
	at     atomic.Int64 // the same, for the limiter's goroutines
}

func newClock(t testing.TB, rdb *redis.Client, start time.Time) *clock {
	t.Helper()
	c := &clock{t: t, rdb: rdb}
	c.set(start.UnixMicro())
	return c
}

func (c *clock) set(micros int64) {
	c.t.Helper()
	c.micros = micros
	c.at.Store(micros)
	err := c.rdb.MSet(c.t.Context(), limiter.TestSeconds, micros/1e6, limiter.TestMicros, micros%1e6).Err()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *clock) advance(d time.Duration) { c.set(c.micros + d.Microseconds()) }

func (c *clock) now() time.Time { return time.UnixMicro(c.at.Load()) }

// busiest returns the most slots in any half-open window of that length. Slots
// are in microseconds, ascending, one for each unit of cost.
func busiest(slots []int64, length time.Duration) int {
	most, from := 0, 0
	for i, slot := range slots {
		for slot-slots[from] >= length.Microseconds() {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// excess returns by how many tokens the slots go beyond a bucket, over windows
// of every length at once.
func excess(slots []int64, capacity, rate float64) float64 {
	slots = slices.Sorted(slices.Values(slots))
	lowest, worst := math.Inf(1), math.Inf(-1)
	for i, slot := range slots {
		x := float64(i) - rate*float64(slot-slots[0])/1e6
		lowest = min(lowest, x)
		worst = max(worst, x-lowest+1-capacity)
	}
	return worst
}

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

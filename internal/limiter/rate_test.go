package limiter_test

import (
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

func TestRateIsThatOfTheSlowestSlidingWindow(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	l, err := limiter.New(rdb, limiter.Options{},
		limiter.Window{Name: "x.second", Limit: 1, Length: time.Second},
		limiter.Window{Name: "x", Limit: 5, Length: time.Minute},
		limiter.Window{Name: "x.day", Limit: 1, Daily: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Rate(), 0.98*4/60; math.Abs(got-want) > 1e-12 {
		t.Errorf("Rate() = %v, want %v", got, want)
	}
}

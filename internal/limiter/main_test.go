package limiter_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

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

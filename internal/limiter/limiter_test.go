package limiter_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestNewRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	rdb := client(t, url)
	minute := limiter.Window{Name: "a", Limit: 5, Length: time.Minute}
	day := limiter.Window{Name: "a.day", Limit: 25, Daily: time.UTC}
	resending, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		rdb     redis.UniversalClient
		windows []limiter.Window
		want    string
	}{
		"no window":      {rdb, nil, "sliding"},
		"day first":      {rdb, []limiter.Window{day, minute}, "sliding"},
		"bad name":       {rdb, []limiter.Window{{Name: "A b", Limit: 5, Length: time.Minute}}, `"A b"`},
		"no limit":       {rdb, []limiter.Window{{Name: "a", Length: time.Minute}}, "limit 0"},
		"no length":      {rdb, []limiter.Window{{Name: "a", Limit: 5}}, "positive length"},
		"same name":      {rdb, []limiter.Window{minute, minute}, "twice"},
		"no client":      {nil, []limiter.Window{minute}, "no Redis client"},
		"resends":        {redis.NewClient(resending), []limiter.Window{minute}, "ClientOptions"},
		"cluster client": {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}), []limiter.Window{minute}, "cluster"},
	} {
		if _, err := limiter.New(c.rdb, limiter.Options{}, c.windows...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := limiter.New(rdb, limiter.Options{}, minute, day); err != nil {
		t.Error(err)
	}
}

func TestClientOptionsKeepThePasswordSecret(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://u:secret@h:port/0", "redis://u:sec/secret@h/0", "http://u:secret@h", "redis://u:secret@h/x", "%secret"} {
		_, err := limiter.ClientOptions(url)
		if err == nil || strings.Contains(err.Error(), "sec") {
			t.Errorf("%s: %v, want an error without the password", url, err)
		}
	}
	o, err := limiter.ClientOptions("redis://u:secret@localhost:6379/3?max_retries=5&read_timeout=10s")
	if err != nil {
		t.Fatal(err)
	}
	if o.MaxRetries != -1 || o.ReadTimeout > time.Second || o.DB != 3 || o.Password != "secret" {
		t.Errorf("options %+v", o)
	}
}

func TestColdStartIsEmpty(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	l := newLimiter(t, rdb, limiter.Options{}, limiter.Window{Name: "provider", Limit: 5, Length: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := l.Wait(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Fatalf("%v, want an early deadline error: the first call may go after 15 s", err)
	}
	if n := rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("a call that was not waited for left %d keys", n)
	}
}

func TestKeysAreReadableByPython(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	l := newLimiter(t, rdb, limiter.Options{}, perSecond(100))
	l.UseTestClock(t)
	if err := rdb.MSet(t.Context(), limiter.TestSeconds, "1795380318", limiter.TestMicros, "640072").Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	tokens, last, _ := held(t, rdb, 0)
	for _, text := range []string{tokens, last} {
		if !pythonFloat.MatchString(text) {
			t.Errorf("%q is no Python float", text)
		}
	}
	if at, err := strconv.ParseFloat(last, 64); err != nil || at != 1795380318.640072 {
		t.Errorf("last_refill %q, want the microsecond 1795380318.640072", last)
	}
	for _, key := range []string{tokensKey, refillKey} {
		if kind, ttl := rdb.Type(t.Context(), key).Val(), rdb.TTL(t.Context(), key).Val(); kind != "string" || ttl != -1 {
			t.Errorf("%s is a %s with TTL %s", key, kind, ttl)
		}
	}
	keys := rdb.Keys(t.Context(), "rate_limit*").Val()
	slices.Sort(keys)
	if !slices.Equal(keys, []string{refillKey, tokensKey}) {
		t.Errorf("keys %q, want the two of the contract", keys)
	}
}

// A reader that knows nothing of debts, "refill, then need one token", stays
// out for the whole pause, and so does another process.
func TestPauseHoldsBackEverybody(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	rdb := client(t, url)
	window := perSecond(50)
	a, b := newLimiter(t, client(t, url), limiter.Options{}, window), newLimiter(t, client(t, url), limiter.Options{}, window)
	if err := b.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	const pause = 600 * time.Millisecond
	end := time.Now().Add(pause)
	if err := a.Pause(t.Context(), pause); err != nil {
		t.Fatal(err)
	}
	// The shorter one, by anybody, must not end the longer one.
	if err := b.Pause(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waited := make(chan time.Time, 1)
	go func() {
		if err := b.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		waited <- time.Now()
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		_, _, level := held(t, rdb, limiterRate(window))
		if time.Now().After(end) {
			break
		}
		if level >= 1 {
			t.Fatalf("%v tokens %s before the end of the pause", level, time.Until(end))
		}
	}
	if at := <-waited; at.Before(end) {
		t.Errorf("the other process went %s before the end of the pause", end.Sub(at))
	}
}

func TestPauseIsAtMostAQuarterOfAnHour(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	l := newLimiter(t, rdb, limiter.Options{}, perSecond(50))
	if err := l.Pause(t.Context(), 1e9*time.Second); err != nil {
		t.Fatal(err)
	}
	levels, err := l.Levels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if seconds := -levels[0].Tokens / limiterRate(perSecond(50)); seconds > 900 || seconds < 890 {
		t.Errorf("paused for %v s, want 900", seconds)
	}
	if err := l.Pause(t.Context(), -time.Hour); err != nil {
		t.Errorf("a pause in the past: %v", err)
	}
}

func TestExhaustNeedsADay(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, client(t, testenv.Redis(t)), limiter.Options{}, perSecond(5))
	if err := l.Exhaust(t.Context()); err == nil {
		t.Error("nothing was exhausted, and there is no error")
	}
}

func TestScriptFlush(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	rdb := client(t, server.URL())
	l := newLimiter(t, rdb, limiter.Options{}, perSecond(500))
	for range 20 {
		if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClusterIsRefused(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t, "--cluster-enabled", "yes")
	rdb := client(t, server.URL())
	l := newLimiter(t, rdb, limiter.Options{}, perSecond(5))
	refused := func(when string) {
		err := l.Wait(t.Context())
		if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "without cluster mode") {
			t.Errorf("%s: %v, want that cluster mode is refused", when, err)
		}
	}
	began := time.Now()
	refused("no slots")
	if err := rdb.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	refused("all slots")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("refused after %s only", took)
	}
	if _, err := l.Levels(t.Context()); !errors.Is(err, limiter.ErrUnavailable) {
		t.Errorf("levels: %v", err)
	}
}

func TestNoMoreTokensThanTheCapacity(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	l := newLimiter(t, rdb, limiter.Options{}, perSecond(50))
	now := time.Now().Unix()
	for _, last := range []int64{now - 1e6, now, now + 3600} {
		if err := rdb.MSet(t.Context(), tokensKey, 1e9, refillKey, last).Err(); err != nil {
			t.Fatal(err)
		}
		levels, err := l.Levels(t.Context())
		if err != nil || !levels[0].Known || levels[0].Tokens != 2 {
			t.Errorf("last_refill %d: %+v, %v; want 2 tokens", last, levels, err)
		}
	}
}

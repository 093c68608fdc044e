package limiter_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestNewRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	rdb := client(t, url)
	minute := limiter.Window{Name: "a", Limit: 5, Length: time.Minute}
	exact := limiter.Window{Name: "a.exact", Limit: 5, Length: time.Minute, Exact: true}
	day := limiter.Window{Name: "a.day", Limit: 25, Daily: time.UTC}
	with := func(w limiter.Window, change func(*limiter.Window)) []limiter.Window {
		change(&w)
		if w.Daily != nil || w.Exact {
			return []limiter.Window{minute, w}
		}
		return []limiter.Window{w}
	}
	for name, c := range map[string]struct {
		windows []limiter.Window
		want    string
	}{
		"no window":            {nil, "first window"},
		"day first":            {[]limiter.Window{day, minute}, "first window"},
		"exact first":          {[]limiter.Window{exact, minute}, "first window"},
		"bad name":             {with(minute, func(w *limiter.Window) { w.Name = "A b" }), `"A b"`},
		"brace in the name":    {with(minute, func(w *limiter.Window) { w.Name = "a{b}" }), `"a{b}"`},
		"no name":              {with(minute, func(w *limiter.Window) { w.Name = "" }), `""`},
		"no limit":             {with(minute, func(w *limiter.Window) { w.Limit = 0 }), "limit 0"},
		"no limit of a day":    {with(day, func(w *limiter.Window) { w.Limit = -1 }), "limit -1"},
		"no length":            {with(minute, func(w *limiter.Window) { w.Length = 0 }), "positive length"},
		"negative length":      {with(exact, func(w *limiter.Window) { w.Length = -1 }), "positive length"},
		"burst over the limit": {with(minute, func(w *limiter.Window) { w.Burst = 6 }), "burst 6"},
		"negative burst":       {with(minute, func(w *limiter.Window) { w.Burst = -1 }), "burst -1"},
		"long list":            {with(exact, func(w *limiter.Window) { w.Limit = 1001 }), "limit 1001"},
		"reserve of a bucket":  {with(minute, func(w *limiter.Window) { w.Reserve = 1 }), "no reserve"},
		"reserve of all":       {with(day, func(w *limiter.Window) { w.Reserve = 25 }), "reserve 25"},
		"negative reserve":     {with(exact, func(w *limiter.Window) { w.Reserve = -1 }), "reserve -1"},
		"same name":            {[]limiter.Window{minute, minute}, "twice"},
	} {
		if _, err := limiter.New(rdb, limiter.Options{}, c.windows...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := limiter.New(rdb, limiter.Options{}, minute, day, exact); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesClientsThatSendTwice(t *testing.T) {
	t.Parallel()
	resending, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	plain := redis.NewClient(resending)
	t.Cleanup(func() { _, _, _ = cluster.Close(), ring.Close(), plain.Close() })
	for want, rdb := range map[string]redis.UniversalClient{
		"no Redis client": nil, "ClientOptions": plain, "without cluster mode": cluster, "cluster": ring,
	} {
		if _, err := limiter.New(rdb, limiter.Options{}, perSecond(5)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
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

func TestRequestsThatCanNeverGo(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	l := newLimiter(t, rdb, limiter.Options{},
		limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Burst: 5},
		limiter.Window{Name: "provider.day", Limit: 6, Daily: time.UTC, Reserve: 4})
	for _, c := range []struct {
		request limiter.Request
		want    string
	}{
		{limiter.Request{Cost: -1}, "cost -1"},
		{limiter.Request{Cost: 6}, "1 to 5"},
		{limiter.Request{Cost: 3, Class: limiter.Backfill}, "1 to 2"},
		{limiter.Request{Class: 7}, "class 7"},
		{limiter.Request{Class: -1}, "class -1"},
	} {
		if err := l.WaitFor(t.Context(), c.request); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c.request, err, c.want)
		}
	}
	if n := rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
}

// A cost of 0 means 1.
func TestZeroRequestCostsOne(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	c := newClock(t, rdb, time.Unix(1772900000, 0))
	l := newLimiter(t, rdb, limiter.OnTestClock(limiter.Options{Now: c.now}), limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Burst: 5})
	if err := rdb.MSet(t.Context(), tokensKey, 4.5, refillKey, "1772900000").Err(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"3.5", "2.5", "1.5", "0.5"} {
		if err := l.WaitFor(t.Context(), limiter.Request{Class: limiter.Class(i % 3)}); err != nil {
			t.Fatal(err)
		}
		if got := rdb.Get(t.Context(), tokensKey).Val(); got != want {
			t.Errorf("%s tokens, want %s", got, want)
		}
	}
}

func TestRateAndSlack(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	second := limiter.Window{Name: "x.second", Limit: 1, Length: time.Second}
	minute := limiter.Window{Name: "x", Limit: 5, Length: time.Minute, Burst: 2}
	exact := limiter.Window{Name: "x.exact", Limit: 3, Length: time.Minute, Margin: 2 * time.Second, Exact: true}
	day := limiter.Window{Name: "x.day", Limit: 1, Daily: time.UTC}
	for _, c := range []struct {
		windows     []limiter.Window
		rate        float64
		least, most time.Duration // of the slack
	}{
		{[]limiter.Window{second, day}, 1 / 1.2, 50 * time.Millisecond, 100 * time.Millisecond},
		{[]limiter.Window{second, minute, day}, 4.0 / 61, 50 * time.Millisecond, 100 * time.Millisecond},
		{[]limiter.Window{minute, exact}, 3.0 / 62, 400 * time.Millisecond, 600 * time.Millisecond},
		{[]limiter.Window{noMargin}, 50, 0, 0},
	} {
		l, err := limiter.New(rdb, limiter.Options{}, c.windows...)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Rate(); math.Abs(got-c.rate) > 1e-12 {
			t.Errorf("Rate() = %v, want %v", got, c.rate)
		}
		if got := l.Slack(); got < c.least || got > c.most {
			t.Errorf("Slack() = %v, want %v to %v", got, c.least, c.most)
		}
	}
}

// The first caller waits as long as slots could be out that Redis forgot.
func TestColdStartIsEmpty(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	l := newLimiter(t, rdb, limiter.Options{}, limiter.Window{Name: "provider", Limit: 5, Length: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := l.Wait(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Fatalf("%v, want an early deadline error: the first call may go after 12 s", err)
	}
	if n := rdb.Exists(t.Context(), tokensKey, refillKey).Val(); n != 2 {
		t.Errorf("%d of the two keys were made: time does not run yet", n)
	}
}

func TestKeysAreReadableByPython(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	c := newClock(t, rdb, time.UnixMicro(1795380318640072))
	l := newLimiter(t, rdb, limiter.OnTestClock(limiter.Options{Now: c.now}),
		limiter.Window{Name: "provider", Limit: 100, Length: time.Second, Burst: 3}, limiter.Window{Name: "provider.day", Limit: 9, Daily: time.UTC},
		limiter.Window{Name: "provider.exact", Limit: 9, Length: time.Minute, Exact: true})
	midnight := c.now().UTC().Truncate(24 * time.Hour).Unix()
	counts := []limiter.Count{{}, limiter.NewCount(midnight, 0), limiter.NewCount(0, 0)}
	if _, err := l.Take(limiter.Question{N: 1, Cost: 1}, counts); err != nil {
		t.Fatal(err)
	}
	c.set(1795380320640072)
	a, err := l.Take(limiter.Question{N: 1, Cost: 1}, nil)
	if err != nil || a.Status != limiter.Taken {
		t.Fatalf("%+v, %v", a, err)
	}
	keys := rdb.Keys(t.Context(), "rate_limit:*").Val()
	slices.Sort(keys)
	if diff := cmp.Diff([]string{
		"rate_limit:provider.day:last_refill", "rate_limit:provider.day:tokens",
		exactRefill, exactTokens, refillKey, tokensKey,
	}, keys); diff != "" {
		t.Fatal(diff)
	}
	for _, key := range keys {
		text := rdb.Get(t.Context(), key).Val()
		if !pythonFloat.MatchString(text) {
			t.Errorf("%s: %q is no Python float", key, text)
		}
		if at, err := strconv.ParseFloat(text, 64); strings.HasSuffix(key, "last_refill") && (err != nil || at != 1795380320.640072) {
			t.Errorf("%s: %q, want the microsecond 1795380320.640072", key, text)
		}
		if kind, ttl := rdb.Type(t.Context(), key).Val(), rdb.TTL(t.Context(), key).Val(); kind != "string" || ttl != -1 {
			t.Errorf("%s is a %s with TTL %s", key, kind, ttl)
		}
	}
}

// The microseconds must not be lost where almost every call goes, either.
func TestFastPathKeepsTheMicroseconds(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	c := newClock(t, rdb, time.UnixMicro(1795380318640072))
	l := newLimiter(t, rdb, limiter.OnTestClock(limiter.Options{Now: c.now, Trace: 5}), limiter.Window{Name: "provider", Limit: 100, Length: time.Second, Burst: 9})
	if err := rdb.MSet(t.Context(), tokensKey, 8, refillKey, "1795380318.640072").Err(); err != nil {
		t.Fatal(err)
	}
	c.set(1795380318640073)
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	tokens, last, _ := held(t, rdb, 0)
	n, err := strconv.ParseFloat(tokens, 64)
	if want := 7 + 92/1.2*1e-6; err != nil || math.Abs(n-want) > 1e-4 || n <= 7 {
		t.Errorf("%s tokens, want %v", tokens, want)
	}
	if at, err := strconv.ParseFloat(last, 64); err != nil || at != 1795380318.640073 {
		t.Errorf("last_refill %q, want the microsecond 1795380318.640073", last)
	}
	if diff := cmp.Diff([]string{"1795380318640073"}, rdb.LRange(t.Context(), "rate_limit_ext:provider:trace", 0, -1).Val()); diff != "" {
		t.Error(diff)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	reset := time.Date(2026, 3, 11, 0, 0, 0, 0, d.zone)
	check := func(want ...limiter.Level) {
		t.Helper()
		got, err := d.Levels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
	}
	bucket := limiter.Level{Name: "provider", Limit: 1000, Tokens: 500, Known: true, Share: 1}
	day := limiter.Level{Name: "provider.quota", Limit: 3, Reset: reset, Share: 1}
	check(bucket, day)
	if len(d.asked) != 0 || d.rdb.Exists(t.Context(), "rate_limit:provider.quota:tokens").Val() != 0 {
		t.Error("a status asked the ledger or wrote something")
	}
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	bucket.Tokens, day.Tokens, day.Known = 499, 2, true
	check(bucket, day)
	d.at("2026-03-11 00:00:02")
	bucket.Tokens, day.Tokens, day.Reset = 500, 3, reset.AddDate(0, 0, 1)
	check(bucket, day)
	// A last_refill that is no time is not a level.
	if err := d.rdb.Set(t.Context(), refillKey, "5", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Levels(t.Context()); err != nil || got[0].Known {
		t.Errorf("%+v, %v; want an unknown level", got, err)
	}
}

func TestPauseIsAtMostAQuarterOfAnHour(t *testing.T) {
	t.Parallel()
	s := newSharing(t, noMargin)
	s.pauseAt(0, 1e9*time.Second)
	s.want(0, 1)
	levels, err := s.l.Levels(t.Context())
	if err != nil || math.Abs(levels[0].Tokens+900*50) > 1e-3 {
		t.Errorf("%+v, %v; want 900 s of 50 tokens", levels, err)
	}
	s.pauseAt(0, -time.Hour) // does not end the longer one
	if levels, err = s.l.Levels(t.Context()); err != nil || levels[0].Tokens > -900*50+1e-3 {
		t.Errorf("%+v, %v; want 900 s of 50 tokens", levels, err)
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
	rdb := client(t, testenv.RedisServer(t).URL())
	l := newLimiter(t, rdb, limiter.Options{}, limiter.Window{Name: "provider", Limit: 500, Length: time.Second, Burst: 30})
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
		t.Helper()
		err := l.Wait(t.Context())
		if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "without cluster mode") {
			t.Errorf("%s: %v, want that cluster mode is refused", when, err)
		}
	}
	refused("no slots")
	if err := rdb.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	refused("all slots")
	if _, err := l.Levels(t.Context()); !errors.Is(err, limiter.ErrUnavailable) {
		t.Errorf("levels: %v", err)
	}
	if err := l.Pause(t.Context(), time.Second); !errors.Is(err, limiter.ErrUnavailable) {
		t.Errorf("pause: %v", err)
	}
}

func TestNoMoreTokensThanTheCapacity(t *testing.T) {
	t.Parallel()
	s := newSharing(t, limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Burst: 2})
	now := s.clock.micros / 1e6
	for _, last := range []int64{now - 1e6, now, now + 3600} {
		if err := s.rdb.MSet(t.Context(), tokensKey, 1e9, refillKey, last).Err(); err != nil {
			t.Fatal(err)
		}
		levels, err := s.l.Levels(t.Context())
		if err != nil || !levels[0].Known || levels[0].Tokens != 2 {
			t.Errorf("last_refill %d: %+v, %v; want 2 tokens", last, levels, err)
		}
	}
}

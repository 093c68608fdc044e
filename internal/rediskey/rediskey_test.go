package rediskey_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
)

func TestKeysAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	limit := mustLimiter(t, "alpha_vantage.day")
	for _, c := range []struct{ got, want string }{
		{rediskey.DailyBarsDone(market.NewDate(2026, time.March, 12)), "jobs:daily_bars:2026-03-12:done"},
		{rediskey.FundamentalsDone(market.Week{Year: 2026, Number: 11}), "jobs:weekly_fundamentals:2026-W11:done"},
		{rediskey.FundamentalsDone(market.Week{Year: 2026, Number: 1}), "jobs:weekly_fundamentals:2026-W01:done"},
		{rediskey.FundamentalsDone(market.Week{Year: 2026, Number: 53}), "jobs:weekly_fundamentals:2026-W53:done"},
		{rediskey.AltDataLastRun, "jobs:altdata:last_run"},
		{rediskey.BackfillCompleted, "backfill:completed"},
		{limit.Tokens, "rate_limit:alpha_vantage.day:tokens"},
		{limit.LastRefill, "rate_limit:alpha_vantage.day:last_refill"},
		{limit.Extension("rate"), "rate_limit_ext:alpha_vantage.day:rate"},
		{mustCache(t, "fundamentals", "AAPL"), "cache:fundamentals:AAPL"},
		{rediskey.CacheSP500, "cache:universe:sp500"},
		{rediskey.SystemStatus, "system:status"},
		{rediskey.KillSwitch, "risk:kill_switch"},
		{rediskey.PDTTrades, "risk:pdt:trades"},
		{rediskey.Lease(rediskey.DailyBars, "2026-03-12"), "jobs:daily_bars:2026-03-12:lease"},
		{rediskey.Lease(rediskey.Fundamentals, "2026-W11"), "jobs:weekly_fundamentals:2026-W11:lease"},
		{rediskey.Lease(rediskey.AltData, "2026-03-12"), "jobs:altdata:2026-03-12:lease"},
		{rediskey.Lease(rediskey.Backfill, "all"), "jobs:backfill:all:lease"},
		{rediskey.FeedDisconnected, "system:feed:disconnected"},
		{rediskey.FeedReconnected, "system:feed:reconnected"},
		{rediskey.CircuitBreaker, "risk:circuit_breaker"},
		{rediskey.RiskAlert, "risk:alert"},
		{rediskey.KillSwitchChanged, "risk:kill_switch"},
		{rediskey.PortfolioUpdate, "portfolio:update"},
		{rediskey.TradeExecuted, "trade:executed"},
		{rediskey.TradePendingApproval, "trade:pending_approval"},
		{rediskey.OrderStatus, "order:status"},
		{rediskey.SignalGenerated, "signal:generated"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, the contract says %q", c.got, c.want)
		}
	}
}

func TestLifetimesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got  time.Duration
		want string
	}{
		{rediskey.DailyBarsTTL, "25h0m0s"},
		{rediskey.FundamentalsTTL, "192h0m0s"},
		{rediskey.CacheMinTTL, "5m0s"},
		{rediskey.CacheMaxTTL, "1h0m0s"},
	} {
		if c.got.String() != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestLimiterRefusesNamesThatWouldChangeTheKey(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a b", "a:b", "{a}", "A", "é", "a\n", strings.Repeat("a", 65)} {
		if keys, err := rediskey.Limiter(name); err == nil {
			t.Errorf("Limiter(%q) = %+v, want an error", name, keys)
		}
	}
	mustLimiter(t, strings.Repeat("a", 64))
	mustLimiter(t, "ibkr_data-2.second")
}

// Whatever the arguments, two different ones never make the same key, and each
// key is found in the contract under the pattern it came from.
func TestKeysAreInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.Custom(func(t *rapid.T) made { return draw(t) })
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		if (a.key == b.key) != (a.from == b.from) {
			t.Fatalf("%q from %s and %q from %s", a.key, a.from, b.key, b.from)
		}
		entry, ok := rediskey.Match(a.key)
		if !ok || entry.Pattern != a.pattern {
			t.Fatalf("Match(%q) = %q, %v; want %q", a.key, entry.Pattern, ok, a.pattern)
		}
	})
}

// made is a key, what it was made from, and the pattern it must match.
type made struct{ key, from, pattern string }

func draw(t *rapid.T) made {
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		d := market.NewDate(2026, time.January, 1) + market.Date(rapid.IntRange(0, 20).Draw(t, "day"))
		return made{rediskey.DailyBarsDone(d), "bars " + d.String(), "jobs:daily_bars:{YYYY-MM-DD}:done"}
	case 1:
		w := market.Week{Year: rapid.IntRange(2025, 2027).Draw(t, "year"), Number: rapid.IntRange(1, 53).Draw(t, "week")}
		return made{rediskey.FundamentalsDone(w), "week " + w.String(), "jobs:weekly_fundamentals:{YYYY-Www}:done"}
	case 2:
		job := rapid.SampledFrom([]rediskey.Job{rediskey.DailyBars, rediskey.Fundamentals, rediskey.AltData, rediskey.Backfill}).Draw(t, "job")
		period := rapid.StringMatching(`[0-9TWZ:.-]{1,6}`).Draw(t, "period")
		return made{rediskey.Lease(job, period), "lease " + string(job) + " " + period, "jobs:{job}:{period}:lease"}
	case 3:
		s := rapid.StringMatching(`[A-Z]{1,2}(\.[A-Z])?`).Draw(t, "symbol")
		key, err := rediskey.Cache("fundamentals", s)
		if err != nil {
			t.Fatal(err)
		}
		return made{key, "cache " + s, "cache:{domain}:{identifier}"}
	default:
		name := rapid.StringMatching(`[a-z_.]{1,3}`).Draw(t, "name")
		keys, err := rediskey.Limiter(name)
		if err != nil {
			t.Fatal(err)
		}
		return rapid.SampledFrom([]made{
			{keys.Tokens, "tokens " + name, "rate_limit:{name}:tokens"},
			{keys.LastRefill, "refill " + name, "rate_limit:{name}:last_refill"},
			{keys.Extension("x"), "extension " + name, "rate_limit_ext:{name}:*"},
		}).Draw(t, "limiter")
	}
}

func mustLimiter(t *testing.T, name string) rediskey.LimiterKeys {
	t.Helper()
	keys, err := rediskey.Limiter(name)
	if err != nil {
		t.Fatalf("Limiter(%q): %v", name, err)
	}
	return keys
}

func mustCache(t *testing.T, domain, identifier string) string {
	t.Helper()
	key, err := rediskey.Cache(domain, identifier)
	if err != nil {
		t.Fatalf("Cache(%q, %q): %v", domain, identifier, err)
	}
	return key
}

func TestCacheRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"", "x"}, {"universe", ""}, {"a:b", "x"}} {
		if key, err := rediskey.Cache(c[0], c[1]); err == nil {
			t.Errorf("Cache(%q, %q) = %s", c[0], c[1], key)
		}
	}
}

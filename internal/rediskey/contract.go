package rediskey

import (
	"regexp"
	"strings"
	"sync"
)

// TypeChannel is the Type of an [Entry] that is a channel and not a key.
const TypeChannel = "channel"

// Entry is one line of the contract.
type Entry struct {
	// Pattern is the key or channel with its variable parts in braces; a
	// real one has no braces. A final * stands for any rest.
	Pattern string
	// Type is the Redis type with what it holds, or [TypeChannel].
	Type string
	// TTL is the lifetime in words; "none" for a key that stays, "-" for a
	// channel.
	TTL            string
	Writer, Reader string
	Meaning        string
}

// RedisType returns the type as Redis names it: string, set or zset. It is "" if
// the contract leaves it open, and for a channel.
func (e Entry) RedisType() string {
	kind, _, _ := strings.Cut(e.Type, " ")
	switch kind {
	case "string", "set":
		return kind
	case "sorted":
		return "zset"
	}
	return ""
}

// Stays reports whether the key must not expire. What the limiter keeps beside its
// two keys may.
func (e Entry) Stays() bool { return e.TTL == "none" && e.Type != "any" || e.Pattern == PDTTrades }

// Clearable are the beginnings of the keys that may be removed by hand, because
// the ledger, or whoever asks again, brings them back. All others stay: nothing
// else holds what is behind some of them.
func Clearable() []string { return []string{"backfill:", "cache:", "jobs:"} }

// All returns the whole contract, keys first, in the order of the README.
func All() []Entry {
	return append(keys(), channels()...)
}

func keys() []Entry {
	return []Entry{
		{
			"jobs:daily_bars:{YYYY-MM-DD}:done", "set of symbols", "25 h", "worker", "worker",
			"symbols whose bar for that New York trading date is stored; a resumed run skips them",
		},
		{
			"jobs:weekly_fundamentals:{YYYY-Www}:done", "set of symbols", "8 days", "worker", "worker",
			"symbols whose fundamentals for that ISO-8601 week are stored; a resumed run skips them",
		},
		{
			"jobs:altdata:last_run", "string (ISO-8601 UTC)", "none", "worker", "worker",
			"end of the window that the last fully successful alt-data run covered; the next run fetches from here",
		},
		{
			"jobs:{job}:{period}:lease", "string", "while the run is alive", "worker", "worker",
			"the live run of a job for a period and who owns it",
		},
		{
			"backfill:completed", "set of symbols", "none", "worker", "worker",
			"symbols whose history is stored; a resumed backfill skips them",
		},
		{
			"rate_limit:{name}:tokens", "string (float)", "none", "worker, alpha-oracle", "worker, alpha-oracle",
			"calls that may go now; negative = promised ahead",
		},
		{
			"rate_limit:{name}:last_refill", "string (float)", "none", "worker, alpha-oracle", "worker, alpha-oracle",
			"Unix time of the last refill, seconds with fraction",
		},
		{
			"rate_limit_ext:{name}:*", "any", "none", "worker", "worker",
			"what the limiter keeps beside the two keys that it shares",
		},
		{
			"cache:{domain}:{identifier}", "string (JSON)", "5 to 60 min", "worker, alpha-oracle", "worker, alpha-oracle",
			"a copy for quick reading, such as cache:fundamentals:AAPL or cache:universe:sp500",
		},
		{
			"system:status", "string (JSON)", "none", "worker, alpha-oracle", "worker, alpha-oracle",
			"state of the parts of the system; the worker owns the field feed only",
		},
		{
			"risk:kill_switch", "string", "none", "worker, alpha-oracle", "worker, alpha-oracle",
			"active or inactive; the table kill_switch is the truth, this key its fast copy",
		},
		{
			"risk:pdt:trades", "sorted set", "entries older than 8 days are trimmed", "worker, alpha-oracle", "worker, alpha-oracle",
			"day trades as JSON, scored by the ordinal of their date (Python's date.toordinal); never deleted",
		},
	}
}

func channels() []Entry {
	sent := func(name, meaning string) Entry {
		return Entry{name, TypeChannel, "-", "worker", "alpha-oracle, WebSocket clients", meaning}
	}
	relayed := func(name, meaning string) Entry {
		return Entry{name, TypeChannel, "-", "alpha-oracle", "worker, WebSocket clients", meaning}
	}
	killSwitch := sent(KillSwitchChanged, "the kill switch changed: action, reason, operator, timestamp")
	killSwitch.Writer = "worker, alpha-oracle"
	return []Entry{
		sent(FeedDisconnected, "the bar source is lost: timestamp, reason"),
		sent(FeedReconnected, "the bar source is back: timestamp, symbol_count"),
		sent(CircuitBreaker, "a breaker opened or closed: breaker, action, reason, timestamp"),
		sent(RiskAlert, "a data-quality alarm: type, severity, reason, symbols, timestamp"),
		killSwitch,
		relayed(PortfolioUpdate, "the portfolio changed"),
		relayed(TradeExecuted, "a trade was executed"),
		relayed(TradePendingApproval, "a trade waits for approval"),
		relayed(OrderStatus, "an order changed its state"),
		relayed(SignalGenerated, "a strategy gave a signal"),
	}
}

// Table returns the contract as a Markdown table.
func Table() string {
	var b strings.Builder
	b.WriteString("| key or channel | type | TTL | written by | read by | meaning |\n")
	b.WriteString("|---|---|---|---|---|---|\n")
	for _, e := range All() {
		b.WriteString("| `" + e.Pattern + "` | " + e.Type + " | " + e.TTL + " | " +
			e.Writer + " | " + e.Reader + " | " + e.Meaning + " |\n")
	}
	return b.String()
}

// Match returns the line of the contract that a real key belongs to. Channels
// are not keys and never match.
func Match(key string) (Entry, bool) {
	for _, m := range matchers() {
		if m.key.MatchString(key) {
			return m.entry, true
		}
	}
	return Entry{}, false
}

type matcher struct {
	key   *regexp.Regexp
	entry Entry
}

var matchers = sync.OnceValue(func() []matcher {
	// A week has two digits, and the key of a period may hold colons; the
	// name of a job may not.
	parts := strings.NewReplacer(
		`\{YYYY-MM-DD\}`, `\d{4}-\d{2}-\d{2}`,
		`\{YYYY-Www\}`, `\d{4}-W\d{2}`,
		`\{name\}`, `[a-z0-9_.-]{1,64}`,
		`\{job\}`, `[a-z0-9_-]+`,
		`\{period\}`, `.+`,
		`\{domain\}`, `[^:]+`,
		`\{identifier\}`, `.+`,
		`\*`, `.+`,
	)
	var all []matcher
	for _, e := range keys() {
		expression := parts.Replace(regexp.QuoteMeta(e.Pattern))
		all = append(all, matcher{regexp.MustCompile(`^` + expression + `$`), e})
	}
	return all
})

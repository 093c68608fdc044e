package rediskey

import (
	"fmt"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Lifetimes of the done-sets, counted from the newest write.
const (
	DailyBarsTTL    = 25 * time.Hour
	FundamentalsTTL = 8 * 24 * time.Hour
)

// Lifetimes that a cache entry may have.
const (
	CacheMinTTL = 5 * time.Minute
	CacheMaxTTL = time.Hour
)

// Job is the name of a job as it stands in keys and in the ledger.
type Job string

// The jobs of the worker.
const (
	DailyBars    Job = "daily_bars"
	Fundamentals Job = "weekly_fundamentals"
	AltData      Job = "altdata"
	Backfill     Job = "backfill"
)

// Keys that have no variable part.
const (
	// AltDataLastRun: string, no TTL. ISO-8601 UTC end of the window that
	// the last fully successful alt-data run covered.
	AltDataLastRun = "jobs:altdata:last_run"
	// BackfillCompleted: set of symbols, no TTL. Those whose history is
	// stored.
	BackfillCompleted = "backfill:completed"
	// SystemStatus: string (JSON), no TTL. The worker owns the field "feed"
	// only.
	SystemStatus = "system:status"
	// KillSwitch: string "active" or "inactive", no TTL. A fast copy of the
	// table kill_switch. The channel [KillSwitchChanged] has the same name.
	KillSwitch = "risk:kill_switch"
	// PDTTrades: sorted set, entries trimmed after 8 days, never deleted.
	PDTTrades = "risk:pdt:trades"
	// CacheSP500: string (JSON array of symbols), 5 to 60 min. It is the
	// [Cache] key of sp500 in the domain universe.
	CacheSP500 = "cache:universe:sp500"
)

// Channels. Payloads are JSON objects.
const (
	FeedDisconnected     = "system:feed:disconnected"
	FeedReconnected      = "system:feed:reconnected"
	CircuitBreaker       = "risk:circuit_breaker"
	RiskAlert            = "risk:alert"
	KillSwitchChanged    = "risk:kill_switch"
	PortfolioUpdate      = "portfolio:update"
	TradeExecuted        = "trade:executed"
	TradePendingApproval = "trade:pending_approval"
	OrderStatus          = "order:status"
	SignalGenerated      = "signal:generated"
)

// DailyBarsDone is the set of symbols whose bar for the New York trading date
// session is stored. TTL [DailyBarsTTL].
func DailyBarsDone(session market.Date) string {
	return "jobs:daily_bars:" + session.String() + ":done"
}

// FundamentalsDone is the set of symbols whose fundamentals for the ISO week
// are stored. TTL [FundamentalsTTL].
func FundamentalsDone(week market.Week) string {
	return "jobs:weekly_fundamentals:" + week.String() + ":done"
}

// Lease is the string by which a live run of job for period shows its owner.
func Lease(job Job, period string) string {
	return "jobs:" + string(job) + ":" + period + ":lease"
}

// Cache is the string (JSON) of identifier in domain, 5 to 60 min:
// cache:fundamentals:AAPL. A domain is not empty and has no colon, an
// identifier is not empty.
func Cache(domain, identifier string) (string, error) {
	if domain == "" || strings.Contains(domain, ":") {
		return "", fmt.Errorf("cache domain %q: want a name without a colon", domain)
	}
	if identifier == "" {
		return "", fmt.Errorf("cache identifier in domain %s: want a name", domain)
	}
	return "cache:" + domain + ":" + identifier, nil
}

// LimiterKeys are the keys of one rate limit.
type LimiterKeys struct {
	// Tokens: string (float), no TTL. Calls that may go now; negative =
	// promised ahead.
	Tokens string
	// LastRefill: string (float), no TTL. Unix seconds to which Tokens
	// refers.
	LastRefill string
	extension  string
}

// Extension is a key of the worker's own beside the two of the contract.
func (k LimiterKeys) Extension(part string) string { return k.extension + part }

// Limiter returns the keys of the rate limit name, such as alpha_vantage or
// alpha_vantage.day: 1 to 64 of the characters a-z 0-9 _ . and -. A brace
// would move the key to another cluster slot, a colon into another name.
func Limiter(name string) (LimiterKeys, error) {
	if !validName(name) {
		return LimiterKeys{}, fmt.Errorf("rate limit name %q: want 1 to 64 of the characters a-z 0-9 _ . -", name)
	}
	prefix := "rate_limit:" + name
	return LimiterKeys{
		Tokens:     prefix + ":tokens",
		LastRefill: prefix + ":last_refill",
		extension:  "rate_limit_ext:" + name + ":",
	}, nil
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return 1 <= len(name) && len(name) <= 64
}

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/secret"
)

// sp500App is the program with a source of lists, and what it logs.
func sp500App(t *testing.T, source string) (*app, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	return &app{now: time.Now, redact: func(s string) string { return s }, log: zap.New(core), cfg: config{Universe: sp500, UniverseSource: secret.New(source)}}, logs
}

// listServer serves the built-in list but for its first three symbols, the
// class shares with a dash.
func listServer(t *testing.T) string {
	t.Helper()
	lines := strings.ReplaceAll(list(market.SP500()[3:]), ".", "-")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("Symbol\n" + strings.ReplaceAll(lines, ",", "\n")))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/sp500.csv?token=" + canary
}

func TestSP500FromTheSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	s, rdb := w.open(), w.redis()
	if err := s.ready(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	a, logs := sp500App(t, listServer(t))

	dry := a.universe(t.Context(), s, false)
	if len(dry.Symbols) != 500 || !strings.HasPrefix(dry.From, "http://127.0.0.1:") || strings.Contains(dry.From, canary) {
		t.Errorf("%d symbols from %s", len(dry.Symbols), dry.From)
	}
	if n := rdb.Exists(t.Context(), rediskey.CacheSP500).Val(); n != 0 || logs.Len() != 0 {
		t.Errorf("looking has written %d keys and said %v", n, logs.All())
	}

	if got := a.universe(t.Context(), s, true).Symbols; len(got) != 500 {
		t.Errorf("%d symbols", len(got))
	}
	if ttl := rdb.TTL(t.Context(), rediskey.CacheSP500).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("the list is kept for %s, want 60 minutes", ttl)
	}
	var cached []market.Symbol
	if err := json.Unmarshal([]byte(rdb.Get(t.Context(), rediskey.CacheSP500).Val()), &cached); err != nil || len(cached) != 500 {
		t.Errorf("cached %d symbols: %v", len(cached), err)
	}
	changes := logs.FilterMessage("the S&P 500 has changed").All()
	if len(changes) != 1 || changes[0].ContextMap()["removed"] != int64(3) || changes[0].ContextMap()["added"] != int64(0) {
		t.Errorf("%v", logs.All())
	}
	if got := a.universe(t.Context(), s, true); got.From != rediskey.CacheSP500 {
		t.Errorf("the second time from %s", got.From)
	}
	if logs.Len() != 1 {
		t.Errorf("a list that is known is reported: %v", logs.All())
	}
}

// What alpha-oracle has written is its own: a list of the source never takes
// its place, not even that of a broken one, which ends by itself.
func TestSP500OfOthersStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	s, rdb := w.open(), w.redis()
	if err := s.ready(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	a, logs := sp500App(t, listServer(t))
	for _, text := range []string{`["AAPL"]`, `{"broken"`, `[null]`} {
		if err := rdb.Set(t.Context(), rediskey.CacheSP500, text, 10*time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if got := a.universe(t.Context(), s, true).Symbols; len(got) != 500 {
			t.Errorf("%s: %d symbols", text, len(got))
		}
		got, ttl := rdb.Get(t.Context(), rediskey.CacheSP500).Val(), rdb.TTL(t.Context(), rediskey.CacheSP500).Val()
		if got != text || ttl > 10*time.Minute {
			t.Errorf("%s became %.40s for %s", text, got, ttl)
		}
		if warned := logs.FilterLevelExact(zapcore.WarnLevel).TakeAll(); len(warned) == 0 || !strings.Contains(warned[0].Message, rediskey.CacheSP500) {
			t.Errorf("%s: no word about the list that is not used", text)
		}
	}
}

func TestSP500WithoutRedis(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	s := w.open()
	a, logs := sp500App(t, "")
	s.rdb = redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = s.rdb.Close() })
	if got := a.universe(t.Context(), s, true).Symbols; len(got) != len(market.SP500()) {
		t.Errorf("%d symbols", len(got))
	}
	if logs.FilterLevelExact(zapcore.WarnLevel).Len() == 0 {
		t.Error("Redis is away, and nobody is told")
	}
}

func TestSourceSetting(t *testing.T) {
	t.Parallel()
	const name = "SA_DATA__UNIVERSE__SP500_SOURCE"
	for _, good := range []string{"/etc/sp500.csv", "https://lists.example/x?key=" + canary, "http://localhost:1/x"} {
		cfg, err := loadConfig("", []string{name + "=" + good})
		if err != nil || cfg.UniverseSource.Reveal() != good {
			t.Errorf("%s: %v", good, err)
		}
		newWorld(t).noCanary("a redacted text", secret.Redactor(cfg.secrets()...)("moved to "+good))
	}
	for _, bad := range []string{"http://lists.example/x?key=" + canary, "ftp://lists.example/" + canary, "https:///" + canary} {
		_, err := loadConfig("", []string{name + "=" + bad})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

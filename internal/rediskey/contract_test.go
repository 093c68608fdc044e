package rediskey_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

var update = flag.Bool("update", false, "rewrite testdata/contract.golden")

func TestTableIsTheGoldenContract(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "contract.golden")
	if *update {
		if err := os.WriteFile(path, []byte(rediskey.Table()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), rediskey.Table()); diff != "" {
		t.Errorf("the contract changed (run with -update if alpha-oracle changed with it): %s", diff)
	}
}

func TestREADMEShowsTheContract(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- keys:begin -->", "<!-- keys:end -->"
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatalf("the README must show testdata/contract.golden between %s and %s: %v", begin, end, err)
	}
	_, rest, found := strings.Cut(string(readme), begin)
	shown, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("README.md: paste testdata/contract.golden between the lines %s and %s", begin, end)
	}
	if diff := cmp.Diff(strings.TrimSpace(rediskey.Table()), strings.TrimSpace(shown)); diff != "" {
		t.Errorf("README.md: paste testdata/contract.golden between %s and %s: %s", begin, end, diff)
	}
}

func TestPatternsAreUniqueAndTheTableIsWellFormed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, e := range rediskey.All() {
		id := e.Pattern
		if e.Type == rediskey.TypeChannel {
			id = "channel " + id
		}
		if seen[id] {
			t.Errorf("%s stands in the contract twice", id)
		}
		seen[id] = true
		cells := []string{e.Pattern, e.Type, e.TTL, e.Writer, e.Reader, e.Meaning}
		if slices.Contains(cells, "") || strings.Contains(strings.Join(cells, ""), "|") {
			t.Errorf("%+v: a cell is empty or breaks the table", e)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for key, pattern := range map[string]string{
		"jobs:daily_bars:2026-03-12:done":         "jobs:daily_bars:{YYYY-MM-DD}:done",
		"jobs:weekly_fundamentals:2026-W11:done":  "jobs:weekly_fundamentals:{YYYY-Www}:done",
		"jobs:altdata:last_run":                   "jobs:altdata:last_run",
		"jobs:daily_bars:2026-03-12:lease":        "jobs:{job}:{period}:lease",
		"jobs:altdata:2026-03-01T10:00:00Z:lease": "jobs:{job}:{period}:lease",
		"backfill:completed":                      "backfill:completed",
		"rate_limit:alpha_vantage.day:tokens":     "rate_limit:{name}:tokens",
		"rate_limit:edgar:last_refill":            "rate_limit:{name}:last_refill",
		"rate_limit_ext:edgar:rate":               "rate_limit_ext:{name}:*",
		"cache:fundamentals:BRK.B":                "cache:{domain}:{identifier}",
		"cache:universe:sp500":                    "cache:{domain}:{identifier}",
		"system:status":                           "system:status",
		"risk:kill_switch":                        "risk:kill_switch",
		"risk:pdt:trades":                         "risk:pdt:trades",
		"jobs:daily_bars:2026-3-12:done":          "",
		"jobs:daily_bars:{YYYY-MM-DD}:done":       "",
		"jobs:weekly_fundamentals:2026-W1:done":   "",
		"jobs:daily_bars:2026-03-12:done\n":       "",
		"x:jobs:altdata:last_run":                 "",
		"rate_limit:Edgar:tokens":                 "",
		"rate_limit:a:b:tokens":                   "",
		"rate_limit_ext:edgar:":                   "",
		"cache:universe":                          "",
		"portfolio:update":                        "",
		"":                                        "",
	} {
		entry, ok := rediskey.Match(key)
		if ok != (pattern != "") || entry.Pattern != pattern {
			t.Errorf("Match(%q) = %q, %v; want %q", key, entry.Pattern, ok, pattern)
		}
		if ok && entry.Type == rediskey.TypeChannel {
			t.Errorf("Match(%q) gave a channel", key)
		}
	}
}

func TestNothingThatCannotComeBackIsClearable(t *testing.T) {
	t.Parallel()
	for _, e := range rediskey.All() {
		clearable := slices.ContainsFunc(rediskey.Clearable(), func(p string) bool { return strings.HasPrefix(e.Pattern, p) })
		first, _, _ := strings.Cut(e.Pattern, ":")
		if kept := slices.Contains([]string{"risk", "system", "rate_limit", "rate_limit_ext"}, first); kept == clearable && e.Type != rediskey.TypeChannel {
			t.Errorf("%s: clearable is %t", e.Pattern, clearable)
		}
	}
}

func TestTypesAreThoseOfRedis(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"jobs:daily_bars:2026-03-12:done": "set", rediskey.KillSwitch: "string", rediskey.PDTTrades: "zset",
		rediskey.SystemStatus: "string", "rate_limit_ext:edgar:x": "", rediskey.AltDataLastRun: "string",
	} {
		entry, ok := rediskey.Match(key)
		if got := entry.RedisType(); !ok || got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	for key, want := range map[string]bool{rediskey.PDTTrades: true, rediskey.KillSwitch: true, rediskey.CacheSP500: false, "rate_limit_ext:edgar:x": false, "rate_limit:edgar:tokens": true} {
		if entry, _ := rediskey.Match(key); entry.Stays() != want {
			t.Errorf("%s stays: %t", key, entry.Stays())
		}
	}
}

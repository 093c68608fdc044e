package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

// dumps are the serialized values of all keys.
func dumps(t *testing.T, rdb *redis.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range rdb.Keys(t.Context(), "*").Val() {
		value, err := rdb.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		all[key] = value
	}
	return all
}

// others are the keys that clear must not touch.
func others(all map[string]string) map[string]string {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(key, _ string) bool {
		return strings.HasPrefix(key, "jobs:") || strings.HasPrefix(key, "backfill:") || strings.HasPrefix(key, "cache:")
	})
	return kept
}

// fill writes a key of each kind: kept ones, and ones that clear removes.
func fill(t *testing.T, rdb *redis.Client) {
	t.Helper()
	ctx := t.Context()
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, rediskey.KillSwitch, "active", 0)
		p.ZAdd(ctx, rediskey.PDTTrades, redis.Z{Score: 739687, Member: `{"symbol": "AAPL", "date": "2026-03-12"}`})
		p.Set(ctx, rediskey.SystemStatus, `{"feed":"connected"}`, 0)
		p.Set(ctx, "rate_limit:edgar:tokens", "-1.5", 0)
		p.Set(ctx, "rate_limit:edgar:last_refill", "1773320400.25", 0)
		p.Set(ctx, "rate_limit_ext:edgar:share", "1 0", 0)
		p.Set(ctx, "risk:jobs:cache:", "x", 0)
		p.Set(ctx, "jobs", "no colon", 0)
		p.Set(ctx, "other:jobs:daily_bars:2026-03-12:done", "x", 0)
		p.Set(ctx, rediskey.CacheSP500, "[]", time.Hour)
		p.SAdd(ctx, rediskey.BackfillCompleted, "AAPL")
		p.SAdd(ctx, "jobs:weekly_fundamentals:2026-W11:done", "AAPL")
		p.Set(ctx, rediskey.AltDataLastRun, "2026-03-12T10:00:00Z", 0)
		p.Set(ctx, "jobs:daily_bars:2026-03-12:lease", `{"run":1}`, time.Minute)
		p.Set(ctx, "jobs:unknown", "x", 0)
		for i := range 3 * scanStep {
			p.Set(ctx, "cache:fundamentals:S"+strings.Repeat("X", i%7)+string(rune('A'+i%26))+time.Duration(i).String(), "{}", time.Hour)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeysClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	rdb := w.redis()
	w.daily("--date", session, "--symbols", three)
	fill(t, rdb)
	before := dumps(t, rdb)
	for _, e := range rediskey.All() {
		if e.Type != rediskey.TypeChannel && !slices.ContainsFunc(slices.Collect(maps.Keys(before)), func(key string) bool {
			entry, _ := rediskey.Match(key)
			return entry.Pattern == e.Pattern
		}) {
			t.Errorf("there is no key %s to be cleared or kept", e.Pattern)
		}
	}
	var got struct {
		Keys     int
		ByPrefix map[string]int `json:"by_prefix"`
		Ledger   bool           `json:"ledger_forgotten"`
	}
	if code := w.decode(&got, "keys", "clear", "--dry-run"); code != exitOK || got.Keys != len(before)-len(others(before)) || got.Ledger || got.ByPrefix["cache:*"] != 3*scanStep+1 {
		t.Errorf("dry run: exit %d, %+v", code, got)
	}
	if s := w.run("keys", "clear"); s.code != exitUsage || !strings.Contains(s.err, "--yes") {
		t.Errorf("nobody was asked: exit %d: %s", s.code, s.err)
	}
	if diff := cmp.Diff(before, dumps(t, rdb)); diff != "" {
		t.Errorf("changed without a yes: %s", diff)
	}
	if r, _ := w.daily("--date", session, "--symbols", three); r.Skipped != 3 {
		t.Errorf("before: %+v", r)
	}
	kept := others(dumps(t, rdb))
	if code := w.decode(&got, "keys", "clear", "--yes"); code != exitOK || !got.Ledger {
		t.Errorf("exit %d, %+v", code, got)
	}
	if diff := cmp.Diff(kept, dumps(t, rdb)); diff != "" {
		t.Errorf("what stays is not what was (-want +got): %s", diff)
	}
	if entries, err := w.open().db.Audit(t.Context(), clearKeys, 10); err != nil || len(entries) != 1 {
		t.Errorf("audit %+v, %v", entries, err)
	}
	if r, _ := w.daily("--date", session, "--symbols", three); r.Fetched != 3 || r.Rows != 0 {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestKeysClearOfTheEmbedded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.daily("--date", session, "--symbols", three)
	if s := w.run("keys", "clear", "--yes"); s.code != exitOK || !strings.Contains(s.out, "removed 1 keys jobs:*") {
		t.Errorf("exit %d: %s %s", s.code, s.out, s.err)
	}
	if r, _ := w.daily("--date", session, "--symbols", three); r.Fetched != 3 {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestKeysListSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.run("migrate")
	rdb, ctx := w.redis(), t.Context()
	fill(t, rdb)
	rdb.RPush(ctx, "jobs:daily_bars:2026-03-12:done", "AAPL")
	rdb.Expire(ctx, rediskey.PDTTrades, time.Hour)
	var infos []keyInfo
	if code := w.decode(&infos, "keys", "list"); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	got := map[string]keyInfo{}
	for _, k := range infos {
		got[k.Key] = k
	}
	for key, want := range map[string]string{
		"jobs:daily_bars:2026-03-12:done": "its type is list, the contract says set",
		rediskey.PDTTrades:                "it expires, which it must not",
		"jobs:unknown":                    "its prefix is reserved for the keys of the contract",
		"risk:jobs:cache:":                "its prefix is reserved for the keys of the contract",
		rediskey.KillSwitch:               "",
		rediskey.CacheSP500:               "",
		"rate_limit_ext:edgar:share":      "",
	} {
		if k, ok := got[key]; !ok || k.Problem != want {
			t.Errorf("%s: %+v", key, k)
		}
	}
	if k := got[rediskey.BackfillCompleted]; k.Size != 1 || k.Owner != "worker" || k.Type != "set" {
		t.Errorf("%+v", k)
	}
	for _, key := range []string{"jobs", "other:jobs:daily_bars:2026-03-12:done"} {
		if _, ok := got[key]; ok {
			t.Errorf("%s is none of ours", key)
		}
	}
	if first, last := infos[0], infos[len(infos)-1]; first.Pattern != "jobs:daily_bars:{YYYY-MM-DD}:done" || last.Pattern != "" {
		t.Errorf("from %+v to %+v", first, last)
	}
	if s := w.run("doctor"); s.code != exitOK || !strings.Contains(s.out, "its type is list, the contract says set") || !strings.Contains(s.out, "Redis says active, the table says inactive") {
		t.Errorf("doctor: exit %d: %s", s.code, s.out)
	}
}

func TestKeysShowDecodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.run("migrate")
	w.now = func() time.Time { return time.Date(2026, 3, 12, 18, 0, 0, 0, time.UTC) }
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	rdb := w.redis()
	fill(t, rdb)
	rdb.ZAdd(t.Context(), rediskey.PDTTrades, redis.Z{Score: 739680.5, Member: "x"})
	for key, want := range map[string][]string{
		rediskey.PDTTrades:             {"2026-03-12 AAPL\n", "score 739680.5, no date,", "counts no longer: it is no JSON object"},
		rediskey.KillSwitch:            {"trading is halted"},
		"rate_limit:edgar:last_refill": {"counted as of 2026-03-12T13:00:00.25Z", "tokens now (limit 8)"},
		"rate_limit:edgar:tokens":      {"the next call may go now"},
		rediskey.BackfillCompleted:     {"owner    worker"},
	} {
		s := w.run("keys", "show", key)
		for _, text := range want {
			if s.code != exitOK || !strings.Contains(s.out, text) {
				t.Errorf("%s: exit %d, no %q: %s %s", key, s.code, text, s.out, s.err)
			}
		}
	}
	now := time.Now()
	rdb.Set(t.Context(), "rate_limit:edgar:tokens", "-4", 0)
	rdb.Set(t.Context(), "rate_limit:edgar:last_refill", now.Add(time.Hour).Unix(), 0)
	w.now = nil
	if s := w.run("keys", "show", "rate_limit:edgar:tokens"); !strings.Contains(s.out, "the next call may go at 2") {
		t.Errorf("a limit that is overdrawn: %s", s.out)
	}
}

//go:build bench

package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// A Redis with many keys of others: how long keys list takes, and for how long it
// stops the server for everybody else.
//
//nolint:paralleltest // it is measured alone
func TestFigureKeysList(t *testing.T) {
	w := newWorld(t)
	w.env["SA_REDIS__URL"] = testenv.RedisServer(t).URL()
	rdb, ctx := w.redis(), t.Context()
	// A fifth begins with the letters of a prefix of ours.
	n := bench.Pick(100_000, 1_000)
	for from := 0; from < n; from += 1_000 {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < from+1_000; i++ {
				p.Set(ctx, fmt.Sprintf("%s:%d", []string{"session", "queue", "user", "lock", "cash"}[i%5], i), "x", 0)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1_000 {
		rdb.Set(ctx, fmt.Sprintf("cache:fundamentals:S%d", i), "{}", time.Hour)
	}
	rdb.ConfigSet(ctx, "slowlog-log-slower-than", "1000")
	rdb.ConfigResetStat(ctx)
	rdb.Do(ctx, "SLOWLOG", "RESET")
	before := serverTime(t, rdb)
	took := bench.Median(rounds(), func() time.Duration {
		started := time.Now()
		var infos []keyInfo
		if code := w.decode(&infos, "keys", "list"); code != exitOK || len(infos) != 1_000 {
			t.Fatalf("exit %d, %d keys", code, len(infos))
		}
		return time.Since(started)
	})
	slow, err := rdb.Do(ctx, "SLOWLOG", "LEN").Int()
	if err != nil {
		t.Fatal(err)
	}
	bench.AtMost(t, fmt.Sprintf("keys list among %d keys of others", n), took.Seconds(), 2, "s")
	steps, err := rdb.Info(ctx, "commandstats").Result()
	_, scans, ok := strings.Cut(steps, "cmdstat_scan:calls=")
	scans, _, _ = strings.Cut(scans, ",")
	calls, badCount := strconv.Atoi(scans)
	if err != nil || badCount != nil || !ok {
		t.Fatalf("%v, %v: %s", err, badCount, steps)
	}
	// On a busy machine the slow log also holds commands in which the server was
	// made to wait for a processor, so its own time is told beside it.
	bench.AtMost(t, "the server's own time for one step, everything included", (serverTime(t, rdb)-before)/float64(calls)*1000, 1, "ms")
	bench.AtMost(t, "commands of it that took the server more than 1 ms", float64(slow), 0, "")
}

// serverTime is the processor time that the server has used, in seconds.
func serverTime(t *testing.T, rdb *redis.Client) float64 {
	t.Helper()
	info, err := rdb.InfoMap(t.Context(), "cpu").Result()
	if err != nil {
		t.Fatal(err)
	}
	var total float64
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info["CPU"][name], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += seconds
	}
	return total
}

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

func TestPDTCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.env["SA_DATABASE__URL"] = "postgres://nobody@127.0.0.1:1/none" // it is not asked
	w.now = func() time.Time { return time.Date(2026, 3, 12, 18, 0, 0, 0, time.UTC) }
	rdb := w.redis()
	for _, member := range []redis.Z{
		{Score: 739686, Member: `{"order_id": "p-1", "symbol": "MSFT", "date": "2026-03-11", "recorded_at": "2026-03-11T15:00:00+00:00"}`},
		{Score: 739687, Member: "not\x1b[31m JSON"},
	} {
		if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, member).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var count struct {
		Count, Remaining int
		From, To         string
	}
	if code := w.decode(&count, "pdt", "count"); code != exitOK || count.Count != 2 || count.Remaining != 1 || count.From != "2026-03-06" || count.To != "2026-03-12" {
		t.Errorf("exit %d, %+v", code, count)
	}
	var recorded struct {
		Recorded bool
		Score    float64
		Trade    string
	}
	if code := w.decode(&recorded, "pdt", "record", "--symbol", "AAPL", "--order-id", "4711"); code != exitOK || !recorded.Recorded || recorded.Score != 739687 || !strings.Contains(recorded.Trade, `"AAPL"`) {
		t.Errorf("exit %d, %+v", code, recorded)
	}
	for _, again := range [][]string{{"--symbol", "AAPL", "--order-id", "4711"}, {"--symbol", "MSFT", "--date", "2026-03-11", "--order-id", "p-1"}} {
		if code := w.decode(&recorded, append([]string{"pdt", "record"}, again...)...); code != exitOK || recorded.Recorded {
			t.Errorf("%s: exit %d, %+v", again, code, recorded)
		}
	}
	if s := w.run("pdt", "count"); s.code != exitOK || !strings.Contains(s.out, "0 of 3 remain") {
		t.Errorf("exit %d: %s", s.code, s.out)
	}
	if s := w.run("pdt", "record", "--symbol", "AAPL", "--date", "2026-03-10"); s.code != exitOK {
		t.Errorf("exit %d: %s", s.code, s.err)
	}
	if s := w.run("pdt", "count"); !strings.Contains(s.out, "1 more than the 3") {
		t.Errorf("above the limit: %s", s.out)
	}
	if s := w.run("pdt", "list"); s.code != exitOK || strings.Contains(s.out, "\x1b") || !strings.Contains(s.out, `"not\x1b[31m JSON"`) || !strings.Contains(s.out, "p-1") {
		t.Errorf("list: exit %d: %q", s.code, s.out)
	}
	var trades []dayTrade
	if code := w.decode(&trades, "pdt", "list"); code != exitOK || len(trades) != 4 || trades[1].OrderID != "p-1" || !trades[1].Counts {
		t.Errorf("exit %d, %+v", code, trades)
	}
	if s := w.run("keys", "show", rediskey.PDTTrades); s.code == exitOK {
		t.Error("keys show needs the database")
	}
	for _, args := range [][]string{
		{"record"},
		{"record", "--symbol", "A A"},
		{"record", "--symbol", "AAPL", "--date", "12.3.2026"},
		{"record", "--symbol", "AAPL", "--date", "2026-03-14"},
		{"record", "--symbol", "AAPL", "--date", "2026-03-13"},
		{"record", "--symbol", "AAPL", "--order-id", "a\n"},
		{"record", "--symbol", "AAPL", "--order-id", "p-1"},
		{"count", "x"},
		{},
	} {
		if s := w.run(append([]string{"pdt"}, args...)...); s.code != exitUsage {
			t.Errorf("%q: exit %d: %s", args, s.code, s.err)
		}
	}
	if err := rdb.Rename(t.Context(), rediskey.PDTTrades, "kept").Err(); err != nil {
		t.Fatal(err)
	}
	rdb.Set(t.Context(), rediskey.PDTTrades, "x", 0)
	for _, command := range []string{"count", "list"} {
		if s := w.run("pdt", command); s.code != exitFailed || !strings.Contains(s.err, "no sorted set") {
			t.Errorf("%s of a string: exit %d: %s", command, s.code, s.err)
		}
	}
}

func TestPDTNeedsAServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{{"count"}, {"list"}, {"record", "--symbol", "AAPL"}} {
		if s := w.run(append([]string{"pdt"}, args...)...); s.code != exitUsage || !strings.Contains(s.err, "SA_REDIS__URL") {
			t.Errorf("%v: exit %d: %s", args, s.code, s.err)
		}
	}
}

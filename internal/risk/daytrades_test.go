package risk_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func date(t testing.TB, text string) market.Date {
	t.Helper()
	d, err := market.ParseDate(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// at is a record whose clock stands at noon in New York.
func at(rdb *redis.Client, day market.Date) risk.DayTrades {
	return risk.DayTrades{Redis: rdb, Calendar: market.NYSE(), Now: func() time.Time { return day.In(market.NewYork(), 12, 0) }}
}

func record(t testing.TB, d risk.DayTrades, symbol market.Symbol, day market.Date, order string) risk.Recorded {
	t.Helper()
	r, err := d.Record(t.Context(), symbol, day, order)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestScoreIsPythonsOrdinal(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	d := at(rdb, date(t, "2026-03-12"))
	if r := record(t, d, "AAPL", 0, "7"); r.Known || r.Trimmed != 0 || r.Trade.Score != 739687 {
		t.Errorf("recorded %+v", r)
	}
	const want = `{"symbol":"AAPL","date":"2026-03-12","recorded_at":"2026-03-12T16:00:00.000000+00:00","order_id":"7"}`
	got := rdb.ZRangeWithScores(t.Context(), rediskey.PDTTrades, 0, -1).Val()
	if len(got) != 1 || got[0].Score != 739687 || got[0].Member != want {
		t.Errorf("stored %+v", got)
	}
	if ttl := rdb.TTL(t.Context(), rediskey.PDTTrades).Val(); ttl != -1 {
		t.Errorf("it expires in %s", ttl)
	}
}

// The windows are written down by hand from the exchange's calendar.
func TestCountIsThatOfPython(t *testing.T) {
	t.Parallel()
	for day, from := range map[string]string{
		"2026-03-12": "2026-03-06", // an ordinary Thursday
		"2026-03-14": "2026-03-09", // a Saturday
		"2026-03-15": "2026-03-09",
		"2026-03-16": "2026-03-10",
		"2026-01-01": "2025-12-24", // New Year's Day; 25 December is closed
		"2026-01-02": "2025-12-26",
		"2026-01-05": "2025-12-29",
		"2025-12-31": "2025-12-24",
		"2026-07-03": "2026-06-26", // Independence Day, observed
		"2026-07-06": "2026-06-29",
		"2026-06-19": "2026-06-12", // Juneteenth
		"2026-06-21": "2026-06-12",
		"2026-04-03": "2026-03-27", // Good Friday
		"2026-04-06": "2026-03-30",
		"2026-11-27": "2026-11-20", // after Thanksgiving
		"2026-01-20": "2026-01-13", // after Martin Luther King's Day
		"2024-02-29": "2024-02-23",
		"2027-01-04": "2026-12-28",
		"2027-01-02": "2026-12-24",
		"2007-01-03": "2006-12-26", // 2 January 2007 was a day of mourning
		"2001-09-18": "2001-09-06", // closed from 11 to 14 September
	} {
		t.Run(day, func(t *testing.T) {
			t.Parallel()
			rdb, today, first := client(t, testenv.Redis(t)), date(t, day), date(t, from)
			for d := today - 20; d <= today+2; d++ {
				member := fmt.Sprintf(`{"symbol": "X", "date": "%s"}`, d)
				if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, redis.Z{Score: float64(d), Member: member}).Err(); err != nil {
					t.Fatal(err)
				}
			}
			want, err := rdb.ZCount(t.Context(), rediskey.PDTTrades, strconv.Itoa(int(first)), "+inf").Result()
			if err != nil {
				t.Fatal(err)
			}
			got, err := at(rdb, today).Count(t.Context())
			if err != nil || got.Trades != want || got.Window != (market.Range{From: first, To: today}) || got.Remaining != 0 {
				t.Errorf("%+v, %v; want %d trades from %s on", got, err, want, first)
			}
			trades, err := at(rdb, today).List(t.Context())
			counted := slices.DeleteFunc(trades, func(d risk.DayTrade) bool { return !d.Counts })
			if err != nil || int64(len(counted)) != want {
				t.Errorf("%d are listed as counted, %v; want %d", len(counted), err, want)
			}
		})
	}
}

func TestTheDayIsNewYorks(t *testing.T) {
	t.Parallel()
	d := at(client(t, testenv.Redis(t)), 0)
	d.Now = func() time.Time { return time.Date(2026, 3, 13, 2, 0, 0, 0, time.UTC) }
	if r := record(t, d, "AAPL", 0, ""); r.Trade.Date != date(t, "2026-03-12") {
		t.Errorf("recorded %+v", r)
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	d := at(client(t, testenv.Redis(t)), date(t, "2026-03-12"))
	for want := int64(3); want > -3; want-- {
		got, err := d.Count(t.Context())
		if err != nil || got.Trades != 3-want || got.Remaining != max(0, want) {
			t.Errorf("%+v, %v", got, err)
		}
		record(t, d, "AAPL", 0, "")
	}
}

func TestAnOrderIsRecordedOnce(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	d := at(rdb, date(t, "2026-03-12"))
	python := `{"order_id": 12345678901, "recorded_at": "2026-03-11T15:00:00+00:00", "date": "2026-03-11", "symbol": "MSFT", "legs": [{"qty": 1}]}`
	if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, redis.Z{Score: 739686, Member: python}).Err(); err != nil {
		t.Fatal(err)
	}
	if r := record(t, d, "MSFT", date(t, "2026-03-11"), "12345678901"); !r.Known || r.Trade.Member != python || r.Trade.Date != date(t, "2026-03-11") {
		t.Errorf("recorded again: %+v", r)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			record(t, d, "AAPL", 0, `a "quoted" \ id`)
			record(t, d, "AAPL", 0, "")
		})
	}
	all.Wait()
	if n, err := d.Count(t.Context()); err != nil || n.Trades != 1+1+8 {
		t.Errorf("%+v, %v; want one of Python, one of the order and eight without an id", n, err)
	}
}

// Python writes numbers of any length, and Lua has only those of a double.
func TestOrdersOfOthersThatAreNumbers(t *testing.T) {
	t.Parallel()
	for number, same := range map[string]string{
		"9007199254740993": "9007199254740993", "18446744073709551615": "18446744073709551615", "-7": "-7",
		"4711.0": "4711", "4711.5": "4711.5", "1e3": "1e3", "0": "0",
	} {
		t.Run(number, func(t *testing.T) {
			t.Parallel()
			rdb := client(t, testenv.Redis(t))
			d := at(rdb, date(t, "2026-03-12"))
			member := `{"legs": [{"order_id": 12}], "note": "\"order_id\": 13,", "order_id" : ` + number + `, "symbol": "AAPL", "date": "2026-03-12"}`
			if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, redis.Z{Score: 739687, Member: member}).Err(); err != nil {
				t.Fatal(err)
			}
			if r := record(t, d, "AAPL", 0, same); !r.Known || r.Trade.Member != member {
				t.Errorf("%s was recorded again: %+v", same, r)
			}
			for _, other := range []string{"9007199254740992", "18446744073709551616", "4712", "4711.4", "7", "12", "13", "1000"} {
				if r := record(t, d, "AAPL", 0, other); r.Known {
					t.Errorf("%s was taken for %s", other, number)
				}
			}
		})
	}
}

// Numbers of orders begin anew, with each client of a broker.
func TestAnOrderOfAnotherTradeIsRefused(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	d := at(rdb, date(t, "2026-03-12"))
	record(t, d, "AAPL", 0, "7")
	for _, c := range []struct {
		symbol market.Symbol
		date   string
	}{{"MSFT", "2026-03-12"}, {"AAPL", "2026-03-11"}} {
		var refused *risk.InputError
		if _, err := d.Record(t.Context(), c.symbol, date(t, c.date), "7"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "2026-03-12 of AAPL") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n := rdb.ZCard(t.Context(), rediskey.PDTTrades).Val(); n != 1 {
		t.Errorf("%d members", n)
	}
	if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, redis.Z{Score: 739687, Member: `{"order_id": 8}`}).Err(); err != nil {
		t.Fatal(err)
	}
	if r := record(t, d, "AAPL", 0, "8"); !r.Known {
		t.Errorf("one that says nothing else: %+v", r)
	}
}

func TestMembersOfOthersAreRead(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	members := []redis.Z{
		{Score: 739680, Member: `{"symbol": "AAPL", "date": "2026-03-05", "recorded_at": "2026-03-05T15:00:00+00:00"}`},
		{Score: 739686, Member: `{"order_id": null, "price": 1e400, "date":"2026-03-11","symbol":"BRK.B"}`},
		{Score: 739687, Member: "AAPL:2026-03-12"},
		{Score: 739687, Member: `["AAPL"]`},
		{Score: 739687, Member: "\xff\x1b[31m"},
		{Score: 739687, Member: `{"symbol":"AAPL","date":"12.03.2026"}`},
		{Score: 20524, Member: `{"symbol":"AAPL","date":"2026-03-12"}`}, // days since 1970
	}
	if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, members...).Err(); err != nil {
		t.Fatal(err)
	}
	d := at(rdb, date(t, "2026-03-12"))
	trades, err := d.List(t.Context())
	if err != nil || len(trades) != len(members) {
		t.Fatalf("%d of %d, %v", len(trades), len(members), err)
	}
	notes, counted := 0, 0
	for _, trade := range trades {
		if trade.Note != "" {
			notes++
		}
		if trade.Counts {
			counted++
		}
	}
	if first := trades[1]; first.Symbol != "AAPL" || first.RecordedAt != "2026-03-05T15:00:00+00:00" || first.Note != "" || first.Counts {
		t.Errorf("%+v", first)
	}
	if second := trades[2]; second.Symbol != "BRK.B" || second.OrderID != "" || second.Date != date(t, "2026-03-11") || !second.Counts {
		t.Errorf("%+v", second)
	}
	if n, err := d.Count(t.Context()); err != nil || n.Trades != 5 || counted != 5 || notes != 5 {
		t.Errorf("%+v, %v; %d listed as counted, %d notes", n, err, counted, notes)
	}
	record(t, d, "AAPL", 0, "7")
	if n := rdb.ZCard(t.Context(), rediskey.PDTTrades).Val(); n != int64(len(members))+1 {
		t.Errorf("%d members: one was lost whose own date is new", n)
	}
}

func TestTrimming(t *testing.T) {
	t.Parallel()
	for day, oldest := range map[string]string{
		"2020-03-12": "2020-03-04", // eight days
		"2020-07-05": "2020-06-26", // a Sunday after a holiday: five sessions take nine
		"2001-09-18": "2001-09-06",
	} {
		t.Run(day, func(t *testing.T) {
			t.Parallel()
			rdb, today := client(t, testenv.Redis(t)), date(t, day)
			for d := today - 30; d <= today; d++ {
				member := fmt.Sprintf(`{"date": "%s"}`, d)
				if err := rdb.ZAdd(t.Context(), rediskey.PDTTrades, redis.Z{Score: float64(d), Member: member}).Err(); err != nil {
					t.Fatal(err)
				}
			}
			d := at(rdb, today)
			window, err := d.Window(today)
			if err != nil {
				t.Fatal(err)
			}
			before, _ := d.Count(t.Context())
			r := record(t, d, "AAPL", window.From, "")
			left := rdb.ZRangeWithScores(t.Context(), rediskey.PDTTrades, 0, 0).Val()
			after, _ := d.Count(t.Context())
			if first := market.Date(left[0].Score); first != date(t, oldest) || after.Trades != before.Trades+1 || r.Trimmed != int64(first-(today-30)) {
				t.Errorf("kept from %s, counted %d before and %d after, trimmed %d", first, before.Trades, after.Trades, r.Trimmed)
			}
		})
	}
}

// A clock that runs ahead must not take out what still counts.
func TestAClockAheadTrimsNothing(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	now, err := rdb.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	today := market.DateOf(now.In(market.NewYork()))
	session, err := market.NYSE().Back(today+1, 1)
	if err != nil {
		t.Fatal(err)
	}
	record(t, at(rdb, today), "AAPL", session, "")
	later, err := market.NYSE().Next(today + 300)
	if err != nil {
		t.Fatal(err)
	}
	if r := record(t, at(rdb, later), "AAPL", later, ""); r.Trimmed != 0 {
		t.Errorf("trimmed %d", r.Trimmed)
	}
}

// Whatever day it is, what counts is kept, by this day's record and the next's.
func TestWhatCountsIsKept(t *testing.T) {
	t.Parallel()
	d := risk.DayTrades{Calendar: market.NYSE()}
	rapid.Check(t, func(rt *rapid.T) {
		day := market.NewDate(1991, 1, 1) + market.Date(rapid.IntRange(0, 16000).Draw(rt, "day"))
		window, err := d.Window(day)
		if err != nil {
			rt.Fatal(err)
		}
		sessions, err := market.NYSE().Sessions(window.From, day)
		if err != nil || len(sessions) != risk.CountedSessions || sessions[0] != window.From {
			rt.Fatalf("%v: %v, %v", window, sessions, err)
		}
	})
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	rdb := client(t, testenv.Redis(t))
	d := at(rdb, date(t, "2020-03-12"))
	for _, c := range []struct{ day, order, want string }{
		{"2020-03-08", "", "weekend"},
		{"2020-03-13", "", "future"},
		{"2020-03-03", "", "2020-03-04"},
		{"2020-03-12", "a\nb", "order id"},
		{"2020-03-12", strings.Repeat("x", 129), "order id"},
		{"2050-03-12", "", "2050"},
	} {
		if _, err := d.Record(t.Context(), "AAPL", date(t, c.day), c.order); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n := rdb.Exists(t.Context(), rediskey.PDTTrades).Val(); n != 0 {
		t.Error("something was recorded")
	}
	if err := rdb.Set(t.Context(), rediskey.PDTTrades, "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	_, counted := d.Count(t.Context())
	_, listed := d.List(t.Context())
	_, recorded := d.Record(t.Context(), "AAPL", 0, "7")
	for _, err := range []error{counted, listed, recorded} {
		if err == nil || !strings.Contains(err.Error(), "risk:pdt:trades in Redis is no sorted set") {
			t.Errorf("of a string: %v", err)
		}
	}
	if got := rdb.Get(t.Context(), rediskey.PDTTrades).Val(); got != "x" {
		t.Errorf("it is %q now", got)
	}
}

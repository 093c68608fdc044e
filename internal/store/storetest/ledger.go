package storetest

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func coverage(t *testing.T, d Database) {
	db := open(t, d)
	expect := func(what string, want map[market.Symbol]market.Coverage) {
		t.Helper()
		got, err := db.Coverage(t.Context(), job)
		check(t, err)
		equal(t, what, want, got)
	}
	expect("at first", map[market.Symbol]market.Coverage{})

	run := begin(t, db, job, period)
	check(t, run.SaveAttempt(t.Context(), "NEW", "no_data", ""))
	save(t, run, seriesOf(aapl, 3), day)
	expect("after a save and an attempt", map[market.Symbol]market.Coverage{
		"NEW": {Tried: period}, aapl: {Through: day, Tried: period},
	})

	next := begin(t, db, job, "2026-03-13")
	check(t, next.SaveAttempt(t.Context(), aapl, "not_ready", ""))
	save(t, next, seriesOf("NEW", 3), day-1)
	expect("an attempt leaves through", map[market.Symbol]market.Coverage{
		"NEW": {Through: day - 1, Tried: "2026-03-13"}, aapl: {Through: day, Tried: "2026-03-13"},
	})

	earlier := begin(t, db, job, "2026-03-11")
	save(t, earlier, seriesOf(aapl, 3), day-1)
	save(t, earlier, seriesOf("NEW", 3), day)
	check(t, earlier.SaveAttempt(t.Context(), "OLD", "no_data", ""))
	expect("nothing goes back", map[market.Symbol]market.Coverage{
		"NEW": {Through: day, Tried: "2026-03-13"}, aapl: {Through: day, Tried: "2026-03-13"}, "OLD": {Tried: "2026-03-11"},
	})

	save(t, run, seriesOf(aapl, 3), day+5)
	covered, err := db.Coverage(t.Context(), job)
	check(t, err)
	equal(t, "an unchanged reload for a later session", day+5, covered[aapl].Through)
	other, err := db.Coverage(t.Context(), "backfill")
	check(t, err)
	equal(t, "another job", 0, len(other))
}

func attempts(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	check(t, run.SaveAttempt(t.Context(), aapl, "not_ready", "the session's bar is not there yet"))
	save(t, run, seriesOf("MSFT", 4), day)
	save(t, run, seriesOf(aapl, 2), day)

	want := []store.Attempt{
		{Symbol: aapl, Outcome: store.Stored, Rows: 2},
		{Symbol: "MSFT", Outcome: store.Stored, Rows: 4},
		{Symbol: aapl, Outcome: "not_ready", Message: "the session's bar is not there yet"},
	}
	for i := range want {
		want[i].RunID, want[i].Job, want[i].Period = run.ID(), job, period
	}
	expect := func(what string, symbol market.Symbol, limit int, want ...store.Attempt) {
		t.Helper()
		got, err := db.Attempts(t.Context(), symbol, limit)
		check(t, err)
		for i := range got {
			if time.Since(got[i].At).Abs() > time.Hour || got[i].At.Location() != time.UTC {
				t.Errorf("attempt at %v", got[i].At)
			}
			got[i].At = time.Time{}
		}
		equal(t, what, want, got)
	}
	expect("all", "", 10, want...)
	expect("the newest", "", 1, want[0])
	expect("of a symbol", aapl, 10, want[0], want[2])
	expect("of an unknown symbol", "ZZZ", 10)
	done, err := db.DoneUnits(t.Context(), job, period)
	check(t, err)
	equal(t, "done", []market.Symbol{aapl, "MSFT"}, done)

	tried := func(job, period string, symbols []market.Symbol, outcomes ...string) []market.Symbol {
		t.Helper()
		got, err := db.Tried(t.Context(), job, period, outcomes, symbols)
		check(t, err)
		return got
	}
	check(t, run.End(t.Context(), "partial", []byte(`{}`)))
	run = begin(t, db, job, period)
	check(t, run.SaveAttempt(t.Context(), "MSFT", "no_data", ""))
	all := []market.Symbol{"ZZZ", "MSFT", aapl}
	equal(t, "tried", []market.Symbol{aapl, "MSFT"}, tried(job, period, all, "no_data", "not_ready"))
	equal(t, "tried, of one outcome", []market.Symbol{aapl}, tried(job, period, all, "not_ready"))
	equal(t, "tried, of the others", 0, len(tried(job, period, []market.Symbol{"ZZZ"}, "no_data", "not_ready")))
	equal(t, "tried, of no symbols", 0, len(tried(job, period, nil, "no_data")))
	equal(t, "tried in another period", 0, len(tried(job, "2026-03-11", all, "no_data")))
	equal(t, "tried by another job", 0, len(tried("another_job", period, all, "no_data")))

	hostile := "line one\nline 'two'; \"three\" \x1b[31m " + strings.Repeat("x", 5000)
	check(t, run.SaveAttempt(t.Context(), "EVIL", "bad_payload", hostile))
	got, err := db.Attempts(t.Context(), "EVIL", 1)
	check(t, err)
	equal(t, "message", hostile, got[0].Message)
	check(t, run.SaveAttempt(t.Context(), "EVIL", "bad_payload", "zero \x00 and \xff"))
	got, err = db.Attempts(t.Context(), "EVIL", 1)
	check(t, err)
	equal(t, "bytes that are no text", "zero \uFFFD and \uFFFD", got[0].Message)
}

func calls(t *testing.T, d Database) {
	db := open(t, d)
	since := time.Now().Add(-time.Hour)
	record := func(provider string, limit int, since time.Time, want bool) {
		t.Helper()
		got, err := db.RecordCall(t.Context(), provider, limit, since)
		check(t, err)
		equal(t, "recorded", want, got)
	}
	count := func(provider string, since time.Time, want int) {
		t.Helper()
		got, err := db.CallsSince(t.Context(), provider, since)
		check(t, err)
		equal(t, "calls of "+provider, want, got)
	}
	for range 3 {
		record("alpha_vantage", 3, since, true)
	}
	record("alpha_vantage", 3, since, false)
	count("alpha_vantage", since, 3)
	record("alpha_vantage", 0, since, true) // no limit
	record("edgar", 3, since, true)         // a budget of its own
	count("alpha_vantage", since, 4)
	count("edgar", since, 1)
	count("finra", since, 0)

	later := time.Now().Add(time.Hour)
	count("alpha_vantage", later, 0)
	record("alpha_vantage", 1, later, true) // calls before the window do not count

	between := func(from, until time.Time, want int) {
		t.Helper()
		got, err := db.CallsBetween(t.Context(), "alpha_vantage", from, until)
		check(t, err)
		equal(t, "calls between", want, got)
	}
	between(since, later, 5)
	between(later, later.Add(time.Hour), 0)
	between(since.Add(-time.Hour), since, 0)
}

func spentDay(t *testing.T, d Database) {
	db := open(t, d)
	const provider = "alpha_vantage"
	since := time.Now().Add(-time.Hour)
	expect := func(what string, until time.Time, recorded bool) {
		t.Helper()
		got, err := db.SpentUntil(t.Context(), provider)
		check(t, err)
		if !got.Equal(until) {
			t.Errorf("%s: spent until %s, want %s", what, got, until)
		}
		ok, err := db.RecordCall(t.Context(), provider, 100, since)
		check(t, err)
		equal(t, what+": recorded", recorded, ok)
	}
	expect("at first", time.Time{}, true)
	past := time.Now().Add(-time.Minute).Truncate(time.Second)
	check(t, db.SpendDay(t.Context(), provider, past))
	expect("a day that is over", past, true)
	later := past.Add(time.Hour)
	check(t, db.SpendDay(t.Context(), provider, later))
	expect("a day that goes on", later, false)
	check(t, db.SpendDay(t.Context(), provider, past))
	expect("an earlier note", later, false)
	ok, err := db.RecordCall(t.Context(), provider, 0, since)
	check(t, err)
	equal(t, "without a day limit", true, ok)
	ok, err = db.RecordCall(t.Context(), "edgar", 1, since)
	check(t, err)
	equal(t, "another provider", true, ok)
}

func callsOfMany(t *testing.T, d Database) {
	const limit = 7
	handles := []store.DB{open(t, d), d.Open(t)}
	since := time.Now().Add(-time.Hour)
	var granted atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ok, err := handles[i%2].RecordCall(t.Context(), "alpha_vantage", limit, since)
			if err != nil {
				t.Error(err)
			}
			if ok {
				granted.Add(1)
			}
		})
	}
	wg.Wait()
	equal(t, "granted", int32(limit), granted.Load())
	n, err := handles[0].CallsSince(t.Context(), "alpha_vantage", since)
	check(t, err)
	equal(t, "written down", limit, n)
}

func summary(t *testing.T, d Database) {
	db := open(t, d)
	s, err := db.Summary(t.Context())
	check(t, err)
	equal(t, "empty", store.Summary{}, s)
	run := begin(t, db, job, period)
	save(t, run, seriesOf(aapl, 5), day)
	save(t, run, seriesOf("MSFT", 8), day)
	insertRow(t, d, "MSFT", "2026-03-13 00:00:00+00:00", "NULL")
	s, err = db.Summary(t.Context())
	check(t, err)
	equal(t, "filled", store.Summary{Symbols: 2, Bars: 14, Oldest: day - 7, Newest: day + 1, Sources: map[string]int64{source: 13, "": 1}}, s)
}

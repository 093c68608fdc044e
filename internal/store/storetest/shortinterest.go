package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// Settlement dates that follow each other.
const (
	january  = day - 41 // 2026-01-30
	midMonth = day - 27 // 2026-02-13
	monthEnd = day - 13 // 2026-02-27
	march    = day + 1  // 2026-03-13
)

// short is a row as FINRA publishes it.
func short(symbol market.Symbol, settlement market.Date, shares, previous int64) market.ShortInterest {
	return market.ShortInterest{
		Symbol: symbol, Settlement: settlement, Shares: shares, Previous: market.Count{Value: previous, Known: true},
		AvgDailyVolume: market.Count{Value: 1000, Known: true},
	}.Normal()
}

// revised is a row that says that the one before was revised.
func revised(symbol market.Symbol, settlement market.Date, shares, previous int64) market.ShortInterest {
	row := short(symbol, settlement, shares, previous)
	row.RevisionFlag = "R"
	return row
}

func saveShort(t testing.TB, run store.Run, rows ...market.ShortInterest) market.Changes {
	t.Helper()
	changes, err := run.SaveShortInterest(t.Context(), shortKind, rows[0].Settlement, rows)
	check(t, err)
	return changes
}

func storedShort(t testing.TB, db store.DB, symbol market.Symbol) []market.ShortInterest {
	t.Helper()
	rows, err := db.ShortInterest(t.Context(), symbol)
	check(t, err)
	return rows
}

func shortInterest(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	equal(t, "none", 0, len(storedShort(t, db, aapl)))

	// More than one statement of any store takes.
	const many = 20_000
	rows := make([]market.ShortInterest, many)
	for i := range rows {
		rows[i] = short(market.Symbol(fmt.Sprintf("S%d", i)), monthEnd, int64(i)*3, int64(i))
	}
	rows[0].DaysToCover = market.Ratio{Raw: 999.99}
	rows[1].Previous, rows[1].AvgDailyVolume, rows[1].DaysToCover, rows[1].ChangePct = market.Count{}, market.Count{}, market.Ratio{}, market.Ratio{}
	rows[2].SplitFlag, rows[2].RevisionFlag, rows[2].Shares = "S", "R", 1<<50
	rows[3].ChangePct = market.Ratio{Value: 200.1 / 3, Known: true}
	equal(t, "first load", market.Changes{Inserted: many}, saveShort(t, run, rows...))
	for i := range 4 {
		equal(t, "stored", []market.ShortInterest{rows[i]}, storedShort(t, db, rows[i].Symbol))
	}
	equal(t, "rows", fmt.Sprint(many), d.Other(t, `SELECT count(*) FROM short_interest WHERE settlement_date = '2026-02-27 00:00:00+00:00' AND fetched_at IS NOT NULL`))
	equal(t, "raw", "1", d.Other(t, `SELECT count(*) FROM short_interest WHERE days_to_cover IS NULL AND days_to_cover_raw = 999.99 AND revision_flag IS NULL`))
	equal(t, "attempt", store.Attempt{
		RunID: run.ID(), Job: altJob, Period: shortKind, Symbol: "2026-02-27", Outcome: store.Stored, Rows: many,
	}, lastAttempt(t, db, "2026-02-27"))

	equal(t, "again", market.Changes{Unchanged: many}, saveShort(t, run, rows...))
	equal(t, "outcome", store.Unchanged, lastAttempt(t, db, "2026-02-27").Outcome)
	equal(t, "done", []market.Symbol{"2026-02-27"}, doneUnits(t, db, shortKind))
	equal(t, "some", market.Changes{Inserted: 1, Unchanged: 1}, saveShort(t, run, rows[7], short(aapl, monthEnd, 5, 5)))
	const changed = 1000
	rows = rows[:changed]
	for i := range rows {
		rows[i].Shares++
	}
	equal(t, "many changed", market.Changes{Updated: changed}, saveShort(t, run, rows...))
	equal(t, "changed", []market.ShortInterest{rows[changed-1]}, storedShort(t, db, rows[changed-1].Symbol))
	equal(t, "corrections", fmt.Sprint(changed), d.Other(t, `SELECT count(*) FROM ingest_corrections WHERE source = 'finra' AND field = 'short_interest'`))
	covered, err := db.Coverage(t.Context(), altJob)
	check(t, err)
	equal(t, "coverage", 0, len(covered))
}

func shortInterestRevised(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	first := short(aapl, midMonth, 100_000, 50_000)
	later := revised(aapl, monthEnd, 120_000, 90_000)
	corrected := first.Corrected(90_000)
	saveShort(t, run, first, short(goog, midMonth, 5, 5))
	saveShort(t, run, short(googl, midMonth-31, 7, 7), short("MSFT", midMonth-31, 7, 7))
	equal(t, "revision", market.Changes{Inserted: 2, Updated: 1}, saveShort(t, run, later, short(goog, monthEnd, 6, 4)))
	equal(t, "corrected", []market.ShortInterest{corrected, later}, storedShort(t, db, aapl))
	equal(t, "read again", market.Changes{Unchanged: 1}, saveShort(t, run, first))
	equal(t, "read again, the later one", market.Changes{Unchanged: 1}, saveShort(t, run, later))
	equal(t, "not undone", []market.ShortInterest{corrected, later}, storedShort(t, db, aapl))
	equal(t, "without a flag", int64(5), storedShort(t, db, goog)[0].Shares)

	got, err := db.Corrections(t.Context(), aapl, 10)
	check(t, err)
	for i := range got {
		got[i].At = time.Time{}
	}
	want := func(field string, old, new float64) store.Correction {
		return store.Correction{Symbol: aapl, Date: midMonth, Field: field, Old: old, New: new, HadOld: true, Source: store.ShortInterestSource}
	}
	equal(t, "corrections", []store.Correction{
		want("change_pct", 100, 80), want("days_to_cover", 100, 90), want("short_interest", 100_000, 90_000),
	}, got)

	// The later one first.
	equal(t, "later", market.Changes{Inserted: 1}, saveShort(t, run, revised(googl, monthEnd, 120_000, 90_000)))
	equal(t, "a date too early to be meant", int64(7), storedShort(t, db, googl)[0].Shares)
	first.Symbol, corrected.Symbol = googl, googl
	equal(t, "the earlier one after it", market.Changes{Inserted: 1}, saveShort(t, run, first))
	equal(t, "as corrected", corrected, storedShort(t, db, googl)[1])

	// A split makes them another kind of share.
	split := revised("MSFT", monthEnd, 9, 3)
	split.SplitFlag = "S"
	old := short("MSFT", midMonth, 7, 7)
	saveShort(t, run, old)
	equal(t, "split", market.Changes{Inserted: 1}, saveShort(t, run, split))
	equal(t, "after a split", old, storedShort(t, db, "MSFT")[1])

	// What is right already keeps its figures as they were published.
	odd := short("ODD", midMonth, 7, 7)
	odd.DaysToCover.Value = 3.5
	saveShort(t, run, odd)
	equal(t, "same number", market.Changes{Inserted: 1}, saveShort(t, run, revised("ODD", monthEnd, 9, 7)))
	equal(t, "same number, read again", market.Changes{Unchanged: 1}, saveShort(t, run, odd))
}

func shortInterestPoorer(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	full := revised(aapl, midMonth, 100_000, 50_000)
	full.SplitFlag = "S"
	poor := market.ShortInterest{Symbol: aapl, Settlement: midMonth, Shares: 100_000}
	equal(t, "poor", market.Changes{Inserted: 1}, saveShort(t, run, poor))
	equal(t, "full", market.Changes{Updated: 1}, saveShort(t, run, full))
	equal(t, "poorer", market.Changes{Unchanged: 1}, saveShort(t, run, poor))
	equal(t, "after the poorer", []market.ShortInterest{full}, storedShort(t, db, aapl))
	poor.Shares, full.Shares = 7, 7
	equal(t, "poorer with a correction", market.Changes{Updated: 1}, saveShort(t, run, poor))
	equal(t, "after the correction", []market.ShortInterest{full}, storedShort(t, db, aapl))
	got, err := db.Corrections(t.Context(), aapl, 10)
	check(t, err)
	equal(t, "corrections", 5, len(got))
	equal(t, "of null", store.Correction{
		Symbol: aapl, Date: midMonth, Field: "previous_short_interest", New: 50_000, Source: store.ShortInterestSource, At: got[4].At,
	}, got[4])

	// Another program's rows: without a number, at another hour, with more.
	for _, values := range []string{
		`'GOOG', '2026-02-13 00:00:00+00:00', NULL, 7.5`, `'GOOG', '2026-02-13 05:00:00+00:00', 3, NULL`, `'GOOG', '2026-02-27 00:00:00+00:00', 3, 7.5`,
	} {
		d.Other(t, `INSERT INTO short_interest (symbol, settlement_date, short_interest, short_pct_float) VALUES (`+values+`)`)
	}
	foreign := market.ShortInterest{Symbol: goog, Settlement: monthEnd, Shares: 3}
	equal(t, "read", []market.ShortInterest{foreign}, storedShort(t, db, goog))
	equal(t, "over null", market.Changes{Updated: 1}, saveShort(t, run, short(goog, midMonth, 4, 4)))
	equal(t, "over another's", market.Changes{Updated: 2}, saveShort(t, run, revised(goog, monthEnd, 6, 5)))
	equal(t, "their own columns", "15", strings.TrimSuffix(d.Other(t, `SELECT sum(short_pct_float) FROM short_interest`), ".0"))
	equal(t, "written", []market.ShortInterest{short(goog, midMonth, 4, 4).Corrected(5), revised(goog, monthEnd, 6, 5)}, storedShort(t, db, goog))
}

func shortInterestBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	for name, change := range map[string]func(s *market.ShortInterest){
		"negative":    func(s *market.ShortInterest) { s.Shares = -1 },
		"no symbol":   func(s *market.ShortInterest) { s.Symbol = "" },
		"twice":       func(s *market.ShortInterest) { s.Symbol = aapl },
		"another day": func(s *market.ShortInterest) { s.Settlement++ },
		"flag":        func(s *market.ShortInterest) { s.SplitFlag = "\x00" },
	} {
		rows := []market.ShortInterest{short(aapl, midMonth, 1, 1), short(goog, midMonth, 2, 2)}
		change(&rows[1])
		if changes, err := run.SaveShortInterest(t.Context(), shortKind, midMonth, rows); err == nil {
			t.Errorf("%s: stored as %+v", name, changes)
		}
	}
	rows := []market.ShortInterest{short(aapl, midMonth, 1, 1)}
	if _, err := run.SaveShortInterest(t.Context(), shortKind, midMonth, nil); err == nil {
		t.Error("no rows were stored")
	}
	if _, err := run.SaveShortInterest(t.Context(), "", midMonth, rows); err == nil {
		t.Error("rows of no kind were stored")
	}
	if _, err := run.SaveShortInterest(t.Context(), shortKind, 0, rows); err == nil {
		t.Error("rows of no date were stored")
	}
	equal(t, "stored", "0", d.Other(t, `SELECT (SELECT count(*) FROM short_interest) + (SELECT count(*) FROM ingest_items) + (SELECT count(*) FROM ingest_attempts)`))
}

// shortInterestOfMany lets two owners save dates that follow each other at
// once: whichever comes first, the later one corrects the earlier.
func shortInterestOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	const symbols = 30
	var wg sync.WaitGroup
	for i, db := range handles {
		run := begin(t, db, altJob, []string{altPeriod, "another"}[i])
		wg.Go(func() {
			for n := range symbols {
				symbol := market.Symbol(fmt.Sprintf("S%d", n))
				row := short(symbol, midMonth, 100, 100)
				if i == 1 {
					row = revised(symbol, monthEnd, 100, 90)
				}
				if _, err := run.SaveShortInterest(t.Context(), shortKind, row.Settlement, []market.ShortInterest{row}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	equal(t, "corrected", fmt.Sprint(symbols), d.Other(t, `SELECT count(*) FROM short_interest WHERE short_interest = 90`))
}

// shortInterestModel saves random settlements of a symbol in random order, some
// of them over again: what is stored does not depend on it.
func shortInterestModel(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	var symbols atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		symbol := market.Symbol(fmt.Sprintf("M%d", symbols.Add(1)))
		var published []market.ShortInterest
		for _, settlement := range []market.Date{january, midMonth, monthEnd, march} {
			row := short(symbol, settlement, rapid.Int64Range(0, 3).Draw(rt, "shares")*1000, rapid.Int64Range(0, 3).Draw(rt, "previous")*1000)
			row.RevisionFlag = rapid.SampledFrom([]string{"", "R"}).Draw(rt, "revised")
			row.SplitFlag = rapid.SampledFrom([]string{"", "", "S"}).Draw(rt, "split")
			row.DaysToCover.Value += float64(rapid.IntRange(0, 1).Draw(rt, "odd"))
			published = append(published, row)
		}
		want := slices.Clone(published)
		for i := range want[1:] {
			if shares, ok := published[i+1].Correction(); ok && shares != want[i].Shares {
				want[i] = want[i].Corrected(shares)
			}
		}
		order := rapid.Permutation([]int{0, 1, 2, 3}).Draw(rt, "order")
		again := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 4).Draw(rt, "again")
		for _, i := range append(order, again...) {
			if _, err := run.SaveShortInterest(t.Context(), shortKind, published[i].Settlement, published[i:i+1]); err != nil {
				rt.Fatal(err)
			}
		}
		got, err := db.ShortInterest(t.Context(), symbol)
		if err != nil || !slices.Equal(got, want) {
			rt.Fatalf("in order %v, then %v: %v, got\n%+v, want\n%+v", order, again, err, got, want)
		}
	})
}

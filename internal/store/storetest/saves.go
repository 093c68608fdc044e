package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func firstLoad(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	// More bars than one statement of any store takes.
	series := seriesOf("BRK.B", 1234)
	series.Bars[7].HasAdjClose, series.Bars[7].AdjClose = false, 0
	series.Bars[8].Volume = 0
	equal(t, "first load", market.Changes{Inserted: 1234}, save(t, run, series, day))
	loaded := ledgerOf(t, db, "BRK.B")
	equal(t, "after the load", ledger{
		Bars: series.Bars, Days: answered(series), Done: []market.Symbol{"BRK.B"}, Attempts: 1,
		Coverage: map[market.Symbol]market.Coverage{"BRK.B": {Through: day, Tried: period}},
	}, loaded)

	equal(t, "reload", market.Changes{Unchanged: 1234}, save(t, run, series, day))
	loaded.Attempts = 2
	equal(t, "after the reload", loaded, ledgerOf(t, db, "BRK.B"))
	tries, err := db.Attempts(t.Context(), "BRK.B", 10)
	check(t, err)
	equal(t, "outcomes", []string{store.Unchanged, store.Stored}, []string{tries[0].Outcome, tries[1].Outcome})
	equal(t, "rows", []int{0, 1234}, []int{tries[0].Rows, tries[1].Rows})
}

// A zero session stores bars and corrections, and makes nothing done.
func withoutSession(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	series := seriesOf(aapl, 10)
	equal(t, "first", market.Changes{Inserted: 10}, save(t, run, series, 0))
	equal(t, "ledger", ledger{Bars: series.Bars, Days: answered(series), Coverage: map[market.Symbol]market.Coverage{}}, ledgerOf(t, db, aapl))

	changed := seriesOf(aapl, 10)
	changed.Bars[2].Close++
	changed.Bars[2].High += 2
	equal(t, "changed", market.Changes{Updated: 1, Unchanged: 9}, save(t, run, changed, 0))
	got, err := db.Corrections(t.Context(), aapl, 10)
	check(t, err)
	equal(t, "corrections", 2, len(got))
	check(t, run.Release())
	begin(t, db, job, period)
	if _, err := run.SaveBars(t.Context(), series, 0); !errors.Is(err, store.ErrFenced) {
		t.Errorf("after a takeover: %v", err)
	}
}

func corrections(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	first := seriesOf(aapl, 10)
	first.Bars[4].HasAdjClose, first.Bars[4].AdjClose = false, 0
	save(t, run, first, day)

	second := seriesOf(aapl, 12) // two bars before the first
	second.Source = "python"
	second.Bars[3].High = 200.25
	second.Bars[5].Volume++
	equal(t, "changes", market.Changes{Inserted: 2, Updated: 3, Unchanged: 7}, save(t, run, second, day))
	equal(t, "bars", second.Bars, ledgerOf(t, db, aapl).Bars)

	old := seriesOf(aapl, 12).Bars
	want := []store.Correction{
		{Date: old[6].Date, Field: "adjusted_close", New: old[6].AdjClose},
		{Date: old[5].Date, Field: "volume", Old: float64(old[5].Volume), New: float64(old[5].Volume + 1), HadOld: true},
		{Date: old[3].Date, Field: "high", Old: old[3].High, New: 200.25, HadOld: true},
	}
	for i := range want {
		want[i].Symbol, want[i].Source = aapl, "python"
	}
	got, err := db.Corrections(t.Context(), aapl, 10)
	check(t, err)
	for i := range got {
		if got[i].At.IsZero() || got[i].At.Location() != time.UTC {
			t.Errorf("correction at %v", got[i].At)
		}
		got[i].At = time.Time{}
	}
	equal(t, "corrections", want, got)
	newest, err := db.Corrections(t.Context(), aapl, 1)
	check(t, err)
	if len(newest) != 1 || newest[0].Field != "adjusted_close" {
		t.Errorf("the newest correction: %+v", newest)
	}
	none, err := db.Corrections(t.Context(), "MSFT", 10)
	check(t, err)
	equal(t, "corrections of another symbol", 0, len(none))
}

func poorerAnswers(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	full := seriesOf(aapl, 3)
	save(t, run, full, day)
	poor := seriesOf(aapl, 3)
	for i := range poor.Bars {
		poor.Bars[i].HasAdjClose, poor.Bars[i].AdjClose, poor.Bars[i].Volume = false, 0, 0
	}
	equal(t, "poorer", market.Changes{Unchanged: 3}, save(t, run, poor, day))
	equal(t, "after the poorer", full.Bars, ledgerOf(t, db, aapl).Bars)
	poor.Bars[1].Close, full.Bars[1].Close = 5.5, 5.5
	equal(t, "poorer with a correction", market.Changes{Updated: 1, Unchanged: 2}, save(t, run, poor, day))
	equal(t, "after the correction", full.Bars, ledgerOf(t, db, aapl).Bars)
}

func bars(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	none, err := db.Bars(t.Context(), aapl, market.Range{From: 1, To: day})
	check(t, err)
	equal(t, "no bars", market.Series{Symbol: aapl}, none)

	series := seriesOf(aapl, 10)
	save(t, run, series, day)
	other := seriesOf("AAP", 4)
	save(t, run, other, day)
	newest := market.Series{Symbol: aapl, Source: "python", Bars: []market.Bar{barOf(day + 1)}}
	save(t, run, newest, day)

	got, err := db.Bars(t.Context(), aapl, market.Range{From: day - 3, To: day})
	check(t, err)
	equal(t, "window", market.Series{Symbol: aapl, Source: source, Bars: series.Bars[6:]}, got)
	got, err = db.Bars(t.Context(), aapl, market.Range{From: day, To: day + 9})
	check(t, err)
	equal(t, "source of the newest", market.Series{Symbol: aapl, Source: "python", Bars: []market.Bar{series.Bars[9], newest.Bars[0]}}, got)
}

func badInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	before := ledgerOf(t, db, aapl)
	repeated, notANumber := seriesOf(aapl, 2), seriesOf(aapl, 2)
	repeated.Bars[1].Date = repeated.Bars[0].Date
	notANumber.Bars[1].Close = math.NaN()
	for name, series := range map[string]market.Series{
		"repeated date": repeated, "not a number": notANumber, "no bars": {Symbol: aapl}, "no symbol": seriesOf("", 2),
	} {
		if changes, err := run.SaveBars(t.Context(), series, day); err == nil {
			t.Errorf("%s: stored as %+v", name, changes)
		}
	}
	equal(t, "stored", before, ledgerOf(t, db, aapl))
}

// failure lets the last statement of a save fail, after the bars are written.
func failure(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	save(t, run, seriesOf(aapl, 5), day)
	saveFacts(t, run, aapl, factsOf(3)...)
	saveShort(t, run, short(aapl, midMonth, 5, 5))
	saveFiling(t, run, sold(1, day, 1, 2))
	before, beforeNew := ledgerOf(t, db, aapl), ledgerOf(t, db, "MSFT")
	alternative := d.Other(t, altRows)
	d.Break(t)

	corrected := seriesOf(aapl, 7)
	corrected.Bars[3].Open += 0.5
	if _, err := run.SaveBars(t.Context(), corrected, day+1); err == nil {
		t.Fatal("a broken database stored a correction")
	}
	if _, err := run.SaveBars(t.Context(), seriesOf("MSFT", 5), day); err == nil {
		t.Fatal("a broken database stored a first load")
	}
	if err := run.SaveAttempt(t.Context(), "MSFT", "no_data", ""); err == nil {
		t.Fatal("a broken database stored an attempt")
	}
	restated := factsOf(3)
	restated[0].Accession, restated[0].Filed, restated[1].Value = "later", day, 5
	if _, err := run.SaveFacts(t.Context(), aapl, restated, day); err == nil {
		t.Fatal("a broken database stored facts")
	}
	if _, err := run.SaveFundamentals(t.Context(), overview(day), true); err == nil {
		t.Fatal("a broken database stored fundamentals")
	}
	if _, err := run.SaveHistory(t.Context(), seriesOf(aapl, 9), market.Range{From: day - 99, To: day}, true); err == nil {
		t.Fatal("a broken database stored a history")
	}
	amendment := sold(2, day+1, 1)
	amendment.Form, amendment.OriginalFiled = "4/A", day
	for name, save := range map[string]func() error{
		"an index day": func() error {
			_, err := run.SaveIndexDay(t.Context(), dayKind, day, []market.ListedFiling{listed(1, day)})
			return err
		},
		"a filing": func() error {
			_, err := run.SaveFiling(t.Context(), goog, amendment)
			return err
		},
		"short interest": func() error {
			_, err := run.SaveShortInterest(t.Context(), shortKind, monthEnd, []market.ShortInterest{revised(aapl, monthEnd, 5, 4)})
			return err
		},
		"an item":    func() error { return run.SaveItem(t.Context(), dayKind, "2026-03-12", "no_session", "") },
		"an attempt": func() error { return run.SaveUnitAttempt(t.Context(), dayKind, "2026-03-12", "no_data", "") },
	} {
		if save() == nil {
			t.Errorf("a broken database stored %s", name)
		}
	}
	equal(t, "alternative data", alternative, d.Other(t, altRows))
	equal(t, "superseded", "0", d.Other(t, `SELECT count(*) FROM insider_transactions WHERE superseded`))
	equal(t, "short interest", int64(5), storedShort(t, db, aapl)[0].Shares)
	equal(t, "facts", known{aapl: factsOf(3)}, factsAsOf(t, db, day, nil, nil))
	wantFundamentals(t, "fundamentals", db, day, nil)
	equal(t, "of a known symbol", before, ledgerOf(t, db, aapl))
	equal(t, "of a new symbol", beforeNew, ledgerOf(t, db, "MSFT"))
}

// cancelled ends the context at some instant of a save. Whatever the save
// returns must be the truth.
func cancelled(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run.SaveBars(dead, seriesOf(aapl, 5), day); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
	equal(t, "stored", 0, len(ledgerOf(t, db, aapl).Bars))

	for i := range 40 {
		symbol := market.Symbol(fmt.Sprintf("S%d", i))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*500*time.Microsecond)
		_, err := run.SaveBars(ctx, seriesOf(symbol, 1000), day)
		cancel()
		want := 0
		if err == nil {
			want = 1000
		}
		got := ledgerOf(t, db, symbol)
		_, covered := got.Coverage[symbol]
		if len(got.Bars) != want || got.Attempts != want/1000 || covered != (err == nil) {
			t.Fatalf("SaveBars returned %v and stored %d bars, %d attempts", err, len(got.Bars), got.Attempts)
		}
	}
}

func closed(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	run := begin(t, db, job, period)
	check(t, db.Close())
	if _, err := run.SaveBars(t.Context(), seriesOf(aapl, 5), day); err == nil {
		t.Error("a closed database stored bars")
	}
	equal(t, "stored", ledger{Coverage: map[market.Symbol]market.Coverage{}}, ledgerOf(t, other, aapl))
}

func forget(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	for _, symbol := range []market.Symbol{"MSFT", aapl, "BRK.B", "Z"} {
		save(t, run, seriesOf(symbol, 3), day)
	}
	elsewhere := begin(t, db, job, "2026-03-13")
	save(t, elsewhere, seriesOf(aapl, 3), day)

	done := func(want ...market.Symbol) {
		t.Helper()
		got, err := db.DoneUnits(t.Context(), job, period)
		check(t, err)
		equal(t, "done units", want, got)
	}
	done(aapl, "BRK.B", "MSFT", "Z")
	check(t, db.Forget(t.Context(), job, period, aapl, "Z", "UNKNOWN"))
	done("BRK.B", "MSFT")
	equal(t, "bars stay", 3, len(ledgerOf(t, db, aapl).Bars))
	equal(t, "save again", market.Changes{Unchanged: 3}, save(t, run, seriesOf(aapl, 3), day))
	done(aapl, "BRK.B", "MSFT")
	check(t, db.Forget(t.Context(), job, period))
	done()
	units, err := db.DoneUnits(t.Context(), job, "2026-03-13")
	check(t, err)
	equal(t, "another period", []market.Symbol{aapl}, units)
}

func savesOfMany(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 10 {
				series := seriesOf(market.Symbol([]byte{'A' + byte(i), 'A' + byte(n)}), 20)
				if _, err := run.SaveBars(t.Context(), series, day); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s, err := db.Summary(t.Context())
	check(t, err)
	equal(t, "summary", store.Summary{Symbols: 80, Bars: 1600, Oldest: day - 19, Newest: day, Sources: map[string]int64{source: 1600}}, s)
	done, err := db.DoneUnits(t.Context(), job, period)
	check(t, err)
	equal(t, "done", 80, len(done))
}

// twoHandles lets two owners save the same symbols at once. Every bar is
// counted as inserted by exactly one of them, and every change of a value has
// its correction.
func twoHandles(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	inserted, updated := make([]int, 2), make([]int, 2)
	var wg sync.WaitGroup
	for i, db := range handles {
		run := begin(t, db, job, []string{period, "2026-03-13"}[i])
		wg.Go(func() {
			for n := range 15 {
				series := seriesOf(market.Symbol([]byte{'S', 'A' + byte(n)}), 40)
				series.Bars[20].Open = float64(200 + i)
				changes, err := run.SaveBars(t.Context(), series, day)
				if err != nil {
					t.Error(err)
				}
				inserted[i] += changes.Inserted
				updated[i] += changes.Updated
			}
		})
	}
	wg.Wait()
	equal(t, "inserted", 15*40, inserted[0]+inserted[1])
	equal(t, "updated", 15, updated[0]+updated[1])
	for n := range 15 {
		got := ledgerOf(t, handles[0], market.Symbol([]byte{'S', 'A' + byte(n)}))
		equal(t, "bars", 40, len(got.Bars))
		equal(t, "corrections", 1, got.Corrections)
		equal(t, "attempts", 2, got.Attempts)
	}
}

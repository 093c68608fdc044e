package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// sourceRules goes through the table of docs/sources.md: each row is an incoming
// bar that differs from the stored one in its prices, by less than a tick in the
// close, in its volume and in its adjusted close.
func sourceRules(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	old, fresh := barOf(day), barOf(day)
	fresh.Open, fresh.Close, fresh.Volume, fresh.AdjClose = fresh.Open+0.25, fresh.Close+0.004, 77, 55
	bare := func(b market.Bar) market.Bar {
		b.HasAdjClose, b.AdjClose, b.Volume = false, 0, 0
		return b
	}
	lacking, richer := fresh, bare(old) // new prices and the rest of the stored bar; the opposite
	lacking.AdjClose, lacking.Volume = old.AdjClose, old.Volume
	richer.HasAdjClose, richer.AdjClose = true, fresh.AdjClose
	full := richer
	full.Volume = fresh.Volume

	const replaced, added, same = 1, 2, 0
	for i, row := range []struct {
		name             string
		stored, incoming string
		old, bar, want   market.Bar
		does             int
	}{
		{"its own bar", "tiingo", "tiingo", old, fresh, fresh, replaced},
		{"its own bar, adjusted", "ibkr", "ibkr", old, fresh, fresh, replaced},
		{"its own bar, poorer", "tiingo", "tiingo", old, bare(fresh), lacking, replaced},
		{"its own bar, richer", "tiingo", "tiingo", bare(old), fresh, fresh, replaced},
		{"onto an unknown one", "python", "tiingo", old, fresh, fresh, replaced},
		{"onto an unknown one, filtered", "python", "ibkr", old, fresh, fresh, replaced},
		{"onto one without a source", "", "alpha_vantage", old, fresh, fresh, replaced},
		{"onto an unknown one, poorer", "", "ibkr", old, bare(fresh), lacking, replaced},
		{"an unknown one", "alpha_vantage", "python", old, fresh, fresh, replaced},
		{"an unknown one onto a filtered", "ibkr", "python", old, fresh, fresh, replaced},
		{"consolidated onto filtered", "ibkr", "alpha_vantage", old, fresh, fresh, replaced},
		{"consolidated onto filtered, of one basis", "ibkr", "massive_adjusted", old, fresh, fresh, replaced},
		{"consolidated onto filtered, poorer", "ibkr", "massive", old, bare(fresh), lacking, replaced},
		{"filtered onto consolidated", "alpha_vantage", "ibkr", old, fresh, old, same},
		{"filtered onto consolidated, of one basis", "massive_adjusted", "ibkr", old, fresh, old, same},
		{"filtered onto consolidated, a null and a zero", "tiingo", "ibkr", bare(old), fresh, richer, added},
		{"two consolidated", "alpha_vantage", "tiingo", old, fresh, old, same},
		{"two consolidated, a null and a zero", "massive", "alpha_vantage", bare(old), fresh, full, added},
		{"two consolidated, of two bases", "massive", "massive_adjusted", old, fresh, old, same},
		{"two consolidated, of two bases, a null and a zero", "massive_adjusted", "tiingo", bare(old), fresh, full, added},
	} {
		symbol := market.Symbol(fmt.Sprintf("R%d", i))
		first := market.Series{Symbol: symbol, Source: row.stored, Bars: []market.Bar{row.old}}
		if row.stored == "" {
			first.Source = "python"
		}
		save(t, run, first, 0)
		if row.stored == "" {
			d.Other(t, fmt.Sprintf(`UPDATE ohlcv SET source = NULL WHERE symbol = '%s'`, symbol))
		}
		series := market.Series{Symbol: symbol, Source: row.incoming, Bars: []market.Bar{row.bar}}
		changes, source := market.Changes{Updated: 1}, row.stored
		switch row.does {
		case replaced:
			source = row.incoming
		case same:
			changes = market.Changes{Unchanged: 1}
		}
		equal(t, row.name, changes, save(t, run, series, day))
		got := ledgerOf(t, db, symbol)
		equal(t, row.name+": bar", []market.Bar{row.want}, got.Bars)
		equal(t, row.name+": source", source, sourceOn(t, db, symbol, day))
		equal(t, row.name+": corrections", differing(row.old, row.want), got.Corrections)
		equal(t, row.name+": again", market.Changes{Unchanged: 1}, save(t, run, series, day))
	}
}

// differing counts the fields in which two bars differ.
func differing(a, b market.Bar) (n int) {
	for _, differs := range []bool{
		a.Open != b.Open, a.High != b.High, a.Low != b.Low, a.Close != b.Close, a.Volume != b.Volume,
		a.HasAdjClose != b.HasAdjClose || a.AdjClose != b.AdjClose,
	} {
		if differs {
			n++
		}
	}
	return n
}

func sourceOn(t testing.TB, db store.DB, symbol market.Symbol, date market.Date) string {
	t.Helper()
	return must(db.Bars(t.Context(), symbol, market.Range{From: date, To: date}))(t).Source
}

// splitDay is the first session after a split of one share into four.
const splitDay = day - 4

// barsBy returns what a source has of some dates, which is as traded, four times
// as high before the split, if it is not adjusted.
func barsBy(source string, symbol market.Symbol, from, to market.Date) market.Series {
	s := market.Series{Symbol: symbol, Source: source}
	for date := from; date <= to; date++ {
		s.Bars = append(s.Bars, barBy(source, date))
	}
	return s
}

func barBy(source string, date market.Date) market.Bar {
	b := barOf(date)
	b.AdjClose, b.HasAdjClose = 0, false
	if market.TraitsOf(source).Basis == market.Raw && date < splitDay {
		b.Open, b.High, b.Low, b.Close = 4*b.Open, 4*b.High, 4*b.Low, 4*b.Close
	}
	if source == "ibkr" {
		b.Volume /= 2
	}
	return b
}

// without returns a series without the bars of some dates.
func without(s market.Series, dates ...market.Date) market.Series {
	s.Bars = slices.DeleteFunc(s.Bars, func(b market.Bar) bool { return slices.Contains(dates, b.Date) })
	return s
}

// kept is what the store has to hold: bars of sources.
type kept map[market.Date]string

func (k kept) add(source string, from, to market.Date) kept {
	for date := from; date <= to; date++ {
		k[date] = source
	}
	return k
}

func wantKept(t *testing.T, db store.DB, symbol market.Symbol, want kept) {
	t.Helper()
	got := kept{}
	for _, b := range ledgerOf(t, db, symbol).Bars {
		got[b.Date] = sourceOn(t, db, symbol, b.Date)
		if diff := cmp.Diff(barBy(want[b.Date], b.Date), b); diff != "" {
			t.Errorf("%s, bar of %s (-want +got):\n%s", symbol, b.Date, diff)
		}
	}
	equal(t, string(symbol)+": sources", want, got)
}

// twoBases saves a part of the days of a symbol beside another source's, with a
// split among them.
func twoBases(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	cut := func(c market.Changes) market.Changes {
		c.Since, c.OtherBasis = splitDay, int(splitDay-(day-19))
		return c
	}

	// Adjusted bars beside raw ones fill holes since the split alone.
	save(t, run, without(barsBy("tiingo", aapl, day-29, day), day-12, day-2), 0)
	want := kept{}.add("tiingo", day-29, day)
	delete(want, day-12)
	before := daysOf(t, db, aapl)
	part := barsBy("ibkr", aapl, day-19, day+1)
	equal(t, "adjusted beside raw", cut(market.Changes{Inserted: 2, Unchanged: 4}), save(t, run, part, day+1))
	want[day-2], want[day+1] = "ibkr", "ibkr"
	wantKept(t, db, aapl, want)
	before.Stored = sortedDates(append(before.Stored, day-2, day+1))
	before.answer("ibkr", span(splitDay, day+1)...)
	equal(t, "days of those", before, daysOf(t, db, aapl))
	equal(t, "again", cut(market.Changes{Unchanged: 6}), save(t, run, part, day+1))

	// Its own bars before the split stay as traded, and are corrected since.
	traded := withSource("ibkr", barsBy("tiingo", aapl, day-12, day-12))
	traded.NewBase = true
	save(t, run, traded, 0)
	corrected := barsBy("ibkr", aapl, day-19, day+1)
	corrected.Bars[17].High++ // of day-2
	equal(t, "own bars", cut(market.Changes{Updated: 1, Unchanged: 5}), save(t, run, corrected, day+1))
	equal(t, "of before the split", traded.Bars[0], must(db.Bars(t.Context(), aapl, market.Range{From: day - 12, To: day - 12}))(t).Bars[0])

	// Raw bars take the place of adjusted ones since the split.
	save(t, run, without(barsBy("ibkr", "MSFT", day-29, day), day-12, day-2), 0)
	equal(t, "raw beside adjusted", cut(market.Changes{Inserted: 2, Updated: 4}), save(t, run, barsBy("massive", "MSFT", day-19, day+1), day+1))
	want = kept{}.add("ibkr", day-29, splitDay-1).add("massive", splitDay, day+1)
	delete(want, day-12)
	wantKept(t, db, "MSFT", want)
}

// twoVendors saves bars that differ from those of another basis here and there,
// or are on a new base of their own.
func twoVendors(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)

	// Without a split in it nothing is left out, and a single date is no split.
	save(t, run, barsBy("ibkr", "ODD", day-29, day), 0)
	odd := barsBy("tiingo", "ODD", splitDay, day+1)
	odd.Bars[2].Close += 0.02
	equal(t, "two vendors", market.Changes{Inserted: 1, Updated: 5}, save(t, run, odd, day+1))
	odd = barsBy("ibkr", "ODD", splitDay, day+2)
	equal(t, "adjusted again", market.Changes{Inserted: 1, Unchanged: 6}, save(t, run, odd, day+2))
	odd = barsBy("ibkr", "ODD", splitDay-1, day+2)
	equal(t, "its own bars agree", market.Changes{Unchanged: 8}, save(t, run, odd, day+2))

	for symbol, sources := range map[market.Symbol][3]string{
		"VENDORS": {"ibkr", "ibkr", "tiingo"}, // many such dates
		"ITS-OWN": {"tiingo", "ibkr", "ibkr"}, // corrected by itself
	} {
		save(t, run, withSource(sources[0], seriesOf(symbol, 30)), 0)
		part := withSource(sources[1], seriesOf(symbol, 8))
		part.NewBase = true
		for i := range part.Bars {
			part.Bars[i].High++
		}
		save(t, run, part, 0)
		part = withSource(sources[2], seriesOf(symbol, 12))
		for i := range 8 {
			part.Bars[4+i].Close += 0.5
		}
		equal(t, string(symbol), market.Changes{Updated: 8, Unchanged: 4}, save(t, run, part, 0))
	}

	// Adjusted closes on a new base are no matter of splits.
	paid := barsBy("tiingo", "PAID", day-29, day)
	save(t, run, adjustedCloses(paid), 0)
	mixed := barsBy("ibkr", "PAID", splitDay, day+1)
	equal(t, "adjusted beside raw", market.Changes{Inserted: 1, Unchanged: 5}, save(t, run, mixed, 0))
	again := adjustedCloses(barsBy("tiingo", "PAID", splitDay, day+2))
	for i := range again.Bars {
		again.Bars[i].AdjClose /= 2
	}
	changes, err := run.SaveBars(t.Context(), again, 0)
	wantRebased(t, "after a dividend", changes, err, market.RebasedError{
		Symbol: "PAID", Changed: 5, Compared: 6, Ratio: 0.5, Stored: market.Range{From: day - 29, To: day + 1},
	})

	// Of one basis, a split moves the bars of another source too.
	save(t, run, barsBy("ibkr", "ONE", day-29, day), 0)
	changes, err = run.SaveBars(t.Context(), split(barsBy("massive_adjusted", "ONE", day-19, day+1), 2), 0)
	wantRebased(t, "of one basis", changes, err, market.RebasedError{
		Symbol: "ONE", Changed: 20, Compared: 20, Ratio: 0.5, Stored: market.Range{From: day - 29, To: day},
	})
}

func adjustedCloses(s market.Series) market.Series {
	for i := range s.Bars {
		s.Bars[i].AdjClose, s.Bars[i].HasAdjClose = s.Bars[i].Close/2, true
	}
	return s
}

// twoBasesWhole replaces all that is stored, or all that a series holds.
func twoBasesWhole(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	for i, sources := range [][2]string{{"tiingo", "ibkr"}, {"ibkr", "tiingo"}, {"ibkr", "massive"}} {
		symbol := market.Symbol(fmt.Sprintf("ALL%d", i))
		save(t, run, barsBy(sources[0], symbol, day-19, day), 0)
		equal(t, "all that is stored", market.Changes{Inserted: 11, Updated: 20}, save(t, run, barsBy(sources[1], symbol, day-29, day+1), 0))
		wantKept(t, db, symbol, kept{}.add(sources[1], day-29, day+1))

		symbol = market.Symbol(fmt.Sprintf("NEW%d", i))
		save(t, run, barsBy(sources[0], symbol, day-29, splitDay-1), 0)
		part := barsBy(sources[1], symbol, day-19, day)
		part.NewBase = true
		equal(t, "on a new base", market.Changes{Inserted: 5, Updated: 15}, save(t, run, part, 0))
		wantKept(t, db, symbol, kept{}.add(sources[0], day-29, day-20).add(sources[1], day-19, day))
	}

	// All of it agrees: then no better volume is given up.
	save(t, run, barsBy("tiingo", "FITS", splitDay, day), 0)
	equal(t, "all agree", market.Changes{Inserted: 1, Unchanged: 5}, save(t, run, barsBy("ibkr", "FITS", splitDay, day+1), 0))
	wantKept(t, db, "FITS", kept{}.add("tiingo", splitDay, day).add("ibkr", day+1, day+1))
}

// twoBasesRefused saves bars that agree with none of another basis.
func twoBasesRefused(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	stored := market.Range{From: day - 29, To: splitDay - 1}
	for what, sources := range map[market.Symbol][2]string{"RAW": {"tiingo", "ibkr"}, "ADJUSTED": {"massive_adjusted", "tiingo"}} {
		save(t, run, barsBy(sources[0], what, stored.From, stored.To), 0)
		insertRow(t, d, what, "2026-01-01 14:30:00+00:00", `'intraday'`) // is no bar
		before := ledgerOf(t, db, what)
		want := market.BasisError{Symbol: what, Source: sources[1], Other: sources[0], Stored: stored, Date: stored.To}
		want.Close, want.CloseOfOther = barBy(sources[1], stored.To).Close, barBy(sources[0], stored.To).Close
		for session, series := range map[market.Date]market.Series{
			0:       barsBy(sources[1], what, day-19, day),
			day:     barsBy(sources[1], what, day-19, stored.To),
			day + 1: barsBy(sources[1], what, day-39, stored.To-1),
		} {
			want := want
			if last := series.Bars[len(series.Bars)-1].Date; last < stored.To {
				want.Date, want.Close, want.CloseOfOther = last, barBy(sources[1], last).Close, barBy(sources[0], last).Close
			}
			changes, err := run.SaveBars(t.Context(), series, session)
			wantBasis(t, "bars", changes, err, want)
			changes, err = run.SaveHistory(t.Context(), series, market.Range{From: day - 39, To: day}, true)
			wantBasis(t, "history", changes, err, want)
		}
		equal(t, "stored of those", before, ledgerOf(t, db, what))
	}

	// Nothing in common: an adjusted source looks at all rows of the symbol.
	changes, err := run.SaveBars(t.Context(), barsBy("ibkr", "RAW", day-1, day), day)
	wantBasis(t, "nothing in common", changes, err, market.BasisError{Symbol: "RAW", Source: "ibkr", Other: "tiingo", Stored: stored})
	d.Other(t, `DELETE FROM ohlcv WHERE symbol = 'RAW' AND timestamp = '2026-03-01 00:00:00+00:00'`)
	hole := market.NewDate(2026, 3, 1)
	changes, err = run.SaveBars(t.Context(), barsBy("ibkr", "RAW", hole, hole), 0)
	wantBasis(t, "a hole", changes, err, market.BasisError{Symbol: "RAW", Source: "ibkr", Other: "tiingo", Stored: stored})

	// Its own bars in a raw series are on the basis of that one.
	save(t, run, barsBy("tiingo", "OWN", day-29, day-20), 0)
	save(t, run, withSource("ibkr", barsBy("tiingo", "OWN", day-20, day-10)), 0)
	equal(t, "agrees with its own", market.Changes{Inserted: 1, Unchanged: 2}, save(t, run, withSource("ibkr", barsBy("tiingo", "OWN", day-11, day-9)), 0))
	changes, err = run.SaveBars(t.Context(), barsBy("ibkr", "OWN", day-12, day), 0)
	wantBasis(t, "its own after a split", changes, err, market.BasisError{
		Symbol: "OWN", Source: "ibkr", Other: "tiingo", Stored: market.Range{From: day - 29, To: day - 9},
		Date: day - 9, Close: barBy("ibkr", day-9).Close, CloseOfOther: barBy("tiingo", day-9).Close,
	})
}

func withSource(source string, s market.Series) market.Series {
	s.Source = source
	return s
}

func wantBasis(t testing.TB, what string, changes market.Changes, err error, want market.BasisError) {
	t.Helper()
	var got *market.BasisError
	var refused *store.RefusedError
	if !errors.As(err, &got) || errors.As(err, &refused) || changes != (market.Changes{}) {
		t.Fatalf("%s: got %+v, %v, want a BasisError alone", what, changes, err)
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// twoBasesHistory answers for days of which some bars are left out.
func twoBasesHistory(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, store.BackfillJob, period)
	save(t, run, barsBy("tiingo", aapl, day-29, day), 0)
	for what, try := range map[string]struct {
		asked, answered market.Range
	}{
		"all of it": {market.Range{From: day - 25, To: day + 1}, market.Range{From: splitDay, To: day + 1}},
		"before it": {market.Range{From: day - 25, To: day - 19}, market.Range{}},
		"since":     {market.Range{From: day - 1, To: day + 1}, market.Range{From: day - 1, To: day + 1}},
	} {
		check(t, db.ForgetHistory(t.Context()))
		d.Other(t, `DELETE FROM ohlcv WHERE source = 'ibkr'`)
		before := len(must(db.Attempts(t.Context(), aapl, 99))(t))
		got, err := run.SaveHistory(t.Context(), barsBy("ibkr", aapl, day-19, day+1), try.asked, true)
		check(t, err)
		equal(t, what, market.Changes{Inserted: 1, Unchanged: 5, Since: splitDay, OtherBasis: 15}, got)
		var want knownDays
		if try.answered.To > 0 {
			want.answer("ibkr", span(try.answered.From, try.answered.To)...)
		}
		equal(t, what+": answered", want.Answered, daysOf(t, db, aapl).Answered)
		equal(t, what+": done", 0, len(must(db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind))(t)))
		tries := must(db.Attempts(t.Context(), aapl, 99))(t)
		equal(t, what+": attempts", before+1, len(tries))
		equal(t, what+": asked", try.asked.String(), tries[0].Period)
	}
	got, err := run.SaveHistory(t.Context(), barsBy("ibkr", aapl, splitDay, day+1), market.Range{From: splitDay, To: day + 1}, true)
	check(t, err)
	equal(t, "what counts", market.Changes{Unchanged: 6}, got)
	equal(t, "done", []market.Symbol{aapl}, must(db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind))(t))
}

package storetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// split returns a series as it is after a split.
func split(s market.Series, by float64) market.Series {
	s.Bars = append([]market.Bar(nil), s.Bars...)
	for i := range s.Bars {
		b := &s.Bars[i]
		b.Open, b.High, b.Low, b.Close, b.AdjClose = b.Open/by, b.High/by, b.Low/by, b.Close/by, b.AdjClose/by
	}
	return s
}

func wantRebased(t testing.TB, what string, changes market.Changes, err error, want market.RebasedError) {
	t.Helper()
	var got *market.RebasedError
	var refused *store.RefusedError
	if !errors.As(err, &got) || errors.As(err, &refused) || changes != (market.Changes{}) {
		t.Fatalf("%s: got %+v, %v, want a RebasedError alone", what, changes, err)
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func rebased(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	save(t, run, seriesOf(aapl, 20), day)
	insertRow(t, d, aapl, "2026-01-01 14:30:00+00:00", `'intraday'`) // is no bar
	before := ledgerOf(t, db, aapl)
	want := market.RebasedError{Symbol: aapl, Changed: 12, Compared: 12, Ratio: 0.25, Stored: market.Range{From: day - 19, To: day}}

	part := seriesOf(aapl, 12)
	part.Bars = append(part.Bars, barOf(day+1))
	part = split(part, 4)
	for what, session := range map[string]market.Date{"with a session": day + 1, "with none": 0} {
		changes, err := run.SaveBars(t.Context(), part, session)
		wantRebased(t, what, changes, err, want)
	}
	changes, err := run.SaveHistory(t.Context(), part, market.Range{From: day - 99, To: day}, true)
	wantRebased(t, "of a history", changes, err, want)
	early := split(seriesOf(aapl, 20), 4)
	early.Bars = early.Bars[:12]
	changes, err = run.SaveBars(t.Context(), early, day)
	wantRebased(t, "without the newest", changes, err, want)
	equal(t, "stored of those", before, ledgerOf(t, db, aapl))

	whole := split(seriesOf(aapl, 20), 4)
	equal(t, "all of it", market.Changes{Updated: 20}, save(t, run, whole, day))
	equal(t, "all bars", whole.Bars, ledgerOf(t, db, aapl).Bars)
	part = split(part, 2)
	part.NewBase = true
	equal(t, "a part on a new base", market.Changes{Inserted: 1, Updated: 12}, save(t, run, part, day+1))
	part = split(part, 2)
	changes, err = run.SaveHistory(t.Context(), part, market.Range{From: day, To: day + 1}, true)
	check(t, err)
	equal(t, "a part of a history on a new base", market.Changes{Updated: 13}, changes)
}

// rebasedCases saves bars beside many others of the symbol.
func rebasedCases(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	for name, try := range map[market.Symbol]struct {
		bars, moved int
		by          float64
		rebased     bool
	}{
		"ONE":    {1, 1, 1.5, false},
		"TWO":    {2, 2, 1.5, true},
		"MOST":   {5, 4, 1.5, false},
		"HALF":   {10, 5, 1.5, true},
		"LESS":   {11, 5, 1.5, false},
		"A-TICK": {10, 10, 0.01, false},
		"A-BIT":  {10, 10, 0.011, true},
	} {
		save(t, run, seriesOf(name, 30), day)
		series := seriesOf(name, try.bars)
		for i := range try.moved {
			b := &series.Bars[try.bars-1-i]
			b.Close += try.by
			b.High += 2 * try.by
		}
		_, err := run.SaveBars(t.Context(), series, day)
		var rebased *market.RebasedError
		if errors.As(err, &rebased) != try.rebased || err != nil && !try.rebased {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

package store_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const day = market.Date(739687) // 2026-03-12

func bar(date market.Date, price float64, volume int64) market.Bar {
	return market.Bar{Date: date, Open: price, High: price + 1, Low: price - 1, Close: price, Volume: volume}
}

func adjusted(b market.Bar, adj float64) market.Bar {
	b.AdjClose, b.HasAdjClose = adj, true
	return b
}

func TestCompare(t *testing.T) {
	t.Parallel()
	old := adjusted(bar(day, 10, 500), 9)
	higher := old
	higher.High = 12
	noAdj := old
	noAdj.AdjClose, noAdj.HasAdjClose = 0, false
	bare := bar(day, 10, 500)
	zeroVolume := old
	zeroVolume.Volume = 0
	poorer := bar(day, 11, 0)

	for name, tc := range map[string]struct {
		stored, incoming []market.Bar
		want             store.Diff
	}{
		"first load":                 {nil, []market.Bar{old}, store.Diff{New: []market.Bar{old}}},
		"identical":                  {[]market.Bar{old}, []market.Bar{old}, store.Diff{Unchanged: 1}},
		"absent adjusted close":      {[]market.Bar{old}, []market.Bar{noAdj}, store.Diff{Unchanged: 1}},
		"zero over positive":         {[]market.Bar{old}, []market.Bar{zeroVolume}, store.Diff{Unchanged: 1}},
		"zero over zero":             {[]market.Bar{zeroVolume}, []market.Bar{zeroVolume}, store.Diff{Unchanged: 1}},
		"stored bars outside":        {[]market.Bar{bar(day-1, 1, 1), old, bar(day+1, 1, 1)}, []market.Bar{old}, store.Diff{Unchanged: 1}},
		"before, between and behind": {[]market.Bar{bar(day, 1, 1), bar(day+2, 1, 1)}, []market.Bar{bar(day-1, 2, 1), bar(day+1, 2, 1), bar(day+3, 2, 1)}, store.Diff{New: []market.Bar{bar(day-1, 2, 1), bar(day+1, 2, 1), bar(day+3, 2, 1)}}},
		"corrected": {[]market.Bar{old}, []market.Bar{higher}, store.Diff{
			Changed:     []market.Bar{higher},
			Corrections: []store.Correction{{Date: day, Field: "high", Old: 11, New: 12, HadOld: true}},
		}},
		"adjusted close arrives": {[]market.Bar{bare}, []market.Bar{adjusted(bare, 0)}, store.Diff{
			Changed:     []market.Bar{adjusted(bare, 0)},
			Corrections: []store.Correction{{Date: day, Field: "adjusted_close", New: 0}},
		}},
		"volume arrives": {[]market.Bar{zeroVolume}, []market.Bar{old}, store.Diff{
			Changed:     []market.Bar{old},
			Corrections: []store.Correction{{Date: day, Field: "volume", Old: 0, New: 500, HadOld: true}},
		}},
		"poorer answer with new prices": {[]market.Bar{old}, []market.Bar{poorer}, store.Diff{
			Changed: []market.Bar{adjusted(bar(day, 11, 500), 9)},
			Corrections: []store.Correction{
				{Date: day, Field: "open", Old: 10, New: 11, HadOld: true},
				{Date: day, Field: "high", Old: 11, New: 12, HadOld: true},
				{Date: day, Field: "low", Old: 9, New: 10, HadOld: true},
				{Date: day, Field: "close", Old: 10, New: 11, HadOld: true},
			},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, store.Compare(tc.stored, tc.incoming), cmpopts.IgnoreFields(store.Diff{}, "Moves")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestCompareConverges holds that applying a difference leaves none.
func TestCompareConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stored, incoming := series(t, "stored"), series(t, "incoming")
		d := store.Compare(stored, incoming)
		if got := len(d.New) + len(d.Changed) + d.Unchanged; got != len(incoming) {
			t.Fatalf("%d of %d bars are counted", got, len(incoming))
		}
		again := store.Compare(apply(stored, d), incoming)
		if diff := cmp.Diff(store.Diff{Unchanged: len(incoming)}, again, cmpopts.IgnoreFields(store.Diff{}, "Moves"), cmp.Comparer(func(a, b []market.Bar) bool { return len(a) == len(b) })); diff != "" {
			t.Fatalf("after applying: %s", diff)
		}
	})
}

func series(t *rapid.T, label string) []market.Bar {
	present := rapid.SliceOfN(rapid.IntRange(0, 7), 0, 12).Draw(t, label)
	var bars []market.Bar
	for i, kind := range present {
		b := bar(day+market.Date(i), float64(10+kind%2), int64(kind%3))
		if kind > 3 {
			b = adjusted(b, float64(kind%2))
		}
		if kind > 0 {
			bars = append(bars, b)
		}
	}
	return bars
}

func apply(stored []market.Bar, d store.Diff) []market.Bar {
	byDate := map[market.Date]market.Bar{}
	for _, bars := range [][]market.Bar{stored, d.New, d.Changed} {
		for _, b := range bars {
			byDate[b.Date] = b
		}
	}
	var merged []market.Bar
	for date := day; date < day+20; date++ {
		if b, ok := byDate[date]; ok {
			merged = append(merged, b)
		}
	}
	return merged
}

func TestCheck(t *testing.T) {
	t.Parallel()
	nan, inf := bar(day, 1, 1), bar(day, 1, 1)
	nan.Low = math.NaN()
	inf.Open = math.Inf(-1)
	for name, tc := range map[string]struct {
		series market.Series
		want   string // "" is no error
	}{
		"good":            {market.Series{Symbol: "AAPL", Bars: []market.Bar{bar(day, 1, 1), bar(day+1, 1, 1)}}, ""},
		"no symbol":       {market.Series{Bars: []market.Bar{bar(day, 1, 1)}}, "without a symbol"},
		"no bars":         {market.Series{Symbol: "AAPL"}, "no bars"},
		"no date":         {market.Series{Symbol: "AAPL", Bars: []market.Bar{bar(0, 1, 1)}}, "ascend"},
		"repeated":        {market.Series{Symbol: "AAPL", Bars: []market.Bar{bar(day, 1, 1), bar(day, 1, 1)}}, "2026-03-12 after 2026-03-12"},
		"descending":      {market.Series{Symbol: "AAPL", Bars: []market.Bar{bar(day, 1, 1), bar(day-1, 1, 1)}}, "2026-03-11 after"},
		"year 10000":      {market.Series{Symbol: "AAPL", Bars: []market.Bar{bar(3652060, 1, 1)}}, "ascend"},
		"not a number":    {market.Series{Symbol: "AAPL", Bars: []market.Bar{nan}}, "2026-03-12: a value"},
		"infinite":        {market.Series{Symbol: "AAPL", Bars: []market.Bar{inf}}, "finite"},
		"infinite, unset": {market.Series{Symbol: "AAPL", Bars: []market.Bar{{Date: day, AdjClose: math.Inf(1)}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := store.Check(tc.series)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

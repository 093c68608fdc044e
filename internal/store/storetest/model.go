package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

// model compares random saves of a symbol with a map from dates to bars.
func model(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	var symbols atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		symbol := market.Symbol(fmt.Sprintf("S%d", symbols.Add(1)))
		stored := map[market.Date]market.Bar{}
		corrected := 0
		for range rapid.IntRange(1, 6).Draw(rt, "saves") {
			series := market.Series{Symbol: symbol, Source: source, Bars: drawBars(rt), NewBase: true}
			want, corrections := merge(stored, series.Bars)
			corrected += corrections
			got, err := run.SaveBars(t.Context(), series, day)
			if err != nil || got != want {
				rt.Fatalf("save: got %+v, %v, want %+v", got, err, want)
			}
		}
		compare(rt, ledgerOf(t, db, symbol), stored, corrected)
	})
}

// drawBars draws from few values, so that many saves meet and many agree.
func drawBars(rt *rapid.T) []market.Bar {
	var bars []market.Bar
	date := day + market.Date(rapid.IntRange(0, 8).Draw(rt, "from"))
	for _, step := range rapid.SliceOfN(rapid.IntRange(1, 2), 1, 10).Draw(rt, "steps") {
		bar := barOf(date)
		bar.Close += float64(rapid.IntRange(0, 1).Draw(rt, "close"))
		bar.Volume = int64(rapid.IntRange(0, 2).Draw(rt, "volume"))
		bar.HasAdjClose = rapid.Bool().Draw(rt, "adjusted")
		if !bar.HasAdjClose {
			bar.AdjClose = 0
		}
		bars = append(bars, bar)
		date += market.Date(step)
	}
	return bars
}

func merge(stored map[market.Date]market.Bar, bars []market.Bar) (c market.Changes, corrections int) {
	for _, bar := range bars {
		old, ok := stored[bar.Date]
		if !ok {
			c.Inserted++
			stored[bar.Date] = bar
			continue
		}
		merged := old
		if merged.Open != bar.Open || merged.High != bar.High || merged.Low != bar.Low {
			panic("the model draws one value of these")
		}
		n := 0
		if merged.Close != bar.Close {
			merged.Close = bar.Close
			n++
		}
		if bar.Volume > 0 && merged.Volume != bar.Volume {
			merged.Volume = bar.Volume
			n++
		}
		if bar.HasAdjClose && (!merged.HasAdjClose || merged.AdjClose != bar.AdjClose) {
			merged.HasAdjClose, merged.AdjClose = true, bar.AdjClose
			n++
		}
		corrections += n
		if n == 0 {
			c.Unchanged++
			continue
		}
		c.Updated++
		stored[bar.Date] = merged
	}
	return c, corrections
}

func compare(rt *rapid.T, got ledger, want map[market.Date]market.Bar, corrections int) {
	if len(got.Bars) != len(want) || got.Corrections != corrections {
		rt.Fatalf("%d bars and %d corrections are stored, want %d and %d", len(got.Bars), got.Corrections, len(want), corrections)
	}
	last := market.Date(0)
	for _, bar := range got.Bars {
		if want[bar.Date] != bar || bar.Date <= last {
			rt.Fatalf("stored %+v, want %+v", bar, want[bar.Date])
		}
		last = bar.Date
	}
}

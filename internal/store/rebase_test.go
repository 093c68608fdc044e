package store_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// prices returns bars with closes, on days in a row.
func prices(closes ...float64) (bars []market.Bar) {
	for i, price := range closes {
		bars = append(bars, bar(day+market.Date(i), price, 1))
	}
	return bars
}

// adjustedTo returns bars whose adjusted closes are times their closes.
func adjustedTo(times float64, bars []market.Bar) []market.Bar {
	for i := range bars {
		bars[i] = adjusted(bars[i], bars[i].Close*times)
	}
	return bars
}

func TestRebased(t *testing.T) {
	t.Parallel()
	type result struct {
		changed, compared int
		ratio             float64
		rebased           bool
	}
	for name, tc := range map[string]struct {
		stored, incoming []market.Bar
		want             result
	}{
		"nothing stored":      {nil, prices(10, 20), result{}},
		"the same":            {prices(10, 20), prices(10, 20), result{0, 2, 0, false}},
		"one bar":             {prices(10), prices(5), result{1, 1, 0.5, false}},
		"two of two":          {prices(10, 20), prices(5, 10), result{2, 2, 0.5, true}},
		"two, and a new one":  {prices(10, 20), prices(40, 80, 120), result{2, 2, 4, true}},
		"two of three":        {prices(10, 20, 30), prices(5, 10, 30), result{2, 3, 0.5, false}},
		"four of five":        {prices(1, 2, 3, 4, 5), prices(2, 4, 6, 8, 5), result{4, 5, 2, false}},
		"five of ten":         {prices(9, 9, 9, 9, 9, 1, 2, 3, 4, 5), prices(9, 9, 9, 9, 9, 3, 6, 9, 12, 15), result{5, 10, 3, true}},
		"five of eleven":      {prices(9, 9, 9, 9, 9, 9, 1, 2, 3, 4, 5), prices(9, 9, 9, 9, 9, 9, 3, 6, 9, 12, 15), result{5, 11, 3, false}},
		"the oldest five":     {prices(1, 2, 3, 4, 5, 9, 9, 9, 9, 9, 9), prices(3, 6, 9, 12, 15, 9, 9, 9, 9, 9, 9), result{5, 11, 3, true}},
		"the oldest four":     {prices(1, 2, 3, 4, 9, 9, 9, 9, 9, 9, 5), prices(3, 6, 9, 12, 9, 9, 9, 9, 9, 9, 15), result{5, 11, 3, false}},
		"by a tick":           {prices(10, 20.01), prices(10.01, 20), result{0, 2, 0, false}},
		"by more than a tick": {prices(10, 20), prices(10.02, 20.02), result{2, 2, 1.002, true}},
		"by a small tick":     {prices(0.5, 0.25), prices(0.5001, 0.2499), result{0, 2, 0, false}},
		"by more than that":   {prices(0.5, 0.25), prices(0.6, 0.3), result{2, 2, 1.2, true}},
		"adjusted":            {adjustedTo(1, prices(10, 20)), adjustedTo(0.5, prices(10, 20)), result{2, 2, 0.5, true}},
		"adjusted by a tick":  {adjustedTo(1, prices(10, 10)), adjustedTo(0.999, prices(10, 10)), result{0, 2, 0, false}},
		"not adjusted before": {prices(10, 20), adjustedTo(0.5, prices(10, 20)), result{0, 2, 0, false}},
		"no longer adjusted":  {adjustedTo(0.5, prices(10, 20)), prices(10, 20), result{0, 2, 0, false}},
		"the close before it": {adjustedTo(0.5, prices(10, 20)), adjustedTo(0.5, prices(20, 40)), result{2, 2, 2, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got result
			got.changed, got.compared, got.ratio, got.rebased = store.Compare(tc.stored, tc.incoming).Rebased()
			same := math.Abs(got.ratio-tc.want.ratio) < 1e-9
			got.ratio = tc.want.ratio
			if got != tc.want || !same {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestRebasedIsAMatterOfClosesAlone holds that a whole series times a factor is
// rebased, that one without a change never is, and that other fields do not
// matter.
func TestRebasedIsAMatterOfClosesAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stored := prices(rapid.SliceOfN(rapid.Float64Range(2, 900), 2, 12).Draw(t, "closes")...)
		by := rapid.SampledFrom([]float64{0.05, 0.5, 2, 3, 20}).Draw(t, "by")
		split := make([]market.Bar, len(stored))
		noise := make([]market.Bar, len(stored))
		for i, b := range stored {
			split[i] = bar(b.Date, b.Close*by, b.Volume)
			noise[i] = b
			noise[i].Volume += int64(rapid.IntRange(0, 9).Draw(t, "volume"))
			noise[i].High += rapid.Float64Range(0, 9).Draw(t, "high")
		}
		changed, compared, ratio, rebased := store.Compare(stored, split).Rebased()
		if !rebased || changed != len(stored) || compared != changed || math.Abs(ratio-by) > 1e-9 {
			t.Fatalf("times %v: %d of %d, %v, %v", by, changed, compared, ratio, rebased)
		}
		if changed, _, _, rebased := store.Compare(stored, noise).Rebased(); rebased || changed != 0 {
			t.Fatalf("%d changed, rebased %v, without a change of a close", changed, rebased)
		}
	})
}

func TestCheckBase(t *testing.T) {
	t.Parallel()
	series := market.Series{Symbol: "AAPL", Bars: prices(5, 10)}
	d := store.Compare(prices(10, 20), series.Bars)
	whole := market.Range{From: day, To: day + 1}
	for name, tc := range map[string]struct {
		stored  market.Range
		newBase bool
		refused bool
	}{
		"all that is stored": {whole, false, false},
		"others before":      {market.Range{From: day - 1, To: day + 1}, false, true},
		"others after":       {market.Range{From: day, To: day + 2}, false, true},
		"on a new base":      {market.Range{From: day - 1, To: day + 2}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			series := series
			series.NewBase = tc.newBase
			if err := store.CheckBase(series, d, tc.stored); (err != nil) != tc.refused {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := store.CheckBase(series, store.Compare(prices(5, 20), series.Bars), market.Range{From: 1, To: day + 9}); err != nil {
		t.Errorf("one of two: %v", err)
	}
}

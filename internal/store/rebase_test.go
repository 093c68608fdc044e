package store_test

import (
	"errors"
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
			moves := store.Compare(tc.stored, tc.incoming).Moves
			got.changed, got.compared, got.ratio, got.rebased = moves.Changed, moves.Compared, moves.Ratio, moves.Rebased()
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
		moves := store.Compare(stored, split).Moves
		if !moves.Rebased() || moves.Changed != len(stored) || moves.Compared != moves.Changed || math.Abs(moves.Ratio-by) > 1e-9 {
			t.Fatalf("times %v: %+v", by, moves)
		}
		if moves := store.Compare(stored, noise).Moves; moves.Rebased() || moves.Changed != 0 {
			t.Fatalf("%+v, without a change of a close", moves)
		}
	})
}

func TestJudgeRebased(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"alpha_vantage", "ibkr", "python"} {
		series := market.Series{Symbol: "AAPL", Source: source, Bars: prices(5, 10)}
		whole := market.Range{From: day, To: day + 1}
		for name, tc := range map[string]struct {
			rows    market.Range // all of the symbol
			newBase bool
			refused bool
		}{
			"all that is stored": {whole, false, false},
			"others before":      {market.Range{From: day - 1, To: day + 1}, false, true},
			"others after":       {market.Range{From: day, To: day + 2}, false, true},
			"on a new base":      {market.Range{From: day - 1, To: day + 2}, true, false},
		} {
			t.Run(name+", "+source, func(t *testing.T) {
				t.Parallel()
				series := series
				series.NewBase = tc.newBase
				rows := table{source: tc.rows}
				d, err := store.Judge(series, prices(10, 20), rows.in)
				var rebased *market.RebasedError
				if errors.As(err, &rebased) != tc.refused || !tc.refused && (err != nil || len(d.Changed) != 2) {
					t.Fatalf("got %+v, %v", d, err)
				}
				if want := (market.RebasedError{Symbol: "AAPL", Changed: 2, Compared: 2, Ratio: 0.5, Stored: tc.rows}); tc.refused && *rebased != want {
					t.Errorf("got %+v, want %+v", *rebased, want)
				}
			})
		}
		rows := table{source: market.Range{From: 1, To: day + 9}}
		if _, err := store.Judge(series, prices(5, 20), rows.in); err != nil {
			t.Errorf("one of two: %v", err)
		}
	}
}

// table has rows of sources in ranges.
type table map[string]market.Range

func (all table) in(window market.Range) (map[string]*market.Days, error) {
	there := map[string]*market.Days{}
	for source, dates := range all {
		days := market.DaysIn(dates).And(market.DaysIn(window))
		there[source] = &days
	}
	return there, nil
}

// TestJudgeAsksOnlyWhereSourcesMatter holds that a first load and a reload cost
// no further query, and that an error of one is the end of it.
func TestJudgeAsksOnlyWhereSourcesMatter(t *testing.T) {
	t.Parallel()
	stored, failure := prices(10, 20, 30), errors.New("gone")
	later := market.Series{Source: "alpha_vantage", Bars: prices(10, 20, 30, 40)}
	earlier := market.Series{Source: "alpha_vantage", Bars: append([]market.Bar{bar(day-1, 5, 1)}, stored...)}
	other := market.Series{Source: "alpha_vantage", Bars: prices(10, 20, 31)}
	of := func(source string, s market.Series, newBase bool) market.Series {
		s.Source, s.NewBase = source, newBase
		return s
	}
	for name, tc := range map[string]struct {
		series market.Series
		stored []market.Bar
		asked  bool
	}{
		"first load":             {later, nil, false},
		"reload":                 {market.Series{Source: "alpha_vantage", Bars: stored}, stored, false},
		"reload, adjusted":       {market.Series{Source: "ibkr", Bars: stored}, stored, false},
		"no bars":                {market.Series{Source: "ibkr"}, stored, false},
		"later bars":             {later, stored, false},
		"later bars, unknown":    {of("python", later, false), stored, false},
		"no date in common":      {of("tiingo", market.Series{Bars: []market.Bar{stored[0], stored[2]}}, false), stored[1:2], true},
		"earlier bars":           {earlier, stored, true},
		"earlier bars, unknown":  {of("python", earlier, false), stored, false},
		"another value":          {other, stored, true},
		"another value, unknown": {of("python", other, false), stored, true},
		"first load, adjusted":   {of("ibkr", later, false), nil, true},
		"later bars, adjusted":   {of("massive_adjusted", later, false), stored, true},
		"on a new base":          {of("ibkr", other, true), stored, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := false
			_, err := store.Judge(tc.series, tc.stored, func(market.Range) (map[string]*market.Days, error) {
				asked = true
				return nil, failure
			})
			if asked != tc.asked || errors.Is(err, failure) != asked {
				t.Errorf("asked %v, %v", asked, err)
			}
		})
	}
}

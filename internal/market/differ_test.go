package market_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
)

func TestDifferences(t *testing.T) {
	t.Parallel()
	bar := market.Bar{Date: 739687, Open: 10, High: 12, Low: 9, Close: 11, Volume: 1000}
	with := func(change func(*market.Bar)) market.Bar {
		b := bar
		change(&b)
		return b
	}
	for name, test := range map[string]struct {
		other   market.Bar
		volumes bool
		want    []market.Difference
	}{
		"the same":                {bar, true, nil},
		"a tick":                  {with(func(b *market.Bar) { b.Close = 11.01 }), true, nil},
		"two ticks":               {with(func(b *market.Bar) { b.Close = 11.02 }), true, []market.Difference{{Field: "close", A: 11, B: 11.02}}},
		"one percent of volume":   {with(func(b *market.Bar) { b.Volume = 1010 }), true, nil},
		"more of it":              {with(func(b *market.Bar) { b.Volume = 1011 }), true, []market.Difference{{Field: "volume", A: 1000, B: 1011}}},
		"a volume not to compare": {with(func(b *market.Bar) { b.Volume = 1 }), false, nil},
		"several":                 {with(func(b *market.Bar) { b.Open, b.High, b.Low = 1, 2, 3 }), true, []market.Difference{{Field: "open", A: 10, B: 1}, {Field: "high", A: 12, B: 2}, {Field: "low", A: 9, B: 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, market.Differences(bar, test.other, test.volumes)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if market.Tick(0.5) != 0.0001 || market.Tick(1) != 0.01 {
		t.Error("ticks")
	}
}

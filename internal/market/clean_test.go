package market_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

func bar(d market.Date) market.Bar {
	return market.Bar{Date: d, Open: 10, High: 12, Low: 9, Close: 11, AdjClose: 5.5, HasAdjClose: true, Volume: 1000}
}

func with(d market.Date, change func(*market.Bar)) market.Bar {
	b := bar(d)
	change(&b)
	return b
}

func TestBarValidate(t *testing.T) {
	t.Parallel()
	d := date(t, "2026-03-12")
	for name, c := range map[string]struct {
		change func(*market.Bar)
		want   string
	}{
		"good":                       {func(*market.Bar) {}, ""},
		"still, without volume":      {func(b *market.Bar) { b.Open, b.High, b.Low, b.Close, b.Volume = 9, 9, 9, 9, 0 }, ""},
		"adjusted close not set":     {func(b *market.Bar) { b.HasAdjClose, b.AdjClose = false, -1 }, ""},
		"no date":                    {func(b *market.Bar) { b.Date = 0 }, "bar without a date"},
		"date before the first":      {func(b *market.Bar) { b.Date = -1 }, "bar without a date"},
		"NaN":                        {func(b *market.Bar) { b.Open = math.NaN() }, "bar of 2026-03-12: open NaN, high 12, low 9, close 11: a price must be a finite number above zero"},
		"infinite":                   {func(b *market.Bar) { b.High = math.Inf(1) }, "a price must be"},
		"zero":                       {func(b *market.Bar) { b.Low = 0 }, "a price must be"},
		"negative":                   {func(b *market.Bar) { b.Close = -1 }, "a price must be"},
		"high below low":             {func(b *market.Bar) { b.High = 8 }, "high 8 is below low 9"},
		"open below low":             {func(b *market.Bar) { b.Open = 8 }, "open 8 is outside low 9 to high 12"},
		"open above high":            {func(b *market.Bar) { b.Open = 13 }, "open 13 is outside"},
		"close below low":            {func(b *market.Bar) { b.Close = 8 }, "close 8 is outside low 9 to high 12"},
		"close above high":           {func(b *market.Bar) { b.Close = 13 }, "close 13 is outside"},
		"negative volume":            {func(b *market.Bar) { b.Volume = -1 }, "volume -1 is negative"},
		"moved without volume":       {func(b *market.Bar) { b.Volume = 0 }, "volume is zero although the price moved from 9 to 12"},
		"adjusted close of zero":     {func(b *market.Bar) { b.AdjClose = 0 }, "adjusted close 0: a price must be"},
		"adjusted close not finite":  {func(b *market.Bar) { b.AdjClose = math.Inf(1) }, "adjusted close +Inf: a price must be"},
		"adjusted close not a value": {func(b *market.Bar) { b.AdjClose = math.NaN() }, "adjusted close NaN: a price must be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := with(d, c.change).Validate()
			if c.want != "" {
				wantBadPayload(t, err)
			}
			if !hasError(err, c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	window := market.Range{From: date(t, "2026-03-02"), To: date(t, "2026-03-13")}
	through := date(t, "2026-03-12")
	d := func(s string) market.Date { return date(t, s) }
	for name, c := range map[string]struct {
		bars []market.Bar
		want market.Cleaned
		err  string
	}{
		"none": {want: market.Cleaned{}},
		"descending": {
			bars: []market.Bar{bar(d("2026-03-12")), bar(d("2026-03-11")), bar(d("2026-03-10"))},
			want: market.Cleaned{Bars: []market.Bar{bar(d("2026-03-10")), bar(d("2026-03-11")), bar(d("2026-03-12"))}},
		},
		"any order": {
			bars: []market.Bar{bar(d("2026-03-11")), bar(d("2026-03-12")), bar(d("2026-03-10"))},
			want: market.Cleaned{Bars: []market.Bar{bar(d("2026-03-10")), bar(d("2026-03-11")), bar(d("2026-03-12"))}},
		},
		"dropped and counted": {
			bars: []market.Bar{
				bar(d("2026-02-27")), bar(d("2026-03-02")), bar(d("2026-03-07")), bar(d("2026-03-08")),
				bar(d("2026-03-12")), bar(d("2026-03-12")), bar(d("2026-03-12")), bar(d("2026-03-13")), bar(d("2026-03-16")), bar(d("2050-01-03")),
			},
			want: market.Cleaned{Bars: []market.Bar{bar(d("2026-03-02")), bar(d("2026-03-12"))}, OutOfWindow: 3, Unfinished: 1, NoSession: 2, Repeats: 2},
		},
		"broken bars that are not wanted": {
			bars: []market.Bar{{Date: d("2026-02-27")}, {Date: d("2026-03-07")}, {Date: d("2026-03-13")}, bar(d("2026-03-12"))},
			want: market.Cleaned{Bars: []market.Bar{bar(d("2026-03-12"))}, OutOfWindow: 1, Unfinished: 1, NoSession: 1},
		},
		"an adjusted close that means nothing": {
			bars: []market.Bar{
				with(d("2026-03-12"), func(b *market.Bar) { b.HasAdjClose = false }),
				with(d("2026-03-12"), func(b *market.Bar) { b.HasAdjClose, b.AdjClose = false, math.NaN() }),
			},
			want: market.Cleaned{Bars: []market.Bar{with(d("2026-03-12"), func(b *market.Bar) { b.HasAdjClose, b.AdjClose = false, 0 })}, Repeats: 1},
		},
		"two values for one date": {
			bars: []market.Bar{bar(d("2026-03-12")), bar(d("2026-03-11")), with(d("2026-03-12"), func(b *market.Bar) { b.Volume++ })},
			err:  "bar of 2026-03-12: the answer holds two bars of this date with different values",
		},
		"an invalid bar": {
			bars: []market.Bar{bar(d("2026-03-12")), with(d("2026-03-11"), func(b *market.Bar) { b.High = 1 })},
			err:  "bar of 2026-03-11: high 1 is below low 9",
		},
		"a bar without a date": {bars: []market.Bar{bar(0)}, err: "bar without a date"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := market.Clean(c.bars, window, through, market.NYSE())
			if c.err != "" {
				wantBadPayload(t, err)
			}
			if !hasError(err, c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Clean (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCleanUnknownYear(t *testing.T) {
	t.Parallel()
	d := date(t, "1985-03-12")
	got, err := market.Clean([]market.Bar{bar(d)}, market.Range{From: d, To: d}, d, market.NYSE())
	wantUnknownYear(t, err)
	if got.Bars != nil {
		t.Errorf("Clean = %v beside an error", got)
	}
}

func TestCleanKeepsEveryWantedBar(t *testing.T) {
	t.Parallel()
	cal := market.NYSE()
	rapid.Check(t, func(t *rapid.T) {
		first := market.NewDate(2020, time.January, 1)
		day := func(name string) market.Date { return first + market.Date(rapid.IntRange(0, 60).Draw(t, name)) }
		window, through := market.Range{From: day("from"), To: day("to")}, day("through")
		days := rapid.SliceOf(rapid.Custom(func(t *rapid.T) market.Date {
			return first + market.Date(rapid.IntRange(0, 60).Draw(t, "day"))
		})).Draw(t, "days")
		var bars []market.Bar
		for _, d := range days {
			bars = append(bars, bar(d))
		}
		got, err := market.Clean(bars, window, through, cal)
		if err != nil {
			t.Fatal(err)
		}
		if dropped := got.OutOfWindow + got.Unfinished + got.NoSession + got.Repeats; len(got.Bars)+dropped != len(days) {
			t.Fatalf("%d bars kept and %d dropped of %d", len(got.Bars), dropped, len(days))
		}
		var want []market.Date
		for _, d := range slices.Compact(slices.Sorted(slices.Values(days))) {
			if open, _ := cal.IsSession(d); open && window.Contains(d) && d <= through {
				want = append(want, d)
			}
		}
		var kept []market.Date
		for _, b := range got.Bars {
			kept = append(kept, b.Date)
			if b != bar(b.Date) {
				t.Fatalf("bar changed: %v", b)
			}
		}
		if !slices.Equal(kept, want) {
			t.Fatalf("kept %v, want %v", kept, want)
		}
	})
}

func BenchmarkClean(b *testing.B) {
	sessions, err := market.NYSE().Sessions(market.NewDate(2004, time.January, 1), market.NewDate(2025, time.October, 31))
	if err != nil {
		b.Fatal(err)
	}
	var ascending []market.Bar
	for _, d := range sessions {
		ascending = append(ascending, bar(d))
	}
	descending, shuffled := slices.Clone(ascending), slices.Clone(ascending)
	slices.Reverse(descending)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	window := market.Range{From: sessions[0], To: sessions[len(sessions)-1]}
	for name, bars := range map[string][]market.Bar{"ascending": ascending, "descending": descending, "shuffled": shuffled} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			work := make([]market.Bar, len(bars))
			for b.Loop() {
				copy(work, bars)
				if _, err := market.Clean(work, window, window.To, market.NYSE()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package market_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

func count(v int64) market.Count       { return market.Count{Value: v, Known: true} }
func figure(v float64) market.Ratio    { return market.Ratio{Value: v, Known: true} }
func standIn(raw float64) market.Ratio { return market.Ratio{Raw: raw} }

func TestShortInterestFigures(t *testing.T) {
	t.Parallel()
	null := market.Ratio{}
	for name, row := range map[string]struct {
		shares           int64
		previous, volume market.Count
		days, change     market.Ratio
		wantDays, want   market.Ratio
	}{
		"as delivered":             {1000, count(500), count(100), figure(10.01), figure(99.99), figure(10.01), figure(99.99)},
		"computed":                 {1000, count(300), count(300), null, null, figure(3.33), figure(233.33)},
		"computed, less":           {200, count(300), count(3), null, null, figure(66.67), figure(-33.33)},
		"computed, all gone":       {0, count(300), count(300), null, null, figure(1), figure(-100)},
		"at least one day":         {10, count(10), count(300), null, null, figure(1), figure(0)},
		"no volume":                {1000, count(300), count(0), figure(999.99), figure(233.33), standIn(999.99), figure(233.33)},
		"no volume, left out":      {1000, count(300), count(0), null, null, null, figure(233.33)},
		"capped":                   {5_000_000, count(300), count(2), figure(999.99), figure(1), standIn(999.99), figure(1)},
		"capped, left out":         {5_000_000, count(300), count(2), null, figure(1), null, figure(1)},
		"almost capped":            {99_998, count(300), count(100), null, figure(1), figure(999.98), figure(1)},
		"from zero":                {1000, count(0), count(100), figure(10), figure(100), figure(10), standIn(100)},
		"from zero, left out":      {1000, count(0), count(100), figure(10), null, figure(10), null},
		"from nothing known":       {1000, market.Count{}, market.Count{}, null, null, null, null},
		"delivered, nothing known": {1000, market.Count{}, market.Count{}, figure(2), figure(100), figure(2), figure(100)},
		"a true hundred":           {1000, count(500), count(100), figure(10), figure(100), figure(10), figure(100)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := market.ShortInterest{
				Symbol: "BRK.B", Settlement: date(t, "2026-08-31"), Shares: row.shares, Previous: row.previous, AvgDailyVolume: row.volume,
				DaysToCover: row.days, ChangePct: row.change,
			}.Normal()
			if s.DaysToCover != row.wantDays || s.ChangePct != row.want {
				t.Errorf("%+v days and %+v %%, want %+v and %+v", s.DaysToCover, s.ChangePct, row.wantDays, row.want)
			}
			if s.Normal() != s {
				t.Errorf("%+v is not normal yet", s)
			}
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever is delivered, a sound row stays sound, and normal is normal.
func TestNormalStaysSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Custom(func(t *rapid.T) market.Count {
			return rapid.SampledFrom([]market.Count{{}, count(0), count(rapid.Int64Range(0, math.MaxInt64).Draw(t, "n"))}).Draw(t, "count")
		})
		ratio := func(least float64) *rapid.Generator[market.Ratio] {
			return rapid.Custom(func(t *rapid.T) market.Ratio {
				return rapid.SampledFrom([]market.Ratio{{}, figure(999.99), figure(rapid.Float64Range(least, math.MaxFloat64).Draw(t, "v"))}).Draw(t, "ratio")
			})
		}
		s := market.ShortInterest{
			Symbol: "AAPL", Settlement: 740000, Shares: rapid.Int64Range(0, math.MaxInt64).Draw(t, "shares"),
			Previous: number.Draw(t, "previous"), AvgDailyVolume: number.Draw(t, "volume"),
			DaysToCover: ratio(0).Draw(t, "days"), ChangePct: ratio(-100).Draw(t, "change"),
		}
		for _, row := range []market.ShortInterest{s.Normal(), s.Corrected(s.Shares / 2)} {
			if err := row.Validate(); err != nil {
				t.Fatal(err)
			}
			if row != row.Normal() || row.DaysToCover.Known && row.DaysToCover.Value >= 999.99 {
				t.Fatalf("%+v is not normal", row)
			}
		}
	})
}

func TestShortInterestCorrection(t *testing.T) {
	t.Parallel()
	row := market.ShortInterest{Symbol: "AAPL", Settlement: 740000, Shares: 900, Previous: count(450), RevisionFlag: "R"}
	if got, ok := row.Correction(); got != 450 || !ok {
		t.Errorf("%d, %v; want 450", got, ok)
	}
	for name, change := range map[string]func(*market.ShortInterest){
		"no revision": func(s *market.ShortInterest) { s.RevisionFlag = "" },
		"other flag":  func(s *market.ShortInterest) { s.RevisionFlag = "X" },
		"split":       func(s *market.ShortInterest) { s.SplitFlag = "S" },
		"not known":   func(s *market.ShortInterest) { s.Previous = market.Count{} },
	} {
		other := row
		change(&other)
		if got, ok := other.Correction(); ok || got != 0 {
			t.Errorf("%s: corrects to %d", name, got)
		}
	}
	old := market.ShortInterest{
		Symbol: "AAPL", Settlement: 739985, Shares: 400, Previous: count(0), AvgDailyVolume: count(100), DaysToCover: figure(4), ChangePct: standIn(100),
	}
	want := old
	want.Shares, want.DaysToCover, want.ChangePct = 450, figure(4.5), market.Ratio{}
	if got := old.Corrected(450); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestShortInterestFaults(t *testing.T) {
	t.Parallel()
	sound := market.ShortInterest{
		Symbol: "BRK.B", Settlement: 740000, Shares: 900, Previous: count(450), AvgDailyVolume: count(100),
		DaysToCover: figure(9), ChangePct: figure(100), RevisionFlag: "R", SplitFlag: "S",
	}
	if err := sound.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		change func(*market.ShortInterest)
		says   string
	}{
		"symbol":             {func(s *market.ShortInterest) { s.Symbol = "BRK B\n" }, "symbol is malformed"},
		"date":               {func(s *market.ShortInterest) { s.Settlement = 0 }, "date is missing"},
		"shares":             {func(s *market.ShortInterest) { s.Shares = -1 }, "below zero"},
		"previous":           {func(s *market.ShortInterest) { s.Previous.Value = -1 }, "below zero"},
		"volume":             {func(s *market.ShortInterest) { s.AvgDailyVolume.Value = -1 }, "below zero"},
		"previous not known": {func(s *market.ShortInterest) { s.Previous.Known = false }, "has a value"},
		"volume not known":   {func(s *market.ShortInterest) { s.AvgDailyVolume.Known = false }, "has a value"},
		"days":               {func(s *market.ShortInterest) { s.DaysToCover.Value = -0.01 }, "finite figures"},
		"days NaN":           {func(s *market.ShortInterest) { s.DaysToCover.Value = math.NaN() }, "finite figures"},
		"days infinite":      {func(s *market.ShortInterest) { s.DaysToCover.Value = math.Inf(1) }, "finite figures"},
		"days and raw":       {func(s *market.ShortInterest) { s.DaysToCover.Raw = 999.99 }, "finite figures"},
		"value of null":      {func(s *market.ShortInterest) { s.DaysToCover.Known = false }, "finite figures"},
		"change":             {func(s *market.ShortInterest) { s.ChangePct.Value = -100.01 }, "not below -100"},
		"raw":                {func(s *market.ShortInterest) { s.ChangePct = standIn(math.NaN()) }, "finite figures"},
		"revision":           {func(s *market.ShortInterest) { s.RevisionFlag = "r" }, "flags"},
		"split":              {func(s *market.ShortInterest) { s.SplitFlag = "SSSSSSSSS" }, "flags"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound
			row.change(&s)
			err := s.Validate()
			var refused *market.PayloadError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), row.says) || !strings.HasPrefix(err.Error(), `short interest of "BRK`) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one about %q", err, row.says)
			}
		})
	}
}

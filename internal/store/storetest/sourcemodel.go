package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// sourcesModel compares random saves of many sources, with splits between them,
// with the rules of docs/sources.md on a map.
func sourcesModel(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	var symbols atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		m := modelOfSources{rows: map[market.Date]sourced{}}
		symbol := market.Symbol(fmt.Sprintf("S%d", symbols.Add(1)))
		for range rapid.IntRange(1, 6).Draw(rt, "saves") {
			series := m.draw(rt)
			series.Symbol = symbol
			want, refused := m.save(series)
			got, err := run.SaveBars(t.Context(), series, 0)
			var rebased *market.RebasedError
			var basis *market.BasisError
			says := ""
			if errors.As(err, &rebased) {
				says = "rebased"
			} else if errors.As(err, &basis) {
				says = "basis"
			} else if err != nil {
				rt.Fatal(err)
			}
			if got != want || says != refused {
				rt.Fatalf("%+v: got %+v %q, want %+v %q", series, got, says, want, refused)
			}
		}
		m.compare(rt, t, db, symbol)
	})
}

type sourced struct {
	market.Bar
	source string
}

type modelOfSources struct {
	rows      map[market.Date]sourced
	split     market.Date // the first session after a split, if there was one
	corrected int
}

func (m *modelOfSources) compare(rt *rapid.T, t *testing.T, db store.DB, symbol market.Symbol) {
	got := ledgerOf(t, db, symbol)
	if len(got.Bars) != len(m.rows) || got.Corrections != m.corrected {
		rt.Fatalf("%d bars and %d corrections are stored, want %d and %d", len(got.Bars), got.Corrections, len(m.rows), m.corrected)
	}
	for _, bar := range got.Bars {
		if is := (sourced{bar, sourceOn(t, db, symbol, bar.Date)}); m.rows[bar.Date] != is {
			rt.Fatalf("stored %+v, want %+v", is, m.rows[bar.Date])
		}
	}
}

func (m *modelOfSources) draw(rt *rapid.T) market.Series {
	if m.split == 0 && rapid.IntRange(0, 2).Draw(rt, "split") == 0 {
		m.split = day + market.Date(rapid.IntRange(1, 9).Draw(rt, "splits on"))
	}
	s := market.Series{Source: rapid.SampledFrom([]string{
		"ibkr", "ibkr", "massive_adjusted", "alpha_vantage", "tiingo", "massive", "python",
	}).Draw(rt, "source")}
	s.NewBase = rapid.IntRange(0, 9).Draw(rt, "new base") == 0
	date := day + market.Date(rapid.IntRange(0, 8).Draw(rt, "from"))
	for _, step := range rapid.SliceOfN(rapid.IntRange(1, 2), 1, 10).Draw(rt, "steps") {
		price := 100.0
		if market.TraitsOf(s.Source).Basis != market.Raw && date < m.split {
			price = 50
		}
		off := rapid.SampledFrom([]float64{0, 0, 0, 0, 0.004, 0.5}).Draw(rt, "off")
		bar := market.Bar{Date: date, Open: price, High: price + 9, Low: price - 9, Close: price + off, Volume: int64(rapid.IntRange(0, 2).Draw(rt, "volume"))}
		if rapid.Bool().Draw(rt, "adjusted") {
			bar.AdjClose, bar.HasAdjClose = price/2+float64(rapid.IntRange(0, 1).Draw(rt, "adjusted close")), true
		}
		s.Bars = append(s.Bars, bar)
		date += market.Date(step)
	}
	return s
}

// save returns what is to become of a series.
func (m *modelOfSources) save(s market.Series) (market.Changes, string) {
	first, last := s.Bars[0].Date, s.Bars[len(s.Bars)-1].Date
	basis := market.TraitsOf(s.Source).Basis
	other, holds := map[market.Date]bool{}, true
	beside := false
	for date, row := range m.rows {
		its := market.TraitsOf(row.source).Basis
		inside := date >= first && date <= last
		holds = holds && inside
		if its != "" && basis != "" && its != basis {
			other[date] = true
			beside = beside || inside || basis == market.SplitAdjusted
		}
	}
	if s.NewBase {
		return m.write(s.Bars, s.Source, true), ""
	}
	older := 0
	if beside {
		since := m.since(s.Bars, other)
		older = slices.IndexFunc(s.Bars, func(b market.Bar) bool { return b.Date == since })
		switch {
		case older != 0 && holds:
			return m.write(s.Bars, s.Source, true), ""
		case older < 0:
			return market.Changes{}, "basis"
		}
	}
	if (!beside || basis == market.Raw) && m.rebased(s.Bars[older:], s.Source, other) {
		if holds {
			return m.write(s.Bars, s.Source, true), ""
		}
		return market.Changes{}, "rebased"
	}
	c := m.write(s.Bars[older:], s.Source, false)
	if older > 0 {
		c.OtherBasis, c.Since = older, s.Bars[older].Date
	}
	return c, ""
}

// since returns the oldest date that agrees, and after which no bar of the other
// basis differs unless one before that agrees.
func (m *modelOfSources) since(bars []market.Bar, other map[market.Date]bool) market.Date {
	agrees := func(b market.Bar) bool {
		row, there := m.rows[b.Date]
		return there && math.Abs(row.Close-b.Close) < 0.0101
	}
	for i, b := range bars {
		if !agrees(b) {
			continue
		}
		good := true
		for k := i + 1; k < len(bars); k++ {
			sure := slices.ContainsFunc(bars[:k], func(b market.Bar) bool { return other[b.Date] && agrees(b) })
			if other[bars[k].Date] && !agrees(bars[k]) && !sure {
				good = false
			}
		}
		if good {
			return b.Date
		}
	}
	return 0
}

// rebased tells it by the closes, and by the adjusted closes of bars that the
// source replaces as its own.
func (m *modelOfSources) rebased(bars []market.Bar, source string, other map[market.Date]bool) bool {
	var moved []bool
	for _, b := range bars {
		row, there := m.rows[b.Date]
		if !there {
			continue
		}
		own := row.source == source || market.TraitsOf(row.source).Basis == "" || market.TraitsOf(source).Basis == ""
		differs := math.Abs(row.Close-b.Close) > 0.0101
		adjusted := own && row.HasAdjClose && b.HasAdjClose && math.Abs(row.AdjClose-b.AdjClose) > 0.0101
		moved = append(moved, !other[b.Date] && (differs || adjusted))
	}
	n, oldest := 0, 0
	for i, is := range moved {
		if is {
			n++
			if n == i+1 {
				oldest++
			}
		}
	}
	return n >= 5 && 2*n >= len(moved) || n == len(moved) && n >= 2 || oldest >= 5
}

// write stores bars by the rules; all says that everything is replaced.
func (m *modelOfSources) write(bars []market.Bar, source string, all bool) (c market.Changes) {
	for _, bar := range bars {
		row, there := m.rows[bar.Date]
		if !there {
			m.rows[bar.Date] = sourced{bar, source}
			c.Inserted++
			continue
		}
		s, t := market.TraitsOf(source), market.TraitsOf(row.source)
		replaces := all || source == row.source || s.Basis == "" || t.Basis == "" || s.Consolidated && !t.Consolidated
		is := row
		if replaces {
			is.Bar = bar
			is.Volume, is.AdjClose, is.HasAdjClose = row.Volume, row.AdjClose, row.HasAdjClose
		}
		if bar.HasAdjClose && (replaces || !row.HasAdjClose) {
			is.AdjClose, is.HasAdjClose = bar.AdjClose, true
		}
		if bar.Volume > 0 && (replaces || row.Volume == 0 && s.Consolidated) {
			is.Volume = bar.Volume
		}
		if is == row {
			c.Unchanged++
			continue
		}
		if replaces {
			is.source = source
		}
		m.corrected += differing(row.Bar, is.Bar)
		m.rows[bar.Date] = is
		c.Updated++
	}
	return c
}

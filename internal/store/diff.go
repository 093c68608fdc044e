package store

import (
	"fmt"
	"math"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// Diff is the difference between the stored bars of a symbol and the ones
// that came in: all that a save has to write.
type Diff struct {
	// New are the bars of dates that are not stored; Changed are those that
	// take the place of stored ones, as they are to be stored, with the source
	// of the series.
	New, Changed []market.Bar
	// Filled are stored bars as they are to be, whose volume or adjusted close
	// was missing; their prices and their source stay.
	Filled    []market.Bar
	Unchanged int
	Moves     Moves
	// Corrections holds one entry for each value that differs, in ascending
	// order of the dates. Symbol, Source and At are left to the store.
	Corrections []Correction
	// OtherBasis is the number of bars of the series that are left out: those
	// before Since, which is zero if there are none.
	OtherBasis int
	Since      market.Date
}

// Moves counts how many of the compared bars, which are those of dates that are
// stored, are on another base than what is stored, as after a split: their close
// differs by more than a tick, or, where one source replaces its own bar or one
// of an unknown source, that or the adjusted close. A tick is 0.01, or 0.0001
// where the stored close is below 1.
type Moves struct {
	Changed, Compared int
	// Oldest is the number of those before the first that has not moved.
	Oldest int
	// Ratio is the new close through the old one, or the adjusted one where
	// the close has not moved, of the oldest that has.
	Ratio float64
}

// Changes returns the counts of the difference.
func (d Diff) Changes() market.Changes {
	return market.Changes{
		Inserted: len(d.New), Updated: len(d.Changed) + len(d.Filled), Unchanged: d.Unchanged,
		OtherBasis: d.OtherBasis, Since: d.Since,
	}
}

// Kept returns the part of a series that counts, and of what it answers for.
func (d Diff) Kept(series market.Series, answered market.Range) (market.Series, market.Range) {
	series.Bars = series.Bars[d.OtherBasis:]
	if answered.From = max(answered.From, d.Since); answered.To < answered.From {
		answered = market.Range{}
	}
	return series, answered
}

// Compare merges incoming with the stored bars of the same dates; both are
// ascending by date without repeats, and stored may hold further dates. The
// four prices, the volume and the adjusted close are compared. All that differs
// is replaced, as where one source has written all of them; [Judge] is Compare
// for several sources.
func Compare(stored, incoming []market.Bar) Diff {
	return compare(stored, incoming, func(market.Date) rule { return rule{verdict: replaced, sameBase: true, sameAdj: true} })
}

// compare is Compare with a rule for each date whose bars differ.
func compare(stored, incoming []market.Bar, of func(market.Date) rule) Diff {
	if len(stored) == 0 {
		return Diff{New: incoming}
	}
	var d Diff
	at := 0
	for _, bar := range incoming {
		for at < len(stored) && stored[at].Date < bar.Date {
			at++
		}
		if at == len(stored) || stored[at].Date > bar.Date {
			d.New = append(d.New, bar)
			continue
		}
		d.compare(stored[at], bar, of)
	}
	return d
}

func (d *Diff) compare(old, bar market.Bar, of func(market.Date) rule) {
	bar = replacing(old, bar)
	if bar == old { // under every rule
		d.Unchanged++
		d.Moves.Compared++
		return
	}
	r := of(bar.Date)
	d.Moves.add(old, bar, r)
	if r.verdict != replaced {
		bar = r.fill(old, bar)
	}
	switch {
	case bar == old:
		d.Unchanged++
		return
	case r.verdict == replaced:
		d.Changed = append(d.Changed, bar)
	default:
		d.Filled = append(d.Filled, bar)
	}
	d.correct(bar.Date, "open", old.Open, bar.Open, true)
	d.correct(bar.Date, "high", old.High, bar.High, true)
	d.correct(bar.Date, "low", old.Low, bar.Low, true)
	d.correct(bar.Date, "close", old.Close, bar.Close, true)
	d.correct(bar.Date, "volume", float64(old.Volume), float64(bar.Volume), true)
	d.correct(bar.Date, "adjusted_close", old.AdjClose, bar.AdjClose, old.HasAdjClose == bar.HasAdjClose)
}

// replacing returns bar as it takes the place of old. A poorer answer must not
// spoil a better one.
func replacing(old, bar market.Bar) market.Bar {
	if !bar.HasAdjClose {
		bar.AdjClose, bar.HasAdjClose = old.AdjClose, old.HasAdjClose
	}
	if bar.Volume == 0 && old.Volume > 0 {
		bar.Volume = old.Volume
	}
	return bar
}

// correct notes a value that differs. hadOld is false where the stored value
// was null, which differs from every value.
func (d *Diff) correct(date market.Date, field string, was, is float64, hadOld bool) {
	if was != is || !hadOld {
		d.Corrections = append(d.Corrections, Correction{Date: date, Field: field, Old: was, New: is, HadOld: hadOld})
	}
}

// add counts a bar that differs from the stored one.
func (m *Moves) add(old, bar market.Bar, r rule) {
	m.Compared++
	if !r.sameBase {
		return
	}
	was, is := old.Close, bar.Close
	if r.sameAdj && old.HasAdjClose && agree(old.Close, was, is) {
		was, is = old.AdjClose, bar.AdjClose
	}
	if agree(old.Close, was, is) {
		return
	}
	if m.Changed == 0 {
		m.Ratio = is / was
	}
	m.Changed++
	if m.Changed == m.Compared {
		m.Oldest++
	}
}

// agree reports whether two values are at most a tick at that price apart.
func agree(price, a, b float64) bool {
	tick := 0.01
	if price < 1 {
		tick = 0.0001
	}
	return math.Abs(a-b) <= tick*(1+1e-6) // two prices a tick apart are not exactly so in binary
}

// Rebased reports whether the series is on another base than what is stored:
// two compared bars and more if all of them have moved, and five moved ones if
// they are half of them, or the oldest of them.
func (m Moves) Rebased() bool {
	return m.Changed >= 5 && 2*m.Changed >= m.Compared || m.Changed == m.Compared && m.Compared >= 2 || m.Oldest >= 5
}

// LastDate is 9999-12-31, the last date of four digits and the last that a store
// can hold.
const LastDate market.Date = 3652059

// Check refuses a series that no store can hold as it is: without a symbol or
// bars, with dates that do not ascend, or with a value that is no number. An
// empty series is refused because saving it would make the symbol done for
// nothing; SaveAttempt records such an answer.
func Check(series market.Series) error {
	if series.Symbol == "" {
		return fmt.Errorf("bars without a symbol")
	}
	if len(series.Bars) == 0 {
		return fmt.Errorf("no bars: an empty answer is recorded as an attempt, not saved")
	}
	var last market.Date
	for _, bar := range series.Bars {
		if bar.Date <= last || bar.Date > LastDate {
			return fmt.Errorf("bar of %s after %s: dates must ascend, one bar a date", bar.Date, last)
		}
		last = bar.Date
		if !finite(bar) {
			return fmt.Errorf("bar of %s: a value is not a finite number", bar.Date)
		}
	}
	return nil
}

func finite(bar market.Bar) bool {
	sum := math.Abs(bar.Open) + math.Abs(bar.High) + math.Abs(bar.Low) + math.Abs(bar.Close)
	if bar.HasAdjClose {
		sum += math.Abs(bar.AdjClose)
	}
	return !math.IsNaN(sum) && !math.IsInf(sum, 0)
}

// Text makes a message storable, whatever bytes of a broken answer it quotes:
// neither store takes a zero byte, nor Postgres one that is no UTF-8. Such
// bytes become U+FFFD.
func Text(message string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(message, "\uFFFD"), "\x00", "\uFFFD")
}

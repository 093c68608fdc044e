package store

import (
	"fmt"
	"math"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// Fields of corrections that tell of another base.
const (
	closeField    = "close"
	adjCloseField = "adjusted_close"
)

// Diff is the difference between the stored bars of a symbol and the ones
// that came in: all that a save has to write.
type Diff struct {
	// New are the bars of dates that are not stored; Changed are those whose
	// values differ, as they are to be stored.
	New, Changed []market.Bar
	Unchanged    int
	// Leading is the number of those in Changed that are before the first
	// unchanged one.
	Leading int
	// Corrections holds one entry for each value that differs, in ascending
	// order of the dates. Symbol, Source and At are left to the store.
	Corrections []Correction
}

// Changes returns the counts of the difference.
func (d Diff) Changes() market.Changes {
	return market.Changes{Inserted: len(d.New), Updated: len(d.Changed), Unchanged: d.Unchanged}
}

// Compare merges incoming with the stored bars of the same dates; both are
// ascending by date without repeats, and stored may hold further dates. The
// four prices, the volume and the adjusted close are compared, the source is
// not. An absent adjusted close never overwrites a stored one, and a volume of
// zero never a positive one: a poorer answer must not spoil a better one.
func Compare(stored, incoming []market.Bar) Diff {
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
		d.compare(stored[at], bar)
	}
	return d
}

func (d *Diff) compare(old, bar market.Bar) {
	if !bar.HasAdjClose {
		bar.AdjClose, bar.HasAdjClose = old.AdjClose, old.HasAdjClose
	}
	if bar.Volume == 0 && old.Volume > 0 {
		bar.Volume = old.Volume
	}
	if bar == old {
		d.Unchanged++
		return
	}
	d.Changed = append(d.Changed, bar)
	if d.Unchanged == 0 {
		d.Leading++
	}
	d.correct(bar.Date, "open", old.Open, bar.Open, true)
	d.correct(bar.Date, "high", old.High, bar.High, true)
	d.correct(bar.Date, "low", old.Low, bar.Low, true)
	d.correct(bar.Date, closeField, old.Close, bar.Close, true)
	d.correct(bar.Date, "volume", float64(old.Volume), float64(bar.Volume), true)
	d.correct(bar.Date, adjCloseField, old.AdjClose, bar.AdjClose, old.HasAdjClose == bar.HasAdjClose)
}

// correct notes a value that differs. hadOld is false where the stored value
// was null, which differs from every value.
func (d *Diff) correct(date market.Date, field string, was, is float64, hadOld bool) {
	if was != is || !hadOld {
		d.Corrections = append(d.Corrections, Correction{Date: date, Field: field, Old: was, New: is, HadOld: hadOld})
	}
}

// Rebased reports whether the series is on another base than what is stored, as
// after a split. Of the compared bars, which are those of dates that are stored,
// the changed ones have a close that differs by more than a tick, or both an
// adjusted close and it does: 0.01, or 0.0001 where the stored close is below 1.
// Rebased are two bars and more if all of them have changed, and five changed
// ones if they are half of them, or the oldest of them. ratio is the new close through the old one, or
// the adjusted one where the close has not changed, of the oldest of those.
func (d Diff) Rebased() (changed, compared int, ratio float64, rebased bool) {
	compared = len(d.Changed) + d.Unchanged
	rest, oldest := d.Corrections, 0
	for i, bar := range d.Changed {
		n := 0
		for n < len(rest) && rest[n].Date == bar.Date {
			n++
		}
		by, moved := moved(bar, rest[:n])
		rest = rest[n:]
		if !moved {
			continue
		}
		if changed == 0 {
			ratio = by
		}
		changed++
		if i < d.Leading && changed == i+1 {
			oldest++
		}
	}
	rebased = changed >= 5 && 2*changed >= compared || changed == compared && compared >= 2 || oldest >= 5
	return changed, compared, ratio, rebased
}

// CheckBase refuses a rebased series by a [*market.RebasedError] unless it has
// all that is stored of the symbol, which is from the first day of stored to its
// last, or says itself that it is to be stored.
func CheckBase(series market.Series, d Diff, stored market.Range) error {
	changed, compared, ratio, rebased := d.Rebased()
	if all := Extent(series); !rebased || series.NewBase || all.Contains(stored.From) && all.Contains(stored.To) {
		return nil
	}
	return &market.RebasedError{Symbol: series.Symbol, Changed: changed, Compared: compared, Ratio: ratio, Stored: stored}
}

// moved tells by what factor a bar's close or adjusted close has changed, if it
// has by more than a tick.
func moved(bar market.Bar, corrections []Correction) (ratio float64, moved bool) {
	tick := 0.01
	if old := oldClose(bar, corrections); old < 1 {
		tick = 0.0001
	}
	tick *= 1 + 1e-6 // two prices a tick apart are not exactly so in binary

	for _, c := range corrections { // the close comes before the adjusted one
		if (c.Field == closeField || c.Field == adjCloseField && c.HadOld) && math.Abs(c.New-c.Old) > tick {
			return c.New / c.Old, true
		}
	}
	return 0, false
}

func oldClose(bar market.Bar, corrections []Correction) float64 {
	for _, c := range corrections {
		if c.Field == closeField {
			return c.Old
		}
	}
	return bar.Close
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

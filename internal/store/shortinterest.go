package store

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// cycle is more days than there are between a settlement date and the next, and
// fewer than to the one after that: what was stored last before a date is that
// of the date before only if it is as near as this.
const cycle = 22

// ShortInterestAround returns the dates whose rows have to do with those of a
// settlement date: the one before, which it may correct, and the one after,
// which may correct it.
func ShortInterestAround(settlement market.Date) market.Range {
	return market.Range{From: max(settlement-cycle, 1), To: min(settlement+cycle, LastDate)}
}

// ShortInterestRow is a row of the table short_interest, by the names of its
// columns; a nil pointer is null.
type ShortInterestRow struct {
	Symbol         market.Symbol `json:"symbol"`
	Settlement     time.Time     `json:"settlement_date"` // 00:00 UTC
	Shares         *int64        `json:"short_interest"`
	AvgDailyVolume *int64        `json:"avg_daily_volume"`
	Previous       *int64        `json:"previous_short_interest"`
	DaysToCover    *float64      `json:"days_to_cover"`
	DaysToCoverRaw *float64      `json:"days_to_cover_raw"`
	ChangePct      *float64      `json:"change_pct"`
	ChangePctRaw   *float64      `json:"change_pct_raw"`
	RevisionFlag   *string       `json:"revision_flag"`
	SplitFlag      *string       `json:"split_flag"`
}

// ShortInterestRowOf returns a row as it is to be written.
func ShortInterestRowOf(s market.ShortInterest) ShortInterestRow {
	return ShortInterestRow{
		Symbol: s.Symbol, Settlement: s.Settlement.Time(), Shares: &s.Shares, AvgDailyVolume: knownCount(s.AvgDailyVolume), Previous: knownCount(s.Previous),
		DaysToCover: knownRatio(s.DaysToCover), DaysToCoverRaw: rawRatio(s.DaysToCover),
		ChangePct: knownRatio(s.ChangePct), ChangePctRaw: rawRatio(s.ChangePct),
		RevisionFlag: textOrNull(s.RevisionFlag), SplitFlag: textOrNull(s.SplitFlag),
	}
}

func knownCount(c market.Count) *int64 {
	if !c.Known {
		return nil
	}
	return &c.Value
}

func knownRatio(r market.Ratio) *float64 {
	if !r.Known {
		return nil
	}
	return &r.Value
}

func rawRatio(r market.Ratio) *float64 {
	if r.Raw == 0 {
		return nil
	}
	return &r.Raw
}

// Read returns what the row says; ok is false if it has no short interest, as
// another program may have left it. A value that is no finite number counts as
// null.
func (r *ShortInterestRow) Read() (s market.ShortInterest, ok bool) {
	s = market.ShortInterest{
		Symbol: r.Symbol, Settlement: market.DateOf(r.Settlement.UTC()), AvgDailyVolume: count(r.AvgDailyVolume), Previous: count(r.Previous),
		DaysToCover: ratio(r.DaysToCover, r.DaysToCoverRaw), ChangePct: ratio(r.ChangePct, r.ChangePctRaw),
	}
	if r.RevisionFlag != nil {
		s.RevisionFlag = *r.RevisionFlag
	}
	if r.SplitFlag != nil {
		s.SplitFlag = *r.SplitFlag
	}
	if r.Shares != nil {
		s.Shares = *r.Shares
	}
	return s, r.Shares != nil
}

// ReadShortInterest reads rows, but for those without a short interest.
func ReadShortInterest(rows []ShortInterestRow) []market.ShortInterest {
	var all []market.ShortInterest
	for i := range rows {
		if s, ok := rows[i].Read(); ok {
			all = append(all, s)
		}
	}
	return all
}

func count(v *int64) market.Count {
	if v == nil {
		return market.Count{}
	}
	return market.Count{Value: *v, Known: true}
}

func ratio(value, raw *float64) market.Ratio {
	switch {
	case value != nil && isNumber(*value):
		return market.Ratio{Value: *value, Known: true}
	case raw != nil && isNumber(*raw):
		return market.Ratio{Raw: *raw}
	}
	return market.Ratio{}
}

// ShortInterestDiff is the difference between the stored short interest and the
// rows of a settlement date that came in: all that a save has to write.
type ShortInterestDiff struct {
	// New are the rows that are not stored. Changed are stored ones as they
	// are to be, of this date and of the one before.
	New, Changed []market.ShortInterest
	Unchanged    int
	// Corrections holds one entry for each value that differs, with its
	// symbol. Source and At are left to the store.
	Corrections []Correction
}

// Changes returns the counts of the difference. A row of the date before that
// is corrected counts as updated.
func (d ShortInterestDiff) Changes() market.Changes {
	return market.Changes{Inserted: len(d.New), Updated: len(d.Changed), Unchanged: d.Unchanged}
}

// neighbours are the stored rows of a symbol at a settlement date, the one
// before and the one after; nil where there is none.
type neighbours struct{ before, at, after *ShortInterestRow }

// CompareShortInterest compares rows of one settlement date with the stored
// ones of [ShortInterestAround] it, which are in no order.
//
// What a row says of the date before takes the place of what that date's row
// says, by [market.ShortInterest.Correction], whichever of the two arrives
// first. A null never overwrites a value.
func CompareShortInterest(stored []ShortInterestRow, incoming []market.ShortInterest) ShortInterestDiff {
	var d ShortInterestDiff
	near := neighboursOf(stored, incoming[0].Settlement)
	for _, row := range incoming {
		n := near[row.Symbol]
		if n.after != nil {
			after, _ := n.after.Read()
			if shares, ok := after.Correction(); ok && shares != row.Shares {
				row = row.Corrected(shares)
			}
		}
		row = d.compare(n.at, row)
		shares, ok := row.Correction()
		if !ok || n.before == nil {
			continue
		}
		if before, known := n.before.Read(); !known || before.Shares != shares {
			d.change(before, before.Corrected(shares), known)
		}
	}
	return d
}

func neighboursOf(stored []ShortInterestRow, settlement market.Date) map[market.Symbol]neighbours {
	near := make(map[market.Symbol]neighbours, len(stored))
	at := settlement.Time()
	for i := range stored {
		row := &stored[i]
		n := near[row.Symbol]
		switch row.Settlement.Compare(at) {
		case 0:
			n.at = row
		case -1:
			if n.before == nil || n.before.Settlement.Before(row.Settlement) {
				n.before = row
			}
		case 1:
			if n.after == nil || n.after.Settlement.After(row.Settlement) {
				n.after = row
			}
		}
		near[row.Symbol] = n
	}
	return near
}

// compare returns the row as it is then stored.
func (d *ShortInterestDiff) compare(stored *ShortInterestRow, row market.ShortInterest) market.ShortInterest {
	if stored == nil {
		d.New = append(d.New, row)
		return row
	}
	old, known := stored.Read()
	row = fill(row, old)
	if known && old == row {
		d.Unchanged++
		return row
	}
	d.change(old, row, known)
	return row
}

// fill gives the row the values of old where it has none.
func fill(row, old market.ShortInterest) market.ShortInterest {
	if !row.Previous.Known {
		row.Previous = old.Previous
	}
	if !row.AvgDailyVolume.Known {
		row.AvgDailyVolume = old.AvgDailyVolume
	}
	for _, r := range [...]struct {
		to   *market.Ratio
		from market.Ratio
	}{{&row.DaysToCover, old.DaysToCover}, {&row.ChangePct, old.ChangePct}} {
		if !r.to.Known && (r.from.Known || r.to.Raw == 0) {
			*r.to = r.from
		}
	}
	row.RevisionFlag = cmp.Or(row.RevisionFlag, old.RevisionFlag)
	row.SplitFlag = cmp.Or(row.SplitFlag, old.SplitFlag)
	return row
}

// change notes a row and the values of it that differ. hadShares is false where
// the stored short interest was null.
func (d *ShortInterestDiff) change(old, row market.ShortInterest, hadShares bool) {
	d.Changed = append(d.Changed, row)
	d.correct(row, "short_interest", float64(old.Shares), float64(row.Shares), hadShares, true)
	d.correct(row, "previous_short_interest", float64(old.Previous.Value), float64(row.Previous.Value), old.Previous.Known, row.Previous.Known)
	d.correct(row, "avg_daily_volume", float64(old.AvgDailyVolume.Value), float64(row.AvgDailyVolume.Value), old.AvgDailyVolume.Known, row.AvgDailyVolume.Known)
	d.correct(row, "days_to_cover", old.DaysToCover.Value, row.DaysToCover.Value, old.DaysToCover.Known, row.DaysToCover.Known)
	d.correct(row, "change_pct", old.ChangePct.Value, row.ChangePct.Value, old.ChangePct.Known, row.ChangePct.Known)
}

func (d *ShortInterestDiff) correct(row market.ShortInterest, field string, was, is float64, had, has bool) {
	if has && (was != is || !had) {
		d.Corrections = append(d.Corrections, Correction{Symbol: row.Symbol, Date: row.Settlement, Field: field, Old: was, New: is, HadOld: had})
	}
}

// CheckShortInterest refuses the rows of a settlement date if one is not of
// that date, is not sound, see [market.ShortInterest.Validate], or is of a
// symbol that another one is of. No rows at all are refused because saving them
// would make the date done for nothing; SaveUnitAttempt records such an answer.
func CheckShortInterest(kind string, settlement market.Date, rows []market.ShortInterest) error {
	switch {
	case !storable(settlement):
		return errors.New("short interest without its settlement date")
	case len(rows) == 0:
		return errors.New("no rows: an empty answer is recorded as an attempt, not saved")
	}
	if err := CheckUnit(kind, settlement.String()); err != nil {
		return err
	}
	seen := make(map[market.Symbol]bool, len(rows))
	for _, row := range rows {
		if err := row.Validate(); err != nil {
			return err
		}
		if row.Settlement != settlement {
			return fmt.Errorf("short interest of %s is of %s", row.Symbol, row.Settlement)
		}
		if seen[row.Symbol] {
			return fmt.Errorf("two rows of %s", row.Symbol)
		}
		seen[row.Symbol] = true
	}
	return nil
}

// SymbolsOf returns the symbols of rows.
func SymbolsOf(rows []market.ShortInterest) []string {
	symbols := make([]string, len(rows))
	for i, row := range rows {
		symbols[i] = string(row.Symbol)
	}
	return symbols
}

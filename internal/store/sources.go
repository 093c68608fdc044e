package store

import (
	"github.com/alpha-oracle/worker/internal/market"
)

// verdict says what an incoming bar does to the stored bar of its date.
type verdict int

const (
	// replaced: all values, and the source with them.
	replaced verdict = iota
	// completed: what is missing, an adjusted close or a volume of zero.
	completed
	// kept: all but an adjusted close that is missing.
	kept
)

// rule is what holds between an incoming bar and a stored one.
type rule struct {
	verdict verdict
	// sameBase says that a close that has moved is that of a new base, and
	// sameAdj that an adjusted close is: those of two sources differ anyhow.
	sameBase, sameAdj bool
}

// ruleOf returns what a bar of one source does to a stored bar of another. It is
// the table of docs/sources.md, from the top to the bottom:
//
//	the same source                     replaced
//	one of the two is not known         replaced
//	a consolidated one onto a filtered  replaced
//	a filtered one onto a consolidated  kept
//	two others                          completed
//
// A replaced bar keeps an adjusted close and a volume above zero that the new one
// lacks.
func ruleOf(source, stored string) rule {
	s, t := market.TraitsOf(source), market.TraitsOf(stored)
	same := s.Basis == t.Basis
	switch {
	case source == stored || s.Basis == "" || t.Basis == "":
		return rule{replaced, true, true}
	case s.Consolidated && !t.Consolidated:
		return rule{replaced, same, false}
	case !s.Consolidated && t.Consolidated:
		return rule{kept, same, false}
	}
	return rule{completed, same, false}
}

// fill returns the stored bar with what the rule takes of the incoming one.
func (r rule) fill(old, bar market.Bar) market.Bar {
	if !old.HasAdjClose {
		old.AdjClose, old.HasAdjClose = bar.AdjClose, bar.HasAdjClose
	}
	if r.verdict == completed && old.Volume == 0 {
		old.Volume = bar.Volume
	}
	return old
}

// Rows reads the dates of the stored bars of a symbol in window, by their
// sources. It is asked only where these can matter.
type Rows func(window market.Range) (map[string]*market.Days, error)

// Judge compares a series with stored, the bars in its extent, and says what of
// it is to be written. What a bar does to a stored one of another source is said
// by [ruleOf].
//
// Beside bars of another known basis the series counts from the oldest date on
// on which it agrees with what is stored: the closes are at most a tick apart.
// Dates are no such before one of the other basis that does not agree, unless an
// older one of the other basis does: a split moves all that is older, two vendors
// differ here and there. A raw series is compared with the other bars in its own
// extent, one that is adjusted for splits with all of the symbol; on its own older
// bars it is not rebased then, but left out.
//
// The error is a [*market.RebasedError] if the source has changed the base of
// its prices, a [*market.BasisError] if a series agrees with the other basis
// nowhere, and else that of rows. A series that holds all that is stored of the
// symbol takes the place of all of it where it would be refused or cut, and one
// with NewBase always does.
func Judge(series market.Series, stored []market.Bar, rows Rows) (Diff, error) {
	j := judging{series: series, stored: stored, rows: rows, all: Compare(stored, series.Bars)}
	j.basis = market.TraitsOf(series.Source).Basis
	if series.NewBase || j.regardless() {
		return j.all, nil
	}
	if j.window = Extent(series); j.basis == market.SplitAdjusted {
		j.window = Window(market.Range{})
	}
	var err error
	if j.there, err = rows(j.window); err != nil {
		return Diff{}, err
	}
	if j.others = j.otherBasis(); j.others.Len() > 0 {
		return j.mixed()
	}
	return j.unlessRebased(compare(stored, series.Bars, j.rule))
}

// judging is one Judge.
type judging struct {
	series market.Series
	basis  market.Basis
	stored []market.Bar
	all    Diff // if all is replaced
	rows   Rows
	window market.Range
	there  map[string]*market.Days // the rows in window
	others market.Days             // those of another known basis
}

// regardless reports whether the difference is the same whatever the sources of
// the stored bars are: none differs, and no new bar is older than one that agrees.
func (j *judging) regardless() bool {
	switch {
	case len(j.all.Changed) > 0:
		return false
	case len(j.all.New) == 0 || j.basis == "":
		return true
	case j.basis == market.Raw:
		return len(j.stored) == 0 || j.all.New[0].Date > j.series.Bars[0].Date
	}
	return false
}

func (j *judging) otherBasis() (days market.Days) {
	for source, of := range j.there {
		if t := market.TraitsOf(source); j.basis != "" && t.Basis != "" && t.Basis != j.basis {
			days = days.Union(*of)
		}
	}
	return days
}

// sourceOn returns the source of the row of a date; "" if it is not among there.
func (j *judging) sourceOn(date market.Date) string {
	for source, days := range j.there {
		if days.Has(date) {
			return source
		}
	}
	return ""
}

func (j *judging) rule(date market.Date) rule { return ruleOf(j.series.Source, j.sourceOn(date)) }

// mixed judges a series beside bars of another basis.
func (j *judging) mixed() (Diff, error) {
	bars := j.series.Bars
	since, differs := j.agreeing()
	older := 0
	for older < len(bars) && bars[older].Date < since {
		older++
	}
	if since.IsZero() || older > 0 {
		extent, err := j.extent()
		switch {
		case err != nil:
			return Diff{}, err
		case j.holds(extent):
			return j.all, nil
		case since.IsZero():
			differs.Symbol, differs.Source, differs.Other = j.series.Symbol, j.series.Source, j.sourceOn(j.others.Last())
			differs.Stored = extent
			return Diff{}, &differs
		}
	}
	d := compare(j.stored, bars[older:], j.rule)
	if older > 0 {
		d.Since, d.OtherBasis = since, older
	}
	if j.basis == market.SplitAdjusted {
		return d, nil
	}
	return j.unlessRebased(d)
}

// agreeing returns the date from which on the series counts, zero if there is
// none, and the newest on which a close differs.
func (j *judging) agreeing() (since market.Date, differs market.BasisError) {
	at, sure := 0, false
	for i := range j.series.Bars {
		bar := &j.series.Bars[i]
		for at < len(j.stored) && j.stored[at].Date < bar.Date {
			at++
		}
		if at == len(j.stored) || j.stored[at].Date > bar.Date {
			continue
		}
		old, other := &j.stored[at], j.others.Has(bar.Date)
		if agree(old.Close, old.Close, bar.Close) {
			sure = sure || other
			if since.IsZero() {
				since = bar.Date
			}
			continue
		}
		differs.Date, differs.Close, differs.CloseOfOther = bar.Date, bar.Close, old.Close
		if other && !sure {
			since = 0
		}
	}
	return since, differs
}

// unlessRebased returns the difference unless the source has changed the base of
// its prices and other bars of the symbol are stored too.
func (j *judging) unlessRebased(d Diff) (Diff, error) {
	if !d.Moves.Rebased() {
		return d, nil
	}
	extent, err := j.extent()
	switch {
	case err != nil:
		return Diff{}, err
	case j.holds(extent):
		return j.all, nil
	}
	return Diff{}, &market.RebasedError{
		Symbol: j.series.Symbol, Changed: d.Moves.Changed, Compared: d.Moves.Compared, Ratio: d.Moves.Ratio, Stored: extent,
	}
}

// extent is from the oldest stored bar of the symbol to the newest.
func (j *judging) extent() (market.Range, error) {
	there := j.there
	if everything := Window(market.Range{}); j.window != everything {
		var err error
		if there, err = j.rows(everything); err != nil {
			return market.Range{}, err
		}
	}
	var days market.Days
	for _, of := range there {
		days = days.Union(*of)
	}
	return days.Hull(), nil
}

// holds reports whether the series holds all that is stored of the symbol.
func (j *judging) holds(extent market.Range) bool {
	all := Extent(j.series)
	return all.Contains(extent.From) && all.Contains(extent.To)
}

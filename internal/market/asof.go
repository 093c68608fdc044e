package market

import (
	"cmp"
	"slices"
	"strings"
)

// quantity is what a fact gives a value to. Each filing that shows it brings
// a version of its own.
type quantity struct {
	line
	start, end Date
}

// line is a row of an issuer's report, for all periods.
type line struct {
	cik                     int
	taxonomy, concept, unit string
}

func (f *Fact) line() line         { return line{f.CIK, f.Taxonomy, f.Concept, f.Unit} }
func (f *Fact) quantity() quantity { return quantity{f.line(), f.Start, f.End} }

// amends reports whether the filing corrects an earlier one.
func (f *Fact) amends() bool { return strings.HasSuffix(f.Form, "/A") }

// byVersion orders the versions of one quantity. An accession number begins
// with the number of who filed it, so its order says nothing about time: it
// only makes the choice between two filings of one day the same everywhere.
func byVersion(a, b *Fact) int {
	rank := func(f *Fact) int {
		if f.amends() {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.Filed, b.Filed),
		cmp.Compare(rank(a), rank(b)),
		cmp.Compare(a.Accession, b.Accession),
		cmp.Compare(a.Value, b.Value),
		cmp.Compare(a.Form, b.Form),
	)
}

// AsOf returns the facts as they were known at the end of day: for each
// issuer, taxonomy, concept, unit, start and end the version that was filed
// last, none that was filed later. Of versions filed on one day an amendment
// (a form that ends in /A) wins, then the greater accession number. A fact
// without a filing date was never known.
//
// The result is in order of issuer, taxonomy, concept, unit, end and start,
// whatever the order of facts, which is left as it is.
func AsOf(facts []Fact, day Date) []Fact {
	return choose(facts, func(f, chosen *Fact) bool { return byVersion(f, chosen) > 0 }, day)
}

// Original returns the version of each fact that was filed first, in the order
// of [AsOf]. Of versions filed on one day it is the one that AsOf prefers
// least.
func Original(facts []Fact) []Fact {
	return choose(facts, func(f, chosen *Fact) bool { return byVersion(f, chosen) < 0 }, lastDate)
}

const lastDate Date = 1<<31 - 1

// choose returns the best version of each quantity, of those filed through
// day.
func choose(facts []Fact, better func(f, chosen *Fact) bool, day Date) []Fact {
	at := make(map[quantity]int)
	var chosen []Fact
	for i := range facts {
		f := &facts[i]
		if f.Filed <= 0 || f.Filed > day {
			continue
		}
		j, known := at[f.quantity()]
		switch {
		case !known:
			at[f.quantity()] = len(chosen)
			chosen = append(chosen, *f)
		case better(f, &chosen[j]):
			chosen[j] = *f
		}
	}
	slices.SortFunc(chosen, byQuantity)
	return chosen
}

func byQuantity(a, b Fact) int {
	return cmp.Or(
		cmp.Compare(a.CIK, b.CIK),
		cmp.Compare(a.Taxonomy, b.Taxonomy),
		cmp.Compare(a.Concept, b.Concept),
		cmp.Compare(a.Unit, b.Unit),
		cmp.Compare(a.End, b.End),
		cmp.Compare(a.Start, b.Start),
	)
}

// DerivedFact is a figure that no filing holds: it was computed from two that
// do.
type DerivedFact struct {
	// Fact is the result. Its Accession, Form and Filed are those of the
	// filing that completed it, the later of the two.
	Fact
	// Year and NineMonths are what it was computed from.
	Year, NineMonths Fact
}

// FourthQuarter returns the fourth quarters that could be computed at the end
// of day. Reports name none: it is the year less its first nine months, which
// begin on the same day, where the rest is as long as a quarter. A fourth
// quarter that a filing does name is not computed.
//
// The year is the version of [AsOf]. The nine months are the version that was
// known when that version of the year was filed: what was restated after it
// does not add up with it. Only if there was none by then, they are the first
// version after it.
//
// Where a report puts its figures on another basis, as after the sale of a
// business, the nine months that were filed before do not add up with its year:
// none is computed where the year was restated after them, or where the report
// shows another year before it with another value than was known.
//
// Only amounts of money are computed. Figures per share, numbers of shares and
// pure numbers are averages or quotients, of which a year is not the sum of
// its quarters.
//
// The result is in the order of AsOf.
func FourthQuarter(facts []Fact, day Date) []DerivedFact {
	known := AsOf(facts, day)
	named := make(map[quantity]bool)
	for i := range known {
		named[known[i].quantity()] = true
	}
	begins, years := nineMonths(facts, day), versionsOfYears(facts, day)
	var quarters []DerivedFact
	for i := range known {
		year := &known[i]
		if year.Period() != Year || !isMoney(year.Unit) {
			continue
		}
		nine := beside(year, begins[quantity{line: year.line(), start: year.Start}])
		if nine == nil || rebased(years[year.line()], year, nine) {
			continue
		}
		q := remainder(year, nine)
		if q.Period() == Quarter && !named[q.quantity()] {
			quarters = append(quarters, q)
		}
	}
	return quarters
}

// nineMonths returns all versions of nine months, by line and start.
func nineMonths(facts []Fact, day Date) map[quantity][]*Fact {
	begins := make(map[quantity][]*Fact)
	for i := range facts {
		f := &facts[i]
		if f.Filed > 0 && f.Filed <= day && f.Period() == NineMonths && isMoney(f.Unit) {
			begin := quantity{line: f.line(), start: f.Start}
			begins[begin] = append(begins[begin], f)
		}
	}
	return begins
}

// versionsOfYears returns all versions of all years, by line.
func versionsOfYears(facts []Fact, day Date) map[line][]*Fact {
	years := make(map[line][]*Fact)
	for i := range facts {
		if f := &facts[i]; f.Filed > 0 && f.Filed <= day && f.Period() == Year && isMoney(f.Unit) {
			years[f.line()] = append(years[f.line()], f)
		}
	}
	return years
}

// rebased reports whether the year stands on another basis than nine months
// that were filed before it.
func rebased(years []*Fact, year, nine *Fact) bool {
	for _, f := range years {
		restated := f.quantity() == year.quantity() && f.Filed < year.Filed && f.Value != year.Value && nine.Filed <= f.Filed
		if restated {
			return true
		}
		beside := f.Accession == year.Accession && f.End < year.Start && nine.Filed < year.Filed
		if !beside {
			continue
		}
		for _, before := range years {
			if before.quantity() == f.quantity() && before.Filed < f.Filed && before.Value != f.Value && !replacedBefore(years, before, f) {
				return true
			}
		}
	}
	return false
}

// replacedBefore reports whether there is a version between the two.
func replacedBefore(years []*Fact, before, f *Fact) bool {
	for _, other := range years {
		if other.quantity() == f.quantity() && byVersion(other, before) > 0 && other.Filed < f.Filed {
			return true
		}
	}
	return false
}

// beside returns the version of nine months that adds up with year, nil if
// there is none.
func beside(year *Fact, versions []*Fact) *Fact {
	var before, after *Fact
	for _, f := range versions {
		switch {
		case f.Filed <= year.Filed && (before == nil || byVersion(f, before) > 0):
			before = f
		case f.Filed > year.Filed && (after == nil || byVersion(f, after) < 0):
			after = f
		}
	}
	if before != nil {
		return before
	}
	return after
}

// remainder returns what of the year comes after its first nine months.
func remainder(year, nine *Fact) DerivedFact {
	d := DerivedFact{Fact: *year, Year: *year, NineMonths: *nine}
	if nine.Filed > year.Filed {
		d.Accession, d.Form, d.Filed = nine.Accession, nine.Form, nine.Filed
	}
	d.Start = nine.End + 1
	d.Value = year.Value - nine.Value
	return d
}

// isMoney reports whether unit is a currency, which is written as the three
// capital letters of ISO 4217.
func isMoney(unit string) bool {
	return len(unit) == 3 && strings.Trim(unit, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

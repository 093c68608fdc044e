package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// FactSource is the source that the ledger names for facts: only the SEC's
// EDGAR has them.
const FactSource = "edgar"

// Version is a stored fact.
type Version struct {
	market.Fact
	// Superseded is the day on which another version of the same figure took
	// the place of this one; zero while none has. A version is known from its
	// filing until the day before, so what was known on a day is found
	// without a look at other versions. Two filings of one day leave one that
	// was never known.
	Superseded market.Date
}

// FactDiff is the difference between the stored facts of a symbol and the ones
// that came in: all that a save has to write.
type FactDiff struct {
	// New are the versions that are not stored. Changed are stored ones as
	// they are to be: with another value, form or filing day, or superseded
	// on another day.
	New, Changed []Version
	// Updated counts the facts that came in and differ from their stored
	// version. Versions that are only superseded are not among them.
	Updated, Unchanged int
	// Corrections holds the old values and filing days, in the order of the
	// facts that came in. Symbol, Source and At are left to the store.
	Corrections []Correction
}

// Changes returns the counts of the difference.
func (d FactDiff) Changes() market.Changes {
	return market.Changes{Inserted: len(d.New), Updated: d.Updated, Unchanged: d.Unchanged}
}

// figure is what several filings give a value to.
type figure struct {
	cik                     int
	taxonomy, concept, unit string
	start, end              market.Date
}

// version is one filing's value of a figure.
type version struct {
	figure
	accession string
}

func versionOf(f *market.Fact) version {
	return version{figure{f.CIK, f.Taxonomy, f.Concept, f.Unit, f.Start, f.End}, f.Accession}
}

// CompareFacts merges incoming with all stored facts of the same symbol, and
// works out anew when each version is superseded, by the rules of
// [market.AsOf]; the order in which versions arrive does not matter. Both may
// be in any order.
func CompareFacts(stored []Version, incoming []market.Fact) FactDiff {
	var d FactDiff
	all := append(make([]Version, 0, len(stored)+len(incoming)), stored...)
	at := make(map[version]int, cap(all))
	for i := range all {
		at[versionOf(&all[i].Fact)] = i
	}
	for _, fact := range incoming {
		i, known := at[versionOf(&fact)]
		switch {
		case !known:
			at[versionOf(&fact)] = len(all)
			all = append(all, Version{Fact: fact})
		case all[i].Fact == fact:
			d.Unchanged++
		default:
			d.Updated++
			d.correct(all[i].Fact, fact)
			all[i].Fact = fact
		}
	}
	supersede(all)
	for i := range stored {
		if all[i] != stored[i] {
			d.Changed = append(d.Changed, all[i])
		}
	}
	d.New = all[len(stored):]
	return d
}

// correct notes what differs. A form is no number and is not noted.
func (d *FactDiff) correct(old, fact market.Fact) {
	field := strings.Join(slices.DeleteFunc(
		[]string{fact.Taxonomy + ":" + fact.Concept, fact.Unit, fact.Start.String(), fact.Accession},
		func(s string) bool { return s == "" }), " ")
	if old.Value != fact.Value {
		d.Corrections = append(d.Corrections, Correction{Date: fact.End, Field: field, Old: old.Value, New: fact.Value, HadOld: true})
	}
	if old.Filed != fact.Filed {
		d.Corrections = append(d.Corrections, Correction{
			Date: fact.End, Field: field + " filed", Old: dateNumber(old.Filed), New: dateNumber(fact.Filed), HadOld: true,
		})
	}
}

// dateNumber writes 2026-03-12 as 20260312.
func dateNumber(d market.Date) float64 {
	year, month, day := d.Time().Date()
	return float64(year*10000 + int(month)*100 + day)
}

func supersede(all []Version) {
	versions := make(map[figure][]int, len(all))
	for i := range all {
		of := versionOf(&all[i].Fact).figure
		versions[of] = append(versions[of], i)
	}
	for _, of := range versions {
		slices.SortFunc(of, func(a, b int) int { return byVersion(&all[a].Fact, &all[b].Fact) })
		for n, i := range of {
			all[i].Superseded = 0
			if n+1 < len(of) {
				all[i].Superseded = all[of[n+1]].Filed
			}
		}
	}
}

// byVersion is the order in which the versions of one figure count, as
// [market.AsOf] has it.
func byVersion(a, b *market.Fact) int {
	amends := func(f *market.Fact) int {
		if strings.HasSuffix(f.Form, "/A") {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Filed, b.Filed), cmp.Compare(amends(a), amends(b)), cmp.Compare(a.Accession, b.Accession))
}

// maxCIK has the ten digits that the SEC writes an issuer's number with.
const maxCIK = 9_999_999_999

// CheckFacts refuses facts that no store can hold as they are: without a name,
// with a value that is no number, with days that are missing or in the wrong
// order, or two of one filing that contradict each other. No facts at all are
// refused because saving them would make the symbol done for nothing;
// SaveAttempt records such an answer.
func CheckFacts(symbol market.Symbol, facts []market.Fact, through market.Date) error {
	switch {
	case symbol == "":
		return errors.New("facts without a symbol")
	case len(facts) == 0:
		return errors.New("no facts: an empty answer is recorded as an attempt, not saved")
	case !storable(through):
		return errors.New("facts without the day through which they are known")
	}
	seen := make(map[version]*market.Fact, len(facts))
	for i := range facts {
		f := &facts[i]
		if err := checkFact(f); err != nil {
			return fmt.Errorf("%s of %s in filing %q: %w", f.Concept, f.End, f.Accession, err)
		}
		if other, again := seen[versionOf(f)]; again && *other != *f {
			return fmt.Errorf("%s of %s in filing %q: the filing gives it twice and differently: leave both out", f.Concept, f.End, f.Accession)
		}
		seen[versionOf(f)] = f
	}
	return nil
}

func checkFact(f *market.Fact) error {
	switch {
	case f.CIK <= 0 || int64(f.CIK) > maxCIK:
		return fmt.Errorf("issuer %d: want a number of one to ten digits", f.CIK)
	case f.Taxonomy == "" || f.Concept == "" || f.Unit == "" || f.Accession == "":
		return errors.New("without a taxonomy, a concept, a unit or an accession number")
	case !isText(f.Taxonomy, f.Concept, f.Unit, f.Accession, f.Form):
		return errors.New("a name with bytes that are no text")
	case !storable(f.End) || !storable(f.Filed):
		return errors.New("without an end or a filing day")
	case f.Start < 0 || f.Start > f.End:
		return fmt.Errorf("it starts on %s, after its end", f.Start)
	case !isNumber(f.Value):
		return errors.New("the value is not a finite number")
	}
	return nil
}

// storable reports whether d is a date that every store can hold.
func storable(d market.Date) bool { return d > 0 && d <= LastDate }

func isNumber(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// isText reports whether every store can hold the texts as they are.
func isText(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return Text(s) != s })
}

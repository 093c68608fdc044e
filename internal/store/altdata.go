package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// AltDataJob is the job whose units are of several kinds. A kind stands in
	// the place of the period in items and attempts.
	AltDataJob = "altdata"
	// FilingsKind is the kind whose units are accession numbers.
	FilingsKind = "edgar_filings"
	// LastRunUnit is the unit of the watermark that holds how far a job as a
	// whole has come. No symbol is written so.
	LastRunUnit = "last_run"
)

// FilingSource and ShortInterestSource are the sources that the ledger names
// for reports of insiders and for short interest.
const (
	FilingSource        = "edgar"
	ShortInterestSource = "finra"
)

// DocumentFaults returns the outcomes that a document itself can be guilty of:
// to ask for it again gives the same.
func DocumentFaults() []string { return []string{"bad_payload", "no_data"} }

// CheckUnit refuses a unit without a name or a kind.
func CheckUnit(kind, unit string) error {
	if kind == "" || unit == "" || !isText(kind, unit) {
		return fmt.Errorf("unit %q of kind %q: want two names", unit, kind)
	}
	return nil
}

// LastRunText writes the end of a window as its watermark holds it: in UTC and
// whole seconds, so that texts compare as the times do.
func LastRunText(until time.Time) (string, error) {
	until = until.UTC()
	if until.IsZero() || !storable(market.DateOf(until)) {
		return "", fmt.Errorf("last run until %s: want a time of a year of four digits", until)
	}
	return until.Format(time.RFC3339), nil
}

// ParseLastRun reads what LastRunText writes; of "" the zero Time.
func ParseLastRun(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, text)
}

// CheckListed refuses listed filings that no store can hold as they are, and
// two of one number. None at all is what the index of a quiet day lists.
func CheckListed(kind string, day market.Date, filings []market.ListedFiling) error {
	if !storable(day) {
		return errors.New("an index without its day")
	}
	if err := CheckUnit(kind, day.String()); err != nil {
		return err
	}
	seen := make(map[string]bool, len(filings))
	for _, f := range filings {
		switch {
		case f.Accession == "" || f.Form == "" || !isText(f.Accession, f.Form):
			return fmt.Errorf("filing %q of form %q: want an accession number and a form", f.Accession, f.Form)
		case !storable(f.Filed):
			return fmt.Errorf("filing %q: without its day", f.Accession)
		case seen[f.Accession]:
			return fmt.Errorf("filing %q: listed twice", f.Accession)
		}
		seen[f.Accession] = true
		for _, cik := range f.Filers {
			if !isCIK(cik) {
				return fmt.Errorf("filing %q: filer %d: want a number of one to ten digits", f.Accession, cik)
			}
		}
	}
	return nil
}

// NewlyListed returns the filings that are not among the known ones, which
// stay as they are.
func NewlyListed(known []string, filings []market.ListedFiling) []market.ListedFiling {
	have := make(map[string]bool, len(known))
	for _, accession := range known {
		have[accession] = true
	}
	var fresh []market.ListedFiling
	for _, f := range filings {
		if !have[f.Accession] {
			fresh = append(fresh, f)
		}
	}
	return fresh
}

func isCIK(cik int) bool { return cik > 0 && int64(cik) <= maxCIK }

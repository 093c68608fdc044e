package market

import "fmt"

// Basis is what the prices of a source are adjusted for. Bars of two bases stand
// in one series only where they agree.
type Basis string

// The bases.
const (
	// Raw: prices as traded.
	Raw Basis = "raw"
	// SplitAdjusted: a split rewrites all older bars; dividends do not.
	SplitAdjusted Basis = "split"
)

// SourceTraits are what the rows of a source hold, by which it is decided whose
// bar may replace whose.
type SourceTraits struct {
	// Basis is "" for a source of which that is not known.
	Basis Basis
	// Consolidated says that the volume is that of all venues; a filtered one
	// is lower.
	Consolidated bool
}

// TraitsOf returns the traits of a source by its name in the column
// ohlcv.source. One that is not known, as another program may write it, is
// taken to be consolidated, on any basis.
func TraitsOf(source string) SourceTraits {
	switch source {
	case "alpha_vantage", "massive", "tiingo", "simulated":
		return SourceTraits{Basis: Raw, Consolidated: true}
	case "massive_adjusted":
		return SourceTraits{Basis: SplitAdjusted, Consolidated: true}
	case "ibkr":
		return SourceTraits{Basis: SplitAdjusted}
	}
	return SourceTraits{Consolidated: true}
}

// BasisError refuses bars whose source is on another [Basis] than that of bars
// that are stored, where the two agree on no date: they may be on different sides
// of a split. Nothing of them is stored. The remedy is to save a series that
// holds all of Stored, from one source, or to delete the bars of the other.
type BasisError struct {
	Symbol Symbol
	// Source is that of the refused bars, Other that of stored ones.
	Source, Other string
	// Date is the newest that both have, with the two closes; the zero Date if
	// there is none.
	Date                Date
	Close, CloseOfOther float64
	// Stored is from the oldest stored bar of the symbol to the newest.
	Stored Range
}

// Error names the symbol, both sources, what differs and the remedy.
func (e *BasisError) Error() string {
	differs := "they have no date in common"
	if !e.Date.IsZero() {
		differs = fmt.Sprintf("the close of %s is %v, and %v is stored", e.Date, e.Close, e.CloseOfOther)
	}
	return fmt.Sprintf("%s: the bars of %s do not agree with those of %s, as on two sides of a split: %s; nothing of them is stored: "+
		"read all days from %s on from one of the two, or delete the bars of %s", e.Symbol, e.Source, e.Other, differs, e.Stored.From, e.Other)
}

// Outcome returns the outcome class that the error puts a symbol in.
func (e *BasisError) Outcome() string { return "bad_payload" }

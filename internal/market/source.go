package market

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

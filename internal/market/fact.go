package market

// Fact is one figure from an issuer's report, as filed with the SEC. The same
// period can have several: each report that shows it again brings one, and a
// restated one differs in its value.
type Fact struct {
	// CIK is the issuer's number at the SEC.
	CIK int
	// Taxonomy and Concept name the figure, such as us-gaap and Assets.
	Taxonomy, Concept string
	// Unit is the unit as filed: USD, shares, USD/shares, pure. Amounts are
	// whole units, not thousands.
	Unit string
	// Start is the first day of the period, the zero Date for a figure of one
	// day, such as an item of a balance sheet. End is its last day.
	Start, End Date
	Value      float64
	// Accession is the accession number of the filing, Form its type (10-K,
	// 10-Q, 10-K/A), Filed the day on which it became known.
	Accession, Form string
	Filed           Date
}

// Period is the kind of period that a fact speaks of, by its length.
type Period int

// The periods that reports have. In some a year has 52 or 53 weeks, and its
// quarters have 12, 16 or 17.
const (
	OtherPeriod Period = iota
	Instant
	Quarter
	Half
	NineMonths
	Year
)

// Period classifies the time from Start to End, both included. What a filing
// calls its fiscal period says nothing about the figures of earlier periods
// that it shows beside its own.
func (f Fact) Period() Period {
	if f.Start == 0 {
		return Instant
	}
	switch days := int(f.End-f.Start) + 1; {
	case days >= 80 && days <= 120:
		return Quarter
	case days >= 165 && days <= 200:
		return Half
	case days >= 248 && days <= 288:
		return NineMonths
	case days >= 350 && days <= 380:
		return Year
	default:
		return OtherPeriod
	}
}

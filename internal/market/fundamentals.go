package market

import (
	"encoding/json"
	"fmt"
)

// Field is a key figure of a symbol; its text is the column that holds it in
// the table fundamentals.
type Field int

// The figures. Ratios are fractions, not percent: a dividend yield of 0.0041
// is 0.41 %. MarketCap is in the currency that the shares trade in.
const (
	// PERatio is the price over the earnings per share of the last four
	// quarters.
	PERatio Field = iota
	// PBRatio is the price over the book value per share.
	PBRatio
	// PSRatio is the market capitalisation over the revenue of the last
	// four quarters.
	PSRatio
	// EVEBITDA is the enterprise value over the EBITDA of the last four
	// quarters.
	EVEBITDA
	// DebtToEquity is the interest-bearing debt over the shareholders'
	// equity.
	DebtToEquity
	// CurrentRatio is current assets over current liabilities.
	CurrentRatio
	// ROE is the net income of the last four quarters over the
	// shareholders' equity.
	ROE
	// RevenueGrowth is the last quarter's revenue against that of the same
	// quarter a year before, less 1.
	RevenueGrowth
	// EarningsGrowth is the same of the earnings.
	EarningsGrowth
	// DividendYield is the dividend of a year over the price.
	DividendYield
	// MarketCap is the price of all shares.
	MarketCap

	// NumFields is the number of figures.
	NumFields = iota
)

// String returns the column's name.
func (f Field) String() string {
	names := [NumFields]string{
		"pe_ratio", "pb_ratio", "ps_ratio", "ev_ebitda", "debt_to_equity", "current_ratio",
		"roe", "revenue_growth", "earnings_growth", "dividend_yield", "market_cap",
	}
	if f < 0 || f >= NumFields {
		return fmt.Sprintf("field %d", int(f))
	}
	return names[f]
}

// Fields returns all figures in the order of the table's columns.
func Fields() []Field {
	all := make([]Field, NumFields)
	for i := range all {
		all[i] = Field(i)
	}
	return all
}

// Origin says where a figure comes from.
type Origin struct {
	// Source is the provider's name; "" in a row that another program wrote.
	Source string `json:"source"`
	// Filed is the day on which the newest report behind the figure became
	// public; zero if the provider does not say.
	Filed Date `json:"filed,omitzero"`
	// Period is the last day of the newest period behind the figure; zero
	// if the provider does not say.
	Period Date `json:"period,omitzero"`
	// Computed says that the figure was computed here from reported facts;
	// else it is the provider's own.
	Computed bool `json:"computed,omitempty"`
	// Learnt is the day on which the figure was learnt, if it is not that of
	// the row.
	Learnt Date `json:"learnt,omitzero"`
}

// replaces reports whether a figure of origin o is at least as good as one of
// origin old: the provider's own before a computed one, then what was filed
// later and what speaks of a later period, as far as both sides say so.
func (o Origin) replaces(old Origin) bool {
	if old.Source == "" {
		return true
	}
	if o.Computed != old.Computed {
		return old.Computed
	}
	atLeast := func(is, was Date) bool { return is >= was || is == 0 && o.Source == old.Source }
	return atLeast(o.Filed, old.Filed) && atLeast(o.Period, old.Period)
}

// outdates reports whether a figure of origin old must not stand beside one of
// origin o: both were computed from filings of one source, o from a later
// period. What could be computed before can be null by now for good reason.
func (o Origin) outdates(old Origin) bool {
	return o.Computed && old.Computed && o.Source == old.Source && o.Filed > 0 && old.Filed > 0 && o.Period > old.Period
}

// Figure is the value of a field. The zero Figure is null: nobody knows it.
type Figure struct {
	Value float64
	Known bool
	Origin
}

// Label is a text such as a sector; "" is null.
type Label struct {
	Text string
	Origin
}

// Fundamentals are the key figures of a symbol as they were known on a day.
type Fundamentals struct {
	Symbol Symbol
	// Date is the day in New York on which they were learnt.
	Date             Date
	Figures          [NumFields]Figure // by Field
	Sector, Industry Label
	// Details are what the provider said besides, by its own names.
	Details map[string]string
}

// Empty reports whether no figure and no label is known.
func (f *Fundamentals) Empty() bool {
	for i := range f.Figures {
		if f.Figures[i].Known {
			return false
		}
	}
	return f.Sector.Text == "" && f.Industry.Text == ""
}

// Merge returns the row that holds the better of the two values of each field:
// one that is known before null, the provider's own before a computed one, one
// filed later, or for a later period, before an older one; among equals, that
// of newer. Figures that were computed from an older balance sheet than one of
// newer's are dropped. Symbol and Date are those of newer.
func (f Fundamentals) Merge(newer Fundamentals) Fundamentals {
	merged := f
	merged.Symbol, merged.Date = newer.Symbol, newer.Date
	for i := range f.Figures {
		for _, is := range newer.Figures {
			if is.Known && is.outdates(f.Figures[i].Origin) {
				f.Figures[i], merged.Figures[i] = Figure{}, Figure{}
			}
		}
	}
	for i := range merged.Figures {
		old, is := f.Figures[i], newer.Figures[i]
		if is.Known && (!old.Known || is.replaces(old.Origin)) {
			merged.Figures[i] = is
		}
	}
	merged.Sector = f.Sector.merge(newer.Sector)
	merged.Industry = f.Industry.merge(newer.Industry)
	if len(newer.Details) > 0 {
		merged.Details = newer.Details
	}
	return merged
}

func (l Label) merge(newer Label) Label {
	if newer.Text != "" && (l.Text == "" || newer.replaces(l.Origin)) {
		return newer
	}
	return l
}

// MarshalJSON writes the row as other programs read it: the columns of the
// table fundamentals, null where nothing is known, and the timestamp as
// 2026-03-12T00:00:00Z. Where the figures come from is left out.
func (f Fundamentals) MarshalJSON() ([]byte, error) {
	row := map[string]any{
		"symbol": f.Symbol, "timestamp": f.Date.Time(),
		"sector": f.Sector.orNull(), "industry": f.Industry.orNull(),
	}
	for i, figure := range f.Figures {
		column := Field(i).String()
		row[column] = nil
		if figure.Known {
			row[column] = figure.Value
		}
	}
	return json.Marshal(row)
}

func (l Label) orNull() any {
	if l.Text == "" {
		return nil
	}
	return l.Text
}

package fundamentals

import (
	"math"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// Filings is the source of figures that are computed from facts.
	Filings = "edgar"
	// stale is the age in days from which a balance sheet says nothing about
	// today: a year, and the time that an annual report may take.
	stale = 460
	// yearApart is how many days may lie between the ends of a quarter and
	// of the same one a year before: fiscal years have 52 or 53 weeks.
	yearApartMin, yearApartMax = 357, 378
)

// Ratios computes the figures that follow from an issuer's reports alone, as
// they were known at the end of day. A figure is null where a part of it is
// not reported, where its divisor is not positive, and where the newest
// balance sheet is older than 460 days. Amounts are in the currency that the
// issuer reports in; both sides of a ratio are of one day or of one end.
//
// Of several issuers in facts, as when a symbol has passed from one to another,
// the one that has filed last counts.
func Ratios(facts []market.Fact, day market.Date) market.Fundamentals {
	b := newBook(facts, day)
	var row market.Fundamentals
	if b.end == 0 || day-b.end > stale {
		return row
	}
	set := func(f market.Field, value float64, parts ...market.Fact) {
		if math.IsInf(value, 0) || math.IsNaN(value) {
			return // a mistake of powers of ten in the filing
		}
		row.Figures[f] = market.Figure{Value: value, Known: true, Origin: origin(parts)}
	}
	if equity, ok := b.at(market.Equity); ok && equity.Value > 0 {
		if debt := b.debt(); len(debt) > 0 {
			set(market.DebtToEquity, sum(debt)/equity.Value, append(debt, equity)...)
		}
		if income := b.lastYear(market.NetIncome); len(income) > 0 {
			set(market.ROE, sum(income)/equity.Value, append(income, equity)...)
		}
	}
	assets, ok := b.at(market.CurrentAssets)
	due, known := b.at(market.CurrentLiabilities)
	if ok && known && due.Value > 0 {
		set(market.CurrentRatio, assets.Value/due.Value, assets, due)
	}
	for field, measure := range map[market.Field]market.Measure{
		market.RevenueGrowth: market.Revenue, market.EarningsGrowth: market.NetIncome,
	} {
		if now, before, ok := b.yearApart(measure); ok && before.Value > 0 {
			set(field, now.Value/before.Value-1, now, before)
		}
	}
	return row
}

func origin(parts []market.Fact) market.Origin {
	o := market.Origin{Source: Filings, Computed: true}
	for i := range parts {
		o.Filed, o.Period = max(o.Filed, parts[i].Filed), max(o.Period, parts[i].End)
	}
	return o
}

func sum(facts []market.Fact) (total float64) {
	for i := range facts {
		total += facts[i].Value
	}
	return total
}

// line is what a concept says: of a day, or of quarters and years.
type line struct {
	instants, quarters, years map[market.Date]market.Fact // by end
}

// book is an issuer's figures as they were known.
type book struct {
	lines map[string]*line // by taxonomy and concept
	end   market.Date      // of the newest balance sheet
}

func newBook(facts []market.Fact, day market.Date) *book {
	facts = ofLastFiler(facts, day)
	known := market.AsOf(facts, day)
	b := &book{lines: map[string]*line{}}
	b.end = newestSheet(known)
	currency := reportingCurrency(known, b.end)
	for i := range known {
		b.add(known[i], currency)
	}
	for _, q := range market.FourthQuarter(facts, day) {
		b.add(q.Fact, currency)
	}
	return b
}

// ofLastFiler returns the facts of the issuer whose balance sheet was filed
// last by day.
func ofLastFiler(facts []market.Fact, day market.Date) []market.Fact {
	equity := conceptsOf(market.Equity)
	var newest *market.Fact
	for i := range facts {
		if f := &facts[i]; equity[nameOf(f)] && f.Filed <= day && (newest == nil || f.Filed > newest.Filed) {
			newest = f
		}
	}
	others := func(f market.Fact) bool { return newest != nil && f.CIK != newest.CIK }
	if !slices.ContainsFunc(facts, others) {
		return facts
	}
	return slices.DeleteFunc(slices.Clone(facts), others)
}

func nameOf(f *market.Fact) string { return f.Taxonomy + ":" + f.Concept }

// conceptsOf returns the names of the concepts of a measure.
func conceptsOf(m market.Measure) map[string]bool {
	names := map[string]bool{}
	for _, c := range market.Concepts() {
		if c.Measure == m {
			names[c.Taxonomy+":"+c.Name] = true
		}
	}
	return names
}

// newestSheet returns the day of the newest balance sheet: the newest one of
// which both equity and assets are known, or equity alone if there is none.
// Equity is also reported of days without a sheet, such as the first one of a
// new standard, and a day after its own filing is a mistake.
func newestSheet(known []market.Fact) (end market.Date) {
	ends := func(m market.Measure) map[market.Date]bool {
		names, days := conceptsOf(m), map[market.Date]bool{}
		for i := range known {
			if f := &known[i]; names[nameOf(f)] && f.Start == 0 && f.End <= f.Filed {
				days[f.End] = true
			}
		}
		return days
	}
	equity, assets := ends(market.Equity), ends(market.Assets)
	var alone market.Date
	for d := range equity {
		alone = max(alone, d)
		if assets[d] {
			end = max(end, d)
		}
	}
	if end == 0 {
		return alone
	}
	return end
}

// reportingCurrency is the unit in which the newest balance sheet gives most
// figures: some issuers add a translation into another currency.
func reportingCurrency(known []market.Fact, end market.Date) string {
	count := map[string]int{}
	for i := range known {
		if f := &known[i]; f.End == end && f.Start == 0 && f.Unit != "shares" {
			count[f.Unit]++
		}
	}
	best := ""
	for unit, n := range count {
		if n > count[best] || n == count[best] && unit < best {
			best = unit
		}
	}
	return best
}

func (b *book) add(f market.Fact, currency string) {
	if f.Unit != currency {
		return
	}
	key := nameOf(&f)
	l := b.lines[key]
	if l == nil {
		l = &line{map[market.Date]market.Fact{}, map[market.Date]market.Fact{}, map[market.Date]market.Fact{}}
		b.lines[key] = l
	}
	switch f.Period() {
	case market.Instant:
		l.instants[f.End] = f
	case market.Quarter:
		l.quarters[f.End] = f
	case market.Year:
		l.years[f.End] = f
	case market.OtherPeriod, market.Half, market.NineMonths:
	}
}

// linesOf returns what the concepts of a measure say, the preferred one first.
func (b *book) linesOf(m market.Measure) []*line {
	var lines []*line
	for _, c := range market.Concepts() {
		if l := b.lines[c.Taxonomy+":"+c.Name]; c.Measure == m && l != nil {
			lines = append(lines, l)
		}
	}
	return lines
}

// at returns an item of the newest balance sheet.
func (b *book) at(m market.Measure) (market.Fact, bool) {
	for _, l := range b.linesOf(m) {
		if f, ok := l.instants[b.end]; ok {
			return f, true
		}
	}
	return market.Fact{}, false
}

// debt returns the items of the newest balance sheet that add up to the debt,
// as [market.TotalDebt] says; none if no debt is reported, or only that which
// is due within a year: the rest may stand under a name that is not known
// here. A part that is not reported beside the long one counts as zero, since
// filers leave out empty lines.
func (b *book) debt() []market.Fact {
	pick := func(measures ...market.Measure) (parts []market.Fact) {
		for _, m := range measures {
			if f, ok := b.at(m); ok {
				parts = append(parts, f)
			}
		}
		return parts
	}
	if total := pick(market.TotalDebt); total != nil {
		return total
	}
	due := pick(market.DebtDue)
	if long := pick(market.LongDebt); long != nil {
		if due != nil {
			return append(long, due...)
		}
		return append(long, pick(market.LongDebtDue, market.Borrowings)...)
	}
	all := pick(market.LongDebtAll)
	if all == nil {
		return nil
	}
	borrowings, longDue := pick(market.Borrowings), pick(market.LongDebtDue)
	if borrowings == nil && due != nil && longDue != nil {
		// What is due within a year holds the long debt's part of it.
		rest := due[0]
		rest.Value -= longDue[0].Value
		borrowings = []market.Fact{rest}
	}
	return append(all, borrowings...)
}

// lastYear returns the year that ends with the newest balance sheet, or the
// four quarters that do; none if neither is known.
func (b *book) lastYear(m market.Measure) []market.Fact {
	for _, l := range b.linesOf(m) {
		if year, ok := l.years[b.end]; ok {
			return []market.Fact{year}
		}
		var quarters []market.Fact
		for end := b.end; len(quarters) < 4; end = quarters[len(quarters)-1].Start - 1 {
			q, ok := l.quarters[end]
			if !ok {
				break
			}
			quarters = append(quarters, q)
		}
		if len(quarters) == 4 {
			return quarters
		}
	}
	return nil
}

// yearApart returns the quarter that ends with the newest balance sheet and
// the one a year before, of the same concept.
func (b *book) yearApart(m market.Measure) (now, before market.Fact, ok bool) {
	for _, l := range b.linesOf(m) {
		now, ok = l.quarters[b.end]
		for apart := market.Date(yearApartMin); ok && apart <= yearApartMax; apart++ {
			if before, found := l.quarters[b.end-apart]; found {
				return now, before, true
			}
		}
	}
	return market.Fact{}, market.Fact{}, false
}

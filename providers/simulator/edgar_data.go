package simulator

import (
	"fmt"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// CIK returns the number of the issuer behind a symbol: a pure function, the
// same for all share classes of one issuer.
func CIK(symbol market.Symbol) int {
	root, _, _ := strings.Cut(string(symbol), ".")
	return 1 + int(hash(market.Symbol(root))%999_999_999)
}

// firstYear is the fiscal year with which every issuer's reports begin.
const firstYear = 2015

// concept is a row of the simulated reports.
type concept struct {
	taxonomy, name, unit string
	shape                conceptShape
	// from and through bound the fiscal years in which the name is used; 0
	// means no bound.
	from, through int
}

type conceptShape uint8

const (
	balance  conceptShape = iota // of a day
	flow                         // of a quarter and of the year so far
	cashFlow                     // of the year so far alone
	perShare                     // like flow, in cents
	cover                        // of a day some time after the period
	ratio                        // of a day, a decimal
)

// concepts are those of every issuer.
func concepts() []concept {
	const gaap = "us-gaap"
	return []concept{
		{"dei", "EntityCommonStockSharesOutstanding", "shares", cover, 0, 0},
		{gaap, "Assets", "USD", balance, 0, 0},
		{gaap, "AssetsCurrent", "USD", balance, 0, 0},
		{gaap, "EarningsPerShareDiluted", "USD/shares", perShare, 0, 0},
		{gaap, "EffectiveIncomeTaxRateContinuingOperations", "pure", ratio, 0, 0},
		{gaap, "Liabilities", "USD", balance, 0, 0},
		{gaap, "LiabilitiesCurrent", "USD", balance, 0, 0},
		{gaap, "LongTermDebtNoncurrent", "USD", balance, 0, 0},
		{gaap, "LongTermDebtNoncurrent", "EUR", balance, 0, 0},
		{gaap, "NetCashProvidedByUsedInOperatingActivities", "USD", cashFlow, 0, 0},
		{gaap, "NetIncomeLoss", "USD", flow, 0, 0},
		{gaap, "NumberOfOperatingSegments", "segment", balance, 0, 0},
		{gaap, "PaymentsOfDividends", "USD", cashFlow, 0, 0},
		{gaap, "RevenueFromContractWithCustomerExcludingAssessedTax", "USD", flow, 2018, 0},
		{gaap, "SalesRevenueNet", "USD", flow, 0, 2017},
		{gaap, "StockholdersEquity", "USD", balance, 0, 0},
	}
}

// filing is one report.
type filing struct {
	year, quarter int
	filed         market.Date
	form          string
	accession     string
}

// filings returns an issuer's reports through a day: three 10-Q and a 10-K a
// fiscal year, and in some years a 10-K/A that restates the year.
func filings(cik int, day market.Date) []filing {
	var all []filing
	add := func(year, quarter int, form string, after market.Date) {
		f := filing{year: year, quarter: quarter, form: form, filed: fiscalEnd(cik, year, quarter) + after}
		number := year*10 + quarter
		if strings.HasSuffix(form, "/A") {
			number++
		}
		f.accession = fmt.Sprintf("%010d-%02d-%06d", cik, f.filed.Year()%100, number)
		if f.filed <= day {
			all = append(all, f)
		}
	}
	for year := firstYear; fiscalEnd(cik, year, 1) < day; year++ {
		for quarter := 1; quarter <= 3; quarter++ {
			add(year, quarter, "10-Q", 35)
		}
		add(year, 4, "10-K", 50)
		if isRestated(cik, year) {
			add(year, 4, "10-K/A", restatedAfter)
		}
	}
	return all
}

const restatedAfter = 110

// isRestated is true for every third fiscal year or so.
func isRestated(cik, year int) bool { return mix(uint64(cik)<<16+uint64(year))%3 == 0 }

// fiscalEnd returns the last day of a fiscal quarter. The fiscal year of half
// of the issuers is the calendar's, that of the others ends in September, June
// or March.
func fiscalEnd(cik, year, quarter int) market.Date {
	shift := max(0, cik%6-2) * 3
	return market.NewDate(year, time.Month(quarter*3-shift+1), 0)
}

func fiscalStart(cik, year, quarter int) market.Date { return fiscalEnd(cik, year, quarter-1) + 1 }

// Facts returns what the simulator has of an issuer on a day: a pure function,
// in order of taxonomy, concept and unit, and by filing. Quarters add up to
// their year; a restated year shows in every filing after the restatement.
func Facts(cik int, day market.Date) []market.Fact {
	var facts []market.Fact
	reports := filings(cik, day)
	for i, c := range concepts() {
		facts = append(facts, c.facts(cik, uint64(i), reports)...)
	}
	return facts
}

// facts returns all that the reports say about one concept.
func (c concept) facts(cik int, number uint64, reports []filing) []market.Fact {
	var facts []market.Fact
	for _, f := range reports {
		for _, back := range f.years() {
			year := f.year - back
			if year < firstYear-2 || c.from > year || c.through > 0 && c.through < year {
				continue
			}
			for _, fact := range c.of(cik, number, f, year) {
				fact.CIK, fact.Taxonomy, fact.Concept, fact.Unit = cik, c.taxonomy, c.name, c.unit
				fact.Accession, fact.Form, fact.Filed = f.accession, f.form, f.filed
				facts = append(facts, fact)
			}
		}
	}
	return facts
}

// years returns how many years back the columns of a report go.
func (f filing) years() []int {
	if f.quarter == 4 {
		return []int{2, 1, 0}
	}
	return []int{1, 0}
}

// of returns the columns of one year in a report: period and value.
func (c concept) of(cik int, number uint64, f filing, year int) []market.Fact {
	first := f.quarter // of the shortest period
	end := fiscalEnd(cik, year, f.quarter)
	switch c.shape {
	case balance, ratio:
		if f.year != year {
			end, first = fiscalEnd(cik, year, 4), 4
		}
		return []market.Fact{{End: end, Value: c.value(cik, number, f, year, first, first)}}
	case cover:
		if f.year != year {
			return nil
		}
		return []market.Fact{{End: end + 20, Value: c.value(cik, number, f, year, first, first)}}
	}
	whole := market.Fact{Start: fiscalStart(cik, year, 1), End: end, Value: c.value(cik, number, f, year, 1, first)}
	if c.shape == cashFlow || f.quarter == 1 || f.quarter == 4 {
		return []market.Fact{whole}
	}
	quarter := market.Fact{Start: fiscalStart(cik, year, first), End: end, Value: c.value(cik, number, f, year, first, first)}
	return []market.Fact{quarter, whole}
}

// value returns the sum over the quarters of a year, as a report shows it.
func (c concept) value(cik int, number uint64, f filing, year, from, through int) float64 {
	restated := isRestated(cik, year) && f.filed >= fiscalEnd(cik, year, 4)+restatedAfter
	sum := int64(0)
	for quarter := from; quarter <= through; quarter++ {
		sum += c.amount(mix(uint64(cik)*31+number), year, quarter, restated)
	}
	if c.shape == perShare || c.shape == ratio {
		return float64(sum) / 100
	}
	return float64(sum)
}

// amount is a quarter's figure, in cents where it is one per share. One in
// eight is a loss, where there can be one.
func (c concept) amount(seed uint64, year, quarter int, restated bool) int64 {
	r := mix(seed ^ uint64(year*4+quarter))
	if c.shape == ratio || c.name == "NumberOfOperatingSegments" {
		return 1 + int64(r%40)
	}
	base := int64(1_000_000 + seed%9_000_000_000)
	if c.shape == perShare {
		base = 40 + int64(seed%400)
	}
	v := base + base/20*int64(year-firstYear) + int64(r>>8)%(base/8)
	if restated {
		v += v / 50
	}
	if r%8 == 0 && strings.Contains(c.name, "Income") {
		v = -v
	}
	return v
}

// issuer is a row group of the ticker file.
type issuer struct {
	cik     int
	symbols []market.Symbol
}

// issuers groups symbols by their issuer, in the order of the symbols.
func issuers(symbols []market.Symbol) []issuer {
	var all []issuer
	at := map[int]int{}
	for _, s := range symbols {
		cik := CIK(s)
		i, known := at[cik]
		if !known {
			i = len(all)
			at[cik] = i
			all = append(all, issuer{cik: cik})
		}
		all[i].symbols = append(all[i].symbols, s)
	}
	return all
}

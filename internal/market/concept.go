package market

import "sync"

// Measure is what a concept measures, whatever the name that a filer gives it.
type Measure string

// The measures that ratios are computed from. Those of a day are items of the
// balance sheet; those of a period are sums over it.
const (
	Assets             Measure = "assets"              // a day
	Liabilities        Measure = "liabilities"         // a day
	Equity             Measure = "equity"              // a day
	CurrentAssets      Measure = "current_assets"      // a day
	CurrentLiabilities Measure = "current_liabilities" // a day
	// TotalDebt is all debt in one figure. Where it is missing, debt is
	// LongDebt and DebtDue, the parts that are due after a year and within
	// it. Where DebtDue is missing, it is LongDebtDue and Borrowings; where
	// LongDebt is missing, LongDebtAll holds it and LongDebtDue.
	TotalDebt   Measure = "total_debt"    // a day
	LongDebt    Measure = "long_debt"     // a day
	DebtDue     Measure = "debt_due"      // a day
	LongDebtDue Measure = "long_debt_due" // a day
	LongDebtAll Measure = "long_debt_all" // a day
	Borrowings  Measure = "borrowings"    // a day
	Cash        Measure = "cash"          // a day
	Shares      Measure = "shares"        // a day: the cover page's, not the period's end

	Revenue         Measure = "revenue"          // a period
	NetIncome       Measure = "net_income"       // a period
	OperatingIncome Measure = "operating_income" // a period
	// Depreciation with OperatingIncome gives EBITDA.
	Depreciation      Measure = "depreciation"        // a period
	EPSDiluted        Measure = "eps_diluted"         // a period
	OperatingCashFlow Measure = "operating_cash_flow" // a period
	// Dividends are those paid in cash, DividendsPerShare those declared.
	Dividends         Measure = "dividends"           // a period
	DividendsPerShare Measure = "dividends_per_share" // a period
)

// Concept is one name under which filers report a measure.
type Concept struct {
	Measure        Measure
	Taxonomy, Name string
	// Unit is the unit of the figures that count; "" is the currency that
	// the issuer reports in.
	Unit string
}

// Concepts returns the one list of the concepts that ratios need. Filers
// choose among several names for a measure, and change their choice over the
// years: the order within a measure is the order of preference, for each
// period anew. To need another figure, add a line.
func Concepts() []Concept {
	const (
		gaap     = "us-gaap"
		dei      = "dei"
		shares   = "shares"
		perShare = "USD/shares"
	)
	return []Concept{
		{Assets, gaap, "Assets", ""},
		{Liabilities, gaap, "Liabilities", ""},
		{Equity, gaap, "StockholdersEquity", ""},
		{Equity, gaap, "StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest", ""},
		{CurrentAssets, gaap, "AssetsCurrent", ""},
		{CurrentLiabilities, gaap, "LiabilitiesCurrent", ""},
		{TotalDebt, gaap, "DebtLongtermAndShorttermCombinedAmount", ""},
		{LongDebt, gaap, "LongTermDebtNoncurrent", ""},
		{LongDebt, gaap, "LongTermDebtAndCapitalLeaseObligations", ""},
		{DebtDue, gaap, "DebtCurrent", ""},
		{LongDebtDue, gaap, "LongTermDebtCurrent", ""},
		{LongDebtDue, gaap, "LongTermDebtAndCapitalLeaseObligationsCurrent", ""},
		{LongDebtAll, gaap, "LongTermDebt", ""},
		{LongDebtAll, gaap, "LongTermDebtAndCapitalLeaseObligationsIncludingCurrentMaturities", ""},
		{Borrowings, gaap, "ShortTermBorrowings", ""},
		{Borrowings, gaap, "CommercialPaper", ""},
		{Cash, gaap, "CashAndCashEquivalentsAtCarryingValue", ""},
		{Cash, gaap, "CashCashEquivalentsRestrictedCashAndRestrictedCashEquivalents", ""},
		{Shares, dei, "EntityCommonStockSharesOutstanding", shares},
		{Shares, gaap, "CommonStockSharesOutstanding", shares},

		{Revenue, gaap, "Revenues", ""},
		// Since 2018; beside Revenues it is a part of them.
		{Revenue, gaap, "RevenueFromContractWithCustomerExcludingAssessedTax", ""},
		{Revenue, gaap, "RevenueFromContractWithCustomerIncludingAssessedTax", ""},
		{Revenue, gaap, "SalesRevenueNet", ""}, // until 2018
		{Revenue, gaap, "SalesRevenueGoodsNet", ""},
		{Revenue, gaap, "RevenuesNetOfInterestExpense", ""}, // banks
		{NetIncome, gaap, "NetIncomeLoss", ""},
		{NetIncome, gaap, "NetIncomeLossAvailableToCommonStockholdersBasic", ""},
		{NetIncome, gaap, "ProfitLoss", ""}, // with the part of minority owners
		{OperatingIncome, gaap, "OperatingIncomeLoss", ""},
		{Depreciation, gaap, "DepreciationDepletionAndAmortization", ""},
		{Depreciation, gaap, "DepreciationAmortizationAndAccretionNet", ""},
		{Depreciation, gaap, "DepreciationAndAmortization", ""},
		{EPSDiluted, gaap, "EarningsPerShareDiluted", perShare},
		{EPSDiluted, gaap, "EarningsPerShareBasicAndDiluted", perShare},
		{OperatingCashFlow, gaap, "NetCashProvidedByUsedInOperatingActivities", ""},
		{OperatingCashFlow, gaap, "NetCashProvidedByUsedInOperatingActivitiesContinuingOperations", ""},
		{Dividends, gaap, "PaymentsOfDividendsCommonStock", ""},
		{Dividends, gaap, "PaymentsOfDividends", ""},
		{DividendsPerShare, gaap, "CommonStockDividendsPerShareDeclared", perShare},
		{DividendsPerShare, gaap, "CommonStockDividendsPerShareCashPaid", perShare},
	}
}

// conceptNames holds the names of Concepts by their taxonomy.
var conceptNames = sync.OnceValue(func() map[string]map[string]bool {
	byTaxonomy := map[string]map[string]bool{}
	for _, c := range Concepts() {
		if byTaxonomy[c.Taxonomy] == nil {
			byTaxonomy[c.Taxonomy] = map[string]bool{}
		}
		byTaxonomy[c.Taxonomy][c.Name] = true
	}
	return byTaxonomy
})

// IsNeeded reports whether a concept is one of [Concepts].
func IsNeeded(taxonomy, concept string) bool { return conceptNames()[taxonomy][concept] }

package fundamentals_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
)

var (
	today   = market.NewDate(2026, time.March, 12)
	yearEnd = market.NewDate(2025, time.December, 31)
	filed   = market.NewDate(2026, time.February, 2)
)

// fact is one of a day, in USD, from the annual report.
func fact(concept string, value float64) market.Fact {
	return market.Fact{
		CIK: 320193, Taxonomy: "us-gaap", Concept: concept, Unit: "USD", End: yearEnd, Value: value,
		Accession: "0000320193-26-000001", Form: "10-K", Filed: filed,
	}
}

// over is one of a period, filed 33 days after its end.
func over(concept string, start, end market.Date, value float64) market.Fact {
	f := fact(concept, value)
	f.Start, f.End, f.Filed = start, end, end+33
	return f
}

func quarter(concept string, year int, number int, value float64) market.Fact {
	start := market.NewDate(year, time.Month(3*number-2), 1)
	end := market.NewDate(year, time.Month(3*number+1), 1) - 1
	if number == 4 {
		end = market.NewDate(year, time.December, 31)
	}
	return over(concept, start, end, value)
}

func year(concept string, n int, value float64) market.Fact {
	return over(concept, market.NewDate(n, time.January, 1), market.NewDate(n, time.December, 31), value)
}

func TestRatios(t *testing.T) {
	t.Parallel()
	const (
		debt, ratio, roe, revenue, income = market.DebtToEquity, market.CurrentRatio, market.ROE, market.RevenueGrowth, market.EarningsGrowth
	)
	equity := fact("StockholdersEquity", 200)
	restated := fact("StockholdersEquity", 100)
	restated.Accession, restated.Form, restated.Filed = "0000320193-26-000009", "10-K/A", today-1
	euro := fact("StockholdersEquity", 180)
	euro.Unit = "EUR"
	cover := fact("Assets", 1)
	cover.End = yearEnd + 40
	typo, opening, empty := fact("StockholdersEquity", 1), fact("StockholdersEquity", 2), fact("AssetsCurrent", 3)
	typo.End, opening.End = market.NewDate(2035, time.December, 31), yearEnd+1
	empty.CIK, empty.Filed = 9, filed+9
	other := fact("StockholdersEquity", 1)
	other.CIK, other.Filed = 7, filed-100
	for name, tc := range map[string]struct {
		facts []market.Fact
		day   market.Date
		want  map[market.Field]float64
	}{
		"nothing":              {nil, today, nil},
		"total debt":           {[]market.Fact{equity, fact("DebtLongtermAndShorttermCombinedAmount", 50), fact("LongTermDebtNoncurrent", 1)}, today, map[market.Field]float64{debt: 0.25}},
		"long and due":         {[]market.Fact{equity, fact("LongTermDebtNoncurrent", 30), fact("DebtCurrent", 10), fact("LongTermDebtCurrent", 9), fact("ShortTermBorrowings", 1)}, today, map[market.Field]float64{debt: 0.2}},
		"parts of what is due": {[]market.Fact{equity, fact("LongTermDebtNoncurrent", 30), fact("LongTermDebtCurrent", 9), fact("CommercialPaper", 1)}, today, map[market.Field]float64{debt: 0.2}},
		"long in one figure":   {[]market.Fact{equity, fact("LongTermDebt", 39), fact("LongTermDebtCurrent", 9), fact("CommercialPaper", 1)}, today, map[market.Field]float64{debt: 0.2}},
		"only what is due":     {[]market.Fact{equity, fact("LongTermDebtCurrent", 9), fact("CommercialPaper", 1)}, today, nil},
		"long, and all that is due": {[]market.Fact{
			equity, fact("LongTermDebt", 39), fact("LongTermDebtCurrent", 9), fact("DebtCurrent", 10),
		}, today, map[market.Field]float64{debt: 0.2}},
		"powers of ten":                    {[]market.Fact{fact("StockholdersEquity", 1e-300), fact("LongTermDebtNoncurrent", 1e300)}, today, nil},
		"equity of a later day":            {[]market.Fact{equity, typo, opening, fact("Assets", 500), fact("LongTermDebtNoncurrent", 30)}, today, map[market.Field]float64{debt: 0.15}},
		"a new registrant without a sheet": {[]market.Fact{equity, empty, fact("LongTermDebtNoncurrent", 30)}, today, map[market.Field]float64{debt: 0.15}},
		"no debt reported":                 {[]market.Fact{equity}, today, nil},
		"negative equity":                  {[]market.Fact{fact("StockholdersEquity", -5), fact("LongTermDebtNoncurrent", 30)}, today, nil},
		"current":                          {[]market.Fact{equity, fact("AssetsCurrent", 150), fact("LiabilitiesCurrent", 100)}, today, map[market.Field]float64{ratio: 1.5}},
		"one side only":                    {[]market.Fact{equity, fact("AssetsCurrent", 150)}, today, nil},
		"not yet filed":                    {[]market.Fact{equity, fact("LongTermDebtNoncurrent", 30)}, filed - 1, nil},
		"restated":                         {[]market.Fact{equity, restated, fact("LongTermDebtNoncurrent", 30)}, today, map[market.Field]float64{debt: 0.3}},
		"before the restatement":           {[]market.Fact{equity, restated, fact("LongTermDebtNoncurrent", 30)}, today - 2, map[market.Field]float64{debt: 0.15}},
		"another currency":                 {[]market.Fact{equity, euro, fact("LongTermDebtNoncurrent", 30)}, today, map[market.Field]float64{debt: 0.15}},
		"a later cover page":               {[]market.Fact{equity, cover, fact("LongTermDebtNoncurrent", 30)}, today, map[market.Field]float64{debt: 0.15}},
		"an earlier issuer":                {[]market.Fact{equity, other, fact("LongTermDebtNoncurrent", 30)}, today, map[market.Field]float64{debt: 0.15}},
		"too old":                          {[]market.Fact{equity, fact("LongTermDebtNoncurrent", 30)}, yearEnd + 461, nil},
		"old enough":                       {[]market.Fact{equity, fact("LongTermDebtNoncurrent", 30)}, yearEnd + 460, map[market.Field]float64{debt: 0.15}},
		"year's income":                    {[]market.Fact{equity, year("NetIncomeLoss", 2025, 50)}, today, map[market.Field]float64{roe: 0.25}},
		"four quarters": {[]market.Fact{
			equity, quarter("NetIncomeLoss", 2025, 1, 10), quarter("NetIncomeLoss", 2025, 2, 10), quarter("NetIncomeLoss", 2025, 3, 10), quarter("NetIncomeLoss", 2025, 4, 20),
		}, today, map[market.Field]float64{roe: 0.25}},
		"three quarters": {[]market.Fact{
			equity, quarter("NetIncomeLoss", 2025, 2, 10), quarter("NetIncomeLoss", 2025, 3, 10), quarter("NetIncomeLoss", 2025, 4, 20),
		}, today, nil},
		"growth": {[]market.Fact{
			equity, quarter("Revenues", 2024, 4, 100), quarter("Revenues", 2025, 4, 110),
			quarter("NetIncomeLoss", 2024, 4, -10), quarter("NetIncomeLoss", 2025, 4, 5),
		}, today, map[market.Field]float64{revenue: 0.1}},
		"growth of a derived quarter": {[]market.Fact{
			equity, quarter("NetIncomeLoss", 2024, 4, 10),
			year("NetIncomeLoss", 2025, 50), over("NetIncomeLoss", market.NewDate(2025, 1, 1), market.NewDate(2025, 9, 30), 35),
		}, today, map[market.Field]float64{roe: 0.25, income: 0.5}},
		"growth of the whole": {[]market.Fact{
			equity, quarter("Revenues", 2024, 4, 1000), quarter("Revenues", 2025, 4, 1200),
			quarter("RevenueFromContractWithCustomerExcludingAssessedTax", 2024, 4, 100), quarter("RevenueFromContractWithCustomerExcludingAssessedTax", 2025, 4, 50),
		}, today, map[market.Field]float64{revenue: 0.2}},
		"growth across names": {[]market.Fact{
			equity, quarter("SalesRevenueNet", 2024, 4, 100), quarter("Revenues", 2025, 4, 110),
		}, today, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := fundamentals.Ratios(tc.facts, tc.day)
			got := map[market.Field]float64{}
			for _, f := range market.Fields() {
				if row.Figures[f].Known {
					got[f] = math.Round(1e9*row.Figures[f].Value) / 1e9
				}
			}
			if tc.want == nil {
				tc.want = map[market.Field]float64{}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRatiosSayWhereTheyComeFrom(t *testing.T) {
	t.Parallel()
	late := fact("LongTermDebtNoncurrent", 30)
	late.Filed = filed + 5
	row := fundamentals.Ratios([]market.Fact{fact("StockholdersEquity", 200), late}, today)
	want := market.Origin{Source: "edgar", Filed: filed + 5, Period: yearEnd, Computed: true}
	if got := row.Figures[market.DebtToEquity].Origin; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

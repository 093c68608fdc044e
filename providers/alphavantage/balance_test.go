package alphavantage_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

func balanced(body string) (alphavantage.BalanceSheet, error) {
	return answering(strings.NewReader(body)).BalanceSheet(context.Background(), "AAPL")
}

func reportsOf(annual, quarterly string) string {
	return lists("annualReports", annual, "quarterlyReports", quarterly)
}

// report writes a row of a date, equity, current assets and liabilities, and
// more entries.
func report(date, equity, assets, liabilities string, more ...string) string {
	return fmt.Sprintf(`{"fiscalDateEnding": %q, "totalShareholderEquity": %q, "totalCurrentAssets": %q, "totalCurrentLiabilities": %q%s}`,
		date, equity, assets, liabilities, strings.Join(append([]string{""}, more...), ", "))
}

func TestNewestBalanceSheets(t *testing.T) {
	t.Parallel()
	sheet, err := balanced(reportsOf(
		report("2024-09-30", "1", "1", "1")+","+report("2025-09-30", "-50", "None", "3", `"reportedCurrency": "None"`),
		report("2025-12-31", "100", "-", "40", `"reportedCurrency": "EUR"`, `"shortLongTermDebtTotal": "25000000000001"`, `"inventory": "x"`)+","+
			report("2025-09-30", "1", "1", "1"),
	))
	want := alphavantage.BalanceSheet{
		Symbol: "AAPL", Source: "alpha_vantage",
		Quarterly: alphavantage.Balance{
			FiscalEnd: market.NewDate(2025, 12, 31), Currency: "EUR",
			TotalDebt: known(25000000000001), Equity: known(100), CurrentLiabilities: known(40),
		},
		Annual: alphavantage.Balance{FiscalEnd: market.NewDate(2025, 9, 30), Equity: known(-50), CurrentLiabilities: known(3)},
	}
	if diff := cmp.Diff(want, sheet); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestBalanceRatios(t *testing.T) {
	t.Parallel()
	const total, short, current, long = `"shortLongTermDebtTotal": `, `"shortTermDebt": `, `"currentDebt": `, `"longTermDebtNoncurrent": `
	const null = -1
	for name, tc := range map[string]struct {
		row           string
		debt, current float64
	}{
		"both":                  {report("2025-12-31", "100", "30", "20", total+`"150"`, short+`"1"`, long+`"1"`), 1.5, 1.5},
		"parts":                 {report("2025-12-31", "100", "30", "20", total+`"None"`, short+`"10"`, current+`"5"`, long+`"40"`), 0.5, 1.5},
		"other name of a part":  {report("2025-12-31", "100", "30", "20", short+`"-"`, current+`"5"`, long+`"40"`), 0.45, 1.5},
		"short part missing":    {report("2025-12-31", "100", "30", "20", long+`"40"`), null, 1.5},
		"long part missing":     {report("2025-12-31", "100", "30", "20", short+`"40"`, `"longTermDebt": "3"`), null, 1.5},
		"no debt":               {report("2025-12-31", "100", "30", "20", total+`"0"`), 0, 1.5},
		"negative debt":         {report("2025-12-31", "100", "30", "20", total+`"-5"`), null, 1.5},
		"negative equity":       {report("2025-12-31", "-100", "30", "20", total+`"150"`), null, 1.5},
		"no equity":             {report("2025-12-31", "0", "30", "20", total+`"150"`), null, 1.5},
		"unknown equity":        {report("2025-12-31", "None", "30", "20", total+`"150"`), null, 1.5},
		"no current assets":     {report("2025-12-31", "100", "0", "20", total+`"150"`), 1.5, null},
		"unknown assets":        {report("2025-12-31", "100", "None", "20", total+`"150"`), 1.5, null},
		"no liabilities":        {report("2025-12-31", "100", "30", "0", total+`"150"`), 1.5, null},
		"negative liabilities":  {report("2025-12-31", "100", "30", "-2", total+`"150"`), 1.5, null},
		"the older is no help":  {report("2025-12-31", "None", "None", "None", total+`"1"`) + "," + report("2025-09-30", "1", "1", "1", total+`"1"`), null, null},
		"the newest comes last": {report("2025-09-30", "1", "1", "1") + "," + report("2025-12-31", "100", "30", "20", total+`"150"`), 1.5, 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sheet, err := balanced(reportsOf(report("2025-12-31", "7", "7", "7", total+`"7"`), tc.row))
			if err != nil {
				t.Fatal(err)
			}
			figure := func(v float64) market.Figure {
				if v == null {
					return market.Figure{}
				}
				return market.Figure{Value: v, Known: true, Origin: market.Origin{
					Source: "alpha_vantage", Period: market.NewDate(2025, 12, 31), Computed: true,
				}}
			}
			want := market.Fundamentals{Symbol: "AAPL"}
			want.Figures[market.DebtToEquity], want.Figures[market.CurrentRatio] = figure(tc.debt), figure(tc.current)
			if diff := cmp.Diff(want, sheet.Fundamentals()); diff != "" {
				t.Error(diff)
			}
		})
	}
	row := alphavantage.BalanceSheet{}.Fundamentals()
	if !row.Empty() {
		t.Errorf("ratios of nothing: %+v", row)
	}
}

func TestBadBalanceSheets(t *testing.T) {
	t.Parallel()
	wrap := func(rows string) string { return reportsOf("", rows) }
	cases := badReports(wrap, report("2025-12-31", "7", "1", "1"), "totalShareholderEquity")
	cases["nothing but null"] = badReport{
		reportsOf(report("2025-12-31", "None", "-", ""), report("2025-12-31", "None", "None", "None")), providers.NoData, "holds no balance sheet",
	}
	cases["bad year"] = badReport{reportsOf(report("2025-12-31", "1", "x", "1"), ""), providers.BadPayload, "row 1 of annualReports: totalCurrentAssets is no plain"}
	cases["bad old row"] = badReport{wrap(report("2025-12-31", "1", "1", "1") + "," + report("2025-09-30", "1", "1", "x")), providers.BadPayload, "row 2 of quarterlyReports: totalCurrentLiabilities"}
	cases["bad debt"] = badReport{wrap(report("2025-12-31", "1", "1", "1", `"shortLongTermDebtTotal": "1.5M"`)), providers.BadPayload, "shortLongTermDebtTotal is no plain"}
	cases["conflicting years"] = badReport{reportsOf(report("2025-12-31", "1", "1", "1")+","+report("2025-12-31", "2", "1", "1"), ""), providers.BadPayload, "two rows of 2025-12-31"}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sheet, err := balanced(tc.body)
			wantRefusal(t, err, tc.kind, "alpha_vantage: balance sheet AAPL: ", tc.says)
			if sheet != (alphavantage.BalanceSheet{}) {
				t.Errorf("%+v came with the error", sheet)
			}
		})
	}
}

package alphavantage

import (
	"context"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// BalanceSheet are the newest balance sheets of a symbol as the provider has
// them now.
type BalanceSheet struct {
	Symbol market.Symbol
	Source string
	// Quarterly and Annual are the newest of each kind; one without a
	// FiscalEnd is not there.
	Quarterly, Annual Balance
}

// Balance is what a balance sheet says about debt and liquidity, in whole units
// of Currency. A 0 is a figure here, and an amount can be negative.
type Balance struct {
	FiscalEnd market.Date
	// Currency is that of the report, as USD; "" if the provider does not
	// say.
	Currency string
	// TotalDebt is the interest-bearing debt. It is shortLongTermDebtTotal,
	// or, where that is null, the sum of what is due within a year
	// (shortTermDebt, else currentDebt) and after it
	// (longTermDebtNoncurrent), if both are known.
	TotalDebt                         Number
	Equity                            Number // of the shareholders
	CurrentAssets, CurrentLiabilities Number
}

func (b Balance) end() market.Date { return b.FiscalEnd }

func (b Balance) empty() bool {
	return !b.TotalDebt.Known && !b.Equity.Known && !b.CurrentAssets.Known && !b.CurrentLiabilities.Known
}

// BalanceSheet returns the newest balance sheets of s. All rows of the answer
// are checked.
//
// The error is as [Client.DailyBars] says; an answer whose newest rows hold
// nothing is of kind NoData.
func (c *Client) BalanceSheet(ctx context.Context, s market.Symbol) (sheet BalanceSheet, err error) {
	err = c.report(ctx, "BALANCE_SHEET", "balance sheet", s, func(src *wire.Body) (err error) {
		sheet, err = decodeBalanceSheet(src, s, c.o.Source)
		return err
	})
	return sheet, err
}

func decodeBalanceSheet(src *wire.Body, s market.Symbol, from string) (BalanceSheet, error) {
	var annual, quarterly []Balance
	err := decodeReports(src, s, map[string]func(*fields) error{
		"annualReports":    func(f *fields) error { annual = append(annual, f.balance()); return f.err },
		"quarterlyReports": func(f *fields) error { quarterly = append(quarterly, f.balance()); return f.err },
	})
	if err != nil {
		return BalanceSheet{}, err
	}
	sheet := BalanceSheet{Symbol: s, Source: from}
	if sheet.Annual, err = newest(annual); err != nil {
		return BalanceSheet{}, err
	}
	if sheet.Quarterly, err = newest(quarterly); err != nil {
		return BalanceSheet{}, err
	}
	if sheet.Annual.empty() && sheet.Quarterly.empty() {
		return BalanceSheet{}, found(providers.NoData, "the answer holds no balance sheet")
	}
	return sheet, nil
}

// newest returns the newest of rows, and a zero Balance of none.
func newest(rows []Balance) (Balance, error) {
	rows, err := newestFirst(rows)
	if err != nil || len(rows) == 0 {
		return Balance{}, err
	}
	return rows[0], nil
}

func (f *fields) balance() Balance {
	f.need("totalShareholderEquity", "totalCurrentAssets", "totalCurrentLiabilities")
	b := Balance{
		FiscalEnd: f.fiscalEnd(), TotalDebt: f.debt(), Equity: f.number("totalShareholderEquity"),
		CurrentAssets: f.number("totalCurrentAssets"), CurrentLiabilities: f.number("totalCurrentLiabilities"),
	}
	b.Currency, _ = f.take("reportedCurrency")
	return b
}

func (f *fields) debt() Number {
	total, long := f.number("shortLongTermDebtTotal"), f.number("longTermDebtNoncurrent")
	due, current := f.number("shortTermDebt"), f.number("currentDebt")
	if !due.Known {
		due = current
	}
	switch {
	case total.Known:
		return total
	case long.Known && due.Known:
		return Number{long.Value + due.Value, true}
	}
	return Number{}
}

// Ratios returns the total debt over the equity and the current assets over the
// current liabilities of the newest quarterly report. A ratio is null where one
// side is null, the divisor is not above 0, the debt is negative or the assets
// are not above 0. The provider does not say when the report became public.
func (b BalanceSheet) Ratios() (debtToEquity, currentRatio market.Figure) {
	q := b.Quarterly
	ratio := func(over, under Number) market.Figure {
		if !over.Known || !under.Known || over.Value < 0 || under.Value <= 0 {
			return market.Figure{}
		}
		return market.Figure{
			Value: over.Value / under.Value, Known: true,
			Origin: market.Origin{Source: b.Source, Period: q.FiscalEnd, Computed: true},
		}
	}
	if currentRatio = ratio(q.CurrentAssets, q.CurrentLiabilities); currentRatio.Value == 0 {
		currentRatio = market.Figure{}
	}
	return ratio(q.TotalDebt, q.Equity), currentRatio
}

// Fundamentals returns the row that holds [BalanceSheet.Ratios] and nothing
// else. Its Date is zero.
func (b BalanceSheet) Fundamentals() market.Fundamentals {
	row := market.Fundamentals{Symbol: b.Symbol}
	row.Figures[market.DebtToEquity], row.Figures[market.CurrentRatio] = b.Ratios()
	return row
}

package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/finra"
)

// The functions of Alpha Vantage that fundamentals can be made of.
const (
	overview     = "overview"
	earnings     = "earnings"
	balanceSheet = "balance_sheet"
)

// filer asks the SEC. It looks the issuers of all symbols up once.
type filer struct {
	client *edgar.Client

	mu      sync.Mutex
	tickers edgar.Tickers
}

// Facts implements fundamentals.Filer.
func (f *filer) Facts(ctx context.Context, symbol market.Symbol) ([]market.Fact, error) {
	cik, err := f.issuer(ctx, symbol)
	if err != nil {
		return nil, err
	}
	var facts []market.Fact
	_, err = f.client.Facts(ctx, cik, market.IsNeeded, func(fact market.Fact) error {
		facts = append(facts, fact)
		return nil
	})
	return facts, err
}

func (f *filer) issuer(ctx context.Context, symbol market.Symbol) (int, error) {
	issuers, err := f.Issuers(ctx)
	if err != nil {
		return 0, err
	}
	cik, ok := issuers[symbol]
	if !ok {
		return 0, &providers.Error{
			Provider: edgar.Name, Op: "issuer of " + string(symbol), Kind: providers.UnknownSymbol,
			Err: fmt.Errorf("the SEC's list of %d symbols does not hold it", len(issuers)),
		}
	}
	return cik, nil
}

// Issuers implements altdata.Filings. The map is not to be changed.
func (f *filer) Issuers(ctx context.Context) (map[market.Symbol]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tickers.CIK) == 0 {
		tickers, err := f.client.Tickers(ctx, f.tickers)
		if err != nil {
			return nil, err
		}
		f.tickers = tickers
	}
	return f.tickers.CIK, nil
}

// Day implements altdata.Filings.
func (f *filer) Day(ctx context.Context, day market.Date) (all []market.ListedFiling, notes []string, err error) {
	summary, err := f.client.DailyIndex(ctx, day, ofInsiders, listInto(&all))
	return all, oddRows(summary), err
}

// Quarter implements altdata.Filings.
func (f *filer) Quarter(ctx context.Context, year, quarter int) (all []market.ListedFiling, notes []string, err error) {
	summary, err := f.client.QuarterlyIndex(ctx, year, quarter, ofInsiders, listInto(&all))
	return all, oddRows(summary), err
}

func oddRows(s edgar.IndexSummary) []string {
	if s.Odd == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d rows of %d are left out, the first since %s", s.Odd, s.Odd+s.Wanted, s.OddReason)}
}

func ofInsiders(form string, _ int) bool { return market.IsInsiderForm(form) }

func listInto(all *[]market.ListedFiling) func(edgar.IndexRow) error {
	return func(row edgar.IndexRow) error {
		*all = append(*all, market.ListedFiling(row))
		return nil
	}
}

// Filing implements altdata.Filings.
func (f *filer) Filing(ctx context.Context, listed market.ListedFiling) (market.InsiderFiling, error) {
	return f.client.Filing(ctx, edgar.IndexRow(listed))
}

// shorts asks FINRA.
type shorts struct{ client *finra.Client }

// ShortInterest implements altdata.Shorts.
func (s shorts) ShortInterest(ctx context.Context, settlement market.Date, symbols []market.Symbol) (rows []market.ShortInterest, notes []string, err error) {
	summary, err := s.client.ShortInterest(ctx, settlement, symbols, func(row market.ShortInterest) error {
		rows = append(rows, row)
		return nil
	})
	for _, c := range summary.Collisions {
		notes = append(notes, fmt.Sprintf("FINRA's %s is left out, it may be any of %v: %s", c.Code, c.Symbols, c.Reason))
	}
	if n := len(summary.Missing); n > 0 && err == nil {
		notes = append(notes, fmt.Sprintf("FINRA has none of %d symbols, such as %s", n, summary.Missing[0]))
	}
	return rows, notes, err
}

// earningsFigures asks Alpha Vantage for earnings alone.
type earningsFigures struct{ client *alphavantage.Client }

// Overview implements fundamentals.Overviews.
func (e earningsFigures) Overview(ctx context.Context, symbol market.Symbol) (market.Fundamentals, error) {
	earnings, err := e.client.Earnings(ctx, symbol)
	return earnings.Fundamentals(), err
}

// balanceFigures asks Alpha Vantage for a balance sheet alone.
type balanceFigures struct{ client *alphavantage.Client }

// Overview implements fundamentals.Overviews.
func (b balanceFigures) Overview(ctx context.Context, symbol market.Symbol) (market.Fundamentals, error) {
	sheet, err := b.client.BalanceSheet(ctx, symbol)
	return sheet.Fundamentals(), err
}

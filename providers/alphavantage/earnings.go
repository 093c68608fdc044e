package alphavantage

import (
	"context"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// Earnings are the earnings per share of a symbol as the provider has them now,
// in the currency that the company reports in.
type Earnings struct {
	Symbol market.Symbol
	Source string
	// Quarterly are the fiscal quarters, the newest first. One whose figures
	// are still expected can be the first, without EPS.
	Quarterly []QuarterlyEarnings
	annual    []AnnualEarnings
}

// AnnualEarnings are those of a fiscal year.
type AnnualEarnings struct {
	FiscalEnd market.Date
	EPS       Number
}

// QuarterlyEarnings are those of a fiscal quarter.
type QuarterlyEarnings struct {
	FiscalEnd market.Date
	// Reported is the day on which they became public, or are expected to;
	// zero if the provider does not say.
	Reported market.Date
	EPS      Number
	// Estimate is what analysts expected, Surprise is EPS less Estimate, and
	// SurprisePercent is that in percent of Estimate.
	Estimate, Surprise, SurprisePercent Number
	// ReportTime is pre-market or post-market, "" if the provider does not
	// say.
	ReportTime string
}

func (a AnnualEarnings) end() market.Date    { return a.FiscalEnd }
func (q QuarterlyEarnings) end() market.Date { return q.FiscalEnd }

// Earnings returns the earnings of s. A 0 is a figure here.
//
// The error is as [Client.DailyBars] says; an answer without any EPS is of kind
// NoData.
func (c *Client) Earnings(ctx context.Context, s market.Symbol) (all Earnings, err error) {
	err = c.report(ctx, "EARNINGS", "earnings", s, func(src *wire.Body) (err error) {
		all, err = decodeEarnings(src, s, c.o.Source)
		return err
	})
	return all, err
}

func decodeEarnings(src *wire.Body, s market.Symbol, from string) (Earnings, error) {
	e := Earnings{Symbol: s, Source: from}
	known := false
	err := decodeReports(src, s, map[string]func(*fields) error{
		"annualEarnings": func(f *fields) error {
			f.need("reportedEPS")
			row := AnnualEarnings{FiscalEnd: f.fiscalEnd(), EPS: f.number("reportedEPS")}
			known = known || row.EPS.Known
			e.annual = append(e.annual, row)
			return f.err
		},
		"quarterlyEarnings": func(f *fields) error {
			row := f.quarter()
			known = known || row.EPS.Known
			e.Quarterly = append(e.Quarterly, row)
			return f.err
		},
	})
	if err == nil {
		e.annual, err = newestFirst(e.annual)
	}
	if err == nil {
		e.Quarterly, err = newestFirst(e.Quarterly)
	}
	switch {
	case err != nil:
		return Earnings{}, err
	case !known:
		return Earnings{}, found(providers.NoData, "the answer holds no earnings")
	}
	return e, nil
}

func (f *fields) quarter() QuarterlyEarnings {
	f.need("reportedEPS")
	q := QuarterlyEarnings{
		FiscalEnd: f.fiscalEnd(), Reported: f.date("reportedDate"), EPS: f.number("reportedEPS"),
		Estimate: f.number("estimatedEPS"), Surprise: f.number("surprise"), SurprisePercent: f.number("surprisePercentage"),
	}
	q.ReportTime, _ = f.take("reportTime")
	return q
}

// overhang is how many days after the end of a month a fiscal year of 52 or 53
// weeks can end that is named after the month.
const overhang = 3

// Annual returns the fiscal years, the newest first, and how many rows were left
// out. yearEnd is the month in which the fiscal year ends, such as
// [FiscalYearEnd] finds it; if it is 0, the second row's month counts.
//
// A row of another month is left out: the provider can begin with the year that
// is still running, whose EPS is that of some quarters. So is the only row when
// nothing tells its month.
func (e Earnings) Annual(yearEnd time.Month) (rows []AnnualEarnings, dropped int) {
	month := func(row AnnualEarnings) time.Month { return (row.FiscalEnd - overhang).Time().Month() }
	if yearEnd == 0 && len(e.annual) > 1 {
		yearEnd = month(e.annual[1])
	}
	for _, row := range e.annual {
		if month(row) == yearEnd {
			rows = append(rows, row)
		}
	}
	return rows, len(e.annual) - len(rows)
}

// A quarter ends as many days after the same one of the year before.
const (
	minYear = 357
	maxYear = 378
)

// EarningsGrowth returns the EPS of the newest quarter that has one, over that
// of the same quarter a year before, less 1. It is null if that is unknown or
// not above 0.
func (e Earnings) EarningsGrowth() market.Figure {
	var newest *QuarterlyEarnings
	for i := range e.Quarterly {
		q := &e.Quarterly[i]
		if newest == nil && q.EPS.Known {
			newest = q
		}
		if newest == nil || !q.EPS.Known || q.EPS.Value <= 0 {
			continue
		}
		if apart := newest.FiscalEnd - q.FiscalEnd; apart >= minYear && apart <= maxYear {
			return market.Figure{
				Value: newest.EPS.Value/q.EPS.Value - 1, Known: true,
				Origin: market.Origin{Source: e.Source, Filed: newest.Reported, Period: newest.FiscalEnd, Computed: true},
			}
		}
	}
	return market.Figure{}
}

// Fundamentals returns the row that holds [Earnings.EarningsGrowth] and nothing
// else. Its Date is zero.
func (e Earnings) Fundamentals() market.Fundamentals {
	row := market.Fundamentals{Symbol: e.Symbol}
	row.Figures[market.EarningsGrowth] = e.EarningsGrowth()
	return row
}

package simulator

import (
	"slices"
	"strconv"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// alphaVantage is the source of the figures that come from /query.
	alphaVantage = "alpha_vantage"
	// firstReport is the fiscal year with which earnings and balance sheets
	// begin.
	firstReport = 2010
)

// isFund reports whether symbol is a fund, or none at all: it has no OVERVIEW,
// EARNINGS or BALANCE_SHEET.
func (c Config) isFund(symbol market.Symbol) bool {
	return slices.Contains([]market.Symbol{"", "SPY", "QQQ", "IVV", "VOO"}, symbol) || slices.Contains(c.Funds, symbol)
}

// quarter is a fiscal quarter.
type quarter struct {
	year, number  int
	end, reported market.Date
}

// quarters returns the quarters that symbol has reported by date, the newest
// first. The fiscal year is that of the issuer at EDGAR.
func quarters(symbol market.Symbol, date market.Date) []quarter {
	var all []quarter
	for year := date.Year() + 1; year >= firstReport; year-- {
		for number := 4; number >= 1; number-- {
			if q := newQuarter(symbol, year, number); q.reported <= date {
				all = append(all, q)
			}
		}
	}
	return all
}

func newQuarter(symbol market.Symbol, year, number int) quarter {
	end := fiscalEnd(CIK(symbol), year, number)
	return quarter{year, number, end, end + 20 + market.Date(draw(symbol, "reported", end)%25)}
}

// next returns the quarter after q.
func (q quarter) next(symbol market.Symbol) quarter {
	return newQuarter(symbol, q.year+q.number/4, q.number%4+1)
}

// draw is a random number that belongs to a figure of a symbol and a day.
func draw(symbol market.Symbol, figure string, day market.Date) uint64 {
	return mix(hash(symbol) ^ hash(market.Symbol(figure))*0x9e3779b97f4a7c15 ^ uint64(day))
}

// orNull is null for one draw in twelve, else the value in units of 1/scale.
func orNull(symbol market.Symbol, name string, day market.Date, value, scale int64) market.Figure {
	if draw(symbol, name+" is null", day)%12 == 0 {
		return market.Figure{}
	}
	return market.Figure{Value: float64(value) / float64(scale), Known: true}
}

// EarningsRow is a row of EARNINGS. Figures have no origin; one that is not
// known is null.
type EarningsRow struct {
	FiscalEnd, Reported market.Date // Reported of a quarter alone
	EPS, Estimate       market.Figure
	cents, expected     int64
}

// EarningsRows are those of a symbol on a day, the newest first.
type EarningsRows struct {
	// Annual are the whole fiscal years. Running, if FiscalEnd is set, is
	// what the provider writes before them for a third of the symbols: the
	// year that has not ended, as if it ended with the newest quarter.
	Annual    []EarningsRow
	Running   EarningsRow
	Quarterly []EarningsRow
}

// Earnings returns what the simulator's EARNINGS has of a symbol on a date: a
// pure function of the two. The first quarter of some symbols is over and not
// reported yet, without EPS.
func Earnings(symbol market.Symbol, date market.Date) EarningsRows {
	var all EarningsRows
	reported := quarters(symbol, date)
	if len(reported) == 0 {
		return all
	}
	newest := reported[0]
	if next := newest.next(symbol); draw(symbol, "upcoming", 0)%4 == 0 && next.end <= date {
		row := earningsRow(symbol, next)
		row.EPS = market.Figure{}
		all.Quarterly = append(all.Quarterly, row)
	}
	sum := int64(0)
	for i := len(reported) - 1; i >= 0; i-- {
		sum += earningsRow(symbol, reported[i]).cents
		if reported[i].number == 4 {
			all.Annual = append([]EarningsRow{annualRow(symbol, reported[i], sum)}, all.Annual...)
			sum = 0
		}
	}
	if newest.number != 4 && draw(symbol, "running", 0)%3 == 0 {
		all.Running = annualRow(symbol, newest, sum)
	}
	for _, q := range reported {
		all.Quarterly = append(all.Quarterly, earningsRow(symbol, q))
	}
	return all
}

func annualRow(symbol market.Symbol, q quarter, cents int64) EarningsRow {
	return EarningsRow{FiscalEnd: q.end, EPS: orNull(symbol, "annual EPS", q.end, cents, 100)}
}

// earningsRow makes a loss of one quarter in twenty, which the year does not make
// up for.
func earningsRow(symbol market.Symbol, q quarter) EarningsRow {
	base := 1 + usual(symbol)/8_000 // 20 times the earnings of a year or so
	cents := base + base*int64(q.year-firstReport)/20 + int64(draw(symbol, "EPS", q.end)%uint64(base))/2
	if draw(symbol, "loss", q.end)%20 == 0 {
		cents *= -4
	}
	expected := cents + pick(draw(symbol, "surprise", q.end), -9, 9)
	return EarningsRow{
		FiscalEnd: q.end, Reported: q.reported, cents: cents, expected: expected,
		EPS:      orNull(symbol, "EPS", q.end, cents, 100),
		Estimate: orNull(symbol, "estimate", q.end, expected, 100),
	}
}

// BalanceRow is a row of BALANCE_SHEET, in dollars. Figures have no origin; one
// that is not known is null. TotalDebt is ShortDebt and LongDebt where all three
// are known.
type BalanceRow struct {
	FiscalEnd                         market.Date
	TotalDebt, ShortDebt, LongDebt    market.Figure
	Equity                            market.Figure
	CurrentAssets, CurrentLiabilities market.Figure
}

// Balances returns what the simulator's BALANCE_SHEET has of a symbol on a date,
// the newest first: a pure function of the two. One equity in sixteen is
// negative.
func Balances(symbol market.Symbol, date market.Date) (annual, quarterly []BalanceRow) {
	for _, q := range quarters(symbol, date) {
		row := balanceRow(symbol, q.end)
		quarterly = append(quarterly, row)
		if q.number == 4 {
			annual = append(annual, row)
		}
	}
	return annual, quarterly
}

func balanceRow(symbol market.Symbol, end market.Date) BalanceRow {
	dollars := func(name string, most uint64) int64 { return 1_000_000 + int64(draw(symbol, name, end)%most) }
	short, long, equity := dollars("short debt", 2e9), dollars("long debt", 30e9), dollars("equity", 40e9)
	if draw(symbol, "deficit", end)%16 == 0 {
		equity = -equity / 4
	}
	row := func(name string, v int64) market.Figure { return orNull(symbol, name, end, v, 1) }
	return BalanceRow{
		FiscalEnd: end, TotalDebt: row("debt", short+long), ShortDebt: row("short debt", short), LongDebt: row("long debt", long),
		Equity: row("equity", equity), CurrentAssets: row("assets", dollars("assets", 20e9)),
		CurrentLiabilities: row("liabilities", dollars("liabilities", 15e9)),
	}
}

// Overview returns what the simulator's OVERVIEW has of a symbol on a date, as a
// reader of the wire is to understand it: a pure function of the two. Date is
// zero, the source is alpha_vantage, Details are without what is null and
// without the description. Debt to equity and the current ratio are not there.
func Overview(symbol market.Symbol, date market.Date) market.Fundamentals {
	row := market.Fundamentals{Symbol: symbol}
	reported := quarters(symbol, date)
	if len(reported) == 0 {
		return row
	}
	end := reported[0].end
	origin := market.Origin{Source: alphaVantage, Period: end}
	for f, v := range figures(symbol, date, reported) {
		name := market.Field(f).String()
		if v == 0 && market.Field(f) != market.DividendYield {
			continue
		}
		scale := int64(10_000)
		if market.Field(f) == market.MarketCap {
			scale = 1
		}
		known := orNull(symbol, name, end, v, scale)
		if known.Known {
			known.Origin = origin
		}
		row.Figures[f] = known
	}
	sector, industry := trade(symbol)
	row.Sector = market.Label{Text: sector, Origin: origin}
	row.Industry = market.Label{Text: industry, Origin: origin}
	if draw(symbol, "industry", 0)%12 == 0 {
		row.Industry = market.Label{}
	}
	row.Details = map[string]string{}
	for _, e := range besides(symbol, date, reported) {
		if e.text != "" && e.name != "Description" {
			row.Details[e.name] = e.text
		}
	}
	return row
}

// figures are those of the answer before some become null, in ten-thousandths but
// for the market capitalisation, which is in dollars; 0 where the answer has
// none. Those of the last quarter change with it, those with a price every day.
func figures(symbol market.Symbol, date market.Date, reported []quarter) (v [market.NumFields]int64) {
	seed, end := hash(symbol), reported[0].end
	cents := int64(0)
	for _, q := range reported[:min(4, len(reported))] {
		cents += earningsRow(symbol, q).cents
	}
	price := newWalk(symbol).level(date)
	if cents != 0 {
		v[market.PERatio] = price * 100 / cents
	}
	ratio := func(least, span uint64) int64 { return int64(least+seed%span) * price / usual(symbol) }
	v[market.PBRatio] = ratio(5_000, 80_000)
	v[market.PSRatio] = ratio(3_000, 100_000)
	v[market.EVEBITDA] = ratio(40_000, 200_000)
	v[market.ROE] = pick(draw(symbol, "ROE", end), -2_000, 4_500)
	v[market.RevenueGrowth] = pick(draw(symbol, "revenue growth", end), -300, 400) * 10
	v[market.EarningsGrowth] = pick(draw(symbol, "earnings growth", end), -900, 1_200) * 10
	v[market.DividendYield] = max(0, pick(draw(symbol, "dividend", 0), -300, 600))
	v[market.MarketCap] = price * shares(symbol) / 10_000
	return v
}

// usual is a level of the price that the others wander about.
func usual(symbol market.Symbol) int64 { return newWalk(symbol).level(market.NewDate(2015, 1, 1)) }

// shares are all that there are: 10 million to 10 billion.
func shares(symbol market.Symbol) int64 { return int64(1e7 + hash(symbol)%1e10) }

// trade returns sector and industry in their one spelling.
func trade(symbol market.Symbol) (sector, industry string) {
	trades := [...][2]string{
		{"Technology", "Software - Infrastructure"},
		{"Healthcare", "Drug Manufacturers - General"},
		{"Energy", "Oil & Gas E&P"},
		{"Real Estate", "Reit - Retail"},
		{"Financial Services", "Banks - Diversified"},
		{"Consumer Cyclical", "Internet Retail"},
		{"Consumer Defensive", "Beverages - Non-Alcoholic"},
		{"Utilities", "Utilities - Regulated Electric"},
		{"Industrials", "Aerospace & Defense"},
		{"Basic Materials", "Specialty Chemicals"},
		{"Communication Services", "Telecom Services"},
	}
	t := trades[draw(symbol, "trade", 0)%uint64(len(trades))]
	return t[0], t[1]
}

// Computed returns the figures that follow from [Earnings] and [Balances]: the
// growth of the earnings per share of the last reported quarter, debt to equity
// and the current ratio. Date is zero.
func Computed(symbol market.Symbol, date market.Date) market.Fundamentals {
	row := market.Fundamentals{Symbol: symbol}
	set := func(f market.Field, value float64, filed, period market.Date) {
		row.Figures[f] = market.Figure{Value: value, Known: true, Origin: market.Origin{
			Source: alphaVantage, Filed: filed, Period: period, Computed: true,
		}}
	}
	var last EarningsRow
	for _, q := range Earnings(symbol, date).Quarterly {
		if last.FiscalEnd == 0 && q.EPS.Known {
			last = q
		}
		y, m, _ := last.FiscalEnd.Time().Date()
		yearBefore := market.NewDate(y-1, m+1, 0)
		if last.FiscalEnd != 0 && q.FiscalEnd == yearBefore && q.EPS.Known && q.EPS.Value > 0 {
			set(market.EarningsGrowth, last.EPS.Value/q.EPS.Value-1, last.Reported, last.FiscalEnd)
		}
	}
	if _, balances := Balances(symbol, date); len(balances) > 0 {
		b := balances[0]
		debt := b.TotalDebt
		if !debt.Known && b.ShortDebt.Known && b.LongDebt.Known {
			debt = market.Figure{Value: b.ShortDebt.Value + b.LongDebt.Value, Known: true}
		}
		if debt.Known && b.Equity.Known && b.Equity.Value > 0 {
			set(market.DebtToEquity, debt.Value/b.Equity.Value, 0, b.FiscalEnd)
		}
		if b.CurrentAssets.Known && b.CurrentLiabilities.Known {
			set(market.CurrentRatio, b.CurrentAssets.Value/b.CurrentLiabilities.Value, 0, b.FiscalEnd)
		}
	}
	return row
}

// besides are the other names of an OVERVIEW; one without a text is null.
func besides(symbol market.Symbol, date market.Date, reported []quarter) []entry {
	end, text := reported[0].end, func(v int64, scale float64) string { return figure(float64(v) / scale) }
	dividend, dividendDay := figures(symbol, date, reported)[market.DividendYield], ""
	if dividend > 0 {
		dividendDay = (end + 45).String()
	}
	price := newWalk(symbol).level(date)
	return []entry{
		{name: "AssetType", text: "Common Stock"},
		{name: "Name", text: string(symbol) + " Corporation"},
		{name: "Description", text: strings.TrimSpace(strings.Repeat("It makes, sells and services things. ", 40))},
		{name: "CIK", text: strconv.Itoa(CIK(symbol))},
		{name: "Exchange", text: "NYSE"},
		{name: "Currency", text: "USD"},
		{name: "Country", text: "USA"},
		{name: "Address", text: "1 MAIN STREET, SPRINGFIELD, US"},
		{name: "FiscalYearEnd", text: fiscalEnd(CIK(symbol), date.Year(), 4).Time().Month().String()},
		{name: "EBITDA", text: text(price*shares(symbol)/200_000, 1)},
		{name: "EPS", text: text(earningsRow(symbol, reported[0]).cents*4, 100)},
		{name: "ForwardPE"},
		{name: "Beta", text: text(int64(300+hash(symbol)%1_500), 1_000)},
		{name: "52WeekHigh", text: text(price*5/4, 10_000)},
		{name: "SharesOutstanding", text: text(shares(symbol), 1)},
		{name: "DividendDate", text: dividendDay},
	}
}

package simulator

import (
	"net/http"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// The functions of /query besides the daily bars.
const (
	overviewFunction = "OVERVIEW"
	earningsFunction = "EARNINGS"
	balanceFunction  = "BALANCE_SHEET"
)

// statementFunctions are those whose answer is a [statement].
func statementFunctions() []string {
	return []string{overviewFunction, earningsFunction, balanceFunction}
}

func isStatement(function string) bool { return slices.Contains(statementFunctions(), function) }

// entry is a name and its value as it is written.
type entry struct {
	name, text string
	bare       bool // without quotes
}

type record []entry

// statement is an answer before it is written: one record, or the symbol and
// two lists of records.
type statement struct {
	top   record
	lists []list
}

type list struct {
	name string
	rows []record
}

// statement returns what a question gets: nothing for a fund.
func (a reply) statement() *statement {
	q := a.question
	if a.s.c.isFund(q.symbol) {
		return &statement{}
	}
	switch q.function {
	case overviewFunction:
		return &statement{top: overviewRecord(q.asked, q.symbol, q.through)}
	case earningsFunction:
		return earningsStatement(q.asked, q.symbol, q.through)
	case balanceFunction:
		return balanceStatement(q.asked, q.symbol, q.through)
	}
	return &statement{}
}

func (a reply) report() { a.send(http.StatusOK, "application/json", a.statement().json()) }

// wire writes what the provider writes in one of its ways to write null.
type wire struct {
	symbol market.Symbol
	day    market.Date
}

// null picks the way by the figure's name.
func (w wire) null(name string, ways ...string) string {
	return ways[draw(w.symbol, "null of "+name, w.day)%uint64(len(ways))]
}

func (w wire) number(name string, f market.Figure) entry {
	if !f.Known {
		return entry{name: name, text: w.null(name, "None", "-", "")}
	}
	return entry{name: name, text: figure(f.Value)}
}

// ratio is a number that the provider also writes as 0 for null.
func (w wire) ratio(name string, f market.Figure) entry {
	if !f.Known {
		return entry{name: name, text: w.null(name, "None", "-", "", "0")}
	}
	return w.number(name, f)
}

// label writes in capitals for every other symbol, as the provider did for all
// in some years.
func (w wire) label(name, text string) entry {
	text = strings.Replace(text, "Reit", "REIT", 1)
	switch {
	case text == "":
		text = w.null(name, "None", "NONE", "-", "")
	case draw(w.symbol, "capitals", 0)%2 == 0:
		text = strings.ToUpper(text)
	}
	return entry{name: name, text: text}
}

func overviewRecord(asked string, symbol market.Symbol, date market.Date) record {
	row := Overview(symbol, date)
	reported := quarters(symbol, date)
	if len(reported) == 0 {
		return nil
	}
	w := wire{symbol, reported[0].end}
	r := record{{name: "Symbol", text: asked}}
	for _, e := range besides(symbol, date, reported) {
		if e.text == "" {
			e.text = w.null(e.name, "None", "-", "", "0000-00-00")
		}
		r = append(r, e)
	}
	r = append(
		r, w.label("Sector", row.Sector.Text), w.label("Industry", row.Industry.Text),
		entry{name: "LatestQuarter", text: reported[0].end.String()},
		w.number("DividendYield", row.Figures[market.DividendYield]),
	)
	for _, c := range [...]struct {
		name  string
		field market.Field
	}{
		{"MarketCapitalization", market.MarketCap},
		{"PERatio", market.PERatio},
		{"ReturnOnEquityTTM", market.ROE},
		{"QuarterlyEarningsGrowthYOY", market.EarningsGrowth},
		{"QuarterlyRevenueGrowthYOY", market.RevenueGrowth},
		{"PriceToSalesRatioTTM", market.PSRatio},
		{"PriceToBookRatio", market.PBRatio},
		{"EVToEBITDA", market.EVEBITDA},
	} {
		r = append(r, w.ratio(c.name, row.Figures[c.field]))
	}
	return r
}

func earningsStatement(asked string, symbol market.Symbol, date market.Date) *statement {
	all := Earnings(symbol, date)
	if all.Running.FiscalEnd != 0 {
		all.Annual = append([]EarningsRow{all.Running}, all.Annual...)
	}
	var annual, quarterly []record
	for _, row := range all.Annual {
		w := wire{symbol, row.FiscalEnd}
		annual = append(annual, record{{name: "fiscalDateEnding", text: row.FiscalEnd.String()}, w.number("reportedEPS", row.EPS)})
	}
	for _, row := range all.Quarterly {
		quarterly = append(quarterly, earningsRecord(symbol, row))
	}
	return &statement{
		top:   record{{name: "symbol", text: asked}},
		lists: []list{{"annualEarnings", annual}, {"quarterlyEarnings", quarterly}},
	}
}

func earningsRecord(symbol market.Symbol, row EarningsRow) record {
	w := wire{symbol, row.FiscalEnd}
	var surprise, percent market.Figure
	if row.EPS.Known && row.Estimate.Known {
		surprise = market.Figure{Value: float64(row.cents-row.expected) / 100, Known: true}
		if row.expected != 0 {
			percent = market.Figure{Value: float64((row.cents-row.expected)*1_000_000/row.expected) / 10_000, Known: true}
		}
	}
	return record{
		{name: "fiscalDateEnding", text: row.FiscalEnd.String()},
		{name: "reportedDate", text: row.Reported.String()},
		w.number("reportedEPS", row.EPS),
		w.number("estimatedEPS", row.Estimate),
		w.number("surprise", surprise),
		w.number("surprisePercentage", percent),
		{name: "reportTime", text: w.null("reportTime", "pre-market", "post-market")},
	}
}

func balanceStatement(asked string, symbol market.Symbol, date market.Date) *statement {
	records := func(rows []BalanceRow) (all []record) {
		for _, row := range rows {
			all = append(all, balanceRecord(symbol, row))
		}
		return all
	}
	annual, quarterly := Balances(symbol, date)
	return &statement{
		top:   record{{name: "symbol", text: asked}},
		lists: []list{{"annualReports", records(annual)}, {"quarterlyReports", records(quarterly)}},
	}
}

func balanceRecord(symbol market.Symbol, row BalanceRow) record {
	w := wire{symbol, row.FiscalEnd}
	return record{
		{name: "fiscalDateEnding", text: row.FiscalEnd.String()},
		{name: "reportedCurrency", text: "USD"},
		w.number("totalAssets", market.Figure{}),
		w.number("totalCurrentAssets", row.CurrentAssets),
		w.number("inventory", market.Figure{}),
		w.number("totalCurrentLiabilities", row.CurrentLiabilities),
		w.number("currentDebt", market.Figure{}),
		w.number("shortTermDebt", row.ShortDebt),
		w.number("longTermDebtNoncurrent", row.LongDebt),
		w.number("shortLongTermDebtTotal", row.TotalDebt),
		w.number("totalShareholderEquity", row.Equity),
		w.number("commonStockSharesOutstanding", market.Figure{Value: float64(shares(symbol)), Known: true}),
	}
}

// json writes the statement with four blanks of indent, every value a text.
func (s *statement) json() []byte {
	if len(s.top) == 0 {
		return []byte("{}")
	}
	b := append([]byte("{\n"), s.top.json("    ")...)
	for _, l := range s.lists {
		b = append(b, ",\n    \""+l.name+"\": ["...)
		for i, r := range l.rows {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, "\n        {\n"...)
			b = append(b, r.json("            ")...)
			b = append(b, "\n        }"...)
		}
		if len(l.rows) > 0 {
			b = append(b, "\n    "...)
		}
		b = append(b, ']')
	}
	return append(b, "\n}"...)
}

func (r record) json(indent string) []byte {
	var b []byte
	for i, e := range r {
		if i > 0 {
			b = append(b, ",\n"...)
		}
		if e.bare {
			b = append(b, indent+`"`+e.name+`": `+e.text...)
		} else {
			b = pair(b, indent, e.name, e.text, "")
		}
	}
	return b
}

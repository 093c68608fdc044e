package alphavantage

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// column says under which name a figure stands in an OVERVIEW.
type column struct {
	name  string
	field market.Field
	// zero says that 0 is a figure.
	zero bool
}

func columns() []column {
	return []column{
		{"PERatio", market.PERatio, false},
		{"PriceToBookRatio", market.PBRatio, false},
		{"PriceToSalesRatioTTM", market.PSRatio, false},
		{"EVToEBITDA", market.EVEBITDA, false},
		{"ReturnOnEquityTTM", market.ROE, false},
		{"QuarterlyRevenueGrowthYOY", market.RevenueGrowth, false},
		{"QuarterlyEarningsGrowthYOY", market.EarningsGrowth, false},
		{"DividendYield", market.DividendYield, true},
		{"MarketCapitalization", market.MarketCap, false},
	}
}

// Overview returns the key figures of s: all but debt to equity and the current
// ratio, which the answer does not hold. Ratios are fractions, of any sign and
// as they come. Date is left zero. The Period of all of it is the provider's
// latest quarter, also of a figure with today's price in it.
//
// None, -, 0000-00-00 and an empty text are null. So is 0, which the provider
// writes for what it does not have: nothing is worth 0 times its earnings, and
// a growth or a return of exactly 0 is rarer than a missing one. A dividend
// yield of 0 is a figure.
//
// Sector and Industry begin each word with a capital and have no other, as in
// "Oil & Gas E&P" and "Reit - Retail", with one blank where there are blanks:
// the provider has written them in capitals in some years and not in others.
//
// Details are the other names that the provider sends, which change over the
// years, with what is not null. The description is left out, and so are texts
// of more than 500 bytes, objects and arrays.
//
// The error is as [Client.DailyBars] says; an answer without a figure, a sector
// or an industry is of kind NoData. That of a fund is.
func (c *Client) Overview(ctx context.Context, s market.Symbol) (row market.Fundamentals, err error) {
	err = c.report(ctx, "OVERVIEW", "overview", s, func(src *wire.Body) (err error) {
		row, err = decodeOverview(src, s, c.o.Source)
		return err
	})
	return row, err
}

// FiscalYearEnd returns the month in which the fiscal year ends, by the Details
// of an overview; 0 if they do not tell.
func FiscalYearEnd(overview market.Fundamentals) time.Month {
	for m := time.January; m <= time.December; m++ {
		if strings.EqualFold(overview.Details["FiscalYearEnd"], m.String()) {
			return m
		}
	}
	return 0
}

func decodeOverview(src *wire.Body, s market.Symbol, from string) (market.Fundamentals, error) {
	var none market.Fundamentals
	dec := jsontext.NewDecoder(src)
	f, err := readFields(dec, src, "the answer")
	if err == nil {
		err = wire.End(dec)
	}
	if err != nil {
		return none, err
	}
	if len(f.values) == 0 {
		return none, found(providers.NoData, "an answer without data")
	}
	for name := range f.values {
		if isMessage(name) {
			return none, errMessage
		}
	}
	row, err := f.overview(s, from)
	switch {
	case err != nil:
		return none, err
	case row.Empty():
		return none, found(providers.NoData, "the answer holds no figure, sector or industry")
	}
	return row, nil
}

func (f *fields) overview(s market.Symbol, from string) (market.Fundamentals, error) {
	row := market.Fundamentals{Symbol: s}
	symbol, ok := f.take("Symbol")
	if f.err == nil && !ok {
		return row, errors.New("no Symbol")
	}
	if err := checkSymbol(symbol, s); f.err == nil && err != nil {
		return row, err
	}
	origin := market.Origin{Source: from, Period: f.date("LatestQuarter")}
	for _, c := range columns() {
		if n := f.number(c.name); n.Known && (n.Value != 0 || c.zero) {
			row.Figures[c.field] = market.Figure{Value: n.Value, Known: true, Origin: origin}
		}
	}
	row.Sector = f.label("Sector", origin)
	row.Industry = f.label("Industry", origin)
	delete(f.values, "Description")
	row.Details = f.rest()
	return row, f.err
}

// label reads a text that is one of few.
func (f *fields) label(name string, origin market.Origin) market.Label {
	text, ok := f.take(name)
	if text = capitalised(text); !ok || text == "" || text == "0" {
		return market.Label{}
	}
	return market.Label{Text: text, Origin: origin}
}

// capitalised is a function of the letters alone, not of their case.
func capitalised(text string) string {
	inWord := false
	spell := func(r rune) rune {
		r = unicode.ToUpper(r)
		if inWord && unicode.IsLetter(r) {
			return unicode.ToLower(r)
		}
		inWord = unicode.IsLetter(r) || inWord && r == '\''
		return r
	}
	return strings.Map(spell, strings.Join(strings.Fields(text), " "))
}

// rest returns what nobody has taken and can be kept; nil if there is nothing.
func (f *fields) rest() map[string]string {
	var rest map[string]string
	for name, v := range f.values {
		composite := v.kind == jsontext.KindBeginObject || v.kind == jsontext.KindBeginArray
		if composite || v.long || v.isNull() {
			continue
		}
		if rest == nil {
			rest = make(map[string]string, len(f.values))
		}
		rest[name] = v.text
	}
	return rest
}

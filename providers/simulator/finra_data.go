package simulator

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// FirstSettlement is the first settlement date that the simulator's FINRA has,
// as the real one.
func FirstSettlement() market.Date { return market.NewDate(2017, time.December, 29) }

// halfMonth numbers the settlement dates: two a month.
func halfMonth(settlement market.Date) uint64 {
	year, month, day := settlement.Time().Date()
	half := uint64(year*24 + int(month)*2)
	if day > 15 {
		half++
	}
	return half
}

// seedOf is a random number for a symbol and a settlement date.
func seedOf(symbol market.Symbol, half uint64) uint64 {
	return mix(hash(symbol) ^ half*0x9e3779b97f4a7c15)
}

// firstShares is a short interest as it is first published; it is zero now and
// then.
func firstShares(symbol market.Symbol, half uint64) int64 {
	r := seedOf(symbol, half)
	if r%61 == 0 {
		return 0
	}
	level := int64(10_000 + hash(symbol)%150_000_000)
	return level/2 + int64(r>>8)%level
}

// Revision returns the short interest of a settlement date as the date after it
// gives it; ok is false if it was not revised. It is a pure function.
func Revision(symbol market.Symbol, settlement market.Date) (shares int64, ok bool) {
	return revision(symbol, halfMonth(settlement))
}

func revision(symbol market.Symbol, half uint64) (shares int64, ok bool) {
	shares = firstShares(symbol, half)
	if shares == 0 || seedOf(symbol, half)>>4%19 != 0 {
		return shares, false
	}
	return shares + shares/50 + 1, true
}

// ShortInterest returns what the simulator has of a symbol at a settlement
// date, as it is first published: a pure function of the two. The rows are
// normal and hold what makes real ones hard to read: no volume, nothing to
// compare with, a ratio above FINRA's greatest, revisions and splits.
func ShortInterest(symbol market.Symbol, settlement market.Date) market.ShortInterest {
	half := halfMonth(settlement)
	before, revised := revision(symbol, half-1)
	s := market.ShortInterest{
		Symbol: symbol, Settlement: settlement, Shares: firstShares(symbol, half),
		AvgDailyVolume: market.Count{Value: meanVolume(symbol, half), Known: true},
	}
	if revised {
		s.RevisionFlag = "R"
	}
	if seedOf(symbol, half)>>12%71 == 0 {
		s.SplitFlag = "S"
		before *= 2
	}
	s.Previous = market.Count{Value: before, Known: true}
	const most = 999.99
	if s.AvgDailyVolume.Value == 0 || float64(s.Shares)/float64(s.AvgDailyVolume.Value) >= most {
		s.DaysToCover = market.Ratio{Value: most, Known: true}
	}
	if before == 0 {
		s.ChangePct = market.Ratio{Value: 100, Known: true}
	}
	return s.Normal()
}

func meanVolume(symbol market.Symbol, half uint64) int64 {
	r := seedOf(symbol, half) >> 20
	switch {
	case r%53 == 0:
		return 0
	case r%59 == 0:
		return 1
	}
	return 1000 + int64(r)%60_000_000
}

// finraField is one value of a row as it is written: JSON text, so that faults
// can write what no number can hold.
type finraField struct{ name, value string }

type finraRow []finraField

func (r finraRow) index(name string) int {
	for i := range r {
		if r[i].name == name {
			return i
		}
	}
	return -1
}

func (r finraRow) set(name, value string) {
	if i := r.index(name); i >= 0 {
		r[i].value = value
	}
}

// get returns a value, a text without its quotes.
func (r finraRow) get(name string) string {
	i := r.index(name)
	if i < 0 {
		return ""
	}
	var text string
	if json.Unmarshal([]byte(r[i].value), &text) == nil && r[i].value != "null" {
		return text
	}
	return r[i].value
}

// toFINRARow writes a row in FINRA's way. The names are in another order in
// every row; some rows leave out the figures or write numbers as texts.
func toFINRARow(s market.ShortInterest) finraRow {
	r := seedOf(s.Symbol, halfMonth(s.Settlement)) >> 28
	days, change := ratioText(s.DaysToCover), ratioText(s.ChangePct)
	if r%23 == 0 && s.DaysToCover.Known {
		days = "null"
	}
	if r%29 == 0 && s.ChangePct.Known {
		change = "null"
	}
	volume := strconv.FormatInt(s.AvgDailyVolume.Value, 10)
	if r%31 == 0 {
		volume = strconv.Quote(volume)
	}
	row := finraRow{
		{"accountingYearMonthNumber", strings.ReplaceAll(s.Settlement.String(), "-", "")},
		{"settlementDate", strconv.Quote(s.Settlement.String())},
		{"symbolCode", strconv.Quote(s.Symbol.In(market.FINRA))},
		{"issueName", issueText(s.Symbol, r%2 == 0)},
		{"issuerServicesGroupExchangeCode", `"R"`},
		{"marketClassCode", `"NNM"`},
		{"currentShortPositionQuantity", strconv.FormatInt(s.Shares, 10)},
		{"previousShortPositionQuantity", strconv.FormatInt(s.Previous.Value, 10)},
		{"changePreviousNumber", strconv.FormatInt(s.Shares-s.Previous.Value, 10)},
		{"changePercent", change},
		{"averageDailyVolumeQuantity", volume},
		{"daysToCoverQuantity", days},
		{"stockSplitFlag", flagText(s.SplitFlag)},
		{"revisionFlag", flagText(s.RevisionFlag)},
	}
	first := int(r % uint64(len(row)))
	return append(append(finraRow{}, row[first:]...), row[:first]...)
}

// finraFields are the names of all values.
func finraFields() []string {
	var names []string
	for _, f := range toFINRARow(market.ShortInterest{Symbol: "A", Settlement: FirstSettlement()}) {
		names = append(names, f.name)
	}
	return names
}

func ratioText(r market.Ratio) string {
	v := r.Value
	if !r.Known {
		v = r.Raw
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func flagText(flag string) string {
	if flag == "" {
		return "null"
	}
	return strconv.Quote(flag)
}

// issueText is a name with all that a name can have in it.
func issueText(symbol market.Symbol, old bool) string {
	dash := ""
	if old {
		dash = " -"
	}
	text, err := json.Marshal(fmt.Sprintf("Simulated, \"%s\"  & Co.%s Common Stock", symbol, dash))
	if err != nil {
		panic(err) // a text can always be written
	}
	return string(text)
}

// finraSheet is a page before it is written.
type finraSheet struct {
	rows                 []finraRow
	total, offset, limit int
	noTotal              bool
}

func (s *finraSheet) json() []byte {
	b := []byte{'['}
	for i, row := range s.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		for j, f := range row {
			if j > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, "%q:%s", f.name, f.value)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// text writes the page in the way of those who do not ask for JSON: a header
// and a line a row.
func (s *finraSheet) text(fields []string) []byte {
	var b bytes.Buffer
	lines := csv.NewWriter(&b) // a bytes.Buffer takes everything
	_ = lines.Write(fields)
	for _, row := range s.rows {
		var values []string
		for _, name := range fields {
			values = append(values, strings.TrimPrefix(row.get(name), "null"))
		}
		_ = lines.Write(values)
	}
	lines.Flush()
	return b.Bytes()
}

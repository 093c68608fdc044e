package alphavantage_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// FuzzJSON compares what the stream decoder accepts with the general decoder
// of the standard library.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"Note": "x"}`, document(""), document(goodBar), document(goodBar + "," + goodBar),
		"\uFEFF" + document(goodBar), document(goodBar)[:80],
		document(strings.Replace(goodBar, "42", `4\u0032`, 1)),
		document(strings.Replace(goodBar, `"9"`, `{"a\"": ["]"]}`, 1)),
		document(`"2026-03-12": {"1. open":"1","1. open":"1"}`),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		series, err := decode(false, bytes.NewReader(body))
		if err != nil {
			if len(series.Bars) != 0 {
				t.Fatalf("%d bars and %v", len(series.Bars), err)
			}
			return
		}
		checkBars(t, series.Bars)
		var doc struct {
			Meta   map[string]string            `json:"Meta Data"`
			Series map[string]map[string]string `json:"Time Series (Daily)"`
		}
		if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\uFEFF")), &doc); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if !strings.EqualFold(doc.Meta["2. Symbol"], "AAPL") {
			t.Fatalf("accepted the symbol %q", doc.Meta["2. Symbol"])
		}
		seen := map[market.Date]bool{}
		for _, bar := range series.Bars {
			seen[bar.Date] = true
		}
		if len(seen) != len(doc.Series) {
			t.Fatalf("%d dates, the standard library finds %d", len(seen), len(doc.Series))
		}
		for date, fields := range doc.Series {
			if d, err := market.ParseDate(date); err != nil || !seen[d] || len(fields) != 5 {
				t.Fatalf("date %q with %d fields: %v", date, len(fields), err)
			}
		}
		if len(seen) == len(series.Bars) {
			compare(t, series.Bars, doc.Series)
		}
	})
}

func compare(t *testing.T, bars []market.Bar, want map[string]map[string]string) {
	t.Helper()
	for _, bar := range bars {
		fields := want[bar.Date.String()]
		for name, got := range map[string]float64{
			"1. open": bar.Open, "2. high": bar.High, "3. low": bar.Low, "4. close": bar.Close, "5. volume": float64(bar.Volume),
		} {
			if v, err := strconv.ParseFloat(fields[name], 64); err != nil || v != got {
				t.Fatalf("%s of %s = %v, the standard library finds %q", name, bar.Date, got, fields[name])
			}
		}
	}
}

// FuzzCSV checks that what is accepted is made of whole, plain lines.
func FuzzCSV(f *testing.F) {
	const head = "timestamp,open,high,low,close,volume\r\n"
	for _, seed := range []string{
		"", head, head + "2026-03-12,10.0000,12.5,9,11.1234,42\r\n", head + "2026-03-12,10.0000,12.5,9,11.1234,42",
		head + "2026-03-12,10,12,9,11,42\n2026-03-11,1,2,1,2,0\r\n", head + ",,,,,\r\n", `{"Note": "x"}`, head + "\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		series, err := decode(true, bytes.NewReader(body))
		if err != nil {
			if len(series.Bars) != 0 {
				t.Fatalf("%d bars and %v", len(series.Bars), err)
			}
			return
		}
		checkBars(t, series.Bars)
		if lines := bytes.Count(body, []byte("\n")); lines != len(series.Bars)+1 || body[len(body)-1] != '\n' {
			t.Fatalf("%d bars of %d lines", len(series.Bars), lines)
		}
	})
}

func checkBars(t *testing.T, bars []market.Bar) {
	t.Helper()
	if len(bars) == 0 {
		t.Fatal("no bars and no error")
	}
	for i, bar := range bars {
		if i > 0 && bar.Date < bars[i-1].Date {
			t.Fatalf("%s after %s", bar.Date, bars[i-1].Date)
		}
		for _, v := range []float64{bar.Open, bar.High, bar.Low, bar.Close} {
			if !(v >= 0 && v < 1e12) {
				t.Fatalf("price %v", v)
			}
		}
		if bar.Volume < 0 || bar.Date.Year() < 1 || bar.Date.Year() > 9999 {
			t.Fatalf("bar %+v", bar)
		}
	}
}

// FuzzOverview checks that what is accepted is what the general decoder of the
// standard library finds, and that no error comes with data.
func FuzzOverview(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", sheet(), "\uFEFF" + sheet(`"PERatio": "1.5"`), sheet(`"PERatio": "-0"`, `"DividendYield": "0"`),
		sheet(`"LatestQuarter": "2026-02-28"`, `"Beta": 1.5, "Officers": [{}]`, `"Note": null`), sheet(`"PER\u0061tio": "\u0031"`),
		sheet(`"PERatio": "1"`, `"PERatio": "1"`), sheet(`"EVToEBITDA": "None"`)[:40], strings.Replace(sheet(), "BRK-B", "brk.b", 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		row, err := answering(bytes.NewReader(body)).Overview(t.Context(), "BRK.B")
		if err != nil {
			if !row.Empty() || row.Details != nil {
				t.Fatalf("%+v and %v", row, err)
			}
			return
		}
		var doc map[string]any
		if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\uFEFF")), &doc); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if row.Empty() || len(row.Details) > len(doc) {
			t.Fatalf("%+v of %v", row, doc)
		}
		for name, field := range map[string]market.Field{"PERatio": market.PERatio, "DividendYield": market.DividendYield, "MarketCapitalization": market.MarketCap} {
			text, _ := doc[name].(string)
			v, err := strconv.ParseFloat(text, 64)
			if got := row.Figures[field]; got.Known && (err != nil || v != got.Value || math.IsInf(v, 0)) {
				t.Fatalf("%s = %v, the standard library finds %q", name, got.Value, text)
			}
		}
		for name, text := range row.Details {
			if len(text) > 2*500 || strings.ContainsFunc(name+text, unicode.IsControl) {
				t.Fatalf("detail %q: %q", name, text)
			}
		}
	})
}

// FuzzEarnings checks that rows are sound, whole and in order.
func FuzzEarnings(f *testing.F) {
	for _, seed := range []string{
		"{}", earningsOf("", ""), earningsOf(years("2026-03-31 1", "2025-09-30 2"), years("2025-12-31 3", "2024-12-31 2")),
		earningsOf(years("2025-12-31 1"), "{}"), earningsOf("", years("2025-12-31 1", "2025-12-31 1", "2025-09-30 None")),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := answering(bytes.NewReader(body)).Earnings(t.Context(), "AAPL")
		all, dropped := e.Annual(0)
		if err != nil && len(e.Quarterly)+len(all)+dropped != 0 {
			t.Fatalf("%+v and %v", e, err)
		}
		for i, q := range e.Quarterly {
			if q.FiscalEnd <= 0 || i > 0 && q.FiscalEnd >= e.Quarterly[i-1].FiscalEnd || !q.EPS.Known && q.EPS.Value != 0 {
				t.Fatalf("row %d of %+v", i, e.Quarterly)
			}
		}
		for i, y := range all {
			if i > 0 && y.FiscalEnd >= all[i-1].FiscalEnd {
				t.Fatalf("year %d of %+v", i, all)
			}
		}
		if growth := e.EarningsGrowth(); math.IsNaN(growth.Value) || growth.Known && growth.Period == 0 {
			t.Fatalf("growth %+v", growth)
		}
	})
}

// FuzzBalanceSheet checks that a ratio is a number and comes from a report.
func FuzzBalanceSheet(f *testing.F) {
	for _, seed := range []string{
		"{}", reportsOf("", ""), reportsOf(report("2025-12-31", "1", "2", "3"), report("2025-12-31", "1", "2", "3", `"shortLongTermDebtTotal": "4"`)),
		reportsOf("", report("2025-12-31", "0", "0", "0", `"shortTermDebt": "4"`, `"longTermDebtNoncurrent": "-5"`)),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sheet, err := answering(bytes.NewReader(body)).BalanceSheet(t.Context(), "AAPL")
		if err != nil && sheet != (alphavantage.BalanceSheet{}) {
			t.Fatalf("%+v and %v", sheet, err)
		}
		for _, ratio := range sheet.Fundamentals().Figures {
			if ratio.Known && (!(ratio.Value >= 0) || ratio.Period != sheet.Quarterly.FiscalEnd) {
				t.Fatalf("ratio %+v of %+v", ratio, sheet)
			}
		}
	})
}

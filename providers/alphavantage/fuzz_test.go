package alphavantage_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
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

//go:build bench

package bench_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestFigureDecode measures the way from a whole history's bytes to its bars, beside
// the ways that the standard library offers.
func TestFigureDecode(t *testing.T) {
	sessions, err := market.NYSE().Sessions(simulator.Listed(), market.NewDate(2030, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	bars := bench.Pick(5500, 500)
	through := sessions[bars-1]
	doc, lines := answer(t, through, "json"), answer(t, through, "csv")
	client := func(body []byte, csv bool) func() int {
		return func() int { return len(load(t, through, body, csv)) }
	}
	const standard, ours, table, oursCSV = 1, 3, 4, 5 // places in ways
	ways := []struct {
		name string
		size int
		run  func() int
		took []float64 // seconds, by round
	}{
		{name: "search for one name in the JSON (limit)", size: len(doc), run: func() int { return bytes.Count(doc, []byte(`"1. open"`)) }},
		{name: "encoding/json, map of structs, sorted", size: len(doc), run: func() int { return len(standardJSON(t, doc)) }},
		{name: "jsontext, token by token, repeated names refused", size: len(doc), run: func() int { return tokenJSON(t, doc) }},
		{name: "alphavantage, JSON", size: len(doc), run: client(doc, false)},
		{name: "encoding/csv, sorted", size: len(lines), run: func() int { return len(standardCSV(t, lines)) }},
		{name: "alphavantage, CSV", size: len(lines), run: client(lines, true)},
	}
	// All ways in each round, so that a busy moment meets all of them.
	for range bench.Pick(15, 1) {
		for i := range ways {
			start := time.Now()
			if n := ways[i].run(); n != bars {
				t.Fatalf("%s: %d bars, want %d", ways[i].name, n, bars)
			}
			ways[i].took = append(ways[i].took, time.Since(start).Seconds())
		}
	}
	for _, w := range ways {
		took := middle(w.took)
		bench.Note(t, "decode: "+w.name, took*1e3, fmt.Sprintf("ms, %.0f MB/s", float64(w.size)/took/1e6))
	}
	times := func(slow, fast int) float64 {
		ratios := make([]float64, len(ways[slow].took))
		for i := range ratios {
			ratios[i] = ways[slow].took[i] / ways[fast].took[i]
		}
		return middle(ratios)
	}
	bench.AtLeast(t, "decode JSON: times as fast as encoding/json", times(standard, ours), 3, "x")
	bench.AtLeast(t, "decode CSV: times as fast as encoding/csv", times(table, oursCSV), 1, "x")
	bench.AtMost(t, "decode JSON: memory beyond the bars", beyond(t, client(doc, false)), 64, "KiB")
	bench.AtMost(t, "decode CSV: memory beyond the bars", beyond(t, client(lines, true)), 64, "KiB")
}

func middle(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// answer returns the simulator's whole history through a session.
func answer(t *testing.T, through market.Date, kind string) []byte {
	t.Helper()
	s := simulator.New(simulator.Config{Through: through, Premium: true})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet,
		"/query?function=TIME_SERIES_DAILY&symbol=AAPL&outputsize=full&apikey=x&datatype="+kind, nil))
	return w.Body.Bytes()
}

type fixed []byte

func (b fixed) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(b))}, nil
}

// load runs the client with everything but the network.
func load(t *testing.T, through market.Date, body []byte, csv bool) []market.Bar {
	t.Helper()
	c := alphavantage.New(&http.Client{Transport: fixed(body)}, "https://vendor.example", alphavantage.Options{
		Full: true, CSV: csv,
		// A year later the window's end is out of the compact answer's reach.
		Now: func() time.Time { return (through + 365).Time() },
	})
	series, err := c.DailyBars(context.Background(), "AAPL", market.Range{From: simulator.Listed(), To: through})
	if err != nil {
		t.Fatal(err)
	}
	return series.Bars
}

// beyond returns the KiB that one load allocates, the room for bars not
// counted.
func beyond(t *testing.T, fn func() int) float64 {
	t.Helper()
	const rounds = 5
	room := 7000 * float64(unsafe.Sizeof(market.Bar{}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		fn()
	}
	runtime.ReadMemStats(&after)
	return (float64(after.TotalAlloc-before.TotalAlloc)/rounds - room) / 1024
}

// standardJSON is what one writes without a thought for speed.
func standardJSON(t *testing.T, doc []byte) []market.Bar {
	t.Helper()
	var v struct {
		Series map[string]struct {
			Open   string `json:"1. open"`
			High   string `json:"2. high"`
			Low    string `json:"3. low"`
			Close  string `json:"4. close"`
			Volume string `json:"5. volume"`
		} `json:"Time Series (Daily)"`
	}
	if err := json.NewDecoder(bytes.NewReader(doc)).Decode(&v); err != nil {
		t.Fatal(err)
	}
	bars := make([]market.Bar, 0, len(v.Series))
	for date, b := range v.Series {
		bars = append(bars, standardBar(t, date, b.Open, b.High, b.Low, b.Close, b.Volume))
	}
	return sorted(bars)
}

func standardCSV(t *testing.T, lines []byte) []market.Bar {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(lines))
	r.ReuseRecord = true
	var bars []market.Bar
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	for {
		row, err := r.Read()
		if err == io.EOF {
			return sorted(bars)
		}
		if err != nil {
			t.Fatal(err)
		}
		bars = append(bars, standardBar(t, row[0], row[1], row[2], row[3], row[4], row[5]))
	}
}

func standardBar(t *testing.T, date, open, high, low, last, volume string) market.Bar {
	t.Helper()
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		t.Fatal(err)
	}
	b := market.Bar{Date: market.DateOf(day)}
	for _, p := range []struct {
		to   *float64
		text string
	}{{&b.Open, open}, {&b.High, high}, {&b.Low, low}, {&b.Close, last}} {
		if *p.to, err = strconv.ParseFloat(p.text, 64); err != nil {
			t.Fatal(err)
		}
	}
	if b.Volume, err = strconv.ParseInt(volume, 10, 64); err != nil {
		t.Fatal(err)
	}
	return b
}

func sorted(bars []market.Bar) []market.Bar {
	slices.SortFunc(bars, func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) })
	return bars
}

// tokenJSON counts the bars with the stream decoder alone, in its default
// form: each token apart, repeated names refused.
func tokenJSON(t *testing.T, doc []byte) int {
	t.Helper()
	dec := jsontext.NewDecoder(bytes.NewReader(doc))
	n := 0
	for {
		token, err := dec.ReadToken()
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if token.Kind() == jsontext.KindString && dec.StackDepth() == 3 && token.String() == "1. open" {
			n++
		}
	}
}

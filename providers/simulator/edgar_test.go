package simulator_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const agent = "Test test@example.com"

func askEDGAR(t *testing.T, s http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set("User-Agent", agent)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func factsPath(cik int) string {
	digits := strconv.Itoa(cik)
	return "/api/xbrl/companyfacts/CIK" + strings.Repeat("0", 10-len(digits)) + digits + ".json"
}

// The facts hold what makes real ones hard to read.
func TestFactsOfTheSimulator(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, 3, 13)
	type period struct {
		concept, unit string
		start, end    market.Date
	}
	for _, symbol := range []market.Symbol{"AAPL", "MSFT", "IBM", "BRK.B", "KO", "PG"} {
		cik := simulator.CIK(symbol)
		facts := simulator.Facts(cik, day)
		if !slices.Equal(facts, simulator.Facts(cik, day)) || cik != simulator.CIK(symbol) {
			t.Fatalf("%s: no function of issuer and day", symbol)
		}
		values := map[period]map[float64]bool{}
		periods, units, forms := map[market.Period]int{}, map[string]int{}, map[string]int{}
		seen := map[market.Fact]bool{}
		for _, f := range facts {
			if f.CIK != cik || f.Filed > day || f.Filed <= f.End || f.Start > f.End || len(f.Accession) != 20 || seen[f] {
				t.Fatalf("%s: %+v", symbol, f)
			}
			seen[f] = true
			p := period{f.Concept, f.Unit, f.Start, f.End}
			if values[p] == nil {
				values[p] = map[float64]bool{}
			}
			values[p][f.Value] = true
			periods[f.Period()]++
			units[f.Unit]++
			forms[f.Form]++
		}
		restated := 0
		for _, v := range values {
			if len(v) > 1 {
				restated++
			}
		}
		if len(values) == len(facts) || restated == 0 || periods[market.OtherPeriod] != 0 || len(periods) != 5 || len(units) != 6 || len(forms) != 3 {
			t.Errorf("%s: %d facts of %d quantities, %d restated, periods %v, units %v, forms %v",
				symbol, len(facts), len(values), restated, periods, units, forms)
		}
	}
	if simulator.CIK("BRK.A") != simulator.CIK("BRK.B") || simulator.CIK("AAPL") == simulator.CIK("MSFT") {
		t.Error("share classes belong to one issuer, other symbols to others")
	}
}

// A year is the sum of its quarters, of which the reports name three.
func TestQuartersOfTheSimulatorAddUp(t *testing.T) {
	t.Parallel()
	day := market.NewDate(2026, 3, 13)
	facts := simulator.Facts(simulator.CIK("AAPL"), day)
	known := market.AsOf(facts, day)
	checked := 0
	for _, q := range market.FourthQuarter(facts, day) {
		sum, quarters := q.Value, 1
		for _, f := range known {
			if f.Concept == q.Concept && f.Period() == market.Quarter && f.Start >= q.Year.Start && f.End <= q.Year.End {
				sum += f.Value
				quarters++
			}
		}
		if quarters != 4 {
			continue // cash flows are given for the year so far alone
		}
		if checked++; sum != q.Year.Value {
			t.Errorf("%s of the year to %v: quarters add up to %v, want %v", q.Concept, q.Year.End, sum, q.Year.Value)
		}
	}
	if checked < 10 {
		t.Errorf("%d years add up, want more", checked)
	}
}

func TestEDGAROnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: newClock().Now})
	for _, symbol := range []market.Symbol{"AAPL", "MSFT", "IBM", "KO"} {
		cik := simulator.CIK(symbol)
		w := askEDGAR(t, s, factsPath(cik))
		var doc struct {
			CIK   any
			Facts map[string]map[string]struct {
				Label *string
				Units map[string][]map[string]any
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %v", symbol, w.Code, err)
		}
		if _, isText := doc.CIK.(string); isText != (cik%2 == 1) {
			t.Errorf("%s: cik %v", symbol, doc.CIK)
		}
		n := 0
		for _, concepts := range doc.Facts {
			for _, c := range concepts {
				for _, facts := range c.Units {
					n += len(facts)
				}
			}
		}
		if want := len(simulator.Facts(cik, market.NewDate(2026, 3, 13))); n != want {
			t.Errorf("%s: %d facts, want %d", symbol, n, want)
		}
		if doc.Facts["us-gaap"]["NumberOfOperatingSegments"].Label != nil || len(doc.Facts["us-gaap"]["LongTermDebtNoncurrent"].Units) != 2 {
			t.Errorf("%s: want a concept without label and one with two units", symbol)
		}
	}
}

func TestEDGARPadding(t *testing.T) {
	t.Parallel()
	const size = 300_000
	s := simulator.New(simulator.Config{Now: newClock().Now, EDGAR: simulator.EDGARConfig{Padding: size}})
	w := askEDGAR(t, s, factsPath(simulator.CIK("AAPL")))
	if n := w.Body.Len(); n < size || n > size+50_000 || !json.Valid(w.Body.Bytes()) {
		t.Errorf("%d bytes, want %d and a document", n, size)
	}
}

func TestEDGARTickerFile(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: newClock().Now, EDGAR: simulator.EDGARConfig{Symbols: []market.Symbol{"BRK.A", "BRK.B", "AAPL"}}})
	const path = "/files/company_tickers.json"
	w := askEDGAR(t, s, path)
	var rows map[string]struct {
		Number any    `json:"cik_str"`
		Ticker string `json:"ticker"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &rows); err != nil || len(rows) != 3 || rows["1"].Ticker != "BRK-B" || rows["1"].Number != rows["0"].Number {
		t.Fatalf("%v: %s", err, w.Body)
	}
	tag, date := w.Header().Get("ETag"), w.Header().Get("Last-Modified")
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"same tag":           {[]string{"If-None-Match", tag}, 304},
		"same date":          {[]string{"If-Modified-Since", date}, 304},
		"other tag":          {[]string{"If-None-Match", `"x"`, "If-Modified-Since", date}, 200},
		"other date":         {[]string{"If-Modified-Since", "Mon, 01 Mar 2021 10:00:00 GMT"}, 200},
		"nothing to compare": {nil, 200},
	} {
		if w := askEDGAR(t, s, path, c.header...); w.Code != c.status || (w.Body.Len() == 0) != (c.status == 304) {
			t.Errorf("%s: status %d, %d bytes, want %d", name, w.Code, w.Body.Len(), c.status)
		}
	}
}

func TestEDGARSaysNo(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := simulator.New(simulator.Config{Now: c.Now, EDGAR: simulator.EDGARConfig{PerSecond: 3, Symbols: []market.Symbol{"AAPL"}}})
	aapl := factsPath(simulator.CIK("AAPL"))
	for _, step := range []struct {
		path, agent string
		wait        time.Duration
		status      int
		says        string
	}{
		{aapl, "Go-http-client/1.1", 0, 403, "Undeclared Automated Tool"},
		{aapl, agent, 0, 200, "entityName"},
		{factsPath(7), agent, 0, 404, "NoSuchKey"},
		{aapl, agent, 0, 403, "Request Rate Threshold Exceeded"},
		{aapl, agent, 999 * time.Millisecond, 403, "Request Rate Threshold Exceeded"},
		{aapl, agent, time.Second, 200, "entityName"},
		{"/api/xbrl/companyfacts/CIK" + strconv.Itoa(simulator.CIK("AAPL")) + ".json", agent, time.Second, 404, "NoSuchKey"},
	} {
		c.add(step.wait)
		if w := askEDGAR(t, s, step.path, "User-Agent", step.agent); w.Code != step.status || !strings.Contains(w.Body.String(), step.says) {
			t.Errorf("%s as %s: %d %.200s, want %d %s", step.path, step.agent, w.Code, w.Body, step.status, step.says)
		}
	}
	if got := s.Violations(); len(got) != 2 || !strings.Contains(got[0], "4 calls within a second, to EDGAR, limit 3") {
		t.Errorf("violations %q", got)
	}
	if n := s.EDGARMaxInWindow(time.Second); n != 5 || len(s.EDGARCalls()) != 7 || len(s.Calls()) != 0 {
		t.Errorf("%d calls a second, %d calls, %d to the other provider", n, len(s.EDGARCalls()), len(s.Calls()))
	}
}

func TestEDGARFaultsDiffer(t *testing.T) {
	t.Parallel()
	cik := simulator.CIK("MSFT")
	good := askEDGAR(t, simulator.New(simulator.Config{Now: newClock().Now}), factsPath(cik))
	for _, name := range simulator.EDGARFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == string(simulator.SlowHeaders) || name == string(simulator.Reset) || strings.HasPrefix(name, "truncated") {
				return // seen by a client alone
			}
			s := simulator.New(simulator.Config{Now: newClock().Now})
			s.FaultEDGAR(cik, simulator.Fault(name), 1)
			w := askEDGAR(t, s, factsPath(cik))
			if w.Code == good.Code && w.Body.String() == good.Body.String() && w.Header().Get("Content-Type") == good.Header().Get("Content-Type") {
				t.Error("the fault does nothing")
			}
			if calls := s.EDGARCalls(); len(calls) != 1 || calls[0].Outcome != "fault:"+name || calls[0].CIK != cik || calls[0].Agent != agent {
				t.Errorf("calls = %+v", calls)
			}
			if w := askEDGAR(t, s, factsPath(cik)); w.Body.String() != good.Body.String() {
				t.Error("the fault did not end")
			}
		})
	}
}

func TestEDGARFaultsArePlanned(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: newClock().Now})
	admin := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	for _, bad := range []string{"", "cik=x&fault=html&times=1", "cik=1&fault=stale&times=1", "cik=1&fault=html&times=0"} {
		if w := admin("POST", "/_simulator/edgar/faults?"+bad); w.Code != 400 || !strings.Contains(w.Body.String(), "rate_threshold") {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	if w := admin("POST", "/_simulator/edgar/faults?cik=0&fault=empty_object&times=-1"); w.Code != 204 {
		t.Fatalf("plan: %d %s", w.Code, w.Body)
	}
	s.FaultEDGAR(simulator.CIK("IBM"), simulator.EmptyArray, 1)
	s.FaultEDGAR(0, simulator.Stale, 1)
	s.FaultEDGAR(0, simulator.HTML, 0)
	for i, want := range []string{"[]", "{}", "{}"} {
		if got := askEDGAR(t, s, factsPath(simulator.CIK("IBM"))).Body.String(); got != want {
			t.Errorf("call %d = %q, want %q", i, got, want)
		}
	}
	if got := askEDGAR(t, s, "/files/company_tickers.json").Body.String(); got != "{}" {
		t.Errorf("ticker file = %.80q, want {}", got)
	}
	if got := ask(t, s, aapl).Body.String(); !strings.Contains(got, "Meta Data") {
		t.Errorf("the other provider has the fault too: %.80q", got)
	}
	var calls []simulator.EDGARCall
	if err := json.Unmarshal(admin("GET", "/_simulator/edgar/calls").Body.Bytes(), &calls); err != nil || len(calls) != 4 || calls[0].Outcome != "fault:empty_array" {
		t.Errorf("calls = %+v, %v", calls, err)
	}
	if !strings.Contains(admin("GET", "/_simulator/edgar/faults").Body.String(), `"wrong_cik"`) {
		t.Error("the list of faults lacks wrong_cik")
	}
	s.Reset()
	if got := askEDGAR(t, s, factsPath(simulator.CIK("IBM"))).Body.String(); !strings.HasPrefix(got, `{"cik":`) {
		t.Errorf("after the reset: %.80q", got)
	}
}

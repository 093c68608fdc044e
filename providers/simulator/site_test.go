package simulator_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	groupedPath = "/v2/aggs/grouped/locale/us/market/stocks/2026-03-12?adjusted="
	tickerPath  = "/v2/aggs/ticker/AAPL/range/1/day/2026-03-09/2026-03-12?adjusted=false"
	tiingoPath  = "/tiingo/daily/aapl/prices?startDate=2026-03-09&endDate=2026-03-12"
)

// askSite asks as the vendors of bars want to be asked.
func askSite(t *testing.T, s http.Handler, method, path, key string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	scheme := "Bearer "
	if strings.HasPrefix(path, "/tiingo/") {
		scheme = "Token "
	}
	if key != "" {
		r.Header.Set("Authorization", scheme+key)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// massiveAnswer is what Massive writes.
type massiveAnswer struct {
	Ticker       string `json:"ticker"`
	ResultsCount int    `json:"resultsCount"`
	Adjusted     bool   `json:"adjusted"`
	Status       string `json:"status"`
	NextURL      string `json:"next_url"`
	Results      []struct {
		T    string  `json:"T"`
		V    float64 `json:"v"`
		Time int64   `json:"t"`
	} `json:"results"`
}

func massiveBars(t *testing.T, w *httptest.ResponseRecorder) massiveAnswer {
	t.Helper()
	var a massiveAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &a, json.MatchCaseInsensitiveNames(false)); err != nil || w.Code != http.StatusOK {
		t.Fatalf("status %d, %v: %.300s", w.Code, err, w.Body)
	}
	return a
}

func TestMassiveOnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through(), Massive: simulator.MassiveConfig{Symbols: []market.Symbol{"AAPL", "BRK.B", "CMS.PRB"}}})
	s.Split("AAPL", through(), 4)
	s.Lack("BRK.B", through()-1)
	for _, asked := range []string{"true", "false"} {
		a := massiveBars(t, askSite(t, s, http.MethodGet, groupedPath+asked, "k"))
		if a.ResultsCount != 3 || len(a.Results) != 3 || fmt.Sprint(a.Adjusted) != asked || a.Results[2].T != "CMSpB" {
			t.Errorf("%+v", a)
		}
		if at := time.UnixMilli(a.Results[0].Time); !at.Equal(through().In(market.NewYork(), 0, 0)) {
			t.Errorf("time %s, want the midnight of New York", at)
		}
	}
	before := simulator.Bar("AAPL", through()-1)
	ticker := "/v2/aggs/ticker/AAPL/range/1/day/2026-03-11/2026-03-11?adjusted="
	for adjusted, want := range map[string]market.Bar{"true": simulator.SplitBar(before, 4), "false": before} {
		a := massiveBars(t, askSite(t, s, http.MethodGet, ticker+adjusted, "k"))
		if a.Ticker != "AAPL" || len(a.Results) != 1 || a.Results[0].V != float64(want.Volume) {
			t.Fatalf("adjusted=%s: %+v, want %+v", adjusted, a, want)
		}
	}
	lacking := askSite(t, s, http.MethodGet, "/v2/aggs/ticker/BRK.B/range/1/day/2026-03-11/2026-03-11", "k")
	if a := massiveBars(t, lacking); a.ResultsCount != 0 || strings.Contains(lacking.Body.String(), "results\"") {
		t.Errorf("a day without a bar: %s", lacking.Body)
	}
}

func TestMassivePages(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through(), Massive: simulator.MassiveConfig{PageRows: 3}})
	first := massiveBars(t, askSite(t, s, http.MethodGet, tickerPath, "k"))
	next, err := url.Parse(first.NextURL)
	if err != nil || len(first.Results) != 3 || next.Host != "example.com" {
		t.Fatalf("first page: %+v", first)
	}
	if last := massiveBars(t, askSite(t, s, http.MethodGet, next.RequestURI(), "k")); len(last.Results) != 1 || last.NextURL != "" || last.Adjusted {
		t.Errorf("last page: %+v", last)
	}
}

func TestTiingoOnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through()})
	s.Split("AAPL", through(), 4)
	w := askSite(t, s, http.MethodGet, tiingoPath, "k")
	var rows []struct {
		Date              string
		Close, AdjClose   float64
		Volume, AdjVolume int64
	}
	if err := json.Unmarshal(w.Body.Bytes(), &rows, json.MatchCaseInsensitiveNames(true)); err != nil || len(rows) != 4 {
		t.Fatalf("%v: %.300s", err, w.Body)
	}
	for i, row := range rows {
		date := through() - 3 + market.Date(i)
		bar, adjusted := simulator.Bar("AAPL", date), simulator.SplitBar(simulator.Bar("AAPL", date), 4)
		if date == through() {
			adjusted = bar
		}
		if row.Date != date.String()+"T00:00:00.000Z" || row.Close != bar.Close || row.AdjClose != adjusted.Close ||
			row.Volume != bar.Volume || row.AdjVolume != adjusted.Volume {
			t.Errorf("%+v, want %+v and %+v", row, bar, adjusted)
		}
	}
}

func TestSitesSayNo(t *testing.T) {
	t.Parallel()
	noon := func() time.Time { return (through() + 1).In(market.NewYork(), 12, 0) }
	s := simulator.New(simulator.Config{
		Now: noon, Listed: map[market.Symbol]market.Date{"NONE": through() + 1},
		Massive: simulator.MassiveConfig{Key: "k", Years: 2}, Tiingo: simulator.TiingoConfig{Key: "k"},
	})
	for _, tc := range []struct {
		path, key string
		status    int
		says      string
	}{
		{tickerPath, "", 401, "API Key was not provided"},
		{tickerPath, "x", 401, "API Key"},
		{groupedPath + "false&apiKey=k", "", 200, `"resultsCount":`},
		{"/v2/aggs/ticker/AAPL/range/1/day/2024-03-12/2026-03-12", "k", 403, "NOT_AUTHORIZED"},
		{"/v2/aggs/ticker/aapl/range/1/day/2026-03-12/2026-03-12", "k", 200, `"resultsCount":0`},
		{"/v2/aggs/ticker/NONE/range/1/day/2026-03-12/2026-03-12", "k", 200, `"resultsCount":0`},
		{"/v2/aggs/ticker/AAPL/range/1/day/yesterday/2026-03-12", "k", 200, `"status":"ERROR"`},
		{"/v2/aggs/other", "k", 404, "<html>"},
		{tiingoPath, "", 401, "Please supply a token"},
		{tiingoPath, "x", 401, "Invalid token."},
		{strings.Replace(tiingoPath, "aapl", "none", 1), "k", 404, `{"detail":"Not found."}`},
		{strings.Replace(tiingoPath, "aapl", "brk.b", 1), "k", 404, `{"detail":"Not found."}`},
		{strings.Replace(tiingoPath, "2026-03-09", "x", 1), "k", 200, "Error: "},
		{"/tiingo/daily/aapl", "k", 404, "<html>"},
	} {
		if w := askSite(t, s, http.MethodGet, tc.path, tc.key); w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
			t.Errorf("%s with key %q: status %d, %.200s; want %d, %q", tc.path, tc.key, w.Code, w.Body, tc.status, tc.says)
		}
	}
}

// TestSiteLimits: the calls of a sliding window count, refused ones too, and
// each vendor's by themselves.
func TestSiteLimits(t *testing.T) {
	t.Parallel()
	now := (through() + 1).In(market.NewYork(), 12, 0)
	s := simulator.New(simulator.Config{
		Now: func() time.Time { return now }, Massive: simulator.MassiveConfig{PerMinute: 2}, Tiingo: simulator.TiingoConfig{PerHour: 2, PerDay: 3},
	})
	step := func(path string, after time.Duration, want string) {
		t.Helper()
		now = now.Add(after)
		if w := askSite(t, s, http.MethodGet, path, "k"); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s after %s: %.100s; want %q", path, after, w.Body, want)
		}
	}
	step(tickerPath, 0, `"status":"OK"`)
	step(tickerPath, 0, `"status":"OK"`)
	step(tiingoPath, 0, `"close"`)
	step(tickerPath, 59*time.Second, "maximum requests per minute")
	step(tickerPath, time.Second, `"status":"OK"`)
	step(tiingoPath, 0, `"close"`)
	step(tiingoPath, 0, "hourly")
	step(tiingoPath, time.Hour, "daily")
	step(tiingoPath, 24*time.Hour, `"close"`)
	if got := s.Violations(); len(got) != 3 || !strings.Contains(got[0], "massive") || !strings.Contains(got[2], "a day, to tiingo") {
		t.Errorf("violations %q, want one of Massive and two of Tiingo", got)
	}
	if most := s.Massive().MaxInWindow(time.Minute); most != 3 {
		t.Errorf("%d calls within a minute, want 3", most)
	}
	if n := len(s.Calls()); n != 0 {
		t.Errorf("%d calls to another vendor, want none", n)
	}
}

func TestSitesThroughTheAdmin(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through()})
	for name, site := range map[string]*simulator.BarSite{"massive": s.Massive(), "tiingo": s.Tiingo()} {
		path := map[string]string{"massive": tickerPath, "tiingo": tiingoPath}[name]
		plan := func(query string) int {
			return askSite(t, s, http.MethodPost, "/_simulator/"+name+"/faults?"+query, "").Code
		}
		for _, wrong := range []string{"", "fault=nothing", "fault=html&symbol=%20", "fault=html&times=x", "fault=html&times=0"} {
			if got := plan(wrong); got != http.StatusBadRequest {
				t.Errorf("%s: %q gets %d, want 400", name, wrong, got)
			}
		}
		if a, b := plan("fault=html&symbol=AAPL&times=2"), plan("fault=null"); a != http.StatusNoContent || b != http.StatusNoContent {
			t.Fatalf("%s: plans get %d, %d", name, a, b)
		}
		var bodies []string
		for range 4 {
			bodies = append(bodies, askSite(t, s, http.MethodGet, path, "k").Body.String()[:4])
		}
		if bodies[0] != "<htm" || bodies[1] != "<htm" || bodies[2] != "null" || bodies[3] == "null" {
			t.Errorf("%s: %q, want two pages, null, and bars", name, bodies)
		}
		calls := askSite(t, s, http.MethodGet, "/_simulator/"+name+"/calls", "").Body.String()
		if strings.Count(calls, `"outcome":"fault:html"`) != 2 || !strings.Contains(calls, `"symbol":"AAPL","from":`) || strings.Contains(calls, "token") {
			t.Errorf("%s: calls %s", name, calls)
		}
		names := askSite(t, s, http.MethodGet, "/_simulator/"+name+"/faults", "").Body.String()
		if strings.Count(names, `"`) != 2*len(site.Faults()) {
			t.Errorf("%s: faults %s", name, names)
		}
		askSite(t, s, http.MethodPost, "/_simulator/reset", "")
		if n := len(site.Calls()); n != 0 {
			t.Errorf("%s: %d calls after a reset", name, n)
		}
	}
}

// TestSiteFaultsDiffer: every fault of the values and messages is seen, and
// none is another by a different name.
func TestSiteFaultsDiffer(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through()})
	alike := []simulator.Fault{ // but for the header, the way or the type
		simulator.WrongContentType, simulator.SlowBody, simulator.SlowHeaders, simulator.TruncatedLength, simulator.TruncatedClose,
		simulator.TruncatedGzip, simulator.ShortLength, simulator.Reset, simulator.GzipBomb, simulator.RedirectElsewhere, simulator.RedirectLoop,
		simulator.TooManyRequestsLong, simulator.MinuteNote, simulator.EmptySeries,
	}
	for path, site := range map[string]*simulator.BarSite{tickerPath: s.Massive(), tiingoPath: s.Tiingo()} {
		path = strings.ReplaceAll(path, "2026-03-09", "2026-01-05")
		seen := map[string]string{askSite(t, s, http.MethodGet, path, "k").Body.String(): "no fault"}
		for _, name := range site.Faults() {
			if slices.Contains(alike, simulator.Fault(name)) || name == string(simulator.WrongSymbol) && site == s.Tiingo() {
				continue
			}
			site.Fault("AAPL", simulator.Fault(name), 1)
			w := askSite(t, s, http.MethodGet, path, "k")
			answer := fmt.Sprint(w.Code, w.Body)
			if w.Code == http.StatusOK {
				answer = w.Body.String()
			}
			if other, twice := seen[answer]; twice {
				t.Errorf("%s is %s: %.200s", name, other, answer)
			}
			seen[answer] = name
		}
	}
}

func TestCustomSite(t *testing.T) {
	t.Parallel()
	site := simulator.NewSite(simulator.Config{Through: through(), Key: "k"}, simulator.Custom{
		Ask: func(r *http.Request) simulator.Question {
			return simulator.Question{Key: r.FormValue("key"), Symbol: r.FormValue("s"), Window: market.Range{From: through(), To: through()}}
		},
		Spelling: market.Tiingo,
		Render: func(symbol string, bars []market.Bar) []byte {
			b := fmt.Appendf(nil, "%s:", symbol)
			for _, bar := range bars {
				b = fmt.Appendf(b, " %q %v %v %v %v %d", bar.Date.String(), bar.Open, bar.High, bar.Low, bar.Close, bar.Volume)
			}
			return b
		},
		Says: map[simulator.Fault]simulator.Message{
			simulator.BadKey:    {Status: http.StatusUnauthorized, Text: "not {key}"},
			simulator.BadSymbol: {Status: http.StatusNotFound, Text: "no such"},
		},
	})
	get := func(query string) string {
		return askSite(t, site, http.MethodGet, "/anything?"+query, "").Body.String()
	}
	bar := simulator.Bar("BRK.B", through())
	good := fmt.Sprintf("BRK-B: %q %v %v %v %v %d", bar.Date.String(), bar.Open, bar.High, bar.Low, bar.Close, bar.Volume)
	for query, want := range map[string]string{"key=k&s=BRK-B": good, "key=x&s=BRK-B": "not x", "s=BRK-B": "not ", "key=k&s=BRK.B": "no such"} {
		if got := get(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for fault, want := range map[simulator.Fault]string{
		simulator.BadDate: `"2026-02-30T16:00:00.000Z"`, simulator.BadNumber: ` "None" `, simulator.NaN: " NaN ",
		simulator.Exponent: " 1e3 ", simulator.NegativePrice: " -1.5 ", simulator.NegativeVolume: " -1", simulator.WrongSymbol: "WRONG:",
	} {
		site.Fault("BRK.B", fault, 1)
		if got := get("key=k&s=BRK-B"); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", fault, got, want)
		}
	}
}

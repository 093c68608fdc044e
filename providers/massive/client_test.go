package massive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// wire is the way to a handler without a network: it signs and checks as the
// transport does, and keeps what was asked.
type wire struct {
	to    http.Handler
	asked []*url.URL
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked = append(w.asked, r.URL)
	r = r.Clone(r.Context())
	massive.Sign("k")(r)
	answer := httptest.NewRecorder()
	w.to.ServeHTTP(answer, r)
	if e := massive.Check(answer.Code, answer.Header(), answer.Body.Bytes()); e != nil {
		return nil, e
	}
	return answer.Result(), nil
}

// says is a vendor that gives one answer after the other.
func says(answers ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if len(answers) > 0 {
			_, _ = io.WriteString(w, answers[0])
			answers = answers[1:]
		}
	})
}

func client(to http.Handler, o massive.Options) (*massive.Client, *wire) {
	way := &wire{to: to}
	o.BaseURL = "http://vendor.example/"
	if o.Now == nil {
		o.Now = noon
	}
	return massive.New(&http.Client{Transport: way}, o), way
}

func day(month time.Month, d int) market.Date { return market.NewDate(2026, month, d) }

// noon is that of a Friday in New York.
func noon() time.Time { return day(3, 13).In(market.NewYork(), 12, 0) }

func kindOf(t *testing.T, err error) providers.Kind {
	t.Helper()
	e, ok := errors.AsType[*providers.Error](err)
	if !ok {
		t.Fatalf("error = %v, want one of the provider", err)
	}
	return e.Kind
}

func document(more string, rows ...string) string {
	return fmt.Sprintf(`{"ticker":"AAPL","adjusted":false,"resultsCount":%d,"results":[%s],"status":"OK"%s}`,
		len(rows), strings.Join(rows, ","), more)
}

func row(d market.Date, volume string) string {
	return fmt.Sprintf(`{"v":%s,"o":10,"h":12.5,"l":9.25,"c":11,"t":%d}`, volume, d.In(market.NewYork(), 0, 0).UnixMilli())
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for adjusted, word := range map[bool]string{false: "false", true: "true"} {
		c, way := client(simulator.New(simulator.Config{Now: noon}), massive.Options{Adjusted: adjusted})
		if _, err := c.History(t.Context(), "CMS.PRB", market.Range{From: day(3, 9), To: day(3, 12)}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Session(t.Context(), day(3, 12)); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"http://vendor.example/v2/aggs/ticker/CMSpB/range/1/day/2026-03-09/2026-03-12?adjusted=" + word + "&sort=asc&limit=50000",
			"http://vendor.example/v2/aggs/grouped/locale/us/market/stocks/2026-03-12?adjusted=" + word + "&include_otc=false",
		}
		for i, asked := range way.asked {
			if asked.String() != want[i] {
				t.Errorf("asked for %s, want %s", asked, want[i])
			}
		}
		if len(way.asked) != len(want) {
			t.Errorf("%d calls, want %d", len(way.asked), len(want))
		}
	}
}

// TestReach: what is asked for is within the plan's years, whatever the window.
func TestReach(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{Now: noon, Massive: simulator.MassiveConfig{Years: 2}})
	c, way := client(sim, massive.Options{})
	reach, err := c.Reach()
	if err != nil || reach != market.NewDate(2024, 3, 14) {
		t.Fatalf("reach = %s, %v", reach, err)
	}
	series, err := c.History(t.Context(), "AAPL", market.Range{From: market.NewDate(2020, 1, 1), To: day(3, 12)})
	if err != nil || series.Bars[0].Date != reach {
		t.Errorf("%d bars, %v; want those from %s on", len(series.Bars), err, reach)
	}
	way.asked = nil
	if _, err := c.History(t.Context(), "AAPL", market.Range{From: 1, To: reach - 1}); kindOf(t, err) != providers.PremiumOnly {
		t.Errorf("before the reach: %v, want PremiumOnly", err)
	}
	if _, err := c.Session(t.Context(), reach-1); kindOf(t, err) != providers.PremiumOnly || len(way.asked) != 0 {
		t.Errorf("before the reach: %v after %d calls, want PremiumOnly after none", err, len(way.asked))
	}
	long, _ := client(sim, massive.Options{Years: 200})
	if reach, err := long.Reach(); reach != 0 || err != nil {
		t.Errorf("reach of 200 years = %s, %v; want none", reach, err)
	}
}

// TestPages: a history in pages is the history in one, and each page is a call.
func TestPages(t *testing.T) {
	t.Parallel()
	window := market.Range{From: day(1, 5), To: day(3, 12)}
	whole, _ := client(simulator.New(simulator.Config{Now: noon}), massive.Options{})
	want, err := whole.History(t.Context(), "AAPL", window)
	if err != nil {
		t.Fatal(err)
	}
	c, way := client(simulator.New(simulator.Config{Now: noon, Massive: simulator.MassiveConfig{PageRows: 7}}), massive.Options{})
	got, err := c.History(t.Context(), "AAPL", window)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if pages := (len(want.Bars) + 6) / 7; len(way.asked) != pages {
		t.Errorf("%d calls, want %d", len(way.asked), pages)
	}
}

func TestPagesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	next := func(u string) string { return fmt.Sprintf(`,"next_url":%q`, u) }
	here := next("http://vendor.example/v2/aggs/?cursor=x&apiKey=k")
	for name, pages := range map[string][]string{
		"another host":        {document(next("http://other.example/v2/aggs/"), row(day(3, 9), "5"))},
		"another scheme":      {document(next("https://vendor.example/v2/aggs/"), row(day(3, 9), "5"))},
		"a password":          {document(next("http://a:b@vendor.example/v2/aggs/"), row(day(3, 9), "5"))},
		"no URL":              {document(next("http://[/"), row(day(3, 9), "5"))},
		"the same page":       {document(here, row(day(3, 9), "5")), document(here, row(day(3, 9), "5"))},
		"no bars and another": {document(here)},
	} {
		c, way := client(says(pages...), massive.Options{})
		series, err := c.History(t.Context(), "AAPL", market.Range{From: day(3, 9), To: day(3, 12)})
		if kindOf(t, err) != providers.BadPayload || len(series.Bars) != 0 || len(way.asked) != len(pages) {
			t.Errorf("%s: %d bars, %v after %d calls; want BadPayload after %d", name, len(series.Bars), err, len(way.asked), len(pages))
		}
		for _, asked := range way.asked {
			if asked.Query().Has("apiKey") {
				t.Errorf("%s: a key in %s", name, asked)
			}
		}
	}
}

func TestVolume(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "5": 5, "5.4999": 5, "5.5": 6, "0.3": 0, "0.5": 1, "6.52134e7": 65_213_400, "1E3": 1000, "9007199254740992": 1 << 53,
		"-1": -1, "-0.1": -1, "1e17": -1, "1e999": -1, `"5"`: -1, "null": -1, "true": -1, strings.Repeat("1", 33): -1,
	} {
		c, _ := client(says(document("", row(day(3, 12), text))), massive.Options{})
		series, err := c.History(t.Context(), "AAPL", market.Range{From: day(3, 12), To: day(3, 12)})
		switch {
		case want < 0 && kindOf(t, err) != providers.BadPayload:
			t.Errorf("%s: %v, want BadPayload", text, err)
		case want >= 0 && err != nil:
			t.Errorf("%s: %v", text, err)
		case want >= 0 && series.Bars[0].Volume != want:
			t.Errorf("%s is read as %d, want %d", text, series.Bars[0].Volume, want)
		}
	}
}

// TestDays: a bar begins at midnight in New York, whatever the season, and is of
// that day.
func TestDays(t *testing.T) {
	t.Parallel()
	for _, d := range []market.Date{day(3, 6), day(3, 9), market.NewDate(2025, 10, 31), market.NewDate(2025, 11, 3)} {
		c, _ := client(says(document("", row(d, "5"))), massive.Options{})
		series, err := c.History(t.Context(), "AAPL", market.Range{From: d, To: d})
		want := []market.Bar{{Date: d, Open: 10, High: 12.5, Low: 9.25, Close: 11, Volume: 5}}
		if err != nil || !cmp.Equal(series.Bars, want) {
			t.Errorf("%s: %+v, %v; want %+v", d, series.Bars, err, want)
		}
	}
}

// TestSession: a session has the bar that each symbol's history has, and a
// symbol that is none of ours is left out.
func TestSession(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{Now: noon})
	sim.Lack("MSFT", day(3, 11))
	c, _ := client(sim, massive.Options{})
	bars, err := c.Session(t.Context(), day(3, 11))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := bars["MSFT"]; ok || len(bars) != len(market.SP500())-1 {
		t.Errorf("%d bars, MSFT %t; want all but that of MSFT", len(bars), ok)
	}
	for symbol, bar := range bars {
		if bar != simulator.Bar(symbol, day(3, 11)) {
			t.Fatalf("bar of %s = %+v", symbol, bar)
		}
	}
	named := func(tickers ...string) string {
		rows := make([]string, len(tickers))
		for i, ticker := range tickers {
			rows[i] = `{"T":` + ticker + "," + row(day(3, 12), "5")[1:]
		}
		return document("", rows...)
	}
	c, _ = client(says(named(`"AAPL"`, `"CMSpB"`, `"abc"`, `"ABC.WSw"`)), massive.Options{})
	if bars, err := c.Session(t.Context(), day(3, 12)); err != nil || len(bars) != 2 || bars["CMS.PRB"].Close != 11 {
		t.Errorf("%v, %v; want AAPL and CMS.PRB", bars, err)
	}
	for name, body := range map[string]string{
		"a symbol twice": named(`"AAPL"`, `"AAPL"`), "no symbol": named("null"), "a number": named("5"), "rows without symbols": document("", row(day(3, 12), "5")),
	} {
		c, _ = client(says(body), massive.Options{})
		if bars, err := c.Session(t.Context(), day(3, 12)); kindOf(t, err) != providers.BadPayload || len(bars) != 0 {
			t.Errorf("%s: %d bars, %v; want BadPayload", name, len(bars), err)
		}
	}
}

// TestNothing: without bars it depends on the hour whether there will be some.
func TestNothing(t *testing.T) {
	t.Parallel()
	const none = `{"ticker":"AAPL","resultsCount":0,"adjusted":false,"status":"OK"}`
	const refused = `{"status":"NOT_AUTHORIZED","message":"not in your plan"}`
	for _, tc := range []struct {
		name, answer string
		at           [2]int // of the session's day
		want         providers.Kind
	}{
		{"after the close", none, [2]int{17, 59}, providers.NotReady},
		{"when it must be there", none, [2]int{18, 0}, providers.NoData},
		{"not in the plan before the day's end", refused, [2]int{17, 59}, providers.NotReady},
		{"not in the plan", refused, [2]int{18, 0}, providers.PremiumOnly},
	} {
		now := func() time.Time { return day(3, 12).In(market.NewYork(), tc.at[0], tc.at[1]) }
		c, _ := client(says(tc.answer, tc.answer), massive.Options{Now: now})
		if bars, err := c.Session(t.Context(), day(3, 12)); kindOf(t, err) != tc.want || len(bars) != 0 {
			t.Errorf("session, %s: %v, want kind %d", tc.name, err, tc.want)
		}
		if _, err := c.History(t.Context(), "AAPL", market.Range{From: day(3, 12), To: day(3, 12)}); kindOf(t, err) != tc.want {
			t.Errorf("history, %s: %v, want kind %d", tc.name, err, tc.want)
		}
	}
	c, way := client(says(), massive.Options{})
	if _, err := c.Session(t.Context(), day(3, 13)); kindOf(t, err) != providers.NotReady || len(way.asked) != 0 {
		t.Errorf("a running session: %v after %d calls, want NotReady after none", err, len(way.asked))
	}
}

// TestStrict: an answer that is not whole, or about something else, is none.
func TestStrict(t *testing.T) {
	t.Parallel()
	good := document("", row(day(3, 12), "5"))
	for name, body := range map[string]string{
		"no status":        strings.Replace(good, `"status":"OK"`, `"x":1`, 1),
		"a status":         strings.Replace(good, `"OK"`, `"FINE"`, 1),
		"no basis":         strings.Replace(good, `"adjusted":false,`, "", 1),
		"another basis":    strings.Replace(good, `"adjusted":false`, `"adjusted":true`, 1),
		"no symbol":        strings.Replace(good, `"ticker":"AAPL",`, "", 1),
		"no count":         strings.Replace(good, `"resultsCount":1,`, "", 1),
		"no open":          strings.Replace(good, `"o":10,`, "", 1),
		"a negative open":  strings.Replace(good, `"o":10,`, `"o":-10,`, 1),
		"a huge open":      strings.Replace(good, `"o":10,`, `"o":1e999,`, 1),
		"rows twice":       strings.Replace(good, `"status"`, `"results":[],"status"`, 1),
		"rows as text":     strings.Replace(good, `[{`, `["a",{`, 1),
		"an endless value": strings.Replace(good, `"status"`, `"x":"`+strings.Repeat("y", 128<<10)+`","status"`, 1),
	} {
		c, _ := client(says(body), massive.Options{})
		series, err := c.History(t.Context(), "AAPL", market.Range{From: day(3, 12), To: day(3, 12)})
		if kindOf(t, err) != providers.BadPayload || len(series.Bars) != 0 {
			t.Errorf("%s: %d bars, %v; want BadPayload", name, len(series.Bars), err)
		}
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	c := massive.New(http.DefaultClient, massive.Options{BaseURL: "http://user:secret@[/", Now: noon})
	_, err := c.Session(t.Context(), day(3, 12))
	if kindOf(t, err) != providers.Rejected || strings.Contains(err.Error(), "secret") {
		t.Errorf("error = %v, want Rejected without the URL", err)
	}
}

func BenchmarkSession(b *testing.B) {
	doc := grouped(11_000)
	hc := &http.Client{Transport: answerFunc(func() io.Reader { return bytes.NewReader(doc) })}
	c := massive.New(hc, massive.Options{Now: noon})
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if bars, err := c.Session(context.Background(), day(3, 12)); err != nil || len(bars) != 11_000 {
			b.Fatal(len(bars), err)
		}
	}
}

// grouped is a session of n symbols.
func grouped(n int) []byte {
	symbols := make([]market.Symbol, n)
	for i := range symbols {
		symbols[i] = market.Symbol([]byte{'A' + byte(i/17576), 'A' + byte(i/676%26), 'A' + byte(i/26%26), 'A' + byte(i%26)})
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v2/aggs/grouped/locale/us/market/stocks/2026-03-12?adjusted=false", nil)
	massive.Sign("k")(r)
	simulator.New(simulator.Config{Now: noon, Massive: simulator.MassiveConfig{Symbols: symbols}}).ServeHTTP(w, r)
	return w.Body.Bytes()
}

type answerFunc func() io.Reader

func (f answerFunc) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(f())}, nil
}

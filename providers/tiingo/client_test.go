package tiingo_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/tiingo"
)

// wire is the way to a handler without a network: it signs and checks as the
// transport does.
type wire struct {
	to    http.Handler
	asked []string
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked = append(w.asked, r.URL.String())
	r = r.Clone(r.Context())
	tiingo.Sign("k")(r)
	answer := httptest.NewRecorder()
	w.to.ServeHTTP(answer, r)
	if e := tiingo.Check(answer.Code, answer.Header(), answer.Body.Bytes()); e != nil {
		return nil, e
	}
	return answer.Result(), nil
}

func says(answer string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
}

func client(to http.Handler, now func() time.Time) (*tiingo.Client, *wire) {
	way := &wire{to: to}
	return tiingo.New(&http.Client{Transport: way}, tiingo.Options{BaseURL: "http://vendor.example/", Now: now}), way
}

func day(d int) market.Date { return market.NewDate(2026, 3, d) }

func noon() time.Time { return day(13).In(market.NewYork(), 12, 0) }

func kindOf(t *testing.T, err error) providers.Kind {
	t.Helper()
	e, ok := errors.AsType[*providers.Error](err)
	if !ok {
		t.Fatalf("error = %v, want one of the provider", err)
	}
	return e.Kind
}

func TestRequest(t *testing.T) {
	t.Parallel()
	c, way := client(simulator.New(simulator.Config{Now: noon}), noon)
	if _, err := c.DailyBars(t.Context(), "CMS.PRB", market.Range{From: day(9), To: day(12)}); err != nil {
		t.Fatal(err)
	}
	want := []string{"http://vendor.example/tiingo/daily/CMS-P-B/prices?startDate=2026-03-09&endDate=2026-03-12&format=json"}
	if diff := cmp.Diff(want, way.asked); diff != "" {
		t.Error(diff)
	}
}

// TestSplit: the adjusted close follows a split, the prices do not.
func TestSplit(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{Now: noon})
	sim.Split("AAPL", day(11), 4)
	c, _ := client(sim, noon)
	series, err := c.History(t.Context(), "AAPL", market.Range{From: day(10), To: day(11)})
	if err != nil {
		t.Fatal(err)
	}
	before, after := simulator.Bar("AAPL", day(10)), simulator.Bar("AAPL", day(11))
	before.AdjClose, before.HasAdjClose = simulator.SplitBar(before, 4).Close, true
	after.AdjClose, after.HasAdjClose = after.Close, true
	if diff := cmp.Diff([]market.Bar{before, after}, series.Bars); diff != "" {
		t.Error(diff)
	}
}

// TestNothing: without bars it depends on the hour whether there will be some.
func TestNothing(t *testing.T) {
	t.Parallel()
	for hour, want := range map[int]providers.Kind{17: providers.NotReady, 19: providers.NotReady, 20: providers.NoData} {
		c, _ := client(says("[]"), func() time.Time { return day(12).In(market.NewYork(), hour, 0) })
		if _, err := c.History(t.Context(), "AAPL", market.Range{From: day(12), To: day(12)}); kindOf(t, err) != want {
			t.Errorf("at %d: %v, want kind %d", hour, err, want)
		}
	}
}

func row(change ...string) string {
	good := `{"date":"2026-03-12T00:00:00.000Z","close":11,"high":12.5,"low":9.25,"open":10,"volume":5,"adjClose":11.5,"divCash":0.0}`
	return strings.NewReplacer(change...).Replace(good)
}

func TestRows(t *testing.T) {
	t.Parallel()
	window := market.Range{From: day(12), To: day(12)}
	for text, want := range map[string]float64{"11.5": 11.5, "0.12345678901234567": 0.12345678901234567, "5e-05": 0.00005} {
		c, _ := client(says("["+row("11.5", text)+"]"), noon)
		series, err := c.History(t.Context(), "AAPL", window)
		bars := []market.Bar{{Date: day(12), Open: 10, High: 12.5, Low: 9.25, Close: 11, AdjClose: want, HasAdjClose: true, Volume: 5}}
		if err != nil || !cmp.Equal(series.Bars, bars) {
			t.Errorf("adjusted close %s: %+v, %v; want %+v", text, series.Bars, err, bars)
		}
	}
	for name, body := range map[string]string{
		"a date with an hour":  row("00:00:00", "16:00:00"),
		"a date without":       row("T00:00:00.000Z", ""),
		"no date":              row(`"date"`, `"day"`),
		"no adjusted close":    row(`"adjClose"`, `"adj"`),
		"null":                 row("11.5", "null"),
		"a text":               row("11.5", `"11.5"`),
		"too large":            row("11.5", "1e999"),
		"a volume of parts":    row(`"volume":5`, `"volume":5.5`),
		"a price of no digits": row("12.5", "1e1"),
		"an open twice":        row(`"open":10`, `"open":10,"open":10`),
		"an array":             "[]",
		"null instead":         "null",
	} {
		c, _ := client(says("["+row()+","+body+"]"), noon)
		series, err := c.History(t.Context(), "AAPL", window)
		if kindOf(t, err) != providers.BadPayload || len(series.Bars) != 0 {
			t.Errorf("%s: %d bars, %v; want BadPayload", name, len(series.Bars), err)
		}
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	c := tiingo.New(http.DefaultClient, tiingo.Options{BaseURL: "http://user:secret@[/", Now: noon})
	_, err := c.History(t.Context(), "AAPL", market.Range{From: day(12), To: day(12)})
	if kindOf(t, err) != providers.Rejected || strings.Contains(err.Error(), "secret") {
		t.Errorf("error = %v, want Rejected without the URL", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const unspecified = 255 // left to the transport or the decoder
	detail := func(text string) string { return fmt.Sprintf(`{"detail":%q}`, text) }
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   providers.Kind
		wait   time.Duration
	}{
		{"data", 200, `[{"date":"2026-03-12T00:00:00.000Z","close":11`, unspecified, 0},
		{"no bars", 200, "[]", unspecified, 0},
		{"unknown symbol", 404, detail("Not found."), providers.UnknownSymbol, 0},
		{"wrong path", 404, "404 page not found", providers.BadPayload, 0},
		{"wrong path, page", 404, "<html>Not found.</html>", providers.BadPayload, 0},
		{"no key", 401, detail("Please supply a token"), providers.Rejected, 0},
		{"wrong key", 403, detail("Invalid token."), providers.Rejected, 0},
		{"wrong key with 200", 200, detail("Invalid token."), providers.Rejected, 0},
		{"limit", 429, detail("slow down"), providers.RateLimited, time.Hour},
		{"the hour's with 200", 200, "Error: You have run over your hourly request allocation.", providers.RateLimited, time.Hour},
		{"the day's with 200", 200, "Error: You have run over your daily request allocation.", providers.Quota, 0},
		{"the day's as a text", 200, `"Error: You have run over your daily request allocation."`, providers.Quota, 0},
		{"the day's with 429", 429, detail("Error: You have run over your daily request allocation."), providers.Quota, 0},
		{"the month's symbols", 200, "Error: You have run over your 500 symbol look up for this month.", providers.Quota, 0},
		{"another sentence", 200, "Error: something else", providers.BadPayload, 0},
		{"empty", 200, "", providers.BadPayload, 0},
		{"page", 200, "<html>", providers.BadPayload, 0},
		{"down", 503, "<html>", unspecified, 0},
	} {
		e := tiingo.Check(tc.status, http.Header{}, []byte(tc.body))
		switch {
		case tc.want == unspecified && e != nil:
			t.Errorf("%s: %v, want no objection", tc.name, e)
		case tc.want != unspecified && (e == nil || e.Kind != tc.want || e.RetryAfter != tc.wait):
			t.Errorf("%s: %+v, want kind %d, wait %s", tc.name, e, tc.want, tc.wait)
		}
	}
	if e := tiingo.Check(200, nil, []byte("Error: a\nb\u0085c")); strings.ContainsAny(e.Error(), "\n\u0085") {
		t.Errorf("%q holds control characters", e.Error())
	}
}

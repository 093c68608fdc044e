package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func TestBarsAreSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		symbol := market.Symbol(rapid.StringMatching(`[A-Z][A-Z0-9]{0,4}(\.[A-Z]{1,2})?`).Draw(t, "symbol"))
		date := simulator.Listed() + market.Date(rapid.IntRange(0, 15_000).Draw(t, "days"))
		bar := simulator.Bar(symbol, date)
		if err := bar.Validate(); err != nil {
			t.Fatal(err)
		}
		if bar != simulator.Bar(symbol, date) || bar.Date != date {
			t.Fatalf("not a function of symbol and date: %+v", bar)
		}
		if before := simulator.Bar(symbol, date-1); bar.Close/before.Close > 1.25 || bar.Close/before.Close < 0.8 {
			t.Fatalf("close jumps from %v to %v", before.Close, bar.Close)
		}
	})
}

// The first dates that there are have bars like all others.
func TestBarsOfTheFirstDates(t *testing.T) {
	t.Parallel()
	for d := market.Date(-1); d < 3; d++ {
		if b := simulator.Bar("AAPL", d); b.Low < 1 {
			t.Errorf("bar %d = %+v", d, b)
		}
	}
}

// Answers are written in space that is used again.
func TestAnswersDoNotMix(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12)})
	server := httptest.NewServer(s)
	defer server.Close()
	var wg sync.WaitGroup
	for i, symbol := range market.SP500()[:8] {
		question := strings.Replace(aapl, "AAPL", string(symbol), 1) + []string{"", "&datatype=csv"}[i%2]
		alone := ask(t, simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12)}), question).Body.String()
		wg.Go(func() {
			for range 20 {
				if got := get(t.Context(), server.URL+"/query?"+question); !strings.HasSuffix(got, " "+alone) {
					t.Errorf("%s: %.300s", symbol, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestBarsDifferBySymbolAndDate(t *testing.T) {
	t.Parallel()
	seen := map[market.Bar]bool{}
	for _, s := range []market.Symbol{"AAPL", "MSFT", "BRK.A", "BRK.B"} {
		for d := simulator.Listed(); d < simulator.Listed()+1000; d++ {
			bar := simulator.Bar(s, d)
			bar.Date = 0
			seen[bar] = true
		}
	}
	if len(seen) != 4000 {
		t.Errorf("%d different bars, want 4000", len(seen))
	}
}

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 3, 13, 14, 0, 0, 0, time.UTC)}
}

func ask(t *testing.T, s http.Handler, query string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/query?"+query, nil))
	return w
}

const aapl = "function=TIME_SERIES_DAILY&symbol=AAPL&apikey=k1"

func TestJSONOnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12)})
	w := ask(t, s, strings.Replace(aapl, "AAPL", "brk-b", 1))
	if got := w.Header().Get("Content-Type"); w.Code != 200 || got != "application/json" {
		t.Errorf("status %d, type %q", w.Code, got)
	}
	b := simulator.Bar("BRK.B", market.NewDate(2026, 3, 12))
	want := strings.NewReplacer("{open}", text(b.Open), "{high}", text(b.High), "{low}", text(b.Low), "{close}", text(b.Close), "{volume}", volume(b.Volume)).Replace(`{
    "Meta Data": {
        "1. Information": "Daily Prices (open, high, low, close) and Volumes",
        "2. Symbol": "brk-b",
        "3. Last Refreshed": "2026-03-12",
        "4. Output Size": "Compact",
        "5. Time Zone": "US/Eastern"
    },
    "Time Series (Daily)": {
        "2026-03-12": {
            "1. open": "{open}",
            "2. high": "{high}",
            "3. low": "{low}",
            "4. close": "{close}",
            "5. volume": "{volume}"
        },
        "2026-03-11": {`)
	if !strings.HasPrefix(w.Body.String(), want) {
		t.Errorf("got %.700s\nwant %s", w.Body, want)
	}
	var doc struct {
		Series map[string]any `json:"Time Series (Daily)"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Series) != 100 {
		t.Errorf("%d bars, %v; want 100", len(doc.Series), err)
	}
	if !strings.Contains(w.Body.String(), "2026-03-06") || strings.Contains(w.Body.String(), "2026-03-07") {
		t.Error("want the Friday and not the Saturday")
	}
}

func text(v float64) string {
	out, _ := json.Marshal(v)
	whole, fraction, _ := strings.Cut(string(out), ".")
	return whole + "." + (fraction + "0000")[:4]
}

func volume(v int64) string {
	out, _ := json.Marshal(v)
	return string(out)
}

func TestCSVOnTheWire(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12), Premium: true})
	w := ask(t, s, aapl+"&datatype=csv&outputsize=full")
	lines := strings.Split(w.Body.String(), "\r\n")
	sessions, err := market.NYSE().Sessions(simulator.Listed(), market.NewDate(2026, 3, 12))
	if err != nil {
		t.Fatal(err)
	}
	if lines[0] != "timestamp,open,high,low,close,volume" || len(lines) != len(sessions)+2 || lines[len(lines)-1] != "" {
		t.Errorf("%d lines, first %q; want %d", len(lines), lines[0], len(sessions)+2)
	}
	if !strings.HasPrefix(lines[1], "2026-03-12,") || !strings.HasPrefix(lines[len(lines)-2], "1999-11-01,") {
		t.Errorf("from %q to %q", lines[1], lines[len(lines)-2])
	}
	if got := w.Header().Get("Content-Disposition"); got != "attachment; filename=daily_AAPL.csv" {
		t.Errorf("Content-Disposition = %q", got)
	}
}

func TestQuestionsEarnMessages(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Key: "k1", Now: newClock().Now})
	for query, want := range map[string]string{
		"function=TIME_SERIES_DAILY&symbol=AAPL":                         "apikey is invalid or missing",
		"function=TIME_SERIES_DAILY&symbol=AAPL&apikey=k2":               "apikey is invalid or missing",
		"function=NEWS&symbol=AAPL&apikey=k1":                            "This API function (NEWS) does not exist",
		"function=TIME_SERIES_DAILY&symbol=&apikey=k1":                   "Invalid API call",
		"function=TIME_SERIES_DAILY&symbol=A%20B&apikey=k1&datatype=csv": "Invalid API call",
		aapl + "&outputsize=full":                                        "premium feature",
	} {
		w := ask(t, s, query)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || !strings.HasPrefix(w.Body.String(), "{\n    \"") {
			t.Errorf("%s: %d %s, want %q", query, w.Code, w.Body, want)
		}
	}
	if got := s.Violations(); len(got) != 0 {
		t.Errorf("violations without a limit: %v", got)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := simulator.New(simulator.Config{PerSecond: 2, PerMinute: 4, PerDay: 6, Now: c.Now})
	for i, step := range []struct {
		wait time.Duration
		want string
	}{
		{0, "Meta Data"},
		{0, "Meta Data"},
		{999 * time.Millisecond, "1 request per second"},
		{time.Second, "Meta Data"},
		{time.Second, "5 calls per minute"}, // the refused call counts too
		{time.Minute, "Meta Data"},
		{time.Second, "25 requests per day"},
		{14 * time.Hour, "Meta Data"}, // New York's midnight is past
	} {
		c.add(step.wait)
		if w := ask(t, s, aapl); !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("call %d: %.200s, want %q", i, w.Body, step.want)
		}
	}
	if got := s.Violations(); len(got) != 3 || !strings.Contains(got[0], "3 calls within a second, limit 2") {
		t.Errorf("violations = %q, want 3", got)
	}
	outcomes := []string{}
	for _, call := range s.Calls() {
		outcomes = append(outcomes, call.Outcome)
	}
	want := []string{"bars", "bars", "burst", "bars", "minute_note", "bars", "daily_quota", "bars"}
	if !slices.Equal(outcomes, want) {
		t.Errorf("outcomes = %v, want %v", outcomes, want)
	}
	for d, want := range map[time.Duration]int{time.Second: 3, time.Minute: 5, 24 * time.Hour: 8, time.Nanosecond: 2} {
		if got := s.MaxInWindow(d); got != want {
			t.Errorf("most calls within %s = %d, want %d", d, got, want)
		}
	}
}

// A window does not hold both of its ends.
func TestCallsExactlyAWindowApart(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := simulator.New(simulator.Config{PerSecond: 1, Now: c.Now})
	for range 3 {
		ask(t, s, aapl)
		c.add(time.Second)
	}
	if got := s.Violations(); len(got) != 0 || s.MaxInWindow(time.Second) != 1 {
		t.Errorf("violations %q, at most %d a second; want none and 1", got, s.MaxInWindow(time.Second))
	}
}

func TestLimitMessageEchoesTheKey(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{PerDay: 1, Now: newClock().Now})
	ask(t, s, aapl)
	if w := ask(t, s, aapl); !strings.Contains(w.Body.String(), "your API key as k1 ") {
		t.Errorf("got %s", w.Body)
	}
}

func TestFaultNames(t *testing.T) {
	t.Parallel()
	names := simulator.Faults()
	if len(names) < 50 || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("%d names, not all different: %v", len(names), names)
	}
	for _, name := range names {
		if f, err := simulator.ParseFault(name); err != nil || string(f) != name {
			t.Errorf("%s: %q, %v", name, f, err)
		}
	}
	if _, err := simulator.ParseFault("sunshine"); err == nil || !strings.Contains(err.Error(), `"sunshine": want one of daily_quota,`) {
		t.Errorf("error = %v", err)
	}
}

func TestFaultsArePlannedInOrder(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: newClock().Now})
	s.Fault("", simulator.Null, -1)
	s.Fault("AAPL", simulator.EmptyObject, 2)
	s.Fault("AAPL", simulator.EmptyArray, 1)
	s.Fault("AAPL", simulator.HTML, 0)
	s.Fault("AAPL", "sunshine", 1)
	for i, want := range []string{"{}", "{}", "[]", "null", "null"} {
		if got := ask(t, s, aapl).Body.String(); got != want {
			t.Errorf("call %d = %q, want %q", i, got, want)
		}
	}
	s.Reset()
	if got := ask(t, s, aapl).Body.String(); !strings.Contains(got, "Meta Data") {
		t.Errorf("after the reset: %q", got)
	}
	if n := len(s.Calls()); n != 1 {
		t.Errorf("%d calls remembered, want 1", n)
	}
}

func TestEveryFaultAnswers(t *testing.T) {
	t.Parallel()
	for _, csv := range []string{"", "&datatype=csv"} {
		for _, name := range simulator.Faults() {
			t.Run(name+csv, func(t *testing.T) {
				t.Parallel()
				s := simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12)})
				s.Fault("AAPL", simulator.Fault(name), -1)
				server := httptest.NewServer(s)
				defer server.Close()
				patience := 30 * time.Second
				if strings.HasPrefix(name, "slow_") {
					patience = 2 * time.Second
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				good := ask(t, simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12)}), aapl+csv).Body.String()
				if get(ctx, server.URL+"/query?"+aapl+csv) == "200 application/json "+good {
					t.Error("the fault does nothing")
				}
				if calls := s.Calls(); len(calls) == 0 || calls[0].Outcome != "fault:"+name {
					t.Errorf("calls = %+v", calls)
				}
			})
		}
	}
}

// get returns all that can be seen of an answer, or the error.
func get(ctx context.Context, address string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err.Error()
	}
	return resp.Status[:3] + " " + resp.Header.Get("Content-Type") + " " + string(body)
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{PerMinute: 1, Now: newClock().Now})
	admin := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	if w := admin("POST", "/_simulator/faults?symbol=AAPL&fault=empty_object&times=1"); w.Code != 204 {
		t.Fatalf("plan: %d %s", w.Code, w.Body)
	}
	for _, bad := range []string{"fault=x", "fault=html&symbol=aapl", "fault=html&times=0", "fault=html&times=x", ""} {
		if w := admin("POST", "/_simulator/faults?"+bad); w.Code != 400 || !strings.Contains(w.Body.String(), "want") && !strings.Contains(w.Body.String(), "write") {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	if got := ask(t, s, aapl).Body.String(); got != "{}" {
		t.Errorf("planned fault: %q", got)
	}
	ask(t, s, aapl)
	var report simulator.Report
	if err := json.Unmarshal(admin("GET", "/_simulator/report").Body.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if report.Calls != 2 || report.MaxPerMinute != 2 || report.MaxPerSecond != 2 || report.MaxPerDay != 2 ||
		report.BySymbol["AAPL"] != 2 || len(report.Violations) != 1 {
		t.Errorf("report = %+v", report)
	}
	var calls []simulator.Call
	if err := json.Unmarshal(admin("GET", "/_simulator/calls").Body.Bytes(), &calls); err != nil || len(calls) != 2 {
		t.Fatalf("calls = %v, %v", calls, err)
	}
	if calls[0].Outcome != "fault:empty_object" || calls[1].Outcome != "minute_note" || calls[0].OutputSize != "compact" || calls[0].DataType != "json" {
		t.Errorf("calls = %+v", calls)
	}
	if strings.Contains(admin("GET", "/_simulator/calls").Body.String(), "k1") {
		t.Error("the key is in the log")
	}
	if w := admin("POST", "/_simulator/reset"); w.Code != 204 || len(s.Calls()) != 0 || len(s.Violations()) != 0 {
		t.Errorf("reset: %d, %v", w.Code, s.Calls())
	}
	if !strings.Contains(admin("GET", "/_simulator/faults").Body.String(), `"gzip_bomb"`) {
		t.Error("the list of faults lacks gzip_bomb")
	}
	if w := admin("GET", "/elsewhere"); w.Code != 404 {
		t.Errorf("other path: %d", w.Code)
	}
}

func TestLatencyEndsWithTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Config{Latency: time.Minute, Through: market.NewDate(2026, 3, 12)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start, w := time.Now(), httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/query?"+aapl, nil))
		if took := time.Since(start); took != time.Second || w.Body.Len() != 0 {
			t.Errorf("%d bytes after %s, want none after 1s", w.Body.Len(), took)
		}
		start = time.Now()
		if ask(t, s, aapl); time.Since(start) != time.Minute {
			t.Errorf("answered after %s, want 1m", time.Since(start))
		}
	})
}

func TestClockOutsideTheCalendar(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Now: func() time.Time { return time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) }})
	if w := ask(t, s, aapl); w.Code != 500 || !strings.Contains(w.Body.String(), "is not known") {
		t.Errorf("%d %s, want status 500 and the reason", w.Code, w.Body)
	}
}

func BenchmarkCompact(b *testing.B) {
	s := simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12)})
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/query?"+aapl, nil)
	for b.Loop() {
		s.ServeHTTP(httptest.NewRecorder(), r)
		s.Reset()
	}
}

func BenchmarkFull(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			s := simulator.New(simulator.Config{Through: market.NewDate(2026, 3, 12), Premium: true})
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/query?"+aapl+"&outputsize=full", nil)
			r.Header.Set("Accept-Encoding", encoding)
			for b.Loop() {
				w := sink{header: http.Header{}}
				s.ServeHTTP(&w, r)
				b.SetBytes(w.n)
			}
		})
	}
}

// sink takes an answer and keeps its length alone.
type sink struct {
	header http.Header
	n      int64
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return len(p), nil
}

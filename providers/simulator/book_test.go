package simulator_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func through() market.Date { return market.NewDate(2026, 3, 12) }

// served returns the bars that the simulator has for AAPL, oldest first.
func served(t *testing.T, s http.Handler, size string) []market.Bar {
	t.Helper()
	w := ask(t, s, aapl+"&datatype=csv&outputsize="+size)
	lines := strings.Split(strings.TrimSuffix(w.Body.String(), "\r\n"), "\r\n")
	if lines[0] != "timestamp,open,high,low,close,volume" {
		t.Fatalf("got %.300s", w.Body)
	}
	bars := make([]market.Bar, 0, len(lines))
	for _, line := range lines[1:] {
		bars = append(bars, parse(t, line))
	}
	slices.Reverse(bars)
	return bars
}

func parse(t *testing.T, line string) (b market.Bar) {
	t.Helper()
	text := strings.Split(line, ",")
	var errs [6]error
	b.Date, errs[0] = market.ParseDate(text[0])
	for i, to := range []*float64{&b.Open, &b.High, &b.Low, &b.Close} {
		*to, errs[i+1] = strconv.ParseFloat(text[i+1], 64)
	}
	b.Volume, errs[5] = strconv.ParseInt(text[5], 10, 64)
	for _, err := range errs {
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
	}
	return b
}

// truth returns the bars of AAPL from one date to another but for some dates.
func truth(t *testing.T, from, to market.Date, but ...market.Date) []market.Bar {
	t.Helper()
	sessions, err := market.NYSE().Sessions(from, to)
	if err != nil {
		t.Fatal(err)
	}
	var bars []market.Bar
	for _, d := range sessions {
		if !slices.Contains(but, d) {
			bars = append(bars, simulator.Bar("AAPL", d))
		}
	}
	return bars
}

func same(t *testing.T, got, want []market.Bar) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bars, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("bar = %+v, want %+v", got[i], want[i])
		}
	}
}

func TestListed(t *testing.T) {
	t.Parallel()
	first := market.NewDate(2026, 2, 17)
	s := simulator.New(simulator.Config{
		Through: through(), Premium: true,
		Listed: map[market.Symbol]market.Date{"AAPL": first, "MSFT": market.NewDate(1980, 1, 2), "NEW": through() + 1},
	})
	for _, size := range []string{"compact", "full"} {
		same(t, served(t, s, size), truth(t, first, through()))
	}
	same(t, served(t, simulator.New(simulator.Config{Through: through(), Premium: true}), "full"), truth(t, simulator.Listed(), through()))
	old := ask(t, s, strings.Replace(aapl, "AAPL", "MSFT", 1)+"&outputsize=full&datatype=csv").Body.String()
	if !strings.HasSuffix(strings.Split(old, "\r\n")[strings.Count(old, "\n")-1], ","+volume(simulator.Bar("MSFT", market.NewDate(1990, 1, 2)).Volume)) {
		t.Errorf("a history from before the calendar ends with %q", old[len(old)-100:])
	}
	if w := ask(t, s, strings.Replace(aapl, "AAPL", "NEW", 1)); !strings.Contains(w.Body.String(), "Invalid API call") {
		t.Errorf("before its listing: %.200s, want an unknown symbol", w.Body)
	}
}

func TestLack(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through(), Premium: true})
	gone := []market.Date{through(), market.NewDate(2026, 3, 3), market.NewDate(2001, 5, 8)}
	s.Lack("AAPL", gone[:2]...)
	s.Lack("AAPL", gone[2])
	s.Lack("MSFT", through()-1)
	all := truth(t, simulator.Listed(), through(), gone...)
	same(t, served(t, s, "full"), all)
	same(t, served(t, s, "compact"), all[len(all)-100:])
	s.Unlack("AAPL", gone[1:]...)
	same(t, served(t, s, "full"), truth(t, simulator.Listed(), through(), through()))
	s.Reset()
	same(t, served(t, s, "full"), truth(t, simulator.Listed(), through()))
}

func TestSplit(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through(), Premium: true})
	on, before := market.NewDate(2026, 3, 2), market.NewDate(2014, 6, 9)
	want := truth(t, simulator.Listed(), through())
	base := func(bars []market.Bar) []market.Bar {
		bars = slices.Clone(bars)
		for i, b := range bars {
			switch {
			case b.Date < before:
				bars[i] = simulator.SplitBar(b, 4*7)
			case b.Date < on:
				bars[i] = simulator.SplitBar(b, 4)
			}
		}
		return bars
	}
	for _, bad := range []float64{0, -2, 0.0009, 1001, math.NaN(), math.Inf(1)} {
		s.Split("AAPL", on, bad)
	}
	s.Split("MSFT", on, 2)
	same(t, served(t, s, "full"), want)
	s.Split("AAPL", on, 4)
	s.Split("AAPL", before, 7)
	same(t, served(t, s, "full"), base(want))
	same(t, served(t, s, "compact"), base(want)[len(want)-100:])
	s.Reset()
	same(t, served(t, s, "full"), want)
}

func TestSplitBarIsSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		symbol := market.Symbol(rapid.StringMatching(`[A-Z]{1,5}`).Draw(t, "symbol"))
		bar := simulator.Bar(symbol, simulator.Listed()+market.Date(rapid.IntRange(0, 15_000).Draw(t, "days")))
		ratio := rapid.Float64Range(0.001, 1000).Draw(t, "ratio")
		got := simulator.SplitBar(bar, ratio)
		if err := got.Validate(); err != nil {
			t.Fatalf("%+v: %v", got, err)
		}
		if off := math.Abs(got.Close - bar.Close/ratio); got.Date != bar.Date || off > 0.00005001 {
			t.Fatalf("close %v, want %v to four decimals", got.Close, bar.Close/ratio)
		}
		if off := math.Abs(float64(got.Volume) - float64(bar.Volume)*ratio); off > 0.5 {
			t.Fatalf("volume %d, want %v", got.Volume, float64(bar.Volume)*ratio)
		}
		if whole := simulator.SplitBar(bar, 1); whole != bar {
			t.Fatalf("one for one makes %+v of %+v", whole, bar)
		}
	})
}

func TestSplitBarByHand(t *testing.T) {
	t.Parallel()
	bar := market.Bar{Date: through(), Open: 100, High: 110.0002, Low: 0.0001, Close: 99.9999, Volume: 7, AdjClose: 50, HasAdjClose: true}
	want := market.Bar{Date: through(), Open: 25, High: 27.5001, Low: 0.0001, Close: 25, Volume: 28, AdjClose: 50, HasAdjClose: true}
	if got := simulator.SplitBar(bar, 4); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBooksThroughTheAdmin(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through(), Premium: true})
	post := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/_simulator/"+path, nil))
		return w
	}
	for _, path := range []string{"lack?symbol=AAPL&date=2026-03-10", "split?symbol=AAPL&on=2026-03-11&ratio=0.5"} {
		if w := post(path); w.Code != http.StatusNoContent {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	want := truth(t, market.NewDate(2026, 3, 9), through(), market.NewDate(2026, 3, 10))
	want[0] = simulator.SplitBar(want[0], 0.5)
	same(t, served(t, s, "compact")[97:], want)
	for path, reason := range map[string]string{
		"lack":                                       "symbol",
		"lack?symbol=a b":                            "symbol",
		"lack?symbol=AAPL":                           "date: ",
		"lack?symbol=AAPL&date=3/12":                 `date: date "3/12": want a calendar date`,
		"split?on=2026-03-11&ratio=2":                "symbol",
		"split?symbol=AAPL&ratio=2":                  "on: ",
		"split?symbol=AAPL&on=2026-03-11":            `ratio "": want new shares for one old, from 0.001 to 1000`,
		"split?symbol=AAPL&on=2026-03-11&ratio=0":    `ratio "0"`,
		"split?symbol=AAPL&on=2026-03-11&ratio=NaN":  `ratio "NaN"`,
		"split?symbol=AAPL&on=2026-03-11&ratio=1001": `ratio "1001"`,
	} {
		if w := post(strings.ReplaceAll(path, " ", "%20")); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), reason) {
			t.Errorf("%s: %d %s, want 400 and %q", path, w.Code, w.Body, reason)
		}
	}
	same(t, served(t, s, "compact")[97:], want)
	if w := post("reset"); w.Code != http.StatusNoContent {
		t.Errorf("reset: %d", w.Code)
	}
	same(t, served(t, s, "full"), truth(t, simulator.Listed(), through()))
}

// Faults that take a row away or change one do not need that row.
func TestFaultsOfFewBars(t *testing.T) {
	t.Parallel()
	for few := range 6 {
		sessions := truth(t, through()-30, through())
		first := through() + 1
		if few > 0 {
			first = sessions[len(sessions)-few].Date
		}
		for _, name := range simulator.Faults() {
			switch simulator.Fault(name) {
			case simulator.SlowBody, simulator.SlowHeaders, simulator.GzipBomb, simulator.TruncatedLength,
				simulator.TruncatedClose, simulator.TruncatedGzip, simulator.ShortLength, simulator.Reset:
				continue // of the way, not of the bars
			}
			s := simulator.New(simulator.Config{Through: through(), Listed: map[market.Symbol]market.Date{"AAPL": first}})
			s.Fault("AAPL", simulator.Fault(name), 1)
			if w := ask(t, s, aapl); w.Code == 0 || len(s.Calls()) != 1 || s.Calls()[0].Outcome != "fault:"+name {
				t.Errorf("%s of %d bars: %d, %+v", name, few, w.Code, s.Calls())
			}
		}
	}
}

// A server answers while its books change: the race detector watches, and each
// answer is of one state.
func TestBooksChangeWhileServing(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Through: through()})
	last := truth(t, through(), through())[0]
	states := []market.Bar{last, simulator.SplitBar(last, 2), simulator.SplitBar(last, 4), simulator.SplitBar(last, 8)}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if i == 0 {
				for range 3 {
					s.Split("AAPL", through()+1, 2)
					s.Lack("AAPL", through()-1)
				}
				return
			}
			for range 5 {
				bars := served(t, s, "compact")
				if got := bars[len(bars)-1]; !slices.Contains(states, got) {
					t.Errorf("bar = %+v", got)
				}
			}
		})
	}
	wg.Wait()
	if bars := served(t, s, "compact"); bars[99] != states[3] || bars[98].Date != through()-2 {
		t.Errorf("in the end %+v after %s", bars[99], bars[98].Date)
	}
}

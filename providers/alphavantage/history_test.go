package alphavantage_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// recent is the oldest of the newest 100 sessions at noon, of which one is the
// running one's.
func recent() market.Date { return market.NewDate(2025, time.October, 20) }

// history is the window that backfills ask for.
func history() market.Range {
	return market.Range{From: market.NewDate(2006, time.March, 12), To: day(3, 12)}
}

// backfill is a client that is told of a plan with outputsize=full, at a
// simulator whose plan has it or not.
func backfill(t *testing.T, premium bool) *wire {
	t.Helper()
	return wired(t, simulator.Config{Premium: premium}, alphavantage.Options{Full: true}, 20*time.Second)
}

func sizes(sim *simulator.Server) []string {
	var out []string
	for _, call := range sim.Calls() {
		out = append(out, call.OutputSize)
	}
	return out
}

func checkReach(t *testing.T, c *alphavantage.Client, want market.Date) {
	t.Helper()
	if got, err := c.Reach(); err != nil || got != want {
		t.Errorf("reach = %q, %v; want %q", got, err, want)
	}
}

func TestHistoryIsWhole(t *testing.T) {
	t.Parallel()
	for _, csv := range []bool{false, true} {
		c := wired(t, simulator.Config{Premium: true}, alphavantage.Options{Full: true, CSV: csv}, 20*time.Second).client
		checkReach(t, c, 0)
		series, err := c.History(t.Context(), "BRK.B", history())
		if err != nil {
			t.Fatal(err)
		}
		sessions, err := market.NYSE().Sessions(simulator.Listed(), day(3, 12))
		if err != nil {
			t.Fatal(err)
		}
		if len(series.Bars) != len(sessions) || series.Symbol != "BRK.B" || series.Source != alphavantage.Name {
			t.Fatalf("csv %t: %d bars of %s from %s, want %d", csv, len(series.Bars), series.Symbol, series.Source, len(sessions))
		}
		for i, d := range sessions {
			if want := simulator.Bar("BRK.B", d); series.Bars[i] != want {
				t.Fatalf("csv %t: bar = %+v, want %+v", csv, series.Bars[i], want)
			}
		}
		checkReach(t, c, 0)
	}
}

// Such a plan is found out once, and by many callers at a time too.
func TestHistoryOfAPlanWithoutIt(t *testing.T) {
	t.Parallel()
	w := backfill(t, false)
	c := w.client
	var wg sync.WaitGroup
	for _, s := range market.SP500()[:8] {
		wg.Go(func() {
			_, _ = c.Reach()
			if series, err := c.History(t.Context(), s, history()); err != nil || len(series.Bars) != 100 {
				t.Errorf("%s: %d bars, %v; want the newest 100", s, len(series.Bars), err)
			}
		})
	}
	wg.Wait()
	checkReach(t, c, recent())
	w.sim.Reset()
	old := market.Range{From: history().From, To: history().From + 700}
	_, err := c.History(t.Context(), "AAPL", old)
	var known *providers.Error
	if !errors.As(err, &known) || known.Kind != providers.PremiumOnly || known.Op != "daily bars AAPL" {
		t.Errorf("a window that ends before the newest 100: %v, want kind PremiumOnly", err)
	}
	if got := sizes(w.sim); !slices.Equal(got, []string{"compact"}) {
		t.Errorf("asked for %v, want compact alone", got)
	}
}

func TestReachOfAFreeKey(t *testing.T) {
	t.Parallel()
	checkReach(t, alphavantage.New(http.DefaultClient, "https://vendor.example", alphavantage.Options{Now: noon}), recent())
	sessions, err := market.NYSE().Sessions(recent(), day(3, 12))
	if err != nil || len(sessions) != 99 {
		t.Errorf("%d sessions since %s, %v; want 99", len(sessions), recent(), err)
	}
	late := func() time.Time { return time.Date(2300, 1, 2, 0, 0, 0, 0, time.UTC) }
	c := alphavantage.New(http.DefaultClient, "https://vendor.example", alphavantage.Options{Now: late})
	if got, err := c.Reach(); got != 0 || !errors.As(err, new(*market.UnknownYearError)) {
		t.Errorf("reach = %q, %v; want a *market.UnknownYearError", got, err)
	}
}

// silent answers with as many bars as the next of lengths says, up to through,
// whatever is asked.
func silent(t *testing.T, through market.Date, lengths ...int) (c *alphavantage.Client, asked *[]string) {
	t.Helper()
	asked = new([]string)
	hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
		doc := newestTo(t, through, lengths[len(*asked)])
		*asked = append(*asked, r.URL.Query().Get("outputsize"))
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(doc))}, nil
	})}
	return alphavantage.New(hc, "https://vendor.example", alphavantage.Options{Full: true, Now: noon}), asked
}

func TestTheNewestHundredForTheWholeHistory(t *testing.T) {
	t.Parallel()
	// The newest 100 begin on Friday 2025-10-17, those with the running
	// session on the Monday after.
	friday, closed, running := market.NewDate(2025, time.October, 17), day(3, 12), day(3, 13)
	for name, test := range map[string]struct {
		through market.Date
		lengths []int
		from    market.Date
		refused bool
	}{
		"a plan without a word":       {closed, []int{100, 100}, history().From, true},
		"with the running session":    {running, []int{100, 100}, history().From, true},
		"a listing of that day":       {closed, []int{101, 100}, history().From, false},
		"the window begins there":     {closed, []int{100, 100}, friday, false},
		"a session before":            {closed, []int{100, 100}, friday - 1, true},
		"on the Saturday before":      {running, []int{100, 100}, friday + 1, false},
		"on the Friday before":        {running, []int{100, 100}, friday, true},
		"more after such an answer":   {closed, []int{100, 101}, history().From, true},
		"a session more than hundred": {closed, []int{101, 101}, history().From, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, asked := silent(t, test.through, test.lengths...)
			for _, n := range test.lengths {
				series, err := c.History(t.Context(), "AAPL", market.Range{From: test.from, To: closed})
				if err != nil || len(series.Bars) != n {
					t.Fatalf("%d bars, %v; want %d", len(series.Bars), err, n)
				}
			}
			want, reach := []string{"full", "full"}, market.Date(0)
			if test.refused {
				want, reach = []string{"full", "compact"}, recent()
			}
			checkReach(t, c, reach)
			if !slices.Equal(*asked, want) {
				t.Errorf("asked for %v, want %v", *asked, want)
			}
		})
	}
}

// A short history is that of a new listing, if the newest bars say so too.
func TestAShortHistoryIsConfirmed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lengths []int
		refused bool
	}{
		"a new listing":             {[]int{99, 99}, false},
		"one bar of a long history": {[]int{1, 100}, true},
		"a few of a short one":      {[]int{5, 6}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, asked := silent(t, day(3, 12), test.lengths...)
			series, err := c.History(t.Context(), "AAPL", history())
			if refused := outcome(err) == "bad_payload"; refused != test.refused || !refused && (err != nil || len(series.Bars) != test.lengths[0]) {
				t.Errorf("%d bars, %v", len(series.Bars), err)
			}
			checkReach(t, c, 0)
			if !slices.Equal(*asked, []string{"full", "compact"}) {
				t.Errorf("asked for %v", *asked)
			}
		})
	}
	c, asked := silent(t, day(3, 12), 40)
	oldest, err := market.NYSE().Back(day(3, 12), 39)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.History(t.Context(), "AAPL", market.Range{From: oldest, To: day(3, 12)})
	if err != nil || len(*asked) != 1 {
		t.Errorf("%v, asked for %v: an answer that reaches back to its window is not doubted", err, *asked)
	}
}

// DailyBars too takes them for what they are: no answer to an older window.
func TestTheNewestHundredForAnOlderWindow(t *testing.T) {
	t.Parallel()
	old := market.Range{From: history().From, To: history().From + 700}
	c, asked := silent(t, day(3, 12), 100, 100)
	for range 2 {
		_, err := c.DailyBars(t.Context(), "AAPL", old)
		var known *providers.Error
		if !errors.As(err, &known) || known.Kind != providers.PremiumOnly {
			t.Errorf("error = %v, want kind PremiumOnly", err)
		}
	}
	if !slices.Equal(*asked, []string{"full", "compact"}) {
		t.Errorf("asked for %v", *asked)
	}
	c, _ = silent(t, day(3, 12), 200, 100)
	for _, n := range []int{200, 100} {
		if series, err := c.DailyBars(t.Context(), "AAPL", old); err != nil || len(series.Bars) != n {
			t.Errorf("%d bars, %v; want %d of a plan that has given more than 100", len(series.Bars), err, n)
		}
	}
}

// What is neither bars nor a refusal says nothing about the plan.
func TestHistoryThatFails(t *testing.T) {
	t.Parallel()
	for fault, want := range map[simulator.Fault]string{
		simulator.Burst:       "limit_note",
		simulator.DailyQuota:  "quota",
		simulator.BadSymbol:   "unknown_symbol",
		simulator.BadNumber:   "bad_payload",
		simulator.EmptySeries: "no_data",
		simulator.Reset:       "provider_error",
	} {
		w := backfill(t, true)
		w.sim.Fault("AAPL", fault, -1)
		series, err := w.client.History(t.Context(), "AAPL", history())
		if got := outcome(err); got != want || len(series.Bars) != 0 || !strings.HasPrefix(err.Error(), "alpha_vantage: daily bars AAPL: ") {
			t.Errorf("%s: %d bars, %s, %v; want %s", fault, len(series.Bars), got, err, want)
		}
		w.findKey(t, err)
		checkReach(t, w.client, 0)
		if got := slices.Compact(sizes(w.sim)); !slices.Equal(got, []string{"full"}) {
			t.Errorf("%s: asked for %v, want full alone", fault, got)
		}
	}
}

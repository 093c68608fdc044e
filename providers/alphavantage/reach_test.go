package alphavantage_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// newest returns the document of n daily bars, up to 2026-03-12.
func newest(t *testing.T, n int) string {
	t.Helper()
	return newestTo(t, day(3, 12), n)
}

func newestTo(t *testing.T, through market.Date, n int) string {
	t.Helper()
	from, err := market.NYSE().Back(through, n-1)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := market.NYSE().Sessions(from, through)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(sessions)
	rows := make([]string, n)
	for i, d := range sessions {
		rows[i] = strings.Replace(goodBar, "2026-03-12", d.String(), 1)
	}
	return document(strings.Join(rows, ","))
}

func TestHundredSessionsThatDoNotReachTheWindow(t *testing.T) {
	t.Parallel()
	ended := market.Range{From: day(1, 2) - 700, To: day(1, 2) - 600}
	for _, test := range []struct {
		name   string
		bars   int
		window market.Range
		kind   providers.Kind
		ok     bool
	}{
		{"the window ends before them", 100, ended, providers.PremiumOnly, false},
		{"the window ends within them", 100, market.Range{From: ended.From, To: day(3, 2)}, 0, true},
		{"the symbol was listed later", 30, ended, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(newest(t, test.bars)))}, nil
			})}
			_, err := alphavantage.New(hc, "https://vendor.example", alphavantage.Options{Now: noon}).
				DailyBars(t.Context(), "AAPL", test.window)
			var known *providers.Error
			switch {
			case test.ok && err != nil:
				t.Error(err)
			case !test.ok && (!errors.As(err, &known) || known.Kind != test.kind || !known.Stops()):
				t.Errorf("error %v", err)
			}
		})
	}
}

// A plan without outputsize=full is found out once, not once a symbol.
func TestAPlanWithoutTheWholeHistory(t *testing.T) {
	t.Parallel()
	var sizes []string
	hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
		size := r.URL.Query().Get("outputsize")
		sizes = append(sizes, size)
		if size == "full" {
			return nil, &providers.Error{Provider: alphavantage.Name, Kind: providers.PremiumOnly, Err: errors.New("premium")}
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(newest(t, 99)))}, nil
	})}
	c := alphavantage.New(hc, "https://vendor.example", alphavantage.Options{Full: true, Now: noon})
	for range 2 {
		series, err := c.DailyBars(t.Context(), "AAPL", market.Range{From: 1, To: day(1, 2) - 600})
		if err != nil || len(series.Bars) != 99 {
			t.Fatalf("%d bars, %v", len(series.Bars), err)
		}
	}
	if want := []string{"full", "compact", "compact"}; !slices.Equal(sizes, want) {
		t.Errorf("asked for %v, want %v", sizes, want)
	}
}

package providertest

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// Fuzz answers the source's first call for AAPL with anything at all, and begins
// with what the simulator answers, right and wrong. Whatever comes must be an
// error without bars, or bars with the dates in ascending order and with numbers
// that are numbers.
func (h HTTP) Fuzz(f *testing.F) {
	f.Helper()
	for _, fault := range []simulator.Fault{
		"", simulator.PartialBar, simulator.Unsorted, simulator.DuplicateBars, simulator.Exponent,
		simulator.BadNumber, simulator.HugeNumber, simulator.NaN, simulator.BadUTF8, simulator.ByteOrderMark, simulator.Trailing,
	} {
		f.Add(h.answer(f, fault))
	}
	for _, text := range []string{"", "{}", "[]", "null", `{"a":`, `{"error":"x"}`, "<html>", "\uFEFF"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		calls := 0
		hc := &http.Client{Transport: tripFunc(func(*http.Request) *http.Response {
			if calls++; calls > 1 {
				body = nil // another page
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body))}
		})}
		series, err := h.New("http://vendor.example", hc, now).DailyBars(t.Context(), "AAPL", brief())
		if err != nil && len(series.Bars) != 0 {
			t.Fatalf("%d bars and %v", len(series.Bars), err)
		}
		for i, b := range series.Bars {
			for _, v := range []float64{b.Open, b.High, b.Low, b.Close, b.AdjClose} {
				if !(v >= 0 && v <= math.MaxFloat64) || b.Volume < 0 || b.Date <= 0 {
					t.Fatalf("bar %+v", b)
				}
			}
			if i > 0 && b.Date < series.Bars[i-1].Date {
				t.Fatalf("%s comes after %s", b.Date, series.Bars[i-1].Date)
			}
		}
	})
}

// brief is a window of a few sessions.
func brief() market.Range { return market.Range{From: session() - 3, To: session()} }

// answer returns what the simulator answers to a call, with a fault if it has
// that.
func (h HTTP) answer(f *testing.F, fault simulator.Fault) []byte {
	f.Helper()
	sim := h.Simulator(Setup{Now: now, Through: session()})
	sim.Fault("AAPL", fault, 1)
	w := httptest.NewRecorder()
	hc := &http.Client{Transport: tripFunc(func(r *http.Request) *http.Response {
		h.Sign("k")(r)
		sim.ServeHTTP(w, r)
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
	})}
	// The client gets nothing; what it asked for is what counts.
	_, err := h.New("http://vendor.example", hc, now).DailyBars(f.Context(), "AAPL", brief())
	if err == nil || w.Body.Len() == 0 {
		f.Fatalf("%d bytes, %v; want an answer, and an error for none", w.Body.Len(), err)
	}
	return w.Body.Bytes()
}

type tripFunc func(*http.Request) *http.Response

// RoundTrip implements [http.RoundTripper].
func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r)
	resp.Request, resp.Header = r, http.Header{}
	return resp, nil
}

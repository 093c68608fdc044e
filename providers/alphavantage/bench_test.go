package alphavantage_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func BenchmarkHistory(b *testing.B) {
	for name, query := range map[string]string{"JSON": "", "CSV": "&datatype=csv"} {
		b.Run(name, func(b *testing.B) {
			w := httptest.NewRecorder()
			simulator.New(simulator.Config{Through: day(3, 12), Premium: true}).ServeHTTP(w, httptest.NewRequestWithContext(
				b.Context(), http.MethodGet, "/query?function=TIME_SERIES_DAILY&symbol=AAPL&apikey=k&outputsize=full"+query, nil))
			doc := w.Body.Bytes()
			hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(doc))}, nil
			})}
			c := alphavantage.New(hc, "https://vendor.example", alphavantage.Options{Full: true, CSV: query != "", Now: noon})
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				series, err := c.History(b.Context(), "AAPL", market.Range{From: 1, To: day(3, 12)})
				if err != nil || len(series.Bars) < 6000 {
					b.Fatal(len(series.Bars), err)
				}
			}
		})
	}
}

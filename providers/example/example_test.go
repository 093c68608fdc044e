package example_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/example"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func source() providertest.HTTP {
	return providertest.HTTP{
		Name: example.Name,
		New: func(base string, hc *http.Client, _ func() time.Time) providertest.Client {
			return example.New(hc, base)
		},
		Sign: example.Sign, Check: example.Check, Simulator: providertest.Custom(vendor()),
	}
}

// vendor is all that the suite has to know of the vendor to simulate it.
func vendor() simulator.Custom {
	return simulator.Custom{
		Ask: func(r *http.Request) simulator.Question {
			from, _ := market.ParseDate(r.FormValue("from"))
			to, _ := market.ParseDate(r.FormValue("to"))
			symbol := strings.TrimPrefix(r.URL.Path, "/bars/")
			return simulator.Question{Key: r.Header.Get("X-Api-Key"), Symbol: symbol, Window: market.Range{From: from, To: to}}
		},
		Spelling: market.Alpaca,
		Render: func(symbol string, bars []market.Bar) []byte {
			rows := make([]string, len(bars))
			for i, b := range bars {
				rows[i] = fmt.Sprintf(`{"date":%q,"open":%v,"high":%v,"low":%v,"close":%v,"volume":%d}`,
					b.Date.String(), b.Open, b.High, b.Low, b.Close, b.Volume)
			}
			return fmt.Appendf(nil, `{"symbol":%q,"bars":[%s]}`, symbol, strings.Join(rows, ","))
		},
		Says: map[simulator.Fault]simulator.Message{
			simulator.BadKey:          {Status: http.StatusUnauthorized, Text: `{"error":"bad key {key}"}`},
			simulator.BadSymbol:       {Status: http.StatusNotFound, Text: `{"error":"unknown symbol"}`},
			simulator.TooManyRequests: {Status: http.StatusTooManyRequests, Text: `{"error":"slow down, {key}"}`},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := source().Source()
	// Whatever is not as for every other source.
	s.Outcomes = map[simulator.Fault]string{simulator.EmptyObject: "bad_payload"}
	providertest.Bars(t, s)
}

func FuzzAnswer(f *testing.F) { source().Fuzz(f) }

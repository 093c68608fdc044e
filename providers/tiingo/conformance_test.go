package tiingo_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/tiingo"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	s := vendor().Source()
	s.Want = func(symbol market.Symbol, date market.Date) market.Bar {
		bar := simulator.Bar(symbol, date)
		bar.AdjClose, bar.HasAdjClose = bar.Close, true
		return bar
	}
	s.Outcomes = map[simulator.Fault]string{
		simulator.EmptyObject: "bad_payload",
		simulator.EmptyArray:  "no_data",
		simulator.ExtraField:  "good",
		simulator.HourNote:    "limit_note",
		simulator.NoToken:     "provider_error",
	}
	s.Lacks = map[simulator.Fault]string{simulator.WrongSymbol: "no answer names its symbol"}
	providertest.Bars(t, s)
}

func FuzzAnswer(f *testing.F) { vendor().Fuzz(f) }

func vendor() providertest.HTTP {
	return providertest.HTTP{
		Name: tiingo.Name,
		New: func(base string, hc *http.Client, now func() time.Time) providertest.Client {
			return tiingo.New(hc, tiingo.Options{BaseURL: base, Now: now})
		},
		Sign: tiingo.Sign, Check: tiingo.Check, Simulator: providertest.Tiingo,
	}
}

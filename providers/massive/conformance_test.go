package massive_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Bars(t, conforms(vendor(false)))
}

func TestConformanceAdjusted(t *testing.T) {
	t.Parallel()
	providertest.Bars(t, conforms(vendor(true)))
}

func FuzzAnswer(f *testing.F) { vendor(false).Fuzz(f) }

func vendor(adjusted bool) providertest.HTTP {
	return providertest.HTTP{
		Name: massive.Name,
		New: func(base string, hc *http.Client, now func() time.Time) providertest.Client {
			return massive.New(hc, massive.Options{BaseURL: base, Now: now, Adjusted: adjusted})
		},
		Sign: massive.Sign, Check: massive.Check, Simulator: providertest.Massive,
	}
}

func conforms(vendor providertest.HTTP) providertest.Source {
	s := vendor.Source()
	s.Outcomes = map[simulator.Fault]string{
		simulator.BadSymbol:     "no_data", // it does not tell unknown symbols from others
		simulator.EmptyObject:   "bad_payload",
		simulator.ExtraField:    "good",
		simulator.Delayed:       "good",
		simulator.FractionShare: "good",
		simulator.OtherBasis:    "bad_payload",
		simulator.WrongCount:    "bad_payload",
		simulator.OddTime:       "bad_payload",
		simulator.NextElsewhere: "bad_payload",
		simulator.NextSame:      "good", // what follows the newest session is not asked for
	}
	return s
}

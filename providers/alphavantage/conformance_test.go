package alphavantage_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func TestConformanceJSON(t *testing.T) {
	t.Parallel()
	providertest.Bars(t, source(false))
}

func TestConformanceCSV(t *testing.T) {
	t.Parallel()
	s := source(true)
	// CSV names no symbol.
	s.Outcomes = map[simulator.Fault]string{simulator.WrongSymbol: "good"}
	providertest.Bars(t, s)
}

// freeKey is the client of a key that holds the newest 100 sessions.
type freeKey struct{ *alphavantage.Client }

func (freeKey) Traits() providers.BarTraits {
	return providers.BarTraits{
		Name: alphavantage.Name, Basis: providers.Raw, Consolidated: true, Chunk: 100, Ready: 150 * time.Minute,
	}
}

func source(csv bool) providertest.Source {
	return providertest.HTTP{
		Name: alphavantage.Name,
		New: func(base string, hc *http.Client, now func() time.Time) providertest.Client {
			return freeKey{alphavantage.New(hc, base, alphavantage.Options{CSV: csv, Now: now})}
		},
		Sign:      alphavantage.Sign,
		Check:     alphavantage.Check,
		Simulator: providertest.AlphaVantage,
	}.Source()
}

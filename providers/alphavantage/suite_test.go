package alphavantage_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func TestSuiteJSON(t *testing.T) {
	t.Parallel()
	providertest.DailyBars(t, vendor(false), nil)
}

func TestSuiteCSV(t *testing.T) {
	t.Parallel()
	providertest.DailyBars(t, vendor(true), map[simulator.Fault]string{
		simulator.WrongSymbol: "good", // CSV names no symbol
	})
}

func vendor(csv bool) providertest.Vendor {
	return providertest.Vendor{
		Name: alphavantage.Name,
		New: func(base string, hc *http.Client, now func() time.Time) providertest.Source {
			return alphavantage.New(hc, base, alphavantage.Options{CSV: csv, Now: now})
		},
		Sign:  alphavantage.Sign,
		Check: alphavantage.Check,
	}
}

//go:build bench

package main

import (
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
)

// TestFigureRehearse measures years of the default schedule and universe, with
// the free key, whose runs are the most, and with a key without limit of the day,
// whose calls are.
//
//nolint:paralleltest // it measures the machine
func TestFigureRehearse(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"with the free key":            {},
		"with no limit of the day":     {"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY": "0"},
		"with the SEC and all sources": {"SA_DATA__EDGAR__USER_AGENT": "Example Research admin@example.com", "SA_ALPHA_VANTAGE_API_KEY": canary, "SA_DATA__BARS__SOURCES": "alpha_vantage,ibkr"},
	} {
		years := bench.Pick(10, 1)
		r := rehearsalOf(t, env, len(market.SP500()))
		began := time.Now()
		if err := r.run(t.Context(), span{market.NewDate(2021, 1, 1).In(market.NewYork(), 0, 0), market.NewDate(2021+years, 1, 1).In(market.NewYork(), 0, 0)}); err != nil || len(r.audit.found) > 0 {
			t.Fatalf("%v: %v", err, r.audit.found)
		}
		bench.AtMost(t, "ten years of the schedule rehearsed "+name, time.Since(began).Seconds()*10/float64(years), 10, "s")
	}
}

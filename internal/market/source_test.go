package market_test

import (
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
)

func TestTraitsOf(t *testing.T) {
	t.Parallel()
	raw, adjusted := market.SourceTraits{Basis: market.Raw, Consolidated: true}, market.SourceTraits{Basis: market.SplitAdjusted, Consolidated: true}
	for source, want := range map[string]market.SourceTraits{
		"alpha_vantage": raw, "massive": raw, "tiingo": raw, "simulated": raw, "massive_adjusted": adjusted,
		"ibkr": {Basis: market.SplitAdjusted}, "": {Consolidated: true}, "python": {Consolidated: true},
	} {
		if got := market.TraitsOf(source); got != want {
			t.Errorf("%q: got %+v, want %+v", source, got, want)
		}
	}
}

func TestBasisError(t *testing.T) {
	t.Parallel()
	err := &market.BasisError{Symbol: "AAPL", Source: "ibkr", Other: "tiingo", Stored: market.Range{From: 739687, To: 739690}}
	for _, want := range []string{"AAPL", "ibkr", "tiingo", "no date in common", "from 2026-03-12 on", "delete"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	err.Date, err.Close, err.CloseOfOther = 739690, 25.5, 102
	for _, want := range []string{"2026-03-15", "25.5", "102"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if got := err.Outcome(); got != "bad_payload" {
		t.Errorf("outcome %q", got)
	}
}

package store_test

import (
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// TestShortInterestAround holds that the dates around a settlement date have
// the one before and the one after among them, and no other.
func TestShortInterestAround(t *testing.T) {
	t.Parallel()
	all, err := market.NYSE().Settlements(market.NewDate(2008, 1, 1), market.NewDate(2035, 11, 30))
	if err != nil {
		t.Fatal(err)
	}
	for i := 2; i+2 < len(all); i++ {
		around := store.ShortInterestAround(all[i])
		if !around.Contains(all[i-1]) || !around.Contains(all[i+1]) || around.Contains(all[i-2]) || around.Contains(all[i+2]) {
			t.Errorf("around %s: %s, between %s and %s", all[i], around, all[i-1], all[i+1])
		}
	}
	if len(all) < 600 {
		t.Errorf("%d settlement dates", len(all))
	}
}

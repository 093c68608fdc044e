//go:build chaos

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestChaosKillFundamentals kills runs of fundamentals at random moments, in
// both parts, and starts them again at once. Afterwards every symbol has one
// row and its facts, as the sources have them, and no more calls were repeated
// than units were in flight.
//
// CHAOS_KILLS sets how often (100), of which a tenth is done here.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosKillFundamentals(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	want := max(3, int(numberFrom(t, "CHAOS_KILLS", 100))/10)
	fmt.Printf("chaos: fundamentals: replay with CHAOS_SEED=%d\n", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	w := newWorld(t).withServers()
	w.now = time.Now
	w.simulate(simulator.Config{Key: canary, PerMinute: chaosPerMinute, Latency: 100 * time.Millisecond})
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = fmt.Sprint(chaosPerMinute)
	w.env["SA_DATA__EDGAR__USER_AGENT"] = "Tests tests@example.com"
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = "100"
	symbols := market.SP500()[:chaosSymbols]
	binary := buildWorker(t)
	kills, starts := w.killUntilDone(binary, random, want, 2*time.Second, "run", "fundamentals", "--json", "--symbols", list(symbols))
	verifyFundamentals(t, w, symbols, starts)
	fmt.Printf("chaos: fundamentals: %d kills, %d symbols, %d overviews, %d calls to the SEC\n",
		kills, len(symbols), len(w.sim.Calls()), len(w.sim.EDGARCalls()))
}

func verifyFundamentals(t *testing.T, w *world, symbols []market.Symbol, starts int) {
	t.Helper()
	s := w.open()
	today := market.DateOf(time.Now().In(market.NewYork()))
	week := market.WeekOf(today).String()
	for _, symbol := range symbols {
		w.checkRow(s, symbol, today)
		facts, err := s.db.Facts(t.Context(), symbol)
		if want := known(simulator.Facts(simulator.CIK(symbol), today), today); err != nil || len(facts) != len(want) {
			t.Errorf("%s: %d facts stored, %d served (%v)", symbol, len(facts), len(want), err)
		}
	}
	if n := w.query("select count(*)::text from fundamentals"); n != fmt.Sprint(len(symbols)) {
		t.Errorf("%s rows for %d symbols", n, len(symbols))
	}
	members := w.redis().SMembers(t.Context(), "jobs:weekly_fundamentals:"+week+":done").Val()
	if len(members) != len(symbols) || !slices.Contains(members, string(symbols[0])) {
		t.Errorf("done-set %v", members)
	}
	// Each start that is killed can repeat what was in flight; the list of
	// issuers is read at each.
	if n, most := len(w.sim.Calls()), len(symbols)+workers*(starts-1); n > most {
		t.Errorf("%d overviews for %d symbols and %d starts", n, len(symbols), starts)
	}
	if n, most := len(w.sim.EDGARCalls()), len(symbols)+(workers+1)*starts; n > most {
		t.Errorf("%d calls to the SEC for %d symbols and %d starts", n, len(symbols), starts)
	}
	if v := w.sim.Violations(); len(v) > 0 {
		t.Errorf("limits broken: %v", v)
	}
}

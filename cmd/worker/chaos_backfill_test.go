//go:build chaos

package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestChaosKillBackfill kills a backfill at random moments and starts it again
// at once. Afterwards every bar of its range is stored as it was served, and no
// more calls were repeated than symbols were in flight.
//
// CHAOS_KILLS sets how often (100), of which a fifth is done here.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosKillBackfill(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	want := max(3, int(numberFrom(t, "CHAOS_KILLS", 100))/5)
	fmt.Printf("chaos: backfill: replay with CHAOS_SEED=%d\n", seed)
	random := rand.New(rand.NewPCG(seed, 2))

	w := newWorld(t).withServers()
	w.now = time.Now
	through, err := market.NYSE().LastClosed(time.Now(), settleTime)
	if err != nil {
		t.Fatal(err)
	}
	w.simulate(simulator.Config{Key: canary, Premium: true, Through: through, PerMinute: chaosPerMinute, Latency: 200 * time.Millisecond})
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = fmt.Sprint(chaosPerMinute)
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	symbols := market.SP500()[:2*chaosSymbols]
	from, err := market.NYSE().Back(through, 799)
	if err != nil {
		t.Fatal(err)
	}
	window := market.Range{From: from, To: through}
	kills, starts := w.killUntilDone(buildWorker(t), random, want, longestLife,
		"backfill", "--json", "--from", from.String(), "--to", through.String(), "--symbols", list(symbols))
	verifyBackfill(t, w, symbols, window)
	calls := len(w.sim.Calls())
	fmt.Printf("chaos: backfill: %d kills, %d symbols, %d calls\n", kills, len(symbols), calls)
	if most := len(symbols) + workers*(starts-1); calls > most {
		t.Errorf("%d calls for %d symbols and %d starts", calls, len(symbols), starts)
	}
	if v := w.sim.Violations(); len(v) > 0 {
		t.Errorf("limits broken: %v", v)
	}
}

// verifyBackfill compares the rows, the coverage and the set with the model.
func verifyBackfill(t *testing.T, w *world, symbols []market.Symbol, window market.Range) {
	t.Helper()
	s := w.open()
	sessions, err := market.NYSE().Sessions(window.From, window.To)
	if err != nil {
		t.Fatal(err)
	}
	coverage, err := s.db.BarCoverage(t.Context(), 0, symbols...)
	if err != nil {
		t.Fatal(err)
	}
	for _, symbol := range symbols {
		series, err := s.db.Bars(t.Context(), symbol, window)
		if err != nil || len(series.Bars) != len(sessions) {
			t.Fatalf("%s: %d bars of %d sessions (%v)", symbol, len(series.Bars), len(sessions), err)
		}
		for i, session := range sessions {
			if want := simulator.Bar(symbol, session); series.Bars[i] != want {
				t.Fatalf("%s: stored %+v, served %+v", symbol, series.Bars[i], want)
			}
			if state := coverage[symbol].State(session); state != market.SessionStored {
				t.Fatalf("%s of %s is %s", session, symbol, state)
			}
		}
	}
	if f, l, err := s.db.ReconcileBars(t.Context(), market.Range{}); f != 0 || l != 0 || err != nil {
		t.Errorf("the coverage was behind the rows: %d found, %d lost (%v)", f, l, err)
	}
	if n := w.redis().SCard(t.Context(), rediskey.BackfillCompleted).Val(); int(n) != len(symbols) {
		t.Errorf("the set has %d of %d symbols", n, len(symbols))
	}
}

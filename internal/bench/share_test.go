//go:build bench

package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestFigureDecodeShare measures what part of the way from a whole history's
// bytes to its committed rows is decoding, on a Postgres that writes through.
func TestFigureDecodeShare(t *testing.T) {
	sessions, err := market.NYSE().Sessions(simulator.Listed(), market.NewDate(2030, 1, 1))
	checkStore(t, err)
	through := sessions[bench.Pick(5500, 500)-1]
	doc := answer(t, through, "json")
	db, err := postgres.Open(t.Context(), testenv.PostgresServer(t).URL(), postgres.Options{})
	checkStore(t, err)
	t.Cleanup(func() { _ = db.Close() })
	checkStore(t, db.Migrate(t.Context()))
	run, err := db.Begin(t.Context(), "daily_bars", through.String(), "bench")
	checkStore(t, err)
	t.Cleanup(func() { _ = run.Release() })

	var shares []float64
	for i := range bench.Pick(21, 3) {
		started := time.Now()
		bars := load(t, through, doc, false)
		decoded := time.Since(started)
		symbol := market.Symbol(fmt.Sprintf("SYM%03d", i))
		_, err := run.SaveBars(t.Context(), market.Series{Symbol: symbol, Source: "simulated", Bars: bars}, through)
		checkStore(t, err)
		shares = append(shares, 100*decoded.Seconds()/time.Since(started).Seconds())
	}
	bench.AtMost(t, "decode JSON: share of decode + first load into Postgres", middle(shares), 20, "%")
}

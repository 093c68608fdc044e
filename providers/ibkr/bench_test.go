//go:build bench

package ibkr_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

var perSecond = flag.Float64("ibkr.rate", 20, "requests a second of TestFigureIBKR: 2 is what the program allows itself, and takes 4 minutes")

// TestFigureIBKR measures how much of its limit a backfill of five years uses,
// over a real connection to a gateway that takes 1.3 s for an answer, both
// scaled with the rate.
func TestFigureIBKR(t *testing.T) { //nolint:paralleltest // what runs beside it would be measured with it
	count := bench.Pick(500, 20)
	const usual, usualLatency = 2, 1300 * time.Millisecond
	limiter := rate.NewLimiter(rate.Limit(*perSecond), 1)
	o := ibkr.Options{Budget: steady{limiter}}
	r := dial(t, gateway.Config{Latency: time.Duration(float64(usualLatency) * usual / *perSecond), Scale: 1}, o)
	window := market.Range{From: market.NewDate(2021, 3, 12), To: newest()}

	queue := make(chan market.Symbol, count)
	for _, s := range symbols(count) {
		queue <- s
	}
	close(queue)
	done := make(chan error)
	for range 8 {
		go func() {
			for s := range queue {
				series, err := r.History(t.Context(), s, window)
				if err == nil {
					check(t, series, s, window)
				}
				done <- err
			}
		}()
	}
	for range count {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	report := r.sim.Report()
	calls := r.sim.Calls()
	at := func(a, b gateway.Call) int { return a.At.Compare(b.At) }
	sent := float64(len(calls)-1) / slices.MaxFunc(calls, at).At.Sub(slices.MinFunc(calls, at).At).Seconds()
	name := fmt.Sprintf("ibkr: %d symbols x 5 years at %g/s: ", count, *perSecond)
	bench.AtLeast(t, name+"utilisation of the limit", sent / *perSecond, 0.97, "")
	bench.AtMost(t, name+"pacing violations", float64(len(report.Violations)), 0, "")
	bench.AtMost(t, name+"requests left open", float64(report.Open), 0, "")
	bench.AtMost(t, name+"requests open at a time", float64(report.MaxOpen), 6, "")
	bench.Note(t, name+"requests", float64(report.Requests), "")
	if len(report.Violations) != 0 || report.Open != 0 || report.Requests != count {
		t.Errorf("%d requests, %d left open, violations %q; want %d, none, none", report.Requests, report.Open, report.Violations, count)
	}
}

// steady is a budget of one process.
type steady struct{ *rate.Limiter }

func (steady) Pause(context.Context, time.Duration) error { return nil }

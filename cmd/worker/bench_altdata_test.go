//go:build bench

package main

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestFigureAltdata measures the first run of two weeks for 500 issuers: how
// many calls it makes, and how long beside what the limit allows.
//
//nolint:paralleltest // it measures the machine
func TestFigureAltdata(t *testing.T) {
	symbols := market.SP500()[:bench.Pick(500, 50)]
	perSecond := bench.Pick(8, 100)
	w := newWorld(t).withServers()
	day := market.NewDate(2026, time.March, 12)
	started := time.Now()
	w.now = func() time.Time { return day.In(market.NewYork(), 12, 0).Add(time.Since(started)) }
	config := simulator.EDGARConfig{Symbols: symbols, Forms: bench.Pick(150, 15), Foreign: bench.Pick(1850, 100)}
	w.simulate(simulator.Config{Key: canary, Now: w.now, EDGAR: config})
	w.env["SA_DATA__EDGAR__USER_AGENT"] = "Tests tests@example.com"
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = strconv.Itoa(perSecond)
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = list(symbols)
	w.env["SA_LOG__LEVEL"] = "warn"

	// From the 4th on, with three days before it: 26 February to 11 March.
	report, code := w.job("altdata", "--since", "2026-03-03T12:00:00Z")
	if code != exitOK {
		t.Fatalf("exit %d, report %+v", code, report)
	}
	days, filings := report.Parts[0].Symbols, report.Parts[1].Symbols
	took := report.FinishedAt.Sub(report.StartedAt).Seconds()
	calls := len(w.sim.EDGARCalls())
	fmt.Printf("altdata: %d days, %d filings, %d calls to the SEC, %.1f s at %d a second\n", days, filings, calls, took, perSecond)
	bench.AtMost(t, "altdata: calls besides days, filings and the list of issuers", float64(calls-days-filings-1), 0, "calls")
	if !bench.Short() {
		bench.AtMost(t, "altdata: time against calls over the limit", took/(float64(calls)/float64(perSecond)), 1.05, "x")
	}
	w.sim.Reset()
	if again, code := w.job("altdata", "--since", "2026-03-03T12:00:00Z"); code != exitOK {
		t.Errorf("again: exit %d, %+v", code, again)
	}
	_, documents := w.documents()
	bench.AtMost(t, "altdata: documents of a rerun", float64(len(documents)), 0, "calls")
}

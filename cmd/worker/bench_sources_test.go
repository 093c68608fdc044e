//go:build bench

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// TestFigureGrouped measures a session of the whole list through one call.
//
//nolint:paralleltest // it measures the machine
func TestFigureGrouped(t *testing.T) {
	w := newWorld(t).withServers().atNight().withSources("massive")
	var took []time.Duration
	for range bench.Pick(5, 1) {
		w.exec("drop schema public cascade; create schema public")
		w.redis().FlushDB(t.Context())
		r, code := w.daily("--date", session)
		if code != exitOK || r.ProviderCalls != 1 || r.Fetched != len(market.SP500()) {
			t.Fatalf("exit code %d, %d calls, %d fetched", code, r.ProviderCalls, r.Fetched)
		}
		took = append(took, r.FinishedAt.Sub(r.StartedAt))
	}
	bench.AtMost(t, fmt.Sprintf("a session of %d symbols in one call, stored and marked", len(market.SP500())), took[len(took)/2].Seconds(), 2, "s")
}

// TestFigureSources measures a backfill through all sources at once, with the
// limits of their free keys times ten, against the end that the plan names.
//
//nolint:paralleltest // it measures the machine
func TestFigureSources(t *testing.T) {
	through, err := market.NYSE().LastClosed(time.Now(), settleTime)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t).withServers().withSourcesTo(through, "alpha_vantage", "massive", "tiingo", "ibkr")
	server := w.withGateway(gateway.Config{Through: through})
	const faster = 10
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = fmt.Sprint(5 * faster)
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "25"
	w.env["SA_DATA__MASSIVE__RATE_LIMIT_PER_MINUTE"] = fmt.Sprint(5 * faster)
	w.env["SA_DATA__MASSIVE__YEARS"] = "2"
	w.env["SA_DATA__TIINGO__RATE_LIMIT_PER_HOUR"] = fmt.Sprint(50 * faster)
	w.env["SA_DATA__TIINGO__RATE_LIMIT_PER_DAY"] = "1000"
	w.env["SA_BROKER__IBKR__RATE_LIMIT_PER_SECOND"] = fmt.Sprint(2 * faster)
	symbols := market.SP500()[:bench.Pick(500, 40)]
	now := time.Now()
	plan := w.planned("backfill", "--symbols", list(symbols))
	r, code := w.report("backfill", "--symbols", list(symbols))
	if code != exitOK || r.ProviderCalls != len(symbols) {
		t.Fatalf("exit code %d, %+v, failures %v", code, r.Calls, r.Failures)
	}
	planned, took := plan.CompleteAt.Sub(now), r.FinishedAt.Sub(r.StartedAt)
	t.Logf("planned %v, made %v", plan.Calls, r.Calls)
	bench.Note(t, "all sources at once: the end by the plan", planned.Seconds(), "s")
	bench.AtMost(t, "all sources at once: time / plan", took.Seconds()/planned.Seconds(), 1.05, "x")
	if rep := server.Report(); len(rep.Violations) > 0 || rep.Open > 0 {
		t.Errorf("at the gateway: %+v", rep)
	}
}

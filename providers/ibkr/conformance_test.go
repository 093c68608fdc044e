package ibkr_test

import (
	"net"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// TestConformance runs the suite of all bar sources over TCP. What one question
// costs is counted where the gateway is asked once; the other faults cost a
// repetition, and some a connection.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("asked once", func(t *testing.T) { t.Parallel(); providertest.Bars(t, conforming(asked)) })
	t.Run("asked twice", func(t *testing.T) { t.Parallel(); providertest.Bars(t, conforming(twice)) })
}

// conforming is the source with the faults that lead to a number of calls.
func conforming(calls int) providertest.Source {
	const web = "there is no HTTP on the socket"
	s := providertest.Source{
		Name: ibkr.Name, Start: startRig, Outcomes: map[simulator.Fault]string{}, Unmetered: calls != asked,
		Lacks: map[simulator.Fault]string{
			simulator.HTML: web, simulator.HTML503: web, simulator.EmptyBody: web, simulator.TruncatedClose: web, simulator.TruncatedLength: web,
			simulator.GzipBomb: web, simulator.SlowHeaders: web, simulator.SlowBody: web, simulator.RedirectElsewhere: web,
			simulator.TooManyRequests: "it is called pacing here", simulator.BadKey: "there is no key", simulator.BadSymbol: "it is called unknown_symbol here",
			simulator.WrongSymbol: "no answer names its symbol", simulator.BadNumber: "it is called bad_price here",
			simulator.PartialBar: "it is called unfinished here", simulator.MissingLast: "a session without trades has no bar",
			simulator.Reset: "it is called drop here", simulator.Unsorted: "it is among the faults of one call",
		},
	}
	for f, want := range outcomes() {
		if want.calls != calls || f == gateway.MissingVolume || want.took == time.Minute {
			continue // the suite has no such volumes, and no minutes
		}
		s.Faults = append(s.Faults, string(f))
		s.Outcomes[simulator.Fault(f)] = "good"
		if !want.good {
			s.Outcomes[simulator.Fault(f)] = (&providers.Error{Kind: want.kind}).Outcome()
		}
	}
	return s
}

func startRig(tb testing.TB, s providertest.Setup) providertest.Rig {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	clock := s.Now()
	began := time.Now()
	now := func() time.Time { return clock.Add(time.Since(began)) }
	sim := gateway.New(gateway.Config{Through: s.Through, Listed: s.Listed, Scale: hurry, Now: now})
	serve(tb, sim, l)
	c := ibkr.New(ibkr.Options{
		Addr: l.Addr().String(), ClientID: clientID, Budget: s.Budget, Now: now,
		Deadline: min(s.Timeout, 700*time.Millisecond), Patience: 5 * time.Second, Repeat: hurried().Repeat,
	})
	tb.Cleanup(sim.Close)
	tb.Cleanup(c.Close)
	return providertest.Rig{
		Client: c,
		Fault: func(symbol market.Symbol, f simulator.Fault, times int) {
			if err := sim.Fault(symbol, gateway.Fault(f), times); err != nil {
				tb.Fatal(err)
			}
		},
		Calls: func() int { return sim.Report().Requests },
	}
}

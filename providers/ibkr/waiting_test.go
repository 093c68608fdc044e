package ibkr_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// bubble runs a test on a fake clock.
func bubble(t *testing.T, run func(*testing.T)) {
	t.Helper()
	synctest.Test(t, run)
}

// answers asks for symbols at once and collects the errors.
type answers struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs map[market.Symbol]error
}

func (r *rig) askAll(ctx context.Context, t *testing.T, symbols ...market.Symbol) *answers {
	a := &answers{errs: map[market.Symbol]error{}}
	for _, s := range symbols {
		a.wg.Go(func() {
			series, err := r.DailyBars(ctx, s, lastWeeks())
			if err == nil {
				check(t, series, s, lastWeeks())
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			a.errs[s] = err
		})
	}
	return a
}

// wait returns when all answers are in; each must be without an error.
func (a *answers) wait(t *testing.T) {
	t.Helper()
	a.wg.Wait()
	for s, err := range a.errs {
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func symbols(n int) []market.Symbol {
	all := make([]market.Symbol, n)
	for i := range all {
		all[i] = market.Symbol([]byte{'S', byte('A' + i/26%26), byte('A' + i%26), byte('A' + i/676)})
	}
	return all
}

// TestSilence: a gateway that answers nothing for longer than a question waits,
// not even a handshake, costs time and no symbol.
func TestSilence(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{Latency: 2 * time.Second}, ibkr.Options{})
		under := r.askAll(t.Context(), t, "AAPL", "MSFT")
		time.Sleep(time.Second)
		r.sim.Silence(90 * time.Second)
		began := time.Now()
		waiting := r.askAll(t.Context(), t, symbols(2)...)
		under.wait(t)
		r.askAll(t.Context(), t, symbols(6)[2:]...).wait(t)
		waiting.wait(t)
		if took := time.Since(began); took < 90*time.Second || took > 2*time.Minute {
			t.Errorf("took %s, want 90s and what a new connection takes", took)
		}
		if got := r.sim.Report().Connections; got < 2 {
			t.Errorf("%d connections: the dead one was not given up", got)
		}
		r.clean(t)
	})
}

// TestHungRequest: a request that alone gets no answer ends without its
// connection, over which the others go on.
func TestHungRequest(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		if err := r.sim.Fault("AAPL", gateway.NoAnswer, 1); err != nil {
			t.Fatal(err)
		}
		waiting := r.askAll(t.Context(), t, "AAPL")
		time.Sleep(30 * time.Second)
		r.get(t, "MSFT")
		waiting.wait(t)
		if got := r.sim.Report(); got.Connections != 1 || got.Cancels != 1 {
			t.Errorf("%d connections, %d cancellations; want 1 of each", got.Connections, got.Cancels)
		}
		r.clean(t)
	})
}

// TestLinkLost: while the gateway has no link nothing goes out, and what was
// under way is asked again only if the gateway has forgotten it.
func TestLinkLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lost, back int
		again      int // requests that go out a second time
	}{
		"1100 and 1101": {1100, 1101, 1},
		"1100 and 1102": {1100, 1102, 0},
		"2110 and 1102": {2110, 1102, 0},
		"2105 and 2106": {2105, 2106, 0},
		"2105 and 2107": {2105, 2107, 0},
		"2110 and 2106": {2110, 2106, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				r := start(t, gateway.Config{Latency: time.Second}, ibkr.Options{})
				under := r.askAll(t.Context(), t, "AAPL")
				time.Sleep(100 * time.Millisecond)
				r.sim.Notify(c.lost)
				time.Sleep(time.Second)
				waiting := r.askAll(t.Context(), t, symbols(10)...)
				time.Sleep(30 * time.Second)
				if got := r.sim.Report().Requests; got != 1 {
					t.Errorf("%d requests while the link is lost, want the one from before", got)
				}
				r.sim.Notify(c.back)
				at := time.Now()
				under.wait(t)
				waiting.wait(t)
				if took := time.Since(at); took > 5*time.Second {
					t.Errorf("took %s from the return of the link on", took)
				}
				report := r.sim.Report()
				if want := 11 + c.again; report.Requests != want || report.Connections != 1 {
					t.Errorf("%d requests, %d connections; want %d, 1", report.Requests, report.Connections, want)
				}
				r.clean(t)
			})
		})
	}
}

// TestLinkStaysLost: the wait for a link ends, and so does a connection that
// does not tell of it: the gateway tells a new one how it is.
func TestLinkStaysLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		r.get(t, "AAPL")
		r.sim.Notify(2105)
		time.Sleep(time.Second)
		began := time.Now()
		_, err := r.DailyBars(t.Context(), "MSFT", lastWeeks())
		wantError(t, err, providers.Transient, `not resumed within 3m0s: gateway: code 2105: "HMDS data farm connection is broken`)
		if took := time.Since(began); took != 3*time.Minute {
			t.Errorf("took %s, want the patience of 3 minutes", took)
		}
		time.Sleep(time.Second)
		waiting := r.askAll(t.Context(), t, "MSFT")
		time.Sleep(time.Minute)
		if got := r.sim.Report(); got.Requests != 1 || got.Connections != 2 {
			t.Errorf("%d requests, %d connections; want 1 before the link is back, 2", got.Requests, got.Connections)
		}
		r.sim.Notify(2106)
		waiting.wait(t)
		r.clean(t)
	})
}

// TestIdentical: a question is not repeated within IB's 15 seconds, whoever
// asks; others pass.
func TestIdentical(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		began := time.Now()
		first, second, third := r.askAll(t.Context(), t, "AAPL"), r.askAll(t.Context(), t, "AAPL"), r.askAll(t.Context(), t, "AAPL")
		r.get(t, "MSFT")
		if took := time.Since(began); took > time.Second {
			t.Errorf("another question took %s", took)
		}
		first.wait(t)
		second.wait(t)
		third.wait(t)
		if took := time.Since(began); took < 32*time.Second || took > 33*time.Second {
			t.Errorf("three identical questions took %s, want 32s", took)
		}
		r.clean(t)
	})
}

// TestRate: after code 100 nothing goes out before the budget is paused.
func TestRate(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		r.get(t, "AAPL")
		release := make(chan struct{})
		r.budget.wait = func(context.Context) error { <-release; return nil }
		waiting := r.askAll(t.Context(), t, "MSFT")
		synctest.Wait()
		r.sim.Notify(100)
		synctest.Wait()
		release <- struct{}{}
		synctest.Wait()
		if got, want := r.budget.paused(), []time.Duration{time.Minute}; !slices.Equal(got, want) {
			t.Errorf("pauses %v, want %v", got, want)
		}
		if got := r.sim.Report().Requests; got != 1 {
			t.Errorf("%d requests, want none after the code", got-1)
		}
		release <- struct{}{}
		waiting.wait(t)
	})
}

// TestPermissionOutlived: a connection that is lost while the budget is waited
// for costs no try.
func TestPermissionOutlived(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		restarts := 0
		r.budget.wait = func(context.Context) error {
			if restarts++; restarts <= 3 {
				time.Sleep(time.Second)
				r.sim.Restart(0)
				time.Sleep(time.Second)
			}
			return nil
		}
		r.get(t, "AAPL")
		if got := r.sim.Report(); got.Requests != 1 || got.Connections != 4 {
			t.Errorf("%d requests, %d connections; want 1, 4", got.Requests, got.Connections)
		}
		restarts = -1000 // and for ever
		r.budget.wait = func(context.Context) error { r.sim.Restart(0); time.Sleep(time.Second); return nil }
		before := r.sim.Report().Connections
		_, err := r.DailyBars(t.Context(), "MSFT", lastWeeks())
		wantError(t, err, providers.Transient, "connection lost: the gateway closed the connection in the middle of a message")
		if got := r.sim.Report().Connections - before; got > 10 {
			t.Errorf("%d connections for one question", got)
		}
	})
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

// TestAway: a gateway that is away is tried again after 1 s, 2 s, and so on up
// to a minute, by all questions together, until their patience ends.
func TestAway(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		var dials []time.Time
		r := start(t, gateway.Config{}, ibkr.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			dials = append(dials, time.Now())
			return nil, errRefused
		}})
		began := time.Now()
		waiting := r.askAll(t.Context(), t, symbols(20)...)
		waiting.wg.Wait()
		if took := time.Since(began); took != 3*time.Minute {
			t.Errorf("took %s, want the patience of 3 minutes", took)
		}
		for _, err := range waiting.errs {
			wantError(t, err, providers.Transient, "gateway at gateway.test:4002 not reachable: dial tcp: connection refused; is TWS / IB Gateway running and is its API socket enabled?")
		}
		if r.budget.granted != 0 {
			t.Errorf("%d permissions were paid for", r.budget.granted)
		}
		least := time.Second
		for i := 1; i < len(dials); i++ {
			if wait := dials[i].Sub(dials[i-1]); wait < least || wait > least*3/2 {
				t.Errorf("dial %d came %s after the one before, want %s to %s", i+1, wait, least, least*3/2)
			}
			least = min(2*least, time.Minute)
		}
		if len(dials) < 6 || len(dials) > 8 {
			t.Errorf("%d dials in 3 minutes", len(dials))
		}
	})
}

// TestNightlyRestart: a gateway that is away for two minutes costs no symbol.
func TestNightlyRestart(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{Latency: time.Second}, ibkr.Options{})
		r.get(t, "AAPL")
		waiting := r.askAll(t.Context(), t, symbols(20)...)
		time.Sleep(500 * time.Millisecond)
		r.sim.Restart(2 * time.Minute)
		waiting.wait(t)
		r.clean(t)
	})
}

// TestSilentHandshake: a connection on which nothing comes is given up.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		r.sim.Silence(time.Hour)
		began := time.Now()
		_, err := r.DailyBars(t.Context(), "AAPL", lastWeeks())
		wantError(t, err, providers.Transient, "no handshake with the gateway", "is its API socket enabled?")
		if took := time.Since(began); took != 3*time.Minute {
			t.Errorf("took %s, want the patience of 3 minutes", took)
		}
	})
}

// TestClientID: an id that another program has is refused at once, unless it was
// this client's own a moment ago.
func TestClientID(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		r.sim.Take(clientID, true)
		began := time.Now()
		_, err := r.DailyBars(t.Context(), "AAPL", lastWeeks())
		wantError(t, err, providers.Rejected, "code 326", "set SA_BROKER__IBKR__CLIENT_ID to another one")
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s, want no time", took)
		}
		r.sim.Take(clientID, false)
		r.get(t, "AAPL")

		r.sim.Restart(0)
		r.sim.Take(clientID, true)
		waiting := r.askAll(t.Context(), t, "MSFT")
		time.Sleep(30 * time.Second)
		r.sim.Take(clientID, false)
		waiting.wait(t)

		r.sim.Restart(0)
		r.sim.Take(clientID, true)
		_, err = r.DailyBars(t.Context(), "IBM", lastWeeks())
		wantError(t, err, providers.Rejected, "code 326")
		r.clean(t)
	})
}

// TestOpen: 6 requests wait for answers at a time, whatever the budget grants.
func TestOpen(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{Latency: 10 * time.Second}, ibkr.Options{})
		began := time.Now()
		r.askAll(t.Context(), t, symbols(60)...).wait(t)
		if took := time.Since(began); took < 100*time.Second || took > 105*time.Second {
			t.Errorf("took %s, want 10 times 10s", took)
		}
		if report := r.sim.Report(); report.MaxOpen != 6 || report.MaxPerSecond > 50 {
			t.Errorf("%d open at a time, %d messages in a second; want 6, 50 at most", report.MaxOpen, report.MaxPerSecond)
		}
		r.clean(t)
	})
}

// states brings a client into every state in which a question waits.
func states() map[string]func(t *testing.T, r *rig) {
	return map[string]func(t *testing.T, r *rig){
		"answer": func(_ *testing.T, r *rig) { _ = r.sim.Fault("", gateway.NoAnswer, -1) },
		"slot": func(t *testing.T, r *rig) {
			_ = r.sim.Fault("", gateway.NoAnswer, -1)
			r.askAll(t.Context(), t, symbols(6)...)
			time.Sleep(time.Second)
		},
		"budget": func(_ *testing.T, r *rig) {
			r.budget.wait = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		},
		"repeat":    func(t *testing.T, r *rig) { r.get(t, "AAPL") },
		"handshake": func(_ *testing.T, r *rig) { r.sim.Silence(time.Hour) },
		"backoff":   func(_ *testing.T, r *rig) { r.sim.Restart(time.Hour) },
		"turn":      func(t *testing.T, r *rig) { r.sim.Restart(time.Hour); r.askAll(t.Context(), t, "MSFT") },
		"link":      func(t *testing.T, r *rig) { r.get(t, "IBM"); r.sim.Notify(1100); synctest.Wait() },
	}
}

// TestCancel: whatever a question waits for, it ends with its context, and leaves
// no request open.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, bring := range states() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				r := start(t, gateway.Config{}, ibkr.Options{})
				background, end := context.WithCancel(t.Context())
				defer end()
				bring(t, r)
				before := r.sim.Report().Open
				ctx, cancel := context.WithCancel(background)
				one := r.askAll(ctx, t, "AAPL")
				time.Sleep(3 * time.Second)
				cancel()
				at := time.Now()
				one.wg.Wait()
				if took := time.Since(at); took != 0 {
					t.Errorf("came back %s after it was cancelled", took)
				}
				if err := one.errs["AAPL"]; !errors.Is(err, context.Canceled) || errors.As(err, new(*providers.Error)) {
					t.Errorf("error = %v, want the context's own", err)
				}
				time.Sleep(time.Second)
				if open := r.sim.Report().Open; open != before {
					t.Errorf("%d requests are open, %d were before", open, before)
				}
			})
		})
	}
}

// TestForget: a client remembers nothing of questions that are over.
func TestForget(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := start(t, gateway.Config{}, ibkr.Options{})
		r.askAll(t.Context(), t, symbols(10)...).wait(t)
		time.Sleep(time.Minute)
		if got := r.Remembered(); got != 0 {
			t.Errorf("%d questions and answers are remembered", got)
		}
	})
}

// TestClose: whatever questions wait for, Close ends them.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, bring := range states() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				r := start(t, gateway.Config{}, ibkr.Options{})
				bring(t, r)
				asked := r.askAll(t.Context(), t, "AAPL", "BRK.B")
				time.Sleep(3 * time.Second)
				at := time.Now()
				r.Close()
				if took := time.Since(at); took != 0 {
					t.Errorf("Close took %s", took)
				}
				asked.wg.Wait()
				for s, err := range asked.errs {
					if err != nil && (!errors.Is(err, context.Canceled) || errors.As(err, new(*providers.Error))) {
						t.Errorf("%s: error = %v, want one that wraps context.Canceled", s, err)
					}
				}
				if asked.errs["AAPL"] == nil {
					t.Error("a question came through")
				}
				if _, err := r.History(t.Context(), "MSFT", lastWeeks()); !errors.Is(err, context.Canceled) {
					t.Errorf("error after Close = %v", err)
				}
				synctest.Wait()
				if open := r.sim.Report().Open; open != 0 {
					t.Errorf("%d requests are open", open)
				}
			})
		})
	}
}

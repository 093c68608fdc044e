package ibkr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

func TestTraits(t *testing.T) {
	t.Parallel()
	c := ibkr.New(ibkr.Options{})
	defer c.Close()
	want := providers.BarTraits{Name: "ibkr", Basis: providers.SplitAdjusted, Ready: 20 * time.Minute}
	if got := c.Traits(); got != want {
		t.Errorf("traits = %+v, want %+v", got, want)
	}
	if reach, err := c.Reach(); reach != 0 || err != nil {
		t.Errorf("reach = %v, %v; want none", reach, err)
	}
}

// TestQuestion: what a window is on the wire.
func TestQuestion(t *testing.T) {
	t.Parallel()
	d := market.NewDate
	for name, c := range map[string]struct {
		window        market.Range
		end, duration string
	}{
		"the newest session":   {market.Range{From: newest(), To: newest()}, "", "2 D"},
		"up to today":          {market.Range{From: newest(), To: newest() + 1}, "", "2 D"},
		"one older day":        {market.Range{From: d(2026, 3, 11), To: d(2026, 3, 11)}, "20260312-04:00:00", "1 D"},
		"an older day, winter": {market.Range{From: d(2026, 1, 5), To: d(2026, 1, 6)}, "20260107-05:00:00", "2 D"},
		"365 days":             {market.Range{From: d(2025, 1, 1), To: d(2025, 12, 31)}, "20260101-05:00:00", "365 D"},
		"366 days":             {market.Range{From: d(2024, 1, 1), To: d(2024, 12, 31)}, "20250101-05:00:00", "2 Y"},
		"five years":           {market.Range{From: d(2021, 3, 12), To: newest()}, "", "6 Y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := dial(t, gateway.Config{}, hurried())
			series, err := r.History(t.Context(), "BRK.B", c.window)
			if err != nil {
				t.Fatal(err)
			}
			w := c.window
			w.To = min(w.To, newest())
			check(t, series, "BRK.B", w)
			call := r.sim.Calls()[0]
			if call.Symbol != "BRK.B" || call.End != c.end || call.Duration != c.duration {
				t.Errorf("asked for %+v, want end %q, duration %q", call, c.end, c.duration)
			}
			r.clean(t)
		})
	}
}

// TestRefusedWindows: what no request can ask for is refused before the budget
// is asked.
func TestRefusedWindows(t *testing.T) {
	t.Parallel()
	r := dial(t, gateway.Config{}, hurried())
	for _, w := range []market.Range{
		{From: newest(), To: newest() - 1},
		{From: newest() + 2, To: newest() + 5},
		{From: newest() - 70*366, To: newest()},
	} {
		_, err := r.DailyBars(t.Context(), "AAPL", w)
		wantError(t, err, providers.Rejected, w.String())
	}
	if r.budget.granted != 0 {
		t.Errorf("%d permissions were paid for", r.budget.granted)
	}
}

func TestBeforeTheListing(t *testing.T) {
	t.Parallel()
	r := dial(t, gateway.Config{Listed: map[market.Symbol]market.Date{"NEW": market.NewDate(2026, 3, 2)}}, hurried())
	_, err := r.DailyBars(t.Context(), "NEW", market.Range{From: market.NewDate(2026, 2, 2), To: market.NewDate(2026, 2, 27)})
	wantError(t, err, providers.NoData, "NEW")
	series, err := r.DailyBars(t.Context(), "NEW", lastWeeks())
	if err != nil {
		t.Fatal(err)
	}
	check(t, series, "NEW", market.Range{From: market.NewDate(2026, 3, 2), To: newest()})
}

// TestLots: a gateway that counts in lots loses what is less than one.
func TestLots(t *testing.T) {
	t.Parallel()
	o := hurried()
	o.Lots = true
	r := dial(t, gateway.Config{Lots: true}, o)
	for _, f := range []gateway.Fault{"", gateway.DecimalVolume} {
		symbol := market.Symbol("AAPL")
		if f != "" {
			symbol = "MSFT"
			if err := r.sim.Fault(symbol, f, 1); err != nil {
				t.Fatal(err)
			}
		}
		series, err := r.DailyBars(t.Context(), symbol, lastWeeks())
		if err != nil {
			t.Fatal(err)
		}
		for _, bar := range series.Bars {
			want := simulator.Bar(symbol, bar.Date)
			if want.Volume = want.Volume / 100 * 100; bar != want {
				t.Fatalf("%q: bar = %+v, want %+v", f, bar, want)
			}
		}
	}
}

// TestSplit: after a split the gateway has other bars of the days before.
func TestSplit(t *testing.T) {
	t.Parallel()
	r := dial(t, gateway.Config{}, hurried())
	r.get(t, "AAPL")
	on := market.NewDate(2026, 3, 2)
	r.sim.Split("AAPL", on, 4)
	series, err := r.DailyBars(t.Context(), "AAPL", lastWeeks())
	if err != nil {
		t.Fatal(err)
	}
	for _, bar := range series.Bars {
		want := simulator.Bar("AAPL", bar.Date)
		if bar.Date < on {
			want = simulator.SplitBar(want, 4)
		}
		if bar != want {
			t.Fatalf("bar = %+v, want %+v", bar, want)
		}
	}
}

// TestVersions: a gateway that wants fields that the client does not know is
// refused, and so is what is no gateway.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []int{-1, 99, 123, 177, 201, 1 << 20} {
		r := dial(t, gateway.Config{Version: version}, hurried())
		_, err := r.DailyBars(t.Context(), "AAPL", lastWeeks())
		wantError(t, err, providers.Rejected, fmt.Sprintf("version %d of the protocol, the worker speaks 124 to 176", version))
	}
	for _, version := range []int{124, 165, 176} {
		r := dial(t, gateway.Config{Version: version}, hurried())
		r.get(t, "AAPL")
		r.clean(t)
	}
}

// TestOtherServices: what answers on the port is no gateway.
func TestOtherServices(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"HTTP":             "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"a long number":    "\x00\x00\x00\x0e999999999999\x00\x00",
		"no number":        "\x00\x00\x00\x04abc\x00",
		"an empty message": "\x00\x00\x00\x00",
		"no end":           "\x00\x00\x00\x03176",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := hurried()
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() {
					_, _ = io.ReadFull(server, make([]byte, 8))
					_, _ = io.ReadFull(server, make([]byte, 9))
					_, _ = io.WriteString(server, answer)
					_ = server.Close()
				}()
				return client, nil
			}
			r := start(t, gateway.Config{}, o)
			_, err := r.DailyBars(t.Context(), "AAPL", lastWeeks())
			wantError(t, err, providers.BadPayload, "not the protocol of a TWS or IB Gateway")
		})
	}
}

// TestBudget: an error of the budget is the question's, and nothing goes out.
func TestBudget(t *testing.T) {
	t.Parallel()
	r := dial(t, gateway.Config{}, hurried())
	spent := &providers.Error{Provider: ibkr.Name, Kind: providers.Quota, Err: errors.New("the day is spent")}
	for err, want := range map[error]providers.Kind{spent: providers.Quota, errors.New("redis is away"): providers.Unavailable} {
		r.budget.wait = func(context.Context) error { return err }
		_, got := r.DailyBars(t.Context(), "AAPL", lastWeeks())
		wantError(t, got, want, "ibkr: daily bars AAPL: ")
	}
	r.budget.wait = func(context.Context) error { return fmt.Errorf("in an hour: %w", context.DeadlineExceeded) }
	if _, err := r.DailyBars(t.Context(), "AAPL", lastWeeks()); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
		t.Errorf("error = %v, want the end of a context", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.budget.wait = func(context.Context) error { cancel(); return spent }
	if _, err := r.DailyBars(ctx, "AAPL", lastWeeks()); !errors.Is(err, context.Canceled) || errors.As(err, new(*providers.Error)) {
		t.Errorf("error = %v, want that of the context, which is over", err)
	}
	if calls := r.sim.Report().Requests; calls != 0 {
		t.Errorf("%d requests went out", calls)
	}
}

// TestPauseFails: a pause that cannot be passed on stops the run.
func TestPauseFails(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		o := ibkr.Options{Budget: noPause{}}
		r := start(t, gateway.Config{}, o)
		if err := r.sim.Fault("AAPL", gateway.Pacing, 1); err != nil {
			t.Fatal(err)
		}
		_, err := r.DailyBars(t.Context(), "AAPL", lastWeeks())
		wantError(t, err, providers.RateLimited, "pacing violation", "hold all calls back for 10m0s: redis is away")
		r.sim.Notify(100)
		synctest.Wait()
		_, err = r.DailyBars(t.Context(), "MSFT", lastWeeks())
		wantError(t, err, providers.Unavailable, "hold all calls back for 1m0s: redis is away")
	})
}

type noPause struct{}

func (noPause) Wait(ctx context.Context) error                 { return ctx.Err() }
func (noPause) Pause(_ context.Context, _ time.Duration) error { return errors.New("redis is away") }

// TestPrompt: over a real connection too, a question ends with its context.
func TestPrompt(t *testing.T) {
	t.Parallel()
	r := dial(t, gateway.Config{}, hurried())
	if err := r.sim.Fault("AAPL", gateway.NoAnswer, -1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var at time.Time
	time.AfterFunc(200*time.Millisecond, func() { at = time.Now(); cancel() })
	_, err := r.DailyBars(ctx, "AAPL", lastWeeks())
	<-ctx.Done()
	if took := time.Since(at); took > 100*time.Millisecond {
		t.Errorf("came back %s after it was cancelled", took)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want the context's own", err)
	}
	r.get(t, "MSFT")
	eventually(t, func() bool { return r.sim.Report().Open == 0 })
}

// eventually waits for what another goroutine is about to bring about.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about within 10 s")
		}
	}
}

// run asks for symbols with some workers, as a sweep does, and returns how many
// are done; each must succeed.
func (r *rig) run(t testing.TB, all []market.Symbol, workers int, each func(done int)) {
	t.Helper()
	queue := make(chan market.Symbol)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range workers {
		wg.Go(func() {
			for s := range queue {
				r.get(t, s)
				mu.Lock()
				done++
				n := done
				mu.Unlock()
				each(n)
			}
		})
	}
	for _, s := range all {
		queue <- s
	}
	close(queue)
	wg.Wait()
}

// TestRun: 200 symbols at a high rate, over a real connection that is cut and a
// gateway that starts anew in between: every symbol is there, no limit is
// exceeded, and nothing is left at the end.
func TestRun(t *testing.T) {
	t.Parallel()
	r := dial(t, gateway.Config{Latency: 20 * time.Millisecond}, hurried())
	r.run(t, symbols(200), 8, func(done int) {
		switch done {
		case 50:
			r.sim.Restart(0)
		case 100:
			r.sim.Restart(300 * time.Millisecond)
		case 130:
			_ = r.sim.Fault("", gateway.CutFrame, 1)
		case 150:
			_ = r.sim.Fault("", gateway.Drop, 1)
		}
	})
	report := r.sim.Report()
	if report.Connections < 5 || report.Requests < 200 || report.MaxPerSecond > 50 {
		t.Errorf("%d connections, %d requests, %d messages in a second; want 5, 200 at least, and 50 at most", report.Connections, report.Requests, report.MaxPerSecond)
	}
	r.clean(t)
	r.Close()
	eventually(t, func() bool { return r.sim.Report().Connected == 0 })
}

// TestTroubles: a run over a real connection in which much goes wrong ends with
// every symbol, but for those of which the gateway says that it has nothing.
func TestTroubles(t *testing.T) {
	t.Parallel()
	o := hurried()
	o.Deadline = time.Second
	r := dial(t, gateway.Config{Latency: 5 * time.Millisecond}, o)
	rival := ibkr.New(ibkr.Options{Addr: r.address, ClientID: clientID, Budget: r.budget, Now: running()})
	defer rival.Close()
	for s, f := range map[market.Symbol]gateway.Fault{"ES": gateway.NoDataSpanish, "PM": gateway.NoPermissionSpanish, "UN": gateway.Unfinished} {
		if err := r.sim.Fault(s, f, -1); err != nil {
			t.Fatal(err)
		}
	}
	r.run(t, symbols(60), 6, func(done int) {
		switch done {
		case 10:
			r.get(t, "UN")
			_, err := r.DailyBars(t.Context(), "ES", lastWeeks())
			wantError(t, err, providers.NoData, "la consulta no devolvió datos: ES")
			_, err = r.DailyBars(t.Context(), "PM", lastWeeks())
			wantError(t, err, providers.NoData, "Sin permisos de datos de mercado para NYSE STK", "Market Data Subscriptions")
		case 20:
			_, err := rival.DailyBars(t.Context(), "AAPL", lastWeeks())
			wantError(t, err, providers.Rejected, "code 326", "SA_BROKER__IBKR__CLIENT_ID")
		case 30:
			r.sim.Silence(1500 * time.Millisecond)
		case 45:
			r.sim.Restart(500 * time.Millisecond)
		}
	})
	r.clean(t)
}

// TestRefused: a port that is closed for a time in the middle of a run, and for
// good in the end.
func TestRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := hurried()
	o.Addr, o.Dial, o.Patience = l.Addr().String(), (&net.Dialer{}).DialContext, 10*time.Second
	r := start(t, gateway.Config{Scale: hurry}, o)
	serve(t, r.sim, l)
	r.get(t, "AAPL")
	_ = l.Close()
	r.sim.Restart(0)
	time.AfterFunc(500*time.Millisecond, func() {
		if l, err = net.Listen("tcp", o.Addr); err == nil {
			go func() { _ = r.sim.Serve(l) }()
		}
	})
	r.get(t, "MSFT")
	_ = l.Close()
	r.sim.Restart(0)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := r.DailyBars(ctx, "IBM", lastWeeks()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want the context's own", err)
	}
	o.Patience = 300 * time.Millisecond
	hasty := start(t, gateway.Config{}, o)
	_, err = hasty.DailyBars(t.Context(), "AAPL", lastWeeks())
	wantError(t, err, providers.Transient, "gateway at "+o.Addr+" not reachable: dial tcp", "refused", "is its API socket enabled?")
	if strings.Count(err.Error(), "ibkr:") != 1 {
		t.Errorf("error = %v: it names the provider more than once", err)
	}
}

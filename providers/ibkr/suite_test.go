package ibkr_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// day is a Friday morning in New York; the newest closed session is the
// Thursday.
func day() time.Time          { return time.Date(2026, 3, 13, 14, 30, 0, 0, time.UTC) }
func newest() market.Date     { return market.NewDate(2026, 3, 12) }
func lastWeeks() market.Range { return market.Range{From: market.NewDate(2026, 2, 2), To: newest()} }

// running returns a clock that shows day now.
func running() func() time.Time {
	start := time.Now()
	return func() time.Time { return day().Add(time.Since(start)) }
}

// budget grants everything at once, or after wait, and remembers.
type budget struct {
	wait func(context.Context) error

	mu      sync.Mutex
	granted int
	pauses  []time.Duration
}

func (b *budget) Wait(ctx context.Context) error {
	b.mu.Lock()
	wait := b.wait
	b.mu.Unlock()
	if wait != nil {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.granted++
	return ctx.Err()
}

func (b *budget) Pause(_ context.Context, d time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pauses = append(b.pauses, d)
	return nil
}

func (b *budget) paused() []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pauses)
}

// rig is a client and the gateway that it asks.
type rig struct {
	*ibkr.Client
	sim    *gateway.Server
	budget *budget
	// address is where the gateway is over TCP.
	address string

	mu      sync.Mutex
	notices []int
}

func (r *rig) note(code int, _ string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notices = append(r.notices, code)
}

func (r *rig) noted(code int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.notices, code)
}

const clientID = 2

// start makes a rig; the client's times are IB's own if o does not say
// otherwise.
func start(t testing.TB, c gateway.Config, o ibkr.Options) *rig {
	t.Helper()
	if c.Now == nil {
		c.Now = running()
	}
	r := &rig{sim: gateway.New(c), budget: &budget{}}
	o.Now, o.ClientID, o.Notice = c.Now, clientID, r.note
	if o.Budget == nil {
		o.Budget = r.budget
	}
	if o.Addr == "" {
		o.Addr = "gateway.test:4002"
	}
	if o.Dial == nil {
		o.Dial = r.sim.Dial
	}
	r.Client = ibkr.New(o)
	t.Cleanup(r.sim.Close)
	t.Cleanup(func() {
		r.Close()
		eventually(t, func() bool { report := r.sim.Report(); return report.Connected == 0 && report.Open == 0 })
	})
	return r
}

// hurried are options for a test on the real clock; the simulator's rules run
// as much faster.
const hurry = 1000

func hurried() ibkr.Options {
	return ibkr.Options{Repeat: 16 * time.Millisecond, Deadline: 10 * time.Second, Patience: 20 * time.Second}
}

// dial starts a rig over TCP.
func dial(t testing.TB, c gateway.Config, o ibkr.Options) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Addr, o.Dial = l.Addr().String(), (&net.Dialer{}).DialContext
	c.Scale = cmp.Or(c.Scale, hurry)
	r := start(t, c, o)
	serve(t, r.sim, l)
	r.address = o.Addr
	return r
}

// serve lets clients in through l until it is closed.
func serve(t testing.TB, sim *gateway.Server, l net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- sim.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// check fails unless series holds the simulator's bars of all sessions of w.
func check(t testing.TB, series market.Series, s market.Symbol, w market.Range) {
	t.Helper()
	if series.Symbol != s || series.Source != ibkr.Name {
		t.Errorf("series of %s from %q, want %s from %q", series.Symbol, series.Source, s, ibkr.Name)
	}
	sessions, err := market.NYSE().Sessions(w.From, w.To)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := slices.BinarySearchFunc(series.Bars, w.From, func(b market.Bar, d market.Date) int { return int(b.Date - d) })
	bars := series.Bars[at:]
	if len(bars) != len(sessions) {
		t.Fatalf("%s: %d bars from %s on, want %d", s, len(bars), w.From, len(sessions))
	}
	for i, d := range sessions {
		if want := simulator.Bar(s, d); bars[i] != want {
			t.Fatalf("%s: bar = %+v, want %+v", s, bars[i], want)
		}
	}
}

// get asks for the last weeks of a symbol, which must come.
func (r *rig) get(t testing.TB, s market.Symbol) {
	t.Helper()
	series, err := r.DailyBars(t.Context(), s, lastWeeks())
	if err != nil {
		t.Errorf("%s: %v", s, err)
		return
	}
	check(t, series, s, lastWeeks())
}

// kindOf returns the kind of a provider's error, and whether it is one.
func kindOf(err error) (providers.Kind, bool) {
	known, ok := errors.AsType[*providers.Error](err)
	if !ok {
		return 0, false
	}
	return known.Kind, true
}

// wantError fails unless err is of a kind and its text holds parts.
func wantError(t testing.TB, err error, kind providers.Kind, parts ...string) {
	t.Helper()
	if got, ok := kindOf(err); !ok || got != kind {
		t.Errorf("error %v: kind %d, want %d", err, got, kind)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error = %v, want %q in it", err, part)
		}
	}
}

// clean fails if the client did what IB forbids, or if requests are left open.
func (r *rig) clean(t testing.TB) {
	t.Helper()
	if report := r.sim.Report(); len(report.Violations) != 0 || report.MaxOpen > 6 || report.Open != 0 {
		t.Errorf("violations %q, %d requests open at a time, %d left open; want none, 6 at most, none", report.Violations, report.MaxOpen, report.Open)
	}
}

package providertest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

// HTTP is a source that is reached over HTTP. [HTTP.Source] wires it as the
// program does.
type HTTP struct {
	Name string
	// New returns the source at base, through hc, with now as its clock.
	New func(base string, hc *http.Client, now func() time.Time) Client
	// Sign and Check are the source's parts of the transport.
	Sign  func(key string) func(*http.Request)
	Check func(status int, h http.Header, head []byte) *providers.Error
	// Simulator makes the vendor's simulator, such as [Tiingo].
	Simulator func(Setup) Simulator
}

// Simulator is a vendor that is asked over HTTP.
type Simulator struct {
	http.Handler
	Fault  func(symbol market.Symbol, f simulator.Fault, times int)
	Faults []string
	Calls  func() int
	Split  func(symbol market.Symbol, on market.Date, ratio float64) // or nil
}

// AlphaVantage makes the simulator of Alpha Vantage.
func AlphaVantage(s Setup) Simulator {
	sim := simulator.New(s.config())
	return Simulator{Handler: sim, Fault: sim.Fault, Faults: simulator.Faults(), Calls: func() int { return len(sim.Calls()) }}
}

// Massive makes the simulator of Massive, with a plan of two years.
func Massive(s Setup) Simulator {
	sim := simulator.New(s.config())
	return site(sim, sim.Massive(), sim.Split)
}

// Tiingo makes the simulator of Tiingo.
func Tiingo(s Setup) Simulator {
	sim := simulator.New(s.config())
	return site(sim, sim.Tiingo(), sim.Split)
}

// Custom returns what makes the simulator of any other vendor.
func Custom(v simulator.Custom) func(Setup) Simulator {
	return func(s Setup) Simulator {
		custom := simulator.NewSite(s.config(), v)
		return site(custom, custom, nil)
	}
}

func site(h http.Handler, b *simulator.BarSite, split func(market.Symbol, market.Date, float64)) Simulator {
	return Simulator{Handler: h, Fault: b.Fault, Faults: b.Faults(), Calls: func() int { return len(b.Calls()) }, Split: split}
}

func (s Setup) config() simulator.Config {
	return simulator.Config{
		Key: s.Key, Through: s.Through, Listed: s.Listed, Elsewhere: s.Elsewhere, Now: s.Now,
		Massive: simulator.MassiveConfig{Key: s.Key, Years: 2},
		Tiingo:  simulator.TiingoConfig{Key: s.Key},
	}
}

// Source returns what [Bars] tests.
func (h HTTP) Source() Source {
	return Source{Name: h.Name, Start: h.start, Faults: h.Simulator(Setup{}).Faults, Needs: needs(), Silent: silent()}
}

func (h HTTP) start(tb testing.TB, s Setup) Rig {
	tb.Helper()
	sim := h.Simulator(s)
	server := httptest.NewServer(sim)
	tb.Cleanup(server.Close)
	var mu sync.Mutex
	var told strings.Builder
	hc, err := transport.NewClient(server.URL, nil, s.Budget, transport.Options{
		Provider: h.Name, Attempts: s.Tries, MaxWait: 20 * time.Millisecond, MaxBody: 8 << 20, Timeout: s.Timeout,
		Sign: h.Sign(s.Key), Check: h.Check, Redact: redact,
		Observe: func(_ context.Context, a transport.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&told, "%+v\n", a)
		},
	})
	if err != nil {
		tb.Fatalf("NewClient: %v", err)
	}
	tb.Cleanup(hc.CloseIdleConnections)
	return Rig{
		Client: h.New(server.URL, hc, s.Now), Fault: sim.Fault, Calls: sim.Calls, Split: sim.Split,
		Told: func() string {
			mu.Lock()
			defer mu.Unlock()
			return told.String()
		},
	}
}

// elsewhere returns the URL of a host that fails tb if it is asked.
func elsewhere(tb testing.TB) string {
	tb.Helper()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		tb.Errorf("a request went to another host")
	}))
	tb.Cleanup(other.Close)
	return other.URL
}

// budget grants everything and counts.
type budget struct {
	refuse error

	mu        sync.Mutex
	granted   int
	pauses    []time.Duration
	exhausted int
}

// Wait implements [transport.Budget].
func (b *budget) Wait(ctx context.Context) error {
	if b.refuse != nil {
		return b.refuse
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.granted++
	return nil
}

// Pause implements [transport.Budget].
func (b *budget) Pause(_ context.Context, d time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pauses = append(b.pauses, d)
	return nil
}

// Exhaust implements [transport.Budget].
func (b *budget) Exhaust(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exhausted++
	return nil
}

func (b *budget) tokens() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.granted
}

var _ transport.Budget = (*budget)(nil)

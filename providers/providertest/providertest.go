// Package providertest is the suite that every provider of daily bars passes.
// It runs the provider over real HTTP, through the real transport, against the
// simulator and all of its faults.
package providertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

// Source is what the suite tests.
type Source interface {
	DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error)
}

// Vendor is a provider of daily bars under test.
type Vendor struct {
	// Name is the provider's name in errors and in Series.Source.
	Name string
	// New returns the provider as it is wired: at base, through hc, with
	// now as its clock.
	New func(base string, hc *http.Client, now func() time.Time) Source
	// Sign and Check are the provider's parts of the transport.
	Sign  func(key string) func(*http.Request)
	Check func(status int, h http.Header, head []byte) *providers.Error
}

// key is searched for in everything that comes out.
const key = "CANARYk3y+/="

// The suite's day is a Friday morning in New York; the newest closed session
// is the Thursday.
func now() time.Time       { return time.Date(2026, 3, 13, 14, 30, 0, 0, time.UTC) }
func session() market.Date { return market.NewDate(2026, 3, 12) }

func window() market.Range {
	return market.Range{From: market.NewDate(2025, 11, 3), To: session()}
}

// patient suits the slowest machine that the suite runs on, hasty the faults
// that wait for the client to give up.
const (
	patient = 20 * time.Second
	hasty   = time.Second
)

func patienceFor(f simulator.Fault) time.Duration {
	if f == simulator.SlowBody || f == simulator.SlowHeaders {
		return hasty
	}
	return patient
}

// good is the outcome of a call whose bars are the simulator's.
const good = "good"

// expectation is what a fault comes to.
type expectation struct {
	outcome string
	// calls is how many calls the provider sees of one question with two
	// tries; 0 means 1.
	calls int
}

// expected says for every fault of the simulator what comes of it.
func expected() map[simulator.Fault]expectation {
	once := func(outcome string) expectation { return expectation{outcome, 1} }
	twice := expectation{"provider_error", 2}
	return map[simulator.Fault]expectation{
		simulator.DailyQuota:          once("quota"),
		simulator.Burst:               once("limit_note"),
		simulator.BurstPattern:        once("limit_note"),
		simulator.MinuteNote:          once("limit_note"),
		simulator.TooManyRequests:     once("limit_note"),
		simulator.TooManyRequestsLong: once("limit_note"),
		simulator.Premium:             once("premium_only"),
		simulator.PremiumFull:         once("premium_only"),
		simulator.BadKey:              once("provider_error"),
		simulator.DemoKey:             once("provider_error"),
		simulator.BadSymbol:           once("unknown_symbol"),
		simulator.BadFunction:         once("provider_error"),
		simulator.UnknownMessage:      once("bad_payload"),
		simulator.EmptyObject:         once("no_data"),
		simulator.EmptyQuote:          once("no_data"),
		simulator.EmptyReports:        once("no_data"),
		simulator.EmptySeries:         once("no_data"),
		simulator.EmptyBody:           once("bad_payload"),
		simulator.EmptyArray:          once("bad_payload"),
		simulator.Null:                once("bad_payload"),
		simulator.HTML:                once("bad_payload"),
		simulator.HTML503:             twice,
		simulator.HTML520:             twice,
		simulator.WrongContentType:    once(good),
		simulator.ByteOrderMark:       once(good),
		simulator.BadUTF8:             once("bad_payload"),
		simulator.NUL:                 once("bad_payload"),
		simulator.Trailing:            once("bad_payload"),
		simulator.TruncatedLength:     {"provider_error", 0},
		simulator.TruncatedClose:      once("bad_payload"),
		simulator.TruncatedGzip:       {"provider_error", 0},
		simulator.ShortLength:         once("bad_payload"),
		simulator.SlowBody:            twice,
		simulator.SlowHeaders:         twice,
		simulator.Reset:               {"provider_error", 0},
		simulator.GzipBomb:            once("bad_payload"),
		simulator.RedirectElsewhere:   once("bad_payload"),
		simulator.RedirectLoop:        {"bad_payload", 4},
		simulator.WrongSymbol:         once("bad_payload"),
		simulator.PartialBar:          once(good),
		simulator.MissingLast:         once(good),
		simulator.Stale:               once(good),
		simulator.MissingMiddle:       once(good),
		simulator.Unsorted:            once(good),
		simulator.DuplicateBars:       once(good),
		simulator.ConflictingBars:     once("bad_payload"),
		simulator.WeekendBar:          once(good),
		simulator.FutureBar:           once(good),
		simulator.BadDate:             once("bad_payload"),
		simulator.BadNumber:           once("bad_payload"),
		simulator.NaN:                 once("bad_payload"),
		simulator.Exponent:            once("bad_payload"),
		simulator.NegativePrice:       once("bad_payload"),
		simulator.ZeroPrice:           once("bad_payload"),
		simulator.HighBelowLow:        once("bad_payload"),
		simulator.NegativeVolume:      once("bad_payload"),
		simulator.RenamedField:        once("bad_payload"),
		simulator.ExtraField:          once("bad_payload"),
		simulator.RepeatedField:       once("bad_payload"),
	}
}

// DailyBars runs the suite. tolerated names the faults that v's format cannot
// show, with the outcome that they have instead; good means that the bars are
// right all the same.
func DailyBars(t *testing.T, v Vendor, tolerated map[simulator.Fault]string) {
	t.Run("bars", func(t *testing.T) { t.Parallel(); testBars(t, v) })
	t.Run("share class", func(t *testing.T) { t.Parallel(); testShareClass(t, v) })
	t.Run("cancel", func(t *testing.T) { t.Parallel(); testCancel(t, v) })
	t.Run("recovery", func(t *testing.T) { t.Parallel(); testRecovery(t, v) })
	t.Run("limits reach the budget", func(t *testing.T) { t.Parallel(); testLimits(t, v) })
	t.Run("no permission, no call", func(t *testing.T) { t.Parallel(); testNoPermission(t, v) })
	t.Run("every fault is expected", func(t *testing.T) {
		for _, name := range simulator.Faults() {
			if _, ok := expected()[simulator.Fault(name)]; !ok {
				t.Errorf("the suite says nothing about the fault %s", name)
			}
		}
	})
	for fault, want := range expected() {
		if instead, ok := tolerated[fault]; ok {
			want.outcome = instead
		}
		t.Run("fault "+string(fault), func(t *testing.T) { t.Parallel(); testFault(t, v, fault, want) })
	}
}

// bench is one provider wired to one simulator.
type bench struct {
	sim    *simulator.Server
	source Source
	budget *budget
	// elsewhere counts the requests to a host that nobody may go to.
	elsewhere atomic.Int64

	mu   sync.Mutex
	told []transport.Attempt
}

func newBench(t *testing.T, v Vendor, tries int, timeout time.Duration) *bench {
	t.Helper()
	b := &bench{budget: &budget{}}
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { b.elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	b.sim = simulator.New(simulator.Config{Key: key, Through: session(), Elsewhere: other.URL, Now: now})
	server := httptest.NewServer(b.sim)
	t.Cleanup(server.Close)
	hc, err := transport.NewClient(server.URL, nil, b.budget, transport.Options{
		Provider: v.Name, Attempts: tries, MaxWait: 20 * time.Millisecond, MaxBody: 4 << 20, Timeout: timeout,
		Sign: v.Sign(key), Check: v.Check, Redact: redact,
		Observe: func(a transport.Attempt) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told = append(b.told, a)
		},
	})
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	b.source = v.New(server.URL, hc, now)
	return b
}

// load does what a job does with an answer.
func (b *bench) load(ctx context.Context, s market.Symbol) (market.Series, error) {
	series, err := b.source.DailyBars(ctx, s, window())
	if err != nil {
		return series, err
	}
	cleaned, err := market.Clean(slices.Clone(series.Bars), window(), session(), market.NYSE())
	if err != nil {
		return market.Series{}, err
	}
	series.Bars = cleaned.Bars
	return series, nil
}

// check fails unless every bar is the simulator's, in ascending order.
func check(t *testing.T, v Vendor, series market.Series, s market.Symbol) {
	t.Helper()
	if series.Symbol != s || series.Source != v.Name {
		t.Errorf("series of %s from %q, want %s from %q", series.Symbol, series.Source, s, v.Name)
	}
	if len(series.Bars) == 0 {
		t.Fatal("no bars")
	}
	var last market.Date
	for _, bar := range series.Bars {
		if bar.Date <= last {
			t.Fatalf("%s comes after %s", bar.Date, last)
		}
		last = bar.Date
		if want := simulator.Bar(s, bar.Date); bar != want {
			t.Fatalf("bar = %+v, want %+v", bar, want)
		}
	}
}

func testBars(t *testing.T, v Vendor) {
	b := newBench(t, v, 1, patient)
	series, err := b.source.DailyBars(t.Context(), "AAPL", window())
	if err != nil {
		t.Fatal(err)
	}
	check(t, v, series, "AAPL")
	series, err = b.load(t.Context(), "AAPL")
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := market.NYSE().Sessions(window().From, window().To)
	if err != nil {
		t.Fatal(err)
	}
	if len(series.Bars) != len(sessions) {
		t.Errorf("%d bars in the window, want %d", len(series.Bars), len(sessions))
	}
	if got := b.sim.Calls(); len(got) != 2 || b.budget.tokens() != 2 {
		t.Errorf("%d calls, %d permissions; want 2 of each", len(got), b.budget.tokens())
	}
}

func testShareClass(t *testing.T, v Vendor) {
	b := newBench(t, v, 1, patient)
	for _, s := range []market.Symbol{"BRK.B", "BF.B", "BRK.A"} {
		series, err := b.load(t.Context(), s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		check(t, v, series, s)
	}
}

func testFault(t *testing.T, v Vendor, fault simulator.Fault, want expectation) {
	b := newBench(t, v, 2, patienceFor(fault))
	b.sim.Fault("AAPL", fault, -1)
	start := time.Now()
	series, err := b.load(t.Context(), "AAPL")
	if took := time.Since(start); took > patient {
		t.Errorf("took %s", took)
	}
	calls := len(b.sim.Calls())
	if paid := b.budget.tokens(); calls != paid {
		t.Errorf("%d calls, %d permissions", calls, paid)
	}
	if want.calls != 0 && calls != want.calls {
		t.Errorf("%d calls, want %d", calls, want.calls)
	}
	if n := b.elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went to another host", n)
	}
	b.findKey(t, err)
	if want.outcome == good {
		if err != nil {
			t.Fatal(err)
		}
		check(t, v, series, "AAPL")
		return
	}
	if len(series.Bars) != 0 {
		t.Errorf("%d bars came with the error", len(series.Bars))
	}
	if got := outcome(err); got != want.outcome {
		t.Errorf("outcome = %q, want %q: %v", got, want.outcome, err)
	}
	var known *providers.Error
	if errors.As(err, &known) && (known.Provider != v.Name || known.Op != "daily bars AAPL") {
		t.Errorf("error names %q, %q; want the provider and what was asked", known.Provider, known.Op)
	}
}

// outcome returns the class that a job puts err in.
func outcome(err error) string {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) {
		return classed.Outcome()
	}
	return fmt.Sprintf("none (%v)", err)
}

// findKey fails if the key is in err, in whatever err wraps or in what was
// observed.
func (b *bench) findKey(t *testing.T, err error) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%+v\n", b.told)
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Fprintf(&out, "%v %+v %#v %q\n", err, err, err, err)
	}
	for _, form := range forms() {
		if strings.Contains(out.String(), form) {
			t.Errorf("the key is in %s", out.String())
		}
	}
}

func forms() []string {
	return []string{key, url.QueryEscape(key), base64.StdEncoding.EncodeToString([]byte(key)), "CANARY"}
}

func redact(s string) string {
	return strings.NewReplacer(key, "[redacted]", url.QueryEscape(key), "[redacted]").Replace(s)
}

func testCancel(t *testing.T, v Vendor) {
	for _, fault := range []simulator.Fault{simulator.SlowHeaders, simulator.SlowBody} {
		b := newBench(t, v, 3, patient)
		b.sim.Fault("AAPL", fault, -1)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		series, err := b.load(ctx, "AAPL")
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) || len(series.Bars) != 0 {
			t.Errorf("%s: %d bars, %v; want the context's own error", fault, len(series.Bars), err)
		}
		b.findKey(t, err)
	}
}

func testRecovery(t *testing.T, v Vendor) {
	for _, fault := range []simulator.Fault{simulator.HTML503, simulator.HTML520, simulator.SlowHeaders} {
		b := newBench(t, v, 2, patienceFor(fault))
		b.sim.Fault("AAPL", fault, 1)
		series, err := b.load(t.Context(), "AAPL")
		if err != nil {
			t.Fatalf("%s: %v", fault, err)
		}
		check(t, v, series, "AAPL")
		if calls, paid := len(b.sim.Calls()), b.budget.tokens(); calls != 2 || paid != 2 {
			t.Errorf("%s: %d calls, %d permissions; want 2 of each", fault, calls, paid)
		}
	}
}

func testLimits(t *testing.T, v Vendor) {
	for fault, want := range map[simulator.Fault]struct{ pauses, exhausted int }{
		simulator.Burst:               {1, 0},
		simulator.MinuteNote:          {1, 0},
		simulator.TooManyRequests:     {1, 0},
		simulator.TooManyRequestsLong: {1, 0},
		simulator.HTML503:             {2, 0},
		simulator.DailyQuota:          {0, 1},
		simulator.EmptyObject:         {0, 0},
	} {
		b := newBench(t, v, 2, patienceFor(fault))
		b.sim.Fault("AAPL", fault, -1)
		if _, err := b.load(t.Context(), "AAPL"); err == nil {
			t.Fatalf("%s: no error", fault)
		}
		b.budget.mu.Lock()
		if len(b.budget.pauses) != want.pauses || b.budget.exhausted != want.exhausted {
			t.Errorf("%s: pauses %v, %d exhausted; want %+v", fault, b.budget.pauses, b.budget.exhausted, want)
		}
		if len(b.budget.pauses) > 0 && slices.Max(b.budget.pauses) > 15*time.Minute {
			t.Errorf("%s: pauses %v, want 15 minutes at most", fault, b.budget.pauses)
		}
		b.budget.mu.Unlock()
	}
}

func testNoPermission(t *testing.T, v Vendor) {
	b := newBench(t, v, 3, patient)
	b.budget.refuse = &providers.Error{Provider: v.Name, Kind: providers.Quota, Err: errors.New("the day is spent")}
	_, err := b.load(t.Context(), "AAPL")
	if got := outcome(err); got != "quota" || len(b.sim.Calls()) != 0 {
		t.Errorf("outcome %q after %d calls, want quota after none", got, len(b.sim.Calls()))
	}
	b.budget.refuse = errors.New("the limiter is away")
	_, err = b.load(t.Context(), "AAPL")
	var known *providers.Error
	if !errors.As(err, &known) || known.Kind != providers.Unavailable || len(b.sim.Calls()) != 0 {
		t.Errorf("error = %v after %d calls, want kind Unavailable after none", err, len(b.sim.Calls()))
	}
}

// budget grants everything and counts.
type budget struct {
	refuse error

	mu        sync.Mutex
	granted   int
	pauses    []time.Duration
	exhausted int
}

func (b *budget) Wait(ctx context.Context) error {
	if b.refuse != nil {
		return b.refuse
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

package edgar_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

const agent = "Example Research admin@example.com"

// now is a Friday morning in New York.
func now() time.Time     { return time.Date(2026, 3, 13, 14, 30, 0, 0, time.UTC) }
func today() market.Date { return market.NewDate(2026, 3, 13) }

func listed() []market.Symbol {
	return []market.Symbol{"AAPL", "BRK.A", "BRK.B", "CMS.PRB", "IBM", "KO", "MSFT"}
}

// budget grants everything and counts.
type budget struct {
	mu      sync.Mutex
	granted int
	pauses  []time.Duration
}

func (b *budget) Wait(ctx context.Context) error {
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

func (b *budget) Exhaust(context.Context) error { return nil }

// rig is a client wired to a simulator as it is wired to the SEC.
type rig struct {
	sim    *simulator.Server
	client *edgar.Client
	budget budget
	// elsewhere counts the requests to a host that nobody may go to, bodies
	// the bytes that the simulator has sent.
	elsewhere, bodies atomic.Int64
}

func newRig(t *testing.T, c simulator.Config, timeout time.Duration) *rig {
	t.Helper()
	b := &rig{}
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { b.elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	c.Now, c.Elsewhere = now, other.URL
	if c.EDGAR.Symbols == nil {
		c.EDGAR.Symbols = listed()
	}
	b.sim = simulator.New(c)
	// Two servers, as the SEC has two hosts.
	connect := func() (string, *http.Client) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.sim.ServeHTTP(countingWriter{w, &b.bodies}, r)
		}))
		t.Cleanup(server.Close)
		sign, err := edgar.Sign(agent)
		if err != nil {
			t.Fatal(err)
		}
		hc, err := transport.NewClient(server.URL, nil, &b.budget, transport.Options{
			Provider: edgar.Name, Attempts: 2, MaxWait: 20 * time.Millisecond, MaxBody: edgar.MaxBody, Timeout: timeout,
			Sign: sign, Check: edgar.Check,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(hc.CloseIdleConnections)
		return server.URL, hc
	}
	files, www := connect()
	data, figures := connect()
	b.client = edgar.New(www, edgar.Options{BaseURL: files, DataBaseURL: data, Data: figures})
	return b
}

// countingWriter counts a body; the rest of the writer is the server's own.
type countingWriter struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (w countingWriter) Write(b []byte) (int, error) {
	w.sent.Add(int64(len(b)))
	return w.ResponseWriter.Write(b)
}

func (w countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

const (
	patient = 20 * time.Second
	hasty   = time.Second
)

func all(string, string) bool { return true }

// load returns an issuer's facts in the order in which they came.
func (b *rig) load(ctx context.Context, cik int, wanted func(string, string) bool) ([]market.Fact, edgar.Summary, error) {
	var facts []market.Fact
	summary, err := b.client.Facts(ctx, cik, wanted, func(f market.Fact) error {
		facts = append(facts, f)
		return nil
	})
	return facts, summary, err
}

// served is what the simulator has, in the client's order: by list, and by
// period within it.
func served(cik int, wanted func(string, string) bool) []market.Fact {
	facts := slices.DeleteFunc(simulator.Facts(cik, today()), func(f market.Fact) bool { return !wanted(f.Taxonomy, f.Concept) })
	for from := 0; from < len(facts); {
		to := from
		for to < len(facts) && facts[to].Concept == facts[from].Concept && facts[to].Unit == facts[from].Unit {
			to++
		}
		slices.SortFunc(facts[from:to], func(a, b market.Fact) int {
			if a.End != b.End {
				return int(a.End - b.End)
			}
			if a.Start != b.Start {
				return int(a.Start - b.Start)
			}
			return strings.Compare(a.Accession, b.Accession)
		})
		from = to
	}
	return facts
}

func TestFactsAreTheSimulators(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{EDGAR: simulator.EDGARConfig{Padding: 400_000}}, patient)
	notPadding := func(_, concept string) bool { return !strings.HasPrefix(concept, "Padding") }
	for _, s := range listed() {
		for name, wanted := range map[string]func(string, string) bool{"needed": market.IsNeeded, "all": notPadding} {
			facts, summary, err := b.load(t.Context(), simulator.CIK(s), wanted)
			if err != nil {
				t.Fatal(err)
			}
			want := served(simulator.CIK(s), wanted)
			if diff := cmp.Diff(want, facts); diff != "" {
				t.Errorf("%s, %s: %s", s, name, diff)
			}
			if summary.Facts != len(want) || summary.Repeats != 0 || summary.Conflicts != 0 || summary.Skipped == 0 || summary.Concepts == 0 {
				t.Errorf("%s, %s: %+v for %d facts", s, name, summary, len(want))
			}
		}
	}
	for _, call := range b.sim.EDGARCalls() {
		if call.Agent != agent || call.Outcome != "facts" {
			t.Errorf("call %+v", call)
		}
	}
}

// Every concept that is needed and simulated is found under its name.
func TestNeededIsTheList(t *testing.T) {
	t.Parallel()
	seen := map[market.Measure]bool{}
	names := map[string]bool{}
	for _, c := range market.Concepts() {
		if !market.IsNeeded(c.Taxonomy, c.Name) || market.IsNeeded("ifrs-full", c.Name) || names[c.Name] {
			t.Errorf("%+v: not needed, or twice in the list", c)
		}
		seen[c.Measure], names[c.Name] = true, true
	}
	for _, m := range []market.Measure{
		market.Assets, market.Liabilities, market.Equity, market.CurrentAssets, market.CurrentLiabilities, market.TotalDebt,
		market.LongDebt, market.DebtDue, market.LongDebtDue, market.LongDebtAll, market.Borrowings, market.Cash, market.Shares, market.Revenue,
		market.NetIncome, market.OperatingIncome, market.Depreciation, market.EPSDiluted, market.OperatingCashFlow, market.Dividends, market.DividendsPerShare,
	} {
		if !seen[m] {
			t.Errorf("no concept measures %s", m)
		}
	}
	if market.IsNeeded("us-gaap", "PaddingOfReport00001") || market.IsNeeded("", "") {
		t.Error("what nobody needs is needed")
	}
}

// good is the outcome of a call that gave the right data.
const good = "good"

type expectation struct {
	outcome string
	// calls is how many calls the provider sees of one question with two
	// tries; 0 means any number.
	calls int
}

func expected() map[simulator.Fault]expectation {
	once := func(outcome string) expectation { return expectation{outcome, 1} }
	return map[simulator.Fault]expectation{
		simulator.RateThreshold:     once("limit_note"),
		simulator.RateThreshold200:  once("limit_note"),
		simulator.UndeclaredTool:    once("provider_error"),
		simulator.UndeclaredTool200: once("provider_error"),
		simulator.TooManyRequests:   once("limit_note"),
		simulator.Maintenance:       {"provider_error", 2},
		simulator.Forbidden:         once("provider_error"),
		simulator.NoSuchKey:         once("no_data"),
		simulator.AccessDenied:      once("provider_error"),
		simulator.NotFoundPage:      once("bad_payload"),
		simulator.HTML:              once("bad_payload"),
		simulator.EmptyBody:         once("bad_payload"),
		simulator.EmptyObject:       once("bad_payload"),
		simulator.EmptyArray:        once("bad_payload"),
		simulator.WrongContentType:  once("bad_payload"),
		simulator.BadUTF8:           once("bad_payload"),
		simulator.Trailing:          once("bad_payload"),
		simulator.TruncatedLength:   {"provider_error", 0},
		simulator.TruncatedClose:    once("bad_payload"),
		simulator.TruncatedGzip:     {"provider_error", 0},
		simulator.Reset:             {"provider_error", 0},
		simulator.SlowHeaders:       {"provider_error", 2},
		simulator.GzipBomb:          once("bad_payload"),
		simulator.RedirectElsewhere: once("bad_payload"),
		simulator.RedirectLoop:      {"bad_payload", 4},
		simulator.WrongCIK:          once("bad_payload"),
		simulator.NoFacts:           once("no_data"),
		simulator.BadNumber:         once("bad_payload"),
		simulator.NullValue:         once("bad_payload"),
		simulator.NaN:               once("bad_payload"),
		simulator.HugeNumber:        once("bad_payload"),
		simulator.Exponent:          once(good),
		simulator.BadDate:           once("bad_payload"),
		simulator.BadAccession:      once("bad_payload"),
		simulator.RepeatedFacts:     once(good),
		simulator.ConflictingFacts:  once(good),
		simulator.DisputedTickers:   once("bad_payload"),
	}
}

func TestEveryFaultHasItsClass(t *testing.T) {
	t.Parallel()
	for _, name := range simulator.EDGARFaults() {
		if _, ok := expected()[simulator.Fault(name)]; !ok {
			t.Errorf("nothing is said about the fault %s", name)
		}
	}
	for fault, want := range expected() {
		t.Run(string(fault), func(t *testing.T) { t.Parallel(); testFault(t, fault, want) })
	}
}

func testFault(t *testing.T, fault simulator.Fault, want expectation) {
	timeout := patient
	if fault == simulator.SlowHeaders {
		timeout = hasty
	}
	b := newRig(t, simulator.Config{EDGAR: simulator.EDGARConfig{Padding: 200_000}}, timeout)
	cik := simulator.CIK("AAPL")
	b.sim.FaultEDGAR(cik, fault, -1)
	facts, summary, err := b.load(t.Context(), cik, market.IsNeeded)
	calls := len(b.sim.EDGARCalls())
	if calls != b.budget.granted || want.calls != 0 && calls != want.calls {
		t.Errorf("%d calls, %d permissions, want %d", calls, b.budget.granted, want.calls)
	}
	if n := b.elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went to another host", n)
	}
	if want.outcome == good {
		if err != nil {
			t.Fatal(err)
		}
		right := served(cik, market.IsNeeded)
		switch fault {
		case simulator.RepeatedFacts:
			if summary.Repeats != len(right) {
				t.Errorf("%d repeats, want %d", summary.Repeats, len(right))
			}
		case simulator.ConflictingFacts:
			at := slices.Index(right, simulator.Facts(cik, today())[0])
			right = slices.Delete(right, at, at+1)
			if summary.Conflicts != 2 {
				t.Errorf("%d in conflict, want 2", summary.Conflicts)
			}
		}
		if diff := cmp.Diff(right, facts); diff != "" {
			t.Error(diff)
		}
		return
	}
	if len(facts) != 0 || summary != (edgar.Summary{}) {
		t.Errorf("%d facts and %+v came with the error", len(facts), summary)
	}
	if got := outcome(err); got != want.outcome {
		t.Errorf("outcome = %q, want %q: %v", got, want.outcome, err)
	}
	var known *providers.Error
	if !errors.As(err, &known) || known.Provider != edgar.Name || known.Op != fmt.Sprintf("facts of CIK %d", cik) {
		t.Errorf("error %v names neither the provider nor what was asked", err)
	}
}

func outcome(err error) string {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) {
		return classed.Outcome()
	}
	return fmt.Sprintf("none (%v)", err)
}

func TestTickerFaults(t *testing.T) {
	t.Parallel()
	for fault, want := range expected() {
		if _, inFacts := map[simulator.Fault]bool{
			simulator.WrongCIK: true, simulator.NoFacts: true, simulator.BadNumber: true, simulator.NullValue: true, simulator.NaN: true,
			simulator.HugeNumber: true, simulator.Exponent: true, simulator.BadDate: true, simulator.BadAccession: true,
			simulator.RepeatedFacts: true, simulator.ConflictingFacts: true, simulator.DisputedTickers: true,
		}[fault]; inFacts {
			continue
		}
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			timeout := patient
			if fault == simulator.SlowHeaders {
				timeout = hasty
			}
			if fault == simulator.NoSuchKey || fault == simulator.AccessDenied {
				want.outcome = "bad_payload" // no symbol's fault
			}
			b := newRig(t, simulator.Config{}, timeout)
			b.sim.FaultEDGAR(0, fault, -1)
			tickers, err := b.client.Tickers(t.Context(), edgar.Tickers{})
			if got := outcome(err); got != want.outcome || len(tickers.CIK) != 0 {
				t.Errorf("outcome = %q and %d symbols, want %q: %v", got, len(tickers.CIK), want.outcome, err)
			}
			var known *providers.Error
			if !errors.As(err, &known) || known.Op != "ticker file" {
				t.Errorf("error %v does not say what was asked", err)
			}
		})
	}
}

func TestBlockHoldsEveryoneBack(t *testing.T) {
	t.Parallel()
	for fault, want := range map[simulator.Fault][]time.Duration{
		simulator.RateThreshold:    {10 * time.Minute},
		simulator.RateThreshold200: {10 * time.Minute},
		simulator.TooManyRequests:  {10 * time.Minute},
		simulator.UndeclaredTool:   nil,
		simulator.NoSuchKey:        nil,
	} {
		b := newRig(t, simulator.Config{}, patient)
		b.sim.FaultEDGAR(0, fault, -1)
		_, _, err := b.load(t.Context(), simulator.CIK("AAPL"), all)
		var known *providers.Error
		if !slices.Equal(b.budget.pauses, want) || !errors.As(err, &known) || len(want) > 0 && known.RetryAfter != 10*time.Minute {
			t.Errorf("%s: pauses %v, want %v: %v", fault, b.budget.pauses, want, err)
		}
		if stops := fault == simulator.UndeclaredTool; known.Stops() != stops {
			t.Errorf("%s: stops the run: %v, want %v", fault, known.Stops(), stops)
		}
	}
}

func TestTheLimitIsSeen(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{EDGAR: simulator.EDGARConfig{PerSecond: 2}}, patient)
	cik := simulator.CIK("AAPL")
	for i, want := range []string{"", "", "limit_note"} {
		if _, _, err := b.load(t.Context(), cik, market.IsNeeded); err != nil != (want != "") || err != nil && outcome(err) != want {
			t.Errorf("call %d: %v, want %q", i, err, want)
		}
	}
	if got := b.sim.Violations(); len(got) != 1 {
		t.Errorf("violations %v, want one", got)
	}
}

func TestTickers(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{}, patient)
	first, err := b.client.Tickers(t.Context(), edgar.Tickers{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[market.Symbol]int{}
	for _, s := range listed() {
		want[s] = simulator.CIK(s)
	}
	if diff := cmp.Diff(want, first.CIK); diff != "" || first.Rows != len(want) || first.Malformed != 0 || first.Ambiguous != 0 {
		t.Errorf("%+v: %s", first, diff)
	}
	if first.ETag == "" || first.LastModified == "" {
		t.Errorf("no validator in %+v", first)
	}
	sent := b.bodies.Load()
	second, err := b.client.Tickers(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("not what was there: %s", diff)
	}
	if got := b.bodies.Load() - sent; got != 0 {
		t.Errorf("the second call cost %d bytes, want none", got)
	}
	// A date alone is enough, a tag without the symbols is not.
	if _, err := b.client.Tickers(t.Context(), edgar.Tickers{CIK: first.CIK, LastModified: first.LastModified}); err != nil || b.bodies.Load() != sent {
		t.Errorf("with the date alone: %v, %d bytes", err, b.bodies.Load()-sent)
	}
	third, err := b.client.Tickers(t.Context(), edgar.Tickers{ETag: first.ETag})
	if diff := cmp.Diff(first, third); err != nil || diff != "" {
		t.Errorf("without the symbols: %v %s", err, diff)
	}
	var outcomes []string
	for _, call := range b.sim.EDGARCalls() {
		outcomes = append(outcomes, call.Outcome)
	}
	if want := []string{"tickers", "not_modified", "not_modified", "tickers"}; !slices.Equal(outcomes, want) {
		t.Errorf("outcomes %v, want %v", outcomes, want)
	}
}

func TestTickersInDispute(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{}, patient)
	b.sim.FaultEDGAR(0, simulator.DisputedTickers, 1)
	got, err := b.client.Tickers(t.Context(), edgar.Tickers{})
	if err != nil {
		t.Fatal(err)
	}
	if _, kept := got.CIK["AAPL"]; kept || len(got.CIK) != len(listed())-1 {
		t.Errorf("%v: want all but the symbol of two issuers", got.CIK)
	}
	if got.Rows != len(listed())+4 || got.Malformed != 3 || got.Ambiguous != 1 {
		t.Errorf("%d rows, %d malformed, %d ambiguous", got.Rows, got.Malformed, got.Ambiguous)
	}
}

func TestUnknownIssuer(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{}, patient)
	if _, _, err := b.load(t.Context(), 7, all); outcome(err) != "no_data" {
		t.Errorf("error %v, want no_data", err)
	}
	for _, cik := range []int{0, -1, 10_000_000_000} {
		if _, _, err := b.load(t.Context(), cik, all); outcome(err) != "bad_payload" || !strings.Contains(err.Error(), "1 to 10 digits") {
			t.Errorf("CIK %d: error %v", cik, err)
		}
	}
	if n := len(b.sim.EDGARCalls()); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	nothing := func(string, string) bool { return false }
	if _, _, err := b.load(t.Context(), simulator.CIK("IBM"), nothing); outcome(err) != "no_data" {
		t.Errorf("nothing wanted: error %v, want no_data", err)
	}
}

func TestTheCallersErrorComesBack(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{}, patient)
	full := errors.New("the disk is full")
	calls := 0
	_, err := b.client.Facts(t.Context(), simulator.CIK("IBM"), all, func(market.Fact) error {
		if calls++; calls == 3 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || calls != 3 {
		t.Errorf("error %v after %d facts, want the caller's own after 3", err, calls)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{}, patient)
	b.sim.FaultEDGAR(0, simulator.SlowHeaders, -1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := b.load(ctx, simulator.CIK("IBM"), all)
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
		t.Errorf("%v; want the context's own error", err)
	}
	if _, err := b.client.Tickers(ctx, edgar.Tickers{}); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
		t.Errorf("%v; want the context's own error", err)
	}
}

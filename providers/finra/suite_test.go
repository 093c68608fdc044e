package finra_test

import (
	"cmp"
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

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/finra"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

// now is a Friday morning in New York; the newest settlement date that is out
// is [settled].
func now() time.Time       { return time.Date(2026, 3, 13, 14, 30, 0, 0, time.UTC) }
func settled() market.Date { return market.NewDate(2026, 2, 27) }
func notYet() market.Date  { return market.NewDate(2026, 3, 13) }

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

// rig is a client wired to a simulator as it is wired to FINRA.
type rig struct {
	sim    *simulator.Server
	client *finra.Client
	budget budget
	// elsewhere counts the requests to a host that nobody may go to.
	elsewhere atomic.Int64
}

func newRig(t *testing.T, c simulator.FINRAConfig, timeout time.Duration) *rig {
	t.Helper()
	b := &rig{}
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { b.elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	if c.Symbols == nil {
		c.Symbols = listed()
	}
	b.sim = simulator.New(simulator.Config{FINRA: c, Now: now, Elsewhere: other.URL})
	server := httptest.NewServer(b.sim)
	t.Cleanup(server.Close)
	hc, err := transport.NewClient(server.URL, nil, &b.budget, transport.Options{
		Provider: finra.Name, Attempts: 2, MaxWait: 20 * time.Millisecond, MaxBody: finra.MaxBody, Timeout: timeout, Check: finra.Check,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	b.client = finra.New(hc, finra.Options{BaseURL: server.URL + "/"})
	return b
}

const (
	patient = 20 * time.Second
	hasty   = time.Second
)

// load returns the rows in the order in which they came.
func load(ctx context.Context, c *finra.Client, d market.Date, symbols []market.Symbol) ([]market.ShortInterest, finra.Summary, error) {
	var rows []market.ShortInterest
	summary, err := c.ShortInterest(ctx, d, symbols, func(s market.ShortInterest) error {
		rows = append(rows, s)
		return nil
	})
	return rows, summary, err
}

// served is what the simulator has, in the client's order.
func served(d market.Date, symbols []market.Symbol) []market.ShortInterest {
	var rows []market.ShortInterest
	for _, s := range symbols {
		rows = append(rows, simulator.ShortInterest(s, d))
	}
	slices.SortFunc(rows, func(a, b market.ShortInterest) int { return cmp.Compare(a.Symbol, b.Symbol) })
	return rows
}

func TestRowsAreTheSimulators(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config  simulator.FINRAConfig
		symbols []market.Symbol
		calls   int // a date
	}{
		"few":           {simulator.FINRAConfig{}, listed(), 1},
		"one a page":    {simulator.FINRAConfig{PageRows: 1}, listed(), 7},
		"three a page":  {simulator.FINRAConfig{PageRows: 3}, listed(), 3},
		"the index":     {simulator.FINRAConfig{Symbols: market.SP500()}, market.SP500(), 2},
		"of many, some": {simulator.FINRAConfig{Symbols: market.SP500()}, []market.Symbol{"MSFT", "BRK.B", "AAPL", "MSFT"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRig(t, c.config, patient)
			dates, err := b.client.Published(t.Context())
			if err != nil || dates[0] != simulator.FirstSettlement() || dates[len(dates)-1] != settled() || !slices.IsSorted(dates) {
				t.Fatalf("%v, %v: want all dates to %v", dates, err, settled())
			}
			asked := []market.Date{dates[0], dates[1], dates[99], dates[100], settled()}
			for _, d := range asked {
				rows, summary, err := load(t.Context(), b.client, d, c.symbols)
				if err != nil {
					t.Fatal(err)
				}
				want := served(d, slices.Compact(slices.Sorted(slices.Values(c.symbols))))
				if diff := gocmp.Diff(want, rows); diff != "" {
					t.Errorf("%v: %s", d, diff)
				}
				if diff := gocmp.Diff(finra.Summary{Rows: len(want)}, summary); diff != "" {
					t.Errorf("%v: %s", d, diff)
				}
			}
			if got := len(b.sim.FINRACalls()) - 1; got != c.calls*len(asked) || b.budget.granted != got+1 {
				t.Errorf("%d calls, %d permissions, want %d", got, b.budget.granted, c.calls*len(asked))
			}
		})
	}
}

// Every symbol is in one part of the summary.
func TestMissingAndColliding(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{}, patient)
	symbols := []market.Symbol{"NEWCO", "BRKA", "BRK.A", "KO", "AB.CD", "ABC.D", "ABSENT", "IBM", "BRK.A"}
	rows, summary, err := load(t.Context(), b.client, settled(), symbols)
	if err != nil {
		t.Fatal(err)
	}
	const spelled = "several of the symbols are spelled so"
	want := finra.Summary{
		Rows: 2, Missing: []market.Symbol{"ABSENT", "NEWCO"},
		Collisions: []finra.Collision{
			{Code: "ABCD", Symbols: []market.Symbol{"AB.CD", "ABC.D"}, Reason: spelled},
			{Code: "BRKA", Symbols: []market.Symbol{"BRK.A", "BRKA"}, Reason: spelled},
		},
	}
	if diff := gocmp.Diff(want, summary) + gocmp.Diff(served(settled(), []market.Symbol{"IBM", "KO"}), rows); diff != "" {
		t.Error(diff)
	}
	if calls := b.sim.FINRACalls(); len(calls) != 1 || calls[0].Symbols != 4 {
		t.Errorf("calls %+v: what cannot be told apart must not be asked for", calls)
	}
	_, summary, err = load(t.Context(), b.client, settled(), []market.Symbol{"BRKA", "BRK.A"})
	if err != nil || summary.Rows != 0 || len(summary.Collisions) != 1 || len(b.sim.FINRACalls()) != 1 {
		t.Errorf("%+v, %v: want one collision and no call", summary, err)
	}
}

func TestASpellingThatTwoSecuritiesShare(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{Symbols: append(listed(), "BRKB"), PageRows: 2}, patient)
	rows, summary, err := load(t.Context(), b.client, settled(), listed())
	if err != nil {
		t.Fatal(err)
	}
	others := slices.DeleteFunc(listed(), func(s market.Symbol) bool { return s == "BRK.B" })
	if diff := gocmp.Diff(served(settled(), others), rows); diff != "" {
		t.Error(diff)
	}
	if len(summary.Collisions) != 1 || summary.Rows != len(others) || len(summary.Missing) != 0 {
		t.Fatalf("%+v: want one collision", summary)
	}
	if c := summary.Collisions[0]; c.Code != "BRKB" || !slices.Equal(c.Symbols, []market.Symbol{"BRK.B"}) || strings.Count(c.Reason, "Simulated") != 2 {
		t.Errorf("%+v: want both securities named", c)
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
		simulator.BadRequest:        once("provider_error"),
		simulator.Unauthorized:      once("provider_error"),
		simulator.Forbidden:         once("provider_error"),
		simulator.ErrorWith200:      once("provider_error"),
		simulator.ServerError:       {"provider_error", 2},
		simulator.HTML503:           {"provider_error", 2},
		simulator.TooManyRequests:   {"limit_note", 0},
		simulator.HTML:              once("bad_payload"),
		simulator.NotFoundPage:      once("bad_payload"),
		simulator.NoContent:         {"no_data", 4}, // the list of dates is asked for, and all of it once more
		simulator.EmptyArray:        {"no_data", 4},
		simulator.EmptyBody:         once("bad_payload"),
		simulator.EmptyObject:       once("bad_payload"),
		simulator.Null:              once("bad_payload"),
		simulator.PlainText:         once("bad_payload"),
		simulator.WrongContentType:  once("bad_payload"),
		simulator.ByteOrderMark:     once("bad_payload"),
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
		simulator.ShortPage:         {good, 4},
		simulator.UnstableOrder:     once(good),
		simulator.SharedCode:        once(good),
		simulator.TotalMissing:      once("bad_payload"),
		simulator.TotalChanges:      {"bad_payload", 4},
		simulator.TotalTooLarge:     {"bad_payload", 4},
		simulator.TotalTooSmall:     {"bad_payload", 2},
		simulator.RepeatedRow:       {"bad_payload", 2},
		simulator.WrongDate:         once("bad_payload"),
		simulator.UnaskedSymbol:     once("bad_payload"),
		simulator.BadDate:           once("bad_payload"),
		simulator.BadNumber:         once("bad_payload"),
		simulator.NullValue:         once("bad_payload"),
		simulator.NaN:               once("bad_payload"),
		simulator.NegativeVolume:    once("bad_payload"),
		simulator.HugeNumber:        once("bad_payload"),
		simulator.Exponent:          once(good),
		simulator.RenamedField:      once("bad_payload"),
		simulator.ExtraField:        once(good),
		simulator.RepeatedField:     once("bad_payload"),
	}
}

func TestEveryFaultHasItsClass(t *testing.T) {
	t.Parallel()
	for _, name := range simulator.FINRAFaults() {
		if _, ok := expected()[simulator.Fault(name)]; !ok {
			t.Errorf("nothing is said about the fault %s", name)
		}
	}
	for fault, want := range expected() {
		t.Run(string(fault), func(t *testing.T) { t.Parallel(); testFault(t, fault, want) })
	}
}

func timeoutFor(fault simulator.Fault) time.Duration {
	if fault == simulator.SlowHeaders {
		return hasty
	}
	return patient
}

func testFault(t *testing.T, fault simulator.Fault, want expectation) {
	b := newRig(t, simulator.FINRAConfig{}, timeoutFor(fault))
	b.sim.FaultFINRA(settled(), fault, -1)
	rows, summary, err := load(t.Context(), b.client, settled(), listed())
	calls := len(b.sim.FINRACalls())
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
		symbols := listed()
		for _, c := range summary.Collisions {
			symbols = slices.DeleteFunc(symbols, func(s market.Symbol) bool { return s == c.Symbols[0] })
		}
		if diff := gocmp.Diff(served(settled(), symbols), rows); diff != "" || (len(summary.Collisions) == 1) != (fault == simulator.SharedCode) {
			t.Errorf("%+v: %s", summary, diff)
		}
		return
	}
	if diff := gocmp.Diff(finra.Summary{}, summary); len(rows) != 0 || diff != "" {
		t.Errorf("%d rows and a summary came with the error: %s", len(rows), diff)
	}
	if got := outcome(err); got != want.outcome || errors.Is(err, finra.ErrNotPublished) {
		t.Errorf("outcome = %q, want %q: %v", got, want.outcome, err)
	}
	var known *providers.Error
	if !errors.As(err, &known) || known.Provider != finra.Name || known.Op != "short interest of 2026-02-27" || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q names neither the provider nor what was asked", err)
	}
}

func outcome(err error) string {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) {
		return classed.Outcome()
	}
	return fmt.Sprintf("none (%v)", err)
}

// What does not fit together for a moment is read again and then right.
func TestPagesThatFitTheSecondTime(t *testing.T) {
	t.Parallel()
	for _, fault := range []simulator.Fault{
		simulator.TotalChanges, simulator.TotalTooLarge, simulator.TotalTooSmall, simulator.RepeatedRow, simulator.EmptyArray, simulator.NoContent,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			b := newRig(t, simulator.FINRAConfig{PageRows: 3}, patient)
			b.sim.FaultFINRA(settled(), fault, 1)
			rows, _, err := load(t.Context(), b.client, settled(), listed())
			if diff := gocmp.Diff(served(settled(), listed()), rows); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// A page whose order is not that of the page before brings rows twice, and
// others never.
func TestUnstableOrder(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{PageRows: 3}, patient)
	b.sim.FaultFINRA(settled(), simulator.UnstableOrder, -1)
	rows, _, err := load(t.Context(), b.client, settled(), listed())
	if outcome(err) != "bad_payload" || len(rows) != 0 || !strings.Contains(err.Error(), "came twice, also when all was read again") {
		t.Errorf("%d rows, error %v; want a symbol that came twice", len(rows), err)
	}
}

func TestNotPublished(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config simulator.FINRAConfig
		date   market.Date
		fault  simulator.Fault
	}{
		"not due":         {simulator.FINRAConfig{}, notYet(), ""},
		"late":            {simulator.FINRAConfig{Late: 72 * time.Hour}, settled(), ""},
		"no such date":    {simulator.FINRAConfig{}, settled() - 1, ""},
		"with status 204": {simulator.FINRAConfig{}, notYet(), simulator.NoContent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRig(t, tc.config, patient)
			b.sim.FaultFINRA(tc.date, tc.fault, -1)
			rows, summary, err := load(t.Context(), b.client, tc.date, listed())
			if !errors.Is(err, finra.ErrNotPublished) || outcome(err) != "not_ready" || len(rows) != 0 || len(summary.Missing) != 0 {
				t.Errorf("%d rows, %+v, %v; want it not yet published", len(rows), summary, err)
			}
			if n := len(b.sim.FINRACalls()); n != 2 {
				t.Errorf("%d calls, want the rows and the list of dates", n)
			}
		})
	}
	b := newRig(t, simulator.FINRAConfig{}, patient)
	_, _, err := load(t.Context(), b.client, settled(), []market.Symbol{"NOSUCH"})
	if outcome(err) != "no_data" || errors.Is(err, finra.ErrNotPublished) || !strings.Contains(err.Error(), "without any of these symbols") {
		t.Errorf("error %v: the date is out, the symbol is not there", err)
	}
	b.sim.FaultFINRA(0, simulator.EmptyArray, 1)
	b.sim.FaultFINRA(0, simulator.HTML, 1)
	if _, _, err = load(t.Context(), b.client, settled(), listed()); outcome(err) != "bad_payload" || errors.Is(err, finra.ErrNotPublished) {
		t.Errorf("error %v: a list that cannot be read says nothing", err)
	}
}

// half is a simulator in which only some rows of a large index are out.
func half(of []market.Symbol) simulator.FINRAConfig { return simulator.FINRAConfig{Symbols: of} }

// What FINRA has published by half is not taken for all there is.
func TestStillPublishing(t *testing.T) {
	t.Parallel()
	all := market.SP500()
	inCodes := slices.SortedFunc(slices.Values(all), func(a, b market.Symbol) int {
		return cmp.Compare(a.In(market.FINRA), b.In(market.FINRA))
	})
	chunk := (len(all) + 1) / 2
	for name, tc := range map[string]struct {
		out, asked []market.Symbol
		says       string // "" if the rows are good
		calls      int
	}{
		"the second chunk is empty":     {inCodes[:chunk], all, fmt.Sprintf("of %d symbols asked for together none", len(all)-chunk), 4},
		"the first chunk is empty":      {inCodes[chunk:], all, fmt.Sprintf("of %d symbols asked for together none", chunk), 4},
		"one row":                       {inCodes[:1], all, "none has a row", 4},
		"one row in each chunk":         {[]market.Symbol{inCodes[0], inCodes[chunk]}, all, fmt.Sprintf("only 2 of %d", len(all)), 4},
		"a tenth in both":               {every(inCodes, 10), all, fmt.Sprintf("only %d of %d", (len(all)+9)/10, len(all)), 4},
		"every second and one more":     {append(every(inCodes, 2), inCodes[1]), all, "", 2},
		"10 of 20":                      {all[:10], all[:20], "", 1},
		"9 of 20":                       {all[:9], all[:20], "only 9 of 20 symbols", 2},
		"one of 19, which says nothing": {all[:1], all[:19], "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRig(t, half(tc.out), patient)
			rows, summary, err := load(t.Context(), b.client, settled(), tc.asked)
			if n := len(b.sim.FINRACalls()); n != tc.calls {
				t.Errorf("%d calls, want %d", n, tc.calls)
			}
			if tc.says == "" {
				if diff := gocmp.Diff(served(settled(), tc.out), rows); err != nil || diff != "" || len(summary.Missing) != len(tc.asked)-len(tc.out) {
					t.Errorf("%v, %d missing %s", err, len(summary.Missing), diff)
				}
				return
			}
			if !errors.Is(err, finra.ErrPublishing) || errors.Is(err, finra.ErrNotPublished) || outcome(err) != "not_ready" || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want it still publishing and %q", err, tc.says)
			}
			if diff := gocmp.Diff(finra.Summary{}, summary); len(rows) != 0 || diff != "" {
				t.Errorf("%d rows came with the error: %s", len(rows), diff)
			}
		})
	}
}

func every(of []market.Symbol, n int) (some []market.Symbol) {
	for i := 0; i < len(of); i += n {
		some = append(some, of[i])
	}
	return some
}

// The second chunk is answered with nothing, once or for ever.
func TestASilentChunk(t *testing.T) {
	t.Parallel()
	for _, fault := range []simulator.Fault{simulator.NoContent, simulator.EmptyArray} {
		for _, times := range []int{1, 2} {
			b := newRig(t, half(market.SP500()), patient)
			for range times {
				b.sim.FaultFINRA(settled(), simulator.Exponent, 1) // the first chunk is sound
				b.sim.FaultFINRA(settled(), fault, 1)
			}
			rows, summary, err := load(t.Context(), b.client, settled(), market.SP500())
			if times == 2 {
				if !errors.Is(err, finra.ErrPublishing) || len(rows) != 0 || summary.Rows != 0 {
					t.Errorf("%s twice: %d rows, %v; want none, still publishing", fault, len(rows), err)
				}
				rows, summary, err = load(t.Context(), b.client, settled(), market.SP500())
			}
			if diff := gocmp.Diff(served(settled(), market.SP500()), rows); err != nil || diff != "" || len(summary.Missing) != 0 {
				t.Errorf("%s %d times, then all: %v %s", fault, times, err, diff)
			}
		}
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	for _, rewrites := range []bool{false, true} {
		b := newRig(t, simulator.FINRAConfig{Symbols: market.SP500(), Rewrites: rewrites}, patient)
		before := market.NewDate(2026, 2, 13)
		old, _, err1 := load(t.Context(), b.client, before, market.SP500())
		rows, _, err2 := load(t.Context(), b.client, settled(), market.SP500())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		corrected := 0
		for i, row := range rows {
			shares, ok := row.Correction()
			if !ok {
				continue
			}
			corrected++
			if first := simulator.ShortInterest(row.Symbol, before); (old[i] == first) == rewrites || old[i].Corrected(shares) != first.Corrected(shares) || first.Shares == shares {
				t.Errorf("%s: %+v, corrected to %d", row.Symbol, old[i], shares)
			}
		}
		if corrected < 5 {
			t.Errorf("%d corrections, want more", corrected)
		}
	}
}

func TestALimitHoldsEveryoneBack(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{PerMinute: 2}, patient)
	for i, want := range []string{"", "", "limit_note"} {
		if _, _, err := load(t.Context(), b.client, settled(), listed()); (err != nil) != (want != "") || err != nil && outcome(err) != want {
			t.Errorf("call %d: %v, want %q", i, err, want)
		}
	}
	if len(b.sim.Violations()) == 0 || len(b.budget.pauses) == 0 {
		t.Errorf("violations %v, pauses %v, want some", b.sim.Violations(), b.budget.pauses)
	}
}

func TestNothingIsAskedFor(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{}, patient)
	_, _, err1 := load(t.Context(), b.client, settled(), nil)
	_, _, err2 := load(t.Context(), b.client, 0, listed())
	if outcome(err1) != "bad_payload" || outcome(err2) != "bad_payload" || len(b.sim.FINRACalls()) != 0 {
		t.Errorf("%v, %v, %d calls; want two errors and no call", err1, err2, len(b.sim.FINRACalls()))
	}
}

func TestTheCallersErrorComesBack(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{}, patient)
	full := errors.New("the disk is full")
	calls := 0
	_, err := b.client.ShortInterest(t.Context(), settled(), listed(), func(market.ShortInterest) error {
		if calls++; calls == 3 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || calls != 3 {
		t.Errorf("error %v after %d rows, want the caller's own after 3", err, calls)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.FINRAConfig{}, patient)
	b.sim.FaultFINRA(0, simulator.SlowHeaders, -1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := load(ctx, b.client, settled(), listed())
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
		t.Errorf("%v; want the context's own error", err)
	}
	if _, err := b.client.Published(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
		t.Errorf("%v; want the context's own error", err)
	}
}

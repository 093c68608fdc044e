// Package providertest is the suite that every source of daily bars passes. It
// runs the source against the simulator of its vendor and against all of the
// simulator's faults; one that is reached over HTTP, see [HTTP], is asked over
// real connections, through the real transport.
package providertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

// Client is a source of daily bars that says what it can do.
type Client interface {
	providers.SymbolBars
	Traits() providers.BarTraits
}

// Source is what the suite tests.
type Source struct {
	// Name is the vendor's in errors and in Series.Source.
	Name string
	// Start makes a simulator of the vendor and a client of it, for one check;
	// both end with tb.
	Start func(tb testing.TB, s Setup) Rig
	// Faults are all that the simulator has.
	Faults []string
	// Needs are the faults without which the suite proves little. The simulator
	// has them, or Lacks says why the vendor cannot show them. [HTTP.Source] sets
	// them.
	Needs []simulator.Fault
	Lacks map[simulator.Fault]string
	// Silent are the faults under which a call ends by its timeout, or when it
	// is cancelled. [HTTP.Source] sets them.
	Silent []simulator.Fault
	// Outcomes says what comes of the faults that the suite does not know, or
	// that mean something else at this vendor: an outcome class of the ledger,
	// or "good" if the bars are right all the same.
	Outcomes map[simulator.Fault]string
	// Want is the bar that the source must give; nil means simulator.Bar.
	Want func(market.Symbol, market.Date) market.Bar
	// Unmetered says that what the client sends is not paid for call by call
	// through Setup.Budget, as on a socket: calls, permissions and pauses are not
	// counted then.
	Unmetered bool
}

// Setup is what a check wants of a simulator and a client. A source that is not
// reached over HTTP uses the parts of it that it has a use for.
type Setup struct {
	// Key is the client's, and the only one that the simulator may serve.
	Key string
	// Now is the clock of both.
	Now func() time.Time
	// Through is the newest session that the simulator has.
	Through market.Date
	// Listed is the first session of some symbols, as in simulator.Config.
	Listed map[market.Symbol]market.Date
	// Elsewhere is the URL of a host that nobody may go to.
	Elsewhere string
	// Budget is what the client waits for.
	Budget transport.Budget
	// Tries is how often one call is made, Timeout how long one try takes, at
	// most.
	Tries   int
	Timeout time.Duration
}

// Rig is a client and the simulator that it asks.
type Rig struct {
	Client Client
	// Fault plans a fault for the next calls for a symbol, "" meaning any: times
	// calls, or all if times is below 0.
	Fault func(symbol market.Symbol, f simulator.Fault, times int)
	// Calls is how many calls the simulator has seen; nil if the source is
	// unmetered.
	Calls func() int
	// Told is what the client has told its observers and logs; nil if it has
	// none.
	Told func() string
	// Split makes the vendor split a symbol's shares, as simulator.Server.Split
	// does; nil if its simulator cannot.
	Split func(symbol market.Symbol, on market.Date, ratio float64)
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

// holiday is a day without a session: Presidents' Day.
func holiday() market.Date { return market.NewDate(2026, 2, 16) }

// unknown is a symbol that no vendor has.
const unknown market.Symbol = "NOSUCH"

// patient suits the slowest machine that the suite runs on, hasty the faults
// that wait for the client to give up.
const (
	patient = 20 * time.Second
	hasty   = time.Second
)

// check is one part of the suite.
type check struct {
	name string
	run  func(testing.TB, Source)
}

// Bars runs the suite.
func Bars(t *testing.T, s Source) {
	t.Helper()
	for _, c := range checks(s) {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.run(t, s) })
	}
}

func checks(s Source) []check {
	all := []check{
		{"bars", checkBars},
		{"spelling", checkSpelling},
		{"unknown symbol", checkUnknown},
		{"traits", checkTraits},
		{"basis", checkBasis},
		{"reach", checkReach},
		{"sessions", checkSessions},
		{"concurrency", checkConcurrency},
		{"cancel", checkCancel},
		{"recovery", checkRecovery},
		{"no permission, no call", checkNoPermission},
		{"faults are known", checkFaults},
	}
	for _, name := range s.Faults {
		fault := simulator.Fault(name)
		if want, ok := s.expectation(fault); ok {
			all = append(all, check{"fault " + name, func(tb testing.TB, s Source) { checkFault(tb, s, fault, want) }})
		}
	}
	return all
}

// bench is a rig under test.
type bench struct {
	Rig
	source Source
	budget *budget
}

func start(tb testing.TB, s Source, tries int, timeout time.Duration) *bench {
	tb.Helper()
	b := &bench{source: s, budget: &budget{}}
	b.Rig = s.Start(tb, Setup{
		Key: key, Now: now, Through: session(), Listed: map[market.Symbol]market.Date{unknown: session() + 1},
		Elsewhere: elsewhere(tb), Budget: b.budget, Tries: tries, Timeout: timeout,
	})
	return b
}

// load does what a job does with an answer, and looks for the key in what comes
// out.
func (b *bench) load(tb testing.TB, ctx context.Context, s market.Symbol) (market.Series, error) {
	tb.Helper()
	series, err := b.Client.DailyBars(ctx, s, window())
	b.findKey(tb, err)
	if err != nil {
		return series, err
	}
	if !slices.IsSortedFunc(series.Bars, func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) }) {
		tb.Errorf("the bars of %s are not in ascending order", s)
	}
	return clean(series, window())
}

func clean(series market.Series, w market.Range) (market.Series, error) {
	cleaned, err := market.Clean(slices.Clone(series.Bars), w, session(), market.NYSE())
	if err != nil {
		return market.Series{}, err
	}
	series.Bars = cleaned.Bars
	return series, nil
}

// compare fails unless every bar is the simulator's, in ascending order.
func (b *bench) compare(tb testing.TB, series market.Series, s market.Symbol) {
	tb.Helper()
	if series.Symbol != s || series.Source != b.source.Name {
		tb.Errorf("series of %s from %q, want %s from %q", series.Symbol, series.Source, s, b.source.Name)
	}
	if len(series.Bars) == 0 {
		tb.Fatal("no bars")
	}
	var last market.Date
	for _, bar := range series.Bars {
		if bar.Date <= last {
			tb.Fatalf("%s comes after %s", bar.Date, last)
		}
		last = bar.Date
		if want := b.source.want(s, bar.Date); bar != want {
			tb.Fatalf("bar = %+v, want %+v", bar, want)
		}
	}
}

// holds fails unless the series has a bar of every session of a window.
func holds(tb testing.TB, series market.Series, w market.Range) {
	tb.Helper()
	sessions, err := market.NYSE().Sessions(w.From, w.To)
	if err != nil {
		tb.Fatal(err)
	}
	has := map[market.Date]bool{}
	for _, bar := range series.Bars {
		has[bar.Date] = true
	}
	for _, d := range sessions {
		if !has[d] {
			tb.Fatalf("no bar of %s, although the vendor has one", d)
		}
	}
}

func (s Source) want(symbol market.Symbol, date market.Date) market.Bar {
	if s.Want != nil {
		return s.Want(symbol, date)
	}
	return simulator.Bar(symbol, date)
}

// outcome returns the class that a job puts err in.
func outcome(err error) string {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) {
		return classed.Outcome()
	}
	return fmt.Sprintf("none (%v)", err)
}

// findKey fails if the key is in err, in whatever err wraps or in what was told.
func (b *bench) findKey(tb testing.TB, err error) {
	tb.Helper()
	var out strings.Builder
	if b.Told != nil {
		out.WriteString(b.Told())
	}
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Fprintf(&out, "%v %+v %#v %q\n", err, err, err, err)
	}
	for _, form := range forms() {
		if strings.Contains(out.String(), form) {
			tb.Errorf("the key is in %s", out.String())
		}
	}
}

// paid fails unless the simulator has seen n calls, each with a permission.
func (b *bench) paid(tb testing.TB, n int) {
	tb.Helper()
	if b.source.Unmetered {
		return
	}
	if calls, granted := b.Calls(), b.budget.tokens(); calls != n || granted != n {
		tb.Errorf("%d calls, %d permissions; want %d of each", calls, granted, n)
	}
}

func redact(s string) string {
	return strings.NewReplacer(key, "[redacted]", url.QueryEscape(key), "[redacted]").Replace(s)
}

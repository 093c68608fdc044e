package alphavantage_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/transport"
)

// functions ask for each of the provider's reports; got and want are to be
// equal, want being what the simulator has.
func functions() map[string]func(ctx context.Context, c *alphavantage.Client, s market.Symbol, date market.Date) (got, want any, err error) {
	type f = func(context.Context, *alphavantage.Client, market.Symbol, market.Date) (any, any, error)
	return map[string]f{
		"OVERVIEW": func(ctx context.Context, c *alphavantage.Client, s market.Symbol, date market.Date) (any, any, error) {
			got, err := c.Overview(ctx, s)
			return got, simulator.Overview(s, date), err
		},
		"EARNINGS": func(ctx context.Context, c *alphavantage.Client, s market.Symbol, date market.Date) (any, any, error) {
			got, err := c.Earnings(ctx, s)
			return earningsView(got), wantEarnings(s, date), err
		},
		"BALANCE_SHEET": func(ctx context.Context, c *alphavantage.Client, s market.Symbol, date market.Date) (any, any, error) {
			got, err := c.BalanceSheet(ctx, s)
			return balanceView(got), wantBalance(s, date), err
		},
	}
}

type earningsRow struct {
	end, reported market.Date
	eps, estimate alphavantage.Number
}

// earnings is what both sides know.
type earnings struct {
	annual, quarterly []earningsRow
	growth            market.Figure
}

func earningsView(e alphavantage.Earnings) (v earnings) {
	years, _ := e.Annual(0)
	for _, y := range years {
		v.annual = append(v.annual, earningsRow{end: y.FiscalEnd, eps: y.EPS})
	}
	for _, q := range e.Quarterly {
		v.quarterly = append(v.quarterly, earningsRow{q.FiscalEnd, q.Reported, q.EPS, q.Estimate})
	}
	v.growth = e.Fundamentals().Figures[market.EarningsGrowth]
	return v
}

func wantEarnings(s market.Symbol, date market.Date) (v earnings) {
	all := simulator.Earnings(s, date)
	for _, y := range all.Annual {
		v.annual = append(v.annual, earningsRow{end: y.FiscalEnd, eps: number(y.EPS)})
	}
	for _, q := range all.Quarterly {
		v.quarterly = append(v.quarterly, earningsRow{q.FiscalEnd, q.Reported, number(q.EPS), number(q.Estimate)})
	}
	v.growth = simulator.Computed(s, date).Figures[market.EarningsGrowth]
	return v
}

func number(f market.Figure) alphavantage.Number {
	return alphavantage.Number{Value: f.Value, Known: f.Known}
}

type balance struct {
	annual, quarterly alphavantage.Balance
	ratios            [2]market.Figure
}

func balanceView(b alphavantage.BalanceSheet) balance {
	row := b.Fundamentals().Figures
	return balance{b.Annual, b.Quarterly, [2]market.Figure{row[market.DebtToEquity], row[market.CurrentRatio]}}
}

func wantBalance(s market.Symbol, date market.Date) balance {
	view := func(rows []simulator.BalanceRow) alphavantage.Balance {
		r := rows[0]
		debt := number(r.TotalDebt)
		if !debt.Known && r.ShortDebt.Known && r.LongDebt.Known {
			debt = alphavantage.Number{Value: r.ShortDebt.Value + r.LongDebt.Value, Known: true}
		}
		return alphavantage.Balance{
			FiscalEnd: r.FiscalEnd, Currency: "USD", TotalDebt: debt, Equity: number(r.Equity),
			CurrentAssets: number(r.CurrentAssets), CurrentLiabilities: number(r.CurrentLiabilities),
		}
	}
	annual, quarterly := simulator.Balances(s, date)
	row := simulator.Computed(s, date).Figures
	return balance{view(annual), view(quarterly), [2]market.Figure{row[market.DebtToEquity], row[market.CurrentRatio]}}
}

var exported = cmp.AllowUnexported(earnings{}, earningsRow{}, balance{})

// inside asks a simulator without a network.
func inside(sim http.Handler) *http.Client {
	return &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		alphavantage.Sign("k")(r)
		sim.ServeHTTP(w, r)
		return w.Result(), nil
	})}
}

func TestReportsAreThoseOfTheSimulator(t *testing.T) {
	t.Parallel()
	symbols := append(market.SP500(), "BRK.B", "BF.B")
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(symbols).Draw(t, "symbol")
		date := market.NewDate(2014, 1, 1) + market.Date(rapid.IntRange(0, 4_400).Draw(t, "day"))
		c := alphavantage.New(inside(simulator.New(simulator.Config{Through: date})), "http://vendor.example", alphavantage.Options{})
		for name, ask := range functions() {
			got, want, err := ask(context.Background(), c, s, date)
			var known *providers.Error
			if name == "BALANCE_SHEET" && errors.As(err, &known) && known.Kind == providers.NoData {
				continue // all of the newest amounts are null
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, exported); diff != "" {
				t.Errorf("%s of %s on %s (-simulator +read):\n%s", name, s, date, diff)
			}
		}
	})
}

func TestQuestionsForReports(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{Key: "another", Through: day(3, 12), Now: noon})
	c := alphavantage.New(inside(sim), "http://vendor.example", alphavantage.Options{})
	var asked []string
	for _, name := range []string{"OVERVIEW", "EARNINGS", "BALANCE_SHEET"} {
		// With a wrong key every question is refused, but it is asked.
		if _, _, err := functions()[name](t.Context(), c, "BRK.B", day(3, 12)); err == nil {
			t.Errorf("%s with a wrong key: no error", name)
		}
	}
	for _, call := range sim.Calls() {
		asked = append(asked, fmt.Sprintln(call.Function, call.Asked, call.Symbol, call.Outcome))
	}
	want := []string{"OVERVIEW BRK-B BRK.B bad_key\n", "EARNINGS BRK-B BRK.B bad_key\n", "BALANCE_SHEET BRK-B BRK.B bad_key\n"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

func TestSourceOfFigures(t *testing.T) {
	t.Parallel()
	c := alphavantage.New(inside(simulator.New(simulator.Config{Through: day(3, 12)})), "http://vendor.example", alphavantage.Options{Source: "simulated"})
	overview, err1 := c.Overview(t.Context(), "ABNB")
	all, err2 := c.Earnings(t.Context(), "ABNB")
	sheet, err3 := c.BalanceSheet(t.Context(), "ABNB")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	merged := overview.Merge(all.Fundamentals()).Merge(sheet.Fundamentals())
	known := 0
	for f, figure := range merged.Figures {
		if figure.Known {
			known++
		}
		if figure.Known != (figure.Source == "simulated") {
			t.Errorf("%s = %+v", market.Field(f), figure)
		}
	}
	if known < 6 || overview.Symbol != "ABNB" || all.Symbol != "ABNB" || sheet.Symbol != "ABNB" {
		t.Errorf("%d figures of %q, %q, %q", known, overview.Symbol, all.Symbol, sheet.Symbol)
	}
}

func TestFundsHaveNoReports(t *testing.T) {
	t.Parallel()
	w := newWire(t, 20*time.Second)
	for name, ask := range functions() {
		for _, s := range []market.Symbol{"SPY", "ARKK"} {
			if _, _, err := ask(t.Context(), w.client, s, day(3, 12)); outcome(err) != "no_data" {
				t.Errorf("%s of %s: %v, want no_data", name, s, err)
			}
		}
	}
}

// What becomes of a fault, beside the outcomes of errors.
const (
	good    = "good"    // the data are the simulator's
	changed = "changed" // data come, but the fault shows in them
)

func outcomes(function string) map[simulator.Fault]string {
	all := map[simulator.Fault]string{}
	add := func(outcome string, faults ...simulator.Fault) {
		for _, f := range faults {
			all[f] = outcome
		}
	}
	add("quota", simulator.DailyQuota)
	add("limit_note", simulator.Burst, simulator.BurstPattern, simulator.MinuteNote, simulator.TooManyRequests, simulator.TooManyRequestsLong)
	add("premium_only", simulator.Premium)
	add("unknown_symbol", simulator.BadSymbol)
	add("no_data", simulator.EmptyObject, simulator.EmptyQuote, simulator.EmptyReports, simulator.AllNull)
	add("provider_error", simulator.BadKey, simulator.DemoKey, simulator.BadFunction, simulator.HTML503, simulator.HTML520,
		simulator.TruncatedLength, simulator.TruncatedGzip, simulator.Reset, simulator.SlowBody, simulator.SlowHeaders)
	add("bad_payload", simulator.UnknownMessage, simulator.EmptyBody, simulator.EmptyArray, simulator.Null, simulator.HTML,
		simulator.BadUTF8, simulator.NUL, simulator.Trailing, simulator.TruncatedClose, simulator.ShortLength, simulator.GzipBomb,
		simulator.RedirectElsewhere, simulator.RedirectLoop, simulator.WrongSymbol, simulator.BadDate, simulator.BadNumber,
		simulator.NaN, simulator.Exponent, simulator.RepeatedField, simulator.JSONNumber, simulator.RenamedField)
	add(good, simulator.WrongContentType, simulator.ByteOrderMark, simulator.ExtraField)
	add(changed, simulator.JSONNull)
	switch function {
	case "OVERVIEW":
		add(changed, simulator.RenamedField, simulator.ExtraField)
		add(good, simulator.Capitals)
	case "EARNINGS":
		add(good, simulator.RunningYear)
	}
	if function != "OVERVIEW" {
		add(good, simulator.Unsorted, simulator.RepeatedRows)
		add("bad_payload", simulator.ConflictingRows)
	}
	return all
}

func TestFaultsOfReports(t *testing.T) {
	t.Parallel()
	ratio := simulator.Overview(quiet, day(3, 12)).Figures[market.PERatio]
	_, balances := simulator.Balances(quiet, day(3, 12))
	if !ratio.Known || !balances[0].Equity.Known || simulator.Earnings(quiet, day(3, 12)).Running.FiscalEnd != 0 {
		t.Fatalf("the faults do not show with %s: take another symbol", quiet)
	}
	for function := range functions() {
		want := outcomes(function)
		names := simulator.FaultsOf(function)
		if len(names) != len(want) {
			t.Errorf("%s has %d faults, the test says something about %d", function, len(names), len(want))
		}
		for _, name := range names {
			t.Run(function+" "+name, func(t *testing.T) {
				t.Parallel()
				testReportFault(t, function, simulator.Fault(name), want[simulator.Fault(name)])
			})
		}
	}
}

// quiet is a symbol in whose answers the faults stand out.
const quiet market.Symbol = "ABNB"

func testReportFault(t *testing.T, function string, fault simulator.Fault, want string) {
	patience := 20 * time.Second
	if fault == simulator.SlowBody || fault == simulator.SlowHeaders {
		patience = time.Second
	}
	w := newWire(t, patience)
	w.sim.Fault(quiet, fault, -1)
	got, sound, err := functions()[function](t.Context(), w.client, quiet, day(3, 12))
	w.findKey(t, err)
	for _, call := range w.sim.Calls() {
		if call.Function != function || call.Outcome != "fault:"+string(fault) {
			t.Errorf("call %+v", call)
		}
	}
	diff := cmp.Diff(sound, got, exported)
	switch {
	case want == good && (err != nil || diff != ""):
		t.Errorf("%v\n%s", err, diff)
	case want == changed && (err != nil || diff == ""):
		t.Errorf("error %v, or nothing is changed", err)
	case want != good && want != changed && outcome(err) != want:
		t.Errorf("outcome %s, want %q: %v", outcome(err), want, err)
	}
	var known *providers.Error
	if op := strings.ReplaceAll(strings.ToLower(function), "_", " ") + " " + string(quiet); errors.As(err, &known) && known.Op != op {
		t.Errorf("the error says %q was asked, want %q", known.Op, op)
	}
	if fault == simulator.RunningYear {
		all, err := w.client.Earnings(t.Context(), quiet)
		if _, dropped := all.Annual(0); err != nil || dropped != 1 {
			t.Errorf("%d rows left out, want 1: %v", dropped, err)
		}
	}
}

func TestCancelledReports(t *testing.T) {
	t.Parallel()
	for name, ask := range functions() {
		w := newWire(t, 20*time.Second)
		w.sim.Fault(quiet, simulator.SlowBody, -1)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, _, err := ask(ctx, w.client, quiet, day(3, 12))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
			t.Errorf("%s: %v, want the context's own error", name, err)
		}
	}
}

// key is searched for in all that comes out.
const key = "CANARYk3y"

// wire is a client with the real transport before a simulator.
type wire struct {
	sim    *simulator.Server
	client *alphavantage.Client

	mu   sync.Mutex
	told []transport.Attempt
}

func newWire(t *testing.T, timeout time.Duration) *wire {
	t.Helper()
	return wired(t, simulator.Config{Funds: []market.Symbol{"ARKK"}}, alphavantage.Options{}, timeout)
}

func wired(t *testing.T, c simulator.Config, o alphavantage.Options, timeout time.Duration) *wire {
	t.Helper()
	c.Key, c.Through, c.Now, o.Now = key, day(3, 12), noon, noon
	w := &wire{sim: simulator.New(c)}
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	hc, err := transport.NewClient(server.URL, nil, freeBudget{}, transport.Options{
		Provider: alphavantage.Name, Attempts: 2, MaxWait: 20 * time.Millisecond, MaxBody: 4 << 20, Timeout: timeout,
		Sign: alphavantage.Sign(key), Check: alphavantage.Check,
		Redact: func(s string) string { return strings.ReplaceAll(s, key, "[redacted]") },
		Observe: func(_ context.Context, a transport.Attempt) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, a)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	w.client = alphavantage.New(hc, server.URL, o)
	return w
}

func (w *wire) findKey(t *testing.T, err error) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf("%+v", w.told)
	for ; err != nil; err = errors.Unwrap(err) {
		text += fmt.Sprintf("%v %+v %#v", err, err, err)
	}
	if strings.Contains(text, "CANARY") {
		t.Errorf("the key is in %s", text)
	}
}

func outcome(err error) string {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) {
		return classed.Outcome()
	}
	return fmt.Sprintf("none (%v)", err)
}

// freeBudget grants everything.
type freeBudget struct{}

func (freeBudget) Wait(ctx context.Context) error                 { return ctx.Err() }
func (freeBudget) Pause(_ context.Context, _ time.Duration) error { return nil }
func (freeBudget) Exhaust(context.Context) error                  { return nil }

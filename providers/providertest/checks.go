package providertest

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func checkBars(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	series, err := b.Client.DailyBars(tb.Context(), "AAPL", window())
	if err != nil {
		tb.Fatal(err)
	}
	b.compare(tb, series, "AAPL")
	if series, err = clean(series, window()); err != nil {
		tb.Fatal(err)
	}
	holds(tb, series, window())
	history, err := b.Client.History(tb.Context(), "AAPL", window())
	if err != nil {
		tb.Fatal(err)
	}
	b.compare(tb, history, "AAPL")
	if history, err = clean(history, window()); err != nil {
		tb.Fatal(err)
	}
	holds(tb, history, window())
	b.paid(tb, 2)
}

func checkSpelling(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	for _, symbol := range []market.Symbol{"BRK.B", "BF.B", "BRK.A"} {
		series, err := b.load(tb, tb.Context(), symbol)
		if err != nil {
			tb.Fatalf("%s: %v", symbol, err)
		}
		b.compare(tb, series, symbol)
	}
}

// checkUnknown: a symbol that the vendor does not have is never success, nor
// something to be tried again.
func checkUnknown(tb testing.TB, s Source) {
	b := start(tb, s, 2, patient)
	series, err := b.load(tb, tb.Context(), unknown)
	if got := outcome(err); got != "unknown_symbol" && got != "no_data" || len(series.Bars) != 0 {
		tb.Errorf("%d bars, outcome %q; want none, unknown_symbol or no_data: %v", len(series.Bars), got, err)
	}
	b.paid(tb, 1)
}

func checkTraits(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	traits := b.Client.Traits()
	if traits.Name != s.Name {
		tb.Errorf("traits are those of %q, want %q", traits.Name, s.Name)
	}
	if traits.Basis != providers.Raw && traits.Basis != providers.SplitAdjusted {
		tb.Errorf("basis %q is none", traits.Basis)
	}
	if _, ok := b.Client.(providers.SessionBars); ok != traits.BySession {
		tb.Errorf("BySession is %t, but Session is there: %t", traits.BySession, ok)
	}
	if traits.Chunk < 0 || traits.Ready <= 0 || traits.Ready > 24*time.Hour {
		tb.Errorf("chunk %d, ready %s: want a number of sessions, and a time after the close within a day", traits.Chunk, traits.Ready)
	}
	b.paid(tb, 0)
}

// checkBasis: a split rewrites the bars before it if the traits say so, and
// otherwise none.
func checkBasis(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	if b.Split == nil {
		return
	}
	const ratio = 4
	on := session() - 7
	b.Split("AAPL", on, ratio)
	series, err := b.load(tb, tb.Context(), "AAPL")
	if err != nil {
		tb.Fatal(err)
	}
	holds(tb, series, window())
	for _, bar := range series.Bars {
		want := s.want("AAPL", bar.Date)
		if b.Client.Traits().Basis == providers.SplitAdjusted && bar.Date < on {
			want = simulator.SplitBar(want, ratio)
		}
		// An adjusted close is adjusted on every basis.
		if bar.AdjClose = want.AdjClose; bar != want {
			tb.Fatalf("bar = %+v, want %+v", bar, want)
		}
	}
}

// checkReach: a history has every session since the reach, in as many sessions
// as one call holds.
func checkReach(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	reach, err := b.Client.Reach()
	if err != nil {
		tb.Fatal(err)
	}
	if open, err := market.NYSE().IsSession(max(reach, simulator.Listed())); err != nil || !open || reach > session() {
		tb.Fatalf("reach %s is no session that is over: %v", reach, err)
	}
	sessions, err := market.NYSE().Sessions(max(reach, simulator.Listed()), session())
	if err != nil {
		tb.Fatal(err)
	}
	whole := market.Range{From: sessions[0], To: session()}
	asked := market.Range{From: whole.From - 30, To: whole.To}
	if chunk := b.Client.Traits().Chunk; chunk > 0 && chunk < len(sessions) {
		whole.From = sessions[len(sessions)-chunk]
		asked = whole
	}
	history, err := b.Client.History(tb.Context(), "AAPL", asked)
	if err != nil {
		tb.Fatal(err)
	}
	b.compare(tb, history, "AAPL")
	if history, err = clean(history, whole); err != nil {
		tb.Fatal(err)
	}
	holds(tb, history, whole)
	b.paid(tb, 1)
}

// checkSessions: a session of all symbols has the bars that each symbol has, and
// there is none of a day that has none.
func checkSessions(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	source, ok := b.Client.(providers.SessionBars)
	if !ok {
		return
	}
	bars, err := source.Session(tb.Context(), session())
	if err != nil {
		tb.Fatal(err)
	}
	for _, symbol := range []market.Symbol{"AAPL", "BRK.B"} {
		if _, ok := bars[symbol]; !ok {
			tb.Errorf("%s has no bar", symbol)
		}
	}
	for symbol, bar := range bars {
		if want := s.want(symbol, session()); bar != want {
			tb.Fatalf("bar of %s = %+v, want %+v", symbol, bar, want)
		}
	}
	for _, day := range []market.Date{session() + 1, session() + 2, holiday()} { // running, a Saturday
		bars, err := source.Session(tb.Context(), day)
		if got := outcome(err); got != "no_data" && got != "not_ready" || len(bars) != 0 {
			tb.Errorf("%s: %d bars, outcome %q; want none, no_data or not_ready", day, len(bars), got)
		}
	}
	b.failSessions(tb, source)
}

// failSessions: what refuses the bars of a symbol refuses a session as well.
func (b *bench) failSessions(tb testing.TB, source providers.SessionBars) {
	tb.Helper()
	for _, fault := range []simulator.Fault{
		simulator.TruncatedClose, simulator.HTML, simulator.EmptyBody, simulator.GzipBomb, simulator.BadNumber,
		simulator.RenamedField, simulator.WrongDate, simulator.TooManyRequests, simulator.Premium, simulator.BadKey,
	} {
		want, ok := b.source.expectation(fault)
		if !ok || !slices.Contains(b.source.Faults, string(fault)) {
			continue
		}
		b.Fault("", fault, 1)
		bars, err := source.Session(tb.Context(), session())
		b.findKey(tb, err)
		if outcome(err) != want.outcome || len(bars) != 0 {
			tb.Errorf("%s: %d bars, outcome %q; want none, %s", fault, len(bars), outcome(err), want.outcome)
		}
	}
}

// checkConcurrency: a client serves several callers at once, and mixes nothing
// up.
func checkConcurrency(tb testing.TB, s Source) {
	b := start(tb, s, 1, patient)
	symbols := []market.Symbol{"AAPL", "MSFT", "BRK.B", "KO"}
	type answer struct {
		series market.Series
		err    error
	}
	answers := make([]answer, 2*len(symbols))
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answers[i].series, answers[i].err = b.Client.DailyBars(tb.Context(), symbols[i%len(symbols)], window())
		})
	}
	wg.Wait()
	for i, a := range answers {
		if a.err != nil {
			tb.Fatal(a.err)
		}
		b.compare(tb, a.series, symbols[i%len(symbols)])
	}
	b.paid(tb, len(answers))
}

// atOnce is far above what a cancelled call takes, and far below the timeout of
// the faults that it is cancelled under.
const atOnce = 2 * time.Second

func checkCancel(tb testing.TB, s Source) {
	for _, fault := range s.Silent {
		b := start(tb, s, 3, patient)
		b.Fault("AAPL", fault, -1)
		ctx, cancel := context.WithCancel(tb.Context())
		var at time.Time
		timer := time.AfterFunc(50*time.Millisecond, func() { at = time.Now(); cancel() })
		series, err := b.load(tb, ctx, "AAPL")
		if timer.Stop() {
			cancel()
			tb.Errorf("%s: came back before it was cancelled: %v", fault, err)
			continue
		}
		<-ctx.Done()
		if took := time.Since(at); took > atOnce {
			tb.Errorf("%s: came back %s after it was cancelled", fault, took)
		}
		if !errors.Is(err, context.Canceled) || errors.As(err, new(*providers.Error)) || len(series.Bars) != 0 {
			tb.Errorf("%s: %d bars, %v; want the context's own error", fault, len(series.Bars), err)
		}
	}
	b := start(tb, s, 1, patient)
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	if _, err := b.load(tb, ctx, "AAPL"); !errors.Is(err, context.Canceled) {
		tb.Errorf("error = %v, want the context's own", err)
	}
	b.paid(tb, 0)
}

func checkRecovery(tb testing.TB, s Source) {
	for _, fault := range []simulator.Fault{simulator.HTML503, simulator.HTML520, simulator.SlowHeaders} {
		if !slices.Contains(s.Faults, string(fault)) {
			continue
		}
		b := start(tb, s, 2, s.patienceFor(fault))
		b.Fault("AAPL", fault, 1)
		series, err := b.load(tb, tb.Context(), "AAPL")
		if err != nil {
			tb.Fatalf("%s: %v", fault, err)
		}
		b.compare(tb, series, "AAPL")
		b.paid(tb, 2)
	}
}

func checkNoPermission(tb testing.TB, s Source) {
	if s.Unmetered {
		return
	}
	b := start(tb, s, 3, patient)
	b.budget.refuse = &providers.Error{Provider: s.Name, Kind: providers.Quota, Err: errors.New("the day is spent")}
	_, err := b.load(tb, tb.Context(), "AAPL")
	if got := outcome(err); got != "quota" || b.Calls() != 0 {
		tb.Errorf("outcome %q after %d calls, want quota after none", got, b.Calls())
	}
	b.budget.refuse = errors.New("the limiter is away")
	_, err = b.load(tb, tb.Context(), "AAPL")
	var known *providers.Error
	if !errors.As(err, &known) || known.Kind != providers.Unavailable || b.Calls() != 0 {
		tb.Errorf("error = %v after %d calls, want kind Unavailable after none", err, b.Calls())
	}
}

// checkFaults: the suite knows what comes of every fault, and the simulator has
// those that matter most, or a reason why not.
func checkFaults(tb testing.TB, s Source) {
	for _, name := range s.Faults {
		if _, ok := s.expectation(simulator.Fault(name)); !ok {
			tb.Errorf("nothing says what comes of the fault %s", name)
		}
	}
	for _, fault := range slices.Concat(s.Needs, s.Silent) {
		if !slices.Contains(s.Faults, string(fault)) && s.Lacks[fault] == "" {
			tb.Errorf("the simulator has no fault %s, and Lacks does not say why", fault)
		}
	}
}

func checkFault(tb testing.TB, s Source, fault simulator.Fault, want expectation) {
	b := start(tb, s, 2, s.patienceFor(fault))
	b.Fault("AAPL", fault, -1)
	start := time.Now()
	series, err := b.load(tb, tb.Context(), "AAPL")
	if took := time.Since(start); took > patient {
		tb.Errorf("took %s", took)
	}
	b.checkBudget(tb, fault, want)
	if want.outcome == good {
		if err != nil {
			tb.Fatal(err)
		}
		b.compare(tb, series, "AAPL")
		return
	}
	if len(series.Bars) != 0 {
		tb.Errorf("%d bars came with the error", len(series.Bars))
	}
	if got := outcome(err); got != want.outcome {
		tb.Errorf("outcome = %q, want %q: %v", got, want.outcome, err)
	}
	var known *providers.Error
	if errors.As(err, &known) && (known.Provider != s.Name || known.Op != "daily bars AAPL") {
		tb.Errorf("error names %q, %q; want the provider and what was asked", known.Provider, known.Op)
	}
}

// checkBudget: every call was paid for, and the budget knows of every limit that
// the vendor has spoken of.
func (b *bench) checkBudget(tb testing.TB, fault simulator.Fault, want expectation) {
	tb.Helper()
	if b.source.Unmetered {
		return
	}
	calls := b.Calls()
	if paid := b.budget.tokens(); calls != paid {
		tb.Errorf("%d calls, %d permissions", calls, paid)
	}
	if want.calls != 0 && calls != want.calls {
		tb.Errorf("%d calls, want %d", calls, want.calls)
	}
	pauses, exhausted := 0, 0
	switch {
	case want.outcome == "limit_note":
		pauses = 1
	case want.outcome == "quota":
		exhausted = 1
	case fault == simulator.HTML503:
		pauses = calls
	}
	b.budget.mu.Lock()
	defer b.budget.mu.Unlock()
	if len(b.budget.pauses) != pauses || b.budget.exhausted != exhausted {
		tb.Errorf("pauses %v, %d exhausted; want %d and %d", b.budget.pauses, b.budget.exhausted, pauses, exhausted)
	}
	if len(b.budget.pauses) > 0 && slices.Max(b.budget.pauses) > 15*time.Minute {
		tb.Errorf("pauses %v, want 15 minutes at most", b.budget.pauses)
	}
}

func forms() []string {
	return []string{key, url.QueryEscape(key), base64.StdEncoding.EncodeToString([]byte(key)), "CANARY"}
}

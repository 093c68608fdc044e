package ibkr_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

// coming says what comes of a fault that stays.
type coming struct {
	good  bool
	kind  providers.Kind
	calls int
	// took is how long it lasts, or up to two seconds more.
	took   time.Duration
	pauses []time.Duration
	text   string
}

const (
	asked  = 1
	twice  = 2
	repeat = 16 * time.Second
	// again is a new connection's backoff behind the wait for the repetition.
	again = repeat + time.Second
)

func outcomes() map[gateway.Fault]coming {
	const subscription = "Market Data Subscriptions in IB's Client Portal"
	noData := coming{kind: providers.NoData, calls: asked}
	noPermission := coming{kind: providers.NoData, calls: asked, text: subscription}
	rival := coming{kind: providers.Transient, calls: twice, took: time.Minute, text: "log the other session out"}
	cured := coming{kind: providers.Transient, calls: twice, took: repeat}
	lost := coming{kind: providers.Transient, calls: twice, took: again}
	broken := coming{kind: providers.BadPayload, calls: twice, took: again, text: "not the protocol of a TWS or IB Gateway"}
	refused := coming{kind: providers.BadPayload, calls: asked}
	good := coming{good: true, calls: asked}
	with := func(c coming, text string) coming { c.text = text; return c }
	tooFast := func(d time.Duration) coming {
		return coming{kind: providers.RateLimited, calls: asked, pauses: []time.Duration{d}}
	}
	return map[gateway.Fault]coming{
		gateway.NoAnswer:            {kind: providers.Transient, calls: twice, took: 2 * time.Minute, text: "no answer within 1m0s"},
		gateway.NoData:              with(noData, "HMDS query returned no data: BRK B@SMART Trades"),
		gateway.NoDataSpanish:       with(noData, "la consulta no devolvió datos: BRK B"),
		gateway.NoDataStrange:       noData,
		gateway.NoChart:             noData,
		gateway.Pacing:              tooFast(10 * time.Minute),
		gateway.PacingSpanish:       with(tooFast(10*time.Minute), "violación del ritmo"),
		gateway.TooManyOpen:         tooFast(time.Minute),
		gateway.NoPermission:        noPermission,
		gateway.NoPermissionSpanish: noPermission,
		gateway.OtherAddress:        rival,
		gateway.OtherAddressSpanish: rival,
		gateway.InvalidStep:         {kind: providers.Rejected, calls: asked, text: "invalid step: 1 day"},
		gateway.Cancelled:           with(cured, "query cancelled"),
		gateway.Strange:             with(cured, "code 162: \"\u8acb\u6c42\u5931\u6557\""),
		gateway.TooFast:             tooFast(time.Minute),
		gateway.Expired:             noData,
		gateway.UnknownSymbol:       {kind: providers.UnknownSymbol, calls: asked, text: "No security definition"},
		gateway.Ambiguous:           {kind: providers.UnknownSymbol, calls: asked, text: "BRK B is ambiguous"},
		gateway.NotAllowed:          noPermission,
		gateway.Unreadable:          {kind: providers.Rejected, calls: asked, text: "update it or the worker"},
		gateway.Invalid:             {kind: providers.Transient, calls: asked, text: "code 321"},
		gateway.ServerError:         with(cured, "code 322"),
		gateway.NotSubscribed:       noPermission,
		gateway.NoQuery:             with(cured, "code 366"),
		gateway.RealTime:            {kind: providers.Transient, calls: asked, text: "code 420"},
		gateway.PartlySubscribed:    noPermission,
		gateway.PartPermission:      noPermission,
		gateway.DelayedOff:          noPermission,
		gateway.NoTicks:             rival,
		gateway.Rival:               rival,
		gateway.BadEnd:              {kind: providers.Rejected, calls: asked, text: "code 10314"},
		gateway.NobodyKnows:         with(cured, "code 777: \"A code from the future.\""),
		gateway.Note:                good,
		gateway.Drop:                with(lost, "connection lost: the gateway closed the connection"),
		gateway.CutFrame:            with(lost, "in the middle of a message"),
		gateway.Garbage:             with(broken, "field message id"),
		gateway.HugeFrame:           with(broken, "message of 4294967295 bytes: want 1 to 16777215"),
		gateway.EmptyFrame:          with(broken, "message of 0 bytes"),
		gateway.Unterminated:        with(broken, "without a zero byte at its end"),
		gateway.NotConnected:        with(lost, "code 504"),
		gateway.PortReset:           with(lost, "SA_BROKER__IBKR__PORT"),
		gateway.ClientIDTaken:       {kind: providers.Rejected, calls: asked, text: "SA_BROKER__IBKR__CLIENT_ID"},
		gateway.Empty:               with(noData, "no bar of a closed session"),
		gateway.TooFewBars:          with(refused, "bar 29 of 30: message without its field date"),
		gateway.TooManyBars:         with(refused, "bytes are left"),
		gateway.NegativeCount:       with(refused, "-1 bars announced"),
		gateway.NoCount:             with(refused, "field count of bars is \"many\""),
		gateway.BadDate:             with(refused, "date \"20260231\": want a day as yyyymmdd"),
		gateway.BadPrice:            with(refused, "NaN"),
		gateway.Exponent:            with(refused, "1.0E-4"),
		gateway.LongPrice:           with(refused, "187.1234567890123"),
		gateway.BadVolume:           with(refused, "volume \"many\""),
		gateway.FractionVolume:      with(refused, "volume \"1234.567\": want a whole number of shares"),
		gateway.NegativeVolume:      with(refused, "\"-2\""),
		gateway.Unfinished:          good,
		gateway.LongDates:           good,
		gateway.DecimalVolume:       good,
		gateway.MissingVolume:       {good: true, calls: asked},
		gateway.Unsorted:            good,
	}
}

// TestFaults: what comes of every fault of the gateway that does not go away,
// and when.
func TestFaults(t *testing.T) {
	t.Parallel()
	all := outcomes()
	for _, f := range gateway.Faults() {
		if _, ok := all[f]; !ok {
			t.Errorf("nothing says what comes of the fault %s", f)
		}
	}
	for f, want := range all {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { testFault(t, f, want) })
		})
	}
}

func testFault(t *testing.T, f gateway.Fault, want coming) {
	r := start(t, gateway.Config{}, ibkr.Options{})
	if err := r.sim.Fault("BRK.B", f, -1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	series, err := r.DailyBars(t.Context(), "BRK.B", lastWeeks())
	if took := time.Since(began); took < want.took || took > want.took+2*time.Second {
		t.Errorf("took %s, want %s", took, want.took)
	}
	if want.good && err == nil {
		checkFault(t, f, series)
	} else if want.good {
		t.Error(err)
	} else {
		wantError(t, err, want.kind, want.text, "ibkr: daily bars BRK.B: ")
		if len(series.Bars) != 0 {
			t.Errorf("%d bars came with the error", len(series.Bars))
		}
	}
	report := r.sim.Report()
	if report.Requests != want.calls || r.budget.granted != want.calls {
		t.Errorf("%d requests, %d permissions; want %d of each", report.Requests, r.budget.granted, want.calls)
	}
	if got := r.budget.paused(); !slices.Equal(got, want.pauses) {
		t.Errorf("pauses %v, want %v", got, want.pauses)
	}
	if f == gateway.Note && !r.noted(165) {
		t.Error("nobody was told of the notice")
	}
	ids := map[int]bool{}
	for _, call := range r.sim.Calls() {
		ids[call.ID] = true
	}
	if len(ids) != want.calls {
		t.Errorf("%d requests with %d ids", want.calls, len(ids))
	}
	r.get(t, "MSFT")
	r.clean(t)
}

func checkFault(t *testing.T, f gateway.Fault, series market.Series) {
	t.Helper()
	if last := &series.Bars[len(series.Bars)-1]; f == gateway.MissingVolume {
		if last.Volume != 0 {
			t.Errorf("volume %d of a bar that has none", last.Volume)
		}
		last.Volume = simulator.Bar("BRK.B", last.Date).Volume
	}
	check(t, series, "BRK.B", lastWeeks())
	if last := series.Bars[len(series.Bars)-1].Date; last != newest() {
		t.Errorf("the last bar is of %s, want %s", last, newest())
	}
}

// TestFaultOnce: what another try can cure is cured by it.
func TestFaultOnce(t *testing.T) {
	t.Parallel()
	for f, want := range outcomes() {
		if want.calls != twice {
			continue
		}
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, gateway.Config{}, ibkr.Options{})
				if err := r.sim.Fault("AAPL", f, 1); err != nil {
					t.Fatal(err)
				}
				r.get(t, "AAPL")
				if calls := r.sim.Report().Requests; calls != twice {
					t.Errorf("%d requests, want %d", calls, twice)
				}
				r.clean(t)
			})
		})
	}
}

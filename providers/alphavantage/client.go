// Package alphavantage reads daily bars, key figures, earnings and balance
// sheets from Alpha Vantage: one endpoint, /query, for everything. It fails with
// status 200, so what an answer means is read from its body first; see [Check].
// Bars are raw: not adjusted for splits or dividends.
//
// All figures but bars are those that the provider has today. It restates old
// ones silently, so they say nothing about what was known before.
package alphavantage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// Name is the provider's name in the limiter, the ledger and the column
// ohlcv.source.
const Name = "alpha_vantage"

const (
	// compactBars is how many daily bars outputsize=compact holds
	// (documentation of TIME_SERIES_DAILY).
	compactBars = 100
	// fullBars is room for a whole history: the provider's begins in
	// November 1999.
	fullBars = 7000
)

// Options tune a [Client]; the zero value suits a free key.
type Options struct {
	// Full says that the key's plan holds outputsize=full, the whole
	// history, which has been premium since 2026.
	Full bool
	// CSV asks for CSV, a quarter of the bytes of JSON. It names no
	// symbol and its end can be lost on a line's edge without a trace, so
	// JSON is the safer choice.
	CSV bool
	// Source is the source of the series and of the figures; "" means
	// [Name].
	Source string
	// Calendar says which days are sessions; nil means that of the NYSE.
	Calendar *market.Calendar
	// Now is the clock that the newest 100 sessions are counted from; nil
	// means time.Now.
	Now func() time.Time
}

// Client asks Alpha Vantage. It is safe for concurrent use.
type Client struct {
	hc    *http.Client
	query string
	o     Options
	// whole is what is known of the plan's right to outputsize=full.
	whole atomic.Int32
}

// What is known of the right to outputsize=full. An answer with more than the
// newest 100 bars proves it; only a refusal takes the proof away.
const (
	wholeUnknown int32 = iota
	wholeGranted
	wholeRefused
)

// New returns a client that asks at baseURL, such as
// https://www.alphavantage.co, through hc. hc adds the key and keeps to the
// limits; its transport is made with [Sign] and [Check].
func New(hc *http.Client, baseURL string, o Options) *Client {
	if o.Source == "" {
		o.Source = Name
	}
	if o.Calendar == nil {
		o.Calendar = market.NYSE()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{hc: hc, query: strings.TrimRight(baseURL, "/") + "/query", o: o}
}

// Sign returns the function that adds key to a request.
func Sign(key string) func(*http.Request) {
	return func(r *http.Request) {
		q := r.URL.Query()
		q.Set("apikey", key)
		r.URL.RawQuery = q.Encode()
	}
}

// Traits says what the client can do. A session's bars come at different times
// for different symbols; two hours after the close most are there.
func (c *Client) Traits() providers.BarTraits {
	return providers.BarTraits{Name: c.o.Source, Basis: providers.Raw, Consolidated: true, Ready: 2 * time.Hour}
}

// Reach returns the first session that the key's plan can be asked for now: the
// zero Date if the plan holds the whole history, else the oldest session that
// is among the newest 100 for certain, one of which can be the running one.
// After an answer of [Client.DailyBars] or [Client.History] has shown that the
// plan does not hold what Options.Full says, it is the latter.
//
// The error is a *[market.UnknownYearError].
func (c *Client) Reach() (market.Date, error) {
	if c.asksFull() {
		return 0, nil
	}
	return c.recent()
}

// DailyBars returns the daily bars of s that one call gives, in ascending
// order: the newest 100 sessions, or the whole history if the plan holds it
// and window ends before those 100. A plan that turns out not to hold it is
// asked for the newest 100 instead, and for nothing else from then on; if they
// do not reach back to window, the error is of kind PremiumOnly. The head of
// window is a wish, since the provider takes no dates; see [Client.History] for
// the way to insist on it. Bars outside window, of a running session or out of
// order with each other's values are returned as they come, for market.Clean to
// judge.
//
// The error is a *[providers.Error], or wraps that of ctx.
func (c *Client) DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	return c.load(ctx, s, window, window.To)
}

// History is DailyBars for the whole of window: it asks for the whole history
// if the plan holds it and window begins before the newest 100 sessions. Bars
// that begin after window does are no error: the symbol was listed later, the
// plan holds no more, or the answer is cut. Users report answers to
// outputsize=full that are cut without a word, to the newest 100 or to a single
// bar (github.com/iAmGiG/gex-llm-patterns, issue 66;
// github.com/RomelTorres/alpha_vantage, issue 150). So a history of fewer than
// 100 bars that does not reach back to window costs a further call for the
// newest 100; one that these refute is of class bad_payload. The caller compares what
// comes with what it has, and window with what [Client.Reach] says then.
func (c *Client) History(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	return c.load(ctx, s, window, window.From)
}

// load asks for the whole history if first is before the newest 100 sessions.
func (c *Client) load(ctx context.Context, s market.Symbol, window market.Range, first market.Date) (market.Series, error) {
	op := "daily bars " + string(s)
	full, err := c.needsFull(first)
	if err != nil {
		return market.Series{}, fmt.Errorf("%s: %s: %w", Name, op, err)
	}
	bars, err := c.ask(ctx, s, full)
	var refused *providers.Error
	switch {
	case full && err == nil && len(bars) < compactBars && !c.reached(bars[0].Date, window.From):
		err = c.confirm(ctx, s, bars[0].Date)
	case full && err == nil:
		full = c.heldAll(bars, window)
	case full && errors.As(err, &refused) && refused.Kind == providers.PremiumOnly:
		// For good: the plan does not hold it. The newest 100 may do.
		c.whole.Store(wholeRefused)
		full = false
		bars, err = c.ask(ctx, s, full)
	}
	if err == nil && !full {
		err = reaches(bars, window)
	}
	if err != nil {
		return market.Series{}, providers.Wrap(Name, op, err)
	}
	return market.Series{Symbol: s, Source: c.o.Source, Bars: bars}, nil
}

// asksFull reports whether the plan is held to have outputsize=full.
func (c *Client) asksFull() bool { return c.o.Full && c.whole.Load() != wholeRefused }

// heldAll reports whether bars, the answer to outputsize=full, are a whole
// history. A provider that gives the newest 100 in its place, see
// [Client.History], does not hold more in this plan, unless it has given more
// before: then the symbol was listed a hundred sessions ago.
func (c *Client) heldAll(bars []market.Bar, window market.Range) bool {
	switch {
	case len(bars) > compactBars:
		c.whole.Store(wholeGranted)
	case c.reached(bars[0].Date, window.From):
		return true
	default:
		c.whole.CompareAndSwap(wholeUnknown, wholeRefused)
	}
	return c.asksFull()
}

// confirm asks for the newest 100 bars, to tell a symbol that was listed since
// from a whole history that is cut, see [Client.History]: it is, if they begin
// before its first bar.
func (c *Client) confirm(ctx context.Context, s market.Symbol, first market.Date) error {
	newest, err := c.ask(ctx, s, false)
	if err == nil && newest[0].Date < first {
		return &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: fmt.Errorf(
			"the whole history begins at %s, but the newest bars begin at %s: it is cut", first, newest[0].Date)}
	}
	return err
}

// reached reports whether a first bar of date leaves out no session since from.
func (c *Client) reached(date, from market.Date) bool {
	before, err := c.o.Calendar.Previous(date)
	return date <= from || err == nil && before < from
}

// ask makes one call for bars.
func (c *Client) ask(ctx context.Context, s market.Symbol, full bool) ([]market.Bar, error) {
	asked := s.In(market.AlphaVantage)
	q := url.Values{
		"function":   {"TIME_SERIES_DAILY"},
		"symbol":     {asked},
		"outputsize": {"compact"},
		"datatype":   {"json"},
	}
	if full {
		q.Set("outputsize", "full")
	}
	if c.o.CSV {
		q.Set("datatype", "csv")
	}
	var bars []market.Bar
	err := c.get(ctx, q, func(body io.Reader) (err error) {
		bars, err = c.decode(body, asked, full)
		return err
	})
	return bars, err
}

// get makes one call and hands the answer to read.
func (c *Client) get(ctx context.Context, q url.Values, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.query+"?"+q.Encode(), nil)
	if err != nil {
		// The error quotes the URL, and a wrong one can hold a password.
		return &providers.Error{Provider: Name, Kind: providers.Rejected, Err: errors.New("the base URL is no URL")}
	}
	// An Accept that the provider cannot satisfy is answered by status 406.
	req.Header.Set("Accept", "*/*")
	resp, err := c.hc.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	return read(resp.Body)
}

// reaches refuses the newest 100 sessions as an answer to a window that ends
// before them. A shorter answer is that of a symbol which was listed later.
func reaches(bars []market.Bar, window market.Range) error {
	if len(bars) < compactBars || bars[0].Date <= window.To {
		return nil
	}
	return &providers.Error{Provider: Name, Kind: providers.PremiumOnly, Err: fmt.Errorf(
		"the newest %d sessions reach back to %s only; what is older takes a premium key", compactBars, bars[0].Date)}
}

// needsFull reports whether the newest 100 sessions do not hold first, and the
// plan can be asked for more.
func (c *Client) needsFull(first market.Date) (bool, error) {
	if !c.asksFull() {
		return false, nil
	}
	recent, err := c.recent()
	return first < recent, err
}

// recent returns the oldest session that is among the newest 100 for certain.
func (c *Client) recent() (market.Date, error) {
	newest, err := c.o.Calendar.LastClosed(c.o.Now(), 0)
	if err != nil {
		return 0, err
	}
	// One of the hundred can be the running session's.
	return c.o.Calendar.Back(newest, compactBars-2)
}

func (c *Client) decode(body io.Reader, asked string, full bool) ([]market.Bar, error) {
	room := compactBars
	if full {
		room = fullBars
	}
	read := wire.NewBody(body, wire.MaxValue)
	bars, err := decode(read, c.o.CSV, asked, make([]market.Bar, 0, room))
	if err == nil && len(bars) == 0 {
		err = found(providers.NoData, "the answer holds no bars")
	}
	if err != nil {
		return nil, read.Fault(Name, err)
	}
	ascend(bars)
	return bars, nil
}

// ascend sorts bars; the provider's own order, newest first, needs no sort.
func ascend(bars []market.Bar) {
	byDate := func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) }
	slices.Reverse(bars)
	if !slices.IsSortedFunc(bars, byDate) {
		slices.SortFunc(bars, byDate)
	}
}

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
)

// Name is the provider's name in the limiter, the ledger and the column
// ohlcv.source.
const Name = "alpha_vantage"

const (
	// compactBars is how many daily bars outputsize=compact holds.
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
	// Deep asks for the whole history whenever the window begins before
	// the newest 100 sessions. Without it only a window that ends before
	// them does. It needs Full.
	Deep bool
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
	// noFull is set when the provider has refused outputsize=full.
	noFull atomic.Bool
}

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

// DailyBars returns the daily bars of s that one call gives, in ascending
// order: the newest 100 sessions, or the whole history if the plan holds it
// and window ends before those 100. A plan that turns out not to hold it is
// asked for the newest 100 instead, and for nothing else from then on; if they
// do not reach back to window, the error is of kind PremiumOnly. The head of window is a wish, since the
// provider takes no dates; see [Options] for the way to insist on it. Bars
// outside window, of a running session or out of order with each other's
// values are returned as they come, for market.Clean to judge.
//
// The error is a *[providers.Error], or wraps that of ctx.
func (c *Client) DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	op := "daily bars " + string(s)
	full, err := c.needsFull(window)
	if err != nil {
		return market.Series{}, fmt.Errorf("%s: %s: %w", Name, op, err)
	}
	bars, err := c.ask(ctx, s, full)
	var refused *providers.Error
	if full && errors.As(err, &refused) && refused.Kind == providers.PremiumOnly {
		// For good: the plan does not hold it. The newest 100 may do.
		c.noFull.Store(true)
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

// needsFull reports whether the newest 100 sessions are too few for window.
func (c *Client) needsFull(window market.Range) (bool, error) {
	if !c.o.Full || c.noFull.Load() {
		return false, nil
	}
	newest, err := c.o.Calendar.LastClosed(c.o.Now(), 0)
	if err != nil {
		return false, err
	}
	// One of the hundred can be the running session's.
	oldest, err := c.o.Calendar.Back(newest, compactBars-2)
	if err != nil {
		return false, err
	}
	if c.o.Deep {
		return window.From < oldest, nil
	}
	return window.To < oldest, nil
}

func (c *Client) decode(body io.Reader, asked string, full bool) ([]market.Bar, error) {
	room := compactBars
	if full {
		room = fullBars
	}
	read := &source{from: body}
	bars, err := decode(read, c.o.CSV, asked, make([]market.Bar, 0, room))
	if err == nil && len(bars) == 0 {
		err = &emptyError{"the answer holds no bars"}
	}
	if err != nil {
		return nil, read.fault(err)
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

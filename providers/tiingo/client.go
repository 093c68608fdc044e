// Package tiingo reads daily bars from Tiingo, one symbol a call: prices as
// traded, and beside them a close that is adjusted for splits and dividends.
//
// Most US prices are there at 17:30 New York, and corrected until 20:00.
package tiingo

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
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// Name is the provider's name in the limiter, the ledger and the column
// ohlcv.source.
const Name = "tiingo"

// ready is from the close at 16:00 to 20:00, when prices are no longer
// corrected.
const ready = 4 * time.Hour

// wholeBars is room for a history of thirty years.
const wholeBars = 7600

// Options tune a [Client]; the zero value asks Tiingo.
type Options struct {
	// BaseURL is where the API is; "" means https://api.tiingo.com.
	BaseURL string
	// Calendar says which days are sessions; nil means that of the NYSE.
	Calendar *market.Calendar
	// Now is the clock that says which session must be there; nil means
	// time.Now.
	Now func() time.Time
}

// Client asks Tiingo. It is safe for concurrent use.
type Client struct {
	hc   *http.Client
	base string
	o    Options
}

// New returns a client that asks through hc, which adds the key and keeps to
// the limits; its transport is made with [Sign] and [Check].
func New(hc *http.Client, o Options) *Client {
	if o.Calendar == nil {
		o.Calendar = market.NYSE()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{hc: hc, base: strings.TrimRight(cmp.Or(o.BaseURL, "https://api.tiingo.com"), "/"), o: o}
}

// Sign returns the function that adds key to a request.
func Sign(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Token "+key) }
}

// Traits returns what the source can do.
func (c *Client) Traits() providers.BarTraits {
	return providers.BarTraits{Name: Name, Basis: providers.Raw, Consolidated: true, Ready: ready}
}

// Reach returns the zero Date: every plan holds the whole history.
func (c *Client) Reach() (market.Date, error) { return 0, nil }

// DailyBars returns the daily bars of s in window, as [Client.History] does.
func (c *Client) DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	return c.History(ctx, s, window)
}

// History returns the bars of s in window, in ascending order and in one call.
// AdjClose is set. The answer does not name its symbol, so one about another
// symbol cannot be told.
//
// Without any bar the error is of kind NotReady if the window begins after the
// newest session that must be there, and else NoData. The error is a
// *[providers.Error], or wraps that of ctx.
func (c *Client) History(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	bars, err := c.load(ctx, s, window)
	if err != nil {
		return market.Series{}, providers.Wrap(Name, "daily bars "+string(s), err)
	}
	return market.Series{Symbol: s, Source: Name, Bars: bars}, nil
}

func (c *Client) load(ctx context.Context, s market.Symbol, window market.Range) ([]market.Bar, error) {
	target := fmt.Sprintf("%s/tiingo/daily/%s/prices?startDate=%s&endDate=%s&format=json",
		c.base, url.PathEscape(s.In(market.Tiingo)), window.From, window.To)
	bars, err := c.get(ctx, target, room(window))
	switch {
	case err != nil:
		return nil, err
	case len(bars) == 0:
		return nil, c.nothing(window.From)
	}
	slices.SortStableFunc(bars, func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) })
	return bars, nil
}

// room is about how many sessions a window has.
func room(window market.Range) int {
	return min(max(int(window.To-window.From)*5/7+1, 1), wholeBars)
}

// nothing is the error of an answer without bars from a date on.
func (c *Client) nothing(from market.Date) error {
	there, err := c.o.Calendar.LastClosed(c.o.Now(), ready)
	switch {
	case err != nil:
		return err
	case from > there:
		return found(providers.NotReady, "the answer holds no bars yet")
	}
	return found(providers.NoData, "the answer holds no bars")
}

// get makes one call.
func (c *Client) get(ctx context.Context, target string, room int) ([]market.Bar, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		// The error quotes the URL, and a wrong one can hold a password.
		return nil, found(providers.Rejected, "the base URL is no URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	// At most what the transport lets through; a whole history is 2 MB.
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	bars, err := decode(answer, make([]market.Bar, 0, room))
	if err != nil {
		return nil, &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: err}
	}
	return bars, nil
}

func found(kind providers.Kind, text string) *providers.Error {
	return &providers.Error{Provider: Name, Kind: kind, Err: errors.New(text)}
}

var _ providers.SymbolBars = (*Client)(nil)

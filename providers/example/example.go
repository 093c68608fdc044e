// Package example is the source of daily bars to begin a new one with: it is
// complete, and passes the suite of providers/providertest. Its vendor does not
// exist. It answers GET /bars/BRK.B?from=2026-03-09&to=2026-03-12 with
//
//	{"symbol":"BRK.B","bars":[{"date":"2026-03-09","open":481.2,"high":485,"low":480.05,"close":484.1,"volume":3100200}]}
package example

import (
	"bytes"
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

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// Name is the provider's name in the limiter, the ledger and the column
// ohlcv.source.
const Name = "example"

// Client asks the vendor. It is safe for concurrent use.
type Client struct {
	hc   *http.Client
	base string
}

// New returns a client that asks at baseURL through hc, which adds the key,
// keeps to the limits and tries again; its transport is made with [Sign] and
// [Check].
func New(hc *http.Client, baseURL string) *Client {
	return &Client{hc: hc, base: strings.TrimRight(baseURL, "/")}
}

// Sign returns the function that adds key to a request.
func Sign(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-Api-Key", key) }
}

// Check says what the vendor means where the status alone does not. What it
// quotes can hold the key; the transport removes it.
func Check(status int, _ http.Header, head []byte) *providers.Error {
	switch {
	case status == http.StatusTooManyRequests:
		// It counts by the minute: an earlier try meets the same minute again.
		return &providers.Error{Kind: providers.RateLimited, RetryAfter: time.Minute, Err: errors.New("too many requests")}
	case status == http.StatusNotFound && bytes.Contains(head, []byte("unknown symbol")):
		return &providers.Error{Kind: providers.UnknownSymbol, Err: errors.New("the vendor does not know the symbol")}
	case status == http.StatusNotFound:
		return &providers.Error{Kind: providers.BadPayload, Err: errors.New("status 404: is the base URL right?")}
	}
	return nil
}

// Traits returns what the source can do.
func (c *Client) Traits() providers.BarTraits {
	return providers.BarTraits{Name: Name, Basis: providers.Raw, Consolidated: true, Ready: 2 * time.Hour}
}

// Reach returns the zero Date: every plan holds the whole history.
func (c *Client) Reach() (market.Date, error) { return 0, nil }

// DailyBars returns the bars of s in window, as [Client.History] does.
func (c *Client) DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	return c.History(ctx, s, window)
}

// History returns the bars of s in window, in ascending order and in one call.
// The error is a *[providers.Error], of kind NoData if there are none, or wraps
// that of ctx.
func (c *Client) History(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	bars, err := c.load(ctx, s.In(market.Alpaca), window)
	if err != nil {
		return market.Series{}, providers.Wrap(Name, "daily bars "+string(s), err)
	}
	return market.Series{Symbol: s, Source: Name, Bars: bars}, nil
}

func (c *Client) load(ctx context.Context, asked string, window market.Range) ([]market.Bar, error) {
	target := fmt.Sprintf("%s/bars/%s?from=%s&to=%s", c.base, url.PathEscape(asked), window.From, window.To)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, found(providers.Rejected, "the base URL is no URL")
	}
	resp, err := c.hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	body, err := io.ReadAll(resp.Body)       // the transport bounds its size
	if err != nil {
		return nil, err
	}
	bars, err := decode(body, asked)
	switch {
	case err != nil:
		return nil, found(providers.BadPayload, err.Error())
	case len(bars) == 0:
		return nil, found(providers.NoData, "the answer holds no bars")
	}
	return bars, nil
}

// row is a bar as the vendor writes it.
type row struct {
	Date   string         `json:"date"`
	Open   jsontext.Value `json:"open"`
	High   jsontext.Value `json:"high"`
	Low    jsontext.Value `json:"low"`
	Close  jsontext.Value `json:"close"`
	Volume jsontext.Value `json:"volume"`
}

// decode reads an answer, all of it or nothing. Its errors quote nothing of it,
// since it can hold the key.
func decode(body []byte, asked string) ([]market.Bar, error) {
	var answer struct {
		Symbol string `json:"symbol"`
		Bars   []row  `json:"bars"`
	}
	body = bytes.TrimPrefix(body, []byte("\uFEFF"))
	if err := json.Unmarshal(body, &answer, json.RejectUnknownMembers(true)); err != nil {
		return nil, errors.New("the answer is no JSON document of the vendor's shape")
	}
	if answer.Symbol != asked {
		return nil, errors.New("the answer is about another symbol")
	}
	bars := make([]market.Bar, len(answer.Bars))
	for i := range answer.Bars {
		if err := answer.Bars[i].read(&bars[i]); err != nil {
			return nil, fmt.Errorf("bar %d: %w", i+1, err)
		}
	}
	slices.SortStableFunc(bars, func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) })
	return bars, nil
}

func (r *row) read(bar *market.Bar) (err error) {
	if bar.Date, err = market.ParseDate(r.Date); err != nil {
		return errors.New("date is not written as 2006-01-02")
	}
	var wrong [5]error
	bar.Open, _, wrong[0] = market.ParsePrice(r.Open)
	bar.High, _, wrong[1] = market.ParsePrice(r.High)
	bar.Low, _, wrong[2] = market.ParsePrice(r.Low)
	bar.Close, _, wrong[3] = market.ParsePrice(r.Close)
	bar.Volume, wrong[4] = market.ParseVolume(r.Volume)
	for i, err := range wrong {
		if err != nil {
			return fmt.Errorf("%s is no plain number", [...]string{"open", "high", "low", "close", "volume"}[i])
		}
	}
	return nil
}

func found(kind providers.Kind, text string) *providers.Error {
	return &providers.Error{Provider: Name, Kind: kind, Err: errors.New(text)}
}

var _ providers.SymbolBars = (*Client)(nil)

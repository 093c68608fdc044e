// Package massive reads daily bars from Massive, which was Polygon: a whole
// session of all symbols in one call, or the history of one symbol. Prices are
// as traded, unless they are asked for on the base after all splits. None are
// adjusted for dividends.
//
// A free key takes 5 calls a minute, and holds end-of-day bars of two years.
package massive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// Name is the provider's name in the limiter, the ledger and the column
// ohlcv.source.
const Name = "massive"

const (
	// maxBase is the greatest limit of one page. It counts base bars.
	maxBase = 50_000
	// chunk is a history of twenty years, well within one page.
	chunk = 5000
	// ready is an estimate: the provider says "end of day", and no hour.
	ready = 2 * time.Hour
	// freeYears is what a free key holds.
	freeYears = 2
)

// Options tune a [Client]; the zero value suits a free key.
type Options struct {
	// BaseURL is where the API is; "" means https://api.massive.com. The pages
	// of a history must be at the same host.
	BaseURL string
	// Calendar says which days are sessions; nil means that of the NYSE.
	Calendar *market.Calendar
	// Now is the clock that the years and the newest session are counted from;
	// nil means time.Now.
	Now func() time.Time
	// Years is how many years of history the key's plan holds; 0 means 2, those
	// of a free key.
	Years int
	// Adjusted asks for prices and volumes on the base after all splits; a split
	// rewrites them. Without it they are as traded, and stand in one series with
	// other raw ones.
	Adjusted bool
}

// Client asks Massive. It is safe for concurrent use.
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
	o.Years = cmp.Or(o.Years, freeYears)
	return &Client{hc: hc, base: strings.TrimRight(cmp.Or(o.BaseURL, "https://api.massive.com"), "/"), o: o}
}

// Sign returns the function that adds key to a request.
func Sign(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }
}

// Traits returns what the source can do.
func (c *Client) Traits() providers.BarTraits {
	t := providers.BarTraits{
		Name: Name, Basis: providers.Raw, Consolidated: true,
		Chunk: chunk, BySession: true, Ready: ready,
	}
	if c.o.Adjusted {
		t.Basis = providers.SplitAdjusted
	}
	return t
}

// Reach returns the first session within the plan's years, with a day to
// spare: the provider does not say in which zone its years begin. It is the zero
// Date if the plan reaches back before the calendar does.
//
// The error is a *[market.UnknownYearError].
func (c *Client) Reach() (market.Date, error) {
	today := c.o.Now().In(market.NewYork())
	first := market.DateOf(today.AddDate(-c.o.Years, 0, 1))
	if first < c.o.Calendar.Known().From {
		return 0, nil
	}
	return c.o.Calendar.Next(first - 1)
}

// DailyBars returns the daily bars of s in window, as [Client.History] does.
func (c *Client) DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	return c.History(ctx, s, window)
}

// History returns the bars of s in window, from [Client.Reach] on, in ascending
// order. A running session's bar is returned as it comes. Volumes are rounded to
// whole shares. Every page is a call; more than one comes only of windows longer
// than the traits' Chunk, or where the provider ends a page early.
//
// Without any bar the error is of kind NotReady if the window begins after the
// newest session that must be there, and else NoData: the provider does not tell
// an unknown symbol from one without bars. A window that ends before the reach
// is PremiumOnly, and costs no call. A plan's refusal is NotReady until the end of
// the window must be there. The error is a *[providers.Error], or wraps
// that of ctx.
func (c *Client) History(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	bars, err := c.load(ctx, s, window)
	if err != nil {
		return market.Series{}, providers.Wrap(Name, "daily bars "+string(s), c.early(err, window.To))
	}
	return market.Series{Symbol: s, Source: Name, Bars: bars}, nil
}

func (c *Client) load(ctx context.Context, s market.Symbol, window market.Range) ([]market.Bar, error) {
	reach, err := c.reachTo(window.To)
	if err != nil {
		return nil, err
	}
	asked := s.In(market.Massive)
	next := fmt.Sprintf("%s/v2/aggs/ticker/%s/range/1/day/%s/%s?adjusted=%t&sort=asc&limit=%d",
		c.base, url.PathEscape(asked), max(window.From, reach), window.To, c.o.Adjusted, maxBase)
	var bars []market.Bar
	for next != "" {
		page, following, err := c.page(ctx, next, asked)
		if err != nil {
			return nil, err
		}
		if next, err = c.follow(following); err != nil {
			return nil, err
		}
		switch {
		case len(page) == 0 && next != "":
			return nil, found(providers.BadPayload, "a page without bars names another one")
		case len(page) > 0 && len(bars) > 0 && page[0].Date <= bars[len(bars)-1].Date:
			return nil, found(providers.BadPayload, "a page does not begin after the one before it")
		}
		bars = append(bars, page...)
		if len(bars) > 0 && bars[len(bars)-1].Date >= window.To {
			break // what follows is not asked for, and would be paid for
		}
	}
	if len(bars) == 0 {
		return nil, c.nothing(window.From)
	}
	return bars, nil
}

// page makes one call for bars of one symbol. following is where the next ones
// are, "" if there are none.
func (c *Client) page(ctx context.Context, target, asked string) (bars []market.Bar, following string, err error) {
	err = c.get(ctx, target, func(body *wire.Body) error {
		answer, err := decode(body, c.o.Adjusted, func(r *row) error {
			bar, err := r.ofDay()
			bars = append(bars, bar)
			return err
		})
		following = answer.next
		if err == nil && answer.ticker != asked && (answer.ticker != "" || answer.rows > 0) {
			err = errors.New("the answer is about another symbol")
		}
		return err
	})
	slices.SortStableFunc(bars, func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) })
	return bars, following, err
}

// follow returns the URL of the next page. It must be at the host that was
// asked, since the key goes there.
func (c *Client) follow(next string) (string, error) {
	if next == "" {
		return "", nil
	}
	base, err1 := url.Parse(c.base)
	u, err2 := url.Parse(next)
	if err1 != nil || err2 != nil || u.Scheme != base.Scheme || !strings.EqualFold(u.Host, base.Host) || u.User != nil {
		return "", found(providers.BadPayload, "the next page is not at the base URL's host")
	}
	q := u.Query()
	q.Del("apiKey") // the transport signs every request
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Session returns the bars of one session, of every symbol whose spelling is one
// of ours. A bar is not checked beyond being one; what a bar must be is said by
// market.Bar.Validate.
//
// Until the session must be there, an answer without bars and a plan's refusal
// are of kind NotReady; after that, and for days without a session, the first is
// NoData and the second PremiumOnly. A session that has not closed is NotReady,
// and one before the reach PremiumOnly; neither costs a call. The error is a
// *[providers.Error], or wraps that of ctx.
func (c *Client) Session(ctx context.Context, session market.Date) (map[market.Symbol]market.Bar, error) {
	bars, err := c.session(ctx, session)
	if err != nil {
		return nil, providers.Wrap(Name, "session "+session.String(), c.early(err, session))
	}
	return bars, nil
}

func (c *Client) session(ctx context.Context, session market.Date) (map[market.Symbol]market.Bar, error) {
	if _, err := c.reachTo(session); err != nil {
		return nil, err
	}
	closed, err := c.o.Calendar.LastClosed(c.o.Now(), 0)
	if err != nil {
		return nil, err
	}
	if session > closed {
		return nil, found(providers.NotReady, fmt.Sprintf("the newest closed session is %s", closed))
	}
	// About how many rows a session has.
	bars := make(map[market.Symbol]market.Bar, 12_000)
	target := fmt.Sprintf("%s/v2/aggs/grouped/locale/us/market/stocks/%s?adjusted=%t&include_otc=false", c.base, session, c.o.Adjusted)
	err = c.get(ctx, target, func(body *wire.Body) error {
		_, err := decode(body, c.o.Adjusted, func(r *row) error { return r.into(bars, session) })
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(bars) == 0:
		return nil, c.nothing(session)
	}
	return bars, nil
}

// reachTo returns the reach, and an error if nothing up to date is within it.
func (c *Client) reachTo(date market.Date) (market.Date, error) {
	reach, err := c.Reach()
	if err == nil && date < reach {
		err = found(providers.PremiumOnly, fmt.Sprintf("a plan of %d years reaches back to %s only", c.o.Years, reach))
	}
	return reach, err
}

// early returns err as one of kind NotReady if it is the refusal of a plan, and
// date is not due yet: a plan of end-of-day bars does not hold the day before
// its end.
func (c *Client) early(err error, date market.Date) error {
	refused, ok := errors.AsType[*providers.Error](err)
	if !ok || refused.Kind != providers.PremiumOnly {
		return err
	}
	if there, unknown := c.o.Calendar.LastClosed(c.o.Now(), ready); unknown != nil || date <= there {
		return err
	}
	e := *refused
	e.Kind = providers.NotReady
	return &e
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

// get makes one call and hands the answer to read.
func (c *Client) get(ctx context.Context, target string, read func(*wire.Body) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		// The error quotes the URL, and a wrong one can hold a password.
		return found(providers.Rejected, "the base URL is no URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.hc.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	body := wire.NewBody(resp.Body, wire.MaxValue)
	return body.Fault(Name, read(body))
}

func found(kind providers.Kind, text string) *providers.Error {
	return &providers.Error{Provider: Name, Kind: kind, Err: errors.New(text)}
}

var (
	_ providers.SymbolBars  = (*Client)(nil)
	_ providers.SessionBars = (*Client)(nil)
)

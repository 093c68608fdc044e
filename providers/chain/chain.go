// Package chain makes one source of daily bars of several, each under its own
// limits: the calls go to whichever is through with them first, a session that
// many symbols lack comes in one call where a source has that, and what one
// source cannot answer the next one is asked for.
package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// breaker is after how many failures in a row a source is left alone for the
// rest of the run, if there are others.
const breaker = 5

// Member is one source. All fields but Sessions are required.
type Member struct {
	Traits providers.BarTraits
	Bars   providers.SymbolBars
	// Sessions is nil for a source that has no session in one call.
	Sessions providers.SessionBars
	// Workers is the greatest number of calls that wait or are made at a time.
	Workers int
	// Pace tells what the limits allow now.
	Pace func() Pace
}

// Chain is the source. It is safe for concurrent use.
type Chain struct {
	members []*member
	cal     *market.Calendar
	now     func() time.Time

	mu sync.Mutex
	// changed is closed when a member has room again, or is stopped.
	changed chan struct{}
	// left is the number of planned asks that no member has begun; below zero
	// if that is not known.
	left   int
	groups grouped
	loaded map[market.Date]*loading
}

type member struct {
	Member
	rate float64 // calls a second
	// Of the following, which the chain's mu guards, out is the number of calls
	// in flight, failed that of failures in a row, stopped why no more are made
	// now.
	out, failed int
	stopped     error
	// until is when a day that is spent is over; zero: it is stopped for good.
	until time.Time
}

// loading is a session of all symbols, as it comes.
type loading struct {
	done chan struct{}
	bars map[market.Symbol]market.Bar
	err  error
}

// New returns a chain of members, the preferred one first. There must be one at
// least.
func New(cal *market.Calendar, now func() time.Time, members ...Member) *Chain {
	c := &Chain{cal: cal, now: now, changed: make(chan struct{}), left: -1, loaded: map[market.Date]*loading{}}
	for _, m := range members {
		c.members = append(c.members, &member{Member: m, rate: max(m.Pace().PerMinute, 1e-9) / 60})
	}
	return c
}

// Workers is the number of asks that can be in flight.
func (c *Chain) Workers() (n int) {
	for _, m := range c.members {
		n += m.Workers
	}
	return n
}

// Reach returns the first session that any of the sources can be asked for; the
// zero Date if one of them has no bound.
func (c *Chain) Reach() (first market.Date, err error) {
	for i, m := range c.members {
		reach, err := m.Bars.Reach()
		if err != nil {
			return 0, err
		}
		if i == 0 || reach < first {
			first = reach
		}
	}
	return first, nil
}

// begin takes over what was planned.
func (c *Chain) begin(groups grouped, asks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups, c.left = groups, asks
}

// DailyBars returns the bar of window.To of a symbol, and as many of the
// window's others as come with it. The error is the one of the first source, if
// none has it.
func (c *Chain) DailyBars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	series, _, err := c.ask(ctx, symbol, market.Range{From: window.To, To: window.To}, func(ctx context.Context, m *member) (market.Series, error) {
		return m.Bars.DailyBars(ctx, symbol, window)
	})
	return series, err
}

// History returns the bars of a symbol in window, and about is the part of it for
// which they are the answer: from the reach of the source on.
func (c *Chain) History(ctx context.Context, symbol market.Symbol, window market.Range) (series market.Series, about market.Range, err error) {
	return c.ask(ctx, symbol, window, func(ctx context.Context, m *member) (market.Series, error) {
		return m.Bars.History(ctx, symbol, window)
	})
}

// call asks one member.
type call func(context.Context, *member) (market.Series, error)

// ask asks for a window of a symbol in the way that was planned, and the other
// sources if that has no answer.
func (c *Chain) ask(ctx context.Context, symbol market.Symbol, window market.Range, do call) (market.Series, market.Range, error) {
	tried := map[*member]bool{}
	if days, by := c.planned(symbol, window); by != nil {
		series, err := c.fromSessions(ctx, by, symbol, days)
		if err == nil && len(series.Bars) > 0 {
			return series, days.Hull(), nil
		}
		if ends(ctx, err) {
			return market.Series{}, market.Range{}, err
		}
		// That it has none of it, it says of each symbol too.
		tried[by] = err == nil || isKind(err, providers.NoData, providers.NotReady)
	} else {
		c.count()
	}
	var failures []failure
	for {
		m, err := c.acquire(ctx, window, tried)
		if err != nil {
			return market.Series{}, market.Range{}, err
		}
		if m == nil {
			return market.Series{}, market.Range{}, c.why(failures)
		}
		series, about, err := c.try(ctx, m, window, do)
		switch {
		case err == nil && about.From <= window.From:
			return series, about, nil
		case err == nil && !c.deeper(about.From, tried, m):
			return series, about, nil
		case err == nil:
			err = fmt.Errorf("%s reaches back to %s only", m.Traits.Name, about.From)
		case ends(ctx, err):
			return market.Series{}, market.Range{}, err
		}
		tried[m] = true
		failures = append(failures, failure{m, err})
	}
}

// ends reports whether an error is no source's: the run is stopped, has used its
// calls, or has no way to permission.
func ends(ctx context.Context, err error) bool {
	known, ok := errors.AsType[*providers.Error](err)
	return err != nil && (ctx.Err() != nil || errors.Is(err, context.Canceled) || ok && known.Kind == providers.Unavailable)
}

func isKind(err error, kinds ...providers.Kind) bool {
	known, ok := errors.AsType[*providers.Error](err)
	return ok && slices.Contains(kinds, known.Kind)
}

// planned returns the sessions of an ask that come as a whole, and of whom; nil
// if it is answered in another way.
func (c *Chain) planned(symbol market.Symbol, window market.Range) (market.Days, *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	days := c.groups.of[symbol].And(market.DaysIn(window))
	if days.Len() == 0 || c.members[c.groups.by].stopped != nil {
		return market.Days{}, nil
	}
	return days, c.members[c.groups.by]
}

// fromSessions puts the bars of a symbol together.
func (c *Chain) fromSessions(ctx context.Context, m *member, symbol market.Symbol, days market.Days) (market.Series, error) {
	series := market.Series{Symbol: symbol, Source: m.Traits.Name}
	for day := range days.All() {
		bars, err := c.session(ctx, m, day)
		if err != nil {
			return market.Series{}, err
		}
		if bar, ok := bars[symbol]; ok {
			series.Bars = append(series.Bars, bar)
		}
	}
	return series, nil
}

// Session returns a session of all symbols, from the first source that has that;
// in a run it is asked for once. ok is false if no source has it.
func (c *Chain) Session(ctx context.Context, session market.Date) (bars map[market.Symbol]market.Bar, ok bool, err error) {
	i := slices.IndexFunc(c.members, func(m *member) bool { return m.Sessions != nil })
	if i < 0 {
		return nil, false, nil
	}
	bars, err = c.session(ctx, c.members[i], session)
	return bars, true, err
}

// session asks once, however many want it: those that come later wait for the
// first. An error that ends the asking run is not kept.
func (c *Chain) session(ctx context.Context, m *member, day market.Date) (map[market.Symbol]market.Bar, error) {
	c.mu.Lock()
	l, begun := c.loaded[day]
	if !begun {
		l = &loading{done: make(chan struct{})}
		c.loaded[day] = l
	}
	c.mu.Unlock()
	if begun {
		select {
		case <-l.done:
			return l.bars, l.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer close(l.done)
	l.bars, l.err = m.Sessions.Session(ctx, day)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge(m, l.err)
	if ends(ctx, l.err) {
		delete(c.loaded, day)
	}
	return l.bars, l.err
}

// count takes an ask from those that are left.
func (c *Chain) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left > 0 {
		c.left--
	}
}

// try makes one member's call.
func (c *Chain) try(ctx context.Context, m *member, window market.Range, do call) (market.Series, market.Range, error) {
	series, err := do(ctx, m)
	reach := market.Date(0)
	if err == nil {
		// It can have come nearer with the answer.
		reach, err = m.Bars.Reach()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.out--
	c.judge(m, err)
	close(c.changed)
	c.changed = make(chan struct{})
	return series, market.Range{From: max(window.From, reach), To: window.To}, err
}

// judge stops a member that will answer nothing more in this run. Alone it goes
// on, and the run decides.
func (c *Chain) judge(m *member, err error) {
	known, ok := errors.AsType[*providers.Error](err)
	switch {
	case err == nil:
		m.failed = 0
	case errors.Is(err, context.Canceled):
	case ok && known.Stops() && known.Kind != providers.Unavailable:
		m.stopped = err
		if known.Kind == providers.Quota && known.RetryAfter > 0 {
			m.until = c.now().Add(known.RetryAfter)
		}
	case isKind(err, providers.NoData, providers.NotReady, providers.UnknownSymbol):
		m.failed = 0
	default:
		if m.failed++; m.failed >= breaker && len(c.members) > 1 {
			m.stopped = err
		}
	}
}

// Other asks for the bar of a session from a source that is not the one named.
// ok is false if there is none that can be asked now.
func (c *Chain) Other(ctx context.Context, symbol market.Symbol, session market.Date, not string) (series market.Series, ok bool, err error) {
	window := market.Range{From: session, To: session}
	tried := map[*member]bool{}
	for _, m := range c.members {
		tried[m] = m.Traits.Name == not
	}
	m, err := c.acquire(ctx, window, tried)
	if m == nil || err != nil {
		return market.Series{}, false, err
	}
	series, _, err = c.try(ctx, m, window, func(ctx context.Context, m *member) (market.Series, error) {
		return m.Bars.DailyBars(ctx, symbol, window)
	})
	return series, err == nil, err
}

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

const (
	// breaker is after how many failures in a row a source is left alone for
	// the rest of the run, if there are others, lateBreaker after how many
	// answers without the session.
	breaker     = 5
	lateBreaker = 10
	// pause is for how long a source that keeps saying that it is asked too
	// often is left alone, if it says nothing longer.
	pause = 2 * time.Minute
	// sessionTries is how often a run asks again for sessions of all symbols.
	sessionTries = 2
)

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
	// basis is that of the stored bars of symbols.
	basis map[market.Symbol]market.Basis
	// retries counts the sessions that were asked for again.
	retries int
	loaded  map[market.Date]*loading
}

type member struct {
	Member
	rate float64 // calls a second
	// Of the following, which the chain's mu guards, out is the number of calls
	// in flight, failed that of failures in a row, late of answers without the
	// session, stopped why no more are made now.
	out, failed, late int
	stopped           error
	// until is when a pause or a day that is spent is over; zero: it is stopped
	// for good.
	until time.Time
}

// loading is a session of all symbols, as it comes.
type loading struct {
	done chan struct{}
	bars map[market.Symbol]market.Bar
	err  error
	// final says that the error stays.
	final bool
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
func (c *Chain) Reach() (market.Date, error) { return deepest(c.lasting()) }

// deepest is the first session that any of members reaches.
func deepest(members []*member) (first market.Date, err error) {
	for i, m := range members {
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

// open returns the members that can be asked now and are not among tried.
func (c *Chain) open(tried map[*member]bool) []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []*member
	for _, m := range c.members {
		if !m.until.IsZero() && !c.now().Before(m.until) {
			m.stopped, m.until = nil, time.Time{}
		}
		if m.stopped == nil && !tried[m] {
			open = append(open, m)
		}
	}
	return open
}

// lasting returns the members that can be asked today or on a later day; all of
// them if there is none.
func (c *Chain) lasting() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lasting []*member
	for _, m := range c.members {
		if m.stopped == nil || !m.until.IsZero() {
			lasting = append(lasting, m)
		}
	}
	if len(lasting) == 0 {
		return c.members
	}
	return lasting
}

// begin takes over what was planned.
func (c *Chain) begin(groups grouped, asks []Ask, left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups, c.left = groups, left
	c.basis = map[market.Symbol]market.Basis{}
	for _, ask := range asks {
		if ask.Basis != "" {
			c.basis[ask.Symbol] = ask.Basis
		}
	}
}

// DailyBars returns the bar of window.To of a symbol, and as many of the
// window's others as come with it. If no source has it, it is the best answer of
// all, or an error with the reasons of all.
func (c *Chain) DailyBars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	a, err := c.ask(ctx, question{symbol: symbol, window: market.Range{From: window.To, To: window.To}, call: func(ctx context.Context, m *member, _ market.Range) (market.Series, error) {
		return m.Bars.DailyBars(ctx, symbol, window)
	}})
	return a.series, err
}

// History returns the bars of a symbol in window. about are the days of window
// for which they are the answer: from the reach of the source to the newest
// session that is ready there, or just those that came with whole sessions.
func (c *Chain) History(ctx context.Context, symbol market.Symbol, window market.Range) (series market.Series, about market.Days, err error) {
	a, err := c.ask(ctx, question{symbol: symbol, window: window, parts: true, call: func(ctx context.Context, m *member, part market.Range) (market.Series, error) {
		return m.Bars.History(ctx, symbol, part)
	}})
	return a.series, a.about, err
}

// question is what is asked of one symbol.
type question struct {
	symbol market.Symbol
	window market.Range
	// parts says that an answer for a part of the window is one too.
	parts bool
	call  func(ctx context.Context, m *member, part market.Range) (market.Series, error)
}

// answer is what a member has said.
type answer struct {
	series market.Series
	about  market.Days
	// whole says that it is about all of the window, and that its newest bar is
	// that of the last session.
	whole bool
}

// ask asks for a window of a symbol in the way that was planned, and the other
// sources if that has no answer, or half of one. An answer that is paid for is
// the better of two halves.
func (c *Chain) ask(ctx context.Context, q question) (best answer, err error) {
	tried := map[*member]bool{}
	a, failures, err := c.askPlanned(ctx, q, tried)
	if err != nil || a.whole {
		return a, err
	}
	best = a
	for {
		m, part, err := c.acquire(ctx, q, tried)
		switch {
		case err != nil && (len(failures) == 0 || !isKind(err, providers.NotReady)):
			return answer{}, err
		case m == nil && len(best.series.Bars) > 0:
			return best, nil
		case m == nil:
			return answer{}, c.why(failures)
		}
		a, err := c.try(ctx, m, q, part)
		tried[m] = true
		switch {
		case ends(ctx, err):
			return answer{}, err
		case err == nil && (a.whole || len(c.members) == 1):
			return a, nil
		case err == nil:
			err = &providers.Error{Provider: m.Traits.Name, Kind: providers.NoData, Err: fmt.Errorf("%s: not all of %s", q.symbol, q.window)}
			if len(a.series.Bars) > len(best.series.Bars) {
				best = a
			}
		}
		failures = append(failures, failure{m, err})
	}
}

// askPlanned answers by whole sessions if that was planned.
func (c *Chain) askPlanned(ctx context.Context, q question, tried map[*member]bool) (a answer, failures []failure, err error) {
	days, by := c.planned(q.symbol, q.window)
	if by == nil {
		c.count()
		return answer{}, nil, nil
	}
	series, err := c.fromSessions(ctx, by, q.symbol, days)
	switch {
	case ends(ctx, err):
		return answer{}, nil, err
	case err == nil && len(series.Bars) == days.Len():
		return answer{series, days, true}, nil, nil
	case err == nil:
		err = &providers.Error{Provider: by.Traits.Name, Kind: providers.NoData, Err: fmt.Errorf("the session of %s holds no bar of %s", days.Last(), q.symbol)}
		a = answer{series, days, false}
		tried[by] = true
	default:
		// That it has none of it, it says of each symbol too.
		tried[by] = isKind(err, providers.NoData, providers.NotReady)
	}
	return a, []failure{{by, err}}, nil
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
// first. An error that ends the asking run is not kept, and one that may pass
// only after some tries; then what was planned to come with sessions is asked for
// symbol by symbol.
func (c *Chain) session(ctx context.Context, m *member, day market.Date) (map[market.Symbol]market.Bar, error) {
	for {
		l, begun := c.loading(day)
		if !begun {
			return c.fetch(ctx, m, day, l)
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if l.err == nil || l.final {
			return l.bars, l.err
		}
	}
}

// loading returns the loading of a session, and whether it was begun already.
func (c *Chain) loading(day market.Date) (l *loading, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, begun = c.loaded[day]
	if !begun {
		l = &loading{done: make(chan struct{})}
		c.loaded[day] = l
	}
	return l, begun
}

func (c *Chain) fetch(ctx context.Context, m *member, day market.Date, l *loading) (map[market.Symbol]market.Bar, error) {
	defer close(l.done)
	l.bars, l.err = m.Sessions.Session(ctx, day)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge(m, l.err, false)
	switch {
	case l.err == nil:
	case ends(ctx, l.err):
		delete(c.loaded, day)
	case c.retries < sessionTries && isKind(l.err, providers.Transient, providers.RateLimited, providers.BadPayload) && m.stopped == nil:
		c.retries++
		delete(c.loaded, day)
	default:
		l.final = true
		if !isKind(l.err, providers.NoData, providers.NotReady) { // which it would say of each symbol too
			c.left += len(c.groups.of)
			c.groups.of = nil
		}
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

// try makes one member's call for its part of the window.
func (c *Chain) try(ctx context.Context, m *member, q question, part market.Range) (answer, error) {
	series, err := q.call(ctx, m, part)
	if err == nil {
		var reach market.Date // it can have come nearer with the answer
		reach, err = m.Bars.Reach()
		part.From = max(part.From, reach)
	}
	newest := market.Date(0)
	for i := range series.Bars {
		newest = max(newest, series.Bars[i].Date)
	}
	last := part.To
	if err == nil {
		last, err = c.lastSession(part.To)
	}
	late := err == nil && newest < last && newest >= last-2*market.LateSessions
	c.mu.Lock()
	defer c.mu.Unlock()
	m.out--
	c.judge(m, err, late)
	close(c.changed)
	c.changed = make(chan struct{})
	if err != nil {
		return answer{}, err
	}
	whole := part == q.window && newest >= last
	return answer{series, market.DaysIn(part), whole}, nil
}

// lastSession returns date if it is a session, else the one before it.
func (c *Chain) lastSession(date market.Date) (market.Date, error) {
	open, err := c.cal.IsSession(date)
	if open || err != nil {
		return date, err
	}
	return c.cal.Previous(date)
}

// judge stops a member that will answer nothing more in this run, or is late for
// everybody. Alone it goes on, and the run decides.
func (c *Chain) judge(m *member, err error, late bool) {
	late = late || isKind(err, providers.NotReady)
	known, ok := errors.AsType[*providers.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return
	case ok && known.Kind == providers.RateLimited && len(c.members) > 1:
		m.stopped, m.until = err, c.now().Add(max(known.RetryAfter, pause))
		return
	case ok && known.Stops() && known.Kind != providers.Unavailable:
		m.stopped = err
		if known.Kind == providers.Quota && known.RetryAfter > 0 {
			m.until = c.now().Add(known.RetryAfter)
		}
		return
	case late:
		m.late++
	case err == nil || isKind(err, providers.NoData, providers.UnknownSymbol):
		m.late, m.failed = 0, 0
	default:
		m.failed++
	}
	if err == nil {
		err = &providers.Error{Provider: m.Traits.Name, Kind: providers.NotReady, Err: fmt.Errorf("it did not have the session for %d symbols in a row", m.late)}
	}
	if len(c.members) > 1 && (m.failed >= breaker || m.late >= lateBreaker) {
		m.stopped = err
	}
}

// Other asks for the bar of a session from a source that is not the one named.
// ok is false if there is none that can be asked now.
func (c *Chain) Other(ctx context.Context, symbol market.Symbol, session market.Date, not string) (series market.Series, ok bool, err error) {
	window := market.Range{From: session, To: session}
	q := question{symbol: symbol, window: window, call: func(ctx context.Context, m *member, _ market.Range) (market.Series, error) {
		return m.Bars.DailyBars(ctx, symbol, window)
	}}
	tried := map[*member]bool{}
	for _, m := range c.members {
		tried[m] = m.Traits.Name == not
	}
	m, part, err := c.acquire(ctx, q, tried)
	if m == nil || err != nil {
		return market.Series{}, false, err
	}
	a, err := c.try(ctx, m, q, part)
	return a.series, err == nil, err
}

// Package ibkr reads daily bars from a running TWS or IB Gateway, over the text
// form of its socket protocol. The prices are adjusted for splits, not for
// dividends; the volume is that of IB's own filter, lower than the consolidated
// one.
//
// Facts about the protocol are from IB's TWS API documentation, from the
// sources of IB's API clients, and from reports of their users.
package ibkr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// Name is the provider's name in the ledger and the column ohlcv.source.
const Name = "ibkr"

const (
	// maxOpen is how many requests wait for answers at a time; IB's own limit
	// is 50 for all programs at one gateway.
	maxOpen = 6
	// tries is how often a question may meet one sort of failure before its
	// symbol fails: a connection that is lost, or anything else that another
	// try can cure.
	tries = 2
	// maxPaid is how many permissions one try pays for: each is lost if the
	// connection is, before anything goes out.
	maxPaid = 5
	// shakeTime bounds a dial with its handshake, as the Deadline does.
	shakeTime = 20 * time.Second
	// pauseTime bounds the call that passes a pause on to the budget.
	pauseTime = 5 * time.Second
	// settleTime bounds the wait for the state of the gateway's links, of which
	// it tells after its handshake, if at all.
	settleTime = time.Second
	// readyAfter is how long after the close late prints are in.
	readyAfter = 20 * time.Minute

	minBackoff, maxBackoff = time.Second, time.Minute

	defaultDeadline = time.Minute
	defaultPatience = 3 * time.Minute
	// IB refuses an identical request within 15 seconds; the rest is for the
	// ways of the two to IB, which take longer or shorter.
	defaultRepeat = 16 * time.Second
)

// Budget says when the next request may go, for every replica together.
type Budget interface {
	// Wait returns when one request may be sent.
	Wait(ctx context.Context) error
	// Pause holds back every caller for d, at most 15 minutes.
	Pause(ctx context.Context, d time.Duration) error
}

// Options say where the gateway is and how to treat it. Addr and Budget are
// required.
type Options struct {
	// Addr is the gateway's API socket, such as 127.0.0.1:4002.
	Addr string
	// ClientID is the id of the connection, one that no other program at the
	// gateway uses.
	ClientID int
	// Budget is asked before every request.
	Budget Budget
	// Source is the source of the series; "" means [Name].
	Source string
	// Lots says that the gateway counts volumes in round lots of 100 shares,
	// as its setting "Send market data in lots for US stocks" makes it do.
	Lots bool
	// Calendar says which days are sessions; nil means that of the NYSE.
	Calendar *market.Calendar
	// Now tells which session is the newest closed one; nil means time.Now.
	Now func() time.Time
	// Dial makes a connection; nil means that of net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Notice is told of every code that is no answer to a request, such as
	// 2104, and must not block; nil means nobody is.
	Notice func(code int, text string)
	// Deadline bounds the wait for one answer; 0 means one minute.
	Deadline time.Duration
	// Patience bounds the wait for a gateway that is away, or that has lost
	// its link to IB, as each does every night; 0 means three minutes.
	Patience time.Duration
	// Repeat is the shortest time between two identical requests; 0 means 16
	// seconds, as IB refuses them within 15.
	Repeat time.Duration
}

func (o Options) withDefaults() Options {
	o.Source = cmp.Or(o.Source, Name)
	if o.Calendar == nil {
		o.Calendar = market.NYSE()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Notice == nil {
		o.Notice = func(int, string) {}
	}
	o.Deadline = cmp.Or(o.Deadline, defaultDeadline)
	o.Patience = cmp.Or(o.Patience, defaultPatience)
	o.Repeat = cmp.Or(o.Repeat, defaultRepeat)
	return o
}

// errClosed reaches those who wait in a client that is closed.
var errClosed = fmt.Errorf("the client is closed: %w", context.Canceled)

// fault is a failure of one try.
type fault struct {
	err *providers.Error
	// again says that one more try can help.
	again bool
	// lost says that the request has had no chance: its connection is gone.
	lost bool
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// lost is the fault of a request whose connection has ended with err.
func lost(err error) *fault {
	if known, ok := errors.AsType[*providers.Error](err); ok {
		return &fault{err: known, again: known.Kind != providers.Rejected, lost: true}
	}
	return &fault{err: &providers.Error{Provider: Name, Kind: providers.Transient, Err: fmt.Errorf("connection lost: %w", hide(err))}, again: true, lost: true}
}

// hide keeps the text of an error of a connection only: the end of a context in
// it is not that of the caller's.
func hide(err error) error { return errors.New(err.Error()) }

// Client asks one gateway over one connection, which it makes when it is first
// needed and again when it is lost. It is safe for concurrent use.
type Client struct {
	o       Options
	lastID  atomic.Int64
	slots   chan struct{}
	repeats repeats
	workers sync.WaitGroup

	// turn is held by whoever looks at the fields below it.
	turn    chan struct{}
	session *session
	// known says that the gateway has let this client in before.
	known bool
	// failures counts the connections in a row that came to nothing; rest, if
	// any, ends before the next is tried.
	failures int
	rest     *time.Timer

	mu      sync.Mutex
	closed  bool
	calls   map[*call]struct{}
	lastErr error // why there is no connection
}

// call is a question that a caller waits for.
type call struct{ cancel context.CancelCauseFunc }

// New returns a client; it connects with the first question.
func New(o Options) *Client {
	o = o.withDefaults()
	return &Client{
		o: o, slots: make(chan struct{}, maxOpen), turn: make(chan struct{}, 1),
		repeats: repeats{last: map[question]*repeat{}, after: o.Repeat},
		calls:   map[*call]struct{}{},
	}
}

// Traits says what the source can do.
func (c *Client) Traits() providers.BarTraits {
	return providers.BarTraits{Name: Name, Basis: providers.SplitAdjusted, Ready: readyAfter}
}

// Reach returns the zero Date: the gateway has no bound that is known before it
// is asked. It has no bars at all of a security that no longer trades (IB's TWS
// API documentation).
func (c *Client) Reach() (market.Date, error) { return 0, nil }

// DailyBars returns the bars of s in window, in ascending order, and can return
// some before it. Bars of a session that has not closed are left out.
//
// A question waits for the gateway for Patience at a time, and for its answer
// for Deadline. It goes out once more, under a new id, if its connection is lost,
// and once more if it has no answer or if the gateway says what only time can
// cure.
//
// The error is a *[providers.Error], or wraps that of ctx. Missing market data
// subscriptions are of kind NoData, since other symbols can have theirs.
func (c *Client) DailyBars(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	op := "daily bars " + string(s)
	bars, err := c.load(ctx, s, window)
	if err != nil {
		return market.Series{}, providers.Wrap(Name, op, err)
	}
	return market.Series{Symbol: s, Source: c.o.Source, Bars: bars}, nil
}

// History is DailyBars: one answer holds any window.
func (c *Client) History(ctx context.Context, s market.Symbol, window market.Range) (market.Series, error) {
	return c.DailyBars(ctx, s, window)
}

// Close ends the connection and all questions, whose errors then wrap
// context.Canceled, and returns when nothing of the client runs any more.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	for call := range c.calls {
		call.cancel(errClosed)
	}
	c.mu.Unlock()
	c.turn <- struct{}{}
	if c.session != nil {
		c.session.end(errClosed)
	}
	<-c.turn
	c.workers.Wait()
}

// enter begins a question, which Close ends.
func (c *Client) enter(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	one := &call{cancel}
	c.calls[one] = struct{}{}
	c.workers.Add(1)
	return ctx, func() {
		defer c.workers.Done()
		cancel(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.calls, one)
	}, nil
}

// over is the error of a context that has ended.
func over(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errClosed) {
		return cause
	}
	return ctx.Err()
}

func (c *Client) load(ctx context.Context, s market.Symbol, window market.Range) ([]market.Bar, error) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	now := c.o.Now()
	newest, err := c.o.Calendar.LastClosed(now, 0)
	if err != nil {
		return nil, err
	}
	q, err := ask(s, window, newest, market.DateOf(now.In(market.NewYork())))
	if err != nil {
		return nil, err
	}
	for lost, failed := 0, 0; ; {
		bars, err := c.try(ctx, q)
		if err == nil {
			return finished(bars, newest)
		}
		if ctx.Err() != nil {
			return nil, over(ctx)
		}
		f, ok := errors.AsType[*fault](err)
		if ok && f.lost {
			lost++
		} else {
			failed++
		}
		if !ok || !f.again || lost == tries || failed == tries {
			return nil, err
		}
	}
}

// try lets a question out when everything that guards the gateway agrees. It
// waits for the gateway before it takes a slot, so that the patience of all who
// wait runs out together.
func (c *Client) try(ctx context.Context, q question) ([]market.Bar, error) {
	turn, err := c.repeats.reserve(ctx, q)
	if err != nil {
		return nil, err
	}
	defer turn.giveBack()
	if _, err := c.ready(ctx); err != nil {
		return nil, err
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, over(ctx)
	}
	s, err := c.granted(ctx)
	if err != nil {
		return nil, err
	}
	turn.use()
	return c.exchange(ctx, s, q)
}

// granted returns a connection over which one request may go out now. A
// connection that is lost while the permission is waited for costs the
// permission, but no try.
func (c *Client) granted(ctx context.Context) (*session, error) {
	for paid := 1; ; paid++ {
		s, err := c.ready(ctx)
		if err != nil {
			return nil, err
		}
		if err := c.permit(ctx, s); err != nil {
			return nil, err
		}
		if err = s.usable(); err == nil || paid == maxPaid {
			return s, err
		}
	}
}

// permit waits for the budget, behind the pause that the gateway has asked for,
// be it meanwhile.
func (c *Client) permit(ctx context.Context, s *session) error {
	for {
		if d := s.takeSlow(); d > 0 {
			if err := c.pause(ctx, d); err != nil {
				return err
			}
		}
		if err := c.wait(ctx); err != nil || !s.isSlow() {
			return err
		}
	}
}

func (c *Client) wait(ctx context.Context) error {
	err := c.o.Budget.Wait(ctx)
	if err == nil || errors.As(err, new(*providers.Error)) {
		return err
	}
	if ctx.Err() != nil {
		return over(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return err // it will come before the permission does
	}
	if errors.Is(err, context.Canceled) {
		return err // no further call is to begin
	}
	return &providers.Error{Provider: Name, Kind: providers.Unavailable, Err: fmt.Errorf("no permission for a call: %w", hide(err))}
}

func (c *Client) pause(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, pauseTime)
	defer cancel()
	if err := c.o.Budget.Pause(ctx, d); err != nil {
		return &providers.Error{Provider: Name, Kind: providers.Unavailable, Err: fmt.Errorf("hold all calls back for %s: %w", d, hide(err))}
	}
	return nil
}

// exchange sends a question and waits for its answer.
func (c *Client) exchange(ctx context.Context, s *session, q question) ([]market.Bar, error) {
	id := int(c.lastID.Add(1))
	answers, heard := s.request(id, q.message(id))
	timer := time.NewTimer(c.o.Deadline)
	defer timer.Stop()
	select {
	case a := <-answers:
		return c.read(ctx, s, q, a)
	case <-s.done:
		select {
		case a := <-answers:
			return c.read(ctx, s, q, a)
		default:
			return nil, lost(s.cause())
		}
	case <-timer.C:
		s.cancel(id)
		s.timedOut(heard)
		return nil, &fault{err: &providers.Error{Provider: Name, Kind: providers.Transient, Err: fmt.Errorf("no answer within %s", c.o.Deadline)}, again: true}
	case <-ctx.Done():
		s.cancel(id)
		return nil, over(ctx)
	}
}

// read turns an answer into bars, or into the error that its code means.
func (c *Client) read(ctx context.Context, s *session, q question, a answer) ([]market.Bar, error) {
	if a.lost {
		return nil, lost(say(a.code, a.text, ""))
	}
	if a.code == 0 {
		bars, err := decodeHistory(a.bars, c.o.Lots)
		if err != nil {
			return nil, &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: err}
		}
		return bars, nil
	}
	v := judge(q.symbol, a.code, a.text)
	err := &fault{err: &providers.Error{Provider: Name, Kind: v.kind, RetryAfter: v.pause, Err: say(a.code, a.text, v.remedy)}, again: v.again}
	if v.hold > 0 {
		s.hold(codeRivalSession, err.err.Err, v.hold)
	}
	if v.pause > 0 {
		s.takeSlow()
		if failed := c.pause(ctx, v.pause); failed != nil {
			err.err.Err = fmt.Errorf("%w (%w)", err.err.Err, failed)
		}
	}
	return nil, err
}

// ready returns a connection over which requests may go out. It waits for one
// for Patience. A connection that is held back for longer is given up: a new one
// begins with the true state of the gateway's links, should the word that they
// are back have been lost.
func (c *Client) ready(ctx context.Context) (*session, error) {
	patient, cancel := context.WithTimeout(ctx, c.o.Patience)
	defer cancel()
	for {
		s, err := c.connect(patient)
		if err != nil && ctx.Err() != nil {
			return nil, over(ctx)
		}
		if err != nil {
			return nil, err
		}
		err = s.usable()
		if err == nil {
			return s, nil
		}
		select {
		case <-s.resumed():
		case <-s.done:
		case <-patient.Done():
			if ctx.Err() != nil {
				return nil, over(ctx)
			}
			if held, ok := errors.AsType[*fault](err); ok {
				err = held.err.Err
			}
			err = fmt.Errorf("not resumed within %s: %w", c.o.Patience, err)
			s.end(err)
			return nil, &fault{err: &providers.Error{Provider: Name, Kind: providers.Transient, Err: err}}
		}
	}
}

// connect returns the connection. One caller at a time makes a new one; it tries
// until ctx ends.
func (c *Client) connect(ctx context.Context) (*session, error) {
	for {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, c.unreachable()
		}
		s, err := c.attempt(ctx)
		final := c.isFinal(err)
		if !final && err != nil && ctx.Err() != nil {
			final, err = true, c.unreachable()
		}
		<-c.turn
		if err == nil || final {
			return s, err
		}
	}
}

// attempt returns the connection that there is, or makes one. The caller has the
// turn.
func (c *Client) attempt(ctx context.Context) (*session, error) {
	if s := c.session; s != nil {
		err := s.cause()
		if err == nil {
			return s, nil
		}
		c.session = nil
		if s.wasProven() {
			c.failures = 0
		} else {
			c.failed(err)
		}
	}
	if c.rest != nil {
		select {
		case <-c.rest.C:
			c.rest = nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s, err := c.dial(ctx)
	switch {
	case err == nil:
	case ctx.Err() == nil:
		c.failed(err)
		return nil, err
	default:
		c.note(cmp.Or(c.noted(), err))
		return nil, err
	}
	c.session, c.known = s, true
	c.note(nil)
	return s, nil
}

// failed notes a connection that came to nothing: the next is tried after 1 s,
// 2 s, and so on up to a minute, and up to half of that more.
func (c *Client) failed(err error) {
	c.note(err)
	backoff := min(maxBackoff, minBackoff<<min(c.failures, 10))
	c.failures++
	c.rest = time.NewTimer(min(maxBackoff, backoff+rand.N(backoff/2)))
}

func (c *Client) dial(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, min(shakeTime, c.o.Deadline))
	defer cancel()
	conn, err := c.o.Dial(ctx, "tcp", c.o.Addr)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, conn, c.o.ClientID, c.o.Notice, &c.workers)
	if err != nil {
		return nil, err
	}
	s.settle(ctx)
	return s, s.cause()
}

// isFinal reports whether another connection would end with the same error. A
// client id in use is no final answer to a client that had it before: the
// gateway may not have noticed yet that its connection is gone.
func (c *Client) isFinal(err error) bool {
	known, ok := errors.AsType[*providers.Error](err)
	return ok && known.Kind != providers.Transient && !(known.Kind == providers.Rejected && c.known)
}

func (c *Client) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
}

func (c *Client) noted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastErr
}

// unreachable is the error of a caller whose patience is over.
func (c *Client) unreachable() error {
	err := c.noted()
	if known, ok := errors.AsType[*providers.Error](err); ok {
		return &fault{err: known}
	}
	if err == nil {
		err = errors.New("the connection is still being made")
	}
	return &fault{err: &providers.Error{Provider: Name, Kind: providers.Transient, Err: fmt.Errorf(
		"gateway at %s not reachable: %w; is TWS / IB Gateway running and is its API socket enabled?", c.o.Addr, hide(err))}}
}

var _ providers.SymbolBars = (*Client)(nil)

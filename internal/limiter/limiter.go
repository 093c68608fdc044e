package limiter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

const (
	// DefaultPatience is how long a caller waits for a Redis that cannot be
	// asked, unless [Options].Patience says otherwise.
	DefaultPatience = 30 * time.Second
	// DefaultHorizon is [Options].Horizon unless it is set.
	DefaultHorizon = 250 * time.Millisecond

	leastHorizon = time.Millisecond
)

// ErrUnavailable is returned when nobody can say whether a call may go. Then
// it may not.
var ErrUnavailable = errors.New("rate limit unknown, so no call may go")

// QuotaError says that a day, or an exact window of an hour or more, is spent.
type QuotaError struct {
	Name  string // of the window
	Limit int    // calls in the window
	// Reserve is what is kept from callers of this class, and so may still
	// be there for others; 0 if nothing is.
	Reserve int
	// Reset is when there are calls again: the start of the next day in the
	// window's zone, or the instant when the oldest call leaves the window.
	Reset time.Time
}

// Error names the window and when it opens again.
func (e *QuotaError) Error() string {
	kept := ""
	if e.Reserve > 0 {
		kept = fmt.Sprintf(" but for %d reserved for other jobs", e.Reserve)
	}
	return fmt.Sprintf("rate limit %s: the %d calls are spent%s, there are more at %s",
		e.Name, e.Limit, kept, e.Reset.Format(time.RFC3339))
}

// Class is the urgency of a call. Of two callers in one process the more urgent
// one goes first, except that every tenth time it lets the other go. A process
// that has only less urgent callers than the others still gets a tenth of the
// rate.
type Class int

// The classes, the most urgent first.
const (
	Scheduled Class = iota
	Manual
	Backfill

	classes = 3
)

// Request is what one call asks for. The zero Request is a Scheduled call that
// the provider counts once.
type Request struct {
	Class Class
	// Cost is how often the provider counts the call; 0 means 1.
	Cost int
}

// Options tune a Limiter. The zero value is safe.
type Options struct {
	// Used counts the calls made at or after since, from a durable record.
	// It is asked only when Redis has lost the level of a day or of an
	// exact window. Without it these count as full.
	Used func(ctx context.Context, since time.Time) (int, error)
	// Patience bounds the wait for a Redis that cannot be asked; 0 means
	// [DefaultPatience].
	Patience time.Duration
	// Horizon is how far ahead slots are taken; 0 means [DefaultHorizon].
	// Manual takes them 0.6, Backfill 0.2 of it ahead. A longer one shares a
	// fast limit more evenly between processes. All that may go wrong (a
	// killed process, a pause by another one) concerns the slots in it, and
	// a Redis that has lost its keys begins with this time.
	Horizon time.Duration
	// Replicas makes processes go on without Redis, each at 0.9/Replicas of
	// the rate and with at most Limit/Replicas whole calls a window, after
	// three failed requests; 0: nothing goes without Redis.
	// It must not be less than the number of processes. With a day or an
	// exact window it is refused: their calls can only be counted together.
	Replicas int
	// Trace keeps the newest slots, that many, in the list
	// rate_limit_ext:{first window}:trace: the microsecond on Redis' clock
	// from which each call was allowed.
	Trace int
	// Now is time.Now if nil. Its readings must carry a monotonic clock,
	// as those of time.Now do.
	Now func() time.Time

	clock string // Lua for Redis' clock
	keys  rediskey.LimiterKeys
}

func (o Options) filled(first window) Options {
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Horizon <= 0 {
		o.Horizon = DefaultHorizon
	}
	o.Horizon = max(o.Horizon, leastHorizon)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.clock == "" {
		o.clock = "call('TIME')"
	}
	o.keys = first.keys
	return o
}

// Level is the state of one window.
type Level struct {
	Name  string
	Limit int
	// Tokens is the number of calls that may start now; negative when
	// calls are promised ahead. It means something only if Known is set.
	Tokens float64
	// Known is false when Redis holds no usable level.
	Known bool
	// Reset is the start of the next day, zero for a sliding window.
	Reset time.Time
	// Share is the part of the rate that is in use, 0.1 to 1: less than 1
	// for some time after a pause.
	Share float64
}

// Limiter holds one provider's limits. It is safe for concurrent use. Most
// callers need Wait only.
type Limiter struct {
	rdb     redis.UniversalClient
	o       Options
	windows []window
	keys    []string
	scripts scripts
	// stale is how late a slot may still be used.
	stale time.Duration

	mu    sync.Mutex
	queue queue
	slots []slot // ascending
	lanes [2 * classes]lane
	// asking tells that a request is in flight, dispatching that a
	// goroutine looks after those who wait.
	asking, dispatching bool
	wake                chan struct{}
	paused              time.Time // end of the last pause by this process
	outage              outage
	local               *rate.Limiter // while Redis is away
	owed                int           // tokens used meanwhile
	unused              unused
	stats               Stats
}

// New returns a limiter for one provider, whose calls each take their cost
// from every window. The first window must be a bucket: sliding and not exact.
// rdb should be made from [ClientOptions]; a client that sends commands again
// by itself is refused, and so is a cluster. Nothing is asked of Redis yet.
func New(rdb redis.UniversalClient, o Options, windows ...Window) (*Limiter, error) {
	if err := check(rdb); err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	made, err := newWindows(windows)
	if err != nil {
		return nil, err
	}
	if o.Replicas > 0 && slices.ContainsFunc(made, func(w window) bool { return w.Daily != nil || w.Exact }) {
		return nil, fmt.Errorf("rate limit %s: without Redis nobody can count a day or an exact window: leave Replicas at 0", made[0].Name)
	}
	if o.Replicas > made[0].Limit {
		return nil, fmt.Errorf("rate limit %s: %d replicas cannot share %d calls without Redis: leave Replicas at 0", made[0].Name, o.Replicas, made[0].Limit)
	}
	o = o.filled(made[0])
	l := &Limiter{
		rdb: rdb, o: o, windows: made, scripts: newScripts(made, o),
		keys: keysOf(made), stale: stale(made), wake: make(chan struct{}, 1),
	}
	return l, nil
}

func keysOf(windows []window) []string {
	var keys []string
	for _, w := range windows {
		keys = append(keys, w.keys.Tokens, w.keys.LastRefill)
	}
	return keys
}

// stale leaves most of the margin to the network. Without a margin it leaves
// the time that a busy process needs to come round.
func stale(windows []window) time.Duration {
	least := time.Second
	for _, w := range windows {
		if w.Daily == nil {
			least = min(least, max(w.Margin, leastMargin/2)/4)
		}
	}
	return least
}

// Wait is WaitFor with the zero Request: it returns nil when one call may go.
func (l *Limiter) Wait(ctx context.Context) error { return l.WaitFor(ctx, Request{}) }

// WaitFor returns nil when the call may go, which it must do at once. It
// returns a [*QuotaError] when a day is spent, an error that wraps
// [ErrUnavailable] when Redis or the ledger could not be asked for as long as
// the patience lasts, and one that wraps ctx.Err() when ctx ended, or earlier
// [context.DeadlineExceeded] when ctx will end before the call may go. A
// request that no wait can ever satisfy is refused at once. After an error the
// call must not be made.
func (l *Limiter) WaitFor(ctx context.Context, r Request) error {
	if err := l.waitFor(ctx, r); err != nil {
		if _, spent := errors.AsType[*QuotaError](err); spent {
			return err
		}
		return fmt.Errorf("rate limit %s: %w", l.windows[0].Name, err)
	}
	return nil
}

func (l *Limiter) waitFor(ctx context.Context, r Request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.possible(&r); err != nil {
		return err
	}
	w := &waiter{Request: r, entered: l.o.Now(), done: make(chan error, 1)}
	w.deadline, _ = ctx.Deadline()
	l.enter(w) //nolint:contextcheck // what is asked is for all callers, and outlives this one
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		l.leave(w) //nolint:contextcheck // as above
		return ctx.Err()
	}
}

// possible fills in the cost of a request and refuses one that can never be
// met.
func (l *Limiter) possible(r *Request) error {
	if r.Class < Scheduled || r.Class > Backfill {
		return fmt.Errorf("class %d: want Scheduled, Manual or Backfill", r.Class)
	}
	if r.Cost == 0 {
		r.Cost = 1
	}
	for _, w := range l.windows {
		if most := w.mostCost(r.Class); r.Cost < 1 || r.Cost > most {
			return fmt.Errorf("a call of cost %d can never go: the window %s gives out 1 to %d at once (its Burst, or its limit without the reserve)",
				r.Cost, w.Name, most)
		}
	}
	return nil
}

// Pause holds back all calls of all processes for d, at most 15 minutes: the
// provider asked for it. Of overlapping pauses the later end counts. The slots
// of this process in that time are given up; of another process those still go
// that it took before, all within its horizon. From the end of the pause on,
// the rate is 0.7 of what it was and goes up by 2 % of the configured rate a
// minute; pauses that overlap turn it down once. If Redis cannot be told, this
// process pauses all the same.
func (l *Limiter) Pause(ctx context.Context, d time.Duration) error {
	d = min(max(d, 0), maxPause)
	l.mu.Lock()
	l.stats.Pauses++
	if end := l.o.Now().Add(d); end.After(l.paused) {
		l.paused = end
		l.dropSlots(end)
	}
	l.mu.Unlock()
	l.signal()
	return l.tell(ctx, "pause", l.scripts.pause, l.windows[:1], d.Seconds())
}

// Exhaust closes the day windows until their next reset, whatever they held:
// the provider said that the day is spent. It is an error if there are none.
func (l *Limiter) Exhaust(ctx context.Context) error {
	days := daysOf(l.windows)
	if len(days) == 0 {
		return fmt.Errorf("rate limit %s: exhaust: it has no day window, pause it instead", l.windows[0].Name)
	}
	return l.tell(ctx, "exhaust", l.scripts.exhaust, days)
}

// Levels reads the state of all windows, in the order given to New. It changes
// nothing, and it asks Redis once.
func (l *Limiter) Levels(ctx context.Context) ([]Level, error) {
	got, err := l.run(ctx, l.scripts.levels, l.windows, nil).Slice()
	if err == nil && len(got) != len(l.windows)+1 {
		err = fmt.Errorf("redis answered %v to the limiter's script", got)
	}
	if err != nil {
		return nil, fmt.Errorf("rate limit %s: %w: %w", l.windows[0].Name, ErrUnavailable, plain(err))
	}
	text, _ := got[len(l.windows)].(string)
	share, _ := strconv.ParseFloat(text, 64)
	levels := make([]Level, len(l.windows))
	for i, w := range l.windows {
		levels[i] = w.level(got[i])
		levels[i].Share = share
	}
	return levels, nil
}

func (w window) level(got any) Level {
	level := Level{Name: w.Name, Limit: w.Limit}
	pair, ok := got.([]any)
	if !ok || len(pair) != 2 {
		return level
	}
	text, _ := pair[0].(string)
	reset, _ := pair[1].(int64)
	tokens, err := strconv.ParseFloat(text, 64)
	level.Tokens, level.Known = tokens, err == nil
	if w.Daily != nil {
		level.Reset = time.Unix(reset, 0).In(w.Daily)
	}
	return level
}

// Rate returns the calls per second that the sliding windows let through in
// the long run. Days are not part of it.
func (l *Limiter) Rate() float64 {
	slowest := math.Inf(1)
	for _, w := range l.windows {
		if w.Daily == nil {
			slowest = min(slowest, w.rate)
		}
	}
	return slowest
}

// Slack is how late a call may reach the provider after Wait has returned
// without any window being exceeded: what the smallest margin leaves when the
// slot was used as late as it may be and Redis' reply was as late as it may be.
// Of a margin below 0.7 s, which cannot cover all three, it is a quarter.
func (l *Limiter) Slack() time.Duration {
	least := time.Duration(math.MaxInt64)
	for _, w := range l.windows {
		if w.Daily == nil {
			least = min(least, w.Margin)
		}
	}
	return max(least/4, least-l.stale-ioTimeout)
}

package limiter

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultPatience is how long [Limiter.Wait] waits for a Redis that cannot be
// asked, unless [Options].Patience says otherwise.
const DefaultPatience = 30 * time.Second

// Pauses between two tries to reach Redis are random, up to a bound that
// doubles from firstBackoff to lastBackoff.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = time.Second
)

// ErrUnavailable is returned when nobody can say whether a call may go. Then
// it may not.
var ErrUnavailable = errors.New("rate limit unknown, so no call may go")

// QuotaError says that a day is spent.
type QuotaError struct {
	Name  string    // of the window
	Limit int       // calls a day
	Reset time.Time // the start of the next day, in the window's zone
}

// Error names the window and when it opens again.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("rate limit %s: the %d calls of the day are spent, the next day starts at %s",
		e.Name, e.Limit, e.Reset.Format(time.RFC3339))
}

// Options tune a Limiter. The zero value is safe.
type Options struct {
	// Used counts the calls made at or after since, from a durable record.
	// It is asked only when Redis has lost the level of a day. Without it
	// such a day is closed until the next one.
	Used func(ctx context.Context, since time.Time) (int, error)
	// Patience bounds the wait for a Redis that cannot be asked; 0 means
	// [DefaultPatience].
	Patience time.Duration
	// Now is time.Now if nil. Its readings must carry a monotonic clock,
	// as those of time.Now do.
	Now func() time.Time
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
}

// Limiter holds one provider's limits. It is safe for concurrent use. Most
// callers need Wait only.
type Limiter struct {
	rdb     redis.UniversalClient
	o       Options
	windows []window
	horizon float64
	scripts scripts

	// turn is held by the one caller that may own a slot. A channel lets
	// its waiters in by the order in which they came.
	turn chan struct{}

	mu     sync.Mutex
	paused time.Time // end of the last pause by this process
	down   time.Time // first failure since Redis last answered; zero: it did
}

type scripts struct{ take, pause, exhaust, levels *redis.Script }

//go:embed *.lua
var sources embed.FS

// New returns a limiter for one provider, whose calls each take one from every
// window. The first window must be a sliding one. rdb should be made from
// [ClientOptions]; a client that sends commands again by itself is refused, and
// so is a cluster. Nothing is asked of Redis yet.
func New(rdb redis.UniversalClient, o Options, windows ...Window) (*Limiter, error) {
	if err := check(rdb); err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	made, err := newWindows(windows)
	if err != nil {
		return nil, err
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Limiter{
		rdb: rdb, o: o, windows: made, horizon: horizon(made),
		scripts: scripts{script("take"), script("pause"), script("exhaust"), script("levels")},
		turn:    make(chan struct{}, 1),
	}, nil
}

func script(name string) *redis.Script { return redis.NewScript(source("state") + source(name)) }

func source(name string) string {
	text, err := sources.ReadFile(name + ".lua")
	if err != nil {
		panic(err) // the file is part of the program
	}
	return string(text)
}

// Wait returns nil when one call may go, which it must do at once. It returns
// a [*QuotaError] when a day is spent, an error that wraps [ErrUnavailable]
// when Redis or the ledger could not be asked for as long as the patience
// lasts, and one that wraps ctx.Err() when ctx ended, or at once
// [context.DeadlineExceeded] when ctx would end before the call may go. After
// an error the call must not be made.
func (l *Limiter) Wait(ctx context.Context) error {
	if err := l.wait(ctx); err != nil {
		var spent *QuotaError
		if errors.As(err, &spent) {
			return err
		}
		return fmt.Errorf("rate limit %s: %w", l.windows[0].Name, err)
	}
	return nil
}

func (l *Limiter) wait(ctx context.Context) error {
	entered := l.o.Now()
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		if err := l.sleepUntil(ctx, l.pausedUntil()); err != nil {
			return err
		}
		slot, err := l.slot(ctx, entered)
		if err != nil {
			return err
		}
		if err := l.sleepUntil(ctx, slot); err != nil {
			return err
		}
		// A pause that came meanwhile takes the slot away.
		if !slot.Before(l.pausedUntil()) {
			return nil
		}
	}
}

// slot books a call and returns when it may start.
func (l *Limiter) slot(ctx context.Context, entered time.Time) (time.Time, error) {
	counts := make([]count, len(l.windows))
	for {
		var r reply
		err := l.persist(ctx, entered, func() (err error) {
			r, err = l.take(ctx, counts)
			return err
		})
		if err != nil {
			return time.Time{}, err
		}
		switch r.status {
		case taken:
			return r.start(), nil
		case spent:
			w := l.windows[r.window]
			return time.Time{}, &QuotaError{w.Name, w.Limit, time.Unix(r.reset, 0).In(w.Daily)}
		case unknown:
			err = l.persist(ctx, entered, func() (err error) {
				counts[r.window], err = l.used(ctx, l.windows[r.window], r.reset)
				return err
			})
		case tooLate:
			err = late(r.delay)
		case nextDay:
			err = l.sleepUntil(ctx, r.start())
		}
		if err != nil {
			return time.Time{}, err
		}
	}
}

// Statuses that take.lua returns.
const (
	taken = iota
	spent
	unknown
	tooLate
	nextDay
)

// reply is what take.lua returned.
type reply struct {
	status  int64
	window  int   // of spent and unknown
	reset   int64 // of spent and unknown, in Unix seconds
	delay   time.Duration
	arrived time.Time
}

func (r reply) start() time.Time { return r.arrived.Add(max(0, r.delay)) }

func (l *Limiter) take(ctx context.Context, counts []count) (reply, error) {
	now, longest := l.o.Now(), int64(-1)
	if deadline, ok := ctx.Deadline(); ok {
		longest = max(0, deadline.Sub(now).Microseconds())
	}
	got, err := l.run(ctx, l.scripts.take, longest, now, l.windows, counts).Int64Slice()
	if err != nil {
		return reply{}, err
	}
	return l.parse(got)
}

func (l *Limiter) parse(got []int64) (reply, error) {
	r := reply{arrived: l.o.Now()}
	switch {
	case len(got) == 2 && (got[0] == taken || got[0] == tooLate || got[0] == nextDay):
		r.status, r.delay = got[0], time.Duration(got[1])*time.Microsecond
	case len(got) == 3 && (got[0] == spent || got[0] == unknown) && 1 <= got[1] && got[1] <= int64(len(l.windows)):
		r.status, r.window, r.reset = got[0], int(got[1]-1), got[2]
	default:
		return reply{}, fmt.Errorf("redis answered %v to the limiter's script", got)
	}
	return r, nil
}

func (l *Limiter) run(ctx context.Context, s *redis.Script, arg any, now time.Time, windows []window, counts []count) *redis.Cmd {
	keys, args := []string{}, []any{arg, l.horizon}
	for i, w := range windows {
		c := count{}
		if counts != nil {
			c = counts[i]
		}
		keys = append(keys, w.keys.Tokens, w.keys.LastRefill)
		args = append(args, w.arguments(now, c)...)
	}
	return s.Run(ctx, l.rdb, keys, args...)
}

// Pause holds back all calls of all processes for d, at most 15 minutes: the
// provider asked for it. Of overlapping pauses the later end counts. A slot
// that this process waits for is given up if it lies within the pause; of
// another process at most the one that it waits for still goes. If Redis
// cannot be told, this process pauses all the same.
func (l *Limiter) Pause(ctx context.Context, d time.Duration) error {
	now := l.o.Now()
	d = min(max(d, 0), maxPause)
	l.mu.Lock()
	if end := now.Add(d); end.After(l.paused) {
		l.paused = end
	}
	l.mu.Unlock()
	return l.tell(ctx, "pause", l.scripts.pause, d.Seconds(), l.windows[:1])
}

// Exhaust closes the day windows until their next reset, whatever they held:
// the provider said that the day is spent. It is an error if there are none.
func (l *Limiter) Exhaust(ctx context.Context) error {
	var days []window
	for _, w := range l.windows {
		if w.Daily != nil {
			days = append(days, w)
		}
	}
	if len(days) == 0 {
		return fmt.Errorf("rate limit %s: exhaust: it has no day window, pause it instead", l.windows[0].Name)
	}
	return l.tell(ctx, "exhaust", l.scripts.exhaust, 0, days)
}

func (l *Limiter) tell(ctx context.Context, what string, s *redis.Script, arg any, windows []window) error {
	now := l.o.Now()
	err := l.persist(ctx, now, func() error { return l.run(ctx, s, arg, now, windows, nil).Err() })
	if err != nil {
		return fmt.Errorf("rate limit %s: %s: %w", l.windows[0].Name, what, err)
	}
	return nil
}

// Levels reads the state of all windows, in the order given to New. It changes
// nothing, and it asks Redis once.
func (l *Limiter) Levels(ctx context.Context) ([]Level, error) {
	got, err := l.run(ctx, l.scripts.levels, 0, l.o.Now(), l.windows, nil).Slice()
	if err == nil && len(got) != len(l.windows) {
		err = fmt.Errorf("redis answered %v to the limiter's script", got)
	}
	if err != nil {
		return nil, fmt.Errorf("rate limit %s: %w: %w", l.windows[0].Name, ErrUnavailable, plain(err))
	}
	levels := make([]Level, len(got))
	for i, w := range l.windows {
		levels[i] = w.level(got[i])
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

// persist calls do until it succeeds, ctx ends or the patience of a caller that
// entered at that time is over. It counts from the failure that began the
// outage if the caller entered before: callers that queued while Redis was
// there are patient too, and those who queued all through an outage do not
// each start to wait anew.
func (l *Limiter) persist(ctx context.Context, entered time.Time, do func() error) error {
	for bound := firstBackoff; ; bound = min(2*bound, lastBackoff) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := do()
		began := l.outage(err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", ctx.Err(), plain(err))
		}
		if began.Before(entered) {
			began = entered
		}
		if isCluster(err) || l.o.Now().Sub(began) >= l.o.Patience {
			return fmt.Errorf("%w: %w", ErrUnavailable, plain(err))
		}
		if ended := sleep(ctx, rand.N(bound)); ended != nil {
			return fmt.Errorf("%w (%w)", ended, plain(err))
		}
	}
}

// outage notes how a request ended and returns when the current outage began.
func (l *Limiter) outage(err error) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.down = time.Time{}
	} else if l.down.IsZero() {
		l.down = l.o.Now()
	}
	return l.down
}

// plain says what to do about an error of Redis where its own words do not.
func plain(err error) error {
	if isCluster(err) {
		return errCluster
	}
	return err
}

func (l *Limiter) pausedUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused
}

// sleepUntil sleeps until t. If ctx will have ended by then it does not sleep.
func (l *Limiter) sleepUntil(ctx context.Context, t time.Time) error {
	d := t.Sub(l.o.Now())
	if deadline, ok := ctx.Deadline(); ok && d > 0 && deadline.Before(t) {
		return late(d)
	}
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func late(d time.Duration) error {
	return fmt.Errorf("the call may go in %s, after its deadline: %w", d.Round(time.Millisecond), context.DeadlineExceeded)
}

package limiter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// Statuses that take.lua returns.
const (
	taken = iota
	spent
	unknown
	notYet
)

// answer is what a question came to.
type answer struct {
	status    int64
	delays    []time.Duration // of taken, ascending
	ask, next time.Duration   // when to ask again; when something may be granted
	window    int             // of spent and unknown
	reset     int64           // of spent and unknown, in Unix seconds
	lost      int64

	began, arrived time.Time
	err            error
}

// ledgerRounds is how often in a row one question may send us to the ledger:
// for each window once, and for days that begin meanwhile.
const ledgerRounds = 8

// ask puts a question to Redis, and to the ledger where Redis has lost a level.
func (l *Limiter) ask(q question) answer {
	began := l.o.Now()
	counts := make([]count, len(l.windows))
	for round := range ledgerRounds {
		a := l.take(q, counts)
		a.began = began
		if a.err != nil || a.status != unknown || q.quick {
			return a
		}
		if round == 0 {
			_ = sleep(context.Background(), l.settle())
		}
		ctx, cancel := context.WithTimeout(context.Background(), l.o.Patience)
		c, err := l.used(ctx, l.windows[a.window], a.reset)
		cancel()
		if err != nil {
			return answer{began: began, arrived: l.o.Now(), err: err}
		}
		counts[a.window] = c
	}
	return answer{began: began, arrived: l.o.Now(), err: errors.New("the clocks of Redis and of this process do not agree on the day")}
}

// settle is how long after a loss the ledger may not yet know the calls whose
// slots were out: the last of them starts within the horizon, and is written
// down before it reaches the provider.
func (l *Limiter) settle() time.Duration { return l.o.Horizon + l.stale + l.Slack() }

func (l *Limiter) take(q question, counts []count) answer {
	sent := l.o.Now()
	got, err := l.run(context.Background(), l.scripts.take, l.windows, counts, l.takeArguments(q)...).Result()
	a := answer{arrived: l.o.Now(), err: err}
	if late := a.arrived.Sub(sent); err == nil && late > lateReply {
		a.err = fmt.Errorf("the reply took %s: its slots are too old to be used", late.Round(time.Millisecond))
		return a
	}
	if err == nil {
		a.parse(got, q.n, len(l.windows))
	}
	return a
}

// takeArguments leaves out what take.lua takes for granted.
func (l *Limiter) takeArguments(q question) []any {
	if q.n == 1 && q.cost == 1 && q.lane == int(Scheduled) && q.owed == 0 && len(l.windows) == 1 {
		return nil
	}
	line, reserved := q.lane, 0
	if line >= classes {
		line = int(Scheduled)
	}
	if q.class == Backfill {
		reserved = 1
	}
	return []any{q.n, q.cost, l.o.Horizon.Seconds() * horizons()[line], reserved, line, q.owed}
}

// parse reads the script's reply; see take.lua.
func (a *answer) parse(got any, n, windows int) {
	if all, ok := got.(int64); ok && all == int64(n) {
		a.delays = make([]time.Duration, n)
		return
	}
	list, _ := got.([]any)
	numbers := make([]int64, len(list))
	for i, v := range list {
		x, ok := v.(int64)
		if !ok {
			numbers = nil
			break
		}
		numbers[i] = x
	}
	if !a.read(numbers, n, windows) {
		a.err = fmt.Errorf("redis answered %v to the limiter's script", got)
	}
}

func (a *answer) read(r []int64, n, windows int) bool {
	if len(r) < 3 {
		return false
	}
	a.status = r[0]
	switch {
	case a.status == taken && 4 <= len(r) && len(r) <= 3+n:
		a.ask, a.lost = micros(r[1]), r[2]
		for _, d := range r[3:] {
			a.delays = append(a.delays, micros(d))
		}
	case (a.status == spent || a.status == unknown) && len(r) == 3 && 1 <= r[1] && r[1] <= int64(windows):
		a.window, a.reset = int(r[1]-1), r[2]
	case a.status == notYet && len(r) == 4:
		a.ask, a.lost, a.next = micros(r[1]), r[2], micros(r[3])
	default:
		return false
	}
	return true
}

func micros(n int64) time.Duration { return max(0, time.Duration(n)*time.Microsecond) }

// run runs a script for some windows.
func (l *Limiter) run(ctx context.Context, s *redis.Script, windows []window, counts []count, own ...any) *redis.Cmd {
	l.roundTrip()
	keys, args := l.keys, own
	if len(windows) != len(l.windows) {
		keys = keysOf(windows)
	}
	for i, w := range windows {
		c := count{}
		if counts != nil {
			c = counts[i]
		}
		args = append(args, w.arguments(l.o.Now(), c)...)
	}
	return s.Run(ctx, l.rdb, keys, args...)
}

// outage is the time since Redis, or the ledger when it was needed, last
// answered.
type outage struct {
	since    time.Time // the request that failed first began; zero: no outage
	failures int
	err      error
	retryAt  time.Time
	bound    time.Duration
}

// Pauses between two tries to reach Redis are random, up to a bound that
// doubles from firstBackoff to lastBackoff.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = time.Second
)

// failed notes a request that failed. Whatever it took in Redis is spent.
func (l *Limiter) failed(a answer) {
	o := &l.outage
	if o.since.IsZero() {
		o.since, o.bound = a.began, firstBackoff
	}
	o.failures++
	o.err = plain(a.err)
	o.retryAt = a.arrived.Add(rand.N(o.bound))
	o.bound = min(2*o.bound, lastBackoff)
	if isCluster(a.err) {
		l.stats.Unavailable += l.queue.fail(func(*waiter) error { return l.unavailable() })
		return
	}
	l.goLocal()
	l.giveUp(a.arrived)
}

func (l *Limiter) unavailable() error { return fmt.Errorf("%w: %w", ErrUnavailable, l.outage.err) }

// giveUp answers those whose patience is over. It counts from the request that
// began the outage if the caller came before: callers that queued while Redis
// was there are patient too.
func (l *Limiter) giveUp(now time.Time) {
	if l.outage.since.IsZero() || l.isLocal() {
		return
	}
	l.stats.Unavailable += l.queue.fail(func(w *waiter) error {
		if now.Before(l.patience(w)) {
			return nil
		}
		return l.unavailable()
	})
}

func (l *Limiter) patience(w *waiter) time.Time {
	return later(w.entered, l.outage.since).Add(l.o.Patience)
}

// lastPatience returns when the next caller gives up, zero if none does.
func (l *Limiter) lastPatience() (at time.Time) {
	if l.outage.since.IsZero() || l.isLocal() {
		return at
	}
	for _, ws := range l.queue.waiting {
		if len(ws) > 0 && (at.IsZero() || l.patience(ws[0]).Before(at)) {
			at = l.patience(ws[0])
		}
	}
	return at
}

// recovered notes an answer, which has taken in what was owed.
func (l *Limiter) recovered(q question) {
	l.outage = outage{}
	l.owed -= q.settles
	if l.isLocal() {
		l.local = nil
		l.owed -= l.booked() // Redis has others
		l.slots = nil
		l.forgetTimes()
	}
}

// tell runs a script that reports something, again and again until Redis
// answers or the patience is over.
func (l *Limiter) tell(ctx context.Context, what string, s *redis.Script, windows []window, own ...any) error {
	began := l.o.Now()
	for bound := firstBackoff; ; bound = min(2*bound, lastBackoff) {
		err := ctx.Err()
		if err == nil {
			err = l.run(ctx, s, windows, nil, own...).Err()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("rate limit %s: %s: %w (%w)", l.windows[0].Name, what, ctx.Err(), plain(err))
		case isCluster(err) || l.o.Now().Sub(began) >= l.o.Patience:
			return fmt.Errorf("rate limit %s: %s: %w: %w", l.windows[0].Name, what, ErrUnavailable, plain(err))
		}
		if ended := sleep(ctx, rand.N(bound)); ended != nil {
			return fmt.Errorf("rate limit %s: %s: %w (%w)", l.windows[0].Name, what, ended, plain(err))
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// plain says what to do about an error of Redis where its own words do not.
func plain(err error) error {
	if isCluster(err) {
		return ErrCluster
	}
	return err
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/throttled/throttled/v2"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// What a worker process can wait with.
const (
	peerOurs      = "limiter"
	peerRedisRate = "redis_rate"
	peerThrottled = "throttled"
)

// margin is what the limiter leaves free beside windows that are not long.
const margin = 200 * time.Millisecond

// quota is what may pass: a bucket of Burst tokens that gets Limit-Burst+1 of
// them in a Length and the margin.
type quota struct {
	Limit, Burst int
	Length       time.Duration
}

func (q quota) rate() float64 { return float64(q.Limit-q.Burst+1) / (q.Length + margin).Seconds() }

func (q quota) window(name string) limiter.Window {
	return limiter.Window{Name: name, Limit: q.Limit, Length: q.Length, Burst: q.Burst, Margin: margin}
}

// task is what one worker process does; it reads it from its standard input.
type task struct {
	Peer, URL, Name string
	Quota           quota
	Horizon         time.Duration
	Trace           int
	// Waiters call in a closed loop, as backfill or as ordinary work.
	Waiters  int
	Backfill bool
	// Cancelled is the share of calls that are given up, at any moment within
	// CancelWithin.
	Cancelled    float64
	CancelWithin time.Duration
	// Daily is the pause between two calls of the daily job; 0: it has none.
	Daily time.Duration
	// Pauses are when, after the start, this process is told to hold back for
	// PauseFor.
	Pauses   []time.Duration
	PauseFor time.Duration
	// Warm is left out of the measurement, which ends at Run after the start.
	Warm, Run time.Duration
}

// Kinds of events.
const (
	evReady  = "ready" // waits for the start
	evStart  = "start" // a waiter's call may go
	evDaily  = "daily" // a call of the daily job may go
	evPause  = "pause" // from Entered to At this process was busy pausing
	evEnd    = "end"   // the last one, with what was counted
	evFailed = "failed"
)

// event is what a worker process tells, one JSON document to a line. Times are
// Unix microseconds, of one clock for all processes of the machine.
type event struct {
	Kind    string `json:"kind"`
	Waiter  int    `json:"waiter,omitempty"`
	Entered int64  `json:"entered,omitempty"`
	At      int64  `json:"at,omitempty"`
	// Cut marks a call that was still waiting at the end.
	Cut bool `json:"cut,omitempty"`
	// Trips are the times of the exchanges with Redis, Late is how much a
	// timer overslept at worst while it was measured, in microseconds.
	Trips []int64 `json:"trips,omitempty"`
	Late  int64   `json:"late,omitempty"`
	Error string  `json:"error,omitempty"`
}

// worker is one of the processes that share a limit.
type worker struct {
	task
	now   func() time.Time
	tell  func(event)
	ask   func(ctx context.Context, r limiter.Request) error
	hold  func(ctx context.Context, d time.Duration) error
	start time.Time
	late  atomic.Int64

	mu    sync.Mutex
	trips []int64
}

// work is the whole life of a worker process: it reads its task and says that
// it is ready, reads when to start, and tells what happens until the end, or
// until its input ends because nobody is there any more.
func work(ctx context.Context, now func() time.Time, in io.Reader, out io.Writer) error {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	var mu sync.Mutex
	w := &worker{now: now, tell: func(e event) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(e) // without a reader it ends soon
	}}
	if err := decoder.Decode(&w.task); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	shut, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer shut()
	w.tell(event{Kind: evReady})
	if err := decoder.Decode(&w.start); err != nil {
		return fmt.Errorf("read the start: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	w.run(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(event{Kind: evEnd, Trips: w.trips, Late: w.late.Load()})
	return nil
}

// open connects to Redis and makes ask and hold.
func (w *worker) open(ctx context.Context) (func(), error) {
	hook := tap{func(...redis.Cmder) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.trips = append(w.trips, w.now().UnixMicro())
	}}
	if w.Peer == peerOurs {
		l, rdb, err := newLimiter(w.URL, limiter.Options{Horizon: w.Horizon, Trace: w.Trace}, hook, w.Quota.window(w.Name))
		if err != nil {
			return nil, err
		}
		w.ask, w.hold = l.WaitFor, l.Pause
		return func() { _ = rdb.Close() }, rdb.Ping(ctx).Err()
	}
	o, err := redis.ParseURL(w.URL)
	if err != nil {
		return nil, fmt.Errorf("redis client: %w", err)
	}
	rdb := redis.NewClient(o)
	rdb.AddHook(hook)
	w.hold = func(context.Context, time.Duration) error { return errors.New("only the limiter can pause") }
	w.ask, err = w.poll(rdb)
	return func() { _ = rdb.Close() }, errors.Join(err, rdb.Ping(ctx).Err())
}

// poll returns how one waits with a peer: it asks again whenever the peer said
// that it would be worth it.
func (w *worker) poll(rdb *redis.Client) (func(context.Context, limiter.Request) error, error) {
	var try func(ctx context.Context) (ok bool, retry time.Duration, err error)
	perSecond := int(math.Round(w.Quota.rate())) // the scenarios of the peers have whole ones
	switch w.Peer {
	case peerRedisRate:
		rates := redis_rate.NewLimiter(rdb)
		limit := redis_rate.Limit{Rate: perSecond, Burst: w.Quota.Burst, Period: time.Second}
		try = func(ctx context.Context) (bool, time.Duration, error) {
			r, err := rates.Allow(ctx, w.Name, limit)
			if err != nil {
				return false, 0, err
			}
			return r.Allowed > 0, r.RetryAfter, nil
		}
	case peerThrottled:
		l, err := newThrottled(rdb, throttled.RateQuota{MaxRate: throttled.PerSec(perSecond), MaxBurst: w.Quota.Burst - 1})
		if err != nil {
			return nil, err
		}
		try = func(ctx context.Context) (bool, time.Duration, error) {
			limited, r, err := l.RateLimitCtx(ctx, w.Name, 1)
			return !limited, r.RetryAfter, err
		}
	default:
		return nil, fmt.Errorf("peer %q: want %s, %s or %s", w.Peer, peerOurs, peerRedisRate, peerThrottled)
	}
	return func(ctx context.Context, _ limiter.Request) error {
		for {
			ok, retry, err := try(ctx)
			if err != nil || ok {
				return err
			}
			if err := sleep(ctx, retry); err != nil {
				return err
			}
		}
	}, nil
}

// run does the task until its end.
func (w *worker) run(ctx context.Context) {
	if sleep(ctx, w.start.Sub(w.now())) != nil {
		return
	}
	// No deadline: the limiter would see the end coming and refuse calls.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.AfterFunc(w.start.Add(w.Run).Sub(w.now()), cancel)
	defer end.Stop()
	var group sync.WaitGroup
	group.Go(func() { w.oversleep(ctx) })
	group.Go(func() { w.daily(ctx) })
	group.Go(func() { w.pauses(ctx) })
	for i := range w.Waiters {
		group.Go(func() { w.waiter(ctx, i) })
	}
	group.Wait()
}

// waiter calls, and calls again as soon as it may, until ctx ends.
func (w *worker) waiter(ctx context.Context, number int) {
	request := limiter.Request{Class: limiter.Scheduled}
	if w.Backfill {
		request.Class = limiter.Backfill
	}
	for ctx.Err() == nil {
		entered := w.now()
		err := w.once(ctx, request)
		at := w.now()
		e := event{Kind: evStart, Waiter: number, Entered: entered.UnixMicro(), At: at.UnixMicro()}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			e.Cut = true
		case errors.Is(err, context.Canceled):
			continue
		default:
			e.Kind, e.Error = evFailed, err.Error()
		}
		w.tell(e)
		if e.Kind == evFailed {
			return
		}
	}
}

// once makes one call, which may be given up at a moment that nobody can see
// coming.
func (w *worker) once(ctx context.Context, request limiter.Request) error {
	if rand.Float64() >= w.Cancelled {
		return w.ask(ctx, request)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(rand.N(w.CancelWithin), cancel)
	defer timer.Stop()
	return w.ask(ctx, request)
}

// daily makes the calls of the daily job, one every w.Daily, whether or not
// the ones before have come back.
func (w *worker) daily(ctx context.Context) {
	if w.Daily <= 0 {
		return
	}
	var group sync.WaitGroup
	defer group.Wait()
	for n := 1; ; n++ {
		due := w.start.Add(time.Duration(n) * w.Daily)
		if sleep(ctx, due.Sub(w.now())) != nil {
			return
		}
		group.Go(func() {
			entered := w.now()
			err := w.ask(ctx, limiter.Request{Class: limiter.Scheduled})
			e := event{Kind: evDaily, Entered: entered.UnixMicro(), At: w.now().UnixMicro()}
			if err != nil && ctx.Err() == nil {
				e.Kind, e.Error = evFailed, err.Error()
			}
			e.Cut = err != nil
			w.tell(e)
		})
	}
}

// pauses holds this process and its siblings back at the given times.
func (w *worker) pauses(ctx context.Context) {
	for _, offset := range w.Pauses {
		if sleep(ctx, w.start.Add(offset).Sub(w.now())) != nil {
			return
		}
		e := event{Kind: evPause, Entered: w.now().UnixMicro()}
		if err := w.hold(ctx, w.PauseFor); err != nil {
			e.Kind, e.Error = evFailed, err.Error()
		}
		e.At = w.now().UnixMicro()
		w.tell(e)
	}
}

// oversleep notes by how much a timer of this process overslept at worst, which
// is what the machine does to every start.
func (w *worker) oversleep(ctx context.Context) {
	const step = 2 * time.Millisecond
	for {
		due := w.now().Add(step)
		if sleep(ctx, step) != nil {
			return
		}
		if woke := w.now(); woke.Sub(w.start) >= w.Warm {
			w.late.Store(max(w.late.Load(), woke.Sub(due).Microseconds()))
		}
	}
}

package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// asked is one request for slots, as the limiter sent it.
type asked struct {
	script  string
	call    int // of this script, from 1
	at      time.Time
	n, cost int
	horizon float64
	line    int
	owed    int
	args    []any
}

// scriptedRedis is one process's view of a Redis whose answers to the
// limiter's scripts the test decides.
type scriptedRedis struct {
	redis.UniversalClient

	answer func(asked) (any, error)
	name   func(hash string) string

	mu            sync.Mutex
	all           []asked
	calls         map[string]int
	flying, worst int
}

func (s *scriptedRedis) EvalSha(_ context.Context, hash string, _ []string, args ...any) *redis.Cmd {
	a := s.note(s.name(hash), args)
	value, err := s.answer(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying--
	return redis.NewCmdResult(value, err)
}

func (s *scriptedRedis) note(script string, args []any) asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying++
	s.worst = max(s.worst, s.flying)
	a := asked{script: script, at: time.Now(), n: 1, cost: 1, horizon: limiter.DefaultHorizon.Seconds(), args: args}
	if script == "take" && len(args) >= 6 {
		a.n, a.cost, a.horizon = args[0].(int), args[1].(int), args[2].(float64)
		a.line, a.owed = args[4].(int), args[5].(int)
	}
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[script]++
	a.call = s.calls[script]
	s.all = append(s.all, a)
	return a
}

// takes returns the requests for slots so far.
func (s *scriptedRedis) takes() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(a asked) bool { return a.script != "take" })
}

// newScripted returns a limiter on a Redis that answers so. Reports (a pause, a
// refund) are always taken in.
func newScripted(t *testing.T, o limiter.Options, answer func(asked) (any, error), windows ...limiter.Window) (*limiter.Limiter, *scriptedRedis) {
	t.Helper()
	s := &scriptedRedis{answer: func(a asked) (any, error) {
		if a.script != "take" {
			return int64(0), nil
		}
		return answer(a)
	}}
	if len(windows) == 0 {
		windows = []limiter.Window{perSecond(20)}
	}
	l := newLimiter(t, s, o, windows...)
	s.name = l.ScriptName
	wantItsEnd(t, l)
	return l, s
}

// wantItsEnd waits at the end of a synctest until the limiter has nothing left
// to do, when no goroutine of it may be left.
func wantItsEnd(t *testing.T, l *limiter.Limiter) {
	t.Helper()
	t.Cleanup(func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := l.Stats(); st.Waiting > 0 || l.Dispatching() {
			t.Errorf("%d wait at the end, dispatching %t", st.Waiting, l.Dispatching())
		}
	})
}

// slotsAt answers with slots after these delays, and no hint.
func slotsAt(delays ...time.Duration) (any, error) {
	reply := []any{int64(limiter.Taken), int64(0), int64(0)}
	for _, d := range delays {
		reply = append(reply, d.Microseconds())
	}
	return reply, nil
}

// askIn answers that nothing is near: ask again after a time, nothing can be
// granted before another.
func askIn(ask, next time.Duration) (any, error) {
	return []any{int64(limiter.NotYet), ask.Microseconds(), int64(0), next.Microseconds()}, nil
}

var errDown = errors.New("connection refused")

// memoryBucket answers as the scripts do for one bucket, in memory. Several
// limiters may share it.
type memoryBucket struct {
	latency time.Duration

	mu             sync.Mutex
	down           error
	rate, capacity float64
	tokens         float64
	last           time.Time
	lines          map[int]time.Time
	slots          []time.Time // one for each unit of cost
	owed           int
}

func newMemoryBucket(w limiter.Window) *memoryBucket {
	capacity, rate, _ := limiter.Bucket(w, limiter.DefaultHorizon)
	return &memoryBucket{rate: rate, capacity: capacity, tokens: capacity, last: time.Now(), lines: map[int]time.Time{}}
}

func (b *memoryBucket) setDown(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = err
}

// process returns a limiter of one more process on the bucket.
func (b *memoryBucket) process(t *testing.T, o limiter.Options, w limiter.Window) (*limiter.Limiter, *scriptedRedis) {
	t.Helper()
	s := &scriptedRedis{answer: b.answer}
	l := newLimiter(t, s, o, w)
	s.name = l.ScriptName
	wantItsEnd(t, l)
	return l, s
}

func (b *memoryBucket) answer(a asked) (any, error) {
	if b.latency > 0 {
		time.Sleep(b.latency / 2)
		defer time.Sleep(b.latency / 2)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	now := time.Now()
	b.tokens = min(b.capacity, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	switch a.script {
	case "pause":
		b.tokens = min(b.tokens, -b.rate*a.args[0].(float64))
	case "take":
		return b.take(now, a), nil
	}
	return int64(0), nil
}

func (b *memoryBucket) take(now time.Time, a asked) []any {
	b.owed += a.owed
	b.tokens -= float64(a.owed)
	cost := float64(a.cost)
	reply := []any{int64(limiter.Taken), int64(0), int64(0)}
	var delay float64
	for granted := 0; ; granted++ {
		delay = max(0, (cost-b.tokens)/b.rate)
		if granted == a.n || delay > a.horizon {
			break
		}
		b.tokens = min(b.tokens, b.capacity-b.rate*delay) - cost
		reply = append(reply, ceilMicros(delay))
		for range a.cost {
			b.slots = append(b.slots, now.Add(time.Duration(ceilMicros(delay))*time.Microsecond))
		}
	}
	granted := len(reply) - 3
	if granted == a.n {
		if delay > a.horizon {
			reply[1] = ceilMicros(delay - a.horizon/2)
		}
		return reply
	}
	reply[1] = ceilMicros(b.turn(now, a, granted, delay).Sub(now).Seconds() - a.horizon/2)
	if granted > 0 {
		return reply
	}
	return []any{int64(limiter.NotYet), reply[1], int64(0), ceilMicros(delay)}
}

// turn is the time behind all that wait in the line.
func (b *memoryBucket) turn(now time.Time, a asked, granted int, delay float64) time.Time {
	gap := float64(a.cost) / b.rate
	most := max(1, min(float64(a.n-granted), math.Floor(a.horizon/2/gap)))
	turn := now.Add(time.Duration(delay * 1e9))
	if last := b.lines[a.line]; last.After(turn) {
		turn = last
	}
	b.lines[a.line] = turn.Add(time.Duration(most * gap * 1e9))
	return turn
}

func ceilMicros(seconds float64) int64 { return int64(math.Ceil(seconds * 1e6)) }

// tokensOver returns by how many tokens the times exceed, in the worst of all
// intervals, what a bucket lets through.
func tokensOver(times []time.Time, rate, capacity float64) float64 {
	slices.SortFunc(times, time.Time.Compare)
	least, worst := math.Inf(1), math.Inf(-1)
	for i, at := range times {
		x := float64(i) - rate*at.Sub(times[0]).Seconds()
		least = min(least, x)
		worst = max(worst, x-least+1-capacity)
	}
	return worst
}

// mostDuring returns the highest number of times in a half-open interval.
func mostDuring(times []time.Time, length time.Duration) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	first := 0
	for i, at := range times {
		for at.Sub(times[first]) >= length {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// goneAway is a context that is alive when Wait checks it and over when Wait
// begins to listen, after what it was asked to do in between.
type goneAway struct {
	context.Context

	before func()
	once   sync.Once
	over   bool
}

func (g *goneAway) Done() <-chan struct{} {
	g.once.Do(func() {
		g.before()
		g.over = true
	})
	closed := make(chan struct{})
	close(closed)
	return closed
}

func (g *goneAway) Err() error {
	if g.over {
		return context.Canceled
	}
	return nil
}

func TestLoneCallerAsksOnceAndLeavesNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stack string
		l, s := newScripted(t, limiter.Options{}, func(asked) (any, error) {
			stack = string(debug.Stack())
			return int64(1), nil
		})
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.takes()); n != 1 || l.Dispatching() {
			t.Errorf("%d requests, dispatching %t; want one request and no goroutine", n, l.Dispatching())
		}
		if !strings.Contains(stack, "WaitFor") {
			t.Errorf("the caller did not ask itself:\n%s", stack)
		}
	})
}

func TestNothingIsAskedForACallerWhoseContextIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(asked) (any, error) { return slotsAt(0) })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Wait(ctx); !errors.Is(err, context.Canceled) || len(s.takes()) != 0 {
			t.Errorf("%v after %d requests, want context.Canceled and none", err, len(s.takes()))
		}
	})
}

func TestSlotCountsFromTheArrivalOfTheReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, limiter.Options{}, func(asked) (any, error) {
			time.Sleep(100 * time.Millisecond) // the network
			return slotsAt(200 * time.Millisecond)
		})
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) != 300*time.Millisecond {
			t.Errorf("%v after %s, want 300 ms", err, time.Since(began))
		}
	})
}

func TestOneRequestForAllThatWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const network = 100 * time.Millisecond
		l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			time.Sleep(network)
			var delays []time.Duration
			for i := range a.n {
				delays = append(delays, time.Duration(i+20*(a.call/3))*20*time.Millisecond)
			}
			return slotsAt(delays...)
		})
		began := time.Now()
		const callers = 11
		served := make([]time.Duration, callers)
		var wg sync.WaitGroup
		for i := range callers {
			if i == callers-1 {
				time.Sleep(network + network/2) // while the second request is in flight
			}
			wg.Go(func() {
				if err := l.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				served[i] = time.Since(began)
			})
			synctest.Wait()
		}
		wg.Wait()
		var batches []int
		for _, a := range s.takes() {
			batches = append(batches, a.n)
		}
		if !slices.Equal(batches, []int{1, 9, 1}) || s.worst != 1 {
			t.Errorf("requests for %v slots, %d at once; want [1 9 1], one at a time", batches, s.worst)
		}
		for i := 1; i < callers-1; i++ {
			if want := 2*network + time.Duration(i-1)*20*time.Millisecond; served[i] != want {
				t.Errorf("caller %d went at %s, want %s", i, served[i], want)
			}
		}
	})
}

func TestSlotOfACancelledCallerGoesToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			return slotsAt([]time.Duration{100 * time.Millisecond, time.Second}[min(a.call, 2)-1])
		})
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { first <- l.Wait(ctx) }()
		synctest.Wait()
		second := make(chan error, 1)
		go func() { second <- l.Wait(t.Context()) }()
		time.Sleep(50 * time.Millisecond)
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) || time.Since(began) != 50*time.Millisecond {
			t.Errorf("the cancelled one: %v after %s", err, time.Since(began))
		}
		if err := <-second; err != nil || time.Since(began) != 100*time.Millisecond {
			t.Errorf("the next: %v after %s, want the slot at 100 ms", err, time.Since(began))
		}
		time.Sleep(5 * time.Second)
		st := l.Stats()
		if len(s.takes()) != 2 || st.Grants != 1 || st.Cancelled != 1 || st.Unused != 1 {
			t.Errorf("%+v with %d requests, want 1 grant, 1 cancelled, 1 unused with 2", st, len(s.takes()))
		}
	})
}

// A caller may be given its slot in the moment in which it gives up. The next
// gets it then, once.
func TestSlotThatWasHandedOverGoesToTheNext(t *testing.T) {
	t.Parallel()
	gone := 0
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
				if a.call > 1 {
					return askIn(time.Minute, time.Minute)
				}
				time.Sleep(10 * time.Millisecond)
				return slotsAt(0)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer time.AfterFunc(30*time.Second, cancel).Stop()
			second := make(chan error, 1)
			go func() {
				time.Sleep(5 * time.Millisecond)
				second <- l.Wait(ctx)
			}()
			first := l.Wait(&goneAway{Context: t.Context(), before: func() {}})
			next := <-second
			if (first == nil) == (next == nil) {
				t.Errorf("the first: %v, the next: %v; want the one slot to go to one of them", first, next)
			}
			if st := l.Stats(); st.Grants != 1 || st.Tokens != 1 || st.Unused != 0 || len(s.takes()) > 2 {
				t.Errorf("%+v", st)
			}
			if first != nil {
				gone++
			}
		})
	}
	if gone == 0 {
		t.Error("no caller ever gave up a slot that it had")
	}
}

// crowd is a random crowd of callers.
type crowd struct {
	window  limiter.Window
	latency time.Duration
	callers []crowdCaller
	pause   time.Duration // 0: none
}

type crowdCaller struct {
	request           limiter.Request
	arrives, patience time.Duration // patience 0: without end
	deadline          bool          // the end is known beforehand
}

func drawCrowd(t *rapid.T) crowd {
	s := crowd{
		window: limiter.Window{
			Name: "provider", Limit: rapid.IntRange(4, 100).Draw(t, "limit"), Length: time.Second,
			Burst: rapid.IntRange(2, 4).Draw(t, "burst"),
		},
		latency: time.Duration(rapid.IntRange(0, 60).Draw(t, "latency")) * time.Millisecond,
	}
	if rapid.Bool().Draw(t, "paused") {
		s.pause = time.Duration(rapid.IntRange(1, 400).Draw(t, "pause")) * time.Millisecond
	}
	for range rapid.IntRange(1, 40).Draw(t, "callers") {
		c := crowdCaller{
			request: limiter.Request{Class: limiter.Class(rapid.IntRange(0, 2).Draw(t, "class")), Cost: rapid.IntRange(1, 2).Draw(t, "cost")},
			arrives: time.Duration(rapid.IntRange(0, 300).Draw(t, "arrives")) * time.Millisecond,
		}
		if rapid.Bool().Draw(t, "ends") {
			c.patience = time.Duration(rapid.IntRange(1, 500).Draw(t, "patience")) * time.Millisecond
			c.deadline = rapid.Bool().Draw(t, "deadline")
		}
		s.callers = append(s.callers, c)
	}
	return s
}

func TestEverySlotGoesToOneCallerOrIsUnused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := drawCrowd(rt)
		var found []string
		synctest.Test(t, func(t *testing.T) { found = s.run(t) })
		if len(found) > 0 {
			rt.Fatal(strings.Join(found, "\n"))
		}
	})
}

// run plays the crowd and returns what was wrong.
func (s crowd) run(t *testing.T) (wrong []string) {
	b := newMemoryBucket(s.window)
	b.latency = s.latency
	l, redis := b.process(t, limiter.Options{}, s.window)
	var mu sync.Mutex
	var went []time.Time
	answered := map[string]int64{}
	var wg sync.WaitGroup
	for _, c := range s.callers {
		wg.Go(func() {
			time.Sleep(c.arrives)
			err := c.wait(t, l)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				answered["granted"]++
				for range c.request.Cost {
					went = append(went, time.Now())
				}
			case c.patience > 0 && errors.Is(err, context.Canceled), c.deadline && errors.Is(err, context.DeadlineExceeded):
				answered["over"]++
			default:
				wrong = append(wrong, err.Error())
			}
		})
	}
	if s.pause > 0 {
		time.Sleep(150 * time.Millisecond)
		from, to := time.Now(), time.Now().Add(s.pause)
		if err := l.Pause(t.Context(), s.pause); err != nil {
			wrong = append(wrong, err.Error())
		}
		time.Sleep(time.Until(to))
		mu.Lock()
		for _, at := range went {
			if at.After(from) && at.Before(to) {
				wrong = append(wrong, fmt.Sprintf("a call %s into the pause of %s", at.Sub(from), s.pause))
			}
		}
		mu.Unlock()
	}
	wg.Wait()
	time.Sleep(time.Minute)
	// One more finds what came after everybody had left.
	if err := l.Wait(t.Context()); err != nil {
		wrong = append(wrong, err.Error())
	}
	went = append(went, time.Now())
	time.Sleep(time.Minute)
	synctest.Wait()

	st := l.Stats()
	if got := st.Tokens + st.Unused; got != int64(len(b.slots)) {
		wrong = append(wrong, fmt.Sprintf("%d tokens used and %d not, of %d taken", st.Tokens, st.Unused, len(b.slots)))
	}
	if st.Grants != answered["granted"]+1 || st.Tokens != int64(len(went)) {
		wrong = append(wrong, fmt.Sprintf("%d grants of %d tokens counted, %d of %d given", st.Grants, st.Tokens, answered["granted"]+1, len(went)))
	}
	if st.Late+st.Cancelled < answered["over"] || st.Waits != int64(len(s.callers))+1 || st.Waiting != 0 {
		wrong = append(wrong, fmt.Sprintf("%+v for %v", st, answered))
	}
	if l.Dispatching() || redis.worst > 2 {
		wrong = append(wrong, fmt.Sprintf("dispatching %t, %d requests at once", l.Dispatching(), redis.worst))
	}
	const stale = 50 * time.Millisecond // a quarter of the margin
	if over := tokensOver(went, b.rate, b.capacity); over > b.rate*stale.Seconds()+1e-3 {
		wrong = append(wrong, fmt.Sprintf("%.3f calls over the curve", over))
	}
	if n := mostDuring(went, s.window.Length); n > s.window.Limit {
		wrong = append(wrong, fmt.Sprintf("%d calls in a window of %d", n, s.window.Limit))
	}
	return wrong
}

func (c crowdCaller) wait(t *testing.T, l *limiter.Limiter) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	switch {
	case c.deadline:
		ctx, cancel = context.WithTimeout(ctx, c.patience)
		defer cancel()
	case c.patience > 0:
		defer time.AfterFunc(c.patience, cancel).Stop()
	}
	return l.WaitFor(ctx, c.request)
}

// Each caller is counted under one heading, also if two things happen to it at
// once.
func TestACallerIsCountedOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			l, _ := newScripted(t, limiter.Options{}, func(asked) (any, error) { return askIn(9*time.Second, 9*time.Second) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := l.Wait(&goneAway{Context: ctx, before: func() {}}); err == nil {
				t.Fatal("a grant that nobody gave")
			}
			if st := l.Stats(); st.Late+st.Cancelled != st.Waits {
				t.Errorf("%d late and %d cancelled of %d callers", st.Late, st.Cancelled, st.Waits)
			}
		})
	}
}

// What a request brings back when all have left is given up as soon as it is
// stale, and not when the next caller comes, which may be never.
func TestSlotsThatArriveWhenAllHaveLeftAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			if a.call == 2 {
				time.Sleep(240 * time.Millisecond)
			}
			return slotsAt(50 * time.Millisecond)
		}, perSecond(20), limiter.Window{Name: "provider.day", Limit: 25, Daily: time.UTC})
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Hour)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = l.Wait(ctx) })
			synctest.Wait()
		}
		cancel()
		wg.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := l.Stats(); len(s.takes()) != 2 || st.Unused != 2 {
			t.Errorf("%d of 2 slots counted as unused after %d requests", st.Unused, len(s.takes()))
		}
	})
}

func TestDeadlineThatNoSlotCanMeetFailsAtOnce(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(asked) (any, error){
		"nothing near":  func(asked) (any, error) { return askIn(8*time.Second, 9*time.Second) },
		"slot too late": func(asked) (any, error) { return slotsAt(9 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, s := newScripted(t, limiter.Options{}, answer)
				for range 2 { // the second without a request
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					began := time.Now()
					if err := l.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 0 || ctx.Err() != nil {
						t.Errorf("%v after %s, want DeadlineExceeded at once", err, time.Since(began))
					}
				}
				if st := l.Stats(); len(s.takes()) != 1 || st.Late != 2 {
					t.Errorf("%d requests, %d late; want 1 and 2", len(s.takes()), st.Late)
				}
			})
		})
	}
}

func TestLaterDeadlineIsServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			if a.call == 1 {
				return askIn(8*time.Second, 9*time.Second)
			}
			return slotsAt(time.Second)
		})
		began := time.Now()
		var wg sync.WaitGroup
		for _, deadline := range []time.Duration{5 * time.Second, 20 * time.Second} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				err := l.Wait(ctx)
				if late := deadline < 9*time.Second; late != errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("deadline in %s: %v", deadline, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 9*time.Second || len(s.takes()) != 2 {
			t.Errorf("served after %s with %d requests, want 9 s and 2", took, len(s.takes()))
		}
	})
}

func TestStaleSlotIsNotUsed(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{true, false} {
		t.Run(fmt.Sprintf("fresh %t", fresh), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, s := newScripted(t, limiter.Options{}, func(asked) (any, error) { return slotsAt(100 * time.Millisecond) })
				const stale = 50 * time.Millisecond // a quarter of the margin
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(50*time.Millisecond, cancel)
				if err := l.Wait(ctx); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				late, want := 50*time.Millisecond+stale+time.Millisecond, 2
				if fresh {
					late, want = 50*time.Millisecond+stale-time.Millisecond, 1
				}
				time.Sleep(late)
				if err := l.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := len(s.takes()); n != want || l.Stats().Unused != int64(want-1) {
					t.Errorf("%d requests and %d unused, want %d", n, l.Stats().Unused, want)
				}
			})
		})
	}
}

func TestNothingIsAskedBeforeItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			switch a.call {
			case 1:
				return askIn(3*time.Second, 4*time.Second)
			case 2:
				return []any{int64(limiter.Taken), int64(5e6), int64(0), int64(0)}, nil // one slot, ask in 5 s
			}
			return slotsAt(make([]time.Duration, a.n)...)
		})
		began := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := l.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(500 * time.Millisecond)
		}
		wg.Wait()
		var at []time.Duration
		for _, a := range s.takes() {
			at = append(at, a.at.Sub(began))
		}
		if !slices.Equal(at, []time.Duration{0, 3 * time.Second, 8 * time.Second}) {
			t.Errorf("asked at %v, want 0, 3 s and 8 s", at)
		}
	})
}

func TestSequentialCallerOnASlowLimitAsksOncePerToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := limiter.Window{Name: "provider", Limit: 5, Length: time.Minute}
		b := newMemoryBucket(w)
		b.latency = 2 * time.Millisecond
		l, s := b.process(t, limiter.Options{}, w)
		const calls = 20
		began := time.Now()
		for range calls {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(s.takes()); n != calls {
			t.Errorf("%d requests for %d calls", n, calls)
		}
		if ideal := time.Duration((calls - 1) / b.rate * 1e9); time.Since(began) > ideal+100*time.Millisecond {
			t.Errorf("%d calls took %s, want %s", calls, time.Since(began), ideal)
		}
	})
}

func TestPauseGivesUpTheSlotsInItAndAsksNothing(t *testing.T) {
	t.Parallel()
	for name, pauses := range map[string][]time.Duration{
		"one":            {10 * time.Second},
		"shorter second": {10 * time.Second, 2 * time.Second},
		"longer second":  {2 * time.Second, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, s := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
					if a.call == 1 {
						return slotsAt(2 * time.Second)
					}
					return slotsAt(time.Second)
				})
				began := time.Now()
				done := make(chan time.Duration, 1)
				go func() {
					if err := l.Wait(t.Context()); err != nil {
						t.Error(err)
					}
					done <- time.Since(began)
				}()
				time.Sleep(time.Second)
				for _, d := range pauses {
					if err := l.Pause(t.Context(), d); err != nil {
						t.Fatal(err)
					}
				}
				// The slot at 2 s is gone, the pause ends at 11 s.
				at, takes := <-done, s.takes()
				if at != 12*time.Second || len(takes) != 2 || takes[1].at.Sub(began) != 11*time.Second {
					t.Errorf("went at %s after %d requests, want 12 s after the second at 11 s", at, len(takes))
				}
				if st := l.Stats(); st.Unused != 1 || st.Pauses != int64(len(pauses)) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestSlotAfterThePauseIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(asked) (any, error) { return slotsAt(2 * time.Second) })
		time.AfterFunc(time.Second, func() { _ = l.Pause(t.Context(), time.Second) })
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) != 2*time.Second || len(s.takes()) != 1 {
			t.Errorf("%v after %s with %d requests, want the slot at 2 s", err, time.Since(began), len(s.takes()))
		}
	})
}

func TestSlotsThatArriveInAPauseAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, limiter.Options{}, func(asked) (any, error) {
			time.Sleep(100 * time.Millisecond)
			return slotsAt(0)
		})
		time.AfterFunc(50*time.Millisecond, func() { _ = l.Pause(t.Context(), time.Second) })
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) != 1150*time.Millisecond || len(s.takes()) != 2 {
			t.Errorf("%v after %s with %d requests, want 1.15 s and 2", err, time.Since(began), len(s.takes()))
		}
	})
}

// A slot whose caller gives it back is as old as it was.
func TestSlotThatIsHandedBackInAPauseIsGivenUp(t *testing.T) {
	t.Parallel()
	gone := 0
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			l, _ := newScripted(t, limiter.Options{}, func(asked) (any, error) {
				time.Sleep(10 * time.Millisecond)
				return slotsAt(0)
			})
			second := make(chan time.Time, 1)
			go func() {
				time.Sleep(5 * time.Millisecond)
				if err := l.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				second <- time.Now()
			}()
			var paused time.Time
			err := l.Wait(&goneAway{Context: t.Context(), before: func() {
				paused = time.Now()
				if err := l.Pause(t.Context(), time.Minute); err != nil {
					t.Error(err)
				}
			}})
			if at := <-second; err != nil {
				gone++
				if at.Sub(paused) < time.Minute {
					t.Errorf("a call %s into a pause of a minute", at.Sub(paused))
				}
			}
		})
	}
	if gone == 0 {
		t.Error("no caller ever gave up a slot that it had")
	}
}

func TestPauseHoldsInThisProcessWithoutRedis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := perSecond(20)
		b := newMemoryBucket(w)
		b.setDown(errDown)
		l, s := b.process(t, limiter.Options{Patience: time.Second}, w)
		began := time.Now()
		if err := l.Pause(t.Context(), 20*time.Second); !errors.Is(err, limiter.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable: Redis was not told", err)
		}
		b.setDown(nil)
		if err := l.Wait(t.Context()); err != nil || time.Since(began) != 20*time.Second || len(s.takes()) != 1 {
			t.Errorf("%v after %s with %d requests, want 20 s and one", err, time.Since(began), len(s.takes()))
		}
	})
}

func TestAnswersThatAreNoneMeanNo(t *testing.T) {
	t.Parallel()
	for _, answer := range []any{
		nil, "OK", int64(0), int64(2), int64(-1), 0.0,
		[]any{},
		[]any{int64(0)},
		[]any{int64(0), int64(0), int64(0)}, // taken, without a slot
		[]any{int64(0), int64(0), int64(0), int64(1), int64(2)}, // more slots than asked for
		[]any{int64(0), int64(0), int64(0), "0"},
		[]any{int64(0), int64(0), int64(0), nil},
		[]any{int64(1), int64(0), int64(5)},           // spent, window 0
		[]any{int64(1), int64(2), int64(5)},           // spent, one window too many
		[]any{int64(1), int64(1), int64(5), int64(0)}, // spent, too long
		[]any{int64(2), int64(9), int64(5)},
		[]any{int64(3), int64(0), int64(0)}, // not yet, too short
		[]any{int64(4), int64(0), int64(0), int64(0)},
		[]any{int64(-1), int64(0), int64(0), int64(0)},
	} {
		t.Run(fmt.Sprintf("%v", answer), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, _ := newScripted(t, limiter.Options{}, func(asked) (any, error) { return answer, nil })
				began := time.Now()
				err := l.Wait(t.Context())
				if _, spent := errors.AsType[*limiter.QuotaError](err); !errors.Is(err, limiter.ErrUnavailable) || spent {
					t.Errorf("%v after %s, want ErrUnavailable", err, time.Since(began))
				}
				if st := l.Stats(); st.Grants != 0 || st.Unavailable != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// The slots of other processes stand by Redis' clock, so those of a reply that
// came late are not used: Redis is asked again.
func TestLateReplyIsNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		replies := 0
		l, _ := newScripted(t, limiter.Options{}, func(asked) (any, error) {
			if replies++; replies == 1 {
				time.Sleep(3 * time.Second)
			}
			return slotsAt(0)
		})
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if replies != 2 {
			t.Errorf("went on reply %d, want the second one", replies)
		}
	})
}

// What was said to a costly caller binds the cheaper ones no longer when it has
// given up.
func TestHintOfACostlyCallerEndsWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := true
		l, _ := newScripted(t, limiter.Options{}, func(asked) (any, error) {
			if first {
				first = false
				return askIn(time.Minute, time.Minute)
			}
			return slotsAt(0)
		}, limiter.Window{Name: "provider", Limit: 60, Length: 10 * time.Minute, Burst: 6})
		costly, giveUp := context.WithTimeout(t.Context(), 2*time.Minute)
		gone := make(chan error)
		go func() { gone <- l.WaitFor(costly, limiter.Request{Cost: 6}) }()
		synctest.Wait()
		giveUp()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		if err := l.Wait(ctx); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %s, want to go at once", err, time.Since(began))
		}
	})
}

package limiter_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// exactly is a limiter whose second window is exact, on a clock of the test.
type exactly struct {
	*flow
	window limiter.Window
}

const (
	exactTokens = "rate_limit:provider.exact:tokens"
	exactRefill = "rate_limit:provider.exact:last_refill"
)

var fastBucket = limiter.Window{Name: "provider", Limit: 1000, Length: time.Second, Burst: 500}

func newExact(t *testing.T, limit int, length time.Duration) *exactly {
	t.Helper()
	w := limiter.Window{Name: "provider.exact", Limit: limit, Length: length, Exact: true}
	e := &exactly{newFlow(t, patient(t, testenv.Redis(t)), time.Unix(1772900000, 0), fastBucket, w), w}
	e.take(limiter.Question{N: 1, Cost: 1}) // makes the keys
	e.slots = nil
	e.clock.advance(2 * length)
	return e
}

// span is the length with the margin.
func (e *exactly) span() time.Duration {
	return e.window.Length + max(e.window.Length/60, 200*time.Millisecond)
}

func (e *exactly) got(q limiter.Question) int { return len(e.take(q).Delays) }

func TestExactWindowGivesAllAtOnceAndThenOneForOne(t *testing.T) {
	t.Parallel()
	e := newExact(t, 5, time.Minute)
	if n := e.got(limiter.Question{N: 3, Cost: 1}); n != 3 {
		t.Fatalf("%d of 3", n)
	}
	e.clock.advance(10 * time.Second)
	if n := e.got(limiter.Question{N: 3, Cost: 1}); n != 2 {
		t.Fatalf("%d of the 2 that are left", n)
	}
	a := e.take(limiter.Question{N: 1, Cost: 1})
	if want := e.span() - 10*time.Second; a.Status != limiter.NotYet || (a.Next-want).Abs() > 2*time.Microsecond {
		t.Fatalf("%+v, want one in %s", a, want)
	}
	e.clock.advance(e.span() - 10*time.Second)
	if n := e.got(limiter.Question{N: 5, Cost: 1}); n != 3 {
		t.Errorf("%d of the 3 that have left the window", n)
	}
	e.check(t, false)
}

func TestExactWindowCountsTheCost(t *testing.T) {
	t.Parallel()
	e := newExact(t, 5, time.Minute)
	if n := e.got(limiter.Question{N: 3, Cost: 2}); n != 2 {
		t.Errorf("%d calls of cost 2 in a limit of 5, want 2", n)
	}
	if n := e.got(limiter.Question{N: 3, Cost: 1}); n != 1 {
		t.Errorf("%d calls of cost 1 in what is left, want 1", n)
	}
	e.clock.advance(e.span())
	e.take(limiter.Question{N: 9, Cost: 2})
	e.check(t, false)
}

// What somebody else took is not on the list, so it may have been all.
func TestExactWindowAfterAForeignWrite(t *testing.T) {
	t.Parallel()
	e := newExact(t, 5, time.Minute)
	if n := e.got(limiter.Question{N: 1, Cost: 1}); n != 1 {
		t.Fatal("no call")
	}
	e.clock.advance(2 * e.span())
	plain := newModelWindow(e.window)
	now := float64(e.clock.micros) / 1e6
	if !acquirePlainly(t, e.rdb, plain, now) {
		t.Fatal("the plain caller was kept out of an empty window")
	}
	if n := e.got(limiter.Question{N: 5, Cost: 1}); n != 0 {
		t.Errorf("%d calls after a foreign one", n)
	}
	e.clock.advance(e.span() + limiter.DefaultHorizon)
	if n := e.got(limiter.Question{N: 9, Cost: 1}); n != 5 {
		t.Errorf("%d calls in the next window, want 5", n)
	}
}

// A plain caller, by limit and length alone, stays out until our last call has
// left the window.
func TestExactWindowKeepsPlainCallersOut(t *testing.T) {
	t.Parallel()
	e := newExact(t, 5, time.Minute)
	for range 3 {
		e.take(limiter.Question{N: 1, Cost: 1})
		e.clock.advance(7 * time.Second)
	}
	plain := newModelWindow(e.window)
	plain.rate = float64(e.window.Limit) / e.window.Length.Seconds()
	last := time.UnixMicro(e.slots[len(e.slots)-1])
	for e.clock.now().Sub(last) < e.window.Length {
		if acquirePlainly(t, e.rdb, plain, float64(e.clock.micros)/1e6) {
			t.Fatalf("a plain call %s after ours", e.clock.now().Sub(last))
		}
		e.clock.advance(time.Second)
	}
}

// Its key never shows more than the limit, even if nothing was ever called.
func TestExactWindowShowsAtMostTheLimit(t *testing.T) {
	t.Parallel()
	e := newExact(t, 5, time.Minute)
	if tokens, err := e.rdb.Get(t.Context(), exactTokens).Float64(); err != nil || tokens > 5 {
		t.Errorf("%v tokens, %v; the limit is 5", tokens, err)
	}
}

func TestExactWindowWithAnotherLimitAsksTheLedger(t *testing.T) {
	t.Parallel()
	for used, left := range map[int]int{0: 8, 5: 3, 9: 0} {
		e := newExact(t, 5, time.Minute)
		e.take(limiter.Question{N: 1, Cost: 1})
		w := e.window
		w.Limit = 8
		e.configure([]limiter.Window{fastBucket, w})
		a, err := e.l.Take(limiter.Question{N: 1, Cost: 1}, nil)
		since := e.clock.now().Add(-e.span()).Unix()
		if err != nil || a.Status != limiter.Unknown || a.Window != 1 || a.Reset > since+1 || a.Reset < since-1 {
			t.Fatalf("%+v, %v; want the ledger to be asked", a, err)
		}
		a, err = e.l.Take(limiter.Question{N: 20, Cost: 1}, []limiter.Count{{}, limiter.NewCount(a.Reset, used)})
		if err != nil || len(a.Delays) != left {
			t.Errorf("%+v, %v; want %d after %d of 8", a, err, left, used)
		}
		if n := e.rdb.LLen(t.Context(), "rate_limit_ext:provider.exact:calls").Val(); n != 8 {
			t.Errorf("the list holds %d calls, want the limit of 8", n)
		}
	}
}

// Slots that were out when the list was lost leave the window as late as any
// of them could.
func TestLostListCountsTheSlotsAhead(t *testing.T) {
	t.Parallel()
	e := newExact(t, 2, time.Second)
	e.take(limiter.Question{N: 2, Cost: 1})
	e.clock.advance(e.span() - limiter.DefaultHorizon + 10*time.Millisecond)
	if n := e.got(limiter.Question{N: 2, Cost: 1}); n != 2 {
		t.Fatalf("%d slots ahead, want 2", n)
	}
	if err := e.rdb.Del(t.Context(), "rate_limit_ext:provider.exact:calls").Err(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		e.take(limiter.Question{N: 2, Cost: 1})
		e.clock.advance(10 * time.Millisecond)
	}
	if len(e.slots) < 6 {
		t.Fatalf("%d calls only", len(e.slots))
	}
	e.check(t, false)
}

// A window that is full must not hide that nobody knows another one: the
// ledger is asked, and the cold bucket is made.
func TestUnknownWindowBesideAFullOne(t *testing.T) {
	t.Parallel()
	rdb := patient(t, testenv.Redis(t))
	f := newFlow(t, rdb, time.Unix(1772900000, 0), fastBucket,
		limiter.Window{Name: "provider.day", Limit: 9, Daily: time.UTC},
		limiter.Window{Name: "provider.exact", Limit: 2, Length: time.Hour, Exact: true})
	f.take(limiter.Question{N: 1, Cost: 1})
	f.clock.advance(time.Minute)
	if f.take(limiter.Question{N: 3, Cost: 1}); len(f.slots) != 2 {
		t.Fatalf("%d calls, want 2", len(f.slots))
	}
	if err := rdb.Del(t.Context(), tokensKey, "rate_limit:provider.day:tokens").Err(); err != nil {
		t.Fatal(err)
	}
	a, err := f.l.Take(limiter.Question{N: 1, Cost: 1}, nil)
	if err != nil || a.Status != limiter.Unknown || a.Window != 1 {
		t.Errorf("%+v, %v; want the ledger to be asked about the day", a, err)
	}
}

func TestRollingDayIsReportedAsSpent(t *testing.T) {
	t.Parallel()
	q := newQuota(t, true, "UTC", limiter.Window{Limit: 3, Length: 24 * time.Hour, Margin: time.Minute, Exact: true, Reserve: 1})
	for _, at := range []string{"2026-03-10 09:00:00", "2026-03-10 12:00:00"} {
		q.at(at)
		if err := q.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	local := func(utc string) string {
		at, err := time.Parse(time.RFC3339, utc)
		if err != nil {
			t.Fatal(err)
		}
		return at.Local().Format(time.RFC3339)
	}
	first := local("2026-03-11T09:01:00Z")
	if n := q.calls(limiter.Request{Class: limiter.Backfill}, limiter.QuotaError{Limit: 3, Reserve: 1}, first); n != 0 {
		t.Errorf("backfill took %d of the reserve", n)
	}
	if n := q.all(first); n != 1 {
		t.Errorf("%d calls of the reserve, want 1", n)
	}
	q.at("2026-03-11 09:01:00")
	if n := q.all(local("2026-03-11T12:01:00Z")); n != 1 {
		t.Errorf("%d calls when the first one had left, want 1", n)
	}
	if len(q.asked) != 1 {
		t.Errorf("the ledger was asked %d times, want once", len(q.asked))
	}
}

// sharing is a limiter whose share of the rate is looked at, on a test clock.
type sharing struct {
	t     *testing.T
	clock *clock
	l     *limiter.Limiter
	rdb   *redis.Client
	start int64
}

func newSharing(t *testing.T, w limiter.Window) *sharing {
	t.Helper()
	rdb := patient(t, testenv.Redis(t))
	c := newClock(t, rdb, time.Unix(1772900000, 0))
	l := newLimiter(t, rdb, limiter.OnTestClock(limiter.Options{Now: c.now}), w)
	return &sharing{t, c, l, rdb, c.micros}
}

func (s *sharing) pauseAt(at, d time.Duration) {
	s.t.Helper()
	s.clock.set(s.start + at.Microseconds())
	if err := s.l.Pause(s.t.Context(), d); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sharing) want(at time.Duration, share float64) {
	s.t.Helper()
	s.clock.set(s.start + at.Microseconds())
	levels, err := s.l.Levels(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if got := levels[0].Share; math.Abs(got-share) > 1e-4 {
		s.t.Errorf("the share is %v after %s, want %v", got, at, share)
	}
}

// noMargin makes a pause end for us when it ends for everybody.
var noMargin = limiter.Window{Name: "provider", Limit: 50, Length: time.Second, Margin: -1}

func TestShareAfterAPause(t *testing.T) {
	t.Parallel()
	s := newSharing(t, noMargin)
	s.want(0, 1)
	s.pauseAt(time.Minute, time.Minute)
	s.want(119*time.Second, 1) // nothing goes anyway
	s.want(2*time.Minute, 0.7)
	s.want(7*time.Minute, 0.8)
	s.want(16*time.Minute, 0.98)
	s.want(17*time.Minute, 1)
	s.want(24*time.Hour, 1)
}

func TestOverlappingPausesCountOnce(t *testing.T) {
	t.Parallel()
	s := newSharing(t, noMargin)
	s.pauseAt(0, time.Minute)
	s.pauseAt(30*time.Second, time.Minute)
	s.pauseAt(40*time.Second, time.Second)
	s.want(90*time.Second, 0.7)
	s.pauseAt(90*time.Second+5*time.Minute, time.Second)
	s.want(91*time.Second+5*time.Minute, 0.56)
}

// The longest pause of all, whose end is a little later by our own rate.
func TestLongestPausesOverlap(t *testing.T) {
	t.Parallel()
	s := newSharing(t, perSecond(50))
	s.pauseAt(0, time.Second)
	s.pauseAt(2*time.Second, limiter.MaxPause)
	s.pauseAt(3*time.Second, time.Second)
	s.pauseAt(4*time.Second, time.Second)
	end := 2*time.Second + limiter.MaxPause
	s.want(end-time.Second, 1)
	// The window's margin makes the pause up to a fifth longer for us.
	s.clock.set(s.start + (end + limiter.MaxPause/4).Microseconds())
	levels, err := s.l.Levels(t.Context())
	if err != nil || levels[0].Share < 0.49 || levels[0].Share > 0.57 {
		t.Errorf("%+v, %v; want 0.7 of 0.7 and what has come back since", levels, err)
	}
}

func TestShareNeverFallsBelowATenth(t *testing.T) {
	t.Parallel()
	s := newSharing(t, noMargin)
	for i := range 20 {
		s.pauseAt(time.Duration(i)*2*time.Second, time.Second)
	}
	s.want(39*time.Second, 0.1)
}

// The rate goes down with the share: that many go in a second.
func TestShareSlowsTheCallsDown(t *testing.T) {
	t.Parallel()
	f := newFlow(t, patient(t, testenv.Redis(t)), time.Unix(1772900000, 0), noMargin)
	if err := f.l.Pause(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	count := func(d time.Duration) int {
		f.slots = nil
		for end := f.clock.now().Add(d); f.clock.now().Before(end); f.clock.advance(50 * time.Millisecond) {
			f.take(limiter.Question{N: 64, Cost: 1})
		}
		return len(f.slots)
	}
	f.clock.advance(2 * time.Second)
	count(2 * time.Second)
	if n := count(10 * time.Second); n < 345 || n > 356 {
		t.Errorf("%d calls in 10 s at 0.7 of 50/s", n)
	}
	f.clock.advance(20 * time.Minute)
	count(2 * time.Second)
	if n := count(10 * time.Second); n < 495 || n > 505 {
		t.Errorf("%d calls in 10 s when the share was whole again", n)
	}
}

// A reader that knows nothing of shares and debts, "refill by the limit, then
// need one token", stays out for all of the longest pause.
func TestPauseKeepsPlainReadersOut(t *testing.T) {
	t.Parallel()
	for _, w := range []limiter.Window{
		perSecond(50),
		{Name: "provider", Limit: 60, Length: time.Minute, Burst: 60},
		{Name: "provider", Limit: 5, Length: time.Minute, Margin: -1},
	} {
		s := newSharing(t, w)
		s.pauseAt(0, time.Minute)
		s.pauseAt(time.Second, 20*time.Second)
		plain := newModelWindow(w)
		plain.rate = float64(w.Limit) / w.Length.Seconds()
		for at := time.Second; at <= time.Minute; at += time.Second / 4 {
			s.clock.set(s.start + at.Microseconds())
			if acquirePlainly(t, s.rdb, plain, float64(s.clock.micros)/1e6) {
				t.Fatalf("%d per %s: a plain call %s into a pause of 1 min", w.Limit, w.Length, at)
			}
			a, err := s.l.Take(limiter.Question{N: 3, Cost: 1}, nil)
			if err != nil || len(a.Delays) > 0 && s.clock.now().Add(a.Delays[0]).UnixMicro() < s.start+time.Minute.Microseconds() {
				t.Fatalf("%d per %s: %+v, %v %s into a pause of 1 min", w.Limit, w.Length, a, err, at)
			}
		}
	}
}

// Slots ahead are as far apart as their tokens come, although the share was
// lower when the last call went than it is now.
func TestSlotsAheadWhenTheShareIsBack(t *testing.T) {
	t.Parallel()
	f := newFlow(t, patient(t, testenv.Redis(t)), time.Unix(1772900000, 0), noMargin)
	if err := f.l.Pause(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(3 * time.Second)
	f.take(limiter.Question{N: 1, Cost: 1})
	f.clock.advance(20 * time.Minute)
	for range 200 {
		f.take(limiter.Question{N: 64, Cost: 1})
		f.clock.advance(10 * time.Millisecond)
	}
	if len(f.slots) < 100 {
		t.Errorf("%d calls in 2 s of 50", len(f.slots))
	}
	f.check(t, false)
}

// A second pause does not give a window back what the first one took from it:
// its slots ahead are repaid no faster than they were promised.
func TestSecondPauseBesideASlotAhead(t *testing.T) {
	t.Parallel()
	second := limiter.Window{Name: "provider", Limit: 100, Length: time.Second}
	minute := limiter.Window{Name: "provider.minute", Limit: 10, Length: time.Minute, Margin: -1}
	f := newFlow(t, patient(t, testenv.Redis(t)), time.Unix(1772900000, 0), second, minute)
	pause := func() {
		if err := f.l.Pause(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	pause()
	for range 6000 {
		f.clock.advance(10 * time.Millisecond)
		if a := f.take(limiter.Question{N: 1, Cost: 1}); len(a.Delays) > 0 && len(f.slots)%2 == 0 {
			pause()
		}
	}
	if len(f.slots) < 5 {
		t.Fatalf("%d calls only", len(f.slots))
	}
	f.check(t, false)
}

// A share that makes no sense must not keep a pause from being told.
func TestPauseOverASpoiltShare(t *testing.T) {
	t.Parallel()
	s := newSharing(t, noMargin)
	for _, f := range []string{"5", "-3", "1e14", "nan", "x"} {
		if err := s.rdb.Set(t.Context(), "rate_limit_ext:provider:share", f+" 1772900100", 0).Err(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := s.l.Pause(ctx, time.Second); err != nil {
			t.Errorf("share %s: %v", f, err)
		}
		cancel()
	}
}

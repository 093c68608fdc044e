package limiter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// These tests run real processes on a real Redis. They judge them by the slots
// that Redis has promised, which are exact times on its clock however busy the
// machine is.

func TestProcessesKeepTheCurve(t *testing.T) {
	t.Parallel()
	var all []scenario
	for i := range 4 {
		seed := rand.Uint64()
		all = append(all, scenario{strconv.Itoa(i), func(t *testing.T) { keepTheCurve(t, seed) }})
	}
	together(t, all...)
}

func keepTheCurve(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := limiter.Window{
		Name: "provider", Limit: between(r, 20, 200), Length: between(r, time.Second, 2*time.Second),
		Margin: between(r, 20*time.Millisecond, 200*time.Millisecond), Burst: between(r, 1, 12),
	}
	o := order{
		Windows: []limiter.Window{w},
		Horizon: between(r, 20*time.Millisecond, 400*time.Millisecond),
		Waiters: between(r, 1, 64),
		Request: limiter.Request{Class: limiter.Class(between(r, 0, 2)), Cost: between(r, 1, min(3, w.Burst))},
		Think:   between(r, 0, 30*time.Millisecond),
		Network: between(r, time.Millisecond, 20*time.Millisecond),
	}
	processes := between(r, 1, 5)
	t.Logf("seed %d: %d processes with %+v", seed, processes, o)

	f := newFleet(t, testenv.Redis(t), processes, o)
	f.await(1)
	pass(t.Context(), 3*time.Second)
	f.stop()

	slots, starts := f.slots(), f.starts()
	f.wantCurve(slots)
	f.wantWindows(slots)
	if len(starts) < 5 || len(starts) > len(slots) {
		t.Fatalf("%d calls for %d slots", len(starts), len(slots))
	}
	lateness := f.wantStartsAfterSlots(starts, slots)
	capacity, rate := f.bucket()
	if x := excess(f.spend(starts), capacity, rate); x > 1+rate*lateness.Seconds() {
		t.Errorf("the calls started %.2f tokens over the curve, at most %s late", x, lateness)
	}
	t.Logf("%d slots at %.1f/s, %d calls, at most %s late", len(slots), rate, len(starts), lateness)
}

// TestCancelledCallersOfProcessesGiveNothingAway has callers come and go, so
// that many slots find nobody.
func TestCancelledCallersOfProcessesGiveNothingAway(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testenv.Redis(t), 3, order{
		Windows: []limiter.Window{perSecond(40)}, Waiters: 1,
		Patience: 200 * time.Millisecond, Think: 100 * time.Millisecond,
	})
	f.await(1)
	pass(t.Context(), 3*time.Second)
	var sum limiter.Stats
	for _, s := range f.stop() {
		sum.Grants += s.Grants
		sum.Unused += s.Unused
		sum.Cancelled += s.Cancelled
	}
	slots, starts := f.slots(), f.starts()
	f.wantCurve(slots)
	f.wantStartsAfterSlots(starts, slots)
	if sum.Unused == 0 || int64(len(starts)) > sum.Grants || sum.Grants+sum.Unused > int64(len(slots)) {
		t.Errorf("%d slots: %d granted, %d unused; %d calls", len(slots), sum.Grants, sum.Unused, len(starts))
	}
	t.Logf("%d slots: %d granted, %d unused; %d callers gave up", len(slots), sum.Grants, sum.Unused, sum.Cancelled)
}

// drift is by how much Redis' clock and a process's timer may differ within a
// horizon.
const drift = time.Millisecond

// wantStartsAfterSlots checks that no call started before its slot. Not every
// slot need have a call, so the nth call cannot be before the nth slot.
func (f *fleet) wantStartsAfterSlots(starts, slots []int64) (latest time.Duration) {
	f.t.Helper()
	for i := range min(len(starts), len(slots)) {
		late := time.Duration(starts[i]-slots[i]) * time.Microsecond
		latest = max(latest, late)
		if late < -drift {
			f.t.Errorf("call %d of %d started %s before its slot", i, len(starts), -late)
			break
		}
	}
	return latest
}

func TestKilledProcessesLeaveTheOthersWorking(t *testing.T) {
	t.Parallel()
	w := perSecond(60)
	w.Burst = 5
	f := newFleet(t, testenv.Redis(t), 3, order{Windows: []limiter.Window{w}, Waiters: 16})
	f.await(20)
	for range 6 {
		pass(t.Context(), rand.N(500*time.Millisecond))
		f.kill(rand.IntN(len(f.members)))
		f.start()
	}
	pass(t.Context(), limiter.DefaultHorizon)
	before := make([]int, len(f.members))
	for i, m := range f.members {
		before[i] = m.count()
	}
	began := f.now()
	const calm = 2 * time.Second
	pass(t.Context(), calm)
	for i, m := range f.members {
		if m.count() == before[i] {
			t.Errorf("process %d got nothing in %s", i, calm)
		}
	}
	f.stop()

	slots := f.slots()
	f.wantCurve(slots)
	f.wantWindows(slots)
	f.wantStartsAfterSlots(f.starts(), slots)
	_, rate := f.bucket()
	if n, want := countFrom(slots, began, calm), rate*calm.Seconds(); float64(n) < 0.7*want {
		t.Errorf("%d slots in %s after the last kill, want about %.0f", n, calm, want)
	}
}

func countFrom(slots []int64, from int64, d time.Duration) (n int) {
	for _, at := range slots {
		if at >= from && at < from+d.Microseconds() {
			n++
		}
	}
	return n
}

func TestLostKeysGiveNothingAway(t *testing.T) {
	t.Parallel()
	bucket := limiter.Window{Name: "provider", Limit: 100, Length: time.Second, Margin: 20 * time.Millisecond}
	wide := bucket
	wide.Burst = 20
	exact := limiter.Window{Name: "provider.exact", Limit: 20, Length: 500 * time.Millisecond, Margin: 50 * time.Millisecond, Exact: true}
	together(t,
		scenario{"bucket", func(t *testing.T) { loseAtRandom(t, bucket) }},
		scenario{"burst", func(t *testing.T) { loseAtRandom(t, wide) }},
		scenario{"exact window", func(t *testing.T) { loseAtRandom(t, wide, exact) }},
		scenario{"restart", func(t *testing.T) { restart(t, bucket) }},
		scenario{"restart of an exact window", func(t *testing.T) { restart(t, wide, exact) }},
	)
}

// losses are the ways to lose what the limiter keeps in a database.
func (f *fleet) losses() map[string]func(redis.Pipeliner) {
	ctx := context.Background()
	del := func(keys ...string) func(redis.Pipeliner) {
		return func(p redis.Pipeliner) { p.Del(ctx, keys...) }
	}
	ways := map[string]func(redis.Pipeliner){
		"FLUSHDB":      func(p redis.Pipeliner) { p.FlushDB(ctx) },
		"SCRIPT FLUSH": func(p redis.Pipeliner) { p.ScriptFlush(ctx) },
	}
	for _, w := range f.order.Windows {
		own, ext := "rate_limit:"+w.Name+":", "rate_limit_ext:"+w.Name+":"
		ways[w.Name+" tokens"] = del(own + "tokens")
		ways[w.Name+" last_refill"] = del(own + "last_refill")
		ways[w.Name+" both"] = del(own+"tokens", own+"last_refill")
		ways[w.Name+" extensions"] = del(ext+"share", ext+"calls", ext+"seen",
			ext+"line.0", ext+"line.1", ext+"line.2")
	}
	return ways
}

func loseAtRandom(t *testing.T, windows ...limiter.Window) {
	f := newFleet(t, testenv.Redis(t), 3, order{Windows: windows, Waiters: 16})
	ways := f.losses()
	f.await(20)
	for name, how := range ways {
		f.awaitSlotsAhead(rand.N(limiter.DefaultHorizon / 3))
		t.Logf("%d: %s", f.now(), name)
		f.lose(how)
	}
	f.await(20) // it goes on
	f.stop()
	slots := f.slots()
	f.wantCurve(slots)
	f.wantWindows(slots)
}

// restart stops Redis, which keeps nothing, twice.
func restart(t *testing.T, windows ...limiter.Window) {
	server := testenv.RedisServer(t)
	f := newFleet(t, server.URL(), 3, order{Windows: windows, Waiters: 16})
	ctx := context.Background()
	for range 2 {
		f.await(20)
		pass(ctx, rand.N(500*time.Millisecond))
		// Scripts have to wait from here on, so the list is complete.
		if err := f.rdb.Do(ctx, "CLIENT", "PAUSE", 60000, "WRITE").Err(); err != nil {
			t.Fatal(err)
		}
		f.drain(f.rdb.LRange(ctx, f.key("trace"), 0, -1).Val())
		server.Stop()
		server.Start()
	}
	f.await(20)
	f.stop()
	slots := f.slots()
	f.wantCurve(slots)
	f.wantWindows(slots)
}

func TestPauseOfOneProcessHoldsAll(t *testing.T) {
	t.Parallel()
	const pause = 1500 * time.Millisecond
	w := perSecond(50)
	f := newFleet(t, testenv.Redis(t), 3, order{Windows: []limiter.Window{w}, Waiters: 16})
	f.await(30)
	one := f.members[0]
	one.tell("pause " + pause.String())
	if !one.answer().Paused {
		t.Fatal("the pause was not told to Redis")
	}
	began := f.pauseBegan(pause)
	f.wantPythonToWait(began, pause)
	if n := one.answer().Grants; n == nil || *n != 0 {
		t.Errorf("the process that paused granted %v calls meanwhile", n)
	}
	pass(t.Context(), 2*time.Second)
	f.stop()

	slots := f.slots()
	f.wantCurve(slots)
	f.wantWindows(slots)
	capacity, rate := f.bucket()
	during := countFrom(slots, began+1, pause)
	if most := int(rate*limiter.DefaultHorizon.Seconds()) + 1; during > most {
		t.Errorf("%d slots in the pause, want at most %d", during, most)
	}
	var after []int64
	for _, at := range slots {
		if at >= began+pause.Microseconds() {
			after = append(after, at)
		}
	}
	slow := rate * (limiter.Slower + 5*limiter.Recovery)
	// What was promised before the end of the pause is at the old rate.
	ahead := (1 - limiter.Slower) * rate * limiter.DefaultHorizon.Seconds()
	if x := excess(after, capacity, slow); len(after) < 10 || x > ahead+nearlyNothing {
		t.Errorf("after the pause %d slots are %.3f over the curve of %.2f/s", len(after), x, slow)
	}
	t.Logf("%d slots in the pause, %d after it", during, len(after))
}

// pauseBegan returns when Redis learnt of a pause. The share is that of its
// end.
func (f *fleet) pauseBegan(d time.Duration) int64 {
	f.t.Helper()
	text, err := f.rdb.Get(context.Background(), f.key("share")).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	var share, from float64
	if _, err := fmt.Sscan(text, &share, &from); err != nil {
		f.t.Fatal(err)
	}
	return int64(1e6 * (from - d.Seconds()))
}

// pythonReads returns the time and what somebody who refills by the plain
// limit sees then.
const pythonReads = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local tokens = redis.call('GET', KEYS[1]) + (now - redis.call('GET', KEYS[2])) * ARGV[1]
return {math.floor(now * 1000000), string.format('%.6f', math.min(tokens, ARGV[2] + 0))}`

func (f *fleet) wantPythonToWait(began int64, pause time.Duration) {
	f.t.Helper()
	w, reads := f.order.Windows[0], 0
	plain := float64(w.Limit) / w.Length.Seconds()
	for {
		got, err := f.rdb.Eval(context.Background(), pythonReads,
			[]string{f.key("tokens"), f.key("last_refill")}, plain, w.Limit).Slice()
		if err != nil {
			f.t.Fatal(err)
		}
		at, _ := got[0].(int64)
		if at >= began+pause.Microseconds() {
			break
		}
		text, _ := got[1].(string)
		tokens, err := strconv.ParseFloat(text, 64)
		if err != nil || tokens >= 1 {
			f.t.Fatalf("a reader sees %s tokens %d us after the pause began (%v)", text, at-began, err)
		}
		reads++
		pass(f.t.Context(), 5*time.Millisecond)
	}
	if reads == 0 {
		f.t.Error("the pause was over before anybody looked")
	}
}

// pythonTakes takes a token as alpha-oracle does: refill by the time that has
// passed, cap, need one, take one. ARGV: rate; capacity; the time, or nothing
// for Redis' clock; the list of slots.
const pythonTakes = `
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local tokens, last = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not tokens or not last then return 0 end
tokens = math.min(ARGV[2] + 0, tokens + (now - last) * ARGV[1])
if tokens < 1 then return 0 end
redis.call('MSET', KEYS[1], tokens - 1, KEYS[2], now)
redis.call('RPUSH', KEYS[3], string.format('%.0f', now * 1000000))
return 1`

func TestPlainWriterSharesTheBucket(t *testing.T) {
	t.Parallel()
	fast := perSecond(50)
	fast.Burst = 3
	slow := limiter.Window{Name: "provider", Limit: 5, Length: time.Second}
	var all []scenario
	for _, clock := range []string{"Redis", "client"} {
		all = append(all, scenario{"same rate, clock of " + clock, func(t *testing.T) {
			f, slots := sharedWithPython(t, fast, clock, false)
			f.wantCurve(slots)
			f.wantWindows(slots)
		}}, scenario{"plain limit, clock of " + clock, func(t *testing.T) {
			f, slots := sharedWithPython(t, slow, clock, true)
			f.wantWindows(slots)
		}})
	}
	together(t, all...)
}

// sharedWithPython returns the slots of three processes and of a writer who
// takes a token whenever there is one, by the bucket's rate or by the plain
// limit.
func sharedWithPython(t *testing.T, w limiter.Window, clock string, plain bool) (*fleet, []int64) {
	// The processes want about three quarters of the rate. More waiters would
	// take every token ahead.
	think := 8 * w.Length / time.Duration(w.Limit)
	f := newFleet(t, testenv.Redis(t), 3, order{Windows: []limiter.Window{w}, Waiters: 1, Think: think})
	capacity, rate := f.bucket()
	if plain {
		capacity, rate = 1, float64(w.Limit)/w.Length.Seconds()
	}
	f.await(3)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	took := 0
	for ctx.Err() == nil {
		now := ""
		if clock == "client" {
			now = strconv.FormatFloat(float64(time.Now().UnixMicro())/1e6, 'f', 6, 64)
		}
		n, err := f.rdb.Eval(context.Background(), pythonTakes,
			[]string{f.key("tokens"), f.key("last_refill"), f.key("trace")}, rate, capacity, now).Int()
		if err != nil {
			t.Fatal(err)
		}
		took += n
		// Now and then it has nothing to do, as the processes have.
		pass(ctx, rand.N(3*time.Millisecond)+time.Duration(n)*rand.N(200*time.Millisecond))
	}
	f.stop()
	slots := f.slots()
	if took == 0 || took == len(slots) {
		t.Errorf("the writer took %d of %d", took, len(slots))
	}
	t.Logf("the writer took %d of %d", took, len(slots))
	return f, slots
}

func TestProcessesAskOncePerToken(t *testing.T) {
	t.Parallel()
	together(t,
		scenario{"fast", func(t *testing.T) { askOnce(t, perSecond(50), 5*time.Second) }},
		scenario{"slow", func(t *testing.T) {
			askOnce(t, limiter.Window{Name: "provider", Limit: 5, Length: 3 * time.Second}, 12*time.Second)
		}},
	)
}

func askOnce(t *testing.T, w limiter.Window, d time.Duration) {
	f := newFleet(t, testenv.Redis(t), 0, order{Windows: []limiter.Window{w}})
	for _, waiters := range []int{22, 21, 21} {
		f.order.Waiters = waiters
		f.start()
	}
	f.await(3)
	before := f.total()
	pass(t.Context(), d)
	after := f.total()
	f.stop()
	f.wantCurve(f.slots())
	tokens := float64(after.Tokens - before.Tokens)
	trips := float64(after.RoundTrips - before.RoundTrips)
	// Each process may be between a request and its tokens at the end.
	if tokens == 0 || trips > 1.05*tokens+float64(len(f.ended)) {
		t.Errorf("%.0f requests for %.0f tokens", trips, tokens)
	}
	t.Logf("%.0f requests for %.0f tokens, %.2f each", trips, tokens, trips/tokens)
}

func (f *fleet) total() (sum limiter.Stats) {
	f.t.Helper()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range f.members {
		asking.Go(func() {
			s := m.stats()
			mu.Lock()
			defer mu.Unlock()
			sum.Tokens += s.Tokens
			sum.RoundTrips += s.RoundTrips
		})
	}
	asking.Wait()
	return sum
}

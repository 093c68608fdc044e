package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	key     = "jobs:daily_bars:2026-03-12:done"
	session = market.Date(739687) // 2026-03-12
)

// ledger is the truth of a test.
type ledger struct {
	mu     sync.Mutex
	units  map[market.Symbol]bool
	err    error
	asked  []string
	onRead func()
}

func (l *ledger) DoneUnits(_ context.Context, job, period string) ([]market.Symbol, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, job+" "+period)
	units := slices.Collect(maps.Keys(l.units))
	if l.onRead != nil {
		l.onRead()
	}
	return units, l.err
}

func newLedger(units ...market.Symbol) *ledger {
	l := &ledger{units: map[market.Symbol]bool{}}
	for _, u := range units {
		l.units[u] = true
	}
	return l
}

// fixture is a set on a Redis of its own, with its round trips counted.
type fixture struct {
	*idempotency.Set
	t     testing.TB
	rdb   *redis.Client
	l     *ledger
	trips *trips
}

func newFixture(t testing.TB, url string, done ...market.Symbol) *fixture {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries = -1, 1
	rdb, counted := redis.NewClient(o), redis.NewClient(o)
	t.Cleanup(func() { _, _ = rdb.Close(), counted.Close() })
	f := &fixture{t: t, rdb: rdb, l: newLedger(done...), trips: &trips{}}
	counted.AddHook(f.trips)
	f.Set = idempotency.New(counted, f.l).DailyBars(session)
	return f
}

// trips counts a client's round trips for the set, without those by which a
// connection begins.
type trips struct{ n atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if slices.Contains(cmd.Args(), any(key)) {
			c.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.Contains(cmds[0].Args(), any(key)) {
			c.n.Add(1)
		}
		return next(ctx, cmds)
	}
}

// done asks and checks the answer, the set, its lifetime and the round trips.
func (f *fixture) done(asked []market.Symbol, want ...market.Symbol) {
	f.t.Helper()
	before := f.trips.n.Load()
	got, err := f.Done(f.t.Context(), asked)
	if err != nil {
		f.t.Fatal(err)
	}
	if n := f.trips.n.Load() - before; n > 2 {
		f.t.Errorf("%d round trips, want at most 2", n)
	}
	expected := map[market.Symbol]bool{}
	for _, u := range want {
		expected[u] = true
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		f.t.Errorf("done: %s", diff)
	}
	f.holds(slices.Sorted(maps.Keys(f.l.units))...)
}

// holds checks the members and the lifetime of the set.
func (f *fixture) holds(want ...market.Symbol) {
	f.t.Helper()
	members, err := f.rdb.SMembers(f.t.Context(), key).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(members)
	wanted := []string{}
	for _, u := range want {
		wanted = append(wanted, string(u))
	}
	if diff := cmp.Diff(wanted, members); diff != "" {
		f.t.Errorf("the set: %s", diff)
	}
	if ttl := f.rdb.TTL(f.t.Context(), key).Val(); len(want) > 0 && (ttl <= 0 || ttl > 90000*time.Second) {
		f.t.Errorf("lifetime %s, want one of up to 25 h", ttl)
	}
}

func (f *fixture) do(args ...any) {
	f.t.Helper()
	if err := f.rdb.Do(f.t.Context(), args...).Err(); err != nil {
		f.t.Fatal(err)
	}
}

func TestDonePutsTheSetRight(t *testing.T) {
	t.Parallel()
	abc := []market.Symbol{"A", "B", "C"}
	for name, before := range map[string][][]any{
		"equal":          {{"sadd", key, "A", "B"}},
		"immortal":       {{"sadd", key, "A", "B"}},
		"lost":           {},
		"short":          {{"sadd", key, "A"}, {"expire", key, 100}},
		"extra member":   {{"sadd", key, "A", "B", "C"}, {"expire", key, 100}},
		"other member":   {{"sadd", key, "A", "C"}},
		"a string":       {{"set", key, "A"}},
		"a list":         {{"rpush", key, "A", "B"}},
		"nearly expired": {{"sadd", key, "A", "B"}, {"pexpire", key, 50}},
	} {
		for server, url := range map[string]string{
			"redis":    testenv.Redis(t),
			"embedded": "redis://" + miniredis.RunT(t).Addr(),
		} {
			t.Run(name+"/"+server, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, url, "A", "B")
				for _, command := range before {
					f.do(command...)
				}
				f.done(abc, "A", "B")
				if ttl := f.rdb.TTL(t.Context(), key).Val(); ttl < 24*time.Hour {
					t.Errorf("lifetime %s, want it to begin again", ttl)
				}
				f.done(abc, "A", "B")
			})
		}
	}
}

func TestDoneOfAnEmptyLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t))
	f.done([]market.Symbol{"A", "A", "B"})
	if n := f.rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys, want none", n)
	}
	f.done(nil)
	f.do("set", key, "garbage")
	f.done([]market.Symbol{"A"})
	if n := f.rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys, want none", n)
	}
	if f.l.asked[0] != "daily_bars 2026-03-12" {
		t.Errorf("the ledger was asked for %q", f.l.asked[0])
	}
}

// Units of the ledger that nobody asked for belong to the set as well.
func TestDoneRestoresAllOfTheLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t), "A", "B", "C")
	f.done([]market.Symbol{"C", "D"}, "C")
}

func TestDoneOfAWholeUniverse(t *testing.T) {
	t.Parallel()
	for _, size := range []int{503, 20_000} {
		var all []market.Symbol
		for i := range size {
			all = append(all, market.Symbol(fmt.Sprintf("S%d", i)))
		}
		half := all[:size/2]
		f := newFixture(t, testenv.Redis(t), half...)
		f.done(all, half...)
		f.l.units = newLedger(all[size/4:]...).units
		f.done(all, all[size/4:]...)
		began := time.Now()
		f.do("del", key)
		if n, err := f.Rebuild(t.Context()); err != nil || n != size-size/4 {
			t.Errorf("rebuilt %d, %v", n, err)
		}
		t.Logf("%d symbols rebuilt in %s", size, time.Since(began))
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t))
	add := func(units ...market.Symbol) {
		t.Helper()
		before := f.trips.n.Load()
		if err := f.Add(t.Context(), units...); err != nil {
			t.Fatal(err)
		}
		if n := f.trips.n.Load() - before; n > 1 {
			t.Errorf("%d round trips, want one", n)
		}
	}
	add()
	if n := f.rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys after nothing was added", n)
	}
	add("A")
	f.holds("A")
	add("B", "C", "B")
	f.holds("A", "B", "C")
	// Expired in mid-run: the new set has a lifetime again.
	f.do("del", key)
	add("D")
	f.holds("D")
	f.do("set", key, "garbage")
	add("E")
	f.holds("E")
	f.do("script", "flush")
	add("F")
	f.holds("E", "F")
}

func TestRebuildLeavesNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t), "A", "B")
	f.do("sadd", key, "X", "Y")
	if n, err := f.Rebuild(t.Context()); err != nil || n != 2 {
		t.Errorf("%d, %v; want 2", n, err)
	}
	f.holds("A", "B")
	clear(f.l.units)
	if n, err := f.Rebuild(t.Context()); err != nil || n != 0 {
		t.Errorf("%d, %v; want 0", n, err)
	}
	f.holds()
}

func TestLedgerDecidesWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	f := newFixture(t, server.URL(), "A")
	server.Stop()
	done, err := f.Done(t.Context(), []market.Symbol{"A", "B"})
	if !errors.Is(err, idempotency.ErrRedis) {
		t.Errorf("%v, want ErrRedis", err)
	}
	if diff := cmp.Diff(map[market.Symbol]bool{"A": true}, done); diff != "" {
		t.Error(diff)
	}
	if err := f.Add(t.Context(), "B"); !errors.Is(err, idempotency.ErrRedis) {
		t.Errorf("%v, want ErrRedis", err)
	}
	server.Start()
	f.done([]market.Symbol{"A", "B"}, "A")
}

func TestNothingIsDoneWithoutTheLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t), "A")
	f.do("sadd", key, "A", "B")
	f.l.err = errors.New("database is gone")
	done, err := f.Done(t.Context(), []market.Symbol{"A", "B"})
	if done != nil || !errors.Is(err, f.l.err) || errors.Is(err, idempotency.ErrRedis) {
		t.Errorf("%v, %v; want no answer and the ledger's error", done, err)
	}
	if _, err := f.Rebuild(t.Context()); !errors.Is(err, f.l.err) {
		t.Errorf("rebuild: %v", err)
	}
}

// Another process commits a unit and adds it after we have read the ledger:
// its membership is right and stays.
func TestDoneKeepsWhatWasCommittedMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t), "A")
	f.l.onRead = func() {
		f.l.onRead = nil
		f.l.units["B"] = true
		f.do("sadd", key, "A", "B")
	}
	done, err := f.Done(t.Context(), []market.Symbol{"A", "B"})
	if err != nil || !done["A"] || done["B"] {
		t.Errorf("%v, %v; want the ledger as it was read", done, err)
	}
	f.holds("A", "B")
}

// Whatever happens to the key between the steps: the answer is the ledger's,
// the asked part of the set is too, and no set is immortal.
func TestSetFollowsTheLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t))
	symbols := rapid.SampledFrom([]market.Symbol{"A", "B", "C", "D", "E", "F"})
	rapid.Check(t, func(r *rapid.T) {
		f.do("del", key)
		clear(f.l.units)
		touched := false
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				if ttl := f.rdb.TTL(t.Context(), key).Val(); touched && ttl == -1 {
					r.Fatal("the set lives for ever")
				}
			},
			"commit": func(r *rapid.T) {
				u := symbols.Draw(r, "symbol")
				f.l.units[u] = true
				if rapid.Bool().Draw(r, "killed before it is added") {
					return
				}
				if err := f.Add(t.Context(), u); err != nil {
					r.Fatal(err)
				}
				touched = true
			},
			"restore an older database": func(r *rapid.T) { delete(f.l.units, symbols.Draw(r, "symbol")) },
			"damage": func(r *rapid.T) {
				f.do(rapid.SampledFrom([][]any{
					{"del", key}, {"pexpire", key, 1}, {"set", key, "x"}, {"persist", key}, {"script", "flush"},
				}).Draw(r, "how")...)
				touched = false
			},
			"strange member": func(r *rapid.T) {
				if f.rdb.Type(t.Context(), key).Val() == "set" {
					f.do("sadd", key, string(symbols.Draw(r, "symbol")))
				}
			},
			"done": func(r *rapid.T) {
				asked := rapid.SliceOf(symbols).Draw(r, "asked")
				before := f.trips.n.Load()
				done, err := f.Done(t.Context(), asked)
				if err != nil || f.trips.n.Load()-before > 2 {
					r.Fatalf("%v after %d round trips", err, f.trips.n.Load()-before)
				}
				for _, u := range asked {
					if done[u] != f.l.units[u] || f.rdb.SIsMember(t.Context(), key, string(u)).Val() != f.l.units[u] {
						r.Fatalf("%s: done %v, the ledger says %v", u, done[u], f.l.units[u])
					}
				}
				for u := range f.l.units {
					if !f.rdb.SIsMember(t.Context(), key, string(u)).Val() {
						r.Fatalf("%s is not in the set", u)
					}
				}
				touched = len(asked)+len(f.l.units) > 0
			},
			"rebuild": func(r *rapid.T) {
				if n, err := f.Rebuild(t.Context()); err != nil || n != len(f.l.units) {
					r.Fatalf("%d, %v; want %d", n, err, len(f.l.units))
				}
				f.holds(slices.Sorted(maps.Keys(f.l.units))...)
				touched = true
			},
		})
	})
}

// The history does not expire, whatever another program has set.
func TestBackfillHasNoLifetime(t *testing.T) {
	t.Parallel()
	const completed = "backfill:completed"
	f := newFixture(t, testenv.Redis(t), "A", "B")
	set := idempotency.New(f.rdb, f.l).Backfill()
	ask := func() {
		t.Helper()
		done, err := set.Done(t.Context(), []market.Symbol{"A", "X"})
		if err != nil || len(done) != 1 || !done["A"] {
			t.Errorf("done %v, %v", done, err)
		}
		members := f.rdb.SMembers(t.Context(), completed).Val()
		slices.Sort(members)
		if diff := cmp.Diff([]string{"A", "B"}, members); diff != "" {
			t.Error(diff)
		}
		if ttl := f.rdb.TTL(t.Context(), completed).Val(); ttl != -1 {
			t.Errorf("it expires in %s", ttl)
		}
	}
	f.do("sadd", completed, "A", "X")
	f.do("expire", completed, 60)
	ask()
	f.do("expire", completed, 60) // all members are there
	ask()
	f.do("expire", completed, 60)
	if err := set.Add(t.Context(), "B"); err != nil {
		t.Fatal(err)
	}
	ask()
	if want := "backfill history"; !slices.Contains(f.l.asked, want) {
		t.Errorf("the ledger was asked for %v, not for %q", f.l.asked, want)
	}
}

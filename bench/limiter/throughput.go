package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/goredisstore.v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// Names of the variants, as the tables show them.
const (
	noOp       = "EVALSHA no-op, 2 keys"
	redisRate  = "redis_rate.Allow"
	gcra       = "throttled"
	bare       = "our script, bare"
	wait       = "limiter.Wait"
	threeRates = "3 x redis_rate.Allow"
	threeWaits = "limiter.Wait, 3 windows"
)

const (
	many = 64 // goroutines of the crowded half
	// peerRate and peerBurst are never used up. They are no larger, because
	// redis_rate does not write a step that is too small for its numbers.
	peerRate, peerBurst = 1_000_000, 1_000_000
	// sampleEvery is how rarely a call is timed by itself.
	sampleEvery = 8
)

// variant is one way to ask for one token that is there.
type variant struct {
	name string
	do   func(ctx context.Context) error
	// alone marks what makes sense with one goroutine only.
	alone bool
}

// sample is what one round of a variant gave.
type sample struct {
	rate     float64 // calls per second
	p50, p99 float64 // of the calls, in microseconds
	server   float64 // microseconds of the server per script call
}

// samples are the rounds of each variant, by name.
type samples map[string][]sample

// column returns one figure of all rounds of a variant.
func (s samples) column(name string, of func(sample) float64) []float64 {
	var all []float64
	for _, one := range s[name] {
		all = append(all, of(one))
	}
	return all
}

func (s samples) rates(name string) []float64 {
	return s.column(name, func(one sample) float64 { return one.rate })
}

func (s samples) server(name string) []float64 {
	return s.column(name, func(one sample) float64 { return one.server })
}

// free returns a window in which there are always tokens.
func free(name string) limiter.Window {
	return limiter.Window{Name: name, Limit: 1_000_000_000, Length: time.Second, Burst: 100_000_000}
}

// throughput measures goals 1, 2, 3 and 10: what a call costs that need not
// wait.
func (b *bench) throughput(ctx context.Context) error {
	variants, shut, err := b.variants(ctx)
	if err != nil {
		return fmt.Errorf("throughput: %w", err)
	}
	defer shut()
	b.progress("calls with tokens free, 1 goroutine")
	one, err := b.rounds(ctx, variants, 1)
	if err != nil {
		return fmt.Errorf("throughput, 1 goroutine: %w", err)
	}
	b.progress("calls with tokens free, %d goroutines", many)
	crowd, err := b.rounds(ctx, variants, many)
	if err != nil {
		return fmt.Errorf("throughput, %d goroutines: %w", many, err)
	}
	b.report.throughput(variants, one, crowd)
	return nil
}

// variants returns all variants, ready to be called, and what closes them.
func (b *bench) variants(ctx context.Context) ([]variant, func(), error) {
	var clients []*redis.Client
	shut := func() {
		for _, rdb := range clients {
			_ = rdb.Close()
		}
	}
	fail := func(err error) ([]variant, func(), error) {
		shut()
		return nil, nil, err
	}
	windows := []limiter.Window{free("bench"), free("bench.second"), free("bench.third")}
	for _, w := range windows {
		if err := fill(ctx, b.admin, w.Name, float64(w.Burst)); err != nil {
			return fail(err)
		}
	}
	script, err := capture(ctx, b.server.url, windows[0])
	if err != nil {
		return fail(err)
	}
	single, rdb, err := newLimiter(b.server.url, limiter.Options{}, nil, windows[0])
	if err != nil {
		return fail(err)
	}
	clients = append(clients, rdb)
	triple, three, err := newLimiter(b.server.url, limiter.Options{}, nil, windows...)
	if err != nil {
		return fail(err)
	}
	clients = append(clients, three)
	peers, peerClients, err := b.peers(ctx)
	clients = append(clients, peerClients...)
	if err != nil {
		return fail(err)
	}
	return append(peers,
		variant{name: bare, do: func(ctx context.Context) error { return script.replay(ctx, rdb) }, alone: true},
		variant{name: wait, do: single.Wait},
		variant{name: threeWaits, do: triple.Wait},
	), shut, nil
}

// peers returns what the limiter is compared with. Each has a client of its own
// with the defaults of go-redis, whose pool of ten connections for each CPU is
// faster with many goroutines on few CPUs than a connection for everyone.
func (b *bench) peers(ctx context.Context) ([]variant, []*redis.Client, error) {
	o, err := redis.ParseURL(b.server.url)
	if err != nil {
		return nil, nil, err
	}
	plain, forRate, forGCRA := redis.NewClient(o), redis.NewClient(o), redis.NewClient(o)
	clients := []*redis.Client{plain, forRate, forGCRA}
	sha, err := plain.ScriptLoad(ctx, "return 0").Result()
	if err != nil {
		return nil, clients, fmt.Errorf("load the no-op: %w", err)
	}
	keys := []string{"bench:no-op:1", "bench:no-op:2"}
	rates := redis_rate.NewLimiter(forRate)
	allow := func(ctx context.Context, key string) error {
		return allowed(rates.Allow(ctx, key, redis_rate.Limit{Rate: peerRate, Burst: peerBurst, Period: time.Second}))
	}
	casLimiter, err := newThrottled(forGCRA, throttled.RateQuota{MaxRate: throttled.PerSec(peerRate), MaxBurst: peerBurst})
	if err != nil {
		return nil, clients, err
	}
	return []variant{
		{name: noOp, do: func(ctx context.Context) error { return plain.EvalSha(ctx, sha, keys).Err() }},
		{name: redisRate, do: func(ctx context.Context) error { return allow(ctx, "bench") }},
		{name: gcra, do: func(ctx context.Context) error {
			_, _, err := casLimiter.RateLimitCtx(ctx, "bench", 1)
			return err
		}},
		{name: threeRates, do: func(ctx context.Context) error {
			for _, key := range []string{"bench:1", "bench:2", "bench:3"} {
				if err := allow(ctx, key); err != nil {
					return err
				}
			}
			return nil
		}},
	}, clients, nil
}

func allowed(r *redis_rate.Result, err error) error {
	if err == nil && r.Allowed == 0 {
		err = errors.New("redis_rate refused a call although its bucket is never used up")
	}
	return err
}

func newThrottled(rdb *redis.Client, quota throttled.RateQuota) (*throttled.GCRARateLimiterCtx, error) {
	store, err := goredisstore.NewCtx(rdb, "throttled:")
	if err != nil {
		return nil, fmt.Errorf("throttled: %w", err)
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, quota)
	if err != nil {
		return nil, fmt.Errorf("throttled: %w", err)
	}
	// With many callers it would soon give up the race for its key.
	l.SetMaxCASAttemptsLimit(math.MaxInt)
	return l, nil
}

// rounds measures all variants in turn, many times over and in random order, so
// that a slow moment of the machine does not meet the same one always. The
// first round warms up and is thrown away.
func (b *bench) rounds(ctx context.Context, variants []variant, goroutines int) (samples, error) {
	got := samples{}
	for round := range b.sizes.rounds + 1 {
		for _, i := range rand.Perm(len(variants)) {
			v := variants[i]
			if v.alone && goroutines > 1 {
				continue
			}
			s, err := b.sample(ctx, v, goroutines)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			if round > 0 {
				got[v.name] = append(got[v.name], s)
			}
		}
	}
	return got, nil
}

func (b *bench) sample(ctx context.Context, v variant, goroutines int) (sample, error) {
	runtime.GC() // what the one before left is not this one's to clear
	if err := b.admin.ConfigResetStat(ctx).Err(); err != nil {
		return sample{}, err
	}
	s, err := b.load(ctx, v.do, goroutines)
	if err != nil {
		return sample{}, err
	}
	s.server, err = serverTime(ctx, b.admin)
	return s, err
}

// load calls do from so many goroutines for the length of a round.
func (b *bench) load(ctx context.Context, do func(context.Context) error, goroutines int) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		over   atomic.Bool
		group  sync.WaitGroup
		counts = make([]int, goroutines)
		took   = make([][]float64, goroutines)
		errs   = make([]error, goroutines)
	)
	started := b.now()
	timer := time.AfterFunc(b.sizes.round, func() { over.Store(true) })
	defer timer.Stop()
	for g := range goroutines {
		group.Go(func() {
			counts[g], took[g], errs[g] = b.repeat(ctx, do, &over)
		})
	}
	group.Wait()
	elapsed := b.now().Sub(started)
	var total int
	var all []float64
	for g := range goroutines {
		total += counts[g]
		all = append(all, took[g]...)
	}
	return sample{
		rate: float64(total) / elapsed.Seconds(),
		p50:  percentile(all, 0.5),
		p99:  percentile(all, 0.99),
	}, errors.Join(errs...)
}

// repeat calls do until it is over. It returns how often, and how long some of
// the calls took, in microseconds.
func (b *bench) repeat(ctx context.Context, do func(context.Context) error, over *atomic.Bool) (int, []float64, error) {
	var took []float64
	for n := 0; ; n++ {
		if over.Load() {
			return n, took, nil
		}
		if n%sampleEvery != 0 {
			if err := do(ctx); err != nil {
				return n, took, err
			}
			continue
		}
		started := b.now()
		if err := do(ctx); err != nil {
			return n, took, err
		}
		took = append(took, float64(b.now().Sub(started).Nanoseconds())/1e3)
	}
}

package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/cache"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// row is what the tests keep.
type row struct {
	Symbol string   `json:"symbol"`
	PE     *float64 `json:"pe_ratio"`
}

// reports collects what a cache reports.
type reports struct {
	mu  sync.Mutex
	all []string
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err.Error())
}

func (r *reports) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func open(t *testing.T) (*redis.Client, *cache.Cache[row], *reports) {
	t.Helper()
	o, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	told := &reports{}
	return rdb, cache.New[row](rdb, "fundamentals", 5*time.Minute, told.add), told
}

func TestLifetimesAndNamesAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		domain string
		ttl    time.Duration
	}{
		{"universe", 5*time.Minute - 1}, {"universe", time.Hour + 1}, {"universe", 0}, {"", time.Hour}, {"a:b", time.Hour},
	} {
		bad := cache.New[row](empty{}, c.domain, c.ttl, nil)
		if bad.Set(t.Context(), "A", row{}) == nil || bad.Add(t.Context(), "A", row{}) == nil {
			t.Errorf("%q for %s is taken", c.domain, c.ttl)
		}
	}
	for _, ttl := range []time.Duration{5 * time.Minute, time.Hour} {
		if err := cache.New[row](empty{}, "universe", ttl, nil).Set(t.Context(), "A", row{}); err != nil {
			t.Error(err)
		}
	}
}

func TestSetGetAdd(t *testing.T) {
	t.Parallel()
	rdb, c, told := open(t)
	if got, ok, err := c.Get(t.Context(), "AAPL"); ok || err != nil || got != (row{}) {
		t.Fatalf("of nothing: %+v, %v, %v", got, ok, err)
	}
	pe := 31.5
	if err := c.Set(t.Context(), "AAPL", row{"AAPL", &pe}); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(t.Context(), "AAPL", row{Symbol: "other"}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := c.Get(t.Context(), "AAPL")
	if err != nil || !ok || got.Symbol != "AAPL" || *got.PE != pe {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if text := rdb.Get(t.Context(), "cache:fundamentals:AAPL").Val(); text != `{"symbol":"AAPL","pe_ratio":31.5}` {
		t.Errorf("stored as %s", text)
	}
	if ttl := rdb.TTL(t.Context(), "cache:fundamentals:AAPL").Val(); ttl <= 4*time.Minute || ttl > 5*time.Minute {
		t.Errorf("lives for %s", ttl)
	}
	if err := c.Add(t.Context(), "MSFT", row{Symbol: "MSFT"}); err != nil {
		t.Fatal(err)
	}
	if got, ok, _ := c.Get(t.Context(), "MSFT"); !ok || got.Symbol != "MSFT" {
		t.Errorf("added: %+v, %v", got, ok)
	}
	if err := c.Set(t.Context(), "", row{}); err == nil {
		t.Error("no identifier is taken")
	}
	if said := told.take(); said != nil {
		t.Errorf("reported: %v", said)
	}
}

// What another program left there is a miss, is reported once, and stays.
func TestForeignValuesAreMisses(t *testing.T) {
	t.Parallel()
	rdb, c, told := open(t)
	for _, text := range []string{"", "null", " null\n", "{", `["AAPL"]`, `"AAPL"`, `{"symbol":5}`, `{"symbol":"A"} {}`, "NaN"} {
		if err := rdb.Set(t.Context(), "cache:fundamentals:X", text, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		got, ok, err := c.Get(t.Context(), "X")
		if said := told.take(); ok || err != nil || got != (row{}) || len(said) != 1 || !strings.Contains(said[0], "cache:fundamentals:X") {
			t.Errorf("%q: %+v, %v, %v, reported %v", text, got, ok, err, said)
		}
		if now := rdb.Get(t.Context(), "cache:fundamentals:X").Val(); now != text {
			t.Errorf("%q became %q", text, now)
		}
	}
	if err := rdb.LPush(t.Context(), "cache:fundamentals:L", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.Get(t.Context(), "L"); ok || err != nil || len(told.take()) != 1 {
		t.Errorf("a list: %v, %v", ok, err)
	}
}

func TestLoadWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	told := &reports{}
	c := cache.New[row](rdb, "fundamentals", time.Hour, told.add)
	if _, _, err := c.Get(t.Context(), "A"); err == nil {
		t.Error("no error of Redis")
	}
	got, err := c.Load(t.Context(), "A", func(context.Context) (row, error) { return row{Symbol: "A"}, nil })
	if err != nil || got.Symbol != "A" || len(told.take()) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLoadKeepsWhatItFetches(t *testing.T) {
	t.Parallel()
	rdb, c, _ := open(t)
	broken := errors.New("broken")
	if _, err := c.Load(t.Context(), "A", func(context.Context) (row, error) { return row{}, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Load(t.Context(), "A", func(context.Context) (row, error) { panic("boom") }); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("error %v of a panic", err)
	}
	if n := rdb.Exists(t.Context(), "cache:fundamentals:A").Val(); n != 0 {
		t.Error("a failure is kept")
	}
	for range 2 {
		calls := 0
		got, err := c.Load(t.Context(), "A", func(context.Context) (row, error) {
			calls++
			return row{Symbol: "A"}, nil
		})
		if err != nil || got.Symbol != "A" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	got, err := c.Load(t.Context(), "A", func(context.Context) (row, error) { return row{}, broken })
	if err != nil || got.Symbol != "A" {
		t.Errorf("what is there is fetched again: %+v, %v", got, err)
	}
}

// empty is a Redis that has nothing and keeps nothing.
type empty struct{ redis.Cmdable }

func (empty) Get(ctx context.Context, key string) *redis.StringCmd {
	cmd := redis.NewStringCmd(ctx, "get", key)
	cmd.SetErr(redis.Nil)
	return cmd
}

func (empty) SetNX(ctx context.Context, key string, _ any, _ time.Duration) *redis.BoolCmd {
	return redis.NewBoolCmd(ctx, "set", key)
}

func (empty) Set(ctx context.Context, key string, _ any, _ time.Duration) *redis.StatusCmd {
	return redis.NewStatusCmd(ctx, "set", key)
}

// Of many that miss at once one fetches. Whoever goes does not take the answer
// away from the others; when all have gone, the fetch is called off.
func TestLoadFetchesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := cache.New[json.RawMessage](empty{}, "universe", time.Hour, func(err error) { t.Error(err) })
		calls := 0
		fetch := func(ctx context.Context) (json.RawMessage, error) {
			calls++
			select {
			case <-time.After(time.Minute):
				return json.RawMessage(`1`), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		first, goAway := context.WithCancel(t.Context())
		var left, stayed sync.WaitGroup
		left.Go(func() {
			if _, err := c.Load(first, "sp500", fetch); !errors.Is(err, context.Canceled) {
				t.Errorf("the one that has gone: %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			stayed.Go(func() {
				if got, err := c.Load(t.Context(), "sp500", fetch); err != nil || string(got) != "1" {
					t.Errorf("%s, %v", got, err)
				}
			})
		}
		synctest.Wait()
		goAway()
		left.Wait()
		stayed.Wait()
		if calls != 1 {
			t.Errorf("fetched %d times", calls)
		}
		alone, goAlso := context.WithCancel(t.Context())
		left.Go(func() { _, _ = c.Load(alone, "sp500", fetch) })
		synctest.Wait()
		began := time.Now()
		goAlso()
		left.Wait()
		synctest.Wait()
		if got, err := c.Load(t.Context(), "sp500", fetch); err != nil || string(got) != "1" || calls != 3 || time.Since(began) != time.Minute {
			t.Errorf("after all have gone: %s, %v, %d calls, %s", got, err, calls, time.Since(began))
		}
	})
}

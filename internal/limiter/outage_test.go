package limiter_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBucket(perSecond(20))
		b.latency = time.Millisecond
		b.setDown(refusal("READONLY You can't write against a read only replica."))
		l, s := b.process(t, limiter.Options{}, perSecond(20))
		began := time.Now()
		errs := make(chan error, 30)
		for range cap(errs) {
			go func() { errs <- l.Wait(t.Context()) }()
		}
		for range cap(errs) {
			err := <-errs
			if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "READONLY") || !strings.Contains(err.Error(), "provider") {
				t.Errorf("%v, want ErrUnavailable, the limit's name and what failed", err)
			}
		}
		if took := time.Since(began); took < limiter.DefaultPatience || took > limiter.DefaultPatience+b.latency {
			t.Errorf("gave up after %s, want %s", took, limiter.DefaultPatience)
		}
		// Random pauses of up to a second: half a second on average.
		if n := len(s.takes()); n < 30 || n > 150 {
			t.Errorf("%d requests in %s", n, limiter.DefaultPatience)
		}
	})
}

func TestCallersThatQueuedBeforeAnOutageArePatientToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, limiter.Options{}, func(a asked) (any, error) {
			switch {
			case a.call == 1:
				return askIn(time.Minute, time.Minute)
			case a.call <= 5:
				return nil, errDown
			}
			return slotsAt(0)
		})
		errs := make(chan error, 2)
		for range cap(errs) {
			go func() { errs <- l.Wait(t.Context()) }()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Errorf("a short outage after a minute in the queue: %v", err)
			}
		}
	})
}

// A Redis that swallows requests: each takes as long as the client waits for a
// reply. Whenever a caller comes, it has its answer within 300 ms.
func TestPatienceEndsAlsoWhileARequestIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, limiter.Options{Patience: 100 * time.Millisecond}, func(asked) (any, error) {
			time.Sleep(250 * time.Millisecond)
			return nil, errDown
		})
		for range 50 {
			began := time.Now()
			err := l.Wait(t.Context())
			if took := time.Since(began); !errors.Is(err, limiter.ErrUnavailable) || took > 300*time.Millisecond {
				t.Errorf("%v after %s, want ErrUnavailable within 300 ms", err, took)
			}
		}
	})
}

func TestClusterErrorsFailAtOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"CROSSSLOT Keys in request don't hash to the same slot", "MOVED 6312 10.0.0.1:6379",
		"ASK 808 10.0.0.1:6379", "CLUSTERDOWN The cluster is down",
	} {
		for _, replicas := range []int{0, 5} {
			synctest.Test(t, func(t *testing.T) {
				l, s := newScripted(t, limiter.Options{Replicas: replicas}, func(asked) (any, error) { return nil, refusal(text) })
				began := time.Now()
				err := l.Wait(t.Context())
				if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "cluster") || time.Since(began) != 0 || len(s.takes()) != 1 {
					t.Errorf("%s: %v after %s and %d requests, want ErrUnavailable at once", text, err, time.Since(began), len(s.takes()))
				}
			})
		}
	}
}

// refusal is an error that the server sent.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

func TestLedgerThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("database is locked")
		o := limiter.Options{
			Patience: time.Second,
			Used:     func(context.Context, time.Time) (int, error) { return 0, broken },
		}
		l, s := newScripted(t, o, func(asked) (any, error) {
			return []any{int64(limiter.Unknown), int64(2), time.Now().Unix()}, nil
		}, perSecond(20), limiter.Window{Name: "provider.day", Limit: 25, Daily: time.UTC})
		began := time.Now()
		err := l.Wait(t.Context())
		if !errors.Is(err, limiter.ErrUnavailable) || !errors.Is(err, broken) || time.Since(began) != time.Second {
			t.Errorf("%v after %s, want ErrUnavailable and the ledger's error after the patience", err, time.Since(began))
		}
		if n := len(s.takes()); n < 2 || n > 40 {
			t.Errorf("%d requests in a second", n)
		}
	})
}

func TestLedgerThatHangs(t *testing.T) {
	t.Parallel()
	hanging := func(ctx context.Context, _ time.Time) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	unknown := func(asked) (any, error) {
		return []any{int64(limiter.Unknown), int64(2), time.Now().Unix()}, nil
	}
	day := limiter.Window{Name: "provider.day", Limit: 25, Daily: time.UTC}
	t.Run("patience ends", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l, _ := newScripted(t, limiter.Options{Used: hanging, Patience: time.Second}, unknown, perSecond(20), day)
			began := time.Now()
			if err := l.Wait(t.Context()); !errors.Is(err, limiter.ErrUnavailable) || time.Since(began) > 2*time.Second {
				t.Errorf("%v after %s, want ErrUnavailable", err, time.Since(began))
			}
		})
	})
	t.Run("caller gives up", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l, _ := newScripted(t, limiter.Options{Used: hanging}, unknown, perSecond(20), day)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			began := time.Now()
			if err := l.Wait(ctx); err == nil || time.Since(began) > 2*time.Second {
				t.Errorf("%v after %s, want the end of ctx after 1 s to end the wait", err, time.Since(began))
			}
		})
	})
}

func TestRedisThatIsGoneMeansNo(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	o, err := limiter.ClientOptions(strings.Replace(server.URL(), "redis://", "redis://:secret@", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := client(t, server.URL()).ConfigSet(t.Context(), "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLimiter(t, rdb, limiter.Options{Patience: 100 * time.Millisecond}, perSecond(100))
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	granted := l.Stats().Grants

	check := func(what string) {
		t.Helper()
		quickest := time.Hour
		for range 5 {
			began := time.Now()
			err := l.Wait(t.Context())
			quickest = min(quickest, time.Since(began))
			if !errors.Is(err, limiter.ErrUnavailable) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "another") {
				t.Errorf("%s: %v, want ErrUnavailable without a password", what, err)
			}
		}
		// The machine may be busy, but not five times in a row.
		if quickest > 300*time.Millisecond {
			t.Errorf("%s: an answer took %s at best, want 300 ms", what, quickest)
		}
		if err := l.Pause(t.Context(), time.Millisecond); !errors.Is(err, limiter.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: pause: %v", what, err)
		}
		if _, err := l.Levels(t.Context()); !errors.Is(err, limiter.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: levels: %v", what, err)
		}
		if st := l.Stats(); st.Grants != granted || st.Unavailable == 0 {
			t.Errorf("%s: %+v", what, st)
		}
	}
	server.Pause()
	check("frozen")
	server.Continue()
	server.Stop()
	check("stopped")
	// After a restart no password is set, so ours is wrong.
	server.Start()
	if err := client(t, server.URL()).ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
		t.Fatal(err)
	}
	check("wrong password")
}

func TestRedisThatRefusesToWriteMeansNo(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]any{
		"OOM":      {"config", "set", "maxmemory", "1"},
		"READONLY": {"replicaof", "127.0.0.1", "1"},
		"NOPERM":   {"acl", "setuser", "default", "-evalsha", "-eval"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := client(t, testenv.RedisServer(t).URL())
			l := newLimiter(t, rdb, limiter.Options{Patience: 100 * time.Millisecond}, perSecond(100))
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := rdb.Do(t.Context(), command...).Err(); err != nil {
				t.Fatal(err)
			}
			if err := l.Wait(t.Context()); !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want ErrUnavailable with %s", err, name)
			}
		})
	}
}

func TestWaitOutlivesARestart(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	l := newLimiter(t, client(t, server.URL()), limiter.Options{}, perSecond(100))
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() { errs <- l.Wait(t.Context()) }()
	}
	select {
	case err := <-errs:
		t.Errorf("an answer while Redis was down: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	server.Start()
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A reply that is lost has taken its token; the request is not sent again but
// asked anew. So there are never more calls than tokens taken, and never more
// tokens taken than requests.
func TestLostRepliesCountAsSpent(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	o, err := limiter.ClientOptions(url)
	if err != nil {
		t.Fatal(err)
	}
	lossy := newLossy(t, o.Addr)
	o.Addr = lossy.addr
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLimiter(t, rdb, limiter.Options{Trace: 1000}, perSecond(400))

	const calls = 12
	for i := range calls {
		if i%3 == 1 {
			lossy.lose.Store(1)
		}
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n, err := client(t, url).LLen(t.Context(), "rate_limit_ext:provider:trace").Result()
	if err != nil {
		t.Fatal(err)
	}
	st, lost := l.Stats(), lossy.lost.Load()
	if lost != 4 || n != calls+lost || st.Grants != calls {
		t.Errorf("%d replies lost and %d tokens taken for %d calls: want 4, and one token each", lost, n, st.Grants)
	}
	if n > st.RoundTrips {
		t.Errorf("%d tokens taken by %d requests", n, st.RoundTrips)
	}
}

func TestClientsThatResendAreRefused(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 1, 3} { // 0 is the client's default, 3
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: retries})
		t.Cleanup(func() { _ = rdb.Close() })
		if _, err := limiter.New(rdb, limiter.Options{}, perSecond(5)); err == nil || !strings.Contains(err.Error(), "ClientOptions") {
			t.Errorf("MaxRetries %d: %v, want an error that names ClientOptions", retries, err)
		}
	}
}

// lossy sits before a Redis and loses replies: it closes the connection when
// the reply to a script that was carried out arrives.
type lossy struct {
	addr, target string
	lose, lost   atomic.Int64
}

func newLossy(t *testing.T, target string) *lossy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{addr: listener.Addr().String(), target: target}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(t, conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return p
}

func (p *lossy) serve(t *testing.T, down net.Conn) {
	defer func() { _ = down.Close() }()
	up, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", p.target)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = up.Close() }()
	var script atomic.Bool
	go func() {
		defer func() { _ = up.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := down.Read(buffer)
			if strings.Contains(strings.ToLower(string(buffer[:n])), "eval") {
				script.Store(true)
			}
			if _, werr := up.Write(buffer[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := up.Read(buffer)
		if err != nil {
			return
		}
		reply := string(buffer[:n])
		carriedOut := script.Swap(false) && !strings.HasPrefix(reply, "-")
		if carriedOut && p.lose.CompareAndSwap(1, 0) {
			p.lost.Add(1)
			return
		}
		if _, err := io.WriteString(down, reply); err != nil {
			return
		}
	}
}

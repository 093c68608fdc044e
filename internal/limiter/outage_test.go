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
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestWaitOutlivesARestart(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	l := newLimiter(t, client(t, server.URL()), limiter.Options{}, perSecond(100))
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	var calls atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			if err := l.Wait(t.Context()); err != nil {
				t.Error(err)
				return
			}
			calls.Add(1)
		}
	}()
	select {
	case <-done:
	case <-time.After(500 * time.Millisecond):
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls while Redis was down", n)
	}
	server.Start()
	<-done
}

func TestRedisThatIsGoneMeansNo(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	o, err := limiter.ClientOptions(strings.Replace(server.URL(), "redis://", "redis://:secret@", 1))
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLimiter(t, rdb, limiter.Options{Patience: 300 * time.Millisecond}, perSecond(100))
	if err := client(t, server.URL()).ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
		t.Fatal(err)
	}

	check := func(what string) {
		began := time.Now()
		err := l.Wait(t.Context())
		if !errors.Is(err, limiter.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want ErrUnavailable without the password", what, err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: gave up after %s", what, took)
		}
		if err := l.Pause(t.Context(), time.Millisecond); !errors.Is(err, limiter.ErrUnavailable) {
			t.Errorf("%s: pause: %v", what, err)
		}
		if _, err := l.Levels(t.Context()); !errors.Is(err, limiter.ErrUnavailable) {
			t.Errorf("%s: levels: %v", what, err)
		}
	}
	check("wrong password")
	server.Pause()
	check("frozen")
	server.Continue()
	server.Stop()
	check("stopped")
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

// A reply that is lost has taken its token; the request is not sent again but
// asked anew after a pause. So there are never more calls than tokens taken,
// and never more tokens taken than requests.
func TestLostRepliesCountAsSpent(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	direct := client(t, url)
	o, err := limiter.ClientOptions(url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProxy(t, o.Addr)
	o.Addr = proxy.addr
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	requests := &counter{}
	rdb.AddHook(requests)
	l := newLimiter(t, rdb, limiter.Options{}, perSecond(400))
	l.RecordSlots(t)

	const calls = 12
	for i := range calls {
		if i%3 == 1 {
			proxy.lose.Store(1)
		}
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	taken, asked := len(slots(t, direct)), int(requests.n.Load())
	if lost := int(proxy.lost.Load()); lost != 4 || taken != calls+lost {
		t.Errorf("%d replies lost and %d tokens taken for %d calls: want 4, and one token each", lost, taken, calls)
	}
	if taken > asked {
		t.Errorf("%d tokens taken by %d requests", taken, asked)
	}
}

// counter counts the commands that a client was asked for.
type counter struct{ n atomic.Int64 }

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			c.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// proxy sits before a Redis and loses replies: it closes the connection when
// the reply to a script arrives.
type proxy struct {
	addr, target string
	lose, lost   atomic.Int64
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), target: target}
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

func (p *proxy) serve(t *testing.T, down net.Conn) {
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
		if script.Swap(false) && strings.HasPrefix(reply, "*") && p.lose.CompareAndSwap(1, 0) {
			p.lost.Add(1)
			return
		}
		if _, err := io.WriteString(down, reply); err != nil {
			return
		}
	}
}

package testenv

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Gate stands between clients and a server. It hands on what they say to each
// other, and can be slow, frozen as a network that loses everything is, and cut.
// It is safe for concurrent use.
type Gate struct {
	url    string
	mu     sync.Mutex
	opened *sync.Cond
	frozen bool
	delay  time.Duration
	pairs  map[*pair]struct{}
}

// pair is one connection through the gate.
type pair struct {
	client, server net.Conn
	forsaken       bool // the server is not told that the client is gone
}

// NewGate returns a gate before the server of a URL, which ends with the test.
func NewGate(t testing.TB, target string) *Gate {
	t.Helper()
	g := &Gate{pairs: map[*pair]struct{}{}}
	g.opened = sync.NewCond(&g.mu)
	var wg sync.WaitGroup
	address, stop := Between(t, target, &wg, func(client, server net.Conn) {
		p := &pair{client: client, server: server}
		g.mu.Lock()
		g.pairs[p] = struct{}{}
		g.mu.Unlock()
		wg.Go(func() { g.pass(p, client, server) })
		wg.Go(func() { g.pass(p, server, client) })
	})
	g.url = address
	t.Cleanup(func() {
		stop()
		g.Freeze(false)
		g.Cut(false)
		wg.Wait()
	})
	return g
}

// URL is the target's with the address of the gate.
func (g *Gate) URL() string { return g.url }

// pass hands on what from sends, while the gate is open. The end of a connection
// does not pass a gate that is shut either.
func (g *Gate) pass(p *pair, from, to net.Conn) {
	buf := make([]byte, 1<<14)
	for {
		n, err := from.Read(buf)
		g.mu.Lock()
		delay := g.delay
		g.mu.Unlock()
		if delay > 0 && err == nil {
			<-time.After(delay)
		}
		g.mu.Lock()
		for g.frozen {
			g.opened.Wait()
		}
		forsaken := p.forsaken
		if err != nil && !forsaken {
			delete(g.pairs, p)
		}
		g.mu.Unlock()
		if err != nil {
			if !forsaken {
				_, _ = p.client.Close(), p.server.Close()
			}
			return
		}
		_, _ = to.Write(buf[:n])
	}
}

// Freeze shuts the gate, or opens it: nothing passes while it is shut, and
// nobody is told.
func (g *Gate) Freeze(frozen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = frozen
	g.opened.Broadcast()
}

// Delay lets everything that is said from now on arrive so much later. Each piece
// waits for the one before it.
func (g *Gate) Delay(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = d
}

// Cut ends all connections; those that are forsaken at the client's end only.
func (g *Gate) Cut(forsaken bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.pairs {
		p.forsaken = forsaken
		_ = p.client.Close()
		if !forsaken {
			_ = p.server.Close()
		}
	}
}

// Between stands between clients and the server of a URL: it hands each
// connection of a client to meet, with one of its own to the server, and returns
// the URL with its own address. stop lets no further client in; wg ends then when
// meet's goroutines do.
func Between(t testing.TB, target string, wg *sync.WaitGroup, meet func(client, server net.Conn)) (address string, stop func()) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // lives longer than any call
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	u.Host = listener.Addr().String()
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server) //nolint:noctx // see above
			if err != nil {
				_ = client.Close() // as a server that is down does
				continue
			}
			meet(client, upstream)
		}
	})
	return u.String(), func() { _ = listener.Close() }
}

package web

import (
	"container/list"
	"context"
	"net"
	"sync"
)

// conns bounds the connections of a listener. Those for which no request is
// being answered, since the client is slow to send one or has none, stand in the
// order in which they began to wait: when there is no room the first of them is
// closed, so that clients that hold connections keep nobody out.
type conns struct {
	net.Listener
	most int

	mu      sync.Mutex
	n       int
	waiting list.List // of *conn
}

// conn is one of them.
type conn struct {
	net.Conn
	of *conns

	// Under of.mu.
	closed bool
	place  *list.Element // nil while a request is being answered
}

// Accept implements [net.Listener].
func (l *conns) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, of: l}
		drop := l.add(c)
		if drop != nil {
			_ = drop.Close()
		}
		if drop != c {
			return c, nil
		}
	}
}

// add returns the connection that has to go: c itself if all others are being
// answered.
func (l *conns) add(c *conn) (drop *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= l.most {
		drop = c
		if first := l.waiting.Front(); first != nil {
			drop, _ = first.Value.(*conn)
		}
	}
	l.n++
	c.place = l.waiting.PushBack(c)
	return drop
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.of.mu.Lock()
	if !c.closed {
		c.closed = true
		c.of.n--
		c.leave()
	}
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets the server say its last word before the client is cut off.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *conn) leave() {
	if c.place != nil {
		c.of.waiting.Remove(c.place)
		c.place = nil
	}
}

// works notes that a request is being answered.
func (c *conn) works() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.leave()
}

// waits notes that the client is waited for.
func (c *conn) waits() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if !c.closed && c.place == nil {
		c.place = c.of.waiting.PushBack(c)
	}
}

type connKey struct{}

// withConn is an [http.Server]'s ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// begin notes that a request is being answered on its connection, and returns
// what notes the end of that.
func begin(ctx context.Context) (end func()) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.works()
		return c.waits
	}
	return func() {}
}

// receive notes that the answer waits for the rest of its request, and returns what
// notes the end of that.
func receive(ctx context.Context) (end func()) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.waits()
		return c.works
	}
	return func() {}
}

package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"time"
)

// offencesAllowed is how often a client may be too fast before its connection is
// cut (IB's TWS API documentation).
const offencesAllowed = 2

// conn is one client.
type conn struct {
	net.Conn
	s      *Server
	in     *bufio.Reader
	number int
	client int
	// started is set once the client has started the API; the server's lock
	// guards it, open and seen.
	started bool
	open    map[int]*request
	seen    map[int]bool
	writing chan struct{}
	gone    chan struct{} // closed at the end
}

// serve speaks with a client until one of the two ends it.
func (c *conn) serve() {
	defer c.end()
	if err := c.greet(); err != nil {
		c.complain(err)
		return
	}
	for {
		fields, err := unpack(c.in)
		if err != nil {
			c.complain(err)
			return
		}
		if !c.handle(fields) {
			return
		}
	}
}

// complain notes what a client sent that is no message.
func (c *conn) complain(err error) {
	var network net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network) {
		return
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.book.blame("connection %d: %v", c.number, err)
}

// greet answers the handshake. A silent gateway leaves it there.
func (c *conn) greet() error {
	oldest, newest, err := hello(c.in)
	if err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	now, silent := s.c.Now(), s.c.Now().Before(s.silent)
	if oldest > newest {
		s.book.blame("connection %d: versions %d to %d", c.number, oldest, newest)
	}
	s.mu.Unlock()
	if silent {
		<-c.waitForEnd()
		return io.EOF
	}
	c.write(pack(strconv.Itoa(s.c.Version), now.Format("20060102 15:04:05 MST")))
	return nil
}

// waitForEnd reads and forgets until the client goes.
func (c *conn) waitForEnd() <-chan struct{} {
	_, _ = io.Copy(io.Discard, c.in)
	c.end()
	return c.gone
}

// handle takes one message on; it is false if the connection is to end.
func (c *conn) handle(fields []string) bool {
	s := c.s
	s.mu.Lock()
	tooFast := s.book.message(s.c.Now())
	if tooFast {
		s.book.offences++
	}
	offences, started := s.book.offences, c.started
	if !started && fields[0] != fromStart {
		s.book.blame("message %s before the API was started", fields[0])
	}
	s.mu.Unlock()
	switch {
	case tooFast:
		limit, _ := codeOf(TooFast)
		c.sayError(-1, limit.code, limit.text)
		return offences <= offencesAllowed
	case fields[0] == fromStart:
		return c.start(fields)
	case !started:
		return true
	case fields[0] == fromHistory:
		s.receive(c, fields)
	case fields[0] == fromCancelHistory:
		c.cancel(fields)
	default:
		c.sayError(-1, 505, "Fatal Error: Unknown message id.")
	}
	return true
}

// start lets a client in whose id is free.
func (c *conn) start(fields []string) bool {
	s := c.s
	s.mu.Lock()
	id, err := strconv.Atoi(fields[min(2, len(fields)-1)])
	if err != nil || len(fields) != 4 || fields[1] != "2" {
		s.book.blame("start of the API as %q", fields)
	}
	taken := s.taken[id]
	for other := range s.conns {
		taken = taken || other != c && other.started && other.client == id
	}
	c.client, c.started = id, !taken
	s.mu.Unlock()
	if taken {
		refusal, _ := codeOf(ClientIDTaken)
		c.sayError(-1, refusal.code, refusal.text)
		return false
	}
	c.write(pack(toNextID, "1", "1"))
	c.write(pack(toAccounts, "1", "DU0000001"))
	status := []int{2104, 2106, 2158}
	s.mu.Lock()
	if s.outage != nil {
		status[1] = s.outage.code
	}
	s.mu.Unlock()
	for _, code := range status {
		c.sayError(-1, code, notices()[code])
	}
	return true
}

// cancel ends a request as its client wishes.
func (c *conn) cancel(fields []string) {
	c.s.mu.Lock()
	c.s.book.report.Cancels++
	silent := c.s.c.Now().Before(c.s.silent)
	c.s.mu.Unlock()
	id, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil || len(fields) != 3 {
		c.sayError(-1, 320, "Error reading request.")
		return
	}
	f := Cancelled
	if c.finish(id) == nil {
		f = NoQuery
	}
	if silent {
		return
	}
	answer, _ := codeOf(f)
	c.sayError(id, answer.code, answer.text[:len(answer.text)-len("{id}")]+strconv.Itoa(id))
}

// finish takes a request from the open ones; nil if it is none of them.
func (c *conn) finish(id int) *request {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	r := c.open[id]
	if r != nil {
		delete(c.open, id)
		close(r.done)
		c.s.book.open--
	}
	return r
}

// sayError sends a code; id -1 is about no request.
func (c *conn) sayError(id, code int, text string) {
	fields := []string{toError, "2", strconv.Itoa(id), strconv.Itoa(code), text}
	const withOrderReject = 166
	if c.s.c.Version >= withOrderReject {
		fields = append(fields, "")
	}
	c.write(pack(fields...))
}

// write sends bytes, one writer at a time; the client may be gone.
func (c *conn) write(message []byte) {
	const patience = 10 * time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c.writing <- struct{}{}:
		_, _ = c.Write(message)
		<-c.writing
	case <-c.gone:
	case <-timer.C:
		c.end()
	}
}

// end closes the connection and forgets its requests.
func (c *conn) end() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if _, ok := c.s.conns[c]; !ok {
		return
	}
	delete(c.s.conns, c)
	for id, r := range c.open {
		delete(c.open, id)
		close(r.done)
		c.s.book.open--
	}
	close(c.gone)
	_ = c.Close()
}

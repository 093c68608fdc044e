// Package gateway is a TWS or IB Gateway without a network of its own: a server
// of the socket protocol's text form, whose daily bars are those of
// simulator.Bar. It watches over IB's limits, misbehaves on request and remembers
// every call. A test that drives a program through it ends with a look at the
// violations in [Server.Report].
package gateway

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const defaultVersion = 176

// Config says what the gateway serves; the zero value serves every symbol.
type Config struct {
	// Version is the server version, whatever a client offers; 0 means 176.
	Version int
	// Through is the newest session served; 0 means the last one that has
	// closed at Now.
	Through market.Date
	// Listed is the first session of a symbol that was not listed on
	// simulator.Listed.
	Listed map[market.Symbol]market.Date
	// Unknown are symbols without a security definition.
	Unknown []market.Symbol
	// Lots counts volumes in round lots of 100 shares, the rest cut off.
	Lots bool
	// Latency passes before each answer.
	Latency time.Duration
	// Scale divides the times of IB's rules on identical requests and on
	// requests for one contract; 0 means 1.
	Scale int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

type split struct {
	on    market.Date
	ratio float64
}

// outage is a time without a link to IB.
type outage struct {
	code  int // that all clients were told, and new ones are
	since time.Time
	over  chan struct{}
	// lost says that the requests from before are forgotten.
	lost bool
}

// Server is the simulator. It is safe for concurrent use.
type Server struct {
	c       Config
	workers sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	book      book
	faults    map[market.Symbol][]planned
	splits    map[market.Symbol][]split
	taken     map[int]bool
	outage    *outage
	away      time.Time // no client is let in before
	silent    time.Time // nothing is answered before
}

// New returns a gateway, which [Server.Serve] opens.
func New(c Config) *Server {
	c.Version, c.Scale = cmp.Or(c.Version, defaultVersion), cmp.Or(c.Scale, 1)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Server{
		c: c, book: book{scale: time.Duration(c.Scale)}, listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
		faults: map[market.Symbol][]planned{}, splits: map[market.Symbol][]split{}, taken: map[int]bool{},
	}
}

// Serve lets clients in through l until [Server.Close], and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners[l] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		_ = l.Close() // Close may have done so already
		return nil
	}
	for {
		accepted, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, l)
			if s.closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		s.admit(accepted)
	}
}

// Dial lets a client in over a connection within the process, which works under
// a fake clock as well; it fits where a dialer is wanted.
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	s.admit(server)
	return client, ctx.Err()
}

// admit takes a connection on, unless the gateway is away.
func (s *Server) admit(accepted net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.c.Now().Before(s.away) {
		_ = accepted.Close()
		return
	}
	s.book.report.Connections++
	c := &conn{
		Conn: accepted, s: s, in: bufio.NewReader(accepted), number: s.book.report.Connections,
		writing: make(chan struct{}, 1), gone: make(chan struct{}), open: map[int]*request{}, seen: map[int]bool{},
	}
	s.conns[c] = struct{}{}
	s.workers.Go(c.serve)
}

// Close ends all connections and returns when nothing of the server runs.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.each((*conn).end)
	s.workers.Wait()
}

// each calls do with every connection, without the lock.
func (s *Server) each(do func(*conn)) {
	s.mu.Lock()
	var all []*conn
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		do(c)
	}
}

// Restart ends every connection in the middle of a message, and for away closes
// each new one at once.
func (s *Server) Restart(away time.Duration) {
	s.mu.Lock()
	s.away = s.c.Now().Add(away)
	s.mu.Unlock()
	s.each(func(c *conn) {
		c.write([]byte{0, 0, 1})
		c.end()
	})
}

// Silence leaves unanswered for good what comes within d, handshakes too.
func (s *Server) Silence(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = s.c.Now().Add(d)
}

// Take makes a client id one that another program has, or gives it back.
func (s *Server) Take(clientID int, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[clientID] = taken
}

// Split serves from now on the bars before on as simulator.SplitBar makes them.
func (s *Server) Split(symbol market.Symbol, on market.Date, ratio float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.splits[symbol] = append(s.splits[symbol], split{on, ratio})
}

// notices are the texts of codes about the gateway itself.
func notices() map[int]string {
	return map[int]string{
		1100: "Connectivity between IB and the gateway has been lost.",
		1101: "Connectivity between IB and the gateway has been restored - data lost.",
		1102: "Connectivity between IB and the gateway has been restored - data maintained.",
		2104: "Market data farm connection is OK:usfarm",
		2105: "HMDS data farm connection is broken:ushmds",
		2106: "HMDS data farm connection is OK:ushmds",
		2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
		2110: "Connectivity between TWS and server is broken. It will be restored automatically.",
		2158: "Sec-def data farm connection is OK:secdefnj",
	}
}

// Notify sends a code that is about no request to all clients. With 1100, 2105
// and 2110 the gateway loses its link and answers nothing; with 1101 it is back
// and has forgotten all requests, with 1102, 2106 and 2107 it answers them.
func (s *Server) Notify(code int) {
	s.mu.Lock()
	switch code {
	case 1100, 2105, 2110:
		if s.outage == nil {
			s.outage = &outage{code: code, since: s.c.Now(), over: make(chan struct{})}
		}
	case 1101, 1102, 2106, 2107:
		if s.outage != nil {
			s.outage.lost = code == 1101
			close(s.outage.over)
			s.outage = nil
		}
	}
	s.mu.Unlock()
	text := notices()[code]
	if text == "" {
		all := codes()
		if i := slices.IndexFunc(all, func(c coded) bool { return c.code == code }); i >= 0 {
			text = all[i].text
		}
	}
	s.each(func(c *conn) { c.sayError(-1, code, text) })
}

// decide says what a request gets: nothing (NoAnswer), a fault, or bars ("").
// The caller holds the lock.
func (s *Server) decide(r *request) Fault {
	now := r.At
	if o := s.outage; o != nil {
		if now.Sub(o.since) > crossing {
			s.book.blame("%s: asked while the link to IB is lost", r.Symbol)
		}
		return NoAnswer
	}
	if pace := s.book.pace(r.Call); pace != "" {
		return pace
	}
	if now.Before(s.silent) {
		return NoAnswer
	}
	if f := s.takeFault(r.Symbol); f != "" {
		return f
	}
	const contract, form = "0|STK||0.0|||SMART||USD|||0", "1 day|1|TRADES|1|0|"
	if r.contract != contract || r.form != form {
		s.book.blame("%s: request for %s, %s; want %s, %s", r.Symbol, r.contract, r.form, contract, form)
		return Invalid
	}
	if r.Symbol == "" || slices.Contains(s.c.Unknown, r.Symbol) {
		return UnknownSymbol
	}
	return ""
}

// receive takes a request on.
func (s *Server) receive(c *conn, fields []string) {
	r, err := parseRequest(fields)
	if err != nil {
		s.mu.Lock()
		s.book.blame("request %q: %v", fields, err)
		s.mu.Unlock()
		c.sayError(-1, 320, "Error reading request. "+err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.At, r.Client, r.Connection, r.conn = s.c.Now(), c.client, c.number, c
	if c.seen[r.ID] {
		s.book.blame("request id %d used twice on one connection", r.ID)
	}
	c.seen[r.ID], c.open[r.ID] = true, r
	s.book.open++
	s.book.report.MaxOpen = max(s.book.report.MaxOpen, s.book.open)
	f := s.decide(r)
	r.Outcome = cmp.Or(string(f), "bars")
	s.book.calls = append(s.book.calls, r.Call)
	if f != NoAnswer {
		s.workers.Go(func() { s.answer(r, f) })
	}
}

// answer sends what a request gets after the latency and when there is a link.
func (s *Server) answer(r *request, f Fault) {
	if !s.wait(r) {
		return
	}
	c := r.conn
	if coded, ok := codeOf(f); ok {
		if c.finish(r.ID) == nil {
			return
		}
		text := strings.NewReplacer("{symbol}", r.Symbol.In(market.IBKR), "{id}", strconv.Itoa(r.ID)).Replace(coded.text)
		c.sayError(r.ID, coded.code, text)
		if f == NotConnected || f == PortReset || f == ClientIDTaken {
			c.end()
		}
		return
	}
	switch f {
	case Drop, CutFrame, Garbage, HugeFrame, EmptyFrame, Unterminated:
		c.breaks(f, r.ID)
		return
	case Note:
		c.sayError(r.ID, 165, "Historical Market Data Service query message:query in progress")
	}
	s.sendBars(r, f)
}

func (s *Server) sendBars(r *request, f Fault) {
	s.mu.Lock()
	w, err := r.window(r.At)
	var rows []row
	if err == nil {
		rows = s.rows(r, w, r.At, f)
	}
	s.mu.Unlock()
	if r.conn.finish(r.ID) == nil {
		return
	}
	nothing, _ := codeOf(NoData)
	switch {
	case err != nil:
		r.conn.sayError(r.ID, 321, "Error validating request: "+err.Error())
	case len(rows) == 0:
		r.conn.sayError(r.ID, nothing.code, strings.ReplaceAll(nothing.text, "{symbol}", r.Symbol.In(market.IBKR)))
	default:
		rows, count := spoil(rows, f)
		r.conn.write(history(r, w, rows, count))
	}
}

// wait passes the latency and an outage; it is false for a request that is open
// no more.
func (s *Server) wait(r *request) bool {
	timer := time.NewTimer(s.c.Latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.done:
		return false
	}
	s.mu.Lock()
	o := s.outage
	s.mu.Unlock()
	if o == nil {
		return true
	}
	select {
	case <-o.over:
	case <-r.done:
		return false
	}
	if o.lost {
		r.conn.finish(r.ID)
	}
	return !o.lost
}

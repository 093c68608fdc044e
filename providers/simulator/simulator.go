// Package simulator is a vendor without a network: an http.Handler that
// speaks the wire formats of Alpha Vantage's daily bars, overviews, earnings and
// balance sheets, of EDGAR's ticker file, company facts, indexes and reports of
// insiders, of FINRA's short interest and of the daily bars of Massive and
// Tiingo, keeps their quotas, misbehaves on request and remembers every call.
//
// The data are pure functions, [Bar], [Overview], [Earnings] and [Balances] of
// symbol and date, [Facts] of issuer and day, [Forms] of a day, [ShortInterest]
// of symbol and settlement date, so whatever a program stores can be checked
// against them. A test that drives a program through the simulator ends with a
// look at [Server.Violations].
package simulator

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// compactBars is how many rows outputsize=compact holds.
const compactBars = 100

// Config says what the simulator's plan holds; the zero value is a plan
// without limits and without the whole history.
type Config struct {
	// Key is the only key that is served; "" means any.
	Key string
	// PerSecond and PerMinute bound the calls of every sliding window,
	// PerDay those of a New York calendar day; 0 means no bound. A call
	// above a bound gets a message instead of data, and counts.
	PerSecond, PerMinute, PerDay int
	// Premium allows outputsize=full.
	Premium bool
	// Through is the newest session served, and the day on which reports are
	// as they come; 0 means the last one that has closed at Now.
	Through market.Date
	// Listed is the first session of a symbol that was not listed on
	// [Listed].
	Listed map[market.Symbol]market.Date
	// Funds are symbols without reports, besides SPY, QQQ, IVV and VOO.
	Funds []market.Symbol
	// Latency passes before each answer.
	Latency time.Duration
	// Elsewhere is where the fault redirect_elsewhere points, such as
	// http://127.0.0.1:9999; "" means an address that nobody has.
	Elsewhere string
	// EDGAR is what the simulator's EDGAR holds.
	EDGAR EDGARConfig
	// FINRA is what the simulator's FINRA holds.
	FINRA FINRAConfig
	// Massive and Tiingo are what the simulator's other vendors of bars hold.
	Massive MassiveConfig
	Tiingo  TiingoConfig
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server is the simulator. It is safe for concurrent use.
type Server struct {
	c       Config
	admin   *http.ServeMux
	zippers sync.Pool // *gzip.Writer
	sheets  sync.Pool // *sheet, of which only the space counts

	mu     sync.Mutex
	log    callLog
	faults map[market.Symbol][]planned
	// books are what the bars of a symbol lack of the truth.
	books map[market.Symbol]book
	edgar edgarState
	finra finraState

	massive, tiingo *BarSite
}

// New returns a simulator. It serves /query, EDGAR's paths and, for other
// processes:
//
//	GET  /_simulator/calls    every call, oldest first
//	GET  /_simulator/report   the greatest number of calls in any window, violations
//	GET  /_simulator/faults   the names of the faults
//	POST /_simulator/faults   ?symbol=AAPL&fault=html&times=1 plans faults
//	POST /_simulator/lack     ?symbol=AAPL&date=2026-03-12 takes a session's bar away
//	POST /_simulator/split    ?symbol=AAPL&on=2026-03-12&ratio=4 puts the bars before on a new base
//	POST /_simulator/reset    forgets calls, plans, lacks and splits
//
// and the same for EDGAR:
//
//	GET  /_simulator/edgar/calls
//	GET  /_simulator/edgar/faults
//	POST /_simulator/edgar/faults   ?cik=320193&fault=html&times=1, with day=2026-03-12 or accession= in place of cik
//
// and for FINRA, with settlement=2026-02-27 in place of cik, under
// /_simulator/finra/, and for Massive and Tiingo, with symbol= in place of cik,
// under /_simulator/massive/ and /_simulator/tiingo/.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Elsewhere == "" {
		c.Elsewhere = "http://192.0.2.1"
	}
	s := &Server{c: c, faults: map[market.Symbol][]planned{}, books: map[market.Symbol]book{}, edgar: newEDGAR(c.EDGAR)}
	s.zippers.New = func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // only for a level that does not exist
		}
		return w
	}
	s.admin = s.adminRoutes()
	s.edgarRoutes(s.admin)
	s.finraRoutes(s.admin)
	s.massive, s.tiingo = &BarSite{s: s, vendor: massive{s}}, &BarSite{s: s, vendor: tiingo{s}}
	s.massive.routes(s.admin)
	s.tiingo.routes(s.admin)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, adminPrefix):
		s.admin.ServeHTTP(w, r)
	case r.URL.Path == "/query":
		s.query(w, r)
	case isEDGAR(r.URL.Path):
		s.askEDGAR(w, r)
	case isFINRA(r.URL.Path):
		s.askFINRA(w, r)
	case isMassive(r.URL.Path):
		s.massive.ask(w, r)
	case isTiingo(r.URL.Path):
		s.tiingo.ask(w, r)
	default:
		http.NotFound(w, r)
	}
}

// question is a call as the parameters state it.
type question struct {
	function, asked, key string
	symbol               market.Symbol // "" if asked is none
	full, csv            bool
	now                  time.Time
	through              market.Date
	book                 book
}

func (s *Server) read(r *http.Request) question {
	p := r.URL.Query()
	q := question{
		function: p.Get("function"),
		asked:    p.Get("symbol"),
		key:      p.Get("apikey"),
		full:     p.Get("outputsize") == "full",
		csv:      p.Get("datatype") == "csv",
	}
	// The provider does not mind the case, and takes a share class with a
	// dot as well as with a hyphen.
	upper := strings.ToUpper(q.asked)
	var err error
	if q.symbol, err = market.ParseSymbol(upper); err != nil {
		q.symbol, _ = market.ParseSpelled(market.AlphaVantage, upper)
	}
	return q
}

func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	q := s.read(r)
	serve, err := s.admit(&q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if !sleep(r, s.c.Latency) {
		return
	}
	serve(reply{s, w, r, q})
}

// admit logs the call and decides what it gets: a limit's message, a planned
// fault, the message that the question earns, or bars.
func (s *Server) admit(q *question) (func(reply), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.now = s.c.Now()
	q.through = s.c.Through
	if q.through == 0 {
		var err error
		if q.through, err = market.NYSE().LastClosed(q.now, 0); err != nil {
			return nil, err
		}
	}
	q.book = s.bookOf(q.symbol)
	outcome, serve := s.decide(q)
	s.log.add(q, outcome)
	return serve, nil
}

func (s *Server) decide(q *question) (outcome string, serve func(reply)) {
	if over := s.log.over(s.c, q.now); over != "" {
		return string(over), shapeOf(over)
	}
	if f, ok := s.takeFault(q); ok {
		return "fault:" + string(f), q.shapeOf(f)
	}
	if f := s.complaint(q); f != "" {
		return string(f), shapeOf(f)
	}
	if isStatement(q.function) {
		return strings.ToLower(q.function), reply.report
	}
	return "bars", reply.bars
}

// complaint returns the fault that the question itself earns, "" for none.
func (s *Server) complaint(q *question) Fault {
	switch {
	case q.key == "" || s.c.Key != "" && q.key != s.c.Key:
		return BadKey
	case isStatement(q.function) && s.c.isFund(q.symbol):
		return EmptyObject
	case isStatement(q.function):
		return ""
	case q.function != "TIME_SERIES_DAILY":
		return BadFunction
	case q.symbol == "" || q.book.listed > q.through:
		return BadSymbol
	case q.full && !s.c.Premium:
		return PremiumFull
	}
	return ""
}

// sheet returns the bars that a question gets.
func (a reply) sheet() *sheet {
	out, _ := a.s.sheets.Get().(*sheet)
	if out == nil {
		out = &sheet{}
	}
	out.symbol, out.refreshed, out.full, out.rows = a.asked, a.through.String(), a.full, out.rows[:0]
	w := newWalk(a.symbol)
	for d := a.through; d >= a.book.listed && (a.full || len(out.rows) < compactBars); d-- {
		if open, err := market.NYSE().IsSession(d); err == nil && open && !a.book.lacks.Has(d) {
			out.rows = append(out.rows, row{quote: a.book.quote(w, d)})
		}
	}
	return out
}

// quote returns the bar of a date as it is served.
func (q question) quote(date market.Date) quote { return q.book.quote(newWalk(q.symbol), date) }

// reply is one answer in the making.
type reply struct {
	s *Server
	w http.ResponseWriter
	r *http.Request
	question
}

func (a reply) bars() { a.sendSheet(a.sheet()) }

// sendSheet sends s, which is not to be used after that.
func (a reply) sendSheet(s *sheet) {
	defer a.s.sheets.Put(s)
	if a.csv {
		a.w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=daily_%s.csv", a.symbol))
		s.room = s.csv()
		a.send(http.StatusOK, "application/x-download", s.room)
		return
	}
	s.room = s.json()
	a.send(http.StatusOK, "application/json", s.room)
}

// message sends the provider's way to say no: status 200 and JSON, also to
// those who asked for CSV.
func (a reply) message(name, text string) {
	a.send(http.StatusOK, "application/json", fmt.Appendf(nil, "{\n    %q: %q\n}", name, text))
}

func (a reply) send(status int, contentType string, body []byte) {
	h := a.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Server", "cloudflare")
	h.Set("Via", "1.1 vegur")
	h.Set("CF-Cache-Status", "DYNAMIC")
	h.Set("Allow", "GET, HEAD, OPTIONS")
	h.Set("Vary", "Accept, Accept-Encoding, Cookie, Origin")
	a.s.write(a.w, a.r, status, body)
}

// write sends a body, compressed if the client takes that.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.WriteHeader(status)
		_, _ = w.Write(body) // the client may be gone
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z := s.zippers.Get().(*gzip.Writer)
	defer s.zippers.Put(z)
	z.Reset(w)
	_, _ = z.Write(body)
	_ = z.Close()
}

// sleep waits for d and reports whether the client is still there.
func sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

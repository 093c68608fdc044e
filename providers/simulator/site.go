package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// BarCall is one call to a [BarSite], in the order of arrival. It does not hold
// the key.
type BarCall struct {
	At   time.Time `json:"at"`
	Path string    `json:"path"`
	// Symbol is the canonical symbol; "" if all were asked for, or what was
	// asked for is none.
	Symbol market.Symbol `json:"symbol"`
	From   market.Date   `json:"from"`
	To     market.Date   `json:"to"`
	// Outcome is "bars", "fault:" and the planned fault's name, or the name of
	// the fault that the call earned by itself, such as too_many_requests.
	Outcome string `json:"outcome"`
}

// BarSite is a vendor of daily bars beside Alpha Vantage, with limits, calls and
// faults of its own. The bars, what they lack and their splits are the server's.
type BarSite struct {
	s      *Server
	vendor barVendor
	calls  []BarCall // guarded by the server's lock
}

// barVendor is what a site is made of.
type barVendor interface {
	// name is the vendor's in paths and messages.
	name() string
	limits() []barLimit
	// read reads the question and returns the fault that it earns by itself, ""
	// for none. The caller holds the server's lock.
	read(a *barReply) Fault
	// render writes an answer.
	render(a *barReply, s *barSheet) []byte
	shapes() []barShape
}

// barLimit bounds the calls of every sliding window; 0 means no bound. A call
// above it gets the fault, and counts.
type barLimit struct {
	most   int
	window time.Duration
	words  string
	fault  Fault
}

// barShape is a fault and the way it is served.
type barShape struct {
	fault Fault
	serve func(*barReply)
}

// barReply is one answer in the making.
type barReply struct {
	reply
	site   *BarSite
	window market.Range
	// books are those of the symbols that are asked for, in the order of the
	// answer.
	books []symbolBook
	// grouped says that the symbols are named in the rows.
	grouped bool
	// page counts from 0.
	page int
	// asTraded asks for prices as traded of a vendor that adjusts them.
	asTraded bool
}

type symbolBook struct {
	symbol market.Symbol
	book
}

// barSheet is an answer before it is written.
type barSheet struct {
	ticker string   // as asked
	rows   []barRow // oldest first
	// next is the URL of the next page, if there is one.
	next string
	// status and adjusted are what a vendor says of the whole.
	status   string
	adjusted bool
	// miscount is added to the number of rows.
	miscount int
}

// barRow is a bar before it is written. odd holds what is written in place of
// its columns.
type barRow struct {
	quote
	symbol market.Symbol
	ratio  float64 // of the splits after it
	odd    map[int]string
}

func (r *barRow) price(b []byte, col int, v int64) []byte {
	if odd, ok := r.odd[col]; ok {
		return append(b, odd...)
	}
	return strconv.AppendFloat(b, price(v), 'f', -1, 64)
}

// routes lets another process look at the calls and plan faults.
func (b *BarSite) routes(mux *http.ServeMux) {
	prefix := adminPrefix + b.vendor.name() + "/"
	mux.HandleFunc("GET "+prefix+"calls", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, append([]BarCall{}, b.Calls()...))
	})
	mux.HandleFunc("GET "+prefix+"faults", func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, b.Faults()) })
	mux.HandleFunc("POST "+prefix+"faults", func(w http.ResponseWriter, r *http.Request) {
		var symbol market.Symbol
		var err error
		if text := r.FormValue("symbol"); text != "" && text != "*" {
			symbol, err = market.ParseSymbol(text)
		}
		times, err2 := 1, error(nil)
		if text := r.FormValue("times"); text != "" {
			times, err2 = strconv.Atoi(text)
		}
		fault := Fault(r.FormValue("fault"))
		if err != nil || err2 != nil || times == 0 || b.shapeOf(fault) == nil {
			http.Error(w, "want symbol (or nothing for any call), fault and times (-1 for all): the faults are "+
				strings.Join(b.Faults(), ", "), http.StatusBadRequest)
			return
		}
		b.Fault(symbol, fault, times)
		w.WriteHeader(http.StatusNoContent)
	})
}

// Calls returns the calls to the site so far, at most the newest million.
func (b *BarSite) Calls() []BarCall {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return slices.Clone(b.calls)
}

// MaxInWindow returns the greatest number of calls to the site in any window of
// length d, its end not included.
func (b *BarSite) MaxInWindow(d time.Duration) int {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	most, first := 0, 0
	for i := range b.calls {
		for b.calls[i].At.Sub(b.calls[first].At) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Faults returns the names of all faults of the site.
func (b *BarSite) Faults() []string {
	var names []string
	for _, shape := range b.shapes() {
		names = append(names, string(shape.fault))
	}
	return names
}

// Fault is [Server.Fault] for the calls to the site. A call for all symbols gets
// the faults that are planned for any.
func (b *BarSite) Fault(symbol market.Symbol, f Fault, times int) {
	if times == 0 || b.shapeOf(f) == nil {
		return
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	key := b.planKey(symbol)
	b.s.faults[key] = append(b.s.faults[key], planned{f, times})
}

// planKey is no symbol, so the plans of the vendors stay apart.
func (b *BarSite) planKey(symbol market.Symbol) market.Symbol {
	return market.Symbol(b.vendor.name()+"/") + symbol
}

func (b *BarSite) takeFault(symbol market.Symbol) (Fault, bool) {
	for _, of := range [...]market.Symbol{symbol, ""} {
		key := b.planKey(of)
		plans := b.s.faults[key]
		if len(plans) == 0 {
			continue
		}
		f := plans[0].fault
		if plans[0].times--; plans[0].times == 0 {
			b.s.faults[key] = plans[1:]
		}
		return f, true
	}
	return "", false
}

func (b *BarSite) shapes() []barShape {
	return slices.Concat(barForms(), barWays(), b.vendor.shapes())
}

func (b *BarSite) shapeOf(f Fault) func(*barReply) {
	for _, shape := range b.shapes() {
		if shape.fault == f {
			return shape.serve
		}
	}
	return nil
}

func (b *BarSite) ask(w http.ResponseWriter, r *http.Request) {
	a := &barReply{reply: reply{s: b.s, w: w, r: r}, site: b}
	serve, err := b.admit(a)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if sleep(r, b.s.c.Latency) {
		serve(a)
	}
}

// admit logs the call and decides what it gets: a limit's message, a planned
// fault, the message that the question earns, or bars.
func (b *BarSite) admit(a *barReply) (serve func(*barReply), err error) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	a.now, a.through = b.s.c.Now(), b.s.c.Through
	if a.through == 0 {
		if a.through, err = market.NYSE().LastClosed(a.now, 0); err != nil {
			return nil, err
		}
	}
	earned := b.vendor.read(a)
	outcome, serve := b.decide(a, earned)
	if len(b.calls) == maxCalls {
		b.calls = slices.Delete(b.calls, 0, maxCalls/2)
	}
	b.calls = append(b.calls, BarCall{
		At: a.now, Path: a.r.URL.Path, Symbol: a.symbol, From: a.window.From, To: a.window.To, Outcome: outcome,
	})
	return serve, nil
}

func (b *BarSite) decide(a *barReply, earned Fault) (outcome string, serve func(*barReply)) {
	if over := b.over(a.now); over != "" {
		return string(over), b.shapeOf(over)
	}
	if f, ok := b.takeFault(a.symbol); ok {
		return "fault:" + string(f), b.shapeOf(f)
	}
	if earned != "" {
		return string(earned), b.shapeOf(earned)
	}
	return "bars", func(a *barReply) { a.sendSheet(a.sheet()) }
}

// over returns the fault that a call earns which arrives at now.
func (b *BarSite) over(now time.Time) Fault {
	for _, l := range b.vendor.limits() {
		n := 1
		for i := len(b.calls) - 1; i >= 0 && now.Sub(b.calls[i].At) < l.window; i-- {
			n++
		}
		if l.most > 0 && n > l.most {
			return b.s.log.violate(l.fault, now, n, l.most, l.words+", to "+b.vendor.name())
		}
	}
	return ""
}

// sheet returns the right answer.
func (a *barReply) sheet() *barSheet {
	out := &barSheet{ticker: a.asked, status: "OK", adjusted: !a.asTraded}
	for _, b := range a.books {
		w := newWalk(b.symbol)
		for d := max(a.window.From, b.listed); d <= min(a.window.To, a.through); d++ {
			if open, err := market.NYSE().IsSession(d); err == nil && open && !b.lacks.Has(d) {
				out.rows = append(out.rows, barRow{quote: w.quote(d), symbol: b.symbol, ratio: b.ratio(d)})
			}
		}
	}
	return out
}

func (a *barReply) body() []byte { return a.site.vendor.render(a, a.sheet()) }

func (a *barReply) sendSheet(s *barSheet) {
	a.sendAs(http.StatusOK, "application/json", a.site.vendor.render(a, s))
}

// sendAs sends a body, compressed if the caller can read that.
func (a *barReply) sendAs(status int, contentType string, body []byte) {
	a.w.Header().Set("Content-Type", contentType)
	a.s.write(a.w, a.r, status, body)
}

// says is a fault that is a short document; {key} stands for the key.
func says(f Fault, status int, text string) barShape {
	return barShape{f, func(a *barReply) {
		if f == TooManyRequestsLong {
			a.w.Header().Set("Retry-After", "100000")
		}
		kind := "application/json"
		if strings.HasPrefix(text, "<") {
			kind = "text/html; charset=utf-8"
		}
		a.sendAs(status, kind, []byte(strings.ReplaceAll(text, "{key}", a.key)))
	}}
}

func barForms() []barShape {
	page := func(f Fault, status int) barShape {
		return says(f, status, fmt.Sprintf("<html><head><title>%d</title></head><body>Something is wrong with {key}.</body></html>", status))
	}
	change := func(f Fault, contentType string, change func([]byte) []byte) barShape {
		return barShape{f, func(a *barReply) { a.sendAs(http.StatusOK, contentType, change(a.body())) }}
	}
	return []barShape{
		page(HTML, http.StatusOK),
		page(HTML503, http.StatusServiceUnavailable),
		page(HTML520, 520),
		page(NotFoundPage, http.StatusNotFound),
		page(Forbidden, http.StatusForbidden),
		says(EmptyBody, http.StatusOK, ""),
		says(EmptyObject, http.StatusOK, "{}"),
		says(EmptyArray, http.StatusOK, "[]"),
		says(Null, http.StatusOK, "null"),
		change(WrongContentType, "text/html", func(b []byte) []byte { return b }),
		change(ByteOrderMark, "application/json", func(b []byte) []byte { return append([]byte("\uFEFF"), b...) }),
		change(Trailing, "application/json", func(b []byte) []byte { return append(b, "{}\n"...) }),
	}
}

func barWays() []barShape {
	cut := func(f Fault, header string) barShape {
		return barShape{f, func(a *barReply) {
			body := a.body()
			a.raw(header, len(body), body[:len(body)*2/3])
		}}
	}
	redirect := func(f Fault, where func(*barReply) string) barShape {
		return barShape{f, func(a *barReply) { http.Redirect(a.w, a.r, where(a), http.StatusFound) }}
	}
	return []barShape{
		cut(TruncatedLength, "Content-Length: %d\r\n"),
		cut(TruncatedClose, ""),
		{TruncatedGzip, func(a *barReply) {
			zipped := zip(a.body())
			a.raw("Content-Encoding: gzip\r\n", 0, zipped[:len(zipped)*2/3])
		}},
		{ShortLength, func(a *barReply) {
			body := a.body()
			a.raw("Content-Length: %d\r\n", len(body)/2, body)
		}},
		{SlowBody, (*barReply).drip},
		{SlowHeaders, func(a *barReply) { <-a.r.Context().Done() }},
		{Reset, func(a *barReply) {
			body := a.body()
			_, _ = a.w.Write(body[:len(body)/2])
			a.reset()
		}},
		{GzipBomb, func(a *barReply) { a.bomb() }},
		redirect(RedirectElsewhere, func(a *barReply) string { return a.s.c.Elsewhere + a.r.URL.Path + "?token=" + a.key }),
		redirect(RedirectLoop, func(a *barReply) string { return a.r.URL.RequestURI() }),
	}
}

func (a *barReply) drip() {
	control := http.NewResponseController(a.w)
	for _, b := range a.body() {
		if _, err := a.w.Write([]byte{b}); err != nil {
			return
		}
		_ = control.Flush()
		if !sleep(a.r, 100*time.Millisecond) {
			return
		}
	}
}

// barEdit is a fault of an answer that is right but for one change. An answer
// without bars is right.
func barEdit(f Fault, change func(*barReply, *barSheet)) barShape {
	return barShape{f, func(a *barReply) {
		s := a.sheet()
		if len(s.rows) > 0 {
			change(a, s)
		}
		a.sendSheet(s)
	}}
}

func barValues() []barShape {
	newest := func(f Fault, col int, text string) barShape {
		return barEdit(f, func(_ *barReply, s *barSheet) { s.rows[len(s.rows)-1].odd = map[int]string{col: text} })
	}
	add := func(f Fault, when func(*barReply) market.Date) barShape {
		return barEdit(f, func(a *barReply, s *barSheet) {
			row := s.rows[len(s.rows)-1]
			row.quote = newWalk(row.symbol).quote(when(a))
			s.rows = append(s.rows, row)
		})
	}
	drop := func(f Fault, n int) barShape {
		return barEdit(f, func(_ *barReply, s *barSheet) { s.rows = s.rows[:max(len(s.rows)-n, 0)] })
	}
	return []barShape{
		add(PartialBar, func(a *barReply) market.Date {
			next, err := market.NYSE().Next(a.through)
			if err != nil {
				return a.through + 1
			}
			return next
		}),
		add(WeekendBar, func(a *barReply) market.Date { return nearest(a.window.To, time.Saturday, -1) }),
		add(FutureBar, func(a *barReply) market.Date { return nearest(a.through+30, time.Wednesday, 1) }),
		drop(MissingLast, 1),
		drop(Stale, 30),
		barEdit(MissingMiddle, func(_ *barReply, s *barSheet) {
			middle := len(s.rows) / 2
			s.rows = slices.Delete(s.rows, middle, middle+1)
		}),
		barEdit(Unsorted, func(_ *barReply, s *barSheet) {
			slices.Reverse(s.rows)
			if len(s.rows) > 2 { // neither order
				s.rows[0], s.rows[1] = s.rows[1], s.rows[0]
			}
		}),
		barEdit(DuplicateBars, func(_ *barReply, s *barSheet) { s.rows = append(s.rows, s.rows[len(s.rows)-1]) }),
		barEdit(ConflictingBars, func(_ *barReply, s *barSheet) {
			twin := s.rows[len(s.rows)-1]
			twin.volume *= 10
			s.rows = append(s.rows, twin)
		}),
		newest(BadUTF8, colOpen, "1\xff"),
		newest(NUL, colOpen, "1\x00"),
		newest(BadDate, colDate, `"2026-02-30T16:00:00.000Z"`),
		newest(BadNumber, colOpen, `"None"`),
		newest(NullValue, colOpen, "null"),
		newest(NaN, colHigh, "NaN"),
		newest(HugeNumber, colHigh, "1"+strings.Repeat("0", 400)),
		newest(Exponent, colLow, "1e3"),
		newest(NegativePrice, colClose, "-1.5"),
		newest(ZeroPrice, colLow, "0"),
		newest(NegativeVolume, colVolume, "-1"),
		barEdit(HighBelowLow, func(_ *barReply, s *barSheet) {
			r := &s.rows[len(s.rows)-1]
			r.high, r.low = r.low, r.high
		}),
	}
}

package simulator

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// EDGARConfig says what the simulator's EDGAR holds; the zero value lists the
// S&P 500 and keeps no limit. One server stands for both hosts.
type EDGARConfig struct {
	// PerSecond bounds the calls of every sliding second, to all paths
	// together; 0 means no bound. A call above it gets the page about the
	// rate, and counts.
	PerSecond int
	// Symbols are those of the ticker file; nil means market.SP500.
	Symbols []market.Symbol
	// Padding is the size in bytes that an issuer's document is filled up
	// to, with concepts that nobody asks for.
	Padding int
	// Forms is the number of reports of insiders on each day on which the SEC
	// takes filings, at most 99999; 0 means 20, below 0 none.
	Forms int
	// Foreign is the number of rows of each daily index that are about other
	// issuers or other forms; 0 means 200, below 0 none.
	Foreign int
}

// The faults of EDGAR that Alpha Vantage does not have. Those of the same name
// are HTML, EmptyBody, EmptyObject, WrongContentType, BadUTF8, Trailing,
// TruncatedLength, TruncatedClose, TruncatedGzip, Reset, SlowHeaders, GzipBomb,
// RedirectElsewhere, RedirectLoop, TooManyRequests, BadDate, BadNumber, NaN and
// Exponent.
const (
	RateThreshold     Fault = "rate_threshold"      // the block page, status 403
	RateThreshold200  Fault = "rate_threshold_200"  // with status 200
	UndeclaredTool    Fault = "undeclared_tool"     // the other block page, status 403
	UndeclaredTool200 Fault = "undeclared_tool_200" // with status 200
	Maintenance       Fault = "maintenance"         // a page, status 503
	Forbidden         Fault = "forbidden"           // a page without a reason, status 403
	AccessDenied      Fault = "access_denied"       // status 403 and XML
	NoSuchKey         Fault = "no_such_key"         // status 404 and XML
	NotFoundPage      Fault = "not_found_page"      // status 404 and HTML
	WrongCIK          Fault = "wrong_cik"           // another issuer's number on the right figures
	NoFacts           Fault = "no_facts"            // an issuer that has reported none
	NullValue         Fault = "null_value"
	HugeNumber        Fault = "huge_number" // more than a float64 holds
	BadAccession      Fault = "bad_accession"
	RepeatedFacts     Fault = "repeated_facts"    // each one twice
	ConflictingFacts  Fault = "conflicting_facts" // one fact twice, with two values
	DisputedTickers   Fault = "disputed_tickers"  // a symbol of two issuers, and rows that are malformed
)

// EDGARCall is one call to EDGAR, in the order of arrival.
type EDGARCall struct {
	At   time.Time `json:"at"`
	Path string    `json:"path"`
	// CIK is the issuer that was asked for; 0 for the ticker file and an
	// index.
	CIK int `json:"cik"`
	// Day is that of a daily index, Accession the number of a filing.
	Day       market.Date `json:"day,omitzero"`
	Accession string      `json:"accession,omitempty"`
	Agent     string      `json:"agent"`
	// Outcome is "tickers", "not_modified", "facts", "index", "filing",
	// "fault:" and the planned fault's name, or the name of the fault that
	// the call earned by itself, such as rate_threshold.
	Outcome string `json:"outcome"`
}

const (
	tickerPath = "/files/company_tickers.json"
	factsPath  = "/api/xbrl/companyfacts/CIK"
	// archivesPath is where indexes and filings are.
	archivesPath = "/Archives/edgar/"
)

// edgarState is what the simulator's EDGAR knows. It is guarded by the
// server's lock but for issuers, which never change.
type edgarState struct {
	issuers []issuer
	calls   []EDGARCall
}

func newEDGAR(c EDGARConfig) edgarState {
	if c.Symbols == nil {
		c.Symbols = market.SP500()
	}
	return edgarState{issuers: issuers(c.Symbols)}
}

func isEDGAR(path string) bool {
	return path == tickerPath || strings.HasPrefix(path, factsPath) || strings.HasPrefix(path, archivesPath)
}

// edgarRoutes lets another process look at the calls and plan faults.
func (s *Server) edgarRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+adminPrefix+"edgar/calls", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, append([]EDGARCall{}, s.EDGARCalls()...))
	})
	mux.HandleFunc("GET "+adminPrefix+"edgar/faults", func(w http.ResponseWriter, _ *http.Request) {
		names := slices.Concat(EDGARFaults(), IndexFaults(), FilingFaults())
		slices.Sort(names)
		sendJSON(w, slices.Compact(names))
	})
	mux.HandleFunc("POST "+adminPrefix+"edgar/faults", func(w http.ResponseWriter, r *http.Request) {
		times, err2 := strconv.Atoi(r.FormValue("times"))
		fault := Fault(r.FormValue("fault"))
		if r.Form.Has("day") || r.Form.Has("accession") {
			s.planFormFault(w, r, fault, times)
			return
		}
		cik, err1 := strconv.Atoi(r.FormValue("cik"))
		if err1 != nil || err2 != nil || times == 0 || edgarShapeOf(fault) == nil {
			http.Error(w, "want cik (0 for any call), fault and times (-1 for all): the faults are "+
				strings.Join(EDGARFaults(), ", "), http.StatusBadRequest)
			return
		}
		s.FaultEDGAR(cik, fault, times)
		w.WriteHeader(http.StatusNoContent)
	})
}

// EDGARCalls returns the calls to EDGAR so far, at most the newest million.
func (s *Server) EDGARCalls() []EDGARCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.edgar.calls)
}

// EDGARMaxInWindow returns the greatest number of calls to EDGAR in any window
// of length d, its end not included.
func (s *Server) EDGARMaxInWindow(d time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, first := 0, 0
	for i := range s.edgar.calls {
		for s.edgar.calls[i].At.Sub(s.edgar.calls[first].At) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// FaultEDGAR is [Server.Fault] for the calls about an issuer's facts; 0 means any
// call, also one for the ticker file, an index or a filing.
func (s *Server) FaultEDGAR(cik int, f Fault, times int) {
	s.planEDGAR(edgarKey(cik), f, times, edgarShapes())
}

func (s *Server) planEDGAR(key market.Symbol, f Fault, times int, of []edgarShape) {
	if times == 0 || shapeAmong(of, f) == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[key] = append(s.faults[key], planned{f, times})
}

// edgarKey is no symbol, so the plans of both providers stay apart.
func edgarKey(cik int) market.Symbol { return market.Symbol(fmt.Sprintf("edgar/%d", cik)) }

// edgarReply is one answer in the making.
type edgarReply struct {
	reply
	cik int // 0: the ticker file
	day market.Date
	archived
}

func (s *Server) askEDGAR(w http.ResponseWriter, r *http.Request) {
	a := edgarReply{reply: reply{s: s, w: w, r: r}}
	switch {
	case strings.HasPrefix(r.URL.Path, archivesPath):
		a.archived = parseArchived(s.c.EDGAR.withDefaults(), r.URL.Path)
		a.cik = a.of
	case r.URL.Path != tickerPath:
		digits := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, factsPath), ".json")
		a.cik, _ = strconv.Atoi(digits)
		if len(digits) != 10 {
			a.cik = -1 // the SEC knows no other way to write it
		}
	}
	serve := s.admitEDGAR(&a)
	if sleep(r, s.c.Latency) {
		serve(a)
	}
}

// admitEDGAR logs the call and decides what it gets.
func (s *Server) admitEDGAR(a *edgarReply) func(edgarReply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.now = s.c.Now()
	a.day = market.DateOf(a.now.In(market.NewYork()))
	outcome, serve := s.decideEDGAR(a)
	if len(s.edgar.calls) == maxCalls {
		s.edgar.calls = slices.Delete(s.edgar.calls, 0, maxCalls/2)
	}
	s.edgar.calls = append(s.edgar.calls, EDGARCall{
		At: a.now, Path: a.r.URL.Path, CIK: a.cik, Day: a.indexDay, Accession: a.accession, Agent: a.r.UserAgent(), Outcome: outcome,
	})
	return serve
}

func (s *Server) decideEDGAR(a *edgarReply) (outcome string, serve func(edgarReply)) {
	earned := func(f Fault) (string, func(edgarReply)) { return string(f), edgarShapeOf(f) }
	switch {
	case s.edgarOver(a.now):
		return earned(RateThreshold)
	case !strings.Contains(a.r.UserAgent(), "@"):
		return earned(UndeclaredTool)
	}
	if f, ok := s.takeEDGARFault(a); ok {
		return "fault:" + string(f), shapeAmong(a.shapes(), f)
	}
	switch {
	case a.what != "":
		return a.decide()
	case a.cik == 0 && a.hasTickers():
		return "not_modified", func(a edgarReply) { a.w.WriteHeader(http.StatusNotModified) }
	case a.cik == 0:
		return "tickers", func(a edgarReply) { a.sendRight(a.body()) }
	case !slices.ContainsFunc(s.edgar.issuers, func(is issuer) bool { return is.cik == a.cik }):
		return earned(NoSuchKey)
	}
	return "facts", func(a edgarReply) { a.sendRight(a.body()) }
}

// edgarOver counts a call that arrives at now.
func (s *Server) edgarOver(now time.Time) bool {
	calls := s.edgar.calls
	n := 1
	for i := len(calls) - 1; i >= 0 && now.Sub(calls[i].At) < time.Second; i-- {
		n++
	}
	if s.c.EDGAR.PerSecond == 0 || n <= s.c.EDGAR.PerSecond {
		return false
	}
	s.log.violate(RateThreshold, now, n, s.c.EDGAR.PerSecond, "a second, to EDGAR")
	return true
}

// takeEDGARFault looks at the plans for what is asked for, then at those for
// any call. A fault that the document cannot have waits for one that can.
func (s *Server) takeEDGARFault(a *edgarReply) (Fault, bool) {
	for _, key := range append(a.faultKeys(), edgarKey(0)) {
		plans := s.faults[key]
		if len(plans) == 0 || shapeAmong(a.shapes(), plans[0].fault) == nil {
			continue
		}
		f := plans[0].fault
		if plans[0].times--; plans[0].times == 0 {
			s.faults[key] = plans[1:]
		}
		return f, true
	}
	return "", false
}

func (a *edgarReply) faultKeys() []market.Symbol {
	if a.what == "" {
		return []market.Symbol{edgarKey(a.cik)}
	}
	return a.archived.faultKeys()
}

// shapes are the faults that the document can have.
func (a *edgarReply) shapes() []edgarShape {
	if a.what == "" {
		return edgarShapes()
	}
	return a.archived.shapes()
}

// tickerDate is when the ticker file was last changed.
const tickerDate = "Mon, 02 Mar 2026 10:00:00 GMT"

// hasTickers reports whether the caller has the ticker file as it is. As in
// HTTP, the date counts only for those who give no tag.
func (a edgarReply) hasTickers() bool {
	if tag := a.r.Header.Get("If-None-Match"); tag != "" {
		return tag == a.tag()
	}
	return a.r.Header.Get("If-Modified-Since") == tickerDate
}

func (a edgarReply) tag() string {
	sum := fnv.New64a()
	_, _ = sum.Write(tickerFile(a.s.edgar.issuers, false)) // a hash takes everything
	return fmt.Sprintf("%q", strconv.FormatUint(sum.Sum64(), 16))
}

// body is the right answer.
func (a edgarReply) body() []byte {
	switch {
	case a.what != "":
		return a.archived.text(a.now)
	case a.cik == 0:
		return tickerFile(a.s.edgar.issuers, false)
	}
	return a.dossier().json(a.cik, a.day)
}

// dossier is the document of the issuer; every other issuer's number is
// written as a text.
func (a edgarReply) dossier() *dossier {
	d := &dossier{cik: strconv.Itoa(a.cik), name: entityName(a.cik), facts: Facts(a.cik, a.day), padding: a.s.c.EDGAR.Padding}
	if a.cik%2 == 1 {
		d.cik = fmt.Sprintf(`"%010d"`, a.cik)
	}
	return d
}

// contentType is that of the right answer.
func (a edgarReply) contentType() string {
	if a.what != "" {
		return "text/plain"
	}
	return "application/json"
}

func (a edgarReply) sendRight(body []byte) {
	if a.what != "" {
		a.sendAs(http.StatusOK, a.contentType(), body)
		return
	}
	if a.cik == 0 {
		a.w.Header().Set("ETag", a.tag())
		a.w.Header().Set("Last-Modified", tickerDate)
	} else {
		a.w.Header().Set("Cache-Control", "no-store")
	}
	a.sendAs(http.StatusOK, a.contentType(), body)
}

// sendAs sends a body as the SEC's servers do, compressed if the caller can
// read that.
func (a edgarReply) sendAs(status int, contentType string, body []byte) {
	h := a.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Vary", "Accept-Encoding")
	a.s.write(a.w, a.r, status, body)
}

func (a edgarReply) page(status int, title, text string) {
	a.sendAs(status, "text/html", fmt.Appendf(nil, "<!DOCTYPE html>\n<html lang=\"en\"><head><title>SEC.gov | %s</title></head>\n"+
		"<body><h1>%s</h1><p>%s</p><p>Reference ID: 0.5f3b2e17.1773412345.9a1b2c3</p></body></html>\n", title, title, text))
}

// edgarShape is a fault and the way it is served.
type edgarShape struct {
	fault Fault
	serve func(edgarReply)
}

// EDGARFaults returns the names of all faults of EDGAR's ticker file and facts.
func EDGARFaults() []string {
	var names []string
	for _, s := range edgarShapes() {
		names = append(names, string(s.fault))
	}
	return names
}

func edgarShapeOf(f Fault) func(edgarReply) { return shapeAmong(edgarShapes(), f) }

func shapeAmong(of []edgarShape, f Fault) func(edgarReply) {
	for _, s := range of {
		if s.fault == f {
			return s.serve
		}
	}
	return nil
}

func edgarShapes() []edgarShape {
	return slices.Concat(edgarPages(), edgarForms(), edgarWays(), edgarValues())
}

func edgarPages() []edgarShape {
	const (
		threshold  = "Request Rate Threshold Exceeded"
		undeclared = "Your Request Originates from an Undeclared Automated Tool"
	)
	page := func(f Fault, status int, title, text string) edgarShape {
		return edgarShape{f, func(a edgarReply) { a.page(status, title, text) }}
	}
	return []edgarShape{
		page(RateThreshold, http.StatusForbidden, threshold, "Come back after ten slower minutes."),
		page(RateThreshold200, http.StatusOK, threshold, "Come back after ten slower minutes."),
		page(UndeclaredTool, http.StatusForbidden, undeclared, "Say who you are. "+threshold+" is another page."),
		page(UndeclaredTool200, http.StatusOK, undeclared, "Say who you are."),
		page(TooManyRequests, http.StatusTooManyRequests, "Too Many Requests", "Slow down."),
		page(Maintenance, http.StatusServiceUnavailable, "Maintenance", "We are back soon."),
		page(Forbidden, http.StatusForbidden, "Access Denied", "No reason is given."),
		page(NotFoundPage, http.StatusNotFound, "Not Found", "There is no such page."),
		page(HTML, http.StatusOK, "Welcome", "This is no data."),
		{NoSuchKey, func(a edgarReply) {
			a.sendAs(http.StatusNotFound, "application/xml", []byte("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"+
				"<Error><Code>NoSuchKey</Code><Message>No such object.</Message></Error>"))
		}},
		{AccessDenied, func(a edgarReply) {
			a.sendAs(http.StatusForbidden, "application/xml", []byte("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"+
				"<Error><Code>AccessDenied</Code><Message>Not for you.</Message></Error>"))
		}},
	}
}

func edgarForms() []edgarShape {
	document := func(f Fault, text string) edgarShape {
		return edgarShape{f, func(a edgarReply) { a.sendRight([]byte(text)) }}
	}
	return []edgarShape{
		document(EmptyBody, ""),
		document(EmptyObject, "{}"),
		document(EmptyArray, "[]"),
		{WrongContentType, func(a edgarReply) { a.sendAs(http.StatusOK, "text/plain", a.body()) }},
		{BadUTF8, func(a edgarReply) { a.sendRight(bytes.Replace(a.body(), []byte("Issuer"), []byte("Iss\xff\xfer"), 1)) }},
		{Trailing, func(a edgarReply) { a.sendRight(append(a.body(), "{}\n"...)) }},
	}
}

func edgarWays() []edgarShape {
	head := func(a edgarReply) string { return "Content-Type: " + a.contentType() + "\r\n" }
	cut := func(f Fault, header string) edgarShape {
		return edgarShape{f, func(a edgarReply) {
			body := a.body()
			a.raw(head(a)+header, len(body), body[:len(body)*2/3])
		}}
	}
	return []edgarShape{
		cut(TruncatedLength, "Content-Length: %d\r\n"),
		cut(TruncatedClose, ""),
		{TruncatedGzip, func(a edgarReply) {
			zipped := zip(a.body())
			a.raw(head(a)+"Content-Encoding: gzip\r\n", 0, zipped[:len(zipped)*2/3])
		}},
		{Reset, func(a edgarReply) {
			body := a.body()
			a.w.Header().Set("Content-Type", a.contentType())
			_, _ = a.w.Write(body[:len(body)/2])
			a.reset()
		}},
		{SlowHeaders, func(a edgarReply) { <-a.r.Context().Done() }},
		{GzipBomb, func(a edgarReply) {
			a.w.Header().Set("Content-Type", a.contentType())
			a.bomb()
		}},
		{RedirectElsewhere, func(a edgarReply) { http.Redirect(a.w, a.r, a.s.c.Elsewhere+a.r.URL.Path, http.StatusFound) }},
		{RedirectLoop, func(a edgarReply) { http.Redirect(a.w, a.r, a.r.URL.RequestURI(), http.StatusFound) }},
	}
}

func edgarValues() []edgarShape {
	edit := func(f Fault, change func(*dossier)) edgarShape {
		return edgarShape{f, func(a edgarReply) {
			d := a.dossier()
			change(d)
			a.sendRight(d.json(a.cik, a.day))
		}}
	}
	return []edgarShape{
		edit(WrongCIK, func(d *dossier) { d.cik = "320194" }),
		edit(NoFacts, func(d *dossier) { d.facts = nil }),
		edit(BadNumber, func(d *dossier) { d.value = `"123"` }),
		edit(NullValue, func(d *dossier) { d.value = "null" }),
		edit(NaN, func(d *dossier) { d.value = "NaN" }),
		edit(HugeNumber, func(d *dossier) { d.value = "1e999" }),
		edit(Exponent, func(d *dossier) { d.value = strconv.FormatFloat(d.facts[0].Value, 'e', -1, 64) }), // the data are right
		edit(BadDate, func(d *dossier) { d.end = "2026-02-30" }),
		edit(BadAccession, func(d *dossier) { d.accn = "320193-26-1" }),
		edit(RepeatedFacts, func(d *dossier) {
			var twice []market.Fact
			for _, f := range d.facts {
				twice = append(twice, f, f)
			}
			d.facts = twice
		}),
		edit(ConflictingFacts, func(d *dossier) {
			twin := d.facts[0]
			twin.Value++
			d.facts = slices.Insert(d.facts, 1, twin)
		}),
		{DisputedTickers, func(a edgarReply) { a.sendRight(tickerFile(a.s.edgar.issuers, true)) }},
	}
}

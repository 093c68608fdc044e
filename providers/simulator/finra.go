package simulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// FINRAConfig says what the simulator's FINRA holds; the zero value lists the
// S&P 500 and keeps no limit.
type FINRAConfig struct {
	// PerSecond and PerMinute bound the calls of every sliding window; 0
	// means no bound. A call above a bound gets status 429, and counts.
	PerSecond, PerMinute int
	// Symbols are those that there are rows of; nil means market.SP500.
	Symbols []market.Symbol
	// PageRows is where a page ends although more rows were asked for, as
	// one of FINRA's does at 3 MB; 0 means nowhere.
	PageRows int
	// Late is how long after its hour a settlement date is published.
	Late time.Duration
	// Rewrites gives the rows of a date their revised numbers once the date
	// after it is published; else they stay as they were.
	Rewrites bool
}

const (
	finraData       = "/data/group/otcmarket/name/consolidatedshortinterest"
	finraPartitions = "/partitions/group/otcmarket/name/consolidatedshortinterest"

	finraDefaultRows = 1000
	finraMostRows    = 5000
	finraMostOffset  = 500_000
)

// FINRACall is one call to FINRA, in the order of arrival.
type FINRACall struct {
	At   time.Time `json:"at"`
	Path string    `json:"path"`
	// Settlement is the only date that was asked for; zero if there are more,
	// and for the partitions.
	Settlement market.Date `json:"settlement"`
	// Symbols is how many symbols were asked for; 0 means all.
	Symbols int `json:"symbols"`
	Offset  int `json:"offset"`
	Limit   int `json:"limit"`
	// Outcome is "rows", "no_rows", "partitions", "fault:" and the planned
	// fault's name, or the name of the fault that the call earned by itself,
	// such as too_many_requests or bad_request.
	Outcome string `json:"outcome"`
}

// finraState is what the simulator's FINRA knows. It is guarded by the
// server's lock.
type finraState struct{ calls []FINRACall }

// isFINRA knows the paths; FINRA minds no case in them.
func isFINRA(path string) bool {
	lower := strings.ToLower(path)
	return lower == finraData || lower == finraPartitions
}

// finraRoutes lets another process look at the calls and plan faults.
func (s *Server) finraRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+adminPrefix+"finra/calls", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, append([]FINRACall{}, s.FINRACalls()...))
	})
	mux.HandleFunc("GET "+adminPrefix+"finra/faults", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, FINRAFaults())
	})
	mux.HandleFunc("POST "+adminPrefix+"finra/faults", func(w http.ResponseWriter, r *http.Request) {
		var settlement market.Date
		err1 := settlement.UnmarshalText([]byte(r.FormValue("settlement")))
		times, err2 := strconv.Atoi(r.FormValue("times"))
		fault := Fault(r.FormValue("fault"))
		if err1 != nil || err2 != nil || times == 0 || finraShapeOf(fault) == nil {
			http.Error(w, "want settlement (a date, or nothing for any call), fault and times (-1 for all): the faults are "+
				strings.Join(FINRAFaults(), ", "), http.StatusBadRequest)
			return
		}
		s.FaultFINRA(settlement, fault, times)
		w.WriteHeader(http.StatusNoContent)
	})
}

// FINRACalls returns the calls to FINRA so far, at most the newest million.
func (s *Server) FINRACalls() []FINRACall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.finra.calls)
}

// FINRAMaxInWindow returns the greatest number of calls to FINRA in any window
// of length d, its end not included.
func (s *Server) FINRAMaxInWindow(d time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, first := 0, 0
	for i := range s.finra.calls {
		for s.finra.calls[i].At.Sub(s.finra.calls[first].At) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// FaultFINRA is [Server.Fault] for the calls about a settlement date; the zero
// Date means any call, also one for the partitions.
func (s *Server) FaultFINRA(settlement market.Date, f Fault, times int) {
	if times == 0 || finraShapeOf(f) == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := finraKey(settlement)
	s.faults[key] = append(s.faults[key], planned{f, times})
}

// finraKey is no symbol, so the plans of the providers stay apart.
func finraKey(settlement market.Date) market.Symbol {
	return market.Symbol("finra/" + settlement.String())
}

// finraQuery is the body of a question, as far as clients use it.
type finraQuery struct {
	Fields  []string `json:"fields"`
	Compare []struct {
		Field string `json:"fieldName"`
		Type  string `json:"compareType"`
		Value string `json:"fieldValue"`
	} `json:"compareFilters"`
	Domain []struct {
		Field  string   `json:"fieldName"`
		Values []string `json:"values"`
	} `json:"domainFilters"`
	Ranges []struct {
		Field string `json:"fieldName"`
		Start string `json:"startDate"`
		End   string `json:"endDate"`
	} `json:"dateRangeFilters"`
	Sort      []string `json:"sortFields"` // taken and not kept: rows are in no order
	Limit     *int     `json:"limit"`
	Offset    int      `json:"offset"`
	Async     bool     `json:"async"`
	Quote     bool     `json:"quoteValues"`
	Delimiter string   `json:"delimiter"`
}

// finraReply is one answer in the making.
type finraReply struct {
	reply
	finraQuery
	limit      int
	settlement market.Date // 0: several, or the partitions
	published  []market.Date
	number     int    // of the call
	salt       uint64 // of the order of the rows
	complaint  string // what is wrong with the question
	status     int    // that goes with it
}

func (s *Server) askFINRA(w http.ResponseWriter, r *http.Request) {
	a := finraReply{reply: reply{s: s, w: w, r: r}}
	if err := a.read(); err != nil {
		a.complaint, a.status = err.Error(), cmp.Or(a.status, http.StatusBadRequest)
	}
	serve, err := s.admitFINRA(&a)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if sleep(r, s.c.Latency) {
		serve(a)
	}
}

func (a *finraReply) isData() bool { return strings.ToLower(a.r.URL.Path) == finraData }

// read reads the question; the error is what FINRA has against it.
func (a *finraReply) read() error {
	want := http.MethodGet
	if a.isData() {
		want = http.MethodPost
	}
	if a.r.Method != want {
		a.status = http.StatusMethodNotAllowed
		return fmt.Errorf("method %s is not simulated here", a.r.Method)
	}
	if !a.isData() {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(a.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		a.status = http.StatusUnsupportedMediaType
		return errors.New("the content type must be application/json")
	}
	d := json.NewDecoder(http.MaxBytesReader(nil, a.r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&a.finraQuery); err != nil {
		return fmt.Errorf("the question cannot be read: %w", err)
	}
	return a.check()
}

func (a *finraReply) check() error {
	a.limit = finraDefaultRows
	if a.Limit != nil {
		a.limit = *a.Limit
	}
	switch {
	case a.limit < 1 || a.limit > finraMostRows:
		return fmt.Errorf("limit must be 1 to %d", finraMostRows)
	case a.Offset < 0 || a.Offset > finraMostOffset:
		return fmt.Errorf("offset must be 0 to %d", finraMostOffset)
	case a.Async:
		return errors.New("async is not simulated")
	}
	if len(a.Fields) == 0 {
		a.Fields = finraFields()
	}
	for _, name := range a.Fields {
		if !slices.Contains(finraFields(), name) {
			return fmt.Errorf("no field %q", name)
		}
	}
	return a.checkFilters()
}

func (a *finraReply) checkFilters() error {
	for _, f := range a.Compare {
		types := []string{"EQUAL", "NOT_EQUAL", "GREATER", "LESSER", "GTE", "LTE"}
		if !isFiltered(f.Field) || !slices.Contains(types, f.Type) {
			return fmt.Errorf("no filter of %q with %q", f.Field, f.Type)
		}
		if f.Field != "settlementDate" {
			continue
		}
		d, err := market.ParseDate(f.Value)
		if err != nil {
			return errors.New("invalid date field format")
		}
		if f.Type == "EQUAL" {
			a.settlement = d
		}
	}
	for _, f := range a.Domain {
		if !isFiltered(f.Field) || len(f.Values) == 0 {
			return fmt.Errorf("no filter of %q with %d values", f.Field, len(f.Values))
		}
	}
	for _, f := range a.Ranges {
		_, err1 := market.ParseDate(f.Start)
		_, err2 := market.ParseDate(f.End)
		if f.Field != "settlementDate" || err1 != nil || err2 != nil {
			return errors.New("invalid date range")
		}
	}
	return nil
}

func isFiltered(field string) bool { return field == "settlementDate" || field == "symbolCode" }

// keeps reports whether all filters let a row through.
func (a *finraReply) keeps(settlement, code string) bool {
	of := func(field string) string {
		if field == "symbolCode" {
			return code
		}
		return settlement
	}
	for _, f := range a.Compare {
		order := strings.Compare(of(f.Field), f.Value)
		is := map[string]bool{
			"EQUAL": order == 0, "NOT_EQUAL": order != 0, "GREATER": order > 0, "LESSER": order < 0, "GTE": order >= 0, "LTE": order <= 0,
		}
		if !is[f.Type] {
			return false
		}
	}
	for _, f := range a.Domain {
		if !slices.Contains(f.Values, of(f.Field)) {
			return false
		}
	}
	for _, f := range a.Ranges {
		if settlement < f.Start || settlement > f.End {
			return false
		}
	}
	return true
}

// admitFINRA logs the call and decides what it gets.
func (s *Server) admitFINRA(a *finraReply) (func(finraReply), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.now = s.c.Now()
	a.number = len(s.finra.calls) + 1
	var err error
	if a.published, err = publishedBy(a.now.Add(-s.c.FINRA.Late)); err != nil {
		return nil, err
	}
	outcome, serve := s.decideFINRA(a)
	if len(s.finra.calls) == maxCalls {
		s.finra.calls = slices.Delete(s.finra.calls, 0, maxCalls/2)
	}
	call := FINRACall{
		At: a.now, Path: a.r.URL.Path, Settlement: a.settlement, Offset: a.Offset, Limit: a.limit, Outcome: outcome,
	}
	for _, f := range a.Domain {
		if f.Field == "symbolCode" {
			call.Symbols = len(f.Values)
		}
	}
	s.finra.calls = append(s.finra.calls, call)
	return serve, nil
}

// publishedBy returns the settlement dates that are out at an instant.
func publishedBy(now time.Time) ([]market.Date, error) {
	last, err := market.NYSE().LastPublished(now)
	if err != nil {
		return nil, err
	}
	return market.NYSE().Settlements(FirstSettlement(), last)
}

func (s *Server) decideFINRA(a *finraReply) (outcome string, serve func(finraReply)) {
	switch {
	case s.finraOver(a.now):
		return string(TooManyRequests), finraShapeOf(TooManyRequests)
	case a.complaint != "":
		return string(BadRequest), func(a finraReply) { a.refuse(a.status, a.complaint) }
	}
	if f, ok := s.takeFINRAFault(a.settlement); ok {
		return "fault:" + string(f), finraShapeOf(f)
	}
	switch {
	case !a.isData():
		return "partitions", finraReply.partitions
	case len(a.pick()) == 0:
		return "no_rows", func(a finraReply) { a.sendSheet(a.sheet()) }
	}
	return "rows", func(a finraReply) { a.sendSheet(a.sheet()) }
}

// finraOver counts a call that arrives at now.
func (s *Server) finraOver(now time.Time) bool {
	for _, bound := range []struct {
		limit  int
		window time.Duration
		name   string
	}{
		{s.c.FINRA.PerSecond, time.Second, "a second, to FINRA"},
		{s.c.FINRA.PerMinute, time.Minute, "a minute, to FINRA"},
	} {
		n := 1
		for i := len(s.finra.calls) - 1; i >= 0 && now.Sub(s.finra.calls[i].At) < bound.window; i-- {
			n++
		}
		if bound.limit > 0 && n > bound.limit {
			s.log.violate(TooManyRequests, now, n, bound.limit, bound.name)
			return true
		}
	}
	return false
}

func (s *Server) takeFINRAFault(settlement market.Date) (Fault, bool) {
	key := finraKey(settlement)
	if len(s.faults[key]) == 0 {
		key = finraKey(0)
	}
	plans := s.faults[key]
	if len(plans) == 0 {
		return "", false
	}
	f := plans[0].fault
	if plans[0].times--; plans[0].times == 0 {
		s.faults[key] = plans[1:]
	}
	return f, true
}

// picked is a row that a question gets.
type picked struct {
	symbol     market.Symbol
	settlement market.Date
}

// pick returns the rows of all pages, in no order that means anything but in
// the same one for every page.
func (a *finraReply) pick() []picked {
	symbols := a.s.c.FINRA.Symbols
	if symbols == nil {
		symbols = market.SP500()
	}
	var all []picked
	for _, d := range a.published {
		for _, symbol := range symbols {
			if (a.settlement == 0 || a.settlement == d) && a.keeps(d.String(), symbol.In(market.FINRA)) {
				all = append(all, picked{symbol, d})
			}
		}
	}
	slices.SortFunc(all, func(x, y picked) int {
		return cmp.Compare(seedOf(x.symbol, uint64(x.settlement)^a.salt), seedOf(y.symbol, uint64(y.settlement)^a.salt))
	})
	return all
}

// sheet returns the page that a question gets.
func (a *finraReply) sheet() *finraSheet {
	all := a.pick()
	out := &finraSheet{total: len(all), offset: a.Offset, limit: a.limit}
	most := min(a.limit, cmp.Or(a.s.c.FINRA.PageRows, a.limit))
	all = all[min(a.Offset, len(all)):]
	for _, p := range all[:min(most, len(all))] {
		row := toFINRARow(a.row(p))
		row = slices.DeleteFunc(row, func(f finraField) bool { return !slices.Contains(a.Fields, f.name) })
		out.rows = append(out.rows, row)
	}
	return out
}

func (a *finraReply) row(p picked) market.ShortInterest {
	s := ShortInterest(p.symbol, p.settlement)
	shares, revised := Revision(p.symbol, p.settlement)
	if a.s.c.FINRA.Rewrites && revised && p.settlement < a.published[len(a.published)-1] {
		return s.Corrected(shares)
	}
	return s
}

func (a finraReply) sendSheet(s *finraSheet) {
	h := a.w.Header()
	if !s.noTotal {
		h.Set("Record-Total", strconv.Itoa(s.total))
	}
	h.Set("Record-Offset", strconv.Itoa(s.offset))
	h.Set("Record-Limit", strconv.Itoa(s.limit))
	h.Set("Record-Max-Limit", strconv.Itoa(finraMostRows))
	if strings.Contains(a.r.Header.Get("Accept"), "application/json") {
		a.sendAs(http.StatusOK, "application/json", s.json())
		return
	}
	a.sendAs(http.StatusOK, "text/plain", s.text(a.Fields))
}

// body is the right answer.
func (a finraReply) body() []byte {
	if a.isData() {
		return a.sheet().json()
	}
	return a.list()
}

func (a finraReply) partitions() { a.sendAs(http.StatusOK, "application/json", a.list()) }

// list is the document that names the settlement dates, the newest first.
func (a finraReply) list() []byte {
	b := []byte(`{"datasetGroup":"otcMarket","datasetName":"consolidatedShortInterest","partitionFields":["settlementDate"],"availablePartitions":[`)
	for i, d := range slices.Backward(a.published) {
		b = fmt.Appendf(b, `{"partitions":[%q]}`, d)
		if i > 0 {
			b = append(b, ',')
		}
	}
	return append(b, "]}"...)
}

// refuse sends one of FINRA's errors, which repeats the question.
func (a finraReply) refuse(status int, message string) { a.refuseAs(status, status, message) }

func (a finraReply) refuseAs(status, says int, message string) {
	request, err := json.Marshal(a.finraQuery)
	if err != nil {
		panic(err) // it was read from JSON
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"statusCode":%d,"statusDescription":%q,"requestId":"00000000-0000-4000-8000-%012d","message":%q,"dataRequest":%s}`,
		says, http.StatusText(says), a.number, message, request)
	a.sendAs(status, "application/json", b.Bytes())
}

// sendAs sends a body, compressed if the caller can read that.
func (a finraReply) sendAs(status int, contentType string, body []byte) {
	a.w.Header().Set("Content-Type", contentType)
	a.s.write(a.w, a.r, status, body)
}

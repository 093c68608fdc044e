package simulator

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Fault is the name of one way to misbehave.
type Fault string

// The faults, by what is wrong. Messages come with status 200 and as JSON,
// also when CSV was asked for.
const (
	// The limits.
	DailyQuota          Fault = "daily_quota"            // message that echoes the key
	Burst               Fault = "burst"                  // message about one request a second that also names the day's 25
	BurstPattern        Fault = "burst_pattern"          // the paid plans' message
	MinuteNote          Fault = "minute_note"            // the old name and wording
	TooManyRequests     Fault = "too_many_requests"      // status 429, Retry-After: 1
	TooManyRequestsLong Fault = "too_many_requests_long" // status 429, Retry-After: 100000

	// The rights.
	Premium     Fault = "premium"
	PremiumFull Fault = "premium_full"
	BadKey      Fault = "bad_key"
	DemoKey     Fault = "demo_key"

	// The question.
	BadSymbol   Fault = "bad_symbol"
	BadFunction Fault = "bad_function"

	// Answers without data.
	UnknownMessage Fault = "unknown_message" // a wording that nobody has seen
	EmptyObject    Fault = "empty_object"
	EmptyQuote     Fault = "empty_quote"
	EmptyReports   Fault = "empty_reports"
	EmptySeries    Fault = "empty_series"
	EmptyBody      Fault = "empty_body"
	EmptyArray     Fault = "empty_array"
	Null           Fault = "null"

	// The form.
	HTML             Fault = "html" // with status 200
	HTML503          Fault = "html_503"
	HTML520          Fault = "html_520"
	WrongContentType Fault = "wrong_content_type" // the data are right
	ByteOrderMark    Fault = "byte_order_mark"    // the data are right
	BadUTF8          Fault = "bad_utf8"
	NUL              Fault = "nul"
	Trailing         Fault = "trailing" // more after the document's end

	// The way.
	TruncatedLength   Fault = "truncated_length"   // fewer bytes than Content-Length says
	TruncatedClose    Fault = "truncated_close"    // the end of the connection is the end of the body
	TruncatedGzip     Fault = "truncated_gzip"     // within the compressed data
	ShortLength       Fault = "short_length"       // Content-Length is too small
	SlowBody          Fault = "slow_body"          // a byte a tenth of a second
	SlowHeaders       Fault = "slow_headers"       // no answer until the client gives up
	Reset             Fault = "reset"              // in the middle of the body
	GzipBomb          Fault = "gzip_bomb"          // 256 MiB
	RedirectElsewhere Fault = "redirect_elsewhere" // to another host, with the key in the URL
	RedirectLoop      Fault = "redirect_loop"

	// The values.
	WrongSymbol     Fault = "wrong_symbol"
	PartialBar      Fault = "partial_bar"  // of the session after the newest, with a clock
	MissingLast     Fault = "missing_last" // the newest session is not there yet
	Stale           Fault = "stale"        // ends thirty sessions ago
	MissingMiddle   Fault = "missing_middle"
	Unsorted        Fault = "unsorted"
	DuplicateBars   Fault = "duplicate_bars"
	ConflictingBars Fault = "conflicting_bars" // one date twice, with two values
	WeekendBar      Fault = "weekend_bar"
	FutureBar       Fault = "future_bar"
	BadDate         Fault = "bad_date"
	BadNumber       Fault = "bad_number" // "None"
	NaN             Fault = "nan"
	Exponent        Fault = "exponent"
	NegativePrice   Fault = "negative_price"
	ZeroPrice       Fault = "zero_price"
	HighBelowLow    Fault = "high_below_low"
	NegativeVolume  Fault = "negative_volume"
	RenamedField    Fault = "renamed_field"
	ExtraField      Fault = "extra_field"
	RepeatedField   Fault = "repeated_field"
)

// shape is a fault and the way it is served.
type shape struct {
	fault Fault
	serve func(reply)
}

// shapes is the whole list.
func shapes() []shape {
	return slices.Concat(messages(), empties(), forms(), ways(), values())
}

// Faults returns the names of all faults of the daily bars; see [FaultsOf].
func Faults() []string {
	var names []string
	for _, s := range shapes() {
		names = append(names, string(s.fault))
	}
	return names
}

// ParseFault returns the fault of a name.
func ParseFault(name string) (Fault, error) {
	if names := allFaults(); !slices.Contains(names, name) {
		return "", fmt.Errorf("fault %q: want one of %s", name, strings.Join(names, ", "))
	}
	return Fault(name), nil
}

func shapeOf(f Fault) func(reply) {
	for _, s := range shapes() {
		if s.fault == f {
			return s.serve
		}
	}
	return nil
}

// planned is a fault that the next calls for a symbol get.
type planned struct {
	fault Fault
	times int // below 0: for ever
}

// Fault plans f for the next calls for symbol, "" meaning any symbol, after
// the faults that are planned already: times calls, or all if times is below
// 0. A call above a limit gets the limit's message and uses up no fault. A
// symbol's own faults come before those of any symbol. A fault waits for a call
// of a function that has it; see [FaultsOf].
func (s *Server) Fault(symbol market.Symbol, f Fault, times int) {
	if _, err := ParseFault(string(f)); err != nil || times == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[symbol] = append(s.faults[symbol], planned{f, times})
}

func (s *Server) takeFault(q *question) (Fault, bool) {
	for _, of := range [...]market.Symbol{q.symbol, ""} {
		plans := s.faults[of]
		i := slices.IndexFunc(plans, func(p planned) bool { return q.shapeOf(p.fault) != nil })
		if i < 0 {
			continue
		}
		f := plans[i].fault
		if plans[i].times--; plans[i].times == 0 {
			s.faults[of] = slices.Delete(plans, i, i+1)
		}
		return f, true
	}
	return "", false
}

func messages() []shape {
	say := func(f Fault, name, format string) shape {
		return shape{f, func(a reply) { a.message(name, strings.ReplaceAll(format, "{key}", a.key)) }}
	}
	status := func(f Fault, retryAfter string) shape {
		return shape{f, func(a reply) {
			a.w.Header().Set("Retry-After", retryAfter)
			a.send(http.StatusTooManyRequests, "application/json", []byte(`{"detail": "Request was throttled."}`))
		}}
	}
	return []shape{
		say(DailyQuota, "Information", "We have detected your API key as {key} and our standard API rate limit is 25 requests per day. The premium plans have none."),
		say(Burst, "Information", "Please consider spreading out your free API requests more sparingly (1 request per second). The premium plans lift the free limit (25 requests per day). Key: {key}."),
		say(BurstPattern, "Information", "Burst pattern detected for {key}. Please spread your requests over each minute."),
		say(MinuteNote, "Note", "Our standard API call frequency is 5 calls per minute and 500 calls per day. Key: {key}."),
		status(TooManyRequests, "1"),
		status(TooManyRequestsLong, "100000"),
		say(Premium, "Information", "This is a premium endpoint. Your key {key} has no premium plan."),
		say(PremiumFull, "Information", "The outputsize=full parameter value is a premium feature of this endpoint. Your key is {key}."),
		say(BadKey, "Error Message", "The parameter apikey is invalid or missing: {key}."),
		say(DemoKey, "Information", "The **demo** API key is for demo purposes only."),
		say(BadSymbol, "Error Message", "Invalid API call. Please retry or visit the documentation for TIME_SERIES_DAILY. Key: {key}."),
		{BadFunction, func(a reply) {
			a.message("Error Message", fmt.Sprintf("This API function (%s) does not exist.", a.function))
		}},
		say(UnknownMessage, "Information", "Nobody has ever seen this sentence about {key}."),
	}
}

func empties() []shape {
	document := func(f Fault, text string) shape {
		return shape{f, func(a reply) {
			a.send(http.StatusOK, "application/json", []byte(strings.ReplaceAll(text, "{symbol}", a.asked)))
		}}
	}
	return []shape{
		document(EmptyObject, "{}"),
		document(EmptyQuote, "{\n    \"Global Quote\": {}\n}"),
		document(EmptyReports, "{\n    \"symbol\": \"{symbol}\",\n    \"annualReports\": [],\n    \"quarterlyReports\": []\n}"),
		document(EmptyBody, ""),
		document(EmptyArray, "[]"),
		document(Null, "null"),
		edit(EmptySeries, func(_ reply, s *sheet) { s.rows = nil }),
	}
}

func forms() []shape {
	page := func(f Fault, status int) shape {
		return shape{f, func(a reply) {
			a.send(status, "text/html; charset=utf-8", fmt.Appendf(nil,
				"<!DOCTYPE html>\n<html><head><title>%d</title></head><body>Something is wrong with %s.</body></html>\n", status, a.key))
		}}
	}
	return []shape{
		page(HTML, http.StatusOK),
		page(HTML503, http.StatusServiceUnavailable),
		page(HTML520, 520),
		{WrongContentType, func(a reply) { a.send(http.StatusOK, "text/html", a.body()) }},
		{ByteOrderMark, func(a reply) { a.send(http.StatusOK, "application/json", append([]byte("\uFEFF"), a.body()...)) }},
		newest(BadUTF8, func(r *[columns]string) { r[colOpen] = "1\xff" }),
		newest(NUL, func(r *[columns]string) { r[colOpen] = "1\x00" }),
		{Trailing, func(a reply) { a.send(http.StatusOK, "application/json", append(a.body(), "{}\n"...)) }},
	}
}

// body is the right answer.
func (a reply) body() []byte {
	switch {
	case isStatement(a.function):
		return a.statement().json()
	case a.csv:
		return a.sheet().csv()
	}
	return a.sheet().json()
}

func ways() []shape {
	cut := func(f Fault, header string) shape {
		return shape{f, func(a reply) {
			body := a.body()
			a.raw(header, len(body), body[:len(body)*2/3])
		}}
	}
	redirect := func(f Fault, where func(reply) string) shape {
		return shape{f, func(a reply) { http.Redirect(a.w, a.r, where(a), http.StatusFound) }}
	}
	return []shape{
		cut(TruncatedLength, "Content-Length: %d\r\n"),
		cut(TruncatedClose, ""),
		{TruncatedGzip, func(a reply) {
			zipped := zip(a.body())
			a.raw("Content-Encoding: gzip\r\n", 0, zipped[:len(zipped)*2/3])
		}},
		{ShortLength, func(a reply) {
			body := a.body()
			a.raw("Content-Length: %d\r\n", len(body)/2, body)
		}},
		{SlowBody, reply.drip},
		{SlowHeaders, func(a reply) { <-a.r.Context().Done() }},
		{Reset, func(a reply) {
			body := a.body()
			_, _ = a.w.Write(body[:len(body)/2])
			a.reset()
		}},
		{GzipBomb, reply.bomb},
		redirect(RedirectElsewhere, func(a reply) string { return a.s.c.Elsewhere + "/query?" + a.r.URL.RawQuery }),
		redirect(RedirectLoop, func(a reply) string { return a.r.URL.RequestURI() }),
	}
}

// raw takes the connection over to send a head and a body that do not fit
// together, and closes it.
func (a reply) raw(header string, length int, body []byte) {
	if strings.Contains(header, "%d") {
		header = fmt.Sprintf(header, length)
	}
	conn, buffered, err := http.NewResponseController(a.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // a connection that cannot be taken over is just dropped
	}
	defer func() { _ = conn.Close() }()
	_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n" + header + "\r\n")
	_, _ = buffered.Write(body)
	_ = buffered.Flush()
}

// reset sends what is written so far and then breaks the connection.
func (a reply) reset() {
	control := http.NewResponseController(a.w)
	_ = control.Flush()
	conn, _, err := control.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (a reply) drip() {
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

// bomb sends 256 MiB of one text in less than a megabyte: the same compressed
// block, again and again.
func (a reply) bomb() {
	a.w.Header().Set("Content-Encoding", "gzip")
	if _, err := a.w.Write(zip([]byte("{\n    \"Meta Data\": {\n        \"1. Information\": \""))); err != nil {
		return
	}
	block := zip(bytes.Repeat([]byte{'x'}, 64<<10))
	for range 4096 {
		if _, err := a.w.Write(block); err != nil {
			return
		}
	}
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b) // a bytes.Buffer takes everything
	_ = z.Close()
	return out.Bytes()
}

func values() []shape {
	return []shape{
		edit(WrongSymbol, func(_ reply, s *sheet) { s.symbol = "WRONG" }),
		edit(PartialBar, func(a reply, s *sheet) {
			next, err := market.NYSE().Next(a.through)
			if err == nil {
				s.partial(a.quote(next), a.now)
			}
		}),
		edit(MissingLast, func(_ reply, s *sheet) { s.drop(1) }),
		edit(Stale, func(_ reply, s *sheet) { s.drop(30) }),
		edit(MissingMiddle, func(_ reply, s *sheet) { s.rows = slices.Delete(s.rows, min(3, len(s.rows)), min(4, len(s.rows))) }),
		edit(Unsorted, func(_ reply, s *sheet) {
			for i := range s.rows {
				j := (i*7 + 3) % len(s.rows)
				s.rows[i], s.rows[j] = s.rows[j], s.rows[i]
			}
		}),
		edit(DuplicateBars, func(_ reply, s *sheet) { s.repeat(2, func(*row) {}) }),
		edit(ConflictingBars, func(_ reply, s *sheet) { s.repeat(1, func(r *row) { r.volume *= 10 }) }),
		edit(WeekendBar, func(a reply, s *sheet) { s.add(a, nearest(a.through, time.Saturday, -1)) }),
		edit(FutureBar, func(a reply, s *sheet) { s.add(a, nearest(a.through+30, time.Wednesday, 1)) }),
		newest(BadDate, func(r *[columns]string) { r[colDate] += " 16:00:00" }),
		newest(BadNumber, func(r *[columns]string) { r[colOpen] = "None" }),
		newest(NaN, func(r *[columns]string) { r[colHigh] = "NaN" }),
		newest(Exponent, func(r *[columns]string) { r[colLow] = "1e3" }),
		newest(NegativePrice, func(r *[columns]string) { r[colClose] = "-" + r[colClose] }),
		newest(ZeroPrice, func(r *[columns]string) { r[colLow] = "0.0000" }),
		newest(HighBelowLow, func(r *[columns]string) { r[colHigh], r[colLow] = r[colLow], r[colHigh] }),
		newest(NegativeVolume, func(r *[columns]string) { r[colVolume] = "-1" }),
		rewrite(RenamedField, `"2. high": "`, `"2. hi": "`, ",high,", ",hi,"),
		rewrite(ExtraField, `"2. high": "`, `"6. extra": "1", "2. high": "`, "\r\n", ",extra\r\n"),
		rewrite(RepeatedField, `"2. high": "`, `"2. high": "1.0000", "2. high": "`, ",high,", ",high,high,"),
	}
}

// edit is a fault of an answer that is right but for one change.
func edit(f Fault, change func(reply, *sheet)) shape {
	return shape{f, func(a reply) {
		s := a.sheet()
		change(a, s)
		a.sendSheet(s)
	}}
}

// newest is a fault of the newest row.
func newest(f Fault, change func(*[columns]string)) shape {
	return edit(f, func(_ reply, s *sheet) {
		if len(s.rows) > 0 {
			change(s.rows[0].spell())
		}
	})
}

// rewrite is a fault of the written answer: the first place that matches is
// replaced.
func rewrite(f Fault, jsonOld, jsonNew, csvOld, csvNew string) shape {
	return shape{f, func(a reply) {
		from, to := jsonOld, jsonNew
		if a.csv {
			from, to = csvOld, csvNew
		}
		a.send(http.StatusOK, "application/json", bytes.Replace(a.body(), []byte(from), []byte(to), 1))
	}}
}

// add puts a sound bar of any date in front.
func (s *sheet) add(a reply, date market.Date) {
	s.rows = append([]row{{quote: a.quote(date)}}, s.rows...)
}

// nearest steps from d until the day of the week is right.
func nearest(d market.Date, day time.Weekday, step market.Date) market.Date {
	for d.Weekday() != day {
		d += step
	}
	return d
}

package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// MassiveConfig says what the simulator's Massive holds; the zero value is a
// plan without limits.
type MassiveConfig struct {
	// Key is the only key that is served; "" means any.
	Key string
	// PerMinute bounds the calls of every sliding window; 0 means no bound.
	PerMinute int
	// Years is the history that the plan holds, counted in New York; 0 means
	// all of it.
	Years int
	// Symbols are those of a session; nil means market.SP500. Every other one
	// can be asked for by itself.
	Symbols []market.Symbol
	// PageRows is where a page ends although more rows were asked for; 0 means
	// nowhere.
	PageRows int
}

// The faults that only Massive has.
const (
	Delayed       Fault = "delayed"        // the status of data that are late; they are right
	OtherBasis    Fault = "other_basis"    // says of splits the opposite of what was asked
	WrongCount    Fault = "wrong_count"    // one row more than there are
	FractionShare Fault = "fraction_share" // a volume with a fraction of a third; the data are right
	OddTime       Fault = "odd_time"       // a bar that begins in the middle of a day
	NextElsewhere Fault = "next_elsewhere" // the next page is at another host
	NextSame      Fault = "next_same"      // the next page is this one
)

// Massive returns the simulator's Massive, formerly Polygon, at /v2/aggs/. What
// [Server.Split] splits is so with adjusted=true alone.
func (s *Server) Massive() *BarSite { return s.massive }

type massive struct{ s *Server }

func (massive) name() string { return "massive" }

func isMassive(path string) bool { return strings.HasPrefix(path, "/v2/aggs/") }

func (m massive) limits() []barLimit {
	return []barLimit{{m.s.c.Massive.PerMinute, time.Minute, "a minute", TooManyRequests}}
}

// read reads a question. The vendor minds the case of a symbol, and has nothing
// for one that it does not know.
func (m massive) read(a *barReply) Fault {
	c := m.s.c.Massive
	key, bearer := strings.CutPrefix(a.r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		key = a.r.URL.Query().Get("apiKey")
	}
	a.key = key
	if key == "" || c.Key != "" && key != c.Key {
		return BadKey
	}
	a.page, _ = strconv.Atoi(a.r.URL.Query().Get("page")) // 0 without one
	a.asTraded = a.r.URL.Query().Get("adjusted") == "false"
	part := strings.Split(strings.TrimPrefix(a.r.URL.Path, "/v2/aggs/"), "/")
	var err1, err2 error
	switch {
	case len(part) == 6 && strings.Join(part[:5], "/") == "grouped/locale/us/market/stocks":
		a.grouped = true
		a.window.From, err1 = market.ParseDate(part[5])
		a.window.To = a.window.From
		m.group(a)
	case len(part) == 7 && part[0] == "ticker" && part[2] == "range" && part[3] == "1" && part[4] == "day":
		a.window.From, err1 = market.ParseDate(part[5])
		a.window.To, err2 = market.ParseDate(part[6])
		a.asked = part[1]
		if symbol, err := market.ParseSpelled(market.Massive, part[1]); err == nil {
			a.symbol = symbol
			a.books = []symbolBook{{symbol, m.s.bookOf(symbol)}}
		}
	default:
		return NotFoundPage
	}
	if err1 != nil || err2 != nil {
		return ErrorWith200
	}
	oldest := market.DateOf(a.now.In(market.NewYork()).AddDate(-c.Years, 0, 0))
	if c.Years > 0 && a.window.From < oldest {
		return Premium
	}
	return ""
}

// group asks for all symbols.
func (m massive) group(a *barReply) {
	symbols := m.s.c.Massive.Symbols
	if symbols == nil {
		symbols = market.SP500()
	}
	for _, symbol := range symbols {
		a.books = append(a.books, symbolBook{symbol, m.s.bookOf(symbol)})
	}
}

// render writes an answer. Every tenth volume has an exponent.
func (m massive) render(a *barReply, s *barSheet) []byte {
	rows := s.rows
	if size := m.s.c.Massive.PageRows; size > 0 && !a.grouped {
		rows = rows[min(a.page*size, len(rows)):]
		if len(rows) > size {
			rows = rows[:size]
			s.next = a.pageURL(a.page + 1)
		}
	}
	n := len(rows)
	b := slices.Grow([]byte(nil), 256+150*n)
	b = append(b, '{')
	if !a.grouped {
		b = fmt.Appendf(b, `"ticker":%q,`, s.ticker)
	}
	b = fmt.Appendf(b, `"queryCount":%d,"resultsCount":%d,"adjusted":%t,`, n, n+s.miscount, s.adjusted)
	for i := range rows {
		b = append(b, [...]string{`"results":[`, ","}[min(i, 1)]...)
		b = rows[i].massive(b, a)
	}
	if n > 0 {
		b = append(b, "],"...)
	}
	b = fmt.Appendf(b, `"status":%q,"request_id":"0","count":%d`, s.status, n)
	if s.next != "" {
		b = fmt.Appendf(b, `,"next_url":%q`, s.next)
	}
	return append(b, '}')
}

func (a *barReply) pageURL(page int) string {
	query := fmt.Sprintf("page=%d&adjusted=%t", page, !a.asTraded)
	u := url.URL{Scheme: "http", Host: a.r.Host, Path: a.r.URL.Path, RawQuery: query}
	return u.String()
}

func (r *barRow) massive(b []byte, a *barReply) []byte {
	q := r.quote
	if r.ratio != 1 && !a.asTraded {
		q = q.split(r.ratio)
	}
	b = append(b, '{')
	if a.grouped {
		b = fmt.Appendf(b, `"T":%q,`, r.symbol.In(market.Massive))
	}
	b = append(b, `"v":`...)
	switch odd, ok := r.odd[colVolume]; {
	case ok:
		b = append(b, odd...)
	case q.volume%10 == 0:
		b = strconv.AppendFloat(b, float64(q.volume), 'e', -1, 64)
	default:
		b = strconv.AppendInt(b, q.volume, 10)
	}
	b = r.price(append(b, `,"vw":`...), -1, (q.open+q.close)/2)
	b = r.price(append(b, `,"o":`...), colOpen, q.open)
	b = r.price(append(b, `,"c":`...), colClose, q.close)
	b = r.price(append(b, `,"h":`...), colHigh, q.high)
	b = r.price(append(b, `,"l":`...), colLow, q.low)
	b = append(b, `,"t":`...)
	if odd, ok := r.odd[colDate]; ok {
		b = append(b, odd...)
	} else {
		b = strconv.AppendInt(b, q.date.In(market.NewYork(), 0, 0).UnixMilli(), 10)
	}
	return append(b, `,"n":1}`...)
}

func (m massive) shapes() []barShape {
	const tooMany = `{"status":"ERROR","request_id":"0","error":"You've exceeded the maximum requests per minute. Key: {key}."}`
	rewrite := func(f Fault, from, to string) barShape {
		return barShape{f, func(a *barReply) {
			a.sendAs(http.StatusOK, "application/json", bytes.Replace(a.body(), []byte(from), []byte(to), 1))
		}}
	}
	newest := func(f Fault, change func(*barRow)) barShape {
		return barEdit(f, func(_ *barReply, s *barSheet) { change(&s.rows[len(s.rows)-1]) })
	}
	return append(barValues(), []barShape{
		says(TooManyRequests, http.StatusTooManyRequests, tooMany),
		says(TooManyRequestsLong, http.StatusTooManyRequests, tooMany),
		says(MinuteNote, http.StatusOK, tooMany),
		says(BadKey, http.StatusUnauthorized, `{"status":"ERROR","request_id":"0","error":"API Key was not provided"}`),
		says(Premium, http.StatusForbidden, `{"status":"NOT_AUTHORIZED","request_id":"0","message":"The plan of {key} does not include this."}`),
		says(ErrorWith200, http.StatusOK, `{"status":"ERROR","request_id":"0","error":"Nobody has ever seen this about {key}."}`),
		barEdit(EmptySeries, func(_ *barReply, s *barSheet) { s.rows = nil }),
		barEdit(BadSymbol, func(_ *barReply, s *barSheet) { s.rows = nil }),
		barEdit(Delayed, func(_ *barReply, s *barSheet) { s.status = "DELAYED" }),
		barEdit(OtherBasis, func(_ *barReply, s *barSheet) { s.adjusted = !s.adjusted }),
		barEdit(WrongCount, func(_ *barReply, s *barSheet) { s.miscount = 1 }),
		barEdit(WrongSymbol, func(_ *barReply, s *barSheet) { s.ticker = "WRONG" }),
		barEdit(NextElsewhere, func(a *barReply, s *barSheet) { s.next = a.s.c.Elsewhere + "/v2/aggs/?apiKey=" + a.key }),
		barEdit(NextSame, func(a *barReply, s *barSheet) { s.next = a.pageURL(a.page) }),
		newest(FractionShare, func(r *barRow) { r.odd = map[int]string{colVolume: fmt.Sprintf("%d.333", r.volume)} }),
		newest(OddTime, func(r *barRow) {
			r.odd = map[int]string{colDate: strconv.FormatInt(r.date.In(market.NewYork(), 9, 30).UnixMilli(), 10)}
		}),
		newest(WrongDate, func(r *barRow) { r.date-- }),
		rewrite(RenamedField, `"h":`, `"hi":`),
		rewrite(ExtraField, `"h":`, `"extra":{"a":[1]},"h":`),
		rewrite(RepeatedField, `"h":`, `"h":1,"h":`),
	}...)
}

package simulator

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// TiingoConfig says what the simulator's Tiingo holds; the zero value is a plan
// without limits.
type TiingoConfig struct {
	// Key is the only key that is served; "" means any.
	Key string
	// PerHour and PerDay bound the calls of every sliding window; 0 means no
	// bound.
	PerHour, PerDay int
}

// The faults that only Tiingo has. Its DailyQuota and HourNote are plain
// sentences with status 200.
const (
	HourNote Fault = "hour_note"
	NoToken  Fault = "no_token" // the key did not arrive
)

// Tiingo returns the simulator's Tiingo, at /tiingo/daily/. Its prices are those
// of [Bar] whatever was split; the adjusted close, high, low, open and volume are
// those of [SplitBar].
func (s *Server) Tiingo() *BarSite { return s.tiingo }

type tiingo struct{ s *Server }

func (tiingo) name() string { return "tiingo" }

func isTiingo(path string) bool { return strings.HasPrefix(path, "/tiingo/daily/") }

func (t tiingo) limits() []barLimit {
	return []barLimit{
		{t.s.c.Tiingo.PerHour, time.Hour, "an hour", HourNote},
		{t.s.c.Tiingo.PerDay, 24 * time.Hour, "a day", DailyQuota},
	}
}

// read reads a question. The vendor does not mind the case of a symbol.
func (t tiingo) read(a *barReply) Fault {
	a.key, _ = strings.CutPrefix(a.r.Header.Get("Authorization"), "Token ")
	switch {
	case a.key == "":
		return NoToken
	case t.s.c.Tiingo.Key != "" && a.key != t.s.c.Tiingo.Key:
		return BadKey
	}
	ticker, found := strings.CutSuffix(strings.TrimPrefix(a.r.URL.Path, "/tiingo/daily/"), "/prices")
	if !found || strings.Contains(ticker, "/") {
		return NotFoundPage
	}
	a.asked = ticker
	symbol, err := market.ParseSpelled(market.Tiingo, strings.ToUpper(ticker))
	if err != nil {
		return BadSymbol
	}
	a.symbol = symbol
	book := t.s.bookOf(symbol)
	a.books = []symbolBook{{symbol, book}}
	q := a.r.URL.Query()
	from, err1 := market.ParseDate(q.Get("startDate"))
	to, err2 := market.ParseDate(q.Get("endDate"))
	a.window = market.Range{From: from, To: to}
	if err1 != nil || err2 != nil {
		return UnknownMessage
	}
	if book.listed > a.through {
		return BadSymbol
	}
	return ""
}

func (t tiingo) render(_ *barReply, s *barSheet) []byte {
	b := slices.Grow([]byte(nil), 64+320*len(s.rows))
	b = append(b, '[')
	for i := range s.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.rows[i].tiingo(b)
	}
	return append(b, ']')
}

func (r *barRow) tiingo(b []byte) []byte {
	b = append(b, `{"date":`...)
	if odd, ok := r.odd[colDate]; ok {
		b = append(b, odd...)
	} else {
		b = append(appendDate(append(b, '"'), r.date), `T00:00:00.000Z"`...)
	}
	adjusted := r.split(r.ratio)
	for _, f := range []struct {
		name  string
		col   int
		price int64
	}{
		{"close", colClose, r.close},
		{"high", colHigh, r.high},
		{"low", colLow, r.low},
		{"open", colOpen, r.open},
		{"adjClose", -1, adjusted.close},
		{"adjHigh", -1, adjusted.high},
		{"adjLow", -1, adjusted.low},
		{"adjOpen", -1, adjusted.open},
	} {
		b = append(append(append(b, `,"`...), f.name...), `":`...)
		b = r.price(b, f.col, f.price)
	}
	b = append(b, `,"volume":`...)
	if odd, ok := r.odd[colVolume]; ok {
		b = append(b, odd...)
	} else {
		b = strconv.AppendInt(b, r.volume, 10)
	}
	b = strconv.AppendInt(append(b, `,"adjVolume":`...), adjusted.volume, 10)
	return append(b, `,"divCash":0.0,"splitFactor":1.0}`...)
}

func (tiingo) shapes() []barShape {
	rewrite := func(f Fault, from, to string) barShape {
		return barShape{f, func(a *barReply) {
			a.sendAs(http.StatusOK, "application/json", bytes.Replace(a.body(), []byte(from), []byte(to), 1))
		}}
	}
	return append(barValues(), []barShape{
		says(TooManyRequests, http.StatusTooManyRequests, `{"detail":"Too many requests of {key}."}`),
		says(TooManyRequestsLong, http.StatusTooManyRequests, `{"detail":"Too many requests of {key}."}`),
		says(HourNote, http.StatusOK, "Error: You have run over your hourly allocation. Token: {key}."),
		says(DailyQuota, http.StatusOK, "Error: You have run over your daily allocation. Token: {key}."),
		says(NoToken, http.StatusUnauthorized, `{"detail":"Please supply a token"}`),
		says(BadKey, http.StatusUnauthorized, `{"detail":"Invalid token."}`),
		says(BadSymbol, http.StatusNotFound, `{"detail":"Not found."}`),
		says(UnknownMessage, http.StatusOK, "Error: nobody has ever seen this sentence about {key}."),
		rewrite(RenamedField, `"high":`, `"hi":`),
		rewrite(ExtraField, `"high":`, `"extra":{"a":[1]},"high":`),
		rewrite(RepeatedField, `"high":`, `"high":1,"high":`),
	}...)
}

package simulator

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// The ratios of a split: with these, even the lowest price stays above
	// zero in four decimals.
	minRatio, maxRatio = 0.001, 1000
)

// book is what a symbol's bars are, as far as they are not [Bar]. What it refers
// to never changes: each change makes new parts.
type book struct {
	listed market.Date
	lacks  market.Days
	splits []split
}

type split struct {
	on    market.Date
	ratio float64
}

// ratio is that of all splits after date, multiplied; 1 if there are none.
func (b book) ratio(date market.Date) float64 {
	ratio := 1.0
	for _, s := range b.splits {
		if date < s.on {
			ratio *= s.ratio
		}
	}
	return ratio
}

// quote returns the bar of a date as it is served.
func (b book) quote(w *walk, date market.Date) quote {
	q := w.quote(date)
	if ratio := b.ratio(date); ratio != 1 {
		q = q.split(ratio)
	}
	return q
}

// bookOf returns the book of a symbol. The caller holds the lock.
func (s *Server) bookOf(symbol market.Symbol) book {
	b := s.books[symbol]
	if b.listed = s.c.Listed[symbol]; b.listed == 0 {
		b.listed = Listed()
	}
	return b
}

// Lack takes the bars of a symbol away on some dates, until [Server.Unlack] or
// [Server.Reset].
func (s *Server) Lack(symbol market.Symbol, dates ...market.Date) {
	s.setLacks(symbol, dates, market.Days.Union)
}

// Unlack gives bars back that [Server.Lack] has taken.
func (s *Server) Unlack(symbol market.Symbol, dates ...market.Date) {
	s.setLacks(symbol, dates, market.Days.Minus)
}

func (s *Server) setLacks(symbol market.Symbol, dates []market.Date, change func(a, b market.Days) market.Days) {
	var days market.Days
	for _, d := range dates {
		days.Add(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.books[symbol]
	b.lacks = change(b.lacks, days)
	s.books[symbol] = b
}

// Split serves from now on all bars of a symbol before on as [SplitBar] makes
// them, as a vendor does that adjusts its history. Several splits multiply. A
// ratio that is not from 0.001 to 1000 changes nothing. [Bar] stays the truth
// before all splits.
func (s *Server) Split(symbol market.Symbol, on market.Date, ratio float64) {
	if !isRatio(ratio) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.books[symbol]
	b.splits = append(slices.Clip(b.splits), split{on, ratio})
	s.books[symbol] = b
}

// isRatio is false for NaN.
func isRatio(ratio float64) bool { return minRatio <= ratio && ratio <= maxRatio }

// SplitBar returns a bar on the base after a split of ratio shares for one: the
// prices divided by ratio and rounded to four decimals, at least 0.0001, the
// volume multiplied by it and rounded, an adjusted close as it is. A bar that is
// sound stays sound. For several splits ratio is their product.
func SplitBar(bar market.Bar, ratio float64) market.Bar {
	return toQuote(bar).split(ratio).onto(bar)
}

func (s *Server) planLack(w http.ResponseWriter, r *http.Request) {
	symbol, date, err := parseDay(r, "date")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Lack(symbol, date)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) planSplit(w http.ResponseWriter, r *http.Request) {
	symbol, on, err := parseDay(r, "on")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text := r.FormValue("ratio")
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || !isRatio(ratio) {
		http.Error(w, fmt.Sprintf("ratio %q: want new shares for one old, from %v to %v", text, minRatio, maxRatio), http.StatusBadRequest)
		return
	}
	s.Split(symbol, on, ratio)
	w.WriteHeader(http.StatusNoContent)
}

// parseDay reads a symbol and a date.
func parseDay(r *http.Request, name string) (market.Symbol, market.Date, error) {
	symbol, err := market.ParseSymbol(r.FormValue("symbol"))
	if err != nil {
		return "", 0, err
	}
	date, err := market.ParseDate(r.FormValue(name))
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", name, err)
	}
	return symbol, date, nil
}

// toQuote reads prices of four decimals.
func toQuote(b market.Bar) quote {
	whole := func(price float64) int64 { return int64(math.Round(price * 10_000)) }
	return quote{b.Date, whole(b.Open), whole(b.High), whole(b.Low), whole(b.Close), b.Volume}
}

// split keeps the order of prices, since rounding does.
func (q quote) split(ratio float64) quote {
	price := func(v int64) int64 { return max(1, int64(math.Round(float64(v)/ratio))) }
	return quote{
		q.date, price(q.open), price(q.high), price(q.low), price(q.close),
		int64(math.Round(float64(q.volume) * ratio)),
	}
}

// onto returns bar with the prices and the volume of q.
func (q quote) onto(bar market.Bar) market.Bar {
	bar.Open, bar.High, bar.Low, bar.Close = price(q.open), price(q.high), price(q.low), price(q.close)
	bar.Volume = q.volume
	return bar
}

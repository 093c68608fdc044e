package gateway

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// request is a request for history as it came.
type request struct {
	Call
	conn *conn
	// contract and form are what should be constant.
	contract, form string
	done           chan struct{} // closed when it is open no more
}

const requestFields = 23

func parseRequest(f []string) (*request, error) {
	if len(f) != requestFields {
		return nil, fmt.Errorf("%d fields, want %d", len(f), requestFields)
	}
	id, err := strconv.Atoi(f[1])
	if err != nil {
		return nil, fmt.Errorf("request id %q", f[1])
	}
	r := &request{
		contract: strings.Join(slices.Concat(f[2:3], f[4:15]), "|"),
		form:     strings.Join([]string{f[16], f[18], f[19], f[20], f[21], f[22]}, "|"),
		done:     make(chan struct{}),
	}
	r.ID, r.End, r.Duration = id, f[15], f[17]
	r.Symbol, _ = market.ParseSpelled(market.IBKR, f[3]) // "" is an unknown symbol
	return r, nil
}

// window returns the days that a request spans.
func (r *request) window(now time.Time) (market.Range, error) {
	end := now
	if r.End != "" {
		var err error
		if end, err = time.Parse("20060102-15:04:05", r.End); err != nil {
			return market.Range{}, err
		}
	}
	to := market.DateOf(end.Add(-time.Second).In(market.NewYork()))
	count, unit, _ := strings.Cut(r.Duration, " ")
	n, err := strconv.Atoi(count)
	most := map[string]int{"D": 365, "W": 52, "M": 12, "Y": 68}[unit]
	if err != nil || n < 1 || n > most {
		return market.Range{}, fmt.Errorf("duration %q", r.Duration)
	}
	y, m, d := to.Time().Date()
	from := map[string]market.Date{
		"D": to - market.Date(n), "W": to - market.Date(7*n),
		"M": market.NewDate(y, m-time.Month(n), d), "Y": market.NewDate(y-n, m, d),
	}[unit]
	return market.Range{From: from + 1, To: to}, nil
}

// row is a bar on the wire.
type row [8]string

const (
	colDate = iota
	colOpen
	colHigh
	colLow
	colClose
	colVolume
	colAverage
	colTrades
)

func price(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (s *Server) row(b market.Bar) row {
	volume := b.Volume
	if s.c.Lots {
		volume /= 100
	}
	var r row
	r[colDate] = b.Date.Time().Format("20060102")
	r[colOpen], r[colHigh], r[colLow], r[colClose] = price(b.Open), price(b.High), price(b.Low), price(b.Close)
	r[colVolume], r[colAverage], r[colTrades] = strconv.FormatInt(volume, 10), price((b.High+b.Low)/2), "42"
	return r
}

// bar is the bar of a day, on the base after all splits.
func (s *Server) bar(symbol market.Symbol, day market.Date) market.Bar {
	b := simulator.Bar(symbol, day)
	ratio := 1.0
	for _, split := range s.splits[symbol] {
		if day < split.on {
			ratio *= split.ratio
		}
	}
	if ratio != 1 {
		b = simulator.SplitBar(b, ratio)
	}
	return b
}

// through is the newest session served.
func (s *Server) through(now time.Time) market.Date {
	newest := s.c.Through
	if newest == 0 {
		newest, _ = market.NYSE().LastClosed(now, 0) // a year that nobody knows has no bars
	}
	return newest
}

// rows returns the bars of a window. The caller holds the lock.
func (s *Server) rows(r *request, w market.Range, now time.Time, f Fault) []row {
	var rows []row
	newest := s.through(now)
	if f == Unfinished {
		newest, _ = market.NYSE().Next(newest)
		w.To = newest
	}
	first := s.c.Listed[r.Symbol]
	if first == 0 {
		first = simulator.Listed()
	}
	for d := max(w.From, first); d <= min(w.To, newest); d++ {
		if open, err := market.NYSE().IsSession(d); err == nil && open {
			rows = append(rows, s.row(s.bar(r.Symbol, d)))
		}
	}
	return rows
}

// spoil changes rows as a fault does, and returns their number on the wire.
func spoil(rows []row, f Fault) ([]row, string) {
	count := len(rows)
	last := func(column int, text string) {
		if count > 0 {
			rows[count-1][column] = text
		}
	}
	switch f {
	case Empty:
		rows, count = nil, 0
	case TooFewBars:
		count += 2
	case TooManyBars:
		count--
	case NegativeCount:
		count = -1
	case NoCount:
		return rows, "many"
	case BadDate:
		last(colDate, "20260231")
	case BadPrice:
		last(colHigh, "NaN")
	case Exponent:
		last(colLow, "1.0E-4")
	case LongPrice:
		last(colClose, "187.1234567890123")
	case BadVolume:
		last(colVolume, "many")
	case FractionVolume:
		last(colVolume, "1234.567")
	case NegativeVolume:
		last(colVolume, "-2")
	case MissingVolume:
		last(colVolume, "-1")
	case Unsorted:
		slices.Reverse(rows)
	case LongDates, DecimalVolume:
		for i := range rows {
			if f == LongDates {
				rows[i][colDate] += "  00:00:00"
			} else {
				rows[i][colVolume] += ".00"
			}
		}
	}
	return rows, strconv.Itoa(count)
}

// history is the answer with bars.
func history(r *request, w market.Range, rows []row, count string) []byte {
	out := []string{
		toHistory, strconv.Itoa(r.ID),
		w.From.Time().Format("20060102  15:04:05"), w.To.Time().Format("20060102  15:04:05"), count,
	}
	for _, row := range rows {
		out = append(out, row[:]...)
	}
	return pack(out...)
}

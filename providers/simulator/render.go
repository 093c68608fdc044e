package simulator

import (
	"slices"
	"strconv"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// The columns of a row.
const (
	colDate = iota
	colOpen
	colHigh
	colLow
	colClose
	colVolume
	columns
)

// row is a bar before it is written, or, if odd is there, the texts to write in
// its place: faults write what no market.Bar can hold.
type row struct {
	quote
	odd *[columns]string
}

// spell replaces the bar by its texts.
func (r *row) spell() *[columns]string {
	odd := new([columns]string)
	for col := range odd {
		odd[col] = string(r.append(nil, col))
	}
	r.odd = odd
	return odd
}

// append writes one column.
func (r *row) append(b []byte, col int) []byte {
	if r.odd != nil {
		return append(b, r.odd[col]...)
	}
	switch col {
	case colDate:
		return appendDate(b, r.date)
	case colOpen:
		return appendPrice(b, r.open)
	case colHigh:
		return appendPrice(b, r.high)
	case colLow:
		return appendPrice(b, r.low)
	case colClose:
		return appendPrice(b, r.close)
	}
	return strconv.AppendInt(b, r.volume, 10)
}

// appendPrice writes ten-thousandths, at least 0, with four decimals.
func appendPrice(b []byte, v int64) []byte {
	b = append(strconv.AppendInt(b, v/10_000, 10), '.')
	return appendTwo(appendTwo(b, int(v%10_000/100)), int(v%100))
}

// appendDate writes YYYY-MM-DD.
func appendDate(b []byte, d market.Date) []byte {
	year, month, day := d.Time().Date()
	b = append(appendTwo(appendTwo(b, year/100), year%100), '-')
	return appendTwo(append(appendTwo(b, int(month)), '-'), day)
}

// appendTwo writes the two digits of a number below 100.
func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// sheet is an answer before it is written.
type sheet struct {
	symbol    string // as asked
	refreshed string
	full      bool
	rows      []row // newest first
	// room is where the answer is written.
	room []byte
}

// json writes the daily document: four blanks of indent, numbered names,
// every value a text.
func (s *sheet) json() []byte {
	b := slices.Grow(s.room[:0], 512+230*len(s.rows))
	size := "Compact"
	if s.full {
		size = "Full size"
	}
	b = append(b, "{\n    \"Meta Data\": {\n"...)
	b = pair(b, "        ", "1. Information", "Daily Prices (open, high, low, close) and Volumes", ",\n")
	b = pair(b, "        ", "2. Symbol", s.symbol, ",\n")
	b = pair(b, "        ", "3. Last Refreshed", s.refreshed, ",\n")
	b = pair(b, "        ", "4. Output Size", size, ",\n")
	b = pair(b, "        ", "5. Time Zone", "US/Eastern", "\n    },\n")
	b = append(b, "    \"Time Series (Daily)\": {"...)
	before := [columns]string{
		"\n        \"", "\": {\n            \"1. open\": \"", "\",\n            \"2. high\": \"",
		"\",\n            \"3. low\": \"", "\",\n            \"4. close\": \"", "\",\n            \"5. volume\": \"",
	}
	for i := range s.rows {
		if i > 0 {
			b = append(b, ',')
		}
		for col, text := range before {
			b = s.rows[i].append(append(b, text...), col)
		}
		b = append(b, "\"\n        }"...)
	}
	return append(b, "\n    }\n}"...)
}

func pair(b []byte, indent, name, value, end string) []byte {
	b = append(b, indent...)
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, "\": \""...)
	b = append(b, value...)
	b = append(b, '"')
	return append(b, end...)
}

// csv writes the same as lines that end with CR LF.
func (s *sheet) csv() []byte {
	b := slices.Grow(s.room[:0], 64+64*len(s.rows))
	b = append(b, "timestamp,open,high,low,close,volume\r\n"...)
	for i := range s.rows {
		for col := range columns {
			if col > 0 {
				b = append(b, ',')
			}
			b = s.rows[i].append(b, col)
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// partial adds the bar of a session that is still open, and the clock that
// comes with it.
func (s *sheet) partial(q quote, now time.Time) {
	q.volume = 1234
	s.rows = append([]row{{quote: q}}, s.rows...)
	s.refreshed = q.date.String() + now.In(market.NewYork()).Format(" 15:04:05")
}

// drop leaves the newest n rows out.
func (s *sheet) drop(n int) {
	s.rows = s.rows[min(n, len(s.rows)):]
	if len(s.rows) > 0 {
		s.refreshed = s.rows[0].date.String()
	}
}

// repeat writes the second row n times more.
func (s *sheet) repeat(n int, change func(*row)) {
	if len(s.rows) < 2 {
		return
	}
	twin := s.rows[1]
	change(&twin)
	for range n {
		s.rows = slices.Insert(s.rows, 2, twin)
	}
}

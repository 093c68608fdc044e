package simulator

import (
	"strconv"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// row is a bar as it is written: text, so that faults can write what no
// market.Bar can hold.
type row struct {
	date                           string
	open, high, low, close, volume string
}

func toRow(b market.Bar) row {
	return row{
		b.Date.String(), decimal(b.Open), decimal(b.High), decimal(b.Low), decimal(b.Close),
		strconv.FormatInt(b.Volume, 10),
	}
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }

// sheet is an answer before it is written.
type sheet struct {
	symbol    string // as asked
	refreshed string
	full      bool
	rows      []row // newest first
}

// json writes the daily document: four blanks of indent, numbered names,
// every value a text.
func (s *sheet) json() []byte {
	b := make([]byte, 0, 512+230*len(s.rows))
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
	for i, r := range s.rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n        \""...)
		b = append(b, r.date...)
		b = append(b, "\": {\n"...)
		b = pair(b, "            ", "1. open", r.open, ",\n")
		b = pair(b, "            ", "2. high", r.high, ",\n")
		b = pair(b, "            ", "3. low", r.low, ",\n")
		b = pair(b, "            ", "4. close", r.close, ",\n")
		b = pair(b, "            ", "5. volume", r.volume, "\n        }")
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
	b := make([]byte, 0, 64+64*len(s.rows))
	b = append(b, "timestamp,open,high,low,close,volume\r\n"...)
	for _, r := range s.rows {
		for i, text := range [...]string{r.date, r.open, r.high, r.low, r.close, r.volume} {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, text...)
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// partial adds the bar of a session that is still open, and the clock that
// comes with it.
func (s *sheet) partial(symbol market.Symbol, session market.Date, now time.Time) {
	r := toRow(Bar(symbol, session))
	r.volume = "1234"
	s.rows = append([]row{r}, s.rows...)
	s.refreshed = session.String() + now.In(market.NewYork()).Format(" 15:04:05")
}

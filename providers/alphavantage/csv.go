package alphavantage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/wire"
)

const csvHeader = "timestamp,open,high,low,close,volume"

// decode appends to bars those of a daily answer, in the order in which they
// come. A byte order mark before it is skipped.
func decode(s *wire.Body, csv bool, asked string, bars []market.Bar) ([]market.Bar, error) {
	if err := s.SkipMark(); err != nil {
		return nil, err
	}
	if csv {
		return decodeCSV(s, bars)
	}
	return decodeJSON(s, asked, bars)
}

// decodeCSV reads the header, which must be exactly the one of daily bars,
// and a bar from each line. The last line must end like the others: one that
// does not was cut.
func decodeCSV(s *wire.Body, bars []market.Bar) ([]market.Bar, error) {
	lines := bufio.NewReader(s)
	header, err := nextLine(lines)
	if errors.Is(err, io.EOF) {
		return nil, wire.ErrCut
	}
	if err != nil {
		return nil, err
	}
	if string(header) != csvHeader {
		return nil, fmt.Errorf("the first line is not %q", csvHeader)
	}
	for n := 2; ; n++ {
		line, err := nextLine(lines)
		if errors.Is(err, io.EOF) {
			return bars, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		bar, err := decodeLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		bars = append(bars, bar)
		s.Complete()
	}
}

// nextLine returns a line without its end, CR LF or LF, and io.EOF only at a
// line's start.
func nextLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errors.New("the line is far too long")
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, wire.ErrCut
	case err != nil:
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

func decodeLine(line []byte) (market.Bar, error) {
	var v values
	text, rest, more := bytes.Cut(line, []byte(","))
	date, err := parseDate(text)
	if err != nil {
		return v.bar, err
	}
	for f := fieldOpen; more; f++ {
		text, rest, more = bytes.Cut(rest, []byte(","))
		if err := v.set(min(f, fieldUnknown), text); err != nil {
			return v.bar, err
		}
	}
	v.bar.Date = date
	return v.finish()
}

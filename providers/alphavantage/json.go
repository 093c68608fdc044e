package alphavantage

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/wire"
)

// decodeJSON appends to bars those of the daily document in s, in the order in
// which they come. The document is read as a stream, one bar at a time, so its
// length costs no memory. asked is the symbol as it was asked for.
func decodeJSON(s *wire.Body, asked string, bars []market.Bar) ([]market.Bar, error) {
	// Names are checked here, where there are five to compare with; the
	// decoder would have to remember each of thousands of dates.
	dec := jsontext.NewDecoder(s, jsontext.AllowDuplicateNames(true))
	if err := wire.Expect(dec, jsontext.KindBeginObject, "the answer"); err != nil {
		return nil, err
	}
	var meta, series bool
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, wire.Malformed(err)
		}
		switch name.String() {
		case "Meta Data":
			err = wire.Once(&meta, "Meta Data")
			if err == nil {
				err = checkMeta(dec, asked)
			}
		case "Time Series (Daily)":
			err = wire.Once(&series, "Time Series (Daily)")
			if err == nil {
				bars, err = decodeSeries(dec, s, bars)
			}
		default:
			err = errors.New("unexpected name beside Meta Data and Time Series (Daily)")
		}
		if err != nil {
			return nil, err
		}
	}
	if err := finish(dec); err != nil {
		return nil, err
	}
	if !meta || !series {
		return nil, errors.New("no Meta Data or no Time Series (Daily)")
	}
	return bars, nil
}

// checkMeta refuses an answer that is about another symbol.
func checkMeta(dec *jsontext.Decoder, asked string) error {
	if err := wire.Expect(dec, jsontext.KindBeginObject, "Meta Data"); err != nil {
		return err
	}
	var found bool
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadToken()
		if err != nil {
			return wire.Malformed(err)
		}
		isSymbol := name.String() == "2. Symbol"
		value, err := dec.ReadToken()
		if err != nil {
			return wire.Malformed(err)
		}
		if value.Kind() != jsontext.KindString {
			return errors.New("a value of Meta Data is no text")
		}
		if isSymbol {
			if err := wire.Once(&found, "2. Symbol"); err != nil {
				return err
			}
			if !strings.EqualFold(value.String(), asked) {
				return errOtherSymbol
			}
		}
	}
	if !found {
		return errors.New("no symbol in Meta Data")
	}
	return wire.Expect(dec, jsontext.KindEndObject, "Meta Data")
}

func decodeSeries(dec *jsontext.Decoder, s *wire.Body, bars []market.Bar) ([]market.Bar, error) {
	if err := wire.Expect(dec, jsontext.KindBeginObject, "Time Series (Daily)"); err != nil {
		return nil, err
	}
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadValue()
		if err != nil {
			return nil, wire.Malformed(err)
		}
		date, err := parseDate(name[1 : len(name)-1])
		if err != nil {
			return nil, err
		}
		fields, err := dec.ReadValue()
		if err != nil {
			return nil, wire.Malformed(err)
		}
		bar, err := decodeBar(fields)
		if err != nil {
			return nil, fmt.Errorf("bar of %s: %w", date, err)
		}
		bar.Date = date
		bars = append(bars, bar)
		s.Complete()
	}
	return bars, wire.Expect(dec, jsontext.KindEndObject, "Time Series (Daily)")
}

// decodeBar reads one bar from an object that the decoder has found to be
// sound JSON, so only what is between the quotes is looked at. An escape
// inside a text is refused with the name or number that it stands in.
func decodeBar(object []byte) (market.Bar, error) {
	var v values
	if object[0] != '{' {
		return v.bar, errors.New("want an object")
	}
	for rest := object; ; {
		name, after, ok := cutText(rest)
		if !ok {
			break
		}
		// Between a name and its value stand blanks and one colon.
		after = bytes.TrimLeft(after, ": \t\r\n")
		if after[0] != '"' {
			return v.bar, errors.New("want each value as a text")
		}
		value, next, _ := cutText(after)
		if err := v.set(jsonField(name), value); err != nil {
			return v.bar, err
		}
		rest = next
	}
	return v.finish()
}

// cutText returns what stands between the next two quotes, and what follows.
func cutText(b []byte) (text, rest []byte, ok bool) {
	from := bytes.IndexByte(b, '"')
	if from < 0 {
		return nil, nil, false
	}
	b = b[from+1:]
	to := bytes.IndexByte(b, '"')
	if to < 0 {
		return nil, nil, false
	}
	return b[:to], b[to+1:], true
}

func jsonField(name []byte) field {
	switch string(name) {
	case "1. open":
		return fieldOpen
	case "2. high":
		return fieldHigh
	case "3. low":
		return fieldLow
	case "4. close":
		return fieldClose
	case "5. volume":
		return fieldVolume
	}
	return fieldUnknown
}

// finish reads the end of the document's object and of the document.
func finish(dec *jsontext.Decoder) error {
	if err := wire.Expect(dec, jsontext.KindEndObject, "the answer"); err != nil {
		return err
	}
	return wire.End(dec)
}

package alphavantage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
)

// decodeJSON appends to bars those of the daily document in s, in the order in
// which they come. The document is read as a stream, one bar at a time, so its
// length costs no memory. asked is the symbol as it was asked for.
func decodeJSON(s *source, asked string, bars []market.Bar) ([]market.Bar, error) {
	// Names are checked here, where there are five to compare with; the
	// decoder would have to remember each of thousands of dates.
	dec := jsontext.NewDecoder(s, jsontext.AllowDuplicateNames(true))
	if err := expect(dec, jsontext.KindBeginObject, "the answer"); err != nil {
		return nil, err
	}
	var meta, series bool
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, malformed(err)
		}
		switch name.String() {
		case "Meta Data":
			err = once(&meta, "Meta Data")
			if err == nil {
				err = checkMeta(dec, asked)
			}
		case "Time Series (Daily)":
			err = once(&series, "Time Series (Daily)")
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
	if err := expect(dec, jsontext.KindBeginObject, "Meta Data"); err != nil {
		return err
	}
	var found bool
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadToken()
		if err != nil {
			return malformed(err)
		}
		isSymbol := name.String() == "2. Symbol"
		value, err := dec.ReadToken()
		if err != nil {
			return malformed(err)
		}
		if value.Kind() != jsontext.KindString {
			return errors.New("a value of Meta Data is no text")
		}
		if isSymbol {
			if err := once(&found, "2. Symbol"); err != nil {
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
	return expect(dec, jsontext.KindEndObject, "Meta Data")
}

func decodeSeries(dec *jsontext.Decoder, s *source, bars []market.Bar) ([]market.Bar, error) {
	if err := expect(dec, jsontext.KindBeginObject, "Time Series (Daily)"); err != nil {
		return nil, err
	}
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadValue()
		if err != nil {
			return nil, malformed(err)
		}
		date, err := parseDate(name[1 : len(name)-1])
		if err != nil {
			return nil, err
		}
		fields, err := dec.ReadValue()
		if err != nil {
			return nil, malformed(err)
		}
		bar, err := decodeBar(fields)
		if err != nil {
			return nil, fmt.Errorf("bar of %s: %w", date, err)
		}
		bar.Date = date
		bars = append(bars, bar)
		s.complete()
	}
	return bars, expect(dec, jsontext.KindEndObject, "Time Series (Daily)")
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

func expect(dec *jsontext.Decoder, want jsontext.Kind, where string) error {
	token, err := dec.ReadToken()
	if err != nil {
		return malformed(err)
	}
	if token.Kind() != want {
		return fmt.Errorf("%s has the wrong shape", where)
	}
	return nil
}

// finish reads the end of the document's object and of the document.
func finish(dec *jsontext.Decoder) error {
	if err := expect(dec, jsontext.KindEndObject, "the answer"); err != nil {
		return err
	}
	return nothingAfter(dec)
}

func nothingAfter(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("more after the end of the document")
	}
	return nil
}

func once(seen *bool, name string) error {
	if *seen {
		return fmt.Errorf("%s occurs twice", name)
	}
	*seen = true
	return nil
}

// malformed keeps of a syntax error the place alone: its text quotes the
// document, which can hold the key.
func malformed(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errLongValue):
		return errLongValue
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errCut
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("a name occurs twice")
	case errors.As(err, &syntax):
		return fmt.Errorf("no JSON document: wrong at byte %d", syntax.ByteOffset)
	}
	return errors.New("no JSON document")
}

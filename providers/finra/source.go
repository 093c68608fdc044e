package finra

import (
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/wire"
)

// reader reads one document as a stream. It refuses names that occur twice in
// one object.
type reader struct{ *jsontext.Decoder }

func newReader(body *wire.Body) reader { return reader{jsontext.NewDecoder(body)} }

// object reads an object: member is called for each name and reads the value.
func (r reader) object(member func(name string) error) error {
	return r.list(jsontext.KindBeginObject, jsontext.KindEndObject, func() error {
		name, err := r.ReadToken()
		if err != nil {
			return wire.Malformed(err)
		}
		return member(name.String())
	})
}

// array reads an array: element reads each one.
func (r reader) array(element func() error) error {
	return r.list(jsontext.KindBeginArray, jsontext.KindEndArray, element)
}

func (r reader) list(begin, end jsontext.Kind, item func() error) error {
	if err := wire.Expect(r.Decoder, begin, "the document"); err != nil {
		return err
	}
	for kind := r.PeekKind(); kind != end; kind = r.PeekKind() {
		if kind == jsontext.KindInvalid {
			break // the next token tells the reason
		}
		if err := item(); err != nil {
			return err
		}
	}
	return wire.Expect(r.Decoder, end, "the document")
}

// value reads a value whole. It is valid until the next one is read.
func (r reader) value() (jsontext.Value, error) {
	v, err := r.ReadValue()
	if err != nil {
		return nil, wire.Malformed(err)
	}
	return v, nil
}

// isNull is true for null and for a name that is not there.
func isNull(v jsontext.Value) bool { return len(v) == 0 || v.Kind() == jsontext.KindNull }

// parseText reads a text; null is "".
func parseText(v jsontext.Value) (string, error) {
	if isNull(v) {
		return "", nil
	}
	if v.Kind() != jsontext.KindString {
		return "", errors.New("want a text")
	}
	text, err := jsontext.AppendUnquote(nil, v)
	return string(text), err
}

func parseDate(v jsontext.Value) (market.Date, error) {
	text, err := parseText(v)
	if err != nil {
		return 0, err
	}
	return market.ParseDate(text)
}

// digits returns what a number is written with, as a number or as a text.
func digits(v jsontext.Value) (string, error) {
	if v.Kind() == jsontext.KindNumber {
		return string(v), nil
	}
	return parseText(v)
}

// parseCount reads a whole number of shares.
func parseCount(v jsontext.Value) (market.Count, error) {
	text, err := digits(v)
	if err != nil || isNull(v) {
		return market.Count{}, err
	}
	n, err := market.ParseVolume(text)
	return market.Count{Value: n, Known: err == nil}, err
}

// maxNumber bounds the digits of a figure.
const maxNumber = 32

// parseRatio reads a number as JSON writes it, with an exponent too.
func parseRatio(v jsontext.Value) (market.Ratio, error) {
	text, err := digits(v)
	if err != nil || isNull(v) {
		return market.Ratio{}, err
	}
	if number := jsontext.Value(text); len(text) > maxNumber || number.Kind() != jsontext.KindNumber || !number.IsValid() {
		return market.Ratio{}, errors.New("want a number such as -17.85")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return market.Ratio{}, errors.New("a number too large for any figure")
	}
	return market.Ratio{Value: f, Known: true}, nil
}

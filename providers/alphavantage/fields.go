package alphavantage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// Bounds of one object. A sound one has some 70 names of at most 35 bytes, and
// its texts but for the description are shorter than an address.
const (
	maxNames  = 500
	maxName   = 64
	maxText   = 500
	maxNumber = 40
)

// Number is a figure of a report. The zero Number is null: the provider says
// that there is none.
type Number struct {
	Value float64
	Known bool
}

// report asks for what a function has of s and hands the answer to decode. The
// error is as [Client.DailyBars] says.
func (c *Client) report(ctx context.Context, function, op string, s market.Symbol, decode func(*wire.Body) error) error {
	q := url.Values{"function": {function}, "symbol": {s.In(market.AlphaVantage)}}
	err := c.get(ctx, q, func(body io.Reader) error {
		src := wire.NewBody(body, wire.MaxValue)
		err := src.SkipMark()
		if err == nil {
			err = decode(src)
		}
		return src.Fault(Name, err)
	})
	if err != nil {
		return providers.Wrap(Name, op+" "+string(s), err)
	}
	return nil
}

// checkSymbol refuses an answer that is about another symbol than s. The
// provider takes share classes with a hyphen and with a dot.
func checkSymbol(text string, s market.Symbol) error {
	if strings.EqualFold(text, s.In(market.AlphaVantage)) || strings.EqualFold(text, string(s)) {
		return nil
	}
	return errOtherSymbol
}

// value is what stands behind a name.
type value struct {
	kind jsontext.Kind
	// text is that of a text, a number or a truth value of at most maxText
	// bytes, without control characters.
	text string
	long bool // and so text is not kept
}

// isNull reports whether the provider says that it has nothing: None, -, an
// empty text, the date 0000-00-00, and the null of JSON. A text of 0 is another
// matter: see [Client.Overview].
func (v value) isNull() bool {
	if v.kind == jsontext.KindNull {
		return true
	}
	if v.kind != jsontext.KindString || v.long {
		return false
	}
	return v.text == "" || v.text == "-" || v.text == "0000-00-00" || strings.EqualFold(v.text, "None")
}

// fields are the values of one object by their names. The first wrong one stays
// in err, and all that is read after it is null.
type fields struct {
	values map[string]value
	err    error
}

// readFields reads an object. What is known by name is taken out of it by the
// methods, whatever else it holds; a name that occurs twice is an error.
func readFields(dec *jsontext.Decoder, s *wire.Body, where string) (*fields, error) {
	if err := wire.Expect(dec, jsontext.KindBeginObject, where); err != nil {
		return nil, err
	}
	f := &fields{values: map[string]value{}}
	for dec.PeekKind() == jsontext.KindString {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, wire.Malformed(err)
		}
		name := token.String()
		if len(name) > maxName || len(f.values) == maxNames || strings.ContainsFunc(name, unicode.IsControl) {
			return nil, fmt.Errorf("%s has a name that is too long, too many names, or control characters in one", where)
		}
		if f.values[name], err = readValue(dec); err != nil {
			return nil, err
		}
		s.Complete()
	}
	return f, wire.Expect(dec, jsontext.KindEndObject, where)
}

func readValue(dec *jsontext.Decoder) (value, error) {
	raw, err := dec.ReadValue()
	if err != nil {
		return value{}, wire.Malformed(err)
	}
	v := value{kind: raw.Kind(), text: string(raw[:min(len(raw), maxText+1)])}
	if v.kind == jsontext.KindString {
		text, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return value{}, wire.Malformed(err)
		}
		v.text = string(text[:min(len(text), maxText+1)])
	}
	if v.long = len(v.text) > maxText; v.long {
		v.text = ""
	}
	v.text = wire.Printable(v.text)
	return v, nil
}

// take returns the text behind name and forgets it. ok is false for null, for a
// name that is not there, and for what is no text or a far too long one, which
// is an error.
func (f *fields) take(name string) (text string, ok bool) {
	v, there := f.values[name]
	delete(f.values, name)
	if !there || v.isNull() || f.err != nil {
		return "", false
	}
	if v.kind != jsontext.KindString || v.long {
		f.fail(name + " is no text, or far too long")
		return "", false
	}
	return v.text, true
}

// need fails for the first name that is not there, not even as null: the
// provider writes every name that it knows.
func (f *fields) need(names ...string) {
	for _, name := range names {
		if _, there := f.values[name]; !there {
			f.fail(name + " is missing")
		}
	}
}

func (f *fields) number(name string) Number {
	text, ok := f.take(name)
	if !ok {
		return Number{}
	}
	v, ok := parseNumber(text)
	if !ok {
		f.fail(name + " is no plain decimal number")
	}
	return Number{v, ok}
}

// date returns the zero Date for null.
func (f *fields) date(name string) market.Date {
	text, ok := f.take(name)
	if !ok {
		return 0
	}
	date, err := parseDate([]byte(text))
	if err != nil {
		f.fail(name + " is not written as YYYY-MM-DD")
	}
	return date
}

func (f *fields) fail(reason string) {
	if f.err == nil {
		f.err = errors.New(reason)
	}
}

// parseNumber reads a decimal number of any sign. It takes no exponent, blank,
// NaN, Inf, hex or underscore, as market.ParsePrice does not; unlike a price, a
// ratio may have more digits than a float64 keeps.
func parseNumber(text string) (v float64, ok bool) {
	whole, fraction, pointed := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if len(text) > maxNumber || !isDigits(whole) || pointed && !isDigits(fraction) {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	if v == 0 {
		v = 0 // not -0
	}
	return v, err == nil
}

func isDigits(s string) bool {
	_, ok := number([]byte(s))
	return ok && s != ""
}

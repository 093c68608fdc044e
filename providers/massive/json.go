package massive

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/wire"
)

// The texts of the errors here quote nothing of the answer: nothing redacts
// them.

// answer is what stands beside the rows.
type answer struct {
	ticker, status, next string
	adjusted             *bool
	// count is how many rows the answer says that it has.
	count, rows int
}

// decode reads an answer as a stream and hands on each row, which is valid until
// the next one. The answer is refused unless it is whole: a status that stands
// for data, as many rows as it counts, and prices on the base that was asked for.
func decode(s *wire.Body, adjusted bool, take func(*row) error) (answer, error) {
	if err := s.SkipMark(); err != nil {
		return answer{}, err
	}
	dec := jsontext.NewDecoder(s)
	a := answer{count: -1}
	if err := wire.Expect(dec, jsontext.KindBeginObject, "the document"); err != nil {
		return a, err
	}
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadToken()
		if err != nil {
			return a, wire.Malformed(err)
		}
		if err := a.member(dec, s, name.String(), take); err != nil {
			return a, err
		}
		s.Complete()
	}
	if err := wire.Expect(dec, jsontext.KindEndObject, "the document"); err != nil {
		return a, err
	}
	if err := wire.End(dec); err != nil {
		return a, err
	}
	return a, a.check(adjusted)
}

func (a *answer) check(adjusted bool) error {
	switch {
	case a.status != "OK" && a.status != "DELAYED":
		return errors.New("the answer's status is neither OK nor DELAYED")
	case a.count != a.rows:
		return fmt.Errorf("the answer counts %d rows and holds %d", a.count, a.rows)
	case a.rows > 0 && (a.adjusted == nil || *a.adjusted != adjusted):
		return fmt.Errorf("the answer does not say that its being adjusted for splits is %t", adjusted)
	}
	return nil
}

// member reads the value that stands behind name. What is not known is skipped.
func (a *answer) member(dec *jsontext.Decoder, s *wire.Body, name string, take func(*row) error) error {
	var to any
	switch name {
	case "results":
		return a.results(dec, s, take)
	case "ticker":
		to = &a.ticker
	case "status":
		to = &a.status
	case "next_url":
		to = &a.next
	case "adjusted":
		to = &a.adjusted
	case "resultsCount":
		to = &a.count
	default:
		if err := dec.SkipValue(); err != nil {
			return wire.Malformed(err)
		}
		return nil
	}
	if err := json.UnmarshalDecode(dec, to); err != nil {
		return wire.Malformed(err)
	}
	return nil
}

// results reads the rows. A day without any has none, or null.
func (a *answer) results(dec *jsontext.Decoder, s *wire.Body, take func(*row) error) error {
	if dec.PeekKind() == jsontext.KindNull {
		return wire.Expect(dec, jsontext.KindNull, "results")
	}
	if err := wire.Expect(dec, jsontext.KindBeginArray, "results"); err != nil {
		return err
	}
	var r row
	for dec.PeekKind() == jsontext.KindBeginObject {
		r.clear()
		if err := json.UnmarshalDecode(dec, &r); err != nil {
			return wire.Malformed(err)
		}
		a.rows++
		if err := take(&r); err != nil {
			return fmt.Errorf("row %d: %w", a.rows, err)
		}
		s.Complete()
	}
	return wire.Expect(dec, jsontext.KindEndArray, "results")
}

// row is a bar as the provider writes it.
type row struct {
	Ticker jsontext.Value `json:"T"` // not of the bars of one symbol
	Time   jsontext.Value `json:"t"`
	Open   jsontext.Value `json:"o"`
	High   jsontext.Value `json:"h"`
	Low    jsontext.Value `json:"l"`
	Close  jsontext.Value `json:"c"`
	Volume jsontext.Value `json:"v"`
}

// clear keeps the room of the values for the next row.
func (r *row) clear() {
	for _, v := range []*jsontext.Value{&r.Ticker, &r.Time, &r.Open, &r.High, &r.Low, &r.Close, &r.Volume} {
		*v = (*v)[:0]
	}
}

// ofDay returns a bar whose time is the first instant of its day in New York.
func (r *row) ofDay() (market.Bar, error) {
	date, clock, err := r.when()
	if err != nil {
		return market.Bar{}, err
	}
	if clock != 0 {
		return market.Bar{}, errors.New("the time is not the start of a day in New York")
	}
	return r.bar(date)
}

// into adds the bar of a session, if it is of one of our symbols. The provider
// says of a session's rows only that they have a time; it must be one of the
// session's day.
func (r *row) into(bars map[market.Symbol]market.Bar, session market.Date) error {
	ticker, err := jsontext.AppendUnquote(nil, []byte(r.Ticker))
	if err != nil {
		return errors.New("a row without a symbol")
	}
	symbol, err := market.ParseSpelled(market.Massive, string(ticker))
	if err != nil {
		return nil //nolint:nilerr // a test issue, a right: nothing that is asked for
	}
	date, _, err := r.when()
	if err != nil {
		return err
	}
	if date != session {
		return fmt.Errorf("it is of %s", date)
	}
	if _, twice := bars[symbol]; twice {
		return errors.New("a symbol occurs twice")
	}
	bars[symbol], err = r.bar(date)
	return err
}

// when returns the date in New York and the time since its midnight.
func (r *row) when() (market.Date, time.Duration, error) {
	ms, err := strconv.ParseInt(string(r.Time), 10, 64)
	if err != nil || ms <= 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return 0, 0, errors.New("the time is no number of milliseconds")
	}
	at := time.UnixMilli(ms).In(market.NewYork())
	date := market.DateOf(at)
	return date, at.Sub(date.In(market.NewYork(), 0, 0)), nil
}

func (r *row) bar(date market.Date) (market.Bar, error) {
	bar := market.Bar{Date: date}
	for _, f := range []struct {
		name string
		text jsontext.Value
		to   *float64
	}{
		{"open", r.Open, &bar.Open},
		{"high", r.High, &bar.High},
		{"low", r.Low, &bar.Low},
		{"close", r.Close, &bar.Close},
	} {
		var err error
		if *f.to, err = price(f.text); err != nil {
			return market.Bar{}, fmt.Errorf("bar of %s: %s %w", date, f.name, err)
		}
	}
	var err error
	if bar.Volume, err = volume(r.Volume); err != nil {
		return market.Bar{}, fmt.Errorf("bar of %s: %w", date, err)
	}
	return bar, nil
}

// price reads a number that is not negative, as the nearest float64: a price that
// is adjusted for a split is a quotient, and can have more digits than a float64
// keeps. An exponent is read, as in a volume: one row among eleven thousand that
// is written so is no reason to refuse a session.
func price(v jsontext.Value) (float64, error) {
	if v.Kind() != jsontext.KindNumber || v[0] == '-' {
		return 0, errors.New("is no price")
	}
	return strconv.ParseFloat(string(v), 64)
}

// volume reads a number of shares, which the provider also writes with a
// fraction or an exponent. It is rounded to the nearest whole share, so by half
// a share at most.
func volume(v jsontext.Value) (int64, error) {
	errVolume := errors.New("volume is no number of shares")
	if v.Kind() != jsontext.KindNumber {
		return 0, errVolume
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 0 || f > 1<<53 {
		return 0, errVolume
	}
	return int64(math.Round(f)), nil
}

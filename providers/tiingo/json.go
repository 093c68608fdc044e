package tiingo

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/wire"
)

// The texts of the errors here quote nothing of the answer: nothing redacts
// them.

// row is a bar as the provider writes it; what else it writes is not used.
type row struct {
	Date     string         `json:"date"`
	Open     jsontext.Value `json:"open"`
	High     jsontext.Value `json:"high"`
	Low      jsontext.Value `json:"low"`
	Close    jsontext.Value `json:"close"`
	AdjClose jsontext.Value `json:"adjClose"`
	Volume   jsontext.Value `json:"volume"`
}

// clear keeps the room of the values for the next row.
func (r *row) clear() {
	r.Date = ""
	for _, v := range []*jsontext.Value{&r.Open, &r.High, &r.Low, &r.Close, &r.AdjClose, &r.Volume} {
		*v = (*v)[:0]
	}
}

// decode appends to bars those of an answer, in the order in which they come.
func decode(answer []byte, bars []market.Bar) ([]market.Bar, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(bytes.TrimPrefix(answer, []byte("\uFEFF"))))
	if err := wire.Expect(dec, jsontext.KindBeginArray, "the document"); err != nil {
		return nil, err
	}
	var r row
	for dec.PeekKind() == jsontext.KindBeginObject {
		r.clear()
		if err := json.UnmarshalDecode(dec, &r); err != nil {
			return nil, wire.Malformed(err)
		}
		bar, err := r.bar()
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(bars)+1, err)
		}
		bars = append(bars, bar)
	}
	if err := wire.Expect(dec, jsontext.KindEndArray, "the document"); err != nil {
		return nil, err
	}
	if err := wire.End(dec); err != nil {
		return nil, err
	}
	return bars, nil
}

func (r *row) bar() (market.Bar, error) {
	date, err := parseDate(r.Date)
	if err != nil {
		return market.Bar{}, err
	}
	bar := market.Bar{Date: date, HasAdjClose: true}
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
		if *f.to, _, err = market.ParsePrice(f.text); err != nil {
			return market.Bar{}, fmt.Errorf("bar of %s: %s is no plain decimal number", date, f.name)
		}
	}
	if bar.AdjClose, err = quotient(r.AdjClose); err != nil {
		return market.Bar{}, fmt.Errorf("bar of %s: adjClose %w", date, err)
	}
	if bar.Volume, err = market.ParseVolume(r.Volume); err != nil {
		return market.Bar{}, fmt.Errorf("bar of %s: volume is no plain whole number", date)
	}
	return bar, nil
}

// parseDate reads a session's date, which the provider writes as a midnight in
// UTC: 2024-01-02T00:00:00.000Z. Another time would be that of something else.
func parseDate(text string) (market.Date, error) {
	day, midnight := strings.CutSuffix(text, "T00:00:00.000Z")
	date, err := market.ParseDate(day)
	if err != nil || !midnight {
		return 0, errors.New("a date is not written as 2024-01-02T00:00:00.000Z")
	}
	return date, nil
}

// quotient reads an adjusted close as the nearest float64. It is a product of
// ratios: it can have more digits than a float64 keeps, and be so small that it
// is written with an exponent.
func quotient(v jsontext.Value) (float64, error) {
	if v.Kind() != jsontext.KindNumber {
		return 0, errors.New("is no number")
	}
	return strconv.ParseFloat(string(v), 64)
}

package alphavantage

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// maxRows bounds a list: one of quarters has some 120 rows.
const maxRows = 1000

var errMessage = errors.New("the answer is a message, or holds one")

// dated is a row of a list, one for each end of a fiscal period.
type dated interface {
	comparable
	end() market.Date
}

// decodeReports reads an answer about s with lists of rows by their names; row
// is called for each row of a list. Other names beside the lists are skipped.
func decodeReports(src *wire.Body, s market.Symbol, lists map[string]func(*fields) error) error {
	dec := jsontext.NewDecoder(src)
	if err := wire.Expect(dec, jsontext.KindBeginObject, "the answer"); err != nil {
		return err
	}
	names, there := 0, 0
	for ; dec.PeekKind() == jsontext.KindString; names++ {
		token, err := dec.ReadToken()
		if err != nil {
			return wire.Malformed(err)
		}
		name := token.String()
		read, isList := lists[name]
		switch {
		case names > maxNames:
			err = errors.New("the answer has too many names")
		case isMessage(name):
			err = errMessage
		case isList:
			there++
			err = readRows(dec, src, name, read)
		case name == "symbol":
			there++
			err = readSymbol(dec, s)
		default:
			_, err = readValue(dec)
		}
		if err != nil {
			return err
		}
		src.Complete()
	}
	if err := finish(dec); err != nil {
		return err
	}
	switch {
	case names == 0:
		return found(providers.NoData, "an answer without data")
	case there != len(lists)+1:
		return errors.New("the symbol or one of the lists is missing")
	}
	return nil
}

func readSymbol(dec *jsontext.Decoder, s market.Symbol) error {
	v, err := readValue(dec)
	if err != nil {
		return err
	}
	return checkSymbol(v.text, s)
}

func readRows(dec *jsontext.Decoder, src *wire.Body, name string, row func(*fields) error) error {
	if err := wire.Expect(dec, jsontext.KindBeginArray, name); err != nil {
		return err
	}
	for n := 1; dec.PeekKind() != jsontext.KindEndArray; n++ {
		if n > maxRows {
			return fmt.Errorf("%s has more than %d rows", name, maxRows)
		}
		f, err := readFields(dec, src, fmt.Sprintf("row %d of %s", n, name))
		if err != nil {
			return err
		}
		if err := row(f); err != nil {
			return fmt.Errorf("row %d of %s: %w", n, name, err)
		}
	}
	return wire.Expect(dec, jsontext.KindEndArray, name)
}

// fiscalEnd is the date of a row, which every row has.
func (f *fields) fiscalEnd() market.Date {
	d := f.date("fiscalDateEnding")
	if d == 0 {
		f.fail("no fiscalDateEnding")
	}
	return d
}

// newestFirst sorts rows, and drops repeats. Two different rows of one date are
// an error.
func newestFirst[R dated](rows []R) ([]R, error) {
	slices.SortStableFunc(rows, func(a, b R) int { return int(b.end() - a.end()) })
	rows = slices.Compact(rows)
	for i := 1; i < len(rows); i++ {
		if rows[i].end() == rows[i-1].end() {
			return nil, fmt.Errorf("two rows of %s with different values", rows[i].end())
		}
	}
	return rows, nil
}

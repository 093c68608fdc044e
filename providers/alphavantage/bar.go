package alphavantage

import (
	"errors"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// The texts of these errors, as of all errors of the decoders, quote nothing
// of the answer: it can hold the key, and nothing redacts it here.
var errOtherSymbol = errors.New("the answer is about another symbol")

// field is one column of a bar.
type field uint8

const (
	fieldOpen field = iota
	fieldHigh
	fieldLow
	fieldClose
	fieldVolume
	fieldUnknown
)

// String returns the field's name in errors.
func (f field) String() string {
	return [...]string{"open", "high", "low", "close", "volume", "unknown field"}[f]
}

// values collects the fields of one bar, each exactly once.
type values struct {
	bar  market.Bar
	seen uint8
}

func (v *values) set(f field, text []byte) error {
	if f == fieldUnknown {
		return errors.New("unexpected field")
	}
	if v.seen&(1<<f) != 0 {
		return errors.New(f.String() + " occurs twice")
	}
	v.seen |= 1 << f
	if f == fieldVolume {
		volume, err := market.ParseVolume(text)
		if err != nil {
			return errors.New("volume is no plain whole number")
		}
		v.bar.Volume = volume
		return nil
	}
	price, exact, err := market.ParsePrice(text)
	if err != nil {
		return errors.New(f.String() + " is no plain decimal number")
	}
	if !exact {
		return errors.New(f.String() + " has more than 15 significant digits")
	}
	switch f {
	case fieldOpen:
		v.bar.Open = price
	case fieldHigh:
		v.bar.High = price
	case fieldLow:
		v.bar.Low = price
	default:
		v.bar.Close = price
	}
	return nil
}

func (v *values) finish() (market.Bar, error) {
	for f := fieldOpen; f < fieldUnknown; f++ {
		if v.seen&(1<<f) == 0 {
			return market.Bar{}, errors.New(f.String() + " is missing")
		}
	}
	return v.bar, nil
}

// parseDate reads YYYY-MM-DD. It is market.ParseDate without the copy of the
// text and the general reader of layouts.
func parseDate(b []byte) (market.Date, error) {
	if len(b) == len(time.DateOnly) && b[4] == '-' && b[7] == '-' {
		year, ok1 := number(b[:4])
		month, ok2 := number(b[5:7])
		day, ok3 := number(b[8:])
		// A day that a month does not have is normalised into the next.
		d := market.NewDate(year, time.Month(month), day)
		if _, m, n := d.Time().Date(); ok1 && ok2 && ok3 && year > 0 && int(m) == month && n == day {
			return d, nil
		}
	}
	return 0, errors.New("a date is not written as YYYY-MM-DD")
}

func number(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

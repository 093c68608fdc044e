package ibkr

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

const (
	// maxDays and maxYears bound a duration in days and in years (IB's TWS API
	// documentation, historical bars).
	maxDays, maxYears = 365, 68
	// barFields is how many fields a bar has on the wire: date, four prices,
	// volume, average price, number of trades.
	barFields = 8
)

// question is a request for history, but for its id. Two that are equal are
// identical to the gateway.
type question struct {
	symbol, end, duration string
}

// ask makes the question for a window that is not longer than 68 years. newest
// is the newest closed session and today the date in New York.
func ask(s market.Symbol, window market.Range, newest, today market.Date) (question, error) {
	q := question{symbol: s.In(market.IBKR)}
	last := today
	if window.To < newest {
		// Up to the first moment of the day after, in the form that no zone
		// setting of the gateway changes.
		q.end = (window.To + 1).In(market.NewYork(), 0, 0).UTC().Format("20060102-15:04:05")
		last = window.To
	}
	days := int(last-window.From) + 1
	years := (days + maxDays - 1) / maxDays
	switch {
	case window.To < window.From || days < 1 || years > maxYears:
		return question{}, &providers.Error{Provider: Name, Kind: providers.Rejected, Err: fmt.Errorf(
			"window %s: want one that has begun, of 1 day to %d years", window, maxYears)}
	case days <= maxDays:
		q.duration = strconv.Itoa(days) + " D"
	default:
		q.duration = strconv.Itoa(years) + " Y"
	}
	return q, nil
}

// message is the request on the wire: fields as of server version 124, in the
// order of the sources of IB's TWS API, where the size of a bar precedes the
// duration.
func (q question) message(id int) []byte {
	return encode(outHistory, strconv.Itoa(id),
		"0", q.symbol, "STK", "", "0.0", "", "", "SMART", "", "USD", "", "", "0", // the contract
		q.end, "1 day", q.duration, "1", "TRADES", "1", "0", "")
}

// decodeHistory reads what follows the id in an answer to a request: two dates,
// the number of bars and the bars. It returns all of them or none, sorted.
func decodeHistory(in fields, lots bool) ([]market.Bar, error) {
	for _, name := range [...]string{"start", "end"} {
		if _, err := in.next(name); err != nil {
			return nil, err
		}
	}
	count, err := in.number("count of bars")
	if err != nil {
		return nil, err
	}
	if most := len(in) / (2 * barFields); count < 0 || count > most {
		return nil, fmt.Errorf("%d bars announced, at most %d can be there", count, most)
	}
	bars := make([]market.Bar, count)
	for i := range bars {
		if err := decodeBar(&in, &bars[i], lots); err != nil {
			return nil, fmt.Errorf("bar %d of %d: %w", i+1, count, err)
		}
	}
	if len(in) != 0 {
		return nil, fmt.Errorf("%d bytes are left after %d bars", len(in), count)
	}
	byDate := func(a, b market.Bar) int { return cmp.Compare(a.Date, b.Date) }
	if !slices.IsSortedFunc(bars, byDate) {
		slices.SortStableFunc(bars, byDate)
	}
	return bars, nil
}

func decodeBar(in *fields, b *market.Bar, lots bool) error {
	var text [barFields][]byte
	for i, name := range [barFields]string{"date", "open", "high", "low", "close", "volume", "average", "trades"} {
		var err error
		if text[i], err = in.next(name); err != nil {
			return err
		}
	}
	var err error
	if b.Date, err = parseDate(text[0]); err != nil {
		return err
	}
	for i, price := range [...]*float64{&b.Open, &b.High, &b.Low, &b.Close} {
		var exact bool
		if *price, exact, err = market.ParsePrice(text[1+i]); err == nil && !exact {
			err = fmt.Errorf("price %q has more than 15 significant digits", text[1+i])
		}
		if err != nil {
			return fmt.Errorf("%v: %w", b.Date, err)
		}
	}
	if b.Volume, err = parseVolume(text[5], lots); err != nil {
		return fmt.Errorf("%v: %w", b.Date, err)
	}
	return nil
}

// parseDate reads the day of a daily bar: yyyymmdd, and with some settings a
// midnight behind two blanks.
func parseDate(text []byte) (market.Date, error) {
	day := bytes.TrimSuffix(text, []byte("  00:00:00"))
	t, err := time.Parse("20060102", string(day[:min(len(day), 9)]))
	if err != nil || t.Year() < 1 {
		return 0, fmt.Errorf("date %.40q: want a day as yyyymmdd", text)
	}
	return market.DateOf(t), nil
}

// parseVolume returns a number of shares. Servers from version 163 on send
// decimals, so zeros after a point are none. With lots, two decimals are shares.
// -1 stands for a volume that the gateway does not have.
func parseVolume(text []byte, lots bool) (int64, error) {
	if string(text) == "-1" {
		return 0, nil
	}
	whole, fraction, pointed := strings.Cut(string(text), ".")
	plain := whole != "" && pointed == (fraction != "")
	if lots {
		fraction += "00"
		whole, fraction = whole+fraction[:2], fraction[2:]
	}
	if !plain || strings.Trim(fraction, "0") != "" {
		return 0, fmt.Errorf("volume %.40q: want a whole number of shares in plain digits", text)
	}
	return market.ParseVolume(whole)
}

// finished returns the bars up to newest: what comes after is a session that
// still runs. bars are sorted.
func finished(bars []market.Bar, newest market.Date) ([]market.Bar, error) {
	n := len(bars)
	for n > 0 && bars[n-1].Date > newest {
		n--
	}
	if n == 0 {
		return nil, &providers.Error{Provider: Name, Kind: providers.NoData, Err: errors.New("the answer holds no bar of a closed session")}
	}
	return bars[:n], nil
}

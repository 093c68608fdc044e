package edgar

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// maxTickers bounds the rows of the file, which are about ten thousand.
const maxTickers = 1 << 17

// Tickers says which issuer stands behind a symbol today. It lists current
// registrants only: a delisted symbol vanishes, and it says nothing about whom
// a symbol belonged to in the past.
type Tickers struct {
	// CIK is the issuer's number by its symbol. An issuer can have several
	// symbols, one for each kind of its securities.
	CIK map[market.Symbol]int
	// Rows counts the rows of the file. Malformed are those among them
	// without a symbol or a number that can be one. Ambiguous counts the
	// symbols that are left out because rows give them to different
	// issuers.
	Rows, Malformed, Ambiguous int
	// ETag and LastModified are the file's, as the SEC wrote them.
	ETag, LastModified string
}

// Tickers returns the issuers of all symbols. have is what an earlier call
// returned, or the zero value: if the file has not changed since, the answer
// holds no body and have is returned as it is.
//
// The error is a *[providers.Error], or wraps that of ctx.
func (c *Client) Tickers(ctx context.Context, have Tickers) (Tickers, error) {
	t, err := c.tickers(ctx, have)
	var known *providers.Error
	if errors.As(err, &known) && known.Kind == providers.NoData {
		// No symbol's fault, so it must not look like one.
		err = found(providers.BadPayload, "the file is not there: is the base URL right?")
	}
	if err != nil {
		return Tickers{}, providers.Wrap(Name, "ticker file", err)
	}
	return t, nil
}

func (c *Client) tickers(ctx context.Context, have Tickers) (Tickers, error) {
	resp, err := get(ctx, c.files, c.filesURL+"/files/company_tickers.json", jsonType, have.condition())
	if notModified(resp, err) {
		if resp != nil {
			_ = resp.Body.Close() // it is empty
		}
		return have, nil
	}
	if err != nil {
		return Tickers{}, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	body, err := document(resp)
	if err != nil {
		return Tickers{}, err
	}
	t, err := readTickers(newReader(body))
	if err != nil {
		return Tickers{}, body.Fault(Name, err)
	}
	t.ETag, t.LastModified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	return t, nil
}

// condition returns the header that asks for the file only if it has changed.
// Without the symbols of the last time, it is needed all the same.
func (t Tickers) condition() http.Header {
	h := http.Header{}
	if len(t.CIK) == 0 {
		return h
	}
	if t.ETag != "" {
		h.Set("If-None-Match", t.ETag)
	}
	if t.LastModified != "" {
		h.Set("If-Modified-Since", t.LastModified)
	}
	return h
}

// notModified also knows the answer when the transport has made an error of
// it, as of every status outside 2xx.
func notModified(resp *http.Response, err error) bool {
	var known *providers.Error
	if errors.As(err, &known) {
		return known.Status == http.StatusNotModified
	}
	return err == nil && resp.StatusCode == http.StatusNotModified
}

func readTickers(r reader) (Tickers, error) {
	t := Tickers{CIK: map[market.Symbol]int{}}
	disputed := map[market.Symbol]bool{}
	err := r.object("the answer", func(string) error {
		row, err := r.value()
		if err != nil {
			return err
		}
		if t.Rows++; t.Rows > maxTickers {
			return fmt.Errorf("more than %d rows", maxTickers)
		}
		symbol, cik, err := readTicker(row)
		if err != nil {
			t.Malformed++
			return nil //nolint:nilerr // counted: one odd row must not cost all the others
		}
		if before, known := t.CIK[symbol]; known && before != cik {
			disputed[symbol] = true
		}
		t.CIK[symbol] = cik
		return nil
	})
	if err == nil {
		err = wire.End(r.Decoder)
	}
	if err != nil {
		return Tickers{}, err
	}
	for symbol := range disputed {
		delete(t.CIK, symbol)
	}
	t.Ambiguous = len(disputed)
	if len(t.CIK) == 0 {
		return Tickers{}, fmt.Errorf("none of %d rows holds a symbol and an issuer", t.Rows)
	}
	return t, nil
}

// readTicker reads {"cik_str":320193,"ticker":"AAPL","title":"Apple Inc."}, the
// number as a number or as text, and other names beside them.
func readTicker(row []byte) (symbol market.Symbol, cik int, err error) {
	var hasSymbol, hasCIK bool
	err = members(row, func(name, value []byte) error {
		switch string(name) {
		case "cik_str":
			if err := wire.Once(&hasCIK, "cik_str"); err != nil {
				return err
			}
			cik, err = parseCIK(value)
			return err
		case "ticker":
			if err := wire.Once(&hasSymbol, "ticker"); err != nil {
				return err
			}
			spelled, err := text(value)
			if err != nil {
				return err
			}
			symbol, err = market.ParseSpelled(market.SEC, string(spelled))
			return err
		}
		return nil
	})
	if err == nil && (!hasSymbol || !hasCIK) {
		err = errors.New("no symbol or no number")
	}
	return symbol, cik, err
}

// parseCIK reads an issuer's number, which the SEC writes as a number or as a
// text that may begin with zeros: at most ten digits, not zero.
func parseCIK(value jsontext.Value) (int, error) {
	digits := []byte(value)
	if value.Kind() == jsontext.KindString {
		digits = digits[1 : len(digits)-1]
	}
	return cikOf(digits)
}

func cikOf(digits []byte) (int, error) {
	cik := 0
	for _, c := range digits {
		if c < '0' || c > '9' || len(digits) > 10 {
			return 0, errors.New("an issuer's number is not 1 to 10 digits")
		}
		cik = cik*10 + int(c-'0')
	}
	if cik == 0 {
		return 0, errors.New("an issuer's number is missing or zero")
	}
	return cik, nil
}

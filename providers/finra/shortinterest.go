package finra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

const (
	// pageRows is FINRA's greatest number of rows a page.
	pageRows = 5000
	// chunkSymbols is how many symbols one question names, so that their rows
	// fit into one page with room to spare.
	chunkSymbols = 500
	// rowsPerSymbol bounds the rows that one symbol can have: more than one,
	// since securities whose symbols differ by a separator share a spelling.
	rowsPerSymbol = 4
	// fewestJudged is from how many symbols on the lack of rows says something
	// about FINRA: fewer can be funds, or all unknown. A chunk beside others
	// has hundreds.
	fewestJudged = 20
)

// ErrNotPublished says that FINRA does not have the settlement date yet; the
// [providers.Error] around it is of kind NotReady.
var ErrNotPublished = errors.New("not yet published")

// ErrPublishing says that FINRA has rows of the settlement date, but so few
// that it must still be at it: ask again later. The [providers.Error] around it
// is of kind NotReady. See the package's comment for what too few is.
var ErrPublishing = errors.New("FINRA is still publishing: ask again later")

// Summary says what came of the symbols that were asked for. Each of them is
// counted once: in Rows, in Missing or in a collision.
type Summary struct {
	// Rows counts the rows that were delivered.
	Rows int
	// Missing are the symbols that FINRA has no row for, in ascending order.
	Missing []market.Symbol
	// Collisions are the spellings that were left out because it cannot be
	// told whose they are: somebody should know of it.
	Collisions []Collision
}

// Collision is a spelling of FINRA's that stands for several securities.
type Collision struct {
	// Code is the spelling, such as BRKB.
	Code string
	// Symbols are those of the symbols asked for that are spelled so.
	Symbols []market.Symbol
	Reason  string
}

// ShortInterest reads the short interest of symbols at a settlement date and
// calls each for every row, normal and valid, in ascending order of the symbols.
//
// Nothing is delivered before all pages are there and fit together: as many
// rows as FINRA announces, the same number on every page, none twice, none that
// was not asked for. Pages that do not fit, or hold too few of the symbols, as
// while FINRA publishes, are read once more from the start, and refused after
// that.
//
// The error is a *[providers.Error], or that of each, or wraps that of ctx. It
// is of kind NotReady, and wraps [ErrNotPublished], if the date is not out yet;
// of kind NotReady, and wraps [ErrPublishing], if only a part of it is; and of
// kind NoData if it is out and holds none of the symbols.
func (c *Client) ShortInterest(ctx context.Context, settlement market.Date, symbols []market.Symbol,
	each func(market.ShortInterest) error,
) (Summary, error) {
	b, err := c.collect(ctx, settlement, symbols)
	if err != nil {
		return Summary{}, providers.Wrap(Name, "short interest of "+settlement.String(), err)
	}
	rows, summary := b.settle()
	for _, row := range rows {
		if err := each(row); err != nil {
			return summary, err
		}
	}
	return summary, nil
}

// collect reads until the pages fit together, twice at most.
func (c *Client) collect(ctx context.Context, settlement market.Date, symbols []market.Symbol) (*book, error) {
	if settlement <= 0 || len(symbols) == 0 {
		return nil, found(providers.BadPayload, "nothing was asked for: name a settlement date and symbols")
	}
	for last := false; ; last = true {
		b := newBook(settlement, symbols)
		if len(b.codes) == 0 {
			return b, nil // all of them collide
		}
		err := c.read(ctx, b)
		misfit, isMisfit := errors.AsType[*misfitError](err)
		switch {
		case isMisfit && last:
			return nil, found(providers.BadPayload, misfit.text+", also when all was read again: try later")
		case isMisfit:
			continue
		case err != nil:
			return nil, err
		case len(b.rows) == 0:
			if err := c.whyEmpty(ctx, settlement, last); err != nil {
				return nil, err
			}
			continue
		}
		// It may have been asked while FINRA was publishing.
		lack := b.lack()
		switch {
		case lack == "":
			return b, nil
		case last:
			return nil, &providers.Error{Provider: Name, Kind: providers.NotReady, Err: fmt.Errorf("%s: %w", lack, ErrPublishing)}
		}
	}
}

// whyEmpty returns nil if it is worth asking again.
func (c *Client) whyEmpty(ctx context.Context, settlement market.Date, last bool) error {
	out, err := c.published(ctx)
	switch {
	case err != nil:
		return err
	case !slices.Contains(out, settlement):
		return &providers.Error{Provider: Name, Kind: providers.NotReady, Err: ErrNotPublished}
	case last:
		return found(providers.NoData, "published, but without any of these symbols: are they right?")
	}
	return nil
}

// misfitError says why pages do not fit together.
type misfitError struct{ text string }

// Error implements the error interface.
func (e *misfitError) Error() string { return e.text }

func misfit(format string, args ...any) error { return &misfitError{fmt.Sprintf(format, args...)} }

// read asks for all symbols of the book, in chunks of about equal size.
func (c *Client) read(ctx context.Context, b *book) error {
	chunks := (len(b.codes) + chunkSymbols - 1) / chunkSymbols
	for codes := range slices.Chunk(b.codes, (len(b.codes)+chunks-1)/chunks) {
		if err := c.readChunk(ctx, b, codes); err != nil {
			return err
		}
	}
	return nil
}

// readChunk asks for page after page. A page can be short for no reason that
// can be seen, so the next one begins after the rows that were received.
func (c *Client) readChunk(ctx context.Context, b *book, codes []string) error {
	received, total := 0, 0
	for first := true; first || received < total; first = false {
		p, err := c.page(ctx, b, codes, received)
		switch {
		case err != nil:
			return err
		case first && p.total > rowsPerSymbol*len(codes):
			return found(providers.BadPayload, fmt.Sprintf("%d rows announced for %d symbols: the filter was not kept", p.total, len(codes)))
		case first:
			total = p.total
		}
		received += p.rows
		switch {
		case p.total != total:
			return misfit("the number of rows changed from %d to %d between two pages", total, p.total)
		case received > total:
			return misfit("%d rows came where %d were announced", received, total)
		case p.rows == 0 && total > 0:
			return misfit("the rows ended after %d of %d", received, total)
		}
	}
	if total == 0 {
		b.empty += len(codes)
	}
	return nil
}

// question is the body of a request. Its values are ANDed; without fields
// FINRA sends more of them.
type question struct {
	Fields  []string  `json:"fields"`
	Compare []compare `json:"compareFilters"`
	Domain  []domain  `json:"domainFilters"`
	Limit   int       `json:"limit"`
	Offset  int       `json:"offset"` // rows before the page
}

type compare struct {
	Field string `json:"fieldName"`
	Type  string `json:"compareType"`
	Value string `json:"fieldValue"`
}

type domain struct {
	Field  string   `json:"fieldName"`
	Values []string `json:"values"`
}

// page is what a page says: its rows are in the book.
type page struct{ rows, total int }

// page asks for one page. No answer and an empty list are a page without rows.
func (c *Client) page(ctx context.Context, b *book, codes []string, offset int) (page, error) {
	resp, err := c.ask(ctx, http.MethodPost, dataPath, question{
		Fields:  fields(),
		Compare: []compare{{fieldSettlement, "EQUAL", b.settlement.String()}},
		Domain:  []domain{{fieldCode, codes}},
		Limit:   pageRows,
		Offset:  offset,
	})
	if err != nil {
		return page{}, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	if resp.StatusCode == http.StatusNoContent {
		return page{}, nil
	}
	if err := checkJSON(resp); err != nil {
		return page{}, err
	}
	body := wire.NewBody(resp.Body, 0) // the transport bounds all of it
	rows, err := b.readPage(newReader(body))
	if err != nil {
		return page{}, body.Fault(Name, err)
	}
	total, err := announced(resp.Header, rows)
	return page{rows, total}, err
}

// announced returns how many rows there are on all pages. Only a page without
// rows can do without it.
func announced(h http.Header, rows int) (int, error) {
	text := h.Get("Record-Total")
	if text == "" && rows == 0 {
		return 0, nil
	}
	total, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, found(providers.BadPayload, "the answer does not say how many rows there are (Record-Total), so it cannot be told whether it is whole")
	}
	return int(total), nil
}

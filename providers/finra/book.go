package finra

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/wire"
)

// The fields of a row that are asked for.
const (
	fieldSettlement = "settlementDate"
	fieldCode       = "symbolCode"
	fieldIssue      = "issueName"
	fieldMarket     = "marketClassCode"
	fieldCurrent    = "currentShortPositionQuantity"
	fieldPrevious   = "previousShortPositionQuantity"
	fieldVolume     = "averageDailyVolumeQuantity"
	fieldDays       = "daysToCoverQuantity"
	fieldChange     = "changePercent"
	fieldRevision   = "revisionFlag"
	fieldSplit      = "stockSplitFlag"
)

func fields() []string {
	return []string{
		fieldSettlement, fieldCode, fieldIssue, fieldMarket, fieldCurrent, fieldPrevious, fieldVolume,
		fieldDays, fieldChange, fieldRevision, fieldSplit,
	}
}

// book holds the rows of a settlement date until all pages are there: one for
// each spelling that was asked for.
type book struct {
	settlement market.Date
	codes      []string // to ask for, in ascending order
	symbols    map[string][]market.Symbol
	rows       map[string]row
	// shared are the spellings that rows of several securities have, with
	// the names of those.
	shared map[string][]string
	// empty counts the symbols of the questions that were answered without a
	// row.
	empty int
}

// lack says why the rows are only a part of what FINRA will have; "" if nothing
// says so.
func (b *book) lack() string {
	switch {
	case b.empty >= fewestJudged:
		return fmt.Sprintf("of %d symbols asked for together none has a row, though others have", b.empty)
	case len(b.codes) >= fewestJudged && 2*len(b.rows) < len(b.codes):
		return fmt.Sprintf("only %d of %d symbols have a row", len(b.rows), len(b.codes))
	}
	return ""
}

// row is one row, and the name of its security.
type row struct {
	code, issue string
	market.ShortInterest
}

func newBook(settlement market.Date, symbols []market.Symbol) *book {
	b := &book{
		settlement: settlement, symbols: map[string][]market.Symbol{}, rows: map[string]row{}, shared: map[string][]string{},
	}
	for _, s := range symbols {
		code := s.In(market.FINRA)
		if !slices.Contains(b.symbols[code], s) {
			b.symbols[code] = append(b.symbols[code], s)
		}
	}
	for code, of := range b.symbols {
		slices.Sort(of)
		if len(of) == 1 {
			b.codes = append(b.codes, code)
		}
	}
	slices.Sort(b.codes)
	return b
}

// readPage adds the rows of a page and returns how many they are.
func (b *book) readPage(r reader) (rows int, err error) {
	err = r.array(func() error {
		rows++
		if rows > pageRows {
			return fmt.Errorf("more than %d rows on a page", pageRows)
		}
		one, err := b.readRow(r)
		if err != nil {
			return fmt.Errorf("row %d: %w", rows, err)
		}
		return b.add(one)
	})
	if err == nil {
		err = wire.End(r.Decoder)
	}
	return rows, err
}

// add refuses a row that came before. A second security of the same spelling
// is not that: neither of them can be told to be the one that was meant.
func (b *book) add(r row) error {
	before, known := b.rows[r.code]
	issues := b.shared[r.code]
	switch {
	case !known:
		b.rows[r.code] = r
		return nil
	case before.issue == r.issue || slices.Contains(issues, r.issue):
		return misfit("%s came twice", r.code)
	case len(issues) == 0:
		issues = []string{before.issue}
	}
	b.shared[r.code] = append(issues, r.issue)
	return nil
}

// settle returns the rows in order and says what came of every symbol.
func (b *book) settle() ([]market.ShortInterest, Summary) {
	var rows []market.ShortInterest
	var sum Summary
	for code, symbols := range b.symbols {
		r, known := b.rows[code]
		switch {
		case len(symbols) > 1:
			sum.collide(code, symbols, "several of the symbols are spelled so")
		case len(b.shared[code]) > 0:
			sum.collide(code, symbols, fmt.Sprintf("FINRA has several securities of this spelling: %q", b.shared[code]))
		case !known:
			sum.Missing = append(sum.Missing, symbols...)
		default:
			rows = append(rows, r.ShortInterest)
		}
	}
	slices.SortFunc(rows, func(a, b market.ShortInterest) int { return cmp.Compare(a.Symbol, b.Symbol) })
	slices.SortFunc(sum.Collisions, func(a, b Collision) int { return cmp.Compare(a.Code, b.Code) })
	slices.Sort(sum.Missing)
	sum.Rows = len(rows)
	return rows, sum
}

func (s *Summary) collide(code string, symbols []market.Symbol, reason string) {
	s.Collisions = append(s.Collisions, Collision{Code: code, Symbols: symbols, Reason: reason})
}

// readRow reads one row and refuses what cannot be one of those asked for.
func (b *book) readRow(r reader) (row, error) {
	values := map[string]jsontext.Value{}
	err := r.object(func(name string) error {
		v, err := r.value()
		if err == nil && slices.Contains(fields(), name) {
			values[name] = v.Clone()
		}
		return err
	})
	if err != nil {
		return row{}, err
	}
	// The others can be null, these must at least be there.
	for _, name := range []string{fieldSettlement, fieldCode, fieldCurrent, fieldPrevious, fieldVolume} {
		if _, there := values[name]; !there {
			return row{}, fmt.Errorf("%s is missing", name)
		}
	}
	return b.parse(values)
}

func (b *book) parse(values map[string]jsontext.Value) (row, error) {
	var one row
	var current market.Count
	var class string
	take := func(name string, parse func(jsontext.Value) error) error {
		if err := parse(values[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	err := cmp.Or(
		take(fieldSettlement, into(&one.Settlement, parseDate)),
		take(fieldCode, into(&one.code, parseText)),
		take(fieldIssue, into(&one.issue, parseText)),
		take(fieldMarket, into(&class, parseText)),
		take(fieldCurrent, into(&current, parseCount)),
		take(fieldPrevious, into(&one.Previous, parseCount)),
		take(fieldVolume, into(&one.AvgDailyVolume, parseCount)),
		take(fieldDays, into(&one.DaysToCover, parseRatio)),
		take(fieldChange, into(&one.ChangePct, parseRatio)),
		take(fieldRevision, into(&one.RevisionFlag, parseText)),
		take(fieldSplit, into(&one.SplitFlag, parseText)),
	)
	symbols := b.symbols[one.code]
	switch {
	case err != nil:
		return row{}, err
	case one.Settlement != b.settlement:
		return row{}, fmt.Errorf("it is of %v, which was not asked for", one.Settlement)
	case len(symbols) != 1:
		return row{}, fmt.Errorf("it is about %q, which was not asked for", printable(one.code))
	case !current.Known:
		return row{}, fmt.Errorf("%s is null", fieldCurrent)
	}
	one.issue = printable(one.issue + ", " + class)
	one.Symbol, one.Shares = symbols[0], current.Value
	one.ShortInterest = one.Normal()
	return one, one.Validate()
}

// into stores what parse reads.
func into[T any](to *T, parse func(jsontext.Value) (T, error)) func(jsontext.Value) error {
	return func(v jsontext.Value) (err error) {
		*to, err = parse(v)
		return err
	}
}

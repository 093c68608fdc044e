package universe

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// maxSize is far above any list: the index takes 3 KB bare, 60 KB with names.
const maxSize = 1 << 20

// Parse reads a list of symbols of at most 1 MiB in one of these forms:
//
//   - a JSON array of strings, or of objects with a member symbol or ticker
//   - CSV whose header has a column symbol or ticker
//   - one symbol a line, with comments from # to the end of the line
//
// The names symbol and ticker may be in any case; symbol counts where there are
// both. A symbol is in the canonical spelling, or has a dash before the letter of its
// share class (BRK-B). Repeats are dropped, the order is kept. The error names
// the first bad item or line; then, and where there is no symbol at all, no
// symbols are returned.
func Parse(r io.Reader) ([]market.Symbol, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, err
	}
	return parse(text)
}

func parse(text []byte) ([]market.Symbol, error) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	start := bytes.TrimSpace(text)
	if len(text) > maxSize {
		return nil, fmt.Errorf("it is larger than %d bytes: is it a list of symbols?", maxSize)
	}
	if len(start) == 0 {
		return nil, errors.New("it is empty")
	}
	var l list
	var err error
	switch {
	case start[0] == '<':
		return nil, errors.New("it is an HTML or XML page: want JSON, CSV or one symbol a line")
	case start[0] == '{', string(start) == "null":
		return nil, fmt.Errorf("it is JSON, but no array of symbols: %.40q", start)
	case start[0] == '[':
		err = l.readJSON(start)
	default:
		err = l.readText(text)
	}
	if err != nil {
		return nil, err
	}
	if len(l.symbols) == 0 {
		return nil, errors.New("it holds no symbols")
	}
	return l.symbols, nil
}

// list collects symbols in the order in which they first occur.
type list struct {
	symbols []market.Symbol
	seen    map[market.Symbol]bool
}

func (l *list) add(text string) error {
	symbol, err := parseSymbol(strings.TrimSpace(text))
	if err != nil || l.seen[symbol] {
		return err
	}
	if l.seen == nil {
		l.seen = make(map[market.Symbol]bool)
	}
	l.seen[symbol] = true
	l.symbols = append(l.symbols, symbol)
	return nil
}

// parseSymbol also takes the dash that many lists write before a share class. A
// longer suffix behind a dash is left to no guess: CMS-PB is a preferred share
// in one spelling and nothing in another.
func parseSymbol(text string) (market.Symbol, error) {
	symbol, err := market.ParseSymbol(text)
	if root, class, ok := strings.Cut(text, "-"); err != nil && ok && len(class) == 1 {
		return market.ParseSymbol(root + "." + class)
	}
	return symbol, err
}

func (l *list) readJSON(text []byte) error {
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil {
		return fmt.Errorf("it is no JSON array of symbols: %w", err)
	}
	for i, item := range items {
		name, err := nameIn(item)
		if err == nil {
			err = l.add(name)
		}
		if err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	return nil
}

// nameIn returns the symbol that an item of the array names.
func nameIn(item json.RawMessage) (string, error) {
	var named struct{ Symbol, Ticker *string }
	var name *string
	if item[0] == '{' {
		if json.Unmarshal(item, &named) == nil {
			name = named.Symbol
			if name == nil {
				name = named.Ticker
			}
		}
	} else if json.Unmarshal(item, &name) != nil {
		name = nil
	}
	if name == nil {
		return "", fmt.Errorf("want a symbol, or an object with one as its symbol or ticker, not %.40q", item)
	}
	return *name, nil
}

// readText tells CSV from lines by the header.
func (l *list) readText(text []byte) error {
	rows := csv.NewReader(bytes.NewReader(text))
	rows.Comment = '#'
	rows.TrimLeadingSpace = true
	header, err := rows.Read()
	if err != nil {
		return l.readLines(string(text))
	}
	column := symbolColumn(header)
	if column < 0 {
		return l.readLines(string(text))
	}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.add(row[column]); err != nil {
			line, _ := rows.FieldPos(column)
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// symbolColumn returns which column holds the symbols, -1 if none does.
func symbolColumn(header []string) int {
	for _, name := range []string{"symbol", "ticker"} {
		column := slices.IndexFunc(header, func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), name) })
		if column >= 0 {
			return column
		}
	}
	return -1
}

func (l *list) readLines(text string) error {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if strings.Contains(line, ",") {
			return fmt.Errorf("line %d: %.40q is no symbol: want one a line, or a header with a column symbol or ticker above all lines", number, line)
		}
		if err := l.add(line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

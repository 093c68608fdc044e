package market

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Symbol is a ticker in its one canonical spelling: capital letters and
// digits, a dot before the share class, series, unit or warrant suffix
// (BRK.B, CMS.PRB, AAC.U, AAC.WS). A Symbol made by [ParseSymbol] is safe in a
// URL, a Redis set, a log line and a file.
type Symbol string

const (
	maxRoot   = 10
	maxSuffix = 4
	maxSymbol = maxRoot + 1 + maxSuffix
)

// ParseSymbol reads a symbol in the canonical spelling and in no other: a root
// of 1 to 10 capital letters and digits that begins with a letter, then
// optionally a dot and 1 to 4 letters and digits. The error says what to write
// instead where that can be told.
func ParseSymbol(s string) (Symbol, error) {
	if isSymbol(s) {
		return Symbol(s), nil
	}
	if fixed, ok := respell(s); ok {
		return "", fmt.Errorf("symbol %s: write %s", quote(s), fixed)
	}
	return "", fmt.Errorf("symbol %s: want 1 to %d capital letters and digits, a letter first, "+
		"then optionally a dot and 1 to %d more, such as AAPL or BRK.B", quote(s), maxRoot, maxSuffix)
}

func isSymbol(s string) bool {
	if len(s) > maxSymbol {
		return false
	}
	root, suffix, dotted := strings.Cut(s, ".")
	if !isCode(root, maxRoot) || root[0] < 'A' {
		return false
	}
	return !dotted || isCode(suffix, maxSuffix)
}

// isCode reports whether s is 1 to limit capital letters and digits.
func isCode(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// respell guesses the canonical spelling of what a person may have written.
// The guess only goes into an error: a symbol is never corrected silently.
func respell(s string) (string, bool) {
	if len(s) > 2*maxSymbol {
		return "", false
	}
	t := strings.ToUpper(strings.TrimSpace(s))
	t = strings.NewReplacer("-P-", ".PR", "-", ".", "/", ".", " ", ".").Replace(t)
	return t, isSymbol(t)
}

// quote quotes s for an error, so that neither a control character nor a
// whole file gets into a log line.
func quote(s string) string {
	const limit = 40
	if len(s) <= limit {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:limit]) + "..."
}

// ParseSymbols reads symbols between commas, with blanks around them. Repeats
// are dropped, the order is kept. The error names every bad entry; an empty
// list and an empty entry are errors.
func ParseSymbols(list string) ([]Symbol, error) {
	if strings.TrimSpace(list) == "" {
		return nil, errors.New("symbols: the list is empty: write symbols between commas, such as AAPL,BRK.B")
	}
	var set symbolSet
	if errs := set.addList(list); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return set.symbols, nil
}

// ReadSymbols reads symbols from a file: one a line or several between commas,
// blank lines, comments from # to the end of the line, LF or CRLF, with or
// without a byte order mark. Repeats are dropped, the order is kept. The error
// names the bad entries with their lines, the first 20 of them; a file without
// symbols is an error.
func ReadSymbols(r io.Reader) ([]Symbol, error) {
	const (
		maxErrors = 20
		maxLine   = 1 << 20
	)
	var set symbolSet
	var errs []error
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	number := 0
	for len(errs) < maxErrors && lines.Scan() {
		number++
		for _, err := range set.addLine(lines.Text(), number == 1) {
			errs = append(errs, fmt.Errorf("line %d: %w", number, err))
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("line %d: %w", number+1, err))
	}
	if len(errs) >= maxErrors {
		errs = append(errs[:maxErrors], errors.New("there may be more bad entries: is this a file of symbols?"))
	}
	if len(errs) == 0 && len(set.symbols) == 0 {
		errs = []error{errors.New("symbols: the file holds none: write one symbol a line")}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return set.symbols, nil
}

// symbolSet collects symbols in the order in which they first occur.
type symbolSet struct {
	symbols []Symbol
	seen    map[Symbol]bool
}

// addLine adds the symbols of a file's line. A comma may end the line, as it
// does in a list that is broken over lines.
func (s *symbolSet) addLine(line string, first bool) []error {
	if first {
		line = strings.TrimPrefix(line, "\uFEFF")
	}
	line, _, _ = strings.Cut(line, "#")
	line = strings.TrimSpace(line)
	if line == "" {
		return nil
	}
	return s.addList(strings.TrimSuffix(line, ","))
}

func (s *symbolSet) addList(list string) []error {
	var errs []error
	for entry := range strings.SplitSeq(list, ",") {
		if err := s.add(strings.TrimSpace(entry)); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (s *symbolSet) add(entry string) error {
	if entry == "" {
		return errors.New("symbol: nothing between two commas: remove one of them")
	}
	symbol, err := ParseSymbol(entry)
	if err != nil || s.seen[symbol] {
		return err
	}
	if s.seen == nil {
		s.seen = make(map[Symbol]bool)
	}
	s.seen[symbol] = true
	s.symbols = append(s.symbols, symbol)
	return nil
}

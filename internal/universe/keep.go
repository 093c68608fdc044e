package universe

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// The index has had 500 to 507 symbols since companies may be in it with
	// more than one share class. Fewer are a broken list, more another index.
	least, most = 490, 530
	// mostGone is the percentage of the last good list that may be missing.
	// About 20 companies, or 4 %, leave the index in a year.
	mostGone = 10
)

// check refuses a list that cannot be the index of which before was the last
// good list. The built-in one was nobody's: it may be years old.
func check(symbols []market.Symbol, before List) error {
	if len(symbols) < least || len(symbols) > most {
		return fmt.Errorf("it holds %d symbols, the index has about 503", len(symbols))
	}
	if before.From == BuiltIn().From {
		return nil
	}
	// A list that is shorter by some symbols lacks at least as many, so this
	// is the rule for short lists too.
	gone := len(without(before.Symbols, symbols))
	if 100*gone > mostGone*len(before.Symbols) {
		return fmt.Errorf("it holds %d symbols, and lacks %d of the %d of the %s, which is more than %d %%: if it is right, name it with --symbols @file",
			len(symbols), gone, len(before.Symbols), before.From, mostGone)
	}
	return nil
}

// without returns the symbols of a that are not in b, in the order of a.
func without(a, b []market.Symbol) []market.Symbol {
	in := make(map[market.Symbol]bool, len(b))
	for _, symbol := range b {
		in[symbol] = true
	}
	var rest []market.Symbol
	for _, symbol := range a {
		if !in[symbol] {
			rest = append(rest, symbol)
		}
	}
	return rest
}

// keep writes a good list where the next call looks for it, and returns what
// went wrong: a list that cannot be kept is still good. One that was not held
// against the book, because that could not be read, must not replace its list.
func (r Resolver) keep(ctx context.Context, list List, booked bool) (warnings []string) {
	if r.ReadOnly {
		return nil
	}
	if booked {
		if _, _, err := r.Book.SaveUniverse(ctx, Name, list.Symbols); err != nil {
			warnings = append(warnings, fmt.Sprintf("save the list of the S&P 500 as the last good one: %s", err))
		}
	}
	if list.From == r.Cache.Key() {
		return warnings
	}
	text, err := json.Marshal(list.Symbols)
	if err == nil {
		err = r.Cache.Add(ctx, text)
	}
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("write %s: %s", r.Cache.Key(), err))
	}
	return warnings
}

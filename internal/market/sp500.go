package market

import (
	_ "embed"
	"strings"
)

// sp500List is sorted, one canonical symbol a line.
//
//go:embed sp500.txt
var sp500List string

// SP500 returns the 503 symbols of the S&P 500 as known at the end of 2025, in
// ascending order. It is what a worker starts with; the index has changed
// since.
func SP500() []Symbol {
	symbols, err := ReadSymbols(strings.NewReader(sp500List))
	if err != nil {
		panic("market: the list of the S&P 500 in this program: " + err.Error())
	}
	return symbols
}

package market

import (
	"fmt"
	"strings"
)

// Spelling is a vendor's way to write a symbol.
type Spelling uint8

// The vendors. What each writes for a share class, a preferred series, a unit
// and a warrant:
//
//	AlphaVantage  BRK-B   CMS-P-B    AAC-U   AAC-WS
//	IBKR          BRK B   CMS PRB    AAC U   AAC WS   (TWS symbol)
//	SEC           BRK-B   CMS-PB     AAC-UN  AAC-WT   (EDGAR ticker files)
//	FINRA         BRKB    CMSPRB     AACU    AACWS
//	Alpaca        BRK.B   CMS.PRB    AAC.U   AAC.WS
//	Massive       BRK.B   CMSpB      AAC.U   AAC.WS   (formerly Polygon)
//	Tiingo        BRK-B   CMS-P-B    AAC-U   AAC-WS
//	EODHD         BRK-B.US CMS-PB.US AAC-U.US AAC-WS.US
const (
	AlphaVantage Spelling = iota
	IBKR
	SEC
	FINRA
	Alpaca
	Massive
	Tiingo
	EODHD
)

// style is a Spelling taken apart.
type style struct {
	name string
	// separator stands before a suffix, preferred before a preferred
	// series instead of separator and PR.
	separator, preferred string
	// series stands between preferred and a series that is not empty.
	series string
	// unit and warrant stand for .U and .WS; "" if they are no exception.
	unit, warrant string
	// tail ends every symbol.
	tail string
}

func (sp Spelling) style() style {
	switch sp {
	case AlphaVantage:
		return style{name: "Alpha Vantage", separator: "-", preferred: "-P", series: "-"}
	case IBKR:
		return style{name: "IBKR", separator: " ", preferred: " PR"}
	case SEC:
		return style{name: "the SEC", separator: "-", preferred: "-P", unit: "-UN", warrant: "-WT"}
	case FINRA:
		return style{name: "FINRA", preferred: "PR"}
	case Massive:
		return style{name: "Massive", separator: ".", preferred: "p"}
	case Tiingo:
		return style{name: "Tiingo", separator: "-", preferred: "-P", series: "-"}
	case EODHD:
		return style{name: "EODHD", separator: "-", preferred: "-P", tail: ".US"}
	case Alpaca:
	}
	return style{name: "Alpaca", separator: ".", preferred: ".PR"}
}

// String returns the vendor's name.
func (sp Spelling) String() string { return sp.style().name }

// In returns the symbol as the vendor writes it.
func (s Symbol) In(sp Spelling) string {
	w := sp.style()
	root, suffix, dotted := strings.Cut(string(s), ".")
	series, preferred := strings.CutPrefix(suffix, "PR")
	switch {
	case !dotted:
		return root + w.tail
	case suffix == "U" && w.unit != "":
		return root + w.unit + w.tail
	case suffix == "WS" && w.warrant != "":
		return root + w.warrant + w.tail
	case preferred && series != "":
		return root + w.preferred + w.series + series + w.tail
	case preferred:
		return root + w.preferred + w.tail
	}
	return root + w.separator + suffix + w.tail
}

// ParseSpelled reads a symbol as the vendor writes it and in no other way: the
// result's In(sp) is text. Where a vendor writes two symbols alike, the result
// is the preferred share, the unit or the warrant, and not the share class of
// that name: CMS-PB of the SEC is CMS.PRB, never CMS.PB.
//
// FINRA leaves the dot out (BRKB is BRK.B, ABCB is not ABC.B), so there is no
// way back and an error: compare with the In(FINRA) of known symbols.
func ParseSpelled(sp Spelling, text string) (Symbol, error) {
	w := sp.style()
	if sp == FINRA {
		return "", fmt.Errorf("symbol %s: the spelling of %s cannot be read back: compare it with known symbols", quote(text), w.name)
	}
	if len(text) <= maxSymbol+len(w.series)+len(w.tail) {
		for _, candidate := range w.candidates(strings.TrimSuffix(text, w.tail)) {
			if isSymbol(candidate) && Symbol(candidate).In(sp) == text {
				return Symbol(candidate), nil
			}
		}
	}
	return "", fmt.Errorf("symbol %s: not as %s writes it, such as %s", quote(text), w.name, Symbol("BRK.B").In(sp))
}

// candidates returns what text may stand for, the most special reading first.
func (w style) candidates(text string) []string {
	var found []string
	if root, ok := strings.CutSuffix(text, w.unit); ok && w.unit != "" {
		found = append(found, root+".U")
	}
	if root, ok := strings.CutSuffix(text, w.warrant); ok && w.warrant != "" {
		found = append(found, root+".WS")
	}
	if root, series, ok := strings.Cut(text, w.preferred); ok {
		found = append(found, root+".PR"+strings.TrimPrefix(series, w.series))
	}
	if root, suffix, ok := strings.Cut(text, w.separator); ok {
		found = append(found, root+"."+suffix)
	}
	return append(found, text)
}

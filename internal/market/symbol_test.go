package market_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

var symbolGrammar = regexp.MustCompile(`^[A-Z][A-Z0-9]{0,9}(\.[A-Z0-9]{1,4})?\z`)

func TestParseSymbol(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"A", "AAPL", "BRK.B", "BF.B", "CMS.PRB", "AAC.U", "AAC.WS", "A123456789.1234"} {
		if got, err := market.ParseSymbol(s); string(got) != s || err != nil {
			t.Errorf("ParseSymbol(%q) = %q, %v", s, got, err)
		}
	}
	const form = "want 1 to 10 capital letters and digits, a letter first, then optionally a dot and 1 to 4 more, such as AAPL or BRK.B"
	for s, want := range map[string]string{
		"":                          `symbol "": ` + form,
		"aapl":                      `symbol "aapl": write AAPL`,
		"BRK-B":                     `symbol "BRK-B": write BRK.B`,
		"brk/b":                     `symbol "brk/b": write BRK.B`,
		"BRK B":                     `symbol "BRK B": write BRK.B`,
		"CMS-P-B":                   `symbol "CMS-P-B": write CMS.PRB`,
		" AAPL\n":                   `symbol " AAPL\n": write AAPL`,
		"AAPL\x1b[31m":              `symbol "AAPL\x1b[31m": ` + form,
		"BRK..B":                    `symbol "BRK..B": ` + form,
		"BRK.":                      `symbol "BRK.": ` + form,
		".B":                        `symbol ".B": ` + form,
		"1AAPL":                     `symbol "1AAPL": ` + form,
		"ABCDEFGHIJK":               `symbol "ABCDEFGHIJK": ` + form,
		"AAPL.ABCDE":                `symbol "AAPL.ABCDE": ` + form,
		"A.B.C":                     `symbol "A.B.C": ` + form,
		"*":                         `symbol "*": ` + form,
		"ÄPFEL":                     `symbol "ÄPFEL": ` + form,
		"A\xff":                     `symbol "A\xff": ` + form,
		strings.Repeat("a", 1<<20):  `symbol "` + strings.Repeat("a", 40) + `"...: ` + form,
		"jobs:daily_bars:2026:done": `symbol "jobs:daily_bars:2026:done": ` + form,
	} {
		got, err := market.ParseSymbol(s)
		if got != "" || err == nil || err.Error() != want {
			t.Errorf("ParseSymbol(%.60q) = %q, %v, want %s", s, got, err, want)
		}
	}
}

func FuzzParseSymbol(f *testing.F) {
	for _, s := range []string{"AAPL", "BRK.B", "brk-b", "A.", ".", "A\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := market.ParseSymbol(s)
		if want := symbolGrammar.MatchString(s); want != (err == nil) || want && string(got) != s {
			t.Errorf("ParseSymbol(%q) = %q, %v", s, got, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("error holds a control character: %q", err)
		}
	})
}

// spellings has the canonical row, then one a vendor in the order of the
// constants; _ stands for a blank.
const spellings = `
AAPL     BRK.B     CMS.PRB    TY.PR    AAC.U     AAC.WS
AAPL     BRK-B     CMS-P-B    TY-P     AAC-U     AAC-WS
AAPL     BRK_B     CMS_PRB    TY_PR    AAC_U     AAC_WS
AAPL     BRK-B     CMS-PB     TY-P     AAC-UN    AAC-WT
AAPL     BRKB      CMSPRB     TYPR     AACU      AACWS
AAPL     BRK.B     CMS.PRB    TY.PR    AAC.U     AAC.WS
AAPL     BRK.B     CMSpB      TYp      AAC.U     AAC.WS
AAPL     BRK-B     CMS-P-B    TY-P     AAC-U     AAC-WS
AAPL.US  BRK-B.US  CMS-PB.US  TY-P.US  AAC-U.US  AAC-WS.US
`

func TestSpellings(t *testing.T) {
	t.Parallel()
	rows := strings.Split(strings.TrimSpace(spellings), "\n")
	canonical := strings.Fields(rows[0])
	for i, row := range rows[1:] {
		sp := market.Spelling(i)
		for column, want := range strings.Fields(row) {
			want = strings.ReplaceAll(want, "_", " ")
			if got := market.Symbol(canonical[column]).In(sp); got != want {
				t.Errorf("%s as %v writes it: %q, want %q", canonical[column], sp, got, want)
			}
		}
	}
}

func symbols() *rapid.Generator[market.Symbol] {
	return rapid.Custom(func(t *rapid.T) market.Symbol {
		root := rapid.StringMatching(`[A-Z][A-Z0-9]{0,9}`).Draw(t, "root")
		suffix := rapid.OneOf(
			rapid.SampledFrom([]string{"", ".A", ".B", ".U", ".WS", ".UN", ".WT", ".P", ".PR", ".PRB", ".PB", ".PBC", ".PRBC"}),
			rapid.StringMatching(`\.[A-Z0-9]{1,4}`),
			rapid.StringMatching(`\.PR[A-Z0-9]{0,2}`),
		).Draw(t, "suffix")
		return market.Symbol(root + suffix)
	})
}

// sharesSpelling says which suffixes a vendor writes like a preferred share,
// unit or warrant.
func sharesSpelling(sp market.Spelling, s market.Symbol) bool {
	_, suffix, _ := strings.Cut(string(s), ".")
	// Four letters leave no room for the R of a preferred series.
	class := strings.HasPrefix(suffix, "P") && !strings.HasPrefix(suffix, "PR") && len(suffix) < 4
	switch sp {
	case market.AlphaVantage, market.Tiingo:
		return suffix == "P"
	case market.SEC:
		return suffix == "UN" || suffix == "WT" || class
	case market.EODHD:
		return class
	default:
		return false
	}
}

// A spelling that can be read back for every symbol gives no two symbols one
// text.
func TestSpellingRoundTrip(t *testing.T) {
	t.Parallel()
	for sp := market.AlphaVantage; sp <= market.EODHD; sp++ {
		t.Run(sp.String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				s := symbols().Draw(t, "symbol")
				if !symbolGrammar.MatchString(string(s)) {
					t.Fatalf("generator made %q", s)
				}
				text := s.In(sp)
				back, err := market.ParseSpelled(sp, text)
				switch {
				case sp == market.FINRA:
					if !hasError(err, "cannot be read back") || text != strings.ReplaceAll(string(s), ".", "") {
						t.Fatalf("%s is %q and back %q, %v", s, text, back, err)
					}
				case err != nil:
					t.Fatal(err)
				case sharesSpelling(sp, s):
					if back == s || back.In(sp) != text {
						t.Fatalf("%s is %q and back %s", s, text, back)
					}
				case back != s:
					t.Fatalf("%s is %q and back %s", s, text, back)
				}
			})
		})
	}
}

func TestParseSpelledRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sp   market.Spelling
		text string
		want string
	}{
		{market.AlphaVantage, "BRK.B", `symbol "BRK.B": not as Alpha Vantage writes it, such as BRK-B`},
		{market.AlphaVantage, "brk-b", "not as Alpha Vantage writes it"},
		{market.AlphaVantage, "CMS-PRB", "not as Alpha Vantage writes it"},
		{market.AlphaVantage, "CMS-P-", "not as Alpha Vantage writes it"},
		{market.AlphaVantage, "", "not as Alpha Vantage writes it"},
		{market.AlphaVantage, "-", "not as Alpha Vantage writes it"},
		{market.AlphaVantage, strings.Repeat("A", 1<<16), "not as Alpha Vantage writes it"},
		{market.IBKR, "BRK-B", "not as IBKR writes it, such as BRK B"},
		{market.SEC, "AAC-U", "not as the SEC writes it"},
		{market.SEC, "AAC-WS", "not as the SEC writes it"},
		{market.Massive, "CMSPB.p", "not as Massive writes it"},
		{market.Massive, "p", "not as Massive writes it"},
		{market.EODHD, "BRK-B", "not as EODHD writes it, such as BRK-B.US"},
		{market.EODHD, "TSCO.LON", "not as EODHD writes it"},
		{market.FINRA, "BRKB", `symbol "BRKB": the spelling of FINRA cannot be read back`},
	} {
		if s, err := market.ParseSpelled(c.sp, c.text); s != "" || !hasError(err, c.want) {
			t.Errorf("ParseSpelled(%v, %q) = %q, %v, want %q", c.sp, c.text, s, err, c.want)
		}
	}
}

func FuzzParseSpelled(f *testing.F) {
	f.Add(uint8(market.SEC), "CMS-PB")
	f.Add(uint8(market.Massive), "CMSpB")
	f.Add(uint8(market.EODHD), ".US")
	f.Fuzz(func(t *testing.T, sp uint8, text string) {
		s, err := market.ParseSpelled(market.Spelling(sp), text)
		if err == nil && (s.In(market.Spelling(sp)) != text || !symbolGrammar.MatchString(string(s))) {
			t.Errorf("ParseSpelled(%d, %q) = %q", sp, text, s)
		}
	})
}

func TestParseSymbols(t *testing.T) {
	t.Parallel()
	got, err := market.ParseSymbols(" MSFT, AAPL ,BRK.B,MSFT")
	if want := []market.Symbol{"MSFT", "AAPL", "BRK.B"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("ParseSymbols = %v, %v, want %v", got, err, want)
	}
	for list, want := range map[string]string{
		"":                 "symbols: the list is empty: write symbols between commas, such as AAPL,BRK.B",
		" \t":              "symbols: the list is empty: write symbols between commas, such as AAPL,BRK.B",
		"AAPL,":            "symbol: nothing between two commas: remove one of them",
		"aapl,MSFT,,BRK-B": "symbol \"aapl\": write AAPL\nsymbol: nothing between two commas: remove one of them\nsymbol \"BRK-B\": write BRK.B",
	} {
		if got, err := market.ParseSymbols(list); got != nil || err == nil || err.Error() != want {
			t.Errorf("ParseSymbols(%q) = %v, %v, want %q", list, got, err, want)
		}
	}
}

func TestReadSymbols(t *testing.T) {
	t.Parallel()
	const file = "\uFEFF# my list\r\nMSFT\r\n\r\n  AAPL, BRK.B,\r\nMSFT # again\r\nGOOG"
	got, err := market.ReadSymbols(strings.NewReader(file))
	if want := []market.Symbol{"MSFT", "AAPL", "BRK.B", "GOOG"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("ReadSymbols = %v, %v, want %v", got, err, want)
	}
	long := strings.Repeat("AAPL,", 100_000)
	if got, err := market.ReadSymbols(strings.NewReader(long)); len(got) != 1 || err != nil {
		t.Errorf("ReadSymbols of one long line = %v, %v", got, err)
	}
}

func TestReadSymbolsRefuses(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"":                                 "symbols: the file holds none: write one symbol a line",
		"# nothing\n\n":                    "symbols: the file holds none: write one symbol a line",
		"AAPL\nmsft\n\nA,,B\n":             "line 2: symbol \"msft\": write MSFT\nline 4: symbol: nothing between two commas: remove one of them",
		"AAPL\n,\n":                        "line 2: symbol: nothing between two commas: remove one of them",
		"AAPL\n\uFEFFMSFT\n":               "line 2: symbol \"\\ufeffMSFT\": want",
		strings.Repeat("x y z\n", 50):      "line 20: symbol \"x y z\": want",
		strings.Repeat("xyz,", 50):         "there may be more bad entries: is this a file of symbols?",
		"A\n" + strings.Repeat("A", 2<<20): "line 2: bufio.Scanner: token too long",
	} {
		got, err := market.ReadSymbols(strings.NewReader(file))
		if got != nil || !hasError(err, want) || strings.Count(err.Error(), "\n") > 20 {
			t.Errorf("ReadSymbols(%.20q) = %v, %v, want %q", file, got, err, want)
		}
	}
	broken := errors.New("disk on fire")
	if _, err := market.ReadSymbols(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("ReadSymbols = %v, want %v", err, broken)
	}
}

func TestSP500(t *testing.T) {
	t.Parallel()
	list := market.SP500()
	if len(list) != 503 || !slices.IsSorted(list) {
		t.Errorf("%d symbols, sorted %v, want 503", len(list), slices.IsSorted(list))
	}
	for _, s := range list {
		if !symbolGrammar.MatchString(string(s)) {
			t.Errorf("%q is no symbol", s)
		}
	}
	for _, s := range []market.Symbol{"BRK.B", "BF.B", "GOOG", "GOOGL", "FOX", "FOXA", "NWS", "NWSA"} {
		if _, found := slices.BinarySearch(list, s); !found {
			t.Errorf("%s is missing", s)
		}
	}
}

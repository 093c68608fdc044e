package universe_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/universe"
)

func TestParse(t *testing.T) {
	t.Parallel()
	two := []market.Symbol{"AAPL", "BRK.B"}
	for name, text := range map[string]string{
		"an array":                  `["AAPL","BRK.B"]`,
		"an array, mixed spelling":  "\n [ \"AAPL\", \"BRK-B\", \"BRK.B\", \"AAPL\" ] \n",
		"objects, symbol":           `[{"symbol":"AAPL","name":"Apple"},{"symbol":"BRK.B"}]`,
		"objects, Symbol":           `[{"Symbol":"AAPL"},{"Symbol":"BRK-B","Founded":1839}]`,
		"objects, ticker":           `[{"ticker":"AAPL"},{"ticker":"BRK-B"}]`,
		"objects, symbol first":     `[{"ticker":"X","symbol":"AAPL"},{"symbol":"BRK.B","ticker":"Y"}]`,
		"strings and objects":       `["AAPL",{"Symbol":"BRK.B"}]`,
		"CSV":                       "Symbol,Security\nAAPL,Apple Inc.\nBRK.B,Berkshire Hathaway\n",
		"CSV, CRLF and a mark":      "\uFEFFSymbol,Security\r\nAAPL,Apple Inc.\r\nBRK-B,Berkshire\r\n",
		"CSV, quoted":               "\"Security\",\"Symbol\"\n\"Apple, Inc.\",\"AAPL\"\n\"Berkshire\nHathaway \"\"B\"\"\",\"BRK.B\"\n",
		"CSV, ticker":               "rank, Ticker \n1,AAPL\n\n2,BRK.B\n2,BRK.B",
		"CSV, symbol before ticker": "ticker,symbol\nX,AAPL\nY,BRK.B\n",
		"CSV of one column":         "symbol\nAAPL\nBRK.B",
		"CSV below a comment":       "# the index\nSymbol,Name\nAAPL,Apple\n# more\nBRK.B,Berkshire\n",
		"lines":                     "AAPL\nBRK.B\n",
		"lines with comments":       "# big, bigger\n\n AAPL # Apple, Inc.\r\n\t\nBRK-B\nAAPL",
		"one comment with a quote":  "AAPL # \"Apple\", Inc\nBRK.B",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := universe.Parse(strings.NewReader(text))
			if diff := cmp.Diff(two, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "empty"},
		{"blanks", " \r\n\t", "empty"},
		{"a byte order mark", "\uFEFF", "empty"},
		{"only comments", "# AAPL\n", "no symbols"},
		{"an empty array", "[]", "no symbols"},
		{"a header alone", "Symbol,Name\n", "no symbols"},
		{"a page", "\n <!DOCTYPE html><html>AAPL</html>", "HTML"},
		{"null", "null\n", "no array"},
		{"nulls", "[null,null]", `item 1: want a symbol, or an object with one as its symbol or ticker, not "null"`},
		{"a null among symbols", `["AAPL",null]`, "item 2"},
		{"a null member", `[{"symbol":null}]`, "item 1"},
		{"a number", `["AAPL",7]`, "item 2"},
		{"a number as a symbol", `[{"symbol":7}]`, "item 1"},
		{"an object without a symbol", `[{"name":"Apple"}]`, `item 1: want a symbol, or an object with one as its symbol or ticker, not "{\"name\":\"Apple\"}"`},
		{"an array in the array", `[["AAPL"]]`, "item 1"},
		{"an object", `{"symbols":["AAPL"]}`, "no array"},
		{"half an array", `["AAPL","MS`, "no JSON array"},
		{"two arrays", `["AAPL"]["MSFT"]`, "no JSON array"},
		{"lower case in an array", `["AAPL","msft"]`, `item 2: symbol "msft": write MSFT`},
		{"an empty symbol", `["AAPL",""]`, "item 2"},
		{"lower case in a line", "AAPL\n\nmsft\n", `line 3: symbol "msft": write MSFT`},
		{"a preferred share", "AAPL\nCMS-PB\n", `line 2: symbol "CMS-PB"`},
		{"a list between commas", "AAPL\nMSFT,NVDA\n", `line 2: "MSFT,NVDA" is no symbol`},
		{"a table without the column", "Name,Sector\nApple,Tech\n", "line 1: \"Name,Sector\" is no symbol: want one a line, or a header with a column symbol or ticker"},
		{"words", "Too many requests\n", `line 1: symbol "Too many requests"`},
		{"a bad row", "Symbol,Name\nAAPL,Apple\nmsft,Microsoft\n", `line 3: symbol "msft": write MSFT`},
		{"a row without its symbol", "Symbol,Name\nAAPL,Apple\n,Microsoft\n", "line 3"},
		{"a short row", "Symbol,Name\nAAPL,Apple\nMSFT\n", "line 3"},
		{"an open quote", "Symbol,Name\nAAPL,\"Apple\nMSFT,Microsoft\n", "line 2"},
		{"a control character", "AAPL\nMS\x00FT\n", `line 2: symbol "MS\x00FT"`},
		{"too much", strings.Repeat("AAPL\n", 1<<20/5+1), "larger than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := universe.Parse(strings.NewReader(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Errorf("%v, %v: want an error with %s", got, err, test.want)
			}
		})
	}
}

func TestParseTakesTheLargestList(t *testing.T) {
	t.Parallel()
	text := "AAPL\n" + strings.Repeat("#", 1<<20-5)
	if got, err := universe.Parse(strings.NewReader(text)); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestParsePassesOnReadErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("cut off")
	got, err := universe.Parse(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("AAPL\nMSFT\n"))))
	if !errors.Is(err, iotest.ErrTimeout) || got != nil {
		t.Errorf("half a body: %v, %v", got, err)
	}
	if _, err := universe.Parse(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "null", "[null]", `["AAPL","BRK-B"]`, `[{"symbol":"AAPL"},{"ticker":"X"}]`, `[{"symbol":{}}]`, "[[",
		"Symbol,Name\nAAPL,\"Apple, Inc.\"\n", "ticker\nX\nX", "AAPL # Apple\nBRK.B", "<html>", "symbol,symbol\nA,B", "\uFEFF#\n\"", "A-",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		symbols, err := universe.Parse(strings.NewReader(string(text)))
		if (err == nil) == (len(symbols) == 0) {
			t.Fatalf("%d symbols, %v", len(symbols), err)
		}
		for i, symbol := range symbols {
			if read, err := market.ParseSymbol(string(symbol)); err != nil || read != symbol {
				t.Errorf("%q is not canonical: %v", symbol, err)
			}
			if slices.Contains(symbols[:i], symbol) {
				t.Errorf("%s is in it twice", symbol)
			}
		}
	})
}

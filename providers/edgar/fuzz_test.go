package edgar_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/edgar"
)

// FuzzFacts compares what the stream decoder accepts with the general decoder
// of the standard library.
func FuzzFacts(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"cik":1234,"facts":{}}`, dossier(""), dossier(goodFact), dossier(goodFact + "," + goodFact), dossier(goodFact)[:120],
		dossier(strings.Replace(goodFact, "1000", "-0.5e3", 1)), dossier(strings.Replace(goodFact, "1000", "1e999", 1)),
		dossier(strings.Replace(goodFact, `"fy":2023`, `"fy":[{"a\"":"]"}]`, 1)),
		dossier(strings.Replace(goodFact, "10-K", `10-\u004b`, 1)),
		strings.Replace(dossier(goodFact), "1234", `"0000001234"`, 1), string(read(f, "companyfacts.json")),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		facts, summary, err := decodeFacts(1234, bytes.NewReader(body), all)
		if err != nil {
			if len(facts) != 0 {
				t.Fatalf("%d facts and %v", len(facts), err)
			}
			return
		}
		var doc document
		if err := json.Unmarshal(body, &doc); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if n := doc.count(all); summary.Facts+summary.Repeats+summary.Conflicts != n || len(facts) != summary.Facts {
			t.Fatalf("%+v, the standard library finds %d facts", summary, n)
		}
		if doc.cik(t) != 1234 {
			t.Fatalf("accepted the issuer %v", doc.CIK)
		}
		seen := map[market.Fact]bool{}
		for _, fact := range facts {
			if seen[fact] {
				t.Fatalf("%+v twice", fact)
			}
			seen[fact] = true
			compare(t, fact, doc)
		}
	})
}

// compare fails unless the standard library finds the fact too.
func compare(t *testing.T, f market.Fact, doc document) {
	t.Helper()
	for _, found := range doc.Facts[f.Taxonomy][f.Concept].Units[f.Unit] {
		start, _ := found["start"].(string)
		if found["end"] == f.End.String() && start == f.Start.String() && found["val"] == f.Value &&
			found["accn"] == f.Accession && found["form"] == f.Form && found["filed"] == f.Filed.String() {
			return
		}
	}
	t.Fatalf("the standard library does not find %+v", f)
}

// FuzzTickers does the same for the ticker file.
func FuzzTickers(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"0":{"cik_str":320193,"ticker":"AAPL","title":"X"}}`, `{"0":{"cik_str":"0000320193","ticker":"BRK-B"}}`,
		`{"0":{"cik_str":1,"ticker":"A"},"0":{"cik_str":2,"ticker":"A"}}`, `{"a":[{"ticker":"\""}],"b":{"cik_str":{},"ticker":{}}}`,
		string(read(f, "company_tickers.json")),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := answering(bytes.NewReader(body)).Tickers(t.Context(), edgar.Tickers{})
		if err != nil {
			if len(got.CIK) != 0 {
				t.Fatalf("%d symbols and %v", len(got.CIK), err)
			}
			return
		}
		var rows map[string]json.RawMessage
		if err := json.Unmarshal(body, &rows); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if got.Rows < len(rows) || len(got.CIK) == 0 || got.Malformed+got.Ambiguous+len(got.CIK) > got.Rows {
			t.Fatalf("%+v for %d rows", got, len(rows))
		}
		for symbol, cik := range got.CIK {
			if parsed, err := market.ParseSymbol(string(symbol)); err != nil || parsed != symbol || cik < 1 || cik > 9_999_999_999 {
				t.Fatalf("%q of %d", symbol, cik)
			}
		}
	})
}

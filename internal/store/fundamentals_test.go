package store_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// FuzzMetadata merges a row into one with any metadata: it is never refused,
// what is ours can be read again, and nothing is left to write.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{
		"", "null", "[]", "{", `"x"`, `{"fields":null,"details":null}`, `{"fields":{"roe":null}}`,
		`{"fields":{"roe":{"source":"x","filed":"2026-13-01"}},"details":{"a":"b"},"other":[1]}`,
		`{"fields":{"roe":{"source":"x","period":"2026-01-01","computed":true},"theirs":1},"details":{"a":1}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, metadata string) {
		value, sector := 0.5, "Tech"
		stored := &store.FundamentalsRow{Sector: &sector, Metadata: &metadata}
		stored.Figures[market.ROE] = &value
		row := market.Fundamentals{Symbol: "AAPL", Date: day, Details: map[string]string{"Beta": "1"}}
		row.Figures[market.ROE] = market.Figure{Value: 0.25, Known: true, Origin: market.Origin{Source: "edgar", Filed: store.LastDate, Period: store.LastDate}}

		next, err := store.MergeFundamentals(stored, row)
		if err != nil {
			t.Fatal(err)
		}
		if next == nil {
			t.Skip("it says the same already")
		}
		want := stored.Read("AAPL", day).Merge(row)
		if diff := cmp.Diff(want, next.Read("AAPL", day)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if again, err := store.MergeFundamentals(next, row); again != nil || err != nil {
			t.Errorf("again: %+v, %v", again, err)
		}
		var had, has map[string]json.RawMessage
		if json.Unmarshal([]byte(metadata), &had) != nil {
			return
		}
		if err := json.Unmarshal([]byte(*next.Metadata), &has); err != nil {
			t.Fatal(err)
		}
		for name := range had {
			if has[name] == nil {
				t.Errorf("%q is gone", name)
			}
		}
	})
}

func TestSourcesOf(t *testing.T) {
	t.Parallel()
	row := market.Fundamentals{Sector: market.Label{Text: "Technology", Origin: market.Origin{Source: "edgar"}}}
	row.Figures[market.ROE] = market.Figure{Known: true, Origin: market.Origin{Source: "alpha_vantage"}}
	row.Figures[market.PERatio] = market.Figure{Known: true}
	row.Figures[market.PBRatio] = market.Figure{Origin: market.Origin{Source: "unknown value"}}
	if got := store.SourcesOf(row); got != "alpha_vantage,edgar" {
		t.Errorf("got %q", got)
	}
}

package finra_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
)

// FuzzRows compares what the decoder accepts with the general decoder of the
// standard library.
func FuzzRows(f *testing.F) {
	other := strings.Replace(goodRow, "EXAB", "EXA", 1)
	for _, seed := range []string{
		"", "[]", "{}", "null", "[{}]", "[" + goodRow + "]", "[" + goodRow + "," + other + "]", "[" + goodRow + "," + goodRow + "]",
		"[" + strings.Replace(goodRow, "1.88", "999.99", 1) + "]", "[" + strings.Replace(goodRow, "3000", `"3000"`, 1) + "]",
		"[" + strings.Replace(goodRow, ":50", ":-1.5e1", 1) + "]", "[" + strings.Replace(goodRow, "2000", "null", 1) + "]",
		"[" + strings.Replace(goodRow, `"revisionFlag":null`, `"revisionFlag":"R"`, 1) + "]", ("[" + goodRow)[:150],
		"[" + goodRow + "," + strings.Replace(goodRow, "Example", "Another", 1) + "]", "[" + goodRow + "]x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for total := range 3 {
			rows, summary, err := decode(body, total, "EXA", "EXA.B", "KO")
			if err != nil {
				if len(rows) != 0 {
					t.Fatalf("%d rows and %v", len(rows), err)
				}
				continue
			}
			compareRows(t, body, rows)
			if summary.Rows != len(rows) || summary.Rows+len(summary.Missing)+len(summary.Collisions) != 3 || len(rows) > total {
				t.Fatalf("%+v for %d rows of %d", summary, len(rows), total)
			}
		}
	})
}

// compareRows fails unless the standard library finds the rows too.
func compareRows(t *testing.T, body []byte, rows []market.ShortInterest) {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatalf("accepted what is no JSON: %v", err)
	}
	for _, row := range rows {
		if err := row.Validate(); err != nil || row != row.Normal() {
			t.Fatalf("%+v: %v", row, err)
		}
		found := false
		for _, r := range all {
			found = found || r["symbolCode"] == row.Symbol.In(market.FINRA) && r["settlementDate"] == row.Settlement.String()
		}
		if !found {
			t.Fatalf("the standard library does not find %+v", row)
		}
	}
}

// FuzzPublished never accepts a list that is no JSON.
func FuzzPublished(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "[]", `{"message":"none"}`, `{"availablePartitions":[{"partitions":["2026-08-31"]}]}`, `{"availablePartitions":[{"partitions":[]}]}`,
		`{"availablePartitions":[{"partitions":["2026-08-31"]},{"x":{},"partitions":["2026-08-14"]}]}`, `{"availablePartitions":null}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		dates, err := answeringText(body).Published(t.Context())
		if err != nil {
			if len(dates) != 0 {
				t.Fatalf("%v and %v", dates, err)
			}
			return
		}
		if !json.Valid([]byte(body)) {
			t.Fatal("accepted what is no JSON")
		}
		for i, d := range dates {
			if i > 0 && dates[i-1] >= d || !strings.Contains(body, d.String()) && !strings.Contains(body, `\u`) {
				t.Fatalf("%v", dates)
			}
		}
	})
}

package finra_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/finra"
)

// asked is the part of a question that decides about the rows.
type asked struct {
	Domain []struct {
		Values []string `json:"values"`
	} `json:"domainFilters"`
	Compare []struct {
		Value string `json:"fieldValue"`
	} `json:"compareFilters"`
	Offset, Limit int
}

func question(r *http.Request) (q asked, err error) {
	err = json.NewDecoder(r.Body).Decode(&q)
	return q, err
}

func rowOf(code, issue string, shares int) string {
	return fmt.Sprintf(`{"symbolCode":%q,"issueName":%q,"settlementDate":"2026-02-27","currentShortPositionQuantity":%d,`+
		`"previousShortPositionQuantity":1,"averageDailyVolumeQuantity":1}`, code, issue, shares)
}

// Whatever the pages are split into, whatever the order of their rows, and
// whatever changes between them: the rows are all that were served, or there
// is an error. There is never a part of them.
func TestPaging(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		codes := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-C]{1,3}`), 1, 30, rapid.ID).Draw(t, "codes")
		known := rapid.SliceOfDistinct(rapid.SampledFrom(codes), rapid.ID).Draw(t, "known")
		disturbed := rapid.Bool().Draw(t, "disturbed")
		calls, pages := 0, 0
		hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/partitions/") {
				return reply(200, strings.NewReader(`{"availablePartitions":[{"partitions":["2026-02-27"]}]}`), ""), nil
			}
			calls++
			q, err := question(r)
			if err != nil {
				return nil, err
			}
			now, total := slices.Clone(known), len(known)
			if disturbed {
				if rapid.Bool().Draw(t, "shuffled") {
					now = rapid.Permutation(now).Draw(t, "order")
				}
				total = max(0, total+rapid.SampledFrom([]int{0, 0, 0, -1, 1}).Draw(t, "total"))
				if len(now) > 0 && rapid.IntRange(0, 4).Draw(t, "lost") == 0 {
					now = now[1:]
				}
			}
			now = now[min(q.Offset, len(now)):]
			size := rapid.IntRange(1, 1+len(now)).Draw(t, "size")
			var rows []string
			for _, code := range now[:min(size, len(now))] {
				rows = append(rows, rowOf(code, code, len(code)))
			}
			pages++
			return reply(200, strings.NewReader("["+strings.Join(rows, ",")+"]"), strconv.Itoa(total)), nil
		})}
		var symbols []market.Symbol
		for _, code := range codes {
			symbols = append(symbols, market.Symbol(code))
		}
		rows, summary, err := load(context.Background(), finra.New(hc, finra.Options{}), settled(), symbols)
		few := len(codes) >= 20 && 2*len(known) < len(codes)
		var got []string
		for _, row := range rows {
			got = append(got, string(row.Symbol))
		}
		switch {
		case calls > 4*len(codes)+4:
			t.Fatalf("%d calls for %d symbols", calls, len(codes))
		case err != nil && (len(rows) != 0 || !disturbed && len(known) > 0 && !few):
			t.Fatalf("%d rows and %v", len(rows), err)
		case !disturbed && len(known) > 0 && few != errors.Is(err, finra.ErrPublishing):
			t.Fatalf("%v for %d of %d symbols", err, len(known), len(codes))
		case err != nil:
			return
		case !slices.Equal(got, slices.Sorted(slices.Values(known))) && !(disturbed && len(got) > 0 && lostEverywhere(got, known)):
			t.Fatalf("got %v of %v", got, known)
		case summary.Rows+len(summary.Missing) != len(codes) || summary.Rows != len(rows):
			t.Fatalf("%+v for %d symbols and %d rows", summary, len(codes), len(rows))
		}
	})
}

// lostEverywhere allows what nobody can see: an answer that lacks a row and
// announces one less, on every page.
func lostEverywhere(got, known []string) bool {
	return len(got) == len(known)-1 && !slices.ContainsFunc(got, func(code string) bool { return !slices.Contains(known, code) })
}

// FINRA publishes while the symbols are being asked for: those that were asked
// for first must not pass for unknown.
func TestPublishedInBetween(t *testing.T) {
	t.Parallel()
	var symbols []market.Symbol
	for i := range 1200 {
		symbols = append(symbols, market.Symbol(fmt.Sprintf("S%d", i)))
	}
	for _, empty := range []int{1, 2, 3, 5} { // questions that are answered with nothing
		var sizes []int
		hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/partitions/") {
				return reply(200, strings.NewReader(`{"availablePartitions":[{"partitions":["2026-02-27"]}]}`), ""), nil
			}
			q, err := question(r)
			if err != nil {
				return nil, err
			}
			sizes = append(sizes, len(q.Domain[0].Values))
			if len(sizes) <= empty {
				return reply(200, strings.NewReader("[]"), ""), nil
			}
			var rows []string
			for i, code := range q.Domain[0].Values {
				rows = append(rows, rowOf(code, code, i))
			}
			return reply(200, strings.NewReader("["+strings.Join(rows, ",")+"]"), strconv.Itoa(len(rows))), nil
		})}
		rows, summary, err := load(t.Context(), finra.New(hc, finra.Options{}), settled(), symbols)
		switch {
		case empty == 5: // empty the second time too, beside rows
			if !errors.Is(err, finra.ErrPublishing) || len(rows) != 0 || summary.Rows != 0 {
				t.Errorf("%d empty: %d rows, %v; want it still publishing", empty, len(rows), err)
			}
		case err != nil || len(rows) != 1200 || len(summary.Missing) != 0:
			t.Errorf("%d empty: %d rows, %d missing, %v; want 1200", empty, len(rows), len(summary.Missing), err)
		}
		if diff := gocmp.Diff([]int{400, 400, 400, 400, 400, 400}, sizes); diff != "" {
			t.Errorf("%d empty: %s", empty, diff)
		}
	}
}

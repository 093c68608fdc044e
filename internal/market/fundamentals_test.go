package market_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
)

func TestFieldsAreColumns(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range market.Fields() {
		names = append(names, f.String())
	}
	want := []string{
		"pe_ratio", "pb_ratio", "ps_ratio", "ev_ebitda", "debt_to_equity", "current_ratio",
		"roe", "revenue_growth", "earnings_growth", "dividend_yield", "market_cap",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if got := market.Field(-1).String() + market.Field(11).String(); got != "field -1field 11" {
		t.Error(got)
	}
}

func TestMergeKeepsTheBetterValue(t *testing.T) {
	t.Parallel()
	const early, late = market.Date(739000), market.Date(739100)
	own := func(v float64, period market.Date) market.Figure {
		return market.Figure{Value: v, Known: true, Origin: market.Origin{Source: "alpha_vantage", Period: period}}
	}
	computed := func(v float64, filed market.Date) market.Figure {
		return market.Figure{Value: v, Known: true, Origin: market.Origin{Source: "edgar", Filed: filed, Period: early, Computed: true}}
	}
	foreign := market.Figure{Value: 1, Known: true}
	for name, tc := range map[string]struct{ old, newer, want market.Figure }{
		"null over a value":             {own(1, early), market.Figure{}, own(1, early)},
		"a value over null":             {market.Figure{}, computed(2, early), computed(2, early)},
		"the same period again":         {own(1, early), own(2, early), own(2, early)},
		"an older period":               {own(1, late), own(2, early), own(1, late)},
		"no period given":               {own(1, late), own(2, 0), own(2, 0)},
		"a later filing":                {computed(1, early), computed(2, late), computed(2, late)},
		"an older filing":               {computed(1, late), computed(2, early), computed(1, late)},
		"computed over the provider's":  {own(1, early), computed(2, late), own(1, early)},
		"the provider's over computed":  {computed(1, late), own(2, early), own(2, early)},
		"a known origin over a foreign": {foreign, computed(2, early), computed(2, early)},
		"zero is a value":               {own(1, early), own(0, early), own(0, early)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var old, newer market.Fundamentals
			old.Figures[market.ROE], newer.Figures[market.ROE] = tc.old, tc.newer
			merged := old.Merge(newer)
			if got := merged.Figures[market.ROE]; got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if again := merged.Merge(newer); again.Figures != merged.Figures {
				t.Errorf("merged again: %+v", again.Figures)
			}
		})
	}
}

// A ratio that a newer balance sheet does not give must not stand beside those
// that it gives.
func TestMergeKeepsOneBalanceSheet(t *testing.T) {
	t.Parallel()
	at := func(period market.Date) market.Figure {
		return market.Figure{Value: 1, Known: true, Origin: market.Origin{Source: "edgar", Computed: true, Filed: period + 30, Period: period}}
	}
	var old, newer market.Fundamentals
	old.Figures[market.DebtToEquity], old.Figures[market.CurrentRatio] = at(739000), at(739000)
	old.Figures[market.PERatio] = market.Figure{Value: 3, Known: true, Origin: market.Origin{Source: "alpha_vantage"}}
	newer.Figures[market.CurrentRatio] = at(739090)
	merged := old.Merge(newer)
	if merged.Figures[market.DebtToEquity].Known || merged.Figures[market.CurrentRatio] != at(739090) || !merged.Figures[market.PERatio].Known {
		t.Errorf("%+v", merged.Figures)
	}
	if back := newer.Merge(old); back.Figures[market.CurrentRatio] != at(739090) {
		t.Errorf("an older sheet: %+v", back.Figures)
	}
}

func TestMergeOfLabelsAndDetails(t *testing.T) {
	t.Parallel()
	old := market.Fundamentals{Symbol: "A", Date: 1, Sector: market.Label{Text: "Energy"}, Details: map[string]string{"a": "1"}}
	merged := old.Merge(market.Fundamentals{Symbol: "A", Date: 2, Industry: market.Label{Text: "Oil"}})
	want := market.Fundamentals{Symbol: "A", Date: 2, Sector: market.Label{Text: "Energy"}, Industry: market.Label{Text: "Oil"}, Details: map[string]string{"a": "1"}}
	if diff := cmp.Diff(want, merged); diff != "" {
		t.Error(diff)
	}
	merged = merged.Merge(market.Fundamentals{Sector: market.Label{Text: "Tech"}, Details: map[string]string{"b": "2"}})
	if merged.Sector.Text != "Tech" || len(merged.Details) != 1 || merged.Details["b"] != "2" {
		t.Errorf("%+v", merged)
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	var none market.Fundamentals
	zero := none
	zero.Figures[market.DividendYield] = market.Figure{Known: true}
	sector, industry := none, none
	sector.Sector.Text, industry.Industry.Text = "Energy", "Oil"
	none.Details = map[string]string{"Name": "Nobody"}
	if !none.Empty() || zero.Empty() || sector.Empty() || industry.Empty() {
		t.Error("a row is empty if no column of it is known")
	}
}

func TestFundamentalsAsJSON(t *testing.T) {
	t.Parallel()
	row := market.Fundamentals{Symbol: "BRK.B", Date: market.NewDate(2026, time.March, 12), Sector: market.Label{Text: "Finance"}}
	row.Figures[market.DividendYield] = market.Figure{Value: 0.0041, Known: true, Origin: market.Origin{Source: "alpha_vantage"}}
	got, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"current_ratio":null,"debt_to_equity":null,"dividend_yield":0.0041,"earnings_growth":null,"ev_ebitda":null,` +
		`"industry":null,"market_cap":null,"pb_ratio":null,"pe_ratio":null,"ps_ratio":null,"revenue_growth":null,"roe":null,` +
		`"sector":"Finance","symbol":"BRK.B","timestamp":"2026-03-12T00:00:00Z"}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

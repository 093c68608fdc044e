package alphavantage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func earned(body string) (alphavantage.Earnings, error) {
	return answering(strings.NewReader(body)).Earnings(context.Background(), "AAPL")
}

// lists is an answer with two lists of rows.
func lists(first, firstRows, second, secondRows string) string {
	return fmt.Sprintf(`{"symbol": "AAPL", %q: [%s], %q: [%s]}`, first, firstRows, second, secondRows)
}

func earningsOf(annual, quarterly string) string {
	return lists("annualEarnings", annual, "quarterlyEarnings", quarterly)
}

// years writes rows of dates and EPS.
func years(rows ...string) string {
	var out []string
	for _, row := range rows {
		date, eps, _ := strings.Cut(row, " ")
		out = append(out, fmt.Sprintf(`{"fiscalDateEnding": %q, "reportedEPS": %q}`, date, eps))
	}
	return strings.Join(out, ", ")
}

func known(v float64) alphavantage.Number { return alphavantage.Number{Value: v, Known: true} }

func TestQuarterlyEarnings(t *testing.T) {
	t.Parallel()
	const full = `{"fiscalDateEnding": "2025-12-31", "reportedDate": "2026-01-29", "reportedEPS": "2.4", "estimatedEPS": "2.35",
		"surprise": "0.05", "surprisePercentage": "2.1277", "reportTime": "post-market", "more": [1]}`
	const bare = `{"fiscalDateEnding": "2026-03-31", "reportedDate": "None", "reportedEPS": "None", "estimatedEPS": null,
		"surprise": "0", "surprisePercentage": "-"}`
	e, err := earned(earningsOf("", full+","+bare+","+full))
	if err != nil {
		t.Fatal(err)
	}
	want := []alphavantage.QuarterlyEarnings{
		{FiscalEnd: day(3, 31), Surprise: known(0)},
		{
			FiscalEnd: market.NewDate(2025, 12, 31), Reported: day(1, 29), EPS: known(2.4), Estimate: known(2.35),
			Surprise: known(0.05), SurprisePercent: known(2.1277), ReportTime: "post-market",
		},
	}
	if diff := cmp.Diff(want, e.Quarterly); diff != "" || e.Symbol != "AAPL" || e.Source != "alpha_vantage" {
		t.Errorf("%s of %s\n%s", e.Symbol, e.Source, diff)
	}
}

func TestAnnualEarnings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rows    []string
		yearEnd time.Month
		want    []string
	}{
		"whole years":                     {[]string{"2025-09-30 7", "2024-09-30 6"}, 0, []string{"2025-09-30", "2024-09-30"}},
		"running year":                    {[]string{"2026-03-31 3", "2025-09-30 7", "2024-09-30 6"}, 0, []string{"2025-09-30", "2024-09-30"}},
		"running year, told":              {[]string{"2026-03-31 3", "2025-09-30 7"}, time.September, []string{"2025-09-30"}},
		"running year alone, told":        {[]string{"2026-03-31 3"}, time.September, nil},
		"one year alone":                  {[]string{"2025-09-30 7"}, 0, nil},
		"one year alone, told":            {[]string{"2025-09-30 7"}, time.September, []string{"2025-09-30"}},
		"not sorted":                      {[]string{"2024-09-30 6", "2026-03-31 3", "2025-09-30 7"}, 0, []string{"2025-09-30", "2024-09-30"}},
		"another year end before":         {[]string{"2025-12-31 7", "2024-12-31 6", "2023-06-30 1"}, 0, []string{"2025-12-31", "2024-12-31"}},
		"52 weeks, some over the month":   {[]string{"2026-01-03 7", "2024-12-28 6", "2023-12-30 6"}, time.December, []string{"2026-01-03", "2024-12-28", "2023-12-30"}},
		"the quarter after is no overrun": {[]string{"2026-01-31 7", "2024-12-31 6"}, time.December, []string{"2024-12-31"}},
		"null is a year":                  {[]string{"2025-09-30 None", "2024-09-30 6"}, 0, []string{"2025-09-30", "2024-09-30"}},
		"none":                            {nil, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := earned(earningsOf(years(tc.rows...), years("2025-12-31 1")))
			if err != nil {
				t.Fatal(err)
			}
			rows, dropped := e.Annual(tc.yearEnd)
			var got []string
			for _, row := range rows {
				got = append(got, row.FiscalEnd.String())
			}
			if !slices.Equal(got, tc.want) || dropped != len(tc.rows)-len(got) {
				t.Errorf("years %v, %d left out; want %v", got, dropped, tc.want)
			}
		})
	}
}

func TestYearEndByBothWays(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{Through: day(3, 12)})
	c := alphavantage.New(inside(sim), "http://vendor.example", alphavantage.Options{})
	running := 0
	for _, s := range market.SP500()[:60] {
		overview, err1 := c.Overview(t.Context(), s)
		e, err2 := c.Earnings(t.Context(), s)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		told, dropped := e.Annual(alphavantage.FiscalYearEnd(overview))
		found, _ := e.Annual(0)
		if !slices.Equal(told, found) || len(told) < 10 || dropped > 1 {
			t.Errorf("%s: %d years, %d left out; without the overview %d", s, len(told), dropped, len(found))
		}
		running += dropped
	}
	if running == 0 {
		t.Error("no symbol has a running year")
	}
}

func TestEarningsGrowth(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rows []string
		want float64 // 0: null
	}{
		"growth":                  {[]string{"2025-12-31 3", "2025-09-30 9", "2024-12-31 2"}, 0.5},
		"loss now":                {[]string{"2025-12-31 -1", "2024-12-31 2"}, -1.5},
		"base of 0":               {[]string{"2025-12-31 3", "2024-12-31 0"}, 0},
		"base below 0":            {[]string{"2025-12-31 3", "2024-12-31 -2"}, 0},
		"base null":               {[]string{"2025-12-31 3", "2024-12-31 None"}, 0},
		"base missing":            {[]string{"2025-12-31 3", "2025-09-30 2", "2023-12-31 2"}, 0},
		"newest not reported":     {[]string{"2026-03-31 None", "2025-12-31 3", "2025-03-31 1", "2024-12-31 2"}, 0.5},
		"52 weeks":                {[]string{"2025-12-27 3", "2024-12-28 2"}, 0.5},
		"53 weeks":                {[]string{"2026-01-03 3", "2024-12-28 2"}, 0.5},
		"other quarters are none": {[]string{"2025-12-31 3", "2025-03-31 2", "2024-09-30 2"}, 0},
		"nothing known":           {[]string{"2025-12-31 None", "2024-12-31 None"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := earned(earningsOf(years("2025-12-31 1"), years(tc.rows...)))
			if err != nil {
				t.Fatal(err)
			}
			got := e.EarningsGrowth()
			if got.Known != (tc.want != 0) || got.Value != tc.want {
				t.Errorf("growth = %+v, want %v", got, tc.want)
			}
			row := e.Fundamentals()
			if row.Symbol != "AAPL" || row.Date != 0 || row.Figures[market.EarningsGrowth] != got || row.Empty() == got.Known {
				t.Errorf("row = %+v", row)
			}
		})
	}
	e, err := earned(earningsOf("", `{"fiscalDateEnding": "2025-12-31", "reportedDate": "2026-01-29", "reportedEPS": "1"}, `+years("2024-12-31 2")))
	want := market.Origin{Source: "alpha_vantage", Filed: day(1, 29), Period: market.NewDate(2025, 12, 31), Computed: true}
	if got := e.EarningsGrowth().Origin; err != nil || got != want {
		t.Errorf("origin %+v, %v; want %+v", got, err, want)
	}
	if got := (alphavantage.Earnings{}).EarningsGrowth(); got.Known {
		t.Errorf("growth of nothing = %+v", got)
	}
}

// badReports are the answers that neither function with lists takes; row is a
// sound row, wrap makes an answer of the second list's rows.
func badReports(wrap func(rows string) string, row, number string) map[string]badReport {
	replace := func(from, to string) string { return wrap(strings.Replace(row, from, to, 1)) }
	sound := wrap(row)
	return map[string]badReport{
		"empty":            {"", providers.BadPayload, "ends in the middle"},
		"empty object":     {"{}", providers.NoData, "without data"},
		"empty lists":      {wrap(""), providers.NoData, "holds no"},
		"null":             {"null", providers.BadPayload, "wrong shape"},
		"message":          {`{"Note": "` + secret + `"}`, providers.BadPayload, "is a message"},
		"message beside":   {strings.Replace(sound, "{", `{"Information": "`+secret+`", `, 1), providers.BadPayload, "is a message"},
		"html":             {"<html>" + secret, providers.BadPayload, "no JSON document"},
		"other symbol":     {strings.Replace(sound, "AAPL", secret, 1), providers.BadPayload, "another symbol"},
		"symbol null":      {strings.Replace(sound, `"AAPL"`, "null", 1), providers.BadPayload, "another symbol"},
		"no symbol":        {strings.Replace(sound, `"symbol"`, `"sign"`, 1), providers.BadPayload, "is missing"},
		"no list":          {strings.Replace(sound, `"annual`, `"yearly`, 1), providers.BadPayload, "is missing"},
		"list twice":       {strings.Replace(sound, `"quarterly`, `"annual`, 1), providers.BadPayload, "occurs twice"},
		"list null":        {strings.Replace(sound, "[]", "null", 1), providers.BadPayload, "wrong shape"},
		"list object":      {strings.Replace(sound, "[]", "{}", 1), providers.BadPayload, "wrong shape"},
		"row null":         {wrap("null"), providers.BadPayload, "row 1 of quarterly"},
		"row text":         {wrap(`"` + secret + `"`), providers.BadPayload, "row 1 of quarterly"},
		"second row":       {wrap(row + ", {}"), providers.BadPayload, "row 2 of quarterly"},
		"cut":              {sound[:len(sound)-4], providers.BadPayload, "ends in the middle"},
		"cut after a row":  {sound[:len(sound)-2], providers.BadPayload, "ends in the middle"},
		"trailing":         {sound + secret, providers.BadPayload, "more after the end"},
		"no date":          {replace("fiscalDateEnding", "fiscalDate"), providers.BadPayload, "no fiscalDateEnding"},
		"date null":        {replace("2025-12-31", "None"), providers.BadPayload, "no fiscalDateEnding"},
		"bad date":         {replace("2025-12-31", "2025-12-32"), providers.BadPayload, "fiscalDateEnding is not written as"},
		"renamed":          {replace(number, number+"X"), providers.BadPayload, number + " is missing"},
		"repeated":         {replace(`"`+number, `"`+number+`": "1", "`+number), providers.BadPayload, "a name occurs twice"},
		"letters":          {replace(`"7"`, `"`+secret+`"`), providers.BadPayload, number + " is no plain decimal number"},
		"exponent":         {replace(`"7"`, `"7e1"`), providers.BadPayload, number + " is no plain decimal number"},
		"plain number":     {replace(`"7"`, `7`), providers.BadPayload, number + " is no text"},
		"conflicting rows": {wrap(row + ", " + strings.Replace(row, `"7"`, `"8"`, 1)), providers.BadPayload, "two rows of 2025-12-31 with different values"},
		"too many rows":    {wrap(strings.TrimSuffix(strings.Repeat(row+",", 1001), ",")), providers.BadPayload, "more than 1000 rows"},
		"too many names":   {strings.Replace(sound, "{", "{"+strings.Join(manyNames(501), ", ")+", ", 1), providers.BadPayload, "too many names"},
		"endless text":     {wrap(`{"fiscalDateEnding": "` + strings.Repeat("x", 1<<20)), providers.BadPayload, "does not end"},
		"endless blanks":   {wrap(strings.Repeat(" ", 1<<20)), providers.BadPayload, "does not end"},
		"deep":             {wrap(strings.Repeat(`{"a":`, 50_000)), providers.BadPayload, "no JSON document"},
	}
}

type badReport struct {
	body string
	kind providers.Kind
	says string
}

func TestBadEarnings(t *testing.T) {
	t.Parallel()
	wrap := func(rows string) string { return earningsOf("", rows) }
	cases := badReports(wrap, years("2025-12-31 7"), "reportedEPS")
	cases["nothing but null"] = badReport{earningsOf(years("2025-12-31 None"), years("2025-12-31 -")), providers.NoData, "holds no earnings"}
	cases["bad year"] = badReport{earningsOf(years("2025-12-31 x"), ""), providers.BadPayload, "row 1 of annualEarnings: reportedEPS is no plain"}
	cases["conflicting years"] = badReport{earningsOf(years("2025-12-31 1", "2025-12-31 2"), ""), providers.BadPayload, "two rows of 2025-12-31"}
	cases["bad report date"] = badReport{wrap(`{"fiscalDateEnding": "2025-12-31", "reportedDate": "soon", "reportedEPS": "1"}`), providers.BadPayload, "reportedDate is not written as"}
	cases["bad estimate"] = badReport{wrap(`{"fiscalDateEnding": "2025-12-31", "reportedEPS": "1", "estimatedEPS": "x"}`), providers.BadPayload, "estimatedEPS is no plain"}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := earned(tc.body)
			wantRefusal(t, err, tc.kind, "alpha_vantage: earnings AAPL: ", tc.says)
			if diff := cmp.Diff(alphavantage.Earnings{}, e, cmp.AllowUnexported(e)); diff != "" {
				t.Errorf("came with the error: %s", diff)
			}
		})
	}
}

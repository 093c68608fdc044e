package alphavantage_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// answering is a client whose every call is answered with body.
func answering(body io.Reader) *alphavantage.Client {
	hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(body)}, nil
	})}
	return alphavantage.New(hc, "https://vendor.example", alphavantage.Options{})
}

func overview(body string) (market.Fundamentals, error) {
	return answering(strings.NewReader(body)).Overview(context.Background(), "BRK.B")
}

// sheet is a sound OVERVIEW with the entries, each as it is written.
func sheet(entries ...string) string {
	return `{"Symbol": "BRK-B", "Sector": "ENERGY", ` + strings.Join(append(entries, `"Name": "B"}`), ", ")
}

func TestEveryColumnOfAnOverview(t *testing.T) {
	t.Parallel()
	row, err := overview(sheet(
		`"PERatio": "-14.1327"`, `"PriceToBookRatio": "5.4017"`, `"PriceToSalesRatioTTM": "1.47620000000000000001"`,
		`"EVToEBITDA": "11"`, `"ReturnOnEquityTTM": "0.4097"`, `"QuarterlyRevenueGrowthYOY": "-0.054"`,
		`"QuarterlyEarningsGrowthYOY": "-0.458"`, `"DividendYield": "0"`, `"MarketCapitalization": "4114234572800"`,
		`"Industry": " OIL &  GAS E&P "`, `"LatestQuarter": "2026-02-28"`, `"FiscalYearEnd": "AUGUST"`,
		`"Description": "short"`, `"Beta": 1.5`, `"Listed": true`, `"Officers": ["x"]`, `"CIK": "None"`, `"Address": "`+strings.Repeat("x", 501)+`"`,
		`"Note\u00e9": "a\u0000b"`,
	))
	if err != nil {
		t.Fatal(err)
	}
	origin := market.Origin{Source: "alpha_vantage", Period: day(2, 28)}
	want := market.Fundamentals{
		Symbol: "BRK.B", Sector: market.Label{Text: "Energy", Origin: origin}, Industry: market.Label{Text: "Oil & Gas E&P", Origin: origin},
		Details: map[string]string{"Name": "B", "FiscalYearEnd": "AUGUST", "Beta": "1.5", "Listed": "true", "Noteé": "a b"},
	}
	for f, v := range map[market.Field]float64{
		market.PERatio: -14.1327, market.PBRatio: 5.4017, market.PSRatio: 1.4762, market.EVEBITDA: 11, market.ROE: 0.4097,
		market.RevenueGrowth: -0.054, market.EarningsGrowth: -0.458, market.DividendYield: 0, market.MarketCap: 4114234572800,
	} {
		want.Figures[f] = market.Figure{Value: v, Known: true, Origin: origin}
	}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
	if got := alphavantage.FiscalYearEnd(row); got != time.August {
		t.Errorf("the fiscal year ends in %s", got)
	}
	if got := alphavantage.FiscalYearEnd(market.Fundamentals{}); got != 0 {
		t.Errorf("an unknown fiscal year ends in %s", got)
	}
}

func TestNullsOfAnOverview(t *testing.T) {
	t.Parallel()
	names := map[string]market.Field{
		"PERatio": market.PERatio, "PriceToBookRatio": market.PBRatio, "PriceToSalesRatioTTM": market.PSRatio,
		"EVToEBITDA": market.EVEBITDA, "ReturnOnEquityTTM": market.ROE, "QuarterlyRevenueGrowthYOY": market.RevenueGrowth,
		"QuarterlyEarningsGrowthYOY": market.EarningsGrowth, "DividendYield": market.DividendYield, "MarketCapitalization": market.MarketCap,
	}
	for name, field := range names {
		for _, null := range []string{`"None"`, `"NONE"`, `"none"`, `"-"`, `""`, `"0000-00-00"`, `null`, `"0"`, `"0.000"`, `"-0.0"`} {
			row, err := overview(sheet(`"` + name + `": ` + null))
			if err != nil {
				t.Errorf("%s of %s: %v", name, null, err)
			}
			want := name == "DividendYield" && strings.Contains(null, "0") && null != `"0000-00-00"`
			if got := row.Figures[field]; got.Known != want || got.Value != 0 {
				t.Errorf("%s of %s = %+v, known should be %t", name, null, got, want)
			}
		}
	}
	for _, null := range []string{`"None"`, `"NONE"`, `"-"`, `""`, `"0000-00-00"`, `null`, `"0"`, `" "`} {
		row, err := overview(`{"Symbol": "BRK-B", "EVToEBITDA": "1", "Sector": ` + null + `, "Industry": ` + null + `}`)
		if want := (market.Label{}); err != nil || row.Sector != want || row.Industry != want {
			t.Errorf("sector of %s = %+v, %+v, %v", null, row.Sector, row.Industry, err)
		}
	}
	for _, null := range []string{`"None"`, `"0000-00-00"`, `"-"`, `null`} {
		row, err := overview(sheet(`"EVToEBITDA": "1"`, `"LatestQuarter": `+null))
		if got := row.Figures[market.EVEBITDA]; err != nil || got.Period != 0 || !got.Known {
			t.Errorf("latest quarter of %s: %+v, %v", null, got, err)
		}
	}
}

func TestSectorsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"TECHNOLOGY": "Technology", "Technology": "Technology", "technology": "Technology",
		"REIT - RETAIL": "Reit - Retail", "REIT - Retail": "Reit - Retail",
		"Drug Manufacturers\u2014General": "Drug Manufacturers\u2014General", "OIL & GAS E&P": "Oil & Gas E&P",
		"CHILDREN'S TOYS": "Children's Toys", "\u00c9NERGIE": "\u00c9nergie", "Oil and  Gas": "Oil And Gas",
	} {
		row, err := overview(sheet(`"Industry": ` + strconv.Quote(text)))
		if err != nil || row.Industry.Text != want {
			t.Errorf("%q = %q, %v; want %q", text, row.Industry.Text, err, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[A-Za-z'&é -]{1,40}`).Draw(t, "text")
		spelt := map[string]bool{}
		for _, version := range []string{text, strings.ToUpper(text), strings.ToLower(text)} {
			row, err := overview(sheet(`"Industry": ` + strconv.Quote(version)))
			if err != nil {
				t.Fatal(err)
			}
			spelt[row.Industry.Text] = true
		}
		if len(spelt) != 1 && !strings.EqualFold(strings.TrimSpace(text), "none") {
			t.Fatalf("%q is spelt %v", text, spelt)
		}
	})
}

func TestSymbolOfAnOverview(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"BRK-B": true, "BRK.B": true, "brk-b": true, "BRKB": false, "BRK-A": false, "BRK": false, "": false, "None": false,
	} {
		_, err := overview(strings.Replace(sheet(), "BRK-B", text, 1))
		if (err == nil) != ok {
			t.Errorf("an answer about %q: %v", text, err)
		}
	}
}

func TestBadOverviews(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		kind providers.Kind
		says string
	}{
		"empty":            {"", providers.BadPayload, "ends in the middle"},
		"empty object":     {"{}", providers.NoData, "without data"},
		"nothing but null": {`{"Symbol": "BRK-B", "Name": "B", "Sector": "None", "PERatio": "-", "MarketCapitalization": "0"}`, providers.NoData, "holds no figure"},
		"symbol alone":     {`{"Symbol": "BRK-B"}`, providers.NoData, "holds no figure"},
		"no symbol":        {`{"Sector": "ENERGY"}`, providers.BadPayload, "no Symbol"},
		"symbol null":      {`{"Symbol": null, "Sector": "ENERGY"}`, providers.BadPayload, "no Symbol"},
		"symbol number":    {`{"Symbol": 1, "Sector": "ENERGY"}`, providers.BadPayload, "Symbol is no text"},
		"other symbol":     {strings.Replace(sheet(), "BRK-B", secret, 1), providers.BadPayload, "another symbol"},
		"message":          {`{"Information": "` + secret + `"}`, providers.BadPayload, "is a message"},
		"message beside":   {sheet(`"Note": "` + secret + `"`), providers.BadPayload, "is a message"},
		"html":             {"<html>" + secret, providers.BadPayload, "no JSON document: wrong at byte 0"},
		"null":             {"null", providers.BadPayload, "wrong shape"},
		"array":            {`["` + secret + `"]`, providers.BadPayload, "wrong shape"},
		"cut":              {sheet(`"PERatio": "1"`)[:30], providers.BadPayload, "ends in the middle"},
		"cut at the end":   {strings.TrimSuffix(sheet(), "}"), providers.BadPayload, "ends in the middle"},
		"trailing":         {sheet() + "{}", providers.BadPayload, "more after the end"},
		"trailing text":    {sheet() + secret, providers.BadPayload, "more after the end"},
		"twice":            {sheet(`"PERatio": "1"`, `"PERatio": "1"`), providers.BadPayload, "a name occurs twice"},
		"twice unknown":    {sheet(`"`+secret+`": "1"`, `"`+secret+`": "2"`), providers.BadPayload, "a name occurs twice"},
		"number":           {sheet(`"PERatio": 1`), providers.BadPayload, "PERatio is no text"},
		"object":           {sheet(`"PERatio": {"` + secret + `": 1}`), providers.BadPayload, "PERatio is no text"},
		"letters":          {sheet(`"EVToEBITDA": "` + secret + `"`), providers.BadPayload, "EVToEBITDA is no plain decimal number"},
		"nan":              {sheet(`"PERatio": "NaN"`), providers.BadPayload, "PERatio is no plain"},
		"infinite":         {sheet(`"PERatio": "-Infinity"`), providers.BadPayload, "PERatio is no plain"},
		"exponent":         {sheet(`"PERatio": "1e3"`), providers.BadPayload, "PERatio is no plain"},
		"hex":              {sheet(`"PERatio": "0x1p4"`), providers.BadPayload, "PERatio is no plain"},
		"underscore":       {sheet(`"PERatio": "1_0"`), providers.BadPayload, "PERatio is no plain"},
		"plus":             {sheet(`"PERatio": "+1"`), providers.BadPayload, "PERatio is no plain"},
		"two signs":        {sheet(`"PERatio": "--1"`), providers.BadPayload, "PERatio is no plain"},
		"sign alone":       {sheet(`"PERatio": "-."`), providers.BadPayload, "PERatio is no plain"},
		"no whole part":    {sheet(`"PERatio": ".5"`), providers.BadPayload, "PERatio is no plain"},
		"no fraction":      {sheet(`"PERatio": "5."`), providers.BadPayload, "PERatio is no plain"},
		"two points":       {sheet(`"PERatio": "5.5.5"`), providers.BadPayload, "PERatio is no plain"},
		"comma":            {sheet(`"DividendYield": "0,5"`), providers.BadPayload, "DividendYield is no plain"},
		"percent":          {sheet(`"DividendYield": "0.5%"`), providers.BadPayload, "DividendYield is no plain"},
		"blank":            {sheet(`"PERatio": " 1"`), providers.BadPayload, "PERatio is no plain"},
		"long number":      {sheet(`"PERatio": "` + strings.Repeat("1", 41) + `"`), providers.BadPayload, "PERatio is no plain"},
		"bad in last":      {sheet(`"PERatio": "1"`, `"MarketCapitalization": "x"`), providers.BadPayload, "MarketCapitalization is no plain"},
		"date":             {sheet(`"LatestQuarter": "2026-02-30"`), providers.BadPayload, "LatestQuarter is not written as"},
		"date with clock":  {sheet(`"LatestQuarter": "2026-02-28 00:00"`), providers.BadPayload, "LatestQuarter is not written as"},
		"long sector":      {`{"Symbol": "BRK-B", "Sector": "` + strings.Repeat("x", 501) + `"}`, providers.BadPayload, "Sector is no text, or far too long"},
		"sector number":    {sheet(`"Industry": 5`), providers.BadPayload, "Industry is no text"},
		"long name":        {sheet(`"` + strings.Repeat("x", 65) + `": "1"`), providers.BadPayload, "too long"},
		"control name":     {sheet(`"a\u0000": "1"`), providers.BadPayload, "control characters"},
		"many names":       {sheet(manyNames(500)...), providers.BadPayload, "too many names"},
		"bad UTF-8":        {sheet("\"PERatio\": \"1\xff\""), providers.BadPayload, "no JSON document"},
		"NUL":              {sheet("\"PERatio\": \"1\x00\""), providers.BadPayload, "no JSON document"},
		"lone surrogate":   {sheet(`"PERatio": "\ud800"`), providers.BadPayload, "no JSON document"},
		"endless text":     {`{"Symbol": "` + strings.Repeat("x", 1<<20), providers.BadPayload, "does not end"},
		"endless blanks":   {"{" + strings.Repeat(" ", 1<<20), providers.BadPayload, "does not end"},
		"endless name":     {`{"` + strings.Repeat("x", 1<<20), providers.BadPayload, "does not end"},
		"deep":             {`{"Symbol": ` + strings.Repeat("[", 50_000), providers.BadPayload, "no JSON document"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row, err := overview(tc.body)
			wantRefusal(t, err, tc.kind, "alpha_vantage: overview BRK.B: ", tc.says)
			if !row.Empty() || row.Details != nil || row.Symbol != "" {
				t.Errorf("%+v came with the error", row)
			}
		})
	}
}

func manyNames(n int) []string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = `"` + strconv.Itoa(i) + `": "1"`
	}
	return entries
}

// wantRefusal fails unless err is of a kind, begins with what was asked, says
// why, and quotes nothing.
func wantRefusal(t *testing.T, err error, kind providers.Kind, begins, says string) {
	t.Helper()
	var got *providers.Error
	if !errors.As(err, &got) || got.Kind != kind || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), begins) {
		t.Fatalf("error = %v, want one of kind %d that begins with %q and says %q", err, kind, begins, says)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error quotes the answer: %v", err)
	}
}

func TestBrokenConnectionsOfReports(t *testing.T) {
	t.Parallel()
	for name, ask := range functions() {
		for _, begin := range []string{"", `{"Symbol": "BRK-B", `} {
			_, _, err := ask(t.Context(), answering(io.MultiReader(strings.NewReader(begin), brokenReader{})), "BRK.B", day(3, 12))
			wantRefusal(t, err, providers.Transient, "alpha_vantage: ", "unexpected EOF")
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, _, err := ask(t.Context(), alphavantage.New(http.DefaultClient, "http://%zz", alphavantage.Options{}), "BRK.B", day(3, 12))
		wantRefusal(t, err, providers.Rejected, "alpha_vantage: ", "base URL")
	}
}

// TestRecordedOverview reads a real answer, when it is there.
func TestRecordedOverview(t *testing.T) {
	t.Parallel()
	const name = "../../../shared/payloads/alphavantage/overview-ibm-2020.json"
	body, err := os.ReadFile(name)
	if err != nil {
		t.Skipf("no recorded answer: %v", err)
	}
	row, err := answering(strings.NewReader(string(body))).Overview(t.Context(), "IBM")
	if err != nil {
		t.Fatal(err)
	}
	var texts map[string]string
	if err := json.Unmarshal(body, &texts); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]market.Field{
		"PERatio": market.PERatio, "PriceToBookRatio": market.PBRatio, "PriceToSalesRatioTTM": market.PSRatio,
		"EVToEBITDA": market.EVEBITDA, "ReturnOnEquityTTM": market.ROE, "QuarterlyRevenueGrowthYOY": market.RevenueGrowth,
		"QuarterlyEarningsGrowthYOY": market.EarningsGrowth, "DividendYield": market.DividendYield, "MarketCapitalization": market.MarketCap,
	} {
		want, err := strconv.ParseFloat(texts[name], 64)
		if got := row.Figures[f]; err != nil || !got.Known || got.Value != want || got.Period != market.NewDate(2020, 6, 30) {
			t.Errorf("%s = %+v, want %v", name, got, want)
		}
		delete(texts, name)
	}
	if row.Sector.Text != texts["Sector"] || row.Industry.Text != texts["Industry"] {
		t.Errorf("sector %q, industry %q", row.Sector.Text, row.Industry.Text)
	}
	for _, name := range []string{"Symbol", "Description", "Sector", "Industry", "LatestQuarter"} {
		delete(texts, name)
	}
	if !maps.Equal(row.Details, texts) {
		t.Error(cmp.Diff(texts, row.Details))
	}
	if got := alphavantage.FiscalYearEnd(row); got != time.December {
		t.Errorf("the fiscal year ends in %s", got)
	}
}

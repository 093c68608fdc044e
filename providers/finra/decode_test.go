package finra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/finra"
)

// vendorFunc answers in place of the network.
type vendorFunc func(*http.Request) (*http.Response, error)

func (f vendorFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(status int, body io.Reader, total string) *http.Response {
	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	if total != "" {
		h.Set("record-total", total)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body)}
}

// answering returns a client that gets body for every question.
func answering(body func() io.Reader, total string) *finra.Client {
	return finra.New(&http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
		return reply(200, body(), total), nil
	})}, finra.Options{})
}

func decode(body []byte, total int, symbols ...market.Symbol) ([]market.ShortInterest, finra.Summary, error) {
	c := answering(func() io.Reader { return bytes.NewReader(body) }, strconv.Itoa(total))
	return load(context.Background(), c, market.NewDate(2026, 8, 31), symbols)
}

// secret stands in some of the bodies; no error may quote it.
const secret = "CANARYk3y\n"

const goodRow = `{"settlementDate":"2026-08-31","symbolCode":"EXAB","issueName":"Example, \"B\" & Co.","marketClassCode":"NYSE",` +
	`"currentShortPositionQuantity":3000,"previousShortPositionQuantity":2000,"averageDailyVolumeQuantity":1600,` +
	`"daysToCoverQuantity":1.88,"changePercent":50,"revisionFlag":null,"stockSplitFlag":null}`

func TestRows(t *testing.T) {
	t.Parallel()
	known := func(v int64) market.Count { return market.Count{Value: v, Known: true} }
	is := func(v float64) market.Ratio { return market.Ratio{Value: v, Known: true} }
	sound := market.ShortInterest{
		Symbol: "EXA.B", Settlement: market.NewDate(2026, 8, 31), Shares: 3000, Previous: known(2000), AvgDailyVolume: known(1600),
		DaysToCover: is(1.88), ChangePct: is(50),
	}
	for name, tc := range map[string]struct {
		from, to string
		want     func(*market.ShortInterest)
	}{
		"as it is":          {"", "", func(*market.ShortInterest) {}},
		"numbers as texts":  {`3000,"previousShortPositionQuantity":2000`, `"3000","previousShortPositionQuantity":"2000"`, func(*market.ShortInterest) {}},
		"figure as text":    {`50`, `"-17.85"`, func(s *market.ShortInterest) { s.ChangePct = is(-17.85) }},
		"exponent":          {`1.88`, `1.25E2`, func(s *market.ShortInterest) { s.DaysToCover = is(125) }},
		"flags":             {`"revisionFlag":null,"stockSplitFlag":null`, `"revisionFlag":"R","stockSplitFlag":"S"`, func(s *market.ShortInterest) { s.RevisionFlag, s.SplitFlag = "R", "S" }},
		"no flags":          {`,"revisionFlag":null,"stockSplitFlag":null`, ``, func(*market.ShortInterest) {}},
		"no names":          {`"issueName":"Example, \"B\" & Co.","marketClassCode":"NYSE",`, ``, func(*market.ShortInterest) {}},
		"figures null":      {`1.88,"changePercent":50`, `null,"changePercent":null`, func(*market.ShortInterest) {}},
		"figures left out":  {`"daysToCoverQuantity":1.88,"changePercent":50,`, ``, func(*market.ShortInterest) {}},
		"others beside":     {`{`, `{"accountingYearMonthNumber":20260831,"new":{"a":[1,{"symbolCode":"X"}]},`, func(*market.ShortInterest) {}},
		"escaped":           {`EXAB`, `EX\u0041B`, func(*market.ShortInterest) {}},
		"blanks":            {`,`, " ,\r\n\t", func(*market.ShortInterest) {}},
		"previous null":     {`2000`, `null`, func(s *market.ShortInterest) { s.Previous = market.Count{} }},
		"volume null":       {`1600`, `null`, func(s *market.ShortInterest) { s.AvgDailyVolume = market.Count{} }},
		"no volume":         {`1600,"daysToCoverQuantity":1.88`, `0,"daysToCoverQuantity":999.99`, func(s *market.ShortInterest) { s.AvgDailyVolume, s.DaysToCover = known(0), market.Ratio{Raw: 999.99} }},
		"from zero":         {`2000,"averageDailyVolumeQuantity":1600,"daysToCoverQuantity":1.88,"changePercent":50`, `0,"averageDailyVolumeQuantity":1600,"daysToCoverQuantity":1.88,"changePercent":100`, func(s *market.ShortInterest) { s.Previous, s.ChangePct = known(0), market.Ratio{Raw: 100} }},
		"from one to a lot": {`50`, `123456.78`, func(s *market.ShortInterest) { s.ChangePct = is(123456.78) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := goodRow
			if tc.from != "" {
				if body = strings.Replace(goodRow, tc.from, tc.to, 1); body == goodRow {
					t.Fatal("nothing is replaced")
				}
			}
			want := sound
			tc.want(&want)
			rows, _, err := decode([]byte("["+body+"]"), 1, "EXA.B")
			if diff := gocmp.Diff([]market.ShortInterest{want}, rows); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

func TestBadRows(t *testing.T) {
	t.Parallel()
	with := func(from, to string) string { return "[" + strings.Replace(goodRow, from, to, 1) + "]" }
	for name, tc := range map[string]struct{ body, says string }{
		"empty":              {"", "ends in the middle"},
		"object":             {"{}", "wrong shape"},
		"null":               {"null", "wrong shape"},
		"page":               {"<html>" + secret, "wrong at byte 0"},
		"lines":              {`"settlementDate","symbolCode"`, "wrong shape"},
		"mark":               {"\uFEFF[" + goodRow + "]", "wrong at byte 0"},
		"cut":                {"[" + goodRow[:200], "ends in the middle"},
		"cut after a row":    {"[" + goodRow, "ends in the middle"},
		"trailing":           {"[" + goodRow + "][]", "more after the end"},
		"trailing text":      {"[" + goodRow + "]" + secret, "more after the end"},
		"row null":           {"[" + goodRow + ",null]", "row 2: the document has the wrong shape"},
		"row array":          {"[[]]", "row 1: the document has the wrong shape"},
		"empty row":          {"[{}]", "settlementDate is missing"},
		"bad UTF-8":          {with("Example", "Exa\xff"), "no JSON document"},
		"NUL":                {with("Example", "Exa\x00"), "no JSON document"},
		"no code":            {with(`"symbolCode":"EXAB",`, ""), "symbolCode is missing"},
		"no current":         {with(`"currentShortPositionQuantity":3000,`, ""), "currentShortPositionQuantity is missing"},
		"no previous":        {with(`"previousShortPositionQuantity":2000,`, ""), "previousShortPositionQuantity is missing"},
		"no volume":          {with(`"averageDailyVolumeQuantity":1600,`, ""), "averageDailyVolumeQuantity is missing"},
		"name twice":         {with(`"symbolCode":`, `"symbolCode":"EXAB","symbolCode":`), "occurs twice"},
		"name twice escaped": {with(`"symbolCode":`, `"symbolC\u006fde":"EXAB","symbolCode":`), "occurs twice"},
		"current null":       {with("3000", "null"), "currentShortPositionQuantity is null"},
		"current text":       {with("3000", `"None"`), "currentShortPositionQuantity: "},
		"current empty":      {with("3000", `""`), "currentShortPositionQuantity: "},
		"current fraction":   {with("3000", "3000.5"), "currentShortPositionQuantity: "},
		"current true":       {with("3000", "true"), "currentShortPositionQuantity: want a text"},
		"current below zero": {with("3000", "-3000"), "currentShortPositionQuantity: "},
		"current too large":  {with("3000", "9223372036854775808"), "currentShortPositionQuantity: "},
		"volume object":      {with("1600", `{"a":1}`), "averageDailyVolumeQuantity: want a text"},
		"days NaN":           {with("1.88", "NaN"), "no JSON document"},
		"days NaN as text":   {with("1.88", `"NaN"`), "daysToCoverQuantity: want a number"},
		"days hex":           {with("1.88", `"0x1p4"`), "daysToCoverQuantity: want a number"},
		"days underscore":    {with("1.88", `"1_0"`), "daysToCoverQuantity: want a number"},
		"days blank":         {with("1.88", `"1.88 "`), "daysToCoverQuantity: "},
		"days too large":     {with("1.88", "1e999"), "daysToCoverQuantity: a number too large"},
		"days long":          {with("1.88", "1."+strings.Repeat("1", 40)), "daysToCoverQuantity: want a number"},
		"days below zero":    {with("1.88", "-1.88"), "want finite figures"},
		"change impossible":  {with(":50", ":-100.01"), "not below -100"},
		"flag number":        {with(`"revisionFlag":null`, `"revisionFlag":1`), "revisionFlag: want a text"},
		"flag long":          {with(`"revisionFlag":null`, `"revisionFlag":"REVISIONS"`), "flags"},
		"date with clock":    {with("2026-08-31", "2026-08-31 00:00:00"), "settlementDate: "},
		"no such day":        {with("2026-08-31", "2026-06-31"), "settlementDate: "},
		"date null":          {with(`"2026-08-31"`, "null"), "settlementDate: "},
		"date number":        {with(`"2026-08-31"`, "20260831"), "settlementDate: want a text"},
		"other date":         {with("2026-08-31", "2026-08-14"), "it is of 2026-08-14, which was not asked for"},
		"other symbol":       {with("EXAB", "EXAC"), `it is about "EXAC", which was not asked for`},
		"spelled our way":    {with("EXAB", "EXA.B"), "which was not asked for"},
		"code null":          {with(`"EXAB"`, "null"), "which was not asked for"},
		"control characters": {with("EXAB", "A\\n\\u0000B"), `it is about "A??B"`},
		"twice":              {"[" + goodRow + "," + goodRow + "]", "EXAB came twice, also when"},
		"twice, other value": {"[" + goodRow + "," + strings.Replace(goodRow, "3000", "3001", 1) + "]", "EXAB came twice"},
		"endless text":       {`[{"settlementDate":"` + strings.Repeat("x", 1<<20), "ends in the middle"},
		"too many rows":      {"[" + manySecurities(5001) + "]", "more than 5000 rows on a page"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, summary, err := decode([]byte(tc.body), 2, "EXA.B")
			wantKind(t, err, providers.BadPayload, tc.says)
			if diff := gocmp.Diff(finra.Summary{}, summary); len(rows) != 0 || diff != "" {
				t.Errorf("%d rows and a summary came with the error: %s", len(rows), diff)
			}
		})
	}
}

// manySecurities are rows of one spelling, each of another security.
func manySecurities(n int) string {
	var rows []string
	for i := range n {
		rows = append(rows, strings.Replace(goodRow, "Example", fmt.Sprint("Example ", i), 1))
	}
	return strings.Join(rows, ",")
}

func wantKind(t *testing.T, err error, kind providers.Kind, says string) {
	t.Helper()
	var known *providers.Error
	if !errors.As(err, &known) || known.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Fatalf("error %v, want kind %d and %q", err, kind, says)
	}
	if strings.Contains(err.Error(), secret[:6]) || strings.ContainsAny(err.Error(), "\n\r\x00") {
		t.Errorf("the answer is quoted in %q", err)
	}
}

func TestAnnouncedRows(t *testing.T) {
	t.Parallel()
	one := "[" + goodRow + "]"
	for name, tc := range map[string]struct {
		total, body, says string
		kind              providers.Kind
	}{
		"missing":       {"", one, "Record-Total", providers.BadPayload},
		"letters":       {"one", one, "Record-Total", providers.BadPayload},
		"below zero":    {"-1", one, "Record-Total", providers.BadPayload},
		"huge":          {"99999999999", one, "Record-Total", providers.BadPayload},
		"far too many":  {"20000", one, "20000 rows announced for 1 symbols", providers.BadPayload},
		"too few":       {"0", one, "1 rows came where 0 were announced", providers.BadPayload},
		"none, of some": {"1", "[]", "the rows ended after 0 of 1", providers.BadPayload},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := answering(func() io.Reader { return strings.NewReader(tc.body) }, tc.total)
			rows, _, err := load(t.Context(), c, market.NewDate(2026, 8, 31), []market.Symbol{"EXA.B"})
			if len(rows) != 0 {
				t.Errorf("%d rows", len(rows))
			}
			wantKind(t, err, tc.kind, tc.says)
		})
	}
}

func TestABrokenConnectionIsWorthAnotherTry(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset by peer")
	doc := "[" + goodRow + "]"
	for _, n := range []int{0, 1, 10, len(doc) - 1, len(doc)} {
		c := answering(func() io.Reader { return io.MultiReader(strings.NewReader(doc[:n]), failing{broken}) }, "1")
		rows, _, err := load(t.Context(), c, market.NewDate(2026, 8, 31), []market.Symbol{"EXA.B"})
		var known *providers.Error
		if !errors.As(err, &known) || known.Kind != providers.Transient || !errors.Is(err, broken) || len(rows) != 0 {
			t.Errorf("broken after %d bytes: %d rows, %v; want a transient error", n, len(rows), err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestFINRAIsAsked(t *testing.T) {
	t.Parallel()
	hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		want := `{"fields":["settlementDate","symbolCode","issueName","marketClassCode","currentShortPositionQuantity",` +
			`"previousShortPositionQuantity","averageDailyVolumeQuantity","daysToCoverQuantity","changePercent","revisionFlag","stockSplitFlag"],` +
			`"compareFilters":[{"fieldName":"settlementDate","compareType":"EQUAL","fieldValue":"2026-08-31"}],` +
			`"domainFilters":[{"fieldName":"symbolCode","values":["AAPL","BRKB"]}],"limit":5000,"offset":0}`
		if diff := gocmp.Diff(want, string(body)); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if u := "https://api.finra.org/data/group/otcMarket/name/consolidatedShortInterest"; r.Method != "POST" || r.URL.String() != u ||
			r.Header.Get("Accept") != "application/json" || r.Header.Get("Content-Type") != "application/json" || r.GetBody == nil {
			t.Errorf("asked %s %s with %v", r.Method, r.URL, r.Header)
		}
		return nil, errors.New("no network")
	})}
	_, _, err := load(t.Context(), finra.New(hc, finra.Options{}), market.NewDate(2026, 8, 31), []market.Symbol{"BRK.B", "AAPL"})
	if err == nil || err.Error() != "finra: short interest of 2026-08-31: no network" {
		t.Errorf("error %v", err)
	}
	_, err = finra.New(hc, finra.Options{BaseURL: "http://user:" + secret + "@\x00"}).Published(t.Context())
	wantKind(t, err, providers.Rejected, "base URL")
}

func TestPublished(t *testing.T) {
	t.Parallel()
	const list = `{"datasetGroup":"x","partitionFields":["settlementDate"],"availablePartitions":[{"partitions":["2026-08-31"]},{"partitions":["2026-08-14"]}]}`
	with := func(from, to string) string { return strings.Replace(list, from, to, 1) }
	for name, tc := range map[string]struct {
		body string
		want []market.Date
		says string
	}{
		"two":        {list, []market.Date{market.NewDate(2026, 8, 14), market.NewDate(2026, 8, 31)}, ""},
		"none":       {`{"statusCode":200,"statusDescription":"ok","requestId":"x","message":"No partitions found for specified dataset."}`, nil, ""},
		"empty list": {`{"availablePartitions":[]}`, nil, ""},
		"no list":    {`{"datasetGroup":"x"}`, nil, "no list"},
		"rows":       {`[]`, nil, "wrong shape"},
		"cut":        {list[:100], nil, "ends in the middle"},
		"trailing":   {list + "{}", nil, "more after the end"},
		"twice":      {with("2026-08-14", "2026-08-31"), nil, "2026-08-31 twice"},
		"two values": {with(`"2026-08-14"`, `"2026-08-14","A"`), nil, "not one date"},
		"no values":  {with(`{"partitions":["2026-08-14"]}`, `{"other":1}`), nil, "not one date"},
		"no date":    {with("2026-08-14", "August"), nil, "want a calendar date"},
		"null":       {with(`"2026-08-14"`, "null"), nil, "want a calendar date"},
		"null list":  {with(`["2026-08-14"]`, "null"), nil, "wrong shape"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answering(func() io.Reader { return strings.NewReader(tc.body) }, "").Published(t.Context())
			if tc.says != "" {
				wantKind(t, err, providers.BadPayload, tc.says)
			} else if err != nil {
				t.Error(err)
			}
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRecordedPayloads reads real answers, when they are there. A recording
// holds several settlement dates; each is served as the answer about it.
func TestRecordedPayloads(t *testing.T) {
	t.Parallel()
	const folder = "../../../shared/payloads/finra/"
	names, err := filepath.Glob(folder + "consolidated-short-interest*.json")
	if err != nil || len(names) == 0 {
		t.Skipf("no recorded answers in %s", folder)
	}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var recorded []map[string]any
		if err := json.Unmarshal(body, &recorded); err != nil {
			t.Fatal(err)
		}
		byDate := map[string][]map[string]any{}
		for _, row := range recorded {
			d := row["settlementDate"].(string)
			byDate[d] = append(byDate[d], row)
		}
		for d, want := range byDate {
			compareRecorded(t, d, want)
		}
	}
}

func compareRecorded(t *testing.T, day string, want []map[string]any) {
	t.Helper()
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	d, err := market.ParseDate(day)
	if err != nil {
		t.Fatal(err)
	}
	c := answering(func() io.Reader { return bytes.NewReader(body) }, strconv.Itoa(len(want)))
	rows, _, err := load(t.Context(), c, d, []market.Symbol{"BRK.B", "AAPL"})
	if err != nil || len(rows) != len(want) {
		t.Fatalf("%s: %d rows, %v; want %d", day, len(rows), err, len(want))
	}
	for _, row := range rows {
		for _, r := range want {
			if r["symbolCode"] != row.Symbol.In(market.FINRA) {
				continue
			}
			// What FINRA delivers is what the rule computes.
			computed := row.Corrected(row.Shares)
			got := fmt.Sprint(float64(row.Shares), float64(row.Previous.Value), float64(row.AvgDailyVolume.Value), computed.DaysToCover.Value, computed.ChangePct.Value)
			if is := fmt.Sprint(r["currentShortPositionQuantity"], r["previousShortPositionQuantity"], r["averageDailyVolumeQuantity"],
				r["daysToCoverQuantity"], r["changePercent"]); got != is || computed != row {
				t.Errorf("%s of %s: %s, want %s", row.Symbol, day, got, is)
			}
		}
	}
}

func answeringText(body string) *finra.Client {
	return answering(func() io.Reader { return strings.NewReader(body) }, "")
}

package edgar_test

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
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/edgar"
)

// vendorFunc answers in place of the network.
type vendorFunc func(*http.Request) (*http.Response, error)

func (f vendorFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering returns a client that gets body for every question.
func answering(body io.Reader) *edgar.Client {
	hc := &http.Client{Transport: vendorFunc(func(*http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
		return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(body)}, nil
	})}
	return edgar.New(hc, edgar.Options{})
}

func decodeFacts(cik int, body io.Reader, wanted func(string, string) bool) ([]market.Fact, edgar.Summary, error) {
	var facts []market.Fact
	summary, err := answering(body).Facts(context.Background(), cik, wanted, func(f market.Fact) error {
		facts = append(facts, f)
		return nil
	})
	return facts, summary, err
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestGoldenFacts(t *testing.T) {
	t.Parallel()
	facts, summary, err := decodeFacts(1234, bytes.NewReader(read(t, "companyfacts.json")), market.IsNeeded)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range facts {
		if f.CIK != 1234 {
			t.Errorf("CIK %d", f.CIK)
		}
		fmt.Fprintf(&out, "%s %s %s %s..%s %v %s %s %s\n", f.Taxonomy, f.Concept, f.Unit, f.Start, f.End, f.Value, f.Accession, f.Form, f.Filed)
	}
	fmt.Fprintf(&out, "%+v\n", summary)
	if diff := cmp.Diff(string(read(t, "companyfacts.golden")), out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestGoldenTickers(t *testing.T) {
	t.Parallel()
	got, err := answering(bytes.NewReader(read(t, "company_tickers.json"))).Tickers(t.Context(), edgar.Tickers{})
	if err != nil {
		t.Fatal(err)
	}
	want := edgar.Tickers{
		CIK:  map[market.Symbol]int{"EXA": 1234, "EXA.B": 1234, "EXA.PRC": 1234, "UNI.U": 77, "UNI.WS": 77},
		Rows: 15, Malformed: 7, Ambiguous: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// secret stands in some of the bodies; no error may quote it.
const secret = "CANARYk3y"

const goodFact = `{"start":"2023-01-01","end":"2023-12-31","val":1000,"accn":"0000001234-24-000003","fy":2023,"fp":"FY","form":"10-K","filed":"2024-02-28"}`

// dossier is a document with facts as the list of revenues.
func dossier(facts string) string {
	return `{"cik":1234,"entityName":"X","facts":{"us-gaap":{"Revenues":{"label":null,"units":{"USD":[` + facts + `]}}}}}`
}

func TestBadFacts(t *testing.T) {
	t.Parallel()
	with := func(from, to string) string { return dossier(strings.Replace(goodFact, from, to, 1)) }
	doc := func(from, to string) string { return strings.Replace(dossier(goodFact), from, to, 1) }
	for name, tc := range map[string]struct {
		body string
		kind providers.Kind
		says string
	}{
		"empty":                   {"", providers.BadPayload, "ends in the middle"},
		"array":                   {"[]", providers.BadPayload, "no JSON object"},
		"page":                    {"<html>" + secret, providers.BadPayload, "no JSON object"},
		"mark":                    {"\uFEFF" + dossier(goodFact), providers.BadPayload, "no JSON object"},
		"no cik":                  {doc(`"cik":1234,`, ""), providers.BadPayload, "no cik or no facts"},
		"no facts":                {`{"cik":1234}`, providers.BadPayload, "no cik or no facts"},
		"empty facts":             {`{"cik":1234,"entityName":"","facts":{}}`, providers.NoData, "no figures"},
		"empty list":              {dossier(""), providers.NoData, "no figures"},
		"other issuer":            {doc("1234", "1235"), providers.BadPayload, "another issuer"},
		"other issuer, text":      {doc("1234", `"0000001235"`), providers.BadPayload, "another issuer"},
		"cik with letters":        {doc("1234", `"`+secret+`"`), providers.BadPayload, "1 to 10 digits"},
		"cik fraction":            {doc("1234", "1234.0"), providers.BadPayload, "1 to 10 digits"},
		"cik negative":            {doc("1234", "-1234"), providers.BadPayload, "1 to 10 digits"},
		"cik null":                {doc("1234", "null"), providers.BadPayload, "1 to 10 digits"},
		"cik long":                {doc("1234", `"00000001234"`), providers.BadPayload, "1 to 10 digits"},
		"cik twice":               {doc(`"cik":1234`, `"cik":1234,"cik":1234`), providers.BadPayload, "cik occurs twice"},
		"facts twice":             {doc(`"facts":`, `"facts":{},"facts":`), providers.BadPayload, "facts occurs twice"},
		"taxonomy twice":          {doc(`"us-gaap":`, `"us-gaap":{},"us-gaap":`), providers.BadPayload, "occurs twice"},
		"concept twice":           {doc(`"Revenues":`, `"Revenues":{"units":{}},"Revenues":`), providers.BadPayload, "occurs twice"},
		"units twice":             {doc(`"units":`, `"units":{},"units":`), providers.BadPayload, "Revenues: units occurs twice"},
		"unit twice":              {doc(`"USD":`, `"USD":[],"USD":`), providers.BadPayload, "occurs twice"},
		"unit without a name":     {doc(`"USD":`, `"":`), providers.BadPayload, "empty"},
		"unit with a zero byte":   {doc(`"USD":`, `"U\u0000D":`), providers.BadPayload, "control character"},
		"no units":                {doc(`"units"`, `"unity"`), providers.BadPayload, "Revenues: a concept without units"},
		"long unit":               {doc("USD", strings.Repeat("U", 300)), providers.BadPayload, "more than 256 bytes"},
		"concept array":           {doc(`{"label":null,"units":{"USD":[`+goodFact+`]}}`, "[]"), providers.BadPayload, "wrong shape"},
		"units array":             {doc(`{"USD":[`+goodFact+`]}`, "[]"), providers.BadPayload, "wrong shape"},
		"unit object":             {doc(`[`+goodFact+`]`, "{}"), providers.BadPayload, "wrong shape"},
		"fact array":              {dossier("[]"), providers.BadPayload, "wrong shape"},
		"fact null":               {dossier(goodFact + ",null"), providers.BadPayload, "wrong shape"},
		"empty fact":              {dossier("{}"), providers.BadPayload, "fact 1: end, val, accn, form or filed is missing"},
		"no end":                  {with(`"end":"2023-12-31",`, ""), providers.BadPayload, "is missing"},
		"no form":                 {with(`"form":"10-K",`, ""), providers.BadPayload, "is missing"},
		"no filed":                {with(`,"filed":"2024-02-28"`, ""), providers.BadPayload, "is missing"},
		"end twice":               {with(`"end"`, `"end":"2023-12-31","end"`), providers.BadPayload, "end: it occurs twice"},
		"escaped name":            {with(`"end"`, `"\u0065nd"`), providers.BadPayload, "a name with an escape"},
		"escaped date":            {with(`2023-12-31`, `2023-12-3\u0031`), providers.BadPayload, "a text with an escape"},
		"reversed":                {with(`2023-01-01`, `2024-01-01`), providers.BadPayload, "starts after its end"},
		"no such day":             {with(`2023-12-31`, `2023-11-31`), providers.BadPayload, "end: a date is not written"},
		"date with clock":         {with(`2024-02-28`, `2024-02-28T00:00:00Z`), providers.BadPayload, "filed: a date is not written"},
		"date of letters":         {with(`2023-01-01`, secret), providers.BadPayload, "start: a date is not written"},
		"date number":             {with(`"2023-12-31"`, `20231231`), providers.BadPayload, "end: want a text"},
		"value text":              {with(`1000`, `"1000"`), providers.BadPayload, "val: want a number"},
		"value null":              {with(`1000`, `null`), providers.BadPayload, "val: want a number"},
		"value true":              {with(`1000`, `true`), providers.BadPayload, "val: want a number"},
		"value object":            {with(`1000`, `{"val":1000}`), providers.BadPayload, "val: want a number"},
		"value NaN":               {with(`1000`, `NaN`), providers.BadPayload, "no JSON document"},
		"value Infinity":          {with(`1000`, `-Infinity`), providers.BadPayload, "no JSON document"},
		"value hex":               {with(`1000`, `0x10`), providers.BadPayload, "no JSON document"},
		"value underscore":        {with(`1000`, `1_000`), providers.BadPayload, "no JSON document"},
		"value plus":              {with(`1000`, `+1000`), providers.BadPayload, "no JSON document"},
		"value zeros":             {with(`1000`, `01000`), providers.BadPayload, "no JSON document"},
		"value too large":         {with(`1000`, `1e400`), providers.BadPayload, "too large"},
		"value too long":          {with(`1000`, strings.Repeat("1", 65)), providers.BadPayload, "more than 64"},
		"accession short":         {with(`0000001234-24-000003`, `1234-24-3`), providers.BadPayload, "accn: an accession number"},
		"accession long":          {with(`0000001234-24-000003`, `0000001234-24-0000031`), providers.BadPayload, "accn: an accession number"},
		"accession of digits":     {with(`0000001234-24-000003`, `00000012340240000003`), providers.BadPayload, "accn: an accession number"},
		"accession letters":       {with(`0000001234-24-000003`, `000000123A-24-000003`), providers.BadPayload, "accn: an accession number"},
		"form long":               {with(`10-K`, strings.Repeat("K", 21)), providers.BadPayload, "form: it cannot be"},
		"form empty":              {with(`10-K`, ``), providers.BadPayload, "form: it cannot be"},
		"form foreign":            {with(`10-K`, `10-Ж`), providers.BadPayload, "form: it cannot be"},
		"form null":               {with(`"10-K"`, `null`), providers.BadPayload, "form: want a text"},
		"cut":                     {dossier(goodFact)[:150], providers.BadPayload, "ends in the middle"},
		"cut at the end":          {strings.TrimSuffix(dossier(goodFact), "}"), providers.BadPayload, "ends in the middle"},
		"trailing":                {dossier(goodFact) + "{}", providers.BadPayload, "more after the end"},
		"trailing text":           {dossier(goodFact) + secret, providers.BadPayload, "more after the end"},
		"bad UTF-8":               {doc(`"X"`, "\"\xff\""), providers.BadPayload, "no JSON document"},
		"NUL":                     {doc(`"X"`, "\"\x00\""), providers.BadPayload, "no JSON document"},
		"endless text":            {`{"cik":1234,"entityName":"` + strings.Repeat("x", 1<<20), providers.BadPayload, "does not end"},
		"endless blanks":          {"{" + strings.Repeat(" ", 1<<20), providers.BadPayload, "does not end"},
		"endless fact":            {dossier(`{"start":[` + strings.Repeat("1,", 1<<19)), providers.BadPayload, "does not end"},
		"endless label":           {`{"cik":1234,"facts":{"us-gaap":{"Revenues":{"label":"` + strings.Repeat("x", 1<<20), providers.BadPayload, "does not end"},
		"too many forms":          {dossier(manyForms()), providers.BadPayload, "form: it cannot be"},
		"control characters":      {doc(`"Revenues":{"label":null,"units"`, `"Reve\nnues":{"label":null,"unity"`), providers.BadPayload, "control character"},
		"quote in a skipped text": {doc(`"label":null`, `"label":"a \"{[ b","description":"\\"`), 255, ""},
		"sound":                   {dossier(goodFact + "," + goodFact), 255, ""},
		"blanks":                  {strings.NewReplacer(":", " :\n", ",", " ,\t", "{", "{ ", "}", " }").Replace(dossier(goodFact)), 255, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, _, err := decodeFacts(1234, strings.NewReader(tc.body), all)
			if tc.kind == 255 {
				if err != nil || len(facts) != 1 || facts[0].Value != 1000 {
					t.Errorf("%v, %v; want one fact", facts, err)
				}
				return
			}
			wantKind(t, err, tc.kind, tc.says)
			if len(facts) != 0 {
				t.Errorf("%d facts came with the error", len(facts))
			}
		})
	}
}

func manyForms() string {
	var facts []string
	for i := range 1100 {
		facts = append(facts, strings.Replace(goodFact, "10-K", fmt.Sprintf("F-%d", i), 1))
	}
	return strings.Join(facts, ",")
}

func wantKind(t *testing.T, err error, kind providers.Kind, says string) {
	t.Helper()
	var known *providers.Error
	if !errors.As(err, &known) || known.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Fatalf("error %v, want kind %d and %q", err, kind, says)
	}
	if strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("the answer is quoted in %q", err)
	}
}

func TestTooManyFacts(t *testing.T) {
	t.Parallel()
	var body bytes.Buffer
	for i := range 1<<18 + 1 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"end":"2023-12-31","val":1,"accn":"%010d-24-000003","form":"K","filed":"2024-02-28"}`, i)
	}
	facts, _, err := decodeFacts(1234, strings.NewReader(dossier(body.String())), all)
	wantKind(t, err, providers.BadPayload, "more than 262144 facts")
	if len(facts) != 0 {
		t.Errorf("%d facts came with the error", len(facts))
	}
}

func TestBadTickers(t *testing.T) {
	t.Parallel()
	const row = `"0":{"cik_str":320193,"ticker":"AAPL","title":"X"}`
	for name, tc := range map[string]struct{ body, says string }{
		"empty object":     {"{}", "none of 0 rows"},
		"no good row":      {`{"0":{"cik_str":0,"ticker":"AAPL"},"1":null}`, "none of 2 rows"},
		"all disputed":     {`{` + row + `,"1":{"cik_str":1,"ticker":"AAPL"}}`, "none of 2 rows"},
		"cut":              {`{` + row, "ends in the middle"},
		"cut inside":       {`{` + row[:20], "ends in the middle"},
		"trailing":         {`{` + row + `}{`, "more after the end"},
		"no JSON":          {`{` + row + `;}`, "no JSON document"},
		"array":            {`[]`, "no JSON object"},
		"endless":          {`{"0":{"title":"` + strings.Repeat(secret, 1<<17), "does not end"},
		"far too many":     {`{"0":1` + strings.Repeat(`,"0":1`, 1<<17) + `}`, "more than 131072 rows"},
		"fields and data":  {`{"fields":["cik","name"],"data":[[320193,"X"]]}`, "none of 2 rows"},
		"spelled our way":  {`{"0":{"cik_str":1,"ticker":"BRK.B"}}`, "none of 1 rows"},
		"escaped ticker":   {`{"0":{"cik_str":1,"ticker":"AAP\u004c"}}`, "none of 1 rows"},
		"ticker is number": {`{"0":{"cik_str":1,"ticker":7}}`, "none of 1 rows"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answering(strings.NewReader(tc.body)).Tickers(t.Context(), edgar.Tickers{})
			wantKind(t, err, providers.BadPayload, tc.says)
			if diff := cmp.Diff(edgar.Tickers{}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestABrokenConnectionIsWorthAnotherTry(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset by peer")
	doc := dossier(goodFact)
	for _, n := range []int{0, 1, 10, len(doc) - 1, len(doc)} {
		facts, _, err := decodeFacts(1234, io.MultiReader(strings.NewReader(doc[:n]), failing{broken}), all)
		var known *providers.Error
		if !errors.As(err, &known) || known.Kind != providers.Transient || !errors.Is(err, broken) || len(facts) != 0 {
			t.Errorf("broken after %d bytes: %d facts, %v; want a transient error", n, len(facts), err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestNotModifiedWithoutTheTransport(t *testing.T) {
	t.Parallel()
	have := edgar.Tickers{CIK: map[market.Symbol]int{"AAPL": 320193}, ETag: `"x"`}
	hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.String() != "https://www.sec.gov/files/company_tickers.json" || r.Header.Get("If-None-Match") != `"x"` {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		return &http.Response{StatusCode: http.StatusNotModified, Body: http.NoBody}, nil
	})}
	got, err := edgar.New(hc, edgar.Options{}).Tickers(t.Context(), have)
	if diff := cmp.Diff(have, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestTheSECIsAsked(t *testing.T) {
	t.Parallel()
	hc := &http.Client{Transport: vendorFunc(func(r *http.Request) (*http.Response, error) {
		if want := "https://data.sec.gov/api/xbrl/companyfacts/CIK0000320193.json"; r.URL.String() != want || r.Header.Get("Accept") != "application/json" {
			t.Errorf("asked %s, want %s", r.URL, want)
		}
		return nil, errors.New("no network")
	})}
	_, err := edgar.New(hc, edgar.Options{}).Facts(t.Context(), 320193, all, nil)
	if err == nil || err.Error() != "edgar: facts of CIK 320193: no network" {
		t.Errorf("error %v", err)
	}
	_, err = edgar.New(hc, edgar.Options{DataBaseURL: "http://user:" + secret + "@\x00"}).Facts(t.Context(), 1, all, nil)
	wantKind(t, err, providers.Rejected, "base URL")
}

// TestRecordedPayloads reads real answers, when they are there.
func TestRecordedPayloads(t *testing.T) {
	t.Parallel()
	const folder = "../../../shared/payloads/edgar/"
	names, err := filepath.Glob(folder + "companyfacts-*.json")
	if err != nil || len(names) == 0 {
		t.Skipf("no recorded answers in %s", folder)
	}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var doc document
		if err := json.Unmarshal(body, &doc); err != nil {
			t.Fatal(err)
		}
		for kind, wanted := range map[string]func(string, string) bool{"needed": market.IsNeeded, "all": all} {
			facts, summary, err := decodeFacts(int(doc.cik(t)), bytes.NewReader(body), wanted)
			if err != nil {
				t.Fatalf("%s, %s: %v", filepath.Base(name), kind, err)
			}
			t.Logf("%s, %s: %+v, %d fourth quarters", filepath.Base(name), kind, summary, len(market.FourthQuarter(facts, market.NewDate(2100, 1, 1))))
			if kind == "needed" {
				perConcept := map[string]int{}
				for _, f := range facts {
					perConcept[f.Concept]++
				}
				t.Logf("facts per concept: %v", perConcept)
			}
			if n := doc.count(wanted); n == 0 || summary.Facts+summary.Repeats+summary.Conflicts != n || len(facts) != summary.Facts {
				t.Errorf("%s, %s: %+v, the standard library finds %d facts", filepath.Base(name), kind, summary, n)
			}
		}
	}
}

// document is what one decodes without a thought for memory.
type document struct {
	CIK   any `json:"cik"`
	Facts map[string]map[string]struct {
		Units map[string][]map[string]any `json:"units"`
	} `json:"facts"`
}

func (d document) cik(t testing.TB) float64 {
	t.Helper()
	switch cik := d.CIK.(type) {
	case float64:
		return cik
	case string:
		var n float64
		if _, err := fmt.Sscanf(cik, "%f", &n); err == nil {
			return n
		}
	}
	t.Fatalf("cik %v", d.CIK)
	return 0
}

func (d document) count(wanted func(string, string) bool) int {
	n := 0
	for taxonomy, concepts := range d.Facts {
		for name, concept := range concepts {
			if !wanted(taxonomy, name) {
				continue
			}
			for _, facts := range concept.Units {
				n += len(facts)
			}
		}
	}
	return n
}

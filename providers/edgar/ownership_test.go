package edgar_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const goodForm = `<?xml version="1.0"?>
<!-- made for tests -->
<ownershipDocument>
  <schemaVersion>X0508</schemaVersion>
  <documentType>4</documentType>
  <periodOfReport>2024-05-06-05:00</periodOfReport>
  <issuer><issuerCik>0000001234</issuerCik><issuerName>A &amp; B</issuerName><issuerTradingSymbol> NONE </issuerTradingSymbol></issuer>
  <reportingOwner>
    <reportingOwnerId><rptOwnerCik>77</rptOwnerCik><rptOwnerName>Doe  Jane</rptOwnerName></reportingOwnerId>
    <reportingOwnerRelationship><isOfficer>true</isOfficer><officerTitle>Chair</officerTitle></reportingOwnerRelationship>
  </reportingOwner>
  <aff10b5One>0</aff10b5One>
  <nonDerivativeTable>
    <nonDerivativeTransaction>
      <securityTitle><value>Common</value></securityTitle>
      <transactionDate><value>2024-05-06</value></transactionDate>
      <transactionCoding><transactionFormType>4</transactionFormType><transactionCode>S</transactionCode><equitySwapInvolved>0</equitySwapInvolved><footnoteId id="F1"/></transactionCoding>
      <transactionAmounts>
        <transactionShares><value>.5</value></transactionShares>
        <transactionPricePerShare><footnoteId id="F1"/><footnoteId id="F9"/></transactionPricePerShare>
        <transactionAcquiredDisposedCode><value>D</value></transactionAcquiredDisposedCode>
      </transactionAmounts>
      <postTransactionAmounts><sharesOwnedFollowingTransaction><value>100.</value></sharesOwnedFollowingTransaction></postTransactionAmounts>
      <ownershipNature><directOrIndirectOwnership><value>I</value></directOrIndirectOwnership></ownershipNature>
    </nonDerivativeTransaction>
  </nonDerivativeTable>
  <footnotes><footnote id="F1">Sold <b>under</b> a
     Rule 10b5-1 plan.</footnote></footnotes>
  <unheardOf><deep>1</deep></unheardOf>
</ownershipDocument>
`

func parseForm(doc string) (market.InsiderFiling, error) {
	return edgar.ParseOwnership(strings.NewReader(doc))
}

func TestParseOwnership(t *testing.T) {
	t.Parallel()
	got, err := parseForm(goodForm)
	if err != nil {
		t.Fatal(err)
	}
	const note = "Sold under a Rule 10b5-1 plan."
	want := market.InsiderFiling{
		Form: "4", Schema: "X0508", Period: market.NewDate(2024, 5, 6), IssuerCIK: 1234, IssuerName: "A & B", IssuerSymbol: "NONE",
		Owners: []market.InsiderOwner{{CIK: 77, Name: "Doe Jane", Officer: true, Title: "Chair"}}, Plan: market.AnswerNo, PlanMentioned: true,
		Footnotes: []market.InsiderNote{{ID: "F1", Text: note}},
		Lines: []market.InsiderLine{{
			Line: 1, SecurityTitle: "Common", Date: market.NewDate(2024, 5, 6), Code: "S", ReportedOn: "4", Swap: market.AnswerNo,
			AcquiredDisposed: "D", Shares: market.Amount{Value: 0.5, Known: true}, OwnedAfter: market.Amount{Value: 100, Known: true},
			Direct: market.AnswerNo, Flags: market.NoSuchNote,
			Notes: []market.InsiderNote{
				{ID: "F1", Of: "transactionCoding", Text: note},
				{ID: "F1", Of: "transactionPricePerShare", Text: note},
				{ID: "F9", Of: "transactionPricePerShare"},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is written in another way is read alike.
func TestParseOwnershipInOtherWords(t *testing.T) {
	t.Parallel()
	want, err := parseForm(goodForm)
	if err != nil {
		t.Fatal(err)
	}
	namespaced := strings.NewReplacer("</", "</o:", "<?", "<?", "<!", "<!", "<", "<o:").Replace(goodForm)
	for name, doc := range map[string]string{
		"byte order mark":   "\uFEFF" + goodForm,
		"CR LF":             strings.ReplaceAll(goodForm, "\n", "\r\n"),
		"default namespace": strings.Replace(goodForm, "<ownershipDocument>", `<ownershipDocument xmlns="http://example.com/x">`, 1),
		"prefix":            strings.Replace(namespaced, "<o:ownershipDocument>", `<o:ownershipDocument xmlns:o='x'>`, 1),
		"no declaration":    strings.TrimPrefix(goodForm, `<?xml version="1.0"?>`+"\n"),
		"declared UTF-8":    strings.Replace(goodForm, "?>", ` encoding='utf-8' standalone="yes"?>`, 1),
		"declared ASCII":    strings.Replace(goodForm, "?>", ` encoding="US-ASCII" ?>`, 1),
		"CDATA":             strings.Replace(goodForm, "A &amp; B", "<![CDATA[A &]]> <![CDATA[B]]>", 1),
		"references":        strings.Replace(goodForm, "Doe  Jane", "&#68;o&#x65; &#74;ane", 1),
		"comment in a text": strings.Replace(goodForm, "Doe  Jane", "Doe <!-- or so -->Jane", 1),
		"instruction":       strings.Replace(goodForm, "<issuer>", "<?print now?><issuer>", 1),
		"other booleans":    strings.Replace(strings.Replace(goodForm, "<isOfficer>true", "<isOfficer>1", 1), "<aff10b5One>0", "<aff10b5One> false ", 1),
		"more elements":     strings.Replace(goodForm, "<isOfficer>", "<isNew>1</isNew><isOther/><isOfficer>", 1),
		"value and unknown": strings.Replace(goodForm, "<value>.5</value>", "<hint>x</hint><value>0.500</value>", 1),
	} {
		if got, err := parseForm(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPlanIsUnknownUnlessItIsSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]market.Answer{
		"<aff10b5One>0</aff10b5One>": market.AnswerNo, "<aff10b5One>true</aff10b5One>": market.AnswerYes, "": market.AnswerUnknown,
		"<aff10b5One/>": market.AnswerUnknown, "<aff10b5One><value>1</value></aff10b5One>": market.AnswerYes,
	} {
		f, err := parseForm(strings.Replace(goodForm, "<aff10b5One>0</aff10b5One>", text, 1))
		if err != nil || f.Plan != want {
			t.Errorf("%s: %s, want %s: %v", text, f.Plan, want, err)
		}
	}
	for text, want := range map[string]bool{
		"rule 10B5-1": true, "10b5\u20111": true, "10b-5-1": true, "10b5–1(c)": true, "10b5 1": true, "Rule 10b5": false, "16b-3": false, "110b5-": false,
	} {
		doc := strings.Replace(goodForm, "10b5-1", "16b", 1)
		f, err := parseForm(strings.Replace(doc, "<unheardOf>", "<remarks>As of <i>"+text+"</i>.</remarks><unheardOf>", 1))
		if err != nil || f.PlanMentioned != want || f.Remarks != "As of "+text+"." {
			t.Errorf("%q: %v in %q, want %v: %v", text, f.PlanMentioned, f.Remarks, want, err)
		}
	}
}

func TestBadForms(t *testing.T) {
	t.Parallel()
	with := func(from, to string) string {
		if !strings.Contains(goodForm, from) {
			t.Fatalf("no %q in the form", from)
		}
		return strings.Replace(goodForm, from, to, 1)
	}
	const shares = "<transactionShares><value>.5</value></transactionShares>"
	for name, tc := range map[string]struct{ doc, says string }{
		"empty":                  {"", "ends in the middle"},
		"cut":                    {goodForm[:len(goodForm)/2], "ends in the middle"},
		"cut before the end":     {strings.TrimRight(goodForm, "\n>"), "ends in the middle"},
		"page":                   {"<html></html>", "no ownershipDocument"},
		"text":                   {secret, "text outside"},
		"trailing":               {goodForm + secret, "text outside"},
		"second root":            {goodForm + "<x/>", "second root"},
		"document type":          {with("<!--", "<!DOCTYPE ownershipDocument><!--"), "document type"},
		"entity":                 {with("A &amp; B", "&"+secret+";"), "a reference to what is not known"},
		"ampersand":              {with("&amp;", "& "+secret), "an ampersand that is no reference"},
		"no type":                {with("<documentType>4</documentType>", ""), "documentType is missing"},
		"other type":             {with("<documentType>4<", "<documentType>8-K<"), "documentType: want 3, 4 or 5"},
		"two types":              {with("<documentType>", "<documentType>4</documentType><documentType>"), "documentType: it occurs twice"},
		"no period":              {with("2024-05-06-05:00", ""), "periodOfReport is missing"},
		"bad period":             {with("2024-05-06-05:00", "2024-05-06 05:00"), "periodOfReport: a date is not written"},
		"bad zone":               {with("2024-05-06-05:00", "2024-05-06-5:000"), "periodOfReport: a date is not written"},
		"no issuer":              {with("0000001234", ""), "issuerCik: an issuer's number is missing"},
		"no such issuer":         {with("issuerCik>0000001234</issuerCik", "x>1</x"), "issuerCik is missing"},
		"bad issuer":             {with("0000001234", secret), "issuerCik: an issuer's number is not"},
		"long issuer":            {with("0000001234", "00000001234"), "issuerCik"},
		"no owner":               {with("<rptOwnerCik>77</rptOwnerCik>", ""), "owner 1: rptOwnerCik is missing"},
		"two in an owner":        {with("<rptOwnerCik>", "<rptOwnerCik>78</rptOwnerCik><rptOwnerCik>"), "owner 1: rptOwnerCik: it occurs twice"},
		"bad flag":               {with("<isOfficer>true", "<isOfficer>"+secret), "owner 1: isOfficer: want 0, 1, false or true"},
		"bad answer":             {with("<aff10b5One>0", "<aff10b5One>2"), "aff10b5One: want 0, 1, false or true"},
		"shares with a comma":    {with(".5", "1,000"), "line 1: transactionShares: a figure is not written"},
		"shares below zero":      {with(".5", "-5"), "line 1: transactionShares"},
		"shares with exponent":   {with(".5", "1e3"), "line 1: transactionShares"},
		"shares as a word":       {with(".5", secret), "line 1: transactionShares"},
		"shares as a point":      {with(".5", "."), "line 1: transactionShares"},
		"two shares":             {with(shares, shares+shares), "line 1: transactionShares: it occurs twice"},
		"two values":             {with("<value>.5</value>", "<value>.5</value><value>.5</value>"), "a leaf with two values"},
		"value and text":         {with("<value>.5</value>", "7<value>.5</value>"), "text beside its elements"},
		"text and unknown":       {with("<value>.5</value>", "7<b>5</b>"), "text beside its elements"},
		"markup in a value":      {with("<value>.5</value>", "<value>7<b>5</b></value>"), "an element within a value"},
		"bad day":                {with("<value>2024-05-06<", "<value>05/06/2024<"), "line 1: transactionDate: a date is not written"},
		"bad code":               {with("<transactionCode>S", "<transactionCode>s"), "line 1: transactionCode: want one of the letters"},
		"two codes":              {with("<transactionCode>S", "<transactionCode>SP"), "line 1: transactionCode: want one of the letters"},
		"bad direction":          {with("<value>D<", "<value>B<"), "line 1: transactionAcquiredDisposedCode"},
		"bad ownership":          {with("<value>I<", "<value>B<"), "line 1: directOrIndirectOwnership"},
		"nameless reference":     {with(`<footnoteId id="F9"/>`, "<footnoteId/>"), "a reference to a footnote without its name"},
		"nameless footnote":      {with(`<footnote id="F1">`, "<footnote>"), "a footnote without a name"},
		"two footnotes":          {with("<footnotes>", `<footnotes><footnote id="F1"/>`), "two footnotes of one name"},
		"text in a table":        {with("<nonDerivativeTable>", "<nonDerivativeTable>"+secret), "text where only elements belong"},
		"too long":               {with("Doe", strings.Repeat("D", 8<<20)), "more than 8388608 bytes"},
		"too deep":               {with("<deep>1</deep>", strings.Repeat("<d>", 70)+strings.Repeat("</d>", 70)), "nested too deep"},
		"another encoding":       {strings.Replace(goodForm, "?>", ` encoding="utf-16"?>`, 1), "an encoding other than"},
		"no ASCII as it says":    {strings.Replace(strings.Replace(goodForm, "?>", ` encoding="ascii"?>`, 1), "Doe", "D\xf6e", 1), "not in ASCII"},
		"no UTF-8":               {with("Doe", "D\xf6e"), "not in UTF-8"},
		"end of CDATA":           {with("Doe", "D]]>e"), "a CDATA section without its beginning"},
		"control character":      {with("Doe", "D\x00e"), "control character"},
		"reference to a control": {with("Doe", "D&#0;e"), "a reference to what is not known"},
	} {
		f, err := parseForm(tc.doc)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v, want %q and no part of the form", name, err, tc.says)
		}
		if diff := cmp.Diff(market.InsiderFiling{}, f); diff != "" {
			t.Errorf("%s: a part of it came with the error: %s", name, diff)
		}
	}
	if _, err := edgar.ParseOwnership(failing{io.ErrClosedPipe}); err != io.ErrClosedPipe { //nolint:errorlint // as it is
		t.Errorf("error %v, want the reader's own", err)
	}
}

func TestLatin1(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(strings.Replace(goodForm, "?>", ` encoding="ISO-8859-1"?>`, 1), "Doe  Jane", "D\xf6e Jos\xe9", 1)
	if f, err := parseForm(doc); err != nil || f.Owners[0].Name != "D\u00f6e Jos\u00e9" {
		t.Errorf("%+v, %v", f.Owners, err)
	}
}

// standardTokens is what encoding/xml makes of a document, in the manner of
// [edgar.XMLTokens].
func standardTokens(doc []byte) ([]string, error) {
	d := xml.NewDecoder(bytes.NewReader(doc))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		raw, err := io.ReadAll(in)
		if err != nil || strings.HasPrefix(strings.ToLower(charset), "us-") || strings.EqualFold(charset, "ascii") {
			return bytes.NewReader(raw), err
		}
		runes := make([]rune, len(raw))
		for i, c := range raw {
			runes[i] = rune(c)
		}
		return strings.NewReader(string(runes)), nil
	}
	var tokens []string
	for depth := 0; ; {
		token, err := d.Token()
		if err == io.EOF {
			return tokens, nil
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			tokens = append(tokens, "<"+token.Name.Local)
			for _, a := range token.Attr {
				tokens = append(tokens, "@"+a.Name.Local+"="+a.Value)
			}
		case xml.EndElement:
			depth--
			tokens = append(tokens, ">")
		case xml.CharData:
			if depth > 0 {
				tokens = append(tokens, "'"+string(token))
			}
		}
	}
}

// plainTokens makes tokens comparable: texts in one, one kind of line end, no
// prefixes.
func plainTokens(tokens []string) []string {
	var out []string
	for _, s := range tokens {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
		switch last := len(out) - 1; {
		case s[0] == '@':
			name, value, _ := strings.Cut(s[1:], "=")
			out = append(out, "@"+name[strings.LastIndexByte(name, ':')+1:]+"="+value)
		case s[0] == '\'' && last >= 0 && out[last][0] == '\'':
			out[last] += s[1:]
		case s != "'":
			out = append(out, s)
		}
	}
	return out
}

func compareXML(t interface{ Fatalf(string, ...any) }, doc []byte) bool {
	got, err := edgar.XMLTokens(doc)
	if err != nil {
		return false
	}
	want, err := standardTokens(doc)
	if err != nil {
		t.Fatalf("accepted what encoding/xml refuses: %v in %q", err, doc)
	}
	if got, want := plainTokens(got), plainTokens(want); !slices.Equal(got, want) {
		t.Fatalf("tokens %q, encoding/xml finds %q in %q", got, want, doc)
	}
	return true
}

// The scanner accepts nothing that encoding/xml refuses, and finds in what it
// accepts what that finds.
func TestXMLIsReadAsEncodingXMLReadsIt(t *testing.T) {
	t.Parallel()
	text := rapid.SampledFrom([]string{
		"a", "x y", " ", "\n", "&amp;", "&#65;", "&#x1F600;", "<!-- c -->", "<![CDATA[<&]]>", "<?p i?>", "é", "\r\n", "]", "&lt;b&gt;", "'\"",
	})
	name := rapid.SampledFrom([]string{"a", "b:c", "d-1", "_e", "f.g"})
	var element func(depth int) *rapid.Generator[string]
	element = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			n := name.Draw(t, "name")
			open := n + rapid.SampledFrom([]string{"", " ", ` id="F1"`, ` id='&lt;"' b = "2"`, "\n x:y=''"}).Draw(t, "attributes")
			if rapid.Bool().Draw(t, "empty") {
				return "<" + open + "/>"
			}
			var inside strings.Builder
			for range rapid.IntRange(0, 3).Draw(t, "children") {
				if depth > 0 && rapid.Bool().Draw(t, "nested") {
					inside.WriteString(element(depth-1).Draw(t, "child"))
				} else {
					inside.WriteString(text.Draw(t, "text"))
				}
			}
			return "<" + open + ">" + inside.String() + "</" + n + rapid.SampledFrom([]string{"", " "}).Draw(t, "blank") + ">"
		})
	}
	head := rapid.SampledFrom([]string{"", "\uFEFF", `<?xml version="1.0"?>`, `<?xml version='1.0' encoding="UTF-8"?>` + "\n", "<!--x-->", "\n"})
	rapid.Check(t, func(t *rapid.T) {
		doc := []byte(head.Draw(t, "head") + element(3).Draw(t, "root") + rapid.SampledFrom([]string{"", "\n", "<!-- end -->"}).Draw(t, "tail"))
		if !compareXML(t, doc) {
			t.Fatalf("refused %q", doc)
		}
		// One byte less, more or other: whatever it is then, both agree.
		at := rapid.IntRange(0, len(doc)-1).Draw(t, "at")
		switch c := rapid.SampledFrom([]byte("<>&;/!?=\"' a-]\x00\xff")).Draw(t, "byte"); rapid.IntRange(0, 2).Draw(t, "edit") {
		case 0:
			doc = slices.Delete(doc, at, at+1)
		case 1:
			doc = slices.Insert(doc, at, c)
		default:
			doc[at] = c
		}
		compareXML(t, doc)
	})
}

func FuzzOwnership(f *testing.F) {
	f.Add([]byte(goodForm))
	f.Add([]byte(strings.Replace(goodForm, "?>", ` encoding="ISO-8859-1"?>`, 1)))
	f.Add([]byte("<a><![CDATA[x]]>&#x41;<b/></a>"))
	f.Add([]byte("<!DOCTYPE x><a/>"))
	for k, form := range simulator.Forms(forms(), yesterday()) {
		if k < 20 {
			f.Add([]byte(formXML(f, form.Accession)))
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		compareXML(t, doc)
		form, err := edgar.ParseOwnership(bytes.NewReader(doc))
		if err != nil {
			if diff := cmp.Diff(market.InsiderFiling{}, form); diff != "" {
				t.Fatalf("a part of it came with %v: %s", err, diff)
			}
			return
		}
		if !market.IsInsiderForm(form.Form) || form.Period == 0 || form.IssuerCIK <= 0 || len(form.Owners) == 0 {
			t.Fatalf("%+v", form)
		}
		for i, l := range form.Lines {
			for _, a := range []market.Amount{l.Shares, l.TotalValue, l.Price, l.OwnedAfter, l.ValueAfter, l.ConversionPrice, l.UnderlyingShares, l.UnderlyingValue} {
				if a.Value < 0 || math.IsNaN(a.Value) || math.IsInf(a.Value, 0) || !a.Known && a.Value != 0 {
					t.Fatalf("%+v", l)
				}
			}
			if l.Line != i+1 {
				t.Fatalf("line %d at %d", l.Line, i+1)
			}
		}
	})
}

// formXML is the form within a filing of the simulator.
func formXML(t testing.TB, accession string) string {
	t.Helper()
	f, ok := simulator.Form(forms(), accession)
	if !ok {
		t.Fatalf("no filing %s", accession)
	}
	s := simulator.New(simulator.Config{Now: now, EDGAR: forms()})
	text := serve(t, s, fmt.Sprintf("/Archives/edgar/data/%d/%s.txt", f.IssuerCIK, accession))
	_, rest, _ := strings.Cut(text, "<XML>\n")
	form, _, ok := strings.Cut(rest, "</XML>")
	if !ok {
		t.Fatalf("no XML in %s", accession)
	}
	return form
}

// FuzzIndex looks for an index that is accepted although its rows are none.
func FuzzIndex(f *testing.F) {
	const head = "Description: x\nCIK|Company Name|Form Type|Date Filed|File Name\n-----\n"
	const row = "1234|A|B|4|20260312|edgar/data/1234/0000001234-26-000001.txt\n"
	for _, seed := range []string{
		"", head, head + row, head + row + row, head + row[:50], head + "1|x|4|2026-03-12|edgar/data/1/0000001234-26-000001.txt",
		"Form Type   Company\n---\n4           A B      1234   20260312    edgar/data/1234/0000001234-26-000001.txt   \n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		var last string
		summary, err := answering(bytes.NewReader(body)).DailyIndex(t.Context(), yesterday(), func(form string, _ int) bool { return form != "8-K" },
			func(r edgar.IndexRow) error {
				if n++; len(r.Accession) != 20 || r.Accession <= last || r.Filed == 0 || len(r.Filers) == 0 || !slices.IsSorted(r.Filers) || r.Filers[0] <= 0 {
					t.Fatalf("%+v after %s", r, last)
				}
				last = r.Accession
				return nil
			})
		if err != nil && n > 0 || err == nil && (summary.Filings != n || summary.Wanted < n || summary.Rows < summary.Wanted+summary.Odd ||
			summary.Days > n || (summary.Days == 0) != (n == 0) || (summary.Odd == 0) != (summary.OddReason == "")) {
			t.Fatalf("%d filings, %+v, %v", n, summary, err)
		}
	})
}

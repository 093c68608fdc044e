package edgar_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// yesterday's index is there at now, today's is not.
func yesterday() market.Date { return today() - 1 }

func forms() simulator.EDGARConfig {
	return simulator.EDGARConfig{Symbols: listed(), Forms: 40, Foreign: 300}
}

// insiders wants the reports of insiders under the numbers of issuers.
func insiders(of []market.Symbol) func(form string, cik int) bool {
	universe := map[int]bool{}
	for _, s := range of {
		universe[simulator.CIK(s)] = true
	}
	return func(form string, cik int) bool { return market.IsInsiderForm(form) && universe[cik] }
}

// index returns the rows of a daily index.
func (b *rig) index(ctx context.Context, day market.Date) ([]edgar.IndexRow, edgar.IndexSummary, error) {
	var rows []edgar.IndexRow
	summary, err := b.client.DailyIndex(ctx, day, insiders(listed()), func(r edgar.IndexRow) error {
		rows = append(rows, r)
		return nil
	})
	return rows, summary, err
}

// rowsOf is what the index of a day should give.
func rowsOf(c simulator.EDGARConfig, days ...market.Date) []edgar.IndexRow {
	wanted := insiders(c.Symbols)
	var rows []edgar.IndexRow
	for _, day := range days {
		for _, f := range simulator.Forms(c, day) {
			r := edgar.IndexRow{Accession: f.Accession, Form: f.Form, Filed: day, Filers: []int{f.IssuerCIK}}
			for _, o := range f.Owners {
				if wanted("4", o.CIK) {
					r.Filers = append(r.Filers, o.CIK)
				}
			}
			slices.Sort(r.Filers)
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b edgar.IndexRow) int { return strings.Compare(a.Accession, b.Accession) })
	return rows
}

// Each filing of two weeks is fetched once, from the index of its day, and is
// what the simulator has.
func TestFormsAreTheSimulators(t *testing.T) {
	t.Parallel()
	c := forms()
	b := newRig(t, simulator.Config{EDGAR: c}, patient)
	calls, owned := 0, 0
	for day := yesterday() - 13; day <= yesterday(); day++ {
		if !market.TakesFilings(day) {
			continue
		}
		rows, summary, err := b.index(t.Context(), day)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rowsOf(c, day), rows); diff != "" {
			t.Fatal(diff)
		}
		if summary.Filings != c.Forms || summary.Rows <= c.Foreign+c.Forms || summary.Wanted < c.Forms {
			t.Errorf("%v: %+v", day, summary)
		}
		calls++
		for _, row := range rows {
			f, err := b.client.Filing(t.Context(), row)
			if err != nil {
				t.Fatalf("%+v: %v", row, err)
			}
			want, _ := simulator.Form(c, row.Accession)
			if diff := cmp.Diff(want, f); diff != "" {
				t.Fatal(diff)
			}
			if row.Filers[0] != f.IssuerCIK {
				owned++
			}
			calls++
		}
	}
	if got := len(b.sim.EDGARCalls()); got != calls || calls != 10+10*c.Forms || owned == 0 {
		t.Errorf("%d calls, want %d: one a business day and one a filing; %d under an owner", got, calls, owned)
	}
}

// The quarterly index holds all days, in one call and with other dates.
func TestQuarterlyIndex(t *testing.T) {
	t.Parallel()
	c := forms()
	b := newRig(t, simulator.Config{EDGAR: c}, patient)
	var days []market.Date
	for day := market.NewDate(2026, 1, 1); day <= yesterday(); day++ {
		days = append(days, day)
	}
	var rows []edgar.IndexRow
	summary, err := b.client.QuarterlyIndex(t.Context(), 2026, 1, insiders(listed()), func(r edgar.IndexRow) error {
		rows = append(rows, r)
		return nil
	})
	open := 0
	for _, day := range days {
		if market.TakesFilings(day) {
			open++
		}
	}
	if summary.Days != open || summary.Filings != len(rows) || summary.Odd != 0 {
		t.Errorf("%+v, want %d days and %d filings", summary, open, len(rows))
	}
	if diff := cmp.Diff(rowsOf(c, days...), rows); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	for _, quarter := range []int{0, 5} {
		_, err := b.client.QuarterlyIndex(t.Context(), 2026, quarter, insiders(listed()), nil)
		wantKind(t, err, providers.BadPayload, "quarters 1 to 4")
	}
	_, err = b.client.QuarterlyIndex(t.Context(), 2026, 2, insiders(listed()), nil)
	wantKind(t, err, providers.NoData, "")
	if got := len(b.sim.EDGARCalls()); got != 2 {
		t.Errorf("%d calls, want 2", got)
	}
}

func TestAnAbsentIndexIsNoBlock(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{EDGAR: forms()}, patient)
	for _, day := range []market.Date{today(), yesterday() - 4, market.NewDate(2026, 1, 19), today() + 30} {
		_, _, err := b.index(t.Context(), day)
		wantKind(t, err, providers.NoData, "")
		if want := "edgar: daily index " + day.String() + ": "; !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	for fault, want := range map[simulator.Fault]providers.Kind{
		simulator.AccessDenied: providers.NoData, simulator.NoSuchKey: providers.NoData, simulator.NotFoundPage: providers.BadPayload,
		simulator.RateThreshold: providers.RateLimited, simulator.Forbidden: providers.Rejected, simulator.UndeclaredTool: providers.Rejected,
	} {
		b := newRig(t, simulator.Config{EDGAR: forms()}, patient)
		b.sim.FaultIndex(yesterday(), fault, -1)
		_, _, err := b.index(t.Context(), yesterday())
		wantKind(t, err, want, "")
	}
}

// ofText are the faults that indexes and filings share.
func ofText() map[simulator.Fault]expectation {
	shared := map[simulator.Fault]expectation{}
	for _, f := range []simulator.Fault{
		simulator.RateThreshold, simulator.RateThreshold200, simulator.UndeclaredTool, simulator.UndeclaredTool200, simulator.TooManyRequests,
		simulator.Maintenance, simulator.Forbidden, simulator.NoSuchKey, simulator.NotFoundPage, simulator.HTML, simulator.EmptyBody,
		simulator.EmptyObject, simulator.TruncatedLength, simulator.TruncatedClose, simulator.TruncatedGzip, simulator.Reset,
		simulator.SlowHeaders, simulator.GzipBomb, simulator.RedirectElsewhere, simulator.RedirectLoop,
	} {
		shared[f] = expected()[f]
	}
	shared[simulator.AccessDenied] = expectation{"no_data", 1}
	return shared
}

func sound(faults ...simulator.Fault) map[simulator.Fault]expectation {
	all := ofText()
	for _, f := range faults {
		all[f] = expectation{good, 1}
	}
	return all
}

func refused(in map[simulator.Fault]expectation, faults ...simulator.Fault) map[simulator.Fault]expectation {
	for _, f := range faults {
		in[f] = expectation{"bad_payload", 1}
	}
	return in
}

func TestEveryFaultOfAnIndexHasItsClass(t *testing.T) {
	t.Parallel()
	want := refused(sound(simulator.HeaderOnly, simulator.LongDates, simulator.ListedTwice, simulator.LineEnds, simulator.FormLayout, simulator.BadRow, simulator.OddRows),
		simulator.BadPath, simulator.OtherDay, simulator.CutIndex, simulator.TornFiling, simulator.NotAnIndex)
	for _, name := range simulator.IndexFaults() {
		fault := simulator.Fault(name)
		want, ok := want[fault]
		if !ok {
			t.Errorf("nothing is said about the fault %s", fault)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := patient
			if fault == simulator.SlowHeaders {
				timeout = hasty
			}
			b := newRig(t, simulator.Config{EDGAR: forms()}, timeout)
			b.sim.FaultIndex(yesterday(), fault, -1)
			rows, summary, err := b.index(t.Context(), yesterday())
			b.judge(t, want, err)
			if err != nil && (rows != nil || summary != (edgar.IndexSummary{})) {
				t.Errorf("%d rows and %+v with the error", len(rows), summary)
			}
			right := rowsOf(forms(), yesterday())
			if fault == simulator.HeaderOnly {
				right = nil
			}
			if diff := cmp.Diff(right, rows); want.outcome == good && diff != "" {
				t.Error(diff)
			}
			if odd := fault == simulator.BadRow; odd != (summary.Odd == 1) || odd != (summary.OddReason != "") {
				t.Errorf("%+v", summary) // the others are not wanted, or there is an error
			}
		})
	}
}

// Odd rows of one issuer cost nobody else's.
func TestOddRowsAreLeftOut(t *testing.T) {
	t.Parallel()
	load := func(fault simulator.Fault) (rows []edgar.IndexRow, _ edgar.IndexSummary) {
		b := newRig(t, simulator.Config{EDGAR: forms()}, patient)
		b.sim.FaultIndex(yesterday(), fault, -1)
		summary, err := b.client.DailyIndex(t.Context(), yesterday(), func(form string, _ int) bool { return market.IsInsiderForm(form) }, func(r edgar.IndexRow) error {
			rows = append(rows, r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows, summary
	}
	right, want := load("")
	rows, summary := load(simulator.OddRows)
	want.Rows, want.Odd = want.Rows+4, 4
	want.OddReason = fmt.Sprintf("row %d: a file name is not written as edgar/data/1806014/0001140361-20-006155.txt", want.Rows-3)
	if diff := cmp.Diff(want, summary) + cmp.Diff(right, rows); diff != "" || len(rows) < 100 || want.Days != 1 {
		t.Errorf("%d rows: %s", len(rows), diff)
	}
}

// judge compares the outcome of one question, and the calls for it.
func (b *rig) judge(t *testing.T, want expectation, err error) {
	t.Helper()
	calls := len(b.sim.EDGARCalls())
	if calls != b.budget.granted || want.calls != 0 && calls != want.calls || b.elsewhere.Load() != 0 {
		t.Errorf("%d calls, %d permissions, want %d; %d elsewhere", calls, b.budget.granted, want.calls, b.elsewhere.Load())
	}
	switch {
	case want.outcome == good && err != nil:
		t.Error(err)
	case want.outcome != good && outcome(err) != want.outcome:
		t.Errorf("outcome = %q, want %q: %v", outcome(err), want.outcome, err)
	}
}

func TestEveryFaultOfAFilingHasItsClass(t *testing.T) {
	t.Parallel()
	want := refused(sound(simulator.Namespaced, simulator.ZonedDates, simulator.Latin1, simulator.Scanned, simulator.NoHoldings),
		simulator.OnlyRendering, simulator.MalformedXML, simulator.DocumentType, simulator.TwoForms, simulator.NoOwner, simulator.NoHeader,
		simulator.OtherFiling, simulator.OtherForm, simulator.OtherIssuer, simulator.CutFiling, simulator.TooLong,
		simulator.BadNumber, simulator.BadDate, simulator.NaN)
	row := rowsOf(forms(), yesterday())[0]
	if row.Form != "4" {
		t.Fatalf("%+v: want a Form 4", row)
	}
	for _, name := range simulator.FilingFaults() {
		fault := simulator.Fault(name)
		want, ok := want[fault]
		if !ok {
			t.Errorf("nothing is said about the fault %s", fault)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := patient
			if fault == simulator.SlowHeaders {
				timeout = hasty
			}
			b := newRig(t, simulator.Config{EDGAR: forms()}, timeout)
			b.sim.FaultFiling(row.Accession, fault, -1)
			f, err := b.client.Filing(t.Context(), row)
			b.judge(t, want, err)
			right, _ := simulator.Form(forms(), row.Accession)
			switch {
			case err != nil:
				right = market.InsiderFiling{}
				if !strings.HasPrefix(err.Error(), "edgar: filing "+row.Accession+": ") {
					t.Errorf("error %q does not say what was asked", err)
				}
			case fault == simulator.NoHoldings:
				right.Lines = nil
			}
			if diff := cmp.Diff(right, f); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An owner can be an issuer that is wanted; what it owns is another's.
func TestAnOwnerIsNoIssuer(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{EDGAR: forms()}, patient)
	row := rowsOf(forms(), yesterday())[0]
	f, _ := simulator.Form(forms(), row.Accession)
	row.Filers = []int{f.Owners[0].CIK}
	_, err := b.client.Filing(t.Context(), row)
	wantKind(t, err, providers.NoData, fmt.Sprintf("CIK %d reports here as an owner of CIK %d", f.Owners[0].CIK, f.IssuerCIK))
	for _, bad := range []edgar.IndexRow{{}, {Accession: row.Accession}, {Accession: "0000320193-24-00012\n", Filers: row.Filers}, {Accession: "../../x", Filers: row.Filers}} {
		_, err := b.client.Filing(t.Context(), bad)
		wantKind(t, err, providers.BadPayload, "no row of an index")
	}
	row.Filed--
	_, err = b.client.Filing(t.Context(), row)
	wantKind(t, err, providers.BadPayload, "another day than the index says")
}

// goodText is the text of a filing around a form.
const goodText = "-----BEGIN PRIVACY-ENHANCED MESSAGE-----\n<SEC-DOCUMENT>0000001234-24-000001.txt : 20240507\n" +
	"<SEC-HEADER>0000001234-24-000001.hdr.sgml : 20240507\n<ACCEPTANCE-DATETIME>20240507181030\n" +
	"ACCESSION NUMBER:\t\t0000001234-24-000001\nCONFORMED SUBMISSION TYPE:\t4\nFILED AS OF DATE:\t\t20240507\n" +
	"ISSUER:\n\tCENTRAL INDEX KEY:\t\t\t0000009999\nISSUER:\n\tCENTRAL INDEX KEY:\t\t\t0000001234\n</SEC-HEADER>\n" +
	"<DOCUMENT>\n<TYPE>4\n<TEXT>\n<XML>\n" + goodForm + "</XML>\n</TEXT>\n</DOCUMENT>\n" +
	"<DOCUMENT>\n<TYPE>EX-99\n<TEXT>\n<TYPE>4\n<XML>\n<x/>\n</XML>\n</TEXT>\n</DOCUMENT>\n" +
	"</SEC-DOCUMENT>\n-----END PRIVACY-ENHANCED MESSAGE-----\n"

func goodRow() edgar.IndexRow {
	return edgar.IndexRow{Accession: "0000001234-24-000001", Form: "4", Filed: market.NewDate(2024, 5, 7), Filers: []int{77, 1234}}
}

func TestFilingText(t *testing.T) {
	t.Parallel()
	want, err := parseForm(goodForm)
	if err != nil {
		t.Fatal(err)
	}
	want.Accession, want.Filed, want.Accepted = "0000001234-24-000001", market.NewDate(2024, 5, 7), time.Date(2024, 5, 7, 22, 10, 30, 0, time.UTC)
	for name, text := range map[string]string{
		"as it is":       goodText,
		"CR LF":          strings.ReplaceAll(goodText, "\n", "\r\n"),
		"no last end":    strings.Split(goodText, "\n-----END")[0],
		"on one line":    strings.Replace(goodText, goodForm, strings.ReplaceAll(strings.TrimSpace(goodForm), "\n", " ")+strings.Repeat(" ", 200_000)+"\n", 1),
		"a mark within":  strings.Replace(goodText, "<!-- made for tests -->", "<!--"+strings.Repeat("x", 64<<10-4)+"</XML>\n-->", 1),
		"a long exhibit": strings.Replace(goodText, "<x/>", strings.Repeat("x", 300_000)+"\n</SEC-DOCUMENT >", 1),
	} {
		got, err := answering(strings.NewReader(text)).Filing(t.Context(), goodRow())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestBadFilingTexts(t *testing.T) {
	t.Parallel()
	with := func(from, to string) string {
		if !strings.Contains(goodText, from) {
			t.Fatalf("no %q in the text", from)
		}
		return strings.Replace(goodText, from, to, 1)
	}
	for name, tc := range map[string]struct{ text, says string }{
		"empty":                   {"", "ends in the middle"},
		"no document":             {goodText[:strings.Index(goodText, "<DOCUMENT>")], "ends in the middle"},
		"no document at all":      {strings.Repeat(secret+"\n", 200_000), "it has no document"},
		"cut in the form":         {goodText[:strings.Index(goodText, "<issuer>")], "ends in the middle"},
		"cut after the form":      {goodText[:strings.Index(goodText, "<TYPE>EX-99")], "ends in the middle"},
		"end before the document": {with("<DOCUMENT>", "</SEC-DOCUMENT>\n<DOCUMENT>"), "ends in the middle"},
		"no number":               {with("ACCESSION NUMBER:", "NUMBER:"), "lacks its number"},
		"two numbers":             {with("ISSUER:", "ACCESSION NUMBER: 1\nISSUER:"), "two numbers or two types"},
		"no type":                 {with("CONFORMED SUBMISSION TYPE", "TYPE"), "lacks its number, its type"},
		"no day":                  {with("FILED AS OF DATE", "FILED"), "or its day"},
		"bad day":                 {with("DATE:\t\t20240507", "DATE:\t\t"+secret), "a date is written neither"},
		"two days":                {with("ISSUER:", "FILED AS OF DATE: 20240508\nISSUER:"), "two days"},
		"bad time":                {with("20240507181030", "20240507"), "the time of acceptance is not written"},
		"other number":            {with("NUMBER:\t\t0000001234-24-000001", "NUMBER:\t\t0000001234-24-000002"), "of another filing"},
		"other day":               {with("DATE:\t\t20240507", "DATE:\t\t20240508"), "of another day"},
		"other type":              {with("TYPE:\t4", "TYPE:\t5"), "of another type of filing"},
		"other type of form":      {with("<documentType>4", "<documentType>5"), "the form is of another type"},
		"other issuer":            {with("<issuerCik>0000001234", "<issuerCik>0000001235"), "an owner of CIK 1235"},
		"no form":                 {with("<TYPE>4\n<TEXT>", "<TYPE>4\n<SEQUENCE>1\n"), "no form in XML"},
		"two forms":               {with("<TYPE>EX-99", "<TYPE>4"), "two forms in one filing"},
		"long form":               {with("<issuer>", strings.Repeat(" ", 9<<20)+"<issuer>"), "a form of more than"},
	} {
		f, err := answering(strings.NewReader(tc.text)).Filing(t.Context(), goodRow())
		kind := providers.BadPayload
		if name == "other issuer" {
			kind = providers.NoData
		}
		wantKind(t, err, kind, tc.says)
		if diff := cmp.Diff(market.InsiderFiling{}, f); diff != "" {
			t.Errorf("%s: a part of it came with the error: %s", name, diff)
		}
	}
	broken := errors.New("connection reset by peer")
	for _, n := range []int{0, 10, len(goodText) / 2, len(goodText)} {
		_, err := answering(io.MultiReader(strings.NewReader(goodText[:n]), failing{broken})).Filing(t.Context(), goodRow())
		var known *providers.Error
		if !errors.As(err, &known) || known.Kind != providers.Transient || !errors.Is(err, broken) {
			t.Errorf("broken after %d bytes: %v; want a transient error", n, err)
		}
	}
}

func TestBadIndexes(t *testing.T) {
	t.Parallel()
	const head = "Description: x\n\nCIK|Company Name|Form Type|Date Filed|File Name\n-----\n"
	const row = "1234|A|B|4|20260312|edgar/data/1234/0000001234-26-000001.txt\n"
	const other = "99|A|B|4|20260312|edgar/data/99/0000000099-26-000001.txt\n"
	ask := func(body io.Reader) ([]edgar.IndexRow, edgar.IndexSummary, error) {
		var rows []edgar.IndexRow
		summary, err := answering(body).DailyIndex(t.Context(), yesterday(), func(form string, _ int) bool { return market.IsInsiderForm(form) }, func(r edgar.IndexRow) error {
			rows = append(rows, r)
			return nil
		})
		return rows, summary, err
	}
	sound := func(n int) string { // the first of which is row
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "1234|A|B|4|20260312|edgar/data/1234/0000001234-26-%06d.txt\n", i+1)
		}
		return b.String()
	}
	both := []edgar.IndexRow{{Accession: "0000001234-26-000001", Form: "4", Filed: yesterday(), Filers: []int{77, 1234}}}
	for name, good := range map[string]string{
		"two filers":            head + row + "77|C|4|20260312|edgar/data/77/0000001234-26-000001.txt\n" + row,
		"oddities of the other": head + "5|X|8-K|soon|nowhere\n" + row + strings.Replace(strings.Replace(row, "1234|", "0077|", 1), "data/1234", "data/77", 1),
		"no last end":           head + row + strings.TrimSpace(strings.Replace(strings.Replace(row, "1234|", "77|", 1), "data/1234", "data/77", 1)),
	} {
		rows, summary, err := ask(strings.NewReader(good))
		if summary.Odd != 0 || summary.OddReason != "" || summary.Days != 1 {
			t.Errorf("%s: %+v", name, summary)
		}
		if diff := cmp.Diff(both, rows); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	want := []edgar.IndexRow{{Accession: "0000001234-26-000001", Form: "4", Filed: yesterday(), Filers: []int{1234}}}
	with := func(from, to string) string { return head + strings.Replace(row, from, to, 1) }
	for name, tc := range map[string]struct{ body, says string }{
		"empty":            {"", "ends in the middle"},
		"no names":         {"a\n-----\n" + row, "ends in the middle"},
		"nothing but text": {strings.Repeat(secret+"\n", 100), "the names of its columns are missing"},
		"no dashes":        {strings.Replace(head, "-----\n", "", 1) + strings.Repeat(row, 100), "the names of its columns are missing"},
		"endless line":     {head + strings.Repeat(secret, 20_000), "a value that does not end"},
		"other days":       {with("20260312", "20260311"), "the index of other days than 2026-03-12..2026-03-12"},
		"cut, not wanted":  {head + row + "5|X|8-K|20260312|edgar/da", "row 2: a file name is not written"},
		"page":             {"<html>" + secret, "ends in the middle"},
	} {
		rows, _, err := ask(strings.NewReader(tc.body))
		wantKind(t, err, providers.BadPayload, tc.says)
		if len(rows) != 0 {
			t.Errorf("%s: %d rows", name, len(rows))
		}
	}
	for name, tc := range map[string]struct{ odd, says string }{
		"few columns":         {with("A|B|4|", "A|"), "row 2: it has not the columns"},
		"no number":           {with("1234|", secret+"|"), "row 2: an issuer's number is not"},
		"bad day":             {with("20260312", "20260230"), "row 2: a date is written neither"},
		"bad name":            {with(".txt", ".pdf"), "row 2: a file name is not written"},
		"other folder":        {with("data/1234", "data/1235"), "row 2: a file name is not written"},
		"odd row of a filing": {with("1234|", "1235|"), "row 2: a file name is not written"},
		"two dates":           {other + strings.Replace(other, "20260312", "20260311", 1), "filing 0000000099-26-000001 has two forms or two dates"},
		"two forms":           {other + strings.Replace(other, "|4|", "|4/A|", 1), "filing 0000000099-26-000001 has two forms or two dates"},
	} {
		odd := strings.TrimPrefix(tc.odd, head)
		lines := strings.Count(odd, "\n")
		rows, summary, err := ask(strings.NewReader(head + sound(1) + odd))
		if diff := cmp.Diff(want, rows); err != nil || diff != "" || summary.Odd != lines || !strings.Contains(summary.OddReason, tc.says) || strings.Contains(summary.OddReason, secret) {
			t.Errorf("%s: %v, %+v %s", name, err, summary, diff)
		}
		for _, at := range []struct {
			odd, all int
			good     bool
		}{{4, 20, true}, {6, 20, false}, {6, 599, false}, {6, 600, true}, {8, 799, false}, {8, 800, true}} {
			doc := head + sound(at.all-at.odd) + strings.Repeat(odd, at.odd/lines)
			rows, summary, err := ask(strings.NewReader(doc))
			switch {
			case at.good && (err != nil || summary.Odd != at.odd || summary.Wanted != at.all-at.odd || summary.Filings != len(rows)):
				t.Errorf("%s, %+v: %v, %+v", name, at, err, summary)
			case !at.good:
				wantKind(t, err, providers.BadPayload, fmt.Sprintf("%d of %d wanted rows are odd, the first for this reason: ", at.odd, at.all))
			}
		}
		if _, _, err := ask(strings.NewReader(strings.TrimSuffix(head+sound(1000)+odd, "\n"))); lines == 1 && err == nil {
			t.Errorf("%s: accepted at the end of an index that may be cut", name)
		}
	}
	broken := errors.New("connection reset by peer")
	if _, _, err := ask(io.MultiReader(strings.NewReader(head+row), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the connection", err)
	}
}

func TestIndexHandsBackTheCallersError(t *testing.T) {
	t.Parallel()
	b := newRig(t, simulator.Config{EDGAR: forms()}, patient)
	enough := errors.New("enough")
	n := 0
	summary, err := b.client.DailyIndex(t.Context(), yesterday(), insiders(listed()), func(edgar.IndexRow) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 3 || summary != (edgar.IndexSummary{}) {
		t.Errorf("error %v after %d rows with %+v", err, n, summary)
	}
}

// The rows that are not wanted take no memory, nor does a filing that was read.
func TestMemoryIsFlat(t *testing.T) { //nolint:paralleltest // what runs beside it would be measured with it
	const rows = 20_000
	c := simulator.EDGARConfig{Symbols: listed(), Forms: 3, Foreign: rows}
	s := simulator.New(simulator.Config{Now: now, EDGAR: c})
	doc := serve(t, s, "/Archives/edgar/daily-index/2026/QTR1/master.20260312.idx")
	client := answering(strings.NewReader(doc))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	summary, err := client.DailyIndex(t.Context(), yesterday(), insiders(listed()), func(edgar.IndexRow) error { return nil })
	runtime.ReadMemStats(&after)
	if err != nil || summary.Rows < rows || summary.Filings != 3 {
		t.Fatalf("%+v %v", summary, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(doc))/4 {
		t.Errorf("%d bytes for an index of %d", took, len(doc))
	}
}

// serve returns a document of the simulator.
func serve(t testing.TB, s http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
	r.Header.Set("User-Agent", agent)
	s.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

const recorded = "../../../shared/payloads/edgar/"

// recording returns a real answer; the test ends if the folder is not there.
func recording(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(recorded, name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no recorded answer %s in %s", name, recorded)
	}
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestRecordedIndexes(t *testing.T) {
	t.Parallel()
	forms := map[string]int{}
	filings := map[string]bool{}
	for _, line := range strings.Split(string(recording(t, "form.20200318.idx")), "\n") {
		if form, _, _ := strings.Cut(line, " "); market.IsInsiderForm(form) {
			forms[form]++
			words := strings.Fields(line)
			filings[filepath.Base(words[len(words)-1])] = true
		}
	}
	got := map[string]int{}
	day := market.NewDate(2020, 3, 18)
	read := func(name string) (edgar.IndexSummary, error) {
		return answering(strings.NewReader(string(recording(t, name)))).DailyIndex(t.Context(), day,
			func(form string, _ int) bool { return market.IsInsiderForm(form) },
			func(r edgar.IndexRow) error { got[r.Form] += len(r.Filers); return nil })
	}
	summary, err := read("form.20200318.idx")
	if diff := cmp.Diff(forms, got); err != nil || diff != "" || summary.Filings != len(filings) || forms["4"] < 1000 {
		t.Errorf("%v, %+v for %d filings: %s", err, summary, len(filings), diff)
	}
	if summary, err := read("form-empty.idx"); err != nil || summary != (edgar.IndexSummary{}) {
		t.Errorf("an index without rows: %+v, %v", summary, err)
	}
}

func TestRecordedForms(t *testing.T) {
	t.Parallel()
	parse := func(name string) market.InsiderFiling {
		f, err := edgar.ParseOwnership(strings.NewReader(string(recording(t, name))))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return f
	}
	flagged := func(f market.InsiderFiling, flag market.InsiderFlags) (lines []int) {
		for _, l := range f.Lines {
			if l.Flags&flag != 0 {
				lines = append(lines, l.Line)
			}
		}
		return lines
	}
	typo := parse("form4-derivatives-share-typo.xml")
	if diff := cmp.Diff([]int{9}, flagged(typo, market.SharesContradict)); diff != "" || typo.Lines[8].Shares != (market.Amount{Value: 36, Known: true}) {
		t.Errorf("36.000: %s, shares %v", diff, typo.Lines[8].Shares)
	}
	if diff := cmp.Diff([]int{11}, flagged(typo, market.SharesExplained)); diff != "" || typo.Plan != market.AnswerYes || !typo.PlanMentioned || len(typo.Lines) != 16 {
		t.Errorf("%s, plan %s, %d lines", diff, typo.Plan, len(typo.Lines))
	}
	trusts := parse("form4-indirect-trusts.xml")
	if len(trusts.Footnotes) != 16 || len(trusts.Lines) != 15 || flagged(trusts, ^market.InsiderFlags(0)) != nil || trusts.Plan != market.AnswerUnknown {
		t.Errorf("%d footnotes, %d lines, plan %s", len(trusts.Footnotes), len(trusts.Lines), trusts.Plan)
	}
	for _, l := range trusts.Lines[6:14] {
		if !l.Holding || l.Direct != market.AnswerNo || l.Nature != "Trust" || len(l.Notes) != 1 || l.Notes[0].Text == "" {
			t.Errorf("%+v", l)
		}
	}
	sample := parse("form4a-sec-sample.xml")
	if len(sample.Owners) != 2 || len(sample.Lines) != 6 || sample.Form != "4/A" || sample.OriginalFiled != market.NewDate(2003, 3, 1) || !sample.Exited {
		t.Errorf("%+v", sample)
	}
	if l := sample.Lines[0]; l.Timeliness != "" || len(l.Notes) != 4 || l.Notes[3] != (market.InsiderNote{ID: "F3", Of: "transactionTimeliness", Text: "Footnote 3."}) {
		t.Errorf("%+v", l)
	}
	if l := sample.Lines[5]; l.OwnedAfter.Known || l.ValueAfter.Value != 3210.88 || !l.Derivative || l.UnderlyingValue.Value != 100.12 || l.UnderlyingShares.Known {
		t.Errorf("%+v", l)
	}
	if f := parse("form5.xml"); f.Form != "5" || len(f.Lines) != 3 || f.Lines[0].Code != "G" || f.Lines[0].Shares.Value != 61386 || !f.Lines[2].Holding {
		t.Errorf("%+v", f)
	}
	if f := parse("form3-no-securities.xml"); f.Form != "3" || !f.NoSecurities || len(f.Lines) != 0 || !f.Owners[0].Director || f.Owners[0].Officer {
		t.Errorf("%+v", f)
	}
}

package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// The faults of indexes and filings that the other documents of EDGAR do not
// have. Those of the same name are the pages, the ways, EmptyBody and
// EmptyObject; NoSuchKey and AccessDenied are what a missing document gets, and
// BadNumber, BadDate and NaN are of a filing's first line.
const (
	// Of an index. The first five are sound, the next two but for single rows.
	HeaderOnly  Fault = "header_only"
	LongDates   Fault = "long_dates"   // 2026-03-12 in a daily index
	ListedTwice Fault = "listed_twice" // each row twice
	LineEnds    Fault = "line_ends"    // CR LF
	FormLayout  Fault = "form_layout"  // fixed columns
	BadRow      Fault = "bad_row"      // one of too few columns
	OddRows     Fault = "odd_rows"     // four of foreign issuers: a bad path, a bad date, two dates of one filing
	BadPath     Fault = "bad_path"     // of all rows
	OtherDay    Fault = "other_day"    // the index of the day before
	CutIndex    Fault = "cut_index"    // in the middle of the last row
	TornFiling  Fault = "torn_filing"  // one filing with two forms
	NotAnIndex  Fault = "not_an_index" // no names of columns

	// Of a filing. The first five are sound.
	Namespaced    Fault = "namespaced"
	ZonedDates    Fault = "zoned_dates"
	Latin1        Fault = "latin1"
	Scanned       Fault = "scanned" // 4 MiB of a letter
	NoHoldings    Fault = "no_lines"
	OnlyRendering Fault = "only_rendering" // HTML in place of XML
	MalformedXML  Fault = "malformed_xml"
	DocumentType  Fault = "document_type" // with an entity that grows
	TwoForms      Fault = "two_forms"
	NoOwner       Fault = "no_owner"
	NoHeader      Fault = "no_header"
	OtherFiling   Fault = "other_filing" // another number
	OtherForm     Fault = "other_form"   // another type
	OtherIssuer   Fault = "other_issuer"
	CutFiling     Fault = "cut_filing" // after the form
	TooLong       Fault = "too_long"   // 33 MiB
)

// archived is a document of the archives; what is "" for other documents, and
// "nothing" for a path that is none.
type archived struct {
	what      string // "index", "quarter", "filing", "nothing"
	of        int    // the CIK of a filing's path
	indexDay  market.Date
	quarter   market.Range
	accession string
	form      market.InsiderFiling
	config    EDGARConfig
}

func parseArchived(c EDGARConfig, path string) archived {
	d := archived{what: "nothing", config: c}
	rest := strings.TrimPrefix(path, archivesPath)
	var year, quarter, number int
	scan := func(format string, into ...any) bool {
		n, err := fmt.Sscanf(rest, format, into...)
		return err == nil && n == len(into)
	}
	switch {
	case scan("daily-index/%d/QTR%d/master.%d.idx", &year, &quarter, &number):
		day := market.NewDate(number/10000, time.Month(number/100%100), number%100)
		if rest == dailyPath(day) {
			d.what, d.indexDay = "index", day
		}
	case scan("full-index/%d/QTR%d/master.idx", &year, &quarter) && quarter >= 1 && quarter <= 4:
		first := time.Month(quarter*3 - 2)
		d.what, d.quarter = "quarter", market.Range{From: market.NewDate(year, first, 1), To: market.NewDate(year, first+3, 0)}
	case scan("data/%d/", &d.of):
		name := rest[strings.LastIndexByte(rest, '/')+1:]
		d.accession = strings.TrimSuffix(name, ".txt")
		if rest == fmt.Sprintf("data/%d/%s.txt", d.of, d.accession) {
			d.what = "filing"
		}
	}
	return d
}

func dailyPath(day market.Date) string {
	year, month, number := day.Time().Date()
	return fmt.Sprintf("daily-index/%d/QTR%d/master.%04d%02d%02d.idx", year, (month+2)/3, year, month, number)
}

// decide finds out whether the document is there.
func (a *edgarReply) decide() (outcome string, serve func(edgarReply)) {
	missing := func(f Fault) (string, func(edgarReply)) { return string(f), edgarShapeOf(f) }
	switch a.what {
	case "index":
		if !isWritten(a.indexDay, a.now) {
			return missing(AccessDenied)
		}
	case "quarter":
		if a.now.Before(a.quarter.From.In(market.NewYork(), 0, 0)) {
			return missing(AccessDenied)
		}
	case "filing":
		if !a.find() || a.form.Accepted.After(a.now) {
			return missing(NoSuchKey)
		}
	default:
		return missing(NoSuchKey)
	}
	what := a.what
	if what == "quarter" {
		what = "index"
	}
	return what, func(a edgarReply) { a.sendRight(a.body()) }
}

// find looks the filing up: it is there under the number of its issuer and of
// each owner.
func (d *archived) find() bool {
	f, ok := Form(d.config, d.accession)
	d.form = f
	return ok && (f.IssuerCIK == d.of || slices.ContainsFunc(f.Owners, func(o market.InsiderOwner) bool { return o.CIK == d.of }))
}

// isWritten reports whether there is an index of a day.
func isWritten(day market.Date, now time.Time) bool {
	return market.TakesFilings(day) && !now.Before(market.FilingsComplete(day))
}

// text is the right document.
func (d archived) text(now time.Time) []byte {
	switch d.what {
	case "index":
		return renderIndex("Daily", d.indexDay, indexRows(d.config, d.indexDay), false)
	case "quarter":
		var rows []indexRow
		for day := d.quarter.From; day <= d.quarter.To; day++ {
			if isWritten(day, now) {
				rows = append(rows, indexRows(d.config, day)...)
			}
		}
		return renderIndex("Master", d.quarter.To, rows, true)
	case "filing":
		f, _ := Form(d.config, d.accession)
		return submissionText(&f, renderForm(&f, styleOf(&f)))
	}
	return nil
}

// FaultIndex is [Server.Fault] for the calls for the daily index of a day; 0
// means any index, also a quarterly one.
func (s *Server) FaultIndex(day market.Date, f Fault, times int) {
	s.planEDGAR(indexKey(day), f, times, indexShapes())
}

// FaultFiling is [Server.Fault] for the calls for a filing by its accession
// number; "" means any.
func (s *Server) FaultFiling(accession string, f Fault, times int) {
	s.planEDGAR(filingKey(accession), f, times, filingShapes())
}

func indexKey(day market.Date) market.Symbol {
	return market.Symbol(fmt.Sprintf("edgar/index/%s", day))
}

func filingKey(accession string) market.Symbol { return market.Symbol("edgar/filing/" + accession) }

// planFormFault plans a fault for another process: ?day=2026-03-12 or
// ?accession=0000900000-26-071003, empty for any.
func (s *Server) planFormFault(w http.ResponseWriter, r *http.Request, f Fault, times int) {
	var day market.Date
	err := day.UnmarshalText([]byte(r.FormValue("day")))
	shapes := indexShapes()
	if r.Form.Has("accession") {
		shapes = filingShapes()
	}
	if err != nil || times == 0 || shapeAmong(shapes, f) == nil {
		http.Error(w, "want day or accession (empty for any), fault and times (-1 for all): the faults are "+
			strings.Join(faultNames(shapes), ", "), http.StatusBadRequest)
		return
	}
	if r.Form.Has("accession") {
		s.FaultFiling(r.FormValue("accession"), f, times)
	} else {
		s.FaultIndex(day, f, times)
	}
	w.WriteHeader(http.StatusNoContent)
}

// IndexFaults returns the names of all faults of an index, FilingFaults those
// of a filing.
func IndexFaults() []string { return faultNames(indexShapes()) }

// FilingFaults returns the names of all faults of a filing.
func FilingFaults() []string { return faultNames(filingShapes()) }

func faultNames(of []edgarShape) []string {
	var names []string
	for _, s := range of {
		names = append(names, string(s.fault))
	}
	return names
}

func (d archived) faultKeys() []market.Symbol {
	if d.what == "filing" {
		return []market.Symbol{filingKey(d.accession), filingKey("")}
	}
	return []market.Symbol{indexKey(d.indexDay), indexKey(0)}
}

func (d archived) shapes() []edgarShape {
	if d.what == "filing" {
		return filingShapes()
	}
	return indexShapes()
}

// textShapes are the faults of both.
func textShapes() []edgarShape {
	return slices.Concat(edgarPages(), edgarWays(), []edgarShape{
		{EmptyBody, func(a edgarReply) { a.sendRight(nil) }},
		{EmptyObject, func(a edgarReply) { a.sendRight([]byte("{}")) }},
	})
}

func indexShapes() []edgarShape {
	text := func(f Fault, change func([]byte) []byte) edgarShape {
		return edgarShape{f, func(a edgarReply) { a.sendRight(change(a.body())) }}
	}
	rows := func(f Fault, change func([]indexRow) []indexRow) edgarShape {
		return edgarShape{f, func(a edgarReply) {
			a.sendRight(renderIndex("Daily", a.indexDay, change(indexRows(a.config, a.indexDay)), f == LongDates))
		}}
	}
	return slices.Concat(textShapes(), []edgarShape{
		rows(HeaderOnly, func([]indexRow) []indexRow { return nil }),
		rows(LongDates, func(r []indexRow) []indexRow { return r }),
		rows(ListedTwice, func(r []indexRow) []indexRow { return append(r, r...) }),
		text(LineEnds, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }),
		{FormLayout, func(a edgarReply) { a.sendRight(formIndex(indexRows(a.config, a.indexDay))) }},
		text(BadRow, func(b []byte) []byte { return append(b, "320193|4|20260312\n"...) }),
		text(OddRows, func(b []byte) []byte {
			return append(b, "7|Odd|4|20260312|edgar/data/8/0000000007-26-000001.txt\n"+
				"7|Odd|4|2026-03-32|edgar/data/7/0000000007-26-000002.txt\n"+
				"7|Odd|4|20260312|edgar/data/7/0000000007-26-000003.txt\n"+
				"8|Odd|4|20260311|edgar/data/8/0000000007-26-000003.txt\n"...)
		}),
		rows(BadPath, func(r []indexRow) []indexRow {
			for i := range r {
				r[i].extra = "x"
			}
			return r
		}),
		{OtherDay, func(a edgarReply) {
			a.sendRight(renderIndex("Daily", a.indexDay-1, indexRows(a.config, formMaker{day: a.indexDay}.earlier(0).day), false))
		}},
		text(CutIndex, func(b []byte) []byte { return b[:len(b)-9] }),
		rows(TornFiling, func(r []indexRow) []indexRow {
			torn := slices.Clone(r)
			for i := range torn {
				torn[i].form = "4/A"
			}
			return append(r, torn...)
		}),
		text(NotAnIndex, func(b []byte) []byte { return bytes.Replace(b, []byte("CIK|"), []byte("No.|"), 1) }),
	})
}

// formIndex writes the rows as the index by form has them.
func formIndex(rows []indexRow) []byte {
	b := []byte("Description:           Daily Index of EDGAR Dissemination Feed by Form Type\n \n" +
		"Form Type   Company Name                                                  CIK         Date Filed  File Name\n" + strings.Repeat("-", 141) + "\n")
	for _, r := range rows {
		b = fmt.Appendf(b, "%-12s%-62s%-12d%-12sedgar/data/%d/%s.txt         \n", r.form, r.name, r.cik, r.filed.Time().Format("20060102"), r.cik, r.accession)
	}
	return toLatin1(b)
}

func filingShapes() []edgarShape {
	text := func(f Fault, from, to string) edgarShape {
		return edgarShape{f, func(a edgarReply) { a.sendRight(bytes.Replace(a.body(), []byte(from), []byte(to), 1)) }}
	}
	form := func(f Fault, change func(*market.InsiderFiling, *formStyle)) edgarShape {
		return edgarShape{f, func(a edgarReply) { a.sendRight(a.changed(change)) }}
	}
	xml := func(f Fault, change func([]byte) []byte) edgarShape {
		return edgarShape{f, func(a edgarReply) {
			a.find()
			a.sendRight(submissionText(&a.form, change(renderForm(&a.form, formStyle{root: "ownershipDocument"}))))
		}}
	}
	swap := func(f Fault, from, to string) edgarShape {
		return xml(f, func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) })
	}
	return slices.Concat(textShapes(), []edgarShape{
		form(Namespaced, func(_ *market.InsiderFiling, st *formStyle) { st.namespace() }),
		form(ZonedDates, func(_ *market.InsiderFiling, st *formStyle) { st.zones = true }),
		form(Latin1, func(_ *market.InsiderFiling, st *formStyle) { st.latin1 = true }),
		{Scanned, func(a edgarReply) { a.sendRight(a.longer(4 << 20)) }},
		form(NoHoldings, func(f *market.InsiderFiling, _ *formStyle) { f.Lines = nil }),
		xml(OnlyRendering, func([]byte) []byte { return []byte("<html><body>FORM 4</body></html>\n") }),
		swap(MalformedXML, "</securityTitle>", "</securityTitel>"),
		swap(DocumentType, "<ownershipDocument>", "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><ownershipDocument>"),
		swap(BadNumber, "<transactionShares>\n                    <value>", "<transactionShares>\n                    <value>1,"),
		swap(NaN, "<transactionShares>\n                    <value>", "<transactionShares>\n                    <value>NaN"),
		swap(BadDate, "<periodOfReport>2", "<periodOfReport>x2"),
		form(NoOwner, func(f *market.InsiderFiling, _ *formStyle) { f.Owners = nil }),
		text(TwoForms, "<DOCUMENT>\n<TYPE>EX-24", "<DOCUMENT>\n<TYPE>4\n<TEXT>\n<XML>\n<x/>\n</XML>\n</TEXT>\n</DOCUMENT>\n<DOCUMENT>\n<TYPE>EX-24"),
		text(NoHeader, "ACCESSION NUMBER:", "NUMBER:"),
		text(OtherFiling, "ACCESSION NUMBER:\t\t00", "ACCESSION NUMBER:\t\t01"),
		text(OtherForm, "CONFORMED SUBMISSION TYPE:\t", "CONFORMED SUBMISSION TYPE:\t1"),
		form(OtherIssuer, func(f *market.InsiderFiling, _ *formStyle) { f.IssuerCIK = 7 }),
		text(CutFiling, "</SEC-DOCUMENT>", ""),
		{TooLong, func(a edgarReply) { a.sendRight(a.longer(33 << 20)) }},
	})
}

// changed is the filing with another form or in another style.
func (a edgarReply) changed(change func(*market.InsiderFiling, *formStyle)) []byte {
	a.find()
	st := styleOf(&a.form)
	change(&a.form, &st)
	return submissionText(&a.form, renderForm(&a.form, st))
}

// longer is the filing with a longer letter.
func (a edgarReply) longer(by int) []byte {
	lines := scan(by / len(scan(1)))
	return bytes.Replace(a.body(), scan(20), lines, 1)
}

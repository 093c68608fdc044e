package simulator

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// formStyle is how an agent writes its forms. The data are the same in all.
type formStyle struct {
	words     bool // true and false in place of 1 and 0
	fractions bool // 200000.0
	zones     bool // 2026-03-12-05:00
	prefix    string
	latin1    bool
	dense     bool // all on one line
	root      string
}

func styleOf(f *market.InsiderFiling) formStyle {
	r := hash(market.Symbol(f.Accession))
	st := formStyle{words: r&1 != 0, fractions: r&2 != 0, zones: r&12 == 0, latin1: r&48 == 0, dense: r&192 == 0, root: "ownershipDocument"}
	if r&0x700 == 0 {
		st.namespace()
	}
	return st
}

func (st *formStyle) namespace() {
	st.prefix, st.root = "own:", `ownershipDocument xmlns:own="http://example.com/ownership"`
}

// formWriter writes an ownershipDocument.
type formWriter struct {
	formStyle
	b    []byte
	deep int
	line *market.InsiderLine // whose footnotes leaves have
}

// renderForm writes a form as XML.
func renderForm(f *market.InsiderFiling, st formStyle) []byte {
	w := &formWriter{formStyle: st}
	switch {
	case st.latin1:
		w.b = append(w.b, `<?xml version="1.0" encoding="ISO-8859-1"?>`...)
	case st.words:
		w.b = append(w.b, `<?xml version="1.0"?>`...)
	}
	w.in(st.root, func() { w.document(f) })
	w.b = append(w.b, '\n')
	if st.latin1 {
		return toLatin1(w.b)
	}
	return w.b
}

func (w *formWriter) document(f *market.InsiderFiling) {
	w.text("schemaVersion", f.Schema)
	w.text("documentType", f.Form)
	w.text("periodOfReport", w.date(f.Period))
	if f.OriginalFiled != 0 {
		w.text("dateOfOriginalSubmission", w.date(f.OriginalFiled))
	}
	if f.NoSecurities {
		w.text("noSecuritiesOwned", w.flag(true))
	}
	if f.Exited || w.words {
		w.text("notSubjectToSection16", w.flag(f.Exited))
	}
	w.in("issuer", func() {
		w.text("issuerCik", fmt.Sprintf("%010d", f.IssuerCIK))
		w.text("issuerName", f.IssuerName)
		w.text("issuerTradingSymbol", f.IssuerSymbol)
	})
	for _, o := range f.Owners {
		w.in("reportingOwner", func() { w.owner(o) })
	}
	if f.Plan != market.AnswerUnknown {
		w.text("aff10b5One", w.flag(f.Plan == market.AnswerYes))
	}
	w.table(f, "nonDerivative", false)
	w.table(f, "derivative", true)
	w.in("footnotes", func() {
		for _, n := range f.Footnotes {
			w.open(fmt.Sprintf("footnote id=%q", n.ID))
			// Text can have markup in it, and its lines are broken anywhere.
			first, rest, _ := strings.Cut(n.Text, " ")
			w.b = fmt.Appendf(w.b, "%s\n   <i>%s</i>", escape(first), escape(rest))
			w.close("footnote")
		}
	})
	w.text("remarks", f.Remarks)
	w.in("ownerSignature", func() {
		w.text("signatureName", "/s/ Somebody")
		w.text("signatureDate", w.date(f.Filed))
	})
}

func (w *formWriter) owner(o market.InsiderOwner) {
	w.in("reportingOwnerId", func() {
		w.text("rptOwnerCik", fmt.Sprintf("%010d", o.CIK))
		w.text("rptOwnerName", o.Name)
	})
	w.in("reportingOwnerAddress", func() { w.text("rptOwnerCity", "NEW YORK") })
	w.in("reportingOwnerRelationship", func() {
		for _, is := range []struct {
			name string
			set  bool
		}{{"isDirector", o.Director}, {"isOfficer", o.Officer}, {"isTenPercentOwner", o.TenPercent}, {"isOther", o.Other}} {
			if is.set || !w.words {
				w.text(is.name, w.flag(is.set))
			}
		}
		w.text("officerTitle", o.Title)
		w.text("otherText", o.Relation)
	})
}

func (w *formWriter) table(f *market.InsiderFiling, kind string, derivative bool) {
	w.in(kind+"Table", func() {
		for i := range f.Lines {
			l := &f.Lines[i]
			if l.Derivative != derivative {
				continue
			}
			w.line = l
			if l.Holding {
				w.in(kind+"Holding", func() { w.row(l) })
			} else {
				w.in(kind+"Transaction", func() { w.row(l) })
			}
		}
	})
}

// row writes the leaves in the order of the schema.
func (w *formWriter) row(l *market.InsiderLine) {
	w.leaf("securityTitle", l.SecurityTitle)
	if l.Derivative {
		w.leaf("conversionOrExercisePrice", w.amount(l.ConversionPrice))
	}
	if !l.Holding {
		w.leaf("transactionDate", w.date(l.Date))
		w.leaf("deemedExecutionDate", w.date(l.Deemed))
		w.in("transactionCoding", func() {
			w.text("transactionFormType", l.ReportedOn)
			w.text("transactionCode", l.Code)
			w.text("equitySwapInvolved", w.flag(l.Swap == market.AnswerYes))
			w.notes("transactionCoding")
		})
		w.leaf("transactionTimeliness", l.Timeliness)
		w.in("transactionAmounts", func() {
			w.leaf("transactionShares", w.amount(l.Shares))
			w.leaf("transactionPricePerShare", w.amount(l.Price))
			w.leaf("transactionAcquiredDisposedCode", l.AcquiredDisposed)
		})
	}
	if l.Derivative {
		w.leaf("exerciseDate", w.date(l.Exercise))
		w.leaf("expirationDate", w.date(l.Expiration))
		w.in("underlyingSecurity", func() {
			w.leaf("underlyingSecurityTitle", l.Underlying)
			w.leaf("underlyingSecurityShares", w.amount(l.UnderlyingShares))
		})
	}
	w.in("postTransactionAmounts", func() { w.leaf("sharesOwnedFollowingTransaction", w.amount(l.OwnedAfter)) })
	w.in("ownershipNature", func() {
		w.leaf("directOrIndirectOwnership", map[market.Answer]string{market.AnswerYes: "D", market.AnswerNo: "I"}[l.Direct])
		w.leaf("natureOfOwnership", l.Nature)
	})
}

// leaf writes a value and the footnotes that the line has for it. One without
// a value has no element for it, or an empty one.
func (w *formWriter) leaf(name, value string) {
	noted := slices.ContainsFunc(w.line.Notes, func(n market.InsiderNote) bool { return n.Of == name })
	if value == "" && !noted && w.words {
		return
	}
	w.in(name, func() {
		if value != "" || !noted {
			w.text("value", value)
		}
		w.notes(name)
	})
}

func (w *formWriter) notes(of string) {
	for _, n := range w.line.Notes {
		if n.Of == of {
			w.indent()
			w.b = fmt.Appendf(w.b, "<%sfootnoteId id=%q/>", w.prefix, n.ID)
		}
	}
}

func (w *formWriter) in(tag string, inside func()) {
	w.open(tag)
	w.deep++
	inside()
	w.deep--
	w.indent()
	name, _, _ := strings.Cut(tag, " ")
	w.close(name)
}

func (w *formWriter) open(tag string) {
	w.indent()
	w.b = fmt.Appendf(w.b, "<%s%s>", w.prefix, tag)
}

func (w *formWriter) close(name string) { w.b = fmt.Appendf(w.b, "</%s%s>", w.prefix, name) }

func (w *formWriter) text(name, value string) {
	if value == "" && w.words {
		w.indent()
		w.b = fmt.Appendf(w.b, "<%s%s/>", w.prefix, name)
		return
	}
	w.open(name)
	if w.dense && !w.latin1 && strings.ContainsAny(value, "<&") {
		w.b = fmt.Appendf(w.b, "<![CDATA[%s]]>", value)
	} else {
		w.b = append(w.b, escape(value)...)
	}
	w.close(name)
}

func (w *formWriter) indent() {
	if !w.dense && len(w.b) > 0 {
		w.b = append(append(w.b, '\n'), bytes.Repeat([]byte("    "), w.deep)...)
	}
}

func (w *formWriter) flag(set bool) string {
	switch {
	case w.words:
		return strconv.FormatBool(set)
	case set:
		return "1"
	}
	return "0"
}

func (w *formWriter) date(d market.Date) string {
	if w.zones && d != 0 {
		return d.String() + "-05:00"
	}
	return d.String()
}

func (w *formWriter) amount(a market.Amount) string {
	if !a.Known {
		return ""
	}
	text := figure(a.Value)
	switch {
	case a.Value == 36:
		text += ".000"
	case w.fractions && !strings.Contains(text, "."):
		text += ".0"
	}
	return text
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&#62;", "'", "&#x27;").Replace(text)
}

func toLatin1(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r > 0xFF {
			out = fmt.Appendf(out, "&#%d;", r)
			continue
		}
		out = append(out, byte(r))
	}
	return out
}

// submissionText writes a filing as it is stored: a header, the form, and a
// letter that was scanned.
func submissionText(f *market.InsiderFiling, xml []byte) []byte {
	filed := strings.ReplaceAll(f.Filed.String(), "-", "")
	b := fmt.Appendf(nil, "<SEC-DOCUMENT>%s.txt : %s\n<SEC-HEADER>%s.hdr.sgml : %s\n", f.Accession, filed, f.Accession, filed)
	b = fmt.Appendf(b, "<ACCEPTANCE-DATETIME>%s\n", f.Accepted.In(market.NewYork()).Format("20060102150405"))
	b = fmt.Appendf(b, "ACCESSION NUMBER:\t\t%s\nCONFORMED SUBMISSION TYPE:\t%s\nPUBLIC DOCUMENT COUNT:\t\t2\n", f.Accession, f.Form)
	b = fmt.Appendf(b, "CONFORMED PERIOD OF REPORT:\t%s\nFILED AS OF DATE:\t\t%s\nDATE AS OF CHANGE:\t\t%s\n\n",
		strings.ReplaceAll(f.Period.String(), "-", ""), filed, filed)
	party := func(kind string, cik int, name string) {
		b = fmt.Appendf(b, "%s:\t\n\n\tCOMPANY DATA:\t\n\t\tCOMPANY CONFORMED NAME:\t\t\t%s\n\t\tCENTRAL INDEX KEY:\t\t\t%010d\n\n", kind, name, cik)
	}
	for _, o := range f.Owners {
		party("REPORTING-OWNER", o.CIK, strings.ToUpper(o.Name))
	}
	party("ISSUER", f.IssuerCIK, strings.ToUpper(f.IssuerName))
	b = fmt.Appendf(b, "</SEC-HEADER>\n<DOCUMENT>\n<TYPE>%s\n<SEQUENCE>1\n<FILENAME>form4.xml\n<DESCRIPTION>PRIMARY DOCUMENT\n<TEXT>\n<XML>\n%s</XML>\n</TEXT>\n</DOCUMENT>\n",
		f.Form, xml)
	b = append(b, "<DOCUMENT>\n<TYPE>EX-24\n<SEQUENCE>2\n<FILENAME>poa.pdf\n<TEXT>\n<PDF>\nbegin 644 poa.pdf\n"...)
	b = append(b, scan(20)...)
	return append(b, "`\nend\n</PDF>\n</TEXT>\n</DOCUMENT>\n</SEC-DOCUMENT>\n"...)
}

// scan is lines as those that uuencode makes.
func scan(lines int) []byte {
	return bytes.Repeat([]byte("M)5!$1BTQ+C0*)>+CS],*-\"`P(&]B:@H\\/\"],96YG=&@@-2`P(%(O1FEL=&5R\n"), lines)
}

// indexRow is a row of a master index.
type indexRow struct {
	cik              int
	name, form       string
	filed            market.Date
	accession, extra string // extra spoils the path
}

// indexRows returns those of a day, in order of CIK.
func indexRows(c EDGARConfig, day market.Date) []indexRow {
	var rows []indexRow
	for _, f := range Forms(c, day) {
		rows = append(rows, indexRow{cik: f.IssuerCIK, name: f.IssuerName, form: f.Form, filed: day, accession: f.Accession})
		for _, o := range f.Owners {
			rows = append(rows, indexRow{cik: o.CIK, name: o.Name, form: f.Form, filed: day, accession: f.Accession})
		}
	}
	forms := [...]string{"10-Q", "8-K", "424B2", "SC 13D/A", "4", "4/A", "144", "1-A POS", "3", "DEF 14A"}
	for i := range c.withDefaults().Foreign {
		r := mix(uint64(day)<<24 + uint64(i))
		rows = append(rows, indexRow{
			cik: 1_000_000_000 + int(r%9_000_000_000)/100*100 + 99, name: fmt.Sprintf("Soci\u00e9t\u00e9 %d | S.A.", i), form: forms[i%len(forms)],
			filed: day, accession: fmt.Sprintf("%010d-%02d-%06d", 800_000+i/1000, day.Year()%100, day.Time().YearDay()*1000+i%1000),
		})
	}
	slices.SortStableFunc(rows, func(a, b indexRow) int { return cmp.Compare(a.cik, b.cik) })
	return rows
}

// renderIndex writes a master index, in Latin-1 and with the form of dates that
// daily indexes have, or quarterly ones.
func renderIndex(kind string, last market.Date, rows []indexRow, quarterly bool) []byte {
	layout, column := "20060102", "File Name"
	if quarterly {
		layout, column = time.DateOnly, "Filename"
	}
	b := fmt.Appendf(nil, "Description:           %s Index of EDGAR Dissemination Feed\nLast Data Received:    %s\n", kind, last.Time().Format("Jan 2, 2006"))
	b = fmt.Appendf(b, "Comments:              webmaster@example.com\nAnonymous FTP:         ftp://ftp.example.com/edgar/\n \n \n \n \n"+
		"CIK|Company Name|Form Type|Date Filed|%s\n%s\n", column, strings.Repeat("-", 80))
	for _, r := range rows {
		b = fmt.Appendf(b, "%d|%s|%s|%s|edgar/data/%d/%s%s.txt\n", r.cik, r.name, r.form, r.filed.Time().Format(layout), r.cik, r.extra, r.accession)
	}
	return toLatin1(b)
}

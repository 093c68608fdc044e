package edgar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// maxOwnership bounds the XML of one form. Thirty rows to a table make
	// some hundred KiB.
	maxOwnership = 8 << 20
	// maxOwners, maxInsiderLines and maxNotes bound what a form may have, well
	// beyond what the SEC takes.
	maxOwners       = 256
	maxInsiderLines = 1 << 13
	maxNotes        = 1 << 12
)

// planWords finds mentions of Rule 10b5-1 as filers spell it.
var planWords = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)10b[-‐‑–— ]?5[-‐‑–— ]?1`)
})

// speaksOfPlan looks first for what few texts have: that is the cheaper search.
func speaksOfPlan(text string) bool {
	return (strings.Contains(text, "10b") || strings.Contains(text, "10B")) && planWords().MatchString(text)
}

// ParseOwnership reads the XML of a Form 3, 4 or 5 or of an amendment, of any
// version of the schema (EDGAR Ownership XML Technical Specification): an
// ownershipDocument, whatever its namespace. Accession, Filed and Accepted are
// not in it and stay zero, and so do the flags that need them.
//
// A form is refused whole when it is not well-formed, when it lacks its type,
// its period, its issuer or an owner, when one of them or an element of a line
// occurs twice, and when a number, date or code is none. Leaves may be without
// a value, or have but a footnote. Elements that are not known are passed over.
func ParseOwnership(r io.Reader) (market.InsiderFiling, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxOwnership+1))
	if err != nil {
		return market.InsiderFiling{}, err
	}
	if len(doc) > maxOwnership {
		return market.InsiderFiling{}, fmt.Errorf("a form of more than %d bytes", maxOwnership)
	}
	f, err := parseOwnership(doc)
	if err == nil {
		f.Examine()
	}
	return f, err
}

func parseOwnership(doc []byte) (market.InsiderFiling, error) {
	x, err := newXML(doc)
	if err != nil {
		return market.InsiderFiling{}, err
	}
	p := &formParser{xmlScanner: x}
	if err := p.document(); err != nil {
		return market.InsiderFiling{}, err
	}
	if err := p.finish(); err != nil {
		return market.InsiderFiling{}, err
	}
	return p.form, nil
}

// formParser reads a form. A leaf stands for itself, by its name, wherever in
// its row or head it is: the schema has each name once.
type formParser struct {
	*xmlScanner
	form market.InsiderFiling
	seen [numFields]bool // of the head
	row  row
	leaf leaf
}

// leaf is a leaf that was read last.
type leaf struct {
	text  []byte
	notes [][]byte // IDs
}

func (p *formParser) document() error {
	kind, err := p.next()
	if err != nil {
		return err
	}
	if kind != xmlOpen || string(p.name) != "ownershipDocument" {
		return errors.New("no ownershipDocument")
	}
	if err := p.children(p.part); err != nil {
		return err
	}
	_, err = p.next() // reads to the end, which is all that can come
	return err
}

// part reads an element of the document itself.
func (p *formParser) part(name []byte) error {
	switch string(name) {
	case "issuer":
		return p.children(p.head)
	case "reportingOwner":
		return p.owner()
	case "nonDerivativeTable", "derivativeTable":
		return p.children(p.line)
	case "footnotes":
		return p.children(p.footnote)
	}
	return p.head(name)
}

// head reads a leaf of the document or of its issuer.
func (p *formParser) head(name []byte) error {
	f := fieldOf(name, schemaVersion, remarks)
	if f == noField || f == wrapper {
		return p.skip()
	}
	if p.seen[f] {
		return fmt.Errorf("%s: it occurs twice", fieldName(f))
	}
	p.seen[f] = true
	read := p.value
	if f == remarks {
		read = p.content
	}
	text, err := read()
	if err != nil {
		return err
	}
	if err := p.setHead(f, text); err != nil {
		return fmt.Errorf("%s: %w", fieldName(f), err)
	}
	return nil
}

func (p *formParser) setHead(f field, text []byte) (err error) {
	switch f {
	case documentType:
		if p.form.Form = string(text); !market.IsInsiderForm(p.form.Form) {
			return errors.New("want 3, 4 or 5, or one of them with /A")
		}
	case schemaVersion:
		p.form.Schema = tidy(text)
	case periodOfReport:
		p.form.Period, err = formDate(text)
	case dateOfOriginalSubmission:
		p.form.OriginalFiled, err = formDate(text)
	case noSecuritiesOwned:
		p.form.NoSecurities, err = formFlag(text)
	case notSubjectToSection16:
		p.form.Exited, err = formFlag(text)
	case aff10b5One:
		p.form.Plan, err = formAnswer(text)
	case issuerCik:
		p.form.IssuerCIK, err = cikOf(text)
	case issuerName:
		p.form.IssuerName = tidy(text)
	case issuerTradingSymbol:
		p.form.IssuerSymbol = tidy(text)
	case remarks:
		p.form.Remarks = tidy(text)
	}
	return err
}

// value reads the leaf that was just opened and returns its text, which stands
// in it or in an element value within it. The IDs of its footnotes are in
// p.leaf.
func (p *formParser) value() ([]byte, error) {
	p.leaf.text, p.leaf.notes = nil, p.leaf.notes[:0]
	var bare []byte // what stands in the leaf itself
	valued, other := false, false
	for {
		kind, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case kind == xmlClose && !isBlankText(bare) && (valued || other):
			return nil, p.wrong("a leaf with text beside its elements")
		case kind == xmlClose:
			if !valued {
				p.leaf.text = bare
			}
			return bytes.TrimSpace(p.leaf.text), nil
		case kind == xmlText:
			bare = join(bare, p.text)
		case string(p.name) == "footnoteId":
			err = p.noteID()
		case string(p.name) != "value":
			other = true
			err = p.skip()
		case valued:
			err = p.wrong("a leaf with two values")
		default:
			valued = true
			p.leaf.text, err = p.plain()
		}
		if err != nil {
			return nil, err
		}
	}
}

// plain reads an element that may hold text alone.
func (p *formParser) plain() ([]byte, error) {
	var text []byte
	for {
		kind, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case kind == xmlClose:
			return text, nil
		case kind == xmlOpen:
			return nil, p.wrong("an element within a value")
		}
		text = join(text, p.text)
	}
}

func (p *formParser) noteID() error {
	id := p.attr("id")
	if len(id) == 0 {
		return p.wrong("a reference to a footnote without its name")
	}
	if len(p.leaf.notes) == maxNotes {
		return fmt.Errorf("more than %d footnotes", maxNotes)
	}
	p.leaf.notes = append(p.leaf.notes, id)
	return p.skip()
}

func (p *formParser) owner() error {
	if len(p.form.Owners) == maxOwners {
		return fmt.Errorf("more than %d owners", maxOwners)
	}
	var o market.InsiderOwner
	var seen [numFields]bool
	var leafOf func(name []byte) error
	leafOf = func(name []byte) error {
		f := fieldOf(name, rptOwnerCik, otherText)
		switch f {
		case noField:
			return p.skip()
		case wrapper:
			return p.children(leafOf)
		}
		if seen[f] {
			return fmt.Errorf("%s: it occurs twice", fieldName(f))
		}
		seen[f] = true
		text, err := p.value()
		if err != nil {
			return err
		}
		if err := setOwner(&o, f, text); err != nil {
			return fmt.Errorf("%s: %w", fieldName(f), err)
		}
		return nil
	}
	if err := p.children(leafOf); err != nil {
		return fmt.Errorf("owner %d: %w", len(p.form.Owners)+1, err)
	}
	if o.CIK == 0 {
		return fmt.Errorf("owner %d: rptOwnerCik is missing", len(p.form.Owners)+1)
	}
	p.form.Owners = append(p.form.Owners, o)
	return nil
}

func setOwner(o *market.InsiderOwner, f field, text []byte) (err error) {
	switch f {
	case rptOwnerCik:
		o.CIK, err = cikOf(text)
	case rptOwnerName:
		o.Name = tidy(text)
	case officerTitle:
		o.Title = tidy(text)
	case otherText:
		o.Relation = tidy(text)
	case isDirector:
		o.Director, err = formFlag(text)
	case isOfficer:
		o.Officer, err = formFlag(text)
	case isTenPercentOwner:
		o.TenPercent, err = formFlag(text)
	case isOther:
		o.Other, err = formFlag(text)
	}
	return err
}

func (p *formParser) footnote(name []byte) error {
	if string(name) != "footnote" {
		return p.skip()
	}
	id := p.attr("id")
	text, err := p.content()
	switch {
	case err != nil:
		return err
	case len(id) == 0:
		return p.wrong("a footnote without a name")
	case len(p.form.Footnotes) == maxNotes:
		return fmt.Errorf("more than %d footnotes", maxNotes)
	}
	p.form.Footnotes = append(p.form.Footnotes, market.InsiderNote{ID: tidy(id), Text: tidy(text)})
	return nil
}

// finish checks what must be there and gives the lines their footnotes.
func (p *formParser) finish() error {
	f := &p.form
	switch {
	case f.Form == "":
		return errors.New("documentType is missing")
	case f.Period == 0:
		return errors.New("periodOfReport is missing")
	case f.IssuerCIK == 0:
		return errors.New("issuerCik is missing")
	case len(f.Owners) == 0:
		return errors.New("reportingOwner is missing")
	}
	texts := make(map[string]string, len(f.Footnotes))
	f.PlanMentioned = speaksOfPlan(f.Remarks)
	for _, n := range f.Footnotes {
		if _, twice := texts[n.ID]; twice {
			return errors.New("two footnotes of one name")
		}
		texts[n.ID] = n.Text
		f.PlanMentioned = f.PlanMentioned || speaksOfPlan(n.Text)
	}
	for i := range f.Lines {
		l := &f.Lines[i]
		for j := range l.Notes {
			text, known := texts[l.Notes[j].ID]
			if !known {
				l.Flags |= market.NoSuchNote
			}
			l.Notes[j].Text = text
		}
	}
	return nil
}

// formDate reads YYYY-MM-DD, which the schema allows to have a zone behind it,
// such as 2022-12-13-05:00: the day is the one that is written.
func formDate(text []byte) (market.Date, error) {
	if len(text) == 0 {
		return 0, nil
	}
	day, zone := text, []byte(nil)
	if len(text) > 10 {
		day, zone = text[:10], text[10:]
	}
	d, err := market.ParseDate(string(day))
	if err != nil || !isZone(zone) {
		return 0, errors.New("a date is not written as YYYY-MM-DD")
	}
	return d, nil
}

func isZone(z []byte) bool {
	digit := func(i int) bool { return z[i] >= '0' && z[i] <= '9' }
	return len(z) == 0 || string(z) == "Z" ||
		len(z) == 6 && (z[0] == '+' || z[0] == '-') && digit(1) && digit(2) && z[3] == ':' && digit(4) && digit(5)
}

func formAnswer(text []byte) (market.Answer, error) {
	switch string(text) {
	case "":
		return market.AnswerUnknown, nil
	case "0", "false":
		return market.AnswerNo, nil
	case "1", "true":
		return market.AnswerYes, nil
	}
	return 0, errors.New("want 0, 1, false or true")
}

// formFlag is for boxes that forms leave out when they are not ticked.
func formFlag(text []byte) (bool, error) {
	a, err := formAnswer(text)
	return a == market.AnswerYes, err
}

// tidy makes one blank of each run of them.
func tidy(text []byte) string {
	if !bytes.ContainsAny(text, "\n\t\r") && !bytes.Contains(text, []byte("  ")) {
		return string(bytes.Trim(text, " "))
	}
	return string(bytes.Join(bytes.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == ' ' }), []byte(" ")))
}

package edgar

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

const (
	// MaxFiling bounds the text of one filing, with the scanned letters that
	// some have beside the form.
	MaxFiling = 32 << 20
	// maxHead bounds the part of it before the documents.
	maxHead = 1 << 20
	// maxLine is the length from which a line is read in parts. Marks stand
	// on short ones.
	maxLine = 64 << 10
)

// Filing reads a report of an insider that an index lists, in one call: the
// complete text of the submission, which holds the day of the filing beside the
// form's own XML. What else is in it is read and dropped.
//
// The form must be of the filing, the type and the day that row names, and its
// issuer one of row.Filers. If one of them has reported as an owner of another
// issuer, the error is of kind NoData: the filing is none of a wanted issuer.
// Any other difference is a BadPayload, and so is a filing without a form in
// XML, as those before 2003 are.
//
// The error is a *[providers.Error], or wraps that of ctx.
func (c *Client) Filing(ctx context.Context, row IndexRow) (market.InsiderFiling, error) {
	f, err := c.filing(ctx, row)
	if err != nil {
		return market.InsiderFiling{}, providers.Wrap(Name, "filing "+wire.PrintableASCII(row.Accession), err)
	}
	return f, nil
}

func (c *Client) filing(ctx context.Context, row IndexRow) (market.InsiderFiling, error) {
	if _, err := accessionOf([]byte(row.Accession)); err != nil || len(row.Filers) == 0 {
		return market.InsiderFiling{}, found(providers.BadPayload, "no row of an index: it needs a number and a filer")
	}
	path := fmt.Sprintf("/Archives/edgar/data/%d/%s.txt", row.Filers[0], row.Accession)
	resp, err := get(ctx, c.files, c.filesURL+path, "*/*", http.Header{})
	if err != nil {
		return market.InsiderFiling{}, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	body := wire.NewBody(resp.Body, 0)       // the reader of lines bounds them
	f, err := readSubmission(bufio.NewReaderSize(body, maxLine), row)
	if err != nil {
		return market.InsiderFiling{}, body.Fault(Name, err)
	}
	return f, ours(f, row)
}

// ours refuses a form that is not about a wanted issuer.
func ours(f market.InsiderFiling, row IndexRow) error {
	if slices.Contains(row.Filers, f.IssuerCIK) {
		return nil
	}
	for _, o := range f.Owners {
		if slices.Contains(row.Filers, o.CIK) {
			return found(providers.NoData, fmt.Sprintf("CIK %d reports here as an owner of CIK %d", o.CIK, f.IssuerCIK))
		}
	}
	return found(providers.BadPayload, "the form is about another issuer")
}

// submission reads the text of a filing: a header, then documents, each with
// marks like those of XML on lines of their own (EDGAR Public Dissemination
// Service Technical Specification).
type submission struct {
	lines *bufio.Reader
	read  int
	// begins says that the line that comes next is not the rest of a long one.
	begins bool

	accession, form string
	filed           market.Date
	accepted        time.Time
	xml             []byte
}

func readSubmission(lines *bufio.Reader, row IndexRow) (market.InsiderFiling, error) {
	t := &submission{lines: lines, begins: true}
	if err := t.header(); err != nil {
		return market.InsiderFiling{}, err
	}
	switch {
	case t.accession != row.Accession:
		return market.InsiderFiling{}, errors.New("the text is of another filing")
	case t.form != row.Form:
		return market.InsiderFiling{}, errors.New("the text is of another type of filing than the index says")
	case t.filed != row.Filed:
		return market.InsiderFiling{}, errors.New("the text is of another day than the index says")
	}
	if err := t.documents(); err != nil {
		return market.InsiderFiling{}, err
	}
	if t.xml == nil {
		return market.InsiderFiling{}, errors.New("no form in XML among the documents")
	}
	f, err := parseOwnership(t.xml)
	if err == nil && f.Form != t.form {
		err = errors.New("the form is of another type than its filing")
	}
	if err != nil {
		return market.InsiderFiling{}, err
	}
	f.Accession, f.Filed, f.Accepted = t.accession, t.filed, t.accepted
	f.Examine()
	return f, nil
}

// line returns the next line without its end, or a part of a long one; mark is
// true if marks can stand in it, end after the last one.
func (t *submission) line() (line []byte, mark, end bool, err error) {
	line, err = t.lines.ReadSlice('\n')
	if t.read += len(line); t.read > MaxFiling {
		return nil, false, false, fmt.Errorf("a filing of more than %d bytes", MaxFiling)
	}
	long := errors.Is(err, bufio.ErrBufferFull)
	if err != nil && err != io.EOF && !long {
		return nil, false, false, err
	}
	mark = t.begins && !long
	t.begins = !long
	return line, mark, err != nil && !long, nil
}

// header reads up to the first document. Of the lines that name the filers
// nothing is needed: the form names them too, and which is which.
func (t *submission) header() error {
	for {
		line, mark, end, err := t.line()
		if err != nil {
			return err
		}
		text := bytes.TrimSpace(line)
		switch {
		case mark && string(text) == "<DOCUMENT>":
			return t.headed()
		case end || mark && string(text) == "</SEC-DOCUMENT>":
			return wire.ErrCut
		case t.read > maxHead:
			return errors.New("no text of a filing: it has no document")
		}
		if err := t.headline(text); err != nil {
			return err
		}
	}
}

// headline reads <ACCEPTANCE-DATETIME>20240607181030, a time of New York, and
// lines such as FILED AS OF DATE: 20240607.
func (t *submission) headline(text []byte) (err error) {
	if stamp, ok := bytes.CutPrefix(text, []byte("<ACCEPTANCE-DATETIME>")); ok {
		local, err := time.ParseInLocation("20060102150405", string(bytes.TrimSpace(stamp)), market.NewYork())
		if err != nil {
			return errors.New("the time of acceptance is not written as YYYYMMDDhhmmss")
		}
		t.accepted = local.UTC()
		return nil
	}
	name, value, ok := bytes.Cut(text, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case !ok:
	case string(name) == "ACCESSION NUMBER":
		err = setOnce(&t.accession, value)
	case string(name) == "CONFORMED SUBMISSION TYPE":
		err = setOnce(&t.form, value)
	case string(name) == "FILED AS OF DATE":
		if t.filed != 0 {
			return errors.New("the header has two days")
		}
		t.filed, err = indexDate(value)
	}
	return err
}

func setOnce(to *string, value []byte) error {
	if *to != "" {
		return errors.New("the header has two numbers or two types")
	}
	*to = string(value)
	return nil
}

func (t *submission) headed() error {
	if t.accession == "" || t.form == "" || t.filed == 0 {
		return errors.New("the header lacks its number, its type or its day")
	}
	return nil
}

// documents reads them all, so that a text that was cut is known. The first one
// has begun.
func (t *submission) documents() error {
	kind, inside, complete := "", false, false
	for {
		line, mark, end, err := t.line()
		if err != nil {
			return err
		}
		text := bytes.TrimSpace(line)
		switch {
		case mark && (string(text) == "</SEC-DOCUMENT>" || string(text) == "</IMS-DOCUMENT>"):
			complete = true
		case !mark || complete:
		case string(text) == "<DOCUMENT>":
			kind, inside = "", false
		case string(text) == "<TEXT>":
			inside = true
		case !inside && bytes.HasPrefix(text, []byte("<TYPE>")):
			kind = string(text[len("<TYPE>"):])
		case inside && kind == t.form && string(text) == "<XML>":
			if err := t.collect(); err != nil {
				return err
			}
		}
		if end && !complete {
			return wire.ErrCut
		}
		if end {
			return nil
		}
	}
}

// collect keeps the lines of a form, up to </XML>.
func (t *submission) collect() error {
	if t.xml != nil {
		return errors.New("two forms in one filing")
	}
	t.xml = []byte{}
	for {
		line, mark, end, err := t.line()
		switch {
		case err != nil:
			return err
		case mark && string(bytes.TrimSpace(line)) == "</XML>":
			t.xml = bytes.TrimSpace(t.xml)
			return nil
		case end:
			return wire.ErrCut
		case len(t.xml)+len(line) > maxOwnership:
			return fmt.Errorf("a form of more than %d bytes", maxOwnership)
		}
		t.xml = append(t.xml, line...)
	}
}

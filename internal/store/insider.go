package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// InsiderMark says of a transaction whether it still counts, and in whose place
// it stands.
type InsiderMark struct {
	Accession  string `json:"accession_number,omitempty"`
	Line       int    `json:"line"`
	Superseded bool   `json:"superseded"`
	// Amends and AmendsLine are the key of the line in whose place this one
	// stands: "" and 0 if there is none.
	Amends     string `json:"amends,omitempty"`
	AmendsLine int    `json:"amends_line,omitempty"`
}

// StoredFiling is a filing as it is stored.
type StoredFiling struct {
	Symbol market.Symbol
	Filing market.InsiderFiling
	marks  map[int]InsiderMark // of the rows that there are, by their lines
}

// ReadFiling reads a stored filing from its document and from the marks of its
// transactions, a JSON array of objects with the members of [InsiderMark].
func ReadFiling(symbol market.Symbol, document, marks string) (StoredFiling, error) {
	s := StoredFiling{Symbol: symbol, marks: map[int]InsiderMark{}}
	if err := json.Unmarshal([]byte(document), &s.Filing); err != nil {
		return s, fmt.Errorf("document of a stored filing of %s: %w", symbol, err)
	}
	var all []InsiderMark
	if err := json.Unmarshal([]byte(marks), &all); err != nil {
		return s, fmt.Errorf("marks of stored filing %s: %w", s.Filing.Accession, err)
	}
	for _, m := range all {
		m.Accession = s.Filing.Accession
		s.marks[m.Line] = m
	}
	return s, nil
}

// InsiderRow is a row of the table insider_transactions, by the names of its
// columns; a nil pointer is null.
type InsiderRow struct {
	Symbol     market.Symbol   `json:"symbol"`
	Filed      time.Time       `json:"filed_date"` // 00:00 UTC
	Name       *string         `json:"insider_name"`
	Title      *string         `json:"insider_title"`
	Type       *string         `json:"transaction_type"`
	Shares     *float64        `json:"shares"`
	Price      *float64        `json:"price_per_share"`
	OwnedAfter *float64        `json:"shares_owned_after"`
	Direct     *bool           `json:"is_direct"`
	Accession  string          `json:"accession_number"`
	Line       int             `json:"line"`
	Form       string          `json:"form_type"`
	IssuerCIK  string          `json:"issuer_cik"`
	OwnerCIK   string          `json:"owner_cik"`
	Date       market.Date     `json:"transaction_date,omitzero"`
	Security   *string         `json:"security_title"`
	Derivative bool            `json:"is_derivative"`
	AD         *string         `json:"acquired_disposed"`
	Plan       *bool           `json:"aff10b5_one"`
	Superseded bool            `json:"superseded"`
	Amends     *string         `json:"amends"`
	AmendsLine *int            `json:"amends_line"`
	Footnotes  json.RawMessage `json:"footnotes,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
}

// lineMetadata is what the columns have no place for.
type lineMetadata struct {
	Flags            []string    `json:"flags,omitempty"`
	Nature           string      `json:"nature,omitempty"`
	Deemed           market.Date `json:"deemed_date,omitzero"`
	ReportedOn       string      `json:"reported_on,omitempty"`
	Timeliness       string      `json:"timeliness,omitempty"`
	Swap             *bool       `json:"equity_swap,omitempty"`
	TotalValue       *float64    `json:"total_value,omitempty"`
	ValueAfter       *float64    `json:"value_owned_after,omitempty"`
	ConversionPrice  *float64    `json:"conversion_price,omitempty"`
	Exercise         market.Date `json:"exercise_date,omitzero"`
	Expiration       market.Date `json:"expiration_date,omitzero"`
	Underlying       string      `json:"underlying,omitempty"`
	UnderlyingShares *float64    `json:"underlying_shares,omitempty"`
	UnderlyingValue  *float64    `json:"underlying_value,omitempty"`
	PlanMentioned    bool        `json:"plan_mentioned,omitempty"`
}

// insiderRows returns the rows of a filing's transactions as if none were
// amended. Of several owners the first one stands in the row; they report one
// transaction together.
func insiderRows(symbol market.Symbol, f *market.InsiderFiling) ([]InsiderRow, error) {
	owner := &f.Owners[0]
	var rows []InsiderRow
	for i := range f.Lines {
		l := &f.Lines[i]
		if l.Holding {
			continue
		}
		row := InsiderRow{
			Symbol: symbol, Filed: f.Filed.Time(), Name: textOrNull(owner.Name), Title: textOrNull(ownerTitle(owner)),
			Type: textOrNull(l.Code), Shares: known(l.Shares), Price: known(l.Price), OwnedAfter: known(l.OwnedAfter), Direct: answer(l.Direct),
			Accession: f.Accession, Line: l.Line, Form: f.Form, IssuerCIK: PaddedCIK(f.IssuerCIK), OwnerCIK: PaddedCIK(owner.CIK),
			Date: l.Date, Security: textOrNull(l.SecurityTitle), Derivative: l.Derivative, AD: textOrNull(l.AcquiredDisposed), Plan: answer(f.Plan),
		}
		if err := row.describe(f, l); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// describe sets what is JSON, null where there is nothing to say.
func (r *InsiderRow) describe(f *market.InsiderFiling, l *market.InsiderLine) (err error) {
	if len(l.Notes) > 0 {
		if r.Footnotes, err = json.Marshal(l.Notes); err != nil {
			return err
		}
	}
	more := lineMetadata{
		Flags: l.Flags.Names(), Nature: l.Nature, Deemed: l.Deemed, ReportedOn: l.ReportedOn, Timeliness: l.Timeliness, Swap: answer(l.Swap),
		TotalValue: known(l.TotalValue), ValueAfter: known(l.ValueAfter), ConversionPrice: known(l.ConversionPrice),
		Exercise: l.Exercise, Expiration: l.Expiration, Underlying: l.Underlying,
		UnderlyingShares: known(l.UnderlyingShares), UnderlyingValue: known(l.UnderlyingValue), PlanMentioned: f.PlanMentioned,
	}
	if !reflect.ValueOf(more).IsZero() {
		r.Metadata, err = json.Marshal(more)
	}
	return err
}

// ownerTitle is an officer's title, else what else the owner is.
func ownerTitle(o *market.InsiderOwner) string {
	switch {
	case o.Title != "":
		return o.Title
	case o.Director:
		return "Director"
	case o.TenPercent:
		return "10% Owner"
	case o.Relation == "" && o.Officer:
		return "Officer"
	}
	return o.Relation
}

func known(a market.Amount) *float64 {
	if !a.Known {
		return nil
	}
	return &a.Value
}

func answer(a market.Answer) *bool {
	yes, known := a.Bool()
	if !known {
		return nil
	}
	return &yes
}

// PaddedCIK writes a number of the SEC as it does itself, with ten digits.
func PaddedCIK(cik int) string { return fmt.Sprintf("%010d", cik) }

// OwnerRow is a row of the table insider_owners, by the names of its columns.
type OwnerRow struct {
	Accession  string  `json:"accession_number"`
	Position   int     `json:"position"` // from 1
	CIK        string  `json:"owner_cik"`
	Name       *string `json:"name"`
	Title      *string `json:"title"`
	Relation   *string `json:"relation"`
	Director   bool    `json:"is_director"`
	Officer    bool    `json:"is_officer"`
	TenPercent bool    `json:"is_ten_percent"`
	Other      bool    `json:"is_other"`
}

func ownerRows(f *market.InsiderFiling) []OwnerRow {
	rows := make([]OwnerRow, len(f.Owners))
	for i, o := range f.Owners {
		rows[i] = OwnerRow{
			Accession: f.Accession, Position: i + 1, CIK: PaddedCIK(o.CIK), Name: textOrNull(o.Name), Title: textOrNull(o.Title),
			Relation: textOrNull(o.Relation), Director: o.Director, Officer: o.Officer, TenPercent: o.TenPercent, Other: o.Other,
		}
	}
	return rows
}

// FilingDiff is the difference between a filing that came in and what is
// stored: all that a save has to write.
type FilingDiff struct {
	// Document is the filing as JSON, to be written with its columns and its
	// Owners in place of those that are stored; nil if it is stored so.
	Document []byte
	Owners   []OwnerRow
	// Drop are the lines of the filing whose rows are to go, Insert the rows
	// that are to come after that.
	Drop   []int
	Insert []InsiderRow
	// Marks are to be set on rows that stay, of this filing and of others.
	Marks []InsiderMark
	// Changes counts the filing and its rows, and as updated the rows of
	// other filings whose marks change.
	Changes market.Changes
}

// CompareFiling compares a filing, which CheckFiling has passed, with stored:
// itself, if it is there, and all filings that can have to do with one another
// by way of it. Which lines count follows [market.Supersede] over all of them,
// so it does not matter in which order filings arrive.
func CompareFiling(stored []StoredFiling, symbol market.Symbol, f market.InsiderFiling) (FilingDiff, error) {
	var d FilingDiff
	var had StoredFiling
	family := []market.InsiderFiling{f}
	for _, s := range stored {
		if s.Filing.Accession == f.Accession {
			had = s
			continue
		}
		family = append(family, s.Filing)
	}
	marks := marksOf(family)
	if err := d.compareDocument(&had, symbol, &f); err != nil {
		return d, err
	}
	if err := d.compareRows(&had, symbol, &f, marks); err != nil {
		return d, err
	}
	for _, s := range stored {
		for line, is := range s.marks {
			own := s.Filing.Accession == f.Accession
			if want := marks.of(s.Filing.Accession, line); want != is && !(own && slices.Contains(d.Drop, line)) {
				d.Marks = append(d.Marks, want)
				d.Changes.Updated++
				if own {
					d.Changes.Unchanged--
				}
			}
		}
	}
	slices.SortFunc(d.Marks, func(a, b InsiderMark) int {
		return cmp.Or(cmp.Compare(a.Accession, b.Accession), cmp.Compare(a.Line, b.Line))
	})
	return d, nil
}

type insiderMarks map[market.InsiderLineID]InsiderMark

// marksOf returns the marks of the lines that amend another or are amended.
func marksOf(family []market.InsiderFiling) insiderMarks {
	marks := insiderMarks{}
	for old, by := range market.Supersede(family) {
		m := marks.of(old.Accession, old.Line)
		m.Superseded = true
		marks[old] = m
		m = marks.of(by.Accession, by.Line)
		m.Amends, m.AmendsLine = old.Accession, old.Line
		marks[by] = m
	}
	return marks
}

func (all insiderMarks) of(accession string, line int) InsiderMark {
	if m, ok := all[market.InsiderLineID{Accession: accession, Line: line}]; ok {
		return m
	}
	return InsiderMark{Accession: accession, Line: line}
}

func (d *FilingDiff) compareDocument(had *StoredFiling, symbol market.Symbol, f *market.InsiderFiling) error {
	document, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if had.Symbol == "" {
		d.Changes.Inserted++
		d.Document, d.Owners = document, ownerRows(f)
		return nil
	}
	// What a store makes of a document need not be the same text.
	old, err := json.Marshal(had.Filing)
	if err != nil {
		return err
	}
	if had.Symbol == symbol && bytes.Equal(old, document) {
		d.Changes.Unchanged++
		return nil
	}
	d.Changes.Updated++
	d.Document, d.Owners = document, ownerRows(f)
	return nil
}

// compareRows compares with what the stored document gave, as far as the rows
// are still there.
func (d *FilingDiff) compareRows(had *StoredFiling, symbol market.Symbol, f *market.InsiderFiling, marks insiderMarks) error {
	rows, err := insiderRows(symbol, f)
	if err != nil {
		return err
	}
	old, err := had.rows()
	if err != nil {
		return err
	}
	gone := maps.Clone(had.marks)
	for _, row := range rows {
		_, there := had.marks[row.Line]
		delete(gone, row.Line)
		switch {
		case there && reflect.DeepEqual(old[row.Line], row):
			d.Changes.Unchanged++
			continue
		case there:
			d.Changes.Updated++
		default:
			d.Changes.Inserted++
		}
		d.Insert = append(d.Insert, row.marked(marks.of(row.Accession, row.Line)))
		// A row that came without its filing would be in the way.
		d.Drop = append(d.Drop, row.Line)
	}
	d.Changes.Updated += len(gone)
	d.Drop = slices.AppendSeq(d.Drop, maps.Keys(gone))
	slices.Sort(d.Drop)
	return nil
}

// rows returns the rows of the stored document by their lines.
func (s *StoredFiling) rows() (map[int]InsiderRow, error) {
	if s.Symbol == "" {
		return nil, nil //nolint:nilnil // there is no document
	}
	rows, err := insiderRows(s.Symbol, &s.Filing)
	of := make(map[int]InsiderRow, len(rows))
	for _, row := range rows {
		of[row.Line] = row
	}
	return of, err
}

func (r InsiderRow) marked(m InsiderMark) InsiderRow {
	r.Superseded = m.Superseded
	if m.Amends != "" {
		r.Amends, r.AmendsLine = &m.Amends, &m.AmendsLine
	}
	return r
}

// CheckFiling refuses a filing that no store can hold as it is: without a
// number, a day, an issuer or an owner, of another form than those of insiders,
// with two lines of one number, or with a value that is none.
func CheckFiling(symbol market.Symbol, f *market.InsiderFiling) error {
	switch {
	case symbol == "" || f.Accession == "":
		return errors.New("a filing without a symbol or an accession number")
	case !market.IsInsiderForm(f.Form):
		return fmt.Errorf("form %q: want 3, 4 or 5, or one of them with /A", f.Form)
	case !storable(f.Filed):
		return errors.New("without the day on which it was filed")
	case !isDay(f.Period) || !isDay(f.OriginalFiled) || !f.Accepted.IsZero() && !storable(market.DateOf(f.Accepted.UTC())):
		return errors.New("a date in no year of four digits")
	case !isCIK(f.IssuerCIK):
		return fmt.Errorf("issuer %d: want a number of one to ten digits", f.IssuerCIK)
	case len(f.Owners) == 0:
		return errors.New("without an owner")
	case !isText(f.Accession, f.Schema, f.IssuerName, f.IssuerSymbol, f.Remarks) || !areNotes(f.Footnotes):
		return errors.New("a text with bytes that are none")
	}
	for i, o := range f.Owners {
		if !isCIK(o.CIK) || !isText(o.Name, o.Title, o.Relation) {
			return fmt.Errorf("owner %d: want a number of one to ten digits, and texts", i+1)
		}
	}
	return checkLines(f.Lines)
}

func checkLines(lines []market.InsiderLine) error {
	seen := make(map[int]bool, len(lines))
	for i := range lines {
		l := &lines[i]
		if l.Line < 1 || l.Line > maxLine || seen[l.Line] {
			return fmt.Errorf("line %d: want numbers from 1, each once", l.Line)
		}
		seen[l.Line] = true
		if !isText(l.SecurityTitle, l.Code, l.ReportedOn, l.Timeliness, l.AcquiredDisposed, l.Nature, l.Underlying) || !areNotes(l.Notes) {
			return fmt.Errorf("line %d: a text with bytes that are none", l.Line)
		}
		for _, d := range [...]market.Date{l.Date, l.Deemed, l.Exercise, l.Expiration} {
			if !isDay(d) {
				return fmt.Errorf("line %d: day %d is in no year of four digits", l.Line, d)
			}
		}
		for _, a := range [...]market.Amount{
			l.Shares, l.TotalValue, l.Price, l.OwnedAfter, l.ValueAfter, l.ConversionPrice, l.UnderlyingShares, l.UnderlyingValue,
		} {
			if !isNumber(a.Value) {
				return fmt.Errorf("line %d: a value is not a finite number", l.Line)
			}
		}
	}
	return nil
}

// maxLine is the greatest integer of a column.
const maxLine = 1<<31 - 1

// isDay reports whether d is no date, or one that every store can hold.
func isDay(d market.Date) bool { return d.IsZero() || storable(d) }

func areNotes(notes []market.InsiderNote) bool {
	return !slices.ContainsFunc(notes, func(n market.InsiderNote) bool { return !isText(n.ID, n.Of, n.Text) })
}

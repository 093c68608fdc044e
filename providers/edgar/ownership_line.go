package edgar

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
)

// field is a leaf of a form that is read.
type field uint8

// The leaves, by where they are, and by their names in the schema. wrapper
// stands for the elements that only group others.
const (
	noField field = iota
	wrapper

	schemaVersion
	documentType
	periodOfReport
	dateOfOriginalSubmission
	noSecuritiesOwned
	notSubjectToSection16
	aff10b5One
	issuerCik
	issuerName
	issuerTradingSymbol
	remarks

	rptOwnerCik
	rptOwnerName
	isDirector
	isOfficer
	isTenPercentOwner
	isOther
	officerTitle
	otherText

	securityTitle
	conversionOrExercisePrice
	transactionDate
	deemedExecutionDate
	transactionFormType
	transactionCode
	equitySwapInvolved
	transactionTimeliness
	transactionShares
	transactionTotalValue
	transactionPricePerShare
	transactionAcquiredDisposedCode
	exerciseDate
	expirationDate
	underlyingSecurityTitle
	underlyingSecurityShares
	underlyingSecurityValue
	sharesOwnedFollowingTransaction
	valueOwnedFollowingTransaction
	directOrIndirectOwnership
	natureOfOwnership
	transactionCoding // has footnotes of its own

	numFields
)

// fieldName returns the name of a leaf in the schema.
func fieldName(f field) string {
	return [numFields]string{
		"", "",
		"schemaVersion", "documentType", "periodOfReport", "dateOfOriginalSubmission", "noSecuritiesOwned",
		"notSubjectToSection16", "aff10b5One", "issuerCik", "issuerName", "issuerTradingSymbol", "remarks",
		"rptOwnerCik", "rptOwnerName", "isDirector", "isOfficer", "isTenPercentOwner", "isOther", "officerTitle", "otherText",
		"securityTitle", "conversionOrExercisePrice", "transactionDate", "deemedExecutionDate", "transactionFormType",
		"transactionCode", "equitySwapInvolved", "transactionTimeliness", "transactionShares", "transactionTotalValue",
		"transactionPricePerShare", "transactionAcquiredDisposedCode", "exerciseDate", "expirationDate",
		"underlyingSecurityTitle", "underlyingSecurityShares", "underlyingSecurityValue",
		"sharesOwnedFollowingTransaction", "valueOwnedFollowingTransaction", "directOrIndirectOwnership",
		"natureOfOwnership", "transactionCoding",
	}[f]
}

// fieldsByName is made at first use and never changed.
var fieldsByName = sync.OnceValue(func() map[string]field {
	all := map[string]field{}
	for f := schemaVersion; f < numFields; f++ {
		all[fieldName(f)] = f
	}
	for _, name := range []string{
		"reportingOwnerId", "reportingOwnerRelationship", "transactionAmounts", "underlyingSecurity", "postTransactionAmounts",
		"ownershipNature",
	} {
		all[name] = wrapper
	}
	return all
})

// fieldOf returns the field of a name, if it is one of a part of the form.
func fieldOf(name []byte, from, to field) field {
	f := fieldsByName()[string(name)]
	if f != wrapper && (f < from || f > to) {
		return noField
	}
	return f
}

// row is a line while it is read.
type row struct {
	line market.InsiderLine
	seen [numFields]bool
}

// line reads a row of a table.
func (p *formParser) line(name []byte) error {
	p.row = row{}
	l := &p.row.line
	switch string(name) {
	case "nonDerivativeTransaction":
	case "nonDerivativeHolding":
		l.Holding = true
	case "derivativeTransaction":
		l.Derivative = true
	case "derivativeHolding":
		l.Derivative, l.Holding = true, true
	default:
		return p.skip()
	}
	if len(p.form.Lines) == maxInsiderLines {
		return fmt.Errorf("more than %d lines", maxInsiderLines)
	}
	l.Line = len(p.form.Lines) + 1
	if err := p.children(p.lineLeaf); err != nil {
		return fmt.Errorf("line %d: %w", l.Line, err)
	}
	p.form.Lines = append(p.form.Lines, *l)
	return nil
}

// lineLeaf reads a leaf of a row, or what groups leaves.
func (p *formParser) lineLeaf(name []byte) error {
	if string(name) == "footnoteId" {
		p.leaf.notes = p.leaf.notes[:0]
		if err := p.noteID(); err != nil {
			return err
		}
		return p.addNotes(transactionCoding)
	}
	f := fieldOf(name, securityTitle, transactionCoding)
	switch f {
	case noField:
		return p.skip()
	case wrapper, transactionCoding:
		return p.children(p.lineLeaf)
	}
	if p.row.seen[f] {
		return fmt.Errorf("%s: it occurs twice", fieldName(f))
	}
	p.row.seen[f] = true
	text, err := p.value()
	if err != nil {
		return err
	}
	if err := p.setLine(f, text); err != nil {
		return fmt.Errorf("%s: %w", fieldName(f), err)
	}
	return p.addNotes(f)
}

func (p *formParser) addNotes(of field) error {
	l := &p.row.line
	if len(l.Notes)+len(p.leaf.notes) > maxNotes {
		return fmt.Errorf("more than %d footnotes", maxNotes)
	}
	for _, id := range p.leaf.notes {
		l.Notes = append(l.Notes, market.InsiderNote{ID: tidy(id), Of: fieldName(of)})
	}
	return nil
}

func (p *formParser) setLine(f field, text []byte) (err error) {
	l := &p.row.line
	switch f {
	case securityTitle:
		l.SecurityTitle = tidy(text)
	case transactionDate:
		l.Date, err = formDate(text)
	case deemedExecutionDate:
		l.Deemed, err = formDate(text)
	case transactionFormType:
		l.ReportedOn, err = oneOf(text, "45")
	case transactionCode:
		l.Code, err = oneOf(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	case equitySwapInvolved:
		l.Swap, err = formAnswer(text)
	case transactionTimeliness:
		l.Timeliness, err = oneOf(text, "EL")
	case transactionAcquiredDisposedCode:
		l.AcquiredDisposed, err = oneOf(text, "AD")
	case exerciseDate:
		l.Exercise, err = formDate(text)
	case expirationDate:
		l.Expiration, err = formDate(text)
	case underlyingSecurityTitle:
		l.Underlying = tidy(text)
	case directOrIndirectOwnership:
		l.Direct, err = directness(text)
	case natureOfOwnership:
		l.Nature = tidy(text)
	default:
		var exact bool
		if *amountOf(l, f), exact, err = formAmount(text); err == nil && !exact {
			l.Flags |= market.Inexact
		}
	}
	return err
}

func amountOf(l *market.InsiderLine, f field) *market.Amount {
	switch f {
	case conversionOrExercisePrice:
		return &l.ConversionPrice
	case transactionShares:
		return &l.Shares
	case transactionTotalValue:
		return &l.TotalValue
	case transactionPricePerShare:
		return &l.Price
	case underlyingSecurityShares:
		return &l.UnderlyingShares
	case underlyingSecurityValue:
		return &l.UnderlyingValue
	case sharesOwnedFollowingTransaction:
		return &l.OwnedAfter
	}
	return &l.ValueAfter
}

func directness(text []byte) (market.Answer, error) {
	letter, err := oneOf(text, "DI")
	switch letter {
	case "D":
		return market.AnswerYes, err
	case "I":
		return market.AnswerNo, err
	}
	return market.AnswerUnknown, err
}

// oneOf reads one letter of several, or none.
func oneOf(text []byte, letters string) (string, error) {
	if len(text) == 0 {
		return "", nil
	}
	if len(text) > 1 || bytes.IndexByte([]byte(letters), text[0]) < 0 {
		return "", fmt.Errorf("want one of the letters %s", letters)
	}
	return string(text), nil
}

// formAmount reads a figure. The schema's decimals may begin or end with their
// point.
func formAmount(text []byte) (a market.Amount, exact bool, err error) {
	if len(text) == 0 {
		return market.Amount{}, true, nil
	}
	switch n := len(text) - 1; {
	case n > 0 && text[0] == '.':
		text = append([]byte{'0'}, text...)
	case n > 0 && text[n] == '.':
		text = text[:n]
	}
	v, exact, err := market.ParsePrice(text)
	if err != nil {
		return market.Amount{}, false, errors.New("a figure is not written in plain digits, at most 12 before the point and 9 after it")
	}
	return market.Amount{Value: v, Known: true}, exact, nil
}

package market

import (
	"strings"
	"time"
)

// Answer is what a form says to a question that is answered by yes or no.
type Answer uint8

// The answers. Unknown is none at all: what a form does not say is not "no".
const (
	AnswerUnknown Answer = iota
	AnswerNo
	AnswerYes
)

// Bool returns the answer; known is false for [AnswerUnknown].
func (a Answer) Bool() (yes, known bool) { return a == AnswerYes, a != AnswerUnknown }

// String returns "unknown", "no" or "yes".
func (a Answer) String() string {
	switch a {
	case AnswerNo:
		return "no"
	case AnswerYes:
		return "yes"
	case AnswerUnknown:
	}
	return "unknown"
}

// Amount is a figure that a form may leave out or give in a footnote alone. The
// zero Amount is unknown, which is not 0.
type Amount struct {
	Value float64
	Known bool
}

// IsInsiderForm reports whether a type of filing is a report of an insider: a
// Form 3, 4 or 5 or an amendment of one.
func IsInsiderForm(form string) bool {
	switch form {
	case "3", "3/A", "4", "4/A", "5", "5/A":
		return true
	}
	return false
}

// InsiderFiling is a Form 3, 4 or 5, or an amendment of one, in which insiders
// of an issuer report what they own of it and what they have bought and sold.
//
// Texts are as filed but for their blanks: runs of them are one, none is at
// either end.
type InsiderFiling struct {
	// Accession is the number of the filing at the SEC, as in
	// 0001640147-22-000123.
	Accession string
	// Form is "3", "4", "5" or one of them with "/A" behind it.
	Form string
	// Schema is the version of the form's schema, such as X0508; "" if the
	// form does not say.
	Schema string
	// Filed is the day that counts as the day of the filing in New York. A
	// form that comes by 22:00 has the date of its day.
	Filed Date
	// Accepted is when the SEC took the filing, in UTC; zero if unknown.
	Accepted time.Time
	// Period is the date of the earliest transaction; of the event on Form
	// 3, the end of the fiscal year on Form 5.
	Period Date
	// OriginalFiled is the day on which that was filed which an amendment
	// amends, by its filer's words; zero if it does not say. It does not
	// name the filing: see [Supersede].
	OriginalFiled Date
	// IssuerCIK is the issuer's number and the only thing to join on.
	// IssuerSymbol is free text: "NONE", several symbols, an old one.
	IssuerCIK                int
	IssuerName, IssuerSymbol string
	// Owners are those who report, one or more. Several report the same
	// transactions together: those are not to be counted once for each.
	Owners []InsiderOwner
	// Plan says whether the form's box for Rule 10b5-1, the one about
	// trading plans, is ticked. Forms before April 2023 have none: unknown.
	Plan Answer
	// PlanMentioned says that the remarks or a footnote speak of the rule,
	// be it to say that a trade had nothing to do with it.
	PlanMentioned bool
	// NoSecurities says that the owners own nothing of the issuer (Form 3).
	NoSecurities bool
	// Exited says that the owners are not, or no longer, subject to the duty
	// to report.
	Exited bool
	// Lines are the rows of both tables in the order of the document.
	Lines []InsiderLine
	// Footnotes are all that the filing has, also those that no line refers
	// to. Of is empty here.
	Footnotes []InsiderNote
	Remarks   string
}

// IsAmendment reports whether the filing amends another one.
func (f *InsiderFiling) IsAmendment() bool { return strings.HasSuffix(f.Form, "/A") }

// InsiderOwner is one who reports.
type InsiderOwner struct {
	CIK int
	// Name is as filed, "" if the form has none.
	Name string
	// Title is what officers have, Relation what the form says of an Other.
	Title, Relation string
	// What the owner is to the issuer; several can be true.
	Director, Officer, TenPercent, Other bool
}

// InsiderLine is a row of a filing: a transaction, or a holding, which says
// what is owned of a kind of security that there was no transaction in.
// Holdings have no code and no date; they are lines of their own since an
// amendment can correct one.
type InsiderLine struct {
	// Line counts from 1 through the document, over both tables,
	// transactions and holdings alike. With the accession number it is the
	// key of the line: two lines of a filing can be equal and both right.
	Line int
	// Derivative says that the line is of the table of derivative
	// securities, such as options. A purchase or a sale of the shares
	// themselves is in the other one.
	Derivative bool
	// Holding says that the line is no transaction.
	Holding       bool
	SecurityTitle string
	// Date is the day of the transaction, Deemed that of its execution if
	// that is deemed another; either may be zero.
	Date, Deemed Date
	// Code is the transaction code of Form 4: one capital letter, such as P
	// (purchase) and S (sale); "" if there is none.
	Code string
	// ReportedOn is the form on which the transaction had to be reported, "4"
	// or "5". Timeliness is "" for in time, "E" for early, "L" for late.
	ReportedOn, Timeliness string
	// Swap says whether an equity swap is involved.
	Swap Answer
	// AcquiredDisposed is "A" or "D", or "" if the line does not say.
	AcquiredDisposed string
	// Shares is the number of securities, which can have a fraction. In its
	// place there may be TotalValue, in dollars.
	Shares, TotalValue Amount
	// Price is that of one security, in dollars. 0 is what gifts and grants
	// have.
	Price Amount
	// OwnedAfter is what the owner had of the security after it, in place of
	// which there may be ValueAfter, in dollars.
	OwnedAfter, ValueAfter Amount
	// Direct says whether the owner owns it himself; Nature says through
	// whom otherwise.
	Direct Answer
	Nature string
	// ConversionPrice, Exercise, Expiration and what underlies belong to
	// derivative securities.
	ConversionPrice                   Amount
	Exercise, Expiration              Date
	Underlying                        string
	UnderlyingShares, UnderlyingValue Amount
	// Notes are the footnotes of the line, in order of the document.
	Notes []InsiderNote
	Flags InsiderFlags
}

// InsiderNote is a footnote where it is referred to.
type InsiderNote struct {
	// ID is its name within the filing, such as F1.
	ID string `json:"id"`
	// Of is the element of the SEC's schema that refers to it, such as
	// transactionPricePerShare.
	Of string `json:"of,omitempty"`
	// Text is "" for one that the filing does not have.
	Text string `json:"text"`
}

// InsiderFlags marks what is odd about a line. Nothing odd is ever mended.
type InsiderFlags uint16

// The flags.
const (
	// SharesContradict: the shares are not what the holdings changed by.
	SharesContradict InsiderFlags = 1 << iota
	// SharesExplained: so too, but the holdings have a footnote that may say
	// why.
	SharesExplained
	// DirectionContradicts: a purchase that disposes, a sale that acquires.
	DirectionContradicts
	// AfterFiling: dated later than the day of the filing.
	AfterFiling
	// LongBeforeFiling: dated more than two years before it.
	LongBeforeFiling
	// NoCode: a transaction without a code.
	NoCode
	// NoSuchNote: it refers to a footnote that the filing does not have.
	NoSuchNote
	// Inexact: a figure of more digits than a float64 keeps.
	Inexact
)

// Names returns the names of the flags that are set, as they are stored.
func (f InsiderFlags) Names() []string {
	var names []string
	for i, name := range [...]string{
		"shares_contradict", "shares_explained", "direction_contradicts", "after_filing", "long_before_filing",
		"no_code", "no_such_note", "inexact",
	} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

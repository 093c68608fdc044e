package simulator

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// maxForms bounds the reports of a day, by their accession numbers.
const maxForms = 99_999

func (c EDGARConfig) withDefaults() EDGARConfig {
	if c.Symbols == nil {
		c.Symbols = market.SP500()
	}
	if c.Forms == 0 {
		c.Forms = 20
	}
	if c.Foreign == 0 {
		c.Foreign = 200
	}
	c.Forms = min(max(c.Forms, 0), maxForms)
	c.Foreign = max(c.Foreign, 0)
	return c
}

// Forms returns the reports of insiders that bear the date of day, as they are
// read: a pure function of c and day. Of every twenty, five are amendments of
// those of the day before or of two days before: one that repeats its original
// whole, one that amends that original again, one that corrects a single line,
// one without lines, one of holdings alone.
func Forms(c EDGARConfig, day market.Date) []market.InsiderFiling {
	c = c.withDefaults()
	if !market.TakesFilings(day) {
		return nil
	}
	known := issuers(c.Symbols)
	all := make([]market.InsiderFiling, 0, c.Forms)
	for k := range c.Forms {
		all = append(all, formMaker{known, day, k}.filing())
	}
	return all
}

// Form returns one of [Forms] by its number; ok is false for one that is not
// there.
func Form(c EDGARConfig, accession string) (f market.InsiderFiling, ok bool) {
	c = c.withDefaults()
	day, k, ok := parseFormNumber(accession)
	if !ok || k >= c.Forms || !market.TakesFilings(day) {
		return f, false
	}
	return formMaker{issuers(c.Symbols), day, k}.filing(), true
}

// formNumber is an accession number: who files, two digits of the year, and the
// day of the year with the last three digits of k.
func formNumber(day market.Date, k int) string {
	return fmt.Sprintf("%010d-%02d-%06d", 900_000+k/1000, day.Year()%100, day.Time().YearDay()*1000+k%1000)
}

func parseFormNumber(accession string) (day market.Date, k int, ok bool) {
	parts := strings.Split(accession, "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	agent, err1 := strconv.Atoi(parts[0])
	year, err2 := strconv.Atoi(parts[1])
	number, err3 := strconv.Atoi(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return 0, 0, false
	}
	day = market.NewDate(2000+year, time.January, number/1000)
	k = (agent-900_000)*1000 + number%1000
	return day, k, k >= 0 && formNumber(day, k) == accession
}

// formMaker makes the k-th report of a day.
type formMaker struct {
	issuers []issuer
	day     market.Date
	k       int
}

func (m formMaker) seed() uint64 { return mix(uint64(m.day)<<20 + uint64(m.k)) }

// earlier is the report of the day before with another k.
func (m formMaker) earlier(k int) formMaker {
	day := m.day - 1
	for !market.TakesFilings(day) {
		day--
	}
	return formMaker{m.issuers, day, k}
}

// issuer is the same for an amendment and its original.
func (m formMaker) issuer() issuer {
	if original, ok := m.original(); ok {
		return original.issuer()
	}
	return m.issuers[m.seed()%uint64(len(m.issuers))]
}

// original returns what an amendment amends.
func (m formMaker) original() (formMaker, bool) {
	switch m.k % 20 {
	case 3, 6, 8, 10:
		return m.earlier(m.k - 1), true
	case 4:
		return m.earlier(m.k - 1).original()
	}
	return formMaker{}, false
}

func (m formMaker) filing() market.InsiderFiling {
	f := m.draft()
	if original, ok := m.original(); ok {
		f = m.amendment(original.filing())
	}
	r := m.seed()
	f.Accession = formNumber(m.day, m.k)
	f.Filed = m.day
	f.Accepted = m.day.In(market.NewYork(), 6, int(pick(r>>8, 0, 15*60+59))).UTC()
	switch {
	case m.day >= market.NewDate(2026, 1, 1):
		f.Schema = "X0609"
	case m.day >= market.NewDate(2023, 4, 1):
		f.Schema = "X0508"
	default:
		f.Schema = "X0306"
	}
	f.Plan = market.AnswerUnknown
	if f.Schema != "X0306" {
		f.Plan = market.Answer(r % 3)
	}
	f.Examine()
	return f
}

// amendment returns what a filing becomes in its amendment.
func (m formMaker) amendment(f market.InsiderFiling) market.InsiderFiling {
	f.OriginalFiled = f.Filed
	f.Form += "/A"
	switch m.k % 20 {
	case 3: // nothing but an attachment is new
		f.Remarks = "Filed again only to attach a power of attorney."
	case 4: // one figure of it all is new
		f.Lines[1].Price = known(price(int64(math.Round(f.Lines[1].Price.Value*10_000)) + 5000))
	case 6: // only the line that was wrong is here
		f.Lines = f.Lines[1:2]
		f.Lines[0].Line = 1
		f.Lines[0].Shares.Value += 10 // sales are of whole shares
	case 8:
		f.Lines, f.Footnotes = nil, nil
		f.Remarks = "The signature was missing."
	case 10:
		f.Lines = f.Lines[len(f.Lines)-1:]
		f.Lines[0].Line = 1
		f.Lines[0].OwnedAfter.Value += 7
	}
	return f
}

// draft returns a report before its head is complete. The kinds of reports
// follow each other, so that every day has all of them.
func (m formMaker) draft() market.InsiderFiling {
	is := m.issuer()
	f := market.InsiderFiling{
		Form: "4", Period: m.day - 2, IssuerCIK: is.cik, IssuerName: entityName(is.cik),
		IssuerSymbol: [...]string{string(is.symbols[0]), "NONE", "", "nyse: " + strings.ToLower(string(is.symbols[0]))}[m.seed()>>20%4],
	}
	owners := 1
	b := formBuilder{f: &f, r: m.seed()}
	switch m.k % 20 {
	case 5:
		b.sales(4)
	case 7, 17:
		b.gift()
	case 9:
		b.sales(1)
		b.holdings(2)
	case 11:
		f.Form, f.NoSecurities = "3", true
	case 12:
		f.Form = "3"
		b.holdings(3)
	case 13:
		f.Form, f.Period = "5", market.NewDate(m.day.Year()-1, time.December, 31)
		b.gift()
		f.Lines[0].ReportedOn, f.Lines[0].Timeliness = "5", "L"
	case 14:
		owners = 3
		b.sales(2)
	case 15:
		b.options()
	case 16:
		b.typo()
	case 18:
		f.Exited = true
		b.purchases(3)
		f.Remarks = "Under a plan that Rule 10b5–1 speaks of <adopted & signed>."
		f.PlanMentioned = true
	default:
		b.purchases(1 + int(m.seed()>>30%3))
		b.sales(2)
	}
	for j := range owners {
		f.Owners = append(f.Owners, m.owner(is, j))
	}
	return f
}

// owner is one of an issuer's insiders. Of some reports the first is another
// issuer, as a holding company is.
func (m formMaker) owner(is issuer, j int) market.InsiderOwner {
	other := m.issuers[mix(m.seed())%uint64(len(m.issuers))]
	if m.k%20 == 14 && j == 0 && other.cik != is.cik {
		return market.InsiderOwner{CIK: other.cik, Name: entityName(other.cik), TenPercent: true}
	}
	n := (m.seed()>>12 + uint64(j)) % 100
	o := market.InsiderOwner{CIK: 1_000_000_000 + is.cik%90_000_000*100 + int(n), Name: fmt.Sprintf("O'Owner No. %d, Jos\u00e9", n)}
	switch n % 4 {
	case 0:
		o.Director = true
	case 1:
		o.Officer, o.Title = true, "Chief <Example> Officer & Counsel"
	case 2:
		o.Director, o.Officer, o.Title = true, true, "Chair"
	case 3:
		o.Other, o.Relation = true, "Trustee"
	}
	return o
}

// formBuilder adds lines to a report. owned runs through them.
type formBuilder struct {
	f     *market.InsiderFiling
	r     uint64
	owned float64
}

func known(v float64) market.Amount { return market.Amount{Value: v, Known: true} }

// note adds a footnote and returns where it is referred to.
func (b *formBuilder) note(of, text string) market.InsiderNote {
	for _, n := range b.f.Footnotes {
		if n.Text == text {
			return market.InsiderNote{ID: n.ID, Of: of, Text: text}
		}
	}
	n := market.InsiderNote{ID: fmt.Sprintf("F%d", len(b.f.Footnotes)+1), Text: text}
	b.f.Footnotes = append(b.f.Footnotes, n)
	n.Of = of
	return n
}

// trade adds a transaction of the shares themselves.
func (b *formBuilder) trade(code, ad string, shares, price float64) *market.InsiderLine {
	if b.owned == 0 {
		b.owned = float64(100_000 + pick(b.r>>7, 0, 900_000))
	}
	if b.owned += shares; ad == "D" {
		b.owned -= 2 * shares
	}
	b.owned = math.Round(b.owned*10) / 10
	b.f.Lines = append(b.f.Lines, market.InsiderLine{
		Line: len(b.f.Lines) + 1, SecurityTitle: "Common Stock, $.01 par", Date: b.f.Period + market.Date(len(b.f.Lines)%2),
		Code: code, ReportedOn: "4", Swap: market.AnswerNo, AcquiredDisposed: ad,
		Shares: known(shares), Price: known(price), OwnedAfter: known(b.owned), Direct: market.AnswerYes,
	})
	return &b.f.Lines[len(b.f.Lines)-1]
}

func (b *formBuilder) next(from, to int64) int64 {
	b.r = mix(b.r)
	return pick(b.r, from, to)
}

func (b *formBuilder) purchases(n int) {
	for range n {
		l := b.trade("P", "A", float64(b.next(1, 90_000))/10, price(b.next(10_000, 9_000_000)))
		l.Deemed = l.Date + 1
	}
}

// sales have a pair of equal lots among them, and an average price.
func (b *formBuilder) sales(n int) {
	shares, at := float64(b.next(100, 9000)), price(b.next(10_000, 9_000_000))
	for i := range n {
		l := b.trade("S", "D", shares, at)
		l.Notes = append(l.Notes, b.note("transactionCoding", "Sold to pay taxes."),
			b.note("transactionPricePerShare", "An average; the range is $1.00 to $2.00 <inclusive>."))
		if i > 0 {
			shares += float64(b.next(1, 50))
		}
	}
}

// gift has a price that only a footnote speaks of.
func (b *formBuilder) gift() {
	l := b.trade("G", "D", float64(b.next(1, 500)), 0)
	l.Price = market.Amount{}
	l.Notes = append(l.Notes, b.note("transactionPricePerShare", "A gift, for nothing."))
	b.holdings(1)
}

func (b *formBuilder) holdings(n int) {
	for i := range n {
		l := market.InsiderLine{
			Line: len(b.f.Lines) + 1, Holding: true, SecurityTitle: "Class B Common Stock", OwnedAfter: known(float64(b.next(1, 99_999))),
			Direct: market.AnswerNo, Nature: fmt.Sprintf("By trust no. %d", i+1),
		}
		l.Notes = append(l.Notes, b.note("natureOfOwnership", "The owner is its trustee."))
		b.f.Lines = append(b.f.Lines, l)
	}
}

// options are exercised: shares come in one table, the option leaves in the
// other, with dates that only a footnote speaks of.
func (b *formBuilder) options() {
	shares := float64(b.next(100, 9000))
	l := b.trade("M", "A", shares, 8.88)
	date := l.Date
	o := market.InsiderLine{
		Line: len(b.f.Lines) + 1, Derivative: true, SecurityTitle: "Stock Option (Right to Buy)", Date: date, Code: "M", ReportedOn: "4",
		Swap: market.AnswerNo, AcquiredDisposed: "D", Shares: known(shares), Price: known(0), OwnedAfter: known(0), Direct: market.AnswerYes,
		ConversionPrice: known(8.88), Expiration: date + 1000, Underlying: "Common Stock", UnderlyingShares: known(shares),
	}
	o.Notes = append(o.Notes, b.note("exerciseDate", "The option is fully vested."))
	h := market.InsiderLine{
		Line: o.Line + 1, Derivative: true, Holding: true, SecurityTitle: "Stock Option (Right to Buy)", ConversionPrice: known(12.5),
		Exercise: date - 500, Expiration: date + 1500, Underlying: "Common Stock", UnderlyingShares: known(700), OwnedAfter: known(700),
		Direct: market.AnswerYes,
	}
	b.f.Lines = append(b.f.Lines, o, h)
}

// typo writes thousands with a point, as one filer did.
func (b *formBuilder) typo() {
	b.trade("M", "A", 60_000, 2.5)
	b.trade("S", "D", 36_000, 20.25).Shares.Value = 36
	b.trade("S", "D", 1000, 20.25)
}

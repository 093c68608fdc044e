package edgar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

const (
	// maxFacts, maxLines and maxForms bound what one issuer's figures take
	// in memory. All figures of the largest issuers are within them.
	maxFacts = 1 << 18
	maxLines = 1 << 14
	maxForms = 1 << 10
	// maxName bounds the names of taxonomies, concepts and units, maxForm
	// that of a form.
	maxName = 256
	maxForm = 20
	// maxNumber bounds the digits of a value.
	maxNumber = 64
)

// Summary says what an issuer's document held.
type Summary struct {
	// Facts counts the facts that were delivered.
	Facts int
	// Repeats counts the facts that were left out because an equal one was
	// there: of the same filing, concept, unit and period, with the same
	// value.
	Repeats int
	// Conflicts counts the facts that were left out because a filing gives
	// them several values; none of them is delivered.
	Conflicts int
	// Concepts counts the concepts that were wanted, Skipped the others.
	Concepts, Skipped int
}

// Facts reads all that an issuer has reported and calls each for every fact of
// the wanted concepts, of all units and of all filings, in the order of the
// document's concepts and units and for each of them in order of end, start
// and filing. taxonomy is such as us-gaap or dei.
//
// The document is read as a stream: what is not wanted takes no memory, however
// long it is. Nothing is delivered before the document has been read to its
// end and found to be sound and the issuer's own; one that is not is refused
// whole. Fiscal years and periods as the filings name them are ignored, since
// they speak of the filing and not of the figure.
//
// The error is a *[providers.Error], or that of each, or wraps that of ctx. It
// is of kind NoData for an issuer without figures, or without wanted ones.
func (c *Client) Facts(ctx context.Context, cik int, wanted func(taxonomy, concept string) bool, each func(market.Fact) error) (Summary, error) {
	b, err := c.facts(ctx, cik, wanted)
	if err != nil {
		return Summary{}, providers.Wrap(Name, fmt.Sprintf("facts of CIK %d", cik), err)
	}
	return b.summary, b.deliver(cik, each)
}

func (c *Client) facts(ctx context.Context, cik int, wanted func(taxonomy, concept string) bool) (*book, error) {
	if cik <= 0 || int64(cik) > 9_999_999_999 {
		return nil, found(providers.BadPayload, "an issuer's number has 1 to 10 digits and is not zero")
	}
	resp, err := get(ctx, c.data, fmt.Sprintf("%s/api/xbrl/companyfacts/CIK%010d.json", c.dataURL, cik), jsonType, http.Header{})
	if err != nil {
		return nil, refused(err)
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	body, err := document(resp)
	if err != nil {
		return nil, err
	}
	b := &book{wanted: wanted, forms: map[string]uint16{}}
	if err := b.read(newReader(body), cik); err != nil {
		return nil, body.Fault(Name, err)
	}
	if b.summary.Facts == 0 {
		return nil, found(providers.NoData, "no figures among those that are wanted")
	}
	return b, nil
}

// refused tells apart what is missing, which this host says by status 404, from
// what is refused: of a file the store behind EDGAR says both by 403.
func refused(err error) error {
	var known *providers.Error
	if errors.As(err, &known) && known.Status == http.StatusForbidden && known.Kind == providers.NoData {
		e := *known
		e.Kind = providers.Rejected
		return &e
	}
	return err
}

// book holds an issuer's wanted facts, each in 32 bytes, until the document has
// been read to its end.
type book struct {
	wanted func(taxonomy, concept string) bool
	lines  []line
	// list is that of one line while it is read, block the rest of what was
	// taken from the heap for the lists of others.
	list, block []entry
	forms       map[string]uint16
	names       []string // of forms
	summary     Summary
}

// line is a list of facts and what it is about.
type line struct {
	taxonomy, concept, unit string
	facts                   []entry
}

// entry is one fact.
type entry struct {
	accession         uint64 // its digits
	value             float64
	start, end, filed market.Date
	form              uint16 // its place in names
}

func byPeriod(a, b entry) int {
	return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.start, b.start), cmp.Compare(a.accession, b.accession))
}

func (b *book) read(r reader, cik int) error {
	var hasCIK, hasFacts bool
	err := r.object("the answer", func(name string) error {
		switch name {
		case "cik":
			if err := wire.Once(&hasCIK, name); err != nil {
				return err
			}
			return checkCIK(r, cik)
		case "facts":
			if err := wire.Once(&hasFacts, name); err != nil {
				return err
			}
			return b.readFacts(r)
		}
		return r.skip()
	})
	if err == nil {
		err = wire.End(r.Decoder)
	}
	if err == nil && (!hasCIK || !hasFacts) {
		err = errors.New("no cik or no facts")
	}
	return err
}

// checkCIK refuses an answer that is about another issuer.
func checkCIK(r reader, cik int) error {
	value, err := r.value()
	if err != nil {
		return err
	}
	got, err := parseCIK(value)
	if err == nil && got != cik {
		err = errors.New("the answer is about another issuer")
	}
	return err
}

func (b *book) readFacts(r reader) error {
	var taxonomies names
	return r.object("facts", func(taxonomy string) error {
		if err := taxonomies.add(taxonomy); err != nil {
			return err
		}
		var concepts names
		return r.object("a taxonomy", func(concept string) error {
			if !b.wanted(taxonomy, concept) {
				b.summary.Skipped++
				return r.skip()
			}
			b.summary.Concepts++
			if err := concepts.add(concept); err != nil {
				return err
			}
			return b.readConcept(r, taxonomy, concept)
		})
	})
}

// names refuses a name that is too long, that comes again or that comes after
// too many others.
type names struct{ seen map[string]bool }

func (n *names) add(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("a name of more than %d bytes", maxName)
	case name == "" || strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("a name that is empty or holds a control character")
	case n.seen[name]:
		return errors.New("a taxonomy, a concept or a unit occurs twice")
	case len(n.seen) == maxLines:
		return fmt.Errorf("more than %d names", maxLines)
	case n.seen == nil:
		n.seen = map[string]bool{}
	}
	n.seen[name] = true
	return nil
}

// readConcept reads {"label":...,"description":...,"units":{"USD":[...]}}.
func (b *book) readConcept(r reader, taxonomy, concept string) error {
	var hasUnits bool
	err := r.object("a concept", func(name string) error {
		if name != "units" {
			return r.skip()
		}
		if err := wire.Once(&hasUnits, name); err != nil {
			return err
		}
		var units names
		return r.object("units", func(unit string) error {
			if err := units.add(unit); err != nil {
				return err
			}
			return b.readLine(r, line{taxonomy: taxonomy, concept: concept, unit: unit})
		})
	})
	if err == nil && !hasUnits {
		err = errors.New("a concept without units")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", wire.PrintableASCII(concept), err)
	}
	return nil
}

// readLine reads the list of facts of one unit.
func (b *book) readLine(r reader, l line) error {
	if len(b.lines) == maxLines {
		return fmt.Errorf("more than %d lists of facts", maxLines)
	}
	if err := r.expect(jsontext.KindBeginArray, "a list of facts"); err != nil {
		return err
	}
	b.list = b.list[:0]
	for r.PeekKind() == jsontext.KindBeginObject {
		object, err := r.value()
		if err != nil {
			return err
		}
		if b.summary.Facts+len(b.list) == maxFacts {
			return fmt.Errorf("more than %d facts", maxFacts)
		}
		e, err := b.readFact(object)
		if err != nil {
			return fmt.Errorf("fact %d: %w", len(b.list)+1, err)
		}
		b.list = append(b.list, e)
	}
	l.facts = b.keep(b.settle(b.list))
	b.lines = append(b.lines, l)
	b.summary.Facts += len(l.facts)
	return r.expect(jsontext.KindEndArray, "a list of facts")
}

// keep returns a copy of a list, made in a block that many lists share.
func (b *book) keep(list []entry) []entry {
	const blockSize = 2048
	if cap(b.block)-len(b.block) < len(list) {
		b.block = make([]entry, 0, max(blockSize, len(list)))
	}
	from := len(b.block)
	b.block = append(b.block, list...)
	return b.block[from:]
}

// settle sorts a list and leaves in it one of the facts that are equal, and
// none of those that a filing gives several values.
func (b *book) settle(facts []entry) []entry {
	slices.SortFunc(facts, byPeriod)
	kept := facts[:0]
	for i := 0; i < len(facts); {
		first, n, equal := facts[i], 1, true
		for ; i+n < len(facts) && byPeriod(facts[i+n], first) == 0; n++ {
			equal = equal && facts[i+n] == first
		}
		if equal {
			kept = append(kept, first)
			b.summary.Repeats += n - 1
		} else {
			b.summary.Conflicts += n
		}
		i += n
	}
	return kept
}

// deliver hands the facts on.
func (b *book) deliver(cik int, each func(market.Fact) error) error {
	// Filings are few beside their facts: each name is made once.
	filings := map[uint64]string{}
	for i := range b.lines {
		l := &b.lines[i]
		for _, e := range l.facts {
			accession, known := filings[e.accession]
			if !known {
				accession = accessionNumber(e.accession)
				filings[e.accession] = accession
			}
			err := each(market.Fact{
				CIK: cik, Taxonomy: l.taxonomy, Concept: l.concept, Unit: l.unit,
				Start: e.start, End: e.end, Value: e.value,
				Accession: accession, Form: b.names[e.form], Filed: e.filed,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// The members of a fact that are read; fy, fp, frame and what may come are not.
const (
	hasStart = 1 << iota
	hasEnd
	hasValue
	hasAccession
	hasForm
	hasFiled

	required = hasEnd | hasValue | hasAccession | hasForm | hasFiled
)

func (b *book) readFact(object []byte) (entry, error) {
	var e entry
	var seen uint8
	err := members(object, func(name, value []byte) error {
		var is uint8
		var err error
		switch string(name) {
		case "start":
			is = hasStart
			e.start, err = parseDate(value)
		case "end":
			is = hasEnd
			e.end, err = parseDate(value)
		case "val":
			is = hasValue
			e.value, err = parseValue(value)
		case "accn":
			is = hasAccession
			e.accession, err = parseAccession(value)
		case "form":
			is = hasForm
			e.form, err = b.form(value)
		case "filed":
			is = hasFiled
			e.filed, err = parseDate(value)
		}
		if err == nil && seen&is != 0 {
			err = errors.New("it occurs twice")
		}
		seen |= is
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return e, err
	case seen&required != required:
		return e, errors.New("end, val, accn, form or filed is missing")
	case e.start > e.end:
		return e, errors.New("it starts after its end")
	}
	return e, nil
}

func parseDate(value []byte) (market.Date, error) {
	s, err := text(value)
	if err != nil {
		return 0, err
	}
	d, err := market.ParseDate(string(s))
	if err != nil {
		return 0, errors.New("a date is not written as YYYY-MM-DD")
	}
	return d, nil
}

// parseValue reads a number as JSON writes it, whole or decimal, also with the
// exponent that very small ones are written with.
func parseValue(value []byte) (float64, error) {
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return 0, errors.New("want a number")
	}
	if len(value) > maxNumber {
		return 0, fmt.Errorf("a number of more than %d characters", maxNumber)
	}
	v, err := strconv.ParseFloat(string(value), 64)
	if err != nil {
		return 0, errors.New("a number too large for any figure")
	}
	return v, nil
}

// parseAccession reads 0000320193-24-000123 into its 18 digits.
func parseAccession(value []byte) (uint64, error) {
	s, err := text(value)
	if err != nil {
		return 0, err
	}
	return accessionOf(s)
}

func accessionOf(s []byte) (uint64, error) {
	malformed := errors.New("an accession number is not written as 0000320193-24-000123")
	if len(s) != 20 || s[10] != '-' || s[13] != '-' {
		return 0, malformed
	}
	var n uint64
	for i, c := range s {
		switch {
		case i == 10 || i == 13:
		case c < '0' || c > '9':
			return 0, malformed
		default:
			n = n*10 + uint64(c-'0')
		}
	}
	return n, nil
}

// accessionNumber writes what parseAccession reads.
func accessionNumber(n uint64) string {
	return fmt.Sprintf("%010d-%02d-%06d", n/1e8, n/1e6%100, n%1e6)
}

// form returns the index of a form's name, such as 10-K/A.
func (b *book) form(value []byte) (uint16, error) {
	name, err := text(value)
	if err != nil {
		return 0, err
	}
	if i, known := b.forms[string(name)]; known {
		return i, nil
	}
	if len(name) == 0 || len(name) > maxForm || wire.PrintableASCII(string(name)) != string(name) || len(b.names) == maxForms {
		return 0, errors.New("it cannot be the name of a form")
	}
	i := uint16(len(b.names))
	b.forms[string(name)] = i
	b.names = append(b.names, string(name))
	return i, nil
}

package edgar

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

const (
	// maxHeader bounds the lines before an index's rows, which are about ten.
	maxHeader = 64
	// maxListed bounds the wanted rows. All reports of insiders of a quarter
	// are about 250,000 rows.
	maxListed = 1 << 20
	// An index is refused if more than maxOdd rows are odd and these are more
	// than one in oddShare of the wanted ones. The SEC's indexes are sound but
	// for single rows of one filing, which must not cost the rows of all other
	// issuers; a change of the layout, or a damaged file, spoils far more than
	// a hundredth. maxOdd is for short indexes, where one filing with its
	// issuer and four owners is more than that already.
	maxOdd, oddShare = 5, 100
)

// IndexRow is a filing as an index lists it.
type IndexRow struct {
	// Accession is the filing's number, as in 0001640147-22-000123.
	Accession string
	Form      string
	Filed     market.Date
	// Filers are the wanted ones among those under whose numbers the filing
	// is listed, in ascending order: one at least. A report of an insider is
	// listed under its issuer and under each owner, and an issuer can be an
	// owner too, so that none of Filers is the issuer for certain.
	Filers []int
}

// IndexSummary says what an index held.
type IndexSummary struct {
	// Rows counts all rows, Wanted those that were wanted and are sound,
	// Filings the filings that they list.
	Rows, Wanted, Filings int
	// Days counts the different days on which these were filed.
	Days int
	// Odd counts the rows that were left out though they were wanted, or may
	// have been: somebody should know of them. OddReason says what is wrong
	// with the first one; it quotes nothing of the row and is "" if Odd is 0.
	Odd       int
	OddReason string
}

// DailyIndex reads the master index of a day and calls each once for every
// filing with a wanted row, in order of its number: the rows of one filing are
// put together here. form is such as "4/A".
//
// Nothing is delivered before the index has been read to its end and found to
// be sound. What is not wanted takes no memory. A day without filings has no
// rows, and no error.
//
// A row that cannot be read is left out and counted in [IndexSummary.Odd], and
// so are all rows of a filing that they give two forms or two dates; the other
// rows of a filing stay. The index is refused as of kind BadPayload if more than
// 5 rows and more than 1 % of the wanted ones are odd, or if it ends within a
// row.
//
// The error is a *[providers.Error], or that of each, or wraps that of ctx. It
// is of kind NoData if there is no such index, which the SEC says in words of
// its own with status 403 or 404: it is not written yet (see
// [market.FilingsComplete]), or the SEC was closed (see [market.TakesFilings]).
// A block, or a 404 of somebody else, has another kind, see [Check].
func (c *Client) DailyIndex(ctx context.Context, day market.Date, wanted func(form string, cik int) bool, each func(IndexRow) error) (IndexSummary, error) {
	year, month, number := day.Time().Date()
	path := fmt.Sprintf("/Archives/edgar/daily-index/%d/QTR%d/master.%d%02d%02d.idx", year, (month+2)/3, year, month, number)
	return c.index(ctx, "daily index "+day.String(), path, market.Range{From: day, To: day}, wanted, each)
}

// QuarterlyIndex is [Client.DailyIndex] for all days of a quarter, 1 to 4, so
// far: the way to a long window in one call.
func (c *Client) QuarterlyIndex(ctx context.Context, year, quarter int, wanted func(form string, cik int) bool, each func(IndexRow) error) (IndexSummary, error) {
	op := fmt.Sprintf("quarterly index %d QTR%d", year, quarter)
	if quarter < 1 || quarter > 4 {
		return IndexSummary{}, providers.Wrap(Name, op, found(providers.BadPayload, "a year has the quarters 1 to 4"))
	}
	first := time.Month(quarter*3 - 2)
	days := market.Range{From: market.NewDate(year, first, 1), To: market.NewDate(year, first+3, 0)}
	return c.index(ctx, op, fmt.Sprintf("/Archives/edgar/full-index/%d/QTR%d/master.idx", year, quarter), days, wanted, each)
}

func (c *Client) index(ctx context.Context, op, path string, days market.Range, wanted func(string, int) bool, each func(IndexRow) error) (IndexSummary, error) {
	l := &listing{days: days, wanted: wanted, forms: map[string]string{}}
	if err := c.list(ctx, path, l); err != nil {
		return IndexSummary{}, providers.Wrap(Name, op, err)
	}
	summary := IndexSummary{Rows: l.rows, Wanted: len(l.entries), Odd: l.odd, OddReason: l.oddReason}
	filed := map[market.Date]bool{}
	for of := range l.filings() {
		row := IndexRow{Accession: accessionNumber(of[0].accession), Form: of[0].form, Filed: of[0].filed}
		for _, one := range of {
			if !slices.Contains(row.Filers, one.cik) {
				row.Filers = append(row.Filers, one.cik)
			}
		}
		if err := each(row); err != nil {
			return IndexSummary{}, err
		}
		summary.Filings++
		filed[row.Filed] = true
	}
	summary.Days = len(filed)
	return summary, nil
}

func (c *Client) list(ctx context.Context, path string, l *listing) error {
	resp, err := get(ctx, c.files, c.filesURL+path, "*/*", http.Header{})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	body := wire.NewBody(resp.Body, 0)       // the reader of lines bounds them
	return body.Fault(Name, l.read(bufio.NewReaderSize(body, wire.MaxValue)))
}

// listing collects the wanted rows of an index, some forty bytes each.
type listing struct {
	days    market.Range
	wanted  func(form string, cik int) bool
	rows    int
	inDays  bool // any row is of those days
	entries []listed
	forms   map[string]string // one copy of each name
	columns bool              // fixed columns in place of bars
	// odd counts the rows that were left out, oddReason is about the first.
	odd       int
	oddReason string
}

type listed struct {
	accession uint64
	cik       int
	filed     market.Date
	form      string
}

func (l *listing) read(lines *bufio.Reader) error {
	if err := l.header(lines); err != nil {
		return err
	}
	for {
		text, whole, err := readLine(lines)
		if err != nil {
			return err
		}
		if len(text) > 0 {
			l.rows++
			if err := l.row(text, whole); err != nil {
				err = fmt.Errorf("row %d: %w", l.rows, err)
				if !whole {
					return err
				}
				l.leaveOut(1, err)
			}
			if len(l.entries) > maxListed {
				return fmt.Errorf("more than %d wanted rows", maxListed)
			}
		}
		if !whole {
			break
		}
	}
	slices.SortFunc(l.entries, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.accession, b.accession), cmp.Compare(a.cik, b.cik))
	})
	l.dropTorn()
	return l.judge()
}

// judge refuses an index that has little to do with what was asked for.
func (l *listing) judge() error {
	if all := len(l.entries) + l.odd; l.odd > maxOdd && l.odd*oddShare > all {
		return fmt.Errorf("%d of %d wanted rows are odd, the first for this reason: %s", l.odd, all, l.oddReason)
	}
	if l.rows > 0 && !l.inDays {
		return fmt.Errorf("the index of other days than %s", l.days)
	}
	return nil
}

// leaveOut counts rows that are not delivered.
func (l *listing) leaveOut(rows int, why error) {
	if l.odd == 0 {
		l.oddReason = why.Error()
	}
	l.odd += rows
}

// dropTorn leaves out the filings that the rows give several forms or dates: it
// cannot be told which of them are right.
func (l *listing) dropTorn() {
	sound := l.entries[:0]
	for of := range l.filings() {
		if slices.ContainsFunc(of, func(one listed) bool { return one.form != of[0].form || one.filed != of[0].filed }) {
			l.leaveOut(len(of), fmt.Errorf("filing %s has two forms or two dates", accessionNumber(of[0].accession)))
			continue
		}
		sound = append(sound, of...)
	}
	l.entries = sound
}

// filings returns the rows of one filing after the other, once they are sorted.
func (l *listing) filings() iter.Seq[[]listed] {
	return func(yield func([]listed) bool) {
		for rest := l.entries; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].accession == rest[0].accession {
				n++
			}
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// readLine returns the next line without its end and without blanks behind it.
// whole is false for what comes before the end of the index.
func readLine(lines *bufio.Reader) (line []byte, whole bool, err error) {
	line, err = lines.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, false, wire.ErrLongValue
	case err != nil && err != io.EOF:
		return nil, false, err
	}
	return bytes.TrimRight(line, " \t\r\n"), err == nil, nil
}

// header reads up to the line of dashes below the names of the columns. The
// names differ a little between the daily and the quarterly indexes.
func (l *listing) header(lines *bufio.Reader) error {
	named := false
	for range maxHeader {
		text, whole, err := readLine(lines)
		switch {
		case err != nil:
			return err
		case named && len(text) > 0 && len(bytes.Trim(text, "-")) == 0:
			return nil
		case !whole:
			return wire.ErrCut
		case bytes.HasPrefix(text, []byte("CIK|Company Name|Form Type|Date Filed|")):
			named = true
		case bytes.HasPrefix(text, []byte("Form Type ")):
			named, l.columns = true, true
		}
	}
	return errors.New("no index: the names of its columns are missing")
}

// row reads a line; the error is what is odd about it. What is wrong with one
// that is not wanted is its own affair, as long as it is told that it is not
// wanted; the last one, if the end of its line is missing, must be sound to show
// that the index is complete.
func (l *listing) row(text []byte, whole bool) error {
	cut := byBars
	if l.columns {
		cut = byColumns
	}
	cik, form, filed, name, ok := cut(text)
	if !ok {
		return errors.New("it has not the columns that it should have")
	}
	number, err := cikOf(cik)
	if err != nil {
		return err
	}
	day, err := indexDate(filed)
	l.inDays = l.inDays || err == nil && l.days.Contains(day)
	want := l.wanted(l.form(form), number)
	if !want && whole {
		return nil
	}
	if err != nil {
		return err
	}
	accession, err := filingOf(name, cik)
	if err != nil {
		return err
	}
	if want {
		l.entries = append(l.entries, listed{accession, number, day, l.form(form)})
	}
	return nil
}

func (l *listing) form(name []byte) string {
	known, ok := l.forms[string(name)]
	if !ok {
		known = string(name)
		if len(l.forms) < maxForms {
			l.forms[known] = known
		}
	}
	return known
}

// byBars cuts CIK|Company Name|Form Type|Date Filed|File Name. A name could
// hold a bar, and is in Latin-1, so the other columns are cut from both ends.
func byBars(text []byte) (cik, form, filed, name []byte, ok bool) {
	bar := []byte{'|'}
	cik, rest, ok1 := bytes.Cut(text, bar)
	rest, name, ok2 := cutLast(rest, '|')
	rest, filed, ok3 := cutLast(rest, '|')
	_, form, ok4 := cutLast(rest, '|')
	return cik, bytes.TrimSpace(form), filed, name, ok1 && ok2 && ok3 && ok4
}

// byColumns cuts the columns of a form index: the form is the first twelve
// characters, the other three are the last words of the line.
func byColumns(text []byte) (cik, form, filed, name []byte, ok bool) {
	const formWidth = 12
	if len(text) <= formWidth {
		return nil, nil, nil, nil, false
	}
	form, rest := bytes.TrimSpace(text[:formWidth]), text[formWidth:]
	rest, name, ok1 := cutLast(bytes.TrimRight(rest, " "), ' ')
	rest, filed, ok2 := cutLast(bytes.TrimRight(rest, " "), ' ')
	_, cik, ok3 := cutLast(bytes.TrimRight(rest, " "), ' ')
	return cik, form, filed, name, ok1 && ok2 && ok3
}

func cutLast(text []byte, mark byte) (before, after []byte, ok bool) {
	i := bytes.LastIndexByte(text, mark)
	if i < 0 {
		return text, nil, false
	}
	return text[:i], text[i+1:], true
}

// indexDate reads 20200318, as the daily indexes have it, and 2020-03-18, as the
// quarterly ones do.
func indexDate(text []byte) (market.Date, error) {
	if len(text) == 8 {
		text = slices.Concat(text[:4], []byte("-"), text[4:6], []byte("-"), text[6:])
	}
	d, err := market.ParseDate(string(text))
	if err != nil {
		return 0, errors.New("a date is written neither as YYYYMMDD nor as YYYY-MM-DD")
	}
	return d, nil
}

// filingOf reads the number out of edgar/data/1806014/0001140361-20-006155.txt.
func filingOf(name, cik []byte) (uint64, error) {
	rest, ok1 := bytes.CutPrefix(name, []byte("edgar/data/"))
	folder, rest, ok2 := bytes.Cut(rest, []byte("/"))
	rest, ok3 := bytes.CutSuffix(rest, []byte(".txt"))
	n, err := accessionOf(rest)
	if !ok1 || !ok2 || !ok3 || err != nil || !bytes.Equal(bytes.TrimLeft(folder, "0"), bytes.TrimLeft(cik, "0")) {
		return 0, errors.New("a file name is not written as edgar/data/1806014/0001140361-20-006155.txt")
	}
	return n, nil
}

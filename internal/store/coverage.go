package store

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// BackfillJob is the job whose units are the symbols of HistoryKind.
	BackfillJob = "backfill"
	// HistoryKind is the kind whose units are symbols, done when their whole
	// history is stored.
	HistoryKind = "history"
)

// Kinds of the rows of ingest_coverage, as [market.BarCoverage] has them.
const (
	AnsweredDays = "answered"
	LostDays     = "lost"
	StoredDays   = "stored"
)

// DaysRow is a row of ingest_coverage: days of a year that are of a kind.
type DaysRow struct {
	Symbol market.Symbol
	// Source is "" but for answered days.
	Kind, Source string
	Year         int
	Days         market.YearDays
	// New says that a bar of the year is inserted. The row is then written
	// even if it says so already: a reconciliation that has just missed the
	// bar writes it too, and one of the two then starts over.
	New bool
}

// Extent returns the range from the first bar to the last, for which a SaveBars
// is an answer; the zero Range if there are none.
func Extent(series market.Series) market.Range {
	if len(series.Bars) == 0 {
		return market.Range{}
	}
	return market.Range{From: series.Bars[0].Date, To: series.Bars[len(series.Bars)-1].Date}
}

// SavedDays returns the days that a save adds: those of the bars, some of which
// are fresh, and those that are answered, if any. They are in the order in
// which rows are written, which is the same for all, so that two writers of
// several rows do not wait for each other.
func SavedDays(series market.Series, answered market.Range, fresh []market.Bar) []DaysRow {
	var rows []DaysRow
	if !answered.To.IsZero() {
		rows = appendDays(rows, DaysRow{Symbol: series.Symbol, Kind: AnsweredDays, Source: series.Source}, market.DaysIn(answered))
	}
	first := len(rows)
	rows = appendDays(rows, DaysRow{Symbol: series.Symbol, Kind: StoredDays}, daysOf(series.Bars))
	at := first
	for year := range daysOf(fresh).Years() {
		for rows[at].Year < year {
			at++
		}
		rows[at].New = true
	}
	return rows
}

func daysOf(bars []market.Bar) (days market.Days) {
	for i := range bars {
		days.Add(bars[i].Date)
	}
	return days
}

// appendDays appends a row like row for each year of days.
func appendDays(rows []DaysRow, row DaysRow, days market.Days) []DaysRow {
	for row.Year, row.Days = range days.Years() {
		rows = append(rows, row)
	}
	return rows
}

// CheckHistory refuses what SaveHistory cannot store: bars that Check refuses,
// an answer without a source or with an end alone, and one that has nothing to
// say.
func CheckHistory(series market.Series, answered market.Range, done bool) error {
	if len(series.Bars) > 0 || answered == (market.Range{}) {
		if err := Check(series); err != nil {
			return err
		}
	}
	switch {
	case series.Symbol == "" || !isText(string(series.Symbol), series.Source):
		return errors.New("a history without a symbol")
	case answered == (market.Range{}) && done:
		return errors.New("a history cannot be done by bars that answer for no range")
	case answered == (market.Range{}):
		return nil
	case answered.From < 1 || answered.To < answered.From || answered.To > LastDate:
		return fmt.Errorf("range %d to %d: want two dates in order", answered.From, answered.To)
	case series.Source == "":
		return fmt.Errorf("an answer for %s without a source", answered)
	}
	return nil
}

// Coverages collects rows of ingest_coverage.
type Coverages map[market.Symbol]*market.BarCoverage

// Add adds the days of a row.
func (all Coverages) Add(row *DaysRow) {
	if row.Days == (market.YearDays{}) {
		return
	}
	c := all.of(row.Symbol)
	switch row.Kind {
	case StoredDays:
		c.Stored.AddYear(row.Year, row.Days)
	case LostDays:
		c.Lost.AddYear(row.Year, row.Days)
	default:
		if c.Answered == nil {
			c.Answered = map[string]market.Days{}
		}
		days := c.Answered[row.Source]
		days.AddYear(row.Year, row.Days)
		c.Answered[row.Source] = days
	}
}

// Values returns what was collected.
func (all Coverages) Values() map[market.Symbol]market.BarCoverage {
	values := make(map[market.Symbol]market.BarCoverage, len(all))
	for symbol, c := range all {
		values[symbol] = *c
	}
	return values
}

// Of returns the coverage of a symbol; the zero one if it has none.
func (all Coverages) Of(symbol market.Symbol) market.BarCoverage {
	if c := all[symbol]; c != nil {
		return *c
	}
	return market.BarCoverage{}
}

// Window returns the dates of a range that a store can hold: a zero end is
// open.
func Window(window market.Range) market.Range {
	if window.To.IsZero() {
		window.To = LastDate
	}
	return market.Range{From: max(window.From, 1), To: min(window.To, LastDate)}
}

// Reconcile compares the coverage of symbols with the dates of their rows in
// window. It returns how many of the rows were not known, how many known ones
// are gone, and the rows of ingest_coverage as they are to be, in the order of
// SavedDays. A row that is gone takes the answers for its day with it: they
// said that there is a bar.
func Reconcile(symbols []market.Symbol, known Coverages, there Present, window market.Range) (rows []DaysRow, found, lost int) {
	in := market.DaysIn(window)
	for _, symbol := range slices.Sorted(slices.Values(symbols)) {
		c, present := known.Of(symbol), there.days(symbol)
		fresh, gone := present.Minus(c.Stored), c.Stored.And(in).Minus(present)
		rows = append(rows, reconciled(symbol, c, there[symbol], fresh, gone)...)
		found, lost = found+fresh.Len(), lost+gone.Len()
	}
	return rows, found, lost
}

func reconciled(symbol market.Symbol, c market.BarCoverage, there map[string]*market.Days, fresh, gone market.Days) (rows []DaysRow) {
	unanswered := fresh.Minus(c.AnsweredBy(""))
	answered := maps.Clone(c.Answered)
	for source, days := range there {
		if add := days.And(unanswered); add.Len() > 0 {
			if answered == nil {
				answered = map[string]market.Days{}
			}
			answered[source] = answered[source].Union(add)
		}
	}
	for source, days := range answered {
		rows = appendChanged(rows, DaysRow{Symbol: symbol, Kind: AnsweredDays, Source: source}, c.Answered[source], days.Minus(gone))
	}
	rows = appendChanged(rows, DaysRow{Symbol: symbol, Kind: LostDays}, c.Lost, c.Lost.Union(gone))
	rows = appendChanged(rows, DaysRow{Symbol: symbol, Kind: StoredDays}, c.Stored, c.Stored.Union(fresh).Minus(gone))
	slices.SortFunc(rows, func(a, b DaysRow) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Year, b.Year))
	})
	return rows
}

// appendChanged appends a row for each year in which the days change.
func appendChanged(rows []DaysRow, row DaysRow, was, is market.Days) []DaysRow {
	changed := was.Minus(is).Union(is.Minus(was))
	for year := range changed.Years() {
		row.Year, row.Days = year, is.Of(year)
		rows = append(rows, row)
	}
	return rows
}

// Present are the dates of the rows of symbols, by their sources.
type Present map[market.Symbol]map[string]*market.Days

// Of returns the dates of a symbol and a source, to be added to.
func (all Present) Of(symbol market.Symbol, source string) *market.Days {
	sources := all[symbol]
	if sources == nil {
		sources = map[string]*market.Days{}
		all[symbol] = sources
	}
	days := sources[source]
	if days == nil {
		days = &market.Days{}
		sources[source] = days
	}
	return days
}

// days returns the dates of a symbol.
func (all Present) days(symbol market.Symbol) (days market.Days) {
	for _, of := range all[symbol] {
		if days.Len() == 0 {
			days = *of // which is the only one as a rule
		} else {
			days = days.Union(*of)
		}
	}
	return days
}

func (all Coverages) of(symbol market.Symbol) *market.BarCoverage {
	c := all[symbol]
	if c == nil {
		c = &market.BarCoverage{}
		all[symbol] = c
	}
	return c
}

// Differing returns in ascending order the symbols whose stored days in window
// are not those that are there.
func Differing(known Coverages, there Present, window market.Range) []market.Symbol {
	var symbols []market.Symbol
	in := market.DaysIn(window)
	for symbol, c := range known {
		stored, present := c.Stored.And(in), there.days(symbol)
		if stored.Minus(present).Len() > 0 || present.Minus(stored).Len() > 0 {
			symbols = append(symbols, symbol)
		}
	}
	for symbol := range there {
		if known[symbol] == nil {
			symbols = append(symbols, symbol)
		}
	}
	slices.Sort(symbols)
	return symbols
}

// Without returns the symbols of all that are not among others; both are in
// ascending order.
func Without(all, others []market.Symbol) (rest []market.Symbol) {
	for _, symbol := range all {
		if _, found := slices.BinarySearch(others, symbol); !found {
			rest = append(rest, symbol)
		}
	}
	return rest
}

// CheckUniverse returns the members of a list in ascending order, each once, and
// refuses none at all.
func CheckUniverse(name string, symbols []market.Symbol) ([]market.Symbol, error) {
	if name == "" || !isText(name) {
		return nil, fmt.Errorf("list %q: want a name", name)
	}
	if len(symbols) == 0 {
		return nil, errors.New("no symbols: the list that is stored stays")
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(symbols)))
	if i := slices.IndexFunc(sorted, func(s market.Symbol) bool { return s == "" || !isText(string(s)) }); i >= 0 {
		return nil, fmt.Errorf("symbol %q: want a name", sorted[i])
	}
	return sorted, nil
}

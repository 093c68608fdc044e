package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// knownDays is a [market.BarCoverage] that can be compared.
type knownDays struct {
	Stored, Lost []market.Date
	Answered     map[string][]market.Date
}

func knownDaysOf(c market.BarCoverage) knownDays {
	k := knownDays{Stored: slices.Collect(c.Stored.All()), Lost: slices.Collect(c.Lost.All())}
	for source, days := range c.Answered {
		k.answer(source, slices.Collect(days.All())...)
	}
	return k
}

func (k *knownDays) answer(source string, dates ...market.Date) {
	if k.Answered == nil {
		k.Answered = map[string][]market.Date{}
	}
	k.Answered[source] = slices.Compact(slices.Sorted(slices.Values(append(k.Answered[source], dates...))))
}

// lose moves stored days to the lost ones, whose answers go with them.
func (k *knownDays) lose(dates ...market.Date) {
	gone := func(date market.Date) bool { return slices.Contains(dates, date) }
	k.Stored = slices.DeleteFunc(slices.Clone(k.Stored), gone)
	k.Lost = sortedDates(append(slices.Clone(k.Lost), dates...))
	for source, answered := range k.Answered {
		if k.Answered[source] = slices.DeleteFunc(slices.Clone(answered), gone); len(k.Answered[source]) == 0 {
			delete(k.Answered, source)
		}
	}
}

// daysOf returns what is known of a symbol's days.
func daysOf(t testing.TB, db store.DB, symbol market.Symbol) knownDays {
	t.Helper()
	all, err := db.BarCoverage(t.Context(), 0, symbol)
	check(t, err)
	return knownDaysOf(all[symbol])
}

// answered is what is known after a save of a series.
func answered(s market.Series) knownDays {
	k := knownDays{Stored: datesOf(s.Bars)}
	k.answer(s.Source, span(s.Bars[0].Date, s.Bars[len(s.Bars)-1].Date)...)
	return k
}

func datesOf(bars []market.Bar) (dates []market.Date) {
	for _, bar := range bars {
		dates = append(dates, bar.Date)
	}
	return dates
}

func span(from, to market.Date) (dates []market.Date) {
	for date := from; date <= to; date++ {
		dates = append(dates, date)
	}
	return dates
}

// sparse returns a series of bars on some dates.
func sparse(symbol market.Symbol, dates ...market.Date) market.Series {
	s := market.Series{Symbol: symbol, Source: source}
	for _, date := range dates {
		s.Bars = append(s.Bars, barOf(date))
	}
	return s
}

func reconcile(t testing.TB, db store.DB, window market.Range, symbols ...market.Symbol) [2]int {
	t.Helper()
	found, lost, err := db.ReconcileBars(t.Context(), window, symbols...)
	check(t, err)
	return [2]int{found, lost}
}

// always is the window of all dates.
func always() market.Range { return market.Range{} }

func days(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	none, err := db.BarCoverage(t.Context(), 0)
	check(t, err)
	equal(t, "at first", 0, len(none))

	first := sparse(aapl, day-100, day-99, day-70, day) // over the end of a year
	save(t, run, first, day)
	want := answered(first)
	equal(t, "after the first", want, daysOf(t, db, aapl))
	second := sparse(aapl, day-99, day+1)
	second.Source = "ibkr"
	save(t, run, second, day+1)
	want.Stored = append(want.Stored, day+1)
	want.answer("ibkr", span(day-99, day+1)...)
	equal(t, "after another source's", want, daysOf(t, db, aapl))

	save(t, run, sparse("MSFT", day), day)
	check(t, run.SaveAttempt(t.Context(), "NEW", "no_data", ""))
	all, err := db.BarCoverage(t.Context(), 0)
	check(t, err)
	equal(t, "symbols", 2, len(all))
	equal(t, "one of all", want, knownDaysOf(all[aapl]))
	some, err := db.BarCoverage(t.Context(), 0, "MSFT", "NEW", "MSFT")
	check(t, err)
	equal(t, "some", 1, len(some))
	equal(t, "one of some", answered(sparse("MSFT", day)), knownDaysOf(some["MSFT"]))
}

func daysWithoutSession(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	series := sparse(aapl, day-3, day)
	save(t, run, series, 0)
	equal(t, "with the zero session", answered(series), daysOf(t, db, aapl))
	// The bars are there, and what they answer for is more than was known.
	wider := sparse(aapl, day-3, day)
	wider.Source = "ibkr"
	equal(t, "known bars", market.Changes{Unchanged: 2}, save(t, run, wider, 0))
	want := answered(series)
	want.answer("ibkr", span(day-3, day)...)
	equal(t, "known bars of another source", want, daysOf(t, db, aapl))
}

func history(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, store.BackfillJob, "2016-03-12..2026-03-12")
	asked := market.Range{From: day - 400, To: day - 300}
	keep := func(series market.Series, answered market.Range, done bool, want market.Changes) {
		t.Helper()
		got, err := run.SaveHistory(t.Context(), series, answered, done)
		check(t, err)
		equal(t, "changes", want, got)
	}
	expect := func(what string, want knownDays, done []market.Symbol, attempts ...store.Attempt) {
		t.Helper()
		equal(t, what, want, daysOf(t, db, aapl))
		units, err := db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind)
		check(t, err)
		equal(t, what+": done", done, units)
		got, err := db.Attempts(t.Context(), aapl, len(attempts)+1)
		check(t, err)
		for i := range got {
			attempts[i].RunID, attempts[i].Job, attempts[i].Symbol, attempts[i].At = run.ID(), store.BackfillJob, aapl, got[i].At
		}
		equal(t, what+": attempts", attempts, got)
		covered, err := db.Coverage(t.Context(), store.BackfillJob)
		check(t, err)
		equal(t, what+": watermarks", 0, len(covered))
	}
	nothing := market.Series{Symbol: aapl, Source: source}
	keep(nothing, asked, false, market.Changes{})
	var want knownDays
	want.answer(source, span(asked.From, asked.To)...)
	empty := store.Attempt{Period: asked.String(), Outcome: store.Unchanged}
	expect("no bars", want, nil, empty)

	series := sparse(aapl, day-410, day-350, day-299) // on both sides of the range, too
	keep(series, asked, false, market.Changes{Inserted: 3})
	want.Stored = datesOf(series.Bars)
	stored := store.Attempt{Period: asked.String(), Outcome: store.Stored, Rows: 3}
	expect("bars", want, nil, stored, empty)

	keep(series, market.Range{}, false, market.Changes{Unchanged: 3})
	keep(sparse(aapl, day-298), market.Range{}, false, market.Changes{Inserted: 1})
	want.Stored = append(want.Stored, day-298)
	expect("bars alone", want, nil, stored, empty)

	later := market.Range{From: day - 299, To: day}
	last := store.Attempt{Period: later.String(), Outcome: store.Unchanged}
	keep(sparse(aapl, day-299), later, true, market.Changes{Unchanged: 1})
	want.answer(source, span(later.From, later.To)...)
	expect("done", want, []market.Symbol{aapl}, last, stored, empty)

	// A done symbol can answer for more.
	before := market.Range{From: day - 500, To: day - 401}
	keep(nothing, before, true, market.Changes{})
	want.answer(source, span(before.From, before.To)...)
	expect("done again", want, []market.Symbol{aapl}, store.Attempt{Period: before.String(), Outcome: store.Unchanged}, last, stored, empty)
	// That it is not done now does not undo that it was.
	keep(nothing, before, false, market.Changes{})
	equal(t, "done all the same", 1, len(must(db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind))(t)))
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func historyBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, store.BackfillJob, "all")
	before := ledgerOf(t, db, aapl)
	repeated := seriesOf(aapl, 2)
	repeated.Bars[1].Date = repeated.Bars[0].Date
	unnamed := seriesOf(aapl, 2)
	unnamed.Source = ""
	good := market.Range{From: day - 9, To: day}
	for name, try := range map[string]struct {
		series   market.Series
		answered market.Range
		done     bool
	}{
		"bad bars":                {repeated, good, true},
		"no symbol":               {market.Series{Source: source}, good, true},
		"no source":               {unnamed, good, true},
		"nothing":                 {market.Series{Symbol: aapl, Source: source}, market.Range{}, false},
		"done by bars alone":      {seriesOf(aapl, 2), market.Range{}, true},
		"a range without an end":  {seriesOf(aapl, 2), market.Range{From: day}, true},
		"a range without a start": {seriesOf(aapl, 2), market.Range{To: day}, true},
		"a range backwards":       {seriesOf(aapl, 2), market.Range{From: day, To: day - 1}, true},
		"a range too long":        {seriesOf(aapl, 2), market.Range{From: day, To: store.LastDate + 1}, true},
	} {
		changes, err := run.SaveHistory(t.Context(), try.series, try.answered, try.done)
		var refused *store.RefusedError
		if !errors.As(err, &refused) || changes != (market.Changes{}) {
			t.Errorf("%s: got %+v, %v, want a RefusedError", name, changes, err)
		}
	}
	equal(t, "stored", before, ledgerOf(t, db, aapl))
}

// yearsOfCoverage asks for a part of the years.
func yearsOfCoverage(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	first, middle, last := market.NewDate(2010, 7, 1), market.NewDate(2015, 7, 1), market.NewDate(2026, 1, 2)
	save(t, run, sparse(aapl, first, middle, last), day)
	save(t, run, sparse("MSFT", last), day)
	all, err := db.BarCoverage(t.Context(), market.NewDate(2020, 5, 5))
	check(t, err)
	want := knownDays{Stored: []market.Date{first, last}}
	want.answer(source, span(market.NewDate(2020, 1, 1), last)...)
	equal(t, "from a year on, and the first", want, knownDaysOf(all[aapl]))
	equal(t, "a later one", answered(sparse("MSFT", last)), knownDaysOf(all["MSFT"]))
	some, err := db.BarCoverage(t.Context(), market.NewDate(2015, 12, 31), aapl)
	check(t, err)
	equal(t, "from a year that has one", []market.Date{first, middle, last}, knownDaysOf(some[aapl]).Stored)
	equal(t, "symbols", 1, len(some))

	// A first year whose rows are gone is the first no longer.
	d.Other(t, `DELETE FROM ohlcv WHERE timestamp < '2011-01-01 00:00:00+00:00'`)
	equal(t, "reconciled", [2]int{0, 1}, reconcile(t, db, always()))
	some, err = db.BarCoverage(t.Context(), market.NewDate(2020, 1, 1), aapl)
	check(t, err)
	equal(t, "the first that is there", []market.Date{middle, last}, knownDaysOf(some[aapl]).Stored)
}

func forgetHistory(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, store.BackfillJob, period)
	asked := market.Range{From: day - 9, To: day + 9}
	for _, symbol := range []market.Symbol{aapl, "MSFT", "Z"} {
		_, err := run.SaveHistory(t.Context(), seriesOf(symbol, 3), asked, true)
		check(t, err)
	}
	daily := begin(t, db, job, period)
	save(t, daily, seriesOf(aapl, 3), day)
	d.Other(t, `DELETE FROM ohlcv WHERE symbol = 'AAPL' AND timestamp < '2026-03-11 00:00:00+00:00'`)
	equal(t, "lost", [2]int{0, 1}, reconcile(t, db, always()))

	check(t, db.ForgetHistory(t.Context(), aapl, "Z", "UNKNOWN"))
	equal(t, "still done", []market.Symbol{"MSFT"}, must(db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind))(t))
	equal(t, "of a forgotten", knownDays{Stored: []market.Date{day - 1, day}, Lost: []market.Date{day - 2}}, daysOf(t, db, aapl))
	equal(t, "of another", len(span(asked.From, asked.To)), len(daysOf(t, db, "MSFT").Answered[source]))
	equal(t, "another job", []market.Symbol{aapl}, must(db.DoneUnits(t.Context(), job, period))(t))
	check(t, db.ForgetHistory(t.Context()))
	equal(t, "none is done", 0, len(must(db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind))(t)))
	equal(t, "none is answered", knownDays{Stored: span(day-2, day)}, daysOf(t, db, "MSFT"))
	equal(t, "bars stay", 3, len(ledgerOf(t, db, "Z").Bars))

	_, err := run.SaveHistory(t.Context(), seriesOf(aapl, 3), asked, true)
	check(t, err)
	equal(t, "done again", []market.Symbol{aapl}, must(db.DoneUnits(t.Context(), store.BackfillJob, store.HistoryKind))(t))
	equal(t, "answered again", len(span(asked.From, asked.To)), len(daysOf(t, db, aapl).Answered[source]))
}

// insertRow writes a row as another program would.
func insertRow(t testing.TB, d Database, symbol market.Symbol, stamp, source string) {
	t.Helper()
	d.Other(t, fmt.Sprintf(`INSERT INTO ohlcv VALUES ('%s', '%s', 1, 2, 0.5, 1, 10, NULL, %s)`, symbol, stamp, source))
}

func lostAndFound(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	equal(t, "of an empty database", [2]int{}, reconcile(t, db, always()))
	series := sparse(aapl, day-20, day-10, day-9, day)
	save(t, run, series, day)
	save(t, run, sparse("MSFT", day-1, day), day)
	equal(t, "nothing differs", [2]int{}, reconcile(t, db, always()))
	want := answered(series)

	d.Other(t, `DELETE FROM ohlcv WHERE timestamp = '2026-03-12 00:00:00+00:00'`)
	insertRow(t, d, aapl, "2026-03-12 14:30:00+00:00", `'intraday'`) // is no bar
	insertRow(t, d, aapl, "2026-03-11 00:00:00+00:00", `'python'`)   // answered
	insertRow(t, d, aapl, "2026-03-14 00:00:00+00:00", `'python'`)   // not answered
	insertRow(t, d, "NEW", "2026-03-16 00:00:00+00:00", `NULL`)
	equal(t, "before the window", [2]int{}, reconcile(t, db, market.Range{To: day - 2}))
	equal(t, "of no such symbol", [2]int{}, reconcile(t, db, always(), "UNKNOWN"))
	equal(t, "nothing is known of it", want, daysOf(t, db, aapl))

	equal(t, "of a symbol in a window", [2]int{1, 1}, reconcile(t, db, market.Range{From: day - 1, To: day}, aapl))
	want.lose(day)
	want.Stored = append(want.Stored, day-1)
	equal(t, "in the window", want, daysOf(t, db, aapl))
	equal(t, "of all", [2]int{2, 1}, reconcile(t, db, market.Range{From: day - 30, To: day + 30}))
	want.Stored = append(want.Stored, day+2)
	want.answer("python", day+2)
	equal(t, "all of it", want, daysOf(t, db, aapl))
	foreign := knownDays{Stored: []market.Date{day + 4}}
	foreign.answer("", day+4)
	equal(t, "a symbol of another program", foreign, daysOf(t, db, "NEW"))
	msft := answered(sparse("MSFT", day-1, day))
	msft.lose(day)
	equal(t, "another symbol", msft, daysOf(t, db, "MSFT"))
	equal(t, "again", [2]int{}, reconcile(t, db, always()))

	save(t, run, sparse("MSFT", day-1, day), day)
	msft.Stored = append(msft.Stored, day)
	msft.answer(source, day)
	equal(t, "stored again", msft, daysOf(t, db, "MSFT"))
	equal(t, "nothing differs any longer", [2]int{}, reconcile(t, db, always()))
	d.Other(t, `DELETE FROM ohlcv`)
	equal(t, "all is lost", [2]int{0, 8}, reconcile(t, db, always()))
	msft.lose(day-1, day)
	equal(t, "of a symbol", msft, daysOf(t, db, "MSFT"))
}

// daysOfAllSorts saves and finds the days at the ends of words, years and
// times.
func daysOfAllSorts(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	dates := []market.Date{
		1, 63, 64, 65, 128, 365, 366,
		market.NewDate(1962, 1, 2), market.NewDate(1969, 12, 31), market.NewDate(1970, 1, 1),
		market.NewDate(2023, 12, 31), market.NewDate(2024, 3, 4), market.NewDate(2024, 12, 31), market.NewDate(2025, 3, 5), store.LastDate,
	}
	_, err := run.SaveHistory(t.Context(), sparse(aapl, dates...), market.Range{}, false)
	check(t, err)
	want := knownDays{Stored: dates}
	equal(t, "saved", want, daysOf(t, db, aapl))
	equal(t, "nothing differs", [2]int{}, reconcile(t, db, always()))
	d.Other(t, `DELETE FROM ingest_coverage`)
	equal(t, "found", [2]int{len(dates), 0}, reconcile(t, db, always()))
	want.answer(source, dates...)
	equal(t, "as saved", want, daysOf(t, db, aapl))
	for i, date := range dates {
		d.Other(t, fmt.Sprintf(`DELETE FROM ohlcv WHERE timestamp = '%s 00:00:00+00:00'`, date))
		equal(t, "lost on "+date.String(), [2]int{0, 1}, reconcile(t, db, market.Range{From: date, To: date}))
		want.lose(dates[:i+1]...)
		equal(t, "after "+date.String(), want, daysOf(t, db, aapl))
	}
}

// reconcileBesideSaves deletes rows, which are saved again, while others look
// for what is lost.
func reconcileBesideSaves(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	var saving, looking sync.WaitGroup
	var done atomic.Bool
	for i, db := range handles {
		looking.Go(func() {
			for !done.Load() {
				if _, _, err := db.ReconcileBars(t.Context(), market.Range{From: day - 50, To: day + 50}); err != nil {
					t.Error(err)
				}
			}
		})
		run := begin(t, db, job, []string{period, "2026-03-13"}[i])
		symbol := market.Symbol([]byte{'S', 'A' + byte(i)})
		saving.Go(func() {
			for n := range 12 {
				if n%3 == 2 {
					d.Other(t, fmt.Sprintf(`DELETE FROM ohlcv WHERE symbol = '%s' AND timestamp > '2026-03-0%d 00:00:00+00:00'`, symbol, n%9+1))
				}
				if _, err := run.SaveBars(t.Context(), seriesOf(symbol, 15+n), day); err != nil {
					t.Error(err)
				}
			}
		})
	}
	saving.Wait()
	done.Store(true)
	looking.Wait()
	for i := range handles {
		symbol := market.Symbol([]byte{'S', 'A' + byte(i)})
		got := ledgerOf(t, handles[0], symbol)
		equal(t, "bars", 26, len(got.Bars))
		equal(t, "stored days", datesOf(got.Bars), got.Days.Stored)
	}
	equal(t, "reconciled at the end", [2]int{}, reconcile(t, handles[0], always()))
}

// daysModel compares random saves, deletions, rows of others, reconciliations
// and resets with sets of dates.
func daysModel(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, store.BackfillJob, period)
	var symbols atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		m := modelOfDays{symbol: market.Symbol(fmt.Sprintf("S%d", symbols.Add(1))), rows: map[market.Date]string{}}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			m.step(rt, t, d, db, run)
			equal(t, "known", m.known(), daysOf(t, db, m.symbol))
			if t.Failed() {
				rt.FailNow()
			}
		}
	})
}

type modelOfDays struct {
	symbol       market.Symbol
	rows         map[market.Date]string // source
	done         bool                   // by a session
	stored, lost []market.Date
	answered     map[string][]market.Date
}

func (m *modelOfDays) known() knownDays {
	k := knownDays{Stored: sortedDates(m.stored), Lost: sortedDates(m.lost)}
	for source, dates := range m.answered {
		if len(dates) > 0 {
			k.answer(source, dates...)
		}
	}
	return k
}

func sortedDates(dates []market.Date) []market.Date {
	return slices.Compact(slices.Sorted(slices.Values(dates)))
}

func (m *modelOfDays) answers(source string, dates ...market.Date) {
	if len(dates) == 0 {
		return
	}
	if m.answered == nil {
		m.answered = map[string][]market.Date{}
	}
	m.answered[source] = append(m.answered[source], dates...)
}

// newYear is a date near which the model works, so that it has two years.
const newYear = market.Date(739617) // 2026-01-01

func (m *modelOfDays) step(rt *rapid.T, t testing.TB, d Database, db store.DB, run store.Run) {
	from := newYear + market.Date(rapid.IntRange(-6, 6).Draw(rt, "from"))
	window := market.Range{From: from, To: from + market.Date(rapid.IntRange(0, 6).Draw(rt, "length"))}
	switch rapid.IntRange(0, 5).Draw(rt, "step") {
	case 0, 1:
		m.save(rt, t, run, window)
	case 2:
		d.Other(t, fmt.Sprintf(`DELETE FROM ohlcv WHERE symbol = '%s' AND timestamp BETWEEN '%s 00:00:00+00:00' AND '%s 00:00:00+00:00'`,
			m.symbol, window.From, window.To))
		for date := range m.rows {
			if window.Contains(date) {
				delete(m.rows, date)
			}
		}
	case 3:
		if m.rows[from] == "" {
			insertRow(t, d, m.symbol, from.String()+" 00:00:00+00:00", `'python'`)
			m.rows[from] = "python"
		}
	case 4:
		equal(t, "reconciled", m.reconcile(window), reconcile(t, db, window, m.symbol))
	case 5:
		check(t, db.ForgetHistory(t.Context(), m.symbol))
		m.answered = nil
	}
}

func (m *modelOfDays) save(rt *rapid.T, t testing.TB, run store.Run, window market.Range) {
	series := market.Series{Symbol: m.symbol, Source: rapid.SampledFrom([]string{"ibkr", "simulated"}).Draw(rt, "source"), NewBase: true}
	for date := window.From; date <= window.To; date++ {
		if rapid.Bool().Draw(rt, "bar") {
			series.Bars = append(series.Bars, barOf(date))
		}
	}
	var err error
	if rapid.Bool().Draw(rt, "daily") && len(series.Bars) > 0 {
		session := day // once: a unit that is done may be left alone
		if m.done {
			session = 0
		}
		m.done = true
		_, err = run.SaveBars(t.Context(), series, session)
		window = store.Extent(series)
	} else {
		_, err = run.SaveHistory(t.Context(), series, window, rapid.Bool().Draw(rt, "done"))
	}
	check(t, err)
	m.answers(series.Source, span(window.From, window.To)...)
	for _, bar := range series.Bars {
		m.stored = append(m.stored, bar.Date)
		if m.rows[bar.Date] == "" || m.rows[bar.Date] == "python" { // whose values differ
			m.rows[bar.Date] = series.Source
		}
	}
}

func (m *modelOfDays) reconcile(window market.Range) (counts [2]int) {
	var stored []market.Date
	for _, date := range sortedDates(m.stored) {
		if _, there := m.rows[date]; !there && window.Contains(date) {
			m.lost = append(m.lost, date)
			for source, dates := range m.answered {
				m.answered[source] = slices.DeleteFunc(dates, func(d market.Date) bool { return d == date })
			}
			counts[1]++
			continue
		}
		stored = append(stored, date)
	}
	for date, source := range m.rows {
		if !window.Contains(date) || slices.Contains(m.stored, date) {
			continue
		}
		counts[0]++
		stored = append(stored, date)
		answered := false
		for _, dates := range m.answered {
			answered = answered || slices.Contains(dates, date)
		}
		if !answered {
			m.answers(source, date)
		}
	}
	m.stored = stored
	return counts
}

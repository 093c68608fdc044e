package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	altJob    = store.AltDataJob
	altPeriod = "window"
	dayKind   = "edgar_days:0a1b"
	shortKind = "finra:0a1b"
)

// altRows counts the rows of alternative data and of the ledger.
const altRows = `
	SELECT (SELECT count(*) FROM ingest_filings) + (SELECT count(*) FROM insider_filings) + (SELECT count(*) FROM insider_owners)
	     + (SELECT count(*) FROM insider_transactions) + (SELECT count(*) FROM short_interest) + (SELECT count(*) FROM ingest_corrections)
	     + (SELECT count(*) FROM ingest_items) + (SELECT count(*) FROM ingest_watermarks)
	     + (SELECT count(*) FROM ingest_attempts)`

func accession(n int) string { return fmt.Sprintf("0001652044-26-%06d", n) }

func listed(n int, filed market.Date) market.ListedFiling {
	return market.ListedFiling{Accession: accession(n), Form: "4", Filed: filed, Filers: []int{1652044, 9_999_999_999}}
}

func doneUnits(t testing.TB, db store.DB, kind string) []market.Symbol {
	t.Helper()
	units, err := db.DoneUnits(t.Context(), altJob, kind)
	check(t, err)
	return units
}

// lastAttempt returns the newest attempt at a unit, without its time.
func lastAttempt(t testing.TB, db store.DB, unit string) store.Attempt {
	t.Helper()
	tries, err := db.Attempts(t.Context(), market.Symbol(unit), 1)
	check(t, err)
	if len(tries) == 0 {
		return store.Attempt{}
	}
	tries[0].At = time.Time{}
	return tries[0]
}

func units(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	const unit = "0001652044-26-000001"
	check(t, run.SaveUnitAttempt(t.Context(), store.FilingsKind, unit, "bad_payload", "zero \x00"))
	want := store.Attempt{
		RunID: run.ID(), Job: altJob, Period: store.FilingsKind, Symbol: unit, Outcome: "bad_payload", Message: "zero \uFFFD",
	}
	equal(t, "attempt", want, lastAttempt(t, db, unit))
	equal(t, "done after an attempt", 0, len(doneUnits(t, db, store.FilingsKind)))

	check(t, run.SaveItem(t.Context(), store.FilingsKind, unit, "no_data", "a filing of another issuer"))
	want.Outcome, want.Message = "no_data", "a filing of another issuer"
	equal(t, "attempt of an item", want, lastAttempt(t, db, unit))
	equal(t, "done", []market.Symbol{unit}, doneUnits(t, db, store.FilingsKind))
	equal(t, "its item", "unchanged", d.Other(t, `SELECT outcome FROM ingest_items WHERE rows = 0 AND source = ''`))
	check(t, run.SaveItem(t.Context(), store.FilingsKind, unit, "no_data", "again"))
	check(t, run.SaveItem(t.Context(), dayKind, "2026-03-12", "no_session", ""))
	equal(t, "done of another kind", []market.Symbol{"2026-03-12"}, doneUnits(t, db, dayKind))
	equal(t, "done of the run's period", 0, len(doneUnits(t, db, altPeriod)))
	covered, err := db.Coverage(t.Context(), altJob)
	check(t, err)
	equal(t, "coverage", 0, len(covered))

	check(t, run.End(t.Context(), "ok", nil))
	begin(t, db, altJob, altPeriod)
	equal(t, "done for the next run", []market.Symbol{unit}, doneUnits(t, db, store.FilingsKind))
	check(t, db.Forget(t.Context(), altJob, store.FilingsKind))
	equal(t, "forgotten", 0, len(doneUnits(t, db, store.FilingsKind)))

	for name, names := range map[string][2]string{"kind": {"", unit}, "unit": {dayKind, ""}, "text": {dayKind, "\x00"}} {
		if err := run.SaveItem(t.Context(), names[0], names[1], "no_data", ""); err == nil {
			t.Errorf("no %s: an item was stored", name)
		}
		if err := run.SaveUnitAttempt(t.Context(), names[0], names[1], "no_data", ""); err == nil {
			t.Errorf("no %s: an attempt was stored", name)
		}
	}
}

func saveIndex(t testing.TB, run store.Run, on market.Date, filings ...market.ListedFiling) market.Changes {
	t.Helper()
	changes, err := run.SaveIndexDay(t.Context(), dayKind, on, filings)
	check(t, err)
	return changes
}

// pending returns the pending filings of the two days from day-1 to day.
func pending(t testing.TB, db store.DB) []market.PendingFiling {
	t.Helper()
	all, err := db.PendingFilings(t.Context(), market.Range{From: day - 1, To: day})
	check(t, err)
	return all
}

func indexDays(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	equal(t, "pending at first", 0, len(pending(t, db)))
	equal(t, "a quiet day", market.Changes{}, saveIndex(t, run, day-5))

	// More than one statement of any store takes.
	const many = 5000
	all := make([]market.ListedFiling, many)
	for i := range all {
		all[i] = listed(many-i, day)
	}
	all[0].Filers, all[1].Form = nil, "4/A"
	equal(t, "a busy day", market.Changes{Inserted: many}, saveIndex(t, run, day, all...))
	equal(t, "attempt", store.Attempt{
		RunID: run.ID(), Job: altJob, Period: dayKind, Symbol: "2026-03-12", Outcome: store.Stored, Rows: many,
	}, lastAttempt(t, db, "2026-03-12"))
	equal(t, "done", []market.Symbol{"2026-03-07", "2026-03-12"}, doneUnits(t, db, dayKind))

	got := pending(t, db)
	slices.Reverse(all)
	for i := range min(len(got), many) {
		equal(t, "pending", market.PendingFiling{ListedFiling: all[i]}, got[i])
	}
	equal(t, "pending filings", many, len(got))

	known, fresh := listed(1, day), listed(0, day-1)
	known.Form = "5"
	equal(t, "a known one", market.Changes{Inserted: 1, Unchanged: 1}, saveIndex(t, run, day-1, known, fresh))
	got = pending(t, db)
	equal(t, "by day and number", []string{accession(0), accession(1)}, []string{got[0].Accession, got[1].Accession})
	equal(t, "left alone", "4", got[1].Form)
	equal(t, "again", market.Changes{Unchanged: 2}, saveIndex(t, run, day-1, known, fresh))
	equal(t, "outcome", store.Unchanged, lastAttempt(t, db, "2026-03-11").Outcome)
	everything, err := db.PendingFilings(t.Context(), market.Range{From: 0, To: 1 << 30})
	check(t, err)
	equal(t, "of a window without ends", many+1, len(everything))
	other, err := db.PendingFilings(t.Context(), market.Range{From: day + 1, To: day + 9})
	check(t, err)
	equal(t, "of another window", 0, len(other))
}

func indexBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	for name, change := range map[string]func(f *market.ListedFiling){
		"no number":   func(f *market.ListedFiling) { f.Accession = "" },
		"twice":       func(f *market.ListedFiling) { f.Accession = accession(1) },
		"no form":     func(f *market.ListedFiling) { f.Form = "" },
		"no day":      func(f *market.ListedFiling) { f.Filed = 0 },
		"year 10000":  func(f *market.ListedFiling) { f.Filed = store.LastDate + 1 },
		"filer 0":     func(f *market.ListedFiling) { f.Filers[0] = 0 },
		"a zero byte": func(f *market.ListedFiling) { f.Form = "4\x00" },
	} {
		filings := []market.ListedFiling{listed(1, day), listed(2, day)}
		change(&filings[1])
		if changes, err := run.SaveIndexDay(t.Context(), dayKind, day, filings); err == nil {
			t.Errorf("%s: stored as %+v", name, changes)
		}
	}
	if _, err := run.SaveIndexDay(t.Context(), dayKind, 0, nil); err == nil {
		t.Error("an index of no day was stored")
	}
	if _, err := run.SaveIndexDay(t.Context(), "", day, nil); err == nil {
		t.Error("an index of no kind was stored")
	}
	equal(t, "stored", "0", d.Other(t, `SELECT (SELECT count(*) FROM ingest_filings) + (SELECT count(*) FROM ingest_items) + (SELECT count(*) FROM ingest_attempts)`))
}

func pendingFailures(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	saveIndex(t, run, day-1, listed(4, day-1))
	saveIndex(t, run, day, listed(1, day), listed(2, day), listed(3, day))
	try := func(n int, outcomes ...string) {
		t.Helper()
		for i, outcome := range outcomes {
			check(t, run.SaveUnitAttempt(t.Context(), store.FilingsKind, accession(n), outcome, fmt.Sprintf("%s %d", outcome, i)))
		}
	}
	expect := func(what string, want ...market.PendingFiling) {
		t.Helper()
		equal(t, what, want, pending(t, db))
	}
	failed := func(n, failures int, outcome, message string) market.PendingFiling {
		return market.PendingFiling{ListedFiling: listed(n, day), Failures: failures, Outcome: outcome, Message: message}
	}
	try(1, "bad_payload", "no_data", "provider_error", "bad_payload", "interrupted", "interrupted", "interrupted")
	try(2, "no_data", "bad_payload")
	try(3, "provider_error")
	try(4, "bad_payload", "no_data")
	fourth := market.PendingFiling{ListedFiling: listed(4, day-1), Failures: 1, Outcome: "no_data", Message: "no_data 1"}
	expect("of several outcomes", fourth, failed(1, 2, "bad_payload", "bad_payload 3"), failed(2, 1, "bad_payload", "bad_payload 1"), failed(3, 0, "", ""))
	try(2, "no_data")
	expect("one more", fourth, failed(1, 2, "bad_payload", "bad_payload 3"), failed(2, 2, "no_data", "no_data 0"), failed(3, 0, "", ""))

	// Attempts at units of that name of another kind or job are no business of these.
	check(t, run.SaveUnitAttempt(t.Context(), dayKind, accession(3), "bad_payload", ""))
	check(t, begin(t, db, job, period).SaveUnitAttempt(t.Context(), store.FilingsKind, accession(3), "bad_payload", ""))
	check(t, begin(t, db, job, "2026-03-13").SaveItem(t.Context(), store.FilingsKind, accession(3), "no_data", ""))
	check(t, run.SaveItem(t.Context(), dayKind, accession(3), "no_data", ""))
	check(t, run.SaveItem(t.Context(), store.FilingsKind, accession(1), "no_data", ""))
	expect("one is done", fourth, failed(2, 2, "no_data", "no_data 0"), failed(3, 0, "", ""))
	check(t, db.Forget(t.Context(), altJob, store.FilingsKind, market.Symbol(accession(1))))
	equal(t, "forgotten", 4, len(pending(t, db)))
}

func lastRun(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	expect := func(what string, until time.Time, covered map[market.Symbol]market.Coverage) {
		t.Helper()
		got, err := db.LastRun(t.Context(), altJob)
		check(t, err)
		if !got.Equal(until) || got.Location() != time.UTC && !got.IsZero() {
			t.Errorf("%s: last run until %v, want %v", what, got, until)
		}
		is, err := db.Coverage(t.Context(), altJob)
		check(t, err)
		equal(t, what+": coverage", covered, is)
	}
	expect("at first", time.Time{}, nil)

	// Four in the evening in New York are the next day in UTC a bit later.
	first := time.Date(2026, 3, 12, 23, 30, 1, 999_999_999, time.FixedZone("", -4*60*60))
	check(t, run.SaveLastRun(t.Context(), first, []market.Symbol{goog, aapl, goog}))
	cut := first.Truncate(time.Second)
	covers := market.Coverage{Through: day + 1, Tried: "2026-03-13T03:30:01Z"}
	want := map[market.Symbol]market.Coverage{aapl: covers, goog: covers}
	expect("first", cut, want)
	check(t, run.SaveLastRun(t.Context(), first.Add(-time.Minute), []market.Symbol{aapl, "MSFT"}))
	want["MSFT"] = market.Coverage{Through: day + 1, Tried: "2026-03-13T03:29:01Z"}
	expect("back", cut, want)
	check(t, run.SaveLastRun(t.Context(), first.Add(48*time.Hour), nil))
	expect("without symbols", cut.Add(48*time.Hour), want)
	check(t, run.SaveCovered(t.Context(), first.Add(-time.Hour), []market.Symbol{aapl, "LATE"}))
	check(t, run.SaveCovered(t.Context(), first.Add(72*time.Hour), nil))
	want["LATE"] = market.Coverage{Through: day + 1, Tried: "2026-03-13T02:30:01Z"}
	expect("symbols alone", cut.Add(48*time.Hour), want)

	many := make([]market.Symbol, 3000)
	for i := range many {
		many[i] = market.Symbol(fmt.Sprintf("S%d", i))
	}
	check(t, run.SaveLastRun(t.Context(), first, many))
	is, err := db.Coverage(t.Context(), altJob)
	check(t, err)
	equal(t, "many symbols", 3004, len(is))
	none, err := db.LastRun(t.Context(), job)
	check(t, err)
	equal(t, "of another job", time.Time{}, none)

	for name, until := range map[string]time.Time{"zero": {}, "year 10000": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := run.SaveLastRun(t.Context(), until, nil); err == nil || !strings.Contains(err.Error(), "last run of altdata") {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, run.Release())
	begin(t, db, altJob, altPeriod)
	fenced(t, "after a takeover", run.SaveLastRun(t.Context(), first.Add(100*time.Hour), []market.Symbol{"NEW"}))
	got, err := db.LastRun(t.Context(), altJob)
	check(t, err)
	equal(t, "after a takeover", cut.Add(48*time.Hour).UTC(), got)
}

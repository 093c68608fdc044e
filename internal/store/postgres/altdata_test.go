package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// filing is a Form 4 with n sales.
func filing(number int, filed market.Date, n int) market.InsiderFiling {
	f := market.InsiderFiling{
		Accession: fmt.Sprintf("0000320193-26-%06d", number), Form: "4", Filed: filed, Period: filed - 2, IssuerCIK: 320193, Plan: market.AnswerNo,
		Owners: []market.InsiderOwner{{CIK: 2, Name: "Doe Jane", Officer: true}, {CIK: 3, Director: true}},
	}
	for i := range n {
		f.Lines = append(f.Lines, market.InsiderLine{
			Line: i + 1, SecurityTitle: "Common", Date: day - 2, Code: "S", AcquiredDisposed: "D", Nature: "By trust",
			Shares: market.Amount{Value: float64(i) + 0.1, Known: true}, Notes: []market.InsiderNote{{ID: "F1", Text: "a 'note'"}},
		})
	}
	return f
}

func shortInterest(settlement market.Date, n int) []market.ShortInterest {
	rows := make([]market.ShortInterest, n)
	for i := range rows {
		rows[i] = market.ShortInterest{
			Symbol: market.Symbol(fmt.Sprintf("S%d", i)), Settlement: settlement, Shares: int64(i) + 100,
			Previous: market.Count{Value: 90, Known: true}, DaysToCover: market.Ratio{Raw: 999.99}, RevisionFlag: "R",
		}.Normal()
	}
	return rows
}

// saveAltData saves a bit of everything, with all that a correction touches.
func saveAltData(t testing.TB, run store.Run) (sum market.Changes) {
	t.Helper()
	add := func(c market.Changes, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		sum = market.Changes{Inserted: sum.Inserted + c.Inserted, Updated: sum.Updated + c.Updated, Unchanged: sum.Unchanged + c.Unchanged}
	}
	amendment := filing(2, day+1, 1)
	amendment.Form, amendment.OriginalFiled = "4/A", day
	add(run.SaveIndexDay(t.Context(), "edgar_days", day, []market.ListedFiling{{Accession: "1", Form: "4", Filed: day, Filers: []int{2, 9_999_999_999}}}))
	add(run.SaveFiling(t.Context(), "AAPL", filing(1, day, 3)))
	add(run.SaveFiling(t.Context(), "AAPL", amendment))
	add(run.SaveShortInterest(t.Context(), "finra", day-14, shortInterest(day-14, 3)))
	add(run.SaveShortInterest(t.Context(), "finra", day, shortInterest(day, 3)))
	return sum
}

// TestReloadTouchesNoAltData looks at the hidden columns, as
// TestReloadTouchesNoRow does.
func TestReloadTouchesNoAltData(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	run := begin(t, migrated(t, url, postgres.Options{}), period)
	prints := ""
	for _, table := range []string{
		"ingest_filings", "insider_filings", "insider_owners", "insider_transactions", "short_interest", "ingest_items", "ingest_watermarks", "ingest_corrections",
	} {
		if prints != "" {
			prints += " UNION ALL "
		}
		prints += `SELECT string_agg(concat_ws(',', xmin, xmax, ctid, f), ';' ORDER BY ctid) FROM ` + table + ` f`
	}
	until := time.Date(2026, 3, 12, 10, 0, 0, 0, time.UTC)
	for range 2 { // the corrections of the first time are corrections
		saveAltData(t, run)
		if err := run.SaveLastRun(t.Context(), until, []market.Symbol{"AAPL", "MSFT"}); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "what there is", []string{"[1 2 4 4 6 5 3 6]"}, query(t, url, `
		SELECT (SELECT count(*) FROM ingest_filings), (SELECT count(*) FROM insider_filings), (SELECT count(*) FROM insider_owners),
		       (SELECT count(*) FROM insider_transactions), (SELECT count(*) FROM short_interest), (SELECT count(*) FROM ingest_items),
		       (SELECT count(*) FROM ingest_watermarks), (SELECT count(*) FROM ingest_corrections)`))
	before := query(t, url, prints)
	equal(t, "again", market.Changes{Unchanged: 13}, saveAltData(t, run))
	if err := run.SaveLastRun(t.Context(), until.Add(-time.Hour), []market.Symbol{"AAPL", "MSFT"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", before, query(t, url, prints))
}

// TestFilingRoundTrips counts how often a save asks the server.
func TestFilingRoundTrips(t *testing.T) {
	t.Parallel()
	p := newProxy(t, testenv.Postgres(t))
	db := migrated(t, p.url, postgres.Options{MaxConns: 1})
	run := begin(t, db, period)
	trips := func(f market.InsiderFiling) int64 {
		t.Helper()
		before := p.turns.Load()
		if _, err := run.SaveFiling(t.Context(), "AAPL", f); err != nil {
			t.Fatal(err)
		}
		return p.turns.Load() - before
	}
	amendment := filing(2, day+1, 200)
	amendment.Form, amendment.OriginalFiled = "4/A", day
	changed := filing(1, day, 100)
	changed.Lines[7].Shares.Value++
	for _, f := range []market.InsiderFiling{filing(1, day, 100), amendment, changed, changed} {
		trips(f) // statements are prepared
	}
	next := amendment
	next.Accession += "-"
	again := changed
	again.Lines[9].Shares.Value++
	for what, f := range map[string]market.InsiderFiling{"a first": filing(3, day+9, 150), "an amendment": next, "a changed one": again, "the same": changed} {
		if n := trips(f); n > 3 {
			t.Errorf("%s took %d round trips", what, n)
		}
	}
	_ = db.Close()
}

// TestAltDataTakesTurns begins a save of what another one corrects while that
// is between its comparison and its commit. The second waits, whichever of them
// it is, so that it knows of the first.
func TestAltDataTakesTurns(t *testing.T) {
	t.Parallel()
	amendment := filing(2, day+1, 3)
	amendment.Form, amendment.OriginalFiled = "4/A", day
	saveFiling := func(f market.InsiderFiling) func(store.Run) error {
		return func(run store.Run) error {
			_, err := run.SaveFiling(t.Context(), "AAPL", f)
			return err
		}
	}
	saveShort := func(settlement market.Date) func(store.Run) error {
		return func(run store.Run) error {
			_, err := run.SaveShortInterest(t.Context(), "finra", settlement, shortInterest(settlement, 3))
			return err
		}
	}
	for name, tc := range map[string]struct {
		unit          string // of the first
		first, second func(store.Run) error
		want          string // the sum of what is corrected
	}{
		"original first":  {"0000320193-26-000001", saveFiling(filing(1, day, 3)), saveFiling(amendment), "[3 0]"},
		"amendment first": {"0000320193-26-000002", saveFiling(amendment), saveFiling(filing(1, day, 3)), "[3 0]"},
		"short interest":  {"2026-02-26", saveShort(day - 14), saveShort(day), "[0 3]"},
		"later one first": {"2026-03-12", saveShort(day), saveShort(day - 14), "[0 3]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Postgres(t)
			db := migrated(t, url, postgres.Options{})
			runs := []store.Run{begin(t, db, period), begin(t, db, "2026-03-13")}
			tx, err := connect(t, url).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// The first save waits for one of these rows after it has written.
			if _, err := tx.Exec(t.Context(), `INSERT INTO ingest_items SELECT $1, kind, $2, 1, 'stored', 1, '' FROM (VALUES ('finra'), ('edgar_filings')) k (kind)`, job, tc.unit); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 2)
			for i, save := range []func(store.Run) error{tc.first, tc.second} {
				go func() { done <- save(runs[i]) }()
				eventually(t, "it waits, or is over", func() bool {
					return query(t, url, waiting)[0] == fmt.Sprintf("[%d]", i+1) || len(done) > 0
				})
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range runs {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			equal(t, "corrected", []string{tc.want}, query(t, url, `
				SELECT (SELECT count(*) FROM insider_transactions WHERE superseded), (SELECT count(*) FROM short_interest WHERE short_interest = 90)`))
		})
	}
}

// TestLastRunNeverGoesBack lets another session move it further while a save
// is already waiting for its row.
func TestLastRunNeverGoesBack(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO ingest_watermarks VALUES ($1, 'last_run', '2026-03-13', '2026-03-13T10:00:00Z')`, job); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- run.SaveLastRun(t.Context(), day.Time(), nil) }()
	eventually(t, "it waits", func() bool { return query(t, url, waiting)[0] == "[1]" })
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got, err := db.LastRun(t.Context(), job)
	if err != nil || !got.Equal(time.Date(2026, 3, 13, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("last run until %v, %v", got, err)
	}
}

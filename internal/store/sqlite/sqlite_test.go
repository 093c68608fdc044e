package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/sqlite"
	"github.com/alpha-oracle/worker/internal/store/storetest"
)

const day = market.Date(739687) // 2026-03-12

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) storetest.Database {
		path := filepath.Join(t.TempDir(), "worker.db")
		return storetest.Database{
			Open:  func(t testing.TB) store.DB { return open(t, path, sqlite.Options{}) },
			Lease: func(t testing.TB, lease store.Lease) store.DB { return open(t, path, sqlite.Options{Lease: lease}) },
			Break: func(t testing.TB) {
				shell(t, path, `CREATE TRIGGER broken BEFORE INSERT ON ingest_attempts BEGIN SELECT RAISE(ABORT, 'broken'); END`)
			},
			Other: func(t testing.TB, query string) string {
				rows := shell(t, path, query)
				if len(rows) == 0 {
					return ""
				}
				return fmt.Sprint(rows[0][0])
			},
		}
	})
}

func open(t testing.TB, path string, o sqlite.Options) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func migrated(t testing.TB, path string, o sqlite.Options) *sqlite.DB {
	t.Helper()
	db := open(t, path, o)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// shell uses the file as another program would.
func shell(t testing.TB, path, query string) [][]any {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_busy_timeout=30000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]any
	for rows.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func series(n int) market.Series {
	s := market.Series{Symbol: "AAPL", Source: "simulated"}
	for i := range n {
		s.Bars = append(s.Bars, market.Bar{Date: day + market.Date(i), Open: 1.5, High: 2.25, Low: 1, Close: 2, Volume: 7})
	}
	return s
}

func begin(t testing.TB, db *sqlite.DB) store.Run {
	t.Helper()
	run, err := db.Begin(t.Context(), "daily_bars", "2026-03-12", "worker-1")
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// TestReadableByOthers holds the form of what is stored to what the sqlite3
// shell and pandas read.
func TestReadableByOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.db")
	now := time.Date(2026, 3, 12, 17, 4, 5, 123456789, time.FixedZone("", -4*60*60))
	db := migrated(t, path, sqlite.Options{Now: func() time.Time { return now }})
	run := begin(t, db)
	if _, err := run.SaveBars(t.Context(), series(1), day); err != nil {
		t.Fatal(err)
	}
	want := [][]any{{"AAPL", "2026-03-12 00:00:00+00:00", 1.5, 2.25, 1.0, 2.0, int64(7), nil, "simulated"}}
	if diff := cmp.Diff(want, shell(t, path, `SELECT * FROM ohlcv`)); diff != "" {
		t.Errorf("ohlcv: %s", diff)
	}
	want = [][]any{{"2026-03-12", "2026-03-12", "2026-03-12 21:04:05.123456+00:00", int64(1)}}
	got := shell(t, path, `
		SELECT w.through, w.tried, a.at, julianday(a.at) > julianday('2026-03-12 21:04:05')
		FROM ingest_watermarks w, ingest_attempts a`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ledger: %s", diff)
	}
}

// TestOldCallsGo lets 512 calls pass, after which those of two months ago are
// gone and those inside any provider's window are not.
func TestOldCallsGo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 12, 21, 0, 0, 0, time.UTC)
	db := migrated(t, filepath.Join(t.TempDir(), "worker.db"), sqlite.Options{Now: func() time.Time { return now }})
	start := now
	for i := range 512 {
		now = start.Add(time.Duration(i) * 3 * time.Hour) // 64 days
		if ok, err := db.RecordCall(t.Context(), "alpha_vantage", 0, time.Time{}); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	n, err := db.CallsSince(t.Context(), "alpha_vantage", time.Time{})
	if err != nil || n != 40*8+1 {
		t.Errorf("%d calls are kept, %v, want %d", n, err, 40*8+1)
	}
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := migrated(t, filepath.Join(dir, "a folder with ?#% in it", "worker.db"), sqlite.Options{})
	names := []string{"../../escape", "a b", "a_b", "A_B", "", strings.Repeat("long", 200), "nul\x00", "…"}
	for _, period := range names {
		run, err := db.Begin(t.Context(), "job", period, "worker")
		if err != nil {
			t.Fatalf("%q: %v", period, err)
		}
		defer func() { _ = run.Release() }()
		if _, err := run.SaveBars(t.Context(), series(1), day); err != nil {
			t.Errorf("%q: %v", period, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files outside the database's folder: %v, %v", entries, err)
	}
}

// TestClaimLeavesNoFile holds that a folder does not fill with lock files, and
// that removing them lets nobody slip in.
func TestClaimLeavesNoFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.db")
	db := migrated(t, path, sqlite.Options{})
	other := open(t, path, sqlite.Options{})
	var wg sync.WaitGroup
	var inside sync.Mutex
	for _, db := range []*sqlite.DB{db, other, db, other} {
		wg.Go(func() {
			for ended := 0; ended < 10; {
				run, err := db.Begin(t.Context(), "job", "period", "worker")
				if held := (*store.HeldError)(nil); errors.As(err, &held) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !inside.TryLock() {
					t.Error("two owners at once")
					return
				}
				inside.Unlock()
				if err := run.End(t.Context(), "ok", nil); err != nil {
					t.Error(err)
				}
				ended++
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(path+"-locks", "job*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestReadsWhileWriting reads from a second handle while the first is inside a
// transaction.
func TestReadsWhileWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.db")
	db := migrated(t, path, sqlite.Options{})
	if _, err := begin(t, db).SaveBars(t.Context(), series(3), day); err != nil {
		t.Fatal(err)
	}
	writer, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	tx, err := writer.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`DELETE FROM ohlcv`); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, path, sqlite.Options{}).Bars(t.Context(), "AAPL", market.Range{From: day, To: day + 9})
	if err != nil || len(got.Bars) != 3 {
		t.Errorf("beside a writer: %d bars, %v", len(got.Bars), err)
	}
	impatient := open(t, path, sqlite.Options{Patience: 50 * time.Millisecond})
	if _, err := impatient.RecordCall(t.Context(), "edgar", 0, time.Time{}); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("a second writer: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.RecordCall(ctx, "edgar", 0, time.Time{}); err == nil {
		t.Error("a second writer got in")
	}
}

// TestWaitsForAWriter saves while another process is inside a transaction: the
// save begins after it and sees what it stored.
func TestWaitsForAWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.db")
	run := begin(t, migrated(t, path, sqlite.Options{}))
	writer, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	tx, err := writer.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`INSERT INTO ohlcv VALUES ('AAPL', '2026-03-12 00:00:00+00:00', 1, 1, 1, 1, 1, NULL, 'python')`); err != nil {
		t.Fatal(err)
	}
	type result struct {
		changes market.Changes
		err     error
	}
	done := make(chan result, 1)
	go func() {
		changes, err := run.SaveBars(t.Context(), series(2), day)
		done <- result{changes, err}
	}()
	select { // long enough for a save that does not wait to go wrong
	case got := <-done:
		t.Errorf("did not wait: %+v", got)
	case <-time.After(200 * time.Millisecond):
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || got.changes != (market.Changes{Inserted: 1, Updated: 1}) {
		t.Errorf("got %+v", got)
	}
}

const victim = "TEST_SQLITE_VICTIM"

// TestKilledHoldsNothing kills a process that holds a claim in the middle of
// its saves. What it had acknowledged is stored, nothing is stored by half, and
// its period can be claimed at once.
func TestKilledHoldsNothing(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(victim); path != "" {
		loadForEver(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "worker.db")
	db := migrated(t, path, sqlite.Options{})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), exe, "-test.run=^TestKilledHoldsNothing$")
	child.Env = append(os.Environ(), victim+"="+path)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for loaded := 0; loaded < 20; {
		s, err := db.Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		loaded = int(s.Symbols)
	}
	if _, err := db.Begin(t.Context(), "daily_bars", "2026-03-12", "worker-2"); !errors.As(err, new(*store.HeldError)) {
		t.Errorf("while the owner lives: %v", err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()

	run := begin(t, db)
	halves := shell(t, path, `SELECT symbol, count(*) FROM ohlcv GROUP BY symbol HAVING count(*) <> 500`)
	unmarked := shell(t, path, `
		SELECT symbol FROM ohlcv EXCEPT SELECT unit FROM ingest_items
		UNION ALL SELECT unit FROM ingest_items EXCEPT SELECT symbol FROM ohlcv`)
	if len(halves)+len(unmarked) > 0 {
		t.Errorf("stored by half: %v, without their mark: %v", halves, unmarked)
	}
	if sound := shell(t, path, `PRAGMA integrity_check`); sound[0][0] != "ok" {
		t.Error(sound)
	}
	if _, err := run.SaveBars(t.Context(), series(1), day); err != nil {
		t.Error(err)
	}
}

func loadForEver(t *testing.T, path string) {
	db := open(t, path, sqlite.Options{})
	run := begin(t, db)
	s := series(500)
	for i := 0; ; i++ {
		s.Symbol = market.Symbol(strings.Repeat("X", 1+i/26) + string(rune('A'+i%26)))
		if _, err := run.SaveBars(t.Context(), s, day); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"no path": "", "a folder": dir, "a text file": text, "below a file": filepath.Join(text, "x.db")} {
		db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err == nil {
			_ = db.Close()
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), "open database file") || path != "" && !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReloadTouchesNoFact saves again what is stored while every write to it
// would fail.
func TestReloadTouchesNoFact(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.db")
	run := begin(t, migrated(t, path, sqlite.Options{}))
	fact := market.Fact{
		CIK: 320193, Taxonomy: "us-gaap", Concept: "Assets", Unit: "USD", End: day - 60, Value: 1.5,
		Accession: "0000320193-26-000001", Form: "10-Q", Filed: day - 30,
	}
	again := fact
	again.Accession, again.Filed = "0000320193-26-000002", day
	row := market.Fundamentals{Symbol: "AAPL", Date: day, Sector: market.Label{Text: "Technology", Origin: market.Origin{Source: "alpha_vantage"}}}
	save := func() {
		t.Helper()
		if _, err := run.SaveFacts(t.Context(), "AAPL", []market.Fact{fact, again}, day); err != nil {
			t.Fatal(err)
		}
		if _, err := run.SaveFundamentals(t.Context(), row, true); err != nil {
			t.Fatal(err)
		}
	}
	save()
	forbid(t, path, "fundamental_facts", "fundamentals", "ingest_items", "ingest_watermarks", "ingest_corrections")
	save()

	want := [][]any{
		{"AAPL", "0000320193", nil, "2026-01-11", 1.5, "2026-02-10", "2026-03-12"},
		{"AAPL", "0000320193", nil, "2026-01-11", 1.5, "2026-03-12", nil},
	}
	got := shell(t, path, `SELECT symbol, issuer_cik, start, "end", value, filed, superseded_on FROM fundamental_facts ORDER BY filed`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts: %s", diff)
	}
	want = [][]any{{"2026-03-12 00:00:00+00:00", nil, "Technology", `{"fields":{"sector":{"source":"alpha_vantage"}}}`}}
	if diff := cmp.Diff(want, shell(t, path, `SELECT timestamp, pe_ratio, sector, metadata FROM fundamentals`)); diff != "" {
		t.Errorf("fundamentals: %s", diff)
	}
}

// forbid lets every write to the tables fail. Rows that are kept out by a
// conflict are no writes.
func forbid(t *testing.T, path string, tables ...string) {
	t.Helper()
	for _, table := range tables {
		for _, verb := range []string{"INSERT", "UPDATE", "DELETE"} {
			shell(t, path, `CREATE TRIGGER `+table+verb+` AFTER `+verb+` ON `+table+` BEGIN SELECT RAISE(ABORT, 'touched'); END`)
		}
	}
}

// TestReloadTouchesNoAltData does the same with filings and short interest.
func TestReloadTouchesNoAltData(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "worker.db")
	run := begin(t, migrated(t, path, sqlite.Options{}))
	filing := market.InsiderFiling{
		Accession: "0000320193-26-000001", Form: "4", Filed: day, Accepted: day.Time().Add(21*time.Hour + time.Millisecond), Period: day - 2, IssuerCIK: 320193,
		Owners: []market.InsiderOwner{{CIK: 2, Director: true}},
		Lines:  []market.InsiderLine{{Line: 1, Code: "S", Direct: market.AnswerYes, Shares: market.Amount{Value: 1.5, Known: true}, Nature: "x"}},
	}
	amendment := filing
	amendment.Accession, amendment.Form, amendment.Filed, amendment.OriginalFiled = "0000320193-26-000002", "4/A", day+1, day
	later := market.ShortInterest{Symbol: "AAPL", Settlement: day, Shares: 7, Previous: market.Count{Value: 5, Known: true}, RevisionFlag: "R", DaysToCover: market.Ratio{Raw: 999.99}}
	earlier := market.ShortInterest{Symbol: "AAPL", Settlement: day - 13, Shares: 6}
	save := func() {
		t.Helper()
		_, err := run.SaveIndexDay(t.Context(), "edgar_days", day, []market.ListedFiling{{Accession: "1", Form: "4", Filed: day, Filers: []int{2, 3}}})
		for _, f := range []market.InsiderFiling{filing, amendment} {
			if _, e := run.SaveFiling(t.Context(), "AAPL", f); e != nil {
				err = e
			}
		}
		for _, s := range []market.ShortInterest{earlier, later} {
			if _, e := run.SaveShortInterest(t.Context(), "finra", s.Settlement, []market.ShortInterest{s}); e != nil {
				err = e
			}
		}
		if e := run.SaveLastRun(t.Context(), day.Time(), []market.Symbol{"AAPL"}); e != nil {
			err = e
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	save()
	forbid(t, path, "ingest_filings", "insider_filings", "insider_owners", "insider_transactions", "short_interest",
		"ingest_items", "ingest_watermarks", "ingest_corrections")
	save()

	want := [][]any{
		{"2026-03-12 00:00:00+00:00", "Director", "S", 1.5, int64(1), nil, int64(1), nil, nil, `{"nature":"x"}`},
		{"2026-03-13 00:00:00+00:00", "Director", "S", 1.5, int64(1), nil, int64(0), "0000320193-26-000001", int64(1), `{"nature":"x"}`},
	}
	got := shell(t, path, `
		SELECT filed_date, insider_title, transaction_type, shares, is_direct, aff10b5_one, superseded, amends, amends_line, metadata
		FROM insider_transactions ORDER BY line, accession_number`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("transactions: %s", diff)
	}
	want = [][]any{{"1", "2026-03-12", "[2,3]", "2026-03-12 21:00:00.001000+00:00", "0000320193-26-000002", "2026-03-13", "2026-03-12"}}
	got = shell(t, path, `
		SELECT l.accession_number, l.filed, l.filers, f.accepted_at, f.accession_number, f.filed_date, f.original_filed
		FROM ingest_filings l, insider_filings f WHERE f.form = '4/A'`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filings: %s", diff)
	}
	want = [][]any{
		{"2026-02-27 00:00:00+00:00", int64(5), nil, nil, nil, nil},
		{"2026-03-12 00:00:00+00:00", int64(7), int64(5), nil, 999.99, "R"},
	}
	got = shell(t, path, `SELECT settlement_date, short_interest, previous_short_interest, days_to_cover, days_to_cover_raw, revision_flag FROM short_interest`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("short interest: %s", diff)
	}
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/store/storetest"
	"github.com/alpha-oracle/worker/internal/testenv"
)

const (
	job    = "daily_bars"
	period = "2026-03-12"
	day    = market.Date(739687) // 2026-03-12
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) storetest.Database {
		url := testenv.Postgres(t)
		return storetest.Database{
			Open: func(t testing.TB) store.DB { return open(t, url, postgres.Options{MaxConns: 4}) },
			Lease: func(t testing.TB, lease store.Lease) store.DB {
				return open(t, url, postgres.Options{MaxConns: 4, Lease: lease})
			},
			Break: func(t testing.TB) {
				query(t, url, `
					CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
					CREATE TRIGGER broken BEFORE INSERT ON ingest_attempts FOR EACH ROW EXECUTE FUNCTION broken()`)
			},
			Other: func(t testing.TB, sql string) string {
				rows := query(t, url, sql)
				if len(rows) == 0 {
					return ""
				}
				return strings.Trim(rows[0], "[]")
			},
		}
	})
}

func open(t testing.TB, url string, o postgres.Options) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func migrated(t testing.TB, url string, o postgres.Options) *postgres.DB {
	t.Helper()
	db := open(t, url, o)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// query runs statements as another program would, and returns the rows of the
// last one as text.
func query(t testing.TB, url, sql string) (rows []string) {
	t.Helper()
	conn := connect(t, url)
	results, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
	_ = conn.Close(context.Background())
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	for _, row := range results[len(results)-1].Rows {
		rows = append(rows, string(fmt.Appendf(nil, "%s", row)))
	}
	return rows
}

func equal(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// eventually waits until ok holds, and fails the test if it does not in a time
// that no machine needs.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func begin(t testing.TB, db *postgres.DB, period string) store.Run {
	t.Helper()
	run, err := db.Begin(t.Context(), job, period, "worker-1")
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func series(symbol market.Symbol, n int) market.Series {
	s := market.Series{Symbol: symbol, Source: "simulated"}
	for i := range n {
		price := 10 + float64(i%90)/10
		s.Bars = append(s.Bars, market.Bar{
			Date: day - market.Date(n-1-i), Open: price, High: price + 1, Low: price - 1, Close: price,
			AdjClose: price / 2, HasAdjClose: true, Volume: int64(1000 + i),
		})
	}
	return s
}

func save(t testing.TB, run store.Run, s market.Series) market.Changes {
	t.Helper()
	changes, err := run.SaveBars(t.Context(), s, day)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

const fingerprint = `
	SELECT count(*), md5(string_agg(concat_ws(',', xmin, xmax, ctid, o), ';' ORDER BY symbol, timestamp)) FROM ohlcv o`

// TestReloadTouchesNoRow looks at the hidden columns, which would betray a row
// that was locked or rewritten with the same values.
func TestReloadTouchesNoRow(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	s := series("AAPL", 300)
	save(t, run, s)
	ledger := `
		SELECT xmin, xmax, ctid FROM ingest_items UNION ALL SELECT xmin, xmax, ctid FROM ingest_watermarks`
	const coverage = `SELECT xmin, xmax, ctid FROM ingest_coverage`
	before, items, days := query(t, url, fingerprint), query(t, url, ledger), query(t, url, coverage)

	equal(t, "reload", market.Changes{Unchanged: 300}, save(t, run, s))
	equal(t, "item and watermark after a reload", items, query(t, url, ledger))
	equal(t, "reload in another period", market.Changes{Unchanged: 300}, save(t, begin(t, db, "2026-03-13"), s))
	for _, answered := range []market.Range{{}, store.Extent(s)} {
		if _, err := run.SaveHistory(t.Context(), s, answered, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run.SaveBars(t.Context(), s, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.ReconcileBars(t.Context(), market.Range{}); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows after the reloads", before, query(t, url, fingerprint))
	equal(t, "days after the reloads", days, query(t, url, coverage))
	equal(t, "rows of days", 4, len(days))

	s.Bars[100].Close++
	equal(t, "correction", market.Changes{Updated: 1, Unchanged: 299}, save(t, run, s))
	equal(t, "days after the correction", days, query(t, url, coverage))
	equal(t, "rows that a correction of one touches", []string{"[1]"}, query(t, url, `
		SELECT count(*) FROM ohlcv WHERE xmin <> (SELECT xmin FROM ohlcv ORDER BY timestamp LIMIT 1)`))
}

// TestStoredForOthers holds the form of a row to the contract.
func TestStoredForOthers(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	s := market.Series{Symbol: "BRK.B", Source: "ibkr", Bars: []market.Bar{{Date: day, Open: 1.1, High: 2.2, Low: 0.3, Close: 1.7, Volume: 5}}}
	save(t, begin(t, migrated(t, url, postgres.Options{}), period), s)
	equal(t, "row", []string{"[BRK.B t 1.1 2.2 0.3 1.7 5 t ibkr]"}, query(t, url, `
		SELECT symbol, timestamp = '2026-03-12 00:00:00+00', open, high, low, close, volume, adjusted_close IS NULL, source FROM ohlcv`))
}

// TestOtherRowsAreNoBars leaves rows of the same table that are at another hour
// alone.
func TestOtherRowsAreNoBars(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	query(t, url, `INSERT INTO ohlcv VALUES ('AAPL', '2026-03-12 14:30:00+00', 1, 1, 1, 1, 1, NULL, 'intraday')`)
	s := series("AAPL", 3)
	equal(t, "load", market.Changes{Inserted: 3}, save(t, begin(t, db, period), s))
	got, err := db.Bars(t.Context(), "AAPL", market.Range{From: day - 9, To: day + 9})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "bars", s.Bars, got.Bars)
}

// TestTextProtocol reads and writes through a pooler that knows no prepared
// statements.
func TestTextProtocol(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url+"&default_query_exec_mode=simple_protocol", postgres.Options{})
	run := begin(t, db, period)
	s := series("AAPL", 20)
	s.Bars[3].HasAdjClose, s.Bars[3].AdjClose = false, 0
	equal(t, "load", market.Changes{Inserted: 20}, save(t, run, s))
	s.Bars[4].Low -= 0.125
	equal(t, "correction", market.Changes{Updated: 1, Unchanged: 19}, save(t, run, s))
	got, err := db.Bars(t.Context(), "AAPL", market.Range{From: day - 30, To: day})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "bars", s, got)

	all := facts(20)
	all[3].Start = 0
	equal(t, "load of facts", market.Changes{Inserted: 20}, saveFacts(t, run, all))
	all[4].Value++
	later := all[5]
	later.Filed, later.Accession = day, "0000320193-26-000999"
	equal(t, "correction of facts", market.Changes{Inserted: 1, Updated: 1, Unchanged: 19}, saveFacts(t, run, append(all, later)))
	all[5] = later
	equal(t, "facts", all, factsAsOf(t, db, day, "Revenues"))
	for range 2 {
		if _, err := run.SaveFundamentals(t.Context(), overview(), true); err != nil {
			t.Fatal(err)
		}
	}
	row, ok, err := db.Fundamentals(t.Context(), "AAPL", day)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	equal(t, "fundamentals", overview(), row)
	saveAltData(t, run)
	for range 2 {
		equal(t, "alternative data again", market.Changes{Unchanged: 1 + 4 + 2 + 2*3}, saveAltData(t, run))
	}
	filings, err := db.InsiderFilings(t.Context(), "AAPL")
	if err != nil || len(filings) != 2 {
		t.Fatal(filings, err)
	}
	equal(t, "filing", filing(1, day, 3), filings[0])
	listed, err := db.PendingFilings(t.Context(), market.Range{From: day, To: day})
	if err != nil || len(listed) != 1 || len(listed[0].Filers) != 2 {
		t.Error(listed, err)
	}
	if err := run.SaveLastRun(t.Context(), day.Time(), []market.Symbol{"AAPL"}); err != nil {
		t.Error(err)
	}
	wantStoredDays(t, db, "AAPL", 20, 0)
	wantReconciled(t, db, 0, 0)
	query(t, url, `UPDATE ohlcv SET timestamp = timestamp - interval '1000 days' WHERE timestamp = '2026-03-12 00:00:00+00'`)
	wantReconciled(t, db, 1, 1)
	for range 2 {
		if _, _, err := db.SaveUniverse(t.Context(), "sp500", []market.Symbol{"MSFT", "AAPL"}); err != nil {
			t.Error(err)
		}
	}
	members, _, err := db.Universe(t.Context(), "sp500")
	if err != nil || len(members) != 2 {
		t.Error(members, err)
	}
}

// TestAnotherWriterInBetween lets another program insert rows of the symbol
// after they were found missing: the copy fails on them and the save starts
// over from what is stored by then.
func TestAnotherWriterInBetween(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	other := connect(t, url)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), `
		INSERT INTO ohlcv VALUES ('AAPL', '2026-03-12 00:00:00+00', 1, 2, 0.5, 1, 10, NULL, 'python')`)
	if err != nil {
		t.Fatal(err)
	}
	s := series("AAPL", 50)
	var changes market.Changes
	var wg sync.WaitGroup
	wg.Go(func() { changes, err = run.SaveBars(t.Context(), s, day) })
	eventually(t, "the copy waits for the other writer", func() bool {
		return query(t, url, waiting)[0] == "[1]"
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "changes", market.Changes{Inserted: 49, Updated: 1}, changes)
	got, err := db.Corrections(t.Context(), "AAPL", 10)
	if err != nil || len(got) != 6 {
		t.Errorf("%d corrections, %v, want all 6 fields", len(got), err)
	}
}

// TestAnotherWriterChangesARow lets another program change a row after it was
// compared: the save starts over, so the correction names the value that it
// really replaced.
func TestAnotherWriterChangesARow(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	run := begin(t, migrated(t, url, postgres.Options{}), period)
	s := series("AAPL", 3)
	save(t, run, s)
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE ohlcv SET open = 55 WHERE timestamp = '2026-03-12 00:00:00+00'`); err != nil {
		t.Fatal(err)
	}
	s.Bars[2].Open = 60
	done := make(chan error, 1)
	go func() {
		_, err := run.SaveBars(t.Context(), s, day)
		done <- err
	}()
	eventually(t, "the save waits for the row", func() bool { return query(t, url, waiting)[0] == "[1]" })
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	equal(t, "corrections", []string{"[open 55 60]"}, query(t, url, `SELECT field, old_value, new_value FROM ingest_corrections`))
}

// TestReconcileInTheMidstOfASave lets a reconciliation find a row gone that a
// save, which began before, is about to store again.
func TestReconcileInTheMidstOfASave(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	s := series("AAPL", 5)
	save(t, run, s)
	query(t, url, `DELETE FROM ohlcv WHERE timestamp = '2026-03-12 00:00:00+00'`)
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The save waits for this row between its comparison and its commit.
	if _, err := tx.Exec(t.Context(), `INSERT INTO ohlcv VALUES ('AAPL', '2026-03-12 00:00:00+00', 1, 2, 0.5, 1, 10, NULL, '')`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := run.SaveBars(t.Context(), s, day)
		done <- err
	}()
	eventually(t, "the save waits", func() bool { return query(t, url, waiting)[0] == "[1]" })
	wantReconciled(t, db, 0, 1)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantStoredDays(t, db, "AAPL", 5, 1) // it was lost for a while
	wantReconciled(t, db, 0, 0)
}

// TestSaveInTheMidstOfAReconciliation lets a save store a row, after it was found
// gone and before that is written down.
func TestSaveInTheMidstOfAReconciliation(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	s := series("AAPL", 5)
	save(t, run, s)
	query(t, url, `DELETE FROM ohlcv WHERE timestamp = '2026-03-12 00:00:00+00'`)
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The save waits with its last statement, when its days are written.
	if _, err := tx.Exec(t.Context(), `LOCK TABLE ingest_attempts IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	saved, reconciled := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := run.SaveBars(t.Context(), s, day)
		saved <- err
	}()
	eventually(t, "the save waits", func() bool { return query(t, url, waiting)[0] == "[1]" })
	go func() {
		_, lost, err := db.ReconcileBars(t.Context(), market.Range{})
		if lost != 0 {
			err = fmt.Errorf("%d days are lost", lost)
		}
		reconciled <- err
	}()
	eventually(t, "the reconciliation waits for the save", func() bool { return query(t, url, waiting)[0] == "[2]" })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-saved, <-reconciled); err != nil {
		t.Fatal(err)
	}
	wantStoredDays(t, db, "AAPL", 5, 0)
}

func wantReconciled(t testing.TB, db *postgres.DB, found, lost int) {
	t.Helper()
	f, l, err := db.ReconcileBars(t.Context(), market.Range{})
	if err != nil || f != found || l != lost {
		t.Errorf("found %d and lost %d, %v, want %d and %d", f, l, err, found, lost)
	}
}

func wantStoredDays(t testing.TB, db *postgres.DB, symbol market.Symbol, stored, lost int) {
	t.Helper()
	all, err := db.BarCoverage(t.Context(), 0, symbol)
	if err != nil || all[symbol].Stored.Len() != stored || all[symbol].Lost.Len() != lost {
		t.Errorf("%d days are stored and %d lost, %v, want %d and %d", all[symbol].Stored.Len(), all[symbol].Lost.Len(), err, stored, lost)
	}
}

// waiting counts the sessions of this database that wait for a lock.
const waiting = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`

// TestNoDeadlocks lets two owners correct the rows of the same symbols over and
// over.
func TestNoDeadlocks(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{MaxConns: 16})
	runs := []store.Run{begin(t, db, period), begin(t, db, "2026-03-13")}
	symbols := []market.Symbol{"A", "B", "C"}
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for i := range 15 {
				s := series(symbols[(worker+i)%3], 200)
				for b := range s.Bars {
					s.Bars[b].Open += float64(worker*100 + i)
				}
				if _, err := runs[worker%2].SaveBars(t.Context(), s, day); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = db.Close() // sessions report their counters when they end
	eventually(t, "the sessions end", func() bool {
		return query(t, url, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'worker'`)[0] == "[0]"
	})
	equal(t, "deadlocks", []string{"[0]"}, query(t, url, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`))
}

// claimant finds the session that holds the one claim of this database.
const claimant = `
	SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// TestClaimIsTakenAgain cuts the claim's connection: nobody else has taken the
// period over, so the run takes its lock again and stays the owner.
func TestClaimIsTakenAgain(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	before := query(t, url, claimant)
	query(t, url, `SELECT pg_terminate_backend((`+claimant+`))`)
	eventually(t, "another session holds the claim", func() bool {
		now := query(t, url, claimant)
		return len(now) == 1 && now[0] != before[0]
	})
	_, err := open(t, url, postgres.Options{}).Begin(t.Context(), job, period, "worker-2")
	if held := (*store.HeldError)(nil); !errors.As(err, &held) || held.Owner != "worker-1" {
		t.Errorf("got %v, want held by worker-1", err)
	}
	save(t, run, series("AAPL", 3))
	if err := run.End(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
	equal(t, "claims after the end", 0, len(query(t, url, claimant)))
}

// TestClaimIsLost cuts the claim's connection while another session already
// waits for the lock. From its claim on the first run can write nothing, and it
// does not take the lock away again when that is free.
func TestClaimIsLost(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	thief := connect(t, url)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := thief.Exec(t.Context(), fmt.Sprintf(
			`SELECT pg_advisory_lock(hashtextextended('public' || 'ingest_runs %q %q', 0))`, job, period))
		if err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the thief waits", func() bool { return query(t, url, waiting)[0] == "[1]" })
	query(t, url, `SELECT pg_terminate_backend((`+claimant+`))`)
	wg.Wait()
	query(t, url, `UPDATE ingest_runs SET status = 'interrupted'`)
	if _, err := run.SaveBars(t.Context(), series("AAPL", 3), day); !errors.Is(err, store.ErrFenced) {
		t.Errorf("after the takeover: %v", err)
	}
	_ = thief.Close(t.Context())
	if err := run.Release(); err != nil {
		t.Error(err)
	}
	if err := begin(t, db, period).Release(); err != nil {
		t.Error(err)
	}
}

// TestTakeoverWaitsForACommit begins while the old owner is inside a
// transaction: the takeover waits for it, so nothing is stored behind its back.
func TestTakeoverWaitsForACommit(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	stale := begin(t, db, period)
	blocker := connect(t, url)
	tx, err := blocker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The save waits for this row between its guard and its commit.
	if _, err := tx.Exec(t.Context(), `INSERT INTO ohlcv VALUES ('AAPL', '2026-03-12 00:00:00+00', 1, 2, 0.5, 1, 10, NULL, '')`); err != nil {
		t.Fatal(err)
	}
	var saved, begun error
	var wg sync.WaitGroup
	wg.Go(func() { _, saved = stale.SaveBars(t.Context(), series("AAPL", 5), day) })
	eventually(t, "the save waits", func() bool { return query(t, url, waiting)[0] == "[1]" })
	if err := stale.Release(); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		var run store.Run
		if run, begun = db.Begin(t.Context(), job, period, "worker-2"); begun == nil {
			_, begun = run.SaveBars(t.Context(), series("MSFT", 5), day)
		}
	})
	eventually(t, "the takeover waits too", func() bool { return query(t, url, waiting)[0] == "[2]" })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if saved != nil || begun != nil {
		t.Errorf("save: %v, takeover: %v", saved, begun)
	}
	if _, err := stale.SaveBars(t.Context(), series("AAPL", 6), day); !errors.Is(err, store.ErrFenced) {
		t.Errorf("after the takeover: %v", err)
	}
}

// A statement that fails in the midst of a batch, as one does whose connection is
// cut or whose caller has left, is an error, and no more than that.
func TestAStatementOfABatchFails(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"ingest_coverage", "ohlcv"} {
		url := testenv.Postgres(t)
		db := migrated(t, url, postgres.Options{})
		window := market.Range{From: day - 10, To: day}
		ask := func() error {
			_, err := db.BarCoverage(t.Context(), day)
			_, _, also := db.ReconcileBars(t.Context(), window)
			return errors.Join(err, also)
		}
		if err := ask(); err != nil { // it is prepared from here on
			t.Fatal(err)
		}
		query(t, url, `ALTER TABLE `+table+` RENAME TO renamed`)
		if err := ask(); err == nil {
			t.Errorf("without %s: no error", table)
		}
	}
}

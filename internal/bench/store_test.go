//go:build bench

package bench_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/store/sqlite"
	"github.com/alpha-oracle/worker/internal/testenv"
)

const (
	storeRounds = 5
	storePeriod = "2026-03-12"
	storeDay    = market.Date(739687) // 2026-03-12
)

// history returns the bars that the stores load: prices with two decimals,
// 5,000 bars a symbol.
func history() []market.Series {
	symbols := make([]market.Series, bench.Pick(100, 5))
	for i := range symbols {
		s := market.Series{Symbol: market.Symbol(fmt.Sprintf("SYM%03d", i)), Source: "simulated", Bars: make([]market.Bar, bench.Pick(5000, 100))}
		for n := range s.Bars {
			cents := float64(10000 + (i*7919+n*104729)%5000)
			s.Bars[n] = market.Bar{
				Date: storeDay - market.Date(len(s.Bars)-1-n),
				Open: cents / 100, High: (cents + 113) / 100, Low: (cents - 87) / 100, Close: (cents + 41) / 100,
				AdjClose: (cents + 17) / 100, HasAdjClose: true, Volume: int64(1_000_000 + n*1009),
			}
		}
		symbols[i] = s
	}
	return symbols
}

func rowsOf(symbols []market.Series) float64 {
	rows := 0
	for _, s := range symbols {
		rows += len(s.Bars)
	}
	return float64(rows)
}

// saveAll saves every symbol in a transaction of its own and returns the time.
func saveAll(t *testing.T, db store.DB, symbols []market.Series, want market.Changes) time.Duration {
	t.Helper()
	run, err := db.Begin(t.Context(), "backfill", storePeriod, "bench")
	checkStore(t, err)
	defer func() { checkStore(t, run.End(context.Background(), "ok", nil)) }()
	var total market.Changes
	started := time.Now()
	for _, s := range symbols {
		changes, err := run.SaveBars(t.Context(), s, storeDay)
		checkStore(t, err)
		total.Inserted += changes.Inserted
		total.Updated += changes.Updated
		total.Unchanged += changes.Unchanged
	}
	took := time.Since(started)
	if total != want {
		t.Fatalf("saved %+v, want %+v", total, want)
	}
	return took
}

func checkStore(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func middleOf(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// TestStorePostgres sets the first load and an identical reload beside psql's
// binary copy of the same rows into the same table. The server has the settings
// of a new installation, and no vacuum starts by itself.
func TestFigureStorePostgres(t *testing.T) {
	server := testenv.PostgresServer(t)
	db, err := postgres.Open(t.Context(), server.URL(), postgres.Options{MaxConns: 1})
	checkStore(t, err)
	defer func() { _ = db.Close() }()
	checkStore(t, db.Migrate(t.Context()))
	admin, err := pgx.Connect(t.Context(), server.URL())
	checkStore(t, err)
	defer func() { _ = admin.Close(context.Background()) }()
	execSQL(t, admin, `ALTER SYSTEM SET autovacuum = off`, `SELECT pg_reload_conf()`, `CREATE TABLE copied (LIKE ohlcv INCLUDING ALL)`)

	symbols := history()
	rows := rowsOf(symbols)
	file := filepath.Join(t.TempDir(), "rows")
	saveAll(t, db, symbols, market.Changes{Inserted: int(rows)})
	psql(t, server.URL(), `\copy (SELECT * FROM ohlcv ORDER BY symbol, timestamp) TO '`+file+`' (FORMAT binary)`)

	var first, reload, rate, reloaded, wal []float64
	for range storeRounds {
		execSQL(t, admin, `TRUNCATE copied`, `CHECKPOINT`)
		limit := psql(t, server.URL(), `\copy copied FROM '`+file+`' (FORMAT binary)`)

		execSQL(t, admin, `TRUNCATE ohlcv, ingest_items, ingest_watermarks, ingest_attempts, ingest_coverage`, `CHECKPOINT`)
		took := saveAll(t, db, symbols, market.Changes{Inserted: int(rows)})
		first, rate = append(first, limit.Seconds()/took.Seconds()), append(rate, rows/took.Seconds()/1000)

		execSQL(t, admin, `VACUUM ANALYZE`, `VACUUM`, `CHECKPOINT`)
		before := walPosition(t, admin)
		took = saveAll(t, db, symbols, market.Changes{Unchanged: int(rows)})
		wal = append(wal, (walPosition(t, admin)-before)/1024)
		reload, reloaded = append(reload, limit.Seconds()/took.Seconds()), append(reloaded, rows/took.Seconds()/1000)
	}
	fmt.Printf("postgres: first load %.0fk rows/s, identical reload %.0fk rows/s\n", middleOf(rate), middleOf(reloaded))
	bench.AtLeast(t, "postgres first load / psql binary copy", middleOf(first), 0.70, "x")
	bench.AtLeast(t, "postgres identical reload / psql binary copy", middleOf(reload), 2.0, "x")
	bench.AtMost(t, "postgres identical reload, write-ahead log", middleOf(wal), 64, "KB")
}

func execSQL(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		checkStore(t, err)
	}
}

func walPosition(t *testing.T, conn *pgx.Conn) (bytes float64) {
	t.Helper()
	checkStore(t, conn.QueryRow(t.Context(), `SELECT pg_current_wal_lsn() - '0/0'::pg_lsn`).Scan(&bytes))
	return bytes
}

// psql runs a command and returns the time that psql itself measures, without
// its start.
func psql(t *testing.T, url, meta string) time.Duration {
	t.Helper()
	bin, err := testenv.PostgresBin()
	checkStore(t, err)
	server, err := filepath.EvalSymlinks(filepath.Join(bin, "postgres"))
	checkStore(t, err)
	out, err := runProgram(t, filepath.Join(filepath.Dir(server), "psql"), url, "-X", "-v", "ON_ERROR_STOP=1", "-c", `\timing on`, "-c", meta)
	checkStore(t, err)
	ms := regexp.MustCompile(`Time: ([0-9.]+) ms`).FindSubmatch(out)
	if ms == nil {
		t.Fatalf("psql: no time in %q", out)
	}
	took, err := strconv.ParseFloat(string(ms[1]), 64)
	checkStore(t, err)
	return time.Duration(took * float64(time.Millisecond))
}

func runProgram(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return out, nil
}

// TestStoreSQLite sets the first load beside the .import of the sqlite3 program
// into the same table, in one transaction and with the same pragmas.
func TestFigureStoreSQLite(t *testing.T) {
	symbols := history()
	rows := rowsOf(symbols)
	dir := t.TempDir()
	file := filepath.Join(dir, "rows.csv")
	writeCSV(t, file, symbols)

	var first, rate, reloaded []float64
	for round := range storeRounds {
		imported := filepath.Join(dir, fmt.Sprintf("imported%d.db", round))
		checkStore(t, newSQLite(t, imported).Close())
		started := time.Now()
		_, err := runProgram(t, "sqlite3", imported, "PRAGMA synchronous=NORMAL", ".mode csv", ".import "+file+" ohlcv")
		limit := time.Since(started)
		checkStore(t, err)

		db := newSQLite(t, filepath.Join(dir, fmt.Sprintf("loaded%d.db", round)))
		took := saveAll(t, db, symbols, market.Changes{Inserted: int(rows)})
		first, rate = append(first, limit.Seconds()/took.Seconds()), append(rate, rows/took.Seconds()/1000)
		took = saveAll(t, db, symbols, market.Changes{Unchanged: int(rows)})
		reloaded = append(reloaded, rows/took.Seconds()/1000)
		checkStore(t, db.Close())
	}
	fmt.Printf("sqlite: first load %.0fk rows/s, identical reload %.0fk rows/s\n", middleOf(rate), middleOf(reloaded))
	bench.AtLeast(t, "sqlite first load / sqlite3 .import", middleOf(first), 0.90, "x")
}

func newSQLite(t *testing.T, path string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	checkStore(t, err)
	checkStore(t, db.Migrate(t.Context()))
	return db
}

func writeCSV(t *testing.T, path string, symbols []market.Series) {
	t.Helper()
	file, err := os.Create(path)
	checkStore(t, err)
	w := csv.NewWriter(file)
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, s := range symbols {
		for _, b := range s.Bars {
			checkStore(t, w.Write([]string{
				string(s.Symbol), b.Date.String() + " 00:00:00+00:00", number(b.Open), number(b.High), number(b.Low), number(b.Close),
				strconv.FormatInt(b.Volume, 10), number(b.AdjClose), s.Source,
			}))
		}
	}
	w.Flush()
	checkStore(t, w.Error())
	checkStore(t, file.Close())
}

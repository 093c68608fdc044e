//go:build bench

package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// coverYears is how far back the histories go.
const coverYears = 10

func coverSymbol(n int) market.Symbol { return market.Symbol(fmt.Sprintf("SYM%03d", n)) }

// saveHistories stores ten years of sessions of each symbol, of every third
// without a few days and of every fifth from later on, and returns the number
// of bars.
func saveHistories(t *testing.T, db store.DB, window market.Range) (bars int) {
	t.Helper()
	sessions, err := market.NYSE().Sessions(window.From, window.To)
	checkStore(t, err)
	run, err := db.Begin(t.Context(), store.BackfillJob, window.String(), "bench")
	checkStore(t, err)
	defer func() { checkStore(t, run.End(context.Background(), "ok", nil)) }()
	for i := range bench.Pick(500, 5) {
		s := market.Series{Symbol: coverSymbol(i), Source: "simulated"}
		for n, session := range sessions {
			if i%3 == 0 && n%500 == i%500 || i%5 == 0 && n < i {
				continue
			}
			s.Bars = append(s.Bars, market.Bar{Date: session, Open: 10, High: 11, Low: 9, Close: 10.5, Volume: int64(n)})
		}
		_, err := run.SaveHistory(t.Context(), s, window, true)
		checkStore(t, err)
		bars += len(s.Bars)
	}
	return bars
}

// figureCoverage measures what is read on every start and for every status
// line. multiply gives many more symbols two years of the coverage of another.
func figureCoverage(t *testing.T, name string, db store.DB, multiply func(symbols int, fromYear int)) {
	window := market.Range{From: storeDay - 365*coverYears - 2, To: storeDay}
	bars := saveHistories(t, db, window)
	read := func(what string, from market.Date, symbols int, limit float64) {
		sessions, err := market.NYSE().SessionDays(market.Range{From: max(from, window.From), To: window.To})
		checkStore(t, err)
		gaps := 0
		var reading time.Duration
		took := bench.Median(9, func() time.Duration {
			gaps = 0
			started := time.Now()
			all, err := db.BarCoverage(t.Context(), from)
			checkStore(t, err)
			reading = time.Since(started)
			for _, c := range all {
				gaps += len(c.Gaps(sessions))
			}
			took := time.Since(started)
			if len(all) != symbols {
				t.Fatalf("coverage of %d symbols, want %d", len(all), symbols)
			}
			return took
		})
		bench.Note(t, fmt.Sprintf("%s coverage: %s, read alone", name, what), millis(reading), "ms")
		bench.AtMost(t, fmt.Sprintf("%s coverage: %s, %d gaps", name, what, gaps), millis(took), limit, "ms")
	}
	symbols := bench.Pick(500, 5)
	read("500 symbols x 10 years", 0, symbols, 100)
	took := bench.Median(5, func() time.Duration { return reconcile(t, db, 0, 0) })
	bench.AtMost(t, fmt.Sprintf("%s reconcile %d rows: nothing differs", name, bars), millis(took), 600, "ms")

	more := bench.Pick(10_000, 50) - symbols
	multiply(more, (storeDay - 365).Year())
	read("10,000 symbols x 2 years", storeDay-365, symbols+more, 300)
	multiply(more, 0)
	read("2 of 10 years of 10,000 symbols", storeDay-365, symbols+more, 300)
}

func reconcile(t *testing.T, db store.DB, found, lost int) time.Duration {
	t.Helper()
	started := time.Now()
	f, l, err := db.ReconcileBars(t.Context(), market.Range{})
	checkStore(t, err)
	if f != found || l != lost {
		t.Fatalf("found %d and lost %d, want %d and %d", f, l, found, lost)
	}
	return time.Since(started)
}

// adopt measures the first look at the bars of another program.
func adopt(t *testing.T, name string, db store.DB, forget func()) {
	t.Helper()
	s, err := db.Summary(t.Context())
	checkStore(t, err)
	forget()
	bench.Note(t, fmt.Sprintf("%s reconcile %d rows: none is known", name, s.Bars), millis(reconcile(t, db, int(s.Bars), 0)), "ms")
	bench.Note(t, fmt.Sprintf("%s reconcile %d rows: after that", name, s.Bars), millis(reconcile(t, db, 0, 0)), "ms")
}

func TestFigureCoveragePostgres(t *testing.T) {
	server := testenv.PostgresServer(t)
	db, err := postgres.Open(t.Context(), server.URL(), postgres.Options{})
	checkStore(t, err)
	defer func() { _ = db.Close() }()
	checkStore(t, db.Migrate(t.Context()))
	conn, err := pgx.Connect(t.Context(), server.URL())
	checkStore(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	figureCoverage(t, "postgres", db, func(symbols, fromYear int) {
		_, err := conn.Exec(t.Context(), `
			INSERT INTO ingest_coverage
			SELECT 'X' || n, kind, source, year, w0, w1, w2, w3, w4, w5
			FROM generate_series(1, $1::int) AS n, ingest_coverage WHERE symbol = $2 AND year >= $3
			ON CONFLICT DO NOTHING`,
			symbols, string(coverSymbol(3)), fromYear)
		checkStore(t, err)
	})
	adopt(t, "postgres", db, func() { execSQL(t, conn, `TRUNCATE ingest_coverage`) })
}

func TestFigureCoverageSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.db")
	db := newSQLite(t, path)
	defer func() { checkStore(t, db.Close()) }()
	other, err := sql.Open("sqlite", path+"?_busy_timeout=30000")
	checkStore(t, err)
	defer func() { _ = other.Close() }()
	figureCoverage(t, "sqlite", db, func(symbols, fromYear int) {
		_, err := other.ExecContext(t.Context(), `
			WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
			INSERT INTO ingest_coverage
			SELECT 'X' || n, kind, source, year, w0, w1, w2, w3, w4, w5
			FROM n, ingest_coverage WHERE symbol = ? AND year >= ?
			ON CONFLICT DO NOTHING`,
			symbols, string(coverSymbol(3)), fromYear)
		checkStore(t, err)
	})
	adopt(t, "sqlite", db, func() {
		_, err := other.ExecContext(t.Context(), `DELETE FROM ingest_coverage`)
		checkStore(t, err)
	})
}

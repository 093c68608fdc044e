//go:build bench

package bench_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

const (
	factsFirstYear = 2015
	factsYears     = 10
	factsConcepts  = 20
	// factsFlows is the number of concepts that speak of a span of time; the
	// others are items of a balance sheet.
	factsFlows = 12
)

func factsSymbol(n int) market.Symbol { return market.Symbol(fmt.Sprintf("SYM%03d", n)) }

func factsConcept(n int) string { return fmt.Sprintf("ConceptOfOrdinaryLength%02d", n) }

// reported returns all that an issuer filed: each report shows its quarter, the
// year to date and both of the year before, a yearly one three years. About
// every thirtieth figure that is shown again is restated.
func reported(issuer int) []market.Fact {
	var facts []market.Fact
	for filing := range 4 * factsYears {
		year, quarter := factsFirstYear+filing/4, filing%4+1
		end := quarterEnd(year, quarter)
		f := market.Fact{
			CIK: 320000 + issuer, Taxonomy: "us-gaap", Form: "10-Q", Filed: end + 30 + market.Date(issuer%15),
			Accession: fmt.Sprintf("%010d-%02d-%06d", 320000+issuer, year%100, quarter),
		}
		if quarter == 4 {
			f.Form = "10-K"
		}
		for concept := range factsConcepts {
			f.Concept, f.Unit = factsConcept(concept), "USD"
			if concept%7 == 6 {
				f.Unit = "USD/shares"
			}
			facts = append(facts, shown(f, concept < factsFlows, year, quarter)...)
		}
	}
	return facts
}

func quarterEnd(year, quarter int) market.Date {
	return market.NewDate(year, time.Month(3*quarter+1), 1) - 1
}

// shown returns what the report of a quarter shows of one concept.
func shown(f market.Fact, flow bool, year, quarter int) (facts []market.Fact) {
	show := func(start, end market.Date, ago int) {
		f.Start, f.End = start, end
		f.Value = float64(end)*1000 + float64(f.CIK)
		if (int(end)+f.CIK)%30 == 0 {
			f.Value += float64(ago)
		}
		facts = append(facts, f)
	}
	if !flow {
		show(0, quarterEnd(year, quarter), 0)
		show(0, quarterEnd(year-1, 4), 1)
		return facts
	}
	for ago := range 3 {
		end := quarterEnd(year-ago, quarter)
		if ago < 2 && quarter < 4 {
			show(quarterEnd(year-ago, quarter-1)+1, end, ago)
		}
		if quarter == 4 || quarter > 1 && ago < 2 {
			show(quarterEnd(year-ago-1, 4)+1, end, ago)
		}
	}
	return facts
}

// saveReported saves what the issuers filed, each in a transaction of its own,
// and returns the facts of a second.
func saveReported(t *testing.T, db store.DB, issuers [][]market.Fact) float64 {
	t.Helper()
	run, err := db.Begin(t.Context(), "edgar_facts", "2026-W11", "bench")
	checkStore(t, err)
	defer func() { checkStore(t, run.End(context.Background(), "ok", nil)) }()
	n, started := 0, time.Now()
	for i, facts := range issuers {
		changes, err := run.SaveFacts(t.Context(), factsSymbol(i), facts, storeDay)
		checkStore(t, err)
		n += changes.Inserted + changes.Unchanged
	}
	return float64(n) / time.Since(started).Seconds()
}

// large returns as many facts as the largest issuers have, in one save.
func large(n int) []market.Fact {
	var facts []market.Fact
	for set := 0; len(facts) < n; set++ {
		for _, f := range reported(999) {
			f.Concept += fmt.Sprintf("Of%02d", set)
			facts = append(facts, f)
		}
	}
	return facts[:n]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// figureFacts measures what both stores do: loads, reloads and what was known
// on a day.
func figureFacts(t *testing.T, name string, db store.DB) {
	issuers := make([][]market.Fact, bench.Pick(500, 5))
	for i := range issuers {
		issuers[i] = reported(i)
	}
	bench.Note(t, name+" facts: first load", saveReported(t, db, issuers)/1000, "k facts/s")
	bench.Note(t, name+" facts: identical reload", saveReported(t, db, issuers)/1000, "k facts/s")

	run, err := db.Begin(t.Context(), "edgar_facts", "2026-W12", "bench")
	checkStore(t, err)
	defer func() { checkStore(t, run.End(context.Background(), "ok", nil)) }()
	all := large(bench.Pick(30_000, 1000))
	for _, what := range []string{"first load", "identical reload"} {
		started := time.Now()
		_, err := run.SaveFacts(t.Context(), "LARGE", all, storeDay)
		checkStore(t, err)
		bench.Note(t, fmt.Sprintf("%s facts: %s of %d at once", name, what, len(all)), millis(time.Since(started)), "ms")
	}
	known := 0
	took := bench.Median(3, func() time.Duration {
		known = 0
		started := time.Now()
		checkStore(t, db.FactsAsOf(t.Context(), market.NewDate(2024, 6, 30), symbolsOf(len(issuers)), conceptsOf(), func(market.Symbol, market.Fact) error {
			known++
			return nil
		}))
		return time.Since(started)
	})
	bench.Note(t, fmt.Sprintf("%s facts: FactsAsOf, %d facts", name, known), millis(took), "ms")
}

func symbolsOf(n int) (symbols []market.Symbol) {
	for i := range n {
		symbols = append(symbols, factsSymbol(i))
	}
	return symbols
}

func conceptsOf() (concepts []string) {
	for i := range factsConcepts {
		concepts = append(concepts, factsConcept(i))
	}
	return concepts
}

const (
	// crossSection is what a backtest asks for on each of its days: the
	// newest known figure of every symbol and concept. No company is later
	// than 190 days with a quarter.
	crossSection = `
		SELECT DISTINCT ON (symbol, concept, unit) * FROM fundamental_facts_as_of($1)
		WHERE symbol = ANY ($2) AND concept = ANY ($3) AND "end" BETWEEN $1::date - 190 AND $1
		ORDER BY symbol, concept, unit, "end" DESC, start DESC`
	snapshot = `
		SELECT * FROM fundamental_facts_as_of($1) WHERE symbol = ANY ($2) AND concept = ANY ($3)`
)

// TestFigureFactsPostgres measures the function that other programs ask, after
// a vacuum, as the server does by itself.
func TestFigureFactsPostgres(t *testing.T) {
	server := testenv.PostgresServer(t)
	db, err := postgres.Open(t.Context(), server.URL(), postgres.Options{})
	checkStore(t, err)
	defer func() { _ = db.Close() }()
	checkStore(t, db.Migrate(t.Context()))
	figureFacts(t, "postgres", db)

	conn, err := pgx.Connect(t.Context(), server.URL())
	checkStore(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	execSQL(t, conn, `VACUUM ANALYZE fundamental_facts`)
	symbols, concepts := symbolsOf(bench.Pick(500, 5)), conceptsOf()
	measure := func(sql string, mode pgx.QueryExecMode) (rows int, took time.Duration) {
		round := 0
		took = bench.Median(15, func() time.Duration {
			round++
			started := time.Now()
			rows = countRows(t, conn, sql, mode, market.NewDate(2024, 6, 30-round).Time(), symbols, concepts)
			return time.Since(started)
		})
		return rows, took
	}
	rows, took := measure(crossSection, pgx.QueryExecModeDescribeExec)
	bench.AtMost(t, fmt.Sprintf("postgres facts: newest of each as of a day, %d rows", rows), millis(took), 50, "ms")
	// A prepared statement soon gets a plan for any parameters, which looks
	// through the arrays one by one; plan_cache_mode = force_custom_plan
	// avoids it.
	_, took = measure(crossSection, pgx.QueryExecModeCacheStatement)
	bench.Note(t, "postgres facts: the same as a prepared statement", millis(took), "ms")
	rows, took = measure(snapshot, pgx.QueryExecModeDescribeExec)
	bench.Note(t, fmt.Sprintf("postgres facts: all as of a day, %d rows", rows), millis(took), "ms")
	for _, sql := range []string{crossSection, snapshot} {
		printPlan(t, conn, sql, market.NewDate(2024, 6, 30).Time(), symbols, concepts)
	}
}

// countRows reads all rows without making anything of them.
func countRows(t *testing.T, conn *pgx.Conn, sql string, args ...any) (n int) {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	checkStore(t, err)
	for rows.Next() {
		n++
	}
	checkStore(t, rows.Err())
	return n
}

func printPlan(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	rows, err := conn.Query(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) `+sql, args...)
	checkStore(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	checkStore(t, err)
	for _, line := range lines {
		if i := strings.Index(line, "ANY ('{"); i >= 0 {
			line = line[:i] + "ANY (...)" // hundreds of names
		}
		fmt.Println("   ", line)
	}
}

// TestFigureFactsSQLite measures the same on SQLite, where FactsAsOf takes the
// place of the function.
func TestFigureFactsSQLite(t *testing.T) {
	db := newSQLite(t, filepath.Join(t.TempDir(), "worker.db"))
	defer func() { checkStore(t, db.Close()) }()
	figureFacts(t, "sqlite", db)
}

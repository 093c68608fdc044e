// Package storetest holds a store to the promises of package store. Each store
// runs the same suite in its own tests.
package storetest

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// Database is an empty database that belongs to one test.
type Database struct {
	// Open opens one more handle on the database; the test closes it.
	Open func(t testing.TB) store.DB
	// Lease is Open with a lease of its own.
	Lease func(t testing.TB, lease store.Lease) store.DB
	// Break makes the database refuse every row of ingest_attempts, which
	// is the last that a save writes.
	Break func(t testing.TB)
	// Other runs a statement as another program would, and returns the
	// first value of its first row as text.
	Other func(t testing.TB, sql string) string
}

// Run holds the store to every promise of package store. fresh makes an empty
// database for a test.
func Run(t *testing.T, fresh func(t testing.TB) Database) {
	t.Helper()
	tests := dayTests()
	maps.Copy(tests, periodTests())
	maps.Copy(tests, auditTests())
	maps.Copy(tests, map[string]func(*testing.T, Database){
		"schema version":            schemaVersion,
		"migrate concurrently":      migrateConcurrently,
		"where":                     where,
		"life of a run":             lifeOfARun,
		"end refuses a bad report":  badReport,
		"held":                      held,
		"one of many begins":        oneOfMany,
		"takeover after release":    takeover,
		"close gives claims free":   closeReleases,
		"first load and reload":     firstLoad,
		"bars without a session":    withoutSession,
		"corrections":               corrections,
		"poorer answers":            poorerAnswers,
		"bars":                      bars,
		"bad input stores nothing":  badInput,
		"failure stores nothing":    failure,
		"cancelled stores nothing":  cancelled,
		"closed stores nothing":     closed,
		"save again after forget":   forget,
		"coverage":                  coverage,
		"attempts":                  attempts,
		"pages of runs":             pagesOfRuns,
		"calls":                     calls,
		"calls of many callers":     callsOfMany,
		"a day that is spent":       spentDay,
		"saves of many workers":     savesOfMany,
		"two handles, one symbol":   twoHandles,
		"summary":                   summary,
		"random saves like a model": model,

		"facts":                       facts,
		"facts restated":              factsRestated,
		"facts corrected":             factsCorrected,
		"facts chosen":                factsChosen,
		"bad facts store nothing":     factsBadInput,
		"facts of many workers":       factsOfMany,
		"random facts like AsOf":      factsModel,
		"fundamentals":                fundamentals,
		"rows that make nothing done": rowsThatMakeNothingDone,
		"foreign fundamentals":        foreignFundamentals,
		"bad fundamentals":            fundamentalsBadInput,

		"units of a kind":                  units,
		"index days":                       indexDays,
		"bad index stores nothing":         indexBadInput,
		"pending filings and failures":     pendingFailures,
		"last run":                         lastRun,
		"filings":                          filings,
		"rows of filings":                  filingRows,
		"filing changed":                   filingChanged,
		"filings amended":                  filingsAmended,
		"bad filing stores nothing":        filingBadInput,
		"filings of many workers":          filingsOfMany,
		"random filings like Supersede":    filingsModel,
		"short interest":                   shortInterest,
		"short interest revised":           shortInterestRevised,
		"poorer short interest":            shortInterestPoorer,
		"bad short interest":               shortInterestBadInput,
		"short interest of many workers":   shortInterestOfMany,
		"random short interest, any order": shortInterestModel,
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

// periodTests are about who may run a period, and what has become of it.
func periodTests() map[string]func(*testing.T, Database) {
	return map[string]func(*testing.T, Database){
		"begin after a run":            beginAfter,
		"lease of a live owner":        leaseRenewed,
		"lease of a hung owner":        leaseOver,
		"lease of a hung owner, many":  leaseOverOfMany,
		"lease that cannot be renewed": leaseUnrenewed,
		"run ended by another hand":    endedByAnother,
		"nothing is lost by an end":    endLosesNothing,
		"journal":                      journal,
		"journal, state by state":      journalStates,
		"journal of an owner":          journalOfAnOwner,
		"journal of many":              journalOfMany,
		"bad notes":                    journalBadInput,
		"random notes like a model":    journalModel,
	}
}

// dayTests are about what is known of the days of bars, and of lists of symbols.
func dayTests() map[string]func(*testing.T, Database) {
	return map[string]func(*testing.T, Database){
		"days of saves":                days,
		"bars without a session, days": daysWithoutSession,
		"a history":                    history,
		"bad history stores nothing":   historyBadInput,
		"a range of years":             yearsOfCoverage,
		"days lost and found":          lostAndFound,
		"days of all sorts":            daysOfAllSorts,
		"reconcile beside saves":       reconcileBesideSaves,
		"forget history":               forgetHistory,
		"random days like a model":     daysModel,
		"another base":                 rebased,
		"another base, bar by bar":     rebasedCases,
		"sources, rule by rule":        sourceRules,
		"sources of two bases":         twoBases,
		"sources that differ":          twoVendors,
		"sources of two bases, all":    twoBasesWhole,
		"sources of two bases, none":   twoBasesRefused,
		"history of two bases":         twoBasesHistory,
		"random sources like a model":  sourcesModel,
		"universe":                     universe,
		"universe of many":             universeOfMany,
	}
}

const (
	job    = "daily_bars"
	period = "2026-03-12"
	source = "simulated"
	aapl   = market.Symbol("AAPL")
	day    = market.Date(739687) // 2026-03-12
)

// open opens a handle and migrates.
func open(t testing.TB, d Database) store.DB {
	t.Helper()
	db := d.Open(t)
	check(t, db.Migrate(t.Context()))
	return db
}

func begin(t testing.TB, db store.DB, job, period string) store.Run {
	t.Helper()
	run, err := db.Begin(t.Context(), job, period, "worker-1")
	check(t, err)
	t.Cleanup(func() { _ = run.Release() })
	return run
}

func save(t testing.TB, run store.Run, series market.Series, session market.Date) market.Changes {
	t.Helper()
	changes, err := run.SaveBars(t.Context(), series, session)
	check(t, err)
	return changes
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func fenced(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("%s: got %v, want ErrFenced", what, err)
	}
}

// seriesOf returns n bars that end on day.
func seriesOf(symbol market.Symbol, n int) market.Series {
	s := market.Series{Symbol: symbol, Source: source}
	for i := range n {
		s.Bars = append(s.Bars, barOf(day-market.Date(n-1-i)))
	}
	return s
}

// barOf returns a bar whose values no binary fraction meets exactly.
func barOf(date market.Date) market.Bar {
	price := 100 + float64(date%100)/10
	return market.Bar{
		Date: date, Open: price, High: price + 1.1, Low: price - 1.3, Close: price + 0.7,
		AdjClose: price + 0.3, HasAdjClose: true, Volume: 3_000_000_000 + int64(date),
	}
}

// ledger is all that is stored beside the runs; a save changes all of it or
// nothing.
type ledger struct {
	Bars        []market.Bar
	Days        knownDays
	Done        []market.Symbol
	Coverage    map[market.Symbol]market.Coverage
	Attempts    int
	Corrections int
}

func ledgerOf(t testing.TB, db store.DB, symbol market.Symbol) ledger {
	t.Helper()
	ctx := context.Background()
	series, err := db.Bars(ctx, symbol, market.Range{From: 1, To: day + 1000})
	check(t, err)
	done, err := db.DoneUnits(ctx, job, period)
	check(t, err)
	covered, err := db.Coverage(ctx, job)
	check(t, err)
	tries, err := db.Attempts(ctx, symbol, 1000)
	check(t, err)
	changed, err := db.Corrections(ctx, symbol, 1000)
	check(t, err)
	return ledger{series.Bars, daysOf(t, db, symbol), done, covered, len(tries), len(changed)}
}

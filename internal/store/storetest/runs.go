package storetest

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func schemaVersion(t *testing.T, d Database) {
	db := d.Open(t)
	have, want, err := db.SchemaVersion(t.Context())
	check(t, err)
	if have != 0 || want == 0 {
		t.Errorf("an empty database has version %d of %d", have, want)
	}
	for range 2 {
		check(t, db.Migrate(t.Context()))
		have, again, err := db.SchemaVersion(t.Context())
		check(t, err)
		if have != want || again != want {
			t.Errorf("a migrated database has version %d of %d, want %d", have, again, want)
		}
	}
}

func migrateConcurrently(t *testing.T, d Database) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 4 {
		db := d.Open(t)
		wg.Go(func() {
			<-start
			if err := db.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	save(t, begin(t, d.Open(t), job, period), seriesOf(aapl, 3), day)
}

func where(t *testing.T, d Database) {
	db := d.Open(t)
	check(t, db.Ping(t.Context()))
	if db.Where() == "" {
		t.Error("a database without a name")
	}
}

func lifeOfARun(t *testing.T, d Database) {
	db := open(t, d)
	before := time.Now().Add(-time.Minute)
	run := begin(t, db, job, period)
	runs, err := db.Runs(t.Context(), job, 10)
	check(t, err)
	if len(runs) != 1 || !runs[0].Started.After(before) || runs[0].Started.Location() != time.UTC {
		t.Fatalf("after Begin: %+v", runs)
	}
	started := runs[0].Started
	equal(t, "running", store.RunInfo{ID: run.ID(), Job: job, Period: period, Owner: "worker-1", Status: store.Running, Started: started, Live: true}, runs[0])

	check(t, run.End(t.Context(), "ok", []byte(`{"rows": 12}`)))
	check(t, run.Release())
	runs, err = db.Runs(t.Context(), "", 10)
	check(t, err)
	if len(runs) != 1 || runs[0].Status != "ok" || runs[0].Finished.Before(started) {
		t.Fatalf("after End: %+v", runs)
	}
	var report struct{ Rows int }
	check(t, json.Unmarshal(runs[0].Report, &report))
	equal(t, "report", 12, report.Rows)
	fenced(t, "save after End", saveError(t, run))

	second := begin(t, db, job, period)
	if second.ID() <= run.ID() {
		t.Errorf("run %d after run %d", second.ID(), run.ID())
	}
	other := begin(t, db, "backfill", period)
	runs, err = db.Runs(t.Context(), "", 2)
	check(t, err)
	if len(runs) != 2 || runs[0].ID != other.ID() || runs[1].ID != second.ID() {
		t.Errorf("the newest two runs: %+v", runs)
	}
	runs, err = db.Runs(t.Context(), "backfill", 10)
	check(t, err)
	if len(runs) != 1 || runs[0].ID != other.ID() {
		t.Errorf("the runs of backfill: %+v", runs)
	}
}

func saveError(t testing.TB, run store.Run) error {
	t.Helper()
	_, err := run.SaveBars(t.Context(), seriesOf(aapl, 2), day)
	return err
}

func badReport(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	if err := run.End(t.Context(), "ok", []byte(`{"rows": `)); err == nil {
		t.Error("a report that is no JSON was stored")
	}
	begin(t, db, job, period) // the period is free all the same
}

func held(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	run := begin(t, db, job, period)
	runs, err := db.Runs(t.Context(), job, 1)
	check(t, err)
	for name, db := range map[string]store.DB{"same handle": db, "other handle": other} {
		run, err := db.Begin(t.Context(), job, period, "worker-2")
		var h *store.HeldError
		if !errors.As(err, &h) || run != nil {
			t.Fatalf("%s: got %v, %v, want a HeldError", name, run, err)
		}
		equal(t, name, store.HeldError{Job: job, Period: period, Owner: "worker-1", Since: runs[0].Started}, store.HeldError{
			Job: h.Job, Period: h.Period, Owner: h.Owner, Since: h.Since.UTC(),
		})
		if h.Retry <= 10*time.Second || h.Retry > 15*time.Second {
			t.Errorf("%s: try again after %s", name, h.Retry)
		}
		if !strings.Contains(err.Error(), "worker-1") {
			t.Errorf("%s: %q does not name the owner", name, err)
		}
	}
	begin(t, other, job, "2026-03-13")
	begin(t, other, "weekly_fundamentals", period)
	save(t, run, seriesOf(aapl, 2), day)
	check(t, run.End(t.Context(), "ok", nil))
	begin(t, other, job, period)
}

func oneOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := handles[i%2].Begin(t.Context(), job, period, "worker")
			var h *store.HeldError
			switch {
			case err == nil:
				won.Add(1)
			case errors.As(err, &h):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 7 {
		t.Errorf("%d own the period, %d were told so", won.Load(), lost.Load())
	}
	runs, err := handles[0].Runs(t.Context(), job, 10)
	check(t, err)
	equal(t, "rows of runs", 1, len(runs))
}

// takeover lets a run lose its claim as a killed process does, and go on
// writing as a paused one would.
func takeover(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	stale := begin(t, db, job, period)
	save(t, stale, seriesOf(aapl, 2), day)
	check(t, stale.Release())
	check(t, stale.Release())

	owner := begin(t, other, job, period)
	runs, err := db.Runs(t.Context(), job, 10)
	check(t, err)
	if len(runs) != 2 || runs[1].ID != stale.ID() || runs[1].Status != store.Interrupted || runs[1].Finished.IsZero() {
		t.Errorf("after the takeover: %+v", runs)
	}

	before, alternative := ledgerOf(t, db, "MSFT"), d.Other(t, altRows)
	_, err = stale.SaveBars(t.Context(), seriesOf("MSFT", 3), day+1)
	fenced(t, "SaveBars", err)
	_, err = stale.SaveBars(t.Context(), seriesOf(aapl, 2), day)
	fenced(t, "SaveBars without a change", err)
	_, err = stale.SaveHistory(t.Context(), seriesOf("MSFT", 3), market.Range{From: day - 9, To: day}, true)
	fenced(t, "SaveHistory", err)
	_, err = stale.SaveFacts(t.Context(), "MSFT", factsOf(2), day+1)
	fenced(t, "SaveFacts", err)
	_, err = stale.SaveFundamentals(t.Context(), overview(day), true)
	fenced(t, "SaveFundamentals", err)
	equal(t, "facts of the stale run", known{}, factsAsOf(t, db, day, nil, nil))
	wantFundamentals(t, "fundamentals of the stale run", db, day, nil)
	_, err = stale.SaveIndexDay(t.Context(), dayKind, day, []market.ListedFiling{listed(1, day)})
	fenced(t, "SaveIndexDay", err)
	_, err = stale.SaveFiling(t.Context(), goog, sold(1, day, 1))
	fenced(t, "SaveFiling", err)
	_, err = stale.SaveShortInterest(t.Context(), shortKind, midMonth, []market.ShortInterest{short(goog, midMonth, 1, 1)})
	fenced(t, "SaveShortInterest", err)
	fenced(t, "SaveItem", stale.SaveItem(t.Context(), dayKind, "2026-03-12", "no_session", ""))
	fenced(t, "SaveUnitAttempt", stale.SaveUnitAttempt(t.Context(), dayKind, "2026-03-12", "no_data", ""))
	fenced(t, "SaveLastRun", stale.SaveLastRun(t.Context(), time.Now(), nil))
	fenced(t, "SaveCovered", stale.SaveCovered(t.Context(), time.Now(), []market.Symbol{aapl}))
	equal(t, "alternative data of the stale run", alternative, d.Other(t, altRows))
	fenced(t, "SaveAttempt", stale.SaveAttempt(t.Context(), "MSFT", "no_data", ""))
	_, err = stale.NotePeriod(t.Context(), store.PeriodInfo{State: store.Complete})
	fenced(t, "NotePeriod", err)
	fenced(t, "End", stale.End(t.Context(), "ok", nil))
	equal(t, "stored by the stale run", before, ledgerOf(t, db, "MSFT"))

	equal(t, "the new owner's save", market.Changes{Unchanged: 2}, save(t, owner, seriesOf(aapl, 2), day))
	check(t, owner.End(t.Context(), "ok", nil))
}

func closeReleases(t *testing.T, d Database) {
	db, other := open(t, d), d.Open(t)
	begin(t, db, job, period)
	check(t, db.Close())
	begin(t, other, job, period)
}

// Who did not know of a period's newest run does not run it again, whether that
// has ended or was left by a process that is gone; nothing is changed then.
func beginAfter(t *testing.T, d Database) {
	db := open(t, d)
	first, err := db.BeginAfter(t.Context(), job, period, "worker-1", store.Seen{})
	check(t, err)
	check(t, first.End(t.Context(), "partial", []byte(`{}`)))
	before, err := db.Runs(t.Context(), "", 10)
	check(t, err)
	if _, err := db.BeginAfter(t.Context(), job, period, "worker-2", store.Seen{Run: first.ID() - 1, Ended: true}); !errors.Is(err, store.ErrPassed) {
		t.Errorf("after a run that was not known: %v", err)
	}
	if _, err := db.BeginAfter(t.Context(), job, period, "worker-2", store.Seen{Run: first.ID()}); !errors.Is(err, store.ErrPassed) {
		t.Errorf("after a run whose end was not known: %v", err)
	}
	after, err := db.Runs(t.Context(), "", 10)
	check(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	other, err := db.BeginAfter(t.Context(), job, period+" B", "worker-2", store.Seen{})
	check(t, err)
	check(t, other.End(t.Context(), "ok", []byte(`{}`)))
	second, err := db.BeginAfter(t.Context(), job, period, "worker-2", store.Seen{Run: first.ID(), Ended: true})
	check(t, err)
	check(t, second.Release())
	third, err := db.BeginAfter(t.Context(), job, period, "worker-3", store.Seen{Run: second.ID()})
	check(t, err)
	check(t, third.End(t.Context(), "ok", []byte(`{}`)))
}

func pagesOfRuns(t *testing.T, d Database) {
	db := open(t, d)
	var ids []int64
	for _, name := range []string{"2026-03-10", "2026-03-11", "2026-03-12"} {
		run := begin(t, db, job, name)
		ids = append(ids, run.ID())
		for _, symbol := range []market.Symbol{"A", "B", "C"} {
			check(t, run.SaveAttempt(t.Context(), symbol, "not_ready", "of "+name))
		}
		check(t, run.End(t.Context(), "partial", []byte(`{}`)))
	}
	begin(t, db, "another_job", period)

	page, err := db.RunsBefore(t.Context(), job, 0, 2)
	check(t, err)
	equal(t, "the first page", []int64{ids[2], ids[1]}, []int64{page[0].ID, page[1].ID})
	page, err = db.RunsBefore(t.Context(), job, ids[1], 2)
	check(t, err)
	equal(t, "the length of the second", 1, len(page))
	equal(t, "the second", ids[0], page[0].ID)

	var units []market.Symbol
	var before int64
	for {
		attempts, err := db.RunAttempts(t.Context(), ids[1], before, 2)
		check(t, err)
		if len(attempts) == 0 {
			break
		}
		for _, a := range attempts {
			equal(t, "message", "of 2026-03-11", a.Message)
			equal(t, "run", ids[1], a.RunID)
			units, before = append(units, a.Symbol), a.ID
		}
	}
	equal(t, "units", []market.Symbol{"C", "B", "A"}, units)
	none, err := db.RunAttempts(t.Context(), 1<<40, 0, 2)
	check(t, err)
	equal(t, "of no run", 0, len(none))
}

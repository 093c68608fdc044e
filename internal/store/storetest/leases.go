package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
)

// longAgo is a stamp that both stores read.
const longAgo = `'2020-01-01 00:00:00.000000+00:00'`

// heldBy tries to begin the run and returns the error that names its owner.
func heldBy(t testing.TB, db store.DB) *store.HeldError {
	t.Helper()
	_, err := db.Begin(t.Context(), job, period, "worker-2")
	var h *store.HeldError
	if !errors.As(err, &h) {
		t.Fatalf("got %v, want a HeldError", err)
	}
	return h
}

func lost(run store.Run) bool {
	select {
	case <-run.Lost():
		return true
	default:
		return false
	}
}

// isLost fails the test if the run does not learn that it has lost its claim in a
// time that no machine needs.
func isLost(t testing.TB, run store.Run) {
	t.Helper()
	select {
	case <-run.Lost():
	case <-time.After(30 * time.Second):
		t.Error("the run does not know that its claim is lost")
	}
}

// leaseRenewed asks for longer than a lease lasts.
func leaseRenewed(t *testing.T, d Database) {
	lease := store.Lease{Length: 3 * time.Second, Renew: 500 * time.Millisecond}
	open(t, d)
	run := begin(t, d.Lease(t, lease), job, period)
	other := d.Lease(t, lease)
	for range 4 { // with a second of patience each
		if h := heldBy(t, other); h.Owner != "worker-1" || h.Retry <= 0 || h.Retry > lease.Length {
			t.Errorf("held by %s, try again after %s", h.Owner, h.Retry)
		}
	}
	if lost(run) {
		t.Error("a claim that is renewed is lost")
	}
	save(t, run, seriesOf(aapl, 2), day)
	check(t, run.End(t.Context(), "ok", nil))
}

// hang begins a run whose owner does not renew its lease, which is over.
func hang(t testing.TB, d Database) store.Run {
	t.Helper()
	open(t, d)
	run := begin(t, d.Lease(t, store.Lease{Length: 10 * time.Hour, Renew: 5 * time.Hour}), job, period)
	save(t, run, seriesOf(aapl, 2), day)
	if h := heldBy(t, d.Open(t)); h.Retry < 9*time.Hour || h.Retry > 10*time.Hour {
		t.Errorf("the lease lasts for %s", h.Retry)
	}
	d.Other(t, `UPDATE ingest_runs SET leased_until = `+longAgo)
	return run
}

// leaseOver takes a period over from an owner that holds its lock and does not
// renew its lease.
func leaseOver(t *testing.T, d Database) {
	stale := hang(t, d)
	db := d.Lease(t, store.Lease{Length: time.Minute})
	owner := takeOver(t, d, db)
	runs, err := db.Runs(t.Context(), job, 10)
	check(t, err)
	if len(runs) != 3 || runs[2].ID != stale.ID() || runs[2].Status != store.Interrupted || runs[0].ID != owner.ID() {
		t.Errorf("after the takeover: %+v", runs)
	}
	before := ledgerOf(t, db, "MSFT")
	_, err = stale.SaveBars(t.Context(), seriesOf("MSFT", 3), day+1)
	fenced(t, "SaveBars", err)
	isLost(t, stale)
	fenced(t, "End", stale.End(t.Context(), "ok", nil))
	check(t, stale.Release())
	equal(t, "stored by the stale run", before, ledgerOf(t, db, "MSFT"))

	if h := heldBy(t, d.Open(t)); h.Owner != "worker-3" {
		t.Errorf("held by %s after the stale owner has gone", h.Owner)
	}
	if lost(owner) {
		t.Error("the new owner has lost its claim")
	}
	save(t, owner, seriesOf(aapl, 2), day)
	check(t, owner.End(t.Context(), "ok", nil))
}

// takeOver begins the run with db, whose own lease is long. On a server the
// session of the one before must have been quiet for the length of a lease.
func takeOver(t testing.TB, d Database, db store.DB) store.Run {
	t.Helper()
	impatient := d.Lease(t, store.Lease{Length: 100 * time.Millisecond})
	run, err := impatient.Begin(t.Context(), job, period, "worker-2")
	check(t, err)
	check(t, run.Release())
	run, err = db.Begin(t.Context(), job, period, "worker-3")
	check(t, err)
	t.Cleanup(func() { _ = run.Release() })
	return run
}

// leaseOverOfMany lets many take over at once: one does.
func leaseOverOfMany(t *testing.T, d Database) {
	stale := hang(t, d)
	lease := store.Lease{Length: 3 * time.Second, Renew: 300 * time.Millisecond}
	handles := []store.DB{d.Lease(t, lease), d.Lease(t, lease)}
	var won, held atomic.Int32
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for {
				_, err := handles[i%2].Begin(t.Context(), job, period, "worker")
				switch {
				case err == nil:
					won.Add(1)
					return
				case !errors.As(err, new(*store.HeldError)):
					t.Error(err)
					return
				case won.Load() > 0:
					held.Add(1)
					return
				}
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || held.Load() != 5 {
		t.Errorf("%d own the period, %d were told so", won.Load(), held.Load())
	}
	fenced(t, "SaveBars", saveError(t, stale))
}

// leaseUnrenewed takes the column away, so that no renewal succeeds.
func leaseUnrenewed(t *testing.T, d Database) {
	open(t, d)
	run := begin(t, d.Lease(t, store.Lease{Length: time.Second, Renew: 100 * time.Millisecond}), job, period)
	d.Other(t, `ALTER TABLE ingest_runs RENAME COLUMN leased_until TO hidden`)
	isLost(t, run)
	save(t, run, seriesOf(aapl, 2), day) // nobody has taken over
	check(t, run.End(t.Context(), "interrupted", nil))
}

func endedByAnother(t *testing.T, d Database) {
	open(t, d)
	run := begin(t, d.Lease(t, store.Lease{Length: time.Hour, Renew: 50 * time.Millisecond}), job, period)
	d.Other(t, `UPDATE ingest_runs SET status = 'interrupted'`)
	isLost(t, run)
	fenced(t, "SaveBars", saveError(t, run))
}

func endLosesNothing(t *testing.T, d Database) {
	open(t, d)
	db := d.Lease(t, store.Lease{Length: time.Hour, Renew: time.Millisecond})
	for range 10 {
		run := begin(t, db, job, period)
		check(t, run.End(t.Context(), "ok", nil))
		fenced(t, "save after End", saveError(t, run))
		if lost(run) {
			t.Error("a run that has ended counts as lost")
		}
	}
}

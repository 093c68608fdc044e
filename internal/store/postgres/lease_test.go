package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func isLost(t testing.TB, run store.Run) {
	t.Helper()
	select {
	case <-run.Lost():
	case <-time.After(30 * time.Second):
		t.Error("the run does not know that its claim is lost")
	}
}

func stillHeld(t testing.TB, run store.Run) {
	t.Helper()
	select {
	case <-run.Lost():
		t.Error("the claim is lost")
	default:
	}
}

// TestFrozenOwner cuts an owner off in the middle of a save. Its session and its
// transaction last until the lease is over, and not longer.
func TestFrozenOwner(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	g := testenv.NewGate(t, direct)
	lease := store.Lease{Length: time.Second}
	db := migrated(t, direct, postgres.Options{Lease: lease})
	run := begin(t, open(t, g.URL(), postgres.Options{Lease: lease}), period)
	blocker := connect(t, direct)
	if _, err := blocker.Exec(t.Context(), `BEGIN; LOCK TABLE ohlcv IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	saved := make(chan error, 1)
	go func() {
		_, err := run.SaveBars(t.Context(), series("AAPL", 5), day)
		saved <- err
	}()
	eventually(t, "the save is inside its transaction", func() bool { return query(t, direct, waiting)[0] == "[1]" })
	g.Freeze(true)
	if _, err := blocker.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}

	var next store.Run
	began := time.Now()
	eventually(t, "the period is taken over", func() bool {
		var err error
		next, err = db.Begin(t.Context(), job, period, "worker-2")
		if err != nil && !errors.As(err, new(*store.HeldError)) {
			t.Fatal(err)
		}
		return err == nil
	})
	if took := time.Since(began); took > lease.Length+5*time.Second {
		t.Errorf("the takeover took %s", took)
	}
	isLost(t, run) // by its own clock: no message reaches it
	save(t, next, series("MSFT", 5))
	g.Freeze(false)
	if err := <-saved; !errors.Is(err, store.ErrFenced) {
		t.Errorf("the save of the old owner: %v", err)
	}
	if err := run.End(t.Context(), "ok", nil); !errors.Is(err, store.ErrFenced) {
		t.Errorf("the end of the old owner: %v", err)
	}
	equal(t, "stored", []string{"[5 1 1]"}, query(t, direct, stored))
	stillHeld(t, next)
	if err := next.End(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
}

// TestForsakenSession cuts the connection so that the server does not notice: the
// run ends the session that was its own and goes on.
func TestForsakenSession(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	g := testenv.NewGate(t, direct)
	run := begin(t, migrated(t, g.URL(), postgres.Options{}), period)
	before := query(t, direct, claimant)
	g.Cut(true)
	eventually(t, "another session holds the claim", func() bool {
		now := query(t, direct, claimant)
		return len(now) == 1 && now[0] != before[0]
	})
	save(t, run, series("AAPL", 3))
	stillHeld(t, run)
	if err := run.End(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
}

// TestLeaseBesideSaves renews while a transaction of the run stays open, and ends
// only when that is over.
func TestLeaseBesideSaves(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{Lease: store.Lease{Length: 10 * time.Second, Renew: 50 * time.Millisecond}})
	run := begin(t, db, period)
	blocker := connect(t, url)
	if _, err := blocker.Exec(t.Context(), `BEGIN; LOCK TABLE ohlcv IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	saved, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := run.SaveBars(t.Context(), series("AAPL", 5), day)
		saved <- err
	}()
	eventually(t, "the save is inside its transaction", func() bool { return query(t, url, waiting)[0] == "[1]" })
	const leased = `SELECT leased_until FROM ingest_runs`
	for range 3 {
		before := query(t, url, leased)[0]
		eventually(t, "the lease is renewed", func() bool { return query(t, url, leased)[0] != before })
	}
	go func() { ended <- run.End(t.Context(), "ok", nil) }()
	eventually(t, "the end waits for the save", func() bool { return query(t, url, waiting)[0] == "[2]" })
	if _, err := blocker.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-saved, <-ended); err != nil {
		t.Error(err)
	}
	equal(t, "stored", []string{"[5 1 1]"}, query(t, url, stored))
	stillHeld(t, run)
}

// TestTakeoverAtOnce begins a run whose owner's connection is gone without waiting
// for its lease.
func TestTakeoverAtOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	g := testenv.NewGate(t, url)
	db := migrated(t, url, postgres.Options{})
	stale := begin(t, open(t, g.URL(), postgres.Options{Lease: store.Lease{Length: time.Hour}}), period)
	g.Freeze(true) // it cannot come back
	g.Cut(false)
	next := begin(t, db, period)
	g.Freeze(false)
	isLost(t, stale)
	if _, err := stale.SaveBars(t.Context(), series("AAPL", 5), day); !errors.Is(err, store.ErrFenced) {
		t.Errorf("after the takeover: %v", err)
	}
	stillHeld(t, next)
	if err := next.End(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
}

// TestLeaseOfAnotherRole finds a hung owner whose session it may not end.
func TestLeaseOfAnotherRole(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	owner := migrated(t, direct, postgres.Options{Lease: store.Lease{Length: 10 * time.Hour}})
	run := begin(t, owner, period)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	role := strings.ReplaceAll(strings.TrimPrefix(u.Path, "/"), "-", "_") + "_guest"
	query(t, direct, fmt.Sprintf(`
		CREATE ROLE %[1]s LOGIN PASSWORD 'guest';
		GRANT ALL ON ALL TABLES IN SCHEMA public TO %[1]s; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO %[1]s;
		UPDATE ingest_runs SET leased_until = now() - interval '1 hour'`, role))
	t.Cleanup(func() { query(t, direct, fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, role)) })
	u.User = url.UserPassword(role, "guest")
	guest := open(t, u.String(), postgres.Options{Lease: store.Lease{Length: 100 * time.Millisecond}})
	_, err = guest.Begin(context.Background(), job, period, "worker-2")
	for _, want := range []string{"the lease of worker-1 is over", "process " + strings.Trim(query(t, direct, claimant)[0], "[]"), "pg_signal_backend", "one role"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if err := run.Release(); err != nil {
		t.Error(err)
	}
	next, err := guest.Begin(context.Background(), job, period, "worker-2")
	if err != nil {
		t.Fatal(err)
	}
	if err := next.End(context.Background(), "ok", nil); err != nil {
		t.Error(err)
	}
	_ = guest.Close()
}

// TestYoungLockIsLeftAlone finds the lock taken by a session that has not opened
// its run yet, over the run of an owner whose lease is over.
func TestYoungLockIsLeftAlone(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	query(t, url, `INSERT INTO ingest_runs (job, period, owner, status, leased_until) VALUES ('daily_bars', '2026-03-12', 'worker-0', 'running', now() - interval '1 hour')`)
	young := connect(t, url)
	if _, err := young.Exec(t.Context(), fmt.Sprintf(`SELECT pg_advisory_lock(hashtextextended('public' || 'ingest_runs %q %q', 0))`, job, period)); err != nil {
		t.Fatal(err)
	}
	_, err := db.Begin(t.Context(), job, period, "worker-2")
	if held := (*store.HeldError)(nil); !errors.As(err, &held) {
		t.Errorf("got %v, want a HeldError", err)
	}
	if _, err := young.Exec(t.Context(), `SELECT 1`); err != nil {
		t.Errorf("the young session: %v", err)
	}
	eager := open(t, url, postgres.Options{Lease: store.Lease{Length: 200 * time.Millisecond}})
	if err := begin(t, eager, period).Release(); err != nil { // young has grown old
		t.Error(err)
	}
}

// TestLostNote loses the reply to a note: it counts as noted all the same, and so
// it does of an owner.
func TestLostNote(t *testing.T) {
	t.Parallel()
	for _, owner := range []bool{false, true} {
		t.Run(fmt.Sprintf("owner %t", owner), func(t *testing.T) {
			t.Parallel()
			direct := testenv.Postgres(t)
			p := newProxy(t, direct)
			migrated(t, direct, postgres.Options{})
			db := open(t, p.url, postgres.Options{})
			note := db.NotePeriod
			if owner {
				note = begin(t, db, period).NotePeriod
			}
			p.loseReply(t, direct, `SELECT count(*) FROM ingest_periods`)
			noted, err := note(t.Context(), store.PeriodInfo{Job: job, Period: period, State: store.Complete})
			if err != nil || !noted || p.next.Load() != nil {
				t.Errorf("noted: %t, %v, the proxy saw it: %t", noted, err, p.next.Load() == nil)
			}
			noted, err = note(t.Context(), store.PeriodInfo{Job: job, Period: period, State: store.Complete})
			if err != nil || noted {
				t.Errorf("noted again: %t, %v", noted, err)
			}
			_ = db.Close()
		})
	}
}

func TestBadLease(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), testenv.Postgres(t), postgres.Options{Lease: store.Lease{Length: time.Second, Renew: time.Minute}})
	if err == nil || !strings.Contains(err.Error(), "lease of 1s that is renewed every 1m") {
		t.Errorf("got %v", err)
	}
}

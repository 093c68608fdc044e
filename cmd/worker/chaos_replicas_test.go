//go:build chaos

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	replicas = 5
	// replicaLease is a tenth of the standard lease.
	replicaLease = 1500 * time.Millisecond
	// replicaScale lets a replica look again after a tenth of a second whether
	// the run of another is free.
	replicaScale = 50
	// replicaSessions is how many sessions one database gets: those of four
	// years without a 29 February.
	replicaSessions = 1000
)

// saveAudit writes down in which order runs begin and saves commit. A sequence is
// not undone, and the trigger of a save comes right before its commit.
const saveAudit = `
	CREATE TABLE audit (n bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, kind text, job text, period text, run_id bigint);
	CREATE FUNCTION audit_save() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO audit (kind, job, period, run_id) VALUES ('save', NEW.job, NEW.period, NEW.run_id); RETURN NULL; END $$;
	CREATE FUNCTION audit_run() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO audit (kind, job, period, run_id) VALUES ('run', NEW.job, NEW.period, NEW.id); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER audit_save AFTER INSERT ON ingest_attempts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_save();
	CREATE TRIGGER audit_run AFTER INSERT ON ingest_runs FOR EACH ROW EXECUTE FUNCTION audit_run()`

// replica is one worker and the network between it and the database.
type replica struct {
	gate *testenv.Gate
	*child
}

// fleet is several replicas on one database.
type fleet struct {
	*servedBars
	replicas []*replica
	conn     *pgx.Conn
	// fenced are the writes of stale runs that were refused.
	fenced  int
	strikes map[string]int
}

// TestChaosServeReplicas lets five replicas serve one session after the other,
// while the one that has the run, or any other, is killed, stopped for longer than
// its lease, or cut off from the database for as long. Each session is run
// through once, no save of a run is committed after the next has begun, and all
// bars are stored once. The clock is set to the next tick when a session is
// complete, so that as many fit into the time as can be run.
//
// CHAOS_SESSIONS is how many sessions there are (10,000), CHAOS_STRIKES how many
// replicas are struck (200), CHAOS_SEED which and when.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosServeReplicas(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	sessions := int(numberFrom(t, "CHAOS_SESSIONS", 10_000))
	strikes := int(numberFrom(t, "CHAOS_STRIKES", 200))
	fmt.Printf("chaos: replicas: replay with CHAOS_SEED=%d CHAOS_SESSIONS=%d CHAOS_STRIKES=%d\n", seed, sessions, strikes)
	fenced, runs, began := 0, 0, time.Now()
	struck := map[string]int{}
	for left := sessions; left > 0; left -= replicaSessions {
		f := newFleet(t, seed+uint64(left))
		f.strikes = struck
		n := min(left, replicaSessions)
		f.serve(n, strikes*n/sessions)
		fenced += f.fenced
		runs += f.count(`SELECT count(*) FROM ingest_runs WHERE job = 'daily_bars'`)
	}
	fmt.Printf("chaos: replicas: %d sessions in %s, %d runs; struck %v; commits by a stale epoch: 0 of %d attempts\n",
		sessions, time.Since(began).Round(time.Second), runs, struck, fenced)
	if fenced == 0 && strikes >= 20 {
		t.Error("no stale run tried to write: the fence was not put to the test")
	}
}

func newFleet(t *testing.T, seed uint64) *fleet {
	t.Helper()
	f := &fleet{servedBars: newServing(t, seed, 3, market.NewDate(2028, time.March, 20))}
	f.simulate(simulator.Config{Key: canary, Now: f.clock.now, Premium: true, Latency: 30 * time.Millisecond})
	f.clock.set(t, f.clock.now(), replicaScale)
	conn, err := pgx.Connect(t.Context(), f.env["SA_DATABASE__URL"])
	if err == nil {
		_, err = conn.Exec(t.Context(), saveAudit)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	f.conn = conn
	for range replicas {
		r := &replica{gate: testenv.NewGate(t, f.env["SA_DATABASE__URL"])}
		f.replicas = append(f.replicas, r)
		f.start(r)
	}
	return f
}

func (f *fleet) start(r *replica) {
	f.t.Helper()
	r.child = f.spawn(f.clock, map[string]string{"SA_DATABASE__URL": r.gate.URL(), childLease: replicaLease.String()}, "serve")
}

// serve lets the replicas run sessions, and strikes some of the times.
func (f *fleet) serve(sessions, strikes int) {
	f.t.Helper()
	for n := range sessions {
		if n > 0 {
			f.next()
		}
		if f.random.IntN(sessions-n) < strikes {
			strikes--
			f.strike()
		}
		f.awaitComplete()
	}
	for _, r := range f.replicas {
		if code, _ := r.end(syscall.SIGTERM); code != exitOK {
			f.t.Errorf("exit code %d: %s", code, tail(r.errs.String()))
		}
		f.countFenced(r)
	}
	f.verify()
	if stale := f.count(`
		SELECT count(*) FROM audit s WHERE kind = 'save' AND EXISTS (
			SELECT FROM audit r WHERE r.kind = 'run' AND r.job = s.job AND r.period = s.period AND r.run_id > s.run_id AND r.n < s.n)`); stale > 0 {
		f.t.Errorf("%d commits by a stale epoch", stale)
	}
}

func (f *fleet) countFenced(r *replica) {
	f.fenced += strings.Count(r.errs.String(), store.ErrFenced.Error())
}

func (f *fleet) count(sql string) (n int) {
	f.t.Helper()
	if err := f.conn.QueryRow(f.t.Context(), sql).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *fleet) awaitComplete() {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); !f.complete(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s is not complete: %v\n%s", f.session, f.states()[f.session.String()], tail(f.replicas[0].errs.String()))
		}
	}
}

func (f *fleet) complete() bool {
	f.t.Helper()
	return f.count(fmt.Sprintf(`SELECT count(*) FROM ingest_periods WHERE job = 'daily_bars' AND period = '%s' AND state = 'complete'`, f.session)) == 1
}

// owner is the replica that runs the session; nil if none does before it is
// complete.
func (f *fleet) owner() *replica {
	f.t.Helper()
	for !f.complete() {
		var owner string
		err := f.conn.QueryRow(f.t.Context(), `SELECT owner FROM ingest_runs WHERE job = 'daily_bars' AND period = $1 AND status = 'running'`, f.session.String()).Scan(&owner)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			f.t.Fatal(err)
		}
		for _, r := range f.replicas {
			if strings.HasSuffix(owner, fmt.Sprintf(" pid %d", r.cmd.Process.Pid)) {
				return r
			}
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// strike takes a replica away, most times the one that has the run, waits until
// the session is complete all the same, and brings it back.
func (f *fleet) strike() {
	f.t.Helper()
	r := f.owner()
	if r == nil || f.random.IntN(4) == 0 {
		r = f.replicas[f.random.IntN(len(f.replicas))]
	}
	time.Sleep(time.Duration(f.random.Int64N(int64(60 * time.Millisecond))))
	struck := time.Now()
	fault := []string{"stopped", "killed", "cut off"}[f.random.IntN(3)]
	f.strikes[fault]++
	switch fault {
	case "stopped":
		_ = r.cmd.Process.Signal(syscall.SIGSTOP)
	case "killed":
		r.end(syscall.SIGKILL)
	case "cut off":
		r.gate.Freeze(true)
	}
	f.awaitComplete()
	if rest := replicaLease*3/2 - time.Since(struck); rest > 0 && fault != "killed" {
		time.Sleep(rest)
	}
	switch fault {
	case "stopped":
		_ = r.cmd.Process.Signal(syscall.SIGCONT)
	case "killed":
		f.countFenced(r)
		f.start(r)
	case "cut off":
		r.gate.Freeze(false)
	}
}

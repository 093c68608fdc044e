package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// claimPatience is how long Begin waits for the lock: the backend of an
	// owner that was just killed needs a moment to notice.
	claimPatience = time.Second
	claimPause    = 50 * time.Millisecond
	// pryPause is how long a takeover waits for a transaction of the run that
	// it takes over, before it looks whose that is.
	pryPause = 500 * time.Millisecond
	// retakeWait bounds one try to take the lock again.
	retakeWait = 5 * time.Second
	// farewell bounds an unlock and a close: the end of the connection
	// unlocks too, and a server that hangs must not keep the process.
	farewell = 500 * time.Millisecond
)

const (
	lockKey   = `hashtextextended(coalesce(current_schema(), '') || $1, 0)`
	lockSQL   = `SELECT pg_try_advisory_lock(` + lockKey + `), pg_backend_pid()`
	unlockSQL = `SELECT pg_advisory_unlock(` + lockKey + `)`
)

// claim is the ownership of (job, period): a session lock on a connection of
// its own, so that it ends with the process at the latest, and a lease on the
// run's row, so that it ends when the process does not. They decide who may
// begin; what an owner may write is decided by the status of its run, so a
// claim that is lost for a moment endangers nothing.
type claim struct {
	db          *DB
	job, period string
	seen        store.Seen // what the period may have had of runs
	run         int64
	conn        *pgx.Conn
	asking      uint32 // the server's process that last asked for the lock
	pid         uint32 // the one that last got it
	tenure      *store.Tenure

	stop func()
	kept chan struct{}
	once sync.Once
}

func (c *claim) key() string { return fmt.Sprintf("ingest_runs %q %q", c.job, c.period) }

// take locks (job, period) and opens the run.
func (c *claim) take(ctx context.Context, owner string) error {
	conn, err := c.db.connect(ctx)
	if err != nil {
		return err
	}
	c.tenure = store.NewTenure(c.db.lease.Length)
	if err = c.lock(ctx, conn); err == nil {
		err = c.open(ctx, conn, owner)
	}
	if err != nil {
		c.tenure.Stop()
		closeConn(conn)
		return err
	}
	c.conn = conn
	return nil
}

func (c *claim) lock(ctx context.Context, conn *pgx.Conn) error {
	for waited := time.Duration(0); ; waited += claimPause {
		locked, err := c.tryLock(ctx, conn)
		if err != nil || locked {
			return err
		}
		held, over, err := c.owner(ctx, conn)
		if err == nil && over {
			err = c.depose(ctx, conn, held.Owner)
		}
		if err != nil {
			return err
		}
		if waited >= claimPatience {
			return held
		}
		if err := sleep(ctx, claimPause); err != nil {
			return err
		}
	}
}

func (c *claim) tryLock(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	err = conn.QueryRow(ctx, lockSQL, c.key()).Scan(&locked, &c.asking)
	if locked {
		c.pid = c.asking
	}
	return locked, err
}

// owner describes who holds the lock, and tells whether the lease is over.
// Between its lock and its run's first row an owner has neither name nor lease.
func (c *claim) owner(ctx context.Context, conn *pgx.Conn) (held *store.HeldError, over bool, err error) {
	held = &store.HeldError{Job: c.job, Period: c.period}
	var left *float64
	err = conn.QueryRow(ctx, `
		SELECT coalesce(max(owner), 'another process'), coalesce(max(started_at), now()),
		       extract(epoch FROM max(leased_until) - clock_timestamp())::float8,
		       count(*) = 0 OR coalesce(max(leased_until) < clock_timestamp(), false)
		FROM ingest_runs WHERE job = $1 AND period = $2 AND status = 'running'`,
		c.job, c.period).Scan(&held.Owner, &held.Since, &left, &over)
	if left != nil {
		held.Retry = max(0, time.Duration(*left*float64(time.Second)))
	}
	return held, over, err
}

// depose ends the run of an owner whose lease is over, and its session, which
// holds the lock. An owner that renews its lease meanwhile, or that comes back,
// meets a lease that it has or a run that has ended, and nothing between.
func (c *claim) depose(ctx context.Context, conn *pgx.Conn, owner string) error {
	if err := c.interrupt(ctx, conn, true); err != nil {
		return err
	}
	return c.evict(ctx, conn, 0, owner)
}

// interrupt ends the runs of the period, or only those whose lease is over. It
// waits for a write of theirs that is just being committed, and from then on the
// next is refused.
func (c *claim) interrupt(ctx context.Context, conn *pgx.Conn, over bool) error {
	stop := c.pry(ctx)
	defer stop()
	_, err := conn.Exec(ctx, `
		WITH stale AS (
			SELECT id FROM ingest_runs
			WHERE job = $1 AND period = $2 AND status = 'running' AND (NOT $3 OR leased_until < clock_timestamp())
			FOR UPDATE
		)
		UPDATE ingest_runs r SET status = 'interrupted', finished_at = now() FROM stale WHERE r.id = stale.id`, c.job, c.period, over)
	return err
}

// pry ends what keeps a takeover waiting, until the returned function is called:
// the transactions of a run whose lease is over. A stopped process can be inside
// of one, which the server would end only much later.
func (c *claim) pry(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for sleep(ctx, pryPause) == nil {
			// If it fails the lock timeout ends the wait, and Begin tries again.
			_, _ = c.db.pool.Exec(ctx, `
				SELECT pg_terminate_backend(b.pid) FROM unnest(pg_blocking_pids($1)) AS b (pid)
				WHERE EXISTS (SELECT FROM ingest_runs WHERE job = $2 AND period = $3 AND status = 'running' AND leased_until < clock_timestamp())`,
				c.asking, c.job, c.period)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// holderSQL finds the session that holds the lock, if it is the one of that
// process or has done nothing for the length of a lease: one that has just taken
// it from a hung owner has not opened its run yet. What another role does is
// hidden, and does not count.
const holderSQL = `
	SELECT l.pid, coalesce(a.usename::text, 'another role') FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
	WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
	  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	  AND ((l.classid::bigint << 32) | l.objid::bigint) = ` + lockKey + `
	  AND (l.pid = $2 OR $2 = 0 AND coalesce(a.state_change, '-infinity') < clock_timestamp() - $3::interval)`

// evict ends the session that holds the lock of an owner whose lease is over, or,
// if pid is not 0, that process of the server, if it holds the lock.
func (c *claim) evict(ctx context.Context, conn *pgx.Conn, pid uint32, owner string) error {
	var role string
	err := conn.QueryRow(ctx, holderSQL, c.key(), pid, c.db.lease.Length).Scan(&pid, &role)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `SELECT pg_terminate_backend($1)`, pid)
	if server := (*pgconn.PgError)(nil); errors.As(err, &server) && server.Code == insufficientPrivilege {
		err = fmt.Errorf("the lease of %s is over, but this role may not end its session, process %d of %s: "+
			"let all workers use one role, or grant this one pg_signal_backend: %w", owner, pid, role, err)
	}
	return err
}

// open ends the runs whose owners are gone and inserts the new one.
func (c *claim) open(ctx context.Context, conn *pgx.Conn, owner string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var passed bool
		err := tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM ingest_runs WHERE job = $1 AND period = $2
				AND (id > $3 OR id = $3 AND NOT $4 AND status NOT IN ('running', 'interrupted')))`, c.job, c.period, c.seen.Run, c.seen.Ended).Scan(&passed)
		if err == nil && passed {
			err = store.ErrPassed
		}
		if err == nil {
			err = c.interrupt(ctx, tx.Conn(), false)
		}
		if err != nil {
			return err
		}
		return c.tenure.Renew(func() error {
			return tx.QueryRow(ctx, `
				INSERT INTO ingest_runs (job, period, owner, status, leased_until)
				VALUES ($1, $2, $3, 'running', clock_timestamp() + $4::interval)
				RETURNING id`, c.job, c.period, owner, c.db.lease.Length).Scan(&c.run)
		})
	})
}

// keep renews the lease until ctx ends, and takes the lock again if the
// connection breaks and nobody else has taken the period over.
func (c *claim) keep(ctx context.Context) {
	defer close(c.kept)
	for {
		over, err := c.stay(ctx)
		for pause := firstPause; err != nil && !over && ctx.Err() == nil; pause = min(2*pause, longPause) {
			closeConn(c.conn)
			if over, err = c.retake(ctx); err != nil && !over {
				_ = sleep(ctx, pause)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if over {
			c.tenure.Lose()
			return
		}
	}
}

// stay waits until the lease is to be renewed, and renews it. A connection that
// breaks is an error at once.
func (c *claim) stay(ctx context.Context) (over bool, err error) {
	quiet, cancel := context.WithTimeout(ctx, c.db.lease.Renew)
	defer cancel()
	_, err = c.conn.WaitForNotification(quiet)
	if err != nil && ctx.Err() == nil && (!pgconn.Timeout(err) || c.conn.IsClosed()) {
		return false, err
	}
	if ctx.Err() != nil {
		return false, nil
	}
	ask, cancel := context.WithTimeout(ctx, c.db.lease.Renew)
	defer cancel()
	return c.renew(ask, c.conn)
}

// renew reports over when the run is no longer the owner.
func (c *claim) renew(ctx context.Context, conn *pgx.Conn) (over bool, err error) {
	err = c.tenure.Renew(func() error {
		tag, err := conn.Exec(ctx, `
			UPDATE ingest_runs SET leased_until = clock_timestamp() + $2::interval WHERE id = $1 AND status = 'running'`,
			c.run, c.db.lease.Length)
		over = err == nil && tag.RowsAffected() == 0
		return err
	})
	return over, err
}

var errStillLocked = errors.New("the period is locked by another session")

// retake reports over when the run is no longer the owner; with no error and
// not over it holds the lock again.
func (c *claim) retake(ctx context.Context) (over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, retakeWait)
	defer cancel()
	conn, err := c.db.connect(ctx)
	if err != nil {
		return false, err
	}
	locked, err := c.tryLock(ctx, conn)
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM ingest_runs WHERE id = $1 AND status = 'running')`, c.run).Scan(&over)
	}
	switch {
	case err != nil || over:
	case locked:
		over, err = c.renew(ctx, conn)
	default:
		// It may be by the session that was ours, of which the server does not
		// know yet that its client is gone.
		err = errors.Join(errStillLocked, c.evict(ctx, conn, c.pid, "this run"))
	}
	if err != nil || over {
		closeConn(conn)
		return over, err
	}
	c.conn = conn
	return false, nil
}

// release gives the period free. It may be called more than once.
func (c *claim) release() {
	c.once.Do(func() {
		c.tenure.Stop()
		c.stop()
		<-c.kept
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		// The server unlocks at the end of the session too, but after a
		// moment, in which the next owner would have to wait.
		_, _ = c.conn.Exec(ctx, unlockSQL, c.key())
		closeConn(c.conn)
		c.db.mu.Lock()
		delete(c.db.claims, c)
		c.db.mu.Unlock()
	})
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = conn.Close(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

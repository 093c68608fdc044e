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
	// keepalive is how often an idle claim asks for a sign of life; a
	// connection that breaks is noticed at once.
	keepalive     = 10 * time.Second
	keepaliveWait = 5 * time.Second
	// farewell bounds an unlock and a close: the end of the connection
	// unlocks too, and a server that hangs must not keep the process.
	farewell = 500 * time.Millisecond
)

const (
	lockSQL   = `SELECT pg_try_advisory_lock(hashtextextended(coalesce(current_schema(), '') || $1, 0))`
	unlockSQL = `SELECT pg_advisory_unlock(hashtextextended(coalesce(current_schema(), '') || $1, 0))`
)

// claim is the ownership of (job, period): a session lock on a connection of
// its own, so that it ends with the process at the latest. It decides who may
// begin; what an owner may write is decided by the status of its run, so a
// claim that is lost for a moment endangers nothing.
type claim struct {
	db          *DB
	job, period string
	run         int64
	conn        *pgx.Conn

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
	if err = c.lock(ctx, conn); err == nil {
		err = c.open(ctx, conn, owner)
	}
	if err != nil {
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
		if waited >= claimPatience {
			return c.held(ctx, conn)
		}
		if err := sleep(ctx, claimPause); err != nil {
			return err
		}
	}
}

func (c *claim) tryLock(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	err = conn.QueryRow(ctx, lockSQL, c.key()).Scan(&locked)
	return locked, err
}

// held describes the owner. Between its lock and its run's first row it has
// no name yet.
func (c *claim) held(ctx context.Context, conn *pgx.Conn) error {
	held := &store.HeldError{Job: c.job, Period: c.period}
	err := conn.QueryRow(ctx, `
		SELECT coalesce(max(owner), 'another process'), coalesce(max(started_at), now())
		FROM ingest_runs WHERE job = $1 AND period = $2 AND status = 'running'`,
		c.job, c.period).Scan(&held.Owner, &held.Since)
	if err != nil {
		return err
	}
	return held
}

// open ends the runs whose owners are gone and inserts the new one. The update
// waits for a write of theirs that is just being committed, and from then on
// refuses the next.
func (c *claim) open(ctx context.Context, conn *pgx.Conn, owner string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE ingest_runs SET status = 'interrupted', finished_at = now()
			WHERE job = $1 AND period = $2 AND status = 'running'`, c.job, c.period)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			INSERT INTO ingest_runs (job, period, owner, status) VALUES ($1, $2, $3, 'running')
			RETURNING id`, c.job, c.period, owner).Scan(&c.run)
	})
}

// keep watches over the connection until ctx ends, and takes the lock again if
// it breaks and nobody else has taken the period over.
func (c *claim) keep(ctx context.Context) {
	defer close(c.kept)
	for ctx.Err() == nil {
		if alive(ctx, c.conn) {
			continue
		}
		closeConn(c.conn)
		for pause := firstPause; ; pause = min(2*pause, longPause) {
			over, err := c.retake(ctx)
			if over || ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			if sleep(ctx, pause) != nil {
				return
			}
		}
	}
}

// alive waits for the connection to break, and asks it when it has been quiet
// for long.
func alive(ctx context.Context, conn *pgx.Conn) bool {
	quiet, cancel := context.WithTimeout(ctx, keepalive)
	defer cancel()
	_, err := conn.WaitForNotification(quiet)
	if err == nil || ctx.Err() != nil {
		return !conn.IsClosed()
	}
	if !pgconn.Timeout(err) || conn.IsClosed() {
		return false
	}
	ask, cancel := context.WithTimeout(ctx, keepaliveWait)
	defer cancel()
	return conn.Ping(ask) == nil || ctx.Err() != nil
}

var errStillLocked = errors.New("the period is locked by another session")

// retake reports over when the run is no longer the owner; with no error and
// not over it holds the lock again.
func (c *claim) retake(ctx context.Context) (over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, keepaliveWait)
	defer cancel()
	conn, err := c.db.connect(ctx)
	if err != nil {
		return false, err
	}
	locked, err := c.tryLock(ctx, conn)
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM ingest_runs WHERE id = $1 AND status = 'running')`, c.run).Scan(&over)
	}
	if err == nil && !over && !locked {
		err = errStillLocked
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

package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// lockPause is the pause between two looks at a lock that is to be
	// waited for.
	lockPause = 20 * time.Millisecond
	// claimPatience is how long a claim waits for one that is held: the
	// kernel needs a moment to take down an owner that was just killed.
	claimPatience = time.Second
)

// exclusively runs fn while no other process runs its own of that name.
func (db *DB) exclusively(ctx context.Context, name string, fn func(context.Context) error) error {
	file, err := db.lockFile(name)
	if err != nil {
		return err
	}
	lock := flock.New(file)
	if _, err := lock.TryLockContext(ctx, lockPause); err != nil {
		return fmt.Errorf("lock %s: %w", file, err)
	}
	defer func() { _ = lock.Unlock() }()
	return fn(ctx)
}

// free returns a *[store.HeldError] while another run owns the period: its
// process lives, which its lock file tells, and its lease is not over.
func (r *run) free(ctx context.Context, from queryer) error {
	held := &store.HeldError{Job: r.job, Period: r.period}
	var id int64
	var since, until sql.NullString
	err := from.QueryRowContext(ctx, `
		SELECT id, owner, started_at, leased_until FROM ingest_runs WHERE job = ? AND period = ? AND status = 'running'`,
		r.job, r.period).Scan(&id, &held.Owner, &since, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if held.Since, err = parseStamp(since); err != nil {
		return err
	}
	if until.Valid {
		leased, err := parseStamp(until)
		if held.Retry = leased.Sub(r.db.now()); err != nil || held.Retry <= 0 {
			return err
		}
	}
	lock, err := r.claim(id)
	if err != nil {
		return err
	}
	if lock == nil {
		return held
	}
	return unclaim(lock)
}

// claim takes the lock file of a run of the period, or returns nil while the
// process of that run holds it. A process that dies holds none. Each run has a
// file of its own, so that an owner who wakes up after the end of its lease
// holds nothing that is in anybody's way.
func (r *run) claim(id int64) (*flock.Flock, error) {
	file, err := r.db.lockFile(fmt.Sprintf("%s %s %d", r.job, r.period, id))
	if err != nil {
		return nil, err
	}
	lock := flock.New(file)
	locked, err := lock.TryLock()
	if err != nil || !locked {
		return nil, err
	}
	return lock, nil
}

// unclaim removes the file too: nobody will ask for that run again, or, if
// somebody does just now, it is right to find it unlocked.
func unclaim(lock *flock.Flock) error {
	err := lock.Unlock()
	_ = os.Remove(lock.Path()) // refused on Windows while somebody looks at it, where it may stay
	return err
}

// lockFile returns the path of the lock of that name. The readable part is for
// people; the hash keeps two names apart whatever characters they have.
func (db *DB) lockFile(name string) (string, error) {
	dir := db.path + "-locks"
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
	return filepath.Join(dir, fmt.Sprintf("%.60s-%x.lock", readable, sha256.Sum256([]byte(name)))), nil
}

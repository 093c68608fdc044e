package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
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

// tryClaim takes the lock file of a claim, or returns nil while another claim
// holds it. A process that dies holds none. Where the file system can do so
// the file is removed together with the claim, so a lock counts only if its
// file is still the one at that path.
func tryClaim(file string) (*flock.Flock, error) {
	for {
		lock := flock.New(file)
		locked, err := lock.TryLock()
		if err != nil || !locked {
			return nil, err
		}
		if current(lock, file) {
			return lock, nil
		}
		if err := lock.Unlock(); err != nil {
			return nil, err
		}
	}
}

// waitClaim is tryClaim with patience for an owner that is just dying.
func waitClaim(ctx context.Context, file string) (*flock.Flock, error) {
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for waited := time.Duration(0); ; waited += lockPause {
		lock, err := tryClaim(file)
		if err != nil || lock != nil || waited >= claimPatience {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

func current(lock *flock.Flock, file string) bool {
	held, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(file)
	return err == nil && os.SameFile(held, there)
}

// unclaim removes the file before it is unlocked: from then on nobody can lock
// the old one and take it for the claim.
func unclaim(lock *flock.Flock) error {
	_ = os.Remove(lock.Path()) // refused on Windows while it is open, where it may stay
	return lock.Unlock()
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

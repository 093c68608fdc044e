// Package embedded is the Redis of a machine that has none: a server inside
// this process, on a loopback port of its own and behind a password of its
// own, so that the worker runs the same code paths with and without servers.
//
// It starts empty each time and keeps nothing. That loses nothing: done-sets
// are rebuilt from the ledger, day quotas from the ledger's calls, and a
// limiter that finds no state starts without tokens. What it cannot do is
// share: so one data directory has one process that calls providers at a time.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/gofrs/flock"
)

const (
	lockName = "worker.lock"
	// tick is how often expiry is driven: the server's clock for TTLs
	// stands still by itself.
	tick = 100 * time.Millisecond
	// clockTick is how often a given clock is read.
	clockTick = 5 * time.Millisecond
	// lockPatience covers the moment in which the kernel still takes down
	// a killed owner.
	lockPatience = time.Second
	lockPoll     = 50 * time.Millisecond
)

// BusyError says that another process has the data directory.
type BusyError struct {
	Dir, Owner string
}

// Error names the owner and the way out.
func (e *BusyError) Error() string {
	return fmt.Sprintf("data directory %s is in use by %s: wait for it, or set SA_REDIS__URL so that several processes can share one rate limit", e.Dir, e.Owner)
}

// Lock is the right to call providers from one data directory. It ends with
// the process, however that ends.
type Lock struct{ file *flock.Flock }

// Acquire takes the lock of dir, which must exist, for owner. While another
// live process has it, Acquire returns a *BusyError.
func Acquire(ctx context.Context, dir, owner string) (*Lock, error) {
	path := filepath.Join(dir, lockName)
	file := flock.New(path, flock.SetPermissions(0o600))
	wait, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	held, err := file.TryLockContext(wait, lockPoll)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, &BusyError{Dir: dir, Owner: ownerOf(path)}
	}
	if err != nil || !held {
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	// The name is for the other side's message only; the lock holds without.
	_ = os.WriteFile(path, []byte(owner+"\n"), 0o600)
	return &Lock{file}, nil
}

func ownerOf(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // the path is the data directory's own lock file
	if owner := strings.TrimSpace(string(text)); err == nil && owner != "" {
		return owner
	}
	return "another process"
}

// Release gives the directory free.
func (l *Lock) Release() error { return l.file.Close() }

// Redis is the server inside this process.
type Redis struct {
	server   *miniredis.Miniredis
	password string
	clock    func() time.Time
	stop     context.CancelFunc
	driven   sync.WaitGroup
}

func (r *Redis) setTime() {
	if r.clock != nil {
		r.server.SetTime(r.clock())
	}
}

// StartRedis starts an empty server on a free loopback port. It runs until
// Close. Its time is that of clock, to a tick; nil is the machine's.
func StartRedis(ctx context.Context, clock func() time.Time) (*Redis, error) {
	r := &Redis{server: miniredis.NewMiniRedis(), password: rand.Text(), clock: clock}
	r.setTime()
	r.server.RequireAuth(r.password)
	if err := r.server.Start(); err != nil {
		return nil, fmt.Errorf("start embedded Redis: %w", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.driven.Go(func() { r.drive(ctx) })
	return r, nil
}

// drive lets keys expire as time goes by.
func (r *Redis) drive(ctx context.Context) {
	every := tick
	if r.clock != nil {
		every = clockTick
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.setTime()
			if !last.IsZero() {
				r.server.FastForward(now.Sub(last))
			}
			last = now
		}
	}
}

// URL returns the server's URL, password included.
func (r *Redis) URL() string {
	return fmt.Sprintf("redis://:%s@%s/0", r.password, r.server.Addr())
}

// Close stops the server; its keys are gone.
func (r *Redis) Close() {
	r.stop()
	r.driven.Wait()
	r.server.Close()
}

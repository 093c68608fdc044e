package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// mirrorLife is how long the copy of a claim outlives its last renewal: as
	// long as the lease in the database does, and the way there.
	mirrorLife  = 20 * time.Second
	mirrorRenew = 5 * time.Second
)

// mirroredLease is the value of the key jobs:{job}:{period}:lease.
type mirroredLease struct {
	Run   int64     `json:"run"`
	Owner string    `json:"owner"`
	Since time.Time `json:"since"`
}

// dropLease removes a copy that is still this run's own: another run may have
// taken over.
const dropLease = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`

// mirror shows a claim in Redis for as long as the run has it, and returns what
// takes the copy back. It is for readers alone: the claim itself is a row of the
// database, so an error of Redis is none of the run's.
func (a *app) mirror(ctx context.Context, rdb redis.Cmdable, p period, run store.Run) (end func()) {
	key := rediskey.Lease(rediskey.Job(p.job), p.name)
	text, err := json.Marshal(mirroredLease{Run: run.ID(), Owner: newOwner(), Since: a.now().UTC().Truncate(time.Second)})
	if err != nil {
		return func() {}
	}
	ctx, cancel := untilStopping(ctx, run.Lost())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(mirrorRenew)
		defer ticker.Stop()
		for ctx.Err() == nil {
			_ = rdb.Set(ctx, key, text, mirrorLife).Err()
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTime)
		defer cancel()
		_ = rdb.Eval(last, dropLease, []string{key}, text).Err()
	}()
	return func() {
		cancel()
		<-done
	}
}

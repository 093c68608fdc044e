package idempotency

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

// Windows tells to when the windows of a job are complete for good.
type Windows interface {
	// LastRun returns the end of the last complete window, the zero Time if
	// there is none.
	LastRun(ctx context.Context, job string) (time.Time, error)
}

// LastRun is the end of the window of the last alt-data run that was complete,
// as the key jobs:altdata:last_run repeats it. It is safe for concurrent use.
type LastRun struct {
	rdb    redis.UniversalClient
	ledger Windows
}

// NewLastRun returns the last_run in rdb that repeats what ledger says.
func NewLastRun(rdb redis.UniversalClient, ledger Windows) *LastRun {
	return &LastRun{rdb, ledger}
}

// Get returns what the ledger says and puts the key right. While the ledger
// knows of no run, the key counts, which another program may have written. The
// zero Time means that there was none.
//
// An error that wraps [ErrRedis] comes with known and the ledger's answer; after
// any other error known is false.
func (l *LastRun) Get(ctx context.Context) (at time.Time, known bool, err error) {
	at, err = l.ledger.LastRun(ctx, string(rediskey.AltData))
	if err != nil {
		return at, false, fmt.Errorf("last run of %s: %w", rediskey.AltData, err)
	}
	text, err := l.rdb.Get(ctx, rediskey.AltDataLastRun).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return at, true, fmt.Errorf("%s: %w: %w", rediskey.AltDataLastRun, ErrRedis, err)
	}
	if !at.IsZero() {
		if text == stamp(at) {
			return at, true, nil
		}
		return at, true, l.set(ctx, at)
	}
	if text == "" {
		return at, true, nil
	}
	other, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, true, fmt.Errorf("%s: %w: %q is no time such as 2026-03-12T10:00:00Z and does not count", rediskey.AltDataLastRun, ErrRedis, text)
	}
	return other, true, nil
}

func (l *LastRun) set(ctx context.Context, at time.Time) error {
	if err := l.rdb.Set(ctx, rediskey.AltDataLastRun, stamp(at), 0).Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", rediskey.AltDataLastRun, ErrRedis, err)
	}
	return nil
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

package idempotency_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// windows is a ledger that knows one run.
type windows struct {
	at  time.Time
	err error
}

func (w *windows) LastRun(context.Context, string) (time.Time, error) { return w.at, w.err }

func TestLastRun(t *testing.T) {
	t.Parallel()
	const key = "jobs:altdata:last_run"
	at := time.Date(2026, 3, 12, 10, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		ledger windows
		key    string
		want   time.Time
		after  string
		redis  bool // an error of Redis
	}{
		"nothing anywhere":          {windows{}, "", time.Time{}, "", false},
		"the key is missing":        {windows{at: at}, "", at, "2026-03-12T10:00:00Z", false},
		"the key is ahead":          {windows{at: at}, "2026-04-01T10:00:00Z", at, "2026-03-12T10:00:00Z", false},
		"the key is behind":         {windows{at: at}, "2026-01-01T10:00:00Z", at, "2026-03-12T10:00:00Z", false},
		"the key is garbage":        {windows{at: at}, "soon", at, "2026-03-12T10:00:00Z", false},
		"only another program's":    {windows{}, "2026-03-12T12:00:00+02:00", at, "2026-03-12T12:00:00+02:00", false},
		"only another one's rubish": {windows{}, "soon", time.Time{}, "soon", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := client(t)
			if tc.key != "" {
				rdb.Set(t.Context(), key, tc.key, 0)
			}
			got, known, err := idempotency.NewLastRun(rdb, &tc.ledger).Get(t.Context())
			if !got.Equal(tc.want) || !known || errors.Is(err, idempotency.ErrRedis) != tc.redis {
				t.Errorf("got %s, %v, %v; want %s", got, known, err, tc.want)
			}
			if after := rdb.Get(t.Context(), key).Val(); after != tc.after {
				t.Errorf("the key holds %q, want %q", after, tc.after)
			}
			if ttl := rdb.TTL(t.Context(), key).Val(); ttl > 0 {
				t.Errorf("the key expires in %s", ttl)
			}
		})
	}
	t.Run("no ledger", func(t *testing.T) {
		t.Parallel()
		_, known, err := idempotency.NewLastRun(client(t), &windows{err: errors.New("away")}).Get(t.Context())
		if known || err == nil {
			t.Errorf("known %v, %v", known, err)
		}
	})
	t.Run("no Redis", func(t *testing.T) {
		t.Parallel()
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
		t.Cleanup(func() { _ = rdb.Close() })
		got, known, err := idempotency.NewLastRun(rdb, &windows{at: at}).Get(t.Context())
		if !got.Equal(at) || !known || !errors.Is(err, idempotency.ErrRedis) {
			t.Errorf("got %s, %v, %v", got, known, err)
		}
	})
}

func client(t *testing.T) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

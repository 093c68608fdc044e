package limiter_test

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// Every field of Stats moves when that happens which it counts, and at no
// other time.
func TestStats(t *testing.T) {
	t.Parallel()
	wait := func(l *limiter.Limiter, ctx context.Context, cost int) {
		_ = l.WaitFor(ctx, limiter.Request{Cost: cost})
	}
	short := func(t *testing.T, d time.Duration) context.Context {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	down := func(asked) (any, error) { return nil, errDown }
	seen := map[string]bool{}
	for name, c := range map[string]struct {
		answer func(asked) (any, error)
		o      limiter.Options
		act    func(t *testing.T, l *limiter.Limiter)
		want   limiter.Stats
	}{
		"a grant of two": {
			func(asked) (any, error) {
				return []any{int64(limiter.Taken), int64(0), int64(1), int64(2e6)}, nil
			},
			limiter.Options{},
			func(t *testing.T, l *limiter.Limiter) { wait(l, t.Context(), 2) },
			limiter.Stats{Waits: 1, Grants: 1, Tokens: 2, Waited: 2 * time.Second, RoundTrips: 1, Lost: 1},
		},
		"spent": {
			func(asked) (any, error) { return []any{int64(limiter.Spent), int64(2), int64(2e9)}, nil },
			limiter.Options{},
			func(t *testing.T, l *limiter.Limiter) { wait(l, t.Context(), 1) },
			limiter.Stats{Waits: 1, Spent: 1, RoundTrips: 1},
		},
		"late": {
			func(asked) (any, error) { return askIn(time.Minute, time.Minute) },
			limiter.Options{},
			func(t *testing.T, l *limiter.Limiter) { wait(l, short(t, time.Second), 1) },
			limiter.Stats{Waits: 1, Late: 1, RoundTrips: 1},
		},
		"cancelled, its slot unused and refunded": {
			func(asked) (any, error) { return slotsAt(2 * time.Second) },
			limiter.Options{},
			func(t *testing.T, l *limiter.Limiter) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				wait(l, ctx, 2)
				time.Sleep(time.Minute)
			},
			limiter.Stats{Waits: 1, Cancelled: 1, Unused: 2, RoundTrips: 2},
		},
		"nobody could be asked": {
			down,
			limiter.Options{Patience: time.Nanosecond},
			func(t *testing.T, l *limiter.Limiter) { wait(l, t.Context(), 1) },
			limiter.Stats{Waits: 1, Unavailable: 1, RoundTrips: 1},
		},
		"without Redis": {
			down,
			limiter.Options{Replicas: 1, Used: func(context.Context, time.Time) (int, error) { return 0, nil }},
			func(t *testing.T, l *limiter.Limiter) { wait(l, t.Context(), 1) },
			limiter.Stats{Waits: 1, Grants: 1, Tokens: 1, Local: 1},
		},
		"a pause": {
			down,
			limiter.Options{},
			func(t *testing.T, l *limiter.Limiter) { _ = l.Pause(t.Context(), time.Second) },
			limiter.Stats{Pauses: 1, RoundTrips: 1},
		},
		"waiting": {
			func(asked) (any, error) { return askIn(time.Minute, time.Minute) },
			limiter.Options{},
			func(t *testing.T, l *limiter.Limiter) {
				ctx, cancel := context.WithCancel(t.Context())
				t.Cleanup(cancel)
				go wait(l, ctx, 1)
				go wait(l, ctx, 1)
				synctest.Wait()
			},
			limiter.Stats{Waits: 2, Waiting: 2, RoundTrips: 1},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			windows := []limiter.Window{{Name: "provider", Limit: 20, Length: time.Second, Burst: 2}}
			if c.o.Replicas == 0 {
				windows = append(windows, limiter.Window{Name: "provider.day", Limit: 25, Daily: time.UTC})
			}
			l, _ := newScripted(t, c.o, c.answer, windows...)
			c.act(t, l)
			synctest.Wait()
			got := l.Stats()
			if c.want.Local > 0 { // how often it tried and how long it took is random
				got.RoundTrips, got.Waited = 0, 0
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
		})
		v := reflect.ValueOf(c.want)
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				seen[v.Type().Field(i).Name] = true
			}
		}
	}
	if n := reflect.TypeFor[limiter.Stats]().NumField(); len(seen) != n {
		t.Errorf("only %v of the %d fields are tested", seen, n)
	}
}

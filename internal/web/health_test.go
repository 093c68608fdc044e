package web_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/web"
)

// readyz asks the server without a network.
func (w *world) readyz() (status int, body string) {
	out := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/readyz", nil)
	w.server.Gate().ServeHTTP(out, r)
	return out.Code, out.Body.String()
}

// Whatever the fault, /readyz is red five seconds after its begin and green five
// seconds after its end.
func TestReadyFollowsWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(ctx context.Context, over <-chan struct{}) error{
		"an error": func(context.Context, <-chan struct{}) error { return errors.New("dial 10.0.0.7:5432: refused") },
		"no answer": func(ctx context.Context, _ <-chan struct{}) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"no answer, and deaf": func(_ context.Context, over <-chan struct{}) error {
			<-over
			return errors.New("late")
		},
	} {
		for _, after := range []time.Duration{0, 500 * time.Millisecond, 1999 * time.Millisecond, 2001 * time.Millisecond, 3300 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				var over atomic.Pointer[chan struct{}] // not nil during a fault
				w := newWorld(t, func(c *web.Config) {
					c.Checks = []web.Check{{Name: "redis", Check: func(ctx context.Context) error {
						if o := over.Load(); o != nil {
							return fault(ctx, *o)
						}
						return nil
					}}}
				})
				if status, _ := w.readyz(); status != http.StatusServiceUnavailable {
					t.Errorf("before the first check: %d", status)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); w.server.RunChecks(ctx) }()
				synctest.Wait()
				if status, _ := w.readyz(); status != http.StatusOK {
					t.Errorf("after it: %d", status)
				}
				time.Sleep(10*time.Second + after)
				end := make(chan struct{})
				over.Store(&end)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				status, body := w.readyz()
				if status != http.StatusServiceUnavailable || !strings.Contains(body, `"redis"`) || strings.Contains(body, "10.0.0.7") {
					t.Errorf("%s, %s: five seconds after its begin: %d %s", name, after, status, body)
				}
				time.Sleep(time.Minute + after)
				over.Store(nil)
				close(end)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if status, body := w.readyz(); status != http.StatusOK {
					t.Errorf("%s, %s: five seconds after its end: %d %s", name, after, status, body)
				}
				if n := len(w.told("not ready")) + len(w.told("ready again")); n != 2 {
					t.Errorf("%s: %d lines in the log: %+v", name, n, w.events)
				}
				cancel()
				<-ended
			})
		}
	}
}

// A check that comes no more is no good sign.
func TestReadyDoesNotTrustAnOldResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); w.server.RunChecks(ctx) }()
		synctest.Wait()
		cancel()
		<-ended
		time.Sleep(10 * time.Second)
		if status, _ := w.readyz(); status != http.StatusOK {
			t.Errorf("after 10 s: %d", status)
		}
		time.Sleep(3 * time.Second)
		if status, _ := w.readyz(); status != http.StatusServiceUnavailable {
			t.Errorf("after 13 s: %d", status)
		}
	})
}

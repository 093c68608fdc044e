package providertest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// Key is the key that the suite looks for.
const Key = key

// Complaints runs the suite and returns what each of its checks complains of,
// by the check's name.
func Complaints(tb testing.TB, s Source) map[string][]string {
	tb.Helper()
	all := map[string][]string{}
	for _, c := range checks(s) {
		if said := record(tb, func(tb testing.TB) { c.run(tb, s) }); len(said) > 0 {
			all[c.name] = said
		}
	}
	return all
}

// recorder is a test that keeps its complaints to itself.
type recorder struct {
	testing.TB
	ctx context.Context

	mu      sync.Mutex
	said    []string
	cleanup []func()
}

func record(tb testing.TB, run func(testing.TB)) []string {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	r := &recorder{TB: tb, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	cancel()
	for i := len(r.cleanup) - 1; i >= 0; i-- {
		r.cleanup[i]()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said
}

func (r *recorder) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text)
}

func (r *recorder) Helper()                           {}
func (r *recorder) Context() context.Context          { return r.ctx }
func (r *recorder) Cleanup(f func())                  { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Error(args ...any)                 { r.say(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.say(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

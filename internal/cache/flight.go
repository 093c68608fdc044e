package cache

import (
	"context"
	"fmt"
	"sync"
)

// flights lets those who ask for the same at the same time share one answer.
type flights[T any] struct {
	mu      sync.Mutex
	running map[string]*flight[T]
}

type flight[T any] struct {
	waiting int // guarded by flights.mu
	cancel  context.CancelFunc
	done    chan struct{}
	value   T
	err     error
}

// do returns the answer of fn, called for name by whoever came first, or the
// error of ctx.
func (f *flights[T]) do(ctx context.Context, name string, fn func(context.Context) (T, error)) (T, error) {
	one := f.board(ctx, name, fn)
	defer f.leave(name, one)
	select {
	case <-one.done:
		return one.value, one.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (f *flights[T]) board(ctx context.Context, name string, fn func(context.Context) (T, error)) *flight[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.running[name]; one != nil {
		one.waiting++
		return one
	}
	// The first may go while others still wait.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // fly and leave call it
	one := &flight[T]{waiting: 1, cancel: cancel, done: make(chan struct{})}
	if f.running == nil {
		f.running = map[string]*flight[T]{}
	}
	f.running[name] = one
	go f.fly(ctx, name, one, fn)
	return one
}

func (f *flights[T]) fly(ctx context.Context, name string, one *flight[T], fn func(context.Context) (T, error)) {
	defer func() {
		if p := recover(); p != nil {
			one.err = fmt.Errorf("panic: %v", p)
		}
		f.remove(name, one)
		close(one.done)
		one.cancel()
	}()
	one.value, one.err = fn(ctx)
}

func (f *flights[T]) remove(name string, one *flight[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(name, one)
}

func (f *flights[T]) drop(name string, one *flight[T]) {
	if f.running[name] == one {
		delete(f.running, name)
	}
}

// leave gives up a flight that nobody waits for: whoever comes next begins
// another.
func (f *flights[T]) leave(name string, one *flight[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.waiting--; one.waiting == 0 {
		f.drop(name, one)
		one.cancel()
	}
}

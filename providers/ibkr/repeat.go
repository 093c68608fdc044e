package ibkr

import (
	"context"
	"sync"
	"time"
)

// repeats keeps identical questions apart.
type repeats struct {
	after time.Duration

	mu   sync.Mutex
	last map[question]*repeat
}

// repeat is the turn of one question.
type repeat struct {
	all  *repeats
	q    question
	free chan struct{}
	used bool
}

// reserve returns when no identical question is about to go out, or has gone out
// within the time before that IB's rule is about.
func (r *repeats) reserve(ctx context.Context, q question) (*repeat, error) {
	for {
		r.mu.Lock()
		before, busy := r.last[q]
		if !busy {
			turn := &repeat{all: r, q: q, free: make(chan struct{})}
			r.last[q] = turn
			r.mu.Unlock()
			return turn, nil
		}
		r.mu.Unlock()
		select {
		case <-before.free:
		case <-ctx.Done():
			return nil, over(ctx)
		}
	}
}

// use says that the question goes out now.
func (t *repeat) use() {
	t.used = true
	time.AfterFunc(t.all.after, t.end)
}

// giveBack ends a turn that was not used.
func (t *repeat) giveBack() {
	if !t.used {
		t.end()
	}
}

func (t *repeat) end() {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	delete(t.all.last, t.q)
	close(t.free)
}

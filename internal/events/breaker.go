package events

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Journal remembers when a breaker opened, for all replicas and across restarts.
type Journal interface {
	// Open returns the period since which the breaker is open; "" if it is
	// closed.
	Open(ctx context.Context) (since string, err error)
	// NoteOpen writes down that it opened in a period, NoteClosed that it is
	// closed again; since is what Open has returned. first is false if
	// somebody else has done so: of all callers one is the first.
	NoteOpen(ctx context.Context, period, reason string) (first bool, err error)
	NoteClosed(ctx context.Context, since, reason string) (first bool, err error)
}

// Breaker tells on risk:circuit_breaker that a breaker opens or closes: once for
// each change, on however many replicas and through restarts. It is safe for
// concurrent use.
type Breaker struct {
	name    string
	pub     *Publisher
	journal Journal
	now     func() time.Time

	mu sync.Mutex
	// unsent are changes that are noted and could not be told yet.
	unsent []CircuitBreaker
}

// NewBreaker returns the breaker name, such as [StaleData].
func NewBreaker(name string, pub *Publisher, journal Journal, now func() time.Time) *Breaker {
	return &Breaker{name: name, pub: pub, journal: journal, now: now}
}

// Set opens or closes the breaker for a reason, and does nothing if it is so
// already. period names the reason to open: one that has ended does not open the
// breaker a second time. A change is noted before it is told, and only while
// Redis answers; if Redis goes away in between, later calls tell it. A process
// that is killed in between does not.
func (b *Breaker) Set(ctx context.Context, open bool, period, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.send(ctx); err != nil {
		return err
	}
	since, err := b.journal.Open(ctx)
	if err != nil {
		return fmt.Errorf("breaker %s: %w", b.name, err)
	}
	if open == (since != "") {
		return nil
	}
	if err := b.pub.Ping(ctx); err != nil {
		return fmt.Errorf("breaker %s: %w", b.name, err)
	}
	action, note := Activated, func() (bool, error) { return b.journal.NoteOpen(ctx, period, reason) }
	if !open {
		action, note = Deactivated, func() (bool, error) { return b.journal.NoteClosed(ctx, since, reason) }
	}
	first, err := note()
	if err != nil {
		return fmt.Errorf("breaker %s: %w", b.name, err)
	}
	if !first {
		return nil
	}
	b.unsent = append(b.unsent, CircuitBreaker{Breaker: b.name, Action: action, Reason: reason, Timestamp: At(b.now())})
	return b.send(ctx)
}

// send tells what is not told yet, in its order.
func (b *Breaker) send(ctx context.Context) error {
	for len(b.unsent) > 0 {
		if err := b.pub.Publish(ctx, b.unsent[0]); err != nil {
			return err
		}
		b.unsent = b.unsent[1:]
	}
	return nil
}

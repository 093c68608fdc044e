package store

import (
	"fmt"
	"sync"
	"time"
)

// Lease says how an owner shows that it still runs: it renews what its run's row
// says every Renew, and counts as hung when it has not for Length. Zero values
// are 15 s and a third of Length. A pause of the owner that is longer than Length
// less Renew can cost it the period; a hung owner keeps it for Length at most.
type Lease struct {
	Length, Renew time.Duration
}

const defaultLease = 15 * time.Second

// WithDefaults fills in what is zero, and refuses a lease that would be over
// before it is renewed.
func (l Lease) WithDefaults() (Lease, error) {
	if l.Length == 0 {
		l.Length = defaultLease
	}
	if l.Renew == 0 {
		l.Renew = l.Length / 3
	}
	if l.Renew <= 0 || 2*l.Renew > l.Length {
		return l, fmt.Errorf("a lease of %s that is renewed every %s: want it renewed twice in its length at least", l.Length, l.Renew)
	}
	return l, nil
}

// Tenure is an owner's own view of its claim, by a clock of the process that
// nobody sets. It ends when the claim is lost, and then never begins again. It is
// safe for concurrent use.
type Tenure struct {
	length time.Duration

	mu    sync.Mutex
	lost  chan struct{}
	until *time.Timer // nil before the first renewal
	over  bool        // it is lost, or was given back
}

// NewTenure returns the tenure of a claim whose lease has not begun.
func NewTenure(length time.Duration) *Tenure {
	return &Tenure{length: length, lost: make(chan struct{})}
}

// Renew carries out renew, which renews the lease in the database. The lease
// counts from before that, so that it is over here before it is over there.
func (t *Tenure) Renew(renew func() error) error {
	next := time.AfterFunc(t.length, t.Lose)
	if err := renew(); err != nil {
		next.Stop()
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until != nil {
		t.until.Stop()
	}
	t.until = next
	if t.over {
		next.Stop()
	}
	return nil
}

// Lose ends the tenure: the claim is known to be lost.
func (t *Tenure) Lose() {
	if t.end() {
		close(t.lost)
	}
}

// Lost is closed when the claim is known to be lost.
func (t *Tenure) Lost() <-chan struct{} { return t.lost }

// Stop ends the tenure because the claim is given back, which loses nothing.
func (t *Tenure) Stop() { t.end() }

// end reports whether the tenure has lasted until now.
func (t *Tenure) end() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.over = true
	if t.until != nil {
		t.until.Stop()
	}
	return true
}

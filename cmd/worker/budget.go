package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

const (
	// ledgerPatience is how long a call waits for a database that is away.
	ledgerPatience = 30 * time.Second
	ledgerDelay    = 100 * time.Millisecond
	ledgerMaxDelay = 2 * time.Second
)

// callLimiter is what a budget asks of the shared limit.
type callLimiter interface {
	WaitFor(ctx context.Context, r limiter.Request) error
	Pause(ctx context.Context, d time.Duration) error
	Exhaust(ctx context.Context) error
}

// callLedger is what a budget asks of the store.
type callLedger interface {
	RecordCall(ctx context.Context, provider string, limit int, since time.Time) (bool, error)
	SpendDay(ctx context.Context, provider string, until time.Time) error
}

// budget is the permission for one provider call: a token of every window in
// Redis, and a row in the ledger, which alone decides over the day limit when
// Redis has lost its state.
type budget struct {
	limiter  callLimiter
	ledger   callLedger
	provider string
	perDay   int
	class    limiter.Class
	// slotLife is how long after its time a slot may still be used. Calls
	// that a slow ledger held back would else all go in one moment. It must
	// leave some of the limiter's slack to the network.
	slotLife time.Duration
	now      func() time.Time
	// stopping is closed when the run is told to stop: from then on no
	// call begins, while those that were sent may finish.
	stopping <-chan struct{}
	calls    atomic.Int64
	// waited is told how long each call that may be made has waited; it may be
	// nil.
	waited func(time.Duration)
	// allowed bounds the calls of a run, of all providers together; nil: no
	// bound.
	allowed *allowance
}

// allowance is the greatest number of calls of a run, 0 for no bound; asked
// counts those that were let through to the limits.
type allowance struct {
	most  int64
	asked atomic.Int64
}

// take reports whether one more call may be made; nil allows all.
func (a *allowance) take() bool {
	if a == nil || a.most == 0 || a.asked.Add(1) <= a.most {
		return true
	}
	a.asked.Add(-1)
	return false
}

func (a *allowance) giveBack() {
	if a != nil {
		a.asked.Add(-1)
	}
}

// enoughError says that a run has used the calls that it was given.
type enoughError struct{ most int64 }

func (e *enoughError) Error() string { return "not asked: " + e.Unwrap().Error() }
func (e *enoughError) Unwrap() error {
	return fmt.Errorf("the %d calls of --max-calls are used", e.most)
}
func (e *enoughError) Stops() bool { return true }

// Is lets it count as a wait that was called off.
func (e *enoughError) Is(target error) bool { return target == context.Canceled }

// Wait returns when one call may be made and is written down. Its errors are
// of kind Quota, Unavailable, or those of ctx.
func (b *budget) Wait(ctx context.Context) error {
	if !b.allowed.take() {
		return &enoughError{b.allowed.most}
	}
	asked := b.now()
	err := b.wait(ctx)
	switch {
	case err != nil:
		b.allowed.giveBack()
	case b.waited != nil:
		b.waited(b.now().Sub(asked))
	}
	return err
}

func (b *budget) wait(ctx context.Context) error {
	ctx, cancel := untilStopping(ctx, b.stopping)
	defer cancel()
	// With no day to spend a call may be written down before its turn, so
	// that a slow ledger wastes no slots.
	recorded := b.perDay == 0
	if recorded {
		if err := b.record(ctx); err != nil {
			return err
		}
	}
	for {
		if err := b.limiter.WaitFor(ctx, limiter.Request{Class: b.class}); err != nil {
			return b.explain(ctx, err)
		}
		slot := b.now()
		if !recorded {
			if err := b.record(ctx); err != nil {
				return err
			}
			recorded = true
		}
		if b.now().Sub(slot) <= b.slotLife {
			b.calls.Add(1)
			return nil
		}
	}
}

// untilStopping returns ctx, ended also by stopping.
func untilStopping(ctx context.Context, stopping <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// record writes the call down before it is made. Trying again after an
// unknown outcome may count one call twice, never one call too few.
func (b *budget) record(ctx context.Context) error {
	policy := retrypolicy.NewBuilder[bool]().
		WithMaxAttempts(-1).WithBackoff(ledgerDelay, ledgerMaxDelay).WithJitterFactor(0.5).
		Build()
	patient, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	var last error
	written, err := failsafe.With(policy).WithContext(patient).Get(func() (bool, error) {
		written, err := b.ledger.RecordCall(patient, b.provider, b.perDay, lastMidnight(b.now()))
		last = cmp.Or(err, last)
		return written, err
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &providers.Error{Provider: b.provider, Kind: providers.Unavailable, Err: fmt.Errorf("no call made: ledger: %w", cmp.Or(last, err))}
	case !written:
		// The ledger counts calls that Redis has forgotten: tell Redis.
		_ = b.limiter.Exhaust(ctx)
		return b.spent(nextMidnight(b.now()))
	}
	return nil
}

func (b *budget) explain(ctx context.Context, err error) error {
	if quota, ok := errors.AsType[*limiter.QuotaError](err); ok {
		return b.spent(quota.Reset)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &providers.Error{Provider: b.provider, Kind: providers.Unavailable, Err: fmt.Errorf("no call made: %w", err)}
}

func (b *budget) spent(reset time.Time) error {
	return &providers.Error{
		Provider: b.provider, Kind: providers.Quota, RetryAfter: reset.Sub(b.now()),
		Err: fmt.Errorf("not asked: the calls of the day (%d) are spent; the next are free at %s", b.perDay, reset.UTC().Format(time.RFC3339)),
	}
}

// Pause holds back every replica for d.
func (b *budget) Pause(ctx context.Context, d time.Duration) error { return b.limiter.Pause(ctx, d) }

// Exhaust notes that the provider itself says its day is spent, where it
// outlives Redis. A plan without a day limit has no day to spend.
func (b *budget) Exhaust(ctx context.Context) error {
	if b.perDay == 0 {
		return nil
	}
	return errors.Join(
		b.ledger.SpendDay(ctx, b.provider, nextMidnight(b.now())),
		b.limiter.Exhaust(ctx),
	)
}

// lastMidnight is the newest midnight of New York that is not after now.
func lastMidnight(now time.Time) time.Time {
	return market.DateOf(now.In(market.NewYork())).In(market.NewYork(), 0, 0)
}

func nextMidnight(now time.Time) time.Time {
	return (market.DateOf(now.In(market.NewYork())) + 1).In(market.NewYork(), 0, 0)
}

package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/providers"
)

// fakeLimit grants at once and counts.
type fakeLimit struct {
	waits, exhausts int
	err             error
	block           bool
}

func (f *fakeLimit) WaitFor(ctx context.Context, _ limiter.Request) error {
	f.waits++
	if f.block {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}
func (f *fakeLimit) Pause(context.Context, time.Duration) error { return nil }
func (f *fakeLimit) Exhaust(context.Context) error              { f.exhausts++; return nil }

// fakeLedger takes its time, refuses or fails.
type fakeLedger struct {
	takes          []time.Duration // of the first calls
	refuse         bool
	fails          int
	records, spent int
}

func (f *fakeLedger) RecordCall(context.Context, string, int, time.Time) (bool, error) {
	f.records++
	if len(f.takes) >= f.records {
		time.Sleep(f.takes[f.records-1])
	}
	if f.fails >= f.records {
		return false, errors.New("connection refused")
	}
	return !f.refuse, nil
}

func (f *fakeLedger) SpendDay(context.Context, string, time.Time) error { f.spent++; return nil }

func newBudget(l *fakeLimit, d *fakeLedger) *budget {
	return &budget{limiter: l, ledger: d, provider: "test", perDay: 25, slotLife: time.Second, now: time.Now}
}

// A slot that a slow ledger let pass must not be used: those of all workers
// would go in one moment.
func TestASlotIsNotUsedLate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		takes time.Duration
		waits int
	}{{100 * time.Millisecond, 1}, {9 * time.Second, 2}} {
		synctest.Test(t, func(t *testing.T) {
			limit, ledger := &fakeLimit{}, &fakeLedger{takes: []time.Duration{test.takes}}
			b := newBudget(limit, ledger)
			if err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if limit.waits != test.waits || ledger.records != 1 || b.calls.Load() != 1 {
				t.Errorf("ledger took %s: %d slots, %d rows, %d calls", test.takes, limit.waits, ledger.records, b.calls.Load())
			}
		})
	}
}

// Without a day to spend the call is written down first, so that a slow ledger
// wastes no slot.
func TestASlowLedgerWastesNoSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit, ledger := &fakeLimit{}, &fakeLedger{takes: []time.Duration{9 * time.Second}}
		b := newBudget(limit, ledger)
		b.perDay = 0
		if err := b.Wait(t.Context()); err != nil || limit.waits != 1 || ledger.records != 1 || b.calls.Load() != 1 {
			t.Errorf("%d slots, %d rows, %d calls, %v", limit.waits, ledger.records, b.calls.Load(), err)
		}
	})
}

func TestBudgetRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		limit  fakeLimit
		ledger fakeLedger
		want   providers.Kind
	}{
		{"the limit says the day is spent", fakeLimit{err: &limiter.QuotaError{Reset: time.Now()}}, fakeLedger{}, providers.Quota},
		{"the ledger says the day is spent", fakeLimit{}, fakeLedger{refuse: true}, providers.Quota},
		{"the limit is unknown", fakeLimit{err: limiter.ErrUnavailable}, fakeLedger{}, providers.Unavailable},
		{"the ledger is away", fakeLimit{}, fakeLedger{fails: 1 << 30}, providers.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(&test.limit, &test.ledger)
				err := b.Wait(t.Context())
				known, ok := errors.AsType[*providers.Error](err)
				if !ok || known.Kind != test.want || b.calls.Load() != 0 {
					t.Errorf("Wait = %v, %d calls", err, b.calls.Load())
				}
			})
		})
	}
}

func TestALedgerThatComesBackIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit, ledger := &fakeLimit{}, &fakeLedger{fails: 5}
		if err := newBudget(limit, ledger).Wait(t.Context()); err != nil || ledger.records != 6 {
			t.Errorf("Wait = %v after %d tries", err, ledger.records)
		}
	})
}

func TestNoCallBeginsWhenTheRunIsStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		b := newBudget(&fakeLimit{block: true}, &fakeLedger{})
		b.stopping = stopping
		time.AfterFunc(time.Minute, func() { close(stopping) })
		if err := b.Wait(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v", err)
		}
	})
}

func TestASpentDayIsWrittenDownWhereItOutlivesRedis(t *testing.T) {
	t.Parallel()
	limit, ledger := &fakeLimit{}, &fakeLedger{}
	b := newBudget(limit, ledger)
	if err := b.Exhaust(t.Context()); err != nil || ledger.spent != 1 || limit.exhausts != 1 {
		t.Errorf("Exhaust = %v: ledger %d, limit %d", err, ledger.spent, limit.exhausts)
	}
	b.perDay = 0
	if err := b.Exhaust(t.Context()); err != nil || ledger.spent != 1 || limit.exhausts != 1 {
		t.Errorf("without a day limit: %v: ledger %d, limit %d", err, ledger.spent, limit.exhausts)
	}
}

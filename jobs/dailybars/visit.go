package dailybars

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// visitor handles the symbols of one run.
type visitor struct {
	Job
	session market.Date
	window  market.Range
	// behind is the first failure to repeat a commit in Redis.
	behind atomic.Pointer[string]
}

// storeError is a failure of the store: with it gone, no further call could
// be turned into a row.
type storeError struct{ err error }

func (e *storeError) Error() string   { return "store: " + e.err.Error() }
func (e *storeError) Unwrap() error   { return e.err }
func (e *storeError) Stops() bool     { return true }
func (e *storeError) Outcome() string { return string(sweep.Interrupted) }

func (v *visitor) visit(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	result, err := v.load(ctx, symbol)
	if errors.As(err, new(*storeError)) || result.Outcome.Done() {
		return result, err
	}
	failed := result
	if err != nil {
		failed = sweep.Classify(ctx, err)
	}
	if err := v.attempt(ctx, symbol, failed); err != nil {
		return sweep.Result{}, &storeError{err}
	}
	return result, err
}

// attempt keeps why a symbol is not done. An interrupted symbol, and one that
// met a spent quota, was not asked for: recording it would put it behind
// others in the next run.
func (v *visitor) attempt(ctx context.Context, symbol market.Symbol, r sweep.Result) error {
	if r.Outcome == sweep.Interrupted || r.Outcome == sweep.Quota {
		return nil
	}
	if v.Sweep.Redact != nil {
		r.Message = v.Sweep.Redact(r.Message)
	}
	return v.Store.SaveAttempt(ctx, symbol, string(r.Outcome), r.Message)
}

func (v *visitor) load(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	series, err := v.Source.DailyBars(ctx, symbol, v.window)
	if err != nil {
		return sweep.Result{}, err
	}
	cleaned, err := market.Clean(series.Bars, v.window, v.Through, v.Calendar)
	if err != nil {
		return sweep.Result{}, fmt.Errorf("%s: %w", symbol, err)
	}
	series.Bars = cleaned.Bars
	if n := len(series.Bars); n == 0 || series.Bars[n-1].Date != v.session {
		return v.keep(ctx, series)
	}
	return v.save(ctx, series)
}

// keep stores what a good reply holds besides the session's own bar, without
// making the symbol done.
func (v *visitor) keep(ctx context.Context, series market.Series) (sweep.Result, error) {
	result := v.missing(series.Bars)
	if len(series.Bars) == 0 {
		return result, nil
	}
	changes, err := v.commit(ctx, series, 0)
	result.Rows = changes.Written()
	return result, err
}

// missing says why a good reply does not make the symbol done: its newest bar
// is not the session's.
func (v *visitor) missing(bars []market.Bar) sweep.Result {
	newest := "none in the window " + v.window.String()
	if len(bars) > 0 {
		newest = bars[len(bars)-1].Date.String()
	}
	message := fmt.Sprintf("no bar of %s; the newest is %s", v.session, newest)
	if v.session == v.Through {
		return sweep.Result{Outcome: sweep.NotReady, Message: message}
	}
	return sweep.Result{Outcome: sweep.NoData, Message: message}
}

// commit stores bars that were paid for, also when the run is being stopped:
// then it has saveTime left.
func (v *visitor) commit(ctx context.Context, series market.Series, done market.Date) (market.Changes, error) {
	saving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(saveTime, cancel) })
	defer stop()
	changes, err := v.Store.SaveBars(saving, series, done)
	if err != nil {
		return market.Changes{}, &storeError{err}
	}
	return changes, nil
}

// save commits the series with the session's bar, and only then repeats in
// Redis that the symbol is done.
func (v *visitor) save(ctx context.Context, series market.Series) (sweep.Result, error) {
	changes, err := v.commit(ctx, series, v.session)
	if err != nil {
		return sweep.Result{}, err
	}
	if err := v.Done.Add(ctx, series.Symbol); err != nil {
		// The ledger has it: the next reader of the set puts it right.
		text := "the done-set in Redis is behind the ledger until the next run: " + err.Error()
		v.behind.CompareAndSwap(nil, &text)
	}
	outcome := sweep.Unchanged
	if changes.Written() > 0 {
		outcome = sweep.Stored
	}
	return sweep.Result{Outcome: outcome, Rows: changes.Written()}, nil
}

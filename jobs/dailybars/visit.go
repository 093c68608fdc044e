package dailybars

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"

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

func (v *visitor) visit(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	series, err := v.Source.DailyBars(ctx, symbol, v.window)
	if err != nil {
		return sweep.Result{}, err
	}
	cleaned, err := market.Clean(series.Bars, v.window, v.Through, v.Calendar)
	if err != nil {
		return sweep.Result{}, fmt.Errorf("%s: %w", symbol, err)
	}
	series.Bars = cleaned.Bars
	store := v.save
	if n := len(series.Bars); n == 0 || series.Bars[n-1].Date != v.session {
		store = v.keep
	}
	result, err := store(ctx, series)
	result.Dropped = dropped(cleaned)
	return result, err
}

// dropped names what a good answer held besides bars for the window.
func dropped(c market.Cleaned) map[string]int {
	counts := map[string]int{
		"out_of_window": c.OutOfWindow, "unfinished": c.Unfinished,
		"no_session": c.NoSession, "repeated": c.Repeats,
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	return counts
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

func (v *visitor) commit(ctx context.Context, series market.Series, done market.Date) (market.Changes, error) {
	changes, err := v.Store.SaveBars(ctx, series, done)
	if err != nil {
		return market.Changes{}, &sweep.StoreError{Err: err}
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

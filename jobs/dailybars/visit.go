package dailybars

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	result.Source = series.Source
	result.Drop(cleaned.Dropped())
	return result, err
}

// keep stores what a good reply holds besides the session's own bar, without
// making the symbol done.
func (v *visitor) keep(ctx context.Context, series market.Series) (sweep.Result, error) {
	result, err := v.missing(series.Bars)
	if err != nil || len(series.Bars) == 0 {
		return result, err
	}
	changes, err := v.commit(ctx, series, 0)
	result.Rows = changes.Written()
	result.Drop(otherBasis(changes))
	return result, err
}

// missing says why a good reply does not make the symbol done: its newest bar
// is not the session's.
func (v *visitor) missing(bars []market.Bar) (sweep.Result, error) {
	late, err := v.Calendar.Back(v.Through, market.LateSessions)
	if err != nil {
		return sweep.Result{}, err
	}
	newest, held := "none in the window "+v.window.String(), market.Date(0)
	if len(bars) > 0 {
		held = bars[len(bars)-1].Date
		newest = held.String()
	}
	message := fmt.Sprintf("no bar of %s; the newest is %s", v.session, newest)
	if v.session == v.Through && held >= late {
		return sweep.Result{Outcome: sweep.NotReady, Message: message}, nil
	}
	return sweep.Result{Outcome: sweep.NoData, Message: message}, nil
}

func (v *visitor) commit(ctx context.Context, series market.Series, done market.Date) (market.Changes, error) {
	changes, err := v.Store.SaveBars(ctx, series, done)
	if v.Force && errors.As(err, new(*market.BasisError)) {
		series.NewBase = true
		changes, err = v.Store.SaveBars(ctx, series, done)
	}
	var rebased *market.RebasedError
	if errors.As(err, &rebased) {
		if series, err = v.whole(ctx, series, rebased); err != nil {
			return market.Changes{}, err
		}
		changes, err = v.Store.SaveBars(ctx, series, done)
	}
	if err != nil {
		return market.Changes{}, sweep.Unsaved(err)
	}
	return changes, nil
}

// whole returns what takes the place of a series that is on another base than
// the other bars that are stored: the history since the oldest of them, at the
// price of a call. With Force it may leave some of them as they are; with a key
// that does not reach back as far it is then the series itself.
func (v *visitor) whole(ctx context.Context, series market.Series, rebased *market.RebasedError) (market.Series, error) {
	reach, err := v.Source.Reach()
	if err != nil {
		return market.Series{}, err
	}
	if reach > rebased.Stored.From {
		series.NewBase = true
		if v.Force {
			return series, nil
		}
		return market.Series{}, fmt.Errorf("%w; this key reaches back to %s only: take one that holds the whole history, "+
			"or --force, which stores the answer beside the older bars", rebased, reach)
	}
	newest := series.Bars[len(series.Bars)-1].Date
	window := market.Range{
		From: max(min(rebased.Stored.From, v.window.From), v.Calendar.Known().From),
		To:   max(v.window.To, min(rebased.Stored.To, v.Through)),
	}
	all, _, err := v.Source.History(ctx, series.Symbol, window)
	if err != nil {
		return market.Series{}, err
	}
	cleaned, err := market.Clean(all.Bars, window, v.Through, v.Calendar)
	if err != nil {
		return market.Series{}, fmt.Errorf("%s: %w", series.Symbol, err)
	}
	all.Bars = cleaned.Bars
	if !slices.ContainsFunc(all.Bars, func(b market.Bar) bool { return b.Date == newest }) {
		return market.Series{}, &market.PayloadError{Reason: fmt.Sprintf("the whole history of %s lacks the bar of %s, which the answer before it held", series.Symbol, newest)}
	}
	held := market.Range{From: all.Bars[0].Date, To: all.Bars[len(all.Bars)-1].Date}
	holds, err := rebased.HeldBy(held, v.Through, v.Calendar)
	if err != nil {
		return market.Series{}, err
	}
	if !holds && !v.Force {
		return market.Series{}, fmt.Errorf("%w; it was read again, and holds %s only: delete the other bars, or --force, which stores it beside them", rebased, held)
	}
	all.NewBase = true
	return all, nil
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
	result := sweep.Result{Outcome: outcome, Rows: changes.Written()}
	result.Drop(otherBasis(changes))
	return result, nil
}

// otherBasis counts the bars that a save has left out.
func otherBasis(changes market.Changes) map[string]int {
	if changes.OtherBasis == 0 {
		return nil
	}
	return map[string]int{"other_basis": changes.OtherBasis}
}

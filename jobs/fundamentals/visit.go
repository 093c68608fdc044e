package fundamentals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// mostWarnings bounds what a report says about single symbols that are done.
const mostWarnings = 20

// visitor handles the symbols of one run.
type visitor struct {
	Job
	fresh *sync.Map

	mu       sync.Mutex
	behind   bool
	warnings []string
}

func (v *visitor) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if v.Sweep.Redact != nil {
		text = v.Sweep.Redact(text)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.warnings) < mostWarnings {
		v.warnings = append(v.warnings, text)
	}
}

// facts stores what the issuer has reported.
func (v *visitor) facts(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	facts, err := v.Filer.Facts(ctx, symbol)
	if err != nil {
		return sweep.Result{}, err
	}
	changes, err := v.FactStore.SaveFacts(ctx, symbol, facts, v.Today())
	if err != nil {
		return sweep.Result{}, sweep.Unsaved(err)
	}
	if changes.Written() == 0 {
		return sweep.Result{Outcome: sweep.Unchanged}, nil
	}
	v.fresh.Store(symbol, true)
	return sweep.Result{Outcome: sweep.Stored, Rows: changes.Written()}, nil
}

// overview asks for the provider's figures and adds those that follow from
// stored facts. Without an overview the figures from facts are stored, but the
// symbol is not done: the provider may have its figures tomorrow.
func (v *visitor) overview(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	row, err := v.Overviews.Overview(ctx, symbol)
	if err != nil && sweep.Classify(ctx, err).Outcome != sweep.NoData {
		return sweep.Result{}, err
	}
	today := v.Today()
	computed, storeErr := v.ratios(ctx, symbol, today)
	if storeErr != nil {
		return sweep.Result{}, storeErr
	}
	row = v.clean(computed.Merge(row))
	row.Symbol, row.Date = symbol, today
	if err != nil && row.Empty() {
		return sweep.Result{}, err
	}
	if err != nil {
		result, saveErr := v.save(ctx, row, false)
		result.Outcome, result.Message = sweep.NoData, err.Error()+"; what follows from its reports is stored"
		return result, saveErr
	}
	row, stop := v.more(ctx, row)
	if row.Empty() {
		return sweep.Result{Outcome: sweep.NoData, Message: "no figure is known, from any source"}, stop
	}
	result, saveErr := v.save(ctx, row, stop == nil)
	if saveErr == nil && stop != nil {
		return sweep.Result{Rows: result.Rows}, stop
	}
	return result, saveErr
}

// ratios computes what follows from the stored facts of a symbol.
func (v *visitor) ratios(ctx context.Context, symbol market.Symbol, day market.Date) (market.Fundamentals, error) {
	facts, err := v.Library.Facts(ctx, symbol)
	if err != nil {
		return market.Fundamentals{}, &sweep.StoreError{Err: err}
	}
	return Ratios(facts, day), nil
}

// clean takes secrets out of the provider's own texts, which can hold the key.
func (v *visitor) clean(row market.Fundamentals) market.Fundamentals {
	if v.Sweep.Redact == nil {
		return row
	}
	details := make(map[string]string, len(row.Details))
	for name, text := range row.Details {
		details[v.Sweep.Redact(name)] = v.Sweep.Redact(text)
	}
	row.Details = details
	row.Sector.Text, row.Industry.Text = v.Sweep.Redact(row.Sector.Text), v.Sweep.Redact(row.Industry.Text)
	return row
}

// more asks for what is null. An error that ends the sweep, or the run, is
// returned: then the symbol is not done. Another one costs its figures.
func (v *visitor) more(ctx context.Context, row market.Fundamentals) (market.Fundamentals, error) {
	for _, m := range v.More {
		missing := slices.DeleteFunc(slices.Clone(m.Fills), func(f market.Field) bool { return row.Figures[f].Known })
		if len(missing) == 0 {
			continue
		}
		figures, err := m.Overview(ctx, row.Symbol)
		if err != nil && goesOn(ctx, err) {
			v.warn("%s is without %s: %v", row.Symbol, names(missing), err)
			continue
		}
		if err != nil {
			return row, err
		}
		for _, f := range missing {
			if figure := figures.Figures[f]; figure.Known && isOf(figure.Origin, row.Date) {
				row.Figures[f] = figure
			}
		}
	}
	return row, nil
}

// goesOn reports whether the error is an answer about one symbol.
func goesOn(ctx context.Context, err error) bool {
	switch sweep.Classify(ctx, err).Outcome {
	case sweep.NoData, sweep.UnknownSymbol, sweep.BadPayload:
		return true
	}
	return false
}

// isOf refuses a figure that could not be known on the day, or is of a period
// that says nothing about it any more.
func isOf(o market.Origin, day market.Date) bool {
	return o.Filed <= day && o.Period <= day && (o.Period == 0 || day-o.Period <= stale)
}

func names(fields []market.Field) string {
	texts := make([]string, len(fields))
	for i, f := range fields {
		texts[i] = f.String()
	}
	return strings.Join(texts, ", ")
}

// complete brings facts that came after its overview into the row of each
// symbol that is done in this week, and returns the number of rows. It costs no
// call. A failure is a warning: the next run tries again.
func (v *visitor) complete(ctx context.Context, symbols []market.Symbol) (rows int) {
	for _, symbol := range symbols {
		if ctx.Err() != nil {
			return rows
		}
		n, err := v.completeRow(ctx, symbol)
		if rows += n; err != nil {
			v.warn("the row of %s is not completed with its facts: %v", symbol, err)
			if errors.As(err, new(*sweep.StoreError)) {
				return rows
			}
		}
	}
	return rows
}

func (v *visitor) completeRow(ctx context.Context, symbol market.Symbol) (int, error) {
	today := v.Today()
	stored, ok, err := v.Library.Fundamentals(ctx, symbol, today)
	if err != nil {
		return 0, &sweep.StoreError{Err: err}
	}
	_, fresh := v.fresh.Load(symbol)
	// Prices of another week are no figures of this one.
	if !ok || market.WeekOf(stored.Date) != market.WeekOf(today) || !fresh && hasComputed(stored) {
		return 0, nil
	}
	computed, err := v.ratios(ctx, symbol, today)
	if err != nil {
		return 0, err
	}
	if stored.Date != today {
		stored = learntOn(stored)
	}
	computed.Symbol, computed.Date = symbol, today
	row := stored.Merge(computed)
	if row.Figures == stored.Figures {
		return 0, nil
	}
	result, err := v.save(ctx, row, true)
	return result.Rows, err
}

func hasComputed(row market.Fundamentals) bool {
	return slices.ContainsFunc(row.Figures[:], func(f market.Figure) bool { return f.Known && f.Computed && f.Source == Filings })
}

// learntOn notes in each figure when it was learnt, for a row of a later day.
func learntOn(row market.Fundamentals) market.Fundamentals {
	note := func(o *market.Origin) {
		if o.Learnt == 0 && o.Source != "" {
			o.Learnt = row.Date
		}
	}
	for i := range row.Figures {
		if row.Figures[i].Known {
			note(&row.Figures[i].Origin)
		}
	}
	note(&row.Sector.Origin)
	note(&row.Industry.Origin)
	return row
}

// save commits the row, and only then repeats in Redis that the symbol is done.
func (v *visitor) save(ctx context.Context, row market.Fundamentals, done bool) (sweep.Result, error) {
	changes, err := v.Store.SaveFundamentals(ctx, row, done)
	if err != nil {
		return sweep.Result{}, sweep.Unsaved(err)
	}
	stored, _, err := v.Library.Fundamentals(ctx, row.Symbol, row.Date)
	if err != nil {
		return sweep.Result{}, &sweep.StoreError{Err: err}
	}
	err = v.Cache.Put(ctx, stored)
	if done {
		err = errors.Join(v.Done.Add(ctx, row.Symbol), err)
	}
	if err != nil {
		v.late(err)
	}
	outcome := sweep.Unchanged
	if changes.Written() > 0 {
		outcome = sweep.Stored
	}
	return sweep.Result{Outcome: outcome, Rows: changes.Written()}, nil
}

// late says once that Redis lags behind: the ledger has what it lacks, the next
// run puts the set right, and a cache that lacks a row is read past.
func (v *visitor) late(err error) {
	v.mu.Lock()
	first := !v.behind
	v.behind = true
	v.mu.Unlock()
	if first {
		v.warn("Redis is behind the ledger until the next run: %v", err)
	}
}

package fundamentals

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// visitor handles the symbols of one part of a run.
type visitor struct {
	Job
	// waiting are the symbols that the second part will ask for.
	waiting map[market.Symbol]bool
	// behind is the first failure to repeat a commit in Redis.
	behind atomic.Pointer[string]
}

func (v *visitor) report(ctx context.Context, name string, plan Plan, skipped int, tally sweep.Tally) sweep.Report {
	report := sweep.NewReport(name, plan.Week.String(), skipped, tally, ctx.Err() != nil)
	if behind := v.behind.Load(); behind != nil {
		report.Warnings = append(report.Warnings, *behind)
	}
	return report
}

// facts stores what the issuer has reported.
func (v *visitor) facts(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	facts, err := v.Filer.Facts(ctx, symbol)
	if err != nil {
		return sweep.Result{}, err
	}
	changes, err := v.FactStore.SaveFacts(ctx, symbol, facts, v.Today)
	if err != nil {
		return sweep.Result{}, &sweep.StoreError{Err: err}
	}
	if changes.Written() == 0 {
		return sweep.Result{Outcome: sweep.Unchanged}, nil
	}
	if err := v.complete(ctx, symbol); err != nil {
		return sweep.Result{}, err
	}
	return sweep.Result{Outcome: sweep.Stored, Rows: changes.Written()}, nil
}

// complete brings new facts into the row of a symbol that has had its overview
// of the week. Another one gets them together with it.
func (v *visitor) complete(ctx context.Context, symbol market.Symbol) error {
	if v.waiting[symbol] {
		return nil
	}
	stored, ok, err := v.Library.Fundamentals(ctx, symbol, v.Today)
	if err != nil {
		return &sweep.StoreError{Err: err}
	}
	if !ok {
		return nil
	}
	facts, err := v.Library.Facts(ctx, symbol)
	if err != nil {
		return &sweep.StoreError{Err: err}
	}
	computed := Ratios(facts, v.Today)
	computed.Symbol, computed.Date = symbol, v.Today
	row := stored.Merge(computed)
	if row.Figures == stored.Figures {
		return nil
	}
	_, err = v.save(ctx, row)
	return err
}

// overview asks for the provider's figures and adds those that follow from
// stored facts.
func (v *visitor) overview(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	row, err := v.Overviews.Overview(ctx, symbol)
	if err != nil && sweep.Classify(ctx, err).Outcome != sweep.NoData {
		return sweep.Result{}, err
	}
	var lacks []string
	if err != nil {
		lacks = append(lacks, err.Error())
	}
	facts, storeErr := v.Library.Facts(ctx, symbol)
	if storeErr != nil {
		return sweep.Result{}, &sweep.StoreError{Err: storeErr}
	}
	row = Ratios(facts, v.Today).Merge(row)
	row.Symbol, row.Date = symbol, v.Today
	for _, more := range v.More {
		figures, err := more.Overview(ctx, symbol)
		if err != nil {
			lacks = append(lacks, err.Error())
		}
		figures.Symbol, figures.Date = symbol, v.Today
		row = row.Merge(figures)
	}
	if row.Empty() {
		return sweep.Result{Outcome: sweep.NoData, Message: "no figure is known, from any source"}, err
	}
	result, err := v.save(ctx, row)
	result.Message = strings.Join(lacks, "; ")
	return result, err
}

// save commits the row, and only then repeats in Redis that the symbol is done.
func (v *visitor) save(ctx context.Context, row market.Fundamentals) (sweep.Result, error) {
	changes, err := v.Store.SaveFundamentals(ctx, row)
	if err != nil {
		return sweep.Result{}, &sweep.StoreError{Err: err}
	}
	stored, _, err := v.Library.Fundamentals(ctx, row.Symbol, row.Date)
	if err != nil {
		return sweep.Result{}, &sweep.StoreError{Err: err}
	}
	// The ledger has it: the next run puts the set right, and a cache that
	// lacks a row is read past.
	if err := errors.Join(v.Done.Add(ctx, row.Symbol), v.Cache.Put(ctx, stored)); err != nil {
		text := fmt.Sprintf("Redis is behind the ledger until the next run: %v", err)
		v.behind.CompareAndSwap(nil, &text)
	}
	outcome := sweep.Unchanged
	if changes.Written() > 0 {
		outcome = sweep.Stored
	}
	return sweep.Result{Outcome: outcome, Rows: changes.Written()}, nil
}

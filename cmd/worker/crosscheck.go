package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// alarmShare is the share of the checked symbols that may disagree without an
// alarm.
const alarmShare = 0.1

// crossCheck asks second sources for bars that a run has stored: a share of its
// calls. What they do not agree on is in the report, and above a tenth of the
// symbols an alarm.
func (a *app) crossCheck(ctx context.Context, s *services, sources *barSources, session market.Date, r *sweep.Report) {
	made := 0
	for _, n := range sources.calls() {
		made += n
	}
	n := int(math.Ceil(float64(made*a.cfg.CrossCheck) / 100))
	if n == 0 || len(sources.all) < 2 || ctx.Err() != nil {
		return
	}
	check := &sweep.CrossCheck{Disagreements: []sweep.Disagreement{}}
	for _, symbol := range sample(r.Sources, session, n) {
		d, ok, err := a.compare(ctx, s, sources, session, symbol)
		if err != nil {
			check.Failed++
			a.log.Debug("cross-check", zap.String("symbol", string(symbol)), zap.String("error", a.redact(err.Error())))
		}
		if !ok {
			continue
		}
		check.Compared++
		if len(d.Fields) > 0 {
			check.Disagreements = append(check.Disagreements, d)
		}
	}
	r.CrossCheck = check
}

// sample picks n of the symbols of a run, each session others.
func sample(sources map[string][]market.Symbol, session market.Date, n int) []market.Symbol {
	rank := func(symbol market.Symbol) uint64 {
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%s %s", session, symbol)
		return h.Sum64()
	}
	var all []market.Symbol
	for _, symbols := range sources {
		all = append(all, symbols...)
	}
	slices.SortFunc(all, func(x, y market.Symbol) int { return cmp.Compare(rank(x), rank(y)) })
	return all[:min(n, len(all))]
}

// compare asks another source for one bar. ok is false if there is nothing to
// compare.
func (a *app) compare(ctx context.Context, s *services, sources *barSources, session market.Date, symbol market.Symbol) (d sweep.Disagreement, ok bool, err error) {
	stored, err := s.db.Bars(ctx, symbol, market.Range{From: session, To: session})
	if err != nil || len(stored.Bars) == 0 {
		return d, false, err
	}
	other, ok, err := sources.Other(ctx, symbol, session, stored.Source)
	if !ok {
		return d, false, err
	}
	newest, err := market.NYSE().LastClosed(a.now(), settleTime)
	if err != nil || session != newest && market.TraitsOf(stored.Source).Basis != market.TraitsOf(other.Source).Basis {
		return d, false, err // a split since then would be no disagreement
	}
	cleaned, err := market.Clean(other.Bars, market.Range{From: session, To: session}, session, market.NYSE())
	if err != nil || len(cleaned.Bars) == 0 {
		return d, false, err
	}
	both := market.TraitsOf(stored.Source).Consolidated && market.TraitsOf(other.Source).Consolidated
	return sweep.Disagreement{
		Symbol: symbol, Stored: stored.Source, Other: other.Source,
		Fields: market.Differences(stored.Bars[0], cleaned.Bars[0], both),
	}, true, nil
}

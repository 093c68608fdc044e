package backfill

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
)

// RepairName is the name of a repair in reports.
const RepairName = "repair"

// Gaps are the sessions of one symbol that have no bar.
type Gaps struct {
	Symbol market.Symbol
	// Known is false for a symbol of which nothing is stored and nothing was
	// answered: all of its sessions are missing, and Gaps is empty.
	Known bool
	Gaps  []market.Gap

	coverage market.BarCoverage
}

// Gaps finds the missing sessions of symbols through the newest that is final:
// since a date, or, if that is zero, since the first day of each symbol about
// which anything is known. It compares with the stored rows, so that rows which
// were deleted by hand are seen.
func (j Job) Gaps(ctx context.Context, since, reach market.Date, symbols []market.Symbol) ([]Gaps, error) {
	if len(symbols) == 0 {
		return nil, nil
	}
	known := j.Calendar.Known()
	if _, _, err := j.Library.ReconcileBars(ctx, market.Range{From: max(since, known.From), To: j.Through}, symbols...); err != nil {
		return nil, fmt.Errorf("compare the coverage with the rows: %w", err)
	}
	coverage, err := j.Library.BarCoverage(ctx, 0, symbols...)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	all := make([]Gaps, 0, len(symbols))
	sessions := map[market.Date]market.Days{}
	for _, s := range symbols {
		c := coverage[s]
		first := cmp.Or(since, c.Known())
		g := Gaps{Symbol: s, Known: !c.Known().IsZero(), coverage: c}
		if g.Known && first <= j.Through {
			from := max(first, known.From)
			if _, ok := sessions[from]; !ok {
				if sessions[from], err = j.Calendar.SessionDays(market.Range{From: from, To: j.Through}); err != nil {
					return nil, err
				}
			}
			g.Gaps = c.Gaps(before(sessions[from], reach))
			if reach > 0 {
				g.Gaps = append(g.Gaps, c.Gaps(sessions[from].Minus(before(sessions[from], reach)))...)
			}
		}
		all = append(all, g)
	}
	return all, nil
}

// before returns the sessions before reach, or all of them if that is zero.
func before(sessions market.Days, reach market.Date) market.Days {
	if reach == 0 || sessions.Len() == 0 {
		return sessions
	}
	return sessions.And(market.DaysIn(market.Range{From: sessions.First(), To: reach - 1}))
}

// PlanRepair plans the calls that bring missing sessions back: those that were
// lost, or never answered, but not those that a source has said it lacks. The
// symbols with the newest of them come first, and of those the ones with the
// most; those that failed when they were asked for last come behind.
func (j Job) PlanRepair(ctx context.Context, since market.Date, symbols []market.Symbol) (plan Plan, err error) {
	plan = Plan{repair: true, Window: market.Range{From: since, To: j.Through}}
	if plan.Reach, err = j.Source.Reach(); err != nil {
		return Plan{}, fmt.Errorf("find how far the source reaches: %w", err)
	}
	gaps, err := j.Gaps(ctx, since, plan.Reach, symbols)
	if err != nil {
		return Plan{}, err
	}
	failed, err := j.Library.Coverage(ctx, Name)
	if err != nil {
		return Plan{}, fmt.Errorf("read which symbols failed: %w", err)
	}
	newest := map[market.Symbol]market.Date{}
	for _, g := range gaps {
		var open market.Days
		for _, gap := range g.Gaps {
			if gap.State == market.SessionLost || gap.State == market.SessionUnasked {
				open.AddRange(gap.Range)
			}
		}
		if open.Len() == 0 {
			plan.Skipped++
			continue
		}
		sessions, err := j.Calendar.SessionDays(open.Hull())
		if err != nil {
			return Plan{}, err
		}
		t := j.task(g.Symbol, open.And(sessions), plan.Reach, g.coverage)
		newest[g.Symbol] = open.Last()
		if plan.Window.From.IsZero() || open.First() < plan.Window.From {
			plan.Window.From = open.First()
		}
		plan.Todo = append(plan.Todo, t)
	}
	if plan.Window.From.IsZero() {
		plan.Window.From = j.Through
	}
	slices.SortStableFunc(plan.Todo, func(a, b Task) int {
		return cmp.Or(
			cmp.Compare(rank(a, failed), rank(b, failed)),
			cmp.Compare(newest[b.Symbol], newest[a.Symbol]),
			cmp.Compare(b.Sessions, a.Sessions))
	})
	return plan, nil
}

// First bounds the calls of the plan, without those for symbols that come by
// other calls: the symbols that come after those that fit are left for another
// run.
func (p *Plan) First(calls int, others map[market.Symbol]bool) {
	for i := range p.Todo {
		t := &p.Todo[i]
		if others[t.Symbol] {
			continue
		}
		calls -= len(t.Ask)
		t.Left = calls < 0 && len(t.Ask) > 0
	}
}

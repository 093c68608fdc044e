package altdata

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// quarter is a quarter whose one index is read in place of those of its days.
type quarter struct {
	year, number int
	days         []market.Date
}

// quarters are those of a run, by their unit, such as 2026-Q1.
type quarters map[market.Symbol]*quarter

// quarters finds the quarters that are over, of which so many days are missing
// that one index costs less.
func (v *visitor) quarters(todo []market.Symbol) quarters {
	all := quarters{}
	for _, unit := range todo {
		day, err := market.ParseDate(string(unit))
		if err != nil {
			continue // of a unit that is no day, the visit says so
		}
		year, month, _ := day.Time().Date()
		number := (int(month) + 2) / 3
		name := market.Symbol(fmt.Sprintf("%d-Q%d", year, number))
		if all[name] == nil {
			all[name] = &quarter{year: year, number: number}
		}
		all[name].days = append(all[name].days, day)
	}
	for name, q := range all {
		if last := market.NewDate(q.year, time.Month(3*q.number+1), 0); len(q.days) < quarterDays ||
			v.Now.Sub(market.FilingsComplete(last)) < closedAfter {
			delete(all, name)
		}
	}
	return all
}

func (q quarters) hold(unit market.Symbol) bool {
	day, err := market.ParseDate(string(unit))
	if err != nil {
		return false
	}
	for _, one := range q {
		if slices.Contains(one.days, day) {
			return true
		}
	}
	return false
}

func (q quarters) units() []market.Symbol {
	var units []market.Symbol
	for name := range q {
		units = append(units, name)
	}
	slices.Sort(units)
	return units
}

// quarter reads the index of a quarter and stores each of its missing days.
func (v *visitor) quarter(ctx context.Context, kind string, q *quarter) (sweep.Result, error) {
	listed, notes, err := v.Filings.Quarter(ctx, q.year, q.number)
	v.note(fmt.Sprintf("index of %d-Q%d", q.year, q.number), notes)
	if err != nil {
		return sweep.Result{}, err
	}
	busy := map[market.Date]bool{}
	for _, f := range listed {
		busy[f.Filed] = true
	}
	byDay := map[market.Date][]market.ListedFiling{}
	for _, f := range v.wanted(listed) {
		byDay[f.Filed] = append(byDay[f.Filed], f)
	}
	total := sweep.Result{Outcome: sweep.Unchanged}
	var silent []market.Date
	for _, day := range q.days {
		if !busy[day] {
			silent = append(silent, day)
			continue
		}
		result, err := stored(v.Store.SaveIndexDay(ctx, kind, day, byDay[day]))
		if err != nil {
			return result, err
		}
		total.Rows += result.Rows
		if result.Rows > 0 {
			total.Outcome = sweep.Stored
		}
	}
	if len(silent) > 0 {
		// Insiders of somebody report on every day: the index lacks these.
		return sweep.Result{
			Outcome: sweep.NotReady, Rows: total.Rows,
			Message: fmt.Sprintf("the quarter's index has no report of any insider on %v: the next run reads those days by themselves", silent),
		}, nil
	}
	return total, nil
}

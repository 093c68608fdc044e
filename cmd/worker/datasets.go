package main

import (
	"context"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
)

// biweekly is the time between two runs of alternative data.
const biweekly = 14 * 24 * time.Hour

// dataset is how far one job has come with its newest period.
type dataset struct {
	Job    string `json:"job"`
	Period string `json:"period"`
	// Done of Symbols of the universe are done; nil for a job that does not
	// count them.
	Done    *int `json:"done,omitempty"`
	Symbols int  `json:"symbols"`
	// Last is the newest run of the job, whatever its period.
	Last *runStatus `json:"last_run,omitempty"`
	// Next is the period that comes after this one, NextAt when it can be run;
	// absent for a job without periods.
	Next   string     `json:"next_period,omitempty"`
	NextAt *time.Time `json:"next_at,omitempty"`
	// Missing is the number of missing sessions of the history that is known of,
	// by the ledger; worker gaps compares with the rows.
	Missing *int `json:"missing_sessions,omitempty"`
}

func (d dataset) done() string {
	switch {
	case d.Missing != nil:
		return fmt.Sprintf("%d of %d, %d sessions missing", *d.Done, d.Symbols, *d.Missing)
	case d.Done != nil:
		return fmt.Sprintf("%d of %d", *d.Done, d.Symbols)
	}
	return ""
}

func (d dataset) lastRun() string {
	switch {
	case d.Last == nil:
		return "none"
	case d.Last.FinishedAt == nil:
		return d.Last.Status + " since " + d.Last.StartedAt.Format(time.RFC3339)
	}
	return d.Last.Status + " " + d.Last.FinishedAt.Format(time.RFC3339)
}

func (d dataset) nextPeriod() string {
	if d.NextAt == nil {
		return ""
	}
	return d.Next + " from " + d.NextAt.Format(time.RFC3339)
}

// datasets tells how far each job is, for the symbols of the universe.
func (a *app) datasets(ctx context.Context, s *services, session market.Date) ([]dataset, error) {
	symbols, err := a.givenSymbols(once{})
	if err != nil {
		return nil, err
	}
	if symbols == nil {
		symbols = a.universe(ctx, s, false).Symbols
	}
	all := []dataset{
		{Job: dailybars.Name, Period: session.String()},
		{Job: fundamentals.Name, Period: market.WeekOf(a.today()).String()},
		{Job: altdata.Name},
		{Job: backfill.Name, Period: backfill.Period},
	}
	for i := range all {
		d := &all[i]
		d.Symbols = len(symbols)
		runs, err := s.db.Runs(ctx, d.Job, 1)
		if err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		if len(runs) > 0 {
			d.Last = new(newRunStatus(runs[0]))
			d.Last.Report = nil // it stands among the runs
		}
		if d.Job == altdata.Name {
			err = a.windowDataset(ctx, s, d)
		} else {
			err = a.doneDataset(ctx, s, d, symbols)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, a.nextPeriods(ctx, s, all, session, symbols)
}

// doneDataset counts the symbols that are done.
func (a *app) doneDataset(ctx context.Context, s *services, d *dataset, symbols []market.Symbol) error {
	units, err := s.db.DoneUnits(ctx, d.Job, d.Period)
	if err != nil {
		return fmt.Errorf("read which symbols are done: %w", err)
	}
	done := make(map[market.Symbol]bool, len(units))
	for _, u := range units {
		done[u] = true
	}
	d.Done = new(int)
	for _, symbol := range symbols {
		if done[symbol] {
			*d.Done++
		}
	}
	return nil
}

// windowDataset tells of a job whose period is a window of time.
func (a *app) windowDataset(ctx context.Context, s *services, d *dataset) error {
	last, _, err := idempotency.NewLastRun(s.rdb, s.db).Get(ctx)
	if err != nil && last.IsZero() {
		return fmt.Errorf("read last_run: %w", err)
	}
	if last.IsZero() {
		d.Period = "none"
		return nil
	}
	d.Period = "through " + last.UTC().Format(time.RFC3339)
	d.Next, d.NextAt = "window", new(last.Add(biweekly).UTC())
	return nil
}

// nextPeriods says which period comes next, and when.
func (a *app) nextPeriods(ctx context.Context, s *services, all []dataset, session market.Date, symbols []market.Symbol) error {
	next, err := market.NYSE().Next(session)
	if err != nil {
		return err
	}
	day, _, err := market.NYSE().Session(next)
	if err != nil {
		return err
	}
	monday := market.WeekOf(a.today()).Monday() + 7
	for i := range all {
		switch d := &all[i]; d.Job {
		case dailybars.Name:
			d.Next, d.NextAt = next.String(), new(day.Close.Add(settleTime).UTC())
		case fundamentals.Name:
			d.Next, d.NextAt = market.WeekOf(monday).String(), new(monday.In(market.NewYork(), 0, 0).UTC())
		case backfill.Name:
			if d.Missing, err = a.missingSessions(ctx, s, session, symbols); err != nil {
				return err
			}
		}
	}
	return nil
}

// missingSessions counts, by the ledger alone, the sessions that could be
// fetched of the symbols of which something is known.
func (a *app) missingSessions(ctx context.Context, s *services, through market.Date, symbols []market.Symbol) (*int, error) {
	coverage, err := s.db.BarCoverage(ctx, 0, symbols...)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	missing := 0
	cal := market.NYSE()
	sessions, err := cal.SessionDays(market.Range{From: cal.Known().From, To: through})
	if err != nil {
		return nil, err
	}
	for _, c := range coverage {
		known := c.Known()
		if known.IsZero() {
			continue
		}
		for _, g := range c.Gaps(sessions.And(market.DaysIn(market.Range{From: known, To: through}))) {
			if g.State == market.SessionLost || g.State == market.SessionUnasked {
				missing += g.Sessions
			}
		}
	}
	return &missing, nil
}

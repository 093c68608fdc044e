package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/finra"
)

const noInsidersText = "insiders were not looked for, and last_run stays: " +
	"set SA_DATA__EDGAR__USER_AGENT to a name and a contact address, such as \"Example Research admin@example.com\""

type altdataFlags struct {
	runFlags
	since, until, only once
}

func (a *app) altdataCommand() *cobra.Command {
	var f altdataFlags
	cmd := &cobra.Command{
		Use:   "altdata",
		Short: "Fetch and store insider transactions and short interest",
		Long: `Fetches what insiders have reported to the SEC (Forms 3, 4 and 5) and what FINRA
has published of short interest since the last complete run, or of the last 14
days. Each document is fetched once. jobs:altdata:last_run moves to the end of the
window when all of it is stored; until then a run asks only for what is missing.

A document that fails three times in the same way is set aside and named by each
run; --force asks for it again, and reads indexes and settlement dates again.` + exitCodes,
		Example: `  worker run altdata --demo
  worker run altdata --symbols AAPL,MSFT --since 2026-03-01
  worker run altdata --only finra --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runAltdata(cmd.Context(), f)
		},
	}
	cmd.Flags().Var(&f.since, "since", "begin of the window, as 2026-03-01 (midnight in New York) or 2026-03-01T10:00:00Z (default: the end of the last complete run)")
	cmd.Flags().Var(&f.until, "until", "end of the window (default: now)")
	cmd.Flags().Var(&f.only, "only", "edgar or finra; last_run stays then")
	f.add(cmd.Flags())
	return cmd
}

// windowRequest is what a run of alternative data was asked to do, checked.
type windowRequest struct {
	since, until time.Time
	symbols      []market.Symbol
	edgar, finra bool
}

func (a *app) runAltdata(ctx context.Context, f altdataFlags) error {
	end, err := a.startDemo(ctx, &f.runFlags)
	if err != nil {
		return err
	}
	defer end()
	req, err := a.window(f)
	if err != nil {
		return err
	}
	return a.withRun(ctx, f.runFlags, func(ctx context.Context, s *services, symbols []market.Symbol) error {
		req.symbols = symbols
		if f.dryRun {
			return a.planAltdata(ctx, s, f, req)
		}
		p := period{
			job: altdata.Name, name: altdata.Period, wait: f.wait,
			restricted: f.restricted() || f.only.set || f.since.set || f.until.set,
		}
		report, err := a.claimAndRun(ctx, s, p, func(ctx context.Context, run store.Run) (sweep.Report, error) {
			return a.loadAltdata(ctx, s, f, req, run)
		})
		if err != nil {
			return err
		}
		return a.finish(ctx, report, f.force)
	})
}

func (a *app) window(f altdataFlags) (req windowRequest, err error) {
	for flag, to := range map[string]struct {
		given once
		at    *time.Time
	}{"--since": {f.since, &req.since}, "--until": {f.until, &req.until}} {
		if !to.given.set {
			continue
		}
		if *to.at, err = instant(to.given.value); err != nil {
			return req, usagef("%s: %w", flag, err)
		}
		if to.at.After(a.now()) {
			return req, usagef("%s: %s is in the future", flag, to.given.value)
		}
	}
	if f.since.set && f.until.set && !req.since.Before(req.until) {
		return req, usagef("--since %s is not before --until %s", f.since.value, f.until.value)
	}
	switch f.only.value {
	case "":
		req.edgar, req.finra = true, true
	case edgar.Name:
		req.edgar = true
	case finra.Name:
		req.finra = true
	default:
		return req, usagef("--only %s: want %s or %s", f.only.value, edgar.Name, finra.Name)
	}
	if req.edgar && !req.finra && a.cfg.EDGAR.UserAgent == "" {
		return req, usagef("--only %s: %s", edgar.Name, noInsidersText)
	}
	return req, nil
}

// instant reads a date, which means its first moment in New York, or a time.
func instant(text string) (time.Time, error) {
	if d, err := market.ParseDate(text); err == nil {
		return d.In(market.NewYork(), 0, 0), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%q: want a date such as 2026-03-01 or a time such as 2026-03-01T10:00:00Z", text)
	}
	return at, nil
}

// loadAltdata does the work of a claimed run.
func (a *app) loadAltdata(ctx context.Context, s *services, f altdataFlags, req windowRequest, run store.Run) (sweep.Report, error) {
	job := a.altdata(s, f)
	job.Store = run
	plan, err := job.Plan(ctx, req.symbols, req.since, req.until)
	if err != nil {
		return sweep.Report{}, err
	}
	var budgets []*budget
	if req.edgar && a.cfg.EDGAR.UserAgent != "" {
		v, err := a.edgar(ctx, s)
		if err != nil {
			return sweep.Report{}, err
		}
		job.Filings, budgets = &filer{client: v.client}, append(budgets, v.budget)
	} else if req.edgar {
		plan.Warnings = append(plan.Warnings, noInsidersText)
	}
	if req.finra {
		v, err := a.finra(ctx, s)
		if err != nil {
			return sweep.Report{}, err
		}
		job.Shorts, budgets = shorts{v.client}, append(budgets, v.budget)
	}
	job.Each = a.logUnit
	report := job.Run(ctx, plan)
	for _, b := range budgets {
		report.ProviderCalls += int(b.calls.Load())
	}
	return report, nil
}

// altdataPlan is what a run would do, as --dry-run prints it. How many documents
// the indexes list is known when they are read.
type altdataPlan struct {
	Job         string        `json:"job"`
	Since       time.Time     `json:"since"`
	Until       time.Time     `json:"until"`
	Symbols     int           `json:"symbols"`
	IndexDays   []market.Date `json:"index_days"`
	Settlements []market.Date `json:"settlement_dates"`
	Documents   int           `json:"documents_listed"`
	Warnings    []string      `json:"warnings,omitempty"`
}

func (a *app) planAltdata(ctx context.Context, s *services, f altdataFlags, req windowRequest) error {
	d, err := a.altdataPlan(ctx, s, f, req)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(d)
	}
	a.printf("%s %s: would look at the indexes of %d days, %d documents that are listed already, and %d settlement dates\n",
		d.Job, altdata.Window{Since: d.Since, Until: d.Until}, len(d.IndexDays), d.Documents, len(d.Settlements))
	for _, w := range d.Warnings {
		a.printf("\nWarning: %s\n", w)
	}
	return nil
}

func (a *app) altdataPlan(ctx context.Context, s *services, f altdataFlags, req windowRequest) (altdataPlan, error) {
	plan, err := a.altdata(s, f).Plan(ctx, req.symbols, req.since, req.until)
	if err != nil {
		return altdataPlan{}, err
	}
	pending, err := s.db.PendingFilings(ctx, market.Range{From: 1, To: market.DateOf(plan.Window.Until)})
	if err != nil {
		return altdataPlan{}, err
	}
	return altdataPlan{
		Job: altdata.Name, Since: plan.Window.Since, Until: plan.Window.Until, Symbols: len(req.symbols),
		IndexDays: plan.Days, Settlements: plan.Settlements, Documents: len(pending), Warnings: plan.Warnings,
	}, nil
}

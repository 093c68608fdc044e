package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/chain"
)

// noAgentText says what a run without a user agent lacks.
const noAgentText = "nothing was asked of the SEC, which provides debt_to_equity, current_ratio and what Alpha Vantage leaves out: " +
	"set SA_DATA__EDGAR__USER_AGENT to a name and a contact address, such as \"Example Research admin@example.com\""

type fundamentalsFlags struct {
	runFlags
	week once
}

func (a *app) fundamentalsCommand() *cobra.Command {
	var f fundamentalsFlags
	cmd := &cobra.Command{
		Use:   "fundamentals",
		Short: "Fetch and store the key figures of each symbol, once in an ISO week",
		Long: `Fetches what issuers have reported to the SEC, for all symbols, and then Alpha
Vantage's overview, one call for each symbol, the symbols with the oldest
figures first. A run that meets the end of the provider's day is resumed by the
same command on the next day; the figures of a week are complete when each
symbol has had its turn.

What is stored was learnt today, whatever the week: rows are never dated back.` + exitCodes,
		Example: `  worker run fundamentals --demo
  worker run fundamentals --symbols AAPL,MSFT --dry-run
  worker run fundamentals --week 2026-W11 --symbols @watchlist.txt --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runFundamentals(cmd.Context(), f)
		},
	}
	cmd.Flags().Var(&f.week, "week", "ISO week, as 2026-W11 (default: that of today in New York)")
	f.add(cmd.Flags())
	return cmd
}

// weekRequest is what a run of fundamentals was asked to do, checked.
type weekRequest struct {
	week    market.Week
	symbols []market.Symbol
	force   bool
}

func (a *app) runFundamentals(ctx context.Context, f fundamentalsFlags) error {
	end, err := a.startDemo(ctx, &f.runFlags)
	if err != nil {
		return err
	}
	defer end()
	if err := a.needKey(f.runFlags, alphavantage.Name); err != nil {
		return err
	}
	week, err := week(f.week, a.today())
	if err != nil {
		return err
	}
	return a.withRun(ctx, f.runFlags, func(ctx context.Context, s *services, symbols []market.Symbol) error {
		req := weekRequest{week, symbols, f.force}
		if f.dryRun {
			return a.planFundamentals(ctx, s, req)
		}
		p := period{job: fundamentals.Name, name: week.String(), wait: f.wait, restricted: f.restricted()}
		report, err := a.claimAndRun(ctx, s, p, func(ctx context.Context, run store.Run) (sweep.Report, error) {
			return a.loadFundamentals(ctx, s, req, run)
		})
		if err != nil {
			return err
		}
		return a.finish(ctx, report, f.force)
	})
}

// today is the date in New York.
func (a *app) today() market.Date { return market.DateOf(a.now().In(market.NewYork())) }

func week(flag once, today market.Date) (market.Week, error) {
	if !flag.set {
		return market.WeekOf(today), nil
	}
	w, err := market.ParseWeek(flag.value)
	switch {
	case err != nil:
		return w, usagef("--week: %w", err)
	case w.Monday() > today:
		return w, usagef("--week: %s has not begun: today is %s in New York, in week %s", w, today, market.WeekOf(today))
	}
	return w, nil
}

// loadFundamentals does the work of a claimed run: the facts first, in a run of
// their own in the ledger, then the overviews.
func (a *app) loadFundamentals(ctx context.Context, s *services, req weekRequest, run store.Run) (sweep.Report, error) {
	job := a.fundamentals(s, req)
	job.Store = run
	plan, err := job.Plan(ctx, req.week, req.symbols)
	if err != nil {
		return sweep.Report{}, err
	}
	parts, err := a.loadFacts(ctx, s, &job, plan)
	if err != nil {
		return sweep.Report{}, err
	}
	v, err := a.alphaVantage(ctx, s)
	if err != nil {
		return sweep.Report{}, err
	}
	job.Overviews = v.client
	for i, function := range a.cfg.Functions[1:] {
		job.More[i] = map[string]fundamentals.More{
			earnings:     {Overviews: earningsFigures{v.client}, Fills: []market.Field{market.EarningsGrowth}},
			balanceSheet: {Overviews: balanceFigures{v.client}, Fills: []market.Field{market.DebtToEquity, market.CurrentRatio}},
		}[function]
	}
	start := a.pace(ctx, s, a.alphaVantageQuota(), v.limits)
	bar := a.newProgress("overviews", len(plan.Overviews), func(n int) chain.ETA { return start.After(int(v.budget.calls.Load())).Estimate(a.now(), n) })
	job.Sweep.Each = bar.unit
	report := job.Run(ctx, plan)
	bar.finish()
	report.ProviderCalls = int(v.budget.calls.Load())
	if left := askAgain(report) * len(a.cfg.Functions); left > 0 && report.Status != sweep.Failed && ctx.Err() == nil {
		report.CompleteAt = new(a.pace(ctx, s, a.alphaVantageQuota(), v.limits).Estimate(a.now(), left).At.UTC())
	}
	if job.Filer == nil {
		report.Warnings = append(report.Warnings, noAgentText)
	}
	return withFacts(report, parts), nil
}

// loadFacts makes the first part, in a run of its own, and returns its report.
// Without a user agent, or when all facts of the week are there, there is none.
func (a *app) loadFacts(ctx context.Context, s *services, job *fundamentals.Job, plan fundamentals.Plan) ([]sweep.Report, error) {
	if job.Filer == nil || len(plan.Facts) == 0 {
		return nil, nil
	}
	v, err := a.edgar(ctx, s)
	if err != nil {
		return nil, err
	}
	run, err := s.db.Begin(ctx, fundamentals.FactsName, plan.Week.String(), newOwner())
	if err != nil {
		return nil, heldError(err)
	}
	started := a.now()
	job.Filer, job.FactStore = &filer{client: v.client}, run
	start := chain.Pace{PerMinute: v.limits.Rate() * 60}
	bar := a.newProgress("facts", len(plan.Facts), func(n int) chain.ETA { return start.Estimate(a.now(), n) })
	job.FactSweep.Each = bar.unit
	report := job.RunFacts(ctx, plan)
	bar.finish()
	report.StartedAt, report.FinishedAt = started.UTC(), a.now().UTC()
	report.ProviderCalls = int(v.budget.calls.Load())
	a.end(ctx, run, report)
	return []sweep.Report{report}, nil
}

// withFacts adds the first part to the report of a run. What the SEC does not
// have is no fault of the run; what could not be asked is to be asked again.
func withFacts(report sweep.Report, parts []sweep.Report) sweep.Report {
	report.Parts = parts
	for _, part := range parts {
		report.ProviderCalls += part.ProviderCalls
		switch {
		case part.Status == sweep.WasInterrupted && report.Status != sweep.Failed:
			report.Status = sweep.WasInterrupted
		case askAgain(part) > 0 && report.Status == sweep.OK:
			report.Status = sweep.Partial
		}
	}
	return report
}

// askAgain is the number of symbols for which another answer can be hoped for.
func askAgain(r sweep.Report) int {
	return r.Failed - r.Outcomes[sweep.NoData] - r.Outcomes[sweep.UnknownSymbol]
}

func (a *app) planFundamentals(ctx context.Context, s *services, req weekRequest) error {
	limits, err := a.limitsOf(s, a.alphaVantageQuota())
	if err != nil {
		return err
	}
	job := a.fundamentals(s, req)
	plan, err := job.Plan(ctx, req.week, req.symbols)
	if err != nil {
		return err
	}
	end := a.pace(ctx, s, a.alphaVantageQuota(), limits).Estimate(a.now(), job.Calls(plan))
	d := dryRun{
		Job: fundamentals.Name, Period: req.week.String(),
		Symbols: len(req.symbols), Skipped: len(plan.Done), ProviderCalls: job.Calls(plan),
		CallsToday: end.Today, CompleteAt: end.At.UTC(), Order: plan.Overviews,
		Parts:    []dryRunPart{{Job: fundamentals.FactsName, Symbols: len(plan.Facts), Skipped: plan.FactsDone}},
		Warnings: plan.Warnings,
	}
	if a.cfg.EDGAR.UserAgent == "" {
		d.Parts = nil
	}
	return a.printDryRun(d, end, cmp.Or(len(a.cfg.Functions), 1))
}

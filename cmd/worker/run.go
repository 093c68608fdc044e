package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/dailybars"
)

const (
	// endTime bounds the last writes of a run that is being stopped.
	endTime = 3 * time.Second
	// waitPoll is how often --wait looks whether the period is free.
	waitPoll = 2 * time.Second
)

func (a *app) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "run",
		Short:   "Run one job once, then exit",
		Example: "  worker run daily-bars --demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.helpThenUsage(cmd, "name a job: daily-bars")
		},
	}
	cmd.AddCommand(a.dailyBarsCommand())
	return cmd
}

// dailyBarsFlags are the flags of run daily-bars.
type dailyBarsFlags struct {
	date, symbols             once
	force, dryRun, wait, demo bool
	noMigrate                 bool
}

func (a *app) dailyBarsCommand() *cobra.Command {
	var f dailyBarsFlags
	cmd := &cobra.Command{
		Use:   "daily-bars",
		Short: "Fetch, check and store the daily bars of one session",
		Long: `Fetches the daily bars of one session of the New York Stock Exchange for every
symbol that does not have them yet. A run can be stopped at any time; the next
one asks only for what is missing.

Exit codes: 0 all done (also when there was nothing to do), 1 failed, 2 wrong
usage or configuration, 3 some symbols are not stored (run again), 4 the
provider's day is spent (run again tomorrow), 130 or 143 interrupted.`,
		Example: `  worker run daily-bars --demo
  worker run daily-bars --symbols AAPL,MSFT,BRK.B
  worker run daily-bars --date 2026-03-12 --symbols @watchlist.txt --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDailyBars(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.Var(&f.date, "date", "session, as YYYY-MM-DD (default: the newest whose bars are final)")
	flags.Var(&f.symbols, "symbols", "sp500, a comma list, or @file (default: SA_DATA__UNIVERSE__SYMBOLS)")
	flags.BoolVar(&f.force, "force", false, "ask again also for symbols that are done")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be fetched, and fetch nothing")
	flags.BoolVar(&f.wait, "wait", false, "wait for another worker that has the run, instead of failing")
	flags.BoolVar(&f.demo, "demo", false, "ten symbols from a simulator inside the process; needs no key")
	flags.BoolVar(&f.noMigrate, "no-migrate", false, "do not bring the database's schema up to date")
	return cmd
}

// once is a flag that may be given once: a second value would hide the first.
type once struct {
	value string
	set   bool
}

func (o *once) String() string { return o.value }
func (o *once) Type() string   { return "string" }
func (o *once) Set(s string) error {
	if o.set {
		return fmt.Errorf("given twice, as %q and %q: give it once", o.value, s)
	}
	o.value, o.set = s, true
	return nil
}

// request is what a run of daily bars was asked to do, checked.
type request struct {
	session, through market.Date
	symbols          []market.Symbol
	// force asks also for what is done.
	force bool
}

func (a *app) runDailyBars(ctx context.Context, f dailyBarsFlags) error {
	if f.demo {
		end, err := a.startDemo(ctx, &f)
		if err != nil {
			return err
		}
		defer end()
	}
	if !a.cfg.Key.IsSet() && !a.cfg.local() && !f.dryRun {
		return usagef(noKeyText)
	}
	session, through, err := a.session(f.date)
	if err != nil {
		return err
	}
	symbols, err := a.givenSymbols(f.symbols)
	if err != nil {
		return err
	}
	s, err := a.openServices(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	a.log.Info("using " + s.where())
	if err := s.ready(ctx, !f.noMigrate); err != nil {
		return err
	}
	if symbols == nil {
		symbols = a.sp500(ctx, s)
	}
	req := request{session: session, through: through, symbols: symbols, force: f.force}
	if f.dryRun {
		return a.planDailyBars(ctx, s, req)
	}
	report, err := a.claimAndRun(ctx, s, req, f)
	if err != nil {
		return err
	}
	return a.finish(ctx, report, f.force)
}

const noKeyText = `no Alpha Vantage key is set.

  Try it without one:   worker run daily-bars --demo
  Get a free key:       https://www.alphavantage.co/support/#api-key
  Then:                 export SA_ALPHA_VANTAGE_API_KEY=your-key
  or, from a file:      export SA_ALPHA_VANTAGE_API_KEY_FILE=/path/to/key`

// session picks the session of the run: the one asked for, or the newest whose
// bars are final.
func (a *app) session(date once) (session, through market.Date, err error) {
	through, err = market.NYSE().LastClosed(a.now(), settleTime)
	if err != nil {
		return 0, 0, err
	}
	if !date.set {
		return through, through, nil
	}
	session, err = market.ParseDate(date.value)
	if err != nil {
		return 0, 0, usagef("--date: %w", err)
	}
	open, err := market.NYSE().IsSession(session)
	switch {
	case err != nil:
		return 0, 0, usagef("--date %s: %w", session, err)
	case !open:
		return 0, 0, usagef("--date: %w%s", &dailybars.NoSessionError{Date: session, Reason: market.NYSE().Why(session)}, neighbours(session))
	case session > through:
		return 0, 0, usagef("--date: session %s has no final bars yet: the newest that has is %s (a session counts %s after its close)", session, through, settleTime)
	}
	return session, through, nil
}

func neighbours(closed market.Date) string {
	before, err1 := market.NYSE().Previous(closed)
	after, err2 := market.NYSE().Next(closed)
	if err := errors.Join(err1, err2); err != nil {
		return ""
	}
	return fmt.Sprintf("; the sessions around it are %s and %s", before, after)
}

// claimAndRun takes the period for this process, runs it and closes it.
func (a *app) claimAndRun(ctx context.Context, s *services, req request, f dailyBarsFlags) (sweep.Report, error) {
	release, run, err := a.claim(ctx, s, req.session, f.wait)
	if err != nil {
		return sweep.Report{}, heldError(err)
	}
	defer release()
	report, err := a.execute(ctx, s, req, run)
	if err != nil {
		report = sweep.NewReport(dailybars.Name, req.session.String(), 0, sweep.Tally{Stopped: a.redact(err.Error())}, false)
		report.Status, report.StartedAt, report.FinishedAt = sweep.Failed, a.now().UTC(), a.now().UTC()
		if ctx.Err() != nil {
			report.Status = sweep.WasInterrupted
		}
		a.end(ctx, run, report)
		return sweep.Report{}, err
	}
	a.end(ctx, run, report)
	return report, nil
}

func (a *app) claim(ctx context.Context, s *services, session market.Date, wait bool) (func(), store.Run, error) {
	ticker := time.NewTicker(waitPoll)
	defer ticker.Stop()
	for said := ""; ; {
		release, run, err := a.tryClaim(ctx, s, session)
		if err == nil || !wait || !isHeld(err) {
			return release, run, err
		}
		if said != err.Error() {
			said = err.Error()
			a.log.Info("waiting: " + said)
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("stopped while waiting: %w", err)
		case <-ticker.C:
		}
	}
}

func (a *app) tryClaim(ctx context.Context, s *services, session market.Date) (func(), store.Run, error) {
	release, err := a.callingRights(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	run, err := s.db.Begin(ctx, dailybars.Name, session.String(), newOwner())
	if err != nil {
		release()
		return nil, nil, err
	}
	return release, run, nil
}

// execute does the work of a claimed run.
func (a *app) execute(ctx context.Context, s *services, req request, run store.Run) (sweep.Report, error) {
	started := a.now()
	v, err := a.alphaVantage(ctx, s)
	if err != nil {
		return sweep.Report{}, err
	}
	job := a.dailyBars(s, req, v.source, run)
	plan, err := job.Plan(ctx, req.session, req.symbols)
	if err != nil {
		return sweep.Report{}, err
	}
	start := a.pace(ctx, s, v.limits)
	bar := a.newProgress(len(plan.Todo), func() pace { return start.after(int(v.budget.calls.Load())) })
	job.Sweep.Each = bar.unit
	report := job.Run(ctx, plan)
	bar.finish()
	report.StartedAt, report.FinishedAt = started.UTC(), a.now().UTC()
	report.ProviderCalls = int(v.budget.calls.Load())
	return report, nil
}

// end closes the run in the ledger. A run that cannot be closed is closed by
// the next one of its period, as that of a killed process is.
func (a *app) end(ctx context.Context, run store.Run, report sweep.Report) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	text, err := json.Marshal(report)
	if err == nil {
		err = run.End(ctx, string(report.Status), text)
	}
	if err != nil {
		a.log.Warn("the run's end is not in the ledger; its bars are", zap.Error(err))
		_ = run.Release()
	}
}

// finish prints the report and turns its status into the exit code.
func (a *app) finish(ctx context.Context, report sweep.Report, forced bool) error {
	if err := a.printReport(report, forced); err != nil {
		return err
	}
	switch report.Status {
	case sweep.OK:
		return nil
	case sweep.Partial:
		return exitError{exitPartial}
	case sweep.OutOfQuota:
		return exitError{exitQuota}
	case sweep.WasInterrupted:
		if stopped, ok := errors.AsType[signalError](context.Cause(ctx)); ok {
			return exitError{stopped.exitCode()}
		}
	case sweep.Failed:
	}
	return exitError{exitFailed}
}

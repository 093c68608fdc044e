package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
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
		Example: "  worker run daily-bars --demo\n  worker run fundamentals --demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.helpThenUsage(cmd, "name a job: daily-bars, fundamentals, altdata, backfill")
		},
	}
	cmd.AddCommand(a.dailyBarsCommand(), a.fundamentalsCommand(), a.altdataCommand(), a.backfillCommand())
	return cmd
}

// runFlags are the flags that all jobs have.
type runFlags struct {
	symbols                   once
	force, dryRun, wait, demo bool
	noMigrate                 bool
	// maxCalls is the greatest number of provider calls; 0: no bound.
	maxCalls int
}

// restricted reports whether less than the whole universe is asked for.
func (f *runFlags) restricted() bool { return f.symbols.set || f.maxCalls > 0 }

const symbolsHelp = "sp500, a comma list, or @file (default: SA_DATA__UNIVERSE__SYMBOLS)"

func (f *runFlags) add(flags *pflag.FlagSet) {
	f.addFetching(flags)
	flags.BoolVar(&f.force, "force", false, "ask again also for symbols that are done")
}

// addFetching adds those of them that do not depend on what is done.
func (f *runFlags) addFetching(flags *pflag.FlagSet) {
	flags.Var(&f.symbols, "symbols", symbolsHelp)
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be fetched, and fetch nothing")
	flags.BoolVar(&f.wait, "wait", false, "wait for another worker that has the run, instead of failing")
	flags.BoolVar(&f.demo, "demo", false, "ten symbols from a simulator inside the process; needs no key")
	flags.BoolVar(&f.noMigrate, "no-migrate", false, "do not bring the database's schema up to date")
}

// exitCodes ends the help of every job.
const exitCodes = `

Exit codes: 0 all done (also when there was nothing to do), 1 failed, 2 wrong
usage or configuration, 3 some symbols are not stored (run again), 4 the
provider's day is spent (run again tomorrow), 130 or 143 interrupted.`

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

const noKeyText = `%s is not set.

  Try it without one:   worker run daily-bars --demo
  Get a free key:       https://www.alphavantage.co/support/#api-key
  Then:                 export SA_ALPHA_VANTAGE_API_KEY=your-key
  or, from a file:      export SA_ALPHA_VANTAGE_API_KEY_FILE=/path/to/key`

// needKey refuses to run without the key of one of the sources; a provider on
// this machine needs none.
func (a *app) needKey(f runFlags, sources ...string) error {
	for _, name := range sources {
		if env := a.cfg.keyless(name); env != "" && !f.dryRun {
			return usagef(noKeyText, env)
		}
	}
	return nil
}

// needSource is needKey for the sources of bars, or the one that is named.
func (a *app) needSource(f runFlags, only once) error {
	names := a.cfg.barSources()
	if only.set {
		if !slices.Contains(names, only.value) {
			return usagef("--source %s: want one of the configured sources (SA_DATA__BARS__SOURCES): %s", only.value, strings.Join(names, ", "))
		}
		names = []string{only.value}
	}
	return a.needKey(f, names...)
}

const sourceHelp = "ask this one of the configured sources only"

// withRun opens the services and resolves the symbols for a job.
func (a *app) withRun(ctx context.Context, f runFlags, do func(context.Context, *services, []market.Symbol) error) error {
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
		symbols = a.universe(ctx, s, !f.dryRun).Symbols
	}
	return do(ctx, s, symbols)
}

// period is one run to be claimed.
type period struct {
	job, name string
	// wait is for a claim that another process holds.
	wait bool
	// seen is what was known of the period's runs when it was decided to run it:
	// if more has been run of it since, it is not run. nil: it is run whatever
	// others have done.
	seen *store.Seen
	// restricted says that the run is for less than the job is for.
	restricted bool
}

// claimAndRun takes the period for this process, runs it and closes it.
func (a *app) claimAndRun(ctx context.Context, s *services, p period, do func(context.Context, store.Run) (sweep.Report, error)) (sweep.Report, error) {
	release, run, err := a.claim(ctx, s, p)
	if err != nil {
		return sweep.Report{}, heldError(err)
	}
	defer release()
	// The run keeps its claim while it is being stopped.
	defer a.mirror(context.WithoutCancel(ctx), s.rdb, p, run)()
	started := a.now()
	ctx, traced := a.traces.Run(ctx, p.job, p.name, run.ID())
	report, err := do(ctx, run)
	if err != nil {
		report = sweep.NewReport(p.job, p.name, 0, sweep.Tally{Stopped: a.redact(err.Error())}, false)
		report.Status = sweep.Failed
		if ctx.Err() != nil {
			report.Status = sweep.WasInterrupted
		}
	}
	report.StartedAt, report.FinishedAt = started.UTC(), a.now().UTC()
	a.watch.ended(report)
	report.Restricted = p.restricted
	a.end(ctx, run, report)
	a.tellOf(ctx, s, report)
	traced(report)
	if err != nil {
		return sweep.Report{}, err
	}
	a.noteByHand(ctx, s, p, report)
	return report, nil
}

// noteByHand tells the journal of the schedule of a run that somebody has made,
// if it was for all of a scheduled period and all is done.
func (a *app) noteByHand(ctx context.Context, s *services, p period, report sweep.Report) {
	scheduled := slices.ContainsFunc(scheduleConfig{}.tasks(), func(t runner.Task) bool { return t.Name == p.job })
	if p.seen != nil || p.restricted || !scheduled || report.Status != sweep.OK {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	name := p.name
	if p.job == altdata.Name { // its window reaches up to now: the newest period is in it
		newest, err := s.db.Periods(ctx, p.job, 1)
		if err != nil || len(newest) == 0 || newest[0].Tick.After(report.StartedAt) {
			return
		}
		name = newest[0].Period
	}
	_, err := s.db.NotePeriod(ctx, store.PeriodInfo{Job: p.job, Period: name, State: store.Complete, Reason: "run by hand"})
	if err != nil {
		a.log.Warn("the journal does not know that the period is complete", zap.Error(err))
	}
}

func (a *app) claim(ctx context.Context, s *services, p period) (func(), store.Run, error) {
	ticker := time.NewTicker(waitPoll)
	defer ticker.Stop()
	for said := ""; ; {
		release, run, err := a.tryClaim(ctx, s, p)
		if err == nil || !p.wait || !isHeld(err) {
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

func (a *app) tryClaim(ctx context.Context, s *services, p period) (func(), store.Run, error) {
	release, err := a.callingRights(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	seen := store.SeenAll()
	if p.seen != nil {
		seen = *p.seen
	}
	run, err := s.db.BeginAfter(ctx, p.job, p.name, newOwner(), seen)
	if err != nil {
		release()
		return nil, nil, err
	}
	return release, run, nil
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
		a.log.Warn("the run's end is not in the ledger; its rows are", zap.Error(err))
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

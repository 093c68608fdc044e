package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

const (
	// defaultYears is how far back a backfill goes when nobody says.
	defaultYears = 2
	mostYears    = 100
)

// backfillFlags are the flags of backfill.
type backfillFlags struct {
	runFlags
	years, from, to, source once
	reset, yes              bool
}

func (f *backfillFlags) hasRange() bool { return f.years.set || f.from.set || f.to.set }

func (a *app) backfillCommand() *cobra.Command {
	var f backfillFlags
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Fetch and store the history of daily bars",
		Long: `Fetches the daily bars of a range of sessions. What a source has answered about
is not asked again: a longer range costs only its new part, and a run that was
stopped goes on where it stopped. backfill:completed in Redis names the symbols
whose whole range is stored.

--reset forgets what was answered, of the symbols given or of all of them, so that
the next run asks again. It deletes no bar. Given with a range, the run follows at
once.` + exitCodes,
		Example: `  worker backfill --demo
  worker backfill --years 5 --symbols AAPL,MSFT
  worker backfill --from 2020-01-01 --to 2021-12-31 --dry-run
  worker backfill --reset --symbols AAPL`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runBackfill(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.Var(&f.years, "years", fmt.Sprintf("how many years back (default: %d)", defaultYears))
	flags.Var(&f.from, "from", "first day, as YYYY-MM-DD, in place of --years")
	flags.Var(&f.to, "to", "last day (default: the newest session whose bars are final)")
	flags.Var(&f.source, "source", "the source to ask: "+alphavantage.Name)
	flags.BoolVar(&f.reset, "reset", false, "forget what was answered; no bar is deleted")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask before --reset of all symbols")
	f.addFetching(flags)
	return cmd
}

func (a *app) runBackfill(ctx context.Context, f backfillFlags) error {
	end, err := a.startDemo(ctx, &f.runFlags)
	if err != nil {
		return err
	}
	defer end()
	window, through, err := a.history(f)
	if err != nil {
		return err
	}
	if f.reset && f.dryRun {
		return usagef("--reset and --dry-run: give one of them")
	}
	if !f.reset || f.hasRange() {
		if err := a.needKey(f.runFlags); err != nil {
			return err
		}
	}
	return a.withRun(ctx, f.runFlags, func(ctx context.Context, s *services, symbols []market.Symbol) error {
		if f.reset {
			if err := a.resetHistory(ctx, s, f, symbols); err != nil || !f.hasRange() {
				return err
			}
		}
		if f.dryRun {
			return a.planHistory(ctx, s, window, through, symbols)
		}
		return a.fetchHistory(ctx, s, f.runFlags, through, func(job backfill.Job) (backfill.Plan, error) {
			return job.Plan(ctx, window, symbols)
		})
	})
}

// history reads the range that was asked for.
func (a *app) history(f backfillFlags) (window market.Range, through market.Date, err error) {
	if f.source.set && f.source.value != alphavantage.Name {
		return window, 0, usagef("--source %s: want %s", f.source.value, alphavantage.Name)
	}
	if f.years.set && f.from.set {
		return window, 0, usagef("--years and --from: give one of them")
	}
	if through, err = market.NYSE().LastClosed(a.now(), settleTime); err != nil {
		return window, 0, err
	}
	window.To = through
	if f.to.set {
		if window.To, err = market.ParseDate(f.to.value); err != nil {
			return window, 0, usagef("--to: %w", err)
		}
		if window.To > through {
			return window, 0, usagef("--to: session %s has no final bars yet: the newest that has is %s (a session counts %s after its close)", window.To, through, settleTime)
		}
	}
	years := defaultYears
	if f.years.set {
		if years, err = strconv.Atoi(f.years.value); err != nil || years < 1 || years > mostYears {
			return window, 0, usagef("--years is %q: want a whole number from 1 to %d", f.years.value, mostYears)
		}
	}
	day := window.To.Time()
	window.From = market.DateOf(day.AddDate(-years, 0, 0))
	if f.from.set {
		if window.From, err = market.ParseDate(f.from.value); err != nil {
			return window, 0, usagef("--from: %w", err)
		}
	}
	return window, through, checkRange(window)
}

func checkRange(window market.Range) error {
	if window.From > window.To {
		return usagef("the range %s ends before it begins", window)
	}
	sessions, err := market.NYSE().SessionDays(window)
	switch {
	case err != nil:
		return usagef("the range %s: %w", window, err)
	case sessions.Len() == 0:
		return usagef("there is no session in %s", window)
	}
	return nil
}

// resetHistory forgets what was answered about symbols, in the ledger first and
// then in Redis.
func (a *app) resetHistory(ctx context.Context, s *services, f backfillFlags, symbols []market.Symbol) error {
	if !f.symbols.set {
		symbols = nil
		if err := a.confirm(f.yes, "forget of ALL symbols which history was fetched? No bar is deleted, but all of it can be fetched again"); err != nil {
			return err
		}
	}
	// Beside a running backfill the set would fill up again at once.
	release, run, err := a.claim(ctx, s, period{backfill.Name, backfill.Period, f.wait})
	if err != nil {
		return heldError(err)
	}
	defer release()
	defer func() { _ = run.End(context.WithoutCancel(ctx), string(sweep.OK), nil) }()
	if err := s.db.ForgetHistory(ctx, symbols...); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	left, err := idempotency.New(s.rdb, s.db).Backfill().Rebuild(ctx)
	if err != nil {
		return fmt.Errorf("reset: the ledger has forgotten, Redis has not; run it again: %w", err)
	}
	if a.asJSON {
		if f.hasRange() {
			return nil // one document: the report
		}
		return a.printJSON(map[string]any{"reset": symbols, "all": symbols == nil, "completed_left": left})
	}
	a.printf("reset: %s; backfill:completed names %d symbols; the next worker backfill asks again\n", names(symbols), left)
	return nil
}

// names are a few of symbols.
func names(symbols []market.Symbol) string {
	switch {
	case symbols == nil:
		return "all symbols"
	case len(symbols) > listed:
		return fmt.Sprintf("%d symbols", len(symbols))
	}
	texts := make([]string, len(symbols))
	for i, s := range symbols {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

// confirm asks on standard error, and takes the answer from a terminal only.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.Stdin) {
		return usagef("this would %s: add --yes, or name --symbols", strings.TrimSuffix(question, "?"))
	}
	_, _ = fmt.Fprintf(a.Stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return usagef("nothing was changed")
	}
	return nil
}

// backfill is the job that loads history, for a claimed run; run is nil for one
// that only plans.
func (a *app) backfill(s *services, v vendor[*alphavantage.Client], through market.Date, run store.Run) backfill.Job {
	return backfill.Job{
		Source: v.client, Store: run, Library: s.db, Done: idempotency.New(s.rdb, s.db).Backfill(),
		Calendar: market.NYSE(), Through: through,
		Sweep: sweep.Sweep{Workers: workers, Grace: graceTime, Redact: a.redact},
	}
}

// fetchHistory claims history, makes the calls of a plan and prints the report.
func (a *app) fetchHistory(ctx context.Context, s *services, f runFlags, through market.Date, planned func(backfill.Job) (backfill.Plan, error)) error {
	report, err := a.claimAndRun(ctx, s, period{backfill.Name, backfill.Period, f.wait}, func(ctx context.Context, run store.Run) (sweep.Report, error) {
		v, err := a.alphaVantage(ctx, s)
		if err != nil {
			return sweep.Report{}, err
		}
		v.budget.most = int64(f.maxCalls)
		job := a.backfill(s, v, through, run)
		plan, err := planned(job)
		if err != nil {
			return sweep.Report{}, err
		}
		if f.maxCalls > 0 {
			plan.First(f.maxCalls)
		}
		if plan.Skipped > 0 {
			a.log.Info(fmt.Sprintf("%d symbols are covered for %s already", plan.Skipped, plan.Window))
		}
		start := a.pace(ctx, s, v.limits)
		bar := a.newProgress("history", len(plan.Todo), func() pace { return start.after(int(v.budget.calls.Load())) })
		job.Sweep.Each = bar.unit
		report := job.Run(ctx, plan)
		bar.finish()
		report.ProviderCalls = int(v.budget.calls.Load())
		again := askAgain(report) - report.Outcomes[sweep.PremiumOnly]
		return a.withEnd(ctx, s, v.limits, report, again), nil
	})
	if err != nil {
		return err
	}
	return a.finish(ctx, report, false)
}

// planHistory prints what a backfill would do.
func (a *app) planHistory(ctx context.Context, s *services, window market.Range, through market.Date, symbols []market.Symbol) error {
	v, err := a.alphaVantage(ctx, s)
	if err != nil {
		return err
	}
	plan, err := a.backfill(s, v, through, nil).Plan(ctx, window, symbols)
	if err != nil {
		return err
	}
	d := historyPlan(plan, len(symbols))
	end := estimate(a.now(), d.ProviderCalls, a.pace(ctx, s, v.limits))
	d.CallsToday, d.CompleteAt = end.today, end.at.UTC()
	return a.printDryRun(d, end, 1)
}

// historyPlan is a plan as --dry-run and worker plan print it.
func historyPlan(plan backfill.Plan, symbols int) dryRun {
	d := dryRun{Job: backfill.Name, Period: plan.Window.String(), Symbols: symbols, Skipped: plan.Skipped, ProviderCalls: plan.Calls()}
	beyond := 0
	for _, t := range plan.Todo {
		if len(t.Ask) > 0 && !t.Left {
			d.Order = append(d.Order, t.Symbol)
		}
		if t.Beyond > 0 {
			beyond++
		}
	}
	if beyond > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("of %d symbols the sessions before %s stay missing: a free Alpha Vantage key holds the newest 100 sessions only. "+
			"A premium key has the whole history (then set SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY=0)", beyond, plan.Reach))
	}
	return d
}

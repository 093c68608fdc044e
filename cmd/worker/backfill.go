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
	"github.com/alpha-oracle/worker/providers/chain"
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
	flags.Var(&f.source, "source", sourceHelp)
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
		if err := a.needSource(f.runFlags, f.source); err != nil {
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
			return a.planHistory(ctx, s, f, window, through, symbols)
		}
		return a.fetchHistory(ctx, s, f.runFlags, f.source.value, through, func(job backfill.Job, sources *barSources) (backfill.Plan, error) {
			window, err := sources.align(window, !f.hasRange())
			if err != nil {
				return backfill.Plan{}, err
			}
			return job.Plan(ctx, window, symbols)
		})
	})
}

// history reads the range that was asked for.
func (a *app) history(f backfillFlags) (window market.Range, through market.Date, err error) {
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
		if err := a.confirm(f.yes, "forget of ALL symbols which history was fetched? No bar is deleted, but all of it can be fetched again", "add --yes, or name --symbols"); err != nil {
			return err
		}
	}
	// Beside a running backfill the set would fill up again at once.
	release, run, err := a.claim(ctx, s, period{job: backfill.Name, name: backfill.Period, wait: f.wait})
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

// confirm asks on standard error, and takes the answer from a terminal only;
// without one the remedy is named.
func (a *app) confirm(yes bool, question, remedy string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.Stdin) {
		return usagef("this would %s: %s", strings.TrimSuffix(question, "?"), remedy)
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
func (a *app) backfill(s *services, sources *barSources, through market.Date, run store.Run) backfill.Job {
	return backfill.Job{
		Source: sources, Store: run, Library: s.db, Done: idempotency.New(s.rdb, s.db).Backfill(),
		Calendar: market.NYSE(), Through: through,
		Sweep: sweep.Sweep{Workers: sources.Workers(), Breaker: sources.breaker(), Grace: graceTime, Redact: a.redact, Begin: a.traces.Units()},
	}
}

// fetchHistory claims history, makes the calls of a plan and prints the report.
func (a *app) fetchHistory(ctx context.Context, s *services, f runFlags, source string, through market.Date, planned func(backfill.Job, *barSources) (backfill.Plan, error)) error {
	report, err := a.claimAndRun(ctx, s, period{job: backfill.Name, name: backfill.Period, wait: f.wait}, func(ctx context.Context, run store.Run) (sweep.Report, error) {
		return a.loadHistory(ctx, s, run, f, source, through, planned)
	})
	if err != nil {
		return err
	}
	return a.finish(ctx, report, false)
}

// loadHistory makes the calls of a plan for a claimed run.
func (a *app) loadHistory(ctx context.Context, s *services, run store.Run, f runFlags, source string, through market.Date, planned func(backfill.Job, *barSources) (backfill.Plan, error)) (sweep.Report, error) {
	sources, err := a.bars(ctx, s, source)
	if err != nil {
		return sweep.Report{}, err
	}
	defer sources.close()
	sources.bound(f.maxCalls)
	job := a.backfill(s, sources, through, run)
	plan, err := planned(job, sources)
	if err != nil {
		return sweep.Report{}, err
	}
	if _, err := sources.first(&plan, f.maxCalls); err != nil {
		return sweep.Report{}, err
	}
	if plan.Skipped > 0 {
		a.log.Info(fmt.Sprintf("%d symbols are covered for %s already", plan.Skipped, plan.Window))
	}
	asks := historyAsks(plan)
	bar := a.newProgress("history", len(plan.Todo), sources.eta(asks))
	job.Sweep.Each = bar.unit
	report := job.Run(ctx, plan)
	bar.finish()
	return a.told(ctx, s, sources, report, asks), nil
}

// align lets a range that nobody has asked for begin where a source's history
// does, if that is a few days later: a plan of two years is one of two years by
// the source's own count.
func (b *barSources) align(window market.Range, standard bool) (market.Range, error) {
	const few = 7
	if !standard {
		return window, nil
	}
	for _, s := range b.all {
		reach, err := s.bars.Reach()
		if err != nil {
			return window, err
		}
		if window.From < reach && reach <= window.From+few {
			window.From = reach
		}
	}
	return window, nil
}

// first plans the calls, and bounds them: what comes with sessions of all symbols
// counts once.
func (b *barSources) first(plan *backfill.Plan, most int) (chain.Plan, error) {
	calls, err := b.Plan(historyAsks(*plan))
	if err != nil || most == 0 || calls.Total() <= most {
		return calls, err
	}
	plan.First(most-calls.Sessions.Len(), calls.Grouped)
	return b.Plan(historyAsks(*plan))
}

// historyAsks are the asks of a plan's tasks.
func historyAsks(plan backfill.Plan) []chain.Ask {
	var asks []chain.Ask
	for _, t := range plan.Todo {
		if t.Left {
			continue
		}
		for _, r := range t.Ask {
			asks = append(asks, chain.Ask{Symbol: t.Symbol, Range: r, Sessions: t.Open.And(market.DaysIn(r)), Basis: t.Basis()})
		}
	}
	return asks
}

// planHistory prints what a backfill would do.
func (a *app) planHistory(ctx context.Context, s *services, f backfillFlags, window market.Range, through market.Date, symbols []market.Symbol) error {
	return a.printHistoryPlan(ctx, s, f.source.value, through, 0, func(job backfill.Job, sources *barSources) (backfill.Plan, error) {
		window, err := sources.align(window, !f.hasRange())
		if err != nil {
			return backfill.Plan{}, err
		}
		return job.Plan(ctx, window, symbols)
	})
}

// printHistoryPlan prints what a run of a plan would do.
func (a *app) printHistoryPlan(ctx context.Context, s *services, source string, through market.Date, most int, planned func(backfill.Job, *barSources) (backfill.Plan, error)) error {
	sources, err := a.bars(ctx, s, source)
	if err != nil {
		return err
	}
	defer sources.close()
	plan, err := planned(a.backfill(s, sources, through, nil), sources)
	if err != nil {
		return err
	}
	calls, err := sources.first(&plan, most)
	if err != nil {
		return err
	}
	d := a.historyPlan(plan, plan.Skipped+len(plan.Todo))
	end := calls.ETA(a.now())
	d.ProviderCalls, d.Calls, d.CallsToday, d.CompleteAt = calls.Total(), calls.Calls, end.Today, end.At.UTC()
	return a.printDryRun(d, end, 1)
}

// historyPlan is a plan as --dry-run and worker plan print it.
func (a *app) historyPlan(plan backfill.Plan, symbols int) dryRun {
	d := dryRun{Job: plan.Name(), Period: plan.Window.String(), Symbols: symbols, Skipped: plan.Skipped, ProviderCalls: plan.Calls()}
	beyond := 0
	for _, t := range plan.Todo {
		if len(t.Ask) > 0 && !t.Left {
			d.Order = append(d.Order, t.Symbol)
		}
		if t.Beyond > 0 {
			beyond++
		}
	}
	switch names := a.cfg.barSources(); {
	case beyond == 0:
	case len(names) > 1 || names[0] != alphavantage.Name:
		d.Warnings = append(d.Warnings, fmt.Sprintf("of %d symbols the sessions before %s stay missing: that is as far as %s reach", beyond, plan.Reach, strings.Join(names, ", ")))
	default:
		d.Warnings = append(d.Warnings, fmt.Sprintf("of %d symbols the sessions before %s stay missing: a free Alpha Vantage key holds the newest 100 sessions only. "+
			"A premium key has the whole history (then set SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY=0), and a free Tiingo key (SA_TIINGO_API_KEY) too", beyond, plan.Reach))
	}
	return d
}

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/providers/chain"
)

// dailyBarsFlags are the flags of run daily-bars.
type dailyBarsFlags struct {
	runFlags
	date, source once
	wholeMarket  bool
}

func (a *app) dailyBarsCommand() *cobra.Command {
	var f dailyBarsFlags
	cmd := &cobra.Command{
		Use:   "daily-bars",
		Short: "Fetch, check and store the daily bars of one session",
		Long: `Fetches the daily bars of one session of the New York Stock Exchange for every
symbol that does not have them yet. A run can be stopped at any time; the next
one asks only for what is missing.` + exitCodes,
		Example: `  worker run daily-bars --demo
  worker run daily-bars --symbols AAPL,MSFT,BRK.B
  worker run daily-bars --date 2026-03-12 --symbols @watchlist.txt --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDailyBars(cmd.Context(), f)
		},
	}
	cmd.Flags().Var(&f.date, "date", "session, as YYYY-MM-DD (default: the newest whose bars are final)")
	cmd.Flags().Var(&f.source, "source", sourceHelp)
	cmd.Flags().BoolVar(&f.wholeMarket, "whole-market", false, "store also the symbols that are not asked for, if a source brings the session of all in one call")
	f.add(cmd.Flags())
	return cmd
}

// request is what a run of daily bars was asked to do, checked.
type request struct {
	session, through market.Date
	symbols          []market.Symbol
	// source is the only one to be asked; "" means all that are configured.
	source string
	// wholeMarket adds all symbols of a source with whole sessions.
	wholeMarket bool
	// force asks also for what is done.
	force bool
}

func (a *app) runDailyBars(ctx context.Context, f dailyBarsFlags) error {
	end, err := a.startDemo(ctx, &f.runFlags)
	if err != nil {
		return err
	}
	defer end()
	if err := a.needSource(f.runFlags, f.source); err != nil {
		return err
	}
	session, through, err := a.session(f.date)
	if err != nil {
		return err
	}
	return a.withRun(ctx, f.runFlags, func(ctx context.Context, s *services, symbols []market.Symbol) error {
		req := request{session: session, through: through, symbols: symbols, source: f.source.value, wholeMarket: f.wholeMarket, force: f.force}
		if f.dryRun {
			return a.planDailyBars(ctx, s, req)
		}
		p := period{job: dailybars.Name, name: session.String(), wait: f.wait, restricted: f.restricted()}
		report, err := a.claimAndRun(ctx, s, p, func(ctx context.Context, run store.Run) (sweep.Report, error) {
			return a.loadDailyBars(ctx, s, req, run)
		})
		if err != nil {
			return err
		}
		return a.finish(ctx, report, f.force)
	})
}

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

// loadDailyBars does the work of a claimed run.
func (a *app) loadDailyBars(ctx context.Context, s *services, req request, run store.Run) (sweep.Report, error) {
	sources, err := a.bars(ctx, s, req.source)
	if err != nil {
		return sweep.Report{}, err
	}
	defer sources.close()
	if req.wholeMarket {
		if req.symbols, err = wholeMarket(ctx, sources, req); err != nil {
			return sweep.Report{}, err
		}
	}
	job := a.dailyBars(s, req, sources, run)
	plan, err := job.Plan(ctx, req.session, req.symbols)
	if err != nil {
		return sweep.Report{}, err
	}
	asks := sessionAsks(req.session, req.through, plan.Todo)
	if _, err := sources.Plan(asks); err != nil {
		return sweep.Report{}, err
	}
	bar := a.newProgress("daily bars", len(plan.Todo), sources.eta(asks))
	job.Sweep.Each = bar.unit
	report := job.Run(ctx, plan)
	bar.finish()
	a.crossCheck(ctx, s, sources, req.session, &report)
	return a.told(ctx, s, sources, report, asks), nil
}

// wholeMarket returns the asked symbols and all others of a session that comes in
// one call. The run has it then.
func wholeMarket(ctx context.Context, sources *barSources, req request) ([]market.Symbol, error) {
	bars, ok, err := sources.Session(ctx, req.session)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errors.New("--whole-market: no configured source brings a session of all symbols in one call: add massive to SA_DATA__BARS__SOURCES")
	}
	all := slices.AppendSeq(slices.Clone(req.symbols), maps.Keys(bars))
	slices.Sort(all)
	return slices.Compact(all), nil
}

// sessionAsks are the asks for one session of symbols. Only the newest one is on
// every basis, so that its bar needs no others to be compared with.
func sessionAsks(session, through market.Date, symbols []market.Symbol) []chain.Ask {
	alone := session != through
	asks := make([]chain.Ask, len(symbols))
	for i, symbol := range symbols {
		asks[i] = chain.Ask{Symbol: symbol, Range: market.Range{From: session, To: session}, Alone: alone}
	}
	return asks
}

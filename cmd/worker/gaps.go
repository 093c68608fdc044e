package main

import (
	"context"
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/jobs/backfill"
)

// gapFlags are the flags of gaps and repair.
type gapFlags struct {
	runFlags
	since, source once
}

func (a *app) gapsCommand() *cobra.Command {
	var f gapFlags
	cmd := &cobra.Command{
		Use:   "gaps",
		Short: "Which sessions are missing, and why",
		Long: `Lists the sessions without a bar, by symbol, through the newest whose bars are
final. Without --since each symbol is looked at from the first day about which
anything is known. The stored rows are compared, so rows that were deleted by hand
are seen. No provider is called.

lost       the bar was stored and its row is gone: worker repair fetches it
unasked    no source was asked, or none has answered: worker repair fetches it
no_data    a source has answered, and has no bar of the session`,
		Example: "  worker gaps\n  worker gaps --symbols AAPL,MSFT --since 2026-01-01 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.dryRun = true
			return a.withGaps(cmd.Context(), f, a.showGaps)
		},
	}
	f.addGaps(cmd)
	return cmd
}

func (f *gapFlags) addGaps(cmd *cobra.Command) {
	cmd.Flags().Var(&f.symbols, "symbols", symbolsHelp)
	cmd.Flags().Var(&f.since, "since", "first day, as YYYY-MM-DD (default: of each symbol the first about which anything is known)")
}

func (a *app) repairCommand() *cobra.Command {
	var f gapFlags
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Fetch the missing sessions that worker gaps lists",
		Long: `Fetches the sessions that worker gaps lists as lost or unasked, the symbols with
the newest of them first. Symbols of which nothing is stored at all are the
business of worker backfill.` + exitCodes,
		Example: "  worker repair --max-calls 5\n  worker repair --symbols AAPL --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.repair(cmd.Context(), f)
		},
	}
	f.addGaps(cmd)
	cmd.Flags().Var(&f.source, "source", sourceHelp)
	cmd.Flags().IntVar(&f.maxCalls, "max-calls", 0, "the greatest number of provider calls; 0: as many as it takes")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be fetched, and fetch nothing")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait for another worker that fetches history, instead of failing")
	cmd.Flags().BoolVar(&f.noMigrate, "no-migrate", false, "do not bring the database's schema up to date")
	return cmd
}

// gapRequest is what gaps and repair are asked, checked.
type gapRequest struct {
	since, through market.Date
	symbols        []market.Symbol
}

func (a *app) withGaps(ctx context.Context, f gapFlags, do func(context.Context, *services, gapRequest) error) error {
	req, err := a.gapRequest(f)
	if err != nil {
		return err
	}
	return a.withRun(ctx, f.runFlags, func(ctx context.Context, s *services, symbols []market.Symbol) error {
		req.symbols = symbols
		return do(ctx, s, req)
	})
}

func (a *app) gapRequest(f gapFlags) (req gapRequest, err error) {
	if req.through, err = market.NYSE().LastClosed(a.now(), settleTime); err != nil || !f.since.set {
		return req, err
	}
	if req.since, err = market.ParseDate(f.since.value); err != nil {
		return req, usagef("--since: %w", err)
	}
	return req, checkRange(market.Range{From: req.since, To: max(req.since, req.through)})
}

// gapReport is what worker gaps prints.
type gapReport struct {
	Through market.Date `json:"through"`
	Symbols int         `json:"symbols"`
	// Missing is the number of sessions that worker repair can fetch, OutOfReach
	// that of those which this key cannot have, Lacking that of those which a
	// source says it does not have.
	Missing    int `json:"missing_sessions"`
	OutOfReach int `json:"out_of_reach_sessions"`
	Lacking    int `json:"lacking_sessions"`
	// Unknown are the symbols of which nothing is stored or answered.
	Unknown []market.Symbol `json:"nothing_known"`
	Gaps    []gap           `json:"gaps"`
}

type gap struct {
	Symbol   market.Symbol       `json:"symbol"`
	From     market.Date         `json:"from"`
	To       market.Date         `json:"to"`
	Sessions int                 `json:"sessions"`
	State    market.SessionState `json:"state"`
	Reason   string              `json:"reason"`
}

func (a *app) showGaps(ctx context.Context, s *services, req gapRequest) error {
	report, err := a.readGaps(ctx, s, req)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(report)
	}
	a.printGaps(report)
	return nil
}

func (a *app) readGaps(ctx context.Context, s *services, req gapRequest) (gapReport, error) {
	sources, err := a.bars(ctx, s, "")
	if err != nil {
		return gapReport{}, err
	}
	defer sources.close()
	reach, err := sources.Reach()
	if err != nil {
		return gapReport{}, err
	}
	found, err := a.backfill(s, sources, req.through, nil).Gaps(ctx, req.since, reach, req.symbols)
	if err != nil {
		return gapReport{}, err
	}
	report := newGapReport(req, found, reach)
	return report, a.explainGaps(ctx, s, &report)
}

func newGapReport(req gapRequest, found []backfill.Gaps, reach market.Date) gapReport {
	r := gapReport{Through: req.through, Symbols: len(found), Unknown: []market.Symbol{}, Gaps: []gap{}}
	for _, g := range found {
		if !g.Known {
			r.Unknown = append(r.Unknown, g.Symbol)
		}
		for _, one := range g.Gaps {
			if one.State == market.SessionNotListed {
				continue // not missing: there is none
			}
			switch {
			case one.State == market.SessionNoData:
				r.Lacking += one.Sessions
			case one.Range.To < reach:
				r.OutOfReach += one.Sessions
			default:
				r.Missing += one.Sessions
			}
			r.Gaps = append(r.Gaps, gap{
				Symbol: g.Symbol, From: one.Range.From, To: one.Range.To, Sessions: one.Sessions,
				State: one.State, Reason: gapReason(one, reach),
			})
		}
	}
	return r
}

// gapReason says in words why sessions are missing.
func gapReason(g market.Gap, reach market.Date) string {
	switch {
	case g.State == market.SessionNoData:
		return "the source has none"
	case g.Range.To < reach:
		return fmt.Sprintf("before %s, from where on this key has bars", reach)
	case g.State == market.SessionLost:
		return "was stored, its row is gone: worker repair"
	}
	return "not asked for: worker repair"
}

// explainGaps adds what came of the last try to the gaps that were tried in
// vain.
func (a *app) explainGaps(ctx context.Context, s *services, r *gapReport) error {
	last := map[market.Symbol]string{}
	for i, g := range r.Gaps {
		if g.State != market.SessionUnasked {
			continue
		}
		text, ok := last[g.Symbol]
		if !ok {
			attempts, err := s.db.Attempts(ctx, g.Symbol, 1)
			if err != nil {
				return fmt.Errorf("read attempts: %w", err)
			}
			if len(attempts) > 0 && !isDone(attempts[0].Outcome) {
				text = fmt.Sprintf("; last try: %s, %s", attempts[0].Outcome, attempts[0].Message)
			}
			last[g.Symbol] = text
		}
		r.Gaps[i].Reason += text
	}
	return nil
}

func (a *app) printGaps(r gapReport) {
	if len(r.Gaps) > 0 {
		t := a.newTable("symbol", "from", "to", "sessions", "state", "reason")
		for _, g := range r.Gaps {
			t.AppendRow(table.Row{g.Symbol, g.From, g.To, g.Sessions, g.State, g.Reason})
		}
		a.printf("%s\n", t.Render())
	}
	a.printf("%d sessions of %d symbols are missing through %s", r.Missing, r.Symbols, r.Through)
	if r.OutOfReach > 0 {
		a.printf("; %d more cannot be had with this key", r.OutOfReach)
	}
	if r.Lacking > 0 {
		a.printf("; %d more the source does not have", r.Lacking)
	}
	a.printf("\n")
	if n := len(r.Unknown); n > 0 {
		a.printf("nothing is stored of %d symbols (%s): worker backfill, or worker run daily-bars\n", n, names(r.Unknown))
	}
}

func (a *app) repair(ctx context.Context, f gapFlags) error {
	if f.maxCalls < 0 {
		return usagef("--max-calls is %d: want at least 1, or 0 for as many as it takes", f.maxCalls)
	}
	if err := a.needSource(f.runFlags, f.source); err != nil {
		return err
	}
	return a.withGaps(ctx, f, func(ctx context.Context, s *services, req gapRequest) error {
		planned := func(job backfill.Job, _ *barSources) (backfill.Plan, error) {
			return job.PlanRepair(ctx, req.since, req.symbols)
		}
		if !f.dryRun {
			return a.fetchHistory(ctx, s, f.runFlags, f.source.value, req.through, planned)
		}
		return a.printHistoryPlan(ctx, s, f.source.value, req.through, f.maxCalls, planned)
	})
}

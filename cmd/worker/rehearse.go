package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/universe"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// rehearsedDays is how long a rehearsal is unless --to says otherwise.
const rehearsedDays = 28

type rehearseFlags struct {
	from, to, symbols once
}

func (a *app) rehearseCommand() *cobra.Command {
	var f rehearseFlags
	cmd := &cobra.Command{
		Use:   "rehearse",
		Short: "Run the schedule on a simulated clock, and say what would happen",
		Long: `Runs the configured schedule over the days that are asked for, within seconds: the
same decisions as worker serve makes, on a simulated clock, with calls that are
always answered and take what worker plan reckons, under the configured limits. It
begins as a worker does that has done all that was due before, and prints each run,
each day without session and each period that was not complete, in New York time.

It needs no key and no server, calls nobody and writes nothing. A plan that does
not fit the limits is a warning. It fails, with exit code 1 and the fault's name,
if a period would be run twice to its end, be left out without a reason, or if a
limit would be exceeded.`,
		Example: `  worker rehearse
  worker rehearse --from 2026-12-20 --to 2027-01-10
  SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY=0 worker rehearse --symbols @watchlist.txt --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rehearse(cmd.Context(), f) },
	}
	cmd.Flags().Var(&f.from, "from", "first day in New York, as 2026-12-20 (default: today)")
	cmd.Flags().Var(&f.to, "to", "last day (default: 27 days after the first)")
	cmd.Flags().Var(&f.symbols, "symbols", symbolsHelp)
	return cmd
}

// rehearsalReport is what a rehearsal prints.
type rehearsalReport struct {
	From    market.Date `json:"from"`
	To      market.Date `json:"to"`
	Symbols int         `json:"symbols"`
	// Rows are runs and periods without one, in the order of their start.
	Rows []rehearsed   `json:"rows"`
	Jobs []rehearsedOf `json:"jobs"`
	// Providers are those that were called, or have a limit.
	Providers []rehearsedCalls `json:"providers"`
	Notes     []string         `json:"notes"`
	Warnings  []string         `json:"warnings"`
	Faults    []string         `json:"faults"`
}

// rehearsedOf are the totals of a job: its runs, and its periods by state.
type rehearsedOf struct {
	Job     string         `json:"job"`
	Runs    int            `json:"runs"`
	Periods map[string]int `json:"periods"`
	// done are the symbols that were stored, of are those of all periods.
	done, of int
}

// rehearsedCalls are the calls of a provider.
type rehearsedCalls struct {
	Provider string `json:"provider"`
	Calls    int    `json:"calls"`
	// BusiestDay is the most calls on a day of New York; PerDay is the limit of
	// that, 0 for none.
	BusiestDay int `json:"busiest_day"`
	PerDay     int `json:"limit_per_day"`
}

func (a *app) rehearse(ctx context.Context, f rehearseFlags) error {
	days, err := a.rehearsedRange(f)
	if err != nil {
		return err
	}
	symbols, err := a.givenSymbols(f.symbols)
	if err != nil {
		return err
	}
	if symbols == nil {
		symbols = universe.BuiltIn().Symbols
	}
	r := a.rehearsal(symbols)
	if err := r.run(ctx, span{days.From.In(market.NewYork(), 0, 0), (days.To + 1).In(market.NewYork(), 0, 0)}); err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	return a.tellRehearsal(ctx, r, days, len(symbols))
}

// tellRehearsal prints what has happened, and fails if there were faults.
func (a *app) tellRehearsal(ctx context.Context, r *rehearsal, days market.Range, symbols int) error {
	report, err := a.rehearsalReport(ctx, r, days, symbols)
	if err != nil {
		return err
	}
	if a.asJSON {
		err = a.printJSON(report)
	} else {
		a.printRehearsal(report)
	}
	if err != nil || len(report.Faults) == 0 {
		return err
	}
	_, _ = fmt.Fprintf(a.Stderr, "worker: %s\n", a.redact(strings.Join(report.Faults, "\nworker: ")))
	return exitError{exitFailed}
}

// rehearsedRange reads the days to be rehearsed.
func (a *app) rehearsedRange(f rehearseFlags) (days market.Range, err error) {
	days.From = a.today()
	if f.from.set {
		if days.From, err = market.ParseDate(f.from.value); err != nil {
			return days, usagef("--from: %w", err)
		}
	}
	days.To = days.From + rehearsedDays - 1
	if f.to.set {
		if days.To, err = market.ParseDate(f.to.value); err != nil {
			return days, usagef("--to: %w", err)
		}
	}
	// What was due last before the first day can be a month old, and what the
	// last one publishes is looked for a month later.
	const around = 100
	known := market.NYSE().Known()
	switch {
	case days.To < days.From:
		return days, usagef("--to %s is before --from %s", days.To, days.From)
	case days.From < known.From+around || days.To > known.To-around:
		return days, usagef("%s to %s: the calendar of the exchange allows %s to %s", days.From, days.To, known.From+around, known.To-around)
	}
	return days, nil
}

func (a *app) rehearsalReport(ctx context.Context, r *rehearsal, days market.Range, symbols int) (rehearsalReport, error) {
	slices.SortStableFunc(r.rows, func(x, y rehearsed) int { return x.Start.Compare(y.Start) })
	out := rehearsalReport{
		From: days.From, To: days.To, Symbols: symbols, Rows: slices.Clip(append([]rehearsed{}, r.rows...)),
		Notes: append([]string{}, a.rehearsalNotes()...), Warnings: []string{}, Faults: append([]string{}, r.audit.found...),
	}
	out.Notes = append(out.Notes, r.notes...)
	if r.audit.more > 0 {
		out.Faults = append(out.Faults, fmt.Sprintf("and %d more", r.audit.more))
	}
	for _, t := range r.tasks {
		of, err := r.totals(ctx, t.Name)
		if err != nil {
			return out, err
		}
		out.Jobs = append(out.Jobs, of)
		if late := of.Periods[store.GaveUp] + of.Periods[store.Missed]; late > 0 {
			out.Warnings = append(out.Warnings, doesNotFit(of, late))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.audit.windows)) {
		if w := r.audit.windows[name]; w.total > 0 {
			out.Providers = append(out.Providers, rehearsedCalls{Provider: name, Calls: w.total, BusiestDay: w.most, PerDay: w.perDay})
		}
	}
	return out, nil
}

// totals counts what was rehearsed of a job.
func (r *rehearsal) totals(ctx context.Context, job string) (rehearsedOf, error) {
	of := rehearsedOf{Job: job, Periods: map[string]int{}}
	sizes := map[string]int{}
	for _, row := range r.rows {
		if row.Job == job && row.Calls != nil {
			of.Runs++
			of.done += row.fetched
			sizes[row.Period] = max(sizes[row.Period], row.Of)
		}
	}
	for _, n := range sizes {
		of.of += n
	}
	periods, err := r.memory.Periods(ctx, job, len(r.rows)+1)
	for _, p := range periods {
		if !p.Tick.Equal(r.before[job]) {
			of.Periods[p.State]++
		}
	}
	return of, err
}

// doesNotFit says that periods of a job were not complete in time, and what helps.
func doesNotFit(of rehearsedOf, late int) string {
	periods := 0
	for state, n := range of.Periods {
		if state != store.NoSession {
			periods += n
		}
	}
	what := fmt.Sprintf("%s does not fit the limits: %d of %d periods were not complete when the next was due", of.Job, late, periods)
	if of.of > 0 {
		what += fmt.Sprintf("; on average %d%% of a period's symbols were done", 100*of.done/of.of)
	}
	sources := ""
	if of.Job == dailybars.Name {
		sources = "more sources of bars (SA_DATA__BARS__SOURCES), "
	}
	return what + ". What fits better: fewer symbols (SA_DATA__UNIVERSE__SYMBOLS), " + sources + "or a key without a limit of the day (SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY=0)"
}

// rehearsalNotes say what the configuration lacks, and what is not reckoned with.
func (a *app) rehearsalNotes() (notes []string) {
	if !a.cfg.Schedule.Enabled {
		notes = append(notes, "SA_SCHEDULER__ENABLED is false: worker serve would refuse to start")
	}
	if env := a.cfg.keyless(alphavantage.Name); env != "" {
		does := "schedule " + fundamentals.Name
		if slices.Contains(a.cfg.barSources(), alphavantage.Name) {
			does = "start"
		}
		notes = append(notes, env+" is not set: worker serve does not "+does+" without it; it is rehearsed as if it were")
	}
	if a.cfg.EDGAR.UserAgent == "" {
		notes = append(notes, "SA_DATA__EDGAR__USER_AGENT is not set: nothing is asked of the SEC")
	} else {
		notes = append(notes, "how many documents the SEC's indexes list is not known before they are read: their calls are left out")
	}
	if a.cfg.CrossCheck > 0 {
		notes = append(notes, "the calls that compare sources (SA_DATA__BARS__CROSS_CHECK_PERCENT) are left out")
	}
	if a.cfg.UniverseSource.IsSet() {
		notes = append(notes, "the list of SA_DATA__UNIVERSE__SP500_SOURCE is not asked for: the built-in one stands for it")
	}
	return notes
}

func (a *app) printRehearsal(d rehearsalReport) {
	const form = "2006-01-02 Mon 15:04:05"
	t := a.newTable("start", "end", "job", "period", "calls", "result")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "result", WidthMax: 64, WidthMaxEnforcer: text.WrapSoft}})
	for _, row := range d.Rows {
		start, end := row.Start.In(market.NewYork()), row.End.In(market.NewYork()).Format("15:04:05")
		if days := int(market.DateOf(row.End.In(market.NewYork())) - market.DateOf(start)); days > 0 {
			end += fmt.Sprintf(" +%dd", days)
		}
		if row.Calls == nil {
			t.AppendRow(table.Row{start.Format(form), "", row.Job, row.Period, "", row.Result + ": " + strings.TrimPrefix(row.Reason, row.Result+": ")})
			continue
		}
		t.AppendRow(table.Row{start.Format(form), end, row.Job, row.Period, callsText(row.Calls), fmt.Sprintf("%s, %d of %d", row.Result, row.Done, row.Of)})
	}
	a.printf("%s to %s, %d symbols, in New York time\n%s\n\n", d.From, d.To, d.Symbols, t.Render())
	states := []string{store.Complete, store.GaveUp, store.Missed, store.NoSession}
	t = a.newTable("job", "runs", "complete", "gave up", "missed", "no session", "open at the end")
	for _, j := range d.Jobs {
		row := table.Row{j.Job, j.Runs}
		for _, state := range states {
			row = append(row, j.Periods[state])
		}
		t.AppendRow(append(row, j.Periods[store.Running]+j.Periods[store.Incomplete]))
	}
	a.printf("%s\n\n", t.Render())
	t = a.newTable("provider", "calls", "busiest day", "limit of a day")
	for _, p := range d.Providers {
		limit := "none"
		if p.PerDay > 0 {
			limit = fmt.Sprint(p.PerDay)
		}
		t.AppendRow(table.Row{p.Provider, p.Calls, p.BusiestDay, limit})
	}
	a.printf("%s\n", t.Render())
	for _, note := range d.Notes {
		a.printf("\nNote: %s\n", note)
	}
	for _, w := range d.Warnings {
		a.printf("\nWarning: %s\n", w)
	}
	if len(d.Faults) == 0 {
		a.printf("\nNo period was run twice, none was left out without a reason, and no limit was exceeded.\n")
	}
	for _, f := range d.Faults {
		a.printf("\nFAULT: %s\n", f)
	}
}

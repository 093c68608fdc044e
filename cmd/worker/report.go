package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/providers/chain"
)

// listed is how many failures a report in words shows.
const listed = 20

func (a *app) printReport(r sweep.Report, forced bool) error {
	if a.asJSON {
		return a.printJSON(r)
	}
	for _, part := range r.Parts {
		a.printf("%s %s: %s\n", part.Job, part.Period, summary(part))
		a.printDetails(part)
		a.printf("\n")
	}
	a.printf("%s %s: %s\n", r.Job, r.Period, summary(r))
	a.printDetails(r)
	if advice := advice(r, forced); advice != "" {
		a.printf("\n%s\n", advice)
	}
	return nil
}

func (a *app) printDetails(r sweep.Report) {
	if len(r.Outcomes) > 0 {
		a.printOutcomes(r)
	}
	if len(r.Failures) > 0 {
		a.printFailures(r.Failures)
	}
	if len(r.Calls) > 0 {
		a.printf("\n%s\n", fromWhere(r))
	}
	if c := r.CrossCheck; c != nil {
		a.printf("\ncompared with a second source: %d bars, %d differ\n", c.Compared, len(c.Disagreements))
	}
	if r.Stopped != "" {
		a.printf("\nThe run ended early: %s\n", r.Stopped)
	}
	for _, w := range r.Warnings {
		a.printf("\nWarning: %s\n", w)
	}
}

// fromWhere says how many symbols came from each source, at how many calls.
func fromWhere(r sweep.Report) string {
	var texts []string
	for name, n := range r.Calls {
		texts = append(texts, fmt.Sprintf("%s %d (%d calls)", name, len(r.Sources[name]), n))
	}
	slices.Sort(texts)
	return "symbols by source: " + strings.Join(texts, ", ")
}

// summary is the report in one line.
func summary(r sweep.Report) string {
	units := "symbols"
	if periodOf(r) == "window" {
		units = "items"
	}
	if r.Symbols > 0 && r.Skipped == r.Symbols && r.Rows+r.ProviderCalls == 0 {
		if r.Job == backfill.RepairName {
			return fmt.Sprintf("nothing to fetch: %d symbols have no gap that a source could fill (0 provider calls)", r.Symbols)
		}
		return fmt.Sprintf("nothing to fetch: all %d %s are stored for this %s already (0 provider calls)", r.Symbols, units, periodOf(r))
	}
	stored := fmt.Sprintf("%s, %d of %d %s stored (%d before), %d rows written", r.Status, r.Fetched+r.Skipped, r.Symbols, units, r.Skipped, r.Rows)
	if r.StartedAt.IsZero() {
		return stored // of a part that was not timed by itself
	}
	took := r.FinishedAt.Sub(r.StartedAt).Round(10 * time.Millisecond)
	return fmt.Sprintf("%s, %d provider calls, %s", stored, r.ProviderCalls, took)
}

// periodOf names the kind of the report's period.
func periodOf(r sweep.Report) string {
	if _, err := market.ParseWeek(r.Period); err == nil {
		return "week"
	}
	switch {
	case strings.Contains(r.Period, "/"):
		return "window"
	case strings.Contains(r.Period, ".."):
		return "range"
	}
	return "session"
}

func (a *app) newTable(header ...any) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = 0
	t.AppendHeader(table.Row(header))
	return t
}

func (a *app) printOutcomes(r sweep.Report) {
	t := a.newTable("outcome", "symbols")
	order := sweep.Outcomes()
	for _, o := range slices.SortedFunc(maps.Keys(r.Outcomes), func(x, y sweep.Outcome) int {
		return cmp.Compare(slices.Index(order, x), slices.Index(order, y))
	}) {
		t.AppendRow(table.Row{o, r.Outcomes[o]})
	}
	if r.Skipped > 0 {
		t.AppendRow(table.Row{"stored before", r.Skipped})
	}
	a.printf("%s\n", t.Render())
}

func (a *app) printFailures(failures []sweep.Failure) {
	t := a.newTable("symbol", "class", "message")
	for _, f := range failures[:min(listed, len(failures))] {
		t.AppendRow(table.Row{f.Symbol, f.Class, f.Message})
	}
	a.printf("%s\n", t.Render())
	if more := len(failures) - listed; more > 0 {
		a.printf("and %d more: --json lists all\n", more)
	}
}

// advice says what to do next. With --force the same command would ask for
// everything once more.
func advice(r sweep.Report, forced bool) string {
	again := "the same command again"
	if forced {
		again = "the command again without --force"
	}
	switch r.Status {
	case sweep.Partial, sweep.WasInterrupted:
		if r.Outcomes[sweep.PremiumOnly] == r.Failed {
			return "What is left cannot be had with this key: see worker plan backfill."
		}
		return "Nothing is lost: run " + again + ", and it asks only for what is missing."
	case sweep.OutOfQuota:
		text := fmt.Sprintf("Run %s after midnight in New York (%s): it asks only for what is missing.",
			again, nextMidnight(r.FinishedAt).UTC().Format(time.RFC3339))
		if r.CompleteAt != nil {
			text += fmt.Sprintf(" Under the limits all are stored on %s.", r.CompleteAt.In(market.NewYork()).Format(time.DateOnly))
		}
		return text
	case sweep.OK, sweep.Failed:
	}
	return ""
}

// dryRun is what a run would do, as --dry-run prints it.
type dryRun struct {
	Job           string `json:"job"`
	Period        string `json:"period"`
	Symbols       int    `json:"symbols"`
	Skipped       int    `json:"skipped"`
	ProviderCalls int    `json:"provider_calls"`
	// Calls are the calls by provider; absent where there is one only.
	Calls      map[string]int  `json:"calls,omitempty"`
	CallsToday int             `json:"provider_calls_today"`
	CompleteAt time.Time       `json:"complete_at"`
	Order      []market.Symbol `json:"order"`
	// Parts are asked of providers whose calls are not counted by the day.
	Parts    []dryRunPart `json:"parts,omitempty"`
	Warnings []string     `json:"warnings,omitempty"`
}

type dryRunPart struct {
	Job     string `json:"job"`
	Symbols int    `json:"symbols"`
	Skipped int    `json:"skipped"`
}

func (a *app) planDailyBars(ctx context.Context, s *services, req request) error {
	sources, err := a.bars(ctx, s, req.source)
	if err != nil {
		return err
	}
	defer sources.close()
	plan, err := a.dailyBars(s, req, sources, nil).Plan(ctx, req.session, req.symbols)
	if err != nil {
		return err
	}
	calls, err := sources.Plan(sessionAsks(req.session, req.through, plan.Todo))
	if err != nil {
		return err
	}
	end := calls.ETA(a.now())
	return a.printDryRun(dryRun{
		Job: dailybars.Name, Period: req.session.String(),
		Symbols: len(req.symbols), Skipped: plan.Skipped, ProviderCalls: calls.Total(), Calls: calls.Calls,
		CallsToday: end.Today, CompleteAt: end.At.UTC(), Order: plan.Todo,
	}, end, 1)
}

// printDryRun prints what a run would do; each is the number of calls that a
// symbol costs.
func (a *app) printDryRun(d dryRun, end chain.ETA, each int) error {
	if d.Order == nil {
		d.Order = []market.Symbol{}
	}
	if a.asJSON {
		return a.printJSON(d)
	}
	calls := "one call each"
	switch {
	case each > 1:
		calls = fmt.Sprintf("%d calls each", each)
	case d.Calls != nil && (len(d.Calls) > 1 || d.ProviderCalls < len(d.Order)):
		calls = fmt.Sprintf("%d calls: %s", d.ProviderCalls, callsText(d.Calls))
	}
	a.printf("%s %s: would ask for %d of %d symbols (%d are stored), %s\n",
		d.Job, d.Period, len(d.Order), d.Symbols, d.Skipped, calls)
	if d.ProviderCalls > 0 {
		a.printf("complete: %s\n", end)
	}
	for _, p := range d.Parts {
		a.printf("before that, %s: %d symbols (%d are stored), which costs none of these calls\n", p.Job, p.Symbols, p.Skipped)
	}
	for _, w := range d.Warnings {
		a.printf("\nWarning: %s\n", w)
	}
	return nil
}

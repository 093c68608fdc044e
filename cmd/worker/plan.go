package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/chain"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/finra"
)

// jobNames are the jobs by their names on the command line, in the order in
// which they share a provider's calls.
func jobNames() []string { return []string{"daily-bars", "fundamentals", "altdata", "backfill"} }

// planFlags are the flags of plan.
type planFlags struct {
	symbols, years once
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [job]",
		Short: "What the next runs would fetch, at how many calls, and when it is done",
		Long: `Says for each job what its next run would fetch, how many calls of which provider
that takes, how many of them fit into today, and when all of it is stored under the
limits of the minute and of the day. The jobs are taken one after the other: those
that share a provider's calls share its day. No provider is called.`,
		Example:   "  worker plan\n  worker plan backfill --years 5\n  worker plan daily-bars --json",
		ValidArgs: jobNames(),
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = jobNames()
			}
			return a.plan(cmd.Context(), f, args)
		},
	}
	cmd.Flags().Var(&f.symbols, "symbols", symbolsHelp)
	cmd.Flags().Var(&f.years, "years", fmt.Sprintf("how many years back the history goes (default: %d)", defaultYears))
	return cmd
}

// jobPlan is the plan of a job's next run.
type jobPlan struct {
	Job     string `json:"job"`
	Period  string `json:"period"`
	Symbols int    `json:"symbols"`
	// Done are those of which nothing is to be fetched.
	Done int `json:"done"`
	// Calls are the calls of the run by provider, without tries in vain;
	// Today is how many of those of a provider with a day limit fit into today.
	Calls map[string]int `json:"calls"`
	Today int            `json:"calls_today"`
	// CompleteAt is when the last call starts if the run goes on each day.
	CompleteAt time.Time `json:"complete_at"`
	Notes      []string  `json:"notes,omitempty"`
}

// planner makes plans of several jobs, which share the calls of providers.
type planner struct {
	*app
	s       *services
	symbols []market.Symbol
	through market.Date
	// years says that a number of years was asked for.
	years   bool
	sources *barSources
	// pace is Alpha Vantage's, after the calls of the jobs planned so far.
	pace chain.Pace
	// asked are the symbols of which daily bars are to be fetched, one by one,
	// which bring the newest sessions with them.
	asked map[market.Symbol]bool
}

func (a *app) plan(ctx context.Context, f planFlags, jobs []string) error {
	window, through, err := a.history(backfillFlags{years: f.years})
	if err != nil {
		return err
	}
	return a.withRun(ctx, runFlags{symbols: f.symbols, dryRun: true}, func(ctx context.Context, s *services, symbols []market.Symbol) error {
		sources, err := a.bars(ctx, s, "")
		if err != nil {
			return err
		}
		defer sources.close()
		limits, err := a.limitsOf(s, a.alphaVantageQuota())
		if err != nil {
			return err
		}
		p := &planner{app: a, s: s, symbols: symbols, through: through, years: f.years.set, sources: sources, pace: a.pace(ctx, s, a.alphaVantageQuota(), limits)}
		plans := make([]jobPlan, 0, len(jobs))
		for _, job := range jobs {
			plan, err := map[string]func(context.Context) (jobPlan, error){
				"daily-bars":   p.dailyBars,
				"fundamentals": p.fundamentals,
				"altdata":      p.altdata,
				"backfill":     func(ctx context.Context) (jobPlan, error) { return p.backfill(ctx, window) },
			}[job](ctx)
			if err != nil {
				return err
			}
			plans = append(plans, plan)
		}
		if a.asJSON {
			return a.printJSON(plans)
		}
		a.printPlans(plans)
		return nil
	})
}

// shared fills in when a plan is through, and notes its calls, which go before
// those of the plans after it.
func (p *planner) shared(plan jobPlan, calls map[string]int, end chain.ETA) jobPlan {
	plan.Calls, plan.CompleteAt, plan.Today = calls, end.At.UTC(), end.Today
	p.sources.planned(calls)
	p.pace.Before += calls[alphavantage.Name]
	total := 0
	for _, n := range calls {
		total += n
	}
	if wait := total - plan.Today; wait > 0 {
		plan.Notes = append(plan.Notes, fmt.Sprintf("%d calls wait for the next days: %s", wait, p.dayLimits()))
	}
	return plan
}

// dayLimits names the limits of the day.
func (p *planner) dayLimits() string {
	var texts []string
	for _, q := range p.barQuotas() {
		if q.perDay > 0 {
			texts = append(texts, fmt.Sprintf("%s takes %d a day", q.provider, q.perDay))
		}
	}
	return strings.Join(texts, ", ")
}

func (p *planner) dailyBars(ctx context.Context) (jobPlan, error) {
	req := request{session: p.through, through: p.through, symbols: p.symbols}
	plan, err := p.app.dailyBars(p.s, req, p.sources, nil).Plan(ctx, p.through, p.symbols)
	if err != nil {
		return jobPlan{}, err
	}
	calls, err := p.sources.Plan(sessionAsks(p.through, p.through, plan.Todo))
	if err != nil {
		return jobPlan{}, err
	}
	p.asked = map[market.Symbol]bool{}
	if calls.Sessions.Len() == 0 {
		for _, symbol := range plan.Todo {
			p.asked[symbol] = true
		}
	}
	return p.shared(jobPlan{Job: dailybars.Name, Period: p.through.String(), Symbols: len(p.symbols), Done: plan.Skipped}, calls.Calls, calls.ETA(p.now())), nil
}

func (p *planner) fundamentals(ctx context.Context) (jobPlan, error) {
	week := market.WeekOf(p.today())
	job := p.app.fundamentals(p.s, weekRequest{week: week, symbols: p.symbols})
	plan, err := job.Plan(ctx, week, p.symbols)
	if err != nil {
		return jobPlan{}, err
	}
	n := job.Calls(plan)
	out := p.shared(jobPlan{
		Job: fundamentals.Name, Period: week.String(), Symbols: len(p.symbols), Done: len(plan.Done), Notes: plan.Warnings,
	}, map[string]int{alphavantage.Name: n}, p.pace.Estimate(p.now(), n))
	if p.cfg.EDGAR.UserAgent == "" {
		out.Notes = append(out.Notes, noAgentText)
		return out, nil
	}
	// One call for the symbols' issuers, and one for each of them.
	if n := len(plan.Facts); n > 0 {
		out.Calls[edgar.Name] = n + 1
		at, err := p.done(p.edgarQuota(), n+1)
		if err != nil {
			return jobPlan{}, err
		}
		out.CompleteAt = latest(out.CompleteAt, at)
	}
	return out, nil
}

// done is when the calls of a provider without a day limit will be through.
func (p *planner) done(q quota, calls int) (time.Time, error) {
	limits, err := p.limitsOf(p.s, q)
	if err != nil {
		return time.Time{}, err
	}
	return chain.Pace{PerMinute: limits.Rate() * 60}.Estimate(p.now(), calls).At.UTC(), nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (p *planner) altdata(ctx context.Context) (jobPlan, error) {
	d, err := p.altdataPlan(ctx, p.s, altdataFlags{}, windowRequest{symbols: p.symbols})
	if err != nil {
		return jobPlan{}, err
	}
	out := jobPlan{
		Job: altdata.Name, Period: altdata.Window{Since: d.Since, Until: d.Until}.String(), Symbols: len(p.symbols),
		Calls: map[string]int{finra.Name: len(d.Settlements)}, CompleteAt: p.now().UTC(), Notes: d.Warnings,
	}
	if p.cfg.EDGAR.UserAgent == "" {
		out.Notes = append(out.Notes, noInsidersText)
	} else {
		out.Calls[edgar.Name] = len(d.IndexDays) + d.Documents
	}
	if len(d.IndexDays) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("how many documents the indexes of %d days list is known when they are read", len(d.IndexDays)))
	}
	for _, q := range []quota{p.edgarQuota(), p.finraQuota()} {
		at, err := p.done(q, out.Calls[q.provider])
		if err != nil {
			return jobPlan{}, err
		}
		out.CompleteAt = latest(out.CompleteAt, at)
	}
	return out, nil
}

func (p *planner) backfill(ctx context.Context, window market.Range) (jobPlan, error) {
	window, err := p.sources.align(window, !p.years)
	if err != nil {
		return jobPlan{}, err
	}
	plan, err := p.app.backfill(p.s, p.sources, p.through, nil).Plan(ctx, window, p.symbols)
	if err != nil {
		return jobPlan{}, err
	}
	d := p.historyPlan(plan, len(p.symbols))
	asks, with, err := p.withoutDailyBars(historyAsks(plan))
	if err != nil {
		return jobPlan{}, err
	}
	if with > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("the sessions of %d symbols come with the answers of daily_bars, without a further call", with))
	}
	calls, err := p.sources.Plan(asks)
	if err != nil {
		return jobPlan{}, err
	}
	return p.shared(jobPlan{Job: backfill.Name, Period: d.Period, Symbols: d.Symbols, Done: d.Skipped, Notes: d.Warnings}, calls.Calls, calls.ETA(p.now())), nil
}

// withoutDailyBars leaves out the asks of which the daily bars, planned before,
// bring all that they want, and counts them.
func (p *planner) withoutDailyBars(asks []chain.Ask) (rest []chain.Ask, with int, err error) {
	oldest, err := market.NYSE().Back(p.through, dailybars.WindowSessions-1)
	if err != nil {
		return nil, 0, err
	}
	for _, ask := range asks {
		if ask.Range.From >= oldest && p.asked[ask.Symbol] {
			with++
		} else {
			rest = append(rest, ask)
		}
	}
	return rest, with, nil
}

func (a *app) printPlans(plans []jobPlan) {
	t := a.newTable("job", "period", "done", "calls", "today", "complete")
	for _, p := range plans {
		t.AppendRow(table.Row{p.Job, p.Period, fmt.Sprintf("%d of %d", p.Done, p.Symbols), callsText(p.Calls), p.Today, p.complete(a.now())})
	}
	a.printf("%s\n", t.Render())
	for _, p := range plans {
		for _, note := range p.Notes {
			a.printf("\n%s: %s\n", p.Job, note)
		}
	}
}

// complete says when a plan is through, in New York time.
func (p jobPlan) complete(now time.Time) string {
	calls := 0
	for _, n := range p.Calls {
		calls += n
	}
	if calls == 0 {
		return "nothing to fetch"
	}
	took := p.CompleteAt.Sub(now).Round(time.Minute)
	at := p.CompleteAt.In(market.NewYork())
	days := int(market.DateOf(at)) - int(market.DateOf(now.In(market.NewYork())))
	if days > 0 {
		// Today counts, as the first of the days on which calls are made.
		return fmt.Sprintf("%s (%d days)", at.Format(time.DateOnly), days+1)
	}
	if took < time.Minute {
		return "within a minute"
	}
	return fmt.Sprintf("%s (%.0f minutes)", at.Format("15:04 MST"), took.Minutes())
}

// callsText is "503 alpha_vantage, 20 edgar".
func callsText(calls map[string]int) string {
	var texts []string
	for name, n := range calls {
		if n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", n, name))
		}
	}
	slices.Sort(texts)
	if len(texts) == 0 {
		return "0"
	}
	return strings.Join(texts, ", ")
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// How old a tick may be and still be run. Daily bars: each answer holds what a
// week has missed. The others: until their next tick.
const (
	barsWindow    = 7 * 24 * time.Hour
	weeklyWindow  = 7 * 24 * time.Hour
	altdataWindow = 16 * 24 * time.Hour
)

// scheduleConfig is when which job is due.
type scheduleConfig struct {
	Enabled                     bool
	DailyBars, Weekly, Biweekly schedule.Schedule
}

// schedules reads the schedules of the jobs.
func (l *loader) schedules() scheduleConfig {
	zone := l.text("SA_SCHEDULER__TIMEZONE")
	parse := func(env string) schedule.Schedule {
		s, err := schedule.Parse(env, l.text(env), zone)
		if err != nil {
			l.problem("%w", err)
		}
		return s
	}
	return scheduleConfig{
		Enabled:   l.oneOf("SA_SCHEDULER__ENABLED", "", "true", "false") == "true",
		DailyBars: parse("SA_SCHEDULER__DAILY_BARS_CRON"),
		Weekly:    parse("SA_SCHEDULER__WEEKLY_FUNDAMENTALS_CRON"),
		Biweekly:  parse("SA_SCHEDULER__BIWEEKLY_ALTDATA_CRON"),
	}
}

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the jobs on their schedules until told to stop",
		Long: `Runs daily bars, weekly fundamentals and biweekly alternative data on the schedules
of SA_SCHEDULER__*, until SIGTERM or SIGINT. Each session, each ISO week and each
window is run once, on however many replicas: who claims a run in the database has
it, and another one goes on when that is gone. What a provider did not have yet, or
what a day's calls did not suffice for, is asked for again until the next period is
due. After a time away the newest period is run, which brings what was missed; for
each other one the journal says why it was not.

On SIGTERM the calls in flight are finished, and the exit code is 0 within 20
seconds; a second signal ends the process at once.`,
		Example: "  worker serve\n  SA_SCHEDULER__DAILY_BARS_CRON='45 18 * * 1-5' worker serve",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	if !a.cfg.Schedule.Enabled {
		return usagef("SA_SCHEDULER__ENABLED is false: there is nothing to serve")
	}
	s, err := a.openServices(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	a.log.Info("using " + s.where())
	if err := s.ready(ctx, true); err != nil {
		return err
	}
	release, err := a.callingRights(ctx, s)
	if err != nil {
		return heldError(err)
	}
	defer release()
	s.calling = true
	r := runner.Runner{Tasks: a.tasks(s), Journal: s.db, Now: a.now, Tell: a.logEvent}
	for _, t := range r.Tasks {
		for _, note := range t.Schedule.Notes(a.now()) {
			a.log.Warn("schedule", zap.String("job", t.Name), zap.String("note", note))
		}
		a.log.Info("scheduled", zap.String("job", t.Name), zap.Stringer("spec", t.Schedule), zap.Time("next", t.Schedule.Next(a.now())))
	}
	r.Serve(ctx)
	a.log.Info("stopped")
	return nil
}

func (a *app) logEvent(e runner.Event) {
	fields := []zap.Field{zap.String("job", e.Job), zap.String("period", e.Period), zap.String("state", e.State), zap.String("reason", e.Reason)}
	switch {
	case e.Err != nil:
		a.log.Error("schedule", zap.String("job", e.Job), zap.String("error", a.redact(e.Err.Error())))
	case e.State == "":
		a.log.Warn("schedule", fields...)
	default:
		a.log.Info("period", fields...)
	}
}

// tasks are the scheduled jobs that the configuration suffices for.
func (a *app) tasks(s *services) []runner.Task {
	c := a.cfg.Schedule
	tasks := []runner.Task{{
		Job: schedule.Job{
			Name: dailybars.Name, Schedule: c.DailyBars, Window: barsWindow, Whole: true,
			Period: schedule.DailyBars(market.NYSE(), settleTime, c.DailyBars),
		},
		Run: func(ctx context.Context, period string) (sweep.Report, error) { return a.scheduledBars(ctx, s, period) },
	}, {
		Job:    schedule.Job{Name: altdata.Name, Schedule: c.Biweekly, Window: altdataWindow, Whole: true, Period: schedule.Biweekly},
		Ledger: altdata.Period,
		Run:    func(ctx context.Context, _ string) (sweep.Report, error) { return a.scheduledAltdata(ctx, s) },
	}}
	if env := a.cfg.keyless(alphavantage.Name); env != "" {
		a.log.Warn(env + " is not set: " + fundamentals.Name + " is not scheduled")
		return tasks
	}
	return append(tasks, runner.Task{
		Job: schedule.Job{Name: fundamentals.Name, Schedule: c.Weekly, Window: weeklyWindow, Period: schedule.Weekly},
		Run: func(ctx context.Context, period string) (sweep.Report, error) { return a.scheduledWeek(ctx, s, period) },
	})
}

func (a *app) scheduledBars(ctx context.Context, s *services, name string) (sweep.Report, error) {
	session, err := market.ParseDate(name)
	if err != nil {
		return sweep.Report{}, err
	}
	through, err := market.NYSE().LastClosed(a.now(), settleTime)
	if err != nil {
		return sweep.Report{}, err
	}
	return a.scheduled(ctx, s, period{job: dailybars.Name, name: name}, func(ctx context.Context, symbols []market.Symbol, run store.Run) (sweep.Report, error) {
		return a.loadDailyBars(ctx, s, request{session: session, through: through, symbols: symbols}, run)
	})
}

func (a *app) scheduledWeek(ctx context.Context, s *services, name string) (sweep.Report, error) {
	week, err := market.ParseWeek(name)
	if err != nil {
		return sweep.Report{}, err
	}
	return a.scheduled(ctx, s, period{job: fundamentals.Name, name: name}, func(ctx context.Context, symbols []market.Symbol, run store.Run) (sweep.Report, error) {
		return a.loadFundamentals(ctx, s, weekRequest{week: week, symbols: symbols}, run)
	})
}

func (a *app) scheduledAltdata(ctx context.Context, s *services) (sweep.Report, error) {
	req, err := a.window(altdataFlags{})
	if err != nil {
		return sweep.Report{}, err
	}
	return a.scheduled(ctx, s, period{job: altdata.Name, name: altdata.Period}, func(ctx context.Context, symbols []market.Symbol, run store.Run) (sweep.Report, error) {
		req.symbols = symbols
		return a.loadAltdata(ctx, s, altdataFlags{}, req, run)
	})
}

// scheduled claims a run of the universe and says at its end what came of it.
func (a *app) scheduled(ctx context.Context, s *services, p period, do func(context.Context, []market.Symbol, store.Run) (sweep.Report, error)) (sweep.Report, error) {
	symbols, err := a.givenSymbols(once{})
	if err != nil {
		return sweep.Report{}, err
	}
	if symbols == nil {
		symbols = a.universe(ctx, s, true).Symbols
	}
	report, err := a.claimAndRun(ctx, s, p, func(ctx context.Context, run store.Run) (sweep.Report, error) {
		a.log.Info("run", zap.Int64("run", run.ID()), zap.String("job", p.job), zap.String("period", p.name), zap.Int("symbols", len(symbols)))
		// Another replica may have it by then, and goes on at once.
		ctx, cancel := untilStopping(ctx, run.Lost())
		defer cancel()
		return do(ctx, symbols, run)
	})
	if err != nil {
		return report, fmt.Errorf("%s %s: %w", p.job, p.name, err)
	}
	a.logReport(report)
	return report, nil
}

// logReport says how a run ended: in one line, and one for each failed symbol.
func (a *app) logReport(r sweep.Report) {
	a.log.Info("run ended", zap.String("job", r.Job), zap.String("period", r.Period), zap.String("status", string(r.Status)),
		zap.Int("symbols", r.Symbols), zap.Int("fetched", r.Fetched), zap.Int("skipped", r.Skipped), zap.Int("failed", r.Failed),
		zap.Int("rows", r.Rows), zap.Int("calls", r.ProviderCalls), zap.Duration("took", r.FinishedAt.Sub(r.StartedAt)), zap.String("stopped", r.Stopped))
	for i, f := range r.Failures {
		if i == listed {
			a.log.Warn("failed", zap.Int("more", len(r.Failures)-listed))
			return
		}
		a.log.Warn("failed", zap.String("symbol", string(f.Symbol)), zap.String("class", string(f.Class)), zap.String("message", f.Message))
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

// How old a tick may be and still be run. Daily bars: the run of a session brings
// what a week has missed. The others: until their next tick.
const (
	barsWindow    = 7 * 24 * time.Hour
	weeklyWindow  = 7 * 24 * time.Hour
	altdataWindow = 18 * 24 * time.Hour
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

It listens on SA_HTTP__ADDR: /livez, /readyz, /metrics, the channels on /ws, and an
API that shows what is going on and starts runs.

On SIGHUP the configuration file, the files of secrets and the list of symbols are
read again: schedules, limits, keys and universe change at once, with what has
changed in the log. A file with a mistake changes nothing. On SIGTERM the calls in
flight are finished, and the exit code is 0 within 20 seconds; a second signal ends
the process at once.`,
		Example: "  worker serve\n  SA_SCHEDULER__DAILY_BARS_CRON='45 18 * * 1-5' worker serve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.serve(cmd.Context())
			if errors.As(context.Cause(cmd.Context()), new(signalError)) {
				return nil // told to stop before it had started
			}
			return err
		},
	}
}

func (a *app) serve(ctx context.Context) error {
	if !a.cfg.Schedule.Enabled {
		return usagef("SA_SCHEDULER__ENABLED is false: there is nothing to serve")
	}
	if err := a.cfg.HTTP.check(); err != nil {
		return err
	}
	if err := a.needKey(runFlags{}, a.cfg.barSources()...); err != nil {
		return err
	}
	// From here on a SIGHUP is a reload, if only once the schedules run.
	hangups, stop := a.hangups()
	defer stop()
	var err error
	if a.symbols, err = a.givenSymbols(once{}); err != nil {
		return err
	}
	a.fixed = true
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
	defer a.keepKillSwitch(ctx, s)()
	defer a.startMetrics(ctx, s)()
	defer a.startAlarms(ctx)()
	return a.serveSchedules(ctx, s, hangups)
}

// serveSchedules runs the schedules until ctx ends. A reload ends the runs as a
// stop does, with the calls in flight finished, and goes on with them under the
// new configuration: so a lower limit holds at once.
func (a *app) serveSchedules(ctx context.Context, s *services, hangups <-chan os.Signal) error {
	side, err := a.startHTTP(ctx, s)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		r := a.newRunner(s)
		a.watch.use(a, r.Tasks)
		a.announce(r.Tasks)
		generation, end := context.WithCancel(ctx)
		side.use(generation, a, r)
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.watching(generation, s, r.Serve)
		}()
		next := a.awaitReload(ctx, hangups)
		end()
		<-done
		side.idle()
		a = next
	}
	side.stop() //nolint:contextcheck // ctx has ended by then
	a.log.Info("stopped")
	return nil
}

func (a *app) newRunner(s *services) *runner.Runner {
	return &runner.Runner{Tasks: a.tasks(s), Journal: s.db, Now: a.now, Tell: a.newTeller().tell, Changed: a.now(), Ready: s.redisAway, Wait: a.Wait}
}

func (a *app) hangups() (<-chan os.Signal, func()) {
	if a.Hangups == nil {
		return nil, func() {}
	}
	return a.Hangups()
}

// awaitReload returns the program with its new configuration when there is a good
// one, and as it is at the end of ctx.
func (a *app) awaitReload(ctx context.Context, hangups <-chan os.Signal) *app {
	for {
		select {
		case <-ctx.Done():
			return a
		case <-hangups:
		}
		next, err := a.reloaded()
		if err != nil {
			a.log.Error(err.Error())
			continue
		}
		a.logChanges(next)
		return next
	}
}

// announce says when each task is due, and what is odd about its schedule.
func (a *app) announce(tasks []runner.Task) {
	for _, t := range tasks {
		for _, note := range t.Schedule.Notes(a.now()) {
			a.log.Warn("schedule", zap.String("job", t.Name), zap.String("note", note))
		}
		a.log.Info("scheduled", zap.String("job", t.Name), zap.Stringer("spec", t.Schedule), zap.Time("next", t.Schedule.Next(a.now())))
	}
	if env := a.cfg.keyless(alphavantage.Name); env != "" {
		a.log.Warn(env + " is not set: " + fundamentals.Name + " is not scheduled")
	}
}

// quietTime is how long an event that repeats itself is not logged again.
const quietTime = 15 * time.Minute

// teller logs what a runner tells. What a job has said already, as while a
// database is away, it says again after quietTime only, with how often.
type teller struct {
	app  *app
	mu   sync.Mutex
	last map[string]*toldEvent
}

type toldEvent struct {
	event   runner.Event
	at      time.Time
	repeats int
}

func (a *app) newTeller() *teller { return &teller{app: a, last: map[string]*toldEvent{}} }

func (t *teller) tell(e runner.Event) {
	if repeats, say := t.say(e); say {
		t.app.logEvent(e, repeats)
	}
}

// say reports whether an event is to be logged, and how often it was not since.
func (t *teller) say(e runner.Event) (repeats int, say bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, last := t.app.now(), t.last[e.Job]
	if last != nil && sameEvent(last.event, e) && now.Sub(last.at).Abs() < quietTime {
		last.repeats++
		return 0, false
	}
	if last != nil && sameEvent(last.event, e) {
		repeats = last.repeats
	}
	t.last[e.Job] = &toldEvent{event: e, at: now}
	return repeats, true
}

func sameEvent(a, b runner.Event) bool {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		// Ports and process numbers differ in each.
		return strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return -1
			}
			return r
		}, err.Error())
	}
	return a.Period == b.Period && a.State == b.State && a.Reason == b.Reason && text(a.Err) == text(b.Err)
}

func (a *app) logEvent(e runner.Event, repeats int) {
	log := a.log.With(zap.String("job", e.Job))
	if repeats > 0 {
		log = log.With(zap.Int("repeats", repeats))
	}
	fields := []zap.Field{zap.String("period", e.Period), zap.String("state", e.State), zap.String("reason", e.Reason)}
	switch {
	case e.Err != nil:
		log.Error("schedule", zap.String("error", a.redact(e.Err.Error())))
	case e.State == "":
		log.Warn("schedule", zap.String("reason", e.Reason))
	default:
		log.Info("period", fields...)
	}
}

// tasks are the scheduled jobs, by when they are due; how each is run is
// for the caller to fill in.
func (c scheduleConfig) tasks() []runner.Task {
	return []runner.Task{{
		Job: schedule.Job{
			Name: dailybars.Name, Schedule: c.DailyBars, Window: barsWindow, Whole: true,
			Period: schedule.DailyBars(market.NYSE(), settleTime, c.DailyBars),
		},
	}, {
		Job:    schedule.Job{Name: altdata.Name, Schedule: c.Biweekly, Window: altdataWindow, Whole: true, Period: schedule.Biweekly},
		Ledger: altdata.Period,
	}, {
		Job: schedule.Job{Name: fundamentals.Name, Schedule: c.Weekly, Window: weeklyWindow, Period: schedule.Weekly},
	}}
}

// tasks are the scheduled jobs that the configuration suffices for.
func (a *app) tasks(s *services) []runner.Task {
	runs := map[string]func(context.Context, string, store.Seen) (sweep.Report, error){
		dailybars.Name: func(ctx context.Context, period string, seen store.Seen) (sweep.Report, error) {
			return a.scheduledBars(ctx, s, period, seen)
		},
		altdata.Name: func(ctx context.Context, _ string, seen store.Seen) (sweep.Report, error) {
			return a.scheduledAltdata(ctx, s, seen)
		},
		fundamentals.Name: func(ctx context.Context, period string, seen store.Seen) (sweep.Report, error) {
			return a.scheduledWeek(ctx, s, period, seen)
		},
	}
	tasks := a.cfg.Schedule.tasks()
	for i := range tasks {
		tasks[i].Run = runs[tasks[i].Name]
	}
	if a.cfg.keyless(alphavantage.Name) != "" {
		tasks = slices.DeleteFunc(tasks, func(t runner.Task) bool { return t.Name == fundamentals.Name })
	}
	return tasks
}

func (a *app) scheduledBars(ctx context.Context, s *services, name string, seen store.Seen) (sweep.Report, error) {
	session, err := market.ParseDate(name)
	if err != nil {
		return sweep.Report{}, err
	}
	through, err := market.NYSE().LastClosed(a.now(), settleTime)
	if err != nil {
		return sweep.Report{}, err
	}
	report, err := a.scheduled(ctx, s, period{job: dailybars.Name, name: name, seen: &seen}, func(ctx context.Context, a *app, symbols []market.Symbol, run store.Run) (sweep.Report, error) {
		return a.loadDailyBars(ctx, s, request{session: session, through: through, symbols: symbols}, run)
	})
	if err == nil && session == through && ctx.Err() == nil {
		a.catchUp(ctx, s, session, through)
	}
	return report, err
}

// caughtUp is how many sessions up to the newest are completed with it: as many as
// an answer of the sources holds that answer for a symbol at a time.
const caughtUp = 100

// catchUp fetches the sessions before one that was loaded which its symbols have
// missed: the answers of some sources hold them, those of others, such as all
// symbols of one session, do not. What fails is left to the next session's run.
func (a *app) catchUp(ctx context.Context, s *services, session, through market.Date) {
	since, err := market.NYSE().Back(session, caughtUp-1)
	if err != nil {
		a.log.Warn("missed sessions are not looked for", zap.Error(err))
		return
	}
	symbols, err := s.db.DoneUnits(ctx, dailybars.Name, session.String())
	if err != nil || len(symbols) == 0 {
		return // the next run finds what this one has not
	}
	planned := func(job backfill.Job, _ *barSources) (backfill.Plan, error) {
		return job.PlanRepair(ctx, since, symbols)
	}
	plan, err := a.missed(ctx, s, through, planned)
	if err == nil && len(plan.Todo) == 0 {
		return
	}
	var report sweep.Report
	if err == nil {
		a.log.Info("fetching missed sessions", zap.Int("symbols", len(plan.Todo)), zap.Stringer("since", since))
		report, err = a.claimAndRun(ctx, s, period{job: backfill.Name, name: backfill.Period, restricted: true}, func(ctx context.Context, run store.Run) (sweep.Report, error) {
			return a.forRun(run.ID()).loadHistory(ctx, s, run, runFlags{}, "", through, planned)
		})
	}
	if err != nil {
		a.log.Warn("missed sessions are left to the next run", zap.String("error", a.redact(err.Error())))
		return
	}
	logReport(a.log, report)
}

// missed makes a plan without a claim.
func (a *app) missed(ctx context.Context, s *services, through market.Date, planned func(backfill.Job, *barSources) (backfill.Plan, error)) (backfill.Plan, error) {
	sources, err := a.bars(ctx, s, "")
	if err != nil {
		return backfill.Plan{}, err
	}
	defer sources.close()
	return planned(a.backfill(s, sources, through, nil), sources)
}

func (a *app) scheduledWeek(ctx context.Context, s *services, name string, seen store.Seen) (sweep.Report, error) {
	week, err := market.ParseWeek(name)
	if err != nil {
		return sweep.Report{}, err
	}
	return a.scheduled(ctx, s, period{job: fundamentals.Name, name: name, seen: &seen}, func(ctx context.Context, a *app, symbols []market.Symbol, run store.Run) (sweep.Report, error) {
		return a.loadFundamentals(ctx, s, weekRequest{week: week, symbols: symbols}, run)
	})
}

func (a *app) scheduledAltdata(ctx context.Context, s *services, seen store.Seen) (sweep.Report, error) {
	req, err := a.window(altdataFlags{})
	if err != nil {
		return sweep.Report{}, err
	}
	return a.scheduled(ctx, s, period{job: altdata.Name, name: altdata.Period, seen: &seen}, func(ctx context.Context, a *app, symbols []market.Symbol, run store.Run) (sweep.Report, error) {
		req.symbols = symbols
		return a.loadAltdata(ctx, s, altdataFlags{}, req, run)
	})
}

// scheduled claims a run of the universe and says at its end what came of it.
func (a *app) scheduled(ctx context.Context, s *services, p period, do func(context.Context, *app, []market.Symbol, store.Run) (sweep.Report, error)) (sweep.Report, error) {
	log := a.log
	report, err := a.claimAndRun(ctx, s, p, func(ctx context.Context, run store.Run) (sweep.Report, error) {
		of := a.forRun(run.ID())
		symbols, err := of.givenSymbols(once{})
		if err != nil {
			return sweep.Report{}, err
		}
		if symbols == nil {
			symbols = of.universe(ctx, s, true).Symbols
		}
		of.log.Info("run", zap.String("job", p.job), zap.String("period", p.name), zap.Int("symbols", len(symbols)))
		log = of.log
		// Another replica may have it by then, and goes on at once.
		ctx, cancel := untilStopping(ctx, run.Lost())
		defer cancel()
		tellClaimed(ctx, run.ID())
		report, err := do(ctx, of, symbols, a.watch.counted(run))
		if err == nil && report.Status != sweep.OK && ctx.Err() == nil {
			if away := s.redisAway(ctx); away != nil {
				// No provider is to blame: it goes on when Redis is back.
				report.Status, report.Stopped = sweep.WasInterrupted, a.redact(away.Error())
			}
		}
		return report, err
	})
	if err != nil {
		return report, fmt.Errorf("%s %s: %w", p.job, p.name, err)
	}
	logReport(log, report)
	return report, nil
}

// forRun is the program with a run's id on each line of its log.
func (a *app) forRun(id int64) *app {
	of := *a
	of.log = a.log.With(zap.Int64("run", id))
	return &of
}

// logReport says how a run ended: in one line, and one for each failed symbol.
func logReport(log *zap.Logger, r sweep.Report) {
	log.Info("run ended", zap.String("job", r.Job), zap.String("period", r.Period), zap.String("status", string(r.Status)),
		zap.Int("symbols", r.Symbols), zap.Int("fetched", r.Fetched), zap.Int("skipped", r.Skipped), zap.Int("failed", r.Failed),
		zap.Int("rows", r.Rows), zap.Int("calls", r.ProviderCalls), zap.Duration("took", r.FinishedAt.Sub(r.StartedAt)), zap.String("stopped", r.Stopped))
	for _, warning := range r.Warnings {
		log.Warn("run", zap.String("warning", warning))
	}
	for i, f := range r.Failures {
		if i == listed {
			log.Warn("failed", zap.Int("more", len(r.Failures)-listed))
			return
		}
		log.Warn("failed", zap.String("symbol", string(f.Symbol)), zap.String("class", string(f.Class)), zap.String("message", f.Message))
	}
}

package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// world is a journal, a clock and the jobs of a test.
type world struct {
	*runner.Memory
	t   *testing.T
	now time.Time
	// answer is how the nth attempt at a period ends, and after what time.
	answer func(job, period string, n int) (sweep.Report, time.Duration, error)
	tries  map[string]int
	// behind is how far the database's clock is behind the machine's.
	behind time.Duration
	log    []string
	// between is called by the next Periods, once.
	between func()
	// unnoted is a period whose end is not noted, as when the process is killed
	// before.
	unnoted string
}

func newWorld(t *testing.T, now time.Time) *world {
	w := &world{t: t, now: now, tries: map[string]int{}}
	w.Memory = &runner.Memory{Now: func() time.Time { return w.now.Add(-w.behind) }}
	return w
}

func (w *world) Periods(ctx context.Context, job string, limit int) ([]store.PeriodInfo, error) {
	if w.between != nil {
		defer w.between()
		w.between = nil
	}
	return w.Memory.Periods(ctx, job, limit)
}

func (w *world) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	if p.Period == w.unnoted && p.State == store.Complete {
		w.unnoted = ""
		return true, nil
	}
	return w.Memory.NotePeriod(ctx, p)
}

func (w *world) run(job string) func(context.Context, string, store.Seen) (sweep.Report, error) {
	return func(ctx context.Context, period string, seen store.Seen) (sweep.Report, error) {
		runs, err := w.Runs(ctx, job, 100)
		if err != nil {
			return sweep.Report{}, err
		}
		for _, r := range runs {
			if r.Period == period && (r.ID > seen.Run || r.ID == seen.Run && !seen.Ended && r.Status == "ok") {
				return sweep.Report{}, store.ErrPassed
			}
		}
		w.tries[job+period]++
		report, took, err := sweep.NewReport(job, period, 0, tally(sweep.Stored), false), time.Minute, error(nil)
		if w.answer != nil {
			report, took, err = w.answer(job, period, w.tries[job+period])
		}
		if err != nil {
			return sweep.Report{}, err
		}
		started := w.now
		end := w.Begin(job, period)
		w.now = w.now.Add(took)
		text, _ := json.Marshal(report)
		end(string(report.Status), text)
		w.log = append(w.log, fmt.Sprintf("%s %s %s %s", started.In(market.NewYork()).Format("01-02 15:04"), job, period, report.Status))
		return report, nil
	}
}

func tally(outcomes ...sweep.Outcome) sweep.Tally {
	t := sweep.Tally{Outcomes: map[sweep.Outcome]int{}}
	for i, o := range outcomes {
		t.Outcomes[o]++
		if o.Done() {
			t.Fetched++
			continue
		}
		t.Failed++
		t.Failures = append(t.Failures, sweep.Failure{Symbol: market.Symbol(fmt.Sprintf("S%d", i)), Class: o})
	}
	return t
}

func report(job, period string, outcomes ...sweep.Outcome) sweep.Report {
	return sweep.NewReport(job, period, 0, tally(outcomes...), false)
}

// tasks are the jobs of the default schedule.
func (w *world) tasks() []runner.Task {
	parse := func(spec string) schedule.Schedule {
		s, err := schedule.Parse("TEST", spec, "America/New_York")
		if err != nil {
			w.t.Fatal(err)
		}
		return s
	}
	daily := parse("30 18 * * 1-5")
	return []runner.Task{
		{Job: schedule.Job{
			Name: "daily_bars", Schedule: daily, Window: 7 * 24 * time.Hour, Whole: true,
			Period: schedule.DailyBars(market.NYSE(), 2*time.Hour, daily),
		}, Run: w.run("daily_bars")},
		{Job: schedule.Job{Name: "weekly_fundamentals", Schedule: parse("0 6 * * 6"), Window: 14 * 24 * time.Hour, Period: schedule.Weekly}, Run: w.run("weekly_fundamentals")},
	}
}

// until lets the clock run, as the schedule wakes the program.
func (w *world) until(end time.Time) {
	w.t.Helper()
	r := runner.Runner{Tasks: w.tasks(), Journal: w, Now: func() time.Time { return w.now }, Tell: func(runner.Event) {}}
	for range 10_000 {
		wake := end
		for i := range r.Tasks {
			next, err := r.Step(w.t.Context(), &r.Tasks[i])
			if err != nil {
				w.log = append(w.log, "error: "+err.Error())
				next = w.now.Add(time.Minute)
			}
			if next.Before(wake) {
				wake = next
			}
		}
		if !w.now.Before(end) {
			return
		}
		if wake.After(w.now) {
			w.now = wake
		}
	}
	w.t.Fatal("the schedule does not come to rest")
}

// ran adds a run of a period that another process has made, or, if state is
// Running, makes.
func (w *world) ran(job, period, state string) {
	w.t.Helper()
	end := w.Begin(job, period)
	if state == store.Complete {
		end("ok", nil)
	}
	if _, err := w.NotePeriod(w.t.Context(), store.PeriodInfo{Job: job, Period: period, State: state, Tick: w.now}); err != nil {
		w.t.Error(err)
	}
}

func (w *world) states(job string) map[string]string {
	states := map[string]string{}
	rows, err := w.Periods(w.t.Context(), job, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range rows {
		states[p.Period] = p.State
	}
	return states
}

func at(month time.Month, day, hour, minute int) time.Time {
	year := 2026
	if month == time.January {
		year = 2027
	}
	return market.NewDate(year, month, day).In(market.NewYork(), hour, minute)
}

// Over New Year every session and every week has one run, and no closed day has.
func TestTheTurnOfTheYear(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 20, 12, 0))
	w.until(at(time.January, 10, 12, 0))
	sessions, err := market.NYSE().Sessions(market.NewDate(2026, time.December, 18), market.NewDate(2027, time.January, 8))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"2026-12-25": "no_session", "2027-01-01": "no_session"}
	for _, s := range sessions {
		want[s.String()] = "complete"
	}
	got := w.states("daily_bars")
	for day := market.NewDate(2026, time.December, 14); day < market.NewDate(2026, time.December, 18); day++ {
		if got[day.String()] == "missed" { // before the first start, the week of which is looked at
			delete(got, day.String())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"2026-W51": "complete", "2026-W52": "complete", "2026-W53": "complete", "2027-W01": "complete"}, trim(w.states("weekly_fundamentals"))); diff != "" {
		t.Error(diff)
	}
	for key, n := range w.tries {
		if n != 1 {
			t.Errorf("%s was run %d times", key, n)
		}
	}
}

// trim leaves out what was missed before the first start.
func trim(states map[string]string) map[string]string {
	for period, state := range states {
		if state == "missed" {
			delete(states, period)
		}
	}
	return states
}

// What is not ready is asked for again until it is there, what is out of calls
// after midnight, and what cannot be had not at all.
func TestWhatIsNotCompleteIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 0))
	w.answer = func(job, period string, n int) (sweep.Report, time.Duration, error) {
		outcomes := []sweep.Outcome{sweep.Stored}
		switch {
		case period == "2026-12-07" && n <= 3:
			outcomes = []sweep.Outcome{sweep.Stored, sweep.NotReady}
		case period == "2026-12-08" && n == 1:
			outcomes = []sweep.Outcome{sweep.Stored, sweep.Quota}
		case period == "2026-12-09":
			outcomes = []sweep.Outcome{sweep.Stored, sweep.UnknownSymbol}
		case period == "2026-12-10":
			outcomes = []sweep.Outcome{sweep.ProviderError}
		}
		return report(job, period, outcomes...), time.Minute, nil
	}
	w.until(at(time.December, 11, 20, 0))
	got := w.states("daily_bars")
	for period, want := range map[string]string{"2026-12-07": "complete", "2026-12-08": "complete", "2026-12-09": "gave_up", "2026-12-10": "gave_up", "2026-12-11": "complete"} {
		if got[period] != want {
			t.Errorf("%s is %s, want %s", period, got[period], want)
		}
	}
	for period, want := range map[string]int{"2026-12-07": 4, "2026-12-08": 2, "2026-12-09": 1} {
		if n := w.tries["daily_bars"+period]; n != want {
			t.Errorf("%s was tried %d times, want %d\n%s", period, n, want, strings.Join(w.log, "\n"))
		}
	}
	if n := w.tries["daily_bars2026-12-10"]; n < 20 || n > 40 {
		t.Errorf("with a provider that is down %d tries in a day", n)
	}
	if !slices.Contains(w.log, "12-09 00:01 daily_bars 2026-12-08 ok") {
		t.Errorf("not after midnight:\n%s", strings.Join(w.log, "\n"))
	}
}

// A tick on a day without session does not end the asking for the session before.
func TestAHolidayIsNoDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 24, 18, 0))
	w.answer = func(job, period string, n int) (sweep.Report, time.Duration, error) {
		if job == "daily_bars" && period == "2026-12-24" && n <= 3 {
			return report(job, period, sweep.Stored, sweep.Quota), time.Minute, nil
		}
		return report(job, period, sweep.Stored), time.Minute, nil
	}
	w.until(at(time.December, 27, 12, 0))
	got := w.states("daily_bars")
	if got["2026-12-24"] != "complete" || got["2026-12-25"] != "no_session" {
		t.Errorf("%v\n%s", got, strings.Join(w.log, "\n"))
	}
	if !slices.Contains(w.log, "12-27 00:01 daily_bars 2026-12-24 ok") {
		t.Errorf("%s", strings.Join(w.log, "\n"))
	}
}

// A database whose clock is far behind does not let a provider that is down, or
// one whose calls are spent, be asked without end.
func TestTheDatabasesClockIsBehind(t *testing.T) {
	t.Parallel()
	for _, outcome := range []sweep.Outcome{sweep.ProviderError, sweep.Quota} {
		w := newWorld(t, at(time.December, 10, 18, 0))
		w.behind = 100 * 24 * time.Hour
		w.answer = func(job, period string, _ int) (sweep.Report, time.Duration, error) {
			return report(job, period, outcome), time.Minute, nil
		}
		w.until(at(time.December, 11, 18, 0))
		most := map[sweep.Outcome]int{sweep.ProviderError: 40, sweep.Quota: 2}[outcome]
		if n := w.tries["daily_bars2026-12-10"]; n < 2 || n > most {
			t.Errorf("%s: %d tries in a day", outcome, n)
		}
	}
}

// After a time away only the newest session is run, which brings the others.
func TestAfterATimeAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 1, 20, 0))
	w.until(at(time.December, 2, 12, 0))
	w.now = at(time.December, 10, 9, 0)
	w.until(at(time.December, 10, 12, 0))
	got := w.states("daily_bars")
	for period, want := range map[string]string{"2026-12-02": "missed", "2026-12-04": "missed", "2026-12-08": "missed", "2026-12-09": "complete"} {
		if got[period] != want {
			t.Errorf("%s is %q, want %s", period, got[period], want)
		}
	}
	if n := w.tries["daily_bars2026-12-09"]; n != 1 {
		t.Errorf("%d runs", n)
	}
}

// A run that another process has is left alone, and taken over when that is gone.
func TestTheRunOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 30))
	held := at(time.December, 7, 19, 0)
	w.answer = func(job, period string, _ int) (sweep.Report, time.Duration, error) {
		if job == "daily_bars" && w.now.Before(held) {
			return sweep.Report{}, 0, fmt.Errorf("claim: %w", &store.HeldError{Job: job, Period: period})
		}
		return report(job, period, sweep.Stored), time.Minute, nil
	}
	w.until(at(time.December, 7, 20, 0))
	if w.states("daily_bars")["2026-12-07"] != "complete" || !slices.Contains(w.log, "12-07 19:00 daily_bars 2026-12-07 ok") {
		t.Errorf("%v\n%s", w.states("daily_bars"), strings.Join(w.log, "\n"))
	}
}

// A run that is stored but not noted is not run again.
func TestARunThatWasNotNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 30))
	w.unnoted = "2026-12-07"
	w.until(at(time.December, 7, 21, 0))
	if w.states("daily_bars")["2026-12-07"] != "complete" || w.tries["daily_bars2026-12-07"] != 1 || w.unnoted != "" {
		t.Errorf("%v, %d tries", w.states("daily_bars"), w.tries["daily_bars2026-12-07"])
	}
}

// A panic or an error of one job is that job's.
func TestAJobThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 5, 5, 0)) // a Saturday
	w.answer = func(job, period string, n int) (sweep.Report, time.Duration, error) {
		switch {
		case job == "weekly_fundamentals" && n == 1:
			panic("broken")
		case job == "weekly_fundamentals" && n == 2:
			return sweep.Report{}, 0, errors.New("database gone")
		}
		return report(job, period, sweep.Stored), time.Minute, nil
	}
	w.until(at(time.December, 5, 12, 0))
	if w.states("weekly_fundamentals")["2026-W49"] != "complete" || !slices.Contains(w.log, "error: run 2026-W49: panic: broken") {
		t.Errorf("%v\n%s", w.states("weekly_fundamentals"), strings.Join(w.log, "\n"))
	}
}

// A run of another period, as somebody makes it by hand, says nothing about this
// one.
func TestTheRunOfAnotherPeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 19, 0))
	if _, err := w.NotePeriod(t.Context(), store.PeriodInfo{Job: "daily_bars", Period: "2026-12-07", State: store.Running, Tick: at(time.December, 7, 18, 30)}); err != nil {
		t.Fatal(err)
	}
	w.Begin("daily_bars", "2026-12-01")("ok", nil)
	w.until(at(time.December, 7, 20, 0))
	if w.tries["daily_bars2026-12-07"] != 1 || w.states("daily_bars")["2026-12-07"] != "complete" {
		t.Errorf("%d tries, %v", w.tries["daily_bars2026-12-07"], w.states("daily_bars"))
	}
}

// What failed under another configuration is asked for at once under a new one,
// and then as always.
func TestAChangeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 30))
	w.answer = func(job, period string, _ int) (sweep.Report, time.Duration, error) {
		r := report(job, period, sweep.ProviderError)
		r.Status = sweep.Failed
		return r, time.Second, nil
	}
	r := runner.Runner{Tasks: w.tasks()[:1], Journal: w, Now: func() time.Time { return w.now }, Tell: func(runner.Event) {}}
	step := func(want int) {
		t.Helper()
		for range 3 {
			if _, err := r.Step(t.Context(), &r.Tasks[0]); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.tries["daily_bars2026-12-07"]; n != want {
			t.Errorf("%d tries, want %d", n, want)
		}
	}
	step(1)
	w.now = w.now.Add(time.Minute)
	step(1)
	r.Changed = w.now
	step(2)
	w.now = w.now.Add(time.Minute)
	step(2)
}

// A period that another process has run since this one looked is not run again.
func TestARunInBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 30))
	w.between = func() {
		w.ran("daily_bars", "2026-12-07", store.Complete)
	}
	w.until(at(time.December, 7, 20, 0))
	if n := w.tries["daily_bars2026-12-07"]; n != 0 {
		t.Errorf("%d tries", n)
	}
}

// A run by hand is a run of its period: the schedule does not repeat it, and
// goes on with what it has left.
func TestTrigger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 9, 18, 0))
	w.answer = func(job, period string, n int) (sweep.Report, time.Duration, error) {
		if period == "2026-12-09" && n <= 3 {
			return report(job, period, sweep.Stored, sweep.NotReady), time.Minute, nil
		}
		return report(job, period, sweep.Stored), time.Minute, nil
	}
	r := runner.Runner{Tasks: w.tasks(), Journal: w, Now: func() time.Time { return w.now }, Tell: func(runner.Event) {}}
	got, err := r.Trigger(t.Context(), "daily_bars", "2026-12-09")
	if err != nil || got.Status != sweep.Partial {
		t.Fatalf("%+v, %v", got, err)
	}
	if state := w.states("daily_bars")["2026-12-09"]; state != store.Incomplete {
		t.Errorf("it is %s after the run by hand", state)
	}
	// It was not due yet, so it does not end when it is due.
	w.until(at(time.December, 9, 20, 0))
	if n := w.tries["daily_bars2026-12-09"]; n != 4 {
		t.Errorf("%d runs, want the one by hand and three for what it left: %v", n, w.log)
	}
	if state := w.states("daily_bars")["2026-12-09"]; state != store.Complete {
		t.Errorf("it is %s in the evening", state)
	}
	if _, err := r.Trigger(t.Context(), "daily_bars", "2026-12-09"); err != nil {
		t.Error(err)
	}
	if state := w.states("daily_bars")["2026-12-09"]; state != store.Complete {
		t.Errorf("a complete period is %s after a run by hand", state)
	}
	if _, err := r.Trigger(t.Context(), "nightly", "2026-12-09"); err == nil {
		t.Error("a job that does not exist was run")
	}
}

func TestTriggerOfAHeldPeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 9, 18, 0))
	w.answer = func(string, string, int) (sweep.Report, time.Duration, error) {
		return sweep.Report{}, 0, fmt.Errorf("claim: %w", &store.HeldError{Owner: "another"})
	}
	r := runner.Runner{Tasks: w.tasks(), Journal: w, Now: func() time.Time { return w.now }, Tell: func(runner.Event) {}}
	_, err := r.Trigger(t.Context(), "daily_bars", "2026-12-09")
	if held, ok := errors.AsType[*store.HeldError](err); !ok || held.Owner != "another" {
		t.Errorf("err = %v", err)
	}
}

// A loop that hangs is told from one that waits and from one that runs.
func TestStalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Now())
		hang, run := make(chan struct{}), make(chan struct{})
		tasks := w.tasks()
		tasks[0].Run = func(context.Context, string, store.Seen) (sweep.Report, error) {
			<-run
			return report("daily_bars", "", sweep.Stored), nil
		}
		tasks[1].Run = func(context.Context, string, store.Seen) (sweep.Report, error) {
			return report("weekly_fundamentals", "", sweep.Stored), nil
		}
		j := &stuckJournal{rows: &runner.Memory{Now: time.Now}, job: "weekly_fundamentals", until: hang}
		r := runner.Runner{Tasks: tasks, Journal: j, Now: time.Now, Tell: func(runner.Event) {}}
		if got := r.Stalled(); got != nil {
			t.Errorf("before it began: %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.Serve(ctx) }()
		time.Sleep(4 * time.Minute)
		if got := r.Stalled(); got != nil {
			t.Errorf("after 4 minutes: %v", got)
		}
		time.Sleep(2 * time.Hour)
		if got := r.Stalled(); !slices.Equal(got, []string{"weekly_fundamentals"}) {
			t.Errorf("with a run and a loop that hangs: %v", got)
		}
		close(hang)
		close(run)
		time.Sleep(time.Hour)
		if got := r.Stalled(); got != nil {
			t.Errorf("after both: %v", got)
		}
		cancel()
		<-ended
	})
}

// stuckJournal gives no answer about one job until it is let go.
type stuckJournal struct {
	mu    sync.Mutex
	rows  *runner.Memory
	job   string
	until chan struct{}
}

func (j *stuckJournal) Periods(ctx context.Context, job string, limit int) ([]store.PeriodInfo, error) {
	if job == j.job {
		<-j.until
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rows.Periods(ctx, job, limit)
}

func (j *stuckJournal) Runs(ctx context.Context, job string, limit int) ([]store.RunInfo, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rows.Runs(ctx, job, limit)
}

func (j *stuckJournal) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rows.NotePeriod(ctx, p)
}

// A run of some symbols, as somebody makes it by hand, completes nothing, and is
// no attempt at the period.
func TestARestrictedRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, at(time.December, 7, 18, 0))
	w.until(w.now)
	w.now = at(time.December, 7, 18, 29)
	end := w.Begin("daily_bars", "2026-12-07")
	end("ok", []byte(`{"status":"ok","restricted":true}`))
	w.now = at(time.December, 7, 18, 30)
	if _, err := w.NotePeriod(t.Context(), store.PeriodInfo{Job: "daily_bars", Period: "2026-12-07", State: store.Running, Tick: w.now}); err != nil {
		t.Fatal(err)
	}
	w.until(at(time.December, 7, 20, 0))
	if n := w.tries["daily_bars2026-12-07"]; n != 1 || w.states("daily_bars")["2026-12-07"] != store.Complete {
		t.Errorf("%d tries, %v", n, w.states("daily_bars"))
	}
}

// alive is a journal in which the newest run is at work.
type alive struct{ *runner.Memory }

func (a alive) Runs(ctx context.Context, job string, limit int) ([]store.RunInfo, error) {
	runs, err := a.Memory.Runs(ctx, job, limit)
	if len(runs) > 0 {
		runs[0].Live = runs[0].Finished.IsZero()
	}
	return runs, err
}

// While a replica is at work on a period, the next one of the job waits; if it
// was killed, it does not.
func TestNeverTwoPeriodsOfAJobAtATime(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		w := newWorld(t, at(time.December, 8, 18, 29))
		note := store.PeriodInfo{Job: "daily_bars", Period: "2026-12-07", State: store.Running, Tick: at(time.December, 7, 18, 30)}
		if _, err := w.NotePeriod(t.Context(), note); err != nil {
			t.Fatal(err)
		}
		w.Begin("daily_bars", "2026-12-07")
		w.now = at(time.December, 8, 18, 30)
		var journal runner.Journal = alive{w.Memory}
		if killed {
			journal = w.Memory
		}
		r := runner.Runner{Tasks: w.tasks()[:1], Journal: journal, Now: func() time.Time { return w.now }, Tell: func(runner.Event) {}}
		if _, err := r.Step(t.Context(), &r.Tasks[0]); err != nil {
			t.Fatal(err)
		}
		if n := w.tries["daily_bars2026-12-08"]; n != map[bool]int{false: 0, true: 1}[killed] {
			t.Errorf("killed %t: %d tries of the next", killed, n)
		}
		want := map[bool]string{false: store.Running, true: store.GaveUp}[killed]
		if got := w.states("daily_bars")["2026-12-07"]; got != want {
			t.Errorf("killed %t: the period is %s, want %s", killed, got, want)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// rehearse runs the command with --json, with servers that are not there and a
// data directory that must not come into being.
func (w *world) rehearse(args ...string) (rehearsalReport, said) {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "data")
	w.env["SA_DATA_DIR"], w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = dir, "redis://127.0.0.1:1", "postgres://127.0.0.1:1/none"
	s := w.run(append([]string{"rehearse", "--json"}, args...)...)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		w.t.Errorf("the data directory was made: %v", err)
	}
	if calls := w.sim.Calls(); len(calls) > 0 {
		w.t.Errorf("%d calls were made", len(calls))
	}
	var r rehearsalReport
	if err := json.Unmarshal([]byte(s.out), &r); err != nil {
		w.t.Fatalf("standard output is no report: %v\n%s\n%s", err, s.out, s.err)
	}
	return r, s
}

// Over New Year each week has its turn once, and no closed day has a run: with a
// key without limit of the day, and with the free one, whose calls on a holiday
// are for the session before.
func TestRehearseTheTurnOfTheYear(t *testing.T) {
	t.Parallel()
	from, to := market.NewDate(2026, time.December, 20), market.NewDate(2027, time.January, 10)
	closed := closedWeekdays(t, from, to)
	if diff := cmp.Diff([]market.Date{market.NewDate(2026, time.December, 25), market.NewDate(2027, time.January, 1)}, closed); diff != "" {
		t.Fatalf("the calendar has other holidays: %s", diff)
	}
	for perDay, week := range map[string]string{"0": "complete", "25": "gave_up"} {
		t.Run(perDay+" a day", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"], w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "5", perDay
			r, s := w.rehearse("--from", from.String(), "--to", to.String())
			if s.code != exitOK || len(r.Faults) > 0 || r.Symbols != len(market.SP500()) {
				t.Fatalf("exit code %d, %d symbols: %v", s.code, r.Symbols, r.Faults)
			}
			last := map[string]string{}
			for _, row := range r.Rows {
				last[row.Job+" "+row.Period] = row.Result
			}
			want := map[string]string{
				"altdata 2027-01-01": "ok", "weekly_fundamentals 2026-W52": week, "weekly_fundamentals 2026-W53": week, "weekly_fundamentals 2027-W01": "quota",
			}
			if perDay == "0" {
				for _, name := range []string{"2026-W52", "2026-W53", "2027-W01"} {
					want["weekly_fundamentals "+name] = "ok"
				}
			}
			for day := from; day <= to; day++ {
				switch open, err := market.NYSE().IsSession(day); {
				case err != nil:
					t.Fatal(err)
				case slices.Contains(closed, day):
					want["daily_bars "+day.String()] = "no_session"
				case open && perDay == "0":
					want["daily_bars "+day.String()] = "ok"
				case open:
					want["daily_bars "+day.String()] = "gave_up"
				}
			}
			if perDay == "25" {
				want["daily_bars 2027-01-08"] = "quota" // it is asked for again
			}
			if diff := cmp.Diff(want, last); diff != "" {
				t.Error(diff)
			}
			checkClosedDays(t, r.Rows, closed, perDay == "0")
			if fits := len(r.Warnings) == 0; fits != (perDay == "0") {
				t.Errorf("warnings %q", r.Warnings)
			}
		})
	}
}

func closedWeekdays(t *testing.T, from, to market.Date) (closed []market.Date) {
	t.Helper()
	for day := from; day <= to; day++ {
		open, err := market.NYSE().IsSession(day)
		if err != nil {
			t.Fatal(err)
		}
		if !open && day.Weekday() != time.Saturday && day.Weekday() != time.Sunday {
			closed = append(closed, day)
		}
	}
	return closed
}

// checkClosedDays finds runs for closed days, complete ones of a period beyond
// one, and, with none allowed, calls for bars on a closed day.
func checkClosedDays(t *testing.T, rows []rehearsed, closed []market.Date, none bool) {
	t.Helper()
	complete := map[string]int{}
	for _, row := range rows {
		if row.Calls == nil {
			continue
		}
		if row.Result == "ok" {
			complete[row.Job+" "+row.Period]++
		}
		day := market.DateOf(row.Start.In(market.NewYork()))
		for _, d := range closed {
			if row.Job == "daily_bars" && (row.Period == d.String() || none && day == d && len(row.Calls) > 0) {
				t.Errorf("a run for or on %s: %+v", d, row)
			}
		}
	}
	for period, n := range complete {
		if n > 1 {
			t.Errorf("%s is complete %d times", period, n)
		}
	}
}

// What is printed is a promise to those who read it.
func TestRehearsePrints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"], w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "5", "5"
	s := w.run("rehearse", "--from", "2026-12-23", "--to", "2027-01-02", "--symbols", "AAPL,MSFT,NVDA,BRK.B,JPM,XOM,KO,PG,WMT")
	if s.code != exitOK {
		t.Fatalf("%+v", s)
	}
	const file = "testdata/rehearse.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(s.out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), s.out); diff != "" {
		t.Errorf("go test ./cmd/worker -run TestRehearsePrints -update writes it anew: %s", diff)
	}
}

func TestRehearseRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct{ args, want string }{
		{"--from 2026-12-20 --to 2026-12-19", "is before --from"},
		{"--from 2026-13-01", "--from"},
		{"--to tomorrow", "--to"},
		{"--from 1950-01-01 --to 1950-02-01", "the calendar of the exchange"},
		{"--from 2026-01-01 --to 2400-01-01", "the calendar of the exchange"},
		{"--symbols ,", "--symbols"},
		{"now", "unknown command"},
	} {
		if s := w.run(append([]string{"rehearse"}, strings.Fields(test.args)...)...); s.code != exitUsage || !strings.Contains(s.err, test.want) {
			t.Errorf("%s: %+v", test.args, s)
		}
	}
}

// Without a key it rehearses all the same, and says what serve does.
func TestRehearseWithoutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	delete(w.env, "SA_ALPHA_VANTAGE_API_KEY")
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = "https://example.com"
	w.env["SA_SCHEDULER__ENABLED"] = "false"
	r, s := w.rehearse("--from", "2026-12-25", "--to", "2026-12-27", "--symbols", "AAPL")
	notes := strings.Join(r.Notes, "\n")
	if s.code != exitOK || !strings.Contains(notes, "SA_ALPHA_VANTAGE_API_KEY is not set: worker serve does not start without it") || !strings.Contains(notes, "would refuse to start") {
		t.Errorf("exit code %d: %s", s.code, notes)
	}
	w.env["SA_MASSIVE_API_KEY"] = canary
	if with, _ := w.rehearse("--from", "2026-12-25"); !strings.Contains(strings.Join(with.Notes, "\n"), "does not schedule weekly_fundamentals without it") {
		t.Errorf("%q", with.Notes)
	}
	if !slices.ContainsFunc(r.Rows, func(row rehearsed) bool { return row.Period == "2026-W52" && row.Result == "ok" }) {
		t.Errorf("%+v", r.Rows)
	}
}

// rehearsalOf makes a rehearsal of a configuration.
func rehearsalOf(t testing.TB, env map[string]string, symbols int) *rehearsal {
	t.Helper()
	cfg, err := loadConfig("", environOf(env))
	if err != nil {
		t.Fatal(err)
	}
	a := &app{cfg: cfg, redact: func(s string) string { return s }}
	return a.rehearsal(market.SP500()[:symbols])
}

// newYear is the time around a holiday.
func newYear() span {
	return span{market.NewDate(2026, time.December, 20).In(market.NewYork(), 0, 0), market.NewDate(2027, time.January, 11).In(market.NewYork(), 0, 0)}
}

// faultyJournal is one that goes wrong.
type faultyJournal struct {
	runner.Journal
	note func(store.PeriodInfo) (store.PeriodInfo, bool)
}

func (j faultyJournal) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	p, ok := j.note(p)
	if !ok {
		return true, nil
	}
	return j.Journal.NotePeriod(ctx, p)
}

// Each fault that the audit is there for turns it red, and names it.
func TestRehearsalFaults(t *testing.T) {
	t.Parallel()
	av := func(r *rehearsal) *grants { return r.grants["alpha_vantage"] }
	journal := func(note func(store.PeriodInfo) (store.PeriodInfo, bool)) func(*rehearsal) {
		return func(r *rehearsal) { r.journal = faultyJournal{r.memory, note} }
	}
	for name, test := range map[string]struct {
		spoil func(*rehearsal)
		want  string
	}{
		"sound":              {func(*rehearsal) {}, ""},
		"a call a minute":    {func(r *rehearsal) { av(r).interval = 11 * time.Second }, "alpha_vantage: 6 calls within 1m0s up to 2026-12-"},
		"a call a day":       {func(r *rehearsal) { av(r).perDay++ }, "alpha_vantage: call 26 of 2026-12-"},
		"no limit of a day":  {func(r *rehearsal) { av(r).perDay = 0 }, "the limit of a day is 25"},
		"a run again":        {rerun, "2026-12-21 is run at 2026-12-21 18:30:15, and was complete\ndaily_bars 2026-12-21 is complete after 2 complete runs"},
		"no run":             {journal(func(p store.PeriodInfo) (store.PeriodInfo, bool) { return p, p.Period != "2026-12-25" }), "daily_bars 2026-12-25 was due at 2026-12-25 18:30:00, and the journal does not have it"},
		"no reason":          {journal(func(p store.PeriodInfo) (store.PeriodInfo, bool) { p.Reason = ""; return p, true }), "2026-12-25 is no_session without a reason"},
		"complete untouched": {journal(completeAtOnce), "2026-12-25 is complete after 0 runs, and there was no session"},
		"not complete":       {journal(completeAtOnce), "2026-12-21 is complete after 0 complete runs"},
		"a session left out": {journal(func(p store.PeriodInfo) (store.PeriodInfo, bool) {
			if p.Period == "2026-12-29" {
				p.State, p.Reason = store.NoSession, "holiday"
			}
			return p, true
		}), "2026-12-29 was left out as a day without session"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rehearsalOf(t, map[string]string{}, 60)
			test.spoil(r)
			if err := r.run(t.Context(), newYear()); err != nil {
				t.Fatal(err)
			}
			found := strings.Join(r.audit.found, "\n")
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("found: %s", found)
			}
		})
	}
}

// A fault is named on standard error and in the document, and gives exit code 1.
func TestAFaultIsExitCode1(t *testing.T) {
	t.Parallel()
	r := rehearsalOf(t, map[string]string{}, 60)
	r.grants["alpha_vantage"].perDay++
	if err := r.run(t.Context(), newYear()); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	a := &app{process: process{Stdout: &out, Stderr: &errs}, redact: func(s string) string { return s }, asJSON: true}
	err := a.tellRehearsal(t.Context(), r, market.Range{From: 20808, To: 20829}, 60)
	var exit exitError
	if !errors.As(err, &exit) || exit.code != exitFailed {
		t.Errorf("%v", err)
	}
	var report rehearsalReport
	if err := json.Unmarshal([]byte(out.String()), &report); err != nil || len(report.Faults) == 0 {
		t.Fatalf("%v: %s", err, out.String())
	}
	if !strings.Contains(errs.String(), report.Faults[0]) {
		t.Errorf("%q is not in %s", report.Faults[0], errs.String())
	}
}

// A period that is still open when the next one is due is a fault too.
func TestAPeriodThatIsLeftOpen(t *testing.T) {
	t.Parallel()
	r := rehearsalOf(t, map[string]string{}, 1)
	r.audit.open(&r.tasks[0], []string{"a", "b", "c"}, map[string]store.PeriodInfo{"a": {State: store.Complete}, "b": {State: store.Incomplete}, "c": {State: store.Running}})
	if want := []string{"daily_bars b is left incomplete, without a reason, though c was due"}; !slices.Equal(r.audit.found, want) {
		t.Errorf("%q", r.audit.found)
	}
}

func completeAtOnce(p store.PeriodInfo) (store.PeriodInfo, bool) {
	p.State = store.Complete
	return p, true
}

// forgetful is a journal that loses runs, and once the end of a period.
type forgetful struct {
	runner.Journal
	period string
}

func (*forgetful) Runs(context.Context, string, int) ([]store.RunInfo, error) { return nil, nil }

func (j *forgetful) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	if p.Period == j.period && p.State == store.Complete {
		j.period = ""
		return true, nil
	}
	return j.Journal.NotePeriod(ctx, p)
}

// rerun lets a period be run again after it was complete.
func rerun(r *rehearsal) {
	for name := range r.work {
		r.work[name] = func(_ *worker, period string) (sweep.Report, error) { return reported(name, period, 0, 1, 0, ""), nil }
	}
	r.journal = &forgetful{r.memory, "2026-12-21"}
}

// A period that never comes to an end is an error, not a loop.
func TestARehearsalThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	r := rehearsalOf(t, map[string]string{}, 1)
	r.journal = faultyJournal{r.memory, func(p store.PeriodInfo) (store.PeriodInfo, bool) { return p, false }}
	if err := r.run(t.Context(), newYear()); err == nil || !strings.Contains(err.Error(), "does not come to rest") {
		t.Errorf("%v", err)
	}
}

// Whatever the schedules, the limits, the universe and the times at which the
// worker is off, nothing goes wrong.
func TestRehearsalsOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "setting") }
		number := func(least, most int) int { return rapid.IntRange(least, most).Draw(t, "number") }
		env := map[string]string{
			"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE": one("1", "5", "75"),
			"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY":    one("0", "1", "25", "500"),
			"SA_DATA__ALPHA_VANTAGE__FUNDAMENTALS":          one("overview", "overview,earnings,balance_sheet"),
			"SA_DATA__EDGAR__USER_AGENT":                    one("", "Example Research admin@example.com"),
			"SA_DATA__BARS__SOURCES":                        one("alpha_vantage", "massive", "alpha_vantage,tiingo", "tiingo", "tiingo,massive,alpha_vantage", "ibkr,alpha_vantage"),
			"SA_DATA__TIINGO__RATE_LIMIT_PER_DAY":           one("0", "20"),
			"SA_SCHEDULER__TIMEZONE":                        one("America/New_York", "UTC", "Asia/Tokyo", "Australia/Lord_Howe"),
			"SA_SCHEDULER__DAILY_BARS_CRON":                 one("30 18 * * 1-5", "0 2 * * *", "*/20 * * * *", "0 12 * * 1", "30 2 * * *"),
			"SA_SCHEDULER__WEEKLY_FUNDAMENTALS_CRON":        one("0 6 * * 6", "0 0 * * *", "30 1 * * 0"),
			"SA_SCHEDULER__BIWEEKLY_ALTDATA_CRON":           one("0 7 1,15 * *", "0 0 29 2 *", "30 2 * * 0"),
			"SA_ALPHA_VANTAGE_API_KEY":                      canary, "SA_TIINGO_API_KEY": canary, "SA_MASSIVE_API_KEY": canary,
		}
		cfg, err := loadConfig("", environOf(env))
		if err != nil {
			t.Fatal(err)
		}
		a := &app{cfg: cfg, redact: func(s string) string { return s }}
		r := a.rehearsal(market.SP500()[:number(1, 60)])
		at := market.NewDate(number(2000, 2034), time.Month(number(1, 12)), number(1, 28)).In(market.NewYork(), number(0, 23), number(0, 59))
		var lives []span
		for range number(1, 4) {
			end := at.Add(time.Duration(number(1, 10*24*60)) * time.Minute)
			lives = append(lives, span{at, end})
			at = end.Add(time.Duration(number(0, 20*24*60)) * time.Minute)
		}
		if err := r.run(context.Background(), lives...); err != nil {
			t.Fatal(err)
		}
		if len(r.audit.found) > 0 {
			t.Fatalf("%v: %s", lives, strings.Join(r.audit.found, "\n"))
		}
	})
}

package schedule_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/schedule"
)

const settle = 2 * time.Hour

// stamp is the period of a job that has one for each tick.
func stamp(tick time.Time) (schedule.Period, error) {
	return schedule.Period{Name: tick.UTC().Format("2006-01-02T15:04Z")}, nil
}

func dailyBars(s schedule.Schedule) schedule.Job {
	return schedule.Job{
		Name: "daily_bars", Schedule: s, Period: schedule.DailyBars(market.NYSE(), settle, s), Window: 72 * time.Hour, Whole: true,
	}
}

// defaults are the jobs as the contract has them.
func defaults(t testing.TB) []schedule.Job {
	t.Helper()
	return []schedule.Job{
		dailyBars(parse(t, "30 18 * * 1-5", newYork)),
		{Name: "weekly_fundamentals", Schedule: parse(t, "0 6 * * 6", newYork), Period: schedule.Weekly, Window: 6 * 24 * time.Hour},
		{Name: "altdata", Schedule: parse(t, "0 7 1,15 * *", newYork), Period: schedule.Biweekly, Window: 10 * 24 * time.Hour, Whole: true},
	}
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", text, market.NewYork())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// show writes a decision in a few words.
func show(d schedule.Decision) string {
	var b strings.Builder
	ny := func(t time.Time) string { return t.In(market.NewYork()).Format("Mon 01-02 15:04") }
	for _, r := range d.Rows {
		fmt.Fprintf(&b, "%s %s (%s): %s\n", r.Status, r.Period, ny(r.Tick), r.Reason)
	}
	if d.Run != nil {
		fmt.Fprintf(&b, "run %s (%s)\n", d.Run.Period, ny(d.Run.Tick))
	}
	for _, n := range d.Notes {
		fmt.Fprintln(&b, "note:", n)
	}
	fmt.Fprintf(&b, "settled %s, next %s", ny(d.Settled), ny(d.Next))
	return b.String()
}

func TestDue(t *testing.T) {
	t.Parallel()
	afterMidnight := "0 2 * * 2-6"
	for name, c := range map[string]struct {
		spec, now, settled string
		known              []string
		want               string
	}{
		"nothing": {"", "2026-03-12 18:29", "2026-03-11 18:30", nil, "settled Wed 03-11 18:30, next Thu 03-12 18:30"},
		"on time": {"", "2026-03-12 18:30", "2026-03-11 18:30", nil, "run 2026-03-12 (Thu 03-12 18:30)\nsettled Thu 03-12 18:30, next Fri 03-13 18:30"},
		"another has it": {
			"", "2026-03-12 18:30", "2026-03-11 18:30",
			[]string{"2026-03-12"},
			"settled Thu 03-12 18:30, next Fri 03-13 18:30",
		},
		"first start": {
			"", "2026-03-12 12:00", "",
			[]string{"2026-03-10", "2026-03-09"},
			"run 2026-03-11 (Wed 03-11 18:30)\nsettled Wed 03-11 18:30, next Thu 03-12 18:30",
		},
		"down for two days": {
			"", "2026-03-12 20:00", "2026-03-10 18:30", nil,
			"missed 2026-03-11 (Wed 03-11 18:30): superseded by 2026-03-12, whose run brings it too\nrun 2026-03-12 (Thu 03-12 18:30)\nsettled Thu 03-12 18:30, next Fri 03-13 18:30",
		},
		"down for a week": {
			"", "2026-03-13 20:00", "2026-03-06 18:30", nil,
			"missed 2026-03-09 (Mon 03-09 18:30): the worker was away for longer than 72h0m0s\n" +
				"missed 2026-03-10 (Tue 03-10 18:30): the worker was away for longer than 72h0m0s\n" +
				"missed 2026-03-11 (Wed 03-11 18:30): superseded by 2026-03-13, whose run brings it too\n" +
				"missed 2026-03-12 (Thu 03-12 18:30): superseded by 2026-03-13, whose run brings it too\n" +
				"run 2026-03-13 (Fri 03-13 18:30)\nsettled Fri 03-13 18:30, next Mon 03-16 18:30",
		},
		"a newer one was run by hand": {
			"", "2026-03-12 20:00", "2026-03-10 18:30",
			[]string{"2026-03-12"},
			"missed 2026-03-11 (Wed 03-11 18:30): superseded by 2026-03-12, whose run brings it too\nsettled Thu 03-12 18:30, next Fri 03-13 18:30",
		},
		"Good Friday": {
			"", "2026-04-03 18:30", "2026-04-02 18:30",
			[]string{"2026-04-02"},
			"no_session 2026-04-03 (Fri 04-03 18:30): no_session: Good Friday\nsettled Fri 04-03 18:30, next Mon 04-06 18:30",
		},
		"a closed day supersedes nothing": {
			"", "2026-04-03 19:00", "2026-04-01 18:30", nil,
			"no_session 2026-04-03 (Fri 04-03 18:30): no_session: Good Friday\nrun 2026-04-02 (Thu 04-02 18:30)\nsettled Fri 04-03 18:30, next Mon 04-06 18:30",
		},
		"a half day": {
			"0 15 * * *", "2026-11-27 15:00", "2026-11-26 15:00", nil,
			"run 2026-11-27 (Fri 11-27 15:00)\nsettled Fri 11-27 15:00, next Sat 11-28 15:00",
		},
		"before the close": {
			"0 15 * * *", "2026-11-25 15:00", "2026-11-24 15:00", nil,
			"run 2026-11-24 (Wed 11-25 15:00)\nsettled Wed 11-25 15:00, next Thu 11-26 15:00",
		},
		"several ticks a session": {
			"0 18,20,22 * * 1-5", "2026-03-12 22:30", "2026-03-11 22:00", nil,
			"run 2026-03-12 (Thu 03-12 22:00)\nsettled Thu 03-12 22:00, next Fri 03-13 18:00",
		},
		"Friday's session on Saturday": {
			afterMidnight, "2026-03-14 02:00", "2026-03-13 02:00", nil,
			"run 2026-03-13 (Sat 03-14 02:00)\nsettled Sat 03-14 02:00, next Tue 03-17 02:00",
		},
		"the session before a holiday": {
			afterMidnight, "2026-04-04 02:00", "2026-04-02 02:00", nil,
			"no_session 2026-04-04 (Sat 04-04 02:00): no_session: weekend\nrun 2026-04-02 (Fri 04-03 02:00)\nsettled Sat 04-04 02:00, next Tue 04-07 02:00",
		},
		"a weekend of hours": {
			"0 * * * *", "2026-03-15 12:00", "2026-03-13 17:00", nil,
			"no_session 2026-03-14 (Sat 03-14 23:00): no_session: weekend\nno_session 2026-03-15 (Sun 03-15 12:00): no_session: weekend\n" +
				"run 2026-03-13 (Fri 03-13 23:00)\nsettled Sun 03-15 12:00, next Sun 03-15 13:00",
		},
		"two ticks on Saturday": {
			"0 2,10 * * *", "2026-03-14 10:00", "2026-03-13 10:00", nil,
			"no_session 2026-03-14 (Sat 03-14 10:00): no_session: weekend\nrun 2026-03-13 (Sat 03-14 02:00)\nsettled Sat 03-14 10:00, next Sun 03-15 02:00",
		},
		"a tick just when bars are final": {
			"0 18 * * *", "2026-03-14 18:00", "2026-03-13 18:00", nil,
			"no_session 2026-03-14 (Sat 03-14 18:00): no_session: weekend\nsettled Sat 03-14 18:00, next Sun 03-15 18:00",
		},
		"a tick before bars are final": {
			"0 17 * * *", "2026-03-14 17:00", "2026-03-13 17:00", nil,
			"run 2026-03-13 (Sat 03-14 17:00)\nsettled Sat 03-14 17:00, next Sun 03-15 17:00",
		},
		"the clock was a day ahead": {"", "2026-03-12 18:00", "2026-03-13 18:30", nil, "settled Fri 03-13 18:30, next Thu 03-12 18:30"},
		"the clock was set back":    {"", "2026-03-12 17:40", "2026-03-12 18:30", nil, "settled Thu 03-12 18:30, next Thu 03-12 18:30"},
		"the clock was a year ahead": {
			"", "2026-03-12 20:00", "2027-03-12 18:30",
			[]string{"2026-03-10", "2026-03-11"},
			"run 2026-03-12 (Thu 03-12 18:30)\n" +
				"note: the journal has settled a tick at 2027-03-12T18:30:00-05:00, which is 8759h30m0s after now: a clock was wrong, or is; looking at the last 72h0m0s instead\n" +
				"settled Thu 03-12 18:30, next Fri 03-13 18:30",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.spec == "" {
				c.spec = "30 18 * * 1-5"
			}
			var settled time.Time
			if c.settled != "" {
				settled = instant(t, c.settled)
			}
			d, err := dailyBars(parse(t, c.spec, newYork)).Due(instant(t, c.now), settled, func(p string) bool { return slices.Contains(c.known, p) })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, show(d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLateStart: a worker that starts more often than weekly still runs the
// weekly job, and one that is away for the whole window says so.
func TestLateStart(t *testing.T) {
	t.Parallel()
	weekly := defaults(t)[1]
	unknown := func(string) bool { return false }
	for now, want := range map[string]string{
		"2026-03-18 12:00": "run 2026-W11 (Sat 03-14 06:00)\nsettled Sat 03-14 06:00, next Sat 03-21 06:00",
		"2026-03-20 06:00": "run 2026-W11 (Sat 03-14 06:00)\nsettled Sat 03-14 06:00, next Sat 03-21 06:00",
		"2026-03-20 12:00": "missed 2026-W11 (Sat 03-14 06:00): the worker was away for longer than 144h0m0s\nsettled Sat 03-14 06:00, next Sat 03-21 06:00",
		"2026-03-21 06:00": "missed 2026-W11 (Sat 03-14 06:00): the worker was away for longer than 144h0m0s\nrun 2026-W12 (Sat 03-21 06:00)\nsettled Sat 03-21 06:00, next Sat 03-28 06:00",
	} {
		d, err := weekly.Due(instant(t, now), instant(t, "2026-03-07 06:00"), unknown)
		if diff := cmp.Diff(want, show(d)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", now, err, diff)
		}
	}
}

// TestDowntimes: there is a row for each tick, whether it runs or not.
func TestDowntimes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"* * * * *", "*/20 1-3 * * *", "0 0 * * *", "30 2 * * 0"} {
		for _, down := range []int{1, 101, schedule.MostRows, 3*schedule.MostRows + 7} {
			s := parse(t, text, "America/Santiago")
			settled := s.Next(time.Date(2020, 9, 1, 0, 0, 0, 0, time.UTC))
			now := settled
			for range down {
				now = s.Next(now)
			}
			j := schedule.Job{Name: "test", Schedule: s, Period: stamp, Window: 90 * time.Minute}
			d, err := j.Due(now.Add(time.Minute/2), settled, func(string) bool { return false })
			if err != nil || d.Run == nil || !d.Run.Tick.Equal(now) || !d.Settled.Equal(now) {
				t.Fatalf("%v, down for %d ticks: %v, %s", s, down, err, show(d))
			}
			if got := 1 + len(d.Rows) + d.Older; got != down || (down <= schedule.MostRows && d.Older > 0) || len(d.Rows) > schedule.MostRows || (d.Older > 0) != (len(d.Notes) == 1) {
				t.Errorf("%v, down for %d ticks: %d rows, %d older, notes %q", s, down, len(d.Rows), d.Older, d.Notes)
			}
		}
	}
}

// TestYearsOfMinutes: a job that looks at each minute pays for its periods.
func TestYearsOfMinutes(t *testing.T) {
	t.Parallel()
	j := dailyBars(parse(t, "* * * * *", newYork))
	settled, now := instant(t, "2016-03-11 18:30"), instant(t, "2026-03-12 18:30")
	asked := 0
	period := j.Period
	j.Period = func(tick time.Time) (schedule.Period, error) {
		asked++
		return period(tick)
	}
	d, err := j.Due(now, settled, func(string) bool { return false })
	if err != nil || d.Run == nil || d.Run.Period != "2026-03-12" || d.Older != 0 {
		t.Fatalf("%v, %s", err, show(d))
	}
	have := map[string]int{d.Run.Period: 1}
	for _, r := range d.Rows {
		have[r.Period]++
	}
	for date := market.DateOf(settled) + 1; date <= market.DateOf(now); date++ {
		if have[date.String()] != 1 { // each day is a session or is closed
			t.Errorf("%v has %d rows", date, have[date.String()])
		}
	}
	if asked > 2*len(have)+3000 {
		t.Errorf("%d periods were asked for %d times", len(have), asked)
	}
}

func TestPeriods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ tick, week, date string }{
		{"2026-12-26 06:00", "2026-W52", "2026-12-26"},
		{"2026-12-27 23:59", "2026-W52", "2026-12-27"},
		{"2026-12-28 00:00", "2026-W53", "2026-12-28"},
		{"2027-01-02 06:00", "2026-W53", "2027-01-02"},
		{"2027-01-03 20:30", "2026-W53", "2027-01-03"}, // the 4th in UTC
		{"2027-01-04 06:00", "2027-W01", "2027-01-04"},
	} {
		for want, period := range map[string]func(time.Time) (schedule.Period, error){c.week: schedule.Weekly, c.date: schedule.Biweekly} {
			tick := instant(t, c.tick)
			p, err := period(tick.UTC())
			if err != nil || p.Name != want || p.Closed != "" || p.Since.After(tick) {
				t.Errorf("%s: %+v, %v, want %s", c.tick, p, err, want)
			}
			first, _ := period(p.Since)
			before, _ := period(p.Since.Add(-1))
			if first.Name != want || before.Name == want {
				t.Errorf("%s: since %v: %s, before %s", c.tick, p.Since, first.Name, before.Name)
			}
		}
	}
}

// oracle decides as [schedule.Job.Due] promises, from all ticks up to now, one
// by one and without a look at Period.Since.
func oracle(j schedule.Job, ticks []time.Time, now, settled time.Time, known func(string) bool) (run string, rows map[string]schedule.Status) {
	from := settled
	if settled.IsZero() || settled.After(now.Add(25*time.Hour)) {
		from = now.Add(-j.Window)
	}
	newest, closed, order := map[string]time.Time{}, map[string]bool{}, []string{}
	for _, tick := range ticks {
		if !tick.After(from) || tick.After(now) {
			continue
		}
		p, err := j.Period(tick)
		if err != nil {
			panic(err)
		}
		order = slices.DeleteFunc(order, func(s string) bool { return s == p.Name })
		order = append(order, p.Name)
		newest[p.Name], closed[p.Name] = tick, p.Closed != ""
	}
	rows = map[string]schedule.Status{}
	open := slices.DeleteFunc(slices.Clone(order), func(s string) bool { return closed[s] })
	for _, name := range order {
		switch {
		case known(name):
		case closed[name]:
			rows[name] = schedule.NoSession
		case name == open[len(open)-1] && now.Sub(newest[name]) <= j.Window:
			run = name
		default:
			rows[name] = schedule.Missed
		}
	}
	return run, rows
}

// entry is a period in the journal of the simulation.
type entry struct {
	written time.Time
	row     bool
}

// life is a worker that is killed, sleeps, and has its clock set.
type life struct {
	j       schedule.Job
	ticks   []time.Time
	journal map[string]entry
	runs    map[string]int
	settled time.Time
}

// look asks what is due and journals it, all of it, a part, or nothing.
func (l *life) look(t *testing.T, now time.Time, r *rand.Rand) {
	t.Helper()
	known := func(period string) bool {
		e, ok := l.journal[period]
		return ok && (!e.row || !e.written.After(now))
	}
	d, err := l.j.Due(now, l.settled, known)
	if err != nil {
		t.Fatal(err)
	}
	wantRun, wantRows := oracle(l.j, l.ticks, now, l.settled, known)
	rows, run := map[string]schedule.Status{}, ""
	for _, row := range d.Rows {
		rows[row.Period] = row.Status
	}
	if d.Run != nil {
		run = d.Run.Period
	}
	if diff := cmp.Diff(wantRows, rows); diff != "" || run != wantRun || len(rows) != len(d.Rows) {
		t.Fatalf("%v at %v, settled %v: run %q, want %q; rows (-want +got):\n%s", l.j.Schedule, now, l.settled, run, wantRun, diff)
	}
	killed := -1 // while it writes this row
	if r.IntN(20) == 0 {
		killed = r.IntN(1 + len(d.Rows))
	}
	for i, row := range d.Rows {
		if i == killed {
			return
		}
		l.journal[row.Period] = entry{now, true}
	}
	if d.Run != nil {
		l.runs[run]++
		l.journal[run] = entry{now, false}
	}
	if r.IntN(50) > 0 {
		l.settled = d.Settled
	}
}

// TestLives lets workers with all sorts of schedules live through downtimes and
// clock steps, with the ticks of the model: no period runs twice, and each has
// an entry at the end.
func TestLives(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	lives := 25
	if long() {
		lives = 2000
	}
	all := changingZones(t)
	for range lives {
		z := all[r.IntN(len(all))]
		c := z.changes[r.IntN(len(z.changes))]
		texts := append(around(c, r), "0 18,20,22 * * 1-5", "0 2 * * 2-6", "0 * * * *", "45 23 * * *")
		text := texts[r.IntN(len(texts))]
		from, to := c.at.AddDate(0, 0, -30), c.at.AddDate(0, 0, 30)
		s := parse(t, text, z.String())
		j := dailyBars(s)
		switch r.IntN(4) {
		case 0:
			j.Period = schedule.Weekly
		case 1:
			j.Period = schedule.Biweekly
		case 2:
			if !strings.HasPrefix(text, "* *") {
				j.Period = stamp
			}
		}
		j.Whole = r.IntN(2) == 0
		j.Window = time.Duration(1+r.IntN(100)) * time.Hour
		begin := c.at.AddDate(0, 0, -15).Truncate(time.Minute)
		l := &life{
			j: j, ticks: walk(z.Location, from, to, read([]string{text}))[0],
			journal: map[string]entry{}, runs: map[string]int{}, settled: begin,
		}
		live(t, l, begin, c.at.AddDate(0, 0, 10), r)
	}
}

func live(t *testing.T, l *life, begin, end time.Time, r *rand.Rand) {
	t.Helper()
	var wrong time.Duration // by which the clock is ahead
	for at := begin; at.Before(end); {
		switch r.IntN(40) {
		case 0:
			at = at.Add(time.Duration(r.IntN(200)) * time.Hour)
		case 1:
			wrong = time.Duration(r.IntN(40)-20) * time.Hour / 4
		case 2:
			wrong = time.Duration(r.IntN(14)-4) * 24 * time.Hour
		case 3, 4, 5, 6:
			wrong = 0
		}
		at = at.Add(time.Duration(1+r.IntN(400)) * time.Minute)
		l.look(t, at.Add(wrong), r)
	}
	for range 3 { // a killed one starts again
		l.look(t, end, rand.New(rand.NewPCG(1, 4)))
	}
	for period, n := range l.runs {
		if n > 1 {
			t.Fatalf("%v: %s ran %d times", l.j.Schedule, period, n)
		}
	}
	for _, tick := range l.ticks {
		p, err := l.j.Period(tick)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := l.journal[p.Name]; !ok && tick.After(begin) && !tick.After(end) {
			t.Fatalf("%v: the tick at %v has no entry for %s", l.j.Schedule, tick, p.Name)
		}
	}
}

// TestTenYears runs the default jobs from tick to tick: each session, each week
// and each half month runs once.
func TestTenYears(t *testing.T) {
	t.Parallel()
	from, to := instant(t, "2026-01-01 00:00"), instant(t, "2036-01-01 00:00")
	runs := map[string]int{}
	closed := map[string]string{}
	tenYears(t, from, to, func(job string, d schedule.Decision) {
		if d.Run != nil {
			runs[job+" "+d.Run.Period]++
		}
		for _, row := range d.Rows {
			if row.Status != schedule.NoSession {
				t.Errorf("%s: %+v", job, row)
			}
			closed[row.Period] = row.Reason
		}
	})
	want := map[string]int{}
	for d := market.DateOf(from); d < market.DateOf(to); d++ {
		switch open, err := market.NYSE().IsSession(d); {
		case err != nil:
			t.Fatal(err)
		case open:
			want["daily_bars "+d.String()] = 1
		case d.Weekday() != time.Saturday && d.Weekday() != time.Sunday && closed[d.String()] != "no_session: "+market.NYSE().Why(d):
			t.Errorf("%v: %q", d, closed[d.String()])
		}
		if d.Weekday() == time.Saturday {
			want["weekly_fundamentals "+market.WeekOf(d).String()] = 1
		}
		if _, _, n := d.Time().Date(); n == 1 || n == 15 {
			want["altdata "+d.String()] = 1
		}
	}
	if diff := cmp.Diff(want, runs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, week := range []string{"2026-W52", "2026-W53", "2027-W01"} {
		if runs["weekly_fundamentals "+week] != 1 {
			t.Errorf("%s ran %d times", week, runs["weekly_fundamentals "+week])
		}
	}
}

// tenYears asks each job at each of its ticks.
func tenYears(t testing.TB, from, to time.Time, each func(job string, d schedule.Decision)) {
	t.Helper()
	for _, j := range defaults(t) {
		settled := from
		for now := j.Schedule.Next(from); now.Before(to); {
			d, err := j.Due(now, settled, func(string) bool { return false })
			if err != nil {
				t.Fatal(err)
			}
			each(j.Name, d)
			settled, now = d.Settled, d.Next
		}
	}
}

// BenchmarkTenYears is ten years of the default schedule, from tick to tick.
func BenchmarkTenYears(b *testing.B) {
	from, to := instant(b, "2026-01-01 00:00"), instant(b, "2036-01-01 00:00")
	for b.Loop() {
		tenYears(b, from, to, func(string, schedule.Decision) {})
	}
}

// BenchmarkMinutesAway is a decision after ten years away from a schedule of
// each minute.
func BenchmarkMinutesAway(b *testing.B) {
	from, to := instant(b, "2016-01-01 00:00"), instant(b, "2026-01-01 00:00")
	s := parse(b, "* * * * *", newYork)
	for name, j := range map[string]schedule.Job{
		"sessions": dailyBars(s),
		"ticks":    {Schedule: s, Period: stamp, Window: time.Hour},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := j.Due(to, from, func(string) bool { return false }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	s := parse(b, "30 18 * * 1-5", newYork)
	at := years.from
	for b.Loop() {
		if at = s.Next(at); at.After(years.to) {
			at = years.from
		}
	}
}

func TestDueRefuses(t *testing.T) {
	t.Parallel()
	now := instant(t, "2036-01-02 20:00") // a year that the calendar does not hold
	unknown := func(string) bool { return false }
	var year *market.UnknownYearError
	_, err := dailyBars(parse(t, "30 18 * * *", newYork)).Due(now, now.AddDate(0, 0, -1), unknown)
	if !errors.As(err, &year) || !strings.Contains(err.Error(), "schedule of daily_bars: period of the tick at 2036-01-02T18:30:00-05:00: ") {
		t.Errorf("%v", err)
	}
	for _, j := range []schedule.Job{{Name: "empty"}, {Name: "empty", Period: stamp}, {Name: "empty", Window: time.Hour}} {
		if d, err := j.Due(now, time.Time{}, unknown); err == nil || !strings.HasPrefix(err.Error(), "schedule of empty: ") {
			t.Errorf("%+v, %v", d, err)
		}
	}
	d, err := schedule.Job{Period: stamp, Window: time.Hour}.Due(now, time.Time{}, unknown)
	if err != nil || d.Run != nil || !d.Next.IsZero() || !d.Settled.IsZero() {
		t.Errorf("a job without ticks: %v, %v", err, show(d))
	}
}

//go:build chaos

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	// never is a schedule of a job that a test does not want.
	never = "0 0 29 2 *"
	// longestServe is how long a worker may serve before it is told to stop.
	longestServe = 5 * time.Second
	// weekScale is how fast the clock of a week goes, beside its leaps.
	weekScale = 20
)

// servedBars is a world in which the program serves daily bars of a few symbols by
// a clock that the test sets, on servers of its own.
type servedBars struct {
	*world
	clock    *clock
	random   *rand.Rand
	symbols  []market.Symbol
	first    market.Date // the first session
	session  market.Date // the one that is due
	sessions []market.Date
	db       store.DB
}

// newServing sets the clock to the end of a session. It is ahead of the machine's
// clock, which Postgres goes by, so that no wait after a failure is a wait.
func newServing(t *testing.T, seed uint64, symbols int, first market.Date) *servedBars {
	t.Helper()
	s := &servedBars{world: newWorld(t).withServers(), random: rand.New(rand.NewPCG(seed, 0)), symbols: market.SP500()[:symbols]}
	s.first = first
	s.clock = s.newClock(time.Now(), 1)
	s.simulate(simulator.Config{Key: canary, Now: s.clock.now, Premium: true})
	s.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "0"
	s.env["SA_DATA__UNIVERSE__SYMBOLS"] = list(s.symbols)
	s.env["SA_SCHEDULER__WEEKLY_FUNDAMENTALS_CRON"] = never
	s.env["SA_SCHEDULER__BIWEEKLY_ALTDATA_CRON"] = never
	s.env["SA_LOG__LEVEL"] = "info"
	s.next()
	if m := s.run("migrate"); m.code != exitOK {
		t.Fatal(m.err)
	}
	s.db = s.open().db
	return s
}

// next sets the clock to a second after the tick of the next session.
func (s *servedBars) next() {
	s.t.Helper()
	var err error
	if s.session == 0 {
		s.session, err = market.NYSE().Next(s.first - 1)
		s.first = s.session
	} else {
		s.session, err = market.NYSE().Next(s.session)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.sessions = append(s.sessions, s.session)
	s.clock.set(s.t, s.session.In(market.NewYork(), 18, 30).Add(time.Second), s.clock.read().Scale)
}

// states are the states of the periods of daily bars since the first session.
func (s *servedBars) states() map[string]string {
	s.t.Helper()
	rows, err := s.db.Periods(s.t.Context(), dailybars.Name, 1<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	states := make(map[string]string, len(rows))
	for _, row := range rows {
		if row.Period >= s.first.String() && row.State != store.NoSession {
			states[row.Period] = row.State
		}
	}
	return states
}

// verify compares what is stored with the simulator's data: nothing missing,
// nothing doubled, nothing wrong, and done only what is stored.
func (s *servedBars) verify() {
	s.t.Helper()
	s.verifyBars(s.db, s.symbols, s.first, s.session)
	states := s.states()
	for _, session := range s.sessions {
		if state := states[session.String()]; state != store.Complete {
			s.t.Errorf("%s is %q", session, state)
		}
	}
	if len(states) != len(s.sessions) {
		s.t.Errorf("%d periods in the journal for %d sessions", len(states), len(s.sessions))
	}
	for what, sql := range map[string]string{
		"sessions without an item for each symbol": fmt.Sprintf(
			`SELECT count(*)::text FROM ingest_periods p WHERE job = 'daily_bars' AND state = 'complete' AND (SELECT count(*) FROM ingest_items i WHERE i.job = p.job AND i.period = p.period) <> %d`, len(s.symbols)),
		"units that were stored twice": `
			SELECT count(*)::text FROM (SELECT FROM ingest_attempts WHERE outcome = 'stored' GROUP BY job, period, unit HAVING count(*) > 1) AS twice`,
		"sessions without one run that ended well, or that was lost after its last save": `
			SELECT count(*)::text FROM ingest_periods p WHERE job = 'daily_bars' AND state = 'complete'
			AND (SELECT count(*) FROM ingest_runs r WHERE r.job = p.job AND r.period = p.period AND r.status = 'ok') <> 1
			AND NOT EXISTS (SELECT FROM ingest_runs r WHERE r.id = p.run_id AND r.status IN ('running', 'interrupted'))`,
		"sessions with two runs that ended well": `
			SELECT count(*)::text FROM (SELECT FROM ingest_runs WHERE status = 'ok' GROUP BY job, period HAVING count(*) > 1) AS twice`,
	} {
		if n := s.query(sql); n != "0" {
			s.t.Errorf("%s: %s", what, n)
		}
	}
	s.doneIsStored()
}

// verifyBars compares the stored bars with the simulator's data: those of the
// sessions from first to last are there, older ones that came with an answer may
// be, without a gap, and no others.
func (w *world) verifyBars(db store.DB, symbols []market.Symbol, first, last market.Date) {
	w.t.Helper()
	for _, symbol := range symbols {
		series, err := db.Bars(w.t.Context(), symbol, market.Range{From: 1, To: last + 5000})
		if err != nil {
			w.t.Fatal(err)
		}
		from := first
		if len(series.Bars) > 0 {
			from = min(first, series.Bars[0].Date)
		}
		dates, err := market.NYSE().Sessions(from, last)
		if err != nil {
			w.t.Fatal(err)
		}
		want := make([]market.Bar, len(dates))
		for i, d := range dates {
			want[i] = simulator.Bar(symbol, d)
		}
		if !slices.Equal(series.Bars, want) {
			w.t.Errorf("%s: the %d stored bars are not the %d served ones", symbol, len(series.Bars), len(want))
		}
	}
}

// doneIsStored looks at the done-sets, which live for 25 hours.
func (s *servedBars) doneIsStored() {
	s.t.Helper()
	rdb := s.redis()
	for _, session := range s.sessions {
		members, err := rdb.SMembers(s.t.Context(), "jobs:daily_bars:"+session.String()+":done").Result()
		if err != nil {
			s.t.Fatal(err)
		}
		units, err := s.db.DoneUnits(s.t.Context(), dailybars.Name, session.String())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, m := range members {
			if !slices.Contains(units, market.Symbol(m)) {
				s.t.Errorf("%s of %s is in the done-set and not in the ledger", m, session)
			}
		}
	}
}

// repeated is the number of calls beyond the first for a symbol and a session.
func (s *servedBars) repeated() (calls, repeated int) {
	type unit struct {
		symbol  market.Symbol
		session market.Date
	}
	seen := map[unit]bool{}
	all := s.sim.Calls()
	for _, c := range all {
		session, err := market.NYSE().LastClosed(c.At, settleTime)
		if err != nil {
			s.t.Fatal(err)
		}
		seen[unit{c.Symbol, session}] = true
	}
	return len(all), len(all) - len(seen)
}

// locks is the number of claims that somebody holds.
func (s *servedBars) locks() string {
	return s.query(`SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
}

func (s *servedBars) awaitNoLock() {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); s.locks() != "0"; time.Sleep(clockPoll) {
		if time.Now().After(end) {
			s.t.Fatalf("the claim is held by a process that has ended")
		}
	}
}

// TestChaosServeTerm tells a worker to stop at random moments, in a slow world,
// and starts it again at once. Each time it ends by itself with code 0 and leaves
// no claim behind; nothing is lost, and at most what was in flight is asked again.
//
// CHAOS_TERMS sets how often (200), CHAOS_SEED replays the moments of a run.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosServeTerm(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	terms := int(numberFrom(t, "CHAOS_TERMS", 200))
	fmt.Printf("chaos: serve: replay with CHAOS_SEED=%d CHAOS_TERMS=%d\n", seed, terms)
	s := newServing(t, seed, 40, market.NewDate(time.Now().Year()+1, time.January, 6))
	s.simulate(simulator.Config{Key: canary, Now: s.clock.now, Premium: true, Latency: 400 * time.Millisecond})
	s.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = "900"
	database, redis := testenv.NewGate(t, s.env["SA_DATABASE__URL"]), testenv.NewGate(t, s.env["SA_REDIS__URL"])
	slow := map[string]string{"SA_DATABASE__URL": database.URL(), "SA_REDIS__URL": redis.URL()}
	var took []time.Duration
	worst, before, complete := 0, 0, 0
	for len(took) < terms {
		database.Delay(time.Duration(s.random.IntN(20)) * time.Millisecond)
		redis.Delay(time.Duration(s.random.IntN(5)) * time.Millisecond)
		if s.random.IntN(10) == 0 {
			s.sim.Fault(s.symbols[s.random.IntN(len(s.symbols))], simulator.SlowHeaders, 1)
		}
		took = append(took, s.term(slow))
		_, now := s.repeated()
		worst, before = max(worst, now-before), now
		if s.states()[s.session.String()] == store.Complete {
			complete++
			s.next()
		}
	}
	slices.Sort(took)
	calls, repeated := s.repeated()
	fmt.Printf("chaos: serve: told to stop %d times: p50 %s p90 %s max %s until the end; %d sessions, %d calls, %d repeated (at most %d after one stop, bound %d)\n",
		terms, quantile(took, 50), quantile(took, 90), quantile(took, 100), complete, calls, repeated, worst, workers)
	if worst > workers {
		t.Errorf("%d calls repeated after one stop, with %d units in flight", worst, workers)
	}
	s.untilComplete()
	s.verify()
}

// term serves for a random time and says how long the end took.
func (s *servedBars) term(env map[string]string) time.Duration {
	s.t.Helper()
	p := s.spawn(s.clock, env, "serve")
	life := time.After(time.Duration(s.random.Int64N(int64(longestServe))))
	p.awaitSaid(`"msg"`) // until then the signal would have its default effect
	select {
	case <-life:
	case <-p.gone:
		s.t.Fatalf("it ended before it was told to: %s", tail(p.errs.String()))
	}
	code, took := p.end(syscall.SIGTERM)
	if code != exitOK {
		s.t.Errorf("exit code %d:\n%s", code, tail(p.errs.String()))
	}
	s.awaitNoLock()
	return took
}

// untilComplete serves until the session is complete.
func (s *servedBars) untilComplete() {
	s.t.Helper()
	p := s.spawn(s.clock, nil, "serve")
	for end := time.Now().Add(time.Minute); s.states()[s.session.String()] != store.Complete; time.Sleep(clockPoll) {
		if time.Now().After(end) {
			s.t.Fatalf("%s is not complete: %s", s.session, tail(p.errs.String()))
		}
	}
	p.end(syscall.SIGTERM)
}

func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(time.Millisecond)
}

// servedWeek is a week of the schedule on the embedded default.
type servedWeek struct {
	*world
	clock   *clock
	random  *rand.Rand
	symbols []market.Symbol
	db      store.DB
	looks   int
}

// TestChaosServeWeek lets a worker that has an Alpha Vantage key and nothing else
// serve for a week and a day, while it is killed at random moments and other
// processes ask for its status. The clock runs fast and leaves most hours out, as
// on a machine that sleeps: at a hundred times its pace the limiter takes answers
// for stale. All that was due is stored, once, and no status said that something
// was done which was not.
//
// CHAOS_WEEK is how often it is killed (200), CHAOS_SEED replays the moments.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosServeWeek(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	kills := int(numberFrom(t, "CHAOS_WEEK", 200))
	fmt.Printf("chaos: week: replay with CHAOS_SEED=%d CHAOS_WEEK=%d\n", seed, kills)
	w := &servedWeek{world: newWorld(t), random: rand.New(rand.NewPCG(seed, 3)), symbols: market.SP500()[:6]}
	first, last := market.NewDate(2026, time.February, 27), market.NewDate(2026, time.March, 9)
	w.clock = w.newClock((first+3).In(market.NewYork(), 0, 0), weekScale)
	w.simulate(simulator.Config{Key: canary, Now: w.clock.now})
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY"] = "25"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = list(w.symbols)
	w.env["SA_LOG__LEVEL"] = "info"
	s := w.open()
	if err := s.ready(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w.db = s.db
	end := (last + 1).In(market.NewYork(), 0, 0)
	for left := kills; left > 0; left-- {
		w.serveAndKill(max(0, end.Sub(w.clock.now())) / time.Duration(left))
	}
	p := w.spawn(w.clock, nil, "serve")
	p.awaitSaid("scheduled")
	w.awaitFinal("daily_bars", last.String())
	w.awaitFinal("weekly_fundamentals", "2026-W10")
	if code, _ := p.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d: %s", code, tail(p.errs.String()))
	}
	w.verifyJournal(first, last)
	repeated := w.verifyAttempts()
	fmt.Printf("chaos: week: %d kills, %d looks at the status, %d calls, %d saves beyond the first of a unit\n", kills, w.looks, len(w.sim.Calls()), repeated)
}

// serveAndKill serves for up to three seconds, and sets the clock forward, before
// that or meanwhile. Other processes ask for the status, some of them when the
// worker is killed.
func (w *servedWeek) serveAndKill(leap time.Duration) {
	w.t.Helper()
	asleep := w.random.IntN(2) == 0
	if !asleep {
		w.clock.set(w.t, w.clock.now().Add(leap), weekScale)
	}
	p := w.spawn(w.clock, nil, "serve")
	if asleep {
		p.awaitSaid("scheduled")
		w.look()
		w.clock.set(w.t, w.clock.now().Add(leap), weekScale)
	}
	kill := time.AfterFunc(time.Duration(w.random.Int64N(int64(3*time.Second))), func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for alive := true; alive; {
		select {
		case <-p.gone:
			alive = false
		case <-time.After(time.Duration(w.random.Int64N(int64(time.Second)))):
			w.look()
		}
	}
	p.keep()
	if code := p.cmd.ProcessState.ExitCode(); code != -1 {
		w.t.Errorf("it ended by itself with code %d: %s", code, tail(p.errs.String()))
	}
}

// look asks for the status and compares it with the ledger, in which a unit that
// is done stays done, and a run that has ended stays so.
func (w *servedWeek) look() {
	w.t.Helper()
	w.looks++
	session, err := market.NYSE().LastClosed(w.clock.now(), settleTime)
	if err != nil {
		w.t.Fatal(err)
	}
	before := w.done(dailybars.Name, session.String())
	p := w.spawn(w.clock, nil, "status", "--json")
	<-p.gone
	p.keep()
	var st status
	if err := json.Unmarshal([]byte(p.out.String()), &st); err != nil {
		w.t.Fatalf("status: %v: %s", err, p.errs.String())
	}
	for _, d := range st.Datasets {
		if d.Done == nil || d.Job != dailybars.Name && d.Job != fundamentals.Name {
			continue
		}
		if after := w.done(d.Job, d.Period); *d.Done > after {
			w.t.Errorf("status: %d symbols of %s %s are done, the ledger has %d", *d.Done, d.Job, d.Period, after)
		}
		if d.Job == dailybars.Name && d.Period == session.String() && *d.Done < before {
			w.t.Errorf("status: %d symbols of %s are done, of %d before", *d.Done, d.Period, before)
		}
	}
	runs, err := w.db.Runs(w.t.Context(), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, said := range st.Runs {
		i := slices.IndexFunc(runs, func(r store.RunInfo) bool { return r.ID == said.ID })
		if i < 0 || said.Status != store.Running && said.Status != runs[i].Status {
			w.t.Errorf("status: run %+v is not so in the ledger", said)
		}
	}
	if st.Bars.Newest > st.Session {
		w.t.Errorf("status: bars of %s, newest session %s", st.Bars.Newest, st.Session)
	}
}

// done is the number of symbols that are done, each with its bar.
func (w *servedWeek) done(job, period string) int {
	w.t.Helper()
	units, err := w.db.DoneUnits(w.t.Context(), job, period)
	if err != nil {
		w.t.Fatal(err)
	}
	if job != dailybars.Name {
		return len(units)
	}
	session, err := market.ParseDate(period)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, symbol := range units {
		series, err := w.db.Bars(w.t.Context(), symbol, market.Range{From: session, To: session})
		if err != nil || len(series.Bars) != 1 {
			w.t.Errorf("%s is done for %s and has %d bars of it, %v", symbol, period, len(series.Bars), err)
		}
	}
	return len(units)
}

// awaitFinal returns when a period has come to its end.
func (w *servedWeek) awaitFinal(job, period string) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(clockPoll) {
		rows, err := w.db.Periods(w.t.Context(), job, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		i := slices.IndexFunc(rows, func(p store.PeriodInfo) bool { return p.Period == period })
		if i >= 0 && rows[i].State != store.Running && rows[i].State != store.Incomplete {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s %s has not come to its end: %+v", job, period, rows)
		}
	}
}

// verifyJournal finds each session of the week in it. One that the worker was
// not there for is missed with a reason, and its bars are stored all the same.
func (w *servedWeek) verifyJournal(first, last market.Date) {
	w.t.Helper()
	rows, err := w.db.Periods(w.t.Context(), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	states := map[string]int{}
	for _, row := range rows {
		states[row.Job+" "+row.State]++
	}
	fmt.Printf("chaos: week: the journal: %v\n", states)
	sessions, err := market.NYSE().Sessions(first, last)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, session := range sessions {
		i := slices.IndexFunc(rows, func(p store.PeriodInfo) bool { return p.Job == dailybars.Name && p.Period == session.String() })
		switch {
		case i < 0:
			w.t.Errorf("%s is not in the journal", session)
		case rows[i].State == store.Complete:
			if n := w.done(dailybars.Name, session.String()); n != len(w.symbols) {
				w.t.Errorf("%s is complete with %d symbols", session, n)
			}
		case rows[i].Reason == "":
			w.t.Errorf("%s is %s without a reason", session, rows[i].State)
		}
	}
	w.verifyBars(w.db, w.symbols, first, last)
	if states[fundamentals.Name+" "+store.Complete] == 0 {
		w.t.Error("no week of fundamentals is complete")
	}
}

// verifyAttempts counts what was saved more than once.
func (w *servedWeek) verifyAttempts() (repeated int) {
	w.t.Helper()
	attempts, err := w.db.Attempts(w.t.Context(), "", 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	type unit struct {
		job, period string
		symbol      market.Symbol
	}
	stored := map[unit]int{}
	for _, a := range attempts {
		if a.Outcome == store.Stored {
			stored[unit{a.Job, a.Period, a.Symbol}]++
		}
	}
	for u, n := range stored {
		if repeated += n - 1; n > 1 {
			w.t.Errorf("%+v was stored %d times", u, n)
		}
	}
	return repeated
}

package main

import (
	"context"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/chain"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/finra"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/tiingo"
)

// lateCalls is after how many answers without the session a run ends.
const lateCalls = 10

// plannedWork is what the runs of a rehearsal cost, as plan reckons it: each call
// has its answer.
type plannedWork struct {
	*app // with the clock of the rehearsal
	r    *rehearsal
	// symbols is the universe.
	symbols []market.Symbol
	// left is how many symbols of a period are not done yet.
	left map[string]int
	// facts are the weeks whose facts are stored.
	facts map[string]bool
	// last is the end of the window of the last complete run of alternative
	// data.
	last time.Time
}

// rehearsal makes a rehearsal of the configured jobs.
func (a *app) rehearsal(symbols []market.Symbol) *rehearsal {
	r := newRehearsal(a.cfg.Schedule.tasks(), append(a.barQuotas(), a.edgarQuota(), a.finraQuota()))
	simulated := *a
	simulated.now = r.clock
	w := &plannedWork{app: &simulated, r: r, symbols: symbols, left: map[string]int{}, facts: map[string]bool{}}
	r.work = map[string]func(*worker, string) (sweep.Report, error){
		dailybars.Name: w.runSession, fundamentals.Name: w.runWeek, altdata.Name: w.runWindow,
	}
	return r
}

// todo is how many symbols of a period are left.
func (w *plannedWork) todo(job, period string) int {
	key := job + " " + period
	if _, begun := w.left[key]; !begun {
		w.left[key] = len(w.symbols)
	}
	return w.left[key]
}

// did takes the symbols that are done from those that are left of a period.
func (w *plannedWork) did(job, period string, n int) { w.left[job+" "+period] -= n }

// reported is the report of a run in which a number of units became done, and
// others did not, for the reason of class; those before were done.
func reported(job, period string, before, done, left int, class sweep.Outcome) sweep.Report {
	t := sweep.Tally{Outcomes: map[sweep.Outcome]int{}, Fetched: done, Failed: left}
	if done > 0 {
		t.Outcomes[sweep.Stored] = done
	}
	if left > 0 {
		t.Outcomes[class] = left
	}
	return sweep.NewReport(job, period, before, t, false)
}

// runSession asks the sources as the chain plans it, and anew while any of them
// takes calls: what one has no calls for the others are asked for.
func (w *plannedWork) runSession(p *worker, period string) (sweep.Report, error) {
	session, err := market.ParseDate(period)
	if err != nil {
		return sweep.Report{}, err
	}
	sources := w.sources()
	left := w.todo(dailybars.Name, period)
	before, all := len(w.symbols)-left, 0
	for left > 0 {
		done, err := w.askSources(p, sources, session, left)
		w.did(dailybars.Name, period, done)
		if err != nil {
			return sweep.Report{}, err
		}
		left, all = left-done, all+done
		if done == 0 {
			break
		}
	}
	return reported(dailybars.Name, period, before, all, left, w.why(sources, session)), nil
}

// askSources makes the calls that are planned for the symbols that are left, and
// returns how many of these are done.
func (w *plannedWork) askSources(p *worker, sources *rehearsedSources, session market.Date, left int) (done int, err error) {
	plan, err := sources.Plan(sessionAsks(session, session, w.symbols[:left]))
	if err != nil {
		return 0, err
	}
	if len(sources.members) == 1 && !sources.ready(sources.members[0], session) {
		_, err := p.call(load{sources.members[0].Traits.Name, min(left, lateCalls)})
		return 0, err
	}
	var loads []load
	for _, m := range sources.members {
		n := plan.Calls[m.Traits.Name]
		if m.Sessions != nil && plan.Sessions.Len() > 0 {
			made, err := p.call(load{m.Traits.Name, plan.Sessions.Len()})
			if err != nil {
				return 0, err
			}
			if made[m.Traits.Name] == plan.Sessions.Len() {
				done = len(plan.Grouped)
			}
			n -= plan.Sessions.Len()
		}
		loads = append(loads, load{m.Traits.Name, n})
	}
	made, err := p.call(loads...)
	for _, n := range made {
		done += n
	}
	return done, err
}

// why says why a session is not complete: its calls are spent, or the sources
// that have some do not have it yet.
func (w *plannedWork) why(sources *rehearsedSources, session market.Date) sweep.Outcome {
	for _, m := range sources.members {
		g := w.r.grants[m.Traits.Name]
		if _, ok := g.next(w.now()); ok && !sources.ready(m, session) {
			return sweep.NotReady
		}
	}
	return sweep.Quota
}

// runWeek asks for the facts and then for the figures of each symbol.
func (w *plannedWork) runWeek(p *worker, period string) (sweep.Report, error) {
	left := w.todo(fundamentals.Name, period)
	job := w.app.fundamentals(&services{}, weekRequest{})
	if job.Filer != nil && !w.facts[period] {
		// One call for the symbols' issuers, and one for each of them.
		if _, err := p.call(load{edgar.Name, left + 1}); err != nil {
			return sweep.Report{}, err
		}
		w.facts[period] = true
	}
	calls := job.Calls(fundamentals.Plan{Overviews: w.symbols[:left]})
	made, err := p.call(load{alphavantage.Name, calls})
	done := left
	if made[alphavantage.Name] < calls {
		done = made[alphavantage.Name] / (1 + len(job.More))
	}
	w.did(fundamentals.Name, period, done)
	return reported(fundamentals.Name, period, len(w.symbols)-left, done, left-done, sweep.Quota), err
}

// runWindow asks for the indexes of days and the settlement dates of the window
// since the last complete run.
func (w *plannedWork) runWindow(p *worker, period string) (sweep.Report, error) {
	if w.last.IsZero() {
		w.last = w.r.before[altdata.Name]
	}
	job := altdata.Job{Library: noLibrary{}, LastRun: lastRun(w.last), Calendar: market.NYSE(), Now: w.now()}
	plan, err := job.Plan(context.Background(), w.symbols[:1], time.Time{}, time.Time{})
	if err != nil {
		return sweep.Report{}, err
	}
	days := len(plan.Days)
	if w.cfg.EDGAR.UserAgent == "" {
		days = 0
	}
	if _, err := p.call(load{edgar.Name, days}); err != nil {
		return sweep.Report{}, err
	}
	if _, err := p.call(load{finra.Name, len(plan.Settlements)}); err != nil {
		return sweep.Report{}, err
	}
	if w.cfg.EDGAR.UserAgent != "" {
		w.last = plan.Window.Until
	}
	return reported(altdata.Name, period, 0, days+len(plan.Settlements), 0, ""), nil
}

// lastRun is the end of the last window.
type lastRun time.Time

func (l lastRun) Get(context.Context) (time.Time, bool, error) { return time.Time(l), true, nil }

// noLibrary is that of a store in which nothing is.
type noLibrary struct{}

func (noLibrary) DoneUnits(context.Context, string, string) ([]market.Symbol, error) {
	return nil, nil
}

func (noLibrary) PendingFilings(context.Context, market.Range) ([]market.PendingFiling, error) {
	return nil, nil
}

func (noLibrary) Coverage(context.Context, string) (map[market.Symbol]market.Coverage, error) {
	return map[market.Symbol]market.Coverage{}, nil
}

// rehearsedSources are the configured sources of bars, which plan calls and make
// none.
type rehearsedSources struct {
	*chain.Chain
	members []chain.Member
	now     func() time.Time
}

func (w *plannedWork) sources() *rehearsedSources {
	s := &rehearsedSources{now: w.now}
	for _, name := range w.cfg.barSources() {
		bars := w.plannedBars(name)
		m := chain.Member{Traits: bars.Traits(), Bars: bars, Workers: workers, Pace: func() chain.Pace { return w.paceOf(name) }}
		m.Traits.Name = name
		m.Sessions, _ = bars.(providers.SessionBars)
		s.members = append(s.members, m)
	}
	s.Chain = chain.New(market.NYSE(), w.now, s.members...)
	return s
}

// ready reports whether a source has a session.
func (s *rehearsedSources) ready(m chain.Member, session market.Date) bool {
	newest, err := market.NYSE().LastClosed(s.now(), m.Traits.Ready)
	return err == nil && session <= newest
}

// paceOf is what the limits of a source allow now.
func (w *plannedWork) paceOf(source string) chain.Pace {
	g := w.r.grants[source]
	return chain.Pace{PerMinute: float64(time.Minute) / float64(g.interval), PerDay: g.perDay, LeftToday: max(0, g.left(w.now()))}
}

// plannedBars is the client of a source, of which no call is asked.
func (w *plannedWork) plannedBars(name string) interface {
	providers.SymbolBars
	Traits() providers.BarTraits
} {
	switch name {
	case massive.Name:
		return massive.New(nil, massive.Options{Now: w.now, Years: w.cfg.Massive.Years})
	case tiingo.Name:
		return tiingo.New(nil, tiingo.Options{Now: w.now})
	case ibkr.Name:
		return ibkr.New(ibkr.Options{Calendar: market.NYSE(), Now: w.now})
	default:
		return alphavantage.New(nil, w.cfg.BaseURL, alphavantage.Options{Full: w.cfg.PerDay == 0, Calendar: market.NYSE(), Now: w.now})
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alpha-oracle/worker/internal/alarm"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/metrics"
	"github.com/alpha-oracle/worker/internal/runner"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/finra"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/tiingo"
	"github.com/alpha-oracle/worker/providers/transport"
)

const (
	// factsAge is how old facts may be and still be used: the metrics and the
	// alarms share one reading.
	factsAge = 10 * time.Second
	// barsAge is the same for the bars, of which there is more to read.
	barsAge = time.Minute
	// universeAge is the same for the list of symbols, which may come from
	// another machine.
	universeAge = time.Hour
	// lookTime bounds one reading of the facts.
	lookTime = 10 * time.Second
	// pingTime bounds the wait for a sign of life of a server.
	pingTime = 3 * time.Second
	// lookedBack is how many periods of a job are looked at, and staleBack how
	// many sessions.
	lookedBack, staleBack = 100, 5
)

// The servers by their names in metrics and alarms.
const (
	databaseServer = "database"
	redisServer    = "redis"
)

// The datasets by their names in metrics.
const (
	barRows         = "bars"
	factRows        = "facts"
	fundamentalRows = "fundamentals"
	insiderRows     = "insider_transactions"
	shortRows       = "short_interest"
)

// watch is what a serving worker tells about itself: its metrics, and the facts
// that its alarms are about. The methods that are told something do nothing on a
// nil watch, which all other commands have.
type watch struct {
	s       *services
	now     func() time.Time
	metrics *metrics.Metrics
	serves  atomic.Pointer[served]

	mu      sync.Mutex
	facts   facts
	symbols []market.Symbol
	listed  time.Time // when symbols were read

	// heard guards what calls have told.
	heard   sync.Mutex
	refused map[string]refusal
}

// served is what the worker serves until its configuration is read again.
type served struct {
	*app
	tasks []runner.Task
}

// refusal is a provider's first refusal since its last other answer.
type refusal struct {
	at     time.Time
	reason string
}

// facts are what was read at one time. What could not be read is nil.
type facts struct {
	read    time.Time
	of      *served
	err     error
	servers map[string]bool
	journal map[string]journal
	limits  []quotaStatus
	bars    *barFacts
}

// journal is what the journal says of one job.
type journal struct {
	losses  alarm.Losses
	success time.Time
}

// barFacts are how the sessions whose deadline has passed are stored.
type barFacts struct {
	read    time.Time
	healthy bool
	newest  alarm.Bars
	stale   int
}

// startMetrics lets the worker count what it does and read how it is, until the
// returned function is called.
func (a *app) startMetrics(ctx context.Context, s *services) (stop func()) {
	w := &watch{s: s, now: a.now, refused: map[string]refusal{}}
	w.metrics = metrics.New(w.metricOptions())
	w.use(a, a.tasks(s))
	a.watch = w
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	reading.Go(func() { w.metrics.Keep(ctx, w.state) })
	return func() {
		cancel()
		reading.Wait()
	}
}

// use looks from now on at what a serves.
func (w *watch) use(a *app, tasks []runner.Task) {
	if w == nil {
		return
	}
	w.serves.Store(&served{a, tasks})
}

// handler serves the metrics.
func (w *watch) handler() http.Handler { return w.metrics.Handler() }

// metricOptions name what there may be, whatever is configured now.
func (w *watch) metricOptions() metrics.Options {
	o := metrics.Options{
		Jobs: []string{dailybars.Name, fundamentals.Name, altdata.Name},
		Limiters: []string{
			alphavantage.Name, alphavantage.Name + dayWindow, massive.Name, tiingo.Name, tiingo.Name + dayWindow, ibkrWindow, edgar.Name, finra.Name,
		},
		Version: version, Now: w.now, Pools: w.pools,
		Datasets:  []string{barRows, factRows, fundamentalRows, insiderRows, shortRows},
		Providers: append(barSourceNames(), edgar.Name, finra.Name),
		Servers:   []string{databaseServer, redisServer},
	}
	for _, kind := range alarm.Kinds() {
		o.Alarms = append(o.Alarms, string(kind))
	}
	return o
}

func (w *watch) pools() []metrics.Pool {
	r := w.s.rdb.PoolStats()
	all := []metrics.Pool{{
		Name: redisServer, InUse: int(r.TotalConns - r.IdleConns), Idle: int(r.IdleConns), Max: w.s.rdb.Options().PoolSize, Waits: int64(r.Misses),
	}}
	if db, ok := w.s.db.(*postgres.DB); ok {
		p := db.PoolStats()
		all = append(all, metrics.Pool{Name: databaseServer, InUse: p.InUse, Idle: p.Idle, Max: p.Max, Waits: p.Waits})
	}
	return all
}

// called is told of each try of a call over HTTP.
func (w *watch) called(provider string, t transport.Attempt) {
	if w == nil || errors.Is(t.Err, context.Canceled) {
		return
	}
	w.metrics.Called(provider, t.Status, t.Took)
	if slices.Contains(w.serves.Load().cfg.barSources(), provider) {
		w.metrics.FeedUp(t.Status > 0 && t.Status < http.StatusInternalServerError)
	}
	w.heard.Lock()
	defer w.heard.Unlock()
	failed, _ := errors.AsType[*providers.Error](t.Err)
	switch {
	case failed == nil:
		delete(w.refused, provider)
	case failed.Kind == providers.Rejected:
		if _, known := w.refused[provider]; !known {
			w.refused[provider] = refusal{w.now(), failed.Error()}
		}
	case failed.Kind == providers.NoData, failed.Kind == providers.NotReady, failed.Kind == providers.UnknownSymbol:
		delete(w.refused, provider)
	}
	_, refused := w.refused[provider]
	w.metrics.Refused(provider, refused)
}

// waited is told how long a call has waited for its limit.
func (w *watch) waited(q quota, d time.Duration) {
	if w == nil {
		return
	}
	w.metrics.Waited(q.window.Name, d)
	if q.provider == ibkr.Name {
		w.metrics.Sent(ibkr.Name) // its calls are messages, which have no status
	}
}

// ended is told of each run.
func (w *watch) ended(r sweep.Report) {
	if w != nil {
		w.metrics.RunEnded(r)
	}
}

// counted returns a run whose saves are counted.
func (w *watch) counted(run store.Run) store.Run {
	if w == nil {
		return run
	}
	return countedRun{run, w.metrics}
}

// countedRun counts the rows that a run saves.
type countedRun struct {
	store.Run
	metrics *metrics.Metrics
}

func (r countedRun) count(dataset string, c market.Changes, err error) (market.Changes, error) {
	if err == nil {
		r.metrics.Saved(dataset, c)
	}
	return c, err
}

func (r countedRun) SaveBars(ctx context.Context, series market.Series, session market.Date) (market.Changes, error) {
	c, err := r.Run.SaveBars(ctx, series, session)
	return r.count(barRows, c, err)
}

func (r countedRun) SaveHistory(ctx context.Context, series market.Series, answered market.Range, done bool) (market.Changes, error) {
	c, err := r.Run.SaveHistory(ctx, series, answered, done)
	return r.count(barRows, c, err)
}

func (r countedRun) SaveFacts(ctx context.Context, symbol market.Symbol, facts []market.Fact, through market.Date) (market.Changes, error) {
	c, err := r.Run.SaveFacts(ctx, symbol, facts, through)
	return r.count(factRows, c, err)
}

func (r countedRun) SaveFundamentals(ctx context.Context, row market.Fundamentals, done bool) (market.Changes, error) {
	c, err := r.Run.SaveFundamentals(ctx, row, done)
	return r.count(fundamentalRows, c, err)
}

func (r countedRun) SaveFiling(ctx context.Context, symbol market.Symbol, f market.InsiderFiling) (market.Changes, error) {
	c, err := r.Run.SaveFiling(ctx, symbol, f)
	return r.count(insiderRows, c, err)
}

func (r countedRun) SaveShortInterest(ctx context.Context, kind string, settlement market.Date, rows []market.ShortInterest) (market.Changes, error) {
	c, err := r.Run.SaveShortInterest(ctx, kind, settlement, rows)
	return r.count(shortRows, c, err)
}

// state is what the metrics show of the facts.
func (w *watch) state(ctx context.Context) (metrics.State, error) {
	f := w.look(ctx)
	s := metrics.State{Servers: f.servers}
	if f.journal != nil {
		s.Jobs = []metrics.Job{}
	}
	if f.limits != nil {
		s.Limits = []metrics.Limit{}
	}
	plans := w.plans()
	for _, t := range w.serves.Load().tasks {
		j, known := f.journal[t.Name]
		if !known {
			continue
		}
		job := metrics.Job{
			Name: t.Name, LastSuccess: j.success, Next: t.Schedule.Next(w.now()),
			Missed: j.losses.Missed, GaveUp: j.losses.GaveUp,
		}
		if i := slices.IndexFunc(plans, func(p alarm.Plan) bool { return p.Job == t.Name }); i >= 0 {
			job.QuotaRatio = plans[i].Ratio()
		}
		s.Jobs = append(s.Jobs, job)
	}
	for _, q := range f.limits {
		s.Limits = append(s.Limits, metrics.Limit{Name: q.Name, Left: q.Left, Limit: q.Limit})
	}
	if b := f.bars; b != nil {
		s.Bars = &metrics.Bars{In: b.newest.In, Excused: b.newest.Excused, Missing: b.newest.Missing, InTime: b.healthy, Stale: b.stale}
	}
	return s, f.err
}

// look returns the facts, which it reads if they are old.
func (w *watch) look(ctx context.Context) facts {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	of := w.serves.Load()
	if w.facts.of != of {
		w.facts, w.listed = facts{}, time.Time{}
	}
	if !w.facts.read.IsZero() && w.now().Sub(w.facts.read).Abs() < factsAge {
		return w.facts
	}
	before := w.facts
	f := facts{of: of, servers: map[string]bool{}}
	noDatabase := ping(ctx, w.s.db.Ping)
	noRedis := ping(ctx, func(ctx context.Context) error { return w.s.rdb.Ping(ctx).Err() })
	f.servers[databaseServer], f.servers[redisServer] = noDatabase == nil, noRedis == nil
	f.err = errors.Join(noDatabase, noRedis)
	if noDatabase == nil {
		f.err = errors.Join(f.err, w.readDatabase(ctx, &f, before.bars))
	}
	if f.err == nil {
		f.limits, f.err = w.serves.Load().quotas(ctx, w.s)
	}
	f.read = w.now()
	w.facts = f
	return f
}

func ping(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	return do(ctx)
}

func (w *watch) readDatabase(ctx context.Context, f *facts, before *barFacts) error {
	all := map[string]journal{}
	for _, t := range w.serves.Load().tasks {
		rows, err := w.s.db.Periods(ctx, t.Name, lookedBack)
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		j := journal{losses: alarm.Lost(rows)}
		if i := slices.IndexFunc(rows, alarm.Good); i >= 0 {
			j.success = rows[i].Noted
		}
		all[t.Name] = j
	}
	f.journal = all
	if w.listed.IsZero() || w.now().Sub(w.listed).Abs() > universeAge {
		if err := w.list(ctx); err != nil {
			return err
		}
	}
	if before != nil && w.now().Sub(before.read).Abs() < barsAge {
		f.bars = before
		return nil
	}
	var err error
	f.bars, err = w.readBars(ctx)
	return err
}

// list reads the symbols of the universe.
func (w *watch) list(ctx context.Context) error {
	a := w.serves.Load()
	symbols, err := a.givenSymbols(once{})
	if err != nil {
		return err
	}
	if symbols == nil {
		symbols = a.universe(ctx, w.s, false).Symbols
	}
	if ctx.Err() == nil { // which would have left only the list that is built in
		w.symbols, w.listed = symbols, w.now()
	}
	return ctx.Err()
}

func (w *watch) deadlines() alarm.Deadlines {
	return alarm.Deadlines{Calendar: market.NYSE(), Settle: settleTime, After: w.serves.Load().cfg.Alarm.BarsDeadline}
}

// readBars counts, for the newest sessions whose deadline has passed, the
// symbols whose bars are in.
func (w *watch) readBars(ctx context.Context) (*barFacts, error) {
	out := &barFacts{read: w.now()}
	var coverage map[market.Symbol]market.BarCoverage
	var final map[market.Symbol]bool
	var err error
	out.healthy, out.newest, err = w.deadlines().Healthy(w.now(), func(session market.Date) (alarm.Bars, error) {
		from, err := market.NYSE().Back(session, staleBack-1)
		if err != nil {
			return alarm.Bars{}, err
		}
		if coverage, err = w.s.db.BarCoverage(ctx, from, w.symbols...); err != nil {
			return alarm.Bars{}, err
		}
		b := alarm.CountBars(session, w.symbols, coverage, nil)
		if b.Missing == 0 {
			return b, nil
		}
		final, err = w.final(ctx, session)
		return alarm.CountBars(session, w.symbols, coverage, final), err
	})
	if err != nil {
		return nil, err
	}
	session := out.newest.Session
	for range staleBack {
		if !alarm.CountBars(session, w.symbols, coverage, final).OK() {
			out.stale++
		}
		if session, err = market.NYSE().Previous(session); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// final are the symbols of which a run of a session has said that asking again
// brings nothing. It counts whatever came after it: a later run may have been for
// other symbols, or have ended before it came to these.
func (w *watch) final(ctx context.Context, session market.Date) (map[market.Symbol]bool, error) {
	lasting := []string{string(sweep.NoData), string(sweep.UnknownSymbol), string(sweep.PremiumOnly)}
	found, err := w.s.db.Tried(ctx, dailybars.Name, session.String(), lasting, w.symbols)
	if err != nil {
		return nil, err
	}
	symbols := map[market.Symbol]bool{}
	for _, symbol := range found {
		symbols[symbol] = true
	}
	return symbols, nil
}

// plans say for each job whether its calls fit into its time. Jobs that ask one
// provider share its day: each has what the other leaves, and half of it at least.
// A source that brings a session of all symbols in one call needs one.
func (w *watch) plans() []alarm.Plan {
	w.mu.Lock()
	n := len(w.symbols)
	w.mu.Unlock()
	a := w.serves.Load()
	bars := alarm.Plan{Job: dailybars.Name, Units: n, Calls: n}
	figures := alarm.Plan{Job: fundamentals.Name, Units: n, Calls: n * len(a.cfg.Functions)}
	if slices.Contains(a.cfg.barSources(), massive.Name) {
		bars.Calls = min(bars.Calls, 1)
	}
	day, both := a.alphaVantageQuota().inADay(), a.cfg.keyless(alphavantage.Name) == ""
	for _, q := range a.barQuotas() {
		if !slices.Contains(a.cfg.barSources(), q.provider) {
			continue
		}
		allowed := q.inADay()
		if both && q.provider == alphavantage.Name {
			allowed = max(day-(figures.Calls+6)/7, (day+1)/2)
			day = max(day-bars.Calls, day/2)
		}
		bars.Allowed += allowed
	}
	if figures.Allowed = 7 * day; both {
		return []alarm.Plan{bars, figures}
	}
	return []alarm.Plan{bars}
}

// inADay is the number of calls that a day lets through.
func (q quota) inADay() int {
	all := q.window.Limit * int(24*time.Hour/q.window.Length)
	return min(cmp.Or(q.perDay, all), all)
}

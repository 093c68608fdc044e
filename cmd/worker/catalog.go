package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/jobs/altdata"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/finra"
	"github.com/alpha-oracle/worker/providers/transport"
)

// The catalog: which vendors there are, under which limits, and which jobs use
// them. A new vendor or job is one function here.

const (
	// callTries is how often one request is sent before its symbol fails.
	callTries = 3
	// callTime bounds one try, from the connection to the body's end.
	callTime = 60 * time.Second
	// longestWait is the longest Retry-After that a run waits for.
	longestWait = 2 * time.Minute
	// settleTime is how long after the close a session's bars count as
	// final: providers roll over to the new session at different times.
	settleTime = 2 * time.Hour
	// noKey is sent to a provider on this machine when there is no key.
	noKey = "none"
	// graceTime is how long the symbols in flight may go on after a signal.
	// With the time to commit, to close the run and to let go of the
	// servers it stays below 20 s.
	graceTime = 6 * time.Second
	// edgarMargin is all of the margin that 8 calls a second need below the
	// SEC's own 10.
	edgarMargin = 5 * time.Millisecond
	// workers is the number of symbols in flight.
	workers = 4
)

// vendor is a provider's client with the budget that its calls pass.
type vendor[C any] struct {
	client C
	budget *budget
	limits *limiter.Limiter
}

// quota says how often one provider may be called.
type quota struct {
	// provider is its name in the ledger.
	provider string
	window   limiter.Window
	// perDay is the limit of a day of New York; 0: none.
	perDay int
}

// dayWindow is behind a provider's name in that of its day's window.
const dayWindow = ".day"

// limitsOf makes the limits of a provider.
func (a *app) limitsOf(s *services, q quota) (*limiter.Limiter, error) {
	windows := []limiter.Window{q.window}
	if q.perDay > 0 {
		windows = append(windows, limiter.Window{Name: q.provider + dayWindow, Limit: q.perDay, Daily: market.NewYork()})
	}
	used := func(ctx context.Context, since time.Time) (int, error) {
		return a.usedToday(ctx, s, q.provider, q.perDay, since)
	}
	return limiter.New(s.budget, limiter.Options{Used: used, Now: a.limitClock()}, windows...)
}

// limitClock is the clock of the limits.
func (a *app) limitClock() func() time.Time {
	if a.LimitNow != nil {
		return a.LimitNow
	}
	return a.now
}

// usedToday is what the ledger knows of the day that began at since: the calls
// that were made, or all of them if the provider said so.
func (a *app) usedToday(ctx context.Context, s *services, provider string, perDay int, since time.Time) (int, error) {
	until, err := s.db.SpentUntil(ctx, provider)
	if err != nil || until.After(a.now()) {
		return perDay, err
	}
	return s.db.CallsSince(ctx, provider, since)
}

// newBudget makes a provider's limits and its budget on them. When ctx ends no
// further call begins.
func (a *app) newBudget(ctx context.Context, s *services, q quota) (*budget, *limiter.Limiter, error) {
	limits, err := a.limitsOf(s, q)
	if err != nil {
		return nil, nil, err
	}
	if _, err := limits.Levels(ctx); errors.Is(err, limiter.ErrCluster) {
		return nil, nil, err
	}
	return &budget{
		limiter: limits, ledger: s.db, provider: q.provider,
		perDay: q.perDay, class: limiter.Manual, slotLife: limits.Slack() / 2, now: a.limitClock(), stopping: ctx.Done(),
		waited: func(d time.Duration) { a.watch.waited(q, d) },
	}, limits, nil
}

// transportOptions are those that all providers share.
func (a *app) transportOptions(provider string) transport.Options {
	return transport.Options{
		Provider: provider, Attempts: callTries, Timeout: callTime, MaxWait: longestWait,
		Redact: a.redact, Now: a.now,
		Observe: func(ctx context.Context, t transport.Attempt) {
			a.logCall(t)
			a.watch.called(provider, t)
			a.traceCall(ctx, provider, t)
		},
	}
}

// alphaVantage wires Alpha Vantage: client, transport, limits.
func (a *app) alphaVantage(ctx context.Context, s *services) (v vendor[*alphavantage.Client], err error) {
	if v.budget, v.limits, err = a.newBudget(ctx, s, a.alphaVantageQuota()); err != nil {
		return v, err
	}
	o := a.transportOptions(alphavantage.Name)
	o.Sign, o.Check = alphavantage.Sign(cmp.Or(a.cfg.Key.Reveal(), noKey)), alphavantage.Check
	hc, err := transport.NewClient(a.cfg.BaseURL, nil, v.budget, o)
	if err != nil {
		return v, fmt.Errorf("alpha vantage: %w", err)
	}
	v.client = alphavantage.New(hc, a.cfg.BaseURL, alphavantage.Options{
		Full: a.cfg.PerDay == 0, Source: a.cfg.source, Calendar: market.NYSE(), Now: a.now,
	})
	return v, nil
}

// edgar wires the SEC: two hosts, one budget.
func (a *app) edgar(ctx context.Context, s *services) (v vendor[*edgar.Client], err error) {
	if v.budget, v.limits, err = a.newBudget(ctx, s, a.edgarQuota()); err != nil {
		return v, err
	}
	o := a.transportOptions(edgar.Name)
	o.MaxBody, o.Check = edgar.MaxBody, edgar.Check
	if o.Sign, err = edgar.Sign(a.cfg.EDGAR.UserAgent); err != nil {
		return v, err
	}
	files, err := transport.NewClient(a.cfg.EDGAR.BaseURL, nil, v.budget, o)
	if err != nil {
		return v, fmt.Errorf("edgar: %w", err)
	}
	data, err := transport.NewClient(a.cfg.EDGAR.DataURL, nil, v.budget, o)
	if err != nil {
		return v, fmt.Errorf("edgar: %w", err)
	}
	v.client = edgar.New(files, edgar.Options{BaseURL: a.cfg.EDGAR.BaseURL, DataBaseURL: a.cfg.EDGAR.DataURL, Data: data})
	return v, nil
}

// edgarQuota is the SEC's window, which counts the calls to all its hosts. The
// distance to its own limit is the margin for calls that come closer together
// on their way than they started.
func (a *app) edgarQuota() quota {
	return quota{provider: edgar.Name, window: limiter.Window{Name: edgar.Name, Limit: a.cfg.EDGAR.PerSecond, Length: time.Second, Margin: edgarMargin}}
}

// finra wires FINRA.
func (a *app) finra(ctx context.Context, s *services) (v vendor[*finra.Client], err error) {
	if v.budget, v.limits, err = a.newBudget(ctx, s, a.finraQuota()); err != nil {
		return v, err
	}
	o := a.transportOptions(finra.Name)
	o.MaxBody, o.Check = finra.MaxBody, finra.Check
	hc, err := transport.NewClient(a.cfg.FINRA.BaseURL, nil, v.budget, o)
	if err != nil {
		return v, fmt.Errorf("finra: %w", err)
	}
	v.client = finra.New(hc, finra.Options{BaseURL: a.cfg.FINRA.BaseURL})
	return v, nil
}

func (a *app) finraQuota() quota {
	return quota{provider: finra.Name, window: limiter.Window{Name: finra.Name, Limit: a.cfg.FINRA.PerMinute, Length: time.Minute}}
}

// alphaVantageQuota are Alpha Vantage's windows: calls per minute, which Python
// shares, and calls per day of New York, at whose midnight the provider starts
// anew.
func (a *app) alphaVantageQuota() quota {
	return quota{
		provider: alphavantage.Name, perDay: a.cfg.PerDay,
		window: limiter.Window{Name: alphavantage.Name, Limit: a.cfg.PerMinute, Length: time.Minute},
	}
}

// dailyBars is the job that loads daily bars, for a claimed run; run is nil
// for one that only plans.
func (a *app) dailyBars(s *services, req request, sources *barSources, run store.Run) dailybars.Job {
	return dailybars.Job{
		Source: sources, Store: run, Coverage: s.db,
		Done:     idempotency.New(s.rdb, s.db).DailyBars(req.session),
		Calendar: market.NYSE(), Through: req.through, Force: req.force,
		Sweep: sweep.Sweep{Workers: sources.Workers(), Breaker: sources.breaker(), Grace: graceTime, Redact: a.redact, Begin: a.traces.Units()},
	}
}

// fundamentals is the job that loads fundamentals, without what only a claimed
// run has.
func (a *app) fundamentals(s *services, req weekRequest) fundamentals.Job {
	job := fundamentals.Job{
		Library: s.db, Done: idempotency.New(s.rdb, s.db).Fundamentals(req.week),
		Cache: a.fundamentalsCache(s), Today: a.today, Force: req.force,
		Sweep:     sweep.Sweep{Workers: workers, Grace: graceTime, Redact: a.redact, Begin: a.traces.Units()},
		FactSweep: sweep.Sweep{Workers: workers, Grace: graceTime, Redact: a.redact, Begin: a.traces.Units()},
	}
	// So that a plan knows what a symbol costs.
	job.More = make([]fundamentals.More, len(a.cfg.Functions)-1)
	if a.cfg.EDGAR.UserAgent != "" {
		job.Filer = &filer{}
	}
	return job
}

// altdata is the job that loads alternative data, without what only a claimed
// run has.
func (a *app) altdata(s *services, f altdataFlags) altdata.Job {
	return altdata.Job{
		Library: s.db, LastRun: idempotency.NewLastRun(s.rdb, s.db), Calendar: market.NYSE(), Now: a.now(), Force: f.force,
		Sweep: sweep.Sweep{Workers: workers, Grace: graceTime, Redact: a.redact, Begin: a.traces.Units()},
	}
}

func (a *app) logCall(t transport.Attempt) {
	a.log.Debug("provider call",
		zap.String("method", t.Method), zap.String("host", t.Host), zap.String("path", t.Path),
		zap.Int("status", t.Status), zap.Int("try", t.Try), zap.Duration("took", t.Took), zap.Error(t.Err))
}

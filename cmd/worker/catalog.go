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
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/providers/alphavantage"
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
	// workers is the number of symbols in flight.
	workers = 4
)

// vendor is a provider's client with the budget that its calls pass.
type vendor struct {
	source dailybars.Source
	budget *budget
	limits *limiter.Limiter
}

// alphaVantage wires Alpha Vantage: client, transport, limits. When ctx ends
// no further call begins.
func (a *app) alphaVantage(ctx context.Context, s *services) (vendor, error) {
	limits, err := a.limits(s)
	if err != nil {
		return vendor{}, err
	}
	if _, err := limits.Levels(ctx); errors.Is(err, limiter.ErrCluster) {
		return vendor{}, err
	}
	b := &budget{
		limiter: limits, ledger: s.db, provider: alphavantage.Name,
		perDay: a.cfg.PerDay, class: limiter.Manual, slotLife: limits.Slack() / 2, now: a.now, stopping: ctx.Done(),
	}
	hc, err := transport.NewClient(a.cfg.BaseURL, nil, b, transport.Options{
		Provider: alphavantage.Name, Attempts: callTries, Timeout: callTime, MaxWait: longestWait,
		Sign: alphavantage.Sign(cmp.Or(a.cfg.Key.Reveal(), noKey)), Check: alphavantage.Check,
		Redact: a.redact, Observe: a.logCall, Now: a.now,
	})
	if err != nil {
		return vendor{}, fmt.Errorf("alpha vantage: %w", err)
	}
	source := alphavantage.New(hc, a.cfg.BaseURL, alphavantage.Options{
		Full: a.cfg.PerDay == 0, Source: a.cfg.source, Calendar: market.NYSE(), Now: a.now,
	})
	return vendor{source: source, budget: b, limits: limits}, nil
}

// limits are Alpha Vantage's windows: calls per minute, which Python shares,
// and calls per day of New York, at whose midnight the provider starts anew.
func (a *app) limits(s *services) (*limiter.Limiter, error) {
	windows := []limiter.Window{{Name: alphavantage.Name, Limit: a.cfg.PerMinute, Length: time.Minute}}
	if a.cfg.PerDay > 0 {
		windows = append(windows, limiter.Window{
			Name: alphavantage.Name + ".day", Limit: a.cfg.PerDay, Daily: market.NewYork(),
		})
	}
	used := func(ctx context.Context, since time.Time) (int, error) {
		return a.usedToday(ctx, s, since)
	}
	return limiter.New(s.budget, limiter.Options{Used: used, Now: a.now}, windows...)
}

// usedToday is what the ledger knows of the day that began at since: the calls
// that were made, or all of them if the provider said so.
func (a *app) usedToday(ctx context.Context, s *services, since time.Time) (int, error) {
	until, err := s.db.SpentUntil(ctx, alphavantage.Name)
	if err != nil || until.After(a.now()) {
		return a.cfg.PerDay, err
	}
	return s.db.CallsSince(ctx, alphavantage.Name, since)
}

// dailyBars is the job that loads daily bars, for a claimed run; run is nil
// for one that only plans.
func (a *app) dailyBars(s *services, req request, source dailybars.Source, run store.Run) dailybars.Job {
	return dailybars.Job{
		Source: source, Store: run, Coverage: s.db,
		Done:     idempotency.New(s.rdb, s.db).DailyBars(req.session),
		Calendar: market.NYSE(), Through: req.through, Force: req.force,
		Sweep: sweep.Sweep{Workers: workers, Grace: graceTime, Redact: a.redact},
	}
}

func (a *app) logCall(t transport.Attempt) {
	a.log.Debug("provider call",
		zap.String("method", t.Method), zap.String("host", t.Host), zap.String("path", t.Path),
		zap.Int("status", t.Status), zap.Int("try", t.Try), zap.Duration("took", t.Took), zap.Error(t.Err))
}

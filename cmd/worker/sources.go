package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/chain"
	"github.com/alpha-oracle/worker/providers/ibkr"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/tiingo"
	"github.com/alpha-oracle/worker/providers/transport"
)

const (
	// ibkrWindow is the name of Interactive Brokers' window, which Python
	// shares.
	ibkrWindow = "ibkr_data"
	// ibkrMargin is below what a second's limit may lose.
	ibkrMargin = 5 * time.Millisecond
	// tiingoMargin is enough for the ways of two calls to differ; a greater one
	// would hold back the first call of a day for as long.
	tiingoMargin = 2 * time.Second
	// ibkrWorkers keep the gateway's own limit of open requests in use.
	ibkrWorkers = 6
)

// barSourceNames are the sources of bars, in the order in which those with a key
// are preferred.
func barSourceNames() []string {
	return []string{alphavantage.Name, massive.Name, tiingo.Name, ibkr.Name}
}

// barSource is one source of bars with the budget that its calls pass.
type barSource struct {
	name  string
	quota quota
	bars  interface {
		providers.SymbolBars
		Traits() providers.BarTraits
	}
	budget  *budget
	limits  *limiter.Limiter
	workers int
	// start is what the limits allowed at the start, when base calls had been
	// made.
	start chain.Pace
	base  int64
	// planned is the number of calls that other jobs are planned to make first.
	planned int
}

// pace is what the limits allow now, as far as this process knows.
func (b *barSource) pace() chain.Pace {
	p := b.start.After(int(b.budget.calls.Load() - b.base))
	p.Before = b.planned
	return p
}

// barSources are the sources of bars of one run, as one.
type barSources struct {
	*chain.Chain
	all   []*barSource
	close func()
}

// bars wires the sources of bars that are configured, or the one named. The
// caller closes them.
func (a *app) bars(ctx context.Context, s *services, only string) (*barSources, error) {
	b := &barSources{close: func() {}}
	for _, name := range a.cfg.barSources() {
		if only != "" && name != only {
			continue
		}
		source, err := a.barSource(ctx, s, b, name)
		if err != nil {
			b.close()
			return nil, err
		}
		source.start = a.pace(ctx, s, source.quota, source.limits)
		b.all = append(b.all, source)
	}
	if len(b.all) == 0 {
		return nil, usagef("--source %s: want one of the configured sources (SA_DATA__BARS__SOURCES): %s", only, strings.Join(a.cfg.barSources(), ", "))
	}
	members := make([]chain.Member, len(b.all))
	for i, source := range b.all {
		members[i] = chain.Member{Traits: source.bars.Traits(), Bars: source.bars, Workers: source.workers, Pace: source.pace}
		members[i].Traits.Name = cmp.Or(a.cfg.source, members[i].Traits.Name)
		members[i].Sessions, _ = source.bars.(providers.SessionBars)
	}
	b.Chain = chain.New(market.NYSE(), a.now, members...)
	return b, nil
}

// barSource wires one source.
func (a *app) barSource(ctx context.Context, s *services, b *barSources, name string) (*barSource, error) {
	source := &barSource{name: name, workers: workers}
	switch name {
	case alphavantage.Name:
		v, err := a.alphaVantage(ctx, s)
		source.quota, source.bars, source.budget, source.limits = a.alphaVantageQuota(), v.client, v.budget, v.limits
		return source, err
	case massive.Name:
		source.quota = a.massiveQuota()
	case tiingo.Name:
		source.quota = a.tiingoQuota()
	case ibkr.Name:
		source.quota, source.workers = a.ibkrQuota(), ibkrWorkers
	}
	var err error
	if source.budget, source.limits, err = a.newBudget(ctx, s, source.quota); err != nil {
		return nil, err
	}
	switch name {
	case massive.Name:
		err = a.massive(source)
	case tiingo.Name:
		err = a.tiingo(source)
	case ibkr.Name:
		client := a.ibkr(source.budget)
		before := b.close
		b.close = func() { client.Close(); before() }
		source.bars = client
	}
	return source, err
}

func (a *app) massive(source *barSource) error {
	o := a.transportOptions(massive.Name)
	o.Sign, o.Check = massive.Sign(cmp.Or(a.cfg.Massive.Key.Reveal(), noKey)), massive.Check
	hc, err := transport.NewClient(a.cfg.Massive.BaseURL, nil, source.budget, o)
	if err != nil {
		return fmt.Errorf("massive: %w", err)
	}
	source.bars = massive.New(hc, massive.Options{BaseURL: a.cfg.Massive.BaseURL, Now: a.now, Years: a.cfg.Massive.Years})
	return nil
}

func (a *app) tiingo(source *barSource) error {
	o := a.transportOptions(tiingo.Name)
	o.Sign, o.Check = tiingo.Sign(cmp.Or(a.cfg.Tiingo.Key.Reveal(), noKey)), tiingo.Check
	hc, err := transport.NewClient(a.cfg.Tiingo.BaseURL, nil, source.budget, o)
	if err != nil {
		return fmt.Errorf("tiingo: %w", err)
	}
	source.bars = tiingo.New(hc, tiingo.Options{BaseURL: a.cfg.Tiingo.BaseURL, Now: a.now})
	return nil
}

// ibkr is a connection of its own to the gateway: its client id is one above
// that of the trading system's.
func (a *app) ibkr(b *budget) *ibkr.Client {
	return ibkr.New(ibkr.Options{
		Addr: net.JoinHostPort(a.cfg.IBKR.Host, strconv.Itoa(a.cfg.IBKR.Port)), ClientID: a.cfg.IBKR.ClientID + 1,
		Budget: b, Lots: a.cfg.IBKR.Lots, Calendar: market.NYSE(), Now: a.now,
		Notice: func(code int, text string) { a.log.Info("gateway: "+a.redact(text), zap.Int("code", code)) },
	})
}

func (a *app) massiveQuota() quota {
	return quota{provider: massive.Name, window: limiter.Window{Name: massive.Name, Limit: a.cfg.Massive.PerMinute, Length: time.Minute}}
}

func (a *app) tiingoQuota() quota {
	return quota{
		provider: tiingo.Name, perDay: a.cfg.Tiingo.PerDay,
		window: limiter.Window{Name: tiingo.Name, Limit: a.cfg.Tiingo.PerHour, Length: time.Hour, Margin: tiingoMargin},
	}
}

func (a *app) ibkrQuota() quota {
	return quota{provider: ibkr.Name, window: limiter.Window{Name: ibkrWindow, Limit: a.cfg.IBKR.PerSecond, Length: time.Second, Margin: ibkrMargin}}
}

// barQuotas are those of the configured sources of bars; Alpha Vantage's is
// among them always, since fundamentals use it.
func (a *app) barQuotas() []quota {
	quotas := []quota{a.alphaVantageQuota()}
	for _, name := range a.cfg.barSources() {
		switch name {
		case massive.Name:
			quotas = append(quotas, a.massiveQuota())
		case tiingo.Name:
			quotas = append(quotas, a.tiingoQuota())
		case ibkr.Name:
			quotas = append(quotas, a.ibkrQuota())
		}
	}
	return quotas
}

// calls is the number of calls made by now, by source.
func (b *barSources) calls() map[string]int {
	calls := map[string]int{}
	for _, s := range b.all {
		calls[s.name] = int(s.budget.calls.Load())
	}
	return calls
}

// bound gives all sources together a greatest number of calls; 0 is no bound.
func (b *barSources) bound(most int) {
	allowed := &allowance{most: int64(most)}
	for _, s := range b.all {
		s.budget.allowed = allowed
	}
}

// eta is when the last of asks will be through, of which left are left.
func (b *barSources) eta(asks []chain.Ask) func(left int) chain.ETA {
	return func(left int) chain.ETA {
		eta, _ := b.Estimate(asks[max(0, len(asks)-left):])
		return eta
	}
}

// breaker is after how many failed symbols in a row a run ends: with several
// sources they see to that themselves.
func (b *barSources) breaker() int {
	if len(b.all) > 1 {
		return math.MaxInt32
	}
	return 0
}

// told completes a report: who was asked how often, and, unless the run is being
// stopped, when what is left can be had by what the sources have said of their
// limits meanwhile.
func (a *app) told(ctx context.Context, s *services, b *barSources, r sweep.Report, asks []chain.Ask) sweep.Report {
	calls := b.calls()
	for _, n := range calls {
		r.ProviderCalls += n
	}
	if len(calls) > 1 {
		r.Calls = calls
	}
	left := slices.DeleteFunc(slices.Clone(asks), func(ask chain.Ask) bool { return !mayCome(r, ask.Symbol) })
	if len(left) > 0 && r.Status != sweep.Failed && ctx.Err() == nil {
		for _, source := range b.all {
			source.start, source.base = a.pace(ctx, s, source.quota, source.limits), source.budget.calls.Load()
		}
		if eta, ok := b.Estimate(left); ok {
			r.CompleteAt = new(eta.At.UTC())
		}
	}
	return r
}

// mayCome reports whether a symbol of a run is not done, and another run can make
// it so.
func mayCome(r sweep.Report, symbol market.Symbol) bool {
	i, failed := slices.BinarySearchFunc(r.Failures, symbol, func(f sweep.Failure, s market.Symbol) int { return cmp.Compare(f.Symbol, s) })
	if !failed {
		return false
	}
	class := r.Failures[i].Class
	return class != sweep.NoData && class != sweep.UnknownSymbol && class != sweep.PremiumOnly
}

// planned notes calls that go before those of another plan.
func (b *barSources) planned(calls map[string]int) {
	for _, s := range b.all {
		s.planned += calls[s.name]
	}
}

// spent reports whether no source takes a further call today.
func (b *barSources) spent() bool {
	return !slices.ContainsFunc(b.all, func(s *barSource) bool { return s.quota.perDay == 0 || s.start.LeftToday > 0 })
}

// leftToday says what is left of the days of the sources that have one; "" if
// none has.
func (b *barSources) leftToday() string {
	var texts []string
	for _, s := range b.all {
		if s.quota.perDay > 0 {
			texts = append(texts, fmt.Sprintf("%d of %d calls of the day are left", s.start.LeftToday, s.quota.perDay))
			if len(b.all) > 1 {
				texts[len(texts)-1] = s.name + ": " + texts[len(texts)-1]
			}
		}
	}
	return strings.Join(texts, ", ")
}

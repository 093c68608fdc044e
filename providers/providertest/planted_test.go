package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/providertest"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// planted is Massive's client with one promise broken.
type planted struct {
	*massive.Client
	plant
}

// plant says which promise is broken, and by which check of the suite that is
// seen.
type plant struct {
	name, red string
	bars      bars
	traits    func(providers.BarTraits) providers.BarTraits
	reach     func() market.Date
	session   func(all sessionBars, err error) (sessionBars, error)
}

type (
	// question is one for the bars of a symbol.
	question struct {
		ctx    context.Context
		symbol market.Symbol
		window market.Range
	}
	// ask puts the question to the good client, bars stands between.
	ask         func(question) (market.Series, error)
	bars        func(q question, next ask) (market.Series, error)
	sessionBars map[market.Symbol]market.Bar
)

func (p planted) DailyBars(ctx context.Context, s market.Symbol, w market.Range) (market.Series, error) {
	next := func(q question) (market.Series, error) { return p.Client.DailyBars(q.ctx, q.symbol, q.window) }
	if p.bars == nil {
		return next(question{ctx, s, w})
	}
	return p.bars(question{ctx, s, w}, next)
}

func (p planted) History(ctx context.Context, s market.Symbol, w market.Range) (market.Series, error) {
	return p.Client.History(ctx, s, w)
}

func (p planted) Traits() providers.BarTraits {
	if p.traits == nil {
		return p.Client.Traits()
	}
	return p.traits(p.Client.Traits())
}

func (p planted) Reach() (market.Date, error) {
	if p.reach == nil {
		return p.Client.Reach()
	}
	return p.reach(), nil
}

func (p planted) Session(ctx context.Context, d market.Date) (map[market.Symbol]market.Bar, error) {
	all, err := p.Client.Session(ctx, d)
	if p.session == nil {
		return all, err
	}
	return p.session(all, err)
}

// source is a copy of Massive with a plant in it.
func source(p plant) providertest.Source {
	s := providertest.HTTP{
		Name: massive.Name,
		New: func(base string, hc *http.Client, now func() time.Time) providertest.Client {
			return planted{massive.New(hc, massive.Options{BaseURL: base, Now: now}), p}
		},
		Sign:      massive.Sign,
		Check:     massive.Check,
		Simulator: providertest.Massive,
	}.Source()
	s.Outcomes = map[simulator.Fault]string{
		simulator.BadSymbol: "no_data", simulator.EmptyObject: "bad_payload", simulator.ExtraField: "good",
		simulator.Delayed: "good", simulator.FractionShare: "good", simulator.OtherBasis: "bad_payload",
		simulator.WrongCount: "bad_payload", simulator.OddTime: "bad_payload", simulator.NextElsewhere: "bad_payload",
		simulator.NextSame: "good",
	}
	// What ends by a timeout takes a second, and the bomb is 256 MiB.
	s.Lacks = map[simulator.Fault]string{}
	for _, slow := range append(s.Silent, simulator.GzipBomb) {
		s.Faults = slices.DeleteFunc(s.Faults, func(name string) bool { return name == string(slow) })
		s.Lacks[slow] = "it takes long"
	}
	return s
}

// changed changes what a question has brought.
func changed(change func(*market.Series)) bars {
	return func(q question, next ask) (market.Series, error) {
		series, err := next(q)
		if err == nil {
			change(&series)
		}
		return series, err
	}
}

// failed changes what a failed question comes to.
func failed(change func(series market.Series, err error) (market.Series, error)) bars {
	return func(q question, next ask) (market.Series, error) {
		series, err := next(q)
		if err == nil {
			return series, nil
		}
		return change(series, err)
	}
}

func isKind(err error, kind providers.Kind) bool {
	e, ok := errors.AsType[*providers.Error](err)
	return ok && e.Kind == kind
}

func plants() []plant {
	return slices.Concat(brokenTraits(), brokenBars(), brokenErrors(), brokenCalls())
}

func brokenTraits() []plant {
	return []plant{
		{name: "a wrong basis", red: "basis", traits: func(t providers.BarTraits) providers.BarTraits {
			t.Basis = providers.SplitAdjusted
			return t
		}},
		{name: "traits without sessions", red: "traits", traits: func(t providers.BarTraits) providers.BarTraits {
			t.BySession = false
			return t
		}},
		{name: "a reach without bars", red: "reach", reach: func() market.Date { return market.NewDate(2023, 3, 13) }},
	}
}

func brokenBars() []plant {
	return []plant{
		{name: "descending order", red: "bars", bars: changed(func(s *market.Series) { slices.Reverse(s.Bars) })},
		{name: "without the newest session", red: "bars", bars: changed(func(s *market.Series) { s.Bars = s.Bars[:max(len(s.Bars)-1, 0)] })},
		{name: "prices in whole cents", red: "bars", bars: changed(func(s *market.Series) {
			for i := range s.Bars {
				s.Bars[i].Close = math.Round(s.Bars[i].Close*100) / 100
			}
		})},
		{name: "another source's name", red: "bars", bars: changed(func(s *market.Series) { s.Source = "polygon" })},
		{name: "share classes mixed up", red: "spelling", bars: func(q question, next ask) (market.Series, error) {
			asked := q.symbol
			root, _, _ := strings.Cut(string(asked), ".")
			q.symbol = market.Symbol(root)
			series, err := next(q)
			series.Symbol = asked
			return series, err
		}},
		{name: "a day without bars is success", red: "sessions", session: func(all sessionBars, _ error) (sessionBars, error) {
			return all, nil
		}},
		{name: "a session without a symbol", red: "sessions", session: func(all sessionBars, err error) (sessionBars, error) {
			delete(all, "BRK.B")
			return all, err
		}},
	}
}

func brokenErrors() []plant {
	return []plant{
		{name: "bars beside the error", red: "fault bad_number", bars: failed(func(s market.Series, err error) (market.Series, error) {
			s.Bars = []market.Bar{simulator.Bar("AAPL", 1)}
			return s, err
		})},
		{name: "a bad answer is no data", red: "fault truncated_close", bars: failed(func(s market.Series, err error) (market.Series, error) {
			if isKind(err, providers.BadPayload) {
				err = &providers.Error{Provider: massive.Name, Op: "daily bars AAPL", Kind: providers.NoData, Err: err}
			}
			return s, err
		})},
		{name: "an unknown symbol is success", red: "unknown symbol", bars: failed(func(s market.Series, err error) (market.Series, error) {
			if isKind(err, providers.NoData) {
				err = nil
			}
			return s, err
		})},
		{name: "the key in an error", red: "fault bad_key", bars: failed(func(s market.Series, err error) (market.Series, error) {
			return s, fmt.Errorf("with %s: %w", providertest.Key, err)
		})},
		{name: "an error without what was asked", red: "fault bad_key", bars: failed(func(s market.Series, err error) (market.Series, error) {
			return s, providers.Wrap(massive.Name, "bars", err)
		})},
	}
}

func brokenCalls() []plant {
	var mu sync.Mutex
	var newest market.Symbol
	return []plant{
		{name: "a cancelled call goes on", red: "cancel", bars: func(q question, next ask) (market.Series, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(q.ctx), 3*time.Second)
			defer cancel()
			return next(question{ctx, q.symbol, q.window})
		}},
		{name: "a second try by itself", red: "fault html", bars: func(q question, next ask) (market.Series, error) {
			series, err := next(q)
			if err != nil && q.ctx.Err() == nil {
				return next(q)
			}
			return series, err
		}},
		{name: "callers share their symbol", red: "concurrency", bars: func(q question, next ask) (market.Series, error) {
			mu.Lock()
			newest = q.symbol
			mu.Unlock()
			series, err := next(q)
			mu.Lock()
			defer mu.Unlock()
			series.Symbol = newest
			return series, err
		}},
	}
}

// TestPlanted: the suite has nothing to say about a good source, and finds every
// broken promise.
func TestPlanted(t *testing.T) {
	t.Parallel()
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		if got := providertest.Complaints(t, source(plant{})); len(got) != 0 {
			t.Errorf("a good source: %v", got)
		}
	})
	for _, p := range plants() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if got := providertest.Complaints(t, source(p)); len(got[p.red]) == 0 {
				t.Errorf("check %q is green; red are %v", p.red, got)
			}
		})
	}
}

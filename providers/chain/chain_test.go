package chain_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/chain"
)

// source has the bars of every session from its reach on, at most one each slot.
type source struct {
	name   string
	slot   time.Duration
	reach  market.Date
	chunk  int
	ready  time.Duration
	most   int // calls until its day is spent; 0: no bound
	errs   map[market.Symbol]error
	lacks  map[market.Symbol]bool
	whole  bool // has sessions of all symbols
	all    error
	shows  market.Date   // the reach that its first answer shows
	ends   market.Date   // its newest bar; zero: that of the window
	fails  int64         // how many calls fail before the first that does not
	reset  time.Duration // until when a spent day lasts; zero: nobody knows
	calls  atomic.Int64
	asked  sync.Map
	mu     sync.Mutex
	next   time.Time
	groups atomic.Int64
}

func (s *source) Reach() (market.Date, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reach, nil
}

// turn waits for a slot, as a limiter does.
func (s *source) turn(ctx context.Context) error {
	s.mu.Lock()
	at := time.Now()
	if s.next.After(at) {
		at = s.next
	}
	s.next = at.Add(s.slot)
	s.mu.Unlock()
	select {
	case <-time.After(time.Until(at) + s.slot):
	case <-ctx.Done():
		return ctx.Err()
	}
	n := s.calls.Add(1)
	if s.most > 0 && int(n) > s.most {
		s.calls.Add(-1)
		if s.reset > 0 {
			time.AfterFunc(s.reset, func() { s.calls.Store(0) })
		}
		return &providers.Error{Provider: s.name, Kind: providers.Quota, RetryAfter: s.reset, Err: errors.New("its day is spent")}
	}
	if n <= s.fails {
		return &providers.Error{Provider: s.name, Kind: providers.Transient, Err: errors.New("down")}
	}
	return s.all
}

func (s *source) History(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	if err := s.turn(ctx); err != nil {
		return market.Series{}, err
	}
	s.asked.Store(symbol, window)
	s.mu.Lock()
	s.reach = max(s.reach, s.shows)
	s.mu.Unlock()
	if err := s.errs[symbol]; err != nil {
		return market.Series{}, err
	}
	series := market.Series{Symbol: symbol, Source: s.name}
	last := window.To
	if s.ends > 0 {
		last = min(last, s.ends)
	}
	for date := max(window.From, s.reach); date <= last; date++ {
		series.Bars = append(series.Bars, market.Bar{Date: date, Open: 1, High: 1, Low: 1, Close: 1})
	}
	return series, nil
}

func (s *source) DailyBars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	return s.History(ctx, symbol, window)
}

// sessions is a source with whole sessions.
type sessions struct{ *source }

func (s sessions) Session(ctx context.Context, day market.Date) (map[market.Symbol]market.Bar, error) {
	if err := s.turn(ctx); err != nil {
		return nil, err
	}
	s.groups.Add(1)
	bars := map[market.Symbol]market.Bar{}
	for i := range 600 {
		if symbol := unit(i); !s.lacks[symbol] {
			bars[symbol] = market.Bar{Date: day, Open: 1, High: 1, Low: 1, Close: 1}
		}
	}
	return bars, nil
}

func unit(i int) market.Symbol { return market.Symbol(fmt.Sprintf("S%d", i)) }

func member(s *source, workers int) chain.Member {
	m := chain.Member{
		Traits: providers.BarTraits{Name: s.name, Basis: providers.Raw, Consolidated: true, Chunk: s.chunk, Ready: s.ready},
		Bars:   s, Workers: workers,
		Pace: func() chain.Pace {
			p := chain.Pace{PerMinute: 60 / s.slot.Seconds()}
			if s.most > 0 {
				p.PerDay, p.LeftToday = s.most, s.most-int(s.calls.Load())
			}
			return p
		},
	}
	if s.whole {
		m.Sessions = sessions{s}
	}
	return m
}

// The newest session, and one long before.
const (
	newest = market.Date(739687) // 2026-03-12
	older  = newest - 500
)

// clock runs with the bubble of a test, from the night after the newest session
// on.
func clock() func() time.Time {
	start := time.Now()
	return func() time.Time { return (newest + 1).In(market.NewYork(), 0, 30).Add(time.Since(start)) }
}

func windowOf(from market.Date) market.Range { return market.Range{From: from, To: newest} }

func asks(n int, window market.Range) []chain.Ask {
	all := make([]chain.Ask, n)
	for i := range all {
		all[i] = chain.Ask{Symbol: unit(i), Range: window}
	}
	return all
}

// answer is what came of one symbol.
type answer struct {
	source string
	bars   int
	about  market.Days
	err    error
}

// run asks for all as a sweep does, and returns the answers and how long it took.
func run(t *testing.T, c *chain.Chain, all []chain.Ask) (answers map[market.Symbol]answer, took time.Duration) {
	t.Helper()
	answers = map[market.Symbol]answer{}
	began, queue := time.Now(), make(chan chain.Ask)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range c.Workers() {
		workers.Go(func() {
			for ask := range queue {
				series, about, err := c.History(t.Context(), ask.Symbol, ask.Range)
				mu.Lock()
				answers[ask.Symbol] = answer{series.Source, len(series.Bars), about, err}
				mu.Unlock()
			}
		})
	}
	for _, ask := range all {
		queue <- ask
	}
	close(queue)
	workers.Wait()
	return answers, time.Since(began)
}

func by(answers map[market.Symbol]answer) map[string]int {
	counts := map[string]int{}
	for _, a := range answers {
		counts[a.source]++
	}
	return counts
}

// Several sources at once are through at the time that the plan says, and their
// calls are those of the plan.
func TestAllSourcesAtOnce(t *testing.T) {
	t.Parallel()
	for name, members := range map[string][]*source{
		"alike":              {{name: "a", slot: 12 * time.Second}, {name: "b", slot: 12 * time.Second}},
		"one is fast":        {{name: "a", slot: 12 * time.Second}, {name: "b", slot: 72 * time.Second}, {name: "c", slot: 500 * time.Millisecond}},
		"a day is spent":     {{name: "a", slot: 12 * time.Second, most: 25}, {name: "b", slot: 12 * time.Second}},
		"one does not reach": {{name: "a", slot: time.Second, reach: newest - 100}, {name: "b", slot: 12 * time.Second}, {name: "c", slot: 30 * time.Second}},
		"one alone":          {{name: "a", slot: 5 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := make([]chain.Member, len(members))
				for i, s := range members {
					all[i] = member(s, 4)
				}
				c := chain.New(market.NYSE(), clock(), all...)
				const units = 500
				now := clock()()
				plan, err := c.Plan(asks(units, windowOf(older)))
				if err != nil {
					t.Fatal(err)
				}
				answers, took := run(t, c, asks(units, windowOf(older)))
				for symbol, a := range answers {
					if a.err != nil || a.bars != 501 {
						t.Fatalf("%s: %+v", symbol, a)
					}
				}
				if planned := plan.At.Sub(now); took > planned*105/100 || took < planned*95/100 {
					t.Errorf("took %s, planned %s", took, planned)
				}
				if plan.Total() != units {
					t.Errorf("plan %v", plan.Calls)
				}
				for source, n := range by(answers) {
					if d := n - plan.Calls[source]; d < -units/20-2 || d > units/20+2 {
						t.Errorf("%d of %s, planned %d", n, source, plan.Calls[source])
					}
				}
			})
		})
	}
}

// What one source cannot answer the next one is asked for.
func TestFallback(t *testing.T) {
	t.Parallel()
	failing := func(kind providers.Kind) error {
		return &providers.Error{Provider: "a", Kind: kind, Err: errors.New("cannot")}
	}
	for name, test := range map[string]struct {
		err   error
		asked int64 // calls to the one that fails
	}{
		"no data":     {failing(providers.NoData), 30},
		"not ready":   {failing(providers.NotReady), 30},
		"unknown":     {failing(providers.UnknownSymbol), 30},
		"premium":     {failing(providers.PremiumOnly), 4},
		"bad payload": {&market.PayloadError{Reason: "rubbish"}, 8},
		"down":        {failing(providers.Transient), 8},
		"spent":       {failing(providers.Quota), 4},
		"bad key":     {failing(providers.Rejected), 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				bad, good := &source{name: "a", slot: time.Second, all: test.err}, &source{name: "b", slot: time.Minute}
				c := chain.New(market.NYSE(), clock(), member(bad, 4), member(good, 4))
				answers, _ := run(t, c, asks(30, windowOf(older)))
				if got := by(answers); got["b"] != 30 || bad.calls.Load() > test.asked {
					t.Errorf("answers by %v, %d calls to the one that fails", got, bad.calls.Load())
				}
			})
		})
	}
}

// If no source answers, the symbol carries all reasons; when none will answer
// anything the run ends, as spent if one of them is.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fail := func(name string, kind providers.Kind) *source {
			return &source{name: name, slot: time.Second, all: &providers.Error{Provider: name, Kind: kind, Err: errors.New("cannot")}}
		}
		for _, test := range []struct {
			a, b    providers.Kind
			outcome string
			stops   bool
		}{
			{providers.NoData, providers.UnknownSymbol, "no_data", false},
			{providers.NoData, providers.NotReady, "not_ready", false},
			{providers.NoData, providers.Quota, "quota", false},
			{providers.Quota, providers.Quota, "quota", true},
			{providers.Rejected, providers.Quota, "quota", true},
			{providers.Rejected, providers.Rejected, "provider_error", true},
		} {
			c := chain.New(market.NYSE(), clock(), member(fail("a", test.a), 1), member(fail("b", test.b), 1))
			_, err := c.DailyBars(t.Context(), "AAPL", windowOf(newest))
			var classed interface{ Outcome() string }
			var ends interface{ Stops() bool }
			if !errors.As(err, &classed) || classed.Outcome() != test.outcome || errors.As(err, &ends) != test.stops {
				t.Errorf("%+v: %v", test, err)
			}
			for _, name := range []string{"a: cannot", "b: cannot"} {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%v does not say %q", err, name)
				}
			}
		}
	})
}

// A session that many symbols lack comes in one call.
func TestASessionInOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole := &source{name: "whole", slot: 12 * time.Second, whole: true, lacks: map[market.Symbol]bool{unit(7): true}}
		other := &source{name: "other", slot: time.Second}
		c := chain.New(market.NYSE(), clock(), member(other, 4), member(whole, 4))
		plan, err := c.Plan(asks(503, windowOf(newest)))
		if err != nil || plan.Total() != 1 || plan.Calls["whole"] != 1 || plan.Sessions.Len() != 1 {
			t.Fatalf("plan %+v, %v", plan, err)
		}
		answers, took := run(t, c, asks(503, windowOf(newest)))
		if got := by(answers); got["whole"] != 502 || got["other"] != 1 || whole.calls.Load() != 1 || other.calls.Load() != 1 {
			t.Errorf("answers by %v, %d and %d calls", got, whole.calls.Load(), other.calls.Load())
		}
		if took > 20*time.Second {
			t.Errorf("took %s", took)
		}
		if a := answers[unit(1)]; a.bars != 1 || a.about.Hull() != windowOf(newest) {
			t.Errorf("%+v", a)
		}
	})
}

// Sessions that few symbols lack are asked for symbol by symbol, and so is a
// symbol that lacks many.
func TestGapsInTheCheaperWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		two := market.Range{From: newest - 1, To: newest}
		var all []chain.Ask
		for i := range 20 {
			all = append(all, chain.Ask{Symbol: unit(i), Range: two})
		}
		for i := 20; i < 25; i++ { // each lacks another session
			day, err := market.NYSE().Back(newest, i)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, chain.Ask{Symbol: unit(i), Range: market.Range{From: day, To: day}})
		}
		all = append(all, chain.Ask{Symbol: unit(25), Range: windowOf(older)})
		whole := &source{name: "whole", slot: time.Second, whole: true}
		c := chain.New(market.NYSE(), clock(), member(whole, 4))
		plan, err := c.Plan(all)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(2, plan.Sessions.Len()); diff != "" || plan.Total() != 2+5+1 {
			t.Errorf("plan %+v", plan)
		}
		if _, took := run(t, c, all); whole.groups.Load() != 2 || whole.calls.Load() != 8 {
			t.Errorf("%d calls for sessions of %d, %s", whole.groups.Load(), whole.calls.Load(), took)
		}
	})
}

// A source that turns out to hold less is no answer if another one holds more.
func TestAReachThatComesNearer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		short := &source{name: "short", slot: time.Second, shows: newest - 99}
		c := chain.New(market.NYSE(), clock(), member(short, 1), member(&source{name: "deep", slot: time.Minute}, 1))
		series, about, err := c.History(t.Context(), "AAPL", windowOf(older))
		if err != nil || series.Source != "deep" || about.Hull() != windowOf(older) {
			t.Errorf("%s about %s, %v", series.Source, about.Hull(), err)
		}
		alone := chain.New(market.NYSE(), clock(), member(&source{name: "short", slot: time.Second, shows: newest - 99}, 1))
		series, about, err = alone.History(t.Context(), "AAPL", windowOf(older))
		if err != nil || len(series.Bars) != 100 || about.Hull() != windowOf(newest-99) {
			t.Errorf("%d bars about %s, %v", len(series.Bars), about.Hull(), err)
		}
	})
}

// A source is not asked for a session before it is ready there.
func TestNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late, soon := &source{name: "late", slot: time.Second, ready: 12 * time.Hour}, &source{name: "soon", slot: time.Minute}
		c := chain.New(market.NYSE(), clock(), member(late, 4), member(soon, 4))
		if answers, _ := run(t, c, asks(5, windowOf(newest))); by(answers)["soon"] != 5 || late.calls.Load() != 0 {
			t.Errorf("answers by %v", by(answers))
		}
		if answers, _ := run(t, c, asks(5, market.Range{From: newest - 1, To: newest - 1})); by(answers)["late"] < 4 {
			t.Errorf("an older session by %v", by(answers))
		}
		before := late.calls.Load()
		c = chain.New(market.NYSE(), clock(), member(late, 4), member(&source{name: "too", slot: time.Second, ready: 12 * time.Hour}, 4))
		_, err := c.DailyBars(t.Context(), "AAPL", windowOf(newest))
		var known *providers.Error
		var unasked interface{ NotAsked() bool }
		if !errors.As(err, &unasked) || !unasked.NotAsked() {
			t.Errorf("%v: it was not asked for", err)
		}
		if !errors.As(err, &known) || known.Kind != providers.NotReady || late.calls.Load() != before {
			t.Errorf("%v after %d calls", err, late.calls.Load())
		}
	})
}

func TestTheEndOfARunEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := chain.New(market.NYSE(), clock(), member(&source{name: "a", slot: time.Hour}, 1), member(&source{name: "b", slot: time.Hour}, 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				if _, _, err := c.History(ctx, unit(i), windowOf(older)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
	})
}

// With nobody at work there is nothing to wait for, however slow a source is.
func TestTheLastAskDoesNotWaitForNobody(t *testing.T) {
	t.Parallel()
	for _, units := range []int{1, 2, 3, 5, 7} {
		synctest.Test(t, func(t *testing.T) {
			c := chain.New(market.NYSE(), clock(),
				member(&source{name: "a", slot: 12 * time.Second}, 4), member(&source{name: "b", slot: 12 * time.Second}, 4), member(&source{name: "c", slot: 72 * time.Second}, 4))
			if _, err := c.Plan(asks(units, windowOf(older))); err != nil {
				t.Fatal(err)
			}
			if answers, _ := run(t, c, asks(units, windowOf(older))); len(answers) != units {
				t.Errorf("%d of %d answers", len(answers), units)
			}
		})
	}
}

// The reasons of the source of whole sessions are told as those of the others.
func TestReasonsOfWholeSessions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err     error
		outcome string
		calls   int64
	}{
		"a symbol that it lacks": {nil, "no_data", 1},
		"not ready":              {&providers.Error{Provider: "whole", Kind: providers.NotReady, Err: errors.New("not yet")}, "not_ready", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				whole := &source{name: "whole", slot: time.Second, whole: true, all: test.err, lacks: map[market.Symbol]bool{unit(3): true}}
				c := chain.New(market.NYSE(), clock(), member(whole, 4))
				if _, err := c.Plan(asks(20, windowOf(newest))); err != nil {
					t.Fatal(err)
				}
				answers, _ := run(t, c, asks(20, windowOf(newest)))
				var classed interface{ Outcome() string }
				if err := answers[unit(3)].err; !errors.As(err, &classed) || classed.Outcome() != test.outcome {
					t.Errorf("%v", err)
				}
				if n := whole.calls.Load(); n != test.calls {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

// A call for a whole session that fails is made again, before each symbol is asked
// for by itself.
func TestAWholeSessionIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole := &source{name: "whole", slot: time.Second, whole: true, fails: 2}
		c := chain.New(market.NYSE(), clock(), member(whole, 4), member(&source{name: "other", slot: time.Minute}, 4))
		if _, err := c.Plan(asks(40, windowOf(newest))); err != nil {
			t.Fatal(err)
		}
		if answers, _ := run(t, c, asks(40, windowOf(newest))); by(answers)["whole"] < 38 || whole.calls.Load() != 3 {
			t.Errorf("answers by %v, %d calls", by(answers), whole.calls.Load())
		}
	})
}

// A source that is gone is not the measure of what the others reach.
func TestTheDeepestSourceIsGone(t *testing.T) {
	t.Parallel()
	for _, kind := range []providers.Kind{providers.Rejected, providers.Quota, providers.UnknownSymbol} {
		synctest.Test(t, func(t *testing.T) {
			deep := &source{name: "deep", slot: time.Second, all: &providers.Error{Provider: "deep", Kind: kind, RetryAfter: time.Hour, Err: errors.New("cannot")}}
			near := &source{name: "near", slot: time.Minute, reach: older + 3}
			c := chain.New(market.NYSE(), clock(), member(deep, 4), member(near, 4))
			answers, _ := run(t, c, asks(12, windowOf(older)))
			for symbol, a := range answers {
				if a.err != nil || a.source != "near" || a.about.Hull() != windowOf(older+3) {
					t.Errorf("kind %d: %s: %+v", kind, symbol, a)
				}
			}
		})
	}
}

// An answer that is paid for is used, if no other has more.
func TestHalfAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := &providers.Error{Provider: "deep", Kind: providers.NoData, Err: errors.New("has none")}
		short := &source{name: "short", slot: time.Second, shows: newest - 99}
		c := chain.New(market.NYSE(), clock(), member(short, 1), member(&source{name: "deep", slot: time.Minute, all: failing}, 1))
		series, about, err := c.History(t.Context(), "AAPL", windowOf(older))
		if err != nil || len(series.Bars) != 100 || about.Hull() != windowOf(newest-99) {
			t.Errorf("%d bars about %s, %v", len(series.Bars), about.Hull(), err)
		}
	})
}

// A good answer without the session's bar is no answer, if another source has it.
func TestAnAnswerWithoutTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late, other := &source{name: "late", slot: time.Second, ends: newest - 1}, &source{name: "other", slot: time.Minute}
		c := chain.New(market.NYSE(), clock(), member(late, 1), member(other, 1))
		for i := range 15 {
			series, err := c.DailyBars(t.Context(), unit(i), windowOf(newest-5))
			if err != nil || series.Source != "other" {
				t.Fatalf("%s, %v", series.Source, err)
			}
		}
		if n := late.calls.Load(); n != 10 {
			t.Errorf("%d calls to one that is late for everybody, want 10", n)
		}
		alone := chain.New(market.NYSE(), clock(), member(&source{name: "late", slot: time.Second, ends: newest - 1}, 1))
		if series, err := alone.DailyBars(t.Context(), "AAPL", windowOf(newest-5)); err != nil || len(series.Bars) != 5 {
			t.Errorf("%d bars, %v", len(series.Bars), err)
		}
	})
}

// A history is read up to the newest session that a source has ready.
func TestAHistoryBeforeItsLastSessionIsReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := chain.New(market.NYSE(), clock(), member(&source{name: "late", slot: time.Second, ready: 12 * time.Hour}, 1))
		plan, err := c.Plan(asks(3, windowOf(older)))
		if err != nil || plan.Total() != 3 {
			t.Errorf("plan %+v, %v", plan, err)
		}
		series, about, err := c.History(t.Context(), "AAPL", windowOf(older))
		if want := (market.Range{From: older, To: newest - 1}); err != nil || about.Hull() != want || len(series.Bars) != 500 {
			t.Errorf("%d bars about %s, %v", len(series.Bars), about.Hull(), err)
		}
		c = chain.New(market.NYSE(), clock(), member(&source{name: "late", slot: time.Second, ready: 12 * time.Hour}, 1), member(&source{name: "too", slot: time.Second, ready: 12 * time.Hour}, 1))
		if eta, ok := c.Estimate(asks(3, windowOf(newest))); ok {
			t.Errorf("a session that nobody has yet is estimated for %s", eta)
		}
	})
}

// A day that is spent is over at midnight.
func TestANewDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spent := &source{name: "spent", slot: time.Second, most: 5, reset: time.Hour}
		c := chain.New(market.NYSE(), clock(), member(spent, 1), member(&source{name: "slow", slot: 5 * time.Minute}, 1))
		answers, _ := run(t, c, asks(30, windowOf(older)))
		if got := by(answers); got["spent"] < 10 || got["spent"]+got["slow"] != 30 {
			t.Errorf("answers by %v", got)
		}
	})
}

// Sources on the basis of what is stored are asked first, and a bar that would
// come without others to be compared with is not taken from a session of all.
func TestTheBasisOfWhatIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		split := member(&source{name: "split", slot: time.Second}, 4)
		split.Traits.Basis = providers.SplitAdjusted
		whole := &source{name: "whole", slot: time.Minute, whole: true, lacks: map[market.Symbol]bool{}}
		c := chain.New(market.NYSE(), clock(), split, member(whole, 4))
		all := asks(12, windowOf(newest))
		for i := range all {
			switch i % 3 {
			case 0:
				all[i].Basis = market.Raw
			case 1:
				all[i].Basis = market.SplitAdjusted
			case 2:
				all[i].Alone, all[i].Basis = true, market.Raw
			}
		}
		plan, err := c.Plan(all)
		if err != nil || plan.Calls["split"] != 4 || plan.Calls["whole"] != 1+4 || len(plan.Grouped) != 4 {
			t.Errorf("plan %+v, %v", plan, err)
		}
		answers, _ := run(t, c, all)
		for i := range all {
			want := "whole"
			if i%3 == 1 {
				want = "split"
			}
			if a := answers[unit(i)]; a.err != nil || a.source != want {
				t.Errorf("%d: %+v, want %s", i, a, want)
			}
		}
		if whole.groups.Load() != 1 || whole.calls.Load() != 5 {
			t.Errorf("%d sessions, %d calls", whole.groups.Load(), whole.calls.Load())
		}
	})
}

// A source that says that it is asked too often does not hold up the others.
func TestASourceThatPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		often := &providers.Error{Provider: "often", Kind: providers.RateLimited, RetryAfter: 10 * time.Minute, Err: errors.New("too often")}
		paused := &source{name: "often", slot: time.Second, all: often}
		c := chain.New(market.NYSE(), clock(), member(paused, 4), member(&source{name: "other", slot: 10 * time.Second}, 4))
		answers, took := run(t, c, asks(20, windowOf(older)))
		if by(answers)["other"] != 20 || paused.calls.Load() > 4 || took > 4*time.Minute {
			t.Errorf("answers by %v, %d calls, %s", by(answers), paused.calls.Load(), took)
		}
	})
}

// Package sweep makes one pass over many units that are not done yet, with a
// bounded number of workers, and says of each unit how it ended.
//
// A sweep goes on past a unit that fails. It ends early, without asking for
// the units that are left, when going on would only waste calls: the provider
// refuses the key, its day is spent, it is down, it does not have the session
// yet, or the store is gone. The units left then carry the reason as their own
// outcome.
//
// When its context ends, no further unit is begun, but those in flight have a
// moment to finish: their calls are paid for.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	defaultWorkers = 4
	defaultBreaker = 5
	defaultGrace   = 10 * time.Second
	// lateFactor is how many times more units than errors in a row have to
	// be late before the provider counts as late for all.
	lateFactor = 2
	// maxMessage bounds what one failure adds to a report.
	maxMessage = 300
)

// Visit fetches and stores one unit. It is called from several goroutines.
// An error decides the unit's outcome (see [Classify]); one whose tree holds
// an error with a method Stops() bool that returns true ends the sweep.
type Visit func(ctx context.Context, unit market.Symbol) (Result, error)

// Sweep is one pass. Visit is required.
type Sweep struct {
	Visit Visit
	// Workers is the number of units in flight; 0 means 4.
	Workers int
	// Breaker is the number of units in a row after which the provider
	// counts as down: units that end in a provider error, a refused answer
	// or a limit note. Twice as many units in a row that are not ready
	// count as a provider that does not have the session. 0 means 5.
	Breaker int
	// Grace is how long the visits in flight may go on when ctx ends; 0
	// means 10 s.
	Grace time.Duration
	// Attempt keeps why a visited unit is not done; nil keeps nothing. It is
	// not called for units that had no answer of their own: those that were
	// interrupted, met a spent quota, or whose error says that nothing was
	// asked. An error of it ends the sweep, as a [StoreError] does.
	Attempt func(ctx context.Context, unit market.Symbol, outcome Outcome, message string) error
	// Redact takes secrets out of messages; nil leaves them as they are.
	Redact func(string) string
	// Begin is called before each visit, which gets the context that it returns;
	// the function that it returns is told how the unit ended. It may be nil.
	Begin func(ctx context.Context, unit market.Symbol) (context.Context, func(Result))
	// Each is told of every visited unit, one at a time; not of those that
	// the sweep did not come to.
	Each func(Unit)
}

// pass is the state of a running sweep.
type pass struct {
	Sweep
	mu       sync.Mutex
	result   Tally
	inARow   int // failures of the provider since the last other outcome
	late     int // units not ready since the last other outcome
	stop     chan struct{}
	stopOnce sync.Once
	reason   Result
}

// Run visits the units in their order and returns how each ended: also those
// that it did not come to. It returns when all visits in flight have returned.
func (s Sweep) Run(ctx context.Context, units []market.Symbol) Tally {
	if s.Workers <= 0 {
		s.Workers = defaultWorkers
	}
	if s.Breaker <= 0 {
		s.Breaker = defaultBreaker
	}
	if s.Grace <= 0 {
		s.Grace = defaultGrace
	}
	p := &pass{Sweep: s, stop: make(chan struct{})}
	visits, end := graceful(ctx, s.Grace)
	defer end()
	queue := make(chan market.Symbol)
	var workers sync.WaitGroup
	for range min(s.Workers, len(units)) {
		workers.Go(func() {
			for unit := range queue {
				p.visit(visits, unit)
			}
		})
	}
	left := p.feed(ctx, queue, units)
	close(queue)
	workers.Wait()
	p.abandon(ctx, left)
	return p.result
}

// graceful returns a context that ends grace after ctx does.
func graceful(ctx context.Context, grace time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// feed hands out units until they, the context or the sweep's reason to go on
// end, and returns those not handed out.
func (p *pass) feed(ctx context.Context, queue chan<- market.Symbol, units []market.Symbol) []market.Symbol {
	for i, unit := range units {
		// A ready worker must not win against a stop that is known already.
		select {
		case <-ctx.Done():
			return units[i:]
		case <-p.stop:
			return units[i:]
		default:
		}
		select {
		case queue <- unit:
		case <-ctx.Done():
			return units[i:]
		case <-p.stop:
			return units[i:]
		}
	}
	return nil
}

func (p *pass) visit(ctx context.Context, unit market.Symbol) {
	ended := func(Result) {}
	if p.Begin != nil {
		ctx, ended = p.Begin(ctx, unit)
	}
	result, err := p.guarded(ctx, unit)
	if err != nil {
		result = Classify(ctx, err)
	}
	result.Message = p.clean(result.Message)
	if failed := p.attempt(ctx, unit, result, err); failed != nil {
		err = failed
		result = Classify(ctx, err)
		result.Message = p.clean(result.Message)
	}
	ended(result)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(unit, result)
	if p.Each != nil {
		p.Each(Unit{Symbol: unit, Result: result})
	}
	if why, ok := stops(err); ok {
		p.end(result.Outcome, why)
		return
	}
	p.count(result)
}

// count looks for a provider that fails, or is late, for everybody.
func (p *pass) count(r Result) {
	inARow, late := p.inARow+1, p.late+1
	p.inARow, p.late = 0, 0
	switch r.Outcome {
	case ProviderError, BadPayload, LimitNote:
		p.inARow = inARow
	case NotReady:
		p.late = late
	default:
		return
	}
	if p.inARow >= p.Breaker {
		p.end(r.Outcome, fmt.Sprintf("the provider failed %d times in a row; the last: %s", p.inARow, r.Message))
	}
	if p.late >= lateFactor*p.Breaker {
		p.end(r.Outcome, fmt.Sprintf("the provider did not have the session for %d symbols in a row: ask again later", p.late))
	}
}

// guarded turns a panic of the visit into an error, so that one symbol's
// surprise costs one symbol.
func (p *pass) guarded(ctx context.Context, unit market.Symbol) (result Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic while visiting %s: %v", unit, r)
		}
	}()
	return p.Visit(ctx, unit)
}

func (p *pass) end(outcome Outcome, why string) {
	p.stopOnce.Do(func() {
		why = p.clean(why)
		p.reason = Result{Outcome: outcome, Message: notAsked + why}
		p.result.Stopped = why
		close(p.stop)
	})
}

// abandon gives the units that were never visited the reason for it.
func (p *pass) abandon(ctx context.Context, left []market.Symbol) {
	reason := p.reason
	if ctx.Err() != nil {
		reason = Classify(ctx, ctx.Err())
	}
	for _, unit := range left {
		reason.Message = p.clean(reason.Message)
		p.note(unit, reason)
	}
}

func (p *pass) note(unit market.Symbol, result Result) {
	p.result.add(Unit{Symbol: unit, Result: result})
}

// attempt keeps why a unit is not done, if it had an answer of its own: one
// that had none would else stand behind the others in the next run.
func (p *pass) attempt(ctx context.Context, unit market.Symbol, r Result, err error) error {
	asked := !errors.As(err, new(*StoreError)) && !isNotAsked(err)
	if p.Attempt == nil || !asked || r.Outcome.Done() || r.Outcome == Interrupted || r.Outcome == Quota {
		return nil
	}
	if err := p.Attempt(ctx, unit, r.Outcome, r.Message); err != nil {
		return &StoreError{err}
	}
	return nil
}

func (p *pass) clean(message string) string {
	if p.Redact != nil {
		message = p.Redact(message)
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "..."
	}
	return message
}

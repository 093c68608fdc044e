package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// candidate is a member that can answer for a part of a window, or all of it.
type candidate struct {
	*member
	part market.Range
}

// eligible returns those of members that can answer for a window: all that reach
// back as far as any does, hold it in one call, and have its last session ready.
// If none has that, and parts of the window will do, they are the ones with the
// newest session. notReady says that the last session is what none has.
func (c *Chain) eligible(window market.Range, members []*member, basis market.Basis, parts bool) (can []candidate, notReady bool, err error) {
	if len(c.members) == 1 && !parts && len(members) == 1 {
		return []candidate{{members[0], window}}, false, nil // it says itself why it has not
	}
	members = ofBasis(members, basis)
	first, err := deepest(members)
	if err != nil {
		return nil, false, err
	}
	part := market.Range{From: max(window.From, first), To: window.To}
	newest := market.Date(0)
	var late []candidate
	for _, m := range members {
		reach, err := m.Bars.Reach()
		if err != nil {
			return nil, false, err
		}
		fits, err := c.fits(m, part)
		if err != nil {
			return nil, false, err
		}
		ready, err := c.readyUntil(m, part.To)
		if err != nil {
			return nil, false, err
		}
		switch {
		case reach > part.From || part.From > part.To || !fits:
		case ready >= part.To:
			can = append(can, candidate{m, part})
		case ready >= newest:
			if ready > newest {
				newest, late = ready, nil
			}
			late = append(late, candidate{m, market.Range{From: part.From, To: ready}})
		}
	}
	switch {
	case len(can) > 0 || len(late) == 0:
		return can, false, nil
	case parts && newest >= part.From:
		return late, false, nil
	}
	return nil, true, nil
}

// ofBasis returns those of members that are on a basis, or all if none is.
func ofBasis(members []*member, basis market.Basis) []*member {
	if basis == "" {
		return members
	}
	var of []*member
	for _, m := range members {
		if m.Traits.Basis == basis {
			of = append(of, m)
		}
	}
	if len(of) == 0 {
		return members
	}
	return of
}

// fits reports whether one call of a member holds a window.
func (c *Chain) fits(m *member, window market.Range) (bool, error) {
	// Two calendar days hold less than two sessions, which spares the count.
	if m.Traits.Chunk == 0 || int(window.To-window.From) < m.Traits.Chunk || window.To < window.From {
		return true, nil
	}
	sessions, err := c.cal.Sessions(window.From, window.To)
	return len(sessions) <= m.Traits.Chunk, err
}

// readyUntil returns date if a member has its session, or the last one before it
// if there is none on that day; else the newest that it has.
func (c *Chain) readyUntil(m *member, date market.Date) (market.Date, error) {
	newest, err := c.cal.LastClosed(c.now(), m.Traits.Ready)
	if err != nil || date <= newest {
		return date, err
	}
	next, err := c.cal.Next(newest)
	if date < next {
		return date, err
	}
	return newest, err
}

// acquire waits for the member that would be through first with one more call,
// and takes one of its places; nil if no member is left. At the end of a run a
// slow member is not begun with what the others are through with before it.
func (c *Chain) acquire(ctx context.Context, q question, tried map[*member]bool) (*member, market.Range, error) {
	c.mu.Lock()
	basis := c.basis[q.symbol]
	c.mu.Unlock()
	for {
		can, notReady, err := c.eligible(q.window, c.open(tried), basis, q.parts)
		switch {
		case err != nil:
			return nil, market.Range{}, err
		case notReady:
			return nil, market.Range{}, &tooEarlyError{&providers.Error{
				Provider: c.members[0].Traits.Name, Kind: providers.NotReady,
				Err: fmt.Errorf("no source has the bars of %s yet", q.window.To),
			}}
		}
		best, wait := c.choose(can, tried)
		if best.member != nil || wait == nil {
			return best.member, best.part, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, market.Range{}, ctx.Err()
		}
	}
}

// choose takes a place of the best member with one, or returns what to wait for.
func (c *Chain) choose(can []candidate, tried map[*member]bool) (best candidate, wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []candidate
	for _, m := range can {
		if m.stopped == nil && !tried[m.member] {
			open = append(open, m)
		}
	}
	for _, m := range open {
		if m.out < m.Workers && (best.member == nil || m.finish() < best.finish()) {
			best = m
		}
	}
	if len(open) > 0 && (best.member == nil || c.sooner(best.member, open)) {
		return candidate{}, c.changed
	}
	if best.member != nil {
		best.out++
	}
	return best, nil
}

// finish is how many seconds a member takes for its calls and one more.
func (m *member) finish() float64 { return float64(m.out+1) / m.rate }

// sooner reports whether the others, some of which are at work, are through with
// all that is left before m is with one more call.
func (c *Chain) sooner(m *member, open []candidate) bool {
	rate, out := 0.0, 0
	for _, other := range open {
		if other.member != m {
			rate, out = rate+other.rate, out+other.out
		}
	}
	return c.left >= 0 && out > 0 && m.finish() > float64(c.left+1+out)/rate
}

// tooEarlyError is the end of a symbol for which no call was made.
type tooEarlyError struct{ known *providers.Error }

func (e *tooEarlyError) Error() string   { return e.known.Err.Error() }
func (e *tooEarlyError) Unwrap() error   { return e.known }
func (e *tooEarlyError) Outcome() string { return e.known.Outcome() }
func (e *tooEarlyError) NotAsked() bool  { return true }

// failure is the answer of one member that is none.
type failure struct {
	by  *member
	err error
}

// stoppedError is the end of a run: no source will answer anything more.
type stoppedError struct {
	outcome string
	err     error
}

func (e *stoppedError) Error() string   { return e.err.Error() }
func (e *stoppedError) Unwrap() error   { return e.err }
func (e *stoppedError) Outcome() string { return e.outcome }
func (e *stoppedError) Stops() bool     { return true }

// unansweredError is the end of one symbol, of which no source has an answer.
type unansweredError struct {
	outcome string
	err     error
}

func (e *unansweredError) Error() string   { return e.err.Error() }
func (e *unansweredError) Outcome() string { return e.outcome }

// why puts the failures of an ask together. If all members are stopped it ends
// the run, as spent if any of them is.
func (c *Chain) why(failures []failure) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) == 1 && len(failures) == 1 {
		return failures[0].err // the source's own, which knows what it means
	}
	stopped := 0
	var errs []error
	for _, m := range c.members {
		if m.stopped != nil {
			stopped++
			errs = append(errs, cause(m.stopped))
		}
	}
	if stopped == len(c.members) {
		return &stoppedError{classOf(errs, "quota"), join(errs)}
	}
	errs = errs[:0]
	for _, f := range failures {
		errs = append(errs, f.err)
	}
	for _, m := range c.members {
		if m.stopped != nil && !contains(failures, m) {
			errs = append(errs, fmt.Errorf("not asked: %w", cause(m.stopped)))
		}
	}
	if len(errs) == 0 {
		return &unansweredError{"premium_only", errors.New("no source reaches back that far")}
	}
	return &unansweredError{classOf(errs, "not_ready", "quota", "limit_note", "provider_error"), join(errs)}
}

// cause is why a source was stopped, without the symbol that met it.
func cause(stopped error) error {
	known, ok := errors.AsType[*providers.Error](stopped)
	if !ok {
		return stopped
	}
	e := *known
	e.Op = ""
	return &e
}

func contains(failures []failure, m *member) bool {
	for _, f := range failures {
		if f.by == m {
			return true
		}
	}
	return false
}

// classOf returns the first of classes that one of errs has, or that of the
// first of them.
func classOf(errs []error, classes ...string) string {
	for _, class := range classes {
		for _, err := range errs {
			if outcome(err) == class {
				return class
			}
		}
	}
	return outcome(errs[0])
}

func outcome(err error) string {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) {
		return classed.Outcome()
	}
	return "provider_error"
}

// join puts several causes in one line.
func join(errs []error) error {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// eligible returns the members that can answer for a window: all of those that
// reach back as far as any does, hold it in one call, and have its last session
// ready. notReady says that there are such but for the last.
func (c *Chain) eligible(window market.Range) (can []*member, notReady bool, err error) {
	deepest, err := c.Reach()
	if err != nil {
		return nil, false, err
	}
	from := max(window.From, deepest)
	for _, m := range c.members {
		reach, err := m.Bars.Reach()
		if err != nil {
			return nil, false, err
		}
		fits, err := c.fits(m, market.Range{From: from, To: window.To})
		if err != nil {
			return nil, false, err
		}
		if reach > from || !fits {
			continue
		}
		ready, err := c.ready(m, window.To)
		if err != nil {
			return nil, false, err
		}
		if ready {
			can = append(can, m)
		}
		notReady = notReady || !ready
	}
	return can, notReady && len(can) == 0, nil
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

// ready reports whether a member has the session of a date, or the last before
// it, if it is traded.
func (c *Chain) ready(m *member, date market.Date) (bool, error) {
	newest, err := c.cal.LastClosed(c.now(), m.Traits.Ready)
	if err != nil {
		return false, err
	}
	if date <= newest {
		return true, nil
	}
	next, err := c.cal.Next(newest)
	return date < next, err
}

// acquire waits for the member that would be through first with one more call,
// and takes one of its places; nil if no member is left. At the end of a run a
// slow member is not begun with what the others are through with before it.
func (c *Chain) acquire(ctx context.Context, window market.Range, tried map[*member]bool) (*member, error) {
	can, notReady, err := c.eligible(window)
	if err != nil {
		return nil, err
	}
	if notReady {
		return nil, &providers.Error{
			Provider: c.members[0].Traits.Name, Kind: providers.NotReady,
			Err: fmt.Errorf("no source has the bars of %s yet", window.To),
		}
	}
	for {
		m, wait := c.choose(can, tried)
		if m != nil || wait == nil {
			return m, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// choose takes a place of the best member with one, or returns what to wait for.
func (c *Chain) choose(can []*member, tried map[*member]bool) (best *member, wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []*member
	for _, m := range can {
		if !m.until.IsZero() && !c.now().Before(m.until) {
			m.stopped, m.until = nil, time.Time{}
		}
		if m.stopped == nil && !tried[m] {
			open = append(open, m)
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	for _, m := range open {
		if m.out < m.Workers && (best == nil || m.finish() < best.finish()) {
			best = m
		}
	}
	if best == nil || c.sooner(best, open) {
		return nil, c.changed
	}
	best.out++
	return best, nil
}

// finish is how many seconds a member takes for its calls and one more.
func (m *member) finish() float64 { return float64(m.out+1) / m.rate }

// sooner reports whether the others are through with all that is left before m
// is with one more call.
func (c *Chain) sooner(m *member, open []*member) bool {
	rate, calls := 0.0, c.left+1
	for _, other := range open {
		if other != m {
			rate, calls = rate+other.rate, calls+other.out
		}
	}
	return c.left >= 0 && rate > 0 && m.finish() > float64(calls)/rate
}

// deeper reports whether another member, not tried yet, reaches back before a
// date.
func (c *Chain) deeper(date market.Date, tried map[*member]bool, m *member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.members {
		if other == m || tried[other] || other.stopped != nil {
			continue
		}
		if reach, err := other.Bars.Reach(); err == nil && reach < date {
			return true
		}
	}
	return false
}

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
			errs = append(errs, m.stopped)
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
			errs = append(errs, fmt.Errorf("not asked: %w", m.stopped))
		}
	}
	if len(errs) == 0 {
		return &unansweredError{"premium_only", errors.New("no source reaches back that far")}
	}
	return &unansweredError{classOf(errs, "not_ready", "quota", "limit_note", "provider_error"), join(errs)}
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

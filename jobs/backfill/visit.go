package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// visitor handles the symbols of one run.
type visitor struct {
	Job
	plan  Plan
	tasks map[market.Symbol]Task

	mu       sync.Mutex
	warnings []string
}

// warnOnce notes the first failure of its kind.
func (v *visitor) warnOnce(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.warnings) == 0 {
		v.warnings = append(v.warnings, text)
	}
}

// mark makes the symbols done that had nothing to fetch.
func (v *visitor) mark(ctx context.Context) {
	for _, s := range v.plan.mark {
		if ctx.Err() != nil {
			return // the next run marks them
		}
		if err := v.Store.SaveItem(ctx, Period, string(s), string(sweep.Unchanged), "all of "+v.plan.Window.String()+" was stored already"); err != nil {
			v.warnOnce("not marked as done until the next run: " + err.Error())
			return
		}
		v.repeat(ctx, s)
	}
}

// repeat says in Redis what is committed.
func (v *visitor) repeat(ctx context.Context, symbol market.Symbol) {
	if err := v.Done.Add(ctx, symbol); err != nil {
		// The ledger has it: the next reader of the set puts it right.
		v.warnOnce("the set in Redis is behind the ledger until the next run: " + err.Error())
	}
}

// notAskedError is the end of a symbol for which no call is made.
type notAskedError struct {
	outcome sweep.Outcome
	message string
}

func (e *notAskedError) Error() string   { return e.message }
func (e *notAskedError) Outcome() string { return string(e.outcome) }
func (e *notAskedError) NotAsked() bool  { return true }

func (v *visitor) visit(ctx context.Context, symbol market.Symbol) (sweep.Result, error) {
	t := v.tasks[symbol]
	switch {
	case t.Left:
		return sweep.Result{}, &notAskedError{sweep.Interrupted, "not asked: the calls of this run are too few"}
	case len(t.Ask) == 0:
		return sweep.Result{}, &notAskedError{sweep.PremiumOnly, "not asked: " + beyond(t.Beyond, v.plan.Reach)}
	}
	p := progress{visitor: v, task: t, open: v.plan.sessions.Minus(t.known.AnsweredBy("")), reach: v.plan.Reach}
	if !v.plan.repair { // which is of what can be had
		p.beyond = t.Beyond
	}
	for _, chunk := range t.Ask {
		if err := p.fetch(ctx, chunk); err != nil {
			return sweep.Result{}, err
		}
		if p.result.Outcome != "" {
			break // of the newer sessions there are none either
		}
	}
	if p.done {
		v.repeat(ctx, symbol)
	}
	return p.end(), nil
}

func beyond(sessions int, reach market.Date) string {
	return fmt.Sprintf("%d sessions before %s cannot be had with this key: a premium key or another source has them", sessions, reach)
}

// progress is how far one symbol has come.
type progress struct {
	*visitor
	task Task
	// open are the sessions about which nothing is known yet.
	open   market.Days
	result sweep.Result
	done   bool
	// beyond is the number of sessions that the source does not reach, reach
	// the first that it does: as planned, or as an answer has shown.
	beyond int
	reach  market.Date
}

// end is the symbol's result.
func (p *progress) end() sweep.Result {
	switch {
	case p.result.Outcome != "":
	case p.beyond > 0:
		p.result.Outcome, p.result.Message = sweep.PremiumOnly, beyond(p.beyond, p.reach)
	case p.result.Rows > 0:
		p.result.Outcome = sweep.Stored
	default:
		p.result.Outcome = sweep.Unchanged
	}
	return p.result
}

// fetch asks for one range and stores what comes of it.
func (p *progress) fetch(ctx context.Context, ask market.Range) error {
	// The answer about another symbol can have shown that it cannot be had.
	reach, err := p.Source.Reach()
	if err != nil {
		return err
	}
	if reach > ask.To {
		return p.unreached(ask, reach)
	}
	a, err := p.read(ctx, p.task.Symbol, ask)
	if err != nil {
		return err
	}
	if err := p.unreached(ask, a.reach); err != nil {
		return err
	}
	err = p.store(ctx, a)
	var rebased *market.RebasedError
	if errors.As(err, &rebased) {
		if a, err = p.readAll(ctx, rebased, ask); err == nil {
			err = p.store(ctx, a)
		}
	}
	return err
}

// unreached counts the sessions of a range that the source has turned out not
// to hold.
func (p *progress) unreached(ask market.Range, reach market.Date) error {
	if reach <= ask.From {
		return nil
	}
	sessions, err := p.Calendar.SessionDays(market.Range{From: ask.From, To: min(ask.To, reach-1)})
	p.beyond, p.reach = p.beyond+sessions.Len(), reach
	return err
}

// answer is what a source has said about a range.
type answer struct {
	series market.Series
	// answered are the days of the range about which it has said all: not its
	// newest end, if the source may still come to have that.
	answered market.Days
	// reach is after the beginning of the range if the source that answered
	// does not hold that; answered begins there then.
	reach   market.Date
	dropped map[string]int
	// short is why the end of the range is still open.
	short sweep.Result
}

// read asks for one range and checks the answer.
func (v *visitor) read(ctx context.Context, symbol market.Symbol, ask market.Range) (answer, error) {
	want, keep := v.around(ask, v.tasks[symbol].known.Stored)
	series, about, err := v.Source.History(ctx, symbol, want)
	if err != nil {
		return answer{}, err
	}
	held := hull(series.Bars)
	cleaned, err := market.Clean(series.Bars, keep, v.Through, v.Calendar)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", symbol, err)
	}
	series.Bars = cleaned.Bars
	a := answer{series: series, dropped: cleaned.Dropped(), reach: about.First(), answered: about.And(market.DaysIn(ask))}
	if err := v.uncut(series, held, about); err != nil {
		return answer{}, err
	}
	late, err := v.Calendar.Back(v.Through, market.LateSessions)
	if err != nil {
		return answer{}, err
	}
	if held.To < ask.To && ask.To > late {
		a.answered = a.answered.Minus(market.DaysIn(market.Range{From: max(held.To, late) + 1, To: ask.To}))
		a.short = v.missing(ask, held, late)
	}
	return a, nil
}

// around returns what to ask for and what to keep of the answer, so that it can
// be compared with what is stored: a source that gives just what it is asked for
// is asked for the next stored days on both sides too, and of one that gives
// more all is kept that lies between stored bars.
func (v *visitor) around(ask market.Range, stored market.Days) (want, keep market.Range) {
	want = ask
	keep = market.Range{From: min(ask.From, v.plan.Window.From), To: max(ask.To, v.plan.Window.To)}
	first := v.Calendar.Known().From
	if before := stored.And(market.DaysIn(market.Range{From: first, To: ask.From - 1})); before.Len() > 0 {
		keep.From = min(keep.From, before.First())
		want.From = max(before.First(), before.Last()-overlapDays)
	}
	if after := stored.And(market.DaysIn(market.Range{From: ask.To + 1, To: v.Through})); after.Len() > 0 {
		keep.To = max(keep.To, after.Last())
		want.To = min(after.Last(), after.First()+overlapDays)
	}
	return want, keep
}

// hull is from the oldest of bars to the newest.
func hull(bars []market.Bar) market.Range {
	if len(bars) == 0 {
		return market.Range{}
	}
	r := market.Range{From: bars[0].Date, To: bars[0].Date}
	for i := range bars {
		r.From, r.To = min(r.From, bars[i].Date), max(r.To, bars[i].Date)
	}
	return r
}

// uncut refuses an answer, to a question for what is there on some days, that
// begins after bars which are stored, or ends before some, and which its source
// had once: it is not all that the source has.
func (v *visitor) uncut(series market.Series, held market.Range, asked market.Days) error {
	known := v.tasks[series.Symbol].known
	had := known.Stored.And(known.AnsweredBy(series.Source)).And(asked)
	switch {
	case had.Len() == 0:
		return nil
	case held.From > had.First():
		return &market.PayloadError{Reason: fmt.Sprintf("the answer begins at %s, but bars are stored from %s on: it is cut", held.From, had.First())}
	case held.To < had.Last():
		return &market.PayloadError{Reason: fmt.Sprintf("the answer ends at %s, but bars are stored up to %s: it is cut", held.To, had.Last())}
	}
	return nil
}

// missing says why an answer leaves the end of its range open.
func (v *visitor) missing(ask, held market.Range, late market.Date) sweep.Result {
	newest := "none"
	if !held.To.IsZero() {
		newest = held.To.String()
	}
	message := fmt.Sprintf("no bar of %s; the newest is %s", ask.To, newest)
	if ask.To == v.Through && held.To >= late {
		return sweep.Result{Outcome: sweep.NotReady, Message: message}
	}
	return sweep.Result{Outcome: sweep.NoData, Message: message}
}

// readAll asks for all that is stored of a symbol, since the source has changed
// the base of its prices, so that they are replaced together.
func (v *visitor) readAll(ctx context.Context, rebased *market.RebasedError, ask market.Range) (answer, error) {
	reach, err := v.Source.Reach()
	if err != nil {
		return answer{}, err
	}
	if reach > rebased.Stored.From {
		return answer{}, fmt.Errorf("%w (this key reaches back to %s only)", rebased, reach)
	}
	all := market.Range{
		From: max(min(ask.From, rebased.Stored.From), v.Calendar.Known().From),
		To:   max(ask.To, min(rebased.Stored.To, v.Through)),
	}
	sessions, err := v.Calendar.SessionDays(all)
	if err != nil {
		return answer{}, err
	}
	var whole answer
	for i, chunk := range v.chunks(sessions) {
		a, err := v.read(ctx, rebased.Symbol, chunk)
		if err != nil {
			return answer{}, err
		}
		if i == 0 {
			whole = a
			continue
		}
		whole.series.Bars = slices.Concat(whole.series.Bars, a.series.Bars)
		whole.answered, whole.short = whole.answered.Union(a.answered), a.short
	}
	held := hull(whole.series.Bars)
	holds, err := rebased.HeldBy(held, v.Through, v.Calendar)
	if err != nil {
		return answer{}, err
	}
	if !holds {
		return answer{}, fmt.Errorf("%w; it was read again, and holds %s only: delete the other bars, or run daily-bars --force, which stores it beside them", rebased, held)
	}
	whole.series.NewBase = true
	return whole, nil
}

// store commits an answer.
func (p *progress) store(ctx context.Context, a answer) error {
	left := p.open.Minus(a.answered)
	done := left.Len() == 0 && !p.plan.repair
	parts := a.parts()
	for i, part := range parts {
		changes, err := p.Store.SaveHistory(ctx, part.series, part.answered, done && i == len(parts)-1)
		if errors.As(err, new(*market.RebasedError)) {
			return err
		}
		if err != nil {
			return sweep.Unsaved(err)
		}
		p.result.Rows += changes.Written()
		if changes.OtherBasis > 0 {
			left, done = p.otherBasis(&a, changes), false
		}
	}
	p.open, p.done = left, done
	p.result.Outcome, p.result.Message = a.short.Outcome, a.short.Message
	p.result.Source = a.series.Source
	p.result.Drop(a.dropped)
	return nil
}

// part is what is saved at once: the bars, and a range that they answer for.
type part struct {
	series   market.Series
	answered market.Range
}

// parts cuts an answer where a day was not asked for.
func (a answer) parts() (parts []part) {
	last := market.Date(0)
	for day := range a.answered.All() {
		if n := len(parts); n > 0 && day == last+1 {
			parts[n-1].answered.To = day
		} else {
			parts = append(parts, part{answered: market.Range{From: day, To: day}})
		}
		last = day
	}
	if len(parts) == 0 && len(a.series.Bars) > 0 {
		parts = make([]part, 1)
	}
	rest := a.series.Bars
	for i := range parts {
		n := len(rest)
		if i < len(parts)-1 {
			n = 0
			for n < len(rest) && rest[n].Date < parts[i+1].answered.From {
				n++
			}
		}
		parts[i].series = a.series
		parts[i].series.Bars, rest = rest[:n:n], rest[n:]
	}
	return parts
}

// otherBasis takes back what an answer does not count for: the days before those
// on which it agrees with the stored bars.
func (p *progress) otherBasis(a *answer, changes market.Changes) (left market.Days) {
	p.result.Drop(map[string]int{"other_basis": changes.OtherBasis})
	a.short = sweep.Result{Outcome: sweep.BadPayload, Message: fmt.Sprintf(
		"%d bars of %s before %s are left out: they may be on another basis than the stored ones, as before a split", changes.OtherBasis, a.series.Source, changes.Since)}
	return p.open.Minus(a.answered.And(market.DaysIn(market.Range{From: changes.Since, To: p.Through})))
}

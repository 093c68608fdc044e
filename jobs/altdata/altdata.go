// Package altdata loads what insiders have reported to the SEC and what FINRA
// has published of short interest, for a window of time.
//
// What a window holds is a list of items: the SEC's index of each day, each
// report that it lists of a wanted issuer, each settlement date of short
// interest. The ledger knows which are stored, so a run asks only for what is
// missing, and one bad document does not repeat a window. The end of the window
// becomes the job's last_run when all of its items are stored.
//
// A document that fails three times in the same way is in quarantine: each run
// names it, but it no longer holds last_run back.
package altdata

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

const (
	// Name is the job's name in the ledger, in Redis and in reports.
	Name = "altdata"
	// Period is under what the job is claimed, whatever the window: two runs
	// of different windows would ask for the same items.
	Period = "window"
	// FilingsKind is the kind of the items that are documents.
	FilingsKind = "edgar_filings"

	daysKind   = "edgar_days"
	othersKind = "edgar_others"
	shortKind  = "finra"
)

const (
	// FirstWindow is how far back the first run looks.
	FirstWindow = 14 * 24 * time.Hour
	// overlap is how many days of filings before the window are looked at
	// again: the SEC can date a filing back by a day or two.
	overlap = 3
	// quarantineAfter is how often a document may fail in the same way.
	quarantineAfter = 3
	// closedAfter is how long after its time a missing index is waited for.
	// The SEC is also closed on days that no calendar knows beforehand.
	closedAfter = 4 * 24 * time.Hour
	// closedDays is how many days away a day may be whose index was read.
	closedDays = 6
	// fewFailures is how many documents may fail without any that is sound.
	fewFailures = 2
	// quarterDays is the number of missing days of a quarter that is over
	// from which its one index is read instead of theirs.
	quarterDays = 20
	// adoptable is how old a last_run of another program may be.
	adoptable = 92 * 24 * time.Hour
	// lateDays is how far back settlement dates are looked at again.
	lateDays = 5
)

// Filings is what this job asks of the SEC.
type Filings interface {
	// Issuers returns the issuers' numbers of all symbols.
	Issuers(ctx context.Context) (map[market.Symbol]int, error)
	// Day returns the insiders' reports that the index of a day lists, with
	// all filers, and what somebody should know about the index. One that is
	// not there is an error of class no_data.
	Day(ctx context.Context, day market.Date) (listed []market.ListedFiling, notes []string, err error)
	// Quarter returns those of a quarter, 1 to 4.
	Quarter(ctx context.Context, year, quarter int) (listed []market.ListedFiling, notes []string, err error)
	// Filing reads one document.
	Filing(ctx context.Context, filing market.ListedFiling) (market.InsiderFiling, error)
}

// Shorts is what this job asks of FINRA.
type Shorts interface {
	// ShortInterest returns the rows of symbols at a settlement date, and
	// what somebody should know about them.
	ShortInterest(ctx context.Context, settlement market.Date, symbols []market.Symbol) (rows []market.ShortInterest, notes []string, err error)
}

// Store is what this job asks of a claimed run.
type Store interface {
	Ledger
	SaveIndexDay(ctx context.Context, kind string, day market.Date, filings []market.ListedFiling) (market.Changes, error)
	SaveFiling(ctx context.Context, symbol market.Symbol, f market.InsiderFiling) (market.Changes, error)
	SaveShortInterest(ctx context.Context, kind string, settlement market.Date, rows []market.ShortInterest) (market.Changes, error)
}

// Ledger is what a claimed run notes besides rows.
type Ledger interface {
	// SaveItem makes a unit done without rows.
	SaveItem(ctx context.Context, kind, unit, outcome, message string) error
	// SaveUnitAttempt records that a unit was asked for in vain.
	SaveUnitAttempt(ctx context.Context, kind, unit, outcome, message string) error
	// SaveLastRun moves last_run and what is covered of the symbols.
	SaveLastRun(ctx context.Context, until time.Time, symbols []market.Symbol) error
	// SaveCovered moves what is covered of the symbols alone.
	SaveCovered(ctx context.Context, through time.Time, symbols []market.Symbol) error
}

// Library is what is stored already.
type Library interface {
	DoneUnits(ctx context.Context, job, period string) ([]market.Symbol, error)
	PendingFilings(ctx context.Context, window market.Range) ([]market.PendingFiling, error)
	Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error)
}

// LastRun is the end of the window of the last run that was complete.
type LastRun interface {
	// Get repeats in Redis what the ledger has. It returns the zero Time if there was none. An error that comes with
	// an answer is a warning.
	Get(ctx context.Context) (time.Time, bool, error)
}

// adopted stands among the symbols for the last_run that another program had
// left before the first run.
const adopted market.Symbol = "*"

// Job loads alternative data. A source that is nil is left out, and then
// last_run stays where it is.
type Job struct {
	Filings  Filings
	Shorts   Shorts
	Store    Store
	Library  Library
	LastRun  LastRun
	Calendar *market.Calendar
	// Now is the time of the claim.
	Now time.Time
	// Force reads indexes and settlement dates again that are stored, and
	// asks again for documents in quarantine. A document that is stored does
	// not change any more.
	Force bool
	// Sweep sets the workers; its Visit and Attempt are the job's own. Each
	// is told the part before the unit.
	Sweep sweep.Sweep
	Each  func(part string, unit sweep.Unit)
}

// Window is the time that a run covers, Since excluded and Until included.
type Window struct{ Since, Until time.Time }

// String returns the window as an ISO-8601 interval in UTC.
func (w Window) String() string {
	return w.Since.UTC().Format(time.RFC3339) + "/" + w.Until.UTC().Format(time.RFC3339)
}

// Plan is what a run would do as far as it is known before it asks.
type Plan struct {
	Window  Window
	Symbols []market.Symbol
	// Days are the days whose filings belong to the window, after those of
	// the overlap; Settlements are the settlement dates published in it. Not
	// all of them are to be asked for.
	Days, Settlements []market.Date
	// Overlap is the number of days before the window: they are read again.
	Overlap int
	// Base is from when the symbols are to be covered of which nothing is.
	Base time.Time
	// Moves says that the window begins no later than what is covered, so
	// that last_run may move to its end.
	Moves    bool
	Warnings []string
}

// Plan chooses the window: from the end of the last complete run to now,
// unless since or until say otherwise. Symbols of which less is covered, such
// as those that were added since, make it begin earlier; new ones have the
// fourteen days before its end. It makes no provider call.
func (j Job) Plan(ctx context.Context, symbols []market.Symbol, since, until time.Time) (Plan, error) {
	p := Plan{Symbols: symbols, Window: Window{since, until}}
	if until.IsZero() {
		p.Window.Until = j.Now
	}
	p.Window.Until = p.Window.Until.Truncate(time.Second).UTC()
	if p.Window.Until.After(j.Now) {
		return Plan{}, fmt.Errorf("the window ends at %s, after now: %s", p.Window.Until.Format(time.RFC3339), j.Now.UTC().Format(time.RFC3339))
	}
	covered, err := j.covered(ctx, symbols, &p)
	if err != nil {
		return Plan{}, err
	}
	if since.IsZero() {
		p.Window.Since = covered
		if covered.After(p.Window.Until) {
			p.Window.Since = p.Window.Until
		}
	}
	p.Window.Since = p.Window.Since.UTC()
	if !since.IsZero() && !since.Before(p.Window.Until) {
		return Plan{}, fmt.Errorf("the window begins at %s and ends at %s: want it to begin earlier", p.Window.Since.Format(time.RFC3339), p.Window.Until.Format(time.RFC3339))
	}
	p.Moves = !p.Window.Since.After(covered) && covered.Before(p.Window.Until)
	if p.Window.Since.After(covered) {
		p.Warnings = append(p.Warnings, fmt.Sprintf("last_run stays: the window begins after %s, to where all is stored", covered.UTC().Format(time.RFC3339)))
	}
	p.Days, p.Overlap = filingDays(p.Window)
	p.Settlements, err = j.settlements(p.Window)
	return p, err
}

// covered returns to when everything of the symbols is stored, and sets the
// plan's base for those of which nothing is: fourteen days before the end, or
// what another program has left as last_run, while it is not long ago.
func (j Job) covered(ctx context.Context, symbols []market.Symbol, p *Plan) (at time.Time, err error) {
	last, known, err := j.LastRun.Get(ctx)
	if !known && err != nil {
		return at, fmt.Errorf("read last_run: %w", err)
	}
	if err != nil {
		p.Warnings = append(p.Warnings, err.Error())
	}
	coverage, err := j.Library.Coverage(ctx, Name)
	if err != nil {
		return at, fmt.Errorf("read coverage: %w", err)
	}
	throughs := make(map[market.Symbol]time.Time, len(coverage))
	for s, c := range coverage {
		if throughs[s], err = time.Parse(time.RFC3339, c.Tried); err != nil {
			return at, fmt.Errorf("coverage of %s: %w", s, err)
		}
	}
	p.Base = p.Window.Until.Add(-FirstWindow)
	foreign := throughs[adopted]
	if len(coverage) == 0 {
		foreign = last
	}
	switch {
	case foreign.After(j.Now):
		p.Warnings = append(p.Warnings, fmt.Sprintf("the last_run that was found, %s, is in the future and does not count", foreign.UTC().Format(time.RFC3339)))
	case p.Window.Until.Sub(foreign) <= adoptable:
		p.Base = foreign
	case len(coverage) == 0 && !foreign.IsZero():
		p.Warnings = append(p.Warnings, fmt.Sprintf("the last_run that was found, %s, is long ago: the run begins at %s; --since reaches further back",
			foreign.UTC().Format(time.RFC3339), p.Base.UTC().Format(time.RFC3339)))
	}
	at = p.Window.Until
	for _, s := range symbols {
		through, ok := throughs[s]
		if !ok {
			through = p.Base
		}
		if through.Before(at) {
			at = through
		}
	}
	return at, nil
}

// filingDays are the days whose filings were complete within the window, after
// the days of the overlap.
func filingDays(w Window) (days []market.Date, before int) {
	since := market.DateOf(w.Since.In(market.NewYork()))
	first := since
	for n := 0; n < overlap; {
		first--
		if market.TakesFilings(first) {
			n++
		}
	}
	for d := first; !market.FilingsComplete(d).After(w.Until); d++ {
		if !market.TakesFilings(d) {
			continue
		}
		if days = append(days, d); d < since {
			before++
		}
	}
	return days, before
}

// settlements are the dates whose short interest was to be published within
// the window, or a little before it.
func (j Job) settlements(w Window) ([]market.Date, error) {
	const longest = 60 // days from a settlement date to its publication, at most
	since := w.Since.AddDate(0, 0, -lateDays)
	from, to := market.DateOf(since.In(market.NewYork()))-longest, market.DateOf(w.Until.In(market.NewYork()))
	all, err := j.Calendar.Settlements(from, to)
	if err != nil {
		return nil, err
	}
	var due []market.Date
	for _, d := range all {
		at, err := j.Calendar.PublishedAt(d)
		if err != nil {
			return nil, err
		}
		if at.After(since) && !at.After(w.Until) {
			due = append(due, d)
		}
	}
	return due, nil
}

// Run loads what is missing of the window. The report's counts are those of
// items; its parts are the three kinds of them.
func (j Job) Run(ctx context.Context, plan Plan) sweep.Report {
	v := &visitor{Job: j, plan: plan}
	var parts []sweep.Report
	if j.Filings != nil {
		parts = append(parts, v.days(ctx), v.filings(ctx))
	}
	if j.Shorts != nil && !v.lost(parts) {
		parts = append(parts, v.settlements(ctx))
	}
	report := sweep.Combine(Name, plan.Window.String(), parts)
	if report.Status == sweep.OK && plan.Moves && j.Filings != nil && j.Shorts != nil {
		v.move(ctx, &report)
	}
	report.Warnings, report.Quarantined = slices.Concat(plan.Warnings, v.warnings), v.quarantined
	return report
}

// lost reports whether the store was lost in one of the parts: what is asked
// then cannot be stored.
func (v *visitor) lost(parts []sweep.Report) bool {
	return slices.ContainsFunc(parts, func(p sweep.Report) bool { return p.Outcomes[sweep.Interrupted] > 0 })
}

// begin notes from when symbols are to be covered of which nothing is yet.
// Counted back from the end of each run anew, what failed in the first window
// would fall out of the next one.
func (v *visitor) begin(ctx context.Context) error {
	coverage, err := v.Library.Coverage(ctx, Name)
	if err != nil {
		return fmt.Errorf("read coverage: %w", err)
	}
	var fresh []market.Symbol
	for _, s := range append([]market.Symbol{adopted}, v.plan.Symbols...) {
		if _, ok := coverage[s]; !ok && !slices.Contains(v.strangers, s) {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) == 0 || v.plan.Window.Since.After(v.plan.Base) {
		return nil
	}
	if err := v.Store.SaveCovered(ctx, v.plan.Base, fresh); err != nil {
		return fmt.Errorf("note where the first window begins: %w", err)
	}
	return nil
}

// move sets last_run to the end of the window: in the ledger, then in Redis.
// Symbols that the SEC does not know stay where they were: it may know them
// again.
func (v *visitor) move(ctx context.Context, report *sweep.Report) {
	covered := slices.DeleteFunc(slices.Clone(v.plan.Symbols), func(s market.Symbol) bool { return slices.Contains(v.strangers, s) })
	if err := v.Store.SaveLastRun(ctx, v.plan.Window.Until, covered); err != nil {
		report.Status, report.Stopped = sweep.Failed, "all items are stored, but not last_run: "+err.Error()
		return
	}
	if _, _, err := v.LastRun.Get(ctx); err != nil {
		v.warn("last_run in Redis is behind the ledger until the next run: %v", err)
	}
}

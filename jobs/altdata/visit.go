package altdata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/sweep"
)

// visitor handles the items of one run.
type visitor struct {
	Job
	plan Plan
	// symbols are those of the run by their issuer, issuers names the set of
	// them; issuerErr says why they are not known.
	symbols   map[int][]market.Symbol
	issuers   string
	issuerErr error

	mu       sync.Mutex
	warnings []string
}

func (v *visitor) warn(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}

// sweep visits the units of a kind that are not done.
func (v *visitor) sweep(ctx context.Context, part, kind string, units []market.Symbol, skipped int, visit sweep.Visit) sweep.Report {
	pass := v.Sweep
	pass.Visit = visit
	pass.Attempt = func(ctx context.Context, unit market.Symbol, outcome sweep.Outcome, message string) error {
		return v.Store.SaveUnitAttempt(ctx, kind, string(unit), string(outcome), message)
	}
	if v.Each != nil {
		pass.Each = func(u sweep.Unit) { v.Each(part, u) }
	}
	return sweep.NewReport(part, v.plan.Window.String(), skipped, pass.Run(ctx, units), ctx.Err() != nil)
}

// failed is the report of a part that could not find out what is done.
func (v *visitor) failed(part string, err error) sweep.Report {
	r := sweep.NewReport(part, v.plan.Window.String(), 0, sweep.Tally{Stopped: err.Error()}, false)
	r.Status = sweep.Failed
	return r
}

// digest names a set, so that an item that was read for fewer issuers or
// symbols is not taken for one that was read for these.
func digest[T any](set []T) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(set)))
	return hex.EncodeToString(sum[:8])
}

// missing returns the units of a kind that are not done, and the number of
// those done.
func (v *visitor) missing(ctx context.Context, kind string, dates []market.Date) (todo []market.Symbol, skipped int, err error) {
	units, err := v.Library.DoneUnits(ctx, Name, kind)
	if err != nil {
		return nil, 0, fmt.Errorf("read which items are stored: %w", err)
	}
	done := make(map[market.Symbol]bool, len(units))
	for _, u := range units {
		done[u] = true
	}
	for _, d := range dates {
		if unit := market.Symbol(d.String()); !done[unit] || v.Force {
			todo = append(todo, unit)
		} else {
			skipped++
		}
	}
	return todo, skipped, nil
}

// days reads the indexes that are missing.
func (v *visitor) days(ctx context.Context) sweep.Report {
	if err := v.findIssuers(ctx); err != nil {
		v.issuerErr = err
		return v.sweep(ctx, daysKind, daysKind, unitsOf(v.plan.Days), 0,
			func(context.Context, market.Symbol) (sweep.Result, error) { return sweep.Result{}, err })
	}
	kind := daysKind + ":" + v.issuers
	todo, skipped, err := v.missing(ctx, kind, v.plan.Days)
	if err != nil {
		return v.failed(daysKind, err)
	}
	quarters := v.quarters(todo)
	units := slices.DeleteFunc(todo, func(u market.Symbol) bool { return quarters.hold(u) })
	units = append(quarters.units(), units...)
	return v.sweep(ctx, daysKind, kind, units, skipped, func(ctx context.Context, unit market.Symbol) (sweep.Result, error) {
		if q, ok := quarters[unit]; ok {
			return v.quarter(ctx, kind, q)
		}
		return v.day(ctx, kind, unit)
	})
}

// findIssuers finds the issuers of the run's symbols.
func (v *visitor) findIssuers(ctx context.Context) error {
	known, err := v.Filings.Issuers(ctx)
	if err != nil {
		return err
	}
	v.symbols = map[int][]market.Symbol{}
	var ciks []int
	var strangers []string
	for _, s := range v.plan.Symbols {
		cik, ok := known[s]
		switch {
		case !ok:
			strangers = append(strangers, string(s))
			continue
		case v.symbols[cik] == nil:
			ciks = append(ciks, cik)
		}
		v.symbols[cik] = append(v.symbols[cik], s)
	}
	if len(strangers) > 0 {
		v.warn("the SEC knows no issuer of %d symbols, so their insiders are not looked for: %s", len(strangers), shortened(strangers))
	}
	slices.Sort(ciks)
	v.issuers = digest(ciks)
	return nil
}

// wanted keeps the filings of which a wanted issuer is one of the filers, as an
// issuer or as an owner: an index does not tell which. All filers of them stay,
// since more issuers can be wanted one day.
func (v *visitor) wanted(listed []market.ListedFiling) []market.ListedFiling {
	return slices.DeleteFunc(listed, func(f market.ListedFiling) bool { return !v.isWanted(f) })
}

func (v *visitor) isWanted(f market.ListedFiling) bool {
	return slices.ContainsFunc(f.Filers, func(cik int) bool { return v.symbols[cik] != nil })
}

// shortened names the first ten.
func shortened(names []string) string {
	const most = 10
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

func unitsOf(dates []market.Date) []market.Symbol {
	units := make([]market.Symbol, len(dates))
	for i, d := range dates {
		units[i] = market.Symbol(d.String())
	}
	return units
}

func (v *visitor) day(ctx context.Context, kind string, unit market.Symbol) (sweep.Result, error) {
	day, err := market.ParseDate(string(unit))
	if err != nil {
		return sweep.Result{}, err
	}
	listed, err := v.Filings.Day(ctx, day)
	if err != nil && sweep.Classify(ctx, err).Outcome == sweep.NoData {
		return v.absent(ctx, kind, day, err)
	}
	if err != nil {
		return sweep.Result{}, err
	}
	return stored(v.Store.SaveIndexDay(ctx, kind, day, v.wanted(listed)))
}

// absent judges an index that is not there: late, or of a day on which the SEC
// was closed though the calendar does not know it.
func (v *visitor) absent(ctx context.Context, kind string, day market.Date, cause error) (sweep.Result, error) {
	if v.Now.Sub(market.FilingsComplete(day)) < closedAfter {
		return sweep.Result{Outcome: sweep.NotReady, Message: "the index of the day is not out yet: " + cause.Error()}, nil
	}
	text := fmt.Sprintf("the SEC has no index of %s, four days later: it was closed", day)
	v.warn("%s", text)
	if err := v.Store.SaveItem(ctx, kind, day.String(), string(sweep.NoData), text); err != nil {
		return sweep.Result{}, &sweep.StoreError{Err: err}
	}
	return sweep.Result{Outcome: sweep.Unchanged, Message: text}, nil
}

// stored turns what a save returned into a result.
func stored(changes market.Changes, err error) (sweep.Result, error) {
	if err != nil {
		return sweep.Result{}, sweep.Unsaved(err)
	}
	outcome := sweep.Unchanged
	if changes.Written() > 0 {
		outcome = sweep.Stored
	}
	return sweep.Result{Outcome: outcome, Rows: changes.Written()}, nil
}

// filings reads the documents that the indexes list and that are not stored.
func (v *visitor) filings(ctx context.Context) sweep.Report {
	days := v.plan.Days
	if v.issuerErr != nil || len(days) == 0 {
		return v.sweep(ctx, FilingsKind, FilingsKind, nil, 0, nil)
	}
	// Older ones are in quarantine, or were listed for more symbols.
	pending, err := v.Library.PendingFilings(ctx, market.Range{From: 1, To: days[len(days)-1]})
	if err != nil {
		return v.failed(FilingsKind, fmt.Errorf("read which documents are missing: %w", err))
	}
	others, err := v.Library.DoneUnits(ctx, Name, v.othersKind())
	if err != nil {
		return v.failed(FilingsKind, fmt.Errorf("read which documents are of other issuers: %w", err))
	}
	slices.Sort(others)
	byUnit := map[market.Symbol]market.ListedFiling{}
	var units []market.Symbol
	for _, p := range pending {
		if _, other := slices.BinarySearch(others, market.Symbol(p.Accession)); other || !v.isWanted(p.ListedFiling) {
			continue
		}
		if p.Failures >= quarantineAfter && !v.Force {
			v.warn("document %s is in quarantine: %d times %s, the last: %s (--force asks again)", p.Accession, p.Failures, p.Outcome, p.Message)
			continue
		}
		unit := market.Symbol(p.Accession)
		byUnit[unit] = p.ListedFiling
		units = append(units, unit)
	}
	return v.sweep(ctx, FilingsKind, FilingsKind, units, 0, func(ctx context.Context, unit market.Symbol) (sweep.Result, error) {
		return v.filing(ctx, byUnit[unit])
	})
}

func (v *visitor) filing(ctx context.Context, listed market.ListedFiling) (sweep.Result, error) {
	f, err := v.Filings.Filing(ctx, listed)
	if err != nil {
		return sweep.Result{}, err
	}
	if symbols := v.symbols[f.IssuerCIK]; len(symbols) > 0 {
		return stored(v.Store.SaveFiling(ctx, symbolOf(f, symbols), f))
	}
	text := fmt.Sprintf("about CIK %d, of which a wanted issuer is an owner", f.IssuerCIK)
	if err := v.Store.SaveItem(ctx, v.othersKind(), listed.Accession, string(sweep.Unchanged), text); err != nil {
		return sweep.Result{}, sweep.Unsaved(err)
	}
	return sweep.Result{Outcome: sweep.Unchanged, Message: text}, nil
}

// othersKind is the kind of the documents that are about none of the issuers of
// this run. One of them may be wanted when there are more.
func (v *visitor) othersKind() string { return othersKind + ":" + v.issuers }

// symbolOf chooses among the symbols of one issuer: the one that the filing
// names, else the first in order of the alphabet.
func symbolOf(f market.InsiderFiling, symbols []market.Symbol) market.Symbol {
	if s := market.Symbol(strings.ToUpper(f.IssuerSymbol)); slices.Contains(symbols, s) {
		return s
	}
	return slices.Min(symbols)
}

// settlements reads the short interest that is missing.
func (v *visitor) settlements(ctx context.Context) sweep.Report {
	symbols := slices.Sorted(slices.Values(v.plan.Symbols))
	kind := shortKind + ":" + digest(symbols)
	todo, skipped, err := v.missing(ctx, kind, v.plan.Settlements)
	if err != nil {
		return v.failed(shortKind, err)
	}
	return v.sweep(ctx, shortKind, kind, todo, skipped, func(ctx context.Context, unit market.Symbol) (sweep.Result, error) {
		settlement, err := market.ParseDate(string(unit))
		if err != nil {
			return sweep.Result{}, err
		}
		rows, notes, err := v.Shorts.ShortInterest(ctx, settlement, symbols)
		for _, note := range notes {
			v.warn("short interest of %s: %s", settlement, note)
		}
		if err != nil {
			return sweep.Result{}, err
		}
		return stored(v.Store.SaveShortInterest(ctx, kind, settlement, rows))
	})
}

package altdata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
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
	// strangers are the symbols that the SEC does not know, readDays the days
	// whose index was read before or in this run.
	strangers []market.Symbol
	readDays  map[market.Date]bool

	mu       sync.Mutex
	warnings []string
	// quarantined are the documents that were not asked for.
	quarantined []string
}

func (v *visitor) warn(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}

func (v *visitor) note(about string, notes []string) {
	for _, note := range notes {
		v.warn("%s: %s", about, note)
	}
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
// those done. The first again of them are asked for whether done or not.
func (v *visitor) missing(ctx context.Context, kind string, dates []market.Date, again int) (todo []market.Symbol, skipped int, err error) {
	units, err := v.Library.DoneUnits(ctx, Name, kind)
	if err != nil {
		return nil, 0, fmt.Errorf("read which items are stored: %w", err)
	}
	done := make(map[market.Symbol]bool, len(units))
	for _, u := range units {
		done[u] = true
	}
	v.readDays = map[market.Date]bool{}
	for i, d := range dates {
		unit := market.Symbol(d.String())
		v.readDays[d] = done[unit]
		if !done[unit] || v.Force || i < again {
			todo = append(todo, unit)
		} else {
			skipped++
		}
	}
	return todo, skipped, nil
}

// days reads the indexes that are missing.
func (v *visitor) days(ctx context.Context) sweep.Report {
	err := v.findIssuers(ctx)
	if err == nil {
		err = v.begin(ctx)
	}
	if err != nil {
		v.issuerErr = err
		return v.sweep(ctx, daysKind, daysKind, unitsOf(v.plan.Days), 0,
			func(context.Context, market.Symbol) (sweep.Result, error) { return sweep.Result{}, err })
	}
	kind := daysKind + ":" + v.issuers
	todo, skipped, err := v.missing(ctx, kind, v.plan.Days, v.plan.Overlap)
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
	for _, s := range v.plan.Symbols {
		cik, ok := known[s]
		switch {
		case !ok:
			v.strangers = append(v.strangers, s)
			continue
		case v.symbols[cik] == nil:
			ciks = append(ciks, cik)
		}
		v.symbols[cik] = append(v.symbols[cik], s)
	}
	if len(v.strangers) > 0 {
		v.warn("the SEC knows no issuer of %d symbols, so their insiders are not looked for: %s", len(v.strangers), shortened(v.strangers))
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
func shortened(symbols []market.Symbol) string {
	const most = 10
	if len(symbols) > most {
		return fmt.Sprint(symbols[:most]) + " and others"
	}
	return fmt.Sprint(symbols)
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
	listed, notes, err := v.Filings.Day(ctx, day)
	v.note("index of "+day.String(), notes)
	if err != nil && sweep.Classify(ctx, err).Outcome == sweep.NoData {
		return v.absent(ctx, kind, day, err)
	}
	if err != nil {
		return sweep.Result{}, err
	}
	return stored(v.Store.SaveIndexDay(ctx, kind, day, v.wanted(listed)))
}

// absent judges an index that is not there: late, or of a day on which the SEC
// was closed though the calendar does not know it. Only a day between others
// whose indexes an earlier run could read is taken for the latter: an outage
// must not look like a holiday.
func (v *visitor) absent(ctx context.Context, kind string, day market.Date, cause error) (sweep.Result, error) {
	if v.Now.Sub(market.FilingsComplete(day)) < closedAfter || !v.isRead(day, -1) || !v.isRead(day, 1) {
		return sweep.Result{Outcome: sweep.NotReady, Message: "the index of the day is not out yet: " + cause.Error()}, nil
	}
	text := fmt.Sprintf("the SEC has no index of %s, four days later: it was closed", day)
	v.warn("%s", text)
	if err := v.Store.SaveItem(ctx, kind, day.String(), string(sweep.NoData), text); err != nil {
		return sweep.Result{}, &sweep.StoreError{Err: err}
	}
	return sweep.Result{Outcome: sweep.Unchanged, Message: text}, nil
}

// isRead reports whether the index of one of the next days in a direction was
// read by an earlier run.
func (v *visitor) isRead(day market.Date, direction market.Date) bool {
	for i := market.Date(1); i <= closedDays; i++ {
		if v.readDays[day+i*direction] {
			return true
		}
	}
	return false
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
	others, err := v.Library.DoneUnits(ctx, Name, othersKind)
	if err != nil {
		return v.failed(FilingsKind, fmt.Errorf("read which documents are of other issuers: %w", err))
	}
	issuerOf := issuersOf(others)
	byUnit := map[market.Symbol]market.ListedFiling{}
	var units []market.Symbol
	for _, p := range pending {
		issuer, other := issuerOf[p.Accession]
		if other && v.symbols[issuer] == nil || !v.isWanted(p.ListedFiling) {
			continue
		}
		if p.Failures >= quarantineAfter && !v.Force {
			v.quarantined = append(v.quarantined, p.Accession)
			v.warn("document %s is in quarantine: %d times %s, the last: %s (--force asks again)", p.Accession, p.Failures, p.Outcome, p.Message)
			continue
		}
		unit := market.Symbol(p.Accession)
		byUnit[unit] = p.ListedFiling
		units = append(units, unit)
	}
	return v.sweepFilings(ctx, units, byUnit)
}

// failure is an attempt at a document that is not noted yet.
type failure struct {
	unit    market.Symbol
	outcome sweep.Outcome
	message string
}

// sweepFilings notes the failures at its end: where more documents failed than
// others could be read, the fault is not theirs, and they are not to come into
// quarantine for it.
func (v *visitor) sweepFilings(ctx context.Context, units []market.Symbol, byUnit map[market.Symbol]market.ListedFiling) sweep.Report {
	var mu sync.Mutex
	var failures []failure
	pass := v.Sweep
	pass.Visit = func(ctx context.Context, unit market.Symbol) (sweep.Result, error) {
		return v.filing(ctx, byUnit[unit])
	}
	pass.Attempt = func(_ context.Context, unit market.Symbol, outcome sweep.Outcome, message string) error {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, failure{unit, outcome, message})
		return nil
	}
	if v.Each != nil {
		pass.Each = func(u sweep.Unit) { v.Each(FilingsKind, u) }
	}
	tally := pass.Run(ctx, units)
	outage := len(failures) > tally.Fetched+fewFailures
	for _, f := range failures {
		if outage {
			f.outcome, f.message = sweep.ProviderError, "so did most documents: "+f.message
		}
		if err := v.Store.SaveUnitAttempt(context.WithoutCancel(ctx), FilingsKind, string(f.unit), string(f.outcome), f.message); err != nil {
			v.warn("that %s failed is not noted: %v", f.unit, err)
			break
		}
	}
	return sweep.NewReport(FilingsKind, v.plan.Window.String(), 0, tally, ctx.Err() != nil)
}

func (v *visitor) filing(ctx context.Context, listed market.ListedFiling) (sweep.Result, error) {
	f, err := v.Filings.Filing(ctx, listed)
	if err != nil {
		return sweep.Result{}, err
	}
	if symbols := v.symbols[f.IssuerCIK]; len(symbols) > 0 {
		return stored(v.Store.SaveFiling(ctx, slices.Min(symbols), f))
	}
	text := fmt.Sprintf("about CIK %d, of which a wanted issuer is an owner", f.IssuerCIK)
	if err := v.Store.SaveItem(ctx, othersKind, otherUnit(listed.Accession, f.IssuerCIK), string(sweep.Unchanged), text); err != nil {
		return sweep.Result{}, sweep.Unsaved(err)
	}
	return sweep.Result{Outcome: sweep.Unchanged, Message: text}, nil
}

// otherUnit names a document together with the issuer that it is about, who may
// be wanted one day.
func otherUnit(accession string, issuer int) string { return fmt.Sprintf("%s/%d", accession, issuer) }

// issuersOf reads the units of otherUnit.
func issuersOf(units []market.Symbol) map[string]int {
	issuers := make(map[string]int, len(units))
	for _, u := range units {
		accession, cik, _ := strings.Cut(string(u), "/")
		if n, err := strconv.Atoi(cik); err == nil {
			issuers[accession] = n
		}
	}
	return issuers
}

// settlements reads the short interest that is missing.
func (v *visitor) settlements(ctx context.Context) sweep.Report {
	symbols := slices.Sorted(slices.Values(v.plan.Symbols))
	kind := shortKind + ":" + digest(symbols)
	todo, skipped, err := v.missing(ctx, kind, v.plan.Settlements, 0)
	if err != nil {
		return v.failed(shortKind, err)
	}
	return v.sweep(ctx, shortKind, kind, todo, skipped, func(ctx context.Context, unit market.Symbol) (sweep.Result, error) {
		settlement, err := market.ParseDate(string(unit))
		if err != nil {
			return sweep.Result{}, err
		}
		rows, notes, err := v.Shorts.ShortInterest(ctx, settlement, symbols)
		v.note("short interest of "+settlement.String(), notes)
		if err != nil {
			return sweep.Result{}, err
		}
		if len(rows) == 0 {
			// All that there are may be anybody's; the notes say so.
			return stored(market.Changes{}, v.Store.SaveItem(ctx, kind, string(unit), string(sweep.Unchanged), "no row can be given to a symbol"))
		}
		return stored(v.Store.SaveShortInterest(ctx, kind, settlement, rows))
	})
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/sweep"
)

const (
	// fewSymbols and fewPercent are what an alert about symbols takes at least.
	fewSymbols, fewPercent = 3, 5
	// namedSymbols is how many an alert names.
	namedSymbols = 50
	// lookedAt is how many corrections of a symbol are looked at.
	lookedAt = 1
)

// finding is an alert, and what it is told once for.
type finding struct {
	kind, severity, once, reason string
	symbols                      []market.Symbol
}

// raise sends alarms that were not sent before, by whichever replica.
func (a *app) raise(ctx context.Context, s *services, alarms ...finding) {
	pub := events.NewPublisher(s.rdb)
	for _, m := range alarms {
		if err := a.raiseOne(ctx, s, pub, m); err != nil {
			a.warn(fmt.Errorf("alert %s: %w", m.kind, err))
		}
	}
}

func (a *app) raiseOne(ctx context.Context, s *services, pub *events.Publisher, m finding) error {
	if err := pub.Ping(ctx); err != nil {
		return err
	}
	reason := a.redact(m.reason)
	first, err := s.db.NotePeriod(ctx, store.PeriodInfo{Job: "alert_" + m.kind, Period: m.once, State: store.Complete, Reason: reason, Tick: a.now().UTC()})
	if err != nil || !first {
		return err
	}
	a.log.Warn("alert " + m.kind + ": " + reason)
	slices.Sort(m.symbols)
	named := m.symbols[:min(len(m.symbols), namedSymbols)]
	return pub.Publish(ctx, events.Alert{Type: m.kind, Severity: m.severity, Reason: reason, Symbols: named, Timestamp: events.At(a.now())})
}

// alerts are what is odd about the data of a run.
func (a *app) alerts(ctx context.Context, s *services, r sweep.Report) (all []finding) {
	all = append(all, crossCheckAlarm(r)...)
	all = append(all, failureAlarms(r)...)
	all = append(all, quarantineAlarms(r)...)
	corrected, err := correctedSymbols(ctx, s.db, r)
	if err != nil {
		a.warn(err)
	}
	if many(len(corrected), r) {
		all = append(all, finding{"corrections", events.Warning, r.Job + " " + r.Period, fmt.Sprintf("%s %s: stored values of %d of %d symbols were changed by their source", r.Job, r.Period, len(corrected), r.Symbols), corrected})
	}
	return all
}

func many(n int, r sweep.Report) bool { return n >= fewSymbols && 100*n > fewPercent*r.Symbols }

func crossCheckAlarm(r sweep.Report) []finding {
	c := r.CrossCheck
	if c == nil || float64(len(c.Disagreements)) <= alarmShare*float64(c.Compared) {
		return nil
	}
	m := finding{kind: "cross_check", severity: events.Warning, once: r.Period, reason: fmt.Sprintf("%d of %d bars of %s that were compared with a second source differ", len(c.Disagreements), c.Compared, r.Period)}
	for _, d := range c.Disagreements {
		m.symbols = append(m.symbols, d.Symbol)
	}
	return []finding{m}
}

func failureAlarms(r sweep.Report) (all []finding) {
	of := func(class sweep.Outcome) (symbols []market.Symbol) {
		for _, f := range r.Failures {
			if f.Class == class {
				symbols = append(symbols, f.Symbol)
			}
		}
		return symbols
	}
	once := r.Job + " " + r.Period
	if bad := of(sweep.BadPayload); many(len(bad), r) {
		all = append(all, finding{"bad_payload", events.Warning, once, fmt.Sprintf("%s: the answers for %d of %d symbols were refused", once, len(bad), r.Symbols), bad})
	}
	if unknown := of(sweep.UnknownSymbol); len(unknown) > 0 {
		all = append(all, finding{"unknown_symbol", events.Info, once, fmt.Sprintf("%s: %d of %d symbols are unknown to their source", once, len(unknown), r.Symbols), unknown})
	}
	return all
}

func quarantineAlarms(r sweep.Report) (all []finding) {
	for _, accession := range r.Quarantined {
		all = append(all, finding{"quarantine", events.Warning, accession, "document " + accession + " keeps failing and is set aside; --force asks again", nil})
	}
	return all
}

// correctedSymbols are the symbols that a run of bars has stored of which a
// value was changed since it began.
func correctedSymbols(ctx context.Context, db store.DB, r sweep.Report) (changed []market.Symbol, err error) {
	for _, symbols := range r.Sources {
		for _, symbol := range symbols {
			newest, err := db.Corrections(ctx, symbol, lookedAt)
			if err != nil {
				return nil, fmt.Errorf("read corrections: %w", err)
			}
			if len(newest) > 0 && !newest[0].At.Before(r.StartedAt) {
				changed = append(changed, symbol)
			}
		}
	}
	return changed, nil
}

// alarmUniverse tells of a list that was there and is not used, once a day.
func (a *app) alarmUniverse(ctx context.Context, s *services, refused []string) {
	if len(refused) > 0 {
		a.raise(ctx, s, finding{"universe_refused", events.Warning, a.today().String(), strings.Join(refused, "; "), nil})
	}
}

package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// reconcileAtOnce is the number of symbols of one transaction, which keeps all
// other writers waiting.
const reconcileAtOnce = 25

// ReconcileBars implements [store.DB]. It looks at all symbols at once without
// the write lock and then, holding it, at those where it has seen a difference.
func (db *DB) ReconcileBars(ctx context.Context, window market.Range, symbols ...market.Symbol) (found, lost int, err error) {
	op := "reconcile bars of " + window.String()
	window = store.Window(window)
	differing, err := db.differing(ctx, window, symbols)
	if err != nil {
		return 0, 0, wrap(op, err)
	}
	for some := range slices.Chunk(differing, reconcileAtOnce) {
		var f, l int
		err := db.tx(ctx, func(tx *sql.Tx) (err error) {
			f, l, err = reconcile(ctx, tx, window, some)
			return err
		})
		if err != nil {
			return found, lost, wrap(op, err)
		}
		found, lost = found+f, lost+l
	}
	return found, lost, nil
}

// differing returns the symbols whose stored days are not those of their rows.
func (db *DB) differing(ctx context.Context, window market.Range, symbols []market.Symbol) ([]market.Symbol, error) {
	known, there := store.Coverages{}, store.Present{}
	of, args := ofSymbols(symbols)
	err := collectDays(ctx, db.reader, known, coverageSQL+` AND kind = 'stored' AND year <= ?`+of,
		append([]any{window.From.Year(), window.To.Year()}, args...)...)
	if err != nil {
		return nil, err
	}
	// Without the sources the rows are read in the order in which they are
	// stored.
	err = collectDates(ctx, db.reader, there, `SELECT symbol, '', group_concat(timestamp) FROM ohlcv WHERE `, ` GROUP BY symbol`, window, symbols)
	return store.Differing(known, there, window), err
}

func reconcile(ctx context.Context, tx *sql.Tx, window market.Range, symbols []market.Symbol) (found, lost int, err error) {
	known, there := store.Coverages{}, store.Present{}
	of, args := ofSymbols(symbols)
	if err := collectDays(ctx, tx, known, coverageSQL+of, append([]any{0}, args...)...); err != nil {
		return 0, 0, err
	}
	if err := collectSources(ctx, tx, there, window, symbols); err != nil {
		return 0, 0, err
	}
	rows, found, lost := store.Reconcile(symbols, known, there, window)
	return found, lost, writeDays(ctx, tx, rows, setDaysSQL)
}

// collectSources collects the dates of the daily bars in window, by their sources.
func collectSources(ctx context.Context, q queryer, all store.Present, window market.Range, symbols []market.Symbol) error {
	const head = `SELECT symbol, coalesce(source, '') AS by, group_concat(timestamp) FROM ohlcv WHERE `
	return collectDates(ctx, q, all, head, ` GROUP BY symbol, by`, window, symbols)
}

// collectDates collects the dates of the daily bars in window. head selects the
// symbol, the source and the timestamps, of which tail makes one text.
func collectDates(ctx context.Context, q queryer, all store.Present, head, tail string, window market.Range, symbols []market.Symbol) error {
	of, args := ofSymbols(symbols)
	in := `true`
	if window != store.Window(market.Range{}) { // to compare all of them takes time
		in, args = `timestamp BETWEEN ? AND ?`, append([]any{barStamp(window.From), barStamp(window.To)}, args...)
	}
	rows, err := q.QueryContext(ctx, head+in+of+tail, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var symbol market.Symbol
		var source string
		var stamps sql.RawBytes
		if err := rows.Scan(&symbol, &source, &stamps); err != nil {
			return err
		}
		days := all.Of(symbol, source)
		for stamp := range strings.SplitSeq(string(stamps), ",") {
			if date, daily := parseBarStamp(stamp); daily {
				days.Add(date)
			}
		}
	}
	return rows.Err()
}

package postgres

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// datesSQL reads the rows in the order in which they lie, which is the
	// fastest: the server takes longer to make sets of days of them than to
	// send them all, and longer still if it must unpack the last column.
	datesSQL = `
	SELECT symbol::text, timestamp::timestamptz FROM ohlcv
	WHERE timestamp BETWEEN $1 AND $2 %s`

	sourcesSQL = `
	SELECT symbol::text, timestamp::timestamptz, coalesce(source, '')::text FROM ohlcv
	WHERE timestamp BETWEEN $1 AND $2 %s`
)

// reconcileAtOnce is the number of symbols of one transaction: it starts over
// when one of them is saved meanwhile.
const reconcileAtOnce = 25

// ReconcileBars implements [store.DB]. It looks at all symbols at once and then,
// in transactions, at those where it has seen a difference.
func (db *DB) ReconcileBars(ctx context.Context, window market.Range, symbols ...market.Symbol) (found, lost int, err error) {
	op := "reconcile bars of " + window.String()
	window = store.Window(window)
	differing, err := db.differing(ctx, window, symbols)
	if err != nil {
		return 0, 0, wrap(op, err)
	}
	for some := range slices.Chunk(differing, reconcileAtOnce) {
		r := reconciling{window: window, symbols: some}
		if err := db.retry(ctx, bounded(func(ctx context.Context) error { return r.once(ctx, db) })); err != nil {
			return found, lost, wrap(op, err)
		}
		found, lost = found+r.found, lost+r.lost
	}
	return found, lost, nil
}

// differing returns the symbols whose stored days are not those of their rows.
func (db *DB) differing(ctx context.Context, window market.Range, symbols []market.Symbol) ([]market.Symbol, error) {
	known, there := store.Coverages{}, store.Present{}
	batch := &pgx.Batch{}
	queueSelect(batch, storedSQL, symbols, window.From.Year(), window.To.Year()).
		Query(func(rows pgx.Rows) error { return collectDays(rows, known) })
	queueSelect(batch, datesSQL, symbols, window.From.Time(), window.To.Time()).
		Query(func(rows pgx.Rows) error { return collectDates(rows, there) })
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	return store.Differing(known, there, window), nil
}

// reconciling compares some symbols and writes the difference, in as many tries
// as it takes.
type reconciling struct {
	window      market.Range
	symbols     []market.Symbol
	found, lost int
}

// once sees one state of the database: a day that a save stores meanwhile is a
// serialization failure.
func (r *reconciling) once(ctx context.Context, db *DB) error {
	return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		known, there := store.Coverages{}, store.Present{}
		batch := &pgx.Batch{}
		queueSelect(batch, coverageSQL, r.symbols, 0).Query(func(rows pgx.Rows) error { return collectDays(rows, known) })
		queueSelect(batch, sourcesSQL, r.symbols, r.window.From.Time(), r.window.To.Time()).
			Query(func(rows pgx.Rows) error { return collectDates(rows, there) })
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		rows, found, lost := store.Reconcile(r.symbols, known, there, r.window)
		if len(rows) == 0 {
			return nil // or a COMMIT before has done it, whose reply was lost
		}
		if _, err := tx.Exec(ctx, setDaysSQL, daysArrays(rows)...); err != nil {
			return err
		}
		r.found, r.lost = found, lost
		return nil
	})
}

// collectDates collects the dates of the daily bars.
func collectDates(rows pgx.Rows, all store.Present) error {
	defer rows.Close()
	read := decodeDate
	if binary, err := isBinary(rows, 1); err != nil {
		return err
	} else if !binary {
		read = scanDate
	}
	var row datesRow
	for rows.Next() {
		daily, err := read(rows, &row)
		if err != nil {
			return err
		}
		if row.days == nil {
			row.days = all.Of(row.symbol, row.source)
		}
		if daily {
			row.days.Add(row.date)
		}
	}
	return rows.Err()
}

// datesRow is a row of datesSQL or sourcesSQL; days is nil where it is of another symbol or
// source than the row before.
type datesRow struct {
	symbol market.Symbol
	source string
	date   market.Date
	days   *market.Days
}

// decodeDate reads the binary form. A text is the same in both.
func decodeDate(rows pgx.Rows, row *datesRow) (daily bool, err error) {
	raw := rows.RawValues()
	if string(raw[0]) != string(row.symbol) {
		row.symbol, row.days = market.Symbol(raw[0]), nil
	}
	if len(raw) == 3 && string(raw[2]) != row.source {
		row.source, row.days = string(raw[2]), nil
	}
	micros := int64(binary.BigEndian.Uint64(raw[1]))
	row.date = pgEpoch + market.Date(micros/microsPerDay)
	return micros%microsPerDay == 0, nil
}

func scanDate(rows pgx.Rows, row *datesRow) (daily bool, err error) {
	var at time.Time
	row.days = nil
	err = rows.Scan([]any{&row.symbol, &at, &row.source}[:len(rows.FieldDescriptions())]...)
	row.date = market.DateOf(at.UTC())
	return at.Equal(row.date.Time()), err
}

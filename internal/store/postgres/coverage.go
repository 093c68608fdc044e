package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// daysArrays gives rows of ingest_coverage as the arrays of daysColumns.
func daysArrays(rows []store.DaysRow) []any {
	n := len(rows)
	symbols, kinds, sources := make([]string, n), make([]string, n), make([]string, n)
	years, fresh := make([]int32, n), make([]bool, n)
	var words [len(market.YearDays{})][]int64
	for w := range words {
		words[w] = make([]int64, n)
	}
	for i := range rows {
		row := &rows[i]
		symbols[i], kinds[i], sources[i] = string(row.Symbol), row.Kind, row.Source
		years[i], fresh[i] = int32(row.Year), row.New
		for w := range words {
			words[w][i] = int64(row.Days[w])
		}
	}
	return []any{symbols, kinds, sources, years, fresh, words[0], words[1], words[2], words[3], words[4], words[5]}
}

const (
	daysColumns = `
	unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::bool[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[])
	WITH ORDINALITY AS u (symbol, kind, source, year, fresh, w0, w1, w2, w3, w4, w5, n)`

	// knownDays finds the row that holds all days of u already.
	knownDays = `
	SELECT FROM ingest_coverage k
	WHERE k.symbol = u.symbol AND k.kind = u.kind AND k.source = u.source AND k.year = u.year
	  AND (u.w0 & ~k.w0) | (u.w1 & ~k.w1) | (u.w2 & ~k.w2) | (u.w3 & ~k.w3) | (u.w4 & ~k.w4) | (u.w5 & ~k.w5) = 0`

	insertDays = `
	INSERT INTO ingest_coverage AS c (symbol, kind, source, year, w0, w1, w2, w3, w4, w5)
	SELECT symbol, kind, source, year, w0, w1, w2, w3, w4, w5 FROM ` + daysColumns

	// addDaysSQL leaves a row alone that has nothing to add, since a conflict
	// would lock it.
	addDaysSQL = insertDays + `
	WHERE fresh OR NOT EXISTS (` + knownDays + `)
	ORDER BY n
	ON CONFLICT (symbol, kind, source, year) DO UPDATE
	SET w0 = c.w0 | EXCLUDED.w0, w1 = c.w1 | EXCLUDED.w1, w2 = c.w2 | EXCLUDED.w2,
	    w3 = c.w3 | EXCLUDED.w3, w4 = c.w4 | EXCLUDED.w4, w5 = c.w5 | EXCLUDED.w5`

	setDaysSQL = insertDays + `
	ORDER BY n
	ON CONFLICT (symbol, kind, source, year) DO UPDATE
	SET w0 = EXCLUDED.w0, w1 = EXCLUDED.w1, w2 = EXCLUDED.w2, w3 = EXCLUDED.w3, w4 = EXCLUDED.w4, w5 = EXCLUDED.w5`
)

// queueDays adds the days of the bars and of the answer.
func (r *barRows) queueDays(batch *pgx.Batch) {
	series, answered := r.diff.Kept(r.series, r.answered)
	batch.Queue(addDaysSQL, daysArrays(store.SavedDays(series, answered, r.diff.New))...)
}

// queueKnown tells whether they are all there.
func (r *barRows) queueKnown(batch *pgx.Batch, known *bool) {
	series, answered := r.diff.Kept(r.series, r.answered)
	batch.Queue(`SELECT NOT EXISTS (SELECT FROM `+daysColumns+` WHERE NOT EXISTS (`+knownDays+`))`,
		daysArrays(store.SavedDays(series, answered, nil))...).QueryRow(func(row pgx.Row) error { return row.Scan(known) })
}

func names(symbols []market.Symbol) []string {
	names := make([]string, len(symbols))
	for i, symbol := range symbols {
		names[i] = string(symbol)
	}
	return names
}

const (
	// coverageSQL, as all statements of queueSelect, says where a condition for
	// the symbols goes.
	coverageSQL = `
	SELECT symbol, kind, source, year, w0, w1, w2, w3, w4, w5 FROM ingest_coverage
	WHERE year >= $1 %s`

	storedSQL = coverageSQL + ` AND kind = 'stored' AND year <= $2`

	// firstYearsSQL finds the first stored year where it is before a year.
	firstYearsSQL = `
	SELECT DISTINCT ON (symbol) symbol, kind, source, year, w0, w1, w2, w3, w4, w5 FROM ingest_coverage
	WHERE kind = 'stored' AND source = '' AND year < $1 AND w0 | w1 | w2 | w3 | w4 | w5 <> 0 %s
	ORDER BY symbol, year`
)

// queueSelect queues a query of some symbols; none means all.
func queueSelect(batch *pgx.Batch, sql string, symbols []market.Symbol, args ...any) *pgx.QueuedQuery {
	of := ""
	if len(symbols) > 0 {
		args = append(args, names(symbols))
		of = fmt.Sprintf(`AND symbol = ANY ($%d)`, len(args))
	}
	return batch.Queue(fmt.Sprintf(sql, of), args...)
}

// BarCoverage implements [store.DB].
func (db *DB) BarCoverage(ctx context.Context, from market.Date, symbols ...market.Symbol) (map[market.Symbol]market.BarCoverage, error) {
	all, year := store.Coverages{}, 0
	batch := &pgx.Batch{}
	if !from.IsZero() {
		year = from.Year()
		queueSelect(batch, firstYearsSQL, symbols, year).Query(func(rows pgx.Rows) error { return collectDays(rows, all) })
	}
	queueSelect(batch, coverageSQL, symbols, year).Query(func(rows pgx.Rows) error { return collectDays(rows, all) })
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, wrap("coverage of bars", err)
	}
	return all.Values(), nil
}

func collectDays(rows pgx.Rows, all store.Coverages) error {
	defer rows.Close()
	read := decodeDays
	if binary, err := isBinary(rows, 3); err != nil {
		return err
	} else if !binary {
		read = scanDays
	}
	var row store.DaysRow
	for rows.Next() {
		if err := read(rows, &row); err != nil {
			return err
		}
		all.Add(&row)
	}
	return rows.Err()
}

// decodeDays reads the binary form. Rows of a symbol mostly follow each other,
// and share its name then.
func decodeDays(rows pgx.Rows, row *store.DaysRow) error {
	raw := rows.RawValues()
	if string(raw[0]) != string(row.Symbol) {
		row.Symbol = market.Symbol(raw[0])
	}
	if string(raw[1]) != row.Kind {
		row.Kind = string(raw[1])
	}
	if string(raw[2]) != row.Source {
		row.Source = string(raw[2])
	}
	row.Year = int(int32(binary.BigEndian.Uint32(raw[3])))
	for w := range row.Days {
		row.Days[w] = binary.BigEndian.Uint64(raw[4+w])
	}
	return nil
}

func scanDays(rows pgx.Rows, row *store.DaysRow) error {
	var w [len(row.Days)]int64
	err := rows.Scan(&row.Symbol, &row.Kind, &row.Source, &row.Year, &w[0], &w[1], &w[2], &w[3], &w[4], &w[5])
	for i := range w {
		row.Days[i] = uint64(w[i])
	}
	return err
}

// ForgetHistory implements [store.DB].
func (db *DB) ForgetHistory(ctx context.Context, symbols ...market.Symbol) error {
	err := db.retry(ctx, bounded(func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue(`
				DELETE FROM ingest_items
				WHERE job = $1 AND period = $2 AND (cardinality($3::text[]) = 0 OR unit = ANY ($3))`,
				store.BackfillJob, store.HistoryKind, names(symbols))
			batch.Queue(`
				DELETE FROM ingest_coverage
				WHERE kind = 'answered' AND (cardinality($1::text[]) = 0 OR symbol = ANY ($1))`, names(symbols))
			return tx.SendBatch(ctx, batch).Close()
		})
	}))
	return wrap("forget history", err)
}

// CallsBetween implements [store.DB].
func (db *DB) CallsBetween(ctx context.Context, provider string, from, until time.Time) (n int, err error) {
	err = db.pool.QueryRow(ctx, `SELECT count(*) FROM ingest_calls WHERE provider = $1 AND at >= $2 AND at < $3`, provider, from, until).Scan(&n)
	return n, wrap("calls between", err)
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	insertDays = `INSERT INTO ingest_coverage (symbol, kind, source, year, w0, w1, w2, w3, w4, w5) VALUES `

	// addDaysSQL writes a row only if it has something to add.
	addDaysSQL = `
	ON CONFLICT (symbol, kind, source, year) DO UPDATE
	SET w0 = w0 | excluded.w0, w1 = w1 | excluded.w1, w2 = w2 | excluded.w2,
	    w3 = w3 | excluded.w3, w4 = w4 | excluded.w4, w5 = w5 | excluded.w5
	WHERE (excluded.w0 & ~w0) | (excluded.w1 & ~w1) | (excluded.w2 & ~w2)
	    | (excluded.w3 & ~w3) | (excluded.w4 & ~w4) | (excluded.w5 & ~w5)`

	setDaysSQL = `
	ON CONFLICT (symbol, kind, source, year) DO UPDATE
	SET w0 = excluded.w0, w1 = excluded.w1, w2 = excluded.w2, w3 = excluded.w3, w4 = excluded.w4, w5 = excluded.w5`
)

func addDays(ctx context.Context, tx *sql.Tx, rows []store.DaysRow) error {
	return writeDays(ctx, tx, rows, addDaysSQL)
}

func writeDays(ctx context.Context, tx *sql.Tx, rows []store.DaysRow, conflict string) error {
	return insertion{
		head: insertDays,
		row:  `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		tail: conflict,
		args: func(args []any, i int) []any {
			row := &rows[i]
			args = append(args, string(row.Symbol), row.Kind, row.Source, row.Year)
			for _, word := range row.Days {
				args = append(args, int64(word))
			}
			return args
		},
	}.run(ctx, tx, len(rows))
}

// ofSymbols is a condition for the symbol, and its parameters; no symbols means
// all.
func ofSymbols(symbols []market.Symbol) (string, []any) {
	if len(symbols) == 0 {
		return "", nil
	}
	return ` AND symbol IN (SELECT value FROM json_each(?))`, []any{listOf(symbols)}
}

func listOf[T ~string](texts []T) string {
	list, _ := json.Marshal(texts) // of strings, which cannot fail
	return string(list)
}

// coverageSQL is followed by conditions.
const coverageSQL = `
	SELECT symbol, kind, source, year, w0, w1, w2, w3, w4, w5 FROM ingest_coverage WHERE year >= ?`

// BarCoverage implements [store.DB].
func (db *DB) BarCoverage(ctx context.Context, from market.Date, symbols ...market.Symbol) (map[market.Symbol]market.BarCoverage, error) {
	all, err := db.barCoverage(ctx, from, symbols)
	if err != nil {
		return nil, wrap("coverage of bars", err)
	}
	return all.Values(), nil
}

func (db *DB) barCoverage(ctx context.Context, from market.Date, symbols []market.Symbol) (store.Coverages, error) {
	// One transaction, so that both queries see one state.
	tx, err := db.reader.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	all := store.Coverages{}
	of, args := ofSymbols(symbols)
	year := 0
	if !from.IsZero() {
		year = from.Year()
		err := collectDays(ctx, tx, all, `
			SELECT symbol, kind, source, year, w0, w1, w2, w3, w4, w5 FROM ingest_coverage JOIN (
				SELECT symbol, kind, min(year) AS year FROM ingest_coverage
				WHERE kind = 'stored' AND year < ? AND w0 | w1 | w2 | w3 | w4 | w5 <> 0`+of+`
				GROUP BY symbol, kind
			) USING (symbol, kind, year)`, append([]any{year}, args...)...)
		if err != nil {
			return nil, err
		}
	}
	return all, collectDays(ctx, tx, all, coverageSQL+of, append([]any{year}, args...)...)
}

func collectDays(ctx context.Context, q queryer, all store.Coverages, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var row store.DaysRow
	var w [len(row.Days)]int64
	for rows.Next() {
		if err := rows.Scan(&row.Symbol, &row.Kind, &row.Source, &row.Year, &w[0], &w[1], &w[2], &w[3], &w[4], &w[5]); err != nil {
			return err
		}
		for i := range w {
			row.Days[i] = uint64(w[i])
		}
		all.Add(&row)
	}
	return rows.Err()
}

const (
	// No symbols at all are written as the empty text.
	forgetItemsSQL = `
	DELETE FROM ingest_items WHERE job = ?2 AND period = ?3 AND (?1 = '' OR unit IN (SELECT value FROM json_each(?1)))`

	forgetDaysSQL = `
	DELETE FROM ingest_coverage WHERE kind = 'answered' AND (?1 = '' OR symbol IN (SELECT value FROM json_each(?1)))`
)

// ForgetHistory implements [store.DB].
func (db *DB) ForgetHistory(ctx context.Context, symbols ...market.Symbol) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		list := ""
		if len(symbols) > 0 {
			list = listOf(symbols)
		}
		if _, err := tx.ExecContext(ctx, forgetItemsSQL, list, store.BackfillJob, store.HistoryKind); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, forgetDaysSQL, list)
		return err
	})
	return wrap("forget history", err)
}

// CallsBetween implements [store.DB].
func (db *DB) CallsBetween(ctx context.Context, provider string, from, until time.Time) (n int, err error) {
	err = db.reader.QueryRowContext(ctx, `SELECT count(*) FROM ingest_calls WHERE provider = ? AND at >= ? AND at < ?`,
		provider, stampOf(from), stampOf(until)).Scan(&n)
	return n, wrap("calls between", err)
}

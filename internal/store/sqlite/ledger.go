package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// list reads all rows of a query of the readers.
func list[T any](ctx context.Context, db *DB, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	return listIn(ctx, db.reader, scan, query, args...)
}

func listIn[T any](ctx context.Context, q queryer, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// DoneUnits implements [store.DB].
func (db *DB) DoneUnits(ctx context.Context, job, period string) ([]market.Symbol, error) {
	units, err := list(ctx, db, func(rows *sql.Rows) (unit market.Symbol, err error) {
		err = rows.Scan(&unit)
		return unit, err
	}, `SELECT unit FROM ingest_items WHERE job = ? AND period = ? ORDER BY unit`, job, period)
	return units, wrap("done units", err)
}

// Forget implements [store.DB].
func (db *DB) Forget(ctx context.Context, job, period string, units ...market.Symbol) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		if len(units) == 0 {
			_, err := tx.ExecContext(ctx, `DELETE FROM ingest_items WHERE job = ? AND period = ?`, job, period)
			return err
		}
		for _, unit := range units {
			if _, err := tx.ExecContext(ctx, `DELETE FROM ingest_items WHERE job = ? AND period = ? AND unit = ?`, job, period, string(unit)); err != nil {
				return err
			}
		}
		return nil
	})
	return wrap(fmt.Sprintf("forget units of %s %s", job, period), err)
}

// Coverage implements [store.DB].
func (db *DB) Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error) {
	covered := map[market.Symbol]market.Coverage{}
	_, err := list(ctx, db, func(rows *sql.Rows) (struct{}, error) {
		var unit market.Symbol
		var through string
		var c market.Coverage
		if err := rows.Scan(&unit, &through, &c.Tried); err != nil {
			return struct{}{}, err
		}
		err := c.Through.UnmarshalText([]byte(through))
		covered[unit] = c
		return struct{}{}, err
	}, `SELECT unit, coalesce(through, ''), tried FROM ingest_watermarks WHERE job = ? AND unit <> ?`, job, store.LastRunUnit)
	if err != nil {
		return nil, wrap("coverage", err)
	}
	return covered, nil
}

const (
	// keptCalls is longer than any provider's window; older calls go.
	keptCalls = 40 * 24 * time.Hour
	// pruneEvery is the number of calls between two prunings.
	pruneEvery = 512
)

// RecordCall implements [store.DB].
func (db *DB) RecordCall(ctx context.Context, provider string, limit int, since time.Time) (bool, error) {
	recorded := false
	err := db.tx(ctx, func(tx *sql.Tx) (err error) {
		recorded, err = db.recordCall(ctx, tx, provider, limit, since)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("record call to %s: %w", provider, err)
	}
	return recorded, nil
}

func (db *DB) recordCall(ctx context.Context, tx *sql.Tx, provider string, limit int, since time.Time) (bool, error) {
	now := db.now()
	done, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_calls (provider, at)
		SELECT ?1, ?2 WHERE ?3 <= 0
			OR (SELECT count(*) FROM ingest_calls WHERE provider = ?1 AND at >= ?4) < ?3
			AND NOT EXISTS (SELECT 1 FROM ingest_quotas WHERE provider = ?1 AND spent_until > ?2)`,
		provider, stampOf(now), limit, stampOf(since))
	if err != nil {
		return false, err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	if id, err := done.LastInsertId(); err != nil || id%pruneEvery != 0 {
		return err == nil, err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM ingest_calls WHERE provider = ? AND at < ?`, provider, stampOf(now.Add(-keptCalls)))
	return err == nil, err
}

// SpendDay implements [store.DB].
func (db *DB) SpendDay(ctx context.Context, provider string, until time.Time) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO ingest_quotas (provider, spent_until) VALUES (?, ?)
			ON CONFLICT (provider) DO UPDATE SET spent_until = max(spent_until, excluded.spent_until)`, provider, stampOf(until))
		return err
	})
	return wrap("spend the day of "+provider, err)
}

// SpentUntil implements [store.DB].
func (db *DB) SpentUntil(ctx context.Context, provider string) (time.Time, error) {
	var until sql.NullString
	err := db.reader.QueryRowContext(ctx, `SELECT max(spent_until) FROM ingest_quotas WHERE provider = ?`, provider).Scan(&until)
	if err != nil || !until.Valid {
		return time.Time{}, wrap("day of "+provider, err)
	}
	return parseStamp(until)
}

// CallsSince implements [store.DB].
func (db *DB) CallsSince(ctx context.Context, provider string, since time.Time) (n int, err error) {
	err = db.reader.QueryRowContext(ctx, `SELECT count(*) FROM ingest_calls WHERE provider = ? AND at >= ?`,
		provider, stampOf(since)).Scan(&n)
	return n, wrap("calls since", err)
}

// Bars implements [store.DB].
func (db *DB) Bars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	series := market.Series{Symbol: symbol}
	op := fmt.Sprintf("bars of %s", symbol)
	// One transaction, so that the source is that of these bars.
	tx, err := db.reader.BeginTx(ctx, nil)
	if err != nil {
		return series, wrap(op, err)
	}
	defer func() { _ = tx.Rollback() }()
	if series.Bars, err = barsIn(ctx, tx, symbol, window); err != nil || len(series.Bars) == 0 {
		return series, wrap(op, err)
	}
	newest := series.Bars[len(series.Bars)-1].Date
	err = tx.QueryRowContext(ctx, `SELECT coalesce(source, '') FROM ohlcv WHERE symbol = ? AND timestamp = ?`,
		string(symbol), barStamp(newest)).Scan(&series.Source)
	return series, wrap(op, err)
}

// Corrections implements [store.DB].
func (db *DB) Corrections(ctx context.Context, symbol market.Symbol, limit int) ([]store.Correction, error) {
	corrections, err := list(ctx, db, func(rows *sql.Rows) (store.Correction, error) {
		var c store.Correction
		var day string
		var old sql.NullFloat64
		var at sql.NullString
		err := rows.Scan(&c.Symbol, &day, &c.Field, &old, &c.New, &c.Source, &at)
		c.Date, _ = parseBarStamp(day)
		c.Old, c.HadOld = old.Float64, old.Valid
		if err == nil {
			c.At, err = parseStamp(at)
		}
		return c, err
	}, `
		SELECT symbol, timestamp, field, old_value, new_value, source, at FROM ingest_corrections
		WHERE symbol = ? ORDER BY id DESC LIMIT ?`, string(symbol), limit)
	return corrections, wrap(fmt.Sprintf("corrections of %s", symbol), err)
}

// Runs implements [store.DB].
func (db *DB) Runs(ctx context.Context, job string, limit int) ([]store.RunInfo, error) {
	return db.RunsBefore(ctx, job, 0, limit)
}

// RunsBefore implements [store.DB].
func (db *DB) RunsBefore(ctx context.Context, job string, before int64, limit int) ([]store.RunInfo, error) {
	runs, err := list(ctx, db, func(rows *sql.Rows) (store.RunInfo, error) {
		var r store.RunInfo
		var started, finished, until sql.NullString
		err := rows.Scan(&r.ID, &r.Job, &r.Period, &r.Owner, &r.Status, &started, &finished, &r.Report, &until)
		if err == nil {
			r.Started, err = parseStamp(started)
		}
		if err == nil {
			r.Finished, err = parseStamp(finished)
		}
		if err == nil && until.Valid && r.Status == "running" {
			var leased time.Time
			leased, err = parseStamp(until)
			r.Live = leased.After(db.now())
		}
		return r, err
	}, `
		SELECT id, job, period, owner, status, started_at, finished_at, report, leased_until FROM ingest_runs
		WHERE (?1 = '' OR job = ?1) AND (?2 = 0 OR id < ?2) ORDER BY id DESC LIMIT ?3`, job, before, limit)
	return runs, wrap("runs", err)
}

// Attempts implements [store.DB].
func (db *DB) Attempts(ctx context.Context, symbol market.Symbol, limit int) ([]store.Attempt, error) {
	attempts, err := list(ctx, db, func(rows *sql.Rows) (store.Attempt, error) {
		var a store.Attempt
		var at sql.NullString
		err := rows.Scan(&a.RunID, &a.Job, &a.Period, &a.Symbol, &at, &a.Outcome, &a.Message, &a.Rows)
		if err == nil {
			a.At, err = parseStamp(at)
		}
		return a, err
	}, `
		SELECT run_id, job, period, unit, at, outcome, message, rows FROM ingest_attempts
		WHERE ?1 = '' OR unit = ?1 ORDER BY id DESC LIMIT ?2`, string(symbol), limit)
	return attempts, wrap("attempts", err)
}

// RunAttempts implements [store.DB].
func (db *DB) RunAttempts(ctx context.Context, run, before int64, limit int) ([]store.RunAttempt, error) {
	attempts, err := list(ctx, db, func(rows *sql.Rows) (store.RunAttempt, error) {
		var a store.RunAttempt
		var at sql.NullString
		err := rows.Scan(&a.ID, &a.RunID, &a.Job, &a.Period, &a.Symbol, &at, &a.Outcome, &a.Message, &a.Rows)
		if err == nil {
			a.At, err = parseStamp(at)
		}
		return a, err
	}, `
		SELECT id, run_id, job, period, unit, at, outcome, message, rows FROM ingest_attempts
		WHERE run_id = ?1 AND (?2 = 0 OR id < ?2) ORDER BY id DESC LIMIT ?3`, run, before, limit)
	return attempts, wrap("attempts of a run", err)
}

// Tried implements [store.DB].
func (db *DB) Tried(ctx context.Context, job, period string, outcomes []string, symbols []market.Symbol) ([]market.Symbol, error) {
	tried, err := list(ctx, db, func(rows *sql.Rows) (unit market.Symbol, err error) {
		err = rows.Scan(&unit)
		return unit, err
	}, `
		SELECT DISTINCT unit FROM ingest_attempts
		WHERE unit IN (SELECT value FROM json_each(?4)) AND job = ?1 AND period = ?2 AND outcome IN (SELECT value FROM json_each(?3)) ORDER BY unit`,
		job, period, listOf(outcomes), listOf(symbols))
	return tried, wrap("attempts in "+period, err)
}

// Summary implements [store.DB].
func (db *DB) Summary(ctx context.Context) (store.Summary, error) {
	var s store.Summary
	var oldest, newest string
	err := db.reader.QueryRowContext(ctx, `
		SELECT count(*), coalesce(sum(bars), 0), coalesce(min(oldest), ''), coalesce(max(newest), '') FROM (
			SELECT count(*) AS bars, min(timestamp) AS oldest, max(timestamp) AS newest FROM ohlcv GROUP BY symbol
		)`).Scan(&s.Symbols, &s.Bars, &oldest, &newest)
	s.Oldest, _ = parseBarStamp(oldest)
	s.Newest, _ = parseBarStamp(newest)
	if err != nil || s.Bars == 0 {
		return s, wrap("summary", err)
	}
	s.Sources = map[string]int64{}
	_, err = list(ctx, db, func(rows *sql.Rows) (struct{}, error) {
		var name string
		var bars int64
		err := rows.Scan(&name, &bars)
		s.Sources[name] = bars
		return struct{}{}, err
	}, `SELECT coalesce(source, ''), count(*) FROM ohlcv GROUP BY 1`)
	return s, wrap("summary", err)
}

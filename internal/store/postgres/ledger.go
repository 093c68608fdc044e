package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// DoneUnits implements [store.DB].
func (db *DB) DoneUnits(ctx context.Context, job, period string) ([]market.Symbol, error) {
	rows, err := db.pool.Query(ctx, `SELECT unit FROM ingest_items WHERE job = $1 AND period = $2 ORDER BY unit`, job, period)
	units, err := collect(rows, err, pgx.RowTo[market.Symbol])
	return units, wrap("done units", err)
}

// Forget implements [store.DB].
func (db *DB) Forget(ctx context.Context, job, period string, units ...market.Symbol) error {
	names := make([]string, len(units))
	for i, unit := range units {
		names[i] = string(unit)
	}
	err := db.retry(ctx, bounded(func(ctx context.Context) error {
		_, err := db.pool.Exec(ctx, `
			DELETE FROM ingest_items
			WHERE job = $1 AND period = $2 AND (cardinality($3::text[]) = 0 OR unit = ANY ($3))`, job, period, names)
		return err
	}))
	return wrap(fmt.Sprintf("forget units of %s %s", job, period), err)
}

// Coverage implements [store.DB].
func (db *DB) Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error) {
	covered := map[market.Symbol]market.Coverage{}
	rows, err := db.pool.Query(ctx, `SELECT unit, through, tried FROM ingest_watermarks WHERE job = $1 AND unit <> $2`, job, store.LastRunUnit)
	_, err = collect(rows, err, func(row pgx.CollectableRow) (struct{}, error) {
		var unit market.Symbol
		var through *time.Time
		var c market.Coverage
		err := row.Scan(&unit, &through, &c.Tried)
		if through != nil {
			c.Through = market.DateOf(*through)
		}
		covered[unit] = c
		return struct{}{}, err
	})
	if err != nil {
		return nil, wrap("coverage", err)
	}
	return covered, nil
}

func collect[T any](rows pgx.Rows, err error, scan pgx.RowToFunc[T]) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

const (
	// keptCalls is longer than any provider's window; older calls go.
	keptCalls = "40 days"
	// pruneEvery is the number of calls between two prunings.
	pruneEvery = 512
)

// errCallUnknown stops the retries of a call that may be written down: a
// second row for one call would only waste the quota, a call without a row
// would break it, so the caller must not make this one.
var errCallUnknown = errors.New("the reply to a COMMIT was lost: the call counts as made")

// RecordCall implements [store.DB]. The server's clock tells when the call is.
func (db *DB) RecordCall(ctx context.Context, provider string, limit int, since time.Time) (bool, error) {
	recorded := false
	err := db.retry(ctx, bounded(func(ctx context.Context) error {
		tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(ctx) }()
		if recorded, err = recordCall(ctx, tx, provider, limit, since); err != nil || !recorded {
			return err
		}
		if err := tx.Commit(ctx); err != nil {
			return fmt.Errorf("%w: %w", errCallUnknown, err)
		}
		return nil
	}))
	if err != nil {
		return false, fmt.Errorf("record call to %s: %w", provider, err)
	}
	return recorded, nil
}

// recordCall counts and inserts in a statement that begins after the lock is
// held, so that it sees every call of those who held it before.
func recordCall(ctx context.Context, tx pgx.Tx, provider string, limit int, since time.Time) (bool, error) {
	var id int64
	batch := &pgx.Batch{}
	if limit > 0 {
		batch.Queue(`SELECT pg_advisory_xact_lock(hashtextextended(coalesce(current_schema(), '') || $1, 0))`, "ingest_calls "+provider)
	}
	batch.Queue(`
		INSERT INTO ingest_calls (provider, at)
		SELECT $1, clock_timestamp()
		WHERE $2 <= 0
		   OR (SELECT count(*) FROM ingest_calls WHERE provider = $1 AND at >= $3) < $2
		      AND NOT EXISTS (SELECT FROM ingest_quotas WHERE provider = $1 AND spent_until > clock_timestamp())
		RETURNING id`, provider, int64(limit), since).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	err := tx.SendBatch(ctx, batch).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err == nil && id%pruneEvery == 0 {
		_, err = tx.Exec(ctx, `DELETE FROM ingest_calls WHERE provider = $1 AND at < now() - $2::interval`, provider, keptCalls)
	}
	return err == nil, err
}

// SpendDay implements [store.DB].
func (db *DB) SpendDay(ctx context.Context, provider string, until time.Time) error {
	err := db.retry(ctx, bounded(func(ctx context.Context) error {
		_, err := db.pool.Exec(ctx, `
			INSERT INTO ingest_quotas AS q (provider, spent_until) VALUES ($1, $2)
			ON CONFLICT (provider) DO UPDATE SET spent_until = greatest(q.spent_until, EXCLUDED.spent_until)`, provider, until)
		return err
	}))
	return wrap("spend the day of "+provider, err)
}

// SpentUntil implements [store.DB].
func (db *DB) SpentUntil(ctx context.Context, provider string) (until time.Time, err error) {
	err = db.pool.QueryRow(ctx, `SELECT spent_until FROM ingest_quotas WHERE provider = $1`, provider).Scan(&until)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	return until.UTC(), wrap("day of "+provider, err)
}

// CallsSince implements [store.DB].
func (db *DB) CallsSince(ctx context.Context, provider string, since time.Time) (n int, err error) {
	err = db.pool.QueryRow(ctx, `SELECT count(*) FROM ingest_calls WHERE provider = $1 AND at >= $2`, provider, since).Scan(&n)
	return n, wrap("calls since", err)
}

// Bars implements [store.DB].
func (db *DB) Bars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error) {
	series := market.Series{Symbol: symbol}
	from, to := window.From.Time(), window.To.Time()
	batch := &pgx.Batch{}
	batch.Queue(barsSQL, string(symbol), from, to).Query(func(rows pgx.Rows) (err error) {
		series.Bars, err = collectBars(rows, 0)
		return err
	})
	batch.Queue(`
		SELECT coalesce((SELECT source FROM ohlcv WHERE symbol = $1 AND timestamp BETWEEN $2 AND $3
		                 ORDER BY timestamp DESC LIMIT 1), '')`,
		string(symbol), from, to).QueryRow(func(row pgx.Row) error { return row.Scan(&series.Source) })
	err := db.pool.SendBatch(ctx, batch).Close()
	return series, wrap(fmt.Sprintf("bars of %s", symbol), err)
}

// Corrections implements [store.DB].
func (db *DB) Corrections(ctx context.Context, symbol market.Symbol, limit int) ([]store.Correction, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT symbol, timestamp, field, old_value, new_value, source, at FROM ingest_corrections
		WHERE symbol = $1 ORDER BY id DESC LIMIT $2`, string(symbol), limit)
	corrections, err := collect(rows, err, func(row pgx.CollectableRow) (store.Correction, error) {
		var c store.Correction
		var day time.Time
		var old *float64
		err := row.Scan(&c.Symbol, &day, &c.Field, &old, &c.New, &c.Source, &c.At)
		c.Date, c.At = market.DateOf(day.UTC()), c.At.UTC()
		if old != nil {
			c.Old, c.HadOld = *old, true
		}
		return c, err
	})
	return corrections, wrap(fmt.Sprintf("corrections of %s", symbol), err)
}

// Runs implements [store.DB].
func (db *DB) Runs(ctx context.Context, job string, limit int) ([]store.RunInfo, error) {
	return db.RunsBefore(ctx, job, 0, limit)
}

// RunsBefore implements [store.DB].
func (db *DB) RunsBefore(ctx context.Context, job string, before int64, limit int) ([]store.RunInfo, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT id, job, period, owner, status, started_at, finished_at, report,
		       status = 'running' AND coalesce(leased_until > clock_timestamp(), false)
		FROM ingest_runs
		WHERE ($1 = '' OR job = $1) AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3`, job, before, limit)
	runs, err := collect(rows, err, func(row pgx.CollectableRow) (store.RunInfo, error) {
		var r store.RunInfo
		var finished *time.Time
		err := row.Scan(&r.ID, &r.Job, &r.Period, &r.Owner, &r.Status, &r.Started, &finished, &r.Report, &r.Live)
		r.Started = r.Started.UTC()
		if finished != nil {
			r.Finished = finished.UTC()
		}
		return r, err
	})
	return runs, wrap("runs", err)
}

// Attempts implements [store.DB].
func (db *DB) Attempts(ctx context.Context, symbol market.Symbol, limit int) ([]store.Attempt, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT run_id, job, period, unit, at, outcome, message, rows FROM ingest_attempts
		WHERE $1 = '' OR unit = $1 ORDER BY id DESC LIMIT $2`, string(symbol), limit)
	attempts, err := collect(rows, err, func(row pgx.CollectableRow) (store.Attempt, error) {
		var a store.Attempt
		err := row.Scan(&a.RunID, &a.Job, &a.Period, &a.Symbol, &a.At, &a.Outcome, &a.Message, &a.Rows)
		a.At = a.At.UTC()
		return a, err
	})
	return attempts, wrap("attempts", err)
}

// RunAttempts implements [store.DB].
func (db *DB) RunAttempts(ctx context.Context, run, before int64, limit int) ([]store.RunAttempt, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT id, run_id, job, period, unit, at, outcome, message, rows FROM ingest_attempts
		WHERE run_id = $1 AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3`, run, before, limit)
	attempts, err := collect(rows, err, func(row pgx.CollectableRow) (store.RunAttempt, error) {
		var a store.RunAttempt
		err := row.Scan(&a.ID, &a.RunID, &a.Job, &a.Period, &a.Symbol, &a.At, &a.Outcome, &a.Message, &a.Rows)
		a.At = a.At.UTC()
		return a, err
	})
	return attempts, wrap("attempts of a run", err)
}

// Tried implements [store.DB].
func (db *DB) Tried(ctx context.Context, job, period string, outcomes []string, symbols []market.Symbol) ([]market.Symbol, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT DISTINCT unit FROM ingest_attempts
		WHERE unit = ANY($4::text[]) AND job = $1 AND period = $2 AND outcome = ANY($3::text[]) ORDER BY unit`, job, period, outcomes, symbols)
	tried, err := collect(rows, err, pgx.RowTo[market.Symbol])
	return tried, wrap("attempts in "+period, err)
}

// Summary implements [store.DB].
func (db *DB) Summary(ctx context.Context) (store.Summary, error) {
	var s store.Summary
	var oldest, newest *time.Time
	err := db.pool.QueryRow(ctx, `
		SELECT count(*), coalesce(sum(bars), 0)::int8, min(oldest), max(newest) FROM (
			SELECT count(*) AS bars, min(timestamp) AS oldest, max(timestamp) AS newest FROM ohlcv GROUP BY symbol
		) AS symbols`).Scan(&s.Symbols, &s.Bars, &oldest, &newest)
	if oldest != nil {
		s.Oldest, s.Newest = market.DateOf(oldest.UTC()), market.DateOf(newest.UTC())
	}
	if err != nil || s.Bars == 0 {
		return s, wrap("summary", err)
	}
	rows, err := db.pool.Query(ctx, `SELECT coalesce(source, '')::text, count(*) FROM ohlcv GROUP BY 1`)
	s.Sources = map[string]int64{}
	_, err = collect(rows, err, func(row pgx.CollectableRow) (struct{}, error) {
		var name string
		var bars int64
		err := row.Scan(&name, &bars)
		s.Sources[name] = bars
		return struct{}{}, err
	})
	return s, wrap("summary", err)
}

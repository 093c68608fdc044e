package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/gofrs/flock"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// run implements [store.Run]. The lock file decides who may begin; what an
// owner may write is decided by the status of its run.
type run struct {
	db          *DB
	id          int64
	job, period string
	lock        *flock.Flock
	release     func() error
}

// Begin implements [store.DB].
func (db *DB) Begin(ctx context.Context, job, period, owner string) (store.Run, error) {
	r := &run{db: db, job: job, period: period}
	err := r.begin(ctx, owner)
	if held := (*store.HeldError)(nil); errors.As(err, &held) {
		return nil, held
	}
	if err != nil {
		return nil, fmt.Errorf("begin %s %s: %w", job, period, err)
	}
	r.release = sync.OnceValue(func() error {
		db.mu.Lock()
		delete(db.runs, r)
		db.mu.Unlock()
		return unclaim(r.lock)
	})
	db.mu.Lock()
	db.runs[r] = struct{}{}
	db.mu.Unlock()
	return r, nil
}

func (r *run) begin(ctx context.Context, owner string) error {
	file, err := r.db.lockFile(fmt.Sprintf("%s %s", r.job, r.period))
	if err != nil {
		return err
	}
	if r.lock, err = waitClaim(ctx, file); err != nil {
		return err
	}
	if r.lock == nil {
		return r.held(ctx)
	}
	if err := r.db.tx(ctx, func(tx *sql.Tx) error { return r.open(ctx, tx, owner) }); err != nil {
		return errors.Join(err, unclaim(r.lock))
	}
	return nil
}

// held describes the owner. Between its lock and its run's first row it has
// no name yet.
func (r *run) held(ctx context.Context) error {
	held := &store.HeldError{Job: r.job, Period: r.period, Owner: "another process", Since: r.db.now()}
	var since sql.NullString
	err := r.db.reader.QueryRowContext(ctx, `
		SELECT owner, started_at FROM ingest_runs WHERE job = ? AND period = ? AND status = 'running'`,
		r.job, r.period).Scan(&held.Owner, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return held
	}
	if err != nil {
		return err
	}
	if held.Since, err = parseStamp(since); err != nil {
		return err
	}
	return held
}

// open ends the runs whose owners are gone and inserts the new one.
func (r *run) open(ctx context.Context, tx *sql.Tx, owner string) error {
	now := r.db.stamp()
	_, err := tx.ExecContext(ctx, `
		UPDATE ingest_runs SET status = 'interrupted', finished_at = ?
		WHERE job = ? AND period = ? AND status = 'running'`, now, r.job, r.period)
	if err != nil {
		return err
	}
	return tx.QueryRowContext(ctx, `
		INSERT INTO ingest_runs (job, period, owner, status, started_at) VALUES (?, ?, ?, 'running', ?)
		RETURNING id`, r.job, r.period, owner, now).Scan(&r.id)
}

// ID implements [store.Run].
func (r *run) ID() int64 { return r.id }

// SaveBars implements [store.Run].
func (r *run) SaveBars(ctx context.Context, series market.Series, session market.Date) (market.Changes, error) {
	err := store.Check(series)
	var diff store.Diff
	if err == nil {
		err = r.db.tx(ctx, func(tx *sql.Tx) (err error) {
			diff, err = r.saveBars(ctx, tx, series, session)
			return err
		})
	}
	if err != nil {
		return market.Changes{}, fmt.Errorf("save bars of %s: %w", series.Symbol, err)
	}
	return diff.Changes(), nil
}

func (r *run) saveBars(ctx context.Context, tx *sql.Tx, series market.Series, session market.Date) (store.Diff, error) {
	bars := series.Bars
	if err := r.guard(ctx, tx); err != nil {
		return store.Diff{}, err
	}
	stored, err := barsIn(ctx, tx, series.Symbol, market.Range{From: bars[0].Date, To: bars[len(bars)-1].Date})
	if err != nil {
		return store.Diff{}, err
	}
	diff := store.Compare(stored, bars)
	if err := insertBars(ctx, tx, series, diff.New); err != nil {
		return store.Diff{}, err
	}
	if err := updateBars(ctx, tx, series, diff.Changed); err != nil {
		return store.Diff{}, err
	}
	if err := insertCorrections(ctx, tx, series, r.id, r.db.stamp(), diff.Corrections); err != nil {
		return store.Diff{}, err
	}
	if session.IsZero() {
		return diff, nil
	}
	return diff, r.saveLedger(ctx, tx, series, session, diff.Changes().Written())
}

func (r *run) guard(ctx context.Context, tx *sql.Tx) error {
	var running bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ingest_runs WHERE id = ? AND status = 'running')`, r.id).Scan(&running)
	if err == nil && !running {
		return store.ErrFenced
	}
	return err
}

func (r *run) saveLedger(ctx context.Context, tx *sql.Tx, series market.Series, session market.Date, written int) error {
	outcome := store.Unchanged
	if written > 0 {
		outcome = store.Stored
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_items (job, period, unit, run_id, outcome, rows, source, done_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (job, period, unit) DO UPDATE
		SET run_id = excluded.run_id, outcome = excluded.outcome, rows = excluded.rows, source = excluded.source, done_at = excluded.done_at
		WHERE excluded.outcome = 'stored'`,
		r.job, r.period, string(series.Symbol), r.id, outcome, written, series.Source, r.db.stamp())
	if err != nil {
		return err
	}
	if err := r.raise(ctx, tx, series.Symbol, session); err != nil {
		return err
	}
	return r.attempt(ctx, tx, series.Symbol, outcome, "", written)
}

// raise raises the watermark to session; a zero session leaves it.
func (r *run) raise(ctx context.Context, tx *sql.Tx, unit market.Symbol, session market.Date) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_watermarks (job, unit, through, tried, updated_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (job, unit) DO UPDATE
		SET through = max(coalesce(through, excluded.through), coalesce(excluded.through, through)),
		    tried = max(tried, excluded.tried), updated_at = excluded.updated_at
		WHERE excluded.tried > tried OR (excluded.through IS NOT NULL AND (through IS NULL OR excluded.through > through))`,
		r.job, string(unit), dateText(session), r.period, r.db.stamp())
	return err
}

func (r *run) attempt(ctx context.Context, tx *sql.Tx, unit market.Symbol, outcome, message string, rows int) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_attempts (run_id, job, period, unit, at, outcome, message, rows) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		r.id, r.job, r.period, string(unit), r.db.stamp(), outcome, store.Text(message), rows)
	return err
}

// SaveAttempt implements [store.Run].
func (r *run) SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error {
	err := r.db.tx(ctx, func(tx *sql.Tx) error {
		if err := r.guard(ctx, tx); err != nil {
			return err
		}
		if err := r.raise(ctx, tx, symbol, 0); err != nil {
			return err
		}
		return r.attempt(ctx, tx, symbol, outcome, message, 0)
	})
	return wrap(fmt.Sprintf("save attempt at %s", symbol), err)
}

// End implements [store.Run]. The period is given free even if the row cannot
// be written; the next claim then marks the run as interrupted.
func (r *run) End(ctx context.Context, status string, report []byte) error {
	err := r.db.tx(ctx, func(tx *sql.Tx) error {
		if err := r.guard(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE ingest_runs SET status = ?, finished_at = ?, report = ? WHERE id = ?`,
			status, r.db.stamp(), sql.NullString{String: string(report), Valid: len(report) > 0}, r.id)
		return err
	})
	return errors.Join(wrap(fmt.Sprintf("end %s %s", r.job, r.period), err), r.release())
}

// Release implements [store.Run].
func (r *run) Release() error { return r.release() }

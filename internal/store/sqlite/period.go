package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/alpha-oracle/worker/internal/store"
)

// Periods implements [store.DB].
func (db *DB) Periods(ctx context.Context, job string, limit int) ([]store.PeriodInfo, error) {
	periods, err := list(ctx, db, func(rows *sql.Rows) (store.PeriodInfo, error) {
		var p store.PeriodInfo
		var tick, noted sql.NullString
		err := rows.Scan(&p.Job, &p.Period, &p.State, &p.Reason, &tick, &noted, &p.RunID)
		if err == nil {
			p.Tick, err = parseStamp(tick)
		}
		if err == nil {
			p.Noted, err = parseStamp(noted)
		}
		return p, err
	}, `
		SELECT job, period, state, reason, tick_at, noted_at, coalesce(run_id, 0) FROM ingest_periods
		WHERE ?1 = '' OR job = ?1 ORDER BY tick_at DESC NULLS LAST, noted_at DESC, job, period DESC LIMIT ?2`, job, limit)
	return periods, wrap("periods", err)
}

// NotePeriod implements [store.DB].
func (db *DB) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	return db.note(ctx, p, func(context.Context, *sql.Tx) error { return nil })
}

// NotePeriod implements [store.Run].
func (r *run) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	if p.Job == "" && p.Period == "" {
		p.Job, p.Period = r.job, r.period
	}
	p.RunID = r.id
	return r.db.note(ctx, p, r.guard)
}

// note writes the note, where guard allows it, unless the journal has a final
// state already.
func (db *DB) note(ctx context.Context, p store.PeriodInfo, guard func(context.Context, *sql.Tx) error) (noted bool, err error) {
	if err := store.CheckPeriod(p); err != nil {
		return false, fmt.Errorf("note period: %w", err)
	}
	var tick any
	if !p.Tick.IsZero() {
		tick = stampOf(p.Tick)
	}
	err = db.tx(ctx, func(tx *sql.Tx) error {
		if err := guard(ctx, tx); err != nil {
			return err
		}
		var one int
		err := tx.QueryRowContext(ctx, `
			INSERT INTO ingest_periods AS p (job, period, state, reason, tick_at, noted_at, run_id) VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0))
			ON CONFLICT (job, period) DO UPDATE
			SET state = excluded.state, reason = CASE WHEN excluded.state = 'running' AND excluded.reason = '' THEN p.reason ELSE excluded.reason END, tick_at = coalesce(excluded.tick_at, p.tick_at),
			    noted_at = excluded.noted_at, run_id = coalesce(excluded.run_id, p.run_id)
			WHERE p.state IN ('running', 'incomplete') OR excluded.state = 'complete' AND p.state IN ('missed', 'gave_up')
			RETURNING 1`,
			p.Job, p.Period, p.State, store.Text(p.Reason), tick, db.stamp(), p.RunID).Scan(&one)
		noted = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return err == nil && noted, wrap(fmt.Sprintf("note period %s %s", p.Job, p.Period), err)
}

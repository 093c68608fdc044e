package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/store"
)

// Periods implements [store.DB].
func (db *DB) Periods(ctx context.Context, job string, limit int) ([]store.PeriodInfo, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT job, period, state, reason, tick_at, noted_at, coalesce(run_id, 0) FROM ingest_periods
		WHERE $1 = '' OR job = $1 ORDER BY tick_at DESC NULLS LAST, noted_at DESC, job, period DESC LIMIT $2`, job, limit)
	periods, err := collect(rows, err, func(row pgx.CollectableRow) (store.PeriodInfo, error) {
		var p store.PeriodInfo
		var tick *time.Time
		err := row.Scan(&p.Job, &p.Period, &p.State, &p.Reason, &tick, &p.Noted, &p.RunID)
		p.Noted = p.Noted.UTC()
		if tick != nil {
			p.Tick = tick.UTC()
		}
		return p, err
	})
	return periods, wrap("periods", err)
}

// noteSQL writes the note unless the journal has a final state already. The
// owner's row is locked against being taken over; without an owner, whose id is
// then 0, anybody may note. A try whose reply was lost ($8) may have written the
// same.
const noteSQL = `
	WITH owner AS (SELECT id FROM ingest_runs WHERE id = $7 AND status = 'running' FOR KEY SHARE),
	noted AS (
		INSERT INTO ingest_periods AS p (job, period, state, reason, tick_at, run_id)
		SELECT $1, $2, $3, $4, $5::timestamptz, nullif($6::bigint, 0)
		WHERE $7::bigint = 0 OR EXISTS (SELECT FROM owner)
		ON CONFLICT (job, period) DO UPDATE
		SET state = EXCLUDED.state, reason = CASE WHEN EXCLUDED.state = 'running' AND EXCLUDED.reason = '' THEN p.reason ELSE EXCLUDED.reason END, tick_at = coalesce(EXCLUDED.tick_at, p.tick_at),
		    noted_at = now(), run_id = coalesce(EXCLUDED.run_id, p.run_id)
		WHERE p.state IN ('running', 'incomplete') OR EXCLUDED.state = 'complete' AND p.state IN ('missed', 'gave_up')
		   OR $8 AND p.state = EXCLUDED.state AND EXCLUDED.reason IN (p.reason, '')
		      AND p.run_id IS NOT DISTINCT FROM coalesce(EXCLUDED.run_id, p.run_id)
		RETURNING 1
	)
	SELECT $7::bigint = 0 OR EXISTS (SELECT FROM owner), EXISTS (SELECT FROM noted)`

// NotePeriod implements [store.DB].
func (db *DB) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	return db.note(ctx, p, 0)
}

// NotePeriod implements [store.Run].
func (r *run) NotePeriod(ctx context.Context, p store.PeriodInfo) (bool, error) {
	if p.Job == "" && p.Period == "" {
		p.Job, p.Period = r.job, r.period
	}
	p.RunID = r.ID()
	noted, err := r.db.note(ctx, p, r.ID())
	if errors.Is(err, store.ErrFenced) {
		r.tenure.Lose()
	}
	return noted, err
}

func (db *DB) note(ctx context.Context, p store.PeriodInfo, owner int64) (noted bool, err error) {
	if err := store.CheckPeriod(p); err != nil {
		return false, fmt.Errorf("note period: %w", err)
	}
	var tick *time.Time
	if !p.Tick.IsZero() {
		tick = &p.Tick
	}
	tries := 0
	err = db.retry(ctx, bounded(func(ctx context.Context) error {
		tries++
		var owns bool
		err := db.pool.QueryRow(ctx, noteSQL, p.Job, p.Period, p.State, store.Text(p.Reason), tick, p.RunID, owner, tries > 1).Scan(&owns, &noted)
		if err == nil && !owns {
			return store.ErrFenced
		}
		return err
	}))
	return err == nil && noted, wrap(fmt.Sprintf("note period %s %s", p.Job, p.Period), err)
}

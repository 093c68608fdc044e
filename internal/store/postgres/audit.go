package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/store"
)

// KillSwitch implements [store.DB].
func (db *DB) KillSwitch(ctx context.Context) (store.KillSwitch, error) {
	state, _, err := readKillSwitch(ctx, db.pool)
	return state, wrap("kill switch", err)
}

// rowQueryer is a pool or a transaction.
type rowQueryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// killSwitchSQL is one statement, so that the row and the pending change are of
// one moment. The times of an adopted table may have no zone.
const killSwitchSQL = `
	SELECT coalesce(k.active, false), k.activated_at::timestamptz, k.deactivated_at::timestamptz, coalesce(k.reason, '')::text,
	       coalesce(p.id, 0), p.at, coalesce(p.actor, ''), coalesce(p.action, ''), coalesce(p.detail, ''), coalesce(p.origin, ''),
	       clock_timestamp()
	FROM (SELECT) one
	LEFT JOIN (SELECT * FROM kill_switch ORDER BY active DESC, id DESC LIMIT 1) k ON true
	LEFT JOIN (SELECT * FROM ingest_audit WHERE pending AND action IN ($1, $2) ORDER BY id DESC LIMIT 1) p ON true`

// readKillSwitch also returns the server's time.
func readKillSwitch(ctx context.Context, q rowQueryer) (s store.KillSwitch, now time.Time, err error) {
	var p store.AuditEntry
	var since, until, at *time.Time
	err = q.QueryRow(ctx, killSwitchSQL, store.ActivateKillSwitch, store.DeactivateKillSwitch).
		Scan(&s.Active, &since, &until, &s.Reason, &p.ID, &at, &p.Actor, &p.Action, &p.Detail, &p.Origin, &now)
	s.Activated, s.Deactivated, p.At = utc(since), utc(until), utc(at)
	if p.ID != 0 {
		s.Pending = &p
	}
	return s, now, err
}

// utc returns the time, the zero one for NULL.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// ChangeKillSwitch implements [store.DB].
func (db *DB) ChangeKillSwitch(ctx context.Context, c store.KillSwitchChange) (state store.KillSwitch, changed bool, err error) {
	if err := c.Check(); err != nil {
		return store.KillSwitch{}, false, err
	}
	err = db.retry(ctx, bounded(func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			state, changed, err = changeKillSwitch(ctx, tx, c)
			return err
		})
	}))
	if err != nil {
		return store.KillSwitch{}, false, fmt.Errorf("change kill switch: %w", err)
	}
	return state, changed, nil
}

// changeKillSwitch locks the rows against other programs, and the switch as a
// whole against other workers, who may find no row to lock.
func changeKillSwitch(ctx context.Context, tx pgx.Tx, c store.KillSwitchChange) (state store.KillSwitch, changed bool, err error) {
	lock := &pgx.Batch{}
	lock.Queue(`SELECT pg_advisory_xact_lock('kill_switch'::regclass::oid::int, 0)`)
	lock.Queue(`SELECT FROM kill_switch FOR UPDATE`)
	if err := tx.SendBatch(ctx, lock).Close(); err != nil {
		return state, false, err
	}
	state, now, err := readKillSwitch(ctx, tx)
	if err == nil {
		err = c.Cooled(state, now)
	}
	if err != nil {
		return state, false, err
	}
	changed = state.Active != c.Active
	batch := &pgx.Batch{}
	if changed {
		queueSwitch(batch, c)
	}
	queueAudit(batch, c.Entry(), changed)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return state, false, err
	}
	state, _, err = readKillSwitch(ctx, tx)
	return state, changed, err
}

func queueSwitch(batch *pgx.Batch, c store.KillSwitchChange) {
	if !c.Active {
		batch.Queue(`UPDATE kill_switch SET active = false, deactivated_at = clock_timestamp() WHERE active`)
		return
	}
	var since *time.Time
	if !c.Since.IsZero() {
		since = &c.Since
	}
	batch.Queue(`INSERT INTO kill_switch (id, active) SELECT 1, false WHERE NOT EXISTS (SELECT FROM kill_switch) ON CONFLICT DO NOTHING`)
	batch.Queue(`
		UPDATE kill_switch SET active = true, activated_at = coalesce($1::timestamptz, clock_timestamp()), reason = $2, deactivated_at = NULL
		WHERE id = (SELECT id FROM kill_switch ORDER BY id DESC LIMIT 1)`, since, store.Text(c.Reason))
}

func queueAudit(batch *pgx.Batch, e store.AuditEntry, pending bool) {
	batch.Queue(`INSERT INTO ingest_audit (at, actor, action, detail, origin, pending) VALUES (clock_timestamp(), $1, $2, $3, $4, $5)`,
		store.Text(e.Actor), store.Text(e.Action), store.Text(e.Detail), store.Text(e.Origin), pending)
}

// KillSwitchCopied implements [store.DB].
func (db *DB) KillSwitchCopied(ctx context.Context, id int64) error {
	return wrap("note that the kill switch is copied", db.retry(ctx, bounded(func(ctx context.Context) error {
		_, err := db.pool.Exec(ctx, `UPDATE ingest_audit SET pending = false WHERE pending AND id <= $1 AND action IN ($2, $3)`,
			id, store.ActivateKillSwitch, store.DeactivateKillSwitch)
		return err
	})))
}

// SaveAudit implements [store.DB]. After a lost reply it may write the row twice.
func (db *DB) SaveAudit(ctx context.Context, e store.AuditEntry) error {
	if err := store.CheckAudit(e); err != nil {
		return err
	}
	return wrap("save audit", db.retry(ctx, bounded(func(ctx context.Context) error {
		batch := &pgx.Batch{}
		queueAudit(batch, e, false)
		return db.pool.SendBatch(ctx, batch).Close()
	})))
}

// Audit implements [store.DB].
func (db *DB) Audit(ctx context.Context, action string, limit int) ([]store.AuditEntry, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT id, at, actor, action, detail, origin FROM ingest_audit
		WHERE $1 = '' OR action = $1 ORDER BY id DESC LIMIT $2`, action, limit)
	entries, err := collect(rows, err, func(row pgx.CollectableRow) (store.AuditEntry, error) {
		var e store.AuditEntry
		err := row.Scan(&e.ID, &e.At, &e.Actor, &e.Action, &e.Detail, &e.Origin)
		e.At = e.At.UTC()
		return e, err
	})
	return entries, wrap("audit", err)
}

// ForgetDone implements [store.DB].
func (db *DB) ForgetDone(ctx context.Context) error {
	return wrap("forget what is done", db.retry(ctx, bounded(func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue(`DELETE FROM ingest_items`)
			batch.Queue(`DELETE FROM ingest_coverage WHERE kind = 'answered'`)
			batch.Queue(`DELETE FROM ingest_watermarks WHERE job = $1`, store.AltDataJob)
			return tx.SendBatch(ctx, batch).Close()
		})
	})))
}

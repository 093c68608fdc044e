package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/alpha-oracle/worker/internal/store"
)

// rowQueryer is a database or a transaction.
type rowQueryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// KillSwitch implements [store.DB].
func (db *DB) KillSwitch(ctx context.Context) (store.KillSwitch, error) {
	state, err := readKillSwitch(ctx, db.reader)
	return state, wrap("kill switch", err)
}

// killSwitchSQL is one statement, so that the row and the pending change are of
// one moment.
const killSwitchSQL = `
	SELECT k.active, k.activated_at, k.deactivated_at, coalesce(k.reason, ''),
	       coalesce(p.id, 0), p.at, coalesce(p.actor, ''), coalesce(p.action, ''), coalesce(p.detail, ''), coalesce(p.origin, '')
	FROM (SELECT 1)
	LEFT JOIN (SELECT * FROM kill_switch ORDER BY active DESC, id DESC LIMIT 1) k
	LEFT JOIN (SELECT * FROM ingest_audit WHERE pending AND action IN (?, ?) ORDER BY id DESC LIMIT 1) p`

func readKillSwitch(ctx context.Context, q rowQueryer) (store.KillSwitch, error) {
	var (
		s                store.KillSwitch
		p                store.AuditEntry
		active           sql.NullBool
		since, until, at sql.NullString
	)
	err := q.QueryRowContext(ctx, killSwitchSQL, store.ActivateKillSwitch, store.DeactivateKillSwitch).
		Scan(&active, &since, &until, &s.Reason, &p.ID, &at, &p.Actor, &p.Action, &p.Detail, &p.Origin)
	if err != nil {
		return s, err
	}
	s.Active = active.Bool
	var wrong [3]error
	s.Activated, wrong[0] = parseStamp(since)
	s.Deactivated, wrong[1] = parseStamp(until)
	p.At, wrong[2] = parseStamp(at)
	if p.ID != 0 {
		s.Pending = &p
	}
	return s, errors.Join(wrong[:]...)
}

// ChangeKillSwitch implements [store.DB].
func (db *DB) ChangeKillSwitch(ctx context.Context, c store.KillSwitchChange) (state store.KillSwitch, changed bool, err error) {
	if err := c.Check(); err != nil {
		return store.KillSwitch{}, false, err
	}
	err = db.tx(ctx, func(tx *sql.Tx) error {
		if state, err = readKillSwitch(ctx, tx); err != nil {
			return err
		}
		if err := c.Cooled(state, db.now()); err != nil {
			return err
		}
		changed = state.Active != c.Active
		if changed {
			err = db.switchTo(ctx, tx, c)
		}
		if err == nil {
			err = db.audit(ctx, tx, c.Entry(), changed)
		}
		if err == nil {
			state, err = readKillSwitch(ctx, tx)
		}
		return err
	})
	if err != nil {
		return store.KillSwitch{}, false, fmt.Errorf("change kill switch: %w", err)
	}
	return state, changed, nil
}

func (db *DB) switchTo(ctx context.Context, tx *sql.Tx, c store.KillSwitchChange) error {
	if !c.Active {
		_, err := tx.ExecContext(ctx, `UPDATE kill_switch SET active = 0, deactivated_at = ? WHERE active`, db.stamp())
		return err
	}
	since := db.stamp()
	if !c.Since.IsZero() {
		since = stampOf(c.Since)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO kill_switch (id) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM kill_switch)`); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE kill_switch SET active = 1, activated_at = ?, reason = ?, deactivated_at = NULL
		WHERE id = (SELECT max(id) FROM kill_switch)`, since, store.Text(c.Reason))
	return err
}

func (db *DB) audit(ctx context.Context, tx *sql.Tx, e store.AuditEntry, pending bool) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO ingest_audit (at, actor, action, detail, origin, pending) VALUES (?, ?, ?, ?, ?, ?)`,
		db.stamp(), store.Text(e.Actor), store.Text(e.Action), store.Text(e.Detail), store.Text(e.Origin), pending)
	return err
}

// KillSwitchCopied implements [store.DB].
func (db *DB) KillSwitchCopied(ctx context.Context, id int64) error {
	return wrap("note that the kill switch is copied", db.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE ingest_audit SET pending = 0 WHERE pending AND id <= ? AND action IN (?, ?)`,
			id, store.ActivateKillSwitch, store.DeactivateKillSwitch)
		return err
	}))
}

// SaveAudit implements [store.DB].
func (db *DB) SaveAudit(ctx context.Context, e store.AuditEntry) error {
	if err := store.CheckAudit(e); err != nil {
		return err
	}
	return wrap("save audit", db.tx(ctx, func(tx *sql.Tx) error { return db.audit(ctx, tx, e, false) }))
}

// Audit implements [store.DB].
func (db *DB) Audit(ctx context.Context, action string, limit int) ([]store.AuditEntry, error) {
	entries, err := list(ctx, db, func(rows *sql.Rows) (store.AuditEntry, error) {
		var e store.AuditEntry
		var at sql.NullString
		err := rows.Scan(&e.ID, &at, &e.Actor, &e.Action, &e.Detail, &e.Origin)
		if err == nil {
			e.At, err = parseStamp(at)
		}
		return e, err
	}, `SELECT id, at, actor, action, detail, origin FROM ingest_audit WHERE ?1 = '' OR action = ?1 ORDER BY id DESC LIMIT ?2`, action, limit)
	return entries, wrap("audit", err)
}

// ForgetDone implements [store.DB].
func (db *DB) ForgetDone(ctx context.Context) error {
	return wrap("forget what is done", db.tx(ctx, func(tx *sql.Tx) error {
		for _, statement := range []string{
			`DELETE FROM ingest_items`,
			`DELETE FROM ingest_coverage WHERE kind = 'answered'`,
			`DELETE FROM ingest_watermarks WHERE job = '` + store.AltDataJob + `'`,
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}))
}

package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// writing is what the role of the running worker may do where rights names
// nothing else.
const writing = "SELECT, INSERT, UPDATE"

// rights are the privileges of the running worker on tables where they are not
// [writing]. Bars, figures and facts are never deleted.
func rights() map[string]string {
	return map[string]string{
		"filings":              "",
		"ingest_schema":        "SELECT",
		"ingest_audit":         "SELECT, INSERT, UPDATE (pending)",
		"ingest_calls":         writing + ", DELETE",
		"ingest_coverage":      writing + ", DELETE",
		"ingest_items":         writing + ", DELETE",
		"ingest_watermarks":    writing + ", DELETE",
		"insider_owners":       writing + ", DELETE",
		"insider_transactions": writing + ", DELETE",
	}
}

// tablesSQL finds our tables, and with each the sequences of its columns: those of
// identity columns need no privilege by themselves, but the store draws numbers
// from them.
const tablesSQL = `
	SELECT c.relname, coalesce((
		SELECT array_agg(s.relname) FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
		WHERE d.refobjid = c.oid AND d.deptype IN ('a', 'i')), '{}')
	FROM pg_class c
	WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
	  AND (c.relname LIKE 'ingest\_%' OR c.relname IN ('ohlcv', 'fundamentals', 'kill_switch', 'filings',
	       'insider_transactions', 'insider_filings', 'insider_owners', 'short_interest', 'fundamental_facts'))
	ORDER BY 1`

// Grant gives the role run what a running worker needs of the tables, and the
// role read the right to read them, and takes every other privilege on them
// from the two. "" is no role. It needs the owner of the tables, and is to be
// called after every migration.
func (db *DB) Grant(ctx context.Context, run, read string) error {
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, tablesSQL)
		tables, err := collect(rows, err, func(row pgx.CollectableRow) (t granted, err error) {
			return t, row.Scan(&t.name, &t.sequences)
		})
		if err != nil {
			return err
		}
		for _, t := range tables {
			statements := append(t.statements(run, t.rights(), "USAGE"), t.statements(read, "SELECT", "")...)
			for _, statement := range statements {
				if _, err := tx.Exec(ctx, statement); err != nil {
					return fmt.Errorf("%s: %w", statement, err)
				}
			}
		}
		return nil
	})
	return wrap("grant privileges", err)
}

// granted is a table and its sequences.
type granted struct {
	name      string
	sequences []string
}

func (t granted) rights() string {
	if own, ok := rights()[t.name]; ok {
		return own
	}
	return writing
}

// statements make the privileges of a role on a table and on its sequences
// those that are given.
func (t granted) statements(role, onTable, onSequences string) []string {
	if role == "" {
		return nil
	}
	all := set("TABLE", t.name, role, onTable)
	if !strings.Contains(onTable, "INSERT") {
		onSequences = ""
	}
	for _, sequence := range t.sequences {
		all = append(all, set("SEQUENCE", sequence, role, onSequences)...)
	}
	return all
}

func set(kind, name, role, privileges string) []string {
	object, to := pgx.Identifier{name}.Sanitize(), pgx.Identifier{role}.Sanitize()
	all := []string{"REVOKE ALL ON " + kind + " " + object + " FROM " + to}
	if privileges != "" {
		all = append(all, "GRANT "+privileges+" ON "+kind+" "+object+" TO "+to)
	}
	return all
}

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// Universe implements [store.DB].
func (db *DB) Universe(ctx context.Context, name string) (symbols []market.Symbol, at time.Time, err error) {
	_, err = list(ctx, db, func(rows *sql.Rows) (struct{}, error) {
		var symbol market.Symbol
		var added string
		var removed sql.NullString
		if err := rows.Scan(&symbol, &added, &removed); err != nil {
			return struct{}{}, err
		}
		if !removed.Valid {
			symbols = append(symbols, symbol)
		}
		changed, err := parseStamp(sql.NullString{String: max(added, removed.String), Valid: true})
		if changed.After(at) {
			at = changed
		}
		return struct{}{}, err
	}, `SELECT symbol, added_at, removed_at FROM ingest_universe WHERE name = ? ORDER BY symbol`, name)
	if err != nil {
		return nil, time.Time{}, wrap("universe "+name, err)
	}
	return symbols, at, nil
}

// SaveUniverse implements [store.DB].
func (db *DB) SaveUniverse(ctx context.Context, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error) {
	if symbols, err = store.CheckUniverse(name, symbols); err == nil {
		err = db.tx(ctx, func(tx *sql.Tx) (err error) {
			added, removed, err = db.saveUniverse(ctx, tx, name, symbols)
			return err
		})
	}
	if err != nil {
		return nil, nil, wrap("save universe "+name, err)
	}
	return added, removed, nil
}

func (db *DB) saveUniverse(ctx context.Context, tx *sql.Tx, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error) {
	members, err := listIn(ctx, tx, func(rows *sql.Rows) (symbol market.Symbol, err error) {
		err = rows.Scan(&symbol)
		return symbol, err
	}, `SELECT symbol FROM ingest_universe WHERE name = ? AND removed_at IS NULL ORDER BY symbol`, name)
	if err != nil {
		return nil, nil, err
	}
	added, removed = store.Without(symbols, members), store.Without(members, symbols)
	now := db.stamp()
	for _, symbol := range removed {
		_, err := tx.ExecContext(ctx, `UPDATE ingest_universe SET removed_at = ? WHERE name = ? AND symbol = ?`, now, name, string(symbol))
		if err != nil {
			return nil, nil, err
		}
	}
	return added, removed, insertion{
		head:  `INSERT INTO ingest_universe (name, added_at, symbol) VALUES `,
		row:   `(?1, ?2, ?)`,
		tail:  ` ON CONFLICT (name, symbol) DO UPDATE SET added_at = excluded.added_at, removed_at = NULL`,
		first: []any{name, now},
		args:  func(args []any, i int) []any { return append(args, string(added[i])) },
	}.run(ctx, tx, len(added))
}

package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// Universe implements [store.DB].
func (db *DB) Universe(ctx context.Context, name string) (symbols []market.Symbol, at time.Time, err error) {
	var changed *time.Time
	err = db.pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(symbol ORDER BY symbol) FILTER (WHERE removed_at IS NULL), '{}'), max(greatest(added_at, removed_at))
		FROM ingest_universe WHERE name = $1`, name).Scan(&symbols, &changed)
	if err != nil || changed == nil {
		return nil, time.Time{}, wrap("universe "+name, err)
	}
	return symbols, changed.UTC(), nil
}

const (
	removeSQL = `
	UPDATE ingest_universe SET removed_at = clock_timestamp()
	WHERE name = $1 AND removed_at IS NULL AND symbol <> ALL ($2)
	RETURNING symbol`

	addSQL = `
	INSERT INTO ingest_universe AS m (name, symbol, added_at)
	SELECT $1, u.symbol, clock_timestamp() FROM unnest($2::text[]) AS u (symbol)
	WHERE NOT EXISTS (SELECT FROM ingest_universe k WHERE k.name = $1 AND k.symbol = u.symbol AND k.removed_at IS NULL)
	ON CONFLICT (name, symbol) DO UPDATE SET added_at = EXCLUDED.added_at, removed_at = NULL
	RETURNING symbol`
)

// SaveUniverse implements [store.DB]. Lists of one name take turns, so that the
// members are always those of one of them.
func (db *DB) SaveUniverse(ctx context.Context, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error) {
	if symbols, err = store.CheckUniverse(name, symbols); err != nil {
		return nil, nil, wrap("save universe "+name, err)
	}
	err = db.retry(ctx, bounded(func(ctx context.Context) error {
		come, gone, err := db.saveUniverse(ctx, name, symbols)
		if len(come) > 0 || len(gone) > 0 { // or a COMMIT before has done it, whose reply was lost
			added, removed = come, gone
		}
		return err
	}))
	if err != nil {
		return nil, nil, wrap("save universe "+name, err)
	}
	return added, removed, nil
}

func (db *DB) saveUniverse(ctx context.Context, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error) {
	into := func(to *[]market.Symbol) func(pgx.Rows) error {
		return func(rows pgx.Rows) (err error) {
			*to, err = pgx.CollectRows(rows, pgx.RowTo[market.Symbol])
			slices.Sort(*to)
			return err
		}
	}
	batch := &pgx.Batch{}
	queueTurn(batch, "ingest_universe "+name)
	batch.Queue(removeSQL, name, names(symbols)).Query(into(&removed))
	batch.Queue(addSQL, name, names(symbols)).Query(into(&added))
	batch.Queue(`COMMIT`)
	err = db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		err := conn.SendBatch(ctx, batch).Close()
		if err != nil && conn.Conn().PgConn().TxStatus() != 'I' {
			_, _ = conn.Exec(ctx, `ROLLBACK`)
		}
		return err
	})
	return added, removed, err
}

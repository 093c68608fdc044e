package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable holds the numbers of the migrations that were applied.
const versionTable = "ingest_schema"

// Migrate implements [store.DB]. Processes that start at once wait for each
// other.
func (db *DB) Migrate(ctx context.Context) error {
	err := db.retry(ctx, func(ctx context.Context) error {
		if err := db.up(ctx); err != nil {
			return err
		}
		return db.useTimescale(ctx)
	})
	if err != nil {
		return fmt.Errorf("migrate %s: %w", db.Where(), err)
	}
	return nil
}

func (db *DB) up(ctx context.Context) (err error) {
	// goose has one second as its shortest period.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	p, err := db.provider(goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	_, err = p.Up(ctx)
	return err
}

func (db *DB) provider(more ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	options := append(more, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	return goose.NewProvider(goose.DialectPostgres, stdlib.OpenDBFromPool(db.pool), files, options...)
}

// SchemaVersion implements [store.DB]. It changes nothing.
func (db *DB) SchemaVersion(ctx context.Context) (have, want int64, err error) {
	p, err := db.provider()
	if err != nil {
		return 0, 0, fmt.Errorf("schema version: %w", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	for _, source := range p.ListSources() {
		want = max(want, source.Version)
	}
	var exists bool
	if err := db.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&exists); err != nil || !exists {
		return 0, want, wrap("schema version", err)
	}
	err = db.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&have)
	return have, want, wrap("schema version", err)
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

// useTimescale turns ohlcv into a hypertable where TimescaleDB is installed in
// this database and the table is still empty: a filled one would be locked and
// copied, which is its owner's decision. Chunks of a year keep the twenty
// years of a symbol in about twenty chunks; the default of a week would touch
// a thousand. Not run against a real TimescaleDB.
func (db *DB) useTimescale(ctx context.Context) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// One replica at a time: the others then find the hypertable.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended(coalesce(current_schema(), '') || 'ingest_schema', 0))`); err != nil {
			return err
		}
		return makeHypertable(ctx, tx)
	})
}

func makeHypertable(ctx context.Context, tx pgx.Tx) error {
	var installed, hyper, filled bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'), EXISTS (SELECT FROM ohlcv)`).Scan(&installed, &filled)
	if err != nil || !installed || filled {
		return wrap("look for timescaledb", err)
	}
	err = tx.QueryRow(ctx, `SELECT EXISTS (
		SELECT FROM timescaledb_information.hypertables
		WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = 'ohlcv'::regclass)`).Scan(&hyper)
	if err != nil || hyper {
		return wrap("look for the hypertable", err)
	}
	_, err = tx.Exec(ctx, `SELECT create_hypertable('ohlcv', 'timestamp', chunk_time_interval => INTERVAL '1 year', if_not_exists => true)`, pgx.QueryExecModeExec)
	return wrap("create the hypertable", err)
}

package sqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable holds the numbers of the migrations that were applied.
const versionTable = "ingest_schema"

// Migrate implements [store.DB]. Processes that start at once wait for each
// other.
func (db *DB) Migrate(ctx context.Context) error {
	err := db.exclusively(ctx, "migrate", func(ctx context.Context) error {
		p, err := db.provider()
		if err != nil {
			return err
		}
		_, err = p.Up(ctx)
		return err
	})
	return wrap("migrate "+db.Where(), err)
}

// provider is never closed: that would close the writer.
func (db *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db.writer, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
}

// SchemaVersion implements [store.DB]. It changes nothing.
func (db *DB) SchemaVersion(ctx context.Context) (have, want int64, err error) {
	p, err := db.provider()
	if err != nil {
		return 0, 0, fmt.Errorf("schema version: %w", err)
	}
	for _, source := range p.ListSources() {
		want = max(want, source.Version)
	}
	var tables int
	err = db.reader.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = ?`, versionTable).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, want, wrap("schema version", err)
	}
	err = db.reader.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&have)
	return have, want, wrap("schema version", err)
}

// Package sqlite is the store in one file, for a machine without a database
// server. The tables and columns have the names that they have on Postgres.
//
// Several processes may use the file at once; one writes at a time and the
// others wait. It must be on a local disk: SQLite's locks do not hold on a
// network share.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/alpha-oracle/worker/internal/store"
)

// Options are the settings of a [DB]; the zero value is good.
type Options struct {
	// Patience is how long a write waits for another process to end its
	// own; 0 is 30 seconds.
	Patience time.Duration
	// Now is the clock of all times that are written; nil is [time.Now].
	Now func() time.Time
	// Lease is that of the runs that are begun.
	Lease store.Lease
}

// readers is the number of connections that read beside the one that writes.
const readers = 4

// DB is a [store.DB] in one SQLite file.
type DB struct {
	path   string
	writer *sql.DB
	reader *sql.DB
	now    func() time.Time
	lease  store.Lease

	mu   sync.Mutex
	runs map[*run]struct{}
}

var _ store.DB = (*DB)(nil)

// Open opens the file at path, or makes it, with its folder, if there is none.
// The tables are left to [DB.Migrate]. Beside the file SQLite keeps two of its
// own while it is in use, and the folder path-locks holds one lock file for
// each run that is claimed.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	lease, err := o.Lease.WithDefaults()
	if err == nil {
		path, err = resolve(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open database file: %w", err)
	}
	db := &DB{path: path, now: o.Now, lease: lease, runs: map[*run]struct{}{}}
	if err := db.connect(ctx, o.Patience); err != nil {
		return nil, errors.Join(fmt.Errorf("open database file %s: %w", path, err), db.Close())
	}
	return db, nil
}

// resolve makes the folders and returns the one path that all handles on the
// file agree on, since the lock files are found by it.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

func (db *DB) connect(ctx context.Context, patience time.Duration) (err error) {
	settings := url.Values{
		"_busy_timeout": {strconv.FormatInt(patience.Milliseconds(), 10)},
		"_journal_mode": {"WAL"},
		// What is committed outlives a power cut: a call that was written
		// down and is forgotten would be made once more on the same day.
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"on"},
		// A transaction that begins by reading could not wait for a writer.
		"_txlock": {"immediate"},
	}
	if db.writer, err = sql.Open("sqlite", db.source(settings)); err != nil {
		return err
	}
	db.writer.SetMaxOpenConns(1)
	if err := db.exclusively(ctx, "open", db.writer.PingContext); err != nil {
		return err
	}
	settings.Del("_txlock")
	settings.Set("_query_only", "on")
	if db.reader, err = sql.Open("sqlite", db.source(settings)); err != nil {
		return err
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	return db.reader.PingContext(ctx)
}

func (db *DB) source(settings url.Values) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(db.path), RawQuery: settings.Encode()}).String()
}

// Ping implements [store.DB].
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return wrap("ping "+db.Where(), db.reader.QueryRowContext(ctx, `SELECT 1 FROM (SELECT count(*) FROM sqlite_master)`).Scan(&one))
}

// Where returns the path of the file.
func (db *DB) Where() string { return "sqlite " + db.path }

// Close gives all claims free and closes the file.
func (db *DB) Close() error {
	db.mu.Lock()
	runs := db.runs
	db.runs = map[*run]struct{}{}
	db.mu.Unlock()
	var errs []error
	for r := range runs {
		errs = append(errs, r.Release())
	}
	for _, pool := range []*sql.DB{db.reader, db.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// tx runs fn in a transaction that holds the file's write lock from its first
// statement.
func (db *DB) tx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// stamp returns the present as text.
func (db *DB) stamp() string { return stampOf(db.now()) }

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

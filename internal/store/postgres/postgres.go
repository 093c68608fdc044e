// Package postgres is the store on a Postgres server, with TimescaleDB where
// that is installed. The tables are shared with other programs, so it adopts
// what it finds and writes only rows that differ.
//
// A claim of a run is a session lock on a connection of its own, so the URL
// must lead to Postgres itself or to a pooler in session mode.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/alpha-oracle/worker/internal/store"
)

// Options are the settings of a [DB]; the zero value is good.
type Options struct {
	// Application is the name that the server shows for our connections;
	// "" is "worker".
	Application string
	// Patience is how long a write goes on trying while the server is gone;
	// 0 is 30 seconds.
	Patience time.Duration
	// MaxConns is the size of the connection pool, 0 is 8. A claimed run
	// takes one connection more. pool_max_conns in the URL wins.
	MaxConns int32
	// Lease is that of the runs that are begun.
	Lease store.Lease
	// Tracer is told of every statement; it may be nil.
	Tracer pgx.QueryTracer
}

func (o Options) withDefaults() Options {
	if o.Application == "" {
		o.Application = "worker"
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.MaxConns == 0 {
		o.MaxConns = defaultConns
	}
	return o
}

// DB is a [store.DB] on a Postgres server. All times that it writes are those
// of the server's clock.
type DB struct {
	pool     *pgxpool.Pool
	patience time.Duration
	lease    store.Lease

	mu     sync.Mutex
	claims map[*claim]struct{}
}

var _ store.DB = (*DB)(nil)

// Open connects to the database at url, which has the form postgres://,
// postgresql:// or postgresql+asyncpg://, and fails in less than five seconds
// if no server answers there. It changes nothing in the database. No error
// holds the password.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	o = o.withDefaults()
	lease, err := o.Lease.WithDefaults()
	if err != nil {
		return nil, err
	}
	c, err := config(url, o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	db := &DB{pool: pool, patience: o.Patience, lease: lease, claims: map[*claim]struct{}{}}
	ctx, cancel := context.WithTimeout(ctx, c.ConnConfig.ConnectTimeout+500*time.Millisecond)
	defer cancel()
	if err := db.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return db, nil
}

// Ping asks the server for a sign of life. If it cannot be reached the error
// names its address and what was tried.
func (db *DB) Ping(ctx context.Context) error {
	err := db.pool.Ping(ctx)
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return &connectError{where: db.Where(), user: connect.Config.User, cause: connect.Unwrap()}
	}
	if err != nil {
		return fmt.Errorf("ping %s: %w", db.Where(), err)
	}
	return nil
}

// Clock returns the server's time.
func (db *DB) Clock(ctx context.Context) (now time.Time, err error) {
	err = db.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now, wrap("clock", err)
}

// connectError says where a server was looked for and what came of each try.
type connectError struct {
	where, user string
	cause       error
}

func (e *connectError) Error() string {
	return fmt.Sprintf("connect to %s as user %s: %s", e.where, e.user, flatten(e.cause))
}

func (e *connectError) Unwrap() error { return e.cause }

// Where returns the server's address and the database's name.
func (db *DB) Where() string {
	c := db.pool.Config().ConnConfig
	address := net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
	if strings.HasPrefix(c.Host, "/") {
		address = c.Host
	}
	return fmt.Sprintf("postgres %s/%s", address, c.Database)
}

// Close gives all claims free and closes all connections.
func (db *DB) Close() error {
	db.mu.Lock()
	claims := db.claims
	db.claims = map[*claim]struct{}{}
	db.mu.Unlock()
	for c := range claims {
		c.release()
	}
	db.pool.Close()
	return nil
}

// connect opens a connection outside the pool.
func (db *DB) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, db.pool.Config().ConnConfig)
}

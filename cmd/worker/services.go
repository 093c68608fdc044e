package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/embedded"
	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/store/sqlite"
)

const (
	// startTime bounds how long a start may wait for the servers.
	startTime = 8 * time.Second
	// closeTime bounds how long an end may wait for them.
	closeTime = 2 * time.Second
	// redisTime bounds one answer of Redis outside the limiter.
	redisTime = 2 * time.Second

	databaseFile = "worker.db"
)

// services are the opened database and Redis.
type services struct {
	db  store.DB
	rdb *redis.Client
	// budget is the limiter's own client: it never resends a command.
	budget *redis.Client
	// feed remembers what this process has told where Redis cannot.
	feed *events.Feed
	// embeddedDB and embeddedRedis tell which of the two are in-process.
	embeddedDB, embeddedRedis bool
	// calling says that this process has the calling rights for its life.
	calling bool
	// fixed says that the schema is for others to change.
	fixed bool

	closers []func()
}

// openServices connects to what the configuration names and to the embedded
// default for the rest. An error names the server and what was tried.
func (a *app) openServices(ctx context.Context) (*services, error) {
	s, noDatabase, noRedis := a.tryServices(ctx)
	if err := errors.Join(noDatabase, noRedis); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// tryServices is openServices for who can do with one of the two.
func (a *app) tryServices(ctx context.Context) (s *services, noDatabase, noRedis error) {
	s = &services{embeddedDB: !a.cfg.DatabaseURL.IsSet(), embeddedRedis: !a.cfg.RedisURL.IsSet(), fixed: a.cfg.NoMigrate}
	if s.embeddedDB || s.embeddedRedis {
		if err := os.MkdirAll(a.cfg.DataDir, 0o750); err != nil {
			return s, fmt.Errorf("data directory (SA_DATA_DIR): %w", err), nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { noDatabase = a.openDatabase(ctx, s) })
	both.Go(func() { noRedis = a.openRedis(ctx, s) })
	both.Wait()
	return s, noDatabase, noRedis
}

func (a *app) openDatabase(ctx context.Context, s *services) (err error) {
	if s.embeddedDB {
		s.db, err = openSQLite(ctx, filepath.Join(a.cfg.DataDir, databaseFile), sqlite.Options{Now: a.now})
	} else {
		s.db, err = openPostgres(ctx, a.cfg.DatabaseURL.Reveal(), postgres.Options{Lease: a.Lease, Tracer: a.traces.SQL()})
	}
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// The two openers keep a nil pointer from becoming a store.DB that is not nil.

func openSQLite(ctx context.Context, path string, o sqlite.Options) (store.DB, error) {
	db, err := sqlite.Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
	return db, nil
}

func openPostgres(ctx context.Context, url string, o postgres.Options) (store.DB, error) {
	db, err := postgres.Open(ctx, url, o)
	if err != nil {
		return nil, err
	}
	return db, nil
}

func (a *app) openRedis(ctx context.Context, s *services) error {
	url := a.cfg.RedisURL.Reveal()
	if s.embeddedRedis {
		server, err := embedded.StartRedis(ctx, a.clock)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, server.Close)
		url = server.URL()
	}
	general, err := redis.ParseURL(url)
	if err != nil {
		return usagef("SA_REDIS__URL: want redis://[:password@]host:port/number: %w", err)
	}
	general.DialTimeout, general.ReadTimeout, general.WriteTimeout = redisTime, redisTime, redisTime
	general.ContextTimeoutEnabled = true
	strict, err := limiter.ClientOptions(url)
	if err != nil {
		return usagef("SA_REDIS__URL: %w", err)
	}
	s.rdb, s.budget = redis.NewClient(general), redis.NewClient(strict)
	s.feed = events.NewFeed(s.rdb, a.now)
	if a.traces != nil {
		// The limiter's commands serve several calls at once, of several runs.
		s.rdb.AddHook(a.traces.Redis())
	}
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis: no answer from %s: %w", general.Addr, err)
	}
	return nil
}

// redisAway says why no call can pass the limits now; nil if one can.
func (s *services) redisAway(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisTime)
	defer cancel()
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis does not answer: %w", err)
	}
	return nil
}

// close gives everything back, and waits for servers that hang only so long:
// the process is about to end, and its connections with it.
func (s *services) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.closeAll()
	}()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

func (s *services) closeAll() {
	if s.rdb != nil {
		_ = s.rdb.Close()
		_ = s.budget.Close()
	}
	for _, c := range s.closers {
		c()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
}

// ready migrates the database, or with migrate unset, or where the configuration
// forbids it, says that it must be.
func (s *services) ready(ctx context.Context, migrate bool) error {
	if migrate && !s.fixed {
		if err := s.db.Migrate(ctx); err != nil {
			return fmt.Errorf("migrate %s: %w", s.db.Where(), err)
		}
		return nil
	}
	have, want, err := s.db.SchemaVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version of %s: %w", s.db.Where(), err)
	}
	if have < want {
		return fmt.Errorf("the schema of %s has version %d, this program needs %d: run worker migrate", s.db.Where(), have, want)
	}
	return nil
}

// callingRights takes the data directory for this process when the limit that
// keeps the calls apart cannot be shared.
func (a *app) callingRights(ctx context.Context, s *services) (release func(), err error) {
	if !s.embeddedRedis || s.calling {
		return func() {}, nil
	}
	lock, err := embedded.Acquire(ctx, a.cfg.DataDir, newOwner())
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Release() }, nil
}

// where says in one line what holds the data and the limits.
func (s *services) where() string {
	text := "database " + s.db.Where()
	if s.embeddedDB {
		text = "embedded database " + s.db.Where()
	}
	if s.embeddedRedis {
		return text + ", Redis inside this process"
	}
	return text + ", Redis " + s.rdb.Options().Addr
}

// isHeld reports whether err says that another process has what is asked for.
func isHeld(err error) bool {
	return errors.As(err, new(*store.HeldError)) || errors.As(err, new(*embedded.BusyError))
}

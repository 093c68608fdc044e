package testenv_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(orphanVariable) != "" {
		becomeOrphanMaker()
	}
	testenv.Main(m)
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialTimeout, o.ReadTimeout = -1, time.Second, 200*time.Millisecond
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Every one of the parallel tests finds its database empty and then fills it.
func TestRedisIsolation(t *testing.T) {
	t.Parallel()
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			rdb := client(t, testenv.Redis(t))
			if n, err := rdb.DBSize(t.Context()).Result(); n != 0 || err != nil {
				t.Fatalf("DBSIZE = %d, %v; want an empty database", n, err)
			}
			if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestPostgresIsolation(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testenv.Postgres(t))
			if _, err := conn.Exec(t.Context(), "CREATE TABLE only_mine (n int)"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestPostgresDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	admin := connect(t, testenv.Postgres(t))
	var name string
	t.Run("a test with a database, which it leaves open", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), testenv.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		name = conn.Config().Database
	})
	var there bool
	err := admin.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there)
	if err != nil || there || name == "" {
		t.Errorf("database %q is there: %t, %v; want it dropped", name, there, err)
	}
}

func TestFlushAllIsRefusedOnSharedRedis(t *testing.T) {
	t.Setenv("TEST_REDIS_URL", "") // our own server, whatever the variable says
	if err := client(t, testenv.Redis(t)).FlushAll(t.Context()).Err(); err == nil {
		t.Error("FLUSHALL worked on the Redis that other tests use")
	}
}

// Two servers given by a variable behave as our own do.
func TestVariables(t *testing.T) {
	t.Setenv("TEST_REDIS_URL", testenv.RedisServer(t, "--databases", "3").URL())
	t.Setenv("TEST_DATABASE_URL", testenv.PostgresServer(t).URL())

	urls := map[string]bool{}
	for range 3 { // one more than the databases at a time, so each must be given back
		t.Run("", func(t *testing.T) {
			url := testenv.Redis(t)
			rdb, other := client(t, url), testenv.Redis(t)
			if url == other {
				t.Errorf("%s was handed out twice", url)
			}
			if n, err := rdb.DBSize(t.Context()).Result(); n != 0 || err != nil {
				t.Errorf("DBSIZE = %d, %v; want an empty database", n, err)
			}
			if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			database := testenv.Postgres(t)
			if urls[database] {
				t.Errorf("a database was handed out twice")
			}
			urls[database] = true
			connect(t, database)
		})
	}
}

func TestRedisServer(t *testing.T) {
	t.Parallel()
	srv := testenv.RedisServer(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := client(t, srv.URL())
	ping := func() error { return rdb.Ping(t.Context()).Err() }
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}

	srv.Pause()
	if ping() == nil {
		t.Error("a paused server answered")
	}
	srv.Continue()
	if err := ping(); err != nil {
		t.Errorf("after Continue: %v", err)
	}
	srv.Stop()
	srv.Stop()
	if ping() == nil {
		t.Error("a stopped server answered")
	}
	srv.Start()
	srv.Start()
	srv.Pause()
	srv.Kill()
	srv.Start()
	if v, err := rdb.Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("after Kill and Start: %q, %v; want the stored value", v, err)
	}
}

func TestPostgresServer(t *testing.T) {
	t.Parallel()
	srv := testenv.PostgresServer(t)
	count := func() (n int, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, srv.URL())
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close(context.Background()) }()
		err = conn.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(&n)
		return n, err
	}
	if _, err := connect(t, srv.URL()).Exec(t.Context(), "CREATE TABLE kept AS SELECT 1"); err != nil {
		t.Fatal(err)
	}

	for _, step := range []struct {
		name    string
		down    func()
		up      func()
		answers bool
	}{
		{"stop", srv.Stop, srv.Start, false},
		{"kill", srv.Kill, srv.Start, false},
		{"kill while paused", func() { srv.Pause(); srv.Kill() }, srv.Start, false},
	} {
		step.down()
		if _, err := count(); err == nil {
			t.Errorf("after %s: it answers", step.name)
		}
		step.up()
		if n, err := count(); n != 1 || err != nil {
			t.Errorf("after %s and start: %d rows, %v; want the 1 committed", step.name, n, err)
		}
	}
}

// Freezing must stop the sessions that are open, not only the listener.
func TestPostgresServerPauseFreezesSessions(t *testing.T) {
	t.Parallel()
	srv := testenv.PostgresServer(t)
	conn := connect(t, srv.URL())
	srv.Pause()
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1")
		answer <- err
	}()
	quiet := time.NewTimer(300 * time.Millisecond)
	defer quiet.Stop()
	select {
	case err := <-answer:
		t.Fatalf("a paused session answered: %v", err)
	case <-quiet.C:
	}
	srv.Continue()
	if err := <-answer; err != nil {
		t.Errorf("after Continue: %v", err)
	}
}

func TestServerEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var addresses []string
	t.Run("owner", func(t *testing.T) {
		for _, srv := range []*testenv.Server{testenv.RedisServer(t), testenv.PostgresServer(t)} {
			addresses = append(addresses, address(t, srv.URL()))
		}
	})
	for _, addr := range addresses {
		if listens(addr) {
			t.Errorf("%s still listens", addr)
		}
	}
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

package testenv

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisDatabases = 4096
	claimPrefix    = "testenv:database:"
	claimTTL       = 15 * time.Minute // a test binary that was killed frees its databases after this

	remedy = "install it with `make deps` (apt-get install redis-server postgresql)"
)

// redisNumber counts the databases handed out on the shared server.
//
//nolint:gochecknoglobals // belongs to sharedRedis
var redisNumber atomic.Int64

// RedisServer starts a redis-server for this test alone, with args added to
// its command line. Without args it keeps nothing on disk and is empty after
// Stop and Start; give "--appendonly", "yes" for one that remembers. Its URL
// names database 0.
func RedisServer(t testing.TB, args ...string) *Server {
	t.Helper()
	return newServer(t, func() (*server, error) { return launchRedis(args...) })
}

func launchSharedRedis() (*server, error) {
	srv, err := launchRedis("--databases", strconv.Itoa(redisDatabases), "--rename-command", "FLUSHALL", "")
	if err != nil {
		return nil, fmt.Errorf("%w; or set %s to a Redis whose databases may be emptied", err, redisVariable)
	}
	return srv, nil
}

func launchRedis(args ...string) (*server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server is missing: %s", remedy)
	}
	return launchOnFreePort(func(port int) (*server, error) {
		dir, err := scratch(nil)
		if err != nil {
			return nil, err
		}
		url := "redis://" + loopback(port) + "/0"
		base := []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", ""}
		return &server{
			name: "redis-server", path: path, args: append(base, args...), dir: dir, url: url,
			quit: syscall.SIGTERM, crash: syscall.SIGKILL,
			ready: func(ctx context.Context, pid int) error { return pingRedis(ctx, url, pid) },
		}, nil
	})
}

// pingRedis checks that the Redis at url serves and is the process pid, and
// not one that was quicker to take the port.
func pingRedis(ctx context.Context, url string, pid int) error {
	return withRedis(url, func(rdb *redis.Client) error {
		if err := rdb.Ping(ctx).Err(); err != nil {
			return err
		}
		info, err := rdb.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", pid)) {
			return errors.New("another process answers on its port")
		}
		return nil
	})
}

func withRedis(url string, do func(*redis.Client) error) error {
	o, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	o.MaxRetries = -1
	rdb := redis.NewClient(o)
	defer func() { _ = rdb.Close() }()
	return do(rdb)
}

// numberedRedis hands out the databases of the shared server in turn, so that
// what a finished test still does reaches no test soon after it.
func numberedRedis(t testing.TB, base string) string {
	t.Helper()

	n := redisNumber.Add(1) % redisDatabases
	url, err := redisDatabase(base, int(n))
	if err == nil {
		err = withRedis(url, func(rdb *redis.Client) error { return rdb.FlushDB(context.Background()).Err() })
	}
	if err != nil {
		t.Fatalf("testenv: empty Redis database %d: %v", n, err)
	}
	return url
}

// redisDatabase replaces the database in a Redis URL.
func redisDatabase(base string, n int) (string, error) {
	u, err := parseURL(base)
	if err != nil {
		return "", err
	}
	u.Path = "/" + strconv.Itoa(n)
	return u.String(), nil
}

// borrowRedis claims a free database of a Redis that other test binaries may
// be using as well, and waits if there is none.
func borrowRedis(t testing.TB, base string) string {
	t.Helper()

	zero, err := redisDatabase(base, 0)
	if err != nil {
		t.Fatalf("testenv: %s: %v", redisVariable, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), claimTTL)
	defer cancel()

	var n int
	err = withRedis(zero, func(rdb *redis.Client) error {
		n, err = claim(ctx, rdb)
		return err
	})
	if err != nil {
		t.Fatalf("testenv: %s: claim a database: %v", redisVariable, err)
	}
	t.Cleanup(func() {
		_ = withRedis(zero, func(rdb *redis.Client) error {
			return rdb.Del(context.Background(), claimKey(n)).Err()
		})
	})

	url, err := redisDatabase(base, n)
	if err == nil {
		err = withRedis(url, func(rdb *redis.Client) error { return rdb.FlushDB(ctx).Err() })
	}
	if err != nil {
		t.Fatalf("testenv: %s: empty database %d: %v", redisVariable, n, err)
	}
	return url
}

func claimKey(n int) string { return claimPrefix + strconv.Itoa(n) }

// claim returns the number of a database that nobody else has.
func claim(ctx context.Context, rdb *redis.Client) (int, error) {
	config, err := rdb.ConfigGet(ctx, "databases").Result()
	if err != nil {
		return 0, err
	}
	databases, err := strconv.Atoi(config["databases"])
	if err != nil || databases < 2 {
		return 0, fmt.Errorf("needs a Redis with 2 databases or more, this one has %q", config["databases"])
	}

	tick := time.NewTicker(pollEvery)
	defer tick.Stop()

	for {
		for n := 1; n < databases; n++ {
			free, err := rdb.SetNX(ctx, claimKey(n), "taken", claimTTL).Result()
			if err != nil || free {
				return n, err
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("all %d databases are taken: %w", databases, ctx.Err())
		case <-tick.C:
		}
	}
}

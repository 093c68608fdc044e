package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresServer starts a Postgres cluster for this test alone, with the
// settings of a new installation: what it has committed is on disk and outlives
// Kill. The URL names the database postgres and holds the superuser's password.
func PostgresServer(t testing.TB) *Server {
	t.Helper()
	return newServer(t, func() (*server, error) { return launchPostgres() })
}

// PostgresBin returns the directory that holds the Postgres programs: postgres,
// initdb, and on most systems psql, pg_ctl and pg_dump.
func PostgresBin() (string, error) {
	for _, dir := range binCandidates() {
		if isFile(filepath.Join(dir, "postgres")) && isFile(filepath.Join(dir, "initdb")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("postgres is missing: %s", remedy)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// binCandidates lists where the programs may be. Debian keeps all of them out
// of the PATH except psql, and its psql is a wrapper in another directory.
func binCandidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil { //nolint:noctx // takes milliseconds
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		if found, err := filepath.Glob(pattern); err == nil {
			slices.Reverse(found) // the newest first
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

func launchSharedPostgres() (*server, error) {
	srv, err := launchPostgres(
		"fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"max_connections=400", "timezone=America/New_York",
	)
	if err != nil {
		return nil, fmt.Errorf("%w; or set %s to a server on which databases may be created", err, postgresVariable)
	}
	return srv, nil
}

func launchPostgres(settings ...string) (*server, error) {
	bin, err := PostgresBin()
	if err != nil {
		return nil, err
	}
	owner, err := postgresOwner()
	if err != nil {
		return nil, err
	}
	return launchOnFreePort(func(port int) (*server, error) {
		return newPostgres(bin, owner, port, settings)
	})
}

func newPostgres(bin string, owner *syscall.Credential, port int, settings []string) (*server, error) {
	dir, err := scratch(owner)
	if err != nil {
		return nil, err
	}
	password, data := rand.Text(), filepath.Join(dir, "data")
	if err := initialise(bin, owner, dir, data, password); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}

	args := []string{"-D", data, "-p", strconv.Itoa(port), "-h", "127.0.0.1", "-k", ""}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	address := &url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", password),
		Host: loopback(port), Path: "/postgres", RawQuery: "sslmode=disable",
	}
	return &server{
		name: "postgres", path: filepath.Join(bin, "postgres"), args: args, dir: dir, url: address.String(), owner: owner,
		quit:  syscall.SIGINT,  // rolls back, writes a checkpoint, ends
		crash: syscall.SIGQUIT, // ends at once, recovers from the log at the next start
		ready: func(ctx context.Context, _ int) error {
			return withPostgres(ctx, address.String(), func(*pgx.Conn) error { return nil })
		},
	}, nil
}

// initialise makes a cluster in data. Its superuser's password, which no other
// server has, also proves at the start that the right server answers.
func initialise(bin string, owner *syscall.Credential, dir, data, password string) error {
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		return err
	}
	if owner != nil {
		if err := os.Chown(secret, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}

	//nolint:noctx // ends by itself
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres",
		"-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--no-locale", "--no-sync")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s: %w\n%s", data, err, bytes.TrimSpace(out))
	}
	return nil
}

// postgresOwner returns who runs Postgres: it refuses to run as root.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil: as we are
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres does not run as root, and there is no user postgres or nobody to run it")
}

// createDatabase creates a database on the server at base and drops it when
// the test ends.
func createDatabase(t testing.TB, base string) string {
	t.Helper()

	u, err := parseURL(base)
	if err != nil {
		t.Fatalf("testenv: %s: %v", postgresVariable, err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	// No session can be connected to template0, which would stop the copy.
	if err := execPostgres(t.Context(), base, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatalf("testenv: create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := execPostgres(context.Background(), base, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("testenv: drop database %s: %v", name, err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

func execPostgres(ctx context.Context, url, sql string) error {
	return withPostgres(ctx, url, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

func withPostgres(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(conn)
}

// parseURL hides the URL from its error, since it may hold a password.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	return u, nil
}

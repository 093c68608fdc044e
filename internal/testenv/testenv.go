package testenv

import (
	"os"
	"sync"
	"testing"
)

const (
	redisVariable    = "TEST_REDIS_URL"
	postgresVariable = "TEST_DATABASE_URL"

	noMain = "servers are shared by the tests of a package and stopped at its end: " +
		"add `func TestMain(m *testing.M) { testenv.Main(m) }`"
)

// The servers are shared by all tests of a binary, which have no other place in
// common than this.
//
//nolint:gochecknoglobals // see above
var (
	sharedRedis    = lazy{launch: launchSharedRedis}
	sharedPostgres = lazy{launch: launchSharedPostgres}
)

// Main runs the tests of a package, stops the servers that they started, and
// ends the process with the tests' result.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for _, l := range []*lazy{&sharedRedis, &sharedPostgres} {
		l.open()
		defer l.close()
	}
	return m.Run()
}

// Redis returns the URL of an empty database on a real Redis, such as
// redis://127.0.0.1:6379/3, which no other running test uses.
func Redis(t testing.TB) string {
	t.Helper()

	if base := os.Getenv(redisVariable); base != "" {
		return borrowRedis(t, base)
	}
	return numberedRedis(t, sharedRedis.get(t).url)
}

// Postgres returns the URL of an empty database which belongs to this test and
// is dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()

	if base := os.Getenv(postgresVariable); base != "" {
		return createDatabase(t, base)
	}
	return createDatabase(t, sharedPostgres.get(t).url)
}

// lazy is a server that starts when it is first asked for.
type lazy struct {
	launch func() (*server, error)

	mu     sync.Mutex
	isOpen bool
	tried  bool
	srv    *server
	err    error
}

func (l *lazy) open() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.isOpen = true
}

func (l *lazy) get(t testing.TB) *server {
	t.Helper()

	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.isOpen {
		t.Fatal("testenv: " + noMain)
	}
	// The error is kept too: the second test need not wait for it again.
	if !l.tried {
		l.tried = true
		l.srv, l.err = l.launch()
	}
	if l.err != nil {
		t.Fatalf("testenv: %v", l.err)
	}
	return l.srv
}

func (l *lazy) close() {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.srv != nil {
		l.srv.discard()
	}
}

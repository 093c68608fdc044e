//go:build readme

package arch_test

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The blocks of README.md and docs/deploy.md with a line <!-- run:name --> above them do what
// they say. Those of a document run in their order, from the root of the repository, against
// servers of its own and a simulated provider.
//
//nolint:paralleltest // the first block builds what the others run
func TestReadmeCommands(t *testing.T) {
	marked := regexp.MustCompile("(?s)<!-- run:([a-z-]+) -->\n+```sh\n(.*?)```")
	for _, document := range []string{"README.md", "docs/deploy.md"} {
		blocks := marked.FindAllStringSubmatch(read(t, document), -1)
		if len(blocks) == 0 {
			t.Fatalf("%s has no block marked <!-- run:name -->", document)
		}
		here := placesHere(t)
		for _, block := range blocks {
			t.Run(block[1], func(t *testing.T) {
				if out, err := shell(t, here.Replace(block[2]), provider(t, block[1])); err != nil {
					t.Errorf("%v, with:\n%s\nits output:\n%s", err, block[2], out)
				}
			})
		}
	}
}

// shell runs a block, and ends what it leaves running.
func shell(t *testing.T, script string, environment []string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = absolute(t, root)
	cmd.Env = append(os.Environ(), environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killAll := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = killAll
	// A file, since a pipe would keep Run waiting for whoever holds it.
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	_ = killAll()
	text, readErr := os.ReadFile(out.Name())
	return string(text), errors.Join(err, readErr)
}

// placesHere replaces the addresses of the document by those of this test.
func placesHere(t *testing.T) *strings.Replacer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	database := testenv.Postgres(t)
	_, server, _ := strings.Cut(database, "@")
	return strings.NewReplacer(
		"redis://localhost:6379/0", testenv.Redis(t),
		"postgres://user:password@localhost:5432/alpha_oracle", "'"+database+"'",
		"postgres://worker_migrate:password@localhost:5432/alpha_oracle", "'postgres://worker_migrate:password@"+server+"'",
		"postgres://worker_run:password@localhost:5432/alpha_oracle", "'postgres://worker_run:password@"+server+"'",
		"127.0.0.1:8090", listener.Addr().String(),
	)
}

// provider is the environment of one block: a simulator with two symbols, and
// a key where the document has asked for one before.
func provider(t *testing.T, block string) []string {
	t.Helper()
	server := httptest.NewServer(simulator.New(simulator.Config{Premium: true}))
	t.Cleanup(server.Close)
	environment := []string{
		"SA_DATA_DIR=" + t.TempDir(),
		"SA_DATA__ALPHA_VANTAGE__BASE_URL=" + server.URL,
		"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE=600",
		"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY=0",
		"SA_DATA__UNIVERSE__SYMBOLS=AAPL,MSFT",
	}
	if block == "compose" {
		environment = append(environment, "SA_ALPHA_VANTAGE_API_KEY=simulated")
	}
	return environment
}

func absolute(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

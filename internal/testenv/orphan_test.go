package testenv_test

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/testenv"
)

// orphanVariable turns this test binary into one that starts servers, says
// where they listen and waits to be killed.
const orphanVariable = "TESTENV_ORPHANS"

// stranded stands for the test that a killed binary was running.
type stranded struct{ testing.TB }

func (stranded) Helper()        {}
func (stranded) Cleanup(func()) {}

func (stranded) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format, args...)
	os.Exit(1)
}

func becomeOrphanMaker() {
	for _, srv := range []*testenv.Server{testenv.RedisServer(stranded{}), testenv.PostgresServer(stranded{})} {
		u, err := url.Parse(srv.URL())
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(u.Host)
	}
	fmt.Println("waiting")
	select {}
}

func address(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func TestNoServerOutlivesAKilledBinary(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Log("only Linux ends a child together with its parent")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), orphanVariable+"=1", "TMPDIR="+orphanDir(t))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "waiting"; {
		addresses = append(addresses, strings.TrimSpace(lines.Text()))
	}
	for _, addr := range addresses {
		if !listens(addr) {
			t.Errorf("%s does not listen before the kill", addr)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if len(addresses) != 2 {
		t.Fatalf("started %d servers, want 2", len(addresses))
	}

	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for listens(addresses[0]) || listens(addresses[1]) {
		select {
		case <-deadline.C:
			t.Fatalf("a server of %v outlives the binary that started it", addresses)
		case <-tick.C:
		}
	}
}

// orphanDir takes what the killed binary leaves behind. Another user than root
// must be able to reach it.
func orphanDir(t *testing.T) string {
	t.Helper()
	//nolint:usetesting // t.TempDir is inside a directory that only this user can enter
	dir, err := os.MkdirTemp("", "alpha-oracle-orphans-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

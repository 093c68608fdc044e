//go:build unix

package sqlite_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/sqlite"
)

const sleeper = "TEST_SQLITE_SLEEPER"

// TestStoppedOwner stops the process that owns a run. Its period is taken over
// when its lease is over; when it wakes up it learns that, and stores nothing.
func TestStoppedOwner(t *testing.T) {
	t.Parallel()
	lease := store.Lease{Length: time.Second}
	if path := os.Getenv(sleeper); path != "" {
		saveWhenTold(t, open(t, path, sqlite.Options{Lease: lease}))
		return
	}
	path := filepath.Join(t.TempDir(), "worker.db")
	db := migrated(t, path, sqlite.Options{Lease: lease, Patience: 200 * time.Millisecond})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), exe, "-test.run=^TestStoppedOwner$")
	child.Env = append(os.Environ(), sleeper+"="+path)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	hears := func() string { lines.Scan(); return lines.Text() }
	if got := hears(); got != "begun" {
		t.Fatal(got)
	}
	stop := func(sig syscall.Signal) {
		if err := child.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	stop(syscall.SIGSTOP)
	var run store.Run
	began := time.Now()
	for run, err = db.Begin(t.Context(), "daily_bars", "2026-03-12", "worker-2"); err != nil; run, err = db.Begin(t.Context(), "daily_bars", "2026-03-12", "worker-2") {
		if strings.Contains(err.Error(), "locked") { // it was stopped inside a renewal
			stop(syscall.SIGCONT)
			time.Sleep(10 * time.Millisecond)
			stop(syscall.SIGSTOP)
		} else if !errors.As(err, new(*store.HeldError)) {
			t.Fatal(err)
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the period was not taken over")
		}
	}
	stop(syscall.SIGCONT)
	_, _ = fmt.Fprintln(in, "go on")
	for _, want := range []string{"lost", store.ErrFenced.Error(), "released"} {
		if got := hears(); !strings.Contains(got, want) {
			t.Errorf("the old owner says %q, want %q", got, want)
		}
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := open(t, path, sqlite.Options{}).Begin(t.Context(), "daily_bars", "2026-03-12", "worker-3"); !errors.As(err, new(*store.HeldError)) {
		t.Errorf("after the old owner has gone: %v", err)
	}
	if _, err := run.SaveBars(t.Context(), series(3), day); err != nil {
		t.Error(err)
	}
	if err := run.End(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
	if rows := shell(t, path, `SELECT count(*) FROM ohlcv WHERE symbol = 'STALE'`); rows[0][0] != int64(0) {
		t.Errorf("stored by the old owner: %v", rows)
	}
}

func saveWhenTold(t *testing.T, db *sqlite.DB) {
	run := begin(t, db)
	fmt.Println("begun")
	if !bufio.NewScanner(os.Stdin).Scan() {
		t.Fatal("was not told to go on")
	}
	<-run.Lost()
	fmt.Println("lost")
	s := series(2)
	s.Symbol = "STALE"
	_, err := run.SaveBars(t.Context(), s, day)
	fmt.Println(err)
	if err := run.Release(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("released")
}

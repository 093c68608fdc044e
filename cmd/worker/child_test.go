package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	// childClock turns this test binary into the program, with the clock of the
	// file of that name; childLease is the length of its leases, as 1.5s.
	childClock = "TEST_WORKER_CLOCK"
	childLease = "TEST_WORKER_LEASE"
	// childVitals is a file in which it writes its number of goroutines each
	// second.
	childVitals = "TEST_WORKER_VITALS"

	// clockPoll is how often a child that waits looks at its clock, which can be
	// set forward.
	clockPoll = 20 * time.Millisecond
)

// clock is one that several processes share through a file: at Real it shows
// Shown, and it goes Scale times as fast as the machine's.
type clock struct {
	path        string
	Real, Shown time.Time
	Scale       float64
}

// newClock returns a clock that shows an instant now.
func (w *world) newClock(shown time.Time, scale float64) *clock {
	w.t.Helper()
	c := &clock{path: filepath.Join(w.t.TempDir(), "clock")}
	c.set(w.t, shown, scale)
	w.now = c.now
	return c
}

// set sets the clock of all processes.
func (c *clock) set(t testing.TB, shown time.Time, scale float64) {
	t.Helper()
	text, err := json.Marshal(clock{Real: time.Now(), Shown: shown, Scale: scale})
	if err == nil {
		err = os.WriteFile(c.path+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(c.path+".new", c.path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *clock) read() clock {
	var is clock
	text, err := os.ReadFile(c.path)
	if err == nil {
		err = json.Unmarshal(text, &is)
	}
	if err != nil { // the test has ended
		return clock{Real: time.Now(), Shown: time.Now(), Scale: 1}
	}
	return is
}

func (c *clock) now() time.Time {
	is := c.read()
	return is.Shown.Add(time.Duration(float64(time.Since(is.Real)) * is.Scale)).UTC()
}

// wait returns when the clock has gone on by d, or after a short time.
func (c *clock) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(min(time.Duration(float64(d)/c.read().Scale), clockPoll))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// beProgram is main of a child.
func beProgram(clockFile string) int {
	c := &clock{path: clockFile}
	length, err := time.ParseDuration(os.Getenv(childLease))
	if err != nil {
		length = 0
	}
	go showVitals(os.Getenv(childVitals), os.Getppid())
	ctx, stop := untilSignal(context.Background())
	defer stop()
	p := process{
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Now: c.now, Wait: c.wait, Lease: store.Lease{Length: length},
	}
	if os.Getenv("SA_REDIS__URL") != "" { // the embedded one shows the clock's time
		p.LimitNow = time.Now
	}
	return run(ctx, os.Args[1:], p)
}

// showVitals writes the number of goroutines into a file, if it has a name, and
// ends a child whose test has died.
func showVitals(path string, parent int) {
	for ; ; time.Sleep(time.Second) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
		if path != "" {
			_ = os.WriteFile(path+".new", fmt.Appendln(nil, runtime.NumGoroutine()), 0o600)
			_ = os.Rename(path+".new", path)
		}
	}
}

// child is a process of the program.
type child struct {
	*world
	cmd       *exec.Cmd
	out, errs syncBuffer
	gone      chan struct{}
}

// spawn starts the program with a shared clock. It is killed at the test's end.
func (w *world) spawn(c *clock, env map[string]string, args ...string) *child {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &child{world: w, gone: make(chan struct{})}
	p.cmd = exec.CommandContext(w.t.Context(), exe, args...)
	p.cmd.Env = append(os.Environ(), environOf(w.env)...)
	p.cmd.Env = append(append(p.cmd.Env, environOf(env)...), childClock+"="+c.path)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(p.gone)
		_ = p.cmd.Wait()
	}()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.gone
	})
	return p
}

// end sends a signal and returns the exit code, -1 for a process that the signal
// itself has ended, and how long that took. One that does not end by itself is
// killed.
func (p *child) end(s syscall.Signal) (code int, took time.Duration) {
	p.t.Helper()
	const patience = time.Minute
	began := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	select {
	case <-p.gone:
	case <-time.After(patience):
		p.t.Errorf("it goes on %s after %s:\n%s", patience, s, p.errs.String())
		_ = p.cmd.Process.Kill()
		<-p.gone
	}
	took = time.Since(began)
	p.keep()
	return p.cmd.ProcessState.ExitCode(), took
}

// keep gives what a process that has ended said to the search for secrets.
func (p *child) keep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, p.out.String(), p.errs.String())
}

// TestChild runs the program as a process of its own, with a clock that was set.
func TestChild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.simulate(simulator.Config{Key: canary, Through: sessionDate()})
	c := w.newClock(sessionDate().In(market.NewYork(), 23, 0), 1000)
	p := w.spawn(c, nil, "status", "--json")
	<-p.gone
	var s status
	if err := json.Unmarshal([]byte(p.out.String()), &s); err != nil || p.cmd.ProcessState.ExitCode() != exitOK || s.Session != sessionDate() {
		t.Errorf("%v, newest session %s: %s", err, s.Session, p.errs.String())
	}
	c.set(t, sessionDate().In(market.NewYork(), 23, 0).AddDate(0, 0, 1), 1)
	if p = w.spawn(c, nil, "serve"); p.cmd.Process == nil {
		t.Fatal("not started")
	}
	p.awaitSaid("scheduled")
	if code, _ := p.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.errs.String())
	}
}

// awaitSaid returns when a process has said something, or has ended.
func (p *child) awaitSaid(text string) {
	p.t.Helper()
	ticker := time.NewTicker(clockPoll)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for !strings.Contains(p.errs.String(), text) {
		select {
		case <-ticker.C:
		case <-p.gone:
			return
		case <-deadline:
			p.t.Fatalf("it does not say %q:\n%s", text, p.errs.String())
		}
	}
}

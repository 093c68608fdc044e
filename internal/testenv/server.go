package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	patience  = 60 * time.Second // for a start or an orderly stop
	pollEvery = 10 * time.Millisecond
	staleAge  = 24 * time.Hour
	dirPrefix = "alpha-oracle-test-"
)

// Server is a server program that belongs to one test and can be stopped,
// frozen and crashed. It ends with the test. Its methods return when they have
// taken effect; a method that cannot have its effect fails the test, and the
// test goes on. They may be called from any goroutine.
type Server struct {
	t   testing.TB
	srv *server
}

// URL tells where the server listens. It stays the same through every stop and
// start.
func (s *Server) URL() string { return s.srv.url }

// Stop ends the server in an orderly way; its clients lose their connections.
// It does nothing if the server is stopped.
func (s *Server) Stop() {
	s.t.Helper()
	s.check(s.srv.end(s.srv.quit))
}

// Kill ends the server as a crash would: nothing that it held in memory only
// is written. It does nothing if the server is stopped.
func (s *Server) Kill() {
	s.t.Helper()
	s.check(s.srv.end(s.srv.crash))
}

// Start starts a stopped server again, on the same port and with the data that
// it left on disk. It does nothing if the server runs.
func (s *Server) Start() {
	s.t.Helper()
	s.check(s.srv.start())
}

// Pause freezes the server: connections stay open, new ones are accepted by
// the kernel, and nothing is answered until Continue.
func (s *Server) Pause() {
	s.t.Helper()
	s.check(s.srv.signalAll(syscall.SIGSTOP))
}

// Continue ends a Pause.
func (s *Server) Continue() {
	s.t.Helper()
	s.check(s.srv.signalAll(syscall.SIGCONT))
}

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Errorf("testenv: %v", err)
	}
}

// newServer turns a launched server into one that t owns.
func newServer(t testing.TB, launch func() (*server, error)) *Server {
	t.Helper()

	srv, err := launch()
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(srv.discard)
	return &Server{t: t, srv: srv}
}

// server is a program that listens on one port and keeps its data in one
// directory.
type server struct {
	name  string
	path  string
	args  []string
	dir   string
	url   string
	owner *syscall.Credential // runs the program; nil: whoever runs the tests
	quit  syscall.Signal      // asks for an orderly end
	crash syscall.Signal      // ends it without one
	ready func(ctx context.Context, pid int) error

	mu   sync.Mutex
	proc *process // nil: stopped
}

// process is a started program.
type process struct {
	pid  int
	proc *os.Process
	done chan struct{} // closed when the program has ended
}

// launchOnFreePort tries again with another port, since a free port may be
// taken by somebody else before the program listens on it.
func launchOnFreePort(build func(port int) (*server, error)) (*server, error) {
	var errs []error
	for range 5 {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		srv, err := build(port)
		if err != nil {
			return nil, err
		}
		if err = srv.start(); err == nil {
			return srv, nil
		}
		srv.discard()
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// freePort returns a port below those which systems hand to outgoing
// connections. From among these, a client that keeps dialling a stopped server
// could be given the server's own port, and would then talk to itself.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 12000 + rand.IntN(18000)
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", loopback(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.proc != nil {
		return nil
	}
	proc, err := s.spawn()
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	if err := s.await(proc); err != nil {
		_ = proc.proc.Kill()
		<-proc.done
		return fmt.Errorf("start %s: %w\n%s", s.name, err, s.logTail())
	}
	s.proc = proc
	return nil
}

// spawn starts the program from a thread that lives as long as the program.
// Linux ends a child together with the thread that started it, which is how no
// server outlives a test binary that was killed.
func (s *server) spawn() (*process, error) {
	started := make(chan error)
	p := &process{done: make(chan struct{})}

	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)

		log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			started <- err
			return
		}
		defer func() { _ = log.Close() }()

		cmd := exec.Command(s.path, s.args...) //nolint:noctx // lives longer than any call
		cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		cmd.SysProcAttr = attributes(s.owner, s.quit)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.proc, p.pid = cmd.Process, cmd.Process.Pid
		started <- nil
		_ = cmd.Wait()
	}()
	return p, <-started
}

// await returns when the server answers.
func (s *server) await(p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	tick := time.NewTicker(pollEvery)
	defer tick.Stop()

	for {
		err := s.ready(ctx, p.pid)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", patience, err)
		case <-tick.C:
		}
	}
}

func (s *server) end(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	p := s.proc
	if p == nil {
		return nil
	}
	s.proc = nil
	s.signalProcesses(p, sig)
	s.signalProcesses(p, syscall.SIGCONT) // a frozen program hears nothing else

	timer := time.NewTimer(patience)
	defer timer.Stop()

	select {
	case <-p.done:
		return nil
	case <-timer.C:
		_ = p.proc.Kill()
		<-p.done
		return fmt.Errorf("stop %s: still there %s after %s\n%s", s.name, patience, sig, s.logTail())
	}
}

func (s *server) signalAll(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.proc == nil {
		return fmt.Errorf("signal %s: %s is stopped", sig, s.name)
	}
	s.signalProcesses(s.proc, sig)
	return nil
}

// signalProcesses sends sig to the program. Freezing and thawing must reach
// its children too: in Postgres it is they who answer the clients. A signal
// to a child that has gone by now may fail.
func (s *server) signalProcesses(p *process, sig syscall.Signal) {
	_ = p.proc.Signal(sig)
	if sig != syscall.SIGSTOP && sig != syscall.SIGCONT {
		return
	}
	for _, child := range children(p.pid) {
		_ = syscall.Kill(child, sig)
	}
}

// discard ends the server and removes what it stored.
func (s *server) discard() {
	_ = s.end(s.crash)
	_ = os.RemoveAll(s.dir)
}

func (s *server) logPath() string { return filepath.Join(s.dir, "log") }

func (s *server) logTail() string {
	const most = 4096

	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// scratch makes an empty directory for the server that owner will run.
func scratch(owner *syscall.Credential) (string, error) {
	removeStale()

	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", err
	}
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return "", errors.Join(err, os.RemoveAll(dir))
		}
	}
	return dir, nil
}

// removeStale removes what test binaries that were killed left behind. No test
// runs as long as staleAge.
func removeStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > staleAge {
			_ = os.RemoveAll(dir)
		}
	}
}

//go:build chaos

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// striker stands before Redis and Postgres and strikes at one of the messages
// that a program sends to either: nothing passes any more from then on.
type striker struct {
	*world
	mu sync.Mutex
	// at is the message; delivered says that it is answered before the strike,
	// though the answer does not arrive.
	at        int
	delivered bool
	sent      int
	struck    bool
	strike    chan struct{}
}

// throughStriker puts a striker before the program's servers, and returns the
// environment of programs that it strikes.
func throughStriker(w *world) (s *striker, env map[string]string) {
	w.t.Helper()
	s, env = &striker{world: w}, map[string]string{}
	var wg sync.WaitGroup
	var stops []func()
	for _, name := range []string{"SA_REDIS__URL", "SA_DATABASE__URL"} {
		address, stop := testenv.Between(w.t, w.env[name], &wg, func(client, server net.Conn) {
			var answered sync.Mutex
			asked := false
			wg.Go(func() {
				s.pass(client, server, func(deliver func()) bool {
					answered.Lock()
					defer answered.Unlock()
					asked = s.reached()
					if !asked || s.delivered {
						deliver()
					}
					return !asked || s.delivered
				})
			})
			wg.Go(func() {
				s.pass(server, client, func(deliver func()) bool {
					answered.Lock()
					defer answered.Unlock()
					if asked {
						return false
					}
					deliver()
					return true
				})
			})
		})
		env[name], stops = address, append(stops, stop)
	}
	w.t.Cleanup(func() {
		for _, stop := range stops {
			stop()
		}
		wg.Wait()
	})
	return s, env
}

// reached counts a message of the program and reports whether it is the one.
func (s *striker) reached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	return s.sent == s.at
}

// pass hands on what from says, as long as allowed says so; the first time that
// it does not, it strikes.
func (s *striker) pass(from, to net.Conn, allowed func(deliver func()) bool) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		over := s.struck
		s.mu.Unlock()
		if over {
			return
		}
		if !allowed(func() { _, _ = to.Write(buf[:n]) }) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.struck {
				s.struck = true
				close(s.strike)
			}
			return
		}
	}
}

// kill runs the program and kills it at its message number at. It reports false
// if the program ends before that.
func (s *striker) kill(c *clock, env map[string]string, at int, delivered bool, args ...string) bool {
	s.t.Helper()
	s.mu.Lock()
	s.at, s.delivered, s.sent, s.struck, s.strike = at, delivered, 0, false, make(chan struct{})
	s.mu.Unlock()
	p := s.spawn(c, env, args...)
	select {
	case <-s.strike:
		p.end(syscall.SIGKILL)
		return true
	case <-p.gone:
		p.keep()
		if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
			s.t.Fatalf("%v: exit code %d: %s", args, code, p.errs.String())
		}
		return false
	}
}

// TestChaosKillSwitch kills the command that changes the kill switch at each
// message that it sends to Postgres or Redis, before it is delivered and after it
// is answered. After the next start of serve the table and Redis say the same, and
// a change that the table has was told.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosKillSwitch(t *testing.T) {
	w := newWorld(t).withOwnRedis()
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL"
	for _, job := range []string{"DAILY_BARS", "WEEKLY_FUNDAMENTALS", "BIWEEKLY_ALTDATA"} {
		w.env["SA_SCHEDULER__"+job+"_CRON"] = never
	}
	if m := w.run("migrate"); m.code != exitOK {
		t.Fatal(m.err)
	}
	c := w.newClock(time.Now(), 1)
	s, env := throughStriker(w)
	db := w.open().db
	told := w.redis().Subscribe(t.Context(), rediskey.KillSwitchChanged)
	if _, err := told.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := told.Channel(redis.WithChannelSize(1000))
	kills, unchanged := 0, 0
	for _, active := range []bool{true, false} {
		for _, delivered := range []bool{false, true} {
			for at := 1; ; at++ {
				if o, code := w.switched(order(!active, "the state before")...); code != exitOK {
					t.Fatalf("%+v", o)
				}
				reason := fmt.Sprintf("active=%t at message %d delivered=%t", active, at, delivered)
				killed := s.kill(c, env, at, delivered, append([]string{"kill-switch"}, order(active, reason)...)...)
				changed := w.settles(db, active, reason, heard)
				if !killed {
					if !changed {
						t.Errorf("%s: it ended, and nothing has changed", reason)
					}
					break
				}
				kills++
				if !changed {
					unchanged++
				}
			}
		}
	}
	fmt.Printf("chaos: kill switch: %d kills, %d before the change was stored\n", kills, unchanged)
	if unchanged == 0 || unchanged == kills {
		t.Errorf("%d of %d kills came before the change was stored", unchanged, kills)
	}
}

// order are the arguments that make the kill switch active or not.
func order(active bool, reason string) []string {
	if active {
		return []string{"activate", "--reason", reason}
	}
	return []string{"deactivate", "--force", "--reason", reason}
}

// settles starts serve and returns when it has made the table and Redis agree and
// has told of a change with this reason, if it was stored. It reports whether it
// was.
func (w *world) settles(db store.DB, active bool, reason string, heard <-chan *redis.Message) (changed bool) {
	w.t.Helper()
	state, err := db.KillSwitch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	changed = state.Active == active
	ctx, stop := context.WithCancelCause(w.t.Context())
	ended := make(chan said, 1)
	go func() { ended <- w.runContext(ctx, "serve") }()
	defer func() {
		stop(signalError{syscall.SIGTERM})
		if s := <-ended; s.code != exitOK {
			w.t.Errorf("serve: exit code %d: %s", s.code, s.err)
		}
	}()
	rdb, known := w.redis(), !changed
	ticker := time.NewTicker(clockPoll)
	defer ticker.Stop()
	for deadline := time.After(time.Minute); ; {
		select {
		case m := <-heard:
			var change struct{ Reason string }
			known = known || json.Unmarshal([]byte(m.Payload), &change) == nil && change.Reason == reason
		case <-ticker.C:
		case <-deadline:
			w.t.Fatalf("%s: the table says %t, Redis %q, the listeners know: %t", reason, state.Active, rdb.Get(w.t.Context(), rediskey.KillSwitch).Val(), known)
		}
		if state, err = db.KillSwitch(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		if (state.Active == active) != changed {
			w.t.Fatalf("%s: the table changes after the kill", reason)
		}
		value := rdb.Get(w.t.Context(), rediskey.KillSwitch).Val()
		if known && value == map[bool]string{true: "active", false: "inactive"}[state.Active] && state.Pending == nil {
			return changed
		}
	}
}

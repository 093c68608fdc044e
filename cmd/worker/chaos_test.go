//go:build chaos

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	// chaosSymbols is how many symbols one session has in the kill test.
	chaosSymbols = 60
	// chaosPerMinute is the limit at the simulator and of the program.
	chaosPerMinute = 600
	// chaosSessions is how many sessions back the first one lies.
	chaosSessions = 60
	// longestLife is how long a process may live before it is killed. A
	// start takes a part of it, the rest is work.
	longestLife = 1500 * time.Millisecond
)

// numberFrom reads a number from the environment.
func numberFrom(t *testing.T, name string, standard uint64) uint64 {
	t.Helper()
	text, set := os.LookupEnv(name)
	if !set {
		return standard
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// killed is one kill loop: the real binary against the simulator, on a real
// Redis and a real Postgres.
type killed struct {
	*world
	binary   string
	symbols  []market.Symbol
	random   *rand.Rand
	through  market.Date
	kills    int
	sessions []market.Date
	output   bytes.Buffer
	// repeated is the number of calls that were repeated so far, worst the
	// most that were repeated between two kills.
	repeated, worst int
	// began is when the first run of each session was started.
	began []time.Time
}

// TestChaosKill kills the program at random moments and starts it again at
// once. Afterwards database, ledger, Redis and the log of calls are compared
// with the model: no bar missing, doubled or wrong; at most as many calls
// repeated as there were units in flight; no window above the limit.
//
// CHAOS_KILLS sets how often (100), CHAOS_SEED replays the moments of a run.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosKill(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	want := int(numberFrom(t, "CHAOS_KILLS", 100))
	fmt.Printf("chaos: replay with CHAOS_SEED=%d CHAOS_KILLS=%d\n", seed, want)

	k := newKilled(t, seed)
	for back := chaosSessions; k.kills < want; back-- {
		session, err := market.NYSE().Back(k.through, back)
		if back < 0 || err != nil {
			t.Fatalf("out of sessions after %d kills (%v)", k.kills, err)
		}
		k.sessions, k.began = append(k.sessions, session), append(k.began, time.Now())
		k.untilDone(session, want)
	}
	k.verify()
}

func newKilled(t *testing.T, seed uint64) *killed {
	t.Helper()
	through, err := market.NYSE().LastClosed(time.Now(), settleTime)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t).withServers()
	w.sim = simulator.New(simulator.Config{Key: canary, Through: through, PerMinute: chaosPerMinute, Latency: 300 * time.Millisecond})
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = server.URL
	w.env["SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE"] = strconv.Itoa(chaosPerMinute)
	k := &killed{
		world: w, through: through, binary: buildWorker(t),
		symbols: market.SP500()[:chaosSymbols], random: rand.New(rand.NewPCG(seed, 0)),
	}
	return k
}

// buildWorker builds the program as it is released.
func buildWorker(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "worker")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// killUntilDone starts the program again and again, killing it within longest
// as long as kills are wanted, until it ends by itself with all stored.
func (w *world) killUntilDone(binary string, random *rand.Rand, want int, longest time.Duration, args ...string) (kills, starts int) {
	w.t.Helper()
	for {
		starts++
		cmd := exec.CommandContext(w.t.Context(), binary, args...)
		cmd.Env = append(os.Environ(), environOf(w.env)...)
		if err := cmd.Start(); err != nil {
			w.t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var life <-chan time.Time
		if kills < want {
			life = time.After(time.Duration(random.Int64N(int64(longest))))
		}
		select {
		case err := <-ended:
			if err != nil {
				w.t.Fatalf("start %d: %v", starts, err)
			}
			return kills, starts
		case <-life:
			_ = cmd.Process.Kill()
			if err := <-ended; err == nil {
				return kills, starts // it was done before the signal came
			}
			kills++
		}
	}
}

// untilDone starts the program again and again, killing it as long as kills
// are wanted, until a run of the session ends by itself with all stored.
func (k *killed) untilDone(session market.Date, want int) {
	k.t.Helper()
	for start := range 10 * (want + 1) {
		cmd := k.start(session)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var life <-chan time.Time
		if k.kills < want {
			life = time.After(time.Duration(k.random.Int64N(int64(longestLife))))
		}
		select {
		case err := <-ended:
			if err == nil {
				return
			}
			k.t.Fatalf("start %d of %s: %v\n%s", start, session, err, tail(k.output.String()))
		case <-life:
			_ = cmd.Process.Kill()
			if err := <-ended; err == nil {
				return // it was done before the signal came
			}
			k.kills++
			k.checkRework()
		}
	}
	k.t.Fatalf("session %s was never done", session)
}

func (k *killed) start(session market.Date) *exec.Cmd {
	k.t.Helper()
	names := make([]string, len(k.symbols))
	for i, s := range k.symbols {
		names[i] = string(s)
	}
	cmd := exec.CommandContext(k.t.Context(), k.binary, "run", "daily-bars", "--json",
		"--date", session.String(), "--symbols", strings.Join(names, ","))
	cmd.Env = append(os.Environ(), environOf(k.env)...)
	cmd.Stdout, cmd.Stderr = &k.output, &k.output
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	return cmd
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

func (k *killed) verify() {
	k.t.Helper()
	last := k.sessions[len(k.sessions)-1]
	s := k.open()
	for _, symbol := range k.symbols {
		k.verifySymbol(s, symbol, last)
	}
	for _, session := range k.sessions {
		stored, err := s.db.DoneUnits(k.t.Context(), "daily_bars", session.String())
		if err != nil || len(stored) != len(k.symbols) {
			k.t.Errorf("%s: %d items in the ledger, want %d (%v)", session, len(stored), len(k.symbols), err)
		}
		k.verifySet("jobs:daily_bars:" + session.String() + ":done")
	}
	k.verifyCalls()
	k.noCanary("the output", k.output.String())
	k.noCanary("the database", k.dump())
	k.noCanary("Redis", k.dumpRedis())
}

// verifySymbol compares every stored bar with the model: those that the
// replies held, up to the last session that was run, and no other.
func (k *killed) verifySymbol(s *services, symbol market.Symbol, last market.Date) {
	k.t.Helper()
	from, err := market.NYSE().Back(k.through, 99)
	if err != nil {
		k.t.Fatal(err)
	}
	sessions, err := market.NYSE().Sessions(from, last)
	if err != nil {
		k.t.Fatal(err)
	}
	series, err := s.db.Bars(k.t.Context(), symbol, market.Range{From: 1, To: last + 5000})
	if err != nil {
		k.t.Fatal(err)
	}
	want := make([]market.Bar, len(sessions))
	for i, d := range sessions {
		want[i] = simulator.Bar(symbol, d)
	}
	if !slices.Equal(series.Bars, want) {
		k.t.Errorf("%s: the %d stored bars are not the %d served ones", symbol, len(series.Bars), len(want))
	}
}

// verifySet compares a done-set with the symbols of its session.
func (k *killed) verifySet(key string) {
	k.t.Helper()
	ctx, rdb := k.t.Context(), k.redis()
	members := rdb.SMembers(ctx, key).Val()
	slices.Sort(members)
	want := make([]string, len(k.symbols))
	for i, s := range k.symbols {
		want[i] = string(s)
	}
	slices.Sort(want)
	if !slices.Equal(members, want) {
		k.t.Errorf("%s holds %v", key, members)
	}
	if ttl := rdb.TTL(ctx, key).Val(); ttl <= 0 || ttl > 25*time.Hour {
		k.t.Errorf("%s expires in %s", key, ttl)
	}
}

// checkRework holds what was repeated since the last kill to the units that
// were in flight then.
func (k *killed) checkRework() {
	k.t.Helper()
	type unit struct {
		session string
		symbol  market.Symbol
	}
	seen := map[unit]bool{}
	calls := k.sim.Calls()
	for _, c := range calls {
		seen[unit{k.sessionAt(c.At), c.Symbol}] = true
	}
	repeated := len(calls) - len(seen)
	since := repeated - k.repeated
	k.repeated, k.worst = repeated, max(k.worst, since)
	if since > workers {
		k.t.Errorf("after %d kills: %d calls repeated since the last, with %d units in flight", k.kills, since, workers)
	}
}

// sessionAt names the session that was being run at an instant.
func (k *killed) sessionAt(at time.Time) string {
	i := len(k.began) - 1
	for i > 0 && k.began[i].After(at) {
		i--
	}
	return k.sessions[i].String()
}

// verifyCalls counts the calls that were repeated, and looks for a window
// above the limit.
func (k *killed) verifyCalls() {
	k.t.Helper()
	k.checkRework()
	calls := len(k.sim.Calls())
	fmt.Printf("chaos: %d kills, %d sessions of %d symbols, %d calls, %d repeated (at most %d after one kill, bound %d), busiest minute %d of %d\n",
		k.kills, len(k.sessions), len(k.symbols), calls, k.repeated, k.worst, workers,
		k.sim.MaxInWindow(time.Minute), chaosPerMinute)
	if units := len(k.symbols) * len(k.sessions); calls != units+k.repeated {
		k.t.Errorf("%d calls for %d units, %d repeated", calls, units, k.repeated)
	}
	// A call is written down before it is made, so none is missing.
	written, err := k.open().db.CallsSince(k.t.Context(), "alpha_vantage", time.Unix(0, 0))
	if err != nil || written < calls {
		k.t.Errorf("%d calls in the ledger, %d at the provider (%v)", written, calls, err)
	}
	if v := k.sim.Violations(); len(v) > 0 {
		k.t.Errorf("limits broken: %v", v)
	}
}

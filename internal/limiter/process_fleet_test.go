package limiter_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// fleet is several processes that share one limit on a real Redis.
type fleet struct {
	t       *testing.T
	order   order
	rdb     *redis.Client
	members []*member // those that run
	ended   []*member
	// drained are the slots that were taken off the list in Redis before it
	// was lost, in Unix microseconds on Redis' clock.
	drained []int64
}

// member is one process of a fleet.
type member struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	stderr  bytes.Buffer
	done    chan struct{} // closed when all that it said has been read
	answers chan event    // what is neither a start nor an error

	mu     sync.Mutex
	starts []int64 // Unix microseconds
	errors []string
}

// newFleet starts n processes that follow an order.
func newFleet(t *testing.T, url string, n int, o order) *fleet {
	t.Helper()
	o.URL, o.Trace = url, 1_000_000
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	options.MaxRetries, options.ReadTimeout = -1, 20*time.Second
	f := &fleet{t: t, order: o, rdb: redis.NewClient(options)}
	t.Cleanup(func() {
		for _, m := range f.members {
			_ = m.cmd.Process.Kill()
			<-m.done
			_ = m.cmd.Wait()
		}
		_ = f.rdb.Close()
	})
	for range n {
		f.start()
	}
	return f
}

// start adds a process.
func (f *fleet) start() *member {
	f.t.Helper()
	text, err := json.Marshal(f.order)
	if err != nil {
		f.t.Fatal(err)
	}
	m := &member{t: f.t, cmd: exec.Command(os.Args[0]), done: make(chan struct{}), answers: make(chan event, 100)}
	m.cmd.Env = append(os.Environ(), processVariable+"="+string(text))
	m.cmd.Stderr = &m.stderr
	m.in, err = m.cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go m.listen(out)
	f.members = append(f.members, m)
	return m
}

// listen takes down what the process says. A line may be cut off by a kill.
func (m *member) listen(out io.Reader) {
	defer close(m.done)
	for in := json.NewDecoder(out); ; {
		var e event
		if in.Decode(&e) != nil {
			_, _ = io.Copy(io.Discard, out)
			return
		}
		m.note(e)
	}
}

func (m *member) note(e event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case e.Start > 0:
		m.starts = append(m.starts, e.Start)
	case e.Error != "":
		m.errors = append(m.errors, e.Error)
	default:
		m.answers <- e
	}
}

// tell sends a command.
func (m *member) tell(command string) {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.in, command); err != nil {
		m.t.Errorf("tell a process to %s: %v", command, err)
	}
}

// answer returns the next thing that the process has to say.
func (m *member) answer() event {
	m.t.Helper()
	select {
	case e := <-m.answers:
		return e
	case <-m.done:
		m.t.Error("a process ended early")
	case <-time.After(30 * time.Second):
		m.t.Error("a process does not answer")
	}
	return event{}
}

func (m *member) stats() limiter.Stats {
	m.t.Helper()
	m.tell("stats")
	if s := m.answer().Stats; s != nil {
		return *s
	}
	return limiter.Stats{}
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.starts)
}

// kill ends one of the processes with SIGKILL.
func (f *fleet) kill(i int) {
	f.t.Helper()
	m := f.members[i]
	f.members = slices.Delete(f.members, i, i+1)
	f.ended = append(f.ended, m)
	_ = m.cmd.Process.Kill()
	<-m.done
	_ = m.cmd.Wait()
}

// stop ends all processes in an orderly way, and returns their counters.
func (f *fleet) stop() []limiter.Stats {
	f.t.Helper()
	for _, m := range f.members {
		_ = m.in.Close()
	}
	var all []limiter.Stats
	for _, m := range f.members {
		select {
		case <-m.done:
		case <-time.After(30 * time.Second):
			f.t.Error("a process does not end")
			_ = m.cmd.Process.Kill()
			<-m.done
		}
		// A race that was found in the process also shows here.
		if err := m.cmd.Wait(); err != nil {
			f.t.Errorf("a process ended with %v: %s", err, m.stderr.String())
		}
		for len(m.answers) > 0 {
			if s := (<-m.answers).Stats; s != nil {
				all = append(all, *s)
			}
		}
		for _, text := range m.errors {
			f.t.Errorf("a process says: %s", text)
		}
	}
	f.ended, f.members = append(f.ended, f.members...), nil
	return all
}

// starts returns when the calls of all processes started, ascending.
func (f *fleet) starts() []int64 {
	var all []int64
	for _, m := range slices.Concat(f.ended, f.members) {
		m.mu.Lock()
		all = append(all, m.starts...)
		m.mu.Unlock()
	}
	slices.Sort(all)
	return all
}

func (f *fleet) key(part string) string {
	name := f.order.Windows[0].Name
	if part == "tokens" || part == "last_refill" {
		return "rate_limit:" + name + ":" + part
	}
	return "rate_limit_ext:" + name + ":" + part
}

// lose loses keys, and takes the slots that there were until then off the list
// in the same moment.
func (f *fleet) lose(how func(redis.Pipeliner)) {
	f.t.Helper()
	ctx := context.Background()
	var slots *redis.StringSliceCmd
	_, err := f.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		slots = p.LRange(ctx, f.key("trace"), 0, -1)
		p.Del(ctx, f.key("trace"))
		how(p)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.drain(slots.Val())
}

func (f *fleet) drain(slots []string) {
	f.t.Helper()
	for _, text := range slots {
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			f.t.Fatal(err)
		}
		f.drained = append(f.drained, at)
	}
}

// slots returns all slots so far, ascending, in Unix microseconds on Redis'
// clock.
func (f *fleet) slots() []int64 {
	f.t.Helper()
	f.lose(func(redis.Pipeliner) {})
	slices.Sort(f.drained)
	return slices.Clone(f.drained)
}

// now returns Redis' clock in Unix microseconds.
func (f *fleet) now() int64 {
	f.t.Helper()
	now, err := f.rdb.Time(context.Background()).Result()
	if err != nil {
		f.t.Fatal(err)
	}
	return now.UnixMicro()
}

// await returns when there are n slots on the list in Redis.
func (f *fleet) await(n int64) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		have, err := f.rdb.LLen(context.Background(), f.key("trace")).Result()
		if err == nil && have >= n {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d slots, want %d (%v)", have, n, err)
		}
		pass(f.t.Context(), 5*time.Millisecond)
	}
}

// awaitSlotsAhead returns when a slot is promised for that long from now.
func (f *fleet) awaitSlotsAhead(d time.Duration) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		last, err := f.rdb.LIndex(context.Background(), f.key("trace"), -1).Int64()
		if err == nil && last >= f.now()+d.Microseconds() {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("no slot %s ahead (%v)", d, err)
		}
		pass(f.t.Context(), 5*time.Millisecond)
	}
}

// bucket returns the capacity and the rate of the first window.
func (f *fleet) bucket() (capacity, rate float64) {
	capacity, rate, _ = limiter.Bucket(f.order.Windows[0], f.order.Horizon)
	return capacity, rate
}

// nearlyNothing is what rounding slots to microseconds may come to, in tokens.
const nearlyNothing = 1e-3

// wantCurve checks that in no time of any length more tokens were taken than
// the bucket's capacity and what it refills meanwhile.
func (f *fleet) wantCurve(slots []int64) {
	f.t.Helper()
	capacity, rate := f.bucket()
	if x := excess(f.spend(slots), capacity, rate); x > nearlyNothing {
		f.t.Errorf("%d slots are %.4f tokens over the curve of capacity %g and rate %.3f/s", len(slots), x, capacity, rate)
	}
}

// spend repeats each slot for each of its tokens.
func (f *fleet) spend(slots []int64) []int64 {
	var tokens []int64
	for _, at := range slots {
		for range max(1, f.order.Request.Cost) {
			tokens = append(tokens, at)
		}
	}
	return tokens
}

// wantWindows checks that no provider sees more calls than its limit.
func (f *fleet) wantWindows(slots []int64) {
	f.t.Helper()
	for _, w := range f.order.Windows {
		if n := busiest(f.spend(slots), w.Length); n > w.Limit {
			f.t.Errorf("%s: %d calls within %s, limit %d", w.Name, n, w.Length, w.Limit)
		}
	}
}

// scenario is one of several that run at the same time, since each mostly
// waits.
type scenario struct {
	name string
	run  func(t *testing.T)
}

func together(t *testing.T, scenarios ...scenario) {
	t.Helper()
	var running sync.WaitGroup
	for _, s := range scenarios {
		running.Go(func() { t.Run(s.name, s.run) })
	}
	running.Wait()
}

func between[T int | int64 | time.Duration](r *rand.Rand, least, most T) T {
	return least + T(r.Int64N(int64(most-least)+1))
}

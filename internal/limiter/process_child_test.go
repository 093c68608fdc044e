package limiter_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// processVariable makes a test binary one of the processes that share a limit
// instead of running tests. It holds an order.
const processVariable = "LIMITER_TEST_PROCESS"

// order is what a process does: its waiters call Wait again and again.
type order struct {
	URL     string // of Redis
	Windows []limiter.Window
	Horizon time.Duration
	Trace   int

	Waiters int
	Request limiter.Request
	// Think is the longest pause of a waiter between two calls.
	Think time.Duration
	// Patience is the longest time after which a waiter gives up; 0: never.
	Patience time.Duration
	// Network is the longest time that a request and that a reply of Redis
	// is held up.
	Network time.Duration
	// Provider is called after each Wait, unless it is empty.
	Provider string
	// Ledger makes a process that finds a window lost ask the Provider how
	// many calls it has had.
	Ledger bool
}

// event is a line that a process prints.
type event struct {
	Start  int64          `json:",omitempty"` // a Wait has returned: Unix microseconds
	Error  string         `json:",omitempty"` // of a Wait or a Pause
	Paused bool           `json:",omitempty"` // Redis knows of the pause
	Grants *int64         `json:",omitempty"` // those during the pause
	Stats  *limiter.Stats `json:",omitempty"`
}

// process is this program while it is one of those processes.
type process struct {
	order
	l   *limiter.Limiter
	mu  sync.Mutex
	out *json.Encoder
}

// beProcess returns if this program is to run tests, and otherwise ends it.
func beProcess() {
	text, ordered := os.LookupEnv(processVariable)
	if !ordered {
		return
	}
	p := process{out: json.NewEncoder(os.Stdout)}
	err := json.Unmarshal([]byte(text), &p.order)
	if err == nil {
		err = p.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run works until standard input ends. The lines there are commands.
func (p *process) run() error {
	o, err := limiter.ClientOptions(p.URL)
	if err != nil {
		return err
	}
	redis.SetLogger(silent{})
	rdb := redis.NewClient(o)
	defer func() { _ = rdb.Close() }()
	if p.Network > 0 {
		rdb.AddHook(network{p.Network})
	}
	options := limiter.Options{Horizon: p.Horizon, Trace: p.Trace}
	if p.Ledger {
		options.Used = p.used
	}
	if p.l, err = limiter.New(rdb, options, p.Windows...); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var waiters sync.WaitGroup
	for range p.Waiters {
		waiters.Go(func() { p.wait(ctx) })
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := p.obey(ctx, strings.Fields(in.Text())); err != nil {
			p.say(event{Error: err.Error()})
		}
	}
	cancel()
	waiters.Wait()
	p.sayStats()
	return nil
}

func (p *process) obey(ctx context.Context, command []string) error {
	switch {
	case len(command) == 1 && command[0] == "stats":
		p.sayStats()
		return nil
	case len(command) == 2 && command[0] == "pause":
		d, err := time.ParseDuration(command[1])
		if err != nil {
			return err
		}
		return p.pause(ctx, d)
	}
	return fmt.Errorf("command %q: want stats or pause with a duration", command)
}

func (p *process) say(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(e) // the test may be over
}

func (p *process) sayStats() {
	s := p.l.Stats()
	p.say(event{Stats: &s})
}

func (p *process) wait(ctx context.Context) {
	for ctx.Err() == nil {
		p.waitOnce(ctx)
		if p.Think > 0 {
			pass(ctx, rand.N(p.Think))
		}
	}
}

func (p *process) waitOnce(ctx context.Context) {
	mine, cancel := context.WithCancel(ctx)
	defer cancel()
	if p.Patience > 0 {
		// No deadline, of which the limiter would know beforehand.
		timer := time.AfterFunc(rand.N(p.Patience), cancel)
		defer timer.Stop()
	}
	err := p.l.WaitFor(mine, p.Request)
	at := time.Now().UnixMicro()
	switch {
	case err == nil && p.Provider != "":
		p.call(ctx)
		fallthrough
	case err == nil:
		p.say(event{Start: at})
	case mine.Err() == nil:
		p.say(event{Error: err.Error()})
		pass(ctx, 50*time.Millisecond)
	}
}

// pause pauses, and counts what this process grants until the pause is over.
func (p *process) pause(ctx context.Context, d time.Duration) error {
	began := time.Now()
	if err := p.l.Pause(ctx, d); err != nil {
		return err
	}
	before := p.l.Stats().Grants
	p.say(event{Paused: true})
	during := int64(0)
	for {
		// Only a count that was read before the end is one of the pause.
		n := p.l.Stats().Grants - before
		if time.Since(began) >= d {
			p.say(event{Grants: &during})
			return nil
		}
		during = n
		pass(ctx, 5*time.Millisecond)
	}
}

// call calls the provider, and pauses everybody if it says that there have been
// too many calls.
func (p *process) call(ctx context.Context) {
	got, err := p.get(ctx, "/query?function=TIME_SERIES_DAILY&symbol=AAPL&apikey=key")
	if err != nil {
		return
	}
	defer func() { _ = got.Body.Close() }()
	body, _ := io.ReadAll(got.Body)
	seconds, err := strconv.Atoi(got.Header.Get("Retry-After"))
	switch {
	case got.StatusCode == http.StatusTooManyRequests && err == nil:
		_ = p.l.Pause(ctx, time.Duration(seconds)*time.Second)
	case strings.Contains(string(body), `"Note"`), strings.Contains(string(body), `"Information"`):
		_ = p.l.Pause(ctx, time.Second)
	}
}

func (p *process) get(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Provider+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(r)
}

// used is the ledger of all processes, which the test keeps.
func (p *process) used(ctx context.Context, since time.Time) (int, error) {
	got, err := p.get(ctx, "/used?since="+strconv.FormatInt(since.Unix(), 10))
	if err != nil {
		return 0, err
	}
	defer func() { _ = got.Body.Close() }()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// network holds requests and replies up, each for a random time.
type network struct{ longest time.Duration }

func (n network) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n network) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		pass(ctx, rand.N(n.longest))
		err := next(ctx, cmd)
		pass(ctx, rand.N(n.longest))
		return err
	}
}

func (n network) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// silent keeps go-redis from reporting each connection that a test cuts.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

const (
	portTries  = 5
	startGrace = 5 * time.Second
	startPoll  = 20 * time.Millisecond
)

// server is a redis-server on the loopback that keeps nothing on disk.
type server struct {
	url     string
	version string
	cmd     *exec.Cmd
	dir     string
}

// startServer starts a redis-server on a free port. Another program may take
// the port in between, so it tries some.
func startServer(ctx context.Context) (*server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("start Redis: redis-server is missing: install it with `make deps`")
	}
	for range portTries {
		var s *server
		if s, err = tryServer(ctx, path); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("start Redis: %w", err)
}

func tryServer(ctx context.Context, path string) (*server, error) {
	var l net.ListenConfig
	free, err := l.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := free.Addr().String()
	_ = free.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "limiter-bench-")
	if err != nil {
		return nil, err
	}
	// Not bound to ctx: it must outlive the last command of a run that ends.
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", dir, //nolint:noctx // see above
		"--save", "", "--appendonly", "no", "--loglevel", "warning")
	s := &server{url: "redis://" + address + "/0", cmd: cmd, dir: dir}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if s.version, err = s.await(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// await waits until the server answers and returns its version. Whoever
// answers on the port must be the process that was started.
func (s *server) await(ctx context.Context) (string, error) {
	rdb, err := s.client()
	if err != nil {
		return "", err
	}
	defer func() { _ = rdb.Close() }()
	ctx, cancel := context.WithTimeout(ctx, startGrace)
	defer cancel()
	for {
		info, err := rdb.Info(ctx, "server").Result()
		if err == nil {
			if field(info, "process_id") != strconv.Itoa(s.cmd.Process.Pid) {
				return "", errors.New("another process answers on its port")
			}
			return field(info, "redis_version"), nil
		}
		if sleep(ctx, startPoll) != nil {
			return "", fmt.Errorf("no answer in %s: %w", startGrace, err)
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill() // it has nothing to save
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// client returns a client with the defaults of go-redis, for all but the
// limiter.
func (s *server) client() (*redis.Client, error) {
	o, err := redis.ParseURL(s.url)
	if err != nil {
		return nil, fmt.Errorf("redis client: %w", err)
	}
	return redis.NewClient(o), nil
}

// field returns the value of a line name:value of INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// serverTime returns how long, in microseconds, the server worked on one
// EVALSHA in the middle since the last CONFIG RESETSTAT; 0 if there was none.
func serverTime(ctx context.Context, rdb *redis.Client) (float64, error) {
	info, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, fmt.Errorf("read commandstats: %w", err)
	}
	var calls, used float64
	for pair := range strings.SplitSeq(field(info, "cmdstat_evalsha"), ",") {
		name, value, _ := strings.Cut(pair, "=")
		number, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "calls":
			calls = number
		case "usec":
			used = number
		}
	}
	if calls == 0 {
		return 0, nil
	}
	return used / calls, nil
}

// fill sets the two keys of a window to a bucket with that many tokens.
func fill(ctx context.Context, rdb *redis.Client, name string, tokens float64) error {
	now, err := rdb.Time(ctx).Result()
	if err == nil {
		err = rdb.MSet(ctx,
			"rate_limit:"+name+":tokens", tokens,
			"rate_limit:"+name+":last_refill", fmt.Sprintf("%d.%06d", now.Unix(), now.Nanosecond()/1000),
		).Err()
	}
	if err != nil {
		return fmt.Errorf("fill the bucket %s: %w", name, err)
	}
	return nil
}

// newLimiter returns a limiter over the windows with a client of its own.
func newLimiter(url string, o limiter.Options, hook redis.Hook, windows ...limiter.Window) (*limiter.Limiter, *redis.Client, error) {
	options, err := limiter.ClientOptions(url)
	if err != nil {
		return nil, nil, err
	}
	rdb := redis.NewClient(options)
	if hook != nil {
		rdb.AddHook(hook)
	}
	l, err := limiter.New(rdb, o, windows...)
	if err != nil {
		return nil, nil, errors.Join(err, rdb.Close())
	}
	return l, rdb, nil
}

// tap is a hook that hands every exchange with Redis to saw: one command, or
// the commands of one pipeline. What opens a connection is not counted.
type tap struct{ saw func(cmds ...redis.Cmder) }

func (t tap) DialHook(next redis.DialHook) redis.DialHook { return next }

func (t tap) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		t.report(cmd)
		return err
	}
}

func (t tap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		t.report(cmds...)
		return err
	}
}

func (t tap) report(cmds ...redis.Cmder) {
	if len(cmds) == 0 {
		return
	}
	switch cmds[0].Name() {
	case "hello", "client", "auth", "select":
	default:
		t.saw(cmds...)
	}
}

// call is one EVALSHA as the limiter sends it.
type call struct {
	sha  string
	keys []string
	args []any
}

// capture returns the EVALSHA that Wait sends when one caller comes alone and
// finds tokens.
func capture(ctx context.Context, url string, windows ...limiter.Window) (call, error) {
	var last atomic.Pointer[[]any]
	l, rdb, err := newLimiter(url, limiter.Options{}, tap{func(cmds ...redis.Cmder) {
		if args := cmds[0].Args(); cmds[0].Name() == "evalsha" && cmds[0].Err() == nil {
			last.Store(&args)
		}
	}}, windows...)
	if err != nil {
		return call{}, err
	}
	defer func() { _ = rdb.Close() }()
	// The first call loads the script, the second is the one to look at.
	for range 2 {
		if err := l.Wait(ctx); err != nil {
			return call{}, fmt.Errorf("capture the script's call: %w", err)
		}
	}
	if last.Load() == nil {
		return call{}, errors.New("capture the script's call: Wait sent no EVALSHA")
	}
	return parseCall(*last.Load())
}

// parseCall takes apart the arguments of EVALSHA sha numkeys key... arg...
func parseCall(args []any) (call, error) {
	bad := fmt.Errorf("capture the script's call: cannot read %v", args)
	if len(args) < 3 {
		return call{}, bad
	}
	n, err := strconv.Atoi(fmt.Sprint(args[2]))
	if err != nil || n < 0 || n > len(args)-3 {
		return call{}, bad
	}
	c := call{sha: fmt.Sprint(args[1]), args: args[3+n:]}
	for _, key := range args[3 : 3+n] {
		c.keys = append(c.keys, fmt.Sprint(key))
	}
	return c, nil
}

func (c call) replay(ctx context.Context, rdb *redis.Client) error {
	return rdb.EvalSha(ctx, c.sha, c.keys, c.args...).Err()
}

// sleep sleeps for d, or until ctx ends, whose error it returns then.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package embedded_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/alpha-oracle/worker/internal/embedded"
)

// holdDir makes the test binary a process that takes a directory's lock and
// keeps it until it is killed.
const holdDir = "EMBEDDED_TEST_HOLD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdDir); dir != "" {
		if _, err := embedded.Acquire(context.Background(), dir, "the child"); err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString("held\n")
		select {}
	}
	goleak.VerifyTestMain(m)
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestKeysExpireAsTimeGoesBy(t *testing.T) {
	t.Parallel()
	server, err := embedded.StartRedis(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	rdb, ctx := connect(t, server.URL()), t.Context()
	if err := rdb.Set(ctx, "short", "1", 300*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(ctx, "long", "1", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for rdb.Exists(ctx, "short").Val() == 1 {
		select {
		case <-deadline:
			t.Fatal("a key of 300 ms was alive after 10 s")
		case <-time.After(20 * time.Millisecond):
		}
	}
	if rdb.Exists(ctx, "long").Val() != 1 {
		t.Error("a key of one hour is gone")
	}
}

func TestOthersOnTheMachineAreKeptOut(t *testing.T) {
	t.Parallel()
	server, err := embedded.StartRedis(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	_, address, _ := strings.Cut(server.URL(), "@")
	rdb := connect(t, "redis://"+address)
	if err := rdb.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("a client without the password got %v", err)
	}
}

func TestScriptsReadTheServersTime(t *testing.T) {
	t.Parallel()
	server, err := embedded.StartRedis(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	rdb := connect(t, server.URL())
	seconds := func() int64 {
		n, err := rdb.Eval(t.Context(), "return tonumber(redis.call('TIME')[1])", nil).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if now := time.Now().Unix(); seconds() < now-2 || seconds() > now+2 {
		t.Errorf("TIME is %d, the clock says %d", seconds(), now)
	}
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := embedded.Acquire(t.Context(), dir, "host:1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = embedded.Acquire(t.Context(), dir, "host:2")
	var busy *embedded.BusyError
	if !errors.As(err, &busy) || busy.Owner != "host:1" {
		t.Fatalf("second Acquire: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := embedded.Acquire(t.Context(), dir, "host:2")
	if err != nil {
		t.Fatalf("after Release: %v", err)
	}
	_ = again.Release()
}

func TestAKilledProcessHoldsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatalf("the child did not take the lock: %v", err)
	}
	if _, err := embedded.Acquire(t.Context(), dir, "me"); !errors.As(err, new(*embedded.BusyError)) {
		t.Fatalf("while the child lives: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	lock, err := embedded.Acquire(t.Context(), dir, "me")
	if err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	_ = child.Wait()
	_ = lock.Release()
}

func TestACancelledAcquireIsNoBusyError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.Acquire(ctx, t.TempDir(), "me"); err == nil || errors.As(err, new(*embedded.BusyError)) {
		t.Errorf("Acquire = %v", err)
	}
}

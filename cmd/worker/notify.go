package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// notifier tells systemd how the process is, by the protocol of sd_notify(3): a
// datagram to the socket that the environment names. Without one it does
// nothing.
type notifier struct {
	*app
	socket string
	// watchdog is how long systemd waits for a sign of life; 0: it does not.
	watchdog time.Duration
}

func (a *app) newNotifier() notifier {
	env := environment(a.Environ)
	n := notifier{app: a, socket: env["NOTIFY_SOCKET"]}
	micros, err := strconv.ParseInt(env["WATCHDOG_USEC"], 10, 64)
	pid := env["WATCHDOG_PID"]
	if n.socket != "" && err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(micros) * time.Microsecond
	}
	return n
}

// send says one thing. That systemd does not hear it stops nothing.
func (n notifier) send(state string) {
	if n.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		n.log.Warn("systemd does not hear us", zap.String("state", state), zap.Error(err))
	}
}

// watch gives signs of life, twice in the time that systemd waits for one, until
// it is stopped, as long as stalled names nothing.
func (n notifier) watch(ctx context.Context, stalled func() []string) (stop func()) {
	if n.watchdog == 0 {
		return func() {}
	}
	// It goes on after the end has begun, which takes its time too.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(n.watchdog / 2)
		defer ticker.Stop()
		for {
			if jobs := stalled(); len(jobs) > 0 {
				n.log.Error("no sign of life for systemd: the schedules of these jobs hang", zap.String("jobs", strings.Join(jobs, ", ")))
			} else {
				n.send("WATCHDOG=1")
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); watching.Wait() }
}

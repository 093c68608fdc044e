// Command worker ingests market data for alpha-oracle: daily bars, through a
// rate limit that all replicas share, resumable after any crash.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/tracing"
)

// version is set by the build.
var version = "dev"

func main() {
	// The libraries' own logs go to standard error past our log and its
	// redaction; what they say is in the errors that they return.
	redis.SetLogger(silent{})
	tracing.Silence()
	ctx, stop := untilSignal(context.Background())
	code := run(ctx, os.Args[1:], process{
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Hangups: hangups,
	})
	stop()
	os.Exit(code)
}

// silent is a log of the Redis library that says nothing.
type silent struct{}

// Printf implements the library's interface.
func (silent) Printf(context.Context, string, ...any) {}

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return fmt.Sprintf("stopped by %s", e.signal) }

// exitCode is the shell's convention for a program that a signal ended.
func (e signalError) exitCode() int { return 128 + int(e.signal) }

// untilSignal returns a context that the first SIGINT or SIGTERM ends, with a
// signalError as its cause. The second one ends the process at once.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			// From here on a further signal has its default effect.
			signal.Stop(signals)
			if s, ok := s.(syscall.Signal); ok {
				cancel(signalError{s})
			}
			cancel(signalError{syscall.SIGTERM})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// hangups tells of each SIGHUP until stop is called; before and after, a SIGHUP
// ends the process, as a terminal that goes away does.
func hangups() (told <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

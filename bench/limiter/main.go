// Command limiter measures the worker's shared rate limiter on this machine,
// beside a script that does nothing, redis_rate and throttled, and holds every
// figure to its goal. All of it runs against one Redis that it starts itself,
// in one run, because only figures of the same run can be compared.
//
//	go run .             everything, about five minutes
//	go run . -short      only shows that it works, half a minute; judges nothing
//	go run . -part calls one half only: calls (tokens free) or crowds
//	go run . -markdown   prints the tables as Markdown
//
// It is a module of its own, so that what it compares with is no dependency of
// the worker.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// workerArg makes the program one of the worker processes of a scenario.
	workerArg = "worker"

	partCalls  = "calls"
	partCrowds = "crowds"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "limiter bench:", err)
		os.Exit(1) //nolint:forbidigo // the process belongs to it
	}
}

func run(ctx context.Context, args []string) error {
	b := &bench{out: os.Stdout, log: os.Stderr}
	b.now = time.Now
	if len(args) == 1 && args[0] == workerArg {
		return work(ctx, b.now, os.Stdin, os.Stdout)
	}
	flags := flag.NewFlagSet("limiter", flag.ContinueOnError)
	short := flags.Bool("short", false, "only show that everything works; judge nothing")
	rounds := flags.Int("rounds", 0, "rounds of each variant; 0: 60, or 2 with -short")
	part := flags.String("part", "", "measure only this half: calls (tokens free) or crowds (more callers than tokens)")
	markdown := flags.Bool("markdown", false, "print the tables as Markdown")
	strict := flags.Bool("strict", false, "exit with 1 if a goal is missed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *part != "" && *part != partCalls && *part != partCrowds {
		return fmt.Errorf("-part %s: want %s or %s", *part, partCalls, partCrowds)
	}
	b.sizes = sizesOf(*short, *rounds)
	b.report = newReport(!*short)
	if err := b.measure(ctx, *part); err != nil {
		return err
	}
	b.report.print(b.out, *markdown)
	if *strict && b.report.missed > 0 {
		return fmt.Errorf("%d goals missed", b.report.missed)
	}
	return nil
}

// sizes say how much is measured.
type sizes struct {
	short  bool
	rounds int
	round  time.Duration
}

func sizesOf(short bool, rounds int) sizes {
	// Many short rounds: this kind of machine is now twice as fast, now half,
	// for a good part of a second.
	s := sizes{short, rounds, 50 * time.Millisecond}
	if rounds <= 0 {
		s.rounds = 60
		if short {
			s.rounds = 2
		}
	}
	return s
}

// span returns how long something takes that takes full in a full run.
func (s sizes) span(full time.Duration) time.Duration {
	if s.short {
		return full / 10
	}
	return full
}

// bench is one run.
type bench struct {
	now      func() time.Time
	out, log io.Writer
	sizes    sizes
	server   *server
	admin    *redis.Client // for all that is not measured
	report   *report
	played   int // scenarios so far
}

// measure runs one part, or all.
func (b *bench) measure(ctx context.Context, part string) error {
	server, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	b.server = server
	if b.admin, err = server.client(); err != nil {
		return err
	}
	defer func() { _ = b.admin.Close() }()
	b.header()
	if part != partCrowds {
		if err := b.throughput(ctx); err != nil {
			return err
		}
	}
	if part == partCalls {
		return nil
	}
	return b.contention(ctx)
}

// header says what it runs on.
func (b *bench) header() {
	parts := []string{runtime.Version(), fmt.Sprintf("%d CPUs", runtime.NumCPU()), "Redis " + b.server.version + " on the loopback"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			for _, one := range []string{"go-redis/v9", "redis_rate/v10", "throttled/v2"} {
				if strings.HasSuffix(dep.Path, one) {
					parts = append(parts, one+" "+dep.Version)
				}
			}
		}
	}
	_, _ = fmt.Fprintf(b.out, "%s\n\n", strings.Join(slices.Compact(parts), ", "))
}

// progress tells whoever waits what is going on.
func (b *bench) progress(format string, args ...any) {
	_, _ = fmt.Fprintf(b.log, format+"\n", args...)
}

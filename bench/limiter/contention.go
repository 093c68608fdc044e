package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// traced is how many slots the script keeps, more than any scenario has.
	traced = 1 << 17
	// lead is what the workers get between the word and the start.
	lead = 100 * time.Millisecond
	// clockStep is by how much two processes may disagree about the time.
	clockStep = time.Millisecond
	// underWay is the age up to which a start that came after the end of a
	// call to Pause may have been let go before it.
	underWay = 5 * time.Millisecond
)

// scenario is several worker processes under one limit.
type scenario struct {
	title string
	task         // of every process
	parts []part // one per process
	// cold leaves the bucket's keys out; otherwise it begins full.
	cold bool
	// disturb, if there, runs beside the workers.
	disturb func(ctx context.Context, p *play) error
}

// part is in what one process differs from the others.
type part struct {
	waiters int
	daily   time.Duration
	pauses  []time.Duration
}

// split shares waiters out among processes.
func split(waiters, processes int) []part {
	parts := make([]part, processes)
	for i := range waiters {
		parts[i%processes].waiters++
	}
	return parts
}

// told is an event with the number of the process that told it.
type told struct {
	process int
	event
}

// play is a scenario under way, and afterwards what came out of it.
type play struct {
	scenario
	bench      *bench
	processes  []*process
	start      time.Time
	from, stop int64 // measured in between, Unix microseconds
	events     []told
	slots      []int64
}

// play runs a scenario to its end.
func (b *bench) play(ctx context.Context, s scenario) (*play, error) {
	b.progress("%s", s.title)
	b.played++
	s.Name, s.URL = "bench."+strconv.Itoa(b.played), b.server.url
	if s.Peer == peerOurs {
		s.Trace = traced
	}
	p := &play{scenario: s, bench: b}
	if err := p.perform(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", s.title, err)
	}
	return p, nil
}

func (p *play) perform(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if p.Peer == peerOurs && !p.cold {
		if err := fill(ctx, p.bench.admin, p.Name, float64(p.Quota.Burst)); err != nil {
			return err
		}
	}
	for i := range p.parts {
		started, err := p.spawn(ctx, i)
		if err != nil {
			return err
		}
		p.processes = append(p.processes, started)
	}
	for _, one := range p.processes {
		if err := one.awaitReady(ctx); err != nil {
			return err
		}
	}
	p.start = p.bench.now().Add(lead)
	p.from, p.stop = p.start.Add(p.Warm).UnixMicro(), p.start.Add(p.Run).UnixMicro()
	for _, one := range p.processes {
		if err := one.stdin.Encode(p.start); err != nil {
			return fmt.Errorf("start a worker: %w", err)
		}
	}
	if p.disturb != nil {
		if err := p.disturb(ctx, p); err != nil {
			return err
		}
	}
	for i, one := range p.processes {
		if err := one.join(); err != nil {
			return err
		}
		for _, e := range one.events {
			p.events = append(p.events, told{i, e})
		}
	}
	return p.readSlots(ctx, false)
}

// readSlots takes the slots that the script has kept, and drops all keys if
// flush is set, with no moment in between.
func (p *play) readSlots(ctx context.Context, flush bool) error {
	if p.Peer != peerOurs {
		return nil
	}
	var kept *redis.StringSliceCmd
	_, err := p.bench.admin.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		kept = tx.LRange(ctx, "rate_limit_ext:"+p.Name+":trace", 0, -1)
		if flush {
			tx.FlushDB(ctx)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the slots: %w", err)
	}
	for _, text := range kept.Val() {
		slot, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("read the slots: %w", err)
		}
		p.slots = append(p.slots, int64(slot))
	}
	return nil
}

// process is a worker process, which is this program once more.
type process struct {
	cmd    *exec.Cmd
	pipe   io.Closer
	stdin  *json.Encoder
	ready  chan struct{} // closed by the first event
	done   chan struct{} // closed after the last
	events []event       // to be read after done only
	killed bool
}

func (p *play) spawn(ctx context.Context, number int) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, workerArg)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	one := &process{
		cmd: cmd, pipe: in, stdin: json.NewEncoder(in),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	go one.listen(out)
	mine := p.task
	mine.Waiters, mine.Daily, mine.Pauses = p.parts[number].waiters, p.parts[number].daily, p.parts[number].pauses
	if err := one.stdin.Encode(mine); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	return one, nil
}

func (one *process) listen(out io.Reader) {
	defer close(one.done)
	var ready sync.Once
	for decoder := json.NewDecoder(out); ; {
		var e event
		if decoder.Decode(&e) != nil {
			return // the end, or a line that a kill cut off
		}
		one.events = append(one.events, e)
		ready.Do(func() { close(one.ready) })
	}
}

func (one *process) awaitReady(ctx context.Context) error {
	select {
	case <-one.ready:
		return nil
	case <-one.done:
		return errors.Join(errors.New("a worker ended before the start"), one.cmd.Wait())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the process as a crash would.
func (one *process) kill() error {
	one.killed = true
	return one.cmd.Process.Kill()
}

// join waits for the end of the process.
func (one *process) join() error {
	<-one.done
	_ = one.pipe.Close()
	if err := one.cmd.Wait(); err != nil && !one.killed {
		return fmt.Errorf("a worker: %w", err)
	}
	for _, e := range one.events {
		if e.Kind == evFailed {
			return fmt.Errorf("a worker: %s", e.Error)
		}
	}
	if !one.killed && one.events[len(one.events)-1].Kind != evEnd {
		return errors.New("a worker ended before the end")
	}
	return nil
}

// starts returns when calls of the given processes (of all, if none is given)
// might go, the daily ones among them.
func (p *play) starts(processes ...int) []int64 {
	var all []int64
	for _, e := range p.events {
		if (e.Kind == evStart || e.Kind == evDaily) && !e.Cut &&
			(len(processes) == 0 || slices.Contains(processes, e.process)) {
			all = append(all, e.At)
		}
	}
	return all
}

func (p *play) utilisation() float64 {
	return utilisation(p.starts(), p.from, p.stop, p.Quota.rate())
}

// lost returns how many tokens were not used while it was measured.
func (p *play) lost() float64 {
	return (1 - p.utilisation()) * p.Quota.rate() * float64(p.stop-p.from) / 1e6
}

// trips returns the exchanges with Redis per token. They are counted from one
// token to another, so that each comes with what was done to get it.
func (p *play) trips() float64 {
	starts := between(p.starts(), p.from, p.stop)
	if len(starts) < 2 {
		return 0
	}
	trips := 0
	for _, e := range p.events {
		trips += len(between(e.Trips, starts[0], starts[len(starts)-1]))
	}
	return float64(trips) / float64(len(starts)-1)
}

// late returns by how much a timer of any of the processes overslept at worst.
func (p *play) late() time.Duration {
	var worst int64
	for _, e := range p.events {
		worst = max(worst, e.Late)
	}
	return time.Duration(worst) * time.Microsecond
}

// slotExcess returns the over-admission on slot times, and startExcess that on
// the times at which calls might really go, in tokens.
func (p *play) slotExcess() float64 {
	return excess(p.slots, p.Quota.rate(), float64(p.Quota.Burst))
}

func (p *play) startExcess() float64 {
	return excess(p.starts(), p.Quota.rate(), float64(p.Quota.Burst))
}

// early returns how many calls went before a slot was there for them.
func (p *play) early() int { return early(p.starts(), p.slots, clockStep) }

// ideal is how long each waiter waits in a closed loop when all are served in
// turn, in milliseconds.
func (p *play) ideal() float64 {
	waiters := 0
	for _, one := range p.parts {
		waiters += one.waiters
	}
	return 1e3 * float64(waiters) / p.Quota.rate()
}

// waits returns how long the waiters waited, in milliseconds. Who was still
// waiting at the end counts if that was longer than all should wait: the
// longest waits would be left out otherwise.
func (p *play) waits() []float64 {
	var all []float64
	for _, e := range p.events {
		ms := float64(e.At-e.Entered) / 1e3
		if e.Kind == evStart && e.At >= p.from && (!e.Cut || ms > p.ideal()) {
			all = append(all, ms)
		}
	}
	return all
}

// dailyWaits is waits for the daily job of one process. One that was cut off
// counts with what it had waited.
func (p *play) dailyWaits(process int) []float64 {
	var all []float64
	for _, e := range p.events {
		if e.Kind == evDaily && e.process == process && e.Entered >= p.from {
			all = append(all, float64(e.At-e.Entered)/1e3)
		}
	}
	return all
}

// shares returns how many calls each waiter, and each process, got.
func (p *play) shares() (waiters, processes []int) {
	counts := make([][]int, len(p.parts))
	for i, one := range p.parts {
		counts[i] = make([]int, one.waiters)
	}
	for _, e := range p.events {
		if e.Kind == evStart && !e.Cut && e.At >= p.from && e.At < p.stop {
			counts[e.process][e.Waiter]++
		}
	}
	for _, each := range counts {
		sum := 0
		for _, n := range each {
			sum += n
		}
		waiters, processes = append(waiters, each...), append(processes, sum)
	}
	return waiters, processes
}

// whilePaused returns the most calls that the process that paused, and all the
// others together, let go within one pause.
func (p *play) whilePaused() (own, others int) {
	for _, pause := range p.events {
		if pause.Kind != evPause {
			continue
		}
		end := pause.Entered + p.PauseFor.Microseconds()
		begin := pause.At + underWay.Microseconds()
		inside := func(process int) int { return len(between(p.starts(process), begin, end)) }
		sum := 0
		for i := range p.parts {
			if i != pause.process {
				sum += inside(i)
			}
		}
		own, others = max(own, inside(pause.process)), max(others, sum)
	}
	return own, others
}

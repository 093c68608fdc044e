package limiter

import (
	"context"
	"text/template"
	"time"
)

// Keys from which a limiter on a test clock reads Redis' time.
const (
	TestSeconds = "test:seconds"
	TestMicros  = "test:micros"
)

// Statuses of Take.
const (
	Taken   = taken
	Spent   = spent
	Unknown = unknown
	NotYet  = notYet
)

// What the scripts are made with.
const (
	Guard       = guard
	MaxPause    = maxPause
	LongestLine = longestLine
	LowestShare = lowestShare
	Slower      = slower
	Recovery    = recovery
)

// Midnights is under test.
var Midnights = midnights

// OnTestClock makes the scripts take the time from TestSeconds and TestMicros.
func OnTestClock(o Options) Options {
	o.clock = "redis.call('MGET', '" + TestSeconds + "', '" + TestMicros + "')"
	return o
}

// Bucket returns the capacity and the rate in tokens per second of a sliding
// window that is not exact, and Deepest the deepest debt.
func Bucket(w Window, horizon time.Duration) (capacity, rate, deepest float64) {
	made, err := newWindow(w)
	if err != nil {
		panic(err)
	}
	return made.capacity, made.rate, made.deepest(horizon)
}

// Count is what the ledger says of a window.
type Count = count

// NewCount returns an answer of the ledger.
func NewCount(since int64, calls int) Count { return count{true, since, calls} }

// Question is what one run of the script is asked.
type Question struct {
	Class   Class
	Aged    bool // ask as a Scheduled call does
	N, Cost int
	Owed    int
}

// Answer is what it came to; see take.lua.
type Answer struct {
	Status    int64
	Delays    []time.Duration
	Ask, Next time.Duration
	Window    int
	Reset     int64
	Lost      int64
}

// Take runs the script once; counts has an entry for each window, or is nil.
func (l *Limiter) Take(q Question, counts []Count) (Answer, error) {
	lane := int(q.Class)
	if q.Aged {
		lane += classes
	}
	a := l.take(question{class: q.Class, lane: lane, n: q.N, cost: q.Cost, owed: q.Owed}, counts)
	return Answer{a.status, a.delays, a.ask, a.next, a.window, a.reset, a.lost}, a.err
}

// Script returns the text of a script, such as take.lua, for the limiter.
func (l *Limiter) Script(name string) string {
	return source(template.Must(template.ParseFS(sources, "*.lua")), name, l.windows, l.o, 6)
}

// ScriptName tells which of the limiter's scripts has a hash.
func (l *Limiter) ScriptName(hash string) string {
	switch hash {
	case l.scripts.take.Hash():
		return "take"
	case l.scripts.pause.Hash():
		return "pause"
	case l.scripts.levels.Hash():
		return "levels"
	case l.scripts.refund.Hash():
		return "refund"
	case l.scripts.exhaust.Hash():
		return "exhaust"
	}
	return ""
}

// Dispatching reports whether a goroutine looks after those who wait.
func (l *Limiter) Dispatching() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dispatching
}

// Refund gives tokens of unused slots, the newest at last, back to the days.
func (l *Limiter) Refund(ctx context.Context, tokens int, last time.Time) error {
	return l.run(ctx, l.scripts.refund, daysOf(l.windows), nil, tokens, last.Unix()).Err()
}

// Horizons is the part of the horizon that each class may use.
var Horizons = horizons

package limiter

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Keys by which tests set the scripts' clock and see the slots given out.
const (
	TestSeconds = "test:seconds"
	TestMicros  = "test:micros"
	TestSlots   = "test:slots"
)

// Unexported functions under test.
var (
	Bucket    = bucket
	Midnights = midnights
)

// Statuses of Take.
const (
	Taken   = taken
	Spent   = spent
	Unknown = unknown
	TooLate = tooLate
	NextDay = nextDay
)

// RecordSlots makes the script note each slot, in microseconds on Redis'
// clock, in the list TestSlots.
func (l *Limiter) RecordSlots(t testing.TB) {
	t.Helper()
	l.scripts.take = redis.NewScript(recording(t))
}

// UseTestClock makes the scripts take the time from the keys TestSeconds and
// TestMicros, and note the slots as RecordSlots does.
func (l *Limiter) UseTestClock(t testing.TB) {
	t.Helper()
	onClock := func(text string) *redis.Script {
		return redis.NewScript(replace(t, text,
			"redis.call('TIME')", "redis.call('MGET', '"+TestSeconds+"', '"+TestMicros+"')"))
	}
	l.scripts = scripts{
		take:    onClock(recording(t)),
		pause:   onClock(source("state") + source("pause")),
		exhaust: onClock(source("state") + source("exhaust")),
		levels:  onClock(source("state") + source("levels")),
	}
}

func recording(t testing.TB) string {
	t.Helper()
	return replace(t, source("state")+source("take"), "return {0,",
		"redis.call('RPUSH', '"+TestSlots+"', string.format('%.0f', (now + ahead) * 1000000))\nreturn {0,")
}

func replace(t testing.TB, text, before, after string) string {
	t.Helper()
	if n := strings.Count(text, before); n != 1 {
		t.Fatalf("the script has %q %d times, want once", before, n)
	}
	return strings.Replace(text, before, after, 1)
}

// Take runs the script once and returns its status, and the reset or the delay
// in microseconds. left is what the ledger says about a day since a reset.
func (l *Limiter) Take(ctx context.Context, longest int64, left int, since int64) (status, value int64, err error) {
	counts := make([]count, len(l.windows))
	for i := range counts {
		counts[i] = count{since: since, left: left}
	}
	got, err := l.run(ctx, l.scripts.take, longest, l.o.Now(), l.windows, counts).Int64Slice()
	if err != nil {
		return 0, 0, err
	}
	return got[0], got[len(got)-1], nil
}

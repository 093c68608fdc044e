package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// daily is a limiter whose clock, and Redis', stands where the test put it.
type daily struct {
	*limiter.Limiter
	t     *testing.T
	rdb   *redis.Client
	zone  *time.Location
	now   time.Time
	asked []time.Time
	used  int
	err   error
}

// newDaily allows so many calls that only the day of 3 calls matters.
func newDaily(t *testing.T, zone string, ledger bool) *daily {
	t.Helper()
	d := &daily{t: t, rdb: client(t, testenv.Redis(t)), zone: location(t, zone)}
	o := limiter.Options{Now: func() time.Time { return d.now }}
	if ledger {
		o.Used = func(_ context.Context, since time.Time) (int, error) {
			d.asked = append(d.asked, since)
			if d.err != nil {
				d.now = d.now.Add(time.Minute) // and with it the patience goes
			}
			return d.used, d.err
		}
	}
	d.Limiter = newLimiter(t, d.rdb, o,
		limiter.Window{Name: "provider", Limit: 1000, Length: time.Second},
		limiter.Window{Name: "provider.day", Limit: 3, Daily: d.zone})
	d.UseTestClock(t)
	return d
}

// at sets the clock to a local time.
func (d *daily) at(local string) {
	d.t.Helper()
	now, err := time.ParseInLocation(time.DateTime, local, d.zone)
	if err != nil {
		d.t.Fatal(err)
	}
	d.now = now
	err = d.rdb.MSet(d.t.Context(), limiter.TestSeconds, now.Unix(), limiter.TestMicros, now.Nanosecond()/1000).Err()
	if err != nil {
		d.t.Fatal(err)
	}
}

// calls makes calls until the day is spent, and checks when it ends.
func (d *daily) calls(reset string) int {
	d.t.Helper()
	for n := 0; ; n++ {
		err := d.Wait(d.t.Context())
		var spent *limiter.QuotaError
		switch {
		case err == nil && n < 100:
		case errors.As(err, &spent):
			want := limiter.QuotaError{Name: "provider.day", Limit: 3, Reset: spent.Reset}
			if *spent != want || spent.Reset.Format(time.RFC3339) != reset {
				d.t.Fatalf("%+v, want a reset at %s", spent, reset)
			}
			return n
		default:
			d.t.Fatalf("call %d: %v", n, err)
		}
	}
}

func TestDayStartsAtLocalMidnight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, before, reset, after, next string }{
		{"America/New_York", "2026-07-01 23:59:58", "2026-07-02T00:00:00-04:00", "2026-07-02 00:00:00", "2026-07-03T00:00:00-04:00"},
		{"America/New_York", "2026-03-07 23:59:58", "2026-03-08T00:00:00-05:00", "2026-03-08 00:00:00", "2026-03-09T00:00:00-04:00"},
		{"America/New_York", "2026-10-31 23:59:58", "2026-11-01T00:00:00-04:00", "2026-11-01 23:59:58", "2026-11-02T00:00:00-05:00"},
		{"America/Santiago", "2026-09-05 23:59:58", "2026-09-06T01:00:00-03:00", "2026-09-06 01:00:00", "2026-09-07T00:00:00-03:00"},
		{"Asia/Kolkata", "2026-09-05 00:00:01", "2026-09-06T00:00:00+05:30", "2026-09-06 00:00:00", "2026-09-07T00:00:00+05:30"},
	} {
		t.Run(c.zone+" "+c.before, func(t *testing.T) {
			t.Parallel()
			d := newDaily(t, c.zone, true)
			d.at(c.before)
			if n := d.calls(c.reset); n != 3 {
				t.Errorf("%d calls on the first day, want 3", n)
			}
			d.at(c.after)
			if n := d.calls(c.next); n != 3 {
				t.Errorf("%d calls on the second day, want 3", n)
			}
			if len(d.asked) != 1 {
				t.Errorf("the ledger was asked %d times, want once", len(d.asked))
			}
		})
	}
}

func TestLostDayComesFromTheLedger(t *testing.T) {
	t.Parallel()
	const midnight, next = "2026-03-10T00:00:00-04:00", "2026-03-11T00:00:00-04:00"
	for used, left := range map[int]int{0: 3, 1: 2, 3: 0, 7: 0} {
		t.Run(fmt.Sprint(used), func(t *testing.T) {
			t.Parallel()
			d := newDaily(t, "America/New_York", true)
			d.used = used
			d.at("2026-03-10 15:00:00")
			for range 2 {
				if n := d.calls(next); n != left {
					t.Errorf("%d calls after %d of 3, want %d", n, used, left)
				}
				left = 0
			}
			if len(d.asked) != 1 || d.asked[0].Format(time.RFC3339) != midnight {
				t.Errorf("the ledger was asked %v, want once for %s", d.asked, midnight)
			}
		})
	}
}

func TestLostDayWithoutALedgerIsClosedUntilTheNext(t *testing.T) {
	t.Parallel()
	d := newDaily(t, "America/New_York", false)
	d.at("2026-03-10 15:00:00")
	if n := d.calls("2026-03-11T00:00:00-04:00"); n != 0 {
		t.Errorf("%d calls, want none", n)
	}
	d.at("2026-03-11 00:00:01")
	if n := d.calls("2026-03-12T00:00:00-04:00"); n != 3 {
		t.Errorf("%d calls on the next day, want 3", n)
	}
}

func TestLedgerThatCannotBeAskedMeansNo(t *testing.T) {
	t.Parallel()
	d := newDaily(t, "America/New_York", true)
	d.err = errors.New("connection lost")
	d.at("2026-03-10 15:00:00")
	err := d.Wait(t.Context())
	if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "connection lost") {
		t.Errorf("%v, want ErrUnavailable and what failed", err)
	}
	if n := d.rdb.Exists(t.Context(), tokensKey, "rate_limit:provider.day:tokens").Val(); n != 0 {
		t.Error("something was booked")
	}
}

func TestExhaustClosesTheDay(t *testing.T) {
	t.Parallel()
	d := newDaily(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Exhaust(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := d.calls("2026-03-11T00:00:00-04:00"); n != 0 {
		t.Errorf("%d calls after the provider said no more", n)
	}
	d.at("2026-03-11 00:00:00")
	if n := d.calls("2026-03-12T00:00:00-04:00"); n != 3 {
		t.Errorf("%d calls on the next day, want 3", n)
	}
}

// A call whose slot lies after midnight belongs to a day that is not there
// yet: nothing is booked, and the caller comes back at midnight.
func TestSlotAfterMidnightIsNotBookedOnTheOldDay(t *testing.T) {
	t.Parallel()
	d := newDaily(t, "America/New_York", true)
	d.at("2026-03-10 23:59:50")
	if err := d.Pause(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2026, 3, 10, 0, 0, 0, 0, d.zone).Unix()
	if _, _, err := d.Take(t.Context(), -1, 3, midnight); err != nil {
		t.Fatal(err)
	}
	before := d.rdb.MGet(t.Context(), tokensKey, refillKey, "rate_limit:provider.day:tokens").Val()
	status, delay, err := d.Take(t.Context(), -1, -1, 0)
	if err != nil || status != limiter.NextDay || delay != 10e6 {
		t.Errorf("status %d, delay %d, %v; want to come back in 10 s", status, delay, err)
	}
	after := d.rdb.MGet(t.Context(), tokensKey, refillKey, "rate_limit:provider.day:tokens").Val()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

func TestClocksThatAreDaysApartMeanNo(t *testing.T) {
	t.Parallel()
	d := newDaily(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	d.now = d.now.AddDate(0, 0, 7)
	if _, _, err := d.Take(t.Context(), -1, 3, 0); err == nil || !strings.Contains(err.Error(), "days apart") {
		t.Errorf("%v, want that the clocks differ", err)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	d := newDaily(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	reset := time.Date(2026, 3, 11, 0, 0, 0, 0, d.zone)
	check := func(want ...limiter.Level) {
		t.Helper()
		got, err := d.Levels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
	}
	check(limiter.Level{Name: "provider", Limit: 1000}, limiter.Level{Name: "provider.day", Limit: 3, Reset: reset})
	if len(d.asked) != 0 || d.rdb.Exists(t.Context(), tokensKey).Val() != 0 {
		t.Error("a status asked the ledger or wrote something")
	}
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(limiter.Level{Name: "provider", Limit: 1000, Tokens: -1, Known: true},
		limiter.Level{Name: "provider.day", Limit: 3, Tokens: 2, Known: true, Reset: reset})
	d.at("2026-03-11 00:00:00")
	check(limiter.Level{Name: "provider", Limit: 1000, Tokens: 50, Known: true},
		limiter.Level{Name: "provider.day", Limit: 3, Tokens: 3, Known: true, Reset: reset.AddDate(0, 0, 1)})
}

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

// quota is a limiter of which only the second window matters. Its clock, and
// Redis', stands where the test put it.
type quota struct {
	*limiter.Limiter
	t     *testing.T
	rdb   *redis.Client
	clock *clock
	zone  *time.Location
	asked []time.Time
	used  int
	err   error
}

// newQuota makes one with a ledger or without.
func newQuota(t *testing.T, known bool, zone string, w limiter.Window) *quota {
	t.Helper()
	q := &quota{t: t, rdb: patient(t, testenv.Redis(t)), zone: location(t, zone)}
	q.clock = newClock(t, q.rdb, time.Unix(1772900000, 0))
	o := limiter.OnTestClock(limiter.Options{Now: q.clock.now})
	if known {
		o.Used = func(_ context.Context, since time.Time) (int, error) {
			q.asked = append(q.asked, since)
			if q.err != nil {
				q.clock.advance(time.Minute) // and with it the patience goes
			}
			return q.used, q.err
		}
	}
	w.Name = "provider.quota"
	q.Limiter = newLimiter(t, q.rdb, o, limiter.Window{Name: "provider", Limit: 1000, Length: time.Second, Burst: 500}, w)
	return q
}

func newDay(t *testing.T, zone string, known bool) *quota {
	t.Helper()
	return newQuota(t, known, zone, limiter.Window{Limit: 3, Daily: location(t, zone), Reserve: 1})
}

// at sets the clock to a local time, with tokens in the first window.
func (q *quota) at(local string) {
	q.t.Helper()
	now, err := time.ParseInLocation(time.DateTime, local, q.zone)
	if err != nil {
		q.t.Fatal(err)
	}
	q.clock.set(now.UnixMicro())
	q.fill()
}

func (q *quota) fill() {
	q.t.Helper()
	if err := q.rdb.MSet(q.t.Context(), tokensKey, 500, refillKey, float64(q.clock.micros)/1e6).Err(); err != nil {
		q.t.Fatal(err)
	}
}

// calls takes calls until the window is spent and returns how many went.
func (q *quota) calls(r limiter.Request, want limiter.QuotaError, reset string) int {
	q.t.Helper()
	for n := 0; ; n++ {
		err := q.WaitFor(q.t.Context(), r)
		var spent *limiter.QuotaError
		switch {
		case err == nil && n < 100:
		case errors.As(err, &spent):
			want.Name, want.Reset = "provider.quota", spent.Reset
			if *spent != want || spent.Reset.Format(time.RFC3339) != reset {
				q.t.Fatalf("%+v, want %+v with a reset at %s", spent, want, reset)
			}
			return n
		default:
			q.t.Fatalf("call %d: %v", n, err)
		}
	}
}

func (q *quota) all(reset string) int {
	q.t.Helper()
	return q.calls(limiter.Request{}, limiter.QuotaError{Limit: 3}, reset)
}

func TestDayStartsAtLocalMidnight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, before, reset, after, next string }{
		{"America/New_York", "2026-07-01 23:59:57", "2026-07-02T00:00:00-04:00", "2026-07-02 00:00:02", "2026-07-03T00:00:00-04:00"},
		{"America/New_York", "2026-03-07 23:59:57", "2026-03-08T00:00:00-05:00", "2026-03-08 00:00:02", "2026-03-09T00:00:00-04:00"},
		{"America/New_York", "2026-10-31 23:59:57", "2026-11-01T00:00:00-04:00", "2026-11-01 23:59:57", "2026-11-02T00:00:00-05:00"},
		{"America/Santiago", "2026-09-05 23:59:57", "2026-09-06T01:00:00-03:00", "2026-09-06 01:00:02", "2026-09-07T00:00:00-03:00"},
		{"Asia/Kolkata", "2026-09-05 00:00:02", "2026-09-06T00:00:00+05:30", "2026-09-06 00:00:02", "2026-09-07T00:00:00+05:30"},
	} {
		t.Run(c.zone+" "+c.before, func(t *testing.T) {
			t.Parallel()
			d := newDay(t, c.zone, true)
			d.at(c.before)
			if n := d.all(c.reset); n != 3 {
				t.Errorf("%d calls on the first day, want 3", n)
			}
			d.at(c.after)
			if n := d.all(c.next); n != 3 {
				t.Errorf("%d calls on the second day, want 3", n)
			}
			if len(d.asked) != 1 {
				t.Errorf("the ledger was asked %d times, want once", len(d.asked))
			}
		})
	}
}

func TestDaysStartWithTheirDate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"UTC", "America/New_York", "America/Santiago", "America/Havana", "America/Asuncion",
		"Asia/Beirut", "Asia/Amman", "Asia/Kolkata", "Africa/Cairo", "Australia/Lord_Howe", "Atlantic/Azores",
	} {
		zone := location(t, name)
		for day := time.Date(2015, 1, 1, 12, 0, 0, 0, time.UTC); day.Year() < 2031; day = day.AddDate(0, 0, 5) {
			for i, midnight := range limiter.Midnights(day, zone) {
				here, before := midnight.In(zone), midnight.Add(-1).In(zone)
				if here.YearDay() == before.YearDay() || here.Day() != day.In(zone).AddDate(0, 0, i-2).Day() {
					t.Fatalf("%s: the day around %s starts at %s", name, day.Format(time.DateOnly), here)
				}
			}
		}
	}
}

// The provider's clock decides on which side of midnight a call is counted.
func TestNothingGoesAroundMidnight(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	midnight := time.Date(2026, 3, 11, 0, 0, 0, 0, d.zone)
	for offset, want := range map[time.Duration]time.Duration{
		-2*time.Second - 1*time.Microsecond: 0,
		-2 * time.Second:                    4 * time.Second,
		-time.Microsecond:                   2*time.Second + time.Microsecond,
		0:                                   2 * time.Second,
		2*time.Second - time.Microsecond:    time.Microsecond,
		2 * time.Second:                     0,
	} {
		if err := d.rdb.Del(t.Context(), "rate_limit:provider.quota:tokens").Err(); err != nil {
			t.Fatal(err)
		}
		d.clock.set(midnight.Add(offset).UnixMicro())
		d.fill()
		since := midnight.AddDate(0, 0, -1)
		if offset >= 2*time.Second {
			since = midnight
		}
		a, err := d.Take(limiter.Question{N: 1, Cost: 1}, []limiter.Count{{}, limiter.NewCount(since.Unix(), 0)})
		switch {
		case err != nil:
			t.Fatal(err)
		case want == 0 && a.Status != limiter.Taken,
			want > 0 && (a.Status != limiter.NotYet || (a.Next-want).Abs() > 2*time.Microsecond || a.Ask != a.Next):
			t.Errorf("%s from midnight: %+v, want a wait of %s", offset, a, want)
		}
	}
}

func TestLostDayComesFromTheLedger(t *testing.T) {
	t.Parallel()
	const midnight, next = "2026-03-10T00:00:00-04:00", "2026-03-11T00:00:00-04:00"
	for used, left := range map[int]int{0: 3, 1: 2, 3: 0, 7: 0} {
		t.Run(fmt.Sprint(used), func(t *testing.T) {
			t.Parallel()
			d := newDay(t, "America/New_York", true)
			d.used = used
			d.at("2026-03-10 15:00:00")
			for range 2 {
				if n := d.all(next); n != left {
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
	d := newDay(t, "America/New_York", false)
	d.at("2026-03-10 15:00:00")
	if n := d.all("2026-03-11T00:00:00-04:00"); n != 0 {
		t.Errorf("%d calls, want none", n)
	}
	d.at("2026-03-11 00:00:02")
	if n := d.all("2026-03-12T00:00:00-04:00"); n != 3 {
		t.Errorf("%d calls on the next day, want 3", n)
	}
}

func TestLedgerThatCannotBeAskedMeansNo(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	d.err = errors.New("connection lost")
	d.at("2026-03-10 15:00:00")
	err := d.Wait(t.Context())
	if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "connection lost") {
		t.Errorf("%v, want ErrUnavailable and what failed", err)
	}
	if n := d.rdb.Exists(t.Context(), "rate_limit:provider.quota:tokens").Val(); n != 0 {
		t.Error("something was booked")
	}
}

func TestReserveOfADayIsForTheOthers(t *testing.T) {
	t.Parallel()
	const next = "2026-03-11T00:00:00-04:00"
	d := newDay(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	if n := d.calls(limiter.Request{Class: limiter.Backfill}, limiter.QuotaError{Limit: 3, Reserve: 1}, next); n != 2 {
		t.Errorf("backfill got %d calls, want 2 of 3", n)
	}
	if n := d.calls(limiter.Request{Class: limiter.Manual}, limiter.QuotaError{Limit: 3}, next); n != 1 {
		t.Errorf("manual calls got %d, want the reserve of 1", n)
	}
}

func TestExhaustClosesTheDay(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Exhaust(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := d.all("2026-03-11T00:00:00-04:00"); n != 0 {
		t.Errorf("%d calls after the provider said no more", n)
	}
	d.at("2026-03-11 00:00:02")
	if n := d.all("2026-03-12T00:00:00-04:00"); n != 3 {
		t.Errorf("%d calls on the next day, want 3", n)
	}
}

// Slots that nobody used come back to their day, and to nothing else: another
// slot may stand next to them in a sliding window.
func TestRefundsAreForTheDayAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		back int
		last string
		want int
	}{
		"today":               {1, "2026-03-10 15:00:00", 2},
		"more than were used": {5, "2026-03-10 15:00:00", 3},
		"of yesterday":        {1, "2026-03-09 23:59:59", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDay(t, "America/New_York", true)
			d.at("2026-03-10 15:00:01")
			for range 2 {
				if err := d.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			last, err := time.ParseInLocation(time.DateTime, c.last, d.zone)
			if err != nil {
				t.Fatal(err)
			}
			before := d.rdb.MGet(t.Context(), tokensKey, refillKey).Val()
			if err := d.Refund(t.Context(), c.back, last); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, d.rdb.MGet(t.Context(), tokensKey, refillKey).Val()); diff != "" {
				t.Errorf("the bucket changed: %s", diff)
			}
			if n := d.all("2026-03-11T00:00:00-04:00"); n != c.want {
				t.Errorf("%d more calls, want %d", n, c.want)
			}
		})
	}
}

// A call whose slot lies after midnight belongs to a day that is not there
// yet: nothing is booked.
func TestSlotAfterMidnightIsNotBookedOnTheOldDay(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	d.at("2026-03-10 23:59:50")
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Pause(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	keys := []string{tokensKey, refillKey, "rate_limit:provider.quota:tokens", "rate_limit:provider.quota:last_refill"}
	before := d.rdb.MGet(t.Context(), keys...).Val()
	a, err := d.Take(limiter.Question{N: 4, Cost: 1}, nil)
	if err != nil || a.Status != limiter.NotYet || (a.Ask-12*time.Second).Abs() > 2*time.Microsecond {
		t.Errorf("%+v, %v; want to come back in 12 s", a, err)
	}
	if diff := cmp.Diff(before, d.rdb.MGet(t.Context(), keys...).Val()); diff != "" {
		t.Error(diff)
	}
}

// A Redis whose clock was days ahead for a moment, or a bad writer, must not
// close the days until then.
func TestLevelFromTheFutureEndsWithItsDay(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	d.at("2026-03-20 15:00:00")
	if err := d.Exhaust(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.at("2026-03-10 15:00:00")
	if n := d.all("2026-03-11T00:00:00-04:00"); n != 0 {
		t.Errorf("%d calls today, want none", n)
	}
	d.at("2026-03-11 15:00:00")
	if n := d.all("2026-03-12T00:00:00-04:00"); n != 3 {
		t.Errorf("%d calls tomorrow, want 3", n)
	}
}

func TestClocksThatAreDaysApartMeanNo(t *testing.T) {
	t.Parallel()
	d := newDay(t, "America/New_York", true)
	d.at("2026-03-10 15:00:00")
	d.clock.at.Add(7 * 86400e6) // not Redis'
	if _, err := d.Take(limiter.Question{N: 1, Cost: 1}, nil); err == nil || !strings.Contains(err.Error(), "days apart") {
		t.Errorf("%v, want that the clocks differ", err)
	}
}

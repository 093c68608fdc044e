package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/schedule"
)

// TestNext names what other schedulers get wrong.
func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec, zone, after string // after is in UTC
		want              string // in the zone
	}{
		{"30 2 * * *", newYork, "2026-03-07 12:00", "03-08 03:00 EDT, 03-09 02:30 EDT"},
		{"0 2 * * 0", newYork, "2026-03-07 12:00", "03-08 03:00 EDT, 03-15 02:00 EDT"},
		{"0,15,30 2,3 * * *", newYork, "2026-03-08 06:59", "03-08 03:00 EDT, 03-08 03:15 EDT, 03-08 03:30 EDT, 03-09 02:00 EDT"},
		{"30 1 * * *", newYork, "2026-10-31 12:00", "11-01 01:30 EDT, 11-02 01:30 EST"},
		{"30 1 * * *", newYork, "2026-11-01 06:10", "11-02 01:30 EST"}, // 01:10 EST, after the first 01:30
		{"*/30 * * * *", newYork, "2026-11-01 04:59", "11-01 01:00 EDT, 11-01 01:30 EDT, 11-01 02:00 EST, 11-01 02:30 EST"},
		{"0 17 * * 1-5", newYork, "2026-03-06 22:00", "03-09 17:00 EDT"},
		{"0 0 * * *", "America/Santiago", "2026-09-05 12:00", "09-06 01:00 -03, 09-07 00:00 -03"},
		{"30 23 * * *", "America/Santiago", "2026-04-04 12:00", "04-04 23:30 -03, 04-05 23:30 -04"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", "10-04 02:30 +11, 10-05 02:15 +11"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", "04-05 01:45 +11, 04-06 01:45 +1030"},
		{"30 23 * * *", "America/Nuuk", "2026-03-28 12:00", "03-29 00:00 -01, 03-29 23:30 -01"}, // for the 28th, and the 29th
		{"30 12 * * *", "Pacific/Apia", "2011-12-29 12:00", "12-29 12:30 -10, 12-31 00:00 +14, 12-31 12:30 +14"},
		{"0 7 1,15 * 1-5", newYork, "2026-03-01 18:00", "03-02 07:00 EST, 03-03 07:00 EST, 03-04 07:00 EST"},
		{"30 18 * * 1-5", newYork, "2026-03-12 22:30", "03-13 18:30 EDT"},
	} {
		s := parse(t, c.spec, c.zone)
		at, err := time.Parse("2006-01-02 15:04", c.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range strings.Count(c.want, ",") + 1 {
			at = s.Next(at)
			got = append(got, at.Format("01-02 15:04 MST"))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%v after %s: %v, want %s", s, c.after, got, c.want)
		}
	}
}

func TestZeroSchedule(t *testing.T) {
	t.Parallel()
	var s schedule.Schedule
	ticks, older := s.Ticks(years.from, years.to, 5)
	if !s.Next(years.from).IsZero() || !s.Last(years.from).IsZero() || len(ticks) != 0 || older != 0 || s.Zone() != nil || fmt.Sprint(s) != "" {
		t.Errorf("%v ticks: %v, %d", s, ticks, older)
	}
}

// TestTicksBackwards: there is nothing in an interval that ends before it begins.
func TestTicksBackwards(t *testing.T) {
	t.Parallel()
	s := parse(t, "* * * * *", newYork)
	for _, from := range []time.Time{years.from, years.from.Add(time.Nanosecond), years.to} {
		if ticks, older := s.Ticks(from, years.from, 5); len(ticks) != 0 || older != 0 {
			t.Errorf("from %v: %v and %d older", from, ticks, older)
		}
	}
	if s.Zone().String() != newYork {
		t.Errorf("zone %v", s.Zone())
	}
}

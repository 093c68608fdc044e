package schedule_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/schedule"
)

const newYork = "America/New_York"

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const five = "write five fields"
	for _, c := range []struct {
		spec, zone string
		want       []string
	}{
		{"", newYork, []string{"empty", five}},
		{" \t ", newYork, []string{"empty", five}},
		{"30 18 * *", newYork, []string{"it has 4 fields", five}},
		{"0 30 18 * * 1-5", newYork, []string{`"0 30 18 * * 1-5"`, "6 fields", "none for seconds", five}},
		{"0 30 18 * * ? 2026", newYork, []string{"7 fields", five}},
		{"@every 1h", newYork, []string{"descriptors", five}},
		{"@daily", newYork, []string{"descriptors", five}},
		{"CRON_TZ=UTC 30 18 * * 1-5", newYork, []string{"not part of it: set SA_SCHEDULER__TIMEZONE"}},
		{"TZ=0", newYork, []string{"not part of it: set SA_SCHEDULER__TIMEZONE"}},
		{"TZ=", newYork, []string{"not part of it"}},
		{"60 18 * * *", newYork, []string{`minute "60"`, "write numbers from 0 to 59"}},
		{"0 24 * * *", newYork, []string{`hour "24"`, "write numbers from 0 to 23"}},
		{"0 22-2 * * *", newYork, []string{`hour "22-2"`, "beyond end of range", "0 to 23"}},
		{"0 0 0 * *", newYork, []string{`day of month "0"`, "1 to 31"}},
		{"0 0 L * *", newYork, []string{`day of month "L"`, `"L" is not understood`, "1 to 31"}},
		{"0 0 * 13 *", newYork, []string{`month "13"`, "1 to 12"}},
		{"0 0 * mon *", newYork, []string{`month "mon"`, "1 to 12"}},
		{"0 0 * * 8", newYork, []string{`day of week "8"`, "0 to 6"}},
		{"0 0 * * 7-3", newYork, []string{`day of week "7-3"`}},
		{"0 0 * * 5#2", newYork, []string{`day of week "5#2"`, "not understood"}},
		{"0 0 * * fri-tue", newYork, []string{`day of week "fri-tue"`, "beyond end of range"}},
		{", 0 * * *", newYork, []string{`minute ","`, `"" is not understood`}},
		{"1,,2 0 * * *", newYork, []string{`minute "1,,2"`}},
		{"+5 0 * * *", newYork, []string{`minute "+5"`}},
		{"*-5 0 * * *", newYork, []string{`minute "*-5"`}},
		{"-5 0 * * *", newYork, []string{`minute "-5"`}},
		{"*/0 0 * * *", newYork, []string{`minute "*/0"`, "step 0"}},
		{"*/90 * * * *", newYork, []string{`minute "*/90"`, "step 90 does not fit between 0 and 59"}},
		{"0 */24 * * *", newYork, []string{`hour "*/24"`, "step 24"}},
		{"*/9223372036854775807 0 * * *", newYork, []string{"minute", "not understood"}},
		{"٣ 0 * * *", newYork, []string{"minute", "not understood"}},
		{"0 0 30 2 *", newYork, []string{"never fires", "correct the day of month or the month"}},
		{"0 0 31 4,6,9,11 *", newYork, []string{"never fires"}},
		{"0 0 * * " + strings.Repeat("1,", 100) + "1", newYork, []string{"longer than 200 bytes"}},
		{"0 0 * * *", "America/New_Yorck", []string{`SA_SCHEDULER__TIMEZONE: zone "America/New_Yorck": not known: write a name`}},
		{"0 0 * * *", "", []string{`SA_SCHEDULER__TIMEZONE: zone ""`, "depends on the machine"}},
		{"0 0 * * *", "Local", []string{"SA_SCHEDULER__TIMEZONE", "depends on the machine"}},
		{"0 0 * * *", "../etc/passwd", []string{"SA_SCHEDULER__TIMEZONE", "not known"}},
		{"0 0 * * *", "EST5EDT4", []string{"SA_SCHEDULER__TIMEZONE", "not known"}},
	} {
		s, err := schedule.Parse("SA_TEST_CRON", c.spec, c.zone)
		if err == nil {
			t.Errorf("Parse(%q, %q) = %v, want an error", c.spec, c.zone, s)
			continue
		}
		if c.zone == newYork && !strings.HasPrefix(err.Error(), "SA_TEST_CRON: cron spec ") {
			t.Errorf("Parse(%q): %v: does not name the setting", c.spec, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Parse(%q, %q): %v: lacks %q", c.spec, c.zone, err, want)
			}
		}
		if !s.Next(years.from).IsZero() || !s.Last(years.from).IsZero() || s.String() != "" {
			t.Errorf("Parse(%q, %q): ticks all the same", c.spec, c.zone)
		}
	}
}

// TestSame names specs that are two ways to write one.
func TestSame(t *testing.T) {
	t.Parallel()
	for a, b := range map[string]string{
		"0 0 * * 7":           "0 0 * * 0",
		"0 0 * * sun":         "0 0 * * 0",
		"0 0 * * 5-7":         "0 0 * * 0,5,6",
		"0 0 * * FRI-sun":     "0 0 * * 0,5,6",
		"0 0 * * 1-7/2":       "0 0 * * 0,1,3,5",
		"0 0 * * 1-7/4":       "0 0 * * 1,5",
		"0 0 * * 0-7":         "0 0 * * 0-6",
		"0 0 * * sun-sun":     "0 0 * * 0",
		"0 0 * * 0-sun":       "0 0 * * 0",
		"0 0 * * 7-7":         "0 0 * * 0",
		"0 0 * * sun-tue":     "0 0 * * 0-2",
		"0 0 * jan,Jul *":     "0 0 * 1,7 *",
		" 0  0 ? * * ":        "0 0 * * *",
		"5/20 0 * * *":        "5,25,45 0 * * *",
		"0 0 13 * 5-7":        "0 0 13 * 5,6,0",
		"0 0 */2 * 1":         "0 0 1-31/2 * 1", // alternatives both
		"0 0 29 2 *":          "0 0 29 feb *",
		"00 07 01,15 * *":     "0 7 1,15 * *",
		"0 0 31 2 1":          "0 0 31 2 mon", // Mondays of February
		"0-59 0-23 1-31 * *":  "* * * * *",
		"30 18 * * mon-fri":   "30 18 * * 1-5",
		"30 18 * 1-12/1 */1 ": "30 18 * * *",
	} {
		x, y := parse(t, a, newYork), parse(t, b, newYork)
		got, _ := x.Ticks(years.from, years.from.AddDate(9, 0, 0), 500)
		want, _ := y.Ticks(years.from, years.from.AddDate(9, 0, 0), 500)
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			t.Errorf("%q and %q differ (-second +first):\n%s", a, b, diff)
		}
	}
}

func TestLeapDays(t *testing.T) {
	t.Parallel()
	s := parse(t, "0 12 29 2 *", "UTC")
	got, older := s.Ticks(time.Date(2088, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2110, 1, 1, 0, 0, 0, 0, time.UTC), 9)
	var dates []string
	for _, tick := range got {
		dates = append(dates, tick.Format(time.DateOnly))
	}
	if want := "2092-02-29 2096-02-29 2104-02-29 2108-02-29"; strings.Join(dates, " ") != want || older != 0 {
		t.Errorf("%v and %d older, want %s", dates, older, want)
	}
	if next := s.Next(got[1]); !next.Equal(got[2]) {
		t.Errorf("Next(%v) = %v, want %v", got[1], next, got[2])
	}
}

// fieldOf draws a field of a spec as cron knows it.
func fieldOf(low, high int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		n := rapid.IntRange(1, 3).Draw(t, "items")
		items := make([]string, n)
		for i := range items {
			a := rapid.IntRange(low, high).Draw(t, "from")
			b := rapid.IntRange(a, high).Draw(t, "to")
			step := rapid.IntRange(1, high-low).Draw(t, "step")
			forms := []string{"*", "*", strconv.Itoa(a), strconv.Itoa(a) + "-" + strconv.Itoa(b), "*/" + strconv.Itoa(step), strconv.Itoa(a) + "-" + strconv.Itoa(b) + "/" + strconv.Itoa(step), strconv.Itoa(a) + "/" + strconv.Itoa(step)}
			items[i] = rapid.SampledFrom(forms).Draw(t, "form")
		}
		return strings.Join(items, ",")
	})
}

// TestUTC holds a zone without changes against the library's own search.
func TestUTC(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join([]string{
			fieldOf(0, 59).Draw(t, "minute"), fieldOf(0, 23).Draw(t, "hour"), fieldOf(1, 31).Draw(t, "day"),
			fieldOf(1, 12).Draw(t, "month"), fieldOf(0, 6).Draw(t, "weekday"),
		}, " ")
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		reference, err := cron.ParseStandard(text)
		if err != nil {
			t.Fatal(err)
		}
		s, err := schedule.Parse("SA_TEST", text, "UTC")
		if want := reference.Next(at); want.IsZero() != (err != nil) {
			t.Fatalf("Parse(%q): %v, but cron finds %v", text, err, want)
		}
		if err != nil {
			return
		}
		for range 10 {
			want := reference.Next(at)
			if got := s.Next(at); !got.Equal(want) {
				t.Fatalf("%v: Next(%v) = %v, want %v", s, at, got, want)
			}
			if last := s.Last(want.Add(-1)); last.After(at) || !s.Last(want).Equal(want) {
				t.Fatalf("%v: Last before %v = %v, after %v", s, want, last, at)
			}
			at = want
		}
	})
}

func TestNotes(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		spec, zone string
		want       []string
	}{
		{"30 18 * * 1-5", newYork, nil},
		{"0 6 * * 6", newYork, nil},
		{"0 7 1,15 * *", newYork, nil},
		{"0 3 * * *", newYork, nil},
		{"59 0 * * *", newYork, nil},
		{"30 2 * * *", "UTC", nil},
		{"30 2 * * *", "Asia/Kolkata", nil},
		{"30 2 * * *", newYork, []string{
			"30 2 * * * America/New_York: 02:30 does not exist on 2026-03-08 in America/New_York, when the clocks go from 02:00 forward to 03:00: it fires once, at the end of the gap",
		}},
		{"30 1 * * *", newYork, []string{
			"30 1 * * * America/New_York: 01:30 occurs twice on 2026-11-01 in America/New_York, when the clocks go from 02:00 back to 01:00: it fires the first time only",
		}},
		{"*/15 1-3 * * *", newYork, []string{
			"*/15 1-3 * * * America/New_York: 02:00 to 02:45 (4 times of it) do not exist on 2026-03-08 in America/New_York, when the clocks go from 02:00 forward to 03:00: it fires once, at the end of the gap",
			"*/15 1-3 * * * America/New_York: 01:00 to 01:45 (4 times of it) occur twice on 2026-11-01 in America/New_York, when the clocks go from 02:00 back to 01:00: it fires the first time only",
		}},
		// The Sunday on which the clocks change is the 8th in some years only.
		{"15 2 14 3 *", newYork, []string{
			"15 2 14 3 * America/New_York: 02:15 does not exist on 2027-03-14 in America/New_York, when the clocks go from 02:00 forward to 03:00: it fires once, at the end of the gap",
		}},
		{"45 1 * * 0", "Australia/Lord_Howe", []string{
			"45 1 * * 0 Australia/Lord_Howe: 01:45 occurs twice on 2026-04-05 in Australia/Lord_Howe, when the clocks go from 02:00 back to 01:30: it fires the first time only",
		}},
		{"0 0 * * *", "America/Santiago", []string{
			"0 0 * * * America/Santiago: 00:00 does not exist on 2026-09-06 in America/Santiago, when the clocks go from 00:00 forward to 01:00: it fires once, at the end of the gap",
		}},
		{"0 7 1,15 * 1-5", newYork, []string{
			"0 7 1,15 * 1-5 America/New_York: a day of the month and a day of the week are both given: it fires on each day that fits one of them, not only on those that fit both",
		}},
	} {
		if diff := cmp.Diff(c.want, parse(t, c.spec, c.zone).Notes(from)); diff != "" {
			t.Errorf("%s in %s (-want +got):\n%s", c.spec, c.zone, diff)
		}
	}
	if notes := (schedule.Schedule{}).Notes(from); notes != nil {
		t.Errorf("zero Schedule: %v", notes)
	}
}

func FuzzParse(f *testing.F) {
	for _, spec := range []string{
		"30 18 * * 1-5", "0 6 * * 6", "0 7 1,15 * *", "30 2 8 3 *", "*/5 * * * 7", "0 0 * * 5-sun/2", "0 0 30 2 *", "TZ=0", "CRON_TZ=UTC * * * * *",
		"@every 1s", "@", "", "* * * * * *", ",,,, * * * *", "*/0 * * * *", "0 0 29 feb ?", "99999999999999999999 * * * *", "0-0-0 * * * *", "\xff * * * *",
	} {
		f.Add(spec, newYork, int64(1772953200), uint32(7))
		f.Add(spec, "America/Santiago", int64(1788667200), uint32(1<<31))
	}
	f.Add("0 0 * * *", "../../etc/passwd", int64(-62135596800), uint32(0))
	f.Fuzz(func(t *testing.T, spec, zone string, unix int64, span uint32) {
		s, err := schedule.Parse("SA_FUZZ", spec, zone)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "SA_FUZZ: ") && !strings.HasPrefix(err.Error(), schedule.ZoneSetting+": ") {
				t.Fatalf("Parse(%q, %q): %v names no setting", spec, zone, err)
			}
			if len(err.Error()) > 1000 {
				t.Fatalf("Parse(%q, %q): an error of %d bytes", spec, zone, len(err.Error()))
			}
			return
		}
		const tenThousandYears = 1 << 38
		at := time.Unix(unix%tenThousandYears, 0)
		next := s.Next(at)
		if !next.After(at) || next.Sub(at) > 9*366*24*time.Hour || !s.Last(next).Equal(next) || s.Last(next.Add(-1)).After(at) {
			t.Fatalf("%v: Next(%v) = %v, Last of it %v, before it %v", s, at, next, s.Last(next), s.Last(next.Add(-1)))
		}
		to := at.Add(time.Duration(span) * time.Second / 64)
		ticks, older := s.Ticks(at, to, 100)
		if older < 0 || (len(ticks) < 100 && older != 0) || (len(ticks) > 0 && (!ticks[0].After(at) || ticks[len(ticks)-1].After(to))) {
			t.Fatalf("%v: Ticks(%v, %v): %d and %d older", s, at, to, len(ticks), older)
		}
		again, err := schedule.Parse("SA_FUZZ", strings.TrimSuffix(s.String(), " "+zone), zone)
		if err != nil || !again.Next(at).Equal(next) {
			t.Fatalf("%v: read again: %v, %v", s, again, err)
		}
		s.Notes(at)
	})
}

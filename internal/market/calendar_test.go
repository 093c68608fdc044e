package market_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

func date(tb testing.TB, s string) market.Date {
	tb.Helper()
	d, err := market.ParseDate(s)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func dates(tb testing.TB, list string) []market.Date {
	tb.Helper()
	var all []market.Date
	for s := range strings.FieldsSeq(list) {
		all = append(all, date(tb, s))
	}
	return all
}

func TestCalendarClosedDays(t *testing.T) {
	t.Parallel()
	for _, group := range []struct{ why, days string }{
		{"mourning for Richard Nixon", "1994-04-27"},
		{"terrorist attacks", "2001-09-11 2001-09-12 2001-09-13 2001-09-14"},
		{"mourning for Ronald Reagan", "2004-06-11"},
		{"mourning for Gerald Ford", "2007-01-02"},
		{"Hurricane Sandy", "2012-10-29 2012-10-30"},
		{"mourning for George H. W. Bush", "2018-12-05"},
		{"mourning for Jimmy Carter", "2025-01-09"},
		{"Good Friday", "1990-04-13 2000-04-21 2008-03-21 2011-04-22 2024-03-29 2025-04-18 2026-04-03 2027-03-26 2028-04-14 2035-03-23"},
		{"Juneteenth", "2022-06-20 2023-06-19 2027-06-18"},
		{"Independence Day", "1998-07-03 2020-07-03 2021-07-05 2025-07-04 2026-07-03 2027-07-05"},
		{"Christmas Day", "1993-12-24 1999-12-24 2022-12-26 2026-12-25 2027-12-24"},
		{"New Year's Day", "1995-01-02 2006-01-02 2023-01-02 2026-01-01"},
		{"Martin Luther King Jr. Day", "1998-01-19 2026-01-19"},
		{"Washington's Birthday", "1990-02-19 2026-02-16"},
		{"Memorial Day", "1990-05-28 2026-05-25"},
		{"Labor Day", "1990-09-03 2026-09-07"},
		{"Thanksgiving Day", "1990-11-22 2026-11-26"},
		{"weekend", "2026-03-14 2026-03-15 2026-07-04 2028-01-01"},
	} {
		for _, d := range dates(t, group.days) {
			if open, err := market.NYSE().IsSession(d); open || err != nil {
				t.Errorf("IsSession(%v) = %v, %v, want it closed", d, open, err)
			}
			if why := market.NYSE().Why(d); why != group.why {
				t.Errorf("Why(%v) = %q, want %q", d, why, group.why)
			}
			if s, open, err := market.NYSE().Session(d); s != (market.Session{}) || open || err != nil {
				t.Errorf("Session(%v) = %v, %v, %v, want none", d, s, open, err)
			}
		}
	}
}

func TestCalendarHours(t *testing.T) {
	t.Parallel()
	for _, group := range []struct{ open, close, days string }{
		{"09:30", "13:00", "1995-07-03 1996-07-05 1997-12-26 1999-12-31 2002-07-05 2003-12-26 2012-07-03 2012-12-24 2013-07-03 2021-11-26 " +
			"2023-07-03 2025-07-03 2026-11-27 2026-12-24 2027-11-26 2028-07-03 1993-11-26"},
		{"09:30", "14:00", "1990-12-24 1991-12-24 1992-11-27 1992-12-24"},
		{"09:30", "14:30", "1994-02-11"},
		{"11:00", "14:00", "1996-01-08"},
		{"12:00", "16:00", "2002-09-11"},
		{"09:30", "16:00", "1990-11-23 1991-11-29 1993-12-31 1994-07-05 1996-07-03 1997-01-20 2002-07-03 2012-10-31 2013-07-05 2021-06-18 2021-12-31 " +
			"2026-03-09 2026-07-02 2027-12-31 2028-12-22"},
	} {
		for _, d := range dates(t, group.days) {
			s, open, err := market.NYSE().Session(d)
			if err != nil || !open || s.Date != d {
				t.Errorf("Session(%v) = %v, %v, %v, want a session", d, s, open, err)
				continue
			}
			const clock = "2006-01-02 15:04 America/New_York"
			opens, closes := s.Open.Format(clock), s.Close.In(market.NewYork()).Format(clock)
			if want := d.String() + " " + group.open + " America/New_York"; opens != want {
				t.Errorf("session opens at %s, want %s", opens, want)
			}
			if want := d.String() + " " + group.close + " America/New_York"; closes != want {
				t.Errorf("session closes at %s, want %s", closes, want)
			}
			if want := group.close != "16:00"; s.Early != want {
				t.Errorf("session of %v: Early = %v, want %v", d, s.Early, want)
			}
			if why := market.NYSE().Why(d); why != "" {
				t.Errorf("Why(%v) = %q for an open day", d, why)
			}
		}
	}
}

// The counts are those that the exchange published for past years.
func TestCalendarSessionsPerYear(t *testing.T) {
	t.Parallel()
	counts := []int{
		253, 253, 254, 253, 252, 252, 254, 253, 252, 252, // 1990
		252, 248, 252, 252, 252, 252, 251, 251, 253, 252, // 2000
		252, 252, 250, 252, 252, 252, 252, 251, 251, 252, // 2010
		253, 252, 251, 250, 252, 250, 251, // 2020
	}
	for i, want := range counts {
		year := 1990 + i
		sessions, err := market.NYSE().Sessions(market.NewDate(year, time.January, 1), market.NewDate(year, time.December, 31))
		if err != nil || len(sessions) != want {
			t.Errorf("%d has %d sessions (%v), want %d", year, len(sessions), err, want)
		}
	}
}

func TestCalendarEarlyClosesPerYear(t *testing.T) {
	t.Parallel()
	for year, want := range map[int]string{
		1990: "1990-12-24",
		1997: "1997-07-03 1997-11-28 1997-12-24 1997-12-26",
		2004: "2004-11-26",
		2010: "2010-11-26",
		2019: "2019-07-03 2019-11-29 2019-12-24",
		2022: "2022-11-25",
		2024: "2024-07-03 2024-11-29 2024-12-24",
		2025: "2025-07-03 2025-11-28 2025-12-24",
	} {
		var early []string
		for d := market.NewDate(year, time.January, 1); d.Year() == year; d++ {
			if s, open, err := market.NYSE().Session(d); err != nil {
				t.Fatal(err)
			} else if open && s.Early {
				early = append(early, d.String())
			}
		}
		if got := strings.Join(early, " "); got != want {
			t.Errorf("early closes of %d: %s, want %s", year, got, want)
		}
	}
}

func TestCalendarSessions(t *testing.T) {
	t.Parallel()
	cal := market.NYSE()
	got, err := cal.Sessions(date(t, "2026-04-02"), date(t, "2026-04-07"))
	if want := dates(t, "2026-04-02 2026-04-06 2026-04-07"); err != nil || !slices.Equal(got, want) {
		t.Errorf("Sessions = %v, %v, want %v", got, err, want)
	}
	if got, err := cal.Sessions(date(t, "2026-04-07"), date(t, "2026-04-02")); len(got) != 0 || err != nil {
		t.Errorf("Sessions of an empty range = %v, %v", got, err)
	}
}

func TestCalendarSteps(t *testing.T) {
	t.Parallel()
	cal := market.NYSE()
	for _, c := range []struct{ at, previous, next string }{
		{"2026-03-12", "2026-03-11", "2026-03-13"},
		{"2026-03-14", "2026-03-13", "2026-03-16"},
		{"2001-09-12", "2001-09-10", "2001-09-17"},
		{"2025-01-08", "2025-01-07", "2025-01-10"},
		{"1989-12-31", "", "1990-01-02"},
		{"2036-01-01", "2035-12-31", ""},
		{"1990-01-01", "", "1990-01-02"},
	} {
		for _, step := range []struct {
			name string
			got  func(market.Date) (market.Date, error)
			want string
		}{{"Previous", cal.Previous, c.previous}, {"Next", cal.Next, c.next}} {
			d, err := step.got(date(t, c.at))
			if step.want == "" {
				wantUnknownYear(t, err)
			}
			if d.String() != step.want || (err != nil) != (step.want == "") {
				t.Errorf("%s(%s) = %v, %v, want %q", step.name, c.at, d, err, step.want)
			}
		}
	}
}

func TestCalendarBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from string
		n    int
		want string
		err  string
	}{
		{from: "2026-03-12", n: 0, want: "2026-03-12"},
		{from: "2026-03-12", n: 1, want: "2026-03-11"},
		{from: "2026-03-12", n: 5, want: "2026-03-05"},
		{from: "2026-03-15", n: 1, want: "2026-03-13"},
		{from: "2026-03-12", n: 100, want: "2025-10-16"},
		{from: "2026-03-15", n: 0, err: "2026-03-15 is no session: weekend"},
		{from: "2026-03-12", n: -1, err: "want 0 or more"},
		{from: "1990-01-05", n: 4, err: "year 1989 is not known"},
		{from: "2040-01-05", n: 0, err: "year 2040 is not known"},
	} {
		got, err := market.NYSE().Back(date(t, c.from), c.n)
		if got.String() != c.want || !hasError(err, c.err) {
			t.Errorf("Back(%s, %d) = %v, %v, want %s %s", c.from, c.n, got, err, c.want, c.err)
		}
	}
}

// hasError reports whether err holds the text, or is nil if there is none.
func hasError(err error, text string) bool {
	if text == "" || err == nil {
		return text == "" && err == nil
	}
	return strings.Contains(err.Error(), text)
}

func TestCalendarLastClosed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, now string
		settle    time.Duration
		want      string
	}{
		{"the instant of the close", "2026-03-12T16:00:00-04:00", 0, "2026-03-12"},
		{"just before the close", "2026-03-12T15:59:59-04:00", 0, "2026-03-11"},
		{"settled", "2026-03-12T18:30:00-04:00", 150 * time.Minute, "2026-03-12"},
		{"not settled", "2026-03-12T18:29:59-04:00", 150 * time.Minute, "2026-03-11"},
		{"early close", "2026-11-27T13:30:00-05:00", 30 * time.Minute, "2026-11-27"},
		{"early close not settled", "2026-11-27T13:29:00-05:00", 30 * time.Minute, "2026-11-25"},
		{"weekend", "2026-03-15T12:00:00-04:00", 0, "2026-03-13"},
		{"after midnight UTC", "2026-03-13T00:30:00Z", time.Hour, "2026-03-12"},
		{"next day in Tokyo", "2026-03-13T08:00:00+09:00", 0, "2026-03-12"},
		{"morning in Tokyo, the close is to come", "2026-03-13T04:59:00+09:00", 0, "2026-03-11"},
		{"settle over midnight", "2026-03-13T03:00:00-04:00", 12 * time.Hour, "2026-03-11"},
		{"settle over a weekend", "2026-03-16T10:00:00-04:00", 72 * time.Hour, "2026-03-12"},
		{"winter", "2026-01-05T20:59:59Z", 0, "2026-01-02"},
		{"winter close", "2026-01-05T21:00:00Z", 0, "2026-01-05"},
		{"the Monday after the clocks went forward", "2026-03-09T20:00:00Z", 0, "2026-03-09"},
		{"New Year", "2026-01-01T12:00:00-05:00", 0, "2025-12-31"},
		{"before the calendar", "1990-01-01T12:00:00-05:00", 0, ""},
		{"after the calendar", "2036-01-02T12:00:00-05:00", 0, ""},
		{"no time", "0001-01-01T00:00:00Z", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now, err := time.Parse(time.RFC3339, c.now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := market.NYSE().LastClosed(now, c.settle)
			if c.want == "" {
				wantUnknownYear(t, err)
			} else if err != nil {
				t.Error(err)
			}
			if got.String() != c.want {
				t.Errorf("LastClosed(%s, %v) = %v, want %s", c.now, c.settle, got, c.want)
			}
		})
	}
}

func TestCalendarLastClosedIsTheNewest(t *testing.T) {
	t.Parallel()
	cal := market.NYSE()
	rapid.Check(t, func(t *rapid.T) {
		from, to := market.NewDate(1990, time.February, 1), market.NewDate(2035, time.December, 20)
		minute := rapid.Int64Range(from.Time().Unix()/60, to.Time().Unix()/60).Draw(t, "minute")
		settle := time.Duration(rapid.IntRange(0, 10*24*60).Draw(t, "settle")) * time.Minute
		now := time.Unix(minute*60, 0)
		d, err := cal.LastClosed(now, settle)
		if err != nil {
			t.Fatal(err)
		}
		this, open, err := cal.Session(d)
		if err != nil || !open || this.Close.Add(settle).After(now) {
			t.Fatalf("LastClosed = %v, which closes at %v (%v)", d, this.Close, err)
		}
		next, err := cal.Next(d)
		if err != nil {
			t.Fatal(err)
		}
		if later, _, err := cal.Session(next); err != nil || !later.Close.Add(settle).After(now) {
			t.Fatalf("LastClosed = %v, but %v had settled too (%v)", d, next, err)
		}
		if back, err := cal.Back(next, 1); back != d || err != nil {
			t.Fatalf("Back(%v, 1) = %v, %v, want %v", next, back, err, d)
		}
	})
}

func wantUnknownYear(tb testing.TB, err error) {
	tb.Helper()
	if _, ok := errors.AsType[*market.UnknownYearError](err); !ok {
		tb.Errorf("error %v, want an UnknownYearError", err)
	}
}

func TestCalendarUnknownYear(t *testing.T) {
	t.Parallel()
	cal := market.NYSE()
	const message = "trading calendar: year 2036 is not known, only 1990 to 2035 are: ask for those, or update the worker"
	unknown := date(t, "2036-01-02")
	for name, ask := range map[string]func() error{
		"IsSession": func() error { _, err := cal.IsSession(unknown); return err },
		"Session":   func() error { _, _, err := cal.Session(unknown); return err },
		"Sessions":  func() error { _, err := cal.Sessions(unknown-5, unknown); return err },
		"Next":      func() error { _, err := cal.Next(unknown - 2); return err },
		"Previous":  func() error { _, err := cal.Previous(unknown + 5); return err },
		"Back":      func() error { _, err := cal.Back(unknown, 0); return err },
	} {
		err := ask()
		wantUnknownYear(t, err)
		if err == nil || err.Error() != message {
			t.Errorf("%s: error %v, want %q", name, err, message)
		}
	}
	if why := cal.Why(unknown); why != message {
		t.Errorf("Why = %q, want %q", why, message)
	}
	for _, d := range []market.Date{0, -1 << 31, 1<<31 - 1} {
		if open, err := cal.IsSession(d); open || err == nil {
			t.Errorf("IsSession(%d) = %v, %v, want an error", int32(d), open, err)
		}
	}
}

func TestCalendarRemaining(t *testing.T) {
	t.Parallel()
	if known := market.NYSE().Known().String(); known != "1990-01-01..2035-12-31" {
		t.Errorf("Known() = %s", known)
	}
	for at, want := range map[string]int{"2035-12-31": 0, "2035-12-01": 30, "2026-03-12": 3581, "2036-01-10": -10} {
		if got := market.NYSE().Remaining(date(t, at)); got != want {
			t.Errorf("Remaining(%s) = %d, want %d", at, got, want)
		}
	}
}

func TestCalendarListIsChecked(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"2026-03-12,closed,mourning\n":              "",
		"# none\n":                                  "",
		"2026-03-12,closed\n":                       "wrong number of fields",
		"2026-3-12,closed,mourning\n":               "want a calendar date",
		"2036-03-12,closed,mourning\n":              "year 2036 is not known",
		"2026-03-12,closed,\n":                      "a reason is missing",
		"2026-03-14,closed,mourning\n":              "closed:weekend",
		"2026-03-12,shut,mourning\n":                `hours "shut"`,
		"2026-03-12,09:30-25:00,mourning\n":         `hours "09:30-25:00"`,
		"2026-03-12,13:00-09:30,mourning\n":         `hours "13:00-09:30"`,
		"2026-03-12,closed,a\n2026-03-12,closed,b,": "wrong number of fields",
		"2026-03-12,closed,a\n2026-03-12,closed,b":  "no regular session",
	} {
		if _, err := market.NewCalendar(list); !hasError(err, want) {
			t.Errorf("list %q: error %v, want %q", list, err, want)
		}
	}
}

func BenchmarkNYSE(b *testing.B) {
	for b.Loop() {
		if _, err := market.NewCalendar(""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLastClosed(b *testing.B) {
	b.ReportAllocs()
	now := time.Date(2026, time.March, 15, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, err := market.NYSE().LastClosed(now, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

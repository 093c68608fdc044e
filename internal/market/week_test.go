package market_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

func TestWeekOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ date, week, monday string }{
		{"2021-01-01", "2020-W53", "2020-12-28"},
		{"2024-12-30", "2025-W01", "2024-12-30"},
		{"2026-03-12", "2026-W11", "2026-03-09"},
		{"2026-12-26", "2026-W52", "2026-12-21"},
		{"2026-12-28", "2026-W53", "2026-12-28"},
		{"2027-01-02", "2026-W53", "2026-12-28"},
		{"2027-01-04", "2027-W01", "2027-01-04"},
		{"0001-01-01", "0001-W01", "0001-01-01"},
	} {
		w := market.WeekOf(date(t, c.date))
		if w.String() != c.week || w.Monday().String() != c.monday {
			t.Errorf("WeekOf(%s) = %v from %v, want %s from %s", c.date, w, w.Monday(), c.week, c.monday)
		}
	}
}

func TestZeroWeek(t *testing.T) {
	t.Parallel()
	w := market.WeekOf(0)
	if w != (market.Week{}) || w.String() != "" || w.Monday() != 0 {
		t.Errorf("WeekOf(no date) = %q from %v", w, w.Monday())
	}
}

func TestParseWeekRefuses(t *testing.T) {
	t.Parallel()
	const form = "want an ISO week as YYYY-Www"
	for s, want := range map[string]string{
		"": form, "2026-W1": form, "2026-W011": form, "2026-11": form, "2026W11": form, "2026-w11": form, "2026-W00": form,
		"2026-W54": form, "0000-W01": form, "+026-W11": form, "2026-W+1": form, "2026-W1 ": form, "２026-W1": form,
		"2027-W53": "week \"2027-W53\": 2027 has 52 weeks: write 2028-W01",
		"2025-W53": "2025 has 52 weeks",
	} {
		if w, err := market.ParseWeek(s); w != (market.Week{}) || !hasError(err, want) {
			t.Errorf("ParseWeek(%q) = %v, %v, want %q", s, w, err, want)
		}
	}
}

func TestWeekRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := market.Date(rapid.Int32Range(1, 3652052).Draw(t, "ordinal"))
		w := market.WeekOf(d)
		if back, err := market.ParseWeek(w.String()); back != w || err != nil {
			t.Fatalf("ParseWeek(%v) = %v, %v", w, back, err)
		}
		if monday := w.Monday(); d-monday < 0 || d-monday > 6 || market.WeekOf(monday) != w || monday.Weekday() != 1 {
			t.Fatalf("%v is in %v, which begins on %v", d, w, monday)
		}
	})
}

func FuzzParseWeek(f *testing.F) {
	f.Add("2026-W11")
	f.Add("2027-W53")
	f.Fuzz(func(t *testing.T, s string) {
		if w, err := market.ParseWeek(s); err == nil && w.String() != s {
			t.Errorf("ParseWeek(%q) prints %v", s, w)
		}
	})
}

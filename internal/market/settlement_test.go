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

func TestSettlements(t *testing.T) {
	t.Parallel()
	for _, group := range []struct{ from, to, want string }{
		{"2026-06-16", "2026-08-31", "2026-06-30 2026-07-15 2026-07-31 2026-08-14 2026-08-31"},
		{"2017-12-16", "2018-01-31", "2017-12-29 2018-01-12 2018-01-31"},
		{"2022-04-01", "2022-04-30", "2022-04-14 2022-04-29"}, // the 15th is Good Friday
		{"2024-03-01", "2024-03-31", "2024-03-15 2024-03-28"}, // the 29th is Good Friday
		{"2026-05-15", "2026-05-29", "2026-05-15 2026-05-29"}, // both ends count
		{"2026-02-01", "2026-02-28", "2026-02-13 2026-02-27"},
		{"2035-12-01", "2035-12-31", "2035-12-14 2035-12-31"},
		{"1990-01-01", "1990-01-31", "1990-01-15 1990-01-31"},
		{"2026-03-14", "2026-03-30", ""},
		{"2026-03-31", "2026-03-13", ""},
	} {
		got, err := market.NYSE().Settlements(date(t, group.from), date(t, group.to))
		if want := dates(t, group.want); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s to %s: %v, %v; want %v", group.from, group.to, got, err, want)
		}
	}
}

func TestSettlementIsDueAndPublished(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ settlement, due, published string }{
		{"2026-08-31", "2026-09-02T18:00:00-04:00", "2026-09-10T16:00:00-04:00"}, // Labor Day
		{"2026-08-14", "2026-08-18T18:00:00-04:00", "2026-08-25T16:00:00-04:00"},
		{"2026-07-15", "2026-07-17T18:00:00-04:00", "2026-07-24T16:00:00-04:00"},
		{"2022-09-30", "2022-10-04T18:00:00-04:00", "2022-10-12T16:00:00-04:00"}, // Columbus Day
		{"2024-10-31", "2024-11-04T18:00:00-05:00", "2024-11-12T16:00:00-05:00"}, // Veterans Day
		{"2018-10-31", "2018-11-02T18:00:00-04:00", "2018-11-09T16:00:00-05:00"},
		{"2029-10-31", "2029-11-02T18:00:00-04:00", "2029-11-09T16:00:00-05:00"},
		{"2028-10-31", "2028-11-02T18:00:00-04:00", "2028-11-09T16:00:00-05:00"}, // Veterans Day on a Saturday
		{"2025-12-31", "2026-01-05T18:00:00-05:00", "2026-01-12T16:00:00-05:00"},
	} {
		due, err1 := market.NYSE().DueAt(date(t, row.settlement))
		published, err2 := market.NYSE().PublishedAt(date(t, row.settlement))
		if err1 != nil || err2 != nil || due.Format(time.RFC3339) != row.due || published.Format(time.RFC3339) != row.published {
			t.Errorf("%s: due %v, published %v, %v, %v; want %s and %s", row.settlement, due, published, err1, err2, row.due, row.published)
		}
	}
}

func TestNoSettlementDate(t *testing.T) {
	t.Parallel()
	_, err := market.NYSE().DueAt(date(t, "2026-08-15"))
	if err == nil || !strings.Contains(err.Error(), "2026-08-15 is no settlement date") || !strings.Contains(err.Error(), "2026-08-14 2026-08-31") {
		t.Errorf("error %v, want one that names the dates of the month", err)
	}
	for name, call := range map[string]func() error{
		"settlements": func() error {
			_, err := market.NYSE().Settlements(date(t, "2035-12-01"), date(t, "2036-01-31"))
			return err
		},
		"before":    func() error { _, err := market.NYSE().DueAt(date(t, "1989-12-29")); return err },
		"published": func() error { _, err := market.NYSE().PublishedAt(date(t, "2035-12-31")); return err },
		"last":      func() error { _, err := market.NYSE().LastPublished(date(t, "2040-01-01").Time()); return err },
	} {
		var unknown *market.UnknownYearError
		if err := call(); !errors.As(err, &unknown) {
			t.Errorf("%s: error %v, want an unknown year", name, err)
		}
	}
}

func TestLastPublished(t *testing.T) {
	t.Parallel()
	for now, want := range map[string]string{
		"2026-09-10T15:59:59-04:00": "2026-08-14",
		"2026-09-10T16:00:00-04:00": "2026-08-31",
		"2026-09-10T20:00:00Z":      "2026-08-31",
		"2026-09-11T04:59:59+09:00": "2026-08-14",
		"2026-01-01T00:00:00Z":      "2025-12-15",
	} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := market.NYSE().LastPublished(at); err != nil || got != date(t, want) {
			t.Errorf("%s: %v, %v; want %s", now, got, err, want)
		}
	}
}

// What every year has in common, whatever its holidays are.
func TestSettlementsOfAnyYear(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		year := rapid.IntRange(1990, 2035).Draw(t, "year")
		all, err := market.NYSE().Settlements(market.NewDate(year, 1, 1), market.NewDate(year, 12, 31))
		if err != nil || len(all) != 24 || !slices.IsSorted(all) {
			t.Fatalf("%v, %v: want 24 in order", all, err)
		}
		for i, d := range all[:22] {
			month, day := d.Time().Month(), d.Time().Day()
			open, _ := market.NYSE().IsSession(d)
			if int(month) != i/2+1 || !open || (day <= 15) != (i%2 == 0) || i%2 == 0 && day < 10 || i%2 == 1 && day < 25 {
				t.Fatalf("%v is the settlement %d", d, i)
			}
			due, err1 := market.NYSE().DueAt(d)
			published, err2 := market.NYSE().PublishedAt(d)
			if err1 != nil || err2 != nil || !due.After(d.Time()) || !published.After(due) || published.Sub(d.Time()) > 19*24*time.Hour {
				t.Fatalf("%v: due %v, published %v, %v %v", d, due, published, err1, err2)
			}
			if i < 5 && year == 1990 {
				continue // the calendar knows nothing of the year before
			}
			last, err1 := market.NYSE().LastPublished(published)
			before, err2 := market.NYSE().LastPublished(published.Add(-1))
			if err1 != nil || err2 != nil || last != d || before >= d {
				t.Fatalf("%v: at %v it is %v, before that %v, %v %v", d, published, last, before, err1, err2)
			}
		}
	})
}

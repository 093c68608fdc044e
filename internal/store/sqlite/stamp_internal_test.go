package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// FuzzBarStamp holds the fast reading to that of the standard library.
func FuzzBarStamp(f *testing.F) {
	for _, day := range []string{
		"2026-03-12", "2024-02-29", "2026-02-29", "2026-02-30", "2026-04-31", "2026-12-31", "2026-13-01", "2026-00-10", "2026-10-00",
		"0001-01-01", "0000-12-31", "9999-12-31", "2026/03/12", "2026-3-012", "+026-03-12", "2026-03-1x", "",
	} {
		f.Add(day + midnight)
	}
	f.Add("2026-03-12 14:30:00+00:00")
	f.Add("2026-03-12")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := time.Parse(time.DateOnly+midnight, s)
		want := market.DateOf(at)
		good := err == nil && at.Year() >= 1 && s == fmt.Sprintf("%s%s", at.Format(time.DateOnly), midnight)
		date, daily := parseBarStamp(s)
		if daily != good || daily && date != want {
			t.Errorf("%q: got %s, %v, want %s, %v", s, date, daily, want, good)
		}
	})
}

package market_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

// The numbers are what Python's date.toordinal() gives.
func TestDateOrdinal(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]market.Date{
		"0001-01-01": 1, "1969-12-31": 719162, "1970-01-01": 719163, "2026-03-12": 739687, "9999-12-31": 3652059,
	} {
		if got := date(t, s); got != want || got.String() != s {
			t.Errorf("ParseDate(%s) = %d, prints %v, want %d", s, int32(got), got, int32(want))
		}
	}
}

func TestParseDateRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "2026-3-12", "2026-02-29", "2026-13-01", "20260312", "2026-03-12T00:00:00Z", " 2026-03-12", "0000-12-31", "-001-01-01"} {
		if d, err := market.ParseDate(s); d != 0 || !hasError(err, "want a calendar date as YYYY-MM-DD") {
			t.Errorf("ParseDate(%q) = %v, %v", s, d, err)
		}
	}
}

func TestDateOfTakesTheZoneOfTheTime(t *testing.T) {
	t.Parallel()
	evening := time.Date(2026, time.March, 12, 20, 30, 0, 0, market.NewYork())
	if d := market.DateOf(evening); d != date(t, "2026-03-12") {
		t.Errorf("DateOf(%v) = %v", evening, d)
	}
	if d := market.DateOf(evening.UTC()); d != date(t, "2026-03-13") {
		t.Errorf("DateOf(%v) = %v", evening.UTC(), d)
	}
}

func TestDateAgreesWithTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := market.Date(rapid.Int32Range(1, 3652059).Draw(t, "ordinal"))
		midnight := d.Time()
		if back := market.DateOf(midnight.Add(24*time.Hour - 1)); back != d {
			t.Fatalf("DateOf(%v) = %v", midnight, back)
		}
		if y, m, day := midnight.Date(); market.NewDate(y, m, day) != d || d.Year() != y || d.Weekday() != midnight.Weekday() {
			t.Fatalf("%v is %d, %v in its own words", midnight, d.Year(), d.Weekday())
		}
		if got := d.In(market.NewYork(), 16, 0).Format("2006-01-02 15:04"); got != d.String()+" 16:00" {
			t.Fatalf("In = %s", got)
		}
	})
}

func TestDateAndWeekAsText(t *testing.T) {
	t.Parallel()
	type both struct {
		Date market.Date
		Week market.Week
	}
	for text, want := range map[string]both{
		`{"Date":"2026-03-12","Week":"2026-W11"}`: {date(t, "2026-03-12"), market.Week{Year: 2026, Number: 11}},
		`{"Date":"","Week":""}`:                   {},
	} {
		if got, err := json.Marshal(want); string(got) != text || err != nil {
			t.Errorf("Marshal = %s, %v, want %s", got, err, text)
		}
		got := both{1, market.Week{Year: 1, Number: 1}}
		if err := json.Unmarshal([]byte(text), &got); got != want || err != nil {
			t.Errorf("Unmarshal(%s) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`{"Date":"12.3.2026"}`, `{"Week":"2026-11"}`} {
		if err := json.Unmarshal([]byte(text), &both{}); err == nil {
			t.Errorf("Unmarshal(%s) was accepted", text)
		}
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	r := market.Range{From: date(t, "2026-01-02"), To: date(t, "2026-03-12")}
	if r.String() != "2026-01-02..2026-03-12" {
		t.Errorf("String() = %s", r)
	}
	for d, want := range map[market.Date]bool{r.From - 1: false, r.From: true, r.To: true, r.To + 1: false} {
		if r.Contains(d) != want {
			t.Errorf("Contains(%v) = %v", d, !want)
		}
	}
}

func TestChangesWritten(t *testing.T) {
	t.Parallel()
	if got := (market.Changes{Inserted: 2, Updated: 3, Unchanged: 4}).Written(); got != 5 {
		t.Errorf("Written() = %d, want 5", got)
	}
}

package market_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

// A set of days behaves as a map of dates does.
func TestDaysAreASet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (market.Days, map[market.Date]bool) {
			var days market.Days
			model := map[market.Date]bool{}
			for range rapid.IntRange(0, 4).Draw(t, name+" ranges") {
				from := market.Date(rapid.IntRange(738000, 740000).Draw(t, "from"))
				to := from + market.Date(rapid.IntRange(-3, 800).Draw(t, "length"))
				days.AddRange(market.Range{From: from, To: to})
				for d := from; d <= to; d++ {
					model[d] = true
				}
			}
			for range rapid.IntRange(0, 4).Draw(t, name+" dates") {
				d := market.Date(rapid.IntRange(737000, 741000).Draw(t, "date"))
				days.Add(d)
				model[d] = true
			}
			return days, model
		}
		a, inA := draw("a")
		b, inB := draw("b")
		same(t, a, func(d market.Date) bool { return inA[d] })
		same(t, a.Union(b), func(d market.Date) bool { return inA[d] || inB[d] })
		same(t, a.Minus(b), func(d market.Date) bool { return inA[d] && !inB[d] })
		same(t, a.And(b), func(d market.Date) bool { return inA[d] && inB[d] })
	})
}

func same(t *rapid.T, got market.Days, want func(market.Date) bool) {
	t.Helper()
	var dates []market.Date
	for d := market.Date(736900); d < 742000; d++ {
		if want(d) {
			dates = append(dates, d)
		}
		if got.Has(d) != want(d) {
			t.Fatalf("Has(%s) = %v", d, got.Has(d))
		}
	}
	if all := slices.Collect(got.All()); !slices.Equal(all, dates) || got.Len() != len(dates) {
		t.Fatalf("%d dates, Len %d, want %d", len(all), got.Len(), len(dates))
	}
	if len(dates) > 0 && got.Hull() != (market.Range{From: dates[0], To: dates[len(dates)-1]}) {
		t.Fatalf("hull %s", got.Hull())
	}
	if len(dates) == 0 && got.Hull() != (market.Range{}) {
		t.Fatalf("hull %s of nothing", got.Hull())
	}
}

func TestGapsNameTheStateOfEachSession(t *testing.T) {
	t.Parallel()
	date := func(day int) market.Date { return market.NewDate(2026, time.March, day) }
	sessions, err := market.NYSE().SessionDays(market.Range{From: date(2), To: date(20)})
	if err != nil {
		t.Fatal(err)
	}
	var c market.BarCoverage
	c.Answered = map[string]market.Days{"alpha_vantage": market.DaysIn(market.Range{From: date(3), To: date(12)}).
		Minus(market.DaysIn(market.Range{From: date(11), To: date(11)}))}
	for _, day := range []int{5, 6, 9, 12, 17} {
		c.Stored.Add(date(day))
	}
	c.Lost.Add(date(10)) // and answered for again since
	c.Lost.Add(date(11))
	c.Lost.Add(date(12)) // and stored again since
	want := []market.Gap{
		{Range: market.Range{From: date(2), To: date(2)}, State: market.SessionUnasked, Sessions: 1},
		{Range: market.Range{From: date(3), To: date(4)}, State: market.SessionNotListed, Sessions: 2},
		{Range: market.Range{From: date(10), To: date(10)}, State: market.SessionNoData, Sessions: 1},
		{Range: market.Range{From: date(11), To: date(11)}, State: market.SessionLost, Sessions: 1},
		{Range: market.Range{From: date(13), To: date(16)}, State: market.SessionUnasked, Sessions: 2}, // over a weekend
		{Range: market.Range{From: date(18), To: date(20)}, State: market.SessionUnasked, Sessions: 3},
	}
	if diff := cmp.Diff(want, c.Gaps(sessions)); diff != "" {
		t.Error(diff)
	}
	if got := c.State(date(12)); got != market.SessionStored {
		t.Errorf("a bar that is stored again is %s", got)
	}
	if c.AnsweredBy("ibkr").Len() != 0 || c.AnsweredBy("").Len() != 9 {
		t.Error("answers of one source count for another")
	}
}

// Gaps are the sessions that State says have no bar, taken together.
func TestGapsAreTheStatesInARow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (days market.Days) {
			for range rapid.IntRange(0, 5).Draw(t, name) {
				from := market.Date(rapid.IntRange(739500, 739700).Draw(t, "from"))
				days.AddRange(market.Range{From: from, To: from + market.Date(rapid.IntRange(0, 80).Draw(t, "length"))})
			}
			return days.Minus(market.DaysIn(market.Range{From: 739560, To: 739560 + market.Date(rapid.IntRange(-1, 70).Draw(t, "hole"))}))
		}
		c := market.BarCoverage{Stored: draw("stored"), Lost: draw("lost"), Answered: map[string]market.Days{"a": draw("a"), "b": draw("b")}}
		sessions := draw("sessions")
		var want []market.Gap
		last := market.SessionStored
		for session := range sessions.All() {
			switch state := c.State(session); {
			case state == market.SessionStored:
			case state == last:
				gap := &want[len(want)-1]
				gap.Range.To, gap.Sessions = session, gap.Sessions+1
			default:
				want = append(want, market.Gap{Range: market.Range{From: session, To: session}, State: state, Sessions: 1})
			}
			last = c.State(session)
		}
		if diff := cmp.Diff(want, c.Gaps(sessions)); diff != "" {
			t.Fatal(diff)
		}
	})
}

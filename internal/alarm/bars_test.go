package alarm_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/alarm"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/schedule"
	"github.com/alpha-oracle/worker/internal/store"
)

func at(month time.Month, day, hour, minute int) time.Time {
	return market.NewDate(2026, month, day).In(market.NewYork(), hour, minute)
}

// The deadline of a session is the open of the next one, or a time after its
// close, and over closed days the session that has to be in stays the same.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	const settle = 2 * time.Hour
	for name, tc := range map[string]struct {
		after time.Duration
		now   time.Time
		want  market.Date
	}{
		"before the open":                {0, at(3, 12, 9, 29), market.NewDate(2026, 3, 10)},
		"at the open":                    {0, at(3, 12, 9, 30), market.NewDate(2026, 3, 11)},
		"in the evening":                 {0, at(3, 12, 23, 0), market.NewDate(2026, 3, 11)},
		"Saturday":                       {0, at(3, 14, 12, 0), market.NewDate(2026, 3, 12)},
		"Monday before the open":         {0, at(3, 16, 9, 0), market.NewDate(2026, 3, 12)},
		"Monday at the open":             {0, at(3, 16, 9, 30), market.NewDate(2026, 3, 13)},
		"Good Friday":                    {0, at(4, 3, 12, 0), market.NewDate(2026, 4, 1)},
		"Easter Sunday":                  {0, at(4, 5, 12, 0), market.NewDate(2026, 4, 1)},
		"Easter Monday at the open":      {0, at(4, 6, 9, 30), market.NewDate(2026, 4, 2)},
		"three hours, before":            {3 * time.Hour, at(3, 12, 20, 59), market.NewDate(2026, 3, 11)},
		"three hours, at":                {3 * time.Hour, at(3, 12, 21, 0), market.NewDate(2026, 3, 12)},
		"three hours, on Sunday":         {3 * time.Hour, at(3, 15, 12, 0), market.NewDate(2026, 3, 13)},
		"three days, longer than a gap":  {72 * time.Hour, at(3, 12, 18, 0), market.NewDate(2026, 3, 9)},
		"an early close counts as early": {3 * time.Hour, at(11, 27, 18, 0), market.NewDate(2026, 11, 27)},
	} {
		d := alarm.Deadlines{Calendar: market.NYSE(), Settle: settle, After: tc.after}
		session, deadline, err := d.Due(tc.now)
		if err != nil || session != tc.want || deadline.After(tc.now) {
			t.Errorf("%s: %s until %s, %v; want %s", name, session, deadline, err, tc.want)
		}
	}
	if _, _, err := (alarm.Deadlines{Calendar: market.NYSE()}).Due(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.As(err, new(*market.UnknownYearError)) {
		t.Errorf("a year that the calendar does not know: %v", err)
	}
	if _, err := (alarm.Deadlines{Calendar: market.NYSE(), After: time.Hour}).Of(market.NewDate(2026, 4, 3)); err == nil {
		t.Error("Good Friday has a deadline")
	}
}

func days(dates ...market.Date) (d market.Days) {
	for _, date := range dates {
		d.Add(date)
	}
	return d
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	session, before := market.NewDate(2026, 3, 11), market.NewDate(2026, 3, 10)
	has := market.BarCoverage{Stored: days(before, session)}
	old := market.BarCoverage{Stored: days(before)}
	none := market.BarCoverage{Stored: days(before), Answered: map[string]market.Days{"acme": days(session)}}
	lost := market.BarCoverage{Stored: days(before), Lost: days(session), Answered: map[string]market.Days{"acme": days(session)}}
	d := alarm.Deadlines{Calendar: market.NYSE(), Settle: 2 * time.Hour}
	for name, tc := range map[string]struct {
		stored  map[market.Symbol]market.BarCoverage
		final   map[market.Symbol]bool
		healthy bool
		says    string
	}{
		"all in":                      {map[market.Symbol]market.BarCoverage{"A": has, "B": has}, nil, true, "2026-03-11: 2 of 2 symbols are in"},
		"one has only the day before": {map[market.Symbol]market.BarCoverage{"A": has, "B": old}, nil, false, "1 are missing"},
		"one was never asked for":     {map[market.Symbol]market.BarCoverage{"A": has}, nil, false, "1 are missing"},
		"one has no bar that day":     {map[market.Symbol]market.BarCoverage{"A": has, "B": none}, nil, true, "of 1 no source has a bar"},
		"one is unknown for good":     {map[market.Symbol]market.BarCoverage{"A": has}, map[market.Symbol]bool{"B": true}, true, "of 1 no source has a bar"},
		"a row was lost":              {map[market.Symbol]market.BarCoverage{"A": has, "B": lost}, nil, false, "1 are missing"},
		"one was lost after that":     {map[market.Symbol]market.BarCoverage{"A": has, "B": lost}, map[market.Symbol]bool{"B": true}, false, "1 are missing"},
		"nothing at all":              {nil, nil, false, "0 of 2 symbols are in, 2 are missing"},
		"more unknown than in":        {map[market.Symbol]market.BarCoverage{"A": has}, map[market.Symbol]bool{"B": true, "C": true}, false, "1 of 3 symbols are in, of 2 no source has a bar"},
		"all unknown":                 {nil, map[market.Symbol]bool{"A": true, "B": true}, false, "of 2 no source has a bar"},
	} {
		healthy, bars, err := d.Healthy(at(3, 12, 12, 0), func(s market.Date) (alarm.Bars, error) {
			symbols := []market.Symbol{"A", "B"}
			if tc.final["C"] {
				symbols = append(symbols, "C")
			}
			return alarm.CountBars(s, symbols, tc.stored, tc.final), nil
		})
		if err != nil || healthy != tc.healthy || bars.Session != session || !strings.Contains(bars.String(), tc.says) {
			t.Errorf("%s: %t, %s, %v; want %t, %q", name, healthy, bars, err, tc.healthy, tc.says)
		}
	}
	_, _, err := d.Healthy(at(3, 12, 12, 0), func(market.Date) (alarm.Bars, error) { return alarm.Bars{In: 1}, errors.New("gone") })
	if err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("an unreadable database: %v", err)
	}
}

// rows are a journal, the newest first, as "state period". A period is settled if
// it was given up and only what no source has is not stored.
func rows(texts ...string) []store.PeriodInfo {
	all := make([]store.PeriodInfo, 0, len(texts))
	for _, text := range texts {
		state, period, _ := strings.Cut(text, " ")
		row := store.PeriodInfo{Job: "daily_bars", Period: period, State: state, Reason: "because"}
		if state == "settled" {
			_, _, row.Reason = schedule.FollowUp(schedule.Attempt{Status: "partial", Outcomes: map[string]int{"stored": 502, "unknown_symbol": 1}})
			row.State = store.GaveUp
		}
		all = append(all, row)
	}
	return all
}

func TestLost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rows           []store.PeriodInfo
		missed, gaveUp int
	}{
		"nothing yet":                     {nil, 0, 0},
		"all complete":                    {rows("complete 3", "complete 2"), 0, 0},
		"given up, then complete":         {rows("complete 3", "gave_up 2"), 0, 0},
		"given up twice":                  {rows("running 4", "gave_up 3", "gave_up 2", "complete 1"), 0, 2},
		"away for two days":               {rows("running 4", "missed 3", "missed 2", "complete 1", "missed 0"), 2, 0},
		"away, and holidays":              {rows("incomplete 5", "no_session 4", "missed 3", "gave_up 2", "complete 1"), 1, 1},
		"missed before the first start":   {rows("running 4", "missed 3", "missed 2"), 0, 0},
		"after a first run that gave up":  {rows("running 4", "missed 3", "gave_up 2", "missed 1"), 1, 1},
		"all that can be had is in":       {rows("settled 3", "gave_up 2", "complete 1"), 0, 0},
		"given up after that":             {rows("gave_up 4", "settled 3", "gave_up 2", "complete 1"), 0, 1},
		"holidays alone are no first run": {rows("running 4", "missed 3", "no_session 2"), 0, 0},
	} {
		l := alarm.Lost(tc.rows)
		if l.Missed != tc.missed || l.GaveUp != tc.gaveUp {
			t.Errorf("%s: %d missed, %d given up; want %d, %d", name, l.Missed, l.GaveUp, tc.missed, tc.gaveUp)
		}
	}
}

// The cause stays the same while more and more periods are lost.
func TestLossesAreOneCause(t *testing.T) {
	t.Parallel()
	before := alarm.Lost(rows("gave_up 2026-03-11", "complete 2026-03-10")).Causes("daily_bars")
	after := alarm.Lost(rows("missed 2026-03-13", "gave_up 2026-03-12", "gave_up 2026-03-11", "complete 2026-03-10")).Causes("daily_bars")
	if len(before) != 1 || len(after) != 2 || before[0].Since != after[1].Since || before[0].Since != "2026-03-11" {
		t.Fatalf("%+v\n%+v", before, after)
	}
	if after[1].Kind != alarm.GaveUpPeriod || after[1].Reason != "2 periods since 2026-03-11; the newest is 2026-03-12: because" {
		t.Errorf("%+v", after[1])
	}
	if after[0].Kind != alarm.MissedPeriod || after[0].Reason != "2026-03-13: because" {
		t.Errorf("%+v", after[0])
	}
}

// Workers that are away again are another cause than the first time, though no
// period was complete in between.
func TestMissedAgainIsAnotherCause(t *testing.T) {
	t.Parallel()
	before := alarm.Lost(rows("gave_up 3", "missed 2", "complete 1")).Causes("daily_bars")
	after := alarm.Lost(rows("missed 6", "no_session 5", "missed 4", "gave_up 3", "missed 2", "complete 1")).Causes("daily_bars")
	if before[0].Since != "2" || after[0].Since != "4" || after[0].Reason != "2 periods since 4; the newest is 6: because" {
		t.Errorf("%+v\n%+v", before, after)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	if causes := (alarm.Plan{Job: "daily_bars", Units: 25, Calls: 25, Allowed: 25}).Causes(); causes != nil {
		t.Errorf("a plan that just fits: %+v", causes)
	}
	if causes := (alarm.Plan{Job: "daily_bars", Units: 25, Calls: 25}).Causes(); causes != nil {
		t.Errorf("a plan without limits: %+v", causes)
	}
	causes := alarm.Plan{Job: "daily_bars", Units: 500, Calls: 500, Allowed: 25}.Causes()
	if len(causes) != 1 || !strings.Contains(causes[0].Reason, "500 symbols need 500 calls") || !strings.Contains(causes[0].Reason, "the time of 20.0") {
		t.Errorf("%+v", causes)
	}
}

package market_test

import (
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

func TestFactPeriodIsItsLength(t *testing.T) {
	t.Parallel()
	day := func(m time.Month, d int) market.Date { return market.NewDate(2024, m, d) }
	for _, c := range []struct {
		name       string
		start, end market.Date
		want       market.Period
	}{
		{"balance sheet", 0, day(3, 31), market.Instant},
		{"quarter", day(1, 1), day(3, 31), market.Quarter},
		{"13 weeks", day(1, 1), day(1, 1) + 90, market.Quarter},
		{"half", day(1, 1), day(6, 30), market.Half},
		{"nine months", day(1, 1), day(9, 30), market.NineMonths},
		{"leap year", day(1, 1), day(12, 31), market.Year},
		{"53 weeks", day(1, 1), day(1, 1) + 370, market.Year},
		{"a month", day(1, 1), day(1, 31), market.OtherPeriod},
		{"two years", day(1, 1), day(1, 1) + 730, market.OtherPeriod},
		{"reversed", day(3, 31), day(1, 1), market.OtherPeriod},
	} {
		if got := (market.Fact{Start: c.start, End: c.end}).Period(); got != c.want {
			t.Errorf("%s: period %d, want %d", c.name, got, c.want)
		}
	}
}

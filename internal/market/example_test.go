package market_test

import (
	"fmt"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

func ExampleParseSymbol() {
	symbol, err := market.ParseSymbol("BRK.B")
	fmt.Println(symbol, symbol.In(market.AlphaVantage), err)
	_, err = market.ParseSymbol("brk-b")
	fmt.Println(err)
	// Output:
	// BRK.B BRK-B <nil>
	// symbol "brk-b": write BRK.B
}

func ExampleCalendar_LastClosed() {
	// The day after Thanksgiving ends at 13:00.
	now := time.Date(2026, time.November, 27, 19, 0, 0, 0, time.UTC)
	for _, settle := range []time.Duration{30 * time.Minute, 2 * time.Hour} {
		session, err := market.NYSE().LastClosed(now, settle)
		fmt.Println(session, err)
	}
	// Output:
	// 2026-11-27 <nil>
	// 2026-11-25 <nil>
}

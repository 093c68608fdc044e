package providers

import (
	"context"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Basis is what the prices of a source are adjusted for.
type Basis = market.Basis

// The bases.
const (
	Raw           = market.Raw
	SplitAdjusted = market.SplitAdjusted
)

// BarTraits are what a source of daily bars can do, so that a plan can choose
// among several without asking them.
type BarTraits struct {
	// Name is the provider's name in the limiter, the ledger and the column
	// ohlcv.source.
	Name  string
	Basis Basis
	// Consolidated says that the volume is that of all venues; a filtered one
	// is lower.
	Consolidated bool
	// Chunk is the greatest number of sessions in one call for one symbol; 0:
	// all that there are.
	Chunk int
	// BySession says that one call brings a session of all symbols, see
	// [SessionBars].
	BySession bool
	// Ready is how long after the close a session's bars are there and final.
	Ready time.Duration
}

// SymbolBars is a source that is asked for one symbol.
type SymbolBars interface {
	// DailyBars returns the bars of a symbol in ascending order: that of
	// window.To, and as many of the window's others as come with it in one
	// call. Bars outside the window, of a running session, and out of order are
	// for the caller to judge. The error is a *[Error], or wraps that of ctx.
	DailyBars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error)
	// History returns all bars of a symbol in window, from the source's reach
	// on; window is not longer than Chunk sessions.
	History(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error)
	// Reach returns the first session that can be had with the account now; the
	// zero Date if there is no such bound.
	Reach() (market.Date, error)
}

// SessionBars is a source that has a session of all symbols in one call.
type SessionBars interface {
	// Session returns the bars of one session, one for each symbol that the
	// source has and that is spelled as one of ours; a day without any is an
	// error of kind NotReady or NoData.
	Session(ctx context.Context, session market.Date) (map[market.Symbol]market.Bar, error)
}

package market

// Bar is one daily bar of one symbol: the prices in the currency of the
// listing, the volume in shares.
type Bar struct {
	Date                   Date
	Open, High, Low, Close float64
	// AdjClose is the close adjusted for splits and dividends. It means
	// something only when HasAdjClose is set.
	AdjClose    float64
	Volume      int64
	HasAdjClose bool
}

// Series is a run of daily bars of one symbol from one source, in ascending
// order of their dates, one bar a date.
type Series struct {
	Symbol Symbol
	// Source names where the bars come from, as the column ohlcv.source
	// has it: alpha_vantage, ibkr, simulated.
	Source string
	Bars   []Bar
	// NewBase says that the bars are to be stored although others, which
	// they do not hold, may then be on another base; see [RebasedError].
	NewBase bool
}

// Changes counts what a save did to the stored bars.
type Changes struct {
	Inserted, Updated, Unchanged int
	// OtherBasis is the number of bars that were left out, since they are
	// older than Since.
	OtherBasis int
	// Since is the first date of the bars that count; the zero Date unless
	// some were left out. What is older may be on another [Basis] than the
	// stored bars, with which the series no longer agrees from there back,
	// and none of it is answered.
	Since Date
}

// Written returns the number of rows that were written.
func (c Changes) Written() int { return c.Inserted + c.Updated }

// Coverage says how far one symbol is covered by one job.
type Coverage struct {
	// Through is the newest session that is stored for the symbol; the
	// zero Date if there is none. Sessions before it may be missing.
	Through Date
	// Tried is the period of the newest run that asked for the symbol,
	// whatever came of it; "" if none did.
	Tried string
}

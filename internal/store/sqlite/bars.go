package sqlite

import (
	"cmp"
	"context"
	"database/sql"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const barsSQL = `
	SELECT timestamp, open, high, low, close, volume, adjusted_close FROM ohlcv
	WHERE symbol = ? AND timestamp BETWEEN ? AND ? ORDER BY timestamp`

// queryer is a transaction or the readers.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// barsIn reads the daily bars of symbol in window.
func barsIn(ctx context.Context, q queryer, symbol market.Symbol, window market.Range) ([]market.Bar, error) {
	rows, err := q.QueryContext(ctx, barsSQL, string(symbol), barStamp(window.From), barStamp(window.To))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var bars []market.Bar
	for rows.Next() {
		var stamp string
		var bar market.Bar
		var adj sql.NullFloat64
		if err := rows.Scan(&stamp, &bar.Open, &bar.High, &bar.Low, &bar.Close, &bar.Volume, &adj); err != nil {
			return nil, err
		}
		bar.AdjClose, bar.HasAdjClose = adj.Float64, adj.Valid
		var daily bool
		if bar.Date, daily = parseBarStamp(stamp); daily {
			bars = append(bars, bar)
		}
	}
	return bars, rows.Err()
}

// insertBars writes bars of dates that are not stored.
func insertBars(ctx context.Context, tx *sql.Tx, series market.Series, bars []market.Bar) error {
	return insertion{
		head:  `INSERT INTO ohlcv (symbol, source, timestamp, open, high, low, close, volume, adjusted_close) VALUES `,
		row:   `(?1, ?2, ?, ?, ?, ?, ?, ?, ?)`,
		first: []any{string(series.Symbol), series.Source},
		args: func(args []any, i int) []any {
			bar := &bars[i]
			return append(args, barStamp(bar.Date), bar.Open, bar.High, bar.Low, bar.Close, bar.Volume, adjClose(bar))
		},
	}.run(ctx, tx, len(bars))
}

// adjClose returns the adjusted close, or nil for NULL.
func adjClose(bar *market.Bar) any {
	if !bar.HasAdjClose {
		return nil
	}
	return bar.AdjClose
}

const updateSQL = `
	UPDATE ohlcv SET open = ?, high = ?, low = ?, close = ?, volume = ?, adjusted_close = ?, source = ?
	WHERE symbol = ? AND timestamp = ?`

func updateBars(ctx context.Context, tx *sql.Tx, series market.Series, bars []market.Bar) error {
	if len(bars) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, updateSQL)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for i := range bars {
		bar := &bars[i]
		_, err := stmt.ExecContext(ctx, bar.Open, bar.High, bar.Low, bar.Close, bar.Volume, adjClose(bar),
			series.Source, string(series.Symbol), barStamp(bar.Date))
		if err != nil {
			return err
		}
	}
	return nil
}

// fillBars stores volumes and adjusted closes; the rest of the rows stays.
func fillBars(ctx context.Context, tx *sql.Tx, symbol market.Symbol, bars []market.Bar) error {
	for i := range bars {
		bar := &bars[i]
		_, err := tx.ExecContext(ctx, `UPDATE ohlcv SET volume = ?, adjusted_close = ? WHERE symbol = ? AND timestamp = ?`,
			bar.Volume, adjClose(bar), string(symbol), barStamp(bar.Date))
		if err != nil {
			return err
		}
	}
	return nil
}

const correctionSQL = `
	INSERT INTO ingest_corrections (symbol, timestamp, field, old_value, new_value, source, run_id, at)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?)`

// insertCorrections writes corrections; those without a symbol are of symbol.
func (r *run) insertCorrections(ctx context.Context, tx *sql.Tx, symbol market.Symbol, source string, corrections []store.Correction) error {
	if len(corrections) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, correctionSQL)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	at := r.db.stamp()
	for _, c := range corrections {
		_, err := stmt.ExecContext(ctx, string(cmp.Or(c.Symbol, symbol)), barStamp(c.Date), c.Field,
			sql.NullFloat64{Float64: c.Old, Valid: c.HadOld}, c.New, source, r.id, at)
		if err != nil {
			return err
		}
	}
	return nil
}

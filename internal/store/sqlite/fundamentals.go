package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const fundamentalsSQL = `
	SELECT timestamp, pe_ratio, pb_ratio, ps_ratio, ev_ebitda, debt_to_equity, current_ratio, roe, revenue_growth, earnings_growth,
	       dividend_yield, market_cap, sector, industry, metadata
	FROM fundamentals WHERE symbol = ? AND `

// scanFundamentals reads one row of fundamentalsSQL, nil if there is none.
func scanFundamentals(row *sql.Row) (*store.FundamentalsRow, market.Date, error) {
	var at string
	var r store.FundamentalsRow
	into := []any{&at}
	for i := range r.Figures {
		into = append(into, &r.Figures[i])
	}
	err := row.Scan(append(into, &r.Sector, &r.Industry, &r.Metadata)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	date, _ := parseBarStamp(at) // the queries ask for midnight alone
	return &r, date, nil
}

// Fundamentals implements [store.DB].
func (db *DB) Fundamentals(ctx context.Context, symbol market.Symbol, through market.Date) (market.Fundamentals, bool, error) {
	r, date, err := scanFundamentals(db.reader.QueryRowContext(ctx,
		fundamentalsSQL+`timestamp <= ? AND substr(timestamp, 11) = ? ORDER BY timestamp DESC LIMIT 1`,
		string(symbol), barStamp(min(through, store.LastDate)), midnight))
	if err != nil || r == nil {
		return market.Fundamentals{}, false, wrap(fmt.Sprintf("fundamentals of %s", symbol), err)
	}
	return r.Read(symbol, date), true, nil
}

const (
	insertFundamentalsSQL = `
		INSERT INTO fundamentals (symbol, timestamp, pe_ratio, pb_ratio, ps_ratio, ev_ebitda, debt_to_equity, current_ratio,
		                          roe, revenue_growth, earnings_growth, dividend_yield, market_cap, sector, industry, metadata)
		VALUES (?1, ?2, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateFundamentalsSQL = `
		UPDATE fundamentals SET pe_ratio = ?3, pb_ratio = ?4, ps_ratio = ?5, ev_ebitda = ?6, debt_to_equity = ?7, current_ratio = ?8,
		                        roe = ?9, revenue_growth = ?10, earnings_growth = ?11, dividend_yield = ?12, market_cap = ?13,
		                        sector = ?14, industry = ?15, metadata = ?16
		WHERE symbol = ?1 AND timestamp = ?2`
)

func saveFundamentals(ctx context.Context, tx *sql.Tx, row market.Fundamentals) (market.Changes, error) {
	stored, _, err := scanFundamentals(tx.QueryRowContext(ctx, fundamentalsSQL+`timestamp = ?`, string(row.Symbol), barStamp(row.Date)))
	if err != nil {
		return market.Changes{}, err
	}
	next, err := store.MergeFundamentals(stored, row)
	if err != nil {
		return market.Changes{}, err
	}
	if next == nil {
		return market.Changes{Unchanged: 1}, nil
	}
	args := []any{string(row.Symbol), barStamp(row.Date)}
	for _, figure := range next.Figures {
		args = append(args, figure)
	}
	statement, changes := insertFundamentalsSQL, market.Changes{Inserted: 1}
	if stored != nil {
		statement, changes = updateFundamentalsSQL, market.Changes{Updated: 1}
	}
	_, err = tx.ExecContext(ctx, statement, append(args, next.Sector, next.Industry, next.Metadata)...)
	return changes, err
}

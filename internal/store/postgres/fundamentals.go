package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// fundamentalsSQL casts each column so that a table made by another program is
// read whatever types it chose.
const fundamentalsSQL = `
	SELECT timestamp::timestamptz, pe_ratio::float8, pb_ratio::float8, ps_ratio::float8, ev_ebitda::float8, debt_to_equity::float8,
	       current_ratio::float8, roe::float8, revenue_growth::float8, earnings_growth::float8, dividend_yield::float8,
	       market_cap::float8, sector::text, industry::text, metadata::text
	FROM fundamentals WHERE symbol = $1 AND `

// scanFundamentals reads one row of fundamentalsSQL, nil if there is none.
func scanFundamentals(row pgx.Row) (*store.FundamentalsRow, market.Date, error) {
	var at time.Time
	var r store.FundamentalsRow
	into := []any{&at}
	for i := range r.Figures {
		into = append(into, &r.Figures[i])
	}
	err := row.Scan(append(into, &r.Sector, &r.Industry, &r.Metadata)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	return &r, market.DateOf(at.UTC()), err
}

// Fundamentals implements [store.DB].
func (db *DB) Fundamentals(ctx context.Context, symbol market.Symbol, through market.Date) (market.Fundamentals, bool, error) {
	r, date, err := scanFundamentals(db.pool.QueryRow(ctx, fundamentalsSQL+`
		timestamp <= $2 AND timestamp = date_trunc('day', timestamp, 'UTC') ORDER BY timestamp DESC LIMIT 1`,
		string(symbol), min(through, store.LastDate).Time()))
	if err != nil || r == nil {
		return market.Fundamentals{}, false, wrap(fmt.Sprintf("fundamentals of %s", symbol), err)
	}
	return r.Read(symbol, date), true, nil
}

// fundamentalsRow is what a SaveFundamentals brings.
type fundamentalsRow struct {
	row   market.Fundamentals
	known bool                   // a row of its symbol and date is stored
	next  *store.FundamentalsRow // to be written, nil if nothing is
}

func (r *fundamentalsRow) queueBegin(batch *pgx.Batch) { batch.Queue(beginSnapshotSQL) }

func (r *fundamentalsRow) queueCompare(batch *pgx.Batch) {
	batch.Queue(fundamentalsSQL+`timestamp = $2`, string(r.row.Symbol), r.row.Date.Time()).QueryRow(func(row pgx.Row) error {
		stored, _, err := scanFundamentals(row)
		if err != nil {
			return err
		}
		r.known = stored != nil
		r.next, err = store.MergeFundamentals(stored, r.row)
		return err
	})
}

func (r *fundamentalsRow) changes() market.Changes {
	switch {
	case r.next == nil:
		return market.Changes{Unchanged: 1}
	case r.known:
		return market.Changes{Updated: 1}
	}
	return market.Changes{Inserted: 1}
}

func (r *fundamentalsRow) source() string { return store.SourcesOf(r.row) }

const (
	insertFundamentalsSQL = `
		INSERT INTO fundamentals (symbol, timestamp, pe_ratio, pb_ratio, ps_ratio, ev_ebitda, debt_to_equity, current_ratio,
		                          roe, revenue_growth, earnings_growth, dividend_yield, market_cap, sector, industry, metadata)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::jsonb)`
	updateFundamentalsSQL = `
		UPDATE fundamentals SET pe_ratio = $3, pb_ratio = $4, ps_ratio = $5, ev_ebitda = $6, debt_to_equity = $7, current_ratio = $8,
		                        roe = $9, revenue_growth = $10, earnings_growth = $11, dividend_yield = $12, market_cap = $13,
		                        sector = $14, industry = $15, metadata = $16::jsonb
		WHERE symbol = $1 AND timestamp = $2`
)

func (r *fundamentalsRow) write(ctx context.Context, conn *pgx.Conn, _ int64) error {
	if r.next == nil {
		return nil
	}
	args := []any{string(r.row.Symbol), r.row.Date.Time()}
	for _, figure := range r.next.Figures {
		args = append(args, figure)
	}
	sql := insertFundamentalsSQL
	if r.known {
		sql = updateFundamentalsSQL
	}
	_, err := conn.Exec(ctx, sql, append(args, r.next.Sector, r.next.Industry, r.next.Metadata)...)
	return err
}

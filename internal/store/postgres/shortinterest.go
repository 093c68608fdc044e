package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// shortInterestSQL casts each column so that a table made by another program is
// read whatever numeric types it chose. A row that is not at midnight UTC is of
// no settlement date and is left out.
const shortInterestSQL = `
	SELECT symbol, settlement_date::timestamptz, short_interest::int8, avg_daily_volume::int8, previous_short_interest::int8,
	       days_to_cover::float8, days_to_cover_raw, change_pct::float8, change_pct_raw, revision_flag, split_flag
	FROM short_interest
	WHERE symbol = ANY ($1) AND settlement_date BETWEEN $2 AND $3 AND settlement_date = date_trunc('day', settlement_date, 'UTC')
	ORDER BY settlement_date`

func collectShortInterest(rows pgx.Rows, err error) ([]store.ShortInterestRow, error) {
	return collect(rows, err, func(row pgx.CollectableRow) (r store.ShortInterestRow, err error) {
		err = row.Scan(&r.Symbol, &r.Settlement, &r.Shares, &r.AvgDailyVolume, &r.Previous,
			&r.DaysToCover, &r.DaysToCoverRaw, &r.ChangePct, &r.ChangePctRaw, &r.RevisionFlag, &r.SplitFlag)
		return r, err
	})
}

// ShortInterest implements [store.DB].
func (db *DB) ShortInterest(ctx context.Context, symbol market.Symbol) ([]market.ShortInterest, error) {
	rows, err := db.pool.Query(ctx, shortInterestSQL, []string{string(symbol)}, market.Date(1).Time(), store.LastDate.Time())
	stored, err := collectShortInterest(rows, err)
	if err != nil {
		return nil, wrap(fmt.Sprintf("short interest of %s", symbol), err)
	}
	return store.ReadShortInterest(stored), nil
}

// SaveShortInterest implements [store.Run].
func (r *run) SaveShortInterest(ctx context.Context, kind string, settlement market.Date, rows []market.ShortInterest) (market.Changes, error) {
	return r.save(ctx, "short interest", store.CheckShortInterest(kind, settlement, rows),
		&saving{kind: kind, unit: market.Symbol(settlement.String()), rows: &shortInterestRows{settlement: settlement, rows: rows}})
}

// shortInterestRows is what a SaveShortInterest brings.
type shortInterestRows struct {
	settlement market.Date
	rows       []market.ShortInterest
	diff       store.ShortInterestDiff
}

// queueBegin lets one save work at a time: of two dates that follow each other,
// saved at once, the later one would not find what it corrects.
func (r *shortInterestRows) queueBegin(batch *pgx.Batch) { queueTurn(batch, "short_interest") }

func (r *shortInterestRows) queueCompare(batch *pgx.Batch) {
	around := store.ShortInterestAround(r.settlement)
	batch.Queue(shortInterestSQL, store.SymbolsOf(r.rows), around.From.Time(), around.To.Time()).Query(func(rows pgx.Rows) error {
		stored, err := collectShortInterest(rows, nil)
		r.diff = store.CompareShortInterest(stored, r.rows)
		return err
	})
}

func (r *shortInterestRows) changes() market.Changes { return r.diff.Changes() }

func (r *shortInterestRows) source() string { return store.ShortInterestSource }

func (r *shortInterestRows) write(ctx context.Context, conn *pgx.Conn, run int64) error {
	if len(r.diff.New) > 0 {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"short_interest"}, shortInterestColumns(), r.copyRows())
		if err != nil {
			return err
		}
	}
	if len(r.diff.Changed) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	if err := r.queueUpdate(batch); err != nil {
		return err
	}
	if len(r.diff.Corrections) > 0 {
		queueCorrections(batch, "", r.source(), run, r.diff.Corrections)
	}
	return conn.SendBatch(ctx, batch).Close()
}

func shortInterestColumns() []string {
	return []string{
		"symbol", "settlement_date", "short_interest", "avg_daily_volume", "previous_short_interest", "days_to_cover", "days_to_cover_raw",
		"change_pct", "change_pct_raw", "revision_flag", "split_flag",
	}
}

// copyRows gives the new rows in the order of shortInterestColumns.
func (r *shortInterestRows) copyRows() pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(r.diff.New), func(i int) ([]any, error) {
		row := store.ShortInterestRowOf(r.diff.New[i])
		return []any{
			string(row.Symbol), row.Settlement, row.Shares, row.AvgDailyVolume, row.Previous, row.DaysToCover, row.DaysToCoverRaw,
			row.ChangePct, row.ChangePctRaw, row.RevisionFlag, row.SplitFlag,
		}, nil
	})
}

const updateShortInterestSQL = `
	UPDATE short_interest AS s
	SET short_interest = c.short_interest, avg_daily_volume = c.avg_daily_volume, previous_short_interest = c.previous_short_interest,
	    days_to_cover = c.days_to_cover, days_to_cover_raw = c.days_to_cover_raw, change_pct = c.change_pct,
	    change_pct_raw = c.change_pct_raw, revision_flag = c.revision_flag, split_flag = c.split_flag, fetched_at = now()
	FROM jsonb_populate_recordset(NULL::short_interest, $1::jsonb) AS c
	WHERE s.symbol = c.symbol AND s.settlement_date = c.settlement_date`

func (r *shortInterestRows) queueUpdate(batch *pgx.Batch) error {
	rows := make([]store.ShortInterestRow, len(r.diff.Changed))
	for i, row := range r.diff.Changed {
		rows[i] = store.ShortInterestRowOf(row)
	}
	return queueJSON(batch, updateShortInterestSQL, rows)
}

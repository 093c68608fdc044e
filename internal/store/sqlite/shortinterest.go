package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// shortInterestSQL leaves rows out that are not at midnight UTC: they are of no
// settlement date.
const shortInterestSQL = `
	SELECT symbol, settlement_date, short_interest, avg_daily_volume, previous_short_interest,
	       days_to_cover, days_to_cover_raw, change_pct, change_pct_raw, revision_flag, split_flag
	FROM short_interest
	WHERE symbol IN (SELECT value FROM json_each(?)) AND settlement_date BETWEEN ? AND ? AND substr(settlement_date, 11) = ?
	ORDER BY settlement_date`

func shortInterestIn(ctx context.Context, q queryer, symbols []string, window market.Range) ([]store.ShortInterestRow, error) {
	wanted, err := json.Marshal(symbols)
	if err != nil {
		return nil, err
	}
	return listIn(ctx, q, func(rows *sql.Rows) (r store.ShortInterestRow, err error) {
		var at string
		err = rows.Scan(&r.Symbol, &at, &r.Shares, &r.AvgDailyVolume, &r.Previous,
			&r.DaysToCover, &r.DaysToCoverRaw, &r.ChangePct, &r.ChangePctRaw, &r.RevisionFlag, &r.SplitFlag)
		date, _ := parseBarStamp(at) // the query asks for midnight alone
		r.Settlement = date.Time()
		return r, err
	}, shortInterestSQL, string(wanted), barStamp(window.From), barStamp(window.To), midnight)
}

// ShortInterest implements [store.DB].
func (db *DB) ShortInterest(ctx context.Context, symbol market.Symbol) ([]market.ShortInterest, error) {
	rows, err := shortInterestIn(ctx, db.reader, []string{string(symbol)}, market.Range{From: 1, To: store.LastDate})
	if err != nil {
		return nil, wrap(fmt.Sprintf("short interest of %s", symbol), err)
	}
	return store.ReadShortInterest(rows), nil
}

// SaveShortInterest implements [store.Run].
func (r *run) SaveShortInterest(ctx context.Context, kind string, settlement market.Date, rows []market.ShortInterest) (market.Changes, error) {
	return r.save(ctx, store.CheckShortInterest(kind, settlement, rows), saving{
		what: "short interest", kind: kind, unit: market.Symbol(settlement.String()), source: store.ShortInterestSource,
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) {
			return r.saveShortInterest(ctx, tx, settlement, rows)
		},
	})
}

func (r *run) saveShortInterest(ctx context.Context, tx *sql.Tx, settlement market.Date, rows []market.ShortInterest) (market.Changes, error) {
	stored, err := shortInterestIn(ctx, tx, store.SymbolsOf(rows), store.ShortInterestAround(settlement))
	if err != nil {
		return market.Changes{}, err
	}
	diff := store.CompareShortInterest(stored, rows)
	at := r.db.stamp()
	err = insertion{
		head: `INSERT INTO short_interest (fetched_at, symbol, settlement_date, short_interest, avg_daily_volume, previous_short_interest,
			days_to_cover, days_to_cover_raw, change_pct, change_pct_raw, revision_flag, split_flag) VALUES `,
		row:   `(?1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		first: []any{at},
		args: func(args []any, i int) []any {
			row := store.ShortInterestRowOf(diff.New[i])
			return append(append(args, string(row.Symbol), barStamp(diff.New[i].Settlement)), shortInterestValues(&row)...)
		},
	}.run(ctx, tx, len(diff.New))
	if err != nil {
		return market.Changes{}, err
	}
	if err := updateShortInterest(ctx, tx, at, diff.Changed); err != nil {
		return market.Changes{}, err
	}
	return diff.Changes(), r.insertCorrections(ctx, tx, "", store.ShortInterestSource, diff.Corrections)
}

// shortInterestValues returns the values behind the key, in the order in which
// they are read.
func shortInterestValues(row *store.ShortInterestRow) []any {
	return []any{
		row.Shares, row.AvgDailyVolume, row.Previous, row.DaysToCover, row.DaysToCoverRaw,
		row.ChangePct, row.ChangePctRaw, row.RevisionFlag, row.SplitFlag,
	}
}

func updateShortInterest(ctx context.Context, tx *sql.Tx, at string, rows []market.ShortInterest) error {
	if len(rows) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, `
		UPDATE short_interest SET short_interest = ?, avg_daily_volume = ?, previous_short_interest = ?, days_to_cover = ?,
			days_to_cover_raw = ?, change_pct = ?, change_pct_raw = ?, revision_flag = ?, split_flag = ?, fetched_at = ?
		WHERE symbol = ? AND settlement_date = ?`)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for i := range rows {
		row := store.ShortInterestRowOf(rows[i])
		args := append(shortInterestValues(&row), at, string(row.Symbol), barStamp(rows[i].Settlement))
		if _, err := stmt.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

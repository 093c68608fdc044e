package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// nearSQL finds the filing of that number and all that can have to do with it:
// an amendment amends filings of its issuer and form, by the day on which they
// were filed or by their period, and another amendment may amend the same. Of
// an original that no amendment is near it finds nothing but itself, in the
// index of the amendments alone. What a filing was before it was saved again
// counts too. It finds more than enough, since it does not look at owners.
const nearSQL = `
	WITH RECURSIVE near AS (
		SELECT $1::text AS accession_number, $2::text AS issuer_cik, $3::text AS form, $4::date AS filed_date, $5::date AS period, $6::date AS original_filed
		UNION
		SELECT accession_number, issuer_cik, form, filed_date, period, original_filed FROM insider_filings WHERE accession_number = $1
		UNION
		SELECT f.* FROM near n CROSS JOIN LATERAL (
			SELECT accession_number, issuer_cik, form, filed_date, period, original_filed FROM insider_filings
			WHERE issuer_cik = n.issuer_cik AND substr(form, 1, 1) = substr(n.form, 1, 1) AND form IN ('3/A', '4/A', '5/A')
			UNION ALL
			SELECT accession_number, issuer_cik, form, filed_date, period, original_filed FROM insider_filings
			WHERE issuer_cik = n.issuer_cik AND substr(form, 1, 1) = substr(n.form, 1, 1) AND form NOT IN ('3/A', '4/A', '5/A')
			  AND n.form IN ('3/A', '4/A', '5/A')
		) f
		WHERE f.period IS NOT DISTINCT FROM n.period OR f.filed_date = n.original_filed OR f.original_filed IN (n.filed_date, n.original_filed)
	)
	SELECT symbol, document::text, (
		SELECT coalesce(jsonb_agg(jsonb_build_object('line', t.line, 'superseded', t.superseded, 'amends', t.amends, 'amends_line', t.amends_line)), '[]')::text
		FROM insider_transactions t WHERE t.accession_number = f.accession_number
	) FROM insider_filings f WHERE accession_number IN (SELECT accession_number FROM near)`

// SaveFiling implements [store.Run].
func (r *run) SaveFiling(ctx context.Context, symbol market.Symbol, f market.InsiderFiling) (market.Changes, error) {
	f.Accepted = f.Accepted.UTC()
	return r.save(ctx, "filing", store.CheckFiling(symbol, &f),
		&saving{kind: store.FilingsKind, unit: market.Symbol(f.Accession), rows: &filingRows{symbol: symbol, filing: f}})
}

// filingRows is what a SaveFiling brings.
type filingRows struct {
	symbol market.Symbol
	filing market.InsiderFiling
	diff   store.FilingDiff
}

// queueBegin lets one save of an issuer's filings work at a time: two that see
// nothing of each other would both count what only one of them should.
func (r *filingRows) queueBegin(batch *pgx.Batch) {
	queueTurn(batch, "insider_filings "+store.PaddedCIK(r.filing.IssuerCIK))
}

func (r *filingRows) queueCompare(batch *pgx.Batch) {
	f := &r.filing
	batch.Queue(nearSQL, f.Accession, store.PaddedCIK(f.IssuerCIK), f.Form, date(f.Filed), date(f.Period), date(f.OriginalFiled)).Query(func(rows pgx.Rows) error {
		stored, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.StoredFiling, error) {
			var symbol market.Symbol
			var document, marks string
			if err := row.Scan(&symbol, &document, &marks); err != nil {
				return store.StoredFiling{}, err
			}
			return store.ReadFiling(symbol, document, marks)
		})
		if err != nil {
			return err
		}
		r.diff, err = store.CompareFiling(stored, r.symbol, *f)
		return err
	})
}

func (r *filingRows) changes() market.Changes { return r.diff.Changes }

func (r *filingRows) source() string { return store.FilingSource }

// The tables give the types of what is in the JSON.
const (
	filingSQL = `
		INSERT INTO insider_filings (accession_number, symbol, issuer_cik, form, filed_date, accepted_at, period, original_filed, document)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb)
		ON CONFLICT (accession_number) DO UPDATE
		SET symbol = EXCLUDED.symbol, issuer_cik = EXCLUDED.issuer_cik, form = EXCLUDED.form, filed_date = EXCLUDED.filed_date,
		    accepted_at = EXCLUDED.accepted_at, period = EXCLUDED.period, original_filed = EXCLUDED.original_filed, document = EXCLUDED.document`
	ownersSQL = `INSERT INTO insider_owners SELECT * FROM jsonb_populate_recordset(NULL::insider_owners, $1::jsonb)`
	linesSQL  = `
		INSERT INTO insider_transactions (symbol, filed_date, insider_name, insider_title, transaction_type, shares, price_per_share,
		                                  shares_owned_after, is_direct, accession_number, line, form_type, issuer_cik, owner_cik,
		                                  transaction_date, security_title, is_derivative, acquired_disposed, aff10b5_one, superseded,
		                                  amends, amends_line, footnotes, metadata)
		SELECT symbol, filed_date, insider_name, insider_title, transaction_type, shares, price_per_share,
		       shares_owned_after, is_direct, accession_number, line, form_type, issuer_cik, owner_cik,
		       transaction_date, security_title, is_derivative, acquired_disposed, aff10b5_one, superseded,
		       amends, amends_line, footnotes, metadata
		FROM jsonb_populate_recordset(NULL::insider_transactions, $1::jsonb)`
	marksSQL = `
		UPDATE insider_transactions AS t SET superseded = m.superseded, amends = m.amends, amends_line = m.amends_line
		FROM jsonb_populate_recordset(NULL::insider_transactions, $1::jsonb) AS m
		WHERE t.accession_number = m.accession_number AND t.line = m.line`
)

// write takes one round trip.
func (r *filingRows) write(ctx context.Context, conn *pgx.Conn, _ int64) error {
	batch := &pgx.Batch{}
	d, accession := &r.diff, r.filing.Accession
	if d.Document != nil {
		r.queueFiling(batch)
		batch.Queue(`DELETE FROM insider_owners WHERE accession_number = $1`, accession)
		if err := queueJSON(batch, ownersSQL, d.Owners); err != nil {
			return err
		}
	}
	if len(d.Drop) > 0 {
		batch.Queue(`DELETE FROM insider_transactions WHERE accession_number = $1 AND line = ANY ($2)`, accession, d.Drop)
	}
	if err := queueJSON(batch, linesSQL, d.Insert); err != nil {
		return err
	}
	if err := queueJSON(batch, marksSQL, d.Marks); err != nil || batch.Len() == 0 {
		return err
	}
	return conn.SendBatch(ctx, batch).Close()
}

func (r *filingRows) queueFiling(batch *pgx.Batch) {
	f := &r.filing
	var accepted any
	if !f.Accepted.IsZero() {
		accepted = f.Accepted
	}
	batch.Queue(filingSQL, f.Accession, string(r.symbol), store.PaddedCIK(f.IssuerCIK), f.Form, date(f.Filed), accepted,
		date(f.Period), date(f.OriginalFiled), string(r.diff.Document))
}

// queueJSON queues a statement for rows, unless there are none.
func queueJSON[T any](batch *pgx.Batch, sql string, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	list, err := json.Marshal(rows)
	batch.Queue(sql, string(list))
	return err
}

// InsiderFilings implements [store.DB].
func (db *DB) InsiderFilings(ctx context.Context, symbol market.Symbol) ([]market.InsiderFiling, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT document::text FROM insider_filings WHERE symbol = $1 ORDER BY filed_date, accession_number COLLATE "C"`, string(symbol))
	filings, err := collect(rows, err, func(row pgx.CollectableRow) (market.InsiderFiling, error) {
		var document string
		if err := row.Scan(&document); err != nil {
			return market.InsiderFiling{}, err
		}
		stored, err := store.ReadFiling(symbol, document, "[]")
		return stored.Filing, err
	})
	return filings, wrap(fmt.Sprintf("filings of insiders of %s", symbol), err)
}

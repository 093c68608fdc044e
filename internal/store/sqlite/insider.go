package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

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
	WITH RECURSIVE near (accession_number, issuer_cik, form, filed_date, period, original_filed) AS (
		VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		UNION
		SELECT accession_number, issuer_cik, form, filed_date, period, original_filed FROM insider_filings WHERE accession_number = ?1
		UNION
		SELECT f.accession_number, f.issuer_cik, f.form, f.filed_date, f.period, f.original_filed
		FROM near n JOIN insider_filings f ON f.issuer_cik = n.issuer_cik AND substr(f.form, 1, 1) = substr(n.form, 1, 1)
		WHERE f.form IN ('3/A', '4/A', '5/A')
		  AND (f.period IS n.period OR f.filed_date = n.original_filed OR f.original_filed IN (n.filed_date, n.original_filed))
		UNION
		SELECT f.accession_number, f.issuer_cik, f.form, f.filed_date, f.period, f.original_filed
		FROM near n JOIN insider_filings f ON f.issuer_cik = n.issuer_cik AND substr(f.form, 1, 1) = substr(n.form, 1, 1)
		WHERE n.form IN ('3/A', '4/A', '5/A') AND f.form NOT IN ('3/A', '4/A', '5/A')
		  AND (f.period IS n.period OR f.filed_date = n.original_filed OR f.original_filed IN (n.filed_date, n.original_filed))
	)
	SELECT symbol, document, (
		SELECT json_group_array(json_object('line', line, 'superseded', json(iif(superseded, 'true', 'false')), 'amends', amends, 'amends_line', amends_line))
		FROM insider_transactions t WHERE t.accession_number = f.accession_number
	) FROM insider_filings f WHERE accession_number IN (SELECT accession_number FROM near)`

// SaveFiling implements [store.Run].
func (r *run) SaveFiling(ctx context.Context, symbol market.Symbol, f market.InsiderFiling) (market.Changes, error) {
	f.Accepted = f.Accepted.UTC()
	return r.save(ctx, store.CheckFiling(symbol, &f), saving{
		what: "filing", kind: store.FilingsKind, unit: market.Symbol(f.Accession), source: store.FilingSource,
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) { return saveFiling(ctx, tx, symbol, &f) },
	})
}

func saveFiling(ctx context.Context, tx *sql.Tx, symbol market.Symbol, f *market.InsiderFiling) (market.Changes, error) {
	stored, err := listIn(ctx, tx, func(rows *sql.Rows) (store.StoredFiling, error) {
		var symbol market.Symbol
		var document, marks string
		if err := rows.Scan(&symbol, &document, &marks); err != nil {
			return store.StoredFiling{}, err
		}
		return store.ReadFiling(symbol, document, marks)
	}, nearSQL, f.Accession, store.PaddedCIK(f.IssuerCIK), f.Form, f.Filed.String(), dateText(f.Period), dateText(f.OriginalFiled))
	if err != nil {
		return market.Changes{}, err
	}
	d, err := store.CompareFiling(stored, symbol, *f)
	if err != nil {
		return d.Changes, err
	}
	if d.Document != nil {
		if err := writeFiling(ctx, tx, symbol, f, &d); err != nil {
			return d.Changes, err
		}
	}
	if err := dropLines(ctx, tx, f.Accession, d.Drop); err != nil {
		return d.Changes, err
	}
	if err := insertLines(ctx, tx, d.Insert); err != nil {
		return d.Changes, err
	}
	return d.Changes, markLines(ctx, tx, d.Marks)
}

func writeFiling(ctx context.Context, tx *sql.Tx, symbol market.Symbol, f *market.InsiderFiling, d *store.FilingDiff) error {
	var accepted any
	if !f.Accepted.IsZero() {
		accepted = stampOf(f.Accepted)
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO insider_filings (accession_number, symbol, issuer_cik, form, filed_date, accepted_at, period, original_filed, document)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (accession_number) DO UPDATE
		SET symbol = excluded.symbol, issuer_cik = excluded.issuer_cik, form = excluded.form, filed_date = excluded.filed_date,
		    accepted_at = excluded.accepted_at, period = excluded.period, original_filed = excluded.original_filed, document = excluded.document`,
		f.Accession, string(symbol), store.PaddedCIK(f.IssuerCIK), f.Form, f.Filed.String(), accepted,
		dateText(f.Period), dateText(f.OriginalFiled), string(d.Document))
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM insider_owners WHERE accession_number = ?`, f.Accession); err != nil {
		return err
	}
	return insertion{
		head: `INSERT INTO insider_owners (accession_number, position, owner_cik, name, title, relation,
			is_director, is_officer, is_ten_percent, is_other) VALUES `,
		row: `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		args: func(args []any, i int) []any {
			o := &d.Owners[i]
			return append(args, o.Accession, o.Position, o.CIK, o.Name, o.Title, o.Relation, o.Director, o.Officer, o.TenPercent, o.Other)
		},
	}.run(ctx, tx, len(d.Owners))
}

func dropLines(ctx context.Context, tx *sql.Tx, accession string, lines []int) error {
	if len(lines) == 0 {
		return nil
	}
	list, err := json.Marshal(lines)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM insider_transactions WHERE accession_number = ? AND line IN (SELECT value FROM json_each(?))`, accession, string(list))
	return err
}

func insertLines(ctx context.Context, tx *sql.Tx, lines []store.InsiderRow) error {
	return insertion{
		head: `INSERT INTO insider_transactions (symbol, filed_date, insider_name, insider_title, transaction_type, shares, price_per_share,
			shares_owned_after, is_direct, accession_number, line, form_type, issuer_cik, owner_cik, transaction_date, security_title,
			is_derivative, acquired_disposed, aff10b5_one, superseded, amends, amends_line, footnotes, metadata) VALUES `,
		row: `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		args: func(args []any, i int) []any {
			l := &lines[i]
			return append(args, string(l.Symbol), barStamp(market.DateOf(l.Filed)), l.Name, l.Title, l.Type, l.Shares, l.Price,
				l.OwnedAfter, l.Direct, l.Accession, l.Line, l.Form, l.IssuerCIK, l.OwnerCIK, dateText(l.Date), l.Security,
				l.Derivative, l.AD, l.Plan, l.Superseded, l.Amends, l.AmendsLine, jsonText(l.Footnotes), jsonText(l.Metadata))
		},
	}.run(ctx, tx, len(lines))
}

// jsonText returns the document, or nil for NULL if there is none.
func jsonText(document json.RawMessage) any {
	if document == nil {
		return nil
	}
	return string(document)
}

// markLines takes one statement: the marks hold no fraction, which SQLite would
// not read from JSON to the last digit.
func markLines(ctx context.Context, tx *sql.Tx, marks []store.InsiderMark) error {
	if len(marks) == 0 {
		return nil
	}
	list, err := json.Marshal(marks)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE insider_transactions SET superseded = m.value ->> 'superseded', amends = m.value ->> 'amends', amends_line = m.value ->> 'amends_line'
		FROM json_each(?) AS m
		WHERE accession_number = m.value ->> 'accession_number' AND line = m.value ->> 'line'`, string(list))
	return err
}

// InsiderFilings implements [store.DB].
func (db *DB) InsiderFilings(ctx context.Context, symbol market.Symbol) ([]market.InsiderFiling, error) {
	filings, err := list(ctx, db, func(rows *sql.Rows) (market.InsiderFiling, error) {
		var document string
		if err := rows.Scan(&document); err != nil {
			return market.InsiderFiling{}, err
		}
		stored, err := store.ReadFiling(symbol, document, "[]")
		return stored.Filing, err
	}, `SELECT document FROM insider_filings WHERE symbol = ? ORDER BY filed_date, accession_number`, string(symbol))
	return filings, wrap(fmt.Sprintf("filings of insiders of %s", symbol), err)
}

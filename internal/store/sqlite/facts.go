package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// The queries for the facts of a symbol, in the order of their index.
const (
	factsHead = `
		SELECT CAST(issuer_cik AS INTEGER), taxonomy, concept, unit, coalesce(start, ''), "end",
		       value, accession_number, form, filed, coalesce(superseded_on, '')
		FROM fundamental_facts WHERE symbol = ?1`
	factsTail = ` ORDER BY issuer_cik, taxonomy, concept, unit, "end", coalesce(start, ''), filed, accession_number`

	factsSQL     = factsHead + factsTail
	factsAsOfSQL = factsHead + `
		AND filed <= ?2 AND (superseded_on IS NULL OR superseded_on > ?2)
		AND (?3 = '' OR concept IN (SELECT value FROM json_each(?3)))` + factsTail
)

func factsIn(ctx context.Context, q queryer, query string, args ...any) ([]store.Version, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var versions []store.Version
	for rows.Next() {
		var v store.Version
		var start, end, filed, superseded string
		err := rows.Scan(&v.CIK, &v.Taxonomy, &v.Concept, &v.Unit, &start, &end, &v.Value, &v.Accession, &v.Form, &filed, &superseded)
		if err != nil {
			return nil, err
		}
		for _, day := range []struct {
			to   *market.Date
			text string
		}{{&v.Start, start}, {&v.End, end}, {&v.Filed, filed}, {&v.Superseded, superseded}} {
			if err := day.to.UnmarshalText([]byte(day.text)); err != nil {
				return nil, err
			}
		}
		versions = append(versions, v)
	}
	return versions, rows.Err()
}

// Facts implements [store.DB].
func (db *DB) Facts(ctx context.Context, symbol market.Symbol) ([]market.Fact, error) {
	versions, err := factsIn(ctx, db.reader, factsSQL, string(symbol))
	if err != nil {
		return nil, wrap(fmt.Sprintf("facts of %s", symbol), err)
	}
	var facts []market.Fact
	for i := range versions {
		facts = append(facts, versions[i].Fact)
	}
	return facts, nil
}

// FactsAsOf implements [store.DB].
func (db *DB) FactsAsOf(ctx context.Context, day market.Date, symbols []market.Symbol, concepts []string, each func(market.Symbol, market.Fact) error) error {
	op := fmt.Sprintf("facts as of %s", day)
	symbols, err := db.symbolsOf(ctx, symbols)
	if err != nil {
		return wrap(op, err)
	}
	wanted := ""
	if len(concepts) > 0 {
		list, err := json.Marshal(concepts)
		if err != nil {
			return wrap(op, err)
		}
		wanted = string(list)
	}
	for _, symbol := range symbols {
		versions, err := factsIn(ctx, db.reader, factsAsOfSQL, string(symbol), min(day, store.LastDate).String(), wanted)
		if err != nil {
			return wrap(op, err)
		}
		for i := range versions {
			if err := each(symbol, versions[i].Fact); err != nil {
				return wrap(op, err)
			}
		}
	}
	return nil
}

// symbolsOf returns the symbols in ascending order, all that have facts if
// there are none.
func (db *DB) symbolsOf(ctx context.Context, symbols []market.Symbol) ([]market.Symbol, error) {
	if len(symbols) > 0 {
		return slices.Compact(slices.Sorted(slices.Values(symbols))), nil
	}
	return list(ctx, db, func(rows *sql.Rows) (symbol market.Symbol, err error) {
		err = rows.Scan(&symbol)
		return symbol, err
	}, `SELECT DISTINCT symbol FROM fundamental_facts ORDER BY symbol`)
}

func (r *run) saveFacts(ctx context.Context, tx *sql.Tx, symbol market.Symbol, facts []market.Fact) (market.Changes, error) {
	stored, err := factsIn(ctx, tx, factsSQL, string(symbol))
	if err != nil {
		return market.Changes{}, err
	}
	diff := store.CompareFacts(stored, facts)
	if err := r.insertFacts(ctx, tx, symbol, diff.New); err != nil {
		return market.Changes{}, err
	}
	if err := updateFacts(ctx, tx, symbol, diff.Changed); err != nil {
		return market.Changes{}, err
	}
	return diff.Changes(), r.insertCorrections(ctx, tx, symbol, store.FactSource, diff.Corrections)
}

func (r *run) insertFacts(ctx context.Context, tx *sql.Tx, symbol market.Symbol, versions []store.Version) error {
	return insertion{
		head: `INSERT INTO fundamental_facts (symbol, first_seen, issuer_cik, taxonomy, concept, unit, start, "end",
			value, accession_number, form, filed, superseded_on) VALUES `,
		row:   `(?1, ?2, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		first: []any{string(symbol), r.db.stamp()},
		args: func(args []any, i int) []any {
			v := &versions[i]
			return append(args, store.PaddedCIK(v.CIK), v.Taxonomy, v.Concept, v.Unit, dateText(v.Start), v.End.String(),
				v.Value, v.Accession, v.Form, v.Filed.String(), dateText(v.Superseded))
		},
	}.run(ctx, tx, len(versions))
}

const updateFactSQL = `
	UPDATE fundamental_facts SET value = ?, form = ?, filed = ?, superseded_on = ?
	WHERE symbol = ? AND issuer_cik = ? AND taxonomy = ? AND concept = ? AND unit = ? AND "end" = ?
	  AND coalesce(start, '') = ? AND accession_number = ?`

func updateFacts(ctx context.Context, tx *sql.Tx, symbol market.Symbol, versions []store.Version) error {
	if len(versions) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, updateFactSQL)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	for i := range versions {
		v := &versions[i]
		_, err := stmt.ExecContext(ctx, v.Value, v.Form, v.Filed.String(), dateText(v.Superseded),
			string(symbol), store.PaddedCIK(v.CIK), v.Taxonomy, v.Concept, v.Unit, v.End.String(), v.Start.String(), v.Accession)
		if err != nil {
			return err
		}
	}
	return nil
}

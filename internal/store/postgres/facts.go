package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// The queries for the facts of a symbol. A date is read as its ordinal.
const (
	factsHead = `
		SELECT issuer_cik::int8, taxonomy, concept, unit, coalesce(start - date '0001-01-01' + 1, 0), "end" - date '0001-01-01' + 1,
		       value, accession_number, form, filed - date '0001-01-01' + 1, coalesce(superseded_on - date '0001-01-01' + 1, 0)
		FROM fundamental_facts WHERE symbol = $1`
	factsTail = ` ORDER BY issuer_cik, taxonomy, concept, unit, "end", start NULLS FIRST, filed, accession_number`

	factsSQL     = factsHead + factsTail
	factsAsOfSQL = factsHead + `
		AND filed <= $2 AND (superseded_on IS NULL OR superseded_on > $2) AND (cardinality($3::text[]) = 0 OR concept = ANY ($3))` + factsTail
)

func collectFacts(rows pgx.Rows, err error) ([]store.Version, error) {
	return collect(rows, err, func(row pgx.CollectableRow) (v store.Version, err error) {
		err = row.Scan(&v.CIK, &v.Taxonomy, &v.Concept, &v.Unit, &v.Start, &v.End, &v.Value, &v.Accession, &v.Form, &v.Filed, &v.Superseded)
		return v, err
	})
}

// Facts implements [store.DB].
func (db *DB) Facts(ctx context.Context, symbol market.Symbol) ([]market.Fact, error) {
	rows, err := db.pool.Query(ctx, factsSQL, string(symbol))
	versions, err := collectFacts(rows, err)
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
	symbols = slices.Compact(slices.Sorted(slices.Values(symbols)))
	if len(symbols) == 0 {
		var err error
		rows, err := db.pool.Query(ctx, `SELECT DISTINCT symbol FROM fundamental_facts ORDER BY symbol`)
		if symbols, err = collect(rows, err, pgx.RowTo[market.Symbol]); err != nil {
			return wrap(op, err)
		}
	}
	if concepts == nil {
		concepts = []string{} // nil would be null
	}
	for _, symbol := range symbols {
		rows, err := db.pool.Query(ctx, factsAsOfSQL, string(symbol), min(day, store.LastDate).Time(), concepts)
		versions, err := collectFacts(rows, err)
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

// factRows is what a SaveFacts brings.
type factRows struct {
	symbol market.Symbol
	facts  []market.Fact
	diff   store.FactDiff
}

// queueBegin lets one save of a symbol's facts work at a time: two that see
// nothing of each other would both leave their versions as the newest.
func (r *factRows) queueBegin(batch *pgx.Batch) {
	queueTurn(batch, "fundamental_facts "+string(r.symbol))
}

func (r *factRows) queueCompare(batch *pgx.Batch) {
	batch.Queue(factsSQL, string(r.symbol)).Query(func(rows pgx.Rows) error {
		stored, err := collectFacts(rows, nil)
		r.diff = store.CompareFacts(stored, r.facts)
		return err
	})
}

func (r *factRows) changes() market.Changes { return r.diff.Changes() }

func (r *factRows) source() string { return store.FactSource }

func (r *factRows) write(ctx context.Context, conn *pgx.Conn, run int64) error {
	if len(r.diff.New) > 0 {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"fundamental_facts"}, factColumns(), r.copyRows())
		if err != nil {
			return err
		}
	}
	if len(r.diff.Changed) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	r.queueUpdate(batch)
	if len(r.diff.Corrections) > 0 {
		queueCorrections(batch, r.symbol, r.source(), run, r.diff.Corrections)
	}
	return conn.SendBatch(ctx, batch).Close()
}

func factColumns() []string {
	return []string{"symbol", "issuer_cik", "taxonomy", "concept", "unit", "start", "end", "value", "accession_number", "form", "filed", "superseded_on"}
}

// copyRows gives the new versions in the order of factColumns.
func (r *factRows) copyRows() pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(r.diff.New), func(i int) ([]any, error) {
		v := &r.diff.New[i]
		return []any{
			string(r.symbol), store.PaddedCIK(v.CIK), v.Taxonomy, v.Concept, v.Unit, date(v.Start), v.End.Time(),
			v.Value, v.Accession, v.Form, v.Filed.Time(), date(v.Superseded),
		}, nil
	})
}

const updateFactsSQL = `
	UPDATE fundamental_facts AS f
	SET value = c.value, form = c.form, filed = c.filed, superseded_on = c.superseded_on
	FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::date[], $8::text[],
	            $9::float8[], $10::text[], $11::date[], $12::date[])
	     AS c (issuer_cik, taxonomy, concept, unit, start, "end", accession_number, value, form, filed, superseded_on)
	WHERE f.symbol = $1 AND f.issuer_cik = c.issuer_cik AND f.taxonomy = c.taxonomy AND f.concept = c.concept AND f.unit = c.unit
	  AND coalesce(f.start, '-infinity'::date) = coalesce(c.start, '-infinity'::date) AND f."end" = c."end"
	  AND f.accession_number = c.accession_number`

func (r *factRows) queueUpdate(batch *pgx.Batch) {
	n := len(r.diff.Changed)
	var texts [6][]string // issuer_cik, taxonomy, concept, unit, accession_number, form
	var dates [4][]*time.Time
	values := make([]float64, 0, n)
	for i := range r.diff.Changed {
		v := &r.diff.Changed[i]
		for t, text := range [...]string{store.PaddedCIK(v.CIK), v.Taxonomy, v.Concept, v.Unit, v.Accession, v.Form} {
			texts[t] = append(texts[t], text)
		}
		for d, day := range [...]market.Date{v.Start, v.End, v.Filed, v.Superseded} {
			dates[d] = append(dates[d], date(day))
		}
		values = append(values, v.Value)
	}
	batch.Queue(updateFactsSQL, string(r.symbol), texts[0], texts[1], texts[2], texts[3], dates[0], dates[1], texts[4],
		values, texts[5], dates[2], dates[3])
}

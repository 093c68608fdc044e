package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// SaveItem implements [store.Run].
func (r *run) SaveItem(ctx context.Context, kind, unit, outcome, message string) error {
	return r.saveUnit(ctx, kind, unit, outcome, message, true)
}

// SaveUnitAttempt implements [store.Run].
func (r *run) SaveUnitAttempt(ctx context.Context, kind, unit, outcome, message string) error {
	return r.saveUnit(ctx, kind, unit, outcome, message, false)
}

func (r *run) saveUnit(ctx context.Context, kind, unit, outcome, message string, done bool) error {
	err := store.CheckUnit(kind, unit)
	if err == nil {
		s := saving{run: r, kind: kind, unit: market.Symbol(unit)}
		err = s.attempt(ctx, outcome, message, done)
	}
	return wrap(fmt.Sprintf("save attempt at %s of %s", unit, kind), err)
}

// lastRunSQL moves watermarks forward while the run is the owner, and tells
// whether it is. The row of the run is locked against being taken over. Those
// that are further are left out, as a conflict would lock them.
const lastRunSQL = `
	WITH owner AS (SELECT job FROM ingest_runs WHERE id = $1 AND status = 'running' FOR KEY SHARE),
	moved AS (
		INSERT INTO ingest_watermarks AS w (job, unit, through, tried)
		SELECT owner.job, u.unit, $3::date, $4::text FROM owner, unnest($2::text[]) AS u (unit)
		WHERE NOT EXISTS (SELECT FROM ingest_watermarks f WHERE f.job = owner.job AND f.unit = u.unit AND f.tried >= $4)
		ON CONFLICT (job, unit) DO UPDATE
		SET through = greatest(w.through, EXCLUDED.through), tried = EXCLUDED.tried, updated_at = now()
		WHERE w.tried < EXCLUDED.tried
	)
	SELECT EXISTS (SELECT FROM owner)`

// SaveLastRun implements [store.Run].
func (r *run) SaveLastRun(ctx context.Context, until time.Time, symbols []market.Symbol) error {
	return r.moveWatermarks(ctx, until, []string{store.LastRunUnit}, symbols)
}

// SaveCovered implements [store.Run].
func (r *run) SaveCovered(ctx context.Context, through time.Time, symbols []market.Symbol) error {
	return r.moveWatermarks(ctx, through, nil, symbols)
}

func (r *run) moveWatermarks(ctx context.Context, until time.Time, units []string, symbols []market.Symbol) error {
	tried, err := store.LastRunText(until)
	if err == nil {
		for _, symbol := range symbols {
			units = append(units, string(symbol))
		}
		slices.Sort(units) // two of them then never wait for each other
		units = slices.Compact(units)
		err = r.db.retry(ctx, bounded(func(ctx context.Context) error {
			var owner bool
			err := r.db.pool.QueryRow(ctx, lastRunSQL, r.ID(), units, market.DateOf(until.UTC()).Time(), tried).Scan(&owner)
			if err == nil && !owner {
				return store.ErrFenced
			}
			return err
		}))
	}
	return wrap(fmt.Sprintf("save last run of %s", r.job), err)
}

// LastRun implements [store.DB].
func (db *DB) LastRun(ctx context.Context, job string) (time.Time, error) {
	var tried string
	err := db.pool.QueryRow(ctx, `SELECT tried FROM ingest_watermarks WHERE job = $1 AND unit = $2`, job, store.LastRunUnit).Scan(&tried)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, wrap("last run of "+job, err)
	}
	until, err := store.ParseLastRun(tried)
	return until, wrap("last run of "+job, err)
}

// SaveIndexDay implements [store.Run].
func (r *run) SaveIndexDay(ctx context.Context, kind string, day market.Date, filings []market.ListedFiling) (market.Changes, error) {
	return r.save(ctx, "index", store.CheckListed(kind, day, filings),
		&saving{kind: kind, unit: market.Symbol(day.String()), rows: &listedRows{filings: filings}})
}

// listedRows is what a SaveIndexDay brings.
type listedRows struct {
	filings, fresh []market.ListedFiling
}

func (r *listedRows) queueBegin(batch *pgx.Batch) { batch.Queue(beginSnapshotSQL) }

func (r *listedRows) queueCompare(batch *pgx.Batch) {
	accessions := make([]string, len(r.filings))
	for i := range r.filings {
		accessions[i] = r.filings[i].Accession
	}
	batch.Queue(`SELECT accession_number FROM ingest_filings WHERE accession_number = ANY ($1)`, accessions).Query(func(rows pgx.Rows) error {
		known, err := pgx.CollectRows(rows, pgx.RowTo[string])
		r.fresh = store.NewlyListed(known, r.filings)
		return err
	})
}

func (r *listedRows) changes() market.Changes {
	return market.Changes{Inserted: len(r.fresh), Unchanged: len(r.filings) - len(r.fresh)}
}

func (r *listedRows) source() string { return store.FilingSource }

func (r *listedRows) write(ctx context.Context, conn *pgx.Conn, _ int64) error {
	if len(r.fresh) == 0 {
		return nil
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"ingest_filings"}, []string{"accession_number", "form", "filed", "filers"},
		pgx.CopyFromSlice(len(r.fresh), func(i int) ([]any, error) {
			f := &r.fresh[i]
			filers := make([]int64, len(f.Filers)) // nil would be null
			for n, cik := range f.Filers {
				filers[n] = int64(cik)
			}
			return []any{f.Accession, f.Form, f.Filed.Time(), filers}, nil
		}))
	return err
}

// pendingSQL counts the failures of a filing by their outcomes and takes the
// outcome with the most of them, the newer one of two that have as many.
const pendingSQL = `
	SELECT f.accession_number, f.form, f.filed - date '0001-01-01' + 1, f.filers, coalesce(a.failures, 0), coalesce(a.outcome, ''), coalesce(a.message, '')
	FROM ingest_filings f LEFT JOIN LATERAL (
		SELECT count(*) AS failures, outcome, (array_agg(message ORDER BY id DESC))[1] AS message
		FROM ingest_attempts
		WHERE job = $1 AND period = $2 AND unit = f.accession_number AND outcome = ANY ($3)
		GROUP BY outcome ORDER BY count(*) DESC, max(id) DESC LIMIT 1
	) a ON true
	WHERE f.filed BETWEEN $4 AND $5
	  AND NOT EXISTS (SELECT FROM ingest_items i WHERE i.job = $1 AND i.period = $2 AND i.unit = f.accession_number)
	ORDER BY f.filed, f.accession_number`

// PendingFilings implements [store.DB].
func (db *DB) PendingFilings(ctx context.Context, window market.Range) ([]market.PendingFiling, error) {
	rows, err := db.pool.Query(ctx, pendingSQL, store.AltDataJob, store.FilingsKind, store.DocumentFaults(),
		max(window.From, 1).Time(), min(window.To, store.LastDate).Time())
	pending, err := collect(rows, err, func(row pgx.CollectableRow) (p market.PendingFiling, err error) {
		var filers []int64
		err = row.Scan(&p.Accession, &p.Form, &p.Filed, &filers, &p.Failures, &p.Outcome, &p.Message)
		for _, cik := range filers {
			p.Filers = append(p.Filers, int(cik))
		}
		return p, err
	})
	return pending, wrap(fmt.Sprintf("pending filings of %s", window), err)
}

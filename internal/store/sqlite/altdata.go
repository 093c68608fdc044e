package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
		err = r.saveAttempt(ctx, kind, market.Symbol(unit), outcome, message, done)
	}
	return wrap(fmt.Sprintf("save attempt at %s of %s", unit, kind), err)
}

// SaveLastRun implements [store.Run].
func (r *run) SaveLastRun(ctx context.Context, until time.Time, symbols []market.Symbol) error {
	return r.saveWatermarks(ctx, until, append([]market.Symbol{store.LastRunUnit}, symbols...))
}

// SaveCovered implements [store.Run].
func (r *run) SaveCovered(ctx context.Context, through time.Time, symbols []market.Symbol) error {
	return r.saveWatermarks(ctx, through, symbols)
}

func (r *run) saveWatermarks(ctx context.Context, until time.Time, symbols []market.Symbol) error {
	tried, err := store.LastRunText(until)
	if err == nil {
		err = r.db.tx(ctx, func(tx *sql.Tx) error {
			if err := r.guard(ctx, tx); err != nil {
				return err
			}
			return r.moveWatermarks(ctx, tx, market.DateOf(until.UTC()), tried, symbols)
		})
	}
	return wrap(fmt.Sprintf("save last run of %s", r.job), err)
}

func (r *run) moveWatermarks(ctx context.Context, tx *sql.Tx, through market.Date, tried string, symbols []market.Symbol) error {
	if symbols == nil {
		symbols = []market.Symbol{} // nil would be null
	}
	units, err := json.Marshal(symbols)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO ingest_watermarks (job, unit, through, tried, updated_at)
		SELECT ?1, value, ?2, ?3, ?4 FROM json_each(?5) WHERE true
		ON CONFLICT (job, unit) DO UPDATE
		SET through = max(coalesce(through, excluded.through), excluded.through), tried = excluded.tried, updated_at = excluded.updated_at
		WHERE tried < excluded.tried`, r.job, through.String(), tried, r.db.stamp(), string(units))
	return err
}

// LastRun implements [store.DB].
func (db *DB) LastRun(ctx context.Context, job string) (time.Time, error) {
	var tried string
	err := db.reader.QueryRowContext(ctx, `SELECT tried FROM ingest_watermarks WHERE job = ? AND unit = ?`, job, store.LastRunUnit).Scan(&tried)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, wrap("last run of "+job, err)
	}
	until, err := store.ParseLastRun(tried)
	return until, wrap("last run of "+job, err)
}

// SaveIndexDay implements [store.Run].
func (r *run) SaveIndexDay(ctx context.Context, kind string, day market.Date, filings []market.ListedFiling) (market.Changes, error) {
	return r.save(ctx, store.CheckListed(kind, day, filings), saving{
		what: "index", kind: kind, unit: market.Symbol(day.String()), source: store.FilingSource,
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) { return saveListed(ctx, tx, filings) },
	})
}

func saveListed(ctx context.Context, tx *sql.Tx, filings []market.ListedFiling) (market.Changes, error) {
	known, err := knownFilings(ctx, tx, filings)
	if err != nil {
		return market.Changes{}, err
	}
	fresh := store.NewlyListed(known, filings)
	filers := make([]string, len(fresh))
	for i := range fresh {
		list, err := json.Marshal(append([]int{}, fresh[i].Filers...)) // nil would be null
		if err != nil {
			return market.Changes{}, err
		}
		filers[i] = string(list)
	}
	err = insertion{
		head: `INSERT INTO ingest_filings (accession_number, form, filed, filers) VALUES `,
		row:  `(?, ?, ?, ?)`,
		args: func(args []any, i int) []any {
			return append(args, fresh[i].Accession, fresh[i].Form, fresh[i].Filed.String(), filers[i])
		},
	}.run(ctx, tx, len(fresh))
	return market.Changes{Inserted: len(fresh), Unchanged: len(filings) - len(fresh)}, err
}

// knownFilings returns the accession numbers of those that are stored.
func knownFilings(ctx context.Context, tx *sql.Tx, filings []market.ListedFiling) ([]string, error) {
	accessions := make([]string, len(filings))
	for i := range filings {
		accessions[i] = filings[i].Accession
	}
	wanted, err := json.Marshal(accessions)
	if err != nil {
		return nil, err
	}
	return listIn(ctx, tx, func(rows *sql.Rows) (accession string, err error) {
		err = rows.Scan(&accession)
		return accession, err
	}, `SELECT accession_number FROM ingest_filings WHERE accession_number IN (SELECT value FROM json_each(?))`, string(wanted))
}

// pendingSQL counts the failures of a filing by their outcomes and takes the
// outcome with the most of them, the newer one of two that have as many. The
// message is that of the row with the greatest id, as SQLite has it.
const pendingSQL = `
	WITH failed AS (
		SELECT a.unit, a.outcome, a.message, max(a.id) AS newest, count(*) AS failures
		FROM ingest_filings f JOIN ingest_attempts a ON a.unit = f.accession_number
		WHERE f.filed BETWEEN ?4 AND ?5 AND a.job = ?1 AND a.period = ?2 AND a.outcome IN (SELECT value FROM json_each(?3))
		GROUP BY a.unit, a.outcome
	), worst AS (
		SELECT *, row_number() OVER (PARTITION BY unit ORDER BY failures DESC, newest DESC) AS place FROM failed
	)
	SELECT f.accession_number, f.form, f.filed, f.filers, coalesce(w.failures, 0), coalesce(w.outcome, ''), coalesce(w.message, '')
	FROM ingest_filings f LEFT JOIN worst w ON w.unit = f.accession_number AND w.place = 1
	WHERE f.filed BETWEEN ?4 AND ?5
	  AND NOT EXISTS (SELECT 1 FROM ingest_items i WHERE i.job = ?1 AND i.period = ?2 AND i.unit = f.accession_number)
	ORDER BY f.filed, f.accession_number`

// PendingFilings implements [store.DB].
func (db *DB) PendingFilings(ctx context.Context, window market.Range) ([]market.PendingFiling, error) {
	op := fmt.Sprintf("pending filings of %s", window)
	faults, err := json.Marshal(store.DocumentFaults())
	if err != nil {
		return nil, wrap(op, err)
	}
	pending, err := list(ctx, db, func(rows *sql.Rows) (p market.PendingFiling, err error) {
		var filed, filers string
		err = rows.Scan(&p.Accession, &p.Form, &filed, &filers, &p.Failures, &p.Outcome, &p.Message)
		if err == nil {
			err = errors.Join(p.Filed.UnmarshalText([]byte(filed)), json.Unmarshal([]byte(filers), &p.Filers))
		}
		return p, err
	}, pendingSQL, store.AltDataJob, store.FilingsKind, string(faults), max(window.From, 1).String(), min(window.To, store.LastDate).String())
	return pending, wrap(op, err)
}

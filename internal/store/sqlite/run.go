package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// run implements [store.Run]. The lock file and the lease decide who may begin;
// what an owner may write is decided by the status of its run.
type run struct {
	db          *DB
	id          int64
	job, period string
	seen        store.Seen // what the period may have had of runs
	lock        *flock.Flock
	tenure      *store.Tenure
	release     func() error
}

// Begin implements [store.DB].
func (db *DB) Begin(ctx context.Context, job, period, owner string) (store.Run, error) {
	return db.BeginAfter(ctx, job, period, owner, store.SeenAll())
}

// BeginAfter implements [store.DB].
func (db *DB) BeginAfter(ctx context.Context, job, period, owner string, seen store.Seen) (store.Run, error) {
	r := &run{db: db, job: job, period: period, seen: seen, tenure: store.NewTenure(db.lease.Length)}
	err := r.begin(ctx, owner)
	if err != nil {
		r.tenure.Stop()
	}
	if held := (*store.HeldError)(nil); errors.As(err, &held) {
		return nil, held
	}
	if err != nil {
		return nil, fmt.Errorf("begin %s %s: %w", job, period, err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.release = sync.OnceValue(func() error {
		r.tenure.Stop()
		stop()
		db.mu.Lock()
		delete(db.runs, r)
		db.mu.Unlock()
		return unclaim(r.lock)
	})
	db.mu.Lock()
	db.runs[r] = struct{}{}
	db.mu.Unlock()
	go r.keep(ctx)
	return r, nil
}

// begin has patience with an owner that is just dying.
func (r *run) begin(ctx context.Context, owner string) error {
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for waited := time.Duration(0); ; waited += lockPause {
		err := r.free(ctx, r.db.reader)
		if err == nil {
			err = r.take(ctx, owner)
		}
		if !errors.As(err, new(*store.HeldError)) || waited >= claimPatience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// take opens the run if the period is still free, while nobody else can.
func (r *run) take(ctx context.Context, owner string) error {
	err := r.db.tx(ctx, func(tx *sql.Tx) error {
		if err := r.free(ctx, tx); err != nil {
			return err
		}
		return r.open(ctx, tx, owner)
	})
	if err != nil && r.lock != nil {
		return errors.Join(err, unclaim(r.lock))
	}
	return err
}

// open ends the runs whose owners are gone and inserts the new one.
func (r *run) open(ctx context.Context, tx *sql.Tx, owner string) error {
	var passed bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ingest_runs WHERE job = ? AND period = ? AND (id > ?
			OR id = ? AND NOT ? AND status NOT IN ('running', 'interrupted')))`, r.job, r.period, r.seen.Run, r.seen.Run, r.seen.Ended).Scan(&passed)
	if err == nil && passed {
		err = store.ErrPassed
	}
	if err != nil {
		return err
	}
	now := r.db.stamp()
	_, err = tx.ExecContext(ctx, `
		UPDATE ingest_runs SET status = 'interrupted', finished_at = ?
		WHERE job = ? AND period = ? AND status = 'running'`, now, r.job, r.period)
	if err != nil {
		return err
	}
	err = r.tenure.Renew(func() error {
		return tx.QueryRowContext(ctx, `
			INSERT INTO ingest_runs (job, period, owner, status, started_at, leased_until) VALUES (?, ?, ?, 'running', ?, ?)
			RETURNING id`, r.job, r.period, owner, now, r.leasedUntil()).Scan(&r.id)
	})
	if err != nil {
		return err
	}
	if r.lock, err = r.claim(r.id); err == nil && r.lock == nil {
		err = fmt.Errorf("the lock file of run %d is taken: was the database file replaced while a worker ran?", r.id)
	}
	return err
}

func (r *run) leasedUntil() string { return stampOf(r.db.now().Add(r.db.lease.Length)) }

// keep renews the lease until ctx ends or another run has taken over.
func (r *run) keep(ctx context.Context) {
	ticker := time.NewTicker(r.db.lease.Renew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// What else can fail is tried again, until the tenure is over.
		if errors.Is(r.tenure.Renew(func() error { return r.renew(ctx) }), store.ErrFenced) {
			return
		}
	}
}

func (r *run) renew(ctx context.Context) error {
	return r.db.tx(ctx, func(tx *sql.Tx) error {
		if err := r.guard(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE ingest_runs SET leased_until = ? WHERE id = ?`, r.leasedUntil(), r.id)
		return err
	})
}

// ID implements [store.Run].
func (r *run) ID() int64 { return r.id }

// Lost implements [store.Run].
func (r *run) Lost() <-chan struct{} { return r.tenure.Lost() }

// SaveBars implements [store.Run].
func (r *run) SaveBars(ctx context.Context, series market.Series, session market.Date) (market.Changes, error) {
	return r.save(ctx, store.Check(series), saving{
		what: "bars", unit: series.Symbol, through: session, source: series.Source,
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) {
			return r.saveBars(ctx, tx, series, store.Extent(series))
		},
	})
}

// SaveHistory implements [store.Run].
func (r *run) SaveHistory(ctx context.Context, series market.Series, answered market.Range, done bool) (market.Changes, error) {
	s := saving{
		what: "history", unit: series.Symbol, source: series.Source,
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) {
			return r.saveBars(ctx, tx, series, answered)
		},
	}
	if answered != (market.Range{}) {
		s.kind, s.asked, s.noItem = store.HistoryKind, answered.String(), !done
	}
	return r.save(ctx, store.CheckHistory(series, answered, done), s)
}

// SaveFacts implements [store.Run].
func (r *run) SaveFacts(ctx context.Context, symbol market.Symbol, facts []market.Fact, through market.Date) (market.Changes, error) {
	return r.save(ctx, store.CheckFacts(symbol, facts, through), saving{
		what: "facts", unit: symbol, through: through, source: store.FactSource,
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) {
			return r.saveFacts(ctx, tx, symbol, facts)
		},
	})
}

// SaveFundamentals implements [store.Run].
func (r *run) SaveFundamentals(ctx context.Context, row market.Fundamentals, done bool) (market.Changes, error) {
	s := saving{
		what: "fundamentals", unit: row.Symbol, source: store.SourcesOf(row),
		rows: func(ctx context.Context, tx *sql.Tx) (market.Changes, error) { return saveFundamentals(ctx, tx, row) },
	}
	if done {
		s.through = row.Date
	}
	return r.save(ctx, store.CheckFundamentals(row), s)
}

// saving is one save.
type saving struct {
	what    string
	kind    string // the period of the item and the attempt; "" is the run's
	asked   string // the period of the attempt; "" is that of the item
	noItem  bool   // the unit is not done by this, nor a history by a part of it
	unit    market.Symbol
	through market.Date // what the watermark is raised to; a kind has none
	source  string
	// rows compares what came in with what is stored and writes the
	// difference.
	rows func(context.Context, *sql.Tx) (market.Changes, error)
}

// hasLedger is false for rows that make nothing done: they are no business of the
// ledger.
func (s *saving) hasLedger() bool { return s.kind != "" || !s.through.IsZero() }

// save carries s out, unless a check of its rows has failed with err.
func (r *run) save(ctx context.Context, err error, s saving) (changes market.Changes, _ error) {
	if err != nil {
		err = &store.RefusedError{Err: err}
	} else {
		err = r.db.tx(ctx, func(tx *sql.Tx) (err error) {
			if err := r.guard(ctx, tx); err != nil {
				return err
			}
			if changes, err = s.rows(ctx, tx); err != nil || !s.hasLedger() {
				return err
			}
			part := s
			part.noItem = s.noItem || s.asked != "" && changes.OtherBasis > 0
			return r.saveLedger(ctx, tx, part, changes.Written())
		})
	}
	if err != nil {
		return market.Changes{}, fmt.Errorf("save %s of %s: %w", s.what, s.unit, err)
	}
	return changes, nil
}

func (r *run) saveBars(ctx context.Context, tx *sql.Tx, series market.Series, answered market.Range) (market.Changes, error) {
	stored, err := storedBars(ctx, tx, series)
	if err != nil {
		return market.Changes{}, err
	}
	diff, err := store.Judge(series, stored, func(window market.Range) (map[string]*market.Days, error) {
		there := store.Present{}
		err := collectSources(ctx, tx, there, window, []market.Symbol{series.Symbol})
		return there[series.Symbol], err
	})
	if err != nil {
		return market.Changes{}, err
	}
	if err := insertBars(ctx, tx, series, diff.New); err != nil {
		return market.Changes{}, err
	}
	if err := updateBars(ctx, tx, series, diff.Changed); err != nil {
		return market.Changes{}, err
	}
	if err := fillBars(ctx, tx, series.Symbol, diff.Filled); err != nil {
		return market.Changes{}, err
	}
	series, answered = diff.Kept(series, answered)
	if err := addDays(ctx, tx, store.SavedDays(series, answered, nil)); err != nil {
		return market.Changes{}, err
	}
	return diff.Changes(), r.insertCorrections(ctx, tx, series.Symbol, series.Source, diff.Corrections)
}

// storedBars reads what is stored in the range of a series.
func storedBars(ctx context.Context, tx *sql.Tx, series market.Series) ([]market.Bar, error) {
	if len(series.Bars) == 0 {
		return nil, nil
	}
	return barsIn(ctx, tx, series.Symbol, store.Extent(series))
}

func (r *run) guard(ctx context.Context, tx *sql.Tx) error {
	var running bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ingest_runs WHERE id = ? AND status = 'running')`, r.id).Scan(&running)
	if err == nil && !running {
		r.tenure.Lose()
		return store.ErrFenced
	}
	return err
}

func (r *run) saveLedger(ctx context.Context, tx *sql.Tx, s saving, written int) error {
	outcome := store.Unchanged
	if written > 0 {
		outcome = store.Stored
	}
	if !s.noItem {
		if err := r.item(ctx, tx, s.kind, s.unit, outcome, written, s.source); err != nil {
			return err
		}
	}
	if err := r.raise(ctx, tx, s.kind, s.unit, s.through); err != nil {
		return err
	}
	return r.attempt(ctx, tx, cmp.Or(s.asked, s.kind), s.unit, outcome, "", written)
}

// ledgerPeriod is what stands in the column period of items and attempts.
func (r *run) ledgerPeriod(kind string) string { return cmp.Or(kind, r.period) }

func (r *run) item(ctx context.Context, tx *sql.Tx, kind string, unit market.Symbol, outcome string, rows int, source string) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_items (job, period, unit, run_id, outcome, rows, source, done_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (job, period, unit) DO UPDATE
		SET run_id = excluded.run_id, outcome = excluded.outcome, rows = excluded.rows, source = excluded.source, done_at = excluded.done_at
		WHERE excluded.outcome = 'stored'`,
		r.job, r.ledgerPeriod(kind), string(unit), r.id, outcome, rows, source, r.db.stamp())
	return err
}

// raise raises the watermark to that day; a zero one leaves it. Units of a kind
// are no symbols and have none.
func (r *run) raise(ctx context.Context, tx *sql.Tx, kind string, unit market.Symbol, through market.Date) error {
	if kind != "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_watermarks (job, unit, through, tried, updated_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (job, unit) DO UPDATE
		SET through = max(coalesce(through, excluded.through), coalesce(excluded.through, through)),
		    tried = max(tried, excluded.tried), updated_at = excluded.updated_at
		WHERE excluded.tried > tried OR (excluded.through IS NOT NULL AND (through IS NULL OR excluded.through > through))`,
		r.job, string(unit), dateText(through), r.period, r.db.stamp())
	return err
}

func (r *run) attempt(ctx context.Context, tx *sql.Tx, kind string, unit market.Symbol, outcome, message string, rows int) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO ingest_attempts (run_id, job, period, unit, at, outcome, message, rows) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		r.id, r.job, r.ledgerPeriod(kind), string(unit), r.db.stamp(), outcome, store.Text(message), rows)
	return err
}

// SaveAttempt implements [store.Run].
func (r *run) SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error {
	return wrap(fmt.Sprintf("save attempt at %s", symbol), r.saveAttempt(ctx, "", symbol, outcome, message, false))
}

// saveAttempt saves an attempt, and with done the item of a unit that has no
// rows.
func (r *run) saveAttempt(ctx context.Context, kind string, unit market.Symbol, outcome, message string, done bool) error {
	return r.db.tx(ctx, func(tx *sql.Tx) error {
		if err := r.guard(ctx, tx); err != nil {
			return err
		}
		if done {
			if err := r.item(ctx, tx, kind, unit, store.Unchanged, 0, ""); err != nil {
				return err
			}
		}
		if err := r.raise(ctx, tx, kind, unit, 0); err != nil {
			return err
		}
		return r.attempt(ctx, tx, kind, unit, outcome, message, 0)
	})
}

// End implements [store.Run]. The period is given free even if the row cannot
// be written; the next claim then marks the run as interrupted.
func (r *run) End(ctx context.Context, status string, report []byte) error {
	r.tenure.Stop()
	err := r.db.tx(ctx, func(tx *sql.Tx) error {
		if err := r.guard(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE ingest_runs SET status = ?, finished_at = ?, report = ? WHERE id = ?`,
			status, r.db.stamp(), sql.NullString{String: string(report), Valid: len(report) > 0}, r.id)
		return err
	})
	return errors.Join(wrap(fmt.Sprintf("end %s %s", r.job, r.period), err), r.release())
}

// Release implements [store.Run].
func (r *run) Release() error { return r.release() }

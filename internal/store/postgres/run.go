package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// commitTimeout bounds the last statements of a transaction.
	commitTimeout = 5 * time.Second
	// lookTimeout bounds the last look for a commit whose reply was lost.
	lookTimeout = 2 * time.Second
)

// run implements [store.Run].
type run struct {
	*claim
}

// Begin implements [store.DB].
func (db *DB) Begin(ctx context.Context, job, period, owner string) (store.Run, error) {
	return db.BeginAfter(ctx, job, period, owner, store.SeenAll())
}

// BeginAfter implements [store.DB].
func (db *DB) BeginAfter(ctx context.Context, job, period, owner string, seen store.Seen) (store.Run, error) {
	c := &claim{db: db, job: job, period: period, seen: seen, kept: make(chan struct{})}
	err := db.retry(ctx, bounded(func(ctx context.Context) error { return c.take(ctx, owner) }))
	if held := (*store.HeldError)(nil); errors.As(err, &held) {
		return nil, held
	}
	if err != nil {
		return nil, fmt.Errorf("begin %s %s: %w", job, period, err)
	}
	ctx, c.stop = context.WithCancel(context.Background())
	db.mu.Lock()
	db.claims[c] = struct{}{}
	db.mu.Unlock()
	go c.keep(ctx)
	return &run{c}, nil
}

// ID implements [store.Run].
func (r *run) ID() int64 { return r.claim.run }

// Lost implements [store.Run].
func (r *run) Lost() <-chan struct{} { return r.tenure.Lost() }

// SaveBars implements [store.Run].
func (r *run) SaveBars(ctx context.Context, series market.Series, session market.Date) (market.Changes, error) {
	bars := &barRows{series: series, answered: store.Extent(series)}
	return r.save(ctx, "bars", store.Check(series), &saving{unit: series.Symbol, through: session, rows: bars, bars: bars})
}

// SaveHistory implements [store.Run].
func (r *run) SaveHistory(ctx context.Context, series market.Series, answered market.Range, done bool) (market.Changes, error) {
	bars := &barRows{series: series, answered: answered}
	s := &saving{unit: series.Symbol, rows: bars, bars: bars}
	if answered != (market.Range{}) {
		s.kind, s.asked, s.noItem = store.HistoryKind, answered.String(), !done
	}
	return r.save(ctx, "history", store.CheckHistory(series, answered, done), s)
}

// SaveFacts implements [store.Run].
func (r *run) SaveFacts(ctx context.Context, symbol market.Symbol, facts []market.Fact, through market.Date) (market.Changes, error) {
	return r.save(ctx, "facts", store.CheckFacts(symbol, facts, through), &saving{unit: symbol, through: through, rows: &factRows{symbol: symbol, facts: facts}})
}

// SaveFundamentals implements [store.Run].
func (r *run) SaveFundamentals(ctx context.Context, row market.Fundamentals, done bool) (market.Changes, error) {
	s := &saving{unit: row.Symbol, rows: &fundamentalsRow{row: row}}
	if done {
		s.through = row.Date
	}
	return r.save(ctx, "fundamentals", store.CheckFundamentals(row), s)
}

// save stores the rows of s, unless a check of them has failed with err.
func (r *run) save(ctx context.Context, what string, err error, s *saving) (market.Changes, error) {
	s.run = r
	if err != nil {
		err = &store.RefusedError{Err: err}
	} else {
		err = s.untilStored(ctx, s.saveRows)
	}
	if err != nil {
		return market.Changes{}, fmt.Errorf("save %s of %s: %w", what, s.unit, err)
	}
	return s.changes, nil
}

// SaveAttempt implements [store.Run].
func (r *run) SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error {
	s := saving{run: r, unit: symbol}
	return wrap(fmt.Sprintf("save attempt at %s", symbol), s.attempt(ctx, outcome, message, false))
}

// rows are what one save brings: it compares them with what is stored and
// writes the difference.
type rows interface {
	// queueBegin opens the transaction in the way that the rows need.
	queueBegin(batch *pgx.Batch)
	// queueCompare reads what is stored and notes the difference.
	queueCompare(batch *pgx.Batch)
	// changes counts the noted difference, which write writes for run.
	changes() market.Changes
	write(ctx context.Context, conn *pgx.Conn, run int64) error
	// source names the provider.
	source() string
}

// saving is one save, with as many tries as it takes.
type saving struct {
	*run
	kind    string // the period of the item and the attempt; "" is the run's
	asked   string // the period of the attempt; "" is that of the item
	noItem  bool   // the unit is not done by this, nor a history by a part of it
	unit    market.Symbol
	through market.Date // what the watermark is raised to; a kind has none
	rows    rows        // nil for an attempt alone
	bars    *barRows    // the rows, if they are bars

	// token is the id of the attempt row. It is drawn once, so after a lost
	// reply to COMMIT it tells whether that COMMIT was carried out, and one
	// that is carried out late makes the next try fail on the key instead of
	// storing twice.
	token int64
	// sent tells that a COMMIT was sent, changes what it was to store.
	sent    bool
	changes market.Changes
	// done tells that the ledger has the unit as done through that day.
	done bool
}

// untilStored runs once until it is stored for good.
func (s *saving) untilStored(ctx context.Context, once func(context.Context, *pgx.Conn) error) error {
	err := s.db.retry(ctx, bounded(func(ctx context.Context) error {
		if s.sent {
			if stored, err := s.stored(ctx); err != nil || stored {
				return err
			}
		}
		return s.db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			err := once(ctx, conn.Conn())
			if err != nil && conn.Conn().PgConn().TxStatus() != 'I' {
				_, _ = conn.Exec(ctx, `ROLLBACK`)
			}
			return err
		})
	}))
	if err == nil || !s.sent {
		return err
	}
	return s.settle(err)
}

// stored reports whether a COMMIT that was sent has been carried out. Rows
// without a session have no attempt that tells, but they tell themselves.
func (s *saving) stored(ctx context.Context) (stored bool, err error) {
	if s.rows != nil && !s.hasLedger() {
		batch, known := &pgx.Batch{}, true
		s.rows.queueCompare(batch)
		if err := s.db.pool.SendBatch(ctx, batch).Close(); err != nil || s.bars == nil {
			return err == nil && s.rows.changes().Written() == 0, err
		}
		if err := s.bars.judge(ctx, s.db.pool); err != nil {
			return false, err
		}
		batch = &pgx.Batch{}
		s.bars.queueKnown(batch, &known)
		err := s.db.pool.SendBatch(ctx, batch).Close()
		return err == nil && known && s.rows.changes().Written() == 0, err
	}
	err = s.db.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest_attempts WHERE id = $1)`, s.token).Scan(&stored)
	return stored, err
}

// settle looks once more, when no try is left, whether a COMMIT was carried
// out.
func (s *saving) settle(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	stored, lookErr := s.stored(ctx)
	switch {
	case lookErr != nil:
		return fmt.Errorf("%w (it may be stored: the reply to a COMMIT was lost)", err)
	case stored:
		return nil
	}
	return err
}

// hasLedger is false for rows that make nothing done: they are no business of the
// ledger.
func (s *saving) hasLedger() bool { return s.kind != "" || !s.through.IsZero() }

// attempt saves an attempt, and with done the item of a unit that has no rows.
func (s *saving) attempt(ctx context.Context, outcome, message string, done bool) error {
	return s.untilStored(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue(beginSnapshotSQL)
		s.queueGuard(batch)
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		batch = &pgx.Batch{}
		if done {
			s.queueItem(batch, store.Unchanged, 0, "")
		}
		s.queueWatermark(batch)
		s.queueAttempt(batch, outcome, store.Text(message), 0)
		return s.commit(ctx, conn, batch, market.Changes{})
	})
}

// saveRows takes three round trips, and two where nothing differs; see also
// [barRows.judge].
func (s *saving) saveRows(ctx context.Context, conn *pgx.Conn) error {
	batch := &pgx.Batch{}
	s.rows.queueBegin(batch)
	s.queueGuard(batch)
	s.rows.queueCompare(batch)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if err := s.rows.write(ctx, conn, s.ID()); err != nil {
		return err
	}
	batch = &pgx.Batch{}
	changes := s.rows.changes()
	s.queueLedger(batch, changes.Written())
	return s.commit(ctx, conn, batch, changes)
}

// beginSnapshotSQL opens a transaction that sees one state of the database. A
// row that another writer changes meanwhile is a serialization failure in it,
// not a silent overwrite, so the counts and the corrections are exact.
const beginSnapshotSQL = `BEGIN ISOLATION LEVEL REPEATABLE READ`

// queueTurn opens a transaction that waits for its turn at what the name stands
// for. What is read after that is what the one before it left, which a snapshot
// that is as old as the transaction would not show.
func queueTurn(batch *pgx.Batch, name string) {
	batch.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	batch.Queue(`SELECT pg_advisory_xact_lock(hashtextextended(coalesce(current_schema(), '') || $1, 0))`, name)
}

// queueGuard fails the transaction with [store.ErrFenced] unless the run is
// still the owner.
func (s *saving) queueGuard(batch *pgx.Batch) {
	batch.Queue(guardSQL, s.ID(), s.token, string(s.unit), date(s.through), s.kind).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&s.token, &s.done)
		if errors.Is(err, pgx.ErrNoRows) {
			s.tenure.Lose()
			return store.ErrFenced
		}
		return err
	})
}

// guardSQL locks the run against being taken over until the transaction ends,
// draws the token, and tells whether the unit is done through that day already.
//
// FOR KEY SHARE lets the lease be renewed beside it, however many saves there
// are. Whoever changes the status has to lock the row FOR UPDATE first.
const guardSQL = `
	SELECT CASE WHEN $2::bigint > 0 THEN $2 ELSE nextval(pg_get_serial_sequence('ingest_attempts', 'id')) END,
	       EXISTS (SELECT FROM ingest_items i WHERE i.job = r.job AND i.period = coalesce(nullif($5, ''), r.period) AND i.unit = $3)
	       AND ($5 <> '' OR EXISTS (SELECT FROM ingest_watermarks w
	                                WHERE w.job = r.job AND w.unit = $3 AND w.tried >= r.period
	                                  AND ($4::date IS NULL OR w.through >= $4)))
	FROM ingest_runs r WHERE r.id = $1 AND r.status = 'running' FOR KEY SHARE OF r`

// date returns nil, for NULL, if d is zero.
func date(d market.Date) *time.Time {
	if d.IsZero() {
		return nil
	}
	t := d.Time()
	return &t
}

// queueLedger leaves the item and the watermark of a unit that is done alone
// when nothing was written: an identical reload adds its attempt and no more,
// and does not wait for the disk to hold it, as a crash of the server loses
// nothing but that one line of history.
//
// A history may answer for more days than one that is done, so its days are
// always looked up.
func (s *saving) queueLedger(batch *pgx.Batch, written int) {
	known := s.hasLedger() && s.done && written == 0
	if s.bars != nil && (!known || s.asked != "") {
		s.bars.queueDays(batch)
	}
	if !s.hasLedger() {
		return
	}
	outcome := store.Unchanged
	if written > 0 {
		outcome = store.Stored
	}
	switch {
	case !known && !s.noItem && (s.asked == "" || s.rows.changes().OtherBasis == 0):
		s.queueItem(batch, outcome, written, s.rows.source())
		s.queueWatermark(batch)
	case s.asked == "":
		batch.Queue(`SET LOCAL synchronous_commit = off`)
	}
	s.queueAttempt(batch, outcome, "", written)
}

const itemSQL = `
	INSERT INTO ingest_items (job, period, unit, run_id, outcome, rows, source)
	VALUES ($1, $2, $3, $4, $5, $6, $7)
	ON CONFLICT (job, period, unit) DO UPDATE
	SET run_id = EXCLUDED.run_id, outcome = EXCLUDED.outcome, rows = EXCLUDED.rows, source = EXCLUDED.source, done_at = now()
	WHERE EXCLUDED.outcome = 'stored'`

func (s *saving) queueItem(batch *pgx.Batch, outcome string, rows int, source string) {
	batch.Queue(itemSQL, s.job, cmp.Or(s.kind, s.period), string(s.unit), s.ID(), outcome, rows, source)
}

const watermarkSQL = `
	INSERT INTO ingest_watermarks AS w (job, unit, through, tried) VALUES ($1, $2, $3, $4)
	ON CONFLICT (job, unit) DO UPDATE
	SET through = greatest(w.through, EXCLUDED.through), tried = greatest(w.tried, EXCLUDED.tried), updated_at = now()`

// queueWatermark raises the watermark to that day; a zero one leaves it. Units
// of a kind are no symbols and have none.
func (s *saving) queueWatermark(batch *pgx.Batch) {
	if s.kind != "" {
		return
	}
	batch.Queue(watermarkSQL, s.job, string(s.unit), date(s.through), s.period)
}

const attemptSQL = `
	INSERT INTO ingest_attempts (id, run_id, job, period, unit, outcome, message, rows)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

func (s *saving) queueAttempt(batch *pgx.Batch, outcome, message string, rows int) {
	batch.Queue(attemptSQL, s.token, s.ID(), s.job, cmp.Or(s.asked, s.kind, s.period), string(s.unit), outcome, message, rows)
}

// commit sends the last statements and COMMIT together. It goes on when ctx
// ends from then on: what became of a COMMIT that is cut off is not known.
//
// If the attempt turns out to be there already, what this try did is undone, and
// what an earlier one did is stored.
func (s *saving) commit(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch, changes market.Changes) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	batch.Queue(`COMMIT`)
	before := s.changes
	s.sent, s.changes = true, changes
	err := conn.SendBatch(ctx, batch).Close()
	if isTaken(err) {
		s.changes = before
	}
	return err
}

// End implements [store.Run]. The period is given free even if the row cannot
// be written; the next claim then marks the run as interrupted.
func (r *run) End(ctx context.Context, status string, report []byte) error {
	defer r.release()
	r.tenure.Stop()
	tries := 0
	err := r.db.retry(ctx, bounded(func(ctx context.Context) error {
		tries++
		// A try whose reply was lost may have closed the run.
		tag, err := r.db.pool.Exec(ctx, `
			WITH own AS (SELECT id FROM ingest_runs WHERE id = $1 FOR UPDATE)
			UPDATE ingest_runs r SET status = $2, finished_at = now(), report = $3
			FROM own WHERE r.id = own.id AND (status = 'running' OR ($4 AND status = $2 AND report IS NOT DISTINCT FROM $3::jsonb))`,
			r.ID(), status, document(report), tries > 1)
		if err == nil && tag.RowsAffected() == 0 {
			return store.ErrFenced
		}
		return err
	}))
	return wrap(fmt.Sprintf("end %s %s", r.job, r.period), err)
}

// document returns nil, for NULL, if there is no report.
func document(report []byte) *string {
	if len(report) == 0 {
		return nil
	}
	s := string(report)
	return &s
}

// Release implements [store.Run].
func (r *run) Release() error {
	r.release()
	return nil
}

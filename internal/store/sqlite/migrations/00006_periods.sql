-- Until when the owner of a run counts as alive, and the journal: what has become
-- of each period of a job.
-- +goose Up

-- NULL is a run without a lease, which only the end of its process ends.
ALTER TABLE ingest_runs ADD COLUMN leased_until TEXT;

CREATE TABLE ingest_periods (
    job      TEXT NOT NULL,
    period   TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('running', 'incomplete', 'complete', 'no_session', 'missed', 'gave_up')),
    reason   TEXT NOT NULL DEFAULT '',
    tick_at  TEXT,
    noted_at TEXT NOT NULL,
    run_id   INTEGER,
    PRIMARY KEY (job, period)
) STRICT, WITHOUT ROWID;
CREATE INDEX ingest_periods_tick ON ingest_periods (job, tick_at);

-- Until when the owner of a run counts as alive, and the journal: what has become
-- of each period of a job.
-- +goose Up

-- NULL is a run without a lease, which only the end of its process ends.
ALTER TABLE ingest_runs ADD COLUMN leased_until timestamptz;

CREATE TABLE ingest_periods (
    job      text        COLLATE "C" NOT NULL,
    period   text        COLLATE "C" NOT NULL,
    state    text        NOT NULL CHECK (state IN ('running', 'incomplete', 'complete', 'no_session', 'missed', 'gave_up')),
    reason   text        NOT NULL DEFAULT '',
    tick_at  timestamptz,
    noted_at timestamptz NOT NULL DEFAULT now(),
    run_id   bigint,
    PRIMARY KEY (job, period)
);
CREATE INDEX ingest_periods_tick ON ingest_periods (job, tick_at);

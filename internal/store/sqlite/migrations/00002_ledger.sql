-- The ledger: what was asked for, when, and what came of it.
-- +goose Up
CREATE TABLE ingest_runs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    job         TEXT NOT NULL,
    period      TEXT NOT NULL,
    owner       TEXT NOT NULL,
    status      TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    report      TEXT CHECK (json_valid(report))
) STRICT;
CREATE UNIQUE INDEX ingest_runs_running ON ingest_runs (job, period) WHERE status = 'running';
CREATE INDEX ingest_runs_job ON ingest_runs (job, id);

CREATE TABLE ingest_items (
    job     TEXT    NOT NULL,
    period  TEXT    NOT NULL,
    unit    TEXT    NOT NULL,
    run_id  INTEGER NOT NULL,
    outcome TEXT    NOT NULL CHECK (outcome IN ('stored', 'unchanged')),
    rows    INTEGER NOT NULL,
    source  TEXT    NOT NULL,
    done_at TEXT    NOT NULL,
    PRIMARY KEY (job, period, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE ingest_watermarks (
    job        TEXT NOT NULL,
    unit       TEXT NOT NULL,
    through    TEXT,
    tried      TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (job, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE ingest_calls (
    id       INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    at       TEXT NOT NULL
) STRICT;
CREATE INDEX ingest_calls_provider ON ingest_calls (provider, at);

CREATE TABLE ingest_quotas (
    provider    TEXT NOT NULL PRIMARY KEY,
    spent_until TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ingest_attempts (
    id      INTEGER PRIMARY KEY,
    run_id  INTEGER NOT NULL,
    job     TEXT    NOT NULL,
    period  TEXT    NOT NULL,
    unit    TEXT    NOT NULL,
    at      TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    message TEXT    NOT NULL DEFAULT '',
    rows    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX ingest_attempts_unit ON ingest_attempts (unit, id);

CREATE TABLE ingest_corrections (
    id        INTEGER PRIMARY KEY,
    symbol    TEXT    NOT NULL,
    timestamp TEXT    NOT NULL,
    field     TEXT    NOT NULL,
    old_value REAL,
    new_value REAL    NOT NULL,
    source    TEXT    NOT NULL,
    run_id    INTEGER NOT NULL,
    at        TEXT    NOT NULL
) STRICT;
CREATE INDEX ingest_corrections_symbol ON ingest_corrections (symbol, id);

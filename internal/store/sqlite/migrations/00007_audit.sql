-- Who changed what by hand: one row for each act, of any kind.
-- +goose Up

-- pending is 1 while what the row tells of has not reached Redis and those who
-- listen there.
CREATE TABLE ingest_audit (
    id      INTEGER PRIMARY KEY,
    at      TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    detail  TEXT    NOT NULL DEFAULT '',
    origin  TEXT    NOT NULL DEFAULT '',
    pending INTEGER NOT NULL DEFAULT 0 CHECK (pending IN (0, 1))
) STRICT;
CREATE INDEX ingest_audit_action ON ingest_audit (action, id);
CREATE INDEX ingest_audit_pending ON ingest_audit (id) WHERE pending;

-- What issuers reported, with every version that a filing gave a figure, and
-- where the values of the table fundamentals come from. A day is text such as
-- '2026-03-12'.
-- +goose Up
ALTER TABLE fundamentals ADD COLUMN metadata TEXT CHECK (json_valid(metadata));

-- superseded_on is the day on which the next version of the figure was filed,
-- null while there is none: what was known on a day is a plain filter.
CREATE TABLE fundamental_facts (
    symbol           TEXT NOT NULL,
    issuer_cik       TEXT NOT NULL,
    taxonomy         TEXT NOT NULL,
    concept          TEXT NOT NULL,
    unit             TEXT NOT NULL,
    start            TEXT,
    "end"            TEXT NOT NULL,
    value            REAL NOT NULL,
    accession_number TEXT NOT NULL,
    form             TEXT NOT NULL,
    filed            TEXT NOT NULL,
    first_seen       TEXT NOT NULL,
    superseded_on    TEXT
) STRICT;

-- The identity of a version, in the order in which facts are read. A null start
-- counts as one value.
CREATE UNIQUE INDEX fundamental_facts_version ON fundamental_facts
    (symbol, issuer_cik, taxonomy, concept, unit, "end", coalesce(start, ''), accession_number);

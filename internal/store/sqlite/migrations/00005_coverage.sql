-- What is known of each symbol's bars, day by day, and who belongs to a list of
-- symbols.
-- +goose Up

-- One bit a day, so that the coverage of all symbols is read without a look at
-- ohlcv: bit d%64 of word d/64 is the day d after 1 January, and bit 63 is the
-- sign. Rows of ohlcv that another program writes or deletes are not in here
-- before the next reconciliation. source is '' but for what is answered.
CREATE TABLE ingest_coverage (
    symbol TEXT    NOT NULL,
    kind   TEXT    NOT NULL CHECK (kind IN ('answered', 'lost', 'stored')),
    source TEXT    NOT NULL,
    year   INTEGER NOT NULL CHECK (year BETWEEN 1 AND 9999),
    w0     INTEGER NOT NULL,
    w1     INTEGER NOT NULL,
    w2     INTEGER NOT NULL,
    w3     INTEGER NOT NULL,
    w4     INTEGER NOT NULL,
    w5     INTEGER NOT NULL,
    PRIMARY KEY (symbol, kind, source, year)
) STRICT, WITHOUT ROWID;

CREATE TABLE ingest_universe (
    name       TEXT NOT NULL,
    symbol     TEXT NOT NULL,
    added_at   TEXT NOT NULL,
    removed_at TEXT,
    PRIMARY KEY (name, symbol)
) STRICT, WITHOUT ROWID;

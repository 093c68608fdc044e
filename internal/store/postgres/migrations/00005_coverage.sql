-- What is known of each symbol's bars, day by day, and who belongs to a list of
-- symbols.
-- +goose Up

-- One bit a day, so that the coverage of all symbols is read without a look at
-- ohlcv: bit d%64 of word d/64 is the day d after 1 January, and bit 63 is the
-- sign. Rows of ohlcv that another program writes or deletes are not in here
-- before the next reconciliation. source is '' but for what is answered.
CREATE TABLE ingest_coverage (
    symbol text    COLLATE "C" NOT NULL,
    kind   text    COLLATE "C" NOT NULL CHECK (kind IN ('answered', 'lost', 'stored')),
    source text    COLLATE "C" NOT NULL,
    year   integer NOT NULL CHECK (year BETWEEN 1 AND 9999),
    w0     bigint  NOT NULL,
    w1     bigint  NOT NULL,
    w2     bigint  NOT NULL,
    w3     bigint  NOT NULL,
    w4     bigint  NOT NULL,
    w5     bigint  NOT NULL,
    PRIMARY KEY (symbol, kind, source, year)
);

CREATE TABLE ingest_universe (
    name       text        COLLATE "C" NOT NULL,
    symbol     text        COLLATE "C" NOT NULL,
    added_at   timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    PRIMARY KEY (name, symbol)
);

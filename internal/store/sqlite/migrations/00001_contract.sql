-- The contract's tables with the names that they have on Postgres. A time is
-- text in UTC, which the sqlite3 shell and pandas both read, and which sorts
-- as it is: '2026-03-12 00:00:00+00:00' for a bar or a date,
-- '2026-03-12 21:04:05.123456+00:00' for an event. A boolean is 0 or 1, a
-- document is JSON text.
-- +goose Up
CREATE TABLE ohlcv (
    symbol         TEXT    NOT NULL,
    timestamp      TEXT    NOT NULL,
    open           REAL    NOT NULL,
    high           REAL    NOT NULL,
    low            REAL    NOT NULL,
    close          REAL    NOT NULL,
    volume         INTEGER NOT NULL,
    adjusted_close REAL,
    source         TEXT    DEFAULT '',
    PRIMARY KEY (symbol, timestamp)
) STRICT, WITHOUT ROWID;

CREATE TABLE fundamentals (
    symbol          TEXT NOT NULL,
    timestamp       TEXT NOT NULL,
    pe_ratio        REAL,
    pb_ratio        REAL,
    ps_ratio        REAL,
    ev_ebitda       REAL,
    debt_to_equity  REAL,
    current_ratio   REAL,
    roe             REAL,
    revenue_growth  REAL,
    earnings_growth REAL,
    dividend_yield  REAL,
    market_cap      REAL,
    sector          TEXT,
    industry        TEXT,
    PRIMARY KEY (symbol, timestamp)
) STRICT, WITHOUT ROWID;

CREATE TABLE kill_switch (
    id             INTEGER PRIMARY KEY,
    active         INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    activated_at   TEXT,
    reason         TEXT,
    deactivated_at TEXT
) STRICT;

CREATE TABLE filings (
    id          INTEGER PRIMARY KEY,
    symbol      TEXT,
    filing_type TEXT,
    filed_date  TEXT,
    url         TEXT,
    content     TEXT,
    metadata    TEXT CHECK (json_valid(metadata))
) STRICT;

CREATE TABLE insider_transactions (
    symbol             TEXT    NOT NULL,
    filed_date         TEXT    NOT NULL,
    insider_name       TEXT,
    insider_title      TEXT,
    transaction_type   TEXT,
    shares             REAL,
    price_per_share    REAL,
    shares_owned_after REAL,
    is_direct          INTEGER CHECK (is_direct IN (0, 1)),
    accession_number   TEXT    NOT NULL,
    line               INTEGER NOT NULL,
    form_type          TEXT,
    issuer_cik         TEXT,
    owner_cik          TEXT,
    transaction_date   TEXT,
    security_title     TEXT,
    is_derivative      INTEGER CHECK (is_derivative IN (0, 1)),
    acquired_disposed  TEXT,
    aff10b5_one        INTEGER CHECK (aff10b5_one IN (0, 1)),
    amends             TEXT,
    superseded         INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    footnotes          TEXT CHECK (json_valid(footnotes)),
    metadata           TEXT CHECK (json_valid(metadata)),
    PRIMARY KEY (accession_number, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE short_interest (
    symbol                  TEXT NOT NULL,
    settlement_date         TEXT NOT NULL,
    short_interest          INTEGER,
    avg_daily_volume        INTEGER,
    days_to_cover           REAL,
    short_pct_float         REAL,
    change_pct              REAL,
    previous_short_interest INTEGER,
    revision_flag           TEXT,
    split_flag              TEXT,
    fetched_at              TEXT,
    PRIMARY KEY (symbol, settlement_date)
) STRICT, WITHOUT ROWID;

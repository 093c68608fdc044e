-- Reports of insiders and short interest.
-- +goose Up

-- The filings that the indexes list and that are wanted. Those without an item
-- of kind 'edgar_filings' in ingest_items are still to be fetched. filers is a
-- JSON array of numbers.
CREATE TABLE ingest_filings (
    accession_number TEXT NOT NULL PRIMARY KEY,
    form             TEXT NOT NULL,
    filed            TEXT NOT NULL,
    filers           TEXT NOT NULL CHECK (json_valid(filers))
) STRICT, WITHOUT ROWID;
CREATE INDEX ingest_filings_filed ON ingest_filings (filed);

-- Each report whole. insider_transactions has its transactions alone, so that
-- they can be summed up; its holdings are in the document. A day is text such
-- as '2026-03-12'.
CREATE TABLE insider_filings (
    accession_number TEXT NOT NULL PRIMARY KEY,
    symbol           TEXT NOT NULL,
    issuer_cik       TEXT NOT NULL,
    form             TEXT NOT NULL,
    filed_date       TEXT NOT NULL,
    accepted_at      TEXT,
    period           TEXT,
    original_filed   TEXT,
    document         TEXT NOT NULL CHECK (json_valid(document))
) STRICT;
CREATE INDEX insider_filings_symbol ON insider_filings (symbol, filed_date);
-- An amendment amends filings of its issuer and of its form.
CREATE INDEX insider_filings_issuer ON insider_filings (issuer_cik, substr(form, 1, 1));
CREATE INDEX insider_filings_amendments ON insider_filings (issuer_cik, substr(form, 1, 1)) WHERE form IN ('3/A', '4/A', '5/A');

-- Those who report together report one transaction.
CREATE TABLE insider_owners (
    accession_number TEXT    NOT NULL,
    position         INTEGER NOT NULL,
    owner_cik        TEXT    NOT NULL,
    name             TEXT,
    title            TEXT,
    relation         TEXT,
    is_director      INTEGER NOT NULL CHECK (is_director IN (0, 1)),
    is_officer       INTEGER NOT NULL CHECK (is_officer IN (0, 1)),
    is_ten_percent   INTEGER NOT NULL CHECK (is_ten_percent IN (0, 1)),
    is_other         INTEGER NOT NULL CHECK (is_other IN (0, 1)),
    PRIMARY KEY (accession_number, position)
) STRICT, WITHOUT ROWID;

-- With amends the key of the line in whose place this one stands.
ALTER TABLE insider_transactions ADD COLUMN amends_line INTEGER;
CREATE INDEX ingest_insider_symbol ON insider_transactions (symbol, filed_date);

-- What the source wrote where it had no ratio.
ALTER TABLE short_interest ADD COLUMN days_to_cover_raw REAL;
ALTER TABLE short_interest ADD COLUMN change_pct_raw REAL;

-- Reports of insiders and short interest.
-- +goose Up

-- The filings that the indexes list and that are wanted. Those without an item
-- of kind 'edgar_filings' in ingest_items are still to be fetched.
CREATE TABLE ingest_filings (
    accession_number text     COLLATE "C" PRIMARY KEY,
    form             text     NOT NULL,
    filed            date     NOT NULL,
    filers           bigint[] NOT NULL
);
CREATE INDEX ingest_filings_filed ON ingest_filings (filed);

-- Each report whole. insider_transactions has its transactions alone, so that
-- they can be summed up; its holdings are in the document. The collation of the
-- numbers is that of insider_transactions: columns of two collations are not
-- joined by an index.
CREATE TABLE insider_filings (
    accession_number text PRIMARY KEY,
    symbol           text NOT NULL,
    issuer_cik       text NOT NULL,
    form             text NOT NULL,
    filed_date       date  NOT NULL,
    accepted_at      timestamptz,
    period           date,
    original_filed   date,
    document         jsonb NOT NULL
);
CREATE INDEX insider_filings_symbol ON insider_filings (symbol, filed_date);
-- An amendment amends filings of its issuer and of its form.
CREATE INDEX insider_filings_issuer ON insider_filings (issuer_cik, substr(form, 1, 1));
CREATE INDEX insider_filings_amendments ON insider_filings (issuer_cik, substr(form, 1, 1)) WHERE form IN ('3/A', '4/A', '5/A');

-- Those who report together report one transaction.
CREATE TABLE insider_owners (
    accession_number text    NOT NULL,
    position         integer NOT NULL,
    owner_cik        text    NOT NULL,
    name             text,
    title            text,
    relation         text,
    is_director      boolean NOT NULL,
    is_officer       boolean NOT NULL,
    is_ten_percent   boolean NOT NULL,
    is_other         boolean NOT NULL,
    PRIMARY KEY (accession_number, position)
);

-- With amends the key of the line in whose place this one stands.
ALTER TABLE insider_transactions ADD COLUMN IF NOT EXISTS amends_line integer;
CREATE INDEX IF NOT EXISTS ingest_insider_symbol ON insider_transactions (symbol, filed_date);

-- What the source wrote where it had no ratio.
ALTER TABLE short_interest
    ADD COLUMN IF NOT EXISTS days_to_cover_raw double precision,
    ADD COLUMN IF NOT EXISTS change_pct_raw    double precision,
    ALTER COLUMN fetched_at SET DEFAULT now();

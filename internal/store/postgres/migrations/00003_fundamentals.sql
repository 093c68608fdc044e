-- What issuers reported, with every version that a filing gave a figure, and
-- where the values of the table fundamentals come from.
-- +goose Up
ALTER TABLE fundamentals ADD COLUMN IF NOT EXISTS metadata jsonb;

-- superseded_on is the day on which the next version of the figure was filed,
-- null while there is none: what was known on a day is a plain filter, and
-- needs no look at the other versions.
CREATE TABLE fundamental_facts (
    symbol           text             COLLATE "C" NOT NULL,
    issuer_cik       text             COLLATE "C" NOT NULL,
    taxonomy         text             COLLATE "C" NOT NULL,
    concept          text             COLLATE "C" NOT NULL,
    unit             text             COLLATE "C" NOT NULL,
    start            date,
    "end"            date             NOT NULL,
    value            double precision NOT NULL,
    accession_number text             COLLATE "C" NOT NULL,
    form             text             NOT NULL,
    filed            date             NOT NULL,
    first_seen       timestamptz      NOT NULL DEFAULT now(),
    superseded_on    date
);

-- The identity of a version. A null start counts as one value; NULLS NOT
-- DISTINCT would need Postgres 15. The end comes first, and the index holds all
-- that the function below returns, so that the newest figures of all symbols on
-- a day are one short stretch of the index.
CREATE UNIQUE INDEX fundamental_facts_version ON fundamental_facts
    ("end", symbol, concept, unit, (coalesce(start, '-infinity'::date)), taxonomy, issuer_cik, accession_number)
    INCLUDE (start, value, filed, superseded_on);
CREATE INDEX fundamental_facts_symbol ON fundamental_facts (symbol, concept);

-- A type, since RETURNS TABLE knows no collations, and a column of another
-- collation than that of an index is not looked up in it.
CREATE TYPE fundamental_fact AS (
    symbol           text COLLATE "C",
    concept          text COLLATE "C",
    unit             text COLLATE "C",
    start            date,
    "end"            date,
    value            double precision,
    filed            date,
    accession_number text COLLATE "C"
);

-- The planner takes the body into the query that calls it, with its conditions.
CREATE FUNCTION fundamental_facts_as_of(day date) RETURNS SETOF fundamental_fact
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100000
AS $$
    SELECT f.symbol, f.concept, f.unit, f.start, f."end", f.value, f.filed, f.accession_number
    FROM fundamental_facts f
    WHERE f.filed <= day AND (f.superseded_on IS NULL OR f.superseded_on > day)
$$;
COMMENT ON FUNCTION fundamental_facts_as_of(date) IS
'The facts as they were known at the end of a day. The newest of each symbol and concept, from an index alone: SELECT DISTINCT ON (symbol, concept, unit) * FROM fundamental_facts_as_of(''2024-06-30'') WHERE "end" BETWEEN date ''2024-06-30'' - 190 AND ''2024-06-30'' ORDER BY symbol, concept, unit, "end" DESC, start DESC. As a prepared statement with long arrays of symbols it wants plan_cache_mode = force_custom_plan.';

package postgres_test

import (
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// adopted makes the tables as SQLAlchemy and Alembic would, and fills them.
const adopted = `
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version VALUES ('a1b2c3d4e5f6');
CREATE TABLE ohlcv (
	symbol VARCHAR NOT NULL, timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
	open FLOAT NOT NULL, high FLOAT NOT NULL, low FLOAT NOT NULL, close FLOAT NOT NULL,
	volume BIGINT NOT NULL, adjusted_close FLOAT, source VARCHAR,
	CONSTRAINT pk_ohlcv PRIMARY KEY (symbol, timestamp));
CREATE INDEX ix_ohlcv_timestamp ON ohlcv (timestamp DESC);
INSERT INTO ohlcv SELECT 'AAPL', '2026-03-01 00:00:00+00'::timestamptz + n * interval '24 hours', 10, 12, 9, 11, 0, NULL, NULL FROM generate_series(0, 9) n;
INSERT INTO ohlcv VALUES ('ODD', '2020-01-01 05:00:00+00', 'NaN', -1, 0, 0, -5, 'Infinity', '');
CREATE TABLE fundamentals (
	symbol VARCHAR(10) NOT NULL, timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
	pe_ratio FLOAT, pb_ratio FLOAT, ps_ratio FLOAT, ev_ebitda FLOAT, debt_to_equity FLOAT, current_ratio FLOAT, roe FLOAT,
	revenue_growth FLOAT, earnings_growth FLOAT, dividend_yield FLOAT, market_cap FLOAT, sector VARCHAR, industry VARCHAR,
	PRIMARY KEY (symbol, timestamp));
INSERT INTO fundamentals (symbol, timestamp, pe_ratio) VALUES ('AAPL', '2026-03-01', 30);
CREATE TABLE kill_switch (id SERIAL PRIMARY KEY, active BOOLEAN NOT NULL, activated_at TIMESTAMP WITH TIME ZONE, reason VARCHAR, deactivated_at TIMESTAMP WITH TIME ZONE);
INSERT INTO kill_switch (active, reason) VALUES (true, 'drawdown');
CREATE TABLE filings (id SERIAL PRIMARY KEY, symbol VARCHAR, filing_type VARCHAR, filed_date TIMESTAMP WITH TIME ZONE, url VARCHAR, content TEXT, metadata JSONB);
INSERT INTO filings (symbol) VALUES ('AAPL'), ('AAPL');
CREATE TABLE insider_transactions (
	id SERIAL PRIMARY KEY, symbol VARCHAR NOT NULL, filed_date TIMESTAMP WITH TIME ZONE NOT NULL, insider_name VARCHAR, insider_title VARCHAR,
	transaction_type VARCHAR, shares FLOAT, price_per_share FLOAT, shares_owned_after FLOAT, is_direct BOOLEAN);
INSERT INTO insider_transactions (symbol, filed_date) VALUES ('AAPL', '2026-03-01'), ('AAPL', '2026-03-01');
CREATE TABLE short_interest (
	symbol VARCHAR NOT NULL, settlement_date TIMESTAMP WITH TIME ZONE NOT NULL, short_interest BIGINT, avg_daily_volume BIGINT,
	days_to_cover FLOAT, short_pct_float FLOAT, change_pct FLOAT, PRIMARY KEY (symbol, settlement_date));
INSERT INTO short_interest VALUES ('AAPL', '2026-02-27', 1, 2, 0.5, NULL, NULL);`

const oldRows = `
	SELECT (SELECT version_num FROM alembic_version), (SELECT md5(string_agg(o::text, ';' ORDER BY symbol, timestamp)) FROM ohlcv o),
	       (SELECT count(*) FROM fundamentals), (SELECT count(*) FROM filings),
	       (SELECT count(*) FROM insider_transactions WHERE NOT superseded AND accession_number IS NULL),
	       (SELECT count(*) FROM short_interest WHERE revision_flag IS NULL), (SELECT active FROM kill_switch)`

const schema = `
	SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
	WHERE table_schema = 'public' ORDER BY 1, ordinal_position`

func TestAdopt(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	query(t, url, adopted)
	bars := query(t, url, `SELECT md5(string_agg(o::text, ';' ORDER BY symbol, timestamp)) FROM ohlcv o`)
	db := migrated(t, url, postgres.Options{})
	first, rows := query(t, url, schema), query(t, url, oldRows)
	equal(t, "rows", []string{"[a1b2c3d4e5f6 " + bars[0][1:len(bars[0])-1] + " 1 2 2 1 t]"}, rows)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "schema after a second migration", first, query(t, url, schema))
	equal(t, "rows after a second migration", rows, query(t, url, oldRows))

	run := begin(t, db, period)
	s := market.Series{Symbol: "AAPL", Source: "simulated"}
	for date := day - 11; date <= day; date++ { // 2026-03-01 to 03-12, of which ten days are stored
		s.Bars = append(s.Bars, market.Bar{Date: date, Open: 10, High: 12, Low: 9, Close: 11})
	}
	equal(t, "save over old rows", market.Changes{Inserted: 2, Unchanged: 10}, save(t, run, s))
	s.Bars[0].Volume = 7
	equal(t, "correct an old row", market.Changes{Updated: 1, Unchanged: 11}, save(t, run, s))

	// Another writer's numeric types are kept, on the way of a first load too.
	query(t, url, `ALTER TABLE ohlcv ALTER COLUMN open TYPE numeric, ALTER COLUMN close TYPE real, ALTER COLUMN volume TYPE numeric`)
	fresh := market.Series{Symbol: "NEW", Source: "simulated", Bars: []market.Bar{{Date: day, Open: 10.25, High: 12, Low: 9, Close: 11.5, Volume: 5}}}
	equal(t, "first load into other types", market.Changes{Inserted: 1}, save(t, run, fresh))
	equal(t, "reload from other types", market.Changes{Unchanged: 1}, save(t, run, fresh))

	adoptFundamentals(t, url, db, run)
	adoptAltData(t, url, run)

	query(t, url, `
		INSERT INTO insider_transactions (symbol, filed_date, accession_number, line) VALUES ('AAPL', now(), '0001', 1)
		ON CONFLICT (accession_number, line) DO UPDATE SET superseded = true`)
	query(t, url, `INSERT INTO insider_transactions (symbol, filed_date) VALUES ('AAPL', now())`) // as the other writer does
}

// adoptFundamentals merges into a row that the other writer made, whatever types
// it chose.
func adoptFundamentals(t *testing.T, url string, db *postgres.DB, run store.Run) {
	t.Helper()
	query(t, url, `
		ALTER TABLE fundamentals ALTER COLUMN pe_ratio TYPE numeric, ALTER COLUMN metadata TYPE text;
		UPDATE fundamentals SET timestamp = '2026-03-01 00:00:00+00', roe = 'NaN', sector = 'Tech', metadata = '{"no JSON'`)
	row := overview()
	row.Date = day - 11
	row.Figures[market.PERatio].Known = false
	changes, err := run.SaveFundamentals(t.Context(), row, true)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "merge into an old row", market.Changes{Updated: 1}, changes)
	got, ok, err := db.Fundamentals(t.Context(), "AAPL", row.Date)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	row.Figures[market.PERatio] = market.Figure{Value: 30, Known: true}
	equal(t, "merged", row, got)
}

// adoptAltData saves beside rows that the other writer made, whatever types it
// chose.
func adoptAltData(t *testing.T, url string, run store.Run) {
	t.Helper()
	query(t, url, `
		ALTER TABLE insider_transactions ALTER COLUMN shares TYPE numeric, ALTER COLUMN insider_name TYPE varchar(100);
		ALTER TABLE short_interest ALTER COLUMN short_interest TYPE numeric, ALTER COLUMN days_to_cover TYPE real;
		UPDATE short_interest SET settlement_date = '2026-02-27 00:00:00+00'`)
	for _, want := range []market.Changes{{Inserted: 4}, {Unchanged: 4}} {
		changes, err := run.SaveFiling(t.Context(), "AAPL", filing(1, day, 3))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "filing beside old rows", want, changes)
	}
	amendment := filing(2, day+1, 1)
	amendment.Form, amendment.OriginalFiled = "4/A", day
	if _, err := run.SaveFiling(t.Context(), "AAPL", amendment); err != nil {
		t.Fatal(err)
	}
	equal(t, "transactions", []string{"[6 1 2]"}, query(t, url, `
		SELECT count(*), count(*) FILTER (WHERE superseded), count(*) FILTER (WHERE accession_number IS NULL) FROM insider_transactions`))
	rows := shortInterest(day-13, 2) // 2026-02-27
	rows[1].Symbol = "AAPL"
	for _, want := range []market.Changes{{Inserted: 1, Updated: 1}, {Unchanged: 2}} {
		changes, err := run.SaveShortInterest(t.Context(), "finra", day-13, rows)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "short interest over old rows", want, changes)
	}
	query(t, url, `DELETE FROM insider_transactions WHERE accession_number IS NOT NULL`)
}

// TestContractColumns holds a fresh database to the contract, column for
// column.
func TestContractColumns(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	migrated(t, url, postgres.Options{})
	equal(t, "columns", []string{
		"[filings id,symbol,filing_type,filed_date,url,content,metadata]",
		"[fundamental_facts symbol,issuer_cik,taxonomy,concept,unit,start,end,value,accession_number,form,filed,first_seen,superseded_on]",
		"[fundamentals symbol,timestamp,pe_ratio,pb_ratio,ps_ratio,ev_ebitda,debt_to_equity,current_ratio,roe,revenue_growth,earnings_growth,dividend_yield,market_cap,sector,industry,metadata]",
		"[insider_filings accession_number,symbol,issuer_cik,form,filed_date,accepted_at,period,original_filed,document]",
		"[insider_owners accession_number,position,owner_cik,name,title,relation,is_director,is_officer,is_ten_percent,is_other]",
		"[insider_transactions symbol,filed_date,insider_name,insider_title,transaction_type,shares,price_per_share,shares_owned_after,is_direct,accession_number,line,form_type,issuer_cik,owner_cik,transaction_date,security_title,is_derivative,acquired_disposed,aff10b5_one,amends,superseded,footnotes,metadata,amends_line]",
		"[kill_switch id,active,activated_at,reason,deactivated_at]",
		"[ohlcv symbol,timestamp,open,high,low,close,volume,adjusted_close,source]",
		"[short_interest symbol,settlement_date,short_interest,avg_daily_volume,days_to_cover,short_pct_float,change_pct,previous_short_interest,revision_flag,split_flag,fetched_at,days_to_cover_raw,change_pct_raw]",
	}, query(t, url, `
		SELECT table_name, string_agg(column_name, ',' ORDER BY ordinal_position) FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name NOT LIKE 'ingest\_%' GROUP BY 1 ORDER BY 1`))
	equal(t, "primary keys", []string{
		"[filings id]", "[fundamentals symbol,timestamp]", "[insider_filings accession_number]",
		"[insider_owners accession_number,position]", "[insider_transactions accession_number,line]",
		"[kill_switch id]", "[ohlcv symbol,timestamp]", "[short_interest symbol,settlement_date]",
	}, query(t, url, `
		SELECT table_name, string_agg(column_name, ',' ORDER BY ordinal_position)
		FROM information_schema.key_column_usage JOIN information_schema.table_constraints USING (constraint_name, table_name)
		WHERE constraint_type = 'PRIMARY KEY' AND table_constraints.table_schema = 'public' AND table_name NOT LIKE 'ingest\_%' GROUP BY 1 ORDER BY 1`))
}

// pretended makes a database look as if TimescaleDB were installed in it, with
// a create_hypertable that writes down its arguments.
const pretended = `
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT 99999, 'timescaledb', 10, oid, false, '0' FROM pg_namespace WHERE nspname = 'public';
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.hypertables (hypertable_schema name, hypertable_name name, chunk interval, if_not_exists boolean);
CREATE FUNCTION create_hypertable(relation regclass, time_column_name name, chunk_time_interval anyelement, if_not_exists boolean) RETURNS void
LANGUAGE sql AS $$ INSERT INTO timescaledb_information.hypertables VALUES ('public', relation::text, chunk_time_interval, if_not_exists) $$`

// TestTimescale holds the decision to make a hypertable, and the call that
// does, against a database that only pretends.
func TestTimescale(t *testing.T) {
	t.Parallel()
	hypertables := `SELECT hypertable_name, chunk, if_not_exists FROM timescaledb_information.hypertables`
	t.Run("empty table", func(t *testing.T) {
		t.Parallel()
		url := testenv.Postgres(t)
		query(t, url, pretended)
		db := migrated(t, url, postgres.Options{})
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		equal(t, "hypertables", []string{"[ohlcv 1 year t]"}, query(t, url, hypertables))
	})
	t.Run("filled table", func(t *testing.T) {
		t.Parallel()
		url := testenv.Postgres(t)
		query(t, url, adopted+pretended)
		migrated(t, url, postgres.Options{})
		equal(t, "hypertables", 0, len(query(t, url, hypertables)))
	})
}

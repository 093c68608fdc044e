package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// facts returns the revenue of n quarters, the oldest first.
func facts(n int) []market.Fact {
	all := make([]market.Fact, n)
	for i := range all {
		end := day - market.Date(91*(n-i))
		all[i] = market.Fact{
			CIK: 320193, Taxonomy: "us-gaap", Concept: "Revenues", Unit: "USD", Start: end - 90, End: end, Value: 1e9 + float64(i)/3,
			Accession: fmt.Sprintf("0000320193-26-%06d", i), Form: "10-Q", Filed: end + 30,
		}
	}
	return all
}

func overview() market.Fundamentals {
	row := market.Fundamentals{Symbol: "AAPL", Date: day, Details: map[string]string{"Beta": "1.2"}}
	origin := market.Origin{Source: "alpha_vantage", Period: day - 60}
	row.Sector = market.Label{Text: "Technology", Origin: origin}
	row.Figures[market.PERatio] = market.Figure{Value: 31.25, Known: true, Origin: origin}
	row.Figures[market.MarketCap] = market.Figure{Value: 3e12, Known: true, Origin: origin}
	return row
}

func saveFacts(t testing.TB, run store.Run, facts []market.Fact) market.Changes {
	t.Helper()
	changes, err := run.SaveFacts(t.Context(), "AAPL", facts, day)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func factsAsOf(t testing.TB, db *postgres.DB, day market.Date, concepts ...string) (found []market.Fact) {
	t.Helper()
	err := db.FactsAsOf(t.Context(), day, nil, concepts, func(_ market.Symbol, fact market.Fact) error {
		found = append(found, fact)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const factPrints = `
	SELECT (SELECT string_agg(concat_ws(',', xmin, xmax, ctid, f), ';' ORDER BY ctid) FROM fundamental_facts f),
	       (SELECT string_agg(concat_ws(',', xmin, xmax, ctid, f), ';' ORDER BY ctid) FROM fundamentals f),
	       (SELECT string_agg(concat_ws(',', xmin, xmax, ctid, f), ';' ORDER BY ctid) FROM ingest_items f),
	       (SELECT string_agg(concat_ws(',', xmin, xmax, ctid, f), ';' ORDER BY ctid) FROM ingest_watermarks f)`

// TestReloadTouchesNoFact looks at the hidden columns, as TestReloadTouchesNoRow
// does.
func TestReloadTouchesNoFact(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	run := begin(t, migrated(t, url, postgres.Options{}), period)
	all := facts(300)
	save := func(want, wantRow market.Changes) {
		t.Helper()
		equal(t, "facts", want, saveFacts(t, run, all))
		changes, err := run.SaveFundamentals(t.Context(), overview(), true)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "fundamentals", wantRow, changes)
	}
	save(market.Changes{Inserted: 300}, market.Changes{Inserted: 1})
	before := query(t, url, factPrints)
	save(market.Changes{Unchanged: 300}, market.Changes{Unchanged: 1})
	equal(t, "rows after a reload", before, query(t, url, factPrints))

	restated := all[100]
	restated.Filed, restated.Accession = day, "0000320193-26-000999"
	all = append(all, restated)
	equal(t, "restatement", market.Changes{Inserted: 1, Unchanged: 300}, saveFacts(t, run, all))
	equal(t, "rows that a restatement touches", []string{"[0000320193-26-000100 t]", "[0000320193-26-000999 ]"}, query(t, url, `
		SELECT accession_number, superseded_on = '2026-03-12' FROM fundamental_facts
		WHERE xmin <> (SELECT xmin FROM fundamental_facts ORDER BY "end" LIMIT 1) ORDER BY 1`)[:2])
}

// TestFactsForOthers holds the form of the rows to the contract.
func TestFactsForOthers(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	run := begin(t, migrated(t, url, postgres.Options{}), period)
	all := facts(1)
	all[0].Start = 0
	saveFacts(t, run, all)
	equal(t, "fact", []string{"[AAPL 0000320193 us-gaap Revenues USD t 2025-12-11 1000000000 0000320193-26-000000 10-Q 2026-01-10 t t]"}, query(t, url, `
		SELECT symbol, issuer_cik, taxonomy, concept, unit, start IS NULL, "end", value, accession_number, form, filed,
		       first_seen > now() - interval '1 hour', superseded_on IS NULL FROM fundamental_facts`))
	_, err := connect(t, url).Exec(t.Context(), `
		INSERT INTO fundamental_facts (symbol, issuer_cik, taxonomy, concept, unit, "end", value, accession_number, form, filed)
		SELECT symbol, issuer_cik, taxonomy, concept, unit, "end", value + 1, accession_number, form, filed FROM fundamental_facts`)
	if err == nil || !strings.Contains(err.Error(), "fundamental_facts_version") {
		t.Errorf("a second row of one version: %v", err)
	}
	if _, err := run.SaveFundamentals(t.Context(), overview(), true); err != nil {
		t.Fatal(err)
	}
	equal(t, "fundamentals", []string{
		`[t 31.25 t Technology t {"fields": {"sector": {"period": "2026-01-11", "source": "alpha_vantage"}, ` +
			`"pe_ratio": {"period": "2026-01-11", "source": "alpha_vantage"}, "market_cap": {"period": "2026-01-11", "source": "alpha_vantage"}}, ` +
			`"details": {"Beta": "1.2"}}]`,
	}, query(t, url, `
		SELECT timestamp = '2026-03-12 00:00:00+00', pe_ratio, pb_ratio IS NULL, sector, industry IS NULL, metadata FROM fundamentals`))
}

// TestAsOfFunction holds the function to what FactsAsOf returns, and to being
// taken into the query around it, where a condition finds its index.
func TestAsOfFunction(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	all := facts(40)
	for i := range 40 {
		again := all[i]
		again.Filed, again.Accession, again.Value = again.Filed+91, again.Accession+"-", again.Value+1
		all = append(all, again)
	}
	saveFacts(t, begin(t, db, period), all)
	for _, day := range []market.Date{day, all[39].Filed} { // on which another is superseded
		var want []string
		for _, f := range factsAsOf(t, db, day) {
			want = append(want, fmt.Sprintf("[AAPL Revenues USD %s %s %d %s %s]", f.Start, f.End, int(f.Value), f.Filed, f.Accession))
		}
		equal(t, "rows", 40, len(want))
		equal(t, "function", want, query(t, url, `
			SELECT symbol, concept, unit, start, "end", floor(value)::int, filed, accession_number
			FROM fundamental_facts_as_of('`+day.String()+`') ORDER BY "end"`))
	}
	equal(t, "columns and their collations", []string{"[symbol C,concept C,unit C,start,end,value,filed,accession_number C]"}, query(t, url, `
		SELECT string_agg(concat_ws(' ', attname, collname), ',' ORDER BY attnum)
		FROM pg_attribute LEFT JOIN pg_collation c ON c.oid = attcollation WHERE attrelid = 'fundamental_fact'::regclass`))

	query(t, url, `VACUUM ANALYZE fundamental_facts`)
	for sql, want := range map[string][2]string{
		`WHERE symbol = ANY (ARRAY['AAPL', 'MSFT']) AND concept = ANY (ARRAY['Assets', 'Revenues'])`: {
			"Index Scan using fundamental_facts_symbol", "Index Cond: (symbol = ANY ('{AAPL,MSFT}'::text[]))",
		},
		`WHERE "end" > '2025-12-01'`: {"Index Only Scan using fundamental_facts_version", `Index Cond: ("end" > '2025-12-01'::date)`},
	} {
		plan := strings.Join(query(t, url, `SET enable_seqscan = off; SET enable_bitmapscan = off; EXPLAIN SELECT * FROM fundamental_facts_as_of('2026-03-12') `+sql), "\n")
		if !strings.Contains(plan, want[0]) || !strings.Contains(plan, want[1]) {
			t.Errorf("%s: want %q in\n%s", sql, want, plan)
		}
	}
}

// TestFactsTakeTurns begins a save of a symbol's facts while another one, which
// brings other versions of the same figures, is between its comparison and its
// commit. The second waits, so that it knows of the versions of the first.
func TestFactsTakeTurns(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	other, err := db.Begin(t.Context(), "another_job", period, "worker-1")
	if err != nil {
		t.Fatal(err)
	}
	runs := []store.Run{begin(t, db, period), other}
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The first save waits for this row after it has written its facts.
	if _, err := tx.Exec(t.Context(), `INSERT INTO ingest_items VALUES ($1, $2, 'AAPL', 1, 'stored', 1, '')`, job, period); err != nil {
		t.Fatal(err)
	}
	first, second := facts(5), facts(5)
	for i := range second {
		second[i].Filed, second[i].Accession = first[i].Filed-1, first[i].Accession+"-"
	}
	done := make(chan error, 2)
	for i, facts := range [][]market.Fact{first, second} {
		go func() {
			_, err := runs[i].SaveFacts(t.Context(), "AAPL", facts, day)
			done <- err
		}()
		eventually(t, "it waits, or is over", func() bool {
			return query(t, url, waiting)[0] == fmt.Sprintf("[%d]", i+1) || len(done) > 0
		})
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range runs {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	equal(t, "known", first, factsAsOf(t, db, day))
	equal(t, "known before", append(first[:4:4], second[4]), factsAsOf(t, db, first[4].Filed-1))
}

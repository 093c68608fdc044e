package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func figure(value float64, o market.Origin) market.Figure {
	return market.Figure{Value: value, Known: true, Origin: o}
}

// overview is a row as a provider that names no days gives it.
func overview(date market.Date) market.Fundamentals {
	origin := market.Origin{Source: "alpha_vantage"}
	row := market.Fundamentals{
		Symbol: aapl, Date: date, Sector: market.Label{Text: "Technology <&> Söhne", Origin: origin},
		Details: map[string]string{"AnalystTargetPrice": "210.5", "a \"name\"": ""},
	}
	row.Figures[market.PERatio] = figure(31.3, origin)
	row.Figures[market.DividendYield] = figure(0, origin)
	row.Figures[market.MarketCap] = figure(3.1e12, origin)
	return row
}

// computed is a row as it is computed from facts.
func computed(date market.Date) market.Fundamentals {
	origin := market.Origin{Source: "edgar", Filed: date - 30, Period: date - 60, Computed: true}
	row := market.Fundamentals{Symbol: aapl, Date: date, Industry: market.Label{Text: "Electronic Computers", Origin: market.Origin{Source: "edgar"}}}
	row.Figures[market.PERatio] = figure(33, origin)
	row.Figures[market.CurrentRatio] = figure(-0.1, origin)
	row.Figures[market.ROE] = figure(1.0/3, origin)
	return row
}

func saveFundamentals(t testing.TB, run store.Run, row market.Fundamentals) market.Changes {
	t.Helper()
	changes, err := run.SaveFundamentals(t.Context(), row, true)
	check(t, err)
	return changes
}

func wantFundamentals(t testing.TB, what string, db store.DB, through market.Date, want *market.Fundamentals) {
	t.Helper()
	got, ok, err := db.Fundamentals(t.Context(), aapl, through)
	check(t, err)
	equal(t, what+": there is one", want != nil, ok)
	if want != nil {
		equal(t, what, *want, got)
	}
}

// rowsThatMakeNothingDone are the figures of a symbol that is asked for again.
func rowsThatMakeNothingDone(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	row := computed(day)
	changes, err := run.SaveFundamentals(t.Context(), row, false)
	check(t, err)
	equal(t, "changes", market.Changes{Inserted: 1}, changes)
	wantFundamentals(t, "stored", db, day, &row)
	equal(t, "ledger", ledger{Coverage: map[market.Symbol]market.Coverage{}}, ledgerOf(t, db, aapl))
	changes, err = run.SaveFundamentals(t.Context(), row, false)
	check(t, err)
	equal(t, "again", market.Changes{Unchanged: 1}, changes)
}

func fundamentals(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	wantFundamentals(t, "at first", db, day, nil)

	first := overview(day)
	first.Figures[market.ROE] = market.Figure{Value: math.NaN()} // not known, so of no account
	equal(t, "first", market.Changes{Inserted: 1}, saveFundamentals(t, run, first))
	first.Figures[market.ROE] = market.Figure{}
	wantFundamentals(t, "stored", db, day, &first)
	equal(t, "ledger", ledger{
		Done: []market.Symbol{aapl}, Attempts: 1, Coverage: map[market.Symbol]market.Coverage{aapl: {Through: day, Tried: period}},
	}, ledgerOf(t, db, aapl))
	equal(t, "again", market.Changes{Unchanged: 1}, saveFundamentals(t, run, first))

	merged := first.Merge(computed(day))
	equal(t, "merged", market.Changes{Updated: 1}, saveFundamentals(t, run, computed(day)))
	wantFundamentals(t, "after the merge", db, day, &merged)
	equal(t, "merged again", market.Changes{Unchanged: 1}, saveFundamentals(t, run, computed(day)))
	poorer := market.Fundamentals{Symbol: aapl, Date: day}
	poorer.Figures[market.PERatio] = first.Figures[market.PERatio]
	equal(t, "poorer", market.Changes{Unchanged: 1}, saveFundamentals(t, run, poorer))
	wantFundamentals(t, "after the poorer", db, day, &merged)

	later := computed(day)
	later.Figures[market.ROE].Filed++ // the same value, but from a newer report
	merged = merged.Merge(later)
	equal(t, "an origin", market.Changes{Updated: 1}, saveFundamentals(t, run, later))
	wantFundamentals(t, "after the origin", db, day, &merged)
	equal(t, "attempts", 6, ledgerOf(t, db, aapl).Attempts)

	newest := overview(day + 7)
	equal(t, "a week later", market.Changes{Inserted: 1}, saveFundamentals(t, run, newest))
	wantFundamentals(t, "the day before", db, day-1, nil)
	wantFundamentals(t, "between", db, day+6, &merged)
	wantFundamentals(t, "newest", db, day+7, &newest)
	wantFundamentals(t, "on a day of no calendar", db, math.MaxInt32, &newest)
	if _, ok, err := db.Fundamentals(t.Context(), "AAP", day+7); ok || err != nil {
		t.Errorf("of another symbol: %t, %v", ok, err)
	}
}

// foreignFundamentals merges into rows that another program wrote.
func foreignFundamentals(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	stamp := func(date market.Date) string { return date.String() + " 00:00:00+00:00" }
	insert := func(date market.Date, metadata string) {
		t.Helper()
		d.Other(t, fmt.Sprintf(`INSERT INTO fundamentals (symbol, timestamp, pe_ratio, roe, sector, industry, metadata)
			VALUES ('AAPL', '%s', 30.5, 0.25, 'Tech', '', %s)`, stamp(date), metadata))
	}
	foreign := market.Fundamentals{Symbol: aapl, Sector: market.Label{Text: "Tech"}}
	foreign.Figures[market.PERatio] = figure(30.5, market.Origin{})
	foreign.Figures[market.ROE] = figure(0.25, market.Origin{})

	d.Other(t, `INSERT INTO fundamentals (symbol, timestamp, roe) VALUES ('AAPL', '`+day.String()+` 14:30:00+00:00', 1)`)
	wantFundamentals(t, "a row at another hour", db, day+9, nil)
	for i, metadata := range []string{
		`NULL`, `'null'`, `'[1, 2]'`, `'"text"'`, `'{"fields": 7, "details": [1]}'`, `'{"details": {"a": 1}}'`,
		`'{"fields": {"pe_ratio": "x", "roe": {"source": 5}, "sector": {"source": "x", "filed": "soon"}}}'`,
	} {
		foreign.Date = day - market.Date(100*i)
		insert(foreign.Date, metadata)
		wantFundamentals(t, "a foreign row with metadata "+metadata, db, foreign.Date, &foreign)
		merged := foreign.Merge(computed(foreign.Date))
		equal(t, "merge over "+metadata, market.Changes{Updated: 1}, saveFundamentals(t, run, computed(foreign.Date)))
		wantFundamentals(t, "merged over "+metadata, db, foreign.Date, &merged)
		equal(t, "again over "+metadata, market.Changes{Unchanged: 1}, saveFundamentals(t, run, computed(foreign.Date)))
	}

	// What others keep in the metadata stays there.
	insert(day+1, `'{"model": {"n": 1}, "fields": {"theirs": 2, "pe_ratio": {"source": "yahoo", "more": 1}}, "details": {"a": 1}}'`)
	equal(t, "merge", market.Changes{Updated: 1}, saveFundamentals(t, run, computed(day+1)))
	var document map[string]any
	check(t, json.Unmarshal([]byte(d.Other(t, `SELECT metadata FROM fundamentals WHERE timestamp = '`+stamp(day+1)+`'`)), &document))
	equal(t, "their members", map[string]any{"n": 1.0}, document["model"])
	equal(t, "their details", map[string]any{"a": 1.0}, document["details"])
	fields, _ := document["fields"].(map[string]any)
	equal(t, "their field", 2.0, fields["theirs"])
	equal(t, "our field", map[string]any{"source": "edgar", "filed": (day - 29).String(), "period": (day - 59).String(), "computed": true}, fields["current_ratio"])
}

func fundamentalsBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	for name, change := range map[string]func(*market.Fundamentals){
		"no symbol":       func(f *market.Fundamentals) { f.Symbol = "" },
		"no date":         func(f *market.Fundamentals) { f.Date = 0 },
		"empty":           func(f *market.Fundamentals) { *f = market.Fundamentals{Symbol: aapl, Date: day, Details: f.Details} },
		"not a number":    func(f *market.Fundamentals) { f.Figures[market.PERatio].Value = math.NaN() },
		"infinite":        func(f *market.Fundamentals) { f.Figures[market.MarketCap].Value = math.Inf(1) },
		"a zero byte":     func(f *market.Fundamentals) { f.Sector.Text = "\x00" },
		"no text":         func(f *market.Fundamentals) { f.Details["x"] = "\xff" },
		"year 10000":      func(f *market.Fundamentals) { f.Figures[market.PERatio].Filed = store.LastDate + 1 },
		"a bad source":    func(f *market.Fundamentals) { f.Figures[market.PERatio].Source = "\xff" },
		"a bad industry":  func(f *market.Fundamentals) { f.Industry.Text = "\xff" },
		"a negative date": func(f *market.Fundamentals) { f.Sector.Period = -1 },
	} {
		row := overview(day)
		change(&row)
		changes, err := run.SaveFundamentals(t.Context(), row, true)
		if !errors.As(err, new(*store.RefusedError)) {
			t.Errorf("%s: stored as %+v (%v)", name, changes, err)
		}
	}
	wantFundamentals(t, "stored", db, day, nil)
	equal(t, "ledger", ledger{Coverage: map[market.Symbol]market.Coverage{}}, ledgerOf(t, db, aapl))
}

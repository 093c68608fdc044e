package storetest

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func amount(v float64) market.Amount { return market.Amount{Value: v, Known: true} }

// sold is a sale, filed as number n of issuer 1652044 by owner 2.
func sold(n int, filed market.Date, shares ...float64) market.InsiderFiling {
	f := market.InsiderFiling{
		Accession: accession(n), Form: "4", Filed: filed, Period: day - 2, IssuerCIK: 1652044, Owners: []market.InsiderOwner{{CIK: 2, Name: "Doe Jane"}},
	}
	for i, s := range shares {
		f.Lines = append(f.Lines, market.InsiderLine{
			Line: i + 1, SecurityTitle: "Class C", Date: day - 2, Code: "S", AcquiredDisposed: "D", Shares: amount(s), Price: amount(10),
		})
	}
	return f
}

// wholeFiling has everything that a filing can have.
func wholeFiling() market.InsiderFiling {
	f := sold(1, day, 1.0/3, 0, 7)
	f.Schema, f.Accepted, f.OriginalFiled = "X0508", time.Date(2026, 3, 12, 21, 4, 5, 123456789, time.UTC), day-9
	f.IssuerName, f.IssuerSymbol, f.Remarks = "A <&> Söhne", "NONE", "line\n\"two\" \u2028 \\u0000"
	f.Owners = []market.InsiderOwner{
		{CIK: 2, Name: "Doe Jane", Title: "Chief \"X\" Officer", Officer: true, Director: true},
		{CIK: 9_999_999_999, Relation: "Trustee", TenPercent: true, Other: true},
	}
	f.Plan, f.PlanMentioned, f.NoSecurities, f.Exited = market.AnswerYes, true, true, true
	f.Lines[0] = market.InsiderLine{
		Line: 1, Derivative: true, SecurityTitle: "Option", Date: day - 2, Deemed: day - 1, Code: "M", ReportedOn: "4", Timeliness: "L",
		Swap: market.AnswerNo, AcquiredDisposed: "A", Shares: amount(1.0 / 3), TotalValue: amount(1e300), Price: amount(0.1),
		OwnedAfter: amount(123456789.123), ValueAfter: amount(5e-324), Direct: market.AnswerNo, Nature: "By trust",
		ConversionPrice: amount(2.5), Exercise: day, Expiration: day + 3650, Underlying: "Class C", UnderlyingShares: amount(100), UnderlyingValue: amount(7),
		Notes: []market.InsiderNote{{ID: "F1", Of: "transactionPricePerShare", Text: "<i>& more"}}, Flags: market.SharesContradict | market.Inexact,
	}
	f.Lines[1] = market.InsiderLine{Line: 2, Holding: true, SecurityTitle: "Class A", OwnedAfter: amount(50)}
	f.Lines[2] = market.InsiderLine{Line: 3, Date: market.NewDate(202, 3, 1)}
	f.Footnotes = []market.InsiderNote{{ID: "F1", Text: "<i>& more"}, {ID: "F2"}}
	return f
}

func saveFiling(t testing.TB, run store.Run, f market.InsiderFiling) market.Changes {
	t.Helper()
	changes, err := run.SaveFiling(t.Context(), goog, f)
	check(t, err)
	return changes
}

func insiderFilings(t testing.TB, db store.DB, symbol market.Symbol) []market.InsiderFiling {
	t.Helper()
	filings, err := db.InsiderFilings(t.Context(), symbol)
	check(t, err)
	return filings
}

func filings(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	equal(t, "no filings", 0, len(insiderFilings(t, db, goog)))
	saveIndex(t, run, day, listed(1, day))

	f := wholeFiling()
	equal(t, "first", market.Changes{Inserted: 3}, saveFiling(t, run, f))
	equal(t, "pending", 0, len(pending(t, db)))
	equal(t, "attempt", store.Attempt{
		RunID: run.ID(), Job: altJob, Period: store.FilingsKind, Symbol: market.Symbol(accession(1)), Outcome: store.Stored, Rows: 3,
	}, lastAttempt(t, db, accession(1)))
	stored := insiderFilings(t, db, goog)
	if len(stored) != 1 || !reflect.DeepEqual(stored[0], f) {
		equal(t, "stored", []market.InsiderFiling{f}, stored)
		t.Error("it is not stored exactly")
	}
	equal(t, "again", market.Changes{Unchanged: 3}, saveFiling(t, run, f))
	elsewhere := f
	elsewhere.Accepted = f.Accepted.In(time.FixedZone("", -4*60*60))
	equal(t, "again, in another zone", market.Changes{Unchanged: 3}, saveFiling(t, run, elsewhere))
	equal(t, "attempts", "4", d.Other(t, `SELECT count(*) FROM ingest_attempts`))
	equal(t, "item", "stored", d.Other(t, `SELECT outcome FROM ingest_items WHERE period = 'edgar_filings' AND rows = 3 AND source = 'edgar'`))

	holdings := sold(2, day-1)
	equal(t, "without transactions", market.Changes{Inserted: 1}, saveFiling(t, run, holdings))
	equal(t, "by day", []string{accession(2), accession(1)}, func() (got []string) {
		for _, f := range insiderFilings(t, db, goog) {
			got = append(got, f.Accession)
		}
		return got
	}())
	equal(t, "of another symbol", 0, len(insiderFilings(t, db, googl)))
	covered, err := db.Coverage(t.Context(), altJob)
	check(t, err)
	equal(t, "coverage", 0, len(covered))
}

// filingRows holds the rows to what readers of the tables expect.
func filingRows(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	f := wholeFiling()
	f.OriginalFiled = 0
	saveFiling(t, run, f)
	bare := sold(2, day, 1)
	bare.Lines[0] = market.InsiderLine{Line: 1}
	bare.Owners[0] = market.InsiderOwner{CIK: 3}
	saveFiling(t, run, bare)
	for _, where := range []string{
		`accession_number = '0001652044-26-000001' AND line = 1 AND symbol = 'GOOG' AND filed_date = '2026-03-12 00:00:00+00:00'
			AND insider_name = 'Doe Jane' AND insider_title = 'Chief "X" Officer' AND transaction_type = 'M' AND shares = 0.3333333333333333
			AND price_per_share = 0.1 AND shares_owned_after = 123456789.123 AND NOT is_direct AND form_type = '4' AND issuer_cik = '0001652044'
			AND owner_cik = '0000000002' AND transaction_date = '2026-03-10' AND security_title = 'Option' AND is_derivative
			AND acquired_disposed = 'A' AND aff10b5_one AND NOT superseded AND amends IS NULL AND amends_line IS NULL`,
		`line = 1 AND footnotes -> 0 ->> 'of' = 'transactionPricePerShare' AND metadata ->> 'nature' = 'By trust' AND metadata ->> 'deemed_date' = '2026-03-11'
			AND metadata -> 'flags' ->> 0 = 'shares_contradict' AND metadata -> 'flags' ->> 1 = 'inexact' AND metadata ->> 'underlying' = 'Class C'`,
		`line = 3 AND transaction_type IS NULL AND shares IS NULL AND price_per_share IS NULL AND shares_owned_after IS NULL AND is_direct IS NULL
			AND security_title IS NULL AND acquired_disposed IS NULL AND NOT is_derivative AND footnotes IS NULL`,
		`accession_number = '0001652044-26-000002' AND insider_name IS NULL AND insider_title IS NULL AND transaction_date IS NULL
			AND aff10b5_one IS NULL AND metadata IS NULL`,
	} {
		equal(t, where, "1", d.Other(t, `SELECT count(*) FROM insider_transactions WHERE `+where))
	}
	equal(t, "no row of a holding", "3", d.Other(t, `SELECT count(*) FROM insider_transactions`))
	equal(t, "owners", "3", d.Other(t, `SELECT count(*) FROM insider_owners`))
	equal(t, "owner", "1", d.Other(t, `SELECT count(*) FROM insider_owners WHERE accession_number = '0001652044-26-000001' AND position = 2
		AND owner_cik = '9999999999' AND name IS NULL AND title IS NULL AND relation = 'Trustee'
		AND NOT is_director AND NOT is_officer AND is_ten_percent AND is_other`))
	equal(t, "filing", "1", d.Other(t, `SELECT count(*) FROM insider_filings WHERE symbol = 'GOOG' AND issuer_cik = '0001652044' AND form = '4'
		AND filed_date = '2026-03-12' AND accepted_at > '2026-03-12 21:04:05+00:00' AND period = '2026-03-10' AND original_filed IS NULL AND document ->> 'Schema' = 'X0508'`))

	for title, o := range map[string]market.InsiderOwner{
		"CEO": {Title: "CEO", Director: true}, "Director": {Director: true, Officer: true, TenPercent: true}, "10% Owner": {TenPercent: true, Other: true, Relation: "x"},
		"Trustee": {Other: true, Relation: "Trustee", Officer: true}, "Officer": {Officer: true},
	} {
		o.CIK = 4
		bare.Owners[0] = o
		equal(t, title, market.Changes{Updated: 2}, saveFiling(t, run, bare))
		equal(t, "title", title, d.Other(t, `SELECT insider_title FROM insider_transactions WHERE owner_cik = '0000000004'`))
	}
}

func filingChanged(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	f := sold(1, day, 1, 2, 3)
	f.Owners = append(f.Owners, market.InsiderOwner{CIK: 3}, market.InsiderOwner{CIK: 4})
	saveFiling(t, run, f)
	saveFiling(t, run, sold(2, day, 5))

	f.Lines = append(slices.Clone(f.Lines[:2]), sold(1, day, 0, 0, 0, 4).Lines[3]) // 1, 2 and 4
	f.Lines[1].Shares = amount(2.5)
	f.Owners = f.Owners[:2]
	equal(t, "changed", market.Changes{Inserted: 1, Updated: 3, Unchanged: 1}, saveFiling(t, run, f))
	equal(t, "stored", []market.InsiderFiling{f, sold(2, day, 5)}, insiderFilings(t, db, goog))
	equal(t, "lines", "1 2 4", d.Other(t, `SELECT string_agg(CAST(line AS text), ' ' ORDER BY line) FROM insider_transactions WHERE shares <> 5`))
	equal(t, "their sum", "1", d.Other(t, `SELECT count(*) FROM (SELECT sum(shares) AS s FROM insider_transactions) x WHERE s = 1 + 2.5 + 4 + 5`))
	equal(t, "owners", "3", d.Other(t, `SELECT count(*) FROM insider_owners`))
	equal(t, "again", market.Changes{Unchanged: 4}, saveFiling(t, run, f))

	changes, err := run.SaveFiling(t.Context(), googl, f)
	check(t, err)
	equal(t, "of another symbol", market.Changes{Updated: 4}, changes)
	equal(t, "moved", []market.InsiderFiling{f}, insiderFilings(t, db, googl))
	equal(t, "moved lines", "3", d.Other(t, `SELECT count(*) FROM insider_transactions WHERE symbol = 'GOOGL'`))

	// Rows that went astray come again, and those that came without a filing go.
	d.Other(t, `DELETE FROM insider_transactions WHERE accession_number = '0001652044-26-000001' AND line < 3`)
	changes, err = run.SaveFiling(t.Context(), googl, f)
	check(t, err)
	equal(t, "lost rows", market.Changes{Inserted: 2, Unchanged: 2}, changes)
	d.Other(t, `UPDATE insider_transactions SET superseded = true, amends = 'x' WHERE accession_number = '0001652044-26-000001' AND line = 4`)
	changes, err = run.SaveFiling(t.Context(), googl, f)
	check(t, err)
	equal(t, "wrong marks", market.Changes{Updated: 1, Unchanged: 3}, changes)
	equal(t, "marks", "0", d.Other(t, `SELECT count(*) FROM insider_transactions WHERE superseded OR amends IS NOT NULL`))
	d.Other(t, `DELETE FROM insider_filings WHERE accession_number = '0001652044-26-000001'`)
	changes, err = run.SaveFiling(t.Context(), googl, f)
	check(t, err)
	equal(t, "a lost document", market.Changes{Inserted: 4}, changes)
}

func filingsAmended(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	original := sold(1, day-1, 100, 200)
	original.Lines[1].Price = amount(11)
	amendment := sold(2, day, 0, 250)
	amendment.Lines[1].Price = amount(11)
	amendment.Form, amendment.OriginalFiled = "4/A", day-1
	amendment.Lines = amendment.Lines[1:]
	marks := `SELECT string_agg(` + markText + `, ';' ORDER BY accession_number, line) FROM insider_transactions WHERE issuer_cik = '0001652044'`
	want := "0001652044-26-000001 1;0001652044-26-000001 2 superseded;0001652044-26-000002 2 amends 0001652044-26-000001 2"

	equal(t, "original", market.Changes{Inserted: 3}, saveFiling(t, run, original))
	equal(t, "amendment", market.Changes{Inserted: 2, Updated: 1}, saveFiling(t, run, amendment))
	equal(t, "marks", want, d.Other(t, marks))
	equal(t, "again", market.Changes{Unchanged: 3}, saveFiling(t, run, original))
	equal(t, "both stay", []market.InsiderFiling{original, amendment}, insiderFilings(t, db, goog))

	// It turns out to amend another one: what it stood for counts again.
	amendment.OriginalFiled, amendment.Period = day-7, day-8
	equal(t, "another original", market.Changes{Updated: 3}, saveFiling(t, run, amendment))
	equal(t, "marks taken back", "0001652044-26-000001 1;0001652044-26-000001 2;0001652044-26-000002 2", d.Other(t, marks))

	late := sold(3, day-7, 100, 250)
	late.Period, late.Lines[1].Price = day-8, amount(11)
	equal(t, "the original after its amendment", market.Changes{Inserted: 3, Updated: 1}, saveFiling(t, run, late))
	equal(t, "marks", "0001652044-26-000001 1;0001652044-26-000001 2;0001652044-26-000002 2 amends 0001652044-26-000003 2;"+
		"0001652044-26-000003 1;0001652044-26-000003 2 superseded", d.Other(t, marks))
}

func filingBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	for name, change := range map[string]func(f *market.InsiderFiling){
		"no number":      func(f *market.InsiderFiling) { f.Accession = "" },
		"another form":   func(f *market.InsiderFiling) { f.Form = "424B2" },
		"no day":         func(f *market.InsiderFiling) { f.Filed = 0 },
		"no issuer":      func(f *market.InsiderFiling) { f.IssuerCIK = 0 },
		"no owner":       func(f *market.InsiderFiling) { f.Owners = nil },
		"owner 0":        func(f *market.InsiderFiling) { f.Owners[1].CIK = 0 },
		"a line twice":   func(f *market.InsiderFiling) { f.Lines[2].Line = 1 },
		"line 0":         func(f *market.InsiderFiling) { f.Lines[2].Line = 0 },
		"not a number":   func(f *market.InsiderFiling) { f.Lines[2].UnderlyingValue = amount(math.NaN()) },
		"infinite":       func(f *market.InsiderFiling) { f.Lines[2].Price = amount(math.Inf(1)) },
		"a zero byte":    func(f *market.InsiderFiling) { f.Lines[2].Nature = "\x00" },
		"in a note":      func(f *market.InsiderFiling) { f.Lines[2].Notes = []market.InsiderNote{{Text: "\x00"}} },
		"in a footnote":  func(f *market.InsiderFiling) { f.Footnotes[0].Text = "\xff" },
		"in a name":      func(f *market.InsiderFiling) { f.Owners[0].Name = "\xff" },
		"in the remarks": func(f *market.InsiderFiling) { f.Remarks = "\xff" },
		"year 10000":     func(f *market.InsiderFiling) { f.Lines[2].Expiration = store.LastDate + 1 },
		"accepted then":  func(f *market.InsiderFiling) { f.Accepted = f.Accepted.AddDate(9000, 0, 0) },
		"period before":  func(f *market.InsiderFiling) { f.Period = -1 },
	} {
		f := wholeFiling()
		change(&f)
		if changes, err := run.SaveFiling(t.Context(), goog, f); err == nil {
			t.Errorf("%s: stored as %+v", name, changes)
		}
	}
	if _, err := run.SaveFiling(t.Context(), "", wholeFiling()); err == nil {
		t.Error("a filing of no symbol was stored")
	}
	equal(t, "stored", "0", d.Other(t, `SELECT (SELECT count(*) FROM insider_filings) + (SELECT count(*) FROM ingest_items) + (SELECT count(*) FROM ingest_attempts)`))
}

// filingsOfMany lets two owners save originals and their amendments at once.
func filingsOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	const issuers = 25
	var wg sync.WaitGroup
	for i, db := range handles {
		run := begin(t, db, altJob, []string{altPeriod, "another"}[i])
		wg.Go(func() {
			for n := range issuers {
				f := sold(2*n+i, day+market.Date(i), 100, 200)
				f.IssuerCIK = 1 + n
				if i == 1 {
					f.Form, f.OriginalFiled = "4/A", day
				}
				if _, err := run.SaveFiling(t.Context(), goog, f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	equal(t, "lines", "100", d.Other(t, `SELECT count(*) FROM insider_transactions`))
	equal(t, "superseded", "50", d.Other(t, `SELECT count(*) FROM insider_transactions WHERE superseded AND form_type = '4'`))
	equal(t, "amending", "50", d.Other(t, `SELECT count(*) FROM insider_transactions WHERE amends IS NOT NULL AND form_type = '4/A'`))
}

// markText names a transaction and its marks.
const markText = `accession_number || ' ' || line || CASE WHEN superseded THEN ' superseded' ELSE '' END || coalesce(' amends ' || amends || ' ' || amends_line, '')`

// filingsModel saves the filings of random families in random order, some of
// them twice and then changed, and compares the marks, and what is left to be
// summed up, with what market.Supersede makes of all of them.
func filingsModel(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, altJob, altPeriod)
	var issuers atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		issuer := int(issuers.Add(1))
		all := map[string]market.InsiderFiling{}
		for range rapid.IntRange(1, 9).Draw(rt, "filings") {
			f := drawFiling(rt, issuer)
			if _, err := run.SaveFiling(t.Context(), goog, f); err != nil {
				rt.Fatal(err)
			}
			all[f.Accession] = f
			if rapid.Bool().Draw(rt, "again") {
				changes, err := run.SaveFiling(t.Context(), goog, f)
				if err != nil || changes.Written() != 0 {
					rt.Fatalf("saved again: %+v, %v", changes, err)
				}
			}
		}
		replaced := market.Supersede(slices.Collect(maps.Values(all)))
		amends := map[market.InsiderLineID]market.InsiderLineID{}
		for old, by := range replaced {
			amends[by] = old
		}
		var want []string
		sum := 0
		for _, f := range all {
			for _, l := range f.Lines {
				id := market.InsiderLineID{Accession: f.Accession, Line: l.Line}
				if l.Holding {
					continue
				}
				text := fmt.Sprintf("%s %d", f.Accession, l.Line)
				if _, gone := replaced[id]; gone {
					text += " superseded"
				} else {
					sum += int(l.Shares.Value)
				}
				if old, ok := amends[id]; ok {
					text += fmt.Sprintf(" amends %s %d", old.Accession, old.Line)
				}
				want = append(want, text)
			}
		}
		from := fmt.Sprintf(` FROM insider_transactions WHERE issuer_cik = '%010d'`, issuer)
		got := strings.Split(d.Other(t, `SELECT coalesce(string_agg(`+markText+`, ';'), '')`+from), ";")
		slices.Sort(want)
		slices.Sort(got)
		if strings.Join(want, ";") != strings.Join(got, ";") {
			rt.Fatalf("marks: got\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got := d.Other(t, `SELECT CAST(coalesce(sum(shares), 0) AS integer)`+from+` AND NOT superseded`); got != fmt.Sprint(sum) {
			rt.Fatalf("%s shares count, want %d", got, sum)
		}
	})
}

// drawFiling draws from few values, so that many filings meet. A number that
// is drawn again brings a changed filing.
func drawFiling(rt *rapid.T, issuer int) market.InsiderFiling {
	pick := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) }
	var shares []float64
	for range pick("lines", 4) {
		shares = append(shares, float64(1+pick("shares", 2)))
	}
	f := sold(pick("number", 10), day+market.Date(pick("filed", 3)), shares...)
	f.Accession = fmt.Sprintf("%010d-%s", issuer, f.Accession[len(f.Accession)-9:])
	f.IssuerCIK, f.Period = issuer, market.Date(pick("period", 4))*200_000
	for i := range f.Lines {
		f.Lines[i].Holding = pick("holding", 5) == 0
		f.Lines[i].Date += market.Date(pick("date", 2))
	}
	if pick("owner", 4) == 0 {
		f.Owners = append(f.Owners, market.InsiderOwner{CIK: 3})
	}
	if pick("form", 5) == 0 {
		f.Form = "5"
	}
	if rapid.Bool().Draw(rt, "amends") {
		f.Form += "/A"
		if pick("names", 4) > 0 {
			f.OriginalFiled = day + market.Date(pick("original", 3))
		}
	}
	return f
}

package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const goog, googl = market.Symbol("GOOG"), market.Symbol("GOOGL")

// revenues is the revenue of the quarter that ends on end, as a filing of that
// number gives it.
func revenues(end market.Date, value float64, filing int, filed market.Date) market.Fact {
	return market.Fact{
		CIK: 1652044, Taxonomy: "us-gaap", Concept: "Revenues", Unit: "USD", Start: end - 90, End: end, Value: value,
		Accession: fmt.Sprintf("0001652044-26-%06d", filing), Form: "10-Q", Filed: filed,
	}
}

// factsOf returns n facts in the order in which a store returns them.
func factsOf(n int) []market.Fact {
	facts := make([]market.Fact, n)
	for i := range facts {
		facts[i] = revenues(day-market.Date(91*(n-i)), 1e9+float64(i)/3, i, day-market.Date(91*(n-i)-30))
	}
	return facts
}

func saveFacts(t testing.TB, run store.Run, symbol market.Symbol, facts ...market.Fact) market.Changes {
	t.Helper()
	changes, err := run.SaveFacts(t.Context(), symbol, facts, day)
	check(t, err)
	return changes
}

func storedFacts(t testing.TB, db store.DB, symbol market.Symbol) []market.Fact {
	t.Helper()
	facts, err := db.Facts(t.Context(), symbol)
	check(t, err)
	return facts
}

type known map[market.Symbol][]market.Fact

func factsAsOf(t testing.TB, db store.DB, day market.Date, symbols []market.Symbol, concepts []string) known {
	t.Helper()
	found := known{}
	var last market.Symbol
	check(t, db.FactsAsOf(t.Context(), day, symbols, concepts, func(symbol market.Symbol, fact market.Fact) error {
		if symbol < last {
			t.Errorf("%s after %s", symbol, last)
		}
		last = symbol
		found[symbol] = append(found[symbol], fact)
		return nil
	}))
	return found
}

func facts(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	equal(t, "no facts", 0, len(storedFacts(t, db, goog)))
	equal(t, "none known", known{}, factsAsOf(t, db, day, nil, nil))

	// More than one statement of any store takes.
	all := factsOf(123)
	all[7].Start = 0
	shuffled := slices.Clone(all)
	slices.Reverse(shuffled)
	equal(t, "first load", market.Changes{Inserted: 123}, saveFacts(t, run, goog, shuffled...))
	equal(t, "stored", all, storedFacts(t, db, goog))
	loaded := ledgerOf(t, db, goog)
	equal(t, "after the load", ledger{
		Done: []market.Symbol{goog}, Attempts: 1, Coverage: map[market.Symbol]market.Coverage{goog: {Through: day, Tried: period}},
	}, loaded)

	equal(t, "reload", market.Changes{Unchanged: 123}, saveFacts(t, run, goog, all...))
	equal(t, "reload of some, one of them twice", market.Changes{Unchanged: 6}, saveFacts(t, run, goog, append(all[3:8:8], all[3])...))
	loaded.Attempts = 3
	equal(t, "after the reloads", loaded, ledgerOf(t, db, goog))
	tries, err := db.Attempts(t.Context(), goog, 10)
	check(t, err)
	equal(t, "outcomes", []string{store.Unchanged, store.Unchanged, store.Stored}, []string{tries[0].Outcome, tries[1].Outcome, tries[2].Outcome})
	equal(t, "rows", []int{0, 0, 123}, []int{tries[0].Rows, tries[1].Rows, tries[2].Rows})
}

// factsRestated holds that a later filing changes nothing that was known before
// it.
func factsRestated(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	end := day - 60
	first := revenues(end, 100, 1, end+30)
	saveFacts(t, run, goog, first)
	restated := revenues(end, 103, 2, end+50)
	amended := revenues(end, 101, 1, end+50)
	amended.Accession, amended.Form = "0001652044-26-000001-A", "10-Q/A"
	same := revenues(end, 104, 3, end+50)
	equal(t, "three filings of one day", market.Changes{Inserted: 3}, saveFacts(t, run, goog, restated, amended, same))
	equal(t, "versions", []market.Fact{first, amended, restated, same}, storedFacts(t, db, goog))
	for offset, want := range map[market.Date][]market.Fact{29: nil, 30: {first}, 49: {first}, 50: {amended}, 60: {amended}} {
		equal(t, fmt.Sprintf("after %d days", offset), want, factsAsOf(t, db, end+offset, nil, nil)[goog])
	}
	equal(t, "on a day of no calendar", []market.Fact{amended}, factsAsOf(t, db, math.MaxInt32, nil, nil)[goog])

	// One that was filed before all of these arrives last.
	early := revenues(end, 99, 0, end+10)
	equal(t, "early", market.Changes{Inserted: 1}, saveFacts(t, run, goog, early))
	for offset, want := range map[market.Date][]market.Fact{9: nil, 10: {early}, 29: {early}, 30: {first}, 50: {amended}} {
		equal(t, fmt.Sprintf("with the early one, after %d days", offset), want, factsAsOf(t, db, end+offset, nil, nil)[goog])
	}
}

func factsCorrected(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	old := factsOf(3)
	old[1].Start = 0
	saveFacts(t, run, goog, old...)
	saveFacts(t, run, googl, old...)
	changed := slices.Clone(old)
	changed[0].Value++
	changed[1].Value, changed[1].Filed = -5, changed[1].Filed+2
	changed[2].Form = "10-Q/A"
	equal(t, "changes", market.Changes{Updated: 3}, saveFacts(t, run, goog, changed...))
	equal(t, "stored", changed, storedFacts(t, db, goog))
	equal(t, "of the other class of shares", old, storedFacts(t, db, googl))
	equal(t, "known before it was corrected to be filed", 1, len(factsAsOf(t, db, old[1].Filed, []market.Symbol{goog}, nil)[goog]))

	ymd := func(d market.Date) float64 {
		y, m, day := d.Time().Date()
		return float64(y*10000 + int(m)*100 + day)
	}
	first, second := "us-gaap:Revenues USD "+old[0].Start.String()+" 0001652044-26-000000", "us-gaap:Revenues USD 0001652044-26-000001"
	want := []store.Correction{
		{Date: old[1].End, Field: second + " filed", Old: ymd(old[1].Filed), New: ymd(old[1].Filed + 2), HadOld: true},
		{Date: old[1].End, Field: second, Old: old[1].Value, New: -5, HadOld: true},
		{Date: old[0].End, Field: first, Old: old[0].Value, New: old[0].Value + 1, HadOld: true},
	}
	for i := range want {
		want[i].Symbol, want[i].Source = goog, store.FactSource
	}
	got, err := db.Corrections(t.Context(), goog, 10)
	check(t, err)
	for i := range got {
		got[i].At = time.Time{}
	}
	equal(t, "corrections", want, got)
	equal(t, "corrections of the other class", 0, ledgerOf(t, db, googl).Corrections)
}

func factsChosen(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	assets := revenues(day-60, 7, 1, day-30)
	assets.Concept, assets.Start = "Assets", 0
	revenue := revenues(day-60, 3, 1, day-30)
	for _, symbol := range []market.Symbol{googl, goog, "MSFT"} {
		saveFacts(t, run, symbol, revenue, assets)
	}
	both := []market.Fact{assets, revenue}
	for name, tc := range map[string]struct {
		symbols  []market.Symbol
		concepts []string
		want     known
	}{
		"all":            {nil, nil, known{goog: both, googl: both, "MSFT": both}},
		"symbols":        {[]market.Symbol{"MSFT", goog, "ZZZ", goog}, nil, known{goog: both, "MSFT": both}},
		"concepts":       {nil, []string{"Assets", "No'thing\""}, known{goog: both[:1], googl: both[:1], "MSFT": both[:1]}},
		"one of each":    {[]market.Symbol{googl}, []string{"Revenues"}, known{googl: both[1:]}},
		"unknown symbol": {[]market.Symbol{"ZZZ"}, nil, known{}},
	} {
		equal(t, name, tc.want, factsAsOf(t, db, day, tc.symbols, tc.concepts))
	}
	stop, calls := errors.New("enough"), 0
	err := db.FactsAsOf(t.Context(), day, nil, nil, func(market.Symbol, market.Fact) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("the error of each: got %v after %d calls", err, calls)
	}
}

func factsBadInput(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	for name, change := range map[string]func(f *market.Fact){
		"not a number":   func(f *market.Fact) { f.Value = math.NaN() },
		"infinite":       func(f *market.Fact) { f.Value = math.Inf(-1) },
		"no end":         func(f *market.Fact) { f.End, f.Start = 0, 0 },
		"no filing day":  func(f *market.Fact) { f.Filed = 0 },
		"no filing":      func(f *market.Fact) { f.Accession = "" },
		"start after it": func(f *market.Fact) { f.Start = f.End + 1 },
		"year 10000":     func(f *market.Fact) { f.Filed = store.LastDate + 1 },
		"no issuer":      func(f *market.Fact) { f.CIK = 0 },
		"a zero byte":    func(f *market.Fact) { f.Unit = "USD\x00" },
		"contradiction":  func(f *market.Fact) { *f = factsOf(3)[0]; f.Value++ },
	} {
		facts := factsOf(3)
		change(&facts[1])
		if changes, err := run.SaveFacts(t.Context(), goog, facts, day); err == nil {
			t.Errorf("%s: stored as %+v", name, changes)
		}
	}
	for name, save := range map[string]func() (market.Changes, error){
		"no facts":  func() (market.Changes, error) { return run.SaveFacts(t.Context(), goog, nil, day) },
		"no symbol": func() (market.Changes, error) { return run.SaveFacts(t.Context(), "", factsOf(2), day) },
		"no day":    func() (market.Changes, error) { return run.SaveFacts(t.Context(), goog, factsOf(2), 0) },
	} {
		if changes, err := save(); err == nil {
			t.Errorf("%s: stored as %+v", name, changes)
		}
	}
	equal(t, "stored", known{}, factsAsOf(t, db, day, nil, nil))
	equal(t, "ledger", ledger{Coverage: map[market.Symbol]market.Coverage{}}, ledgerOf(t, db, goog))
}

// factsOfMany lets two owners save versions of the same figures at once, each
// without knowing those of the other.
func factsOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	var all [2][]market.Fact
	for i := range all {
		for n := range 20 {
			all[i] = append(all[i], revenues(day-market.Date(100*n+60), float64(i), i, day-market.Date(100*n+30-i)))
		}
	}
	var wg sync.WaitGroup
	for i, db := range handles {
		run := begin(t, db, job, []string{period, "2026-03-13"}[i])
		wg.Go(func() {
			for n := range 20 {
				symbol := market.Symbol([]byte{'S', 'A' + byte(n)})
				if changes, err := run.SaveFacts(t.Context(), symbol, all[i], day); err != nil || changes.Inserted != 20 {
					t.Errorf("%+v, %v", changes, err)
				}
			}
		})
	}
	wg.Wait()
	want := market.AsOf(slices.Concat(all[0], all[1]), day)
	found := factsAsOf(t, handles[0], day, nil, nil)
	equal(t, "symbols", 20, len(found))
	for symbol, got := range found {
		equal(t, string(symbol), want, got)
	}
}

// factsModel saves random facts in several parts and compares what is known on
// random days with what market.AsOf makes of all of them.
func factsModel(t *testing.T, d Database) {
	db := open(t, d)
	run := begin(t, db, job, period)
	var symbols atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		symbol := market.Symbol(fmt.Sprintf("S%d", symbols.Add(1)))
		stored := map[market.Fact]market.Fact{} // by what names a version
		for range rapid.IntRange(1, 5).Draw(rt, "saves") {
			want, part := market.Changes{}, drawFacts(rt)
			for name, fact := range part {
				switch old, known := stored[name]; {
				case !known:
					want.Inserted++
				case old == fact:
					want.Unchanged++
				default:
					want.Updated++
				}
				stored[name] = fact
			}
			got, err := run.SaveFacts(t.Context(), symbol, values(part), day)
			if err != nil || got != want {
				rt.Fatalf("save: got %+v, %v, want %+v", got, err, want)
			}
		}
		for range 4 {
			day := day + market.Date(rapid.IntRange(-1, 7).Draw(rt, "day"))
			got := factsAsOf(t, db, day, []market.Symbol{symbol}, nil)[symbol]
			if want := market.AsOf(values(stored), day); !slices.Equal(want, got) {
				rt.Fatalf("as of %s: got\n%+v, want\n%+v", day, got, want)
			}
		}
		if got := storedFacts(t, db, symbol); len(got) != len(stored) {
			rt.Fatalf("%d versions are stored, want %d", len(got), len(stored))
		}
	})
}

// drawFacts draws from few values, so that many versions meet, by what names
// them: all but value, form and filing day.
func drawFacts(rt *rapid.T) map[market.Fact]market.Fact {
	facts := map[market.Fact]market.Fact{}
	pick := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) }
	for range rapid.IntRange(1, 15).Draw(rt, "facts") {
		f := market.Fact{
			CIK: 1 + 99*pick("cik", 2), Taxonomy: []string{"dei", "us-gaap"}[pick("taxonomy", 2)],
			Concept: []string{"Assets", "assets", "Ä"}[pick("concept", 3)], Unit: []string{"USD", "USD/shares"}[pick("unit", 2)],
			Start: []market.Date{0, day - 200}[pick("start", 2)], End: day - market.Date(100*pick("end", 2)),
			Accession: []string{"a", "b", "c"}[pick("accession", 3)],
		}
		name := f
		f.Value = float64(pick("value", 3))
		f.Form = []string{"10-K", "10-K/A"}[pick("form", 2)]
		f.Filed = day + market.Date(pick("filed", 6))
		facts[name] = f
	}
	return facts
}

func values(facts map[market.Fact]market.Fact) []market.Fact {
	var all []market.Fact
	for _, fact := range facts { // in random order
		all = append(all, fact)
	}
	return all
}

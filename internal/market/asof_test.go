package market_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

// at is a day of 2024, more than twelve months being those of the years after.
func at(month time.Month, day int) market.Date { return market.NewDate(2024, month, day) }

// revenue is the revenue from January through end of month, filed on a day.
func revenue(through time.Month, value float64, form, accession string, filed market.Date) market.Fact {
	return market.Fact{
		CIK: 1, Taxonomy: "us-gaap", Concept: "Revenues", Unit: "USD",
		Start: at(1, 1), End: at(through+1, 0), Value: value, Form: form, Accession: accession, Filed: filed,
	}
}

func values(facts []market.Fact) []float64 {
	var all []float64
	for _, f := range facts {
		all = append(all, f.Value)
	}
	return all
}

func TestAsOfKnowsWhatWasFiled(t *testing.T) {
	t.Parallel()
	facts := []market.Fact{
		revenue(12, 100, "10-K", "0000000001-25-000001", at(14, 20)),
		revenue(12, 103, "10-K", "0000000001-26-000001", at(26, 20)),
		revenue(12, 101, "10-K/A", "0000000001-25-000002", at(16, 1)),
	}
	for _, c := range []struct {
		name string
		day  market.Date
		want []float64
	}{
		{"the day before", at(14, 19), nil},
		{"the day of the filing", at(14, 20), []float64{100}},
		{"before the amendment", at(15, 31), []float64{100}},
		{"amended", at(16, 1), []float64{101}},
		{"restated beside the next year", at(30, 1), []float64{103}},
	} {
		if got := values(market.AsOf(facts, c.day)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := values(market.Original(facts)); !slices.Equal(got, []float64{100}) {
		t.Errorf("Original = %v, want [100]", got)
	}
}

func TestAsOfOnOneDay(t *testing.T) {
	t.Parallel()
	day := at(14, 20)
	plain, later := revenue(12, 1, "10-K", "0000000001-25-000008", day), revenue(12, 2, "10-K", "0000000001-25-000009", day)
	amended := revenue(12, 3, "10-K/A", "0000000001-25-000001", day)
	for _, c := range []struct {
		name            string
		facts           []market.Fact
		latest, earlier float64
	}{
		{"an amendment wins over a greater number", []market.Fact{amended, later}, 3, 2},
		{"the greater number wins", []market.Fact{plain, later}, 2, 1},
		{"of all three", []market.Fact{later, plain, amended}, 3, 1},
	} {
		for range 2 {
			if got := values(market.AsOf(c.facts, day)); !slices.Equal(got, []float64{c.latest}) {
				t.Errorf("%s: AsOf = %v, want %v", c.name, got, c.latest)
			}
			if got := values(market.Original(c.facts)); !slices.Equal(got, []float64{c.earlier}) {
				t.Errorf("%s: Original = %v, want %v", c.name, got, c.earlier)
			}
			slices.Reverse(c.facts)
		}
	}
}

func TestAsOfKeepsQuantitiesApart(t *testing.T) {
	t.Parallel()
	base := revenue(12, 1, "10-K", "0000000001-25-000001", at(14, 20))
	facts := []market.Fact{base}
	for _, change := range []func(*market.Fact){
		func(f *market.Fact) { f.CIK = 2 },
		func(f *market.Fact) { f.Taxonomy = "ifrs-full" },
		func(f *market.Fact) { f.Concept = "SalesRevenueNet" },
		func(f *market.Fact) { f.Unit = "EUR" },
		func(f *market.Fact) { f.Start = 0 },
		func(f *market.Fact) { f.End-- },
	} {
		f := base
		change(&f)
		facts = append(facts, f)
	}
	unknown := base
	unknown.Filed, unknown.End = 0, at(3, 31)
	if got := market.AsOf(append(facts, unknown), at(40, 1)); len(got) != len(facts) {
		t.Errorf("%d facts, want %d: %v", len(got), len(facts), got)
	}
}

// anyFacts draws a heap of facts of few quantities and many versions.
func anyFacts(t *rapid.T) []market.Fact {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) market.Fact {
		f := revenue(time.Month(rapid.SampledFrom([]int{9, 12}).Draw(t, "through")), float64(rapid.IntRange(0, 50).Draw(t, "value")),
			rapid.SampledFrom([]string{"10-K", "10-K/A", "10-Q"}).Draw(t, "form"),
			rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "accession"),
			at(20, rapid.IntRange(1, 5).Draw(t, "filed")))
		f.CIK = rapid.IntRange(1, 2).Draw(t, "cik")
		return f
	}), 0, 40).Draw(t, "facts")
}

func TestAsOfDoesNotDependOnTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		facts := anyFacts(t)
		day := at(20, rapid.IntRange(0, 6).Draw(t, "day"))
		other := slices.Clone(facts)
		rand.New(rand.NewPCG(1, uint64(len(facts)))).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		want := market.AsOf(facts, day)
		if diff := cmp.Diff(want, market.AsOf(other, day)); diff != "" {
			t.Fatalf("AsOf: %s", diff)
		}
		if diff := cmp.Diff(market.Original(facts), market.Original(other)); diff != "" {
			t.Fatalf("Original: %s", diff)
		}
		if diff := cmp.Diff(market.FourthQuarter(facts, day), market.FourthQuarter(other, day)); diff != "" {
			t.Fatalf("FourthQuarter: %s", diff)
		}
		// What is filed later changes nothing that was known.
		known := slices.DeleteFunc(slices.Clone(facts), func(f market.Fact) bool { return f.Filed > day })
		if diff := cmp.Diff(want, market.AsOf(known, day)); diff != "" {
			t.Fatalf("the future was known: %s", diff)
		}
		if diff := cmp.Diff(market.FourthQuarter(known, day), market.FourthQuarter(facts, day)); diff != "" {
			t.Fatalf("the future was known to FourthQuarter: %s", diff)
		}
	})
}

func TestFourthQuarter(t *testing.T) {
	t.Parallel()
	nine := revenue(9, 70, "10-Q", "0000000001-24-000003", at(11, 1))
	year := revenue(12, 100, "10-K", "0000000001-25-000001", at(14, 20))
	want := market.DerivedFact{Fact: year, Year: year, NineMonths: nine}
	want.Start, want.Value = at(10, 1), 30
	facts := []market.Fact{year, nine}
	if diff := cmp.Diff([]market.DerivedFact{want}, market.FourthQuarter(facts, at(14, 20))); diff != "" {
		t.Error(diff)
	}
	if got := market.FourthQuarter(facts, at(14, 19)); len(got) != 0 {
		t.Errorf("known before the year was filed: %v", got)
	}
	if facts[0] != year || facts[1] != nine {
		t.Error("the facts were changed")
	}
}

func TestFourthQuarterTakesWhatAddsUp(t *testing.T) {
	t.Parallel()
	nine := revenue(9, 70, "10-Q", "0000000001-24-000003", at(11, 1))
	year := revenue(12, 100, "10-K", "0000000001-25-000001", at(14, 20))
	with := func(f market.Fact, change func(*market.Fact)) market.Fact { change(&f); return f }
	before := func(value float64, accession string, filed market.Date) market.Fact {
		f := revenue(12, value, "10-K", accession, filed)
		f.Start, f.End = f.Start-365, f.Start-1
		return f
	}
	for _, c := range []struct {
		name  string
		facts []market.Fact
		want  []float64
		filed market.Date
	}{
		{"nine months restated before the year", []market.Fact{nine, revenue(9, 72, "10-Q/A", "x", at(13, 1)), year}, []float64{28}, year.Filed},
		{"nine months restated after the year", []market.Fact{nine, revenue(9, 72, "10-Q", "x", at(23, 1)), year}, []float64{30}, year.Filed},
		{"both restated", []market.Fact{nine, revenue(9, 72, "10-Q", "x", at(23, 1)), year, revenue(12, 104, "10-K", "y", at(26, 20))}, []float64{32}, at(26, 20)},
		{"nine months filed after the year alone", []market.Fact{revenue(9, 72, "10-Q", "x", at(23, 1)), revenue(9, 75, "10-Q", "y", at(23, 2)), year}, []float64{28}, at(23, 1)},
		{"a quarter that a filing names", []market.Fact{nine, year, with(year, func(f *market.Fact) { f.Start = at(10, 1) })}, nil, 0},
		{"another start", []market.Fact{with(nine, func(f *market.Fact) { f.Start++ }), year}, nil, 0},
		{"another unit", []market.Fact{with(nine, func(f *market.Fact) { f.Unit = "EUR" }), year}, nil, 0},
		{"another issuer", []market.Fact{with(nine, func(f *market.Fact) { f.CIK++ }), year}, nil, 0},
		{"the rest is no quarter", []market.Fact{with(nine, func(f *market.Fact) { f.End -= 20 }), with(year, func(f *market.Fact) { f.End += 12 })}, nil, 0},
		{"no year", []market.Fact{nine}, nil, 0},
		{"the year alone restated", []market.Fact{nine, year, revenue(12, 104, "10-K", "y", at(26, 20))}, nil, 0},
		{"the year before is recast", []market.Fact{nine, year, before(90, "0000000001-24-000001", at(2, 20)), before(60, year.Accession, year.Filed)}, nil, 0},
		{"the year before is as it was", []market.Fact{nine, year, before(90, "0000000001-24-000001", at(2, 20)), before(90, year.Accession, year.Filed)}, []float64{30}, year.Filed},
		{"recast, and restated once more", []market.Fact{
			nine, year, before(90, "a", at(2, 20)), before(60, "b", at(8, 20)), before(60, year.Accession, year.Filed),
		}, []float64{30}, year.Filed},
	} {
		got := market.FourthQuarter(c.facts, at(40, 1))
		var found []float64
		for _, q := range got {
			found = append(found, q.Value)
			if q.Filed != c.filed || q.Start != at(10, 1) {
				t.Errorf("%s: filed %v, start %v", c.name, q.Filed, q.Start)
			}
		}
		if !slices.Equal(found, c.want) {
			t.Errorf("%s: %v, want %v", c.name, found, c.want)
		}
	}
	for unit, want := range map[string]int{"USD": 1, "EUR": 1, "USD/shares": 0, "shares": 0, "pure": 0, "": 0, "usd": 0} {
		facts := []market.Fact{nine, year}
		facts[0].Unit, facts[1].Unit = unit, unit
		if got := market.FourthQuarter(facts, at(40, 1)); len(got) != want {
			t.Errorf("unit %q: %v, want %d", unit, got, want)
		}
	}
}

package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

// drawFacts draws versions of few figures, none twice.
func drawFacts(t *rapid.T, label string) []market.Fact {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) market.Fact {
		pick := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(t, label) }
		return market.Fact{
			CIK: 1, Taxonomy: "us-gaap", Concept: []string{"Assets", "Revenues"}[pick("concept", 2)], Unit: "USD",
			Start: []market.Date{0, day - 90}[pick("start", 2)], End: day, Value: float64(pick("value", 2)),
			Accession: []string{"a", "b", "c"}[pick("accession", 3)], Form: []string{"10-K", "10-K/A"}[pick("form", 2)],
			Filed: day + market.Date(pick("filed", 4)),
		}
	}), 0, 10, func(f market.Fact) string { return f.Concept + f.Start.String() + f.Accession }).Draw(t, label)
}

// TestCompareFacts applies differences one after the other: each leaves none,
// and what is then known on a day is what market.AsOf finds.
func TestCompareFacts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var stored []store.Version
		for _, label := range []string{"first", "second", "third"} {
			incoming := drawFacts(t, label)
			d := store.CompareFacts(stored, incoming)
			if c := d.Changes(); c.Written()+c.Unchanged != len(incoming) {
				t.Fatalf("%+v of %d facts are counted", c, len(incoming))
			}
			stored = applyFacts(stored, d)
			if again := store.CompareFacts(stored, incoming); again.Changes().Written()+len(again.Changed)+len(again.Corrections) > 0 {
				t.Fatalf("after applying: %+v", again)
			}
		}
		var all, known []market.Fact
		on := day + market.Date(rapid.IntRange(-1, 4).Draw(t, "day"))
		for _, v := range stored {
			all = append(all, v.Fact)
			if v.Filed <= on && (v.Superseded.IsZero() || v.Superseded > on) {
				known = append(known, v.Fact)
			}
		}
		if diff := cmp.Diff(market.AsOf(all, on), market.AsOf(known, on)); diff != "" || len(known) != len(market.AsOf(all, on)) {
			t.Fatalf("%d known on %s: %s", len(known), on, diff)
		}
	})
}

func applyFacts(stored []store.Version, d store.FactDiff) []store.Version {
	name := func(v store.Version) market.Fact {
		v.Value, v.Form, v.Filed = 0, "", 0
		return v.Fact
	}
	next := slices.Clone(d.New)
	for _, v := range stored {
		if i := slices.IndexFunc(d.Changed, func(c store.Version) bool { return name(c) == name(v) }); i >= 0 {
			v = d.Changed[i]
		}
		next = append(next, v)
	}
	return next
}

func TestCheckFactsNamesTheFact(t *testing.T) {
	t.Parallel()
	fact := market.Fact{CIK: 1, Taxonomy: "us-gaap", Concept: "Assets", Unit: "USD", End: day, Accession: "0000000001-26-000001", Filed: day + 30}
	if err := store.CheckFacts("AAPL", []market.Fact{fact, fact}, day); err != nil {
		t.Errorf("the same fact twice: %v", err)
	}
	other := fact
	other.Value++
	err := store.CheckFacts("AAPL", []market.Fact{fact, other}, day)
	if err == nil || !strings.Contains(err.Error(), "Assets of 2026-03-12") || !strings.Contains(err.Error(), fact.Accession) {
		t.Errorf("a contradiction: %v", err)
	}
}

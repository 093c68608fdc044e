package storetest

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

func universe(t *testing.T, d Database) {
	db := open(t, d)
	last := time.Time{}
	list := func(symbols string) (all []market.Symbol) {
		for _, s := range strings.Fields(symbols) {
			all = append(all, market.Symbol(s))
		}
		return all
	}
	expect := func(what, want string, changed bool) {
		t.Helper()
		got, at, err := db.Universe(t.Context(), "sp500")
		check(t, err)
		equal(t, what, list(want), got)
		if at.After(last) != changed || at.Location() != time.UTC || at.Before(last) {
			t.Errorf("%s: changed at %v after %v", what, at, last)
		}
		last = at
	}
	keep := func(symbols, added, removed string) {
		t.Helper()
		a, r, err := db.SaveUniverse(t.Context(), "sp500", list(symbols))
		check(t, err)
		equal(t, "added by "+symbols, list(added), a)
		equal(t, "removed by "+symbols, list(removed), r)
	}
	expect("at first", "", false)
	keep("MSFT AAPL BRK.B AAPL", "AAPL BRK.B MSFT", "")
	expect("saved", "AAPL BRK.B MSFT", true)
	if time.Since(last).Abs() > time.Hour {
		t.Errorf("changed at %v", last)
	}
	keep("AAPL BRK.B MSFT", "", "")
	expect("the same", "AAPL BRK.B MSFT", false)
	keep("AAPL NEW A", "A NEW", "BRK.B MSFT")
	expect("others", "A AAPL NEW", true)
	keep("AAPL MSFT NEW A", "MSFT", "")
	expect("one is back", "A AAPL MSFT NEW", true)
	keep("AAPL MSFT NEW", "", "A")
	expect("one less", "AAPL MSFT NEW", true)
	equal(t, "kept", "5", d.Other(t, `SELECT count(*) FROM ingest_universe`))
	equal(t, "removed", "2", d.Other(t, `SELECT count(*) FROM ingest_universe WHERE removed_at IS NOT NULL`))

	_, _, err := db.SaveUniverse(t.Context(), "other", list("Z"))
	check(t, err)
	for name, symbols := range map[string][]market.Symbol{"sp500": nil, "": list("A"), "other": {"A", ""}} {
		if a, r, err := db.SaveUniverse(t.Context(), name, symbols); err == nil || a != nil || r != nil {
			t.Errorf("list %q of %q: %v, %v, %v", name, symbols, a, r, err)
		}
	}
	expect("after all that was refused", "AAPL MSFT NEW", false)
}

// universeOfMany saves different lists at once: the members are those of one of
// them, and each is told once who came and went.
func universeOfMany(t *testing.T, d Database) {
	handles := []store.DB{open(t, d), d.Open(t)}
	lists := [][]market.Symbol{{"A", "B", "C"}, {"B", "C", "D"}, {"A", "D", "E"}}
	var mu sync.Mutex
	members := map[market.Symbol]int{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			added, removed, err := handles[i%2].SaveUniverse(t.Context(), "sp500", lists[i%3])
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range added {
				members[s]++
			}
			for _, s := range removed {
				members[s]--
			}
		})
	}
	wg.Wait()
	got, _, err := handles[0].Universe(t.Context(), "sp500")
	check(t, err)
	if !slices.ContainsFunc(lists, func(l []market.Symbol) bool { return slices.Equal(l, got) }) {
		t.Errorf("members %v are of no list", got)
	}
	for s, n := range members {
		if want := slices.Contains(got, s); n != 0 && n != 1 || want != (n == 1) {
			t.Errorf("%s: %d times more added than removed; a member: %v", s, n, want)
		}
	}
}

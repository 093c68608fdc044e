package universe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/universe"
)

const key = "cache:universe:sp500"

var errAway = errors.New("away")

// cache and book hold one entry each; broken ones fail.
type cache struct {
	text   []byte
	broken bool
}

func (c *cache) Key() string { return key }

func (c *cache) Get(context.Context) ([]byte, error) {
	if c.broken {
		return nil, errAway
	}
	return c.text, nil
}

func (c *cache) Add(_ context.Context, text []byte) error {
	if c.broken {
		return errAway
	}
	if c.text == nil {
		c.text = text
	}
	return nil
}

type book struct {
	symbols             []market.Symbol
	saved               int
	unreadable, refuses bool
}

func (b *book) Universe(_ context.Context, name string) ([]market.Symbol, time.Time, error) {
	if b.unreadable || name != "sp500" {
		return nil, time.Time{}, errAway
	}
	if b.symbols == nil {
		return nil, time.Time{}, nil
	}
	return b.symbols, time.Date(2026, 11, 1, 23, 0, 0, 0, time.UTC), nil
}

func (b *book) SaveUniverse(_ context.Context, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error) {
	if b.refuses || name != "sp500" {
		return nil, nil, errAway
	}
	b.symbols, b.saved = symbols, b.saved+1
	return nil, nil, nil
}

// index returns n symbols, the first of which are those numbered from first.
func index(first, n int) []market.Symbol {
	symbols := make([]market.Symbol, n)
	for i := range symbols {
		symbols[i] = market.Symbol(fmt.Sprintf("S%d", first+i))
	}
	return symbols
}

func array(t *testing.T, symbols []market.Symbol) []byte {
	t.Helper()
	text, err := json.Marshal(symbols)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// source writes a list into a file and returns its name.
func source(t *testing.T, symbols []market.Symbol) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(name, array(t, symbols), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// found is what a test looks at of a list, the path of the source left out.
func found(t *testing.T, r universe.Resolver) string {
	t.Helper()
	list, err := r.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from := list.From
	if r.Source != "" {
		from = strings.ReplaceAll(from, r.Source, "PATH")
	}
	return fmt.Sprintf("%d from %s, +%d -%d, %d warnings", len(list.Symbols), from, len(list.Added), len(list.Removed), len(list.Warnings))
}

func TestResolveOrder(t *testing.T) {
	t.Parallel()
	good, newer, newest := index(0, 503), index(1, 503), index(3, 502)
	for _, test := range []struct {
		name   string
		cache  *cache
		source []market.Symbol // nil: there is none
		book   *book
		want   string
		saved  int
	}{
		{"nothing", &cache{}, nil, &book{}, "503 from built-in list of the end of 2025, +0 -0, 0 warnings", 0},
		{"the last good list", &cache{}, nil, &book{symbols: good}, "503 from last good list of 2026-11-01, +0 -0, 0 warnings", 0},
		{"the source", &cache{}, newer, &book{symbols: good}, "503 from file PATH, +1 -1, 0 warnings", 1},
		{"the cache", &cache{text: array(t, newest)}, newer, &book{symbols: good}, "502 from cache:universe:sp500, +2 -3, 0 warnings", 1},
		{"the same list again", &cache{text: array(t, good)}, nil, &book{symbols: good}, "503 from cache:universe:sp500, +0 -0, 0 warnings", 1},
		{"no cache", &cache{broken: true}, newer, &book{symbols: good}, "503 from file PATH, +1 -1, 2 warnings", 1},
		{"a broken cache", &cache{text: []byte("{")}, newer, &book{symbols: good}, "503 from file PATH, +1 -1, 1 warnings", 1},
		{"an empty cache", &cache{text: []byte{}}, nil, &book{symbols: good}, "503 from last good list of 2026-11-01, +0 -0, 1 warnings", 0},
		{"a broken source", &cache{}, index(0, 3), &book{symbols: good}, "503 from last good list of 2026-11-01, +0 -0, 1 warnings", 0},
		{"both broken", &cache{text: []byte("null")}, index(0, 3), &book{}, "503 from built-in list of the end of 2025, +0 -0, 2 warnings", 0},
		{"another index", &cache{text: array(t, index(0, 1000))}, nil, &book{symbols: good}, "503 from last good list of 2026-11-01, +0 -0, 1 warnings", 0},
		{"a first list that is far from the built-in one", &cache{text: array(t, good)}, nil, &book{}, "503 from cache:universe:sp500, +503 -503, 0 warnings", 1},
		{"a first list", &cache{text: array(t, market.SP500()[3:])}, nil, &book{}, "500 from cache:universe:sp500, +0 -3, 0 warnings", 1},
		{"a book that cannot be read", &cache{text: array(t, market.SP500()[3:])}, nil, &book{unreadable: true}, "500 from cache:universe:sp500, +0 -3, 1 warnings", 0},
		{"a book that cannot be written", &cache{}, newer, &book{symbols: good, refuses: true}, "503 from file PATH, +1 -1, 1 warnings", 0},
		{"everything broken", &cache{broken: true}, index(0, 3), &book{unreadable: true}, "503 from built-in list of the end of 2025, +0 -0, 3 warnings", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := universe.Resolver{Cache: test.cache, Book: test.book}
			if test.source != nil {
				r.Source = source(t, test.source)
			}
			if got := found(t, r); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if test.book.saved != test.saved {
				t.Errorf("saved %d times, want %d", test.book.saved, test.saved)
			}
		})
	}
}

func TestShrunkListIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		old, gone, now int
		accepted       bool
	}{
		{503, 0, 503, true},
		{503, 0, 530, true},
		{503, 0, 531, false},
		{503, 50, 503, true},
		{503, 51, 503, false},
		{503, 13, 490, true},
		{503, 14, 489, false},
		{500, 50, 500, true},
		{500, 51, 500, false},
		{560, 56, 504, true},
		{560, 57, 503, false}, // shorter, nothing new
		{503, 503, 503, false},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			b := &book{symbols: index(0, test.old)}
			r := universe.Resolver{Cache: &cache{text: array(t, index(test.gone, test.now))}, Book: b}
			list, err := r.Resolve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if accepted := list.From == key; accepted != test.accepted || (b.saved == 1) != accepted || (len(list.Warnings) == 0) != accepted {
				t.Errorf("from %s, saved %d times, %q", list.From, b.saved, list.Warnings)
			}
			if !test.accepted && len(list.Symbols) != test.old {
				t.Errorf("%d symbols, want the %d of the last good list", len(list.Symbols), test.old)
			}
		})
	}
}

func TestWarningSaysBothNumbers(t *testing.T) {
	t.Parallel()
	r := universe.Resolver{Cache: &cache{text: array(t, index(60, 495))}, Book: &book{symbols: index(0, 503)}}
	list, err := r.Resolve(t.Context())
	want := []string{"a list of the S&P 500 is not used: cache:universe:sp500: it holds 495 symbols, and lacks 60 of the 503 of the " +
		"last good list of 2026-11-01, which is more than 10 %: if it is right, name it with --symbols @file"}
	if diff := cmp.Diff(want, list.Warnings); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestChangeIsNamed(t *testing.T) {
	t.Parallel()
	r := universe.Resolver{Cache: &cache{text: array(t, index(2, 502))}, Book: &book{symbols: index(0, 503)}}
	list, err := r.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]market.Symbol{{"S503"}, {"S0", "S1"}}, [][]market.Symbol{list.Added, list.Removed}); diff != "" {
		t.Error(diff)
	}
}

func TestListOfTheSourceIsCached(t *testing.T) {
	t.Parallel()
	c, b := &cache{}, &book{symbols: index(0, 503)}
	r := universe.Resolver{Cache: c, Book: b, Source: source(t, index(1, 503))}
	found(t, r)
	if !cmp.Equal(c.text, array(t, index(1, 503))) {
		t.Errorf("%.40s", c.text)
	}
	if got, want := found(t, r), "503 from cache:universe:sp500, +0 -0, 0 warnings"; got != want {
		t.Errorf("the second time %s, want %s", got, want)
	}
}

func TestReadOnlyWritesNothing(t *testing.T) {
	t.Parallel()
	c, b := &cache{}, &book{symbols: index(0, 503)}
	r := universe.Resolver{Cache: c, Book: b, Source: source(t, index(1, 503)), ReadOnly: true}
	if got, want := found(t, r), "503 from file PATH, +1 -1, 0 warnings"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if c.text != nil || b.saved != 0 {
		t.Errorf("cached %.40s, saved %d times", c.text, b.saved)
	}
}

func TestResolveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	list, err := universe.Resolver{Cache: &cache{}, Book: &book{}}.Resolve(ctx)
	if !errors.Is(err, context.Canceled) || list.Symbols != nil {
		t.Errorf("%d symbols, %v", len(list.Symbols), err)
	}
}

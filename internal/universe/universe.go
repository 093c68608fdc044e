// Package universe answers which symbols the S&P 500 has now. Lists come from
// places that can fail, be half written or turn into something else, so each is
// held against the last one that was good, and a bad one is reported and passed
// over instead of taking symbols away.
package universe

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// Name is the list's name in a [Book].
	Name = "sp500"
	// CacheTTL is how long a list from the source stays in a [Cache].
	CacheTTL = time.Hour

	// builtInAsOf says of when the list of [market.SP500] is.
	builtInAsOf = "the end of 2025"
)

// Cache is where the list lies ready that this program and others share.
type Cache interface {
	// Key names the entry for a person.
	Key() string
	// Get returns the entry, nil if there is none.
	Get(ctx context.Context) ([]byte, error)
	// Add writes the entry for [CacheTTL], unless there is one.
	Add(ctx context.Context, text []byte) error
}

// Book keeps the last good list.
type Book interface {
	// Universe returns the list and when it last changed; nil and the zero
	// Time if there is none.
	Universe(ctx context.Context, name string) (symbols []market.Symbol, at time.Time, err error)
	// SaveUniverse makes symbols the list and returns how it differs from the
	// one before.
	SaveUniverse(ctx context.Context, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error)
}

// List is the S&P 500 as it was found.
type List struct {
	// Symbols are without repeats and never empty.
	Symbols []market.Symbol
	// From says for a person where they are from, without a secret.
	From string
	// Added and Removed are the difference to the last good list, or, where
	// there is none, to the built-in one.
	Added, Removed []market.Symbol
	// Refused says of each list that could not be used why.
	Refused []string
	// Warnings say what was passed over or not written, and why.
	Warnings []string
}

// BuiltIn returns the list of this program.
func BuiltIn() List {
	return List{Symbols: market.SP500(), From: "built-in list of " + builtInAsOf}
}

// Resolver finds the list. Cache, Book and, for a source that is an address,
// Client must be set.
type Resolver struct {
	Cache Cache
	Book  Book
	// Source is a location that [CheckSource] accepts; empty: there is none.
	Source string
	Client *http.Client
	// ReadOnly keeps Resolve from writing to Cache and Book.
	ReadOnly bool
}

// Resolve returns the first good list of these: the cache's, the source's, the
// last good one, the built-in one. A good list of the first two becomes the
// last good one, and that of the source is added to the cache. A failure of any
// of them is a warning; the only error is that ctx has ended.
func (r Resolver) Resolve(ctx context.Context) (List, error) {
	var warnings, refused []string
	before, err := r.lastGood(ctx)
	booked := err == nil
	if err != nil {
		before = BuiltIn()
		warnings = append(warnings, fmt.Sprintf("read the last good list of the S&P 500: %s", err))
	}
	list := before
	for _, read := range []func(context.Context, List) (List, error){r.fromCache, r.fromSource} {
		found, err := read(ctx, before)
		if err != nil {
			refused = append(refused, fmt.Sprintf("a list of the S&P 500 is not used: %s", err))
			warnings = append(warnings, refused[len(refused)-1])
		} else if found.Symbols != nil {
			list = found
			list.Added, list.Removed = without(found.Symbols, before.Symbols), without(before.Symbols, found.Symbols)
			warnings = append(warnings, r.keep(ctx, list, booked)...)
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return List{}, fmt.Errorf("find the symbols of the S&P 500: %w", err)
	}
	list.Warnings, list.Refused = warnings, refused
	return list, nil
}

// lastGood returns what a new list is held against.
func (r Resolver) lastGood(ctx context.Context) (List, error) {
	symbols, at, err := r.Book.Universe(ctx, Name)
	if err != nil {
		return List{}, err
	}
	if len(symbols) == 0 {
		return BuiltIn(), nil
	}
	return List{Symbols: symbols, From: "last good list of " + at.UTC().Format(time.DateOnly)}, nil
}

// fromCache returns the cache's list, no symbols if it has none.
func (r Resolver) fromCache(ctx context.Context, before List) (List, error) {
	text, err := r.Cache.Get(ctx)
	if err == nil && text == nil {
		return List{}, nil
	}
	var symbols []market.Symbol
	if err == nil {
		symbols, err = parse(text)
	}
	if err == nil {
		err = check(symbols, before)
	}
	if err != nil {
		return List{}, fmt.Errorf("%s: %w", r.Cache.Key(), err)
	}
	return List{Symbols: symbols, From: r.Cache.Key()}, nil
}

// fromSource returns the source's list, no symbols if there is no source.
func (r Resolver) fromSource(ctx context.Context, before List) (List, error) {
	if r.Source == "" {
		return List{}, nil
	}
	symbols, err := Fetch(ctx, r.Client, r.Source)
	if err != nil {
		return List{}, err
	}
	if err := check(symbols, before); err != nil {
		return List{}, fmt.Errorf("%s: %w", describe(r.Source), err)
	}
	return List{Symbols: symbols, From: describe(r.Source)}, nil
}

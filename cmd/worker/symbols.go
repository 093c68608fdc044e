package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/universe"
)

const sp500 = "sp500"

// givenSymbols returns the symbols of --symbols, else those of the
// configuration, which a long-running worker reads at its start and at each
// reload; nil stands for the S&P 500, whose list [app.sp500]
// finds.
func (a *app) givenSymbols(flag once) ([]market.Symbol, error) {
	from, text := "SA_DATA__UNIVERSE__SYMBOLS", a.cfg.Universe
	if a.fixed && !flag.set {
		return a.symbols, nil
	}
	if flag.set {
		from, text = "--symbols", flag.value
	}
	if text == sp500 {
		return nil, nil
	}
	symbols, err := parseUniverse(text)
	if slices.Contains(symbols, "SP500") {
		err = fmt.Errorf("SP500 is no symbol: for the index write %s", sp500)
	}
	if err != nil {
		return nil, usagef("%s: %w", from, err)
	}
	return symbols, nil
}

func parseUniverse(text string) ([]market.Symbol, error) {
	name, isFile := strings.CutPrefix(text, "@")
	if slices.Contains(strings.Split(text, ","), sp500) {
		return nil, fmt.Errorf("%q: %s stands alone, not in a list", text, sp500)
	}
	if !isFile {
		return market.ParseSymbols(text)
	}
	file, err := os.Open(name) //nolint:gosec // reading the file that the caller names is the purpose
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	symbols, err := market.ReadSymbols(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return symbols, nil
}

// universe returns the S&P 500 as package universe finds it. Only with write
// does a new list become the last good one; what shows or plans does without.
func (a *app) universe(ctx context.Context, s *services, write bool) universe.List {
	found, err := universe.Resolver{
		Cache: a.sp500Cache(s), Book: s.db,
		Source: a.cfg.UniverseSource.Reveal(), Client: newListClient(), ReadOnly: !write,
	}.Resolve(ctx)
	if err != nil {
		// Whoever asked is being stopped, and needs symbols only to say how
		// many are left.
		return universe.BuiltIn()
	}
	for _, warning := range found.Warnings {
		a.log.Warn(warning)
	}
	if write {
		a.alarmUniverse(ctx, s, found.Refused)
	}
	a.log.Debug("the S&P 500", zap.String("from", found.From), zap.Int("symbols", len(found.Symbols)))
	if write && len(found.Added)+len(found.Removed) > 0 {
		a.log.Info("the S&P 500 has changed", zap.String("from", found.From),
			zap.Int("added", len(found.Added)), zap.Strings("added_first", firstNames(found.Added)),
			zap.Int("removed", len(found.Removed)), zap.Strings("removed_first", firstNames(found.Removed)))
	}
	return found
}

// firstNames returns as many names as a line of the log can take.
func firstNames(symbols []market.Symbol) []string {
	const enough = 10
	names := make([]string, 0, enough)
	for _, symbol := range symbols[:min(enough, len(symbols))] {
		names = append(names, string(symbol))
	}
	return names
}

// newListClient keeps no connection: the next list is asked for a run later.
func newListClient() *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  15 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
		},
	}
}

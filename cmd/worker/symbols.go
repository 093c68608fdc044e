package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
)

const sp500 = "sp500"

// leastSP500 is the smallest list that is taken for the index: a shorter one
// is a broken answer of whoever wrote it.
const leastSP500 = 490

// givenSymbols returns the symbols of --symbols, else those of the
// configuration; nil stands for the S&P 500, whose list is in Redis.
func (a *app) givenSymbols(flag once) ([]market.Symbol, error) {
	from, text := "SA_DATA__UNIVERSE__SYMBOLS", a.cfg.Universe
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

// sp500 prefers the list that alpha-oracle keeps in Redis to the built-in one.
func (a *app) sp500(ctx context.Context, s *services) []market.Symbol {
	symbols, err := cachedSP500(ctx, s.rdb)
	if err == nil {
		return symbols
	}
	if !errors.Is(err, redis.Nil) {
		a.log.Warn("using the built-in list of the S&P 500", zap.String("key", rediskey.CacheSP500), zap.Error(err))
	}
	return market.SP500()
}

func cachedSP500(ctx context.Context, rdb *redis.Client) ([]market.Symbol, error) {
	text, err := rdb.Get(ctx, rediskey.CacheSP500).Bytes()
	if err != nil {
		return nil, err
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return nil, fmt.Errorf("no JSON array of symbols: %w", err)
	}
	symbols, err := market.ParseSymbols(strings.Join(names, ","))
	if err != nil {
		return nil, err
	}
	if len(symbols) < leastSP500 {
		return nil, fmt.Errorf("it holds %d symbols, the index has about 503", len(symbols))
	}
	return symbols, nil
}

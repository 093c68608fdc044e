package main

import (
	"context"
	"encoding/json"

	"github.com/alpha-oracle/worker/internal/cache"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/universe"
)

// warn tells the log of something that stops nobody.
func (a *app) warn(err error) { a.log.Warn(err.Error()) }

// sp500Cache is the list in Redis, which alpha-oracle writes too.
func (a *app) sp500Cache(s *services) sp500Cache {
	return sp500Cache{cache.New[json.RawMessage](s.rdb, "universe", universe.CacheTTL, a.warn)}
}

type sp500Cache struct {
	lists *cache.Cache[json.RawMessage]
}

// Key implements [universe.Cache].
func (c sp500Cache) Key() string { return rediskey.CacheSP500 }

// Get implements [universe.Cache].
func (c sp500Cache) Get(ctx context.Context) ([]byte, error) {
	text, _, err := c.lists.Get(ctx, sp500)
	return text, err
}

// Add implements [universe.Cache].
func (c sp500Cache) Add(ctx context.Context, text []byte) error { return c.lists.Add(ctx, sp500, text) }

// fundamentalsCache keeps the newest row of each symbol in Redis.
func (a *app) fundamentalsCache(s *services) fundamentalsCache {
	return fundamentalsCache{cache.New[market.Fundamentals](s.rdb, "fundamentals", rediskey.CacheMaxTTL, a.warn)}
}

type fundamentalsCache struct {
	rows *cache.Cache[market.Fundamentals]
}

// Put implements fundamentals.Cache.
func (c fundamentalsCache) Put(ctx context.Context, row market.Fundamentals) error {
	return c.rows.Set(ctx, string(row.Symbol), row)
}

// Package cache keeps copies of what takes long to get under
// cache:{domain}:{identifier} in Redis, as JSON, for this program and for
// alpha-oracle. A copy may be gone, old or broken at any time: none of that is
// more than a miss.
package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

// Cache keeps values of one domain. It is safe for concurrent use.
type Cache[T any] struct {
	rdb    redis.Cmdable
	domain string
	ttl    time.Duration
	report func(error)
	loads  flights[T]
}

// New returns the cache of a domain, whose entries live for ttl: 5 to 60
// minutes, anything else is an error of every write. report is told of entries
// that are not used and of those that Load could not read or write; every error
// names the key. It may be called by several goroutines.
func New[T any](rdb redis.Cmdable, domain string, ttl time.Duration, report func(error)) *Cache[T] {
	return &Cache[T]{rdb: rdb, domain: domain, ttl: ttl, report: report}
}

// Get returns the value of identifier; ok is false if there is none. A value
// that is not the JSON of a T, null, and a key that holds no string are none:
// they are reported and left as they are. The error is one of Redis.
func (c *Cache[T]) Get(ctx context.Context, identifier string) (value T, ok bool, err error) {
	key, err := rediskey.Cache(c.domain, identifier)
	if err != nil {
		return value, false, err
	}
	text, err := c.rdb.Get(ctx, key).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return value, false, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		c.report(fmt.Errorf("%s is not used: it holds no string", key))
		return value, false, nil
	case err != nil:
		return value, false, fmt.Errorf("read %s: %w", key, err)
	}
	if err := decode(text, &value); err != nil {
		c.report(fmt.Errorf("%s is not used: %w", key, err))
		var none T
		return none, false, nil
	}
	return value, true, nil
}

func decode[T any](text []byte, value *T) error {
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return errors.New("it is null")
	}
	return json.Unmarshal(text, value)
}

// Set writes the value of identifier over whatever is there.
func (c *Cache[T]) Set(ctx context.Context, identifier string, value T) error {
	return c.write(identifier, value, func(key string, text []byte) error {
		return c.rdb.Set(ctx, key, text, c.ttl).Err()
	})
}

// Add is Set where there is nothing yet; else it leaves what is there.
func (c *Cache[T]) Add(ctx context.Context, identifier string, value T) error {
	return c.write(identifier, value, func(key string, text []byte) error {
		return c.rdb.SetNX(ctx, key, text, c.ttl).Err()
	})
}

func (c *Cache[T]) write(identifier string, value T, put func(key string, text []byte) error) error {
	key, err := rediskey.Cache(c.domain, identifier)
	if err != nil {
		return err
	}
	if c.ttl < rediskey.CacheMinTTL || c.ttl > rediskey.CacheMaxTTL {
		return fmt.Errorf("write %s: an entry cannot live for %s: want %s to %s", key, c.ttl, rediskey.CacheMinTTL, rediskey.CacheMaxTTL)
	}
	text, err := json.Marshal(value)
	if err == nil {
		err = put(key, text)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// Load returns the value of identifier, and of a miss what fetch returns, which
// it keeps. Callers that miss at the same time in this process share one call of
// fetch; its context ends when all of them have gone. Without Redis every miss
// is fetched, and that is reported. The error is that of fetch, or of ctx.
func (c *Cache[T]) Load(ctx context.Context, identifier string, fetch func(context.Context) (T, error)) (T, error) {
	value, ok, err := c.Get(ctx, identifier)
	if ok {
		return value, nil
	}
	if err != nil {
		c.report(err)
	}
	return c.loads.do(ctx, identifier, func(ctx context.Context) (T, error) {
		value, err := fetch(ctx)
		if err != nil {
			return value, err
		}
		if err := c.Set(ctx, identifier, value); err != nil {
			c.report(err)
		}
		return value, nil
	})
}

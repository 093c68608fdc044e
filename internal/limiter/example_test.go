package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

func Example() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	options, err := limiter.ClientOptions("redis://" + server.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	rdb := redis.NewClient(options)
	defer func() { _ = rdb.Close() }()

	// 100 calls a minute, 10 of them at once, and three a day, of which one
	// is not for backfill. The call ledger says that none was made today.
	limits, err := limiter.New(rdb,
		limiter.Options{Used: func(context.Context, time.Time) (int, error) { return 0, nil }},
		limiter.Window{Name: "vendor", Limit: 100, Length: time.Minute, Burst: 10},
		limiter.Window{Name: "vendor.day", Limit: 3, Reserve: 1, Daily: dayFromNow()},
	)
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	for {
		err := limits.WaitFor(ctx, limiter.Request{Class: limiter.Backfill})
		if quota, ok := errors.AsType[*limiter.QuotaError](err); ok {
			fmt.Println("spent:", quota.Name, "but for", quota.Reserve)
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("call the provider")
	}

	// The provider answered 429 with Retry-After: 1.
	if err := limits.Pause(ctx, time.Second); err != nil {
		fmt.Println(err)
	}
	began := time.Now()
	if err := limits.Wait(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("call the provider after a second:", time.Since(began) >= time.Second)

	// Output:
	// call the provider
	// call the provider
	// spent: vendor.day but for 1
	// call the provider after a second: true
}

// dayFromNow is a zone in which it is about noon.
func dayFromNow() *time.Location {
	return time.FixedZone("", (12-time.Now().UTC().Hour())*3600)
}

package idempotency

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
)

// ErrRedis is wrapped by errors of Redis. The ledger is not concerned: a run
// may go on after such an error, and the next one puts the set right.
var ErrRedis = errors.New("redis is behind the ledger")

//go:embed sync.lua
var syncSource string

// Ledger tells which units are done for good.
type Ledger interface {
	// DoneUnits returns the units of (job, period) whose rows are stored.
	DoneUnits(ctx context.Context, job, period string) ([]market.Symbol, error)
}

// Sets makes the done-sets of the jobs. It is safe for concurrent use.
type Sets struct {
	rdb    redis.UniversalClient
	ledger Ledger
}

// New returns the done-sets in rdb that repeat what ledger says.
func New(rdb redis.UniversalClient, ledger Ledger) *Sets {
	return &Sets{rdb: rdb, ledger: ledger}
}

// DailyBars is the done-set of the daily bars of one New York trading date:
// period session.String() of the job daily_bars in the ledger.
func (s *Sets) DailyBars(session market.Date) *Set {
	return &Set{
		sets: s, job: string(rediskey.DailyBars), period: session.String(),
		key: rediskey.DailyBarsDone(session), ttl: rediskey.DailyBarsTTL,
	}
}

// Fundamentals is the done-set of the fundamentals of one ISO week: period
// week.String() of the job weekly_fundamentals in the ledger.
func (s *Sets) Fundamentals(week market.Week) *Set {
	return &Set{
		sets: s, job: string(rediskey.Fundamentals), period: week.String(),
		key: rediskey.FundamentalsDone(week), ttl: rediskey.FundamentalsTTL,
	}
}

// Backfill is the set of the symbols whose history is stored: period history of
// the job backfill in the ledger. It does not expire.
func (s *Sets) Backfill() *Set {
	return &Set{sets: s, job: string(rediskey.Backfill), period: "history", key: rediskey.BackfillCompleted}
}

// Set is the done-set of one job and period. It is safe for concurrent use.
type Set struct {
	sets        *Sets
	job, period string
	key         string
	ttl         time.Duration // 0: it does not expire
}

// Done returns those of units that the ledger has as done; the others are not
// in the map. On the way it puts the set right: what the ledger knows and the
// set lacks is added, units that the set has and the ledger does not know are
// removed. It asks Redis at most twice, whatever the number of units.
//
// An error that wraps [ErrRedis] comes with the full answer; after any other
// error the map is nil.
func (s *Set) Done(ctx context.Context, units []market.Symbol) (map[market.Symbol]bool, error) {
	stored, err := s.stored(ctx)
	if err != nil {
		return nil, err
	}
	done := make(map[market.Symbol]bool)
	for _, u := range units {
		if stored[u] {
			done[u] = true
		}
	}
	return done, s.repair(ctx, stored, units)
}

// Add puts units into the set. They must be committed in the ledger.
func (s *Set) Add(ctx context.Context, units ...market.Symbol) error {
	if len(units) == 0 {
		return nil
	}
	_, err := s.write(ctx, false, units, nil)
	return err
}

// Rebuild makes the set anew from the ledger and returns its size. Nothing of
// what it held remains.
func (s *Set) Rebuild(ctx context.Context) (int, error) {
	stored, err := s.stored(ctx)
	if err != nil {
		return 0, err
	}
	units := make([]market.Symbol, 0, len(stored))
	for u := range stored {
		units = append(units, u)
	}
	return s.write(ctx, true, units, nil)
}

// stored returns the units that are done by the ledger.
func (s *Set) stored(ctx context.Context) (map[market.Symbol]bool, error) {
	units, err := s.sets.ledger.DoneUnits(ctx, s.job, s.period)
	if err != nil {
		return nil, fmt.Errorf("done units of %s %s: %w", s.job, s.period, err)
	}
	stored := make(map[market.Symbol]bool, len(units))
	for _, u := range units {
		stored[u] = true
	}
	return stored, nil
}

// repair compares the set with the ledger, and writes only if they differ.
func (s *Set) repair(ctx context.Context, stored map[market.Symbol]bool, units []market.Symbol) error {
	all := union(stored, units)
	if len(all) == 0 {
		return nil
	}
	members, readable, err := s.members(ctx, all)
	if err != nil {
		return err
	}
	var missing, extra []market.Symbol
	for i, u := range all {
		switch {
		case stored[u] && !members[i]:
			missing = append(missing, u)
		case members[i] && !stored[u]:
			extra = append(extra, u)
		}
	}
	if extra, err = s.unknown(ctx, extra); err != nil {
		return err
	}
	if readable && len(missing)+len(extra) == 0 {
		return nil
	}
	_, err = s.write(ctx, false, missing, extra)
	return err
}

// unknown returns those of units that the ledger still does not know. Between
// the first look at the ledger and the look at the set, another process may
// have committed a unit and added it.
func (s *Set) unknown(ctx context.Context, units []market.Symbol) ([]market.Symbol, error) {
	if len(units) == 0 {
		return nil, nil
	}
	stored, err := s.stored(ctx)
	if err != nil {
		// The answer stands; only the set stays as it is.
		return nil, fmt.Errorf("%w: %w", ErrRedis, err)
	}
	var unknown []market.Symbol
	for _, u := range units {
		if !stored[u] {
			unknown = append(unknown, u)
		}
	}
	return unknown, nil
}

// members tells which units are in the set and lets its lifetime begin again,
// in one round trip. readable is false if the key holds something else.
func (s *Set) members(ctx context.Context, units []market.Symbol) (members []bool, readable bool, err error) {
	var asked *redis.BoolSliceCmd
	_, err = s.sets.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		// In this order the set cannot expire between the two.
		if s.ttl == 0 {
			p.Persist(ctx, s.key)
		} else {
			p.Expire(ctx, s.key, s.ttl)
		}
		asked = p.SMIsMember(ctx, s.key, arguments(units)...)
		return nil
	})
	if redis.HasErrorPrefix(asked.Err(), "WRONGTYPE") {
		return make([]bool, len(units)), false, nil
	}
	if err == nil && len(asked.Val()) != len(units) {
		err = fmt.Errorf("asked for %d members, told of %d", len(units), len(asked.Val()))
	}
	if err != nil {
		return nil, false, s.failed(err)
	}
	return asked.Val(), true, nil
}

func (s *Set) write(ctx context.Context, anew bool, add, remove []market.Symbol) (int, error) {
	only := 0
	if anew {
		only = 1
	}
	args := append([]any{int(s.ttl.Seconds()), only, len(add)}, arguments(add)...)
	args = append(args, arguments(remove)...)
	// The whole text each time: its hash would cost a second round trip
	// whenever Redis has forgotten it.
	size, err := s.sets.rdb.Eval(ctx, syncSource, []string{s.key}, args...).Int()
	if err != nil {
		return 0, s.failed(err)
	}
	return size, nil
}

func (s *Set) failed(err error) error {
	return fmt.Errorf("%s: %w: %w", s.key, ErrRedis, err)
}

// union returns the units of both, each once.
func union(stored map[market.Symbol]bool, units []market.Symbol) []market.Symbol {
	all := make([]market.Symbol, 0, len(stored)+len(units))
	for u := range stored {
		all = append(all, u)
	}
	seen := make(map[market.Symbol]bool, len(units))
	for _, u := range units {
		if !stored[u] && !seen[u] {
			seen[u] = true
			all = append(all, u)
		}
	}
	return all
}

func arguments(units []market.Symbol) []any {
	args := make([]any, len(units))
	for i, u := range units {
		args[i] = string(u)
	}
	return args
}

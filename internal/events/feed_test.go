package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/testenv"
)

const statusKey = "system:status"

func feed(t *testing.T, url string) *events.Feed {
	t.Helper()
	return events.NewFeed(client(t, url), moment)
}

// No byte of a status changes but those of the worker's own member.
func TestMembersKeepTheirBytes(t *testing.T) {
	t.Parallel()
	for old, want := range map[string]string{
		`{}`:                        `{"feed":"connected"}`,
		" { } ":                     ` {"feed":"connected" } `,
		`{"broker":"connected"}`:    `{"broker":"connected","feed":"connected"}`,
		`{"feed":"disconnected"}`:   `{"feed":"connected"}`,
		`{"feed": null, "b": 1 }`:   `{"feed": "connected", "b": 1 }`,
		`{"b":[1,{"feed":"x"}]}`:    `{"b":[1,{"feed":"x"}],"feed":"connected"}`,
		`{"feed":{"a":1},"feed":2}`: `{"feed":"connected","feed":"connected"}`,
		"{\"z\": 1.50,\n \"feed\" :\t\"disconnected\" ,\"a\":1e400, \"é\":\"\\u00e9\\/\",\"n\":12345678901234567890}": "{\"z\": 1.50,\n \"feed\" :\t\"connected\" ,\"a\":1e400, \"é\":\"\\u00e9\\/\",\"n\":12345678901234567890}",
		`{"\u0066eed":"x"}`: `{"\u0066eed":"connected"}`,
	} {
		got, _, err := events.WithMember([]byte(old), "feed", "connected")
		if err != nil || string(got) != want {
			t.Errorf("%s became %s, %v; want %s", old, got, err, want)
		}
	}
	for _, old := range []string{"", "null", "[]", `"x"`, "{", `{"a":NaN}`, `{"a":1} {}`, "connected"} {
		if got, _, err := events.WithMember([]byte(old), "feed", "connected"); !errors.Is(err, events.ErrStatus) {
			t.Errorf("%q became %s, %v", old, got, err)
		}
	}
}

// The whole life of a feed: one message for each change, none for what is so
// already, and none where nothing was known.
func TestFeed(t *testing.T) {
	t.Parallel()
	url := testenv.RedisServer(t).URL()
	rdb, h, f := client(t, url), listen(t, url), feed(t, url)
	if err := rdb.Set(t.Context(), statusKey, `{"broker": "connected"}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		do      func() (bool, error)
		status  string
		message string
	}{
		{func() (bool, error) { return f.Back(t.Context(), 3) }, `{"broker": "connected","feed":"connected"}`, ""},
		{func() (bool, error) { return f.Lost(t.Context(), "gone") }, `{"broker": "connected","feed":"disconnected"}`, `{"timestamp":"2026-03-12T10:00:00Z","reason":"gone"}`},
		{func() (bool, error) { return f.Lost(t.Context(), "gone") }, `{"broker": "connected","feed":"disconnected"}`, ""},
		{func() (bool, error) { return feed(t, url).Lost(t.Context(), "a restart") }, `{"broker": "connected","feed":"disconnected"}`, ""},
		{func() (bool, error) { return feed(t, url).Back(t.Context(), 3) }, `{"broker": "connected","feed":"connected"}`, `{"timestamp":"2026-03-12T10:00:00Z","symbol_count":3}`},
		{func() (bool, error) { return f.Back(t.Context(), 3) }, `{"broker": "connected","feed":"connected"}`, ""},
	} {
		changed, err := step.do()
		if status := rdb.Get(t.Context(), statusKey).Val(); err != nil || changed != (step.message != "") || status != step.status {
			t.Errorf("step %d: %v, %v, %s", i, changed, err, status)
		}
		if step.message == "" {
			quietly(t, h.messages)
		} else if m := await(t, h.messages); m.Payload != step.message {
			t.Errorf("step %d: %+v", i, m)
		}
	}
}

// Where there is no status yet a loss is told, and the status has no lifetime
// that it did not have before.
func TestFeedWithoutStatus(t *testing.T) {
	t.Parallel()
	url := testenv.RedisServer(t).URL()
	rdb := client(t, url)
	if changed, err := feed(t, url).Lost(t.Context(), "gone"); err != nil || !changed {
		t.Errorf("%v, %v", changed, err)
	}
	if got, ttl := rdb.Get(t.Context(), statusKey).Val(), rdb.TTL(t.Context(), statusKey).Val(); got != `{"feed":"disconnected"}` || ttl != -1 {
		t.Errorf("%s for %s", got, ttl)
	}
	if err := rdb.Expire(t.Context(), statusKey, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if changed, err := feed(t, url).Back(t.Context(), 1); err != nil || !changed {
		t.Errorf("%v, %v", changed, err)
	}
	if ttl := rdb.TTL(t.Context(), statusKey).Val(); ttl <= 0 {
		t.Errorf("the lifetime became %s", ttl)
	}
}

// A status that is none is left alone and reported; who listens is told.
func TestFeedLeavesForeignValues(t *testing.T) {
	t.Parallel()
	url := testenv.RedisServer(t).URL()
	rdb, h := client(t, url), listen(t, url)
	for name, put := range map[string]func() error{
		"text": func() error { return rdb.Set(t.Context(), statusKey, "connected", 0).Err() },
		"hash": func() error { return rdb.HSet(t.Context(), statusKey, "feed", "connected").Err() },
	} {
		if err := errors.Join(rdb.Del(t.Context(), statusKey).Err(), put()); err != nil {
			t.Fatal(err)
		}
		before, f := rdb.Dump(t.Context(), statusKey).Val(), feed(t, url)
		for i, want := range []bool{false, true, false, true} {
			do := func() (bool, error) { return f.Lost(t.Context(), "gone") }
			if i == 0 || i == 3 {
				do = func() (bool, error) { return f.Back(t.Context(), 1) }
			}
			if changed, err := do(); changed != want || !errors.Is(err, events.ErrStatus) || !strings.Contains(err.Error(), statusKey) {
				t.Errorf("%s, step %d: %v, %v", name, i, changed, err)
			}
			if want {
				await(t, h.messages)
			}
		}
		if after := rdb.Dump(t.Context(), statusKey).Val(); after != before {
			t.Errorf("%s has changed", name)
		}
	}
	quietly(t, h.messages)
}

// Many replicas that see the same send one message, and no member of another
// writer is lost between them.
func TestFeedOfManyReplicas(t *testing.T) {
	t.Parallel()
	url := testenv.RedisServer(t).URL()
	rdb, h := client(t, url), listen(t, url)
	const replicas, writes = 8, 50
	for round := range 4 {
		var all sync.WaitGroup
		for range replicas {
			f := feed(t, url)
			all.Go(func() {
				do := func() (bool, error) { return f.Lost(t.Context(), "gone") }
				if round%2 == 1 {
					do = func() (bool, error) { return f.Back(t.Context(), 1) }
				}
				if _, err := do(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		await(t, h.messages)
		quietly(t, h.messages)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for i := range writes {
			if err := addMember(t.Context(), rdb, fmt.Sprintf("m%d", i)); err != nil {
				t.Error(err)
			}
		}
	})
	f := feed(t, url)
	for range writes {
		_, err1 := f.Lost(t.Context(), "gone")
		_, err2 := f.Back(t.Context(), 1)
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	status := rdb.Get(t.Context(), statusKey).Val()
	for i := range writes {
		if !strings.Contains(status, fmt.Sprintf(`"m%d":1`, i)) {
			t.Errorf("m%d is lost: %s", i, status)
		}
	}
}

// addMember writes to the status as a careful other program does.
func addMember(ctx context.Context, rdb *redis.Client, name string) error {
	for {
		err := rdb.Watch(ctx, func(tx *redis.Tx) error {
			old, err := tx.Get(ctx, statusKey).Result()
			if err != nil {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, statusKey, strings.TrimSuffix(old, "}")+`,"`+name+`":1}`, 0)
				return nil
			})
			return err
		}, statusKey)
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
	}
}

func TestFeedWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	f := feed(t, server.URL())
	server.Stop()
	if changed, err := f.Lost(t.Context(), "gone"); changed || err == nil || !strings.Contains(err.Error(), statusKey) {
		t.Errorf("%v, %v", changed, err)
	}
	if _, err := f.Lost(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("without a reason: %v", err)
	}
	server.Start()
	if changed, err := f.Lost(t.Context(), "gone"); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
}

// journal is one that all replicas share.
type journal struct {
	mu      sync.Mutex
	since   string
	periods map[string]bool
	err     error
}

func (j *journal) Open(context.Context) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.since, j.err
}

func (j *journal) NoteOpen(_ context.Context, period, _ string) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.periods[period] || j.since != "" {
		return false, nil
	}
	j.since, j.periods[period] = period, true
	return true, nil
}

func (j *journal) NoteClosed(_ context.Context, since, _ string) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.since != since {
		return false, nil
	}
	j.since = ""
	return true, nil
}

// One message for each edge, of however many replicas and through restarts, and
// none is lost while Redis is away.
func TestBreaker(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	h, j := listen(t, server.URL()), &journal{periods: map[string]bool{}}
	replica := func() *events.Breaker {
		return events.NewBreaker(events.StaleData, events.NewPublisher(client(t, server.URL())), j, moment)
	}
	all := func(open bool, period string) {
		t.Helper()
		var running sync.WaitGroup
		for range 5 {
			b := replica()
			running.Go(func() {
				if err := b.Set(t.Context(), open, period, "bars of "+period); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	expect := func(action, period string) {
		t.Helper()
		want := `{"breaker":"stale_data","action":"` + action + `","reason":"bars of ` + period + `","timestamp":"2026-03-12T10:00:00Z"}`
		if m := await(t, h.messages); m.Channel != "risk:circuit_breaker" || m.Payload != want {
			t.Errorf("%+v, want %s", m, want)
		}
		quietly(t, h.messages)
	}
	all(false, "1")
	quietly(t, h.messages)
	all(true, "1")
	expect("activated", "1")
	all(true, "2")
	quietly(t, h.messages)
	all(false, "2")
	expect("deactivated", "2")
	all(true, "1")
	quietly(t, h.messages)

	b := replica()
	server.Stop()
	if err := b.Set(t.Context(), true, "3", "bars of 3"); err == nil {
		t.Error("no error without Redis")
	}
	if since, _ := j.Open(t.Context()); since != "" {
		t.Error("it is noted what nobody was told")
	}
	server.Start()
	await(t, h.gaps)
	if err := b.Set(t.Context(), true, "3", "bars of 3"); err != nil {
		t.Error(err)
	}
	expect("activated", "3")
}

// refusing is a Redis that answers, and refuses the next messages.
type refusing struct {
	redis.Cmdable
	left int
}

func (r *refusing) Publish(ctx context.Context, channel string, message any) *redis.IntCmd {
	if r.left > 0 {
		r.left--
		cmd := redis.NewIntCmd(ctx)
		cmd.SetErr(errors.New("gone"))
		return cmd
	}
	return r.Cmdable.Publish(ctx, channel, message)
}

// What is noted and could not be told is told later, in its order.
func TestBreakerTellsLater(t *testing.T) {
	t.Parallel()
	url := testenv.RedisServer(t).URL()
	h, j := listen(t, url), &journal{periods: map[string]bool{}}
	b := events.NewBreaker(events.StaleData, events.NewPublisher(&refusing{client(t, url), 2}), j, moment)
	for range 2 {
		if err := b.Set(t.Context(), true, "1", "late"); err == nil {
			t.Error("no error of a message that was not sent")
		}
	}
	if err := b.Set(t.Context(), false, "1", "in"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"activated", "deactivated"} {
		if m := await(t, h.messages); !strings.Contains(m.Payload, want) {
			t.Errorf("%+v, want %s", m, want)
		}
	}
	quietly(t, h.messages)
	j.err = errors.New("no database")
	if err := b.Set(t.Context(), true, "2", "late"); err == nil || !strings.Contains(err.Error(), "stale_data: no database") {
		t.Errorf("%v", err)
	}
}

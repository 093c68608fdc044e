package main

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
)

// python is alpha-oracle beside the worker. It writes texts byte for byte as
// Python's json, str and datetime make them, and reads by their rules.
type python struct {
	*world
	rdb *redis.Client
	mu  sync.Mutex
	// used are the keys that it has asked Redis for, and the channels with
	// "channel " before them.
	used map[string]bool
}

// python returns alpha-oracle on the program's servers.
func (w *world) python() *python {
	w.t.Helper()
	p := &python{world: w, rdb: w.redis(), used: map[string]bool{}}
	p.rdb.AddHook(p)
	return p
}

// DialHook implements [redis.Hook].
func (p *python) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

// ProcessHook implements [redis.Hook].
func (p *python) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		p.note(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (p *python) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, all []redis.Cmder) error {
		for _, cmd := range all {
			p.note(cmd)
		}
		return next(ctx, all)
	}
}

func (p *python) note(cmd redis.Cmder) {
	if len(cmd.Args()) < 2 {
		return
	}
	name, _ := cmd.Args()[1].(string)
	if cmd.Name() == "publish" {
		name = "channel " + name
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[name] = true
}

// set is r.set(key, text).
func (p *python) set(key, text string) {
	p.t.Helper()
	if err := p.rdb.Set(p.t.Context(), key, text, 0).Err(); err != nil {
		p.t.Fatal(err)
	}
}

// get is r.get(key), and checks that it is a string that does not expire.
func (p *python) get(key string) string {
	p.t.Helper()
	text, err := p.rdb.Get(p.t.Context(), key).Result()
	if err != nil {
		p.t.Fatalf("%s: %v", key, err)
	}
	if ttl := p.rdb.TTL(p.t.Context(), key).Val(); ttl != -1 {
		p.t.Errorf("%s expires in %s", key, ttl)
	}
	return text
}

// until is r.get(key), as soon as it is what is waited for.
func (p *python) until(key string, holds func(text string) bool) (text string) {
	p.t.Helper()
	p.await(func() bool {
		text = p.rdb.Get(p.t.Context(), key).Val()
		return holds(text)
	}, key)
	return text
}

// await returns when something holds.
func (p *python) await(holds func() bool, what string) {
	p.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for patience := time.After(30 * time.Second); !holds(); {
		select {
		case <-ticker.C:
		case <-patience:
			p.t.Fatalf("in vain: %s", what)
		}
	}
}

// smembers is sorted(r.smembers(key)), and checks the lifetime of the set; 0 is
// none.
func (p *python) smembers(key string, ttl time.Duration) []string {
	p.t.Helper()
	members := p.rdb.SMembers(p.t.Context(), key).Val()
	slices.Sort(members)
	if left := p.rdb.TTL(p.t.Context(), key).Val(); ttl == 0 && left != -1 || ttl > 0 && (left > ttl || left < ttl-10*time.Minute) {
		p.t.Errorf("%s expires in %s", key, left)
	}
	return members
}

// float is float(r.get(key)).
func (p *python) float(key string) float64 {
	p.t.Helper()
	text := p.get(key)
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`).MatchString(text) {
		p.t.Fatalf("%s: %q is no Python float", key, text)
	}
	return x
}

// now is time.time().
func (p *python) now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// publish is r.publish(channel, text).
func (p *python) publish(channel, text string) {
	p.t.Helper()
	if err := p.rdb.Publish(p.t.Context(), channel, text).Err(); err != nil {
		p.t.Fatal(err)
	}
}

// subscribe listens to a channel and returns what waits for its next message,
// json.loads(message["data"]), whose member name holds some text: others speak
// on the channels of a server that tests share.
func (p *python) subscribe(channel string) (next func(name, text string) map[string]any) {
	p.t.Helper()
	sub := p.rdb.Subscribe(p.t.Context(), channel)
	p.t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.used["channel "+channel] = true
	p.mu.Unlock()
	heard := sub.Channel()
	return func(name, text string) map[string]any {
		p.t.Helper()
		for patience := time.After(30 * time.Second); ; {
			select {
			case m := <-heard:
				message := p.loads(m.Payload)
				if said, _ := message[name].(string); strings.Contains(said, text) {
					return message
				}
			case <-patience:
				p.t.Fatalf("nothing came on %s with %q in %s", channel, text, name)
			}
		}
	}
}

// loads is json.loads of a dict.
func (p *python) loads(text string) map[string]any {
	p.t.Helper()
	var dict map[string]any
	if err := json.Unmarshal([]byte(text), &dict); err != nil || dict == nil {
		p.t.Fatalf("%s is no JSON object: %v", text, err)
	}
	return dict
}

// wantKeys checks that a dict has these keys and no other.
func (p *python) wantKeys(dict map[string]any, keys ...string) {
	p.t.Helper()
	slices.Sort(keys)
	if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(dict))); diff != "" {
		p.t.Errorf("keys (-want +got): %s", diff)
	}
}

// aware is datetime.fromisoformat of Python 3.11 for a text with a zone.
func (p *python) aware(value any) time.Time {
	p.t.Helper()
	text, _ := value.(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`).MatchString(text) {
		p.t.Fatalf("%v is no time with a zone as datetime.fromisoformat reads it", value)
	}
	return at
}

// isoformat is datetime.isoformat() of a time with a zone.
func isoformat(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}

// toordinal is date.toordinal(), by no code of the worker.
func toordinal(d market.Date) int {
	const epoch = 719163 // date(1970, 1, 1).toordinal()
	at, err := time.Parse(time.DateOnly, d.String())
	if err != nil {
		return 0
	}
	return epoch + int(at.Unix()/(24*60*60))
}

// str is str() of a float.
func str(x float64) string {
	if x != 0 && (math.Abs(x) < 1e-4 || math.Abs(x) >= 1e16) {
		return strconv.FormatFloat(x, 'e', -1, 64)
	}
	text := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// dict is a dict with its keys and values in order.
type dict []any

// jsonDumps is json.jsonDumps(value) with its standard separators.
func jsonDumps(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case float64:
		return str(v)
	case string:
		return strconv.QuoteToASCII(v)
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = jsonDumps(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case dict:
		var items []string
		for pair := range slices.Chunk(v, 2) {
			items = append(items, jsonDumps(pair[0])+": "+jsonDumps(pair[1]))
		}
		return "{" + strings.Join(items, ", ") + "}"
	}
	panic("no type of Python")
}

// What Python 3.11 prints for the same values.
func TestPythonsFormats(t *testing.T) {
	t.Parallel()
	got := jsonDumps(dict{
		"active", true, "reason", "prices off: café \"x\" \\ /", "n", nil, "limits",
		[]any{1, 2.0, 0.1},
		"vals",
		[]any{1e-05, 0.0001, 1e16, 1e15, 123456789.125, 1795380318.640072, 0.30000000000000004, -1.5, 1e22},
		"e",
		[]any{},
		"o",
		dict{},
	})
	const want = `{"active": true, "reason": "prices off: caf\u00e9 \"x\" \\ /", "n": null, "limits": [1, 2.0, 0.1], ` +
		`"vals": [1e-05, 0.0001, 1e+16, 1000000000000000.0, 123456789.125, 1795380318.640072, 0.30000000000000004, -1.5, 1e+22], "e": [], "o": {}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for day, want := range map[market.Date]int{market.NewDate(1970, 1, 1): 719163, sessionDate(): 739687} {
		if got := toordinal(day); got != want {
			t.Errorf("%s: %d, want %d", day, got, want)
		}
	}
	at := time.Date(2026, 3, 12, 10, 0, 0, 123456789, time.UTC)
	if got := isoformat(at) + " " + isoformat(at.Truncate(time.Second)); got != "2026-03-12T10:00:00.123456+00:00 2026-03-12T10:00:00+00:00" {
		t.Error(got)
	}
}

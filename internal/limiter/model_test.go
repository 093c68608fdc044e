package limiter_test

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/limiter"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// longestPromise is what the scripts allow beyond the time that the slowest
// window needs for 64 calls.
const longestPromise = 900

// pythonFloat is what Python's float() reads, without its words and blanks.
var pythonFloat = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

// garbage is what the keys may hold without it being a level.
var garbage = []string{
	"nan", "NaN", "-nan", "inf", "-inf", "infinity", "1e400", "-1e400", "", " ", "abc",
	"0x10", "1_000", "1,5", " 5", "5 ", "5\n", "--5", "1e", ".", "[5]", "5\x00", "None",
}

// model is what the scripts promise, in plain Go.
type model struct {
	windows []modelWindow
	now     float64
}

type modelWindow struct {
	name           string
	limit          int
	capacity, rate float64 // rate 0: a day
	zone           *time.Location

	tokens, last float64
	known        bool
}

func (m *model) horizon() float64 {
	slowest := 0.0
	for _, w := range m.windows {
		if w.rate > 0 {
			slowest = math.Max(slowest, 64/w.rate)
		}
	}
	return longestPromise + slowest
}

// level returns a window's tokens and last now; known is false for a day that
// nobody knows.
func (m *model) level(w modelWindow) (tokens, last float64, known bool) {
	usable := w.known && w.last >= 1e9
	if w.rate == 0 {
		return m.dayLevel(w, usable)
	}
	if !usable {
		return 0, m.now, true
	}
	tokens = math.Max(-w.rate*m.horizon(), math.Min(w.capacity, w.tokens))
	switch {
	case w.last > m.now+1:
		return tokens, m.now, true
	case w.last > m.now:
		return tokens, w.last, true
	}
	return math.Min(w.capacity, tokens+(m.now-w.last)*w.rate), m.now, true
}

func (m *model) dayLevel(w modelWindow, usable bool) (tokens, last float64, known bool) {
	since, _ := m.day(w)
	switch {
	case !usable:
		return 0, m.now, false
	case w.last < since:
		return w.capacity, m.now, true
	case w.last > m.now+1:
		return math.Min(w.capacity, w.tokens), m.now, true
	}
	return math.Min(w.capacity, w.tokens), math.Max(m.now, w.last), true
}

// day returns the start of the local day and of the next, by walking the hours.
func (m *model) day(w modelWindow) (since, until float64) {
	now := int64(m.now)
	date := func(s int64) int { return time.Unix(s, 0).In(w.zone).YearDay() }
	a, b := now-now%900, now-now%900+900
	for date(a-900) == date(now) {
		a -= 900
	}
	for date(b) == date(now) {
		b += 900
	}
	return float64(a), float64(b)
}

// take is take.lua. left is the ledger's answer for the time since a reset, -1
// for none.
func (m *model) take(longest int64, left int, since int64) (status, value int64) {
	tokens, last := make([]float64, len(m.windows)), make([]float64, len(m.windows))
	for i := range m.windows {
		w := &m.windows[i]
		if m.initialises(*w, left, since) {
			w.tokens, w.last, w.known = float64(left), m.now, true
		}
		tokens[i], last[i], _ = m.level(*w)
	}
	delay, closes := math.Inf(-1), math.Inf(1)
	for i, w := range m.windows {
		if w.rate > 0 {
			delay = math.Max(delay, (1-tokens[i])/w.rate)
			continue
		}
		since, until := m.day(w)
		if _, _, known := m.level(w); !known {
			return limiter.Unknown, int64(since)
		}
		if tokens[i] < 1 {
			return limiter.Spent, int64(until)
		}
		closes = math.Min(closes, until)
	}
	ahead := math.Max(0, delay)
	switch {
	case m.now+ahead >= closes:
		return limiter.NextDay, int64(math.Ceil((closes - m.now) * 1e6))
	case longest >= 0 && math.Ceil(ahead*1e6) > float64(longest):
		return limiter.TooLate, int64(math.Ceil(ahead * 1e6))
	case ahead > m.horizon():
		return -1, 0
	}
	for i := range m.windows {
		w := &m.windows[i]
		if w.rate > 0 {
			tokens[i] = math.Min(tokens[i], w.capacity-w.rate*ahead)
		}
		w.tokens, w.last, w.known = tokens[i]-1, last[i], true
	}
	return limiter.Taken, int64(math.Ceil(delay * 1e6))
}

// initialises tells whether the ledger's answer sets the level of a window.
func (m *model) initialises(w modelWindow, left int, since int64) bool {
	if _, _, known := m.level(w); known || left < 0 {
		return false
	}
	start, _ := m.day(w)
	return int64(start) == since
}

func (m *model) pause(seconds float64) {
	w := &m.windows[0]
	tokens, last, _ := m.level(*w)
	w.tokens, w.last, w.known = math.Min(tokens, -w.rate*seconds), last, true
}

func (m *model) exhaust() {
	for i := range m.windows {
		if w := &m.windows[i]; w.rate == 0 {
			w.tokens, w.last, w.known = 0, m.now, true
		}
	}
}

// Whatever the keys hold and whatever the clock does, the scripts do what the
// model says, on the real Redis and on the embedded one.
func TestScriptsFollowTheModel(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"redis":    testenv.Redis(t),
		"embedded": "redis://" + miniredis.RunT(t).Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := client(t, url)
			rapid.Check(t, func(r *rapid.T) {
				if err := rdb.FlushDB(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				newMachine(t, r, rdb).run()
			})
		})
	}
}

// machine drives a limiter and its model by the same steps.
type machine struct {
	t      *testing.T
	r      *rapid.T
	ctx    context.Context
	rdb    *redis.Client
	l      *limiter.Limiter
	model  model
	micros int64 // the scripts' clock
	skew   time.Duration

	configured []limiter.Window
}

func newMachine(t *testing.T, r *rapid.T, rdb *redis.Client) *machine {
	m := &machine{t: t, r: r, ctx: t.Context(), rdb: rdb}
	start := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 48*3600).Draw(r, "start")) * time.Second)
	m.setClock(start.UnixMicro())
	m.skew = time.Duration(rapid.IntRange(-6, 6).Draw(r, "skew")) * time.Hour
	windows := []limiter.Window{drawSliding(r, "a")}
	if rapid.Bool().Draw(r, "second window") {
		windows = append(windows, drawSliding(r, "a.b"))
	}
	if rapid.Bool().Draw(r, "day window") {
		zone := rapid.SampledFrom([]string{"America/New_York", "America/Santiago", "Asia/Kolkata"}).Draw(r, "zone")
		windows = append(windows, limiter.Window{Name: "a.day", Limit: rapid.IntRange(1, 30).Draw(r, "day"), Daily: location(t, zone)})
	}
	m.configure(windows)
	return m
}

func drawSliding(r *rapid.T, name string) limiter.Window {
	return limiter.Window{
		Name:   name,
		Limit:  rapid.IntRange(1, 100).Draw(r, "limit"),
		Length: time.Duration(rapid.IntRange(1, 600).Draw(r, "seconds")) * time.Second,
	}
}

// configure makes the limiter, keeping what the model's windows hold.
func (m *machine) configure(windows []limiter.Window) {
	l, err := limiter.New(m.rdb, limiter.Options{Now: func() time.Time { return time.UnixMicro(m.micros).Add(m.skew) }}, windows...)
	if err != nil {
		m.r.Fatal(err)
	}
	l.UseTestClock(m.t)
	m.l, m.configured = l, windows
	for i, w := range windows {
		made := modelWindow{name: w.Name, limit: w.Limit, zone: w.Daily, capacity: float64(w.Limit)}
		if w.Daily == nil {
			made.capacity, made.rate = limiter.Bucket(w.Limit, w.Length)
		}
		if i < len(m.model.windows) {
			held := m.model.windows[i]
			made.tokens, made.last, made.known = held.tokens, held.last, held.known
			m.model.windows[i] = made
		} else {
			m.model.windows = append(m.model.windows, made)
		}
	}
}

func (m *machine) setClock(micros int64) {
	m.micros = micros
	seconds, rest := strconv.FormatInt(micros/1e6, 10), strconv.FormatInt(micros%1e6, 10)
	s, _ := strconv.ParseFloat(seconds, 64)
	u, _ := strconv.ParseFloat(rest, 64)
	m.model.now = s + u/1e6
	if err := m.rdb.MSet(m.ctx, limiter.TestSeconds, seconds, limiter.TestMicros, rest).Err(); err != nil {
		m.r.Fatal(err)
	}
}

func (m *machine) run() {
	m.r.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) { m.compare() },
		"take": func(r *rapid.T) {
			longest := rapid.SampledFrom([]int64{-1, -1, -1, 0, 1e6, 60e6}).Draw(r, "longest")
			m.take(longest, rapid.IntRange(-3, 5).Draw(r, "left"))
		},
		"wait": func(r *rapid.T) { m.setClock(m.micros + rapid.Int64Range(0, 100e6).Draw(r, "micros")) },
		"step clock": func(r *rapid.T) {
			m.setClock(m.micros + rapid.SampledFrom([]int64{-3600e6, -2e6, -900e3, -1, 1, 3600e6, 20 * 3600e6}).Draw(r, "micros"))
		},
		"pause": func(r *rapid.T) {
			seconds := rapid.SampledFrom([]int{0, 1, 30, 900}).Draw(r, "seconds")
			if err := m.l.Pause(m.ctx, time.Duration(seconds)*time.Second); err != nil {
				r.Fatal(err)
			}
			m.model.pause(float64(seconds))
		},
		"corrupt": func(r *rapid.T) { m.corrupt(r) },
		"configure": func(r *rapid.T) {
			windows := slices.Clone(m.configured)
			i := rapid.IntRange(0, len(windows)-1).Draw(r, "window")
			windows[i].Limit = rapid.IntRange(1, 100).Draw(r, "limit")
			m.configure(windows)
		},
		"exhaust": func(r *rapid.T) {
			if m.model.windows[len(m.model.windows)-1].rate > 0 {
				r.Skip("no day")
			}
			if err := m.l.Exhaust(m.ctx); err != nil {
				r.Fatal(err)
			}
			m.model.exhaust()
		},
		"levels": func(r *rapid.T) { m.levels(r) },
	})
}

func (m *machine) take(longest int64, left int) {
	left = max(-1, left)
	var since int64
	last := m.model.windows[len(m.model.windows)-1]
	if last.rate == 0 {
		start, _ := m.model.day(last)
		// Sometimes the ledger was asked before a reset.
		since = int64(start) - int64(rapid.SampledFrom([]int{0, 0, 0, 86400}).Draw(m.r, "old"))
	}
	before, initialised := m.snapshot(), last.rate == 0 && m.model.initialises(last, left, since)
	wantStatus, wantValue := m.model.take(longest, left, since)
	status, value, err := m.l.Take(m.ctx, longest, left, since)
	if err != nil {
		status = -1
	}
	if status != wantStatus || math.Abs(float64(value-wantValue)) > 2 {
		m.r.Fatalf("take: status %d value %d, %v; the model says %d, %d", status, value, err, wantStatus, wantValue)
	}
	if diff := cmp.Diff(before, m.snapshot()); status != limiter.Taken && !initialised && diff != "" {
		m.r.Fatalf("a refused call wrote something: %s", diff)
	}
}

func (m *machine) levels(r *rapid.T) {
	before := m.snapshot()
	levels, err := m.l.Levels(m.ctx)
	if err != nil {
		r.Fatal(err)
	}
	for i, w := range m.model.windows {
		tokens, _, _ := m.model.level(w)
		known := w.known && w.last >= 1e9
		if levels[i].Known != known || known && !near(levels[i].Tokens, tokens) {
			r.Fatalf("level %+v, the model says %v %v", levels[i], tokens, known)
		}
		if w.rate == 0 {
			if _, until := m.model.day(w); levels[i].Reset.Unix() != int64(until) {
				r.Fatalf("reset %s, the model says %v", levels[i].Reset, until)
			}
		}
	}
	if diff := cmp.Diff(before, m.snapshot()); diff != "" {
		r.Fatalf("reading the levels wrote something: %s", diff)
	}
}

func (m *machine) corrupt(r *rapid.T) {
	w := &m.model.windows[rapid.IntRange(0, len(m.model.windows)-1).Draw(r, "window")]
	part := rapid.SampledFrom([]string{"tokens", "last_refill"}).Draw(r, "part")
	key := "rate_limit:" + w.name + ":" + part
	var err error
	switch rapid.IntRange(0, 3).Draw(r, "how") {
	case 0:
		err, w.known = m.rdb.Del(m.ctx, key).Err(), false
	case 1:
		err, w.known = m.rdb.Set(m.ctx, key, rapid.SampledFrom(garbage).Draw(r, "garbage"), 0).Err(), false
	case 2:
		err, w.known = m.rdb.Del(m.ctx, key).Err(), false
		if err == nil {
			err = m.rdb.RPush(m.ctx, key, "1").Err()
		}
	case 3:
		if !w.known {
			r.Skip("the other key is unknown")
		}
		text := rapid.SampledFrom([]string{"0", "-0", "1e-07", "5", "1e300", "-1e300", "17", "+.5", "1772900000"}).Draw(r, "number")
		number, _ := strconv.ParseFloat(text, 64)
		if part == "tokens" {
			w.tokens = number
		} else {
			w.last = number
		}
		err = m.rdb.Set(m.ctx, key, text, 0).Err()
	}
	if err != nil {
		r.Fatal(err)
	}
}

// compare holds the keys against the model and its own promises.
func (m *machine) compare() {
	for _, w := range m.model.windows {
		if !w.known {
			continue
		}
		for key, want := range map[string]float64{"tokens": w.tokens, "last_refill": w.last} {
			key = "rate_limit:" + w.name + ":" + key
			text, err := m.rdb.Get(m.ctx, key).Result()
			if err != nil {
				m.r.Fatal(err)
			}
			got, err := strconv.ParseFloat(text, 64)
			if err != nil || !near(got, want) || !pythonFloat.MatchString(text) {
				m.r.Fatalf("%s = %q, the model says %v", key, text, want)
			}
		}
	}
}

// snapshot returns all there is of the windows' keys.
func (m *machine) snapshot() map[string]string {
	all := map[string]string{}
	keys, err := m.rdb.Keys(m.ctx, "rate_limit:*").Result()
	if err != nil {
		m.r.Fatal(err)
	}
	for _, key := range keys {
		kind := m.rdb.Type(m.ctx, key).Val()
		ttl := m.rdb.TTL(m.ctx, key).Val()
		all[key] = fmt.Sprintf("%s %s %q", kind, ttl, m.rdb.Get(m.ctx, key).Val())
	}
	return all
}

func near(a, b float64) bool {
	return math.Abs(a-b) <= 1e-9*math.Max(1, math.Max(math.Abs(a), math.Abs(b)))
}

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

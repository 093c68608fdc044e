package limiter_test

import (
	"context"
	"fmt"
	"maps"
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

// pythonFloat is what Python's float() reads, without its words and blanks.
var pythonFloat = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

// garbage is what the keys may hold without it being a level; doubtful is what
// a Redis may read as a number or not.
var (
	garbage = []string{
		"nan", "NaN", "-nan", "inf", "-inf", "infinity", "1e400", "-1e400", "1e16", "", " ", "abc",
		"1,5", "--5", "1e", ".", "[5]", "None",
	}
	doubtful = []string{"0x10", " 5", "5 ", "5\n", "1_000", "5\x00"}
	numbers  = []string{"0", "-0", "1e-07", "5", "1e9", "1e14", "-1e14", "17", "+.5", "1772900000", "1.7729e+09"}
)

// micro is the grain of the replies; the model allows for two.
const micro = 1e-6

// ledger is what the caller knows about a window from its own records.
type ledger struct {
	asked bool
	since int64
	calls int
}

// modelWindow is a window with the figures that its documentation promises.
type modelWindow struct {
	limiter.Window
	capacity, rate, span, deepest, plain float64
}

func newModelWindow(w limiter.Window) modelWindow {
	m := modelWindow{Window: w, capacity: float64(w.Limit)}
	if w.Daily != nil {
		return m
	}
	burst, margin := max(1, w.Burst), w.Margin
	if margin == 0 {
		margin = max(w.Length/60, 200*time.Millisecond)
	}
	m.span = (w.Length + max(0, margin)).Seconds()
	m.rate = float64(w.Limit) / m.span
	if !w.Exact {
		m.capacity = float64(burst)
		m.rate = float64(w.Limit-burst+1) / m.span
		_, _, m.deepest = limiter.Bucket(w, limiter.DefaultHorizon)
	}
	m.plain = max(m.rate, float64(w.Limit)/w.Length.Seconds())
	return m
}

func (w modelWindow) tokensKey() string { return "rate_limit:" + w.Name + ":tokens" }
func (w modelWindow) lastKey() string   { return "rate_limit:" + w.Name + ":last_refill" }
func (w modelWindow) seenKey() string   { return "rate_limit_ext:" + w.Name + ":seen" }
func (w modelWindow) callsKey() string  { return "rate_limit_ext:" + w.Name + ":calls" }

const shareKey = "rate_limit_ext:a:share"

func (w modelWindow) kept(c limiter.Class) int {
	if c == limiter.Backfill {
		return w.Reserve
	}
	return 0
}

// entry is what a key holds.
type entry struct {
	Type, TTL, Text string
	List            []string
}

// number reads what the entry holds as the scripts must: 17 digits, nothing
// that is not finite.
func (m *machine) number(key string) (float64, bool) {
	e := m.before[key]
	if e.Type != "string" {
		return 0, false
	}
	return m.parse(e.Text)
}

func (m *machine) parse(text string) (float64, bool) {
	if n, ok := m.dialect[text]; ok {
		return n, !math.IsNaN(n)
	}
	if !pythonFloat.MatchString(text) {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && math.Abs(n) < 1e15
}

// reading is a window's state now. Times are in seconds from now, so that they
// keep their digits.
type reading struct {
	w             modelWindow
	known         bool
	lost, changed bool
	ahead         float64   // of last_refill
	rate          float64   // in use
	empty         float64   // of a bucket: the time at which it would be without a token
	free          []float64 // of an exact window: when each of its calls leaves
	length        float64   // of an exact window, with the margin
	tokens        float64   // of a day
	opened        float64   // of a day, in Unix seconds
	closes        float64
}

// share returns by how much the rates are turned down at a time.
func (m *machine) share(at float64) float64 {
	f, from, ok := m.sharing()
	if !ok || at < from {
		return 1
	}
	return min(1, max(limiter.LowestShare, f+limiter.Recovery*(at-from)))
}

// shareOf is the share for a bucket. The first one is settled by a pause, and
// refills as usual until its end. The others are not, so they must not refill
// faster than before it.
func (m *machine) shareOf(w modelWindow, at float64) float64 {
	if _, from, ok := m.sharing(); ok && w.Name != m.windows[0].Name {
		at = max(at, from)
	}
	return m.share(at)
}

func (m *machine) sharing() (f, from float64, ok bool) {
	parts := regexp.MustCompile(`^(\S+) (\S+)$`).FindStringSubmatch(m.before[shareKey].Text)
	if parts == nil {
		return 1, 0, false
	}
	f, fine := m.parse(parts[1])
	from, ok = m.parse(parts[2])
	return f, from, fine && ok && from <= m.now+limiter.MaxPause.Seconds()
}

func (m *machine) read(w modelWindow, l ledger) reading {
	r := reading{w: w, known: true}
	switch {
	case w.Daily != nil:
		m.readDay(&r, l)
	case w.Exact:
		m.readExact(&r, l)
	default:
		m.readBucket(&r)
	}
	return r
}

func (m *machine) readBucket(r *reading) {
	tokens, ok := m.number(r.w.tokensKey())
	last, fine := m.number(r.w.lastKey())
	if !ok || !fine || last <= 1e9 || last >= 1e11 {
		r.lost, r.changed = true, true
		tokens, last = -r.w.plain*limiter.DefaultHorizon.Seconds(), m.now
	}
	r.rate = r.w.rate * m.shareOf(r.w, last)
	if tokens < -r.w.deepest {
		tokens, r.changed = -r.w.deepest, true
	}
	switch {
	case last > m.now+1:
		r.changed = true
	case last > m.now:
		r.ahead = last - m.now
	}
	// Debts are kept as the time in which the plain limit refills them.
	idle := min(0, tokens)/r.w.plain + max(0, m.now-last)
	tokens = min(r.w.capacity, max(0, tokens)+max(0, idle)*r.rate)
	// The slots are as far apart as the tokens will come.
	r.rate = r.w.rate * m.shareOf(r.w, m.now+r.ahead)
	r.empty = -tokens / r.rate
	if idle < 0 {
		r.empty = -idle
	}
}

func (m *machine) readExact(r *reading, l ledger) {
	r.length = r.w.span / m.share(m.now)
	calls := m.before[r.w.callsKey()].List
	last, seen := m.before[r.w.lastKey()], m.before[r.w.seenKey()]
	used := -1
	switch {
	case len(calls) != r.w.Limit || last.Type != "string" || seen.Type != "string":
		r.lost = true
		if r.known = l.asked; l.asked {
			used = min(r.w.Limit, l.calls)
		}
	case last.Text != seen.Text:
		used = r.w.Limit
	}
	r.changed = used >= 0
	for i := range r.w.Limit {
		at := 0.0
		switch {
		case !r.known:
			continue
		case used < 0:
			at, _ = strconv.ParseFloat(calls[i], 64)
		case i >= r.w.Limit-used:
			at = m.now + limiter.DefaultHorizon.Seconds() // a slot may be out
		}
		r.free = append(r.free, at-m.now+r.length)
	}
}

func (m *machine) readDay(r *reading, l ledger) {
	r.opened, r.closes = m.day(r.w)
	guard := limiter.Guard.Seconds()
	tokens, ok := m.number(r.w.tokensKey())
	last, fine := m.number(r.w.lastKey())
	if !ok || !fine || last <= 1e9 || last >= 1e11 {
		if r.known = l.asked && float64(l.since) == r.opened; !r.known {
			return
		}
		tokens, last, r.lost, r.changed = max(0, float64(r.w.Limit-l.calls)), m.now, true, true
	}
	if last < r.opened+guard {
		r.tokens = r.w.capacity
		return
	}
	r.tokens = min(r.w.capacity, tokens)
	if last > m.now+1 {
		r.changed = true
		return
	}
	r.ahead = max(0, last-m.now)
}

// day returns the last start of a local day whose guard is over, and the next,
// by walking the quarters of an hour.
func (m *machine) day(w modelWindow) (opened, closes float64) {
	const quarter = 900
	date := func(s int64) int { return time.Unix(s, 0).In(w.Daily).YearDay() }
	at := int64(math.Floor(m.now - limiter.Guard.Seconds()))
	a := at - at%quarter
	b := a + quarter
	for date(a-1) == date(at) {
		a -= quarter
	}
	for date(b) == date(at) {
		b += quarter
	}
	return float64(a), float64(b)
}

// next returns when a call of that cost may start, at the earliest now.
func next(rs []reading, q limiter.Question) float64 {
	at := 0.0
	for _, r := range rs {
		switch {
		case r.w.Exact:
			at = max(at, r.free[q.Cost+r.w.kept(q.Class)-1])
		case r.w.Daily == nil:
			at = max(at, r.empty+float64(q.Cost)/r.rate)
		}
	}
	return at
}

// book takes the call at a time out of all windows.
func book(rs []reading, cost int, at float64) {
	for i := range rs {
		r := &rs[i]
		switch {
		case r.w.Exact:
			r.free = r.free[cost:]
			for range cost {
				r.free = append(r.free, at+r.length)
			}
		case r.w.Daily != nil:
			r.tokens -= float64(cost)
		default:
			r.empty = max(r.empty, at-r.w.capacity/r.rate) + float64(cost)/r.rate
		}
	}
}

// full returns the windows that are spent for the question, with their ends.
// One that is so by less than the grain is in sure only if it surely is.
func (m *machine) full(rs []reading, q limiter.Question) (ends map[int]float64, sure bool) {
	ends = map[int]float64{}
	for i, r := range rs {
		kept := r.w.kept(q.Class)
		switch {
		case r.w.Daily != nil && r.tokens-float64(kept) < float64(q.Cost):
			ends[i], sure = r.closes, true
		case r.w.Exact && r.w.Length >= time.Hour:
			if free := r.free[q.Cost+kept-1]; free > -micro {
				ends[i], sure = math.Ceil(m.now+free), sure || free > micro
			}
		}
	}
	return ends, sure
}

// shut returns how long a day's guard keeps calls at that time out; 0: not.
func (m *machine) shut(rs []reading, at float64) float64 {
	guard := limiter.Guard.Seconds()
	for _, r := range rs {
		if r.w.Daily != nil && m.now+at >= r.closes-guard-micro {
			return r.closes + guard - m.now
		}
	}
	return 0
}

// take holds an answer of the script against what the windows promise, and
// returns what the keys hold afterwards; nil: what they held.
func (m *machine) take(q limiter.Question, ls []ledger, got limiter.Answer) map[string]float64 {
	var rs []reading
	changed, lost, unknown := q.Owed > 0, int64(0), false
	for i, w := range m.windows {
		r := m.read(w, ls[i])
		if w.Daily == nil && !w.Exact {
			r.tokens -= float64(q.Owed)
			r.empty += float64(q.Owed) / r.rate
		}
		rs = append(rs, r)
		changed, unknown = changed || r.changed, unknown || !r.known
		if r.lost {
			lost++
		}
	}
	if unknown {
		m.checkUnknown(rs, got)
		return nil
	}
	horizon := m.horizon(q)
	for i, d := range got.Delays {
		at := next(rs, q)
		if _, sure := m.full(rs, q); sure {
			m.r.Fatalf("slot %d of %+v is from a window that is spent", i, got)
		}
		if at > horizon+2*micro || m.shut(rs, at-2*micro) > 0 || !near(d.Seconds(), max(0, at), 2*micro) {
			m.r.Fatalf("slot %d of %+v; the model says %v, horizon %v", i, got, at, horizon)
		}
		book(rs, q.Cost, max(0, at))
	}
	m.checkEnd(rs, q, got, horizon)
	if got.Status == limiter.Taken && got.Lost != lost {
		m.r.Fatalf("%d levels lost, the model says %d", got.Lost, lost)
	}
	if len(got.Delays) == 0 && !changed {
		return nil
	}
	return m.stored(rs)
}

// horizon is how far ahead the class may take slots, by its documentation.
func (m *machine) horizon(q limiter.Question) float64 {
	class := q.Class
	if q.Aged {
		class = limiter.Scheduled
	}
	return limiter.Horizons()[class] * limiter.DefaultHorizon.Seconds()
}

func (m *machine) checkUnknown(rs []reading, got limiter.Answer) {
	if got.Status == limiter.Unknown && !rs[got.Window].known {
		r := rs[got.Window]
		since := r.opened
		if r.w.Exact {
			since = m.now - r.length
		}
		if near(float64(got.Reset), since, 1) {
			return
		}
	}
	m.r.Fatalf("%+v, want the ledger to be asked", got)
}

// checkEnd holds what the script says about the call after the last grant.
func (m *machine) checkEnd(rs []reading, q limiter.Question, got limiter.Answer, horizon float64) {
	at := next(rs, q)
	ends, spent := m.full(rs, q)
	shut := m.shut(rs, at)
	ask, asked := got.Ask.Seconds(), false
	switch {
	case got.Status == limiter.Spent && len(got.Delays) == 0:
		end, ok := ends[got.Window]
		asked = ok && near(float64(got.Reset), end, 1)
	case got.Status == limiter.NotYet && !spent && shut > 0:
		asked = near(ask, shut, 2*micro) && near(got.Next.Seconds(), shut, 2*micro)
	case got.Status == limiter.NotYet && !spent:
		asked = at > horizon-2*micro && near(got.Next.Seconds(), at, 2*micro) && m.turn(q, at, ask+horizon/2)
	case got.Status == limiter.Taken && len(got.Delays) == q.N:
		asked = ask == 0 || near(ask, at-horizon/2, 2*micro)
	case got.Status == limiter.Taken && len(got.Delays) > 0 && (len(ends) > 0 || shut > 0):
		asked = ask == 0
	case got.Status == limiter.Taken && len(got.Delays) > 0:
		asked = at > horizon-2*micro && m.turn(q, at, ask+horizon/2)
	}
	if !asked {
		m.r.Fatalf("%+v after %+v; the model says %v, spent %v, shut %v", got, q, at, ends, shut)
	}
}

// turn tells whether a caller was given the end of its line as its turn. The
// line's key ends by Redis' own clock, so it may be gone.
func (m *machine) turn(q limiter.Question, at, turn float64) bool {
	if near(turn, at, 2*micro) {
		return true
	}
	line := int(q.Class)
	if q.Aged {
		line = 0
	}
	last, ok := m.number(m.lineKey(line))
	return ok && last-m.now > at && last-m.now < at+limiter.LongestLine.Seconds() && near(turn, last-m.now, 2*micro)
}

func (m *machine) lineKey(line int) string { return "rate_limit_ext:a:line." + strconv.Itoa(line) }

// stored is what the keys of all windows hold after a grant.
func (m *machine) stored(rs []reading) map[string]float64 {
	all := map[string]float64{}
	for _, r := range rs {
		all[r.w.lastKey()] = m.now + r.ahead
		switch {
		case r.w.Exact:
			all[r.w.tokensKey()] = min(r.w.capacity, 1-r.w.rate*r.free[len(r.free)-1])
		case r.w.Daily != nil:
			all[r.w.tokensKey()] = r.tokens
		default:
			all[r.w.tokensKey()] = -r.empty * r.rate
			if r.empty > 0 {
				all[r.w.tokensKey()] = -r.empty * r.w.plain
			}
		}
	}
	return all
}

// near tells whether two numbers are the same but for the grain and float64's
// own.
func near(a, b, grain float64) bool {
	return math.Abs(a-b) <= grain+2e-15*max(math.Abs(a), math.Abs(b))
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
			rdb := patient(t, url)
			known := dialect(t, rdb)
			rapid.Check(t, func(r *rapid.T) {
				if err := rdb.FlushDB(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				newMachine(t, r, rdb, known).run()
			})
		})
	}
}

// patient returns a client for tests in which the time of a request does not
// count.
func patient(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := limiter.ClientOptions(url)
	if err != nil {
		t.Fatal(err)
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Minute, time.Minute, time.Minute, time.Minute
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// dialect returns how a Redis reads the doubtful numbers; NaN: it does not.
func dialect(t *testing.T, rdb *redis.Client) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, text := range doubtful {
		read, err := rdb.Eval(t.Context(), "return tostring(tonumber(ARGV[1]))", nil, text).Text()
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseFloat(read, 64)
		if err != nil {
			n = math.NaN()
		}
		all[text] = n
	}
	return all
}

// machine drives a limiter and holds each of its steps against the model.
type machine struct {
	t       *testing.T
	r       *rapid.T
	rdb     *redis.Client
	clock   *clock
	skew    time.Duration
	dialect map[string]float64

	l       *limiter.Limiter
	windows []modelWindow
	now     float64
	before  map[string]entry
}

func newMachine(t *testing.T, r *rapid.T, rdb *redis.Client, known map[string]float64) *machine {
	t.Helper()
	start := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 48*3600).Draw(r, "start")) * time.Second)
	m := &machine{t: t, r: r, rdb: rdb, clock: newClock(t, rdb, start), dialect: known}
	m.skew = time.Duration(rapid.IntRange(-6, 6).Draw(r, "skew")) * time.Hour
	m.configure(drawWindows(t, r))
	return m
}

func drawWindows(t *testing.T, r *rapid.T) []limiter.Window {
	t.Helper()
	windows := []limiter.Window{drawBucket(r, "a")}
	for i := range rapid.IntRange(0, 2).Draw(r, "more windows") {
		name := "a." + strconv.Itoa(i)
		switch rapid.SampledFrom([]string{"bucket", "exact", "day"}).Draw(r, "kind") {
		case "bucket":
			windows = append(windows, drawBucket(r, name))
		case "exact":
			w := limiter.Window{Name: name, Exact: true, Limit: rapid.IntRange(1, 20).Draw(r, "limit"), Length: drawLength(r)}
			w.Reserve = rapid.IntRange(0, w.Limit-1).Draw(r, "reserve")
			windows = append(windows, w)
		case "day":
			if hasDay(windows) {
				continue
			}
			zone := rapid.SampledFrom([]string{"America/New_York", "America/Santiago", "Asia/Kolkata"}).Draw(r, "zone")
			w := limiter.Window{Name: name, Limit: rapid.IntRange(1, 30).Draw(r, "limit"), Daily: location(t, zone)}
			w.Reserve = rapid.IntRange(0, w.Limit-1).Draw(r, "reserve")
			windows = append(windows, w)
		}
	}
	return windows
}

func hasDay(windows []limiter.Window) bool {
	return slices.ContainsFunc(windows, func(w limiter.Window) bool { return w.Daily != nil })
}

func drawLength(r *rapid.T) time.Duration {
	return time.Duration(rapid.SampledFrom([]int{1, 2, 5, 60, 600, 3600, 86400}).Draw(r, "seconds")) * time.Second
}

func drawBucket(r *rapid.T, name string) limiter.Window {
	w := limiter.Window{Name: name, Limit: rapid.IntRange(1, 100).Draw(r, "limit"), Length: drawLength(r)}
	w.Burst = rapid.IntRange(0, min(8, w.Limit)).Draw(r, "burst")
	w.Margin = rapid.SampledFrom([]time.Duration{0, -1, time.Second}).Draw(r, "margin")
	return w
}

func (m *machine) configure(windows []limiter.Window) {
	o := limiter.OnTestClock(limiter.Options{Now: func() time.Time { return m.clock.now().Add(m.skew) }})
	l, err := limiter.New(m.rdb, o, windows...)
	if err != nil {
		m.r.Fatal(err)
	}
	m.l, m.windows = l, nil
	for _, w := range windows {
		m.windows = append(m.windows, newModelWindow(w))
	}
}

// look reads all there is.
func (m *machine) look() map[string]entry {
	keys := []string{shareKey, m.lineKey(0), m.lineKey(1), m.lineKey(2)}
	for _, w := range m.windows {
		keys = append(keys, w.tokensKey(), w.lastKey(), w.seenKey(), w.callsKey())
	}
	pipe := m.rdb.Pipeline()
	kinds, ttls := make([]*redis.StatusCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	texts, lists := make([]*redis.StringCmd, len(keys)), make([]*redis.StringSliceCmd, len(keys))
	for i, key := range keys {
		kinds[i], ttls[i] = pipe.Type(m.t.Context(), key), pipe.TTL(m.t.Context(), key)
		texts[i], lists[i] = pipe.Get(m.t.Context(), key), pipe.LRange(m.t.Context(), key, 0, -1)
	}
	_, _ = pipe.Exec(m.t.Context()) // half of the commands are for the other type
	all := map[string]entry{}
	for i, key := range keys {
		if kinds[i].Val() == "" {
			m.r.Fatal(kinds[i].Err())
		}
		if kinds[i].Val() != "none" {
			all[key] = entry{kinds[i].Val(), ttls[i].Val().String(), texts[i].Val(), lists[i].Val()}
		}
	}
	m.now = float64(m.clock.micros/1e6) + float64(m.clock.micros%1e6)/1e6
	return all
}

// contract returns the keys that others read too.
func (m *machine) contract(all map[string]entry) map[string]entry {
	all = maps.Clone(all)
	maps.DeleteFunc(all, func(key string, _ entry) bool { return key[:len("rate_limit:")] != "rate_limit:" })
	return all
}

// expect holds the keys after a step against what they should hold; keys that
// are not named hold what they did.
func (m *machine) expect(what string, want map[string]float64) {
	after := m.contract(m.look())
	grain := micro
	for _, w := range m.windows {
		grain += micro * w.rate
	}
	for key, n := range want {
		e := after[key]
		got, err := strconv.ParseFloat(e.Text, 64)
		if err != nil || !near(got, n, grain) || !pythonFloat.MatchString(e.Text) || e.Type != "string" || e.TTL != "-1ns" {
			m.r.Fatalf("%s: %s = %+v, the model says %v", what, key, e, n)
		}
		m.before[key] = e
	}
	if diff := cmp.Diff(m.contract(m.before), after); diff != "" {
		m.r.Fatalf("%s wrote what it should not: %s", what, diff)
	}
	for _, w := range m.windows {
		tokens, last := want[w.tokensKey()], want[w.lastKey()]
		if tokens > w.capacity+grain || last > m.now+1+micro || w.deepest > 0 && tokens < -w.deepest*1.01-grain {
			m.r.Fatalf("%s: %s has %v tokens as of %v, now is %v", what, w.Name, tokens, last, m.now)
		}
	}
}

func (m *machine) run() {
	m.r.Repeat(map[string]func(*rapid.T){
		"": func(*rapid.T) { m.before = m.look() },
		// Named twice, because it is drawn twice as often then.
		"take":       m.stepTake,
		"take more":  m.stepTake,
		"take again": m.stepTake,
		"wait": func(r *rapid.T) {
			m.clock.set(m.clock.micros + rapid.SampledFrom([]int64{1e3, 100e3, 1e6, 100e6}).Draw(r, "scale")*rapid.Int64Range(0, 100).Draw(r, "micros")/100)
		},
		"step clock": func(r *rapid.T) {
			step := rapid.SampledFrom([]int64{-3600e6, -2e6, -900e3, -1, 1, 3600e6, 20 * 3600e6}).Draw(r, "micros")
			m.clock.set(m.clock.micros + step)
			if step == -3600e6 { // further back than a pause is long
				m.spoil(r, func(p redis.Pipeliner) { p.Del(m.t.Context(), shareKey) })
			}
		},
		"to midnight": m.stepToMidnight,
		"pause":       m.stepPause,
		"exhaust":     m.stepExhaust,
		"refund":      m.stepRefund,
		"levels":      m.stepLevels,
		"corrupt":     m.stepCorrupt,
		"extension":   m.stepExtension,
		"python":      m.stepPython,
		"configure":   m.stepConfigure,
	})
}

func (m *machine) stepTake(r *rapid.T) {
	q := limiter.Question{
		Class: limiter.Class(rapid.IntRange(0, 2).Draw(r, "class")),
		N:     rapid.IntRange(1, 8).Draw(r, "n"),
		Aged:  rapid.Bool().Draw(r, "aged"),
	}
	most, exact := 100, false
	for _, w := range m.windows {
		most, exact = min(most, int(w.capacity)-w.kept(q.Class)), exact || w.Exact
	}
	q.Cost = rapid.IntRange(1, most).Draw(r, "cost")
	if !exact {
		q.Owed = rapid.SampledFrom([]int{0, 0, 0, 0, 1, 20}).Draw(r, "owed")
	}
	if rapid.IntRange(0, 3).Draw(r, "fast") == 0 {
		q = limiter.Question{N: 1, Cost: 1}
	}
	ls, counts := m.ask(r)
	got, err := m.l.Take(q, counts)
	if err != nil {
		r.Fatalf("%+v: %v", q, err)
	}
	m.expect(fmt.Sprintf("%+v", q), m.take(q, ls, got))
}

// ask draws what the ledger said, sometimes nothing or about another day.
func (m *machine) ask(r *rapid.T) ([]ledger, []limiter.Count) {
	ls, counts := make([]ledger, len(m.windows)), make([]limiter.Count, len(m.windows))
	for i, w := range m.windows {
		if w.Daily == nil && !w.Exact || rapid.IntRange(0, 3).Draw(r, "not asked") == 0 {
			continue
		}
		l := ledger{asked: true, calls: rapid.IntRange(0, w.Limit+2).Draw(r, "calls")}
		if w.Daily != nil {
			opened, _ := m.day(w)
			l.since = int64(opened) - rapid.SampledFrom([]int64{0, 0, 0, 86400}).Draw(r, "old")
		}
		ls[i], counts[i] = l, limiter.NewCount(l.since, l.calls)
	}
	return ls, counts
}

func (m *machine) stepToMidnight(r *rapid.T) {
	for _, w := range m.windows {
		if w.Daily != nil {
			_, closes := m.day(w)
			m.clock.set(int64(closes)*1e6 + rapid.SampledFrom([]int64{-2e6 - 1, -2e6, -1, 0, 2e6 - 1, 2e6, 5e6}).Draw(r, "around"))
			return
		}
	}
	r.Skip("no day")
}

// within bounds a call that would try again and again.
func (m *machine) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(m.t.Context(), 10*time.Second)
}

func (m *machine) stepPause(r *rapid.T) {
	seconds := rapid.SampledFrom([]float64{0, 0.5, 1, 30}).Draw(r, "seconds")
	ctx, cancel := m.within()
	defer cancel()
	if err := m.l.Pause(ctx, time.Duration(seconds*float64(time.Second))); err != nil {
		r.Fatal(err)
	}
	w := m.windows[0]
	b := m.read(w, ledger{})
	b.empty = max(b.empty, seconds)
	want := m.stored([]reading{b})
	f, from, ok := m.sharing()
	if !ok {
		f, from = 1, 0
	}
	if m.now >= from {
		f = max(limiter.LowestShare, m.share(m.now)*limiter.Slower)
	}
	from = max(from, m.now+seconds)
	m.expect("pause", want)
	if seconds == 0 {
		return
	}
	text := m.look()[shareKey].Text
	var gotF, gotFrom float64
	if _, err := fmt.Sscanf(text, "%g %g", &gotF, &gotFrom); err != nil || !near(gotF, f, 2*micro) || !near(gotFrom, from, 2*micro) {
		r.Fatalf("the share is %q, the model says %v from %v", text, f, from)
	}
}

func (m *machine) stepExhaust(r *rapid.T) {
	ctx, cancel := m.within()
	defer cancel()
	want := map[string]float64{}
	for _, w := range m.windows {
		if w.Daily != nil {
			want[w.tokensKey()], want[w.lastKey()] = -w.capacity, m.now
		}
	}
	if err := m.l.Exhaust(ctx); (err == nil) != (len(want) > 0) {
		r.Fatalf("exhaust: %v", err)
	}
	m.expect("exhaust", want)
}

func (m *machine) stepRefund(r *rapid.T) {
	tokens, ago := rapid.IntRange(1, 40).Draw(r, "tokens"), rapid.SampledFrom([]int{0, 1, 30, 86400}).Draw(r, "ago")
	want := map[string]float64{}
	at := m.clock.now().Add(-time.Duration(ago) * time.Second)
	for _, w := range m.windows {
		if w.Daily == nil {
			continue
		}
		if err := m.l.Refund(m.t.Context(), tokens, at); err != nil {
			r.Fatal(err)
		}
		if d := m.read(w, ledger{}); d.known && float64(at.Unix()) >= d.opened {
			d.tokens = min(w.capacity, d.tokens+float64(tokens))
			want = m.stored([]reading{d})
		}
	}
	m.expect("refund", want)
}

func (m *machine) stepLevels(r *rapid.T) {
	levels, err := m.l.Levels(m.t.Context())
	if err != nil {
		r.Fatal(err)
	}
	for i, w := range m.windows {
		l, d := levels[i], m.read(w, ledger{})
		known, tokens, reset, grain := d.known && !d.lost, d.tokens, 0.0, micro
		switch {
		case w.Exact:
			_, ok := m.number(w.tokensKey())
			_, fine := m.number(w.lastKey())
			known = known && !d.changed && ok && fine
			// A call may leave just now.
			for _, at := range d.free {
				if at <= 0 {
					tokens++
				}
				if math.Abs(at) < micro {
					grain++
				}
			}
		case w.Daily == nil:
			tokens = -d.empty * d.rate
		default:
			reset = d.closes
		}
		if l.Known != known || known && !near(l.Tokens, tokens, grain) || !near(l.Share, m.share(m.now), micro) {
			r.Fatalf("level %+v, the model says %v %v, share %v", l, tokens, known, m.share(m.now))
		}
		if reset != 0 && float64(l.Reset.Unix()) != reset || reset == 0 && !l.Reset.IsZero() {
			r.Fatalf("reset %s, the model says %v", l.Reset, reset)
		}
	}
	after := m.look()
	for line := range 3 {
		delete(after, m.lineKey(line))
		delete(m.before, m.lineKey(line))
	}
	if diff := cmp.Diff(m.before, after); diff != "" {
		r.Fatalf("reading the levels wrote something: %s", diff)
	}
}

func (m *machine) stepCorrupt(r *rapid.T) {
	w := rapid.SampledFrom(m.windows).Draw(r, "window")
	key := rapid.SampledFrom([]string{w.tokensKey(), w.lastKey()}).Draw(r, "key")
	ctx := m.t.Context()
	m.spoil(r, func(pipe redis.Pipeliner) {
		switch rapid.SampledFrom([]string{"lost", "both lost", "list", "garbage", "number", "ahead"}).Draw(r, "how") {
		case "lost":
			pipe.Del(ctx, key)
		case "both lost":
			pipe.Del(ctx, w.tokensKey(), w.lastKey())
		case "list":
			pipe.Del(ctx, key)
			pipe.RPush(ctx, key, "1")
		case "garbage":
			pipe.Set(ctx, key, rapid.SampledFrom(slices.Concat(garbage, doubtful)).Draw(r, "garbage"), 0)
		case "number":
			pipe.Set(ctx, key, rapid.SampledFrom(numbers).Draw(r, "number"), 0)
		case "ahead":
			pipe.Set(ctx, w.lastKey(), m.now+rapid.SampledFrom([]float64{0.5, 1.5, 3600, 9e9}).Draw(r, "ahead"), 0)
		}
	})
}

// spoil changes keys behind the limiter's back.
func (m *machine) spoil(r *rapid.T, change func(redis.Pipeliner)) {
	if _, err := m.rdb.TxPipelined(m.t.Context(), func(p redis.Pipeliner) error {
		change(p)
		return nil
	}); err != nil {
		r.Fatal(err)
	}
}

// stepExtension spoils what is the limiter's alone.
func (m *machine) stepExtension(r *rapid.T) {
	w := rapid.SampledFrom(m.windows).Draw(r, "window")
	key := rapid.SampledFrom([]string{shareKey, m.lineKey(0), m.lineKey(1), m.lineKey(2), w.seenKey(), w.callsKey()}).Draw(r, "key")
	texts := slices.Concat(garbage, numbers)
	if key == shareKey {
		for _, f := range []string{"0.5", "0.1", "1", "nan", "abc"} {
			for _, from := range []string{"nan", "inf", "0", "1e12", "-1", fmt.Sprintf("%.6f", m.now), fmt.Sprintf("%.6f", m.now+60), fmt.Sprintf("%.6f", m.now-600)} {
				texts = append(texts, f+" "+from)
			}
		}
	}
	m.spoil(r, func(p redis.Pipeliner) {
		p.Del(m.t.Context(), key)
		if key != w.callsKey() && rapid.Bool().Draw(r, "garbage") {
			p.Set(m.t.Context(), key, rapid.SampledFrom(texts).Draw(r, "text"), 0)
		}
	})
}

// stepPython is a caller that knows a window's rate and burst alone.
func (m *machine) stepPython(r *rapid.T) {
	acquirePlainly(m.t, m.rdb, rapid.SampledFrom(m.windows).Draw(r, "window"), m.now)
}

// acquirePlainly refills, needs one token and takes it, as alpha-oracle does.
func acquirePlainly(t testing.TB, rdb *redis.Client, w modelWindow, now float64) bool {
	t.Helper()
	texts, err := rdb.MGet(t.Context(), w.tokensKey(), w.lastKey()).Result()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := texts[0].(string)
	tokens, err := strconv.ParseFloat(text, 64)
	text, _ = texts[1].(string)
	last, bad := strconv.ParseFloat(text, 64)
	if err != nil || bad != nil {
		return false
	}
	if tokens = min(w.capacity, tokens+max(0, now-last)*w.rate); !(tokens >= 1) {
		return false
	}
	repr := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	if err := rdb.MSet(t.Context(), w.tokensKey(), repr(tokens-1), w.lastKey(), repr(max(now, last))).Err(); err != nil {
		t.Fatal(err)
	}
	return true
}

func (m *machine) stepConfigure(r *rapid.T) {
	var windows []limiter.Window
	for _, w := range m.windows {
		windows = append(windows, w.Window)
	}
	w := &windows[rapid.IntRange(0, len(windows)-1).Draw(r, "window")]
	w.Limit = rapid.IntRange(max(1, w.Burst, w.Reserve+1), 100).Draw(r, "limit")
	if w.Daily == nil && !w.Exact {
		w.Burst = rapid.IntRange(0, min(8, w.Limit)).Draw(r, "burst")
	}
	m.configure(windows)
}

// A level that is no number is as good as lost on both: time begins to run, and
// a call goes.
func TestGarbageHeals(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"redis":    testenv.Redis(t),
		"embedded": "redis://" + miniredis.RunT(t).Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := patient(t, url)
			for _, text := range slices.Concat(garbage, []string{"--1", "+e1", "1e+", "e", "-"}) {
				f := newFlow(t, rdb, time.Unix(1772900000, 0), perSecond(5))
				if err := rdb.MSet(t.Context(), tokensKey, text, refillKey, "1772900000").Err(); err != nil {
					t.Fatal(err)
				}
				f.take(limiter.Question{N: 1, Cost: 1, Class: limiter.Manual})
				f.clock.advance(2 * time.Second)
				if a := f.take(limiter.Question{N: 1, Cost: 1, Class: limiter.Manual}); a.Status != limiter.Taken || a.Lost != 0 {
					t.Errorf("%q: %+v, want a call", text, a)
				}
			}
		})
	}
}

// A clock that was ahead, or a bad writer, neither gives tokens nor stops time.
func TestClockThatWasAhead(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]int{time.Hour: 5, 2 * time.Second: 5, 800 * time.Millisecond: 4} {
		f := newFlow(t, patient(t, testenv.Redis(t)), time.Unix(1772900000, 0), limiter.Window{Name: "provider", Limit: 60, Length: time.Minute, Burst: 5, Margin: -1})
		if err := f.rdb.MSet(t.Context(), tokensKey, 0, refillKey, float64(f.clock.now().Add(ahead).UnixMicro())/1e6).Err(); err != nil {
			t.Fatal(err)
		}
		if a := f.take(limiter.Question{N: 1, Cost: 1}); a.Status != limiter.NotYet {
			t.Errorf("%s ahead: %+v, want nothing yet", ahead, a)
		}
		f.clock.advance(5360 * time.Millisecond) // at 56 a minute, 5 tokens
		if a := f.take(limiter.Question{N: 9, Cost: 1}); len(a.Delays) != want {
			t.Errorf("%s ahead: %d calls 5.36 s later, want %d", ahead, len(a.Delays), want)
		}
	}
}

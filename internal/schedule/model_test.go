package schedule_test

import (
	_ "embed"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/schedule"
)

// The model is written without a look at the package: it walks minute by
// minute, keeps the latest reading that the clock has shown, and ticks when a
// reading that the spec matches comes to be shown or passed.

// spec is a cron spec of numbers, read naively.
type spec struct {
	text   string
	sets   [5][64]bool
	either bool
}

func naive(text string) *spec {
	s := &spec{text: text}
	low, high := [5]int{0, 0, 1, 1, 0}, [5]int{59, 23, 31, 12, 7}
	stars := [5]bool{}
	for i, f := range strings.Fields(text) {
		for item := range strings.SplitSeq(f, ",") {
			span, step, stepped := strings.Cut(item, "/")
			a, b, ranged := strings.Cut(span, "-")
			from, _ := strconv.Atoi(a)
			to := from
			switch {
			case a == "*":
				from, to = low[i], high[i]
				stars[i] = stars[i] || !stepped || step == "1"
			case ranged:
				to, _ = strconv.Atoi(b)
			case stepped:
				to = high[i]
			}
			by := 1
			if stepped {
				by, _ = strconv.Atoi(step)
			}
			if i == 4 && a == "*" {
				to = 6
			}
			for n := from; n <= to; n += by {
				if i == 4 {
					s.sets[i][n%7] = true
				} else {
					s.sets[i][n] = true
				}
			}
		}
	}
	s.either = !stars[2] && !stars[4]
	return s
}

func (s *spec) fitsDay(y int, m time.Month, d int) bool {
	if !s.sets[3][m] {
		return false
	}
	weekday := time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Weekday()
	if s.either {
		return s.sets[2][d] || s.sets[4][weekday]
	}
	return s.sets[2][d] && s.sets[4][weekday]
}

func (s *spec) fits(shown time.Time) bool {
	y, m, d := shown.Date()
	return s.sets[0][shown.Minute()] && s.sets[1][shown.Hour()] && s.fitsDay(y, m, d)
}

// clock remembers what a clock on the wall has shown up to now.
type clock struct {
	zone   *time.Location
	latest time.Time // as a time in UTC
}

// shows returns what the clock shows at t, and all readings that are new then.
func (c *clock) shows(t time.Time) (fresh []time.Time) {
	l := t.In(c.zone)
	now := time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, time.UTC)
	if c.latest.IsZero() {
		c.latest = now
		return []time.Time{now}
	}
	for r := c.latest.Add(time.Minute); !r.After(now); r = r.Add(time.Minute) {
		fresh = append(fresh, r)
	}
	if now.After(c.latest) {
		c.latest = now
	}
	return fresh
}

// walk returns, for each spec, its ticks in (from, to], which are whole minutes.
func walk(zone *time.Location, from, to time.Time, specs []*spec) [][]time.Time {
	c := clock{zone: zone}
	ticks := make([][]time.Time, len(specs))
	for t := from.Add(-72 * time.Hour); !t.After(to); t = t.Add(time.Minute) {
		fresh := c.shows(t)
		if !t.After(from) {
			continue
		}
		for i, s := range specs {
			if slices.ContainsFunc(fresh, s.fits) {
				ticks[i] = append(ticks[i], t)
			}
		}
	}
	return ticks
}

//go:embed testdata/zones.txt
var zoneNames string

// change is a moment at which the clocks of a zone change.
type change struct {
	at            time.Time
	before, after int // seconds east of UTC
}

// zone is a zone whose clocks change.
type zone struct {
	*time.Location
	changes []change
}

// changes looks for them every twelve hours, and then minute by minute.
func changes(loc *time.Location, from, to time.Time) []change {
	var found []change
	offset := func(t time.Time) int { _, o := t.In(loc).Zone(); return o }
	const stride = 12 * time.Hour
	for t, last := from, offset(from); t.Before(to); t = t.Add(stride) {
		next := offset(t.Add(stride))
		if next == last {
			continue
		}
		last = next
		for m := t; m.Before(t.Add(stride)); m = m.Add(time.Minute) {
			if a, b := offset(m), offset(m.Add(time.Minute)); a != b {
				found = append(found, change{m.Add(time.Minute), a, b})
			}
		}
	}
	return found
}

var years = struct{ from, to time.Time }{
	time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
	time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC),
}

// zones are those whose clocks change from 2020 to 2035, one of each kind.
var zones = sync.OnceValues(func() ([]zone, error) {
	var all []zone
	seen := map[uint64]bool{}
	for name := range strings.FieldsSeq(zoneNames) {
		loc, err := time.LoadLocation(name)
		if err != nil {
			return nil, err
		}
		list := changes(loc, years.from, years.to)
		h := fnv.New64a()
		for _, c := range list {
			fmt.Fprintln(h, c.at.Unix(), c.before, c.after)
		}
		if len(list) > 0 && !seen[h.Sum64()] {
			seen[h.Sum64()] = true
			all = append(all, zone{loc, list})
		}
	}
	return all, nil
})

func changingZones(t *testing.T) []zone {
	t.Helper()
	all, err := zones()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 40 {
		t.Fatalf("only %d kinds of zones change their clocks", len(all))
	}
	return slices.Clone(all)
}

// around returns specs at and beside the readings that c leaves out or repeats.
func around(c change, r *rand.Rand) []string {
	before, after := c.at.Unix()+int64(c.before), c.at.Unix()+int64(c.after)
	low, high := min(before, after), max(before, after)
	var specs []string
	for _, reading := range []int64{low - 60, low, low + (high-low)/120*60, high - 60, high, high + 60} {
		u := time.Unix(reading, 0).UTC()
		specs = append(specs, fmt.Sprintf("%d %d * * *", u.Minute(), u.Hour()))
		if reading == low+(high-low)/120*60 {
			specs = append(specs,
				fmt.Sprintf("%d %d * * %d", u.Minute(), u.Hour(), u.Weekday()),
				fmt.Sprintf("%d %d %d %d *", u.Minute(), u.Hour(), u.Day(), u.Month()),
				fmt.Sprintf("%d %d %d * %d", u.Minute(), u.Hour(), 1+r.IntN(28), r.IntN(8)))
		}
	}
	return append(specs,
		"0 0 * * *", "59 23 * * *", "* * * * *", "0 * * * *", "*/7 * * * *", "30 18 * * 1-5",
		fmt.Sprintf("%d-59/%d %d-23/%d * * *", r.IntN(60), 1+r.IntN(20), r.IntN(24), 1+r.IntN(5)))
}

func parse(t testing.TB, text, zone string) schedule.Schedule {
	t.Helper()
	s, err := schedule.Parse("SA_TEST", text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same holds the schedule of one spec against the ticks of the model.
func same(t *testing.T, s schedule.Schedule, from, to time.Time, want []time.Time, r *rand.Rand) {
	t.Helper()
	var got []time.Time
	for tick := s.Next(from); !tick.IsZero() && !tick.After(to); tick = s.Next(tick) {
		got = append(got, tick)
	}
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Fatalf("%v from %v: %d ticks, want %d: first difference: %s", s, from, len(got), len(want), differ(got, want))
	}
	for range 20 {
		at := from.Add(time.Duration(r.Int64N(int64(to.Sub(from)))))
		if r.IntN(3) == 0 {
			at = at.Truncate(time.Minute)
		}
		sameAt(t, s, from, at, want, r)
	}
}

// sameAt asks for what is before and after one instant, in (from, ...].
func sameAt(t *testing.T, s schedule.Schedule, from, at time.Time, want []time.Time, r *rand.Rand) {
	t.Helper()
	n, _ := slices.BinarySearchFunc(want, at.Add(1), time.Time.Compare) // those at or before at
	if n < len(want) && !s.Next(at).Equal(want[n]) {
		t.Fatalf("%v: Next(%v) = %v, want %v", s, at, s.Next(at), want[n])
	}
	if n > 0 && !s.Last(at).Equal(want[n-1]) {
		t.Fatalf("%v: Last(%v) = %v, want %v", s, at, s.Last(at), want[n-1])
	}
	most := r.IntN(5)
	got, older := s.Ticks(from, at, most)
	kept := want[max(0, n-most):n]
	if !slices.EqualFunc(got, kept, time.Time.Equal) || older != n-len(kept) {
		t.Fatalf("%v: Ticks(%v, %v, %d) = %v and %d older, want %v and %d", s, from, at, most, got, older, kept, n-len(kept))
	}
}

func differ(got, want []time.Time) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("lacks %v", want[i])
		case i >= len(want):
			return fmt.Sprintf("has %v besides", got[i])
		case !got[i].Equal(want[i]):
			return fmt.Sprintf("%v, want %v", got[i], want[i])
		}
	}
	return "none"
}

func read(texts []string) []*spec {
	specs := make([]*spec, len(texts))
	for i, text := range texts {
		specs[i] = naive(text)
	}
	return specs
}

// long says that the tests take minutes instead of seconds.
func long() bool { return os.Getenv("SCHEDULE_LONG") != "" }

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SCHEDULE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SCHEDULE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestChanges holds the days around changes of the clocks against the model:
// some of each zone, with SCHEDULE_LONG all.
func TestChanges(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	compared := 0
	for _, z := range changingZones(t) {
		list := z.changes
		if !long() {
			list = []change{list[r.IntN(len(list))]}
		}
		for _, c := range list {
			texts := around(c, r)
			from, to := c.at.Add(-30*time.Hour), c.at.Add(30*time.Hour)
			for i, want := range walk(z.Location, from, to, read(texts)) {
				same(t, parse(t, texts[i], z.String()), from, to, want, r)
				compared++
			}
		}
	}
	t.Logf("%d zones, %d specs compared", len(changingZones(t)), compared)
}

// TestPastTheTable does the same beyond 2037, where a zone's file has rules
// instead of dates, with 31 December of leap years.
func TestPastTheTable(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	names := []string{
		"America/New_York", "America/Santiago", "Australia/Lord_Howe", "Europe/Dublin",
		"Antarctica/Troll", "America/Nuuk", "Pacific/Chatham", "Africa/Cairo", "UTC", "Asia/Kolkata",
	}
	if !long() {
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = append(names[:3], "America/New_York")
	}
	for _, name := range names {
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		ends := []change{{at: time.Date(2040, 12, 31, 12, 0, 0, 0, time.UTC)}, {at: time.Date(2044, 12, 31, 0, 0, 0, 0, time.UTC)}}
		for _, c := range append(changes(loc, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2042, 1, 1, 0, 0, 0, 0, time.UTC)), ends...) {
			texts := around(c, r)
			from, to := c.at.Add(-30*time.Hour), c.at.Add(30*time.Hour)
			for i, want := range walk(loc, from, to, read(texts)) {
				same(t, parse(t, texts[i], name), from, to, want, r)
			}
		}
		s := parse(t, "0 12 31 12 *", name)
		if got := s.Next(time.Date(2048, 12, 31, 20, 0, 0, 0, time.UTC)); got.Year() < 2048 {
			t.Errorf("%v: %v", s, got)
		}
	}
}

// TestEveryDay counts: a spec of one time a day ticks once for each date that it
// matches, in every zone, from 2020 to 2035.
func TestEveryDay(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	for _, z := range changingZones(t) {
		c := z.changes[r.IntN(len(z.changes))]
		texts := around(c, r)[:8] // of one time a day
		if !long() {
			texts = []string{texts[r.IntN(8)], texts[r.IntN(8)]}
		}
		for _, text := range texts {
			want, model := 0, naive(text)
			for d := years.from; d.Before(years.to); d = d.AddDate(0, 0, 1) {
				if model.fitsDay(d.Date()) {
					want++
				}
			}
			begin := time.Date(2020, 1, 1, 0, 0, 0, 0, z.Location).Add(-time.Second)
			end := time.Date(2036, 1, 1, 0, 0, 0, 0, z.Location).Add(-time.Second)
			s := parse(t, text, z.String())
			if ticks, older := s.Ticks(begin, end, 1<<20); len(ticks) != want || older != 0 {
				t.Fatalf("%v: %d ticks and %d older, want %d", s, len(ticks), older, want)
			}
			if _, older := s.Ticks(begin, end, 0); older != want {
				t.Fatalf("%v: %d ticks counted, want %d", s, older, want)
			}
		}
	}
}

// TestAllMinutes walks through all minutes of all zones from 2020 to 2035 with
// SCHEDULE_LONG, and of some months of some zones without.
func TestAllMinutes(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	all := changingZones(t)
	if !long() {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:4]
	}
	for _, z := range all {
		seed := r.Uint64()
		t.Run(z.String(), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			from, to := years.from, years.to
			if !long() {
				from = from.AddDate(r.IntN(15), r.IntN(12), 0)
				to = from.AddDate(0, 3, 0)
			}
			var texts []string
			for range 4 {
				c := z.changes[r.IntN(len(z.changes))]
				specs := around(c, r)
				texts = append(texts, specs[r.IntN(9)], specs[r.IntN(9)])
			}
			texts = append(texts, "*/20 1-3 * * *", "0 7 1,15 * *")
			for i, want := range walk(z.Location, from, to, read(texts)) {
				same(t, parse(t, texts[i], z.String()), from, to, want, r)
			}
		})
	}
}

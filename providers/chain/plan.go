package chain

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Ask is one unit of a run: what is missing of one symbol.
type Ask struct {
	Symbol market.Symbol
	// Range is from the first missing session to the last.
	Range market.Range
	// Sessions are the missing ones; none means all of Range.
	Sessions market.Days
	// Basis is that of the bars that are stored of the symbol: sources of
	// another basis are asked only if none of this one is left. "" is any.
	Basis market.Basis
	// Alone says that the symbol is not to be served by sessions of all symbols,
	// whose bars come without others to be compared with; nor is one whose
	// bars are split-adjusted.
	Alone bool
}

// Plan is how the calls for some asks are spread over the sources.
type Plan struct {
	// Calls are the calls by source, without tries in vain.
	Calls map[string]int
	// At is when the last of them starts, if all are made as fast as the limits
	// allow and a run goes on each day.
	At time.Time
	// Today is how many of them fit into today.
	Today int
	// Sessions are those that one call brings for all symbols, Grouped the
	// symbols that are served by them alone.
	Sessions market.Days
	Grouped  map[market.Symbol]bool
}

// Total is the number of calls.
func (p Plan) Total() int {
	n := 0
	for _, calls := range p.Calls {
		n += calls
	}
	return n
}

// maxGrouped is up to how many missing sessions a symbol may have to be thought
// of for calls that bring a session of all symbols.
const maxGrouped = 10

// Plan chooses the calls for asks: the sessions that many symbols lack by the
// calls that bring one of all symbols, if that takes fewer of them, and the rest
// symbol by symbol, so that the sources at work together are through as early as
// can be. What it chooses for sessions holds for the asks of a run from then on.
func (c *Chain) Plan(asks []Ask) (Plan, error) {
	now := c.now()
	paces := make([]Pace, len(c.members))
	for i, m := range c.members {
		paces[i] = m.Pace()
	}
	plan := Plan{Calls: map[string]int{}, At: now, Grouped: map[market.Symbol]bool{}}
	groups, rest, err := c.group(asks, paces)
	if err != nil {
		return Plan{}, err
	}
	for symbol := range groups.of {
		plan.Grouped[symbol] = true
	}
	if n := groups.sessions.Len(); n > 0 {
		eta := paces[groups.by].Estimate(now, n)
		plan.Calls[c.members[groups.by].Traits.Name] = n
		plan.At, plan.Today, plan.Sessions = eta.At, eta.Today, groups.sessions
		paces[groups.by].Before += n
	}
	load, err := c.load(rest)
	if err != nil {
		return Plan{}, err
	}
	c.begin(groups, asks, len(rest))
	c.spread(&plan, load, paces)
	return plan, nil
}

// grouped are the sessions that are asked for one by one, for all symbols, by
// one of the members, and what each symbol wants of them.
type grouped struct {
	by       int
	sessions market.Days
	of       map[market.Symbol]market.Days
}

// group finds the sessions to be asked for as a whole: for the number of
// sessions up to which a symbol is served in that way it takes the one that saves
// most calls.
func (c *Chain) group(asks []Ask, paces []Pace) (best grouped, rest []Ask, err error) {
	best.by = slices.IndexFunc(c.members, func(m *member) bool { return m.Sessions != nil })
	if best.by < 0 || paces[best.by].PerDay > 0 && paces[best.by].LeftToday == 0 {
		return grouped{by: best.by}, asks, nil
	}
	wanted, err := c.wanted(c.members[best.by], asks)
	if err != nil {
		return best, nil, err
	}
	saved, most := 0, 0
	for k := 1; k <= maxGrouped; k++ {
		var sessions market.Days
		units := 0
		for _, days := range wanted {
			if days.Len() <= k {
				sessions, units = sessions.Union(days), units+1
			}
		}
		if s := units - sessions.Len(); s > saved {
			saved, most = s, k
		}
	}
	best.of = shared(wanted, most)
	best.sessions = market.Days{}
	for _, ask := range asks {
		if days, ok := best.of[ask.Symbol]; ok {
			best.sessions = best.sessions.Union(days)
		} else {
			rest = append(rest, ask)
		}
	}
	return best, rest, nil
}

// shared are the symbols with at most a number of sessions, without those that
// want one which no other does: a call for such a symbol costs no more.
func shared(wanted map[market.Symbol]market.Days, most int) map[market.Symbol]market.Days {
	users := map[market.Date]int{}
	for _, days := range wanted {
		if days.Len() <= most {
			for day := range days.All() {
				users[day]++
			}
		}
	}
	of := map[market.Symbol]market.Days{}
	for symbol, days := range wanted {
		alone := days.Len() > most
		for day := range days.All() {
			alone = alone || users[day] == 1
		}
		if !alone {
			of[symbol] = days
		}
	}
	return of
}

// wanted are the sessions of those asks that m can have session by session; a
// symbol with several asks is none of them.
func (c *Chain) wanted(m *member, asks []Ask) (map[market.Symbol]market.Days, error) {
	reach, err := m.Bars.Reach()
	if err != nil {
		return nil, err
	}
	wanted, twice := map[market.Symbol]market.Days{}, map[market.Symbol]bool{}
	for _, ask := range asks {
		days := ask.Sessions
		if days.Len() == 0 {
			if ask.Range.To-ask.Range.From > 3*maxGrouped {
				continue
			}
			if days, err = c.cal.SessionDays(ask.Range); err != nil {
				return nil, err
			}
		}
		ready, err := c.readyUntil(m, ask.Range.To)
		if err != nil {
			return nil, err
		}
		if _, again := wanted[ask.Symbol]; again {
			twice[ask.Symbol] = true
		}
		if n := days.Len(); !ask.Alone && ask.Basis != market.SplitAdjusted && n > 0 && n <= maxGrouped && days.First() >= reach && ready == ask.Range.To {
			wanted[ask.Symbol] = days
		}
	}
	for symbol := range twice {
		delete(wanted, symbol)
	}
	return wanted, nil
}

// load counts the asks by the set of members that can answer them.
func (c *Chain) load(asks []Ask) (map[uint]int, error) {
	load := map[uint]int{}
	for _, ask := range asks {
		if len(c.members) == 1 {
			load[1]++ // it is asked, and says itself what it has not
			continue
		}
		can, _, err := c.eligible(ask.Range, c.lasting(), ask.Basis, true)
		if err != nil {
			return nil, err
		}
		var set uint
		for i, m := range c.members {
			if slices.ContainsFunc(can, func(one candidate) bool { return one.member == m }) {
				set |= 1 << i
			}
		}
		if set != 0 {
			load[set]++
		}
	}
	return load, nil
}

// spread finds the earliest time by which the members can have made all calls,
// and how many each of them makes until then.
func (c *Chain) spread(plan *Plan, load map[uint]int, paces []Pace) {
	total := 0
	for _, n := range load {
		total += n
	}
	if total == 0 {
		return
	}
	now := c.now()
	end := now
	for _, p := range paces {
		if at := p.Estimate(now, total).At; at.After(end) {
			end = at
		}
	}
	room := func(at time.Time) []int {
		rooms := make([]int, len(paces))
		for i, p := range paces {
			rooms[i] = p.within(now, at, total)
		}
		return rooms
	}
	// The end is found to the millisecond.
	low, high := time.Duration(0), end.Sub(now)
	for high-low > time.Millisecond {
		if mid := low + (high-low)/2; fits(load, room(now.Add(mid))) {
			high = mid
		} else {
			low = mid
		}
	}
	at := now.Add(high)
	if at.After(plan.At) {
		plan.At = at
	}
	for i, n := range assign(load, room(at)) {
		if n > 0 {
			plan.Calls[c.members[i].Traits.Name] += n
			plan.Today += paces[i].Estimate(now, n).Today
		}
	}
}

// fits reports whether all asks find room: those that only some members can
// answer must fit into the room of these, for any members (Hall's theorem).
func fits(load map[uint]int, rooms []int) bool {
	for some := uint(1); some < 1<<len(rooms); some++ {
		need, room := 0, 0
		for set, n := range load {
			if set&^some == 0 {
				need += n
			}
		}
		for i, n := range rooms {
			if some&(1<<i) != 0 {
				room += n
			}
		}
		if need > room {
			return false
		}
	}
	return true
}

// assign gives the asks to members with room, those with the least choice
// first, and among the members to the ones that the fewest others need.
func assign(load map[uint]int, rooms []int) []int {
	sets := make([]uint, 0, len(load))
	needed := make([]int, len(rooms))
	for set, n := range load {
		sets = append(sets, set)
		for i := range rooms {
			if set&(1<<i) != 0 {
				needed[i] += n
			}
		}
	}
	slices.SortFunc(sets, func(a, b uint) int { return cmp.Or(bits.OnesCount(a)-bits.OnesCount(b), cmp.Compare(a, b)) })
	calls := make([]int, len(rooms))
	order := make([]int, len(rooms))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return needed[a] - needed[b] })
	for _, set := range sets {
		left := load[set]
		for _, i := range order {
			if set&(1<<i) == 0 {
				continue
			}
			n := min(left, rooms[i]-calls[i])
			calls[i], left = calls[i]+n, left-n
		}
		if left > 0 { // by rounding: one of the millisecond after
			calls[bits.TrailingZeros(set)] += left
		}
	}
	return calls
}

// Estimate tells when asks will be through, symbol by symbol, as far as sources
// that are not stopped can have them; ok is false if none of them can be had.
func (c *Chain) Estimate(asks []Ask) (eta ETA, ok bool) {
	now := c.now()
	load, err := c.load(asks)
	if err != nil || len(load) == 0 {
		return ETA{At: now}, false
	}
	paces := make([]Pace, len(c.members))
	for i, m := range c.members {
		paces[i] = m.Pace()
	}
	plan := Plan{Calls: map[string]int{}, At: now}
	c.spread(&plan, load, paces)
	return plan.ETA(now), true
}

// daysBetween is the number of midnights of New York between two times.
func daysBetween(from, to time.Time) int {
	return int(market.DateOf(to.In(market.NewYork())) - market.DateOf(from.In(market.NewYork())))
}

// ETA is the plan's end in the form of an estimate.
func (p Plan) ETA(now time.Time) ETA {
	return ETA{At: p.At, Today: p.Today, Days: daysBetween(now, p.At)}
}

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report collects what was measured and prints it as tables.
type report struct {
	// judge says whether figures are held to their goals. A short run shows
	// only that everything works.
	judge  bool
	missed int

	goals, calls, crowds table
	// ours are the plays of the limiter in which no key was lost.
	ours []*play
}

func newReport(judge bool) *report {
	return &report{
		judge:  judge,
		goals:  table{title: "Goals", rows: [][]string{{"goal", "measured", "peer or limit", "ours", "ratio or value", "wanted", ""}}},
		calls:  table{title: "One call, tokens free: calls/s, p50 / p99 in microseconds", rows: [][]string{{"variant", "server us/call", "1 goroutine", "", "64 goroutines", "", "vs no-op", "vs redis_rate"}}},
		crowds: table{title: "More callers than tokens", rows: [][]string{{"scenario", "utilisation", "trips per token", "excess of slots", "of starts", "Jain waiters / processes", "wait p50 / p99 ms"}}},
	}
}

// bound is a goal's figure.
type bound struct {
	atLeast bool
	figure  float64
	format  string // of the figure and of what is held against it
}

func atMost(figure float64, format string) bound  { return bound{false, figure, format} }
func atLeast(figure float64, format string) bound { return bound{true, figure, format} }

func (b bound) String() string {
	sign := "<="
	if b.atLeast {
		sign = ">="
	}
	return sign + " " + fmt.Sprintf(b.format, b.figure)
}

func (b bound) met(value float64) bool {
	if b.atLeast {
		return value >= b.figure
	}
	return value <= b.figure
}

// hold adds a goal: what the peer (or the limit) has and what we have, in
// words, and the value that is held to the bound.
func (r *report) hold(goal int, what, peer, ours string, value float64, b bound) {
	r.line(goal, what, peer, ours, fmt.Sprintf(b.format, value), b, b.met(value))
}

// ratio is hold for a ratio of rounds.
func (r *report) ratio(goal int, what, peer, ours string, s spread, b bound) {
	r.line(goal, what, peer, ours, fmt.Sprintf("%.2fx (%.2f-%.2f)", s.median, s.low, s.high), b, b.met(s.median))
}

func (r *report) line(goal int, what, peer, ours, value string, b bound, met bool) {
	verdict := "met"
	switch {
	case !r.judge:
		verdict = "not judged"
	case !met:
		verdict = "MISSED"
		r.missed++
	}
	r.goals.add(fmt.Sprint(goal), what, peer, ours, value, b.String(), verdict)
}

// throughput reports goals 1, 2, 3 and 10.
func (r *report) throughput(variants []variant, one, crowd samples) {
	const times = "%.2fx"
	cost := func(name string) string {
		if us := spreadOf(one.server(name)).median; us > 0 {
			return fmt.Sprintf("%.2f us", us)
		}
		return "" // it sends no EVALSHA
	}
	rate := func(s samples, name string) string { return fmt.Sprintf("%.0f/s", spreadOf(s.rates(name)).median) }
	faster := func(goal int, what string, s samples, ours, peer string, least float64) {
		r.ratio(goal, what, peer+" "+rate(s, peer), rate(s, ours),
			quotients(s.rates(ours), s.rates(peer)), atLeast(least, times))
	}
	r.ratio(1, "script: server time per call", redisRate+" "+cost(redisRate), cost(wait),
		quotients(one.server(wait), one.server(redisRate)), atMost(1.30, times))
	faster(1, "script: speed, 1 goroutine", one, bare, redisRate, 0.95)
	faster(1, "script: speed, 1 goroutine", one, bare, noOp, 0.80)
	faster(2, "Wait: speed, 1 goroutine", one, wait, bare, 0.85)
	faster(3, "Wait: speed, 64 goroutines", crowd, wait, noOp, 4)
	faster(3, "Wait: speed, 64 goroutines", crowd, wait, redisRate, 8)
	faster(10, "3 windows in one Wait, 1 goroutine", one, threeWaits, threeRates, 2.2)
	faster(10, "3 windows in one Wait, 64 goroutines", crowd, threeWaits, threeRates, 2.2)
	for _, v := range variants {
		r.calls.add(append([]string{v.name, cost(v.name)}, append(speed(one, v.name), append(speed(crowd, v.name),
			versus(crowd, v.name, noOp), versus(crowd, v.name, redisRate))...)...)...)
	}
}

// speed returns the calls per second and the latencies of a variant, in words.
func speed(s samples, name string) []string {
	if len(s[name]) == 0 {
		return []string{"", ""}
	}
	median := func(of func(sample) float64) float64 { return spreadOf(s.column(name, of)).median }
	return []string{
		fmt.Sprintf("%.0f", spreadOf(s.rates(name)).median),
		fmt.Sprintf("%.0f / %.0f", median(func(one sample) float64 { return one.p50 }), median(func(one sample) float64 { return one.p99 })),
	}
}

func versus(s samples, name, other string) string {
	if len(s[name]) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", quotients(s.rates(name), s.rates(other)).median)
}

const (
	plain  = "%.3f"
	times  = "%.2fx"
	tokens = "%.1f tokens"
	millis = "%.0f ms"
)

// contended reports goals 4 and 5 at one rate.
func (r *report) contended(rate string, ours, long, redisRate, throttled *play) {
	for _, p := range []*play{ours, long, redisRate, throttled} {
		r.crowd(p)
	}
	r.hold(4, rate+": Redis trips per token", fmt.Sprintf("redis_rate %.1f", redisRate.trips()),
		fmt.Sprintf("%.2f", ours.trips()), ours.trips(), atMost(1.05, plain))
	r.used(4, rate, ours, redisRate)
	for _, horizon := range []struct {
		name string
		play *play
		most float64
	}{{"H 250 ms", ours, 2}, {"H 10 s", long, 1.05}} {
		p99 := percentile(horizon.play.waits(), 0.99)
		r.hold(5, rate+", "+horizon.name+": wait p99 / FIFO ideal of "+fmt.Sprintf(millis, ours.ideal()),
			fmt.Sprintf("redis_rate "+millis, percentile(redisRate.waits(), 0.99)),
			fmt.Sprintf(millis, p99), p99/horizon.play.ideal(), atMost(horizon.most, times))
		waiters, _ := horizon.play.shares()
		theirs, _ := redisRate.shares()
		r.hold(5, rate+", "+horizon.name+": Jain index over waiters", fmt.Sprintf("redis_rate "+plain, jain(theirs)),
			fmt.Sprintf(plain, jain(waiters)), jain(waiters), atLeast(0.97, plain))
	}
}

// used reports the utilisation of a play.
func (r *report) used(goal int, title string, ours, peer *play) {
	limit := fmt.Sprintf("%g/s", ours.Quota.rate())
	if peer != nil {
		limit = fmt.Sprintf("redis_rate "+plain, peer.utilisation())
	}
	least := 0.995
	if ours.Cancelled > 0 {
		least = 0.99
	}
	got := ours.utilisation()
	r.hold(goal, title+": utilisation", limit, fmt.Sprintf(plain, got), got, atLeast(least, plain))
}

// slow reports goal 4 at a slow rate.
func (r *report) slow(p *play) {
	r.crowd(p)
	r.hold(4, "0.5/s: Redis trips per token", "", fmt.Sprintf("%.2f", p.trips()), p.trips(), atMost(1.05, plain))
	r.used(4, "0.5/s", p, nil)
}

// cancelled reports goal 7.
func (r *report) cancelled(p *play) {
	r.crowd(p)
	r.used(7, "200/s, 40 % cancelled", p, nil)
	got := p.slotExcess()
	r.hold(7, "200/s, 40 % cancelled: over-admission, slots", "", fmt.Sprintf("%+.4f tokens", got), got, atMost(0.001, "%.4f"))
}

// ahead is how many tokens may be promised ahead, which is what goal 8 allows
// to go wrong.
func ahead(p *play) float64 { return p.Quota.rate() * horizon.Seconds() }

// lostKeys reports goal 8 where keys are lost.
func (r *report) lostKeys(p *play) {
	r.crowds.add(r.crowdRow(p)...)
	r.hold(8, "keys lost 5 times: over-admission, slots", "rate x H", fmt.Sprintf("%+.3f tokens", p.slotExcess()),
		p.slotExcess(), atMost(ahead(p), tokens))
	r.hold(8, "keys lost 5 times: over-admission, starts", "rate x H", fmt.Sprintf("%+.3f tokens", p.startExcess()),
		p.startExcess(), atMost(ahead(p), tokens))
}

// paused reports goal 8 where a provider asks for a pause.
func (r *report) paused(p *play) {
	r.crowd(p)
	own, others := p.whilePaused()
	r.hold(8, "pause of "+p.PauseFor.String()+": starts of the process that paused", "none",
		fmt.Sprint(own), float64(own), atMost(0, tokens))
	r.hold(8, "pause of "+p.PauseFor.String()+": starts of the other two", "rate x H",
		fmt.Sprint(others), float64(others), atMost(ahead(p), tokens))
}

// crashed reports goal 8 where a process is killed.
func (r *report) crashed(p *play) {
	r.crowd(p)
	r.hold(8, "one process killed: tokens lost", "rate x H", fmt.Sprintf(tokens, p.lost()), p.lost(), atMost(ahead(p), tokens))
}

// daily reports goal 9.
func (r *report) daily(rate string, ours, peer *play) {
	r.crowd(ours)
	if peer != nil {
		r.crowd(peer)
	}
	most := float64(backfillHorizon.Milliseconds()) + 2e3/ours.Quota.rate()
	for _, where := range []struct {
		name    string
		process int
	}{{"beside the backfill", 0}, {"in a process of its own", processes}} {
		waits := ours.dailyWaits(where.process)
		theirs := ""
		if peer != nil {
			theirs = fmt.Sprintf("redis_rate "+millis, percentile(peer.dailyWaits(where.process), 0.99))
		}
		r.hold(9, fmt.Sprintf("%s: daily job %s, wait p99 of %d", rate, where.name, len(waits)), theirs,
			fmt.Sprintf("p50 "+millis, percentile(waits, 0.5)), percentile(waits, 0.99), atMost(most, millis))
	}
}

// crowd adds a play to the table of plays, and one of ours to those that goal 6
// looks at.
func (r *report) crowd(p *play) {
	r.crowds.add(r.crowdRow(p)...)
	if p.Peer == peerOurs {
		r.ours = append(r.ours, p)
	}
}

func (r *report) crowdRow(p *play) []string {
	slots := ""
	if p.Peer == peerOurs {
		slots = fmt.Sprintf("%+.4f", p.slotExcess())
	}
	waiters, processes := p.shares()
	waits := p.waits()
	return []string{
		p.title, fmt.Sprintf(plain, p.utilisation()), fmt.Sprintf("%.2f", p.trips()), slots,
		fmt.Sprintf("%+.2f", p.startExcess()), fmt.Sprintf("%.3f / %.3f", jain(waiters), jain(processes)),
		fmt.Sprintf("%.0f / %.0f", percentile(waits, 0.5), percentile(waits, 0.99)),
	}
}

// admission reports goal 6, over all plays of ours in which no key was lost:
// the worst of each kind.
func (r *report) admission() {
	var slots, starts *play
	soon := 0
	limit := func(p *play) float64 { return 1 + p.Quota.rate()*p.late().Seconds() }
	for _, p := range r.ours {
		if slots == nil || p.slotExcess() > slots.slotExcess() {
			slots = p
		}
		if starts == nil || p.startExcess()-limit(p) > starts.startExcess()-limit(starts) {
			starts = p
		}
		soon = max(soon, p.early())
	}
	r.hold(6, "over-admission, slots, worst of all: "+slots.title, "",
		fmt.Sprintf("%+.4f tokens", slots.slotExcess()), slots.slotExcess(), atMost(0.001, "%.4f"))
	r.hold(6, "over-admission, starts, worst of all: "+starts.title,
		fmt.Sprintf("1 + rate x %s late", starts.late().Round(100*time.Microsecond)),
		fmt.Sprintf("%+.2f tokens", starts.startExcess()), starts.startExcess(), atMost(limit(starts), "%.2f"))
	r.hold(6, "starts without a slot of their own", "none", fmt.Sprint(soon), float64(soon), atMost(0, "%.0f"))
}

// print writes all tables, as aligned text or as Markdown, the goals in their
// order.
func (r *report) print(w io.Writer, markdown bool) {
	slices.SortStableFunc(r.goals.rows[1:], func(a, b []string) int {
		return cmp.Or(cmp.Compare(len(a[0]), len(b[0])), cmp.Compare(a[0], b[0]))
	})
	for _, t := range []table{r.goals, r.calls, r.crowds} {
		if len(t.rows) == 1 {
			continue // of the half that was left out
		}
		if markdown {
			t.markdown(w)
		} else {
			t.text(w)
		}
	}
	_, _ = fmt.Fprintln(w, "A ratio of two speeds is the median of the quotients of all rounds, with its quartiles.")
	if r.judge {
		_, _ = fmt.Fprintf(w, "%d of %d figures missed their goal.\n", r.missed, len(r.goals.rows)-1)
	}
}

// table is rows of text; the first names the columns.
type table struct {
	title string
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) text(w io.Writer) {
	_, _ = fmt.Fprintf(w, "%s\n\n", t.title)
	aligned := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range t.rows {
		_, _ = fmt.Fprintln(aligned, strings.Join(row, "\t"))
	}
	_ = aligned.Flush()
	_, _ = fmt.Fprintln(w)
}

func (t *table) markdown(w io.Writer) {
	_, _ = fmt.Fprintf(w, "**%s**\n\n", t.title)
	for i, row := range t.rows {
		_, _ = fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			_, _ = fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	_, _ = fmt.Fprintln(w)
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/jobs/backfill"
	"github.com/alpha-oracle/worker/jobs/dailybars"
)

const (
	// shownAttempts is how many of the newest attempts are told, readAttempts
	// how many are looked through for the one that brought a bar.
	shownAttempts = 10
	readAttempts  = 2000
	// shownCorrections is how many of the newest corrections are looked at.
	shownCorrections = 5000
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why SYMBOL [DATE]",
		Short: "What is known of a symbol's bar: when it was asked for, what came of it, what is next",
		Long: `Tells of one session of a symbol (without DATE of the newest whose bars are final)
whether its bar is stored and since when, from which source, and what of it was
corrected later; when it was asked for, with what answer, and how many calls of the
day were made by then; and what happens next. No provider is called.`,
		Example: "  worker why AAPL\n  worker why AAPL 2026-03-12 --json",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			symbol, err := market.ParseSymbol(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			var date once
			if len(args) == 2 {
				date = once{value: args[1], set: true}
			}
			return a.withServices(cmd.Context(), func(ctx context.Context, s *services) error {
				return a.why(ctx, s, symbol, date)
			})
		},
	}
}

// story is what worker why tells.
type story struct {
	Symbol  market.Symbol       `json:"symbol"`
	Session market.Date         `json:"session"`
	State   market.SessionState `json:"state"`
	// Source is that of the stored bar, FirstSeen when the first run that asked
	// for it stored bars; nil if the ledger does not know, as of a bar of
	// another program.
	Source    string     `json:"source,omitempty"`
	FirstSeen *time.Time `json:"first_seen,omitempty"`
	// Bar is open, high, low and close.
	Bar         *barStory         `json:"bar,omitempty"`
	Corrections []correctionStory `json:"corrections"`
	Attempts    []attemptStory    `json:"attempts"`
	Next        string            `json:"next"`
	// NextAt is the earliest time at which a call can be made for it; absent
	// if none is needed or would help.
	NextAt *time.Time `json:"next_at,omitempty"`
}

type barStory struct {
	Open   float64 `json:"open"`
	High   float64 `json:"high"`
	Low    float64 `json:"low"`
	Close  float64 `json:"close"`
	Volume int64   `json:"volume"`
}

type correctionStory struct {
	At    time.Time `json:"at"`
	Field string    `json:"field"`
	// Old is nil where the stored value was null.
	Old    *float64 `json:"old"`
	New    float64  `json:"new"`
	Source string   `json:"source"`
}

type attemptStory struct {
	At      time.Time `json:"at"`
	Run     int64     `json:"run"`
	Job     string    `json:"job"`
	Period  string    `json:"period"`
	Outcome string    `json:"outcome"`
	Message string    `json:"message,omitempty"`
	Rows    int       `json:"rows"`
	// Provider is who was asked, absent if that is not known; CallsThatDay how many calls it had had in New
	// York's day by then, this one included; absent after 40 days.
	Provider     string `json:"provider,omitempty"`
	CallsThatDay int    `json:"calls_that_day,omitempty"`
}

func (a *app) why(ctx context.Context, s *services, symbol market.Symbol, date once) error {
	session, through, err := a.askedSession(date)
	if err != nil {
		return err
	}
	sources, err := a.bars(ctx, s, "")
	if err != nil {
		return err
	}
	defer sources.close()
	one := market.Range{From: session, To: session}
	if _, _, err := s.db.ReconcileBars(ctx, one, symbol); err != nil {
		return fmt.Errorf("compare the coverage with the rows: %w", err)
	}
	coverage, err := s.db.BarCoverage(ctx, 0, symbol)
	if err != nil {
		return fmt.Errorf("read coverage: %w", err)
	}
	st := story{Symbol: symbol, Session: session, State: coverage[symbol].State(session)}
	attempts, err := s.db.Attempts(ctx, symbol, readAttempts)
	if err != nil {
		return fmt.Errorf("read attempts: %w", err)
	}
	if err := a.tellBar(ctx, s, &st, coverage[symbol], attempts); err != nil {
		return err
	}
	if err := a.tellAttempts(ctx, s, &st, attempts); err != nil {
		return err
	}
	reach, err := sources.Reach()
	if err != nil {
		return err
	}
	a.tellNext(&st, through, reach, sources)
	if a.asJSON {
		return a.printJSON(st)
	}
	a.printStory(st)
	return nil
}

// askedSession reads the session to tell of, and the newest that is final.
func (a *app) askedSession(date once) (session, through market.Date, err error) {
	if through, err = market.NYSE().LastClosed(a.now(), settleTime); err != nil || !date.set {
		return through, through, err
	}
	if session, err = market.ParseDate(date.value); err != nil {
		return 0, 0, usagef("%w", err)
	}
	open, err := market.NYSE().IsSession(session)
	switch {
	case err != nil:
		return 0, 0, usagef("%w", err)
	case !open:
		return 0, 0, usagef("%w%s", &dailybars.NoSessionError{Date: session, Reason: market.NYSE().Why(session)}, neighbours(session))
	}
	return session, through, nil
}

// tellBar tells of the stored bar: its values, where and when it came from, and
// what was corrected.
func (a *app) tellBar(ctx context.Context, s *services, st *story, known market.BarCoverage, attempts []store.Attempt) error {
	st.Corrections = []correctionStory{}
	corrections, err := s.db.Corrections(ctx, st.Symbol, shownCorrections)
	if err != nil {
		return fmt.Errorf("read corrections: %w", err)
	}
	for _, c := range corrections {
		if c.Date != st.Session || !isBarField(c.Field) {
			continue
		}
		told := correctionStory{At: c.At.UTC(), Field: c.Field, New: c.New, Source: c.Source}
		if c.HadOld {
			told.Old = new(c.Old)
		}
		st.Corrections = append(st.Corrections, told)
	}
	if st.State != market.SessionStored {
		return nil
	}
	series, err := s.db.Bars(ctx, st.Symbol, market.Range{From: st.Session, To: st.Session})
	if err != nil {
		return fmt.Errorf("read the bar: %w", err)
	}
	if len(series.Bars) == 0 {
		return nil // deleted a moment ago
	}
	b := series.Bars[0]
	st.Source, st.Bar = cmp.Or(series.Source, "another program"), &barStory{b.Open, b.High, b.Low, b.Close, b.Volume}
	if series.Source == "" || !known.AnsweredBy(series.Source).Has(st.Session) {
		return nil
	}
	for _, at := range attempts { // newest first: the oldest that fits stays
		if at.Rows > 0 && isDone(at.Outcome) && mayHold(at, st.Session) {
			st.FirstSeen = new(at.At.UTC())
		}
	}
	return nil
}

// isBarField tells corrections of bars from those of facts and short interest,
// which the same symbol has.
func isBarField(field string) bool {
	return slices.Contains([]string{"open", "high", "low", "close", "volume", "adjusted_close"}, field)
}

// mayHold reports whether what an attempt brought can hold the bar of session.
func mayHold(at store.Attempt, session market.Date) bool {
	switch at.Job {
	case dailybars.Name:
		period, err := market.ParseDate(at.Period)
		if err != nil {
			return false
		}
		oldest, err := market.NYSE().Back(period, dailybars.WindowSessions-1)
		return err == nil && oldest <= session && session <= period
	case backfill.Name:
		from, to, ok := strings.Cut(at.Period, "..")
		first, err1 := market.ParseDate(from)
		last, err2 := market.ParseDate(to)
		return ok && err1 == nil && err2 == nil && first <= session && session <= last
	}
	return false
}

// tellAttempts tells of the newest attempts at bars of the symbol that concern
// the session, or that failed.
func (a *app) tellAttempts(ctx context.Context, s *services, st *story, attempts []store.Attempt) error {
	st.Attempts = []attemptStory{}
	for _, at := range attempts {
		bars := at.Job == dailybars.Name || at.Job == backfill.Name
		if !bars || isDone(at.Outcome) && !mayHold(at, st.Session) || len(st.Attempts) == shownAttempts {
			continue
		}
		provider, calls := a.asked(st, at), 0
		if provider != "" {
			var err error
			if calls, err = s.db.CallsBetween(ctx, provider, lastMidnight(at.At), at.At); err != nil {
				return fmt.Errorf("count the calls of that day: %w", err)
			}
		}
		st.Attempts = append(st.Attempts, attemptStory{
			At: at.At.UTC(), Run: at.RunID, Job: at.Job, Period: at.Period, Outcome: at.Outcome, Message: at.Message, Rows: at.Rows,
			Provider: provider, CallsThatDay: calls,
		})
	}
	return nil
}

// asked is who was asked in an attempt, as far as it can be told: a failure names
// its source, a bar has one.
func (a *app) asked(st *story, at store.Attempt) string {
	names := a.cfg.barSources()
	for _, name := range names {
		if strings.HasPrefix(at.Message, name+": ") {
			return name
		}
	}
	switch {
	case len(names) == 1:
		return names[0]
	case isDone(at.Outcome) && slices.Contains(names, st.Source):
		return st.Source
	}
	return ""
}

func isDone(outcome string) bool { return outcome == store.Stored || outcome == store.Unchanged }

// tellNext says what happens next to the session.
func (a *app) tellNext(st *story, through, reach market.Date, sources *barSources) {
	command := "worker repair --symbols " + string(st.Symbol)
	if st.Session == through {
		command = "worker run daily-bars --symbols " + string(st.Symbol)
	}
	switch {
	case st.Session > through:
		st.Next = fmt.Sprintf("its bar is not final yet: the newest session that has final bars is %s", through)
	case st.State == market.SessionStored:
		st.Next = fmt.Sprintf("nothing is missing; each run of daily-bars compares it again while it is among the newest %d sessions", dailybars.WindowSessions)
	case st.State == market.SessionNotListed:
		st.Next = "final: the source has bars of later sessions only; worker backfill --reset asks once more"
	case st.State == market.SessionNoData:
		st.Next = "the source has bars around it, but none of it; worker backfill --reset asks once more"
	case st.Session < reach:
		st.Next = fmt.Sprintf("it cannot be had with this key, which reaches back to %s: take a premium key or another source (SA_DATA__BARS__SOURCES)", reach)
	case sources.spent():
		at := nextMidnight(a.now()).UTC()
		st.Next, st.NextAt = fmt.Sprintf("the calls of the day are spent; %s fetches it with one call from %s on", command, at.Format(time.RFC3339)), &at
	default:
		st.Next, st.NextAt = command+" fetches it with one call, now", new(a.now().UTC())
		if left := sources.leftToday(); left != "" {
			st.Next += " (" + left + ")"
		}
	}
}

func (a *app) printStory(st story) {
	a.printf("%s %s: %s\n", st.Symbol, st.Session, st.inWords())
	for _, c := range st.Corrections {
		was := "null"
		if c.Old != nil {
			was = fmt.Sprint(*c.Old)
		}
		a.printf("  corrected %s: %s from %s to %v (%s)\n", c.At.Format(time.RFC3339), c.Field, was, c.New, c.Source)
	}
	if len(st.Attempts) == 0 {
		a.printf("no run has asked for it\n")
	} else {
		t := a.newTable("asked at", "job", "period", "outcome", "rows", "calls that day", "message")
		for _, at := range st.Attempts {
			t.AppendRow(table.Row{at.At.Format(time.RFC3339), at.Job, at.Period, at.Outcome, at.Rows, at.CallsThatDay, at.Message})
		}
		a.printf("%s\n", t.Render())
	}
	a.printf("next: %s\n", st.Next)
}

// inWords is the story in one line.
func (st story) inWords() string {
	if st.Bar == nil {
		return map[market.SessionState]string{
			market.SessionStored:    "stored a moment ago, and gone",
			market.SessionLost:      "lost: its bar was stored, and its row is gone",
			market.SessionNotListed: "not listed: the source has bars of later sessions only",
			market.SessionNoData:    "no data: the source has bars around it, but none of it",
			market.SessionUnasked:   "missing: no source has answered about it",
		}[st.State]
	}
	text := fmt.Sprintf("stored, from %s", st.Source)
	if st.FirstSeen != nil {
		text += ", first seen " + st.FirstSeen.Format(time.RFC3339)
	}
	times := map[time.Time]bool{}
	for _, c := range st.Corrections {
		times[c.At] = true
	}
	switch n := len(times); n {
	case 0:
	case 1:
		text += ", corrected once"
	case 2:
		text += ", corrected twice"
	default:
		text += fmt.Sprintf(", corrected %d times", n)
	}
	return fmt.Sprintf("%s: open %v, high %v, low %v, close %v, volume %d", text, st.Bar.Open, st.Bar.High, st.Bar.Low, st.Bar.Close, st.Bar.Volume)
}

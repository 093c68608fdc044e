// Package store holds what the two stores, postgres and sqlite, share: the
// promises that they make, the words of the ledger and the comparison that
// comes before every write. The suite in storetest holds both stores to the
// comments of this file.
package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

// Statuses of a run. A run is "running" from its claim until it ends; one
// whose process died is turned to "interrupted" by the next claim.
const (
	Running     = "running"
	Interrupted = "interrupted"
)

// Outcomes that make a unit done.
const (
	Stored    = "stored"
	Unchanged = "unchanged"
)

// ErrPassed says that a period has had a run that who wants to begin one did not
// know of.
var ErrPassed = errors.New("the period has been run meanwhile")

// Seen is what is known of a period's runs.
type Seen struct {
	// Run is the newest one, 0 if there was none.
	Run int64
	// Ended says that its end was seen too. One that was not and that was
	// interrupted since, as that of a process that was killed, is none that
	// has passed.
	Ended bool
}

// SeenAll is for a BeginAfter that takes no account of other runs.
func SeenAll() Seen { return Seen{Run: math.MaxInt64, Ended: true} }

// ErrFenced is returned by every write of a run that is no longer the owner
// of its period. Nothing of that write is stored.
var ErrFenced = errors.New("another run has taken over this period: nothing was stored")

// RefusedError is returned for rows that no store can hold as they are: none of
// them is stored, and none would be by another try.
type RefusedError struct{ Err error }

// Error says what is wrong with the rows.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong with the rows.
func (e *RefusedError) Unwrap() error { return e.Err }

// Outcome is the class of the symbol whose rows they are.
func (e *RefusedError) Outcome() string { return "bad_payload" }

// HeldError is returned by Begin while another process owns the period.
type HeldError struct {
	Job, Period, Owner string
	Since              time.Time
	// Retry is how long the owner's lease still lasts, by the database's clock:
	// after that Begin takes the period over, unless the owner has renewed it.
	// It is 0 if that is not known.
	Retry time.Duration
}

// Error names the owner and since when it runs.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s %s is being run by %s since %s", e.Job, e.Period, e.Owner, e.Since.UTC().Format(time.RFC3339))
}

// DB is a store of bars, fundamentals and facts, of reports of insiders and short
// interest, and of the ledger behind them. It is safe for concurrent use.
type DB interface {
	// Migrate brings the schema up to this program's version. Several
	// processes may do it at once. Tables that alpha-oracle made are
	// adopted: columns are added, no row is lost.
	Migrate(ctx context.Context) error
	// SchemaVersion returns the version of the stored schema and the one
	// that this program needs.
	SchemaVersion(ctx context.Context) (have, want int64, err error)

	// Begin claims (job, period) for owner. The claim ends with End, with
	// the process or with its connection, and at most one is alive at a
	// time: while it is, Begin returns a *HeldError. An owner that hangs or
	// is cut off keeps its claim until its [Lease] is over, which it renews
	// by itself; the next Begin then takes the period over, and the old run
	// can store nothing more.
	Begin(ctx context.Context, job, period, owner string) (Run, error)
	// BeginAfter is Begin for who has decided by what it has seen of the
	// period: if more has been run of it since, it returns [ErrPassed].
	BeginAfter(ctx context.Context, job, period, owner string, seen Seen) (Run, error)

	// Periods returns the rows of the journal, at most limit of them, of all
	// jobs if job is "": the newest tick first, and those without one last.
	Periods(ctx context.Context, job string, limit int) ([]PeriodInfo, error)
	// NotePeriod writes down what has become of a period. noted is false, and
	// nothing is written, if the journal has a final state of it already;
	// only Complete replaces a final state, Missed or GaveUp. A zero Tick and
	// a zero RunID leave the stored ones. See [CheckPeriod]. After a lost
	// reply the same note by another process counts as noted by this one.
	NotePeriod(ctx context.Context, p PeriodInfo) (noted bool, err error)

	// DoneUnits returns the units of (job, period) that are done.
	DoneUnits(ctx context.Context, job, period string) ([]market.Symbol, error)
	// Forget takes units of (job, period) out of the ledger's items, so
	// that they count as not done; with no units, all of them. It touches
	// no bar.
	Forget(ctx context.Context, job, period string, units ...market.Symbol) error
	// Coverage returns how far job covers each symbol; a symbol that it
	// never asked for is absent.
	Coverage(ctx context.Context, job string) (map[market.Symbol]market.Coverage, error)

	// BarCoverage returns what is known of the bars of symbols, day by day, as
	// SaveBars, SaveHistory and ReconcileBars have left it; no symbols means all
	// that it knows. A symbol of which nothing is known is absent. It holds the
	// years from that of from on, all of them with the zero Date, and of the
	// stored days the first year too, so that a session before the first bar of
	// all is told from one that has none.
	BarCoverage(ctx context.Context, from market.Date, symbols ...market.Symbol) (map[market.Symbol]market.BarCoverage, error)
	// ReconcileBars compares the stored days of BarCoverage with the rows of
	// window, whose ends are open where they are zero; no symbols means all. A
	// row without its day, as another program writes it, is found: the day
	// becomes a stored one and, if no source has answered for it, one that the
	// row's source has. A stored day without its row is lost: it becomes a lost
	// day, for which no source has answered. Nothing else is written. A row that a save stores meanwhile is never
	// taken for lost. Rows at another time than midnight UTC are no bars.
	// After an error some of the symbols may be done, and it can be repeated.
	ReconcileBars(ctx context.Context, window market.Range, symbols ...market.Symbol) (found, lost int, err error)
	// ForgetHistory lets the history of symbols count as never asked for: it
	// takes them out of the done units of HistoryKind of BackfillJob, and all
	// of their answered days out of BarCoverage; no symbols means all. It
	// touches no bar and no stored day.
	ForgetHistory(ctx context.Context, symbols ...market.Symbol) error

	// ForgetDone lets everything count as not done, of all jobs: it takes all
	// units out of the ledger's items and all answered days out of BarCoverage,
	// as ForgetHistory does, and LastRun and Coverage of AltDataJob begin anew.
	// It touches nothing that was fetched, and no attempt, run or call.
	ForgetDone(ctx context.Context) error

	// KillSwitch returns what the table kill_switch says.
	KillSwitch(ctx context.Context) (KillSwitch, error)
	// ChangeKillSwitch makes the kill switch active or inactive and writes the
	// change into the audit, in one transaction; of concurrent changes one is
	// after the other. One that is as asked already stays as it is, with its
	// first time and reason: changed is then false, and the audit has the wish
	// all the same. A deactivation within the cooldown is refused by a
	// [*CooldownError], and nothing is written. The returned state has the change
	// as Pending until KillSwitchCopied is told of it.
	ChangeKillSwitch(ctx context.Context, c KillSwitchChange) (state KillSwitch, changed bool, err error)
	// KillSwitchCopied says that Redis and those who listen there know of the
	// pending change with this ID of the audit, and with it of all before it.
	KillSwitchCopied(ctx context.Context, id int64) error
	// SaveAudit adds a row to the audit. See [CheckAudit].
	SaveAudit(ctx context.Context, e AuditEntry) error
	// Audit returns the newest rows of the audit first, at most limit of them;
	// of all actions if action is "".
	Audit(ctx context.Context, action string, limit int) ([]AuditEntry, error)

	// Universe returns the members of a list of symbols in ascending order,
	// and when one was last added or removed, in UTC; none and the zero Time
	// of a list that was never saved.
	Universe(ctx context.Context, name string) (symbols []market.Symbol, at time.Time, err error)
	// SaveUniverse makes symbols, in any order, the members of a list and
	// returns in ascending order who was not one before and who is none any
	// longer. Those stay in the table, with the time. No symbols at all are
	// refused, and so is one without a name.
	SaveUniverse(ctx context.Context, name string, symbols []market.Symbol) (added, removed []market.Symbol, err error)

	// RecordCall writes down one call to provider before it is made. With
	// limit > 0 it does so only while fewer than limit calls were written
	// down at or after since and no SpendDay is in force, and reports
	// whether it did; concurrent callers of all processes never exceed
	// limit.
	RecordCall(ctx context.Context, provider string, limit int, since time.Time) (bool, error)
	// SpendDay notes that provider says of itself that its calls are spent
	// until then. The latest note counts.
	SpendDay(ctx context.Context, provider string, until time.Time) error
	// SpentUntil returns until when the calls to provider are spent by its
	// own word; the zero Time, or one in the past, means they are not.
	SpentUntil(ctx context.Context, provider string) (time.Time, error)
	// CallsSince counts the calls to provider at or after since.
	CallsSince(ctx context.Context, provider string, since time.Time) (int, error)
	// CallsBetween counts the calls to provider at or after from and before
	// until.
	CallsBetween(ctx context.Context, provider string, from, until time.Time) (int, error)

	// Bars returns the stored bars of a symbol in ascending order. Source
	// is that of the newest bar.
	Bars(ctx context.Context, symbol market.Symbol, window market.Range) (market.Series, error)
	// Facts returns all versions of a symbol's facts, in the order of
	// [market.AsOf] and, of one figure, in that of their filing days.
	Facts(ctx context.Context, symbol market.Symbol) ([]market.Fact, error)
	// FactsAsOf calls each for the facts that were known at the end of day,
	// in ascending order of the symbols and for each symbol in the order of
	// [market.AsOf], with the same result. No symbols, or no concepts, means
	// all of them. Each symbol is read by itself and in one piece before the
	// first of its facts is handed over, so each may take its time. An
	// error of each ends it and is returned.
	FactsAsOf(ctx context.Context, day market.Date, symbols []market.Symbol, concepts []string, each func(market.Symbol, market.Fact) error) error
	// Fundamentals returns the newest stored row of a symbol that was learnt
	// through day; ok is false if there is none. Of a row that another
	// program wrote the origins are zero; one that is not at midnight UTC is
	// left out.
	Fundamentals(ctx context.Context, symbol market.Symbol, through market.Date) (row market.Fundamentals, ok bool, err error)
	// InsiderFilings returns the filings that are stored of a symbol, by the
	// day on which they were filed and their accession number.
	InsiderFilings(ctx context.Context, symbol market.Symbol) ([]market.InsiderFiling, error)
	// ShortInterest returns the stored rows of a symbol in ascending order.
	// Left out are those that another program wrote without a short interest
	// or at another time than midnight UTC.
	ShortInterest(ctx context.Context, symbol market.Symbol) ([]market.ShortInterest, error)
	// PendingFilings returns the listed filings of a window, by the day on
	// which they were filed and their accession number, that have no item of
	// kind FilingsKind of job AltDataJob yet. Failures counts their attempts by
	// [DocumentFaults]; of two outcomes with as many the newer one is named.
	PendingFilings(ctx context.Context, window market.Range) ([]market.PendingFiling, error)
	// LastRun returns the end of the window of the job's last run that was
	// successful as a whole, in UTC and whole seconds; the zero Time if there
	// is none.
	LastRun(ctx context.Context, job string) (time.Time, error)
	// Corrections returns the newest corrections of a symbol's bars, facts and
	// short interest first, at most limit of them.
	Corrections(ctx context.Context, symbol market.Symbol, limit int) ([]Correction, error)
	// Runs returns the newest runs first, at most limit of them; of all
	// jobs if job is "".
	Runs(ctx context.Context, job string, limit int) ([]RunInfo, error)
	// RunsBefore is Runs for the runs with IDs below before; 0 means all.
	RunsBefore(ctx context.Context, job string, before int64, limit int) ([]RunInfo, error)
	// RunAttempts returns the attempts of one run with IDs below before, 0
	// meaning all: the newest first, at most limit of them.
	RunAttempts(ctx context.Context, run, before int64, limit int) ([]RunAttempt, error)
	// Attempts returns the newest attempts first, at most limit of them;
	// of all symbols if symbol is "".
	Attempts(ctx context.Context, symbol market.Symbol, limit int) ([]Attempt, error)
	// Tried returns in ascending order those of symbols that an attempt in
	// (job, period), of whatever run, has found to be of one of outcomes.
	Tried(ctx context.Context, job, period string, outcomes []string, symbols []market.Symbol) ([]market.Symbol, error)
	// Summary describes the stored bars for a status line.
	Summary(ctx context.Context) (Summary, error)

	Ping(ctx context.Context) error
	// Where names the database for a person, without a password.
	Where() string
	Close() error
}

// Run is one claimed run. Its ID is its epoch: a later run of the same
// (job, period) has a higher one, and from then on every write of the older
// returns ErrFenced. It is safe for concurrent use.
type Run interface {
	ID() int64
	// Lost is closed when the claim is known to be lost: another run has taken
	// over, the run was ended by another hand, or its lease could not be
	// renewed in time, so that it may be taken over at any moment. The run is
	// then to stop; what it still may write is decided by its row in the
	// database, as ever. One whose connection breaks and that has its claim
	// back in time has lost nothing. End and Release do not close it.
	Lost() <-chan struct{}
	// SaveBars compares the series with what is stored and writes the
	// difference, the corrections, the ledger item (job, period, symbol),
	// the watermark and an attempt in one transaction: after an error none
	// of them is stored, after nil all of them are. session is the
	// session that the symbol is now done for; with the zero Date only the
	// bars and their corrections are written: no item, no watermark, no
	// attempt. Bars must be ascending by
	// date without repeats (market.Clean gives them so). A value that is
	// already stored is not overwritten by an absent adjusted close or by
	// a volume of zero.
	//
	// In the same transaction the dates of the bars become stored days of
	// BarCoverage, and all days from the first bar to the last are answered by
	// series.Source, with the zero session too. Bars that differ in nothing, of
	// a unit that is done, may be left out: their days were saved with it.
	//
	// What a bar does to a stored one of another source is the table of
	// docs/sources.md; its row keeps its source unless the prices are replaced.
	// Beside bars of another [market.Basis] the series counts only from the
	// date on from which it agrees with them, see [Judge]: with Changes.Since,
	// what is older is left out, and it is neither stored nor answered by this.
	// If it agrees nowhere, it is refused by a [*market.BasisError].
	//
	// Bars whose source has changed the base of its prices are refused by a
	// [*market.RebasedError], and nothing is stored: if many of those that are
	// stored have other prices now, see [Moves.Rebased], and others are stored
	// before the first bar of the series or after its last. With series.NewBase,
	// or if the series holds all that is stored, it takes the place of what is
	// stored on its dates in both cases.
	//
	// It retries what a retry can heal (lost connection, deadlock,
	// serialization failure, a commit whose reply was lost) until ctx ends
	// or the store has been gone for its patience.
	SaveBars(ctx context.Context, series market.Series, session market.Date) (market.Changes, error)
	// SaveHistory is SaveBars for an answer that says what there is of a range
	// of history: all days of answered become answered days by series.Source,
	// whether there are bars or not, and the dates of the bars, which may lie
	// outside of it, stored ones. The period of its attempt is answered, as
	// [market.Range.String] has it. With done the symbol is done too, as a unit
	// of HistoryKind. No watermark moves.
	//
	// With the zero answered only the bars are written, their corrections and
	// their stored days: no attempt, and what is answered stays; done is then
	// refused. See [CheckHistory].
	SaveHistory(ctx context.Context, series market.Series, answered market.Range, done bool) (market.Changes, error)
	// SaveFacts compares facts with what is stored of symbol and writes the
	// new versions, and for each version of the same figure the day on which
	// it was superseded, with the item, the watermark through and an attempt,
	// in one transaction as SaveBars does, and retries as it does. Stored
	// facts that are not among them stay, and no other symbol's are touched.
	// A fact that differs from the stored one of the same filing takes its
	// place; of its value and its filing day the old one is kept as a
	// correction, whose Date is the end of the fact's period and whose Field
	// is "us-gaap:Revenues USD 2025-01-01 0000320193-26-000001": concept,
	// unit, start if there is one, and filing. " filed" follows where the
	// filing day differs, which Old and New then hold as 20260312.
	//
	// No facts at all are refused: an empty answer is an attempt. So are all
	// of them if one is such that no store can hold it, see [CheckFacts].
	SaveFacts(ctx context.Context, symbol market.Symbol, facts []market.Fact, through market.Date) (market.Changes, error)
	// SaveFundamentals merges row into the stored row of the same symbol and
	// date, as [market.Fundamentals.Merge] does, and writes it if it differs,
	// with the item, the watermark row.Date and an attempt, in one
	// transaction as SaveBars does, and retries as it does. A row of nulls is
	// refused, and one that no store can hold, see [CheckFundamentals].
	// Unless done, only the row is written: no item, no watermark, no attempt.
	SaveFundamentals(ctx context.Context, row market.Fundamentals, done bool) (market.Changes, error)
	// SaveAttempt records that symbol was asked for without becoming done.
	SaveAttempt(ctx context.Context, symbol market.Symbol, outcome, message string) error

	// The units of the following are of a kind, which stands in the place of
	// the run's period in their items and attempts, so that a unit that one
	// run has done is done for the next. They have no watermark. Each saves in
	// one transaction as SaveBars does, and retries as it does.

	// SaveUnitAttempt records that a unit was asked for without becoming done.
	SaveUnitAttempt(ctx context.Context, kind, unit, outcome, message string) error
	// SaveItem makes a unit done that has no rows, such as a filing of another
	// issuer: its item is "unchanged", its attempt as given.
	SaveItem(ctx context.Context, kind, unit, outcome, message string) error
	// SaveIndexDay stores which wanted filings the index of a day lists and
	// makes the day done, be it that there are none. Filings that are known
	// stay as they are.
	SaveIndexDay(ctx context.Context, kind string, day market.Date, filings []market.ListedFiling) (market.Changes, error)
	// SaveFiling stores a filing, its owners and its transactions, and makes
	// its accession number done as a unit of FilingsKind. Of all stored filings
	// of the issuer it marks which transactions count no longer and in whose
	// place others stand, by [market.Supersede], whatever the order in which
	// they arrive; nothing is deleted. Saved again, it is compared with what is
	// stored. The changes count the filing and its transactions as rows, and
	// as updated those of other filings that it supersedes or that supersede
	// it. Refused is what no store can hold, see [CheckFiling].
	SaveFiling(ctx context.Context, symbol market.Symbol, f market.InsiderFiling) (market.Changes, error)
	// SaveShortInterest compares the rows of a settlement date with what is
	// stored, writes the difference and the corrections, and makes the date
	// done as a unit of kind. A row that says that the date before was revised
	// corrects its symbol's row of that date, which counts as updated; that
	// row, read again or later, is stored as it was corrected. A value is not
	// overwritten by null. Rows are refused all together, see
	// [CheckShortInterest]. Other symbols' rows are not touched.
	SaveShortInterest(ctx context.Context, kind string, settlement market.Date, rows []market.ShortInterest) (market.Changes, error)
	// SaveLastRun moves what LastRun returns, and the watermarks of symbols
	// with it, to until, cut to whole seconds; never back. It can be repeated.
	SaveLastRun(ctx context.Context, until time.Time, symbols []market.Symbol) error
	// SaveCovered does the same to the watermarks of symbols alone.
	SaveCovered(ctx context.Context, through time.Time, symbols []market.Symbol) error

	// NotePeriod is that of [DB] for the owner: ErrFenced, and nothing noted,
	// once it is the owner no longer. An empty Job and Period are the run's;
	// RunID is its ID.
	NotePeriod(ctx context.Context, p PeriodInfo) (noted bool, err error)

	// End closes the run with its status and report (a JSON document) and
	// gives the period free.
	End(ctx context.Context, status string, report []byte) error
	// Release gives the period free without closing the run, as a killed
	// process would.
	Release() error
}

// RunInfo is a row of ingest_runs.
type RunInfo struct {
	ID                int64
	Job, Period       string
	Owner, Status     string
	Started, Finished time.Time // Finished is zero while it runs
	Report            []byte    // JSON; nil while it runs
	// Live says that it runs and that its lease is not over: its owner was
	// there a moment ago.
	Live bool
}

// Attempt is a row of ingest_attempts: symbol was asked for in a run.
type Attempt struct {
	RunID       int64
	Job, Period string
	Symbol      market.Symbol
	At          time.Time
	Outcome     string
	Message     string
	Rows        int
}

// RunAttempt is an attempt with its place in the ledger: a later one has a
// higher ID.
type RunAttempt struct {
	ID int64
	Attempt
}

// Correction is a stored value that a provider changed later.
type Correction struct {
	Symbol market.Symbol
	Date   market.Date
	// Field is open, high, low, close, adjusted_close or volume of a bar;
	// short_interest, previous_short_interest, avg_daily_volume, days_to_cover
	// or change_pct of short interest; of a fact see SaveFacts.
	Field    string
	Old, New float64
	HadOld   bool // false: the stored value was null
	Source   string
	At       time.Time
}

// Summary describes the stored bars.
type Summary struct {
	Symbols, Bars  int64
	Oldest, Newest market.Date
	// Sources are the bars by source; nil if there are none.
	Sources map[string]int64
}

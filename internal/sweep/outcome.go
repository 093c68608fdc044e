package sweep

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// Outcome is the reason why a unit ended as it did. The list is closed: every
// unit of every run ends in one of these.
type Outcome string

// The outcomes. Only Stored and Unchanged make a unit done.
const (
	// Stored: the unit's rows were written.
	Stored Outcome = "stored"
	// Unchanged: the provider's rows were stored already, value for value.
	Unchanged Outcome = "unchanged"
	// NoSession: the period holds no session of the exchange.
	NoSession Outcome = "no_session"
	// NotReady: the provider does not have the newest session yet.
	NotReady Outcome = "not_ready"
	// NoData: the provider has nothing for the period.
	NoData Outcome = "no_data"
	// UnknownSymbol: the provider does not know the symbol.
	UnknownSymbol Outcome = "unknown_symbol"
	// LimitNote: the provider kept answering that the calls come too fast.
	LimitNote Outcome = "limit_note"
	// Quota: the provider's calls of the day are spent.
	Quota Outcome = "quota"
	// PremiumOnly: the key's plan does not hold what was asked.
	PremiumOnly Outcome = "premium_only"
	// BadPayload: the answer was refused as a whole; none of it is stored.
	BadPayload Outcome = "bad_payload"
	// ProviderError: the provider, the way to it, or the permission to
	// call it could not be had.
	ProviderError Outcome = "provider_error"
	// Interrupted: the run ended before the unit did.
	Interrupted Outcome = "interrupted"
)

// Outcomes returns the closed list, from best to worst.
func Outcomes() []Outcome {
	return []Outcome{
		Stored, Unchanged, NoSession, NotReady, NoData, UnknownSymbol,
		LimitNote, Quota, PremiumOnly, BadPayload, ProviderError, Interrupted,
	}
}

// Done reports whether a unit with this outcome is done.
func (o Outcome) Done() bool { return o == Stored || o == Unchanged }

// Result is how the visit of one unit ended.
type Result struct {
	Outcome Outcome
	// Rows is the number of rows written.
	Rows int
	// Message says in words what Outcome says as a class; it may be empty
	// for a unit that is done.
	Message string
	// Source is who has answered; it may be empty.
	Source string
	// Dropped counts the bars of the answer that were not stored, by why.
	Dropped map[string]int
}

// Drop adds counts to Dropped.
func (r *Result) Drop(counts map[string]int) {
	for why, n := range counts {
		if r.Dropped == nil {
			r.Dropped = map[string]int{}
		}
		r.Dropped[why] += n
	}
}

// Classify turns the error of a visit into its result. The end of ctx, or a
// wait that was called off, is Interrupted; an error in whose tree stands one
// with a method Outcome() string is of that class, if the list has it; any
// other error is a ProviderError.
func Classify(ctx context.Context, err error) Result {
	var classed interface{ Outcome() string }
	switch {
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
		return Result{Outcome: Interrupted, Message: "the run was stopped before this symbol was stored"}
	case errors.As(err, &classed) && slices.Contains(Outcomes(), Outcome(classed.Outcome())):
		return Result{Outcome: Outcome(classed.Outcome()), Message: err.Error()}
	default:
		return Result{Outcome: ProviderError, Message: err.Error()}
	}
}

// stops reports whether err says of itself that all further units would end
// in the same way, and then why: its cause, without the unit that met it.
func stops(err error) (why string, ok bool) {
	var s interface {
		Stops() bool
		Unwrap() error
	}
	if !errors.As(err, &s) || !s.Stops() {
		return "", false
	}
	return strings.TrimPrefix(s.Unwrap().Error(), notAsked), true
}

// StoreError is a failure of the store: with it gone, no further call could be
// turned into a row. It ends a sweep, and its unit is Interrupted.
type StoreError struct{ Err error }

// Error says what the store said.
func (e *StoreError) Error() string { return "store: " + e.Err.Error() }

// Unwrap returns the store's own error.
func (e *StoreError) Unwrap() error { return e.Err }

// Stops tells the sweep to end.
func (e *StoreError) Stops() bool { return true }

// Outcome is Interrupted: the unit itself did nothing wrong.
func (e *StoreError) Outcome() string { return string(Interrupted) }

// Unsaved turns an error of a save into that of a visit: a [StoreError], unless
// the error says of itself that the rows were refused and not the store lost.
func Unsaved(err error) error {
	var classed interface{ Outcome() string }
	if errors.As(err, &classed) && classed.Outcome() == string(BadPayload) {
		return err
	}
	return &StoreError{err}
}

// isNotAsked reports whether err says of itself that no call was made.
func isNotAsked(err error) bool {
	var n interface{ NotAsked() bool }
	return errors.As(err, &n) && n.NotAsked()
}

// notAsked begins the message of a unit that was not visited.
const notAsked = "not asked: "

// Unit is a visited unit.
type Unit struct {
	Symbol market.Symbol
	Result
}

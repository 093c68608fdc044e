// Package providers holds what all data vendors share: the kinds of errors
// that they end in.
package providers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Kind says what the caller of a vendor can do about an [Error].
type Kind uint8

// The kinds, from "try again" to "never again with this key".
const (
	// Transient: the vendor or the way to it is down; try again later.
	Transient Kind = iota
	// RateLimited: too fast; try again after RetryAfter.
	RateLimited
	// Quota: the calls of the vendor's day are spent.
	Quota
	// NoData: the vendor answered that it has nothing for the request.
	NoData
	// NotReady: the vendor does not have it yet; try again later.
	NotReady
	// UnknownSymbol: the vendor does not know the symbol.
	UnknownSymbol
	// PremiumOnly: the key's plan does not hold what was asked.
	PremiumOnly
	// BadPayload: the answer is no answer to the request; none of it is data.
	BadPayload
	// Rejected: the key or the request itself is refused; every further
	// call would be too.
	Rejected
	// Unavailable: no permission for a call could be had, because the
	// shared limit cannot be read; no call was made.
	Unavailable
)

// kindOutcomes gives each kind the name that the ledger and the reports use.
func (k Kind) outcome() string {
	switch k {
	case RateLimited:
		return "limit_note"
	case Quota:
		return "quota"
	case NoData:
		return "no_data"
	case NotReady:
		return "not_ready"
	case UnknownSymbol:
		return "unknown_symbol"
	case PremiumOnly:
		return "premium_only"
	case BadPayload:
		return "bad_payload"
	case Transient, Rejected, Unavailable:
		return "provider_error"
	}
	return "provider_error"
}

// Error is a vendor's failure, with nothing secret in it.
type Error struct {
	// Provider is the vendor's name as in the limiter and the ledger.
	Provider string
	// Op is what was asked, such as "daily bars AAPL".
	Op   string
	Kind Kind
	// Status is the HTTP status of the answer; 0 if there was none.
	Status int
	// RetryAfter is the shortest wait that the vendor asks for; 0 if it
	// does not say.
	RetryAfter time.Duration
	Err        error
}

// Error returns "provider: op: cause".
func (e *Error) Error() string {
	if e.Op == "" {
		return fmt.Sprintf("%s: %v", e.Provider, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Provider, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Outcome returns the name of the outcome class that the error puts a unit
// in, as in the ledger and the reports.
func (e *Error) Outcome() string { return e.Kind.outcome() }

// NotAsked reports whether the error came before the call: none was made.
func (e *Error) NotAsked() bool { return e.Kind == Unavailable }

// Stops reports whether every further unit of the run would end in the same
// way: a spent quota, a refused key, a plan that does not hold what is asked,
// an unreadable limit.
func (e *Error) Stops() bool {
	return e.Kind == Quota || e.Kind == Rejected || e.Kind == PremiumOnly || e.Kind == Unavailable
}

// Wrap says in err what was asked of a provider, in place of the URL, which
// can hold the key, that *url.Error prints. An error that is no [Error] yet and
// no end of a context is a transient one.
func Wrap(provider, op string, err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		e := *known
		e.Op = op
		return &e
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %s: %w", provider, op, err)
	}
	return &Error{Provider: provider, Op: op, Kind: Transient, Err: err}
}

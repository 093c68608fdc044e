// Package web is the HTTP side of worker serve: health, the API and the gate
// before all of it. Every route is closed unless the route table opens it. It
// knows neither jobs nor stores: what it shows and starts comes through the
// interfaces of [Config].
package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alpha-oracle/worker/internal/secret"
)

// Config is what a [Server] serves and to whom. Data, Runs, Jobs, Audit, Now,
// Tell and Redact are required.
type Config struct {
	// Token is the bearer token that closed routes ask for. Without one they
	// are open, which is for loopback alone: see [IsLoopback].
	Token secret.Value
	// Hosts are the names under which the server is asked, without ports,
	// besides those of loopback and the address of the connection itself.
	Hosts []string
	// Version is that of the program, for the description of the API.
	Version string

	Data  Data
	Runs  Runs
	Jobs  Jobs
	Audit Audit
	// Checks are what /readyz depends on.
	Checks []Check
	// Metrics and WebSocket serve /metrics and /ws; nil: there is none. The
	// context of a request to WebSocket ends with [Server.Stopping].
	Metrics, WebSocket http.Handler

	// Redact takes the secrets out of a text. All documents pass it.
	Redact func(string) string
	Now    func() time.Time
	// Tell takes what a log should hold. It is called from many goroutines.
	Tell func(Event)
	// MaxConns is the greatest number of connections at a time; 0: 1024. When
	// they are used up, the one that has waited longest without a request being
	// answered is closed for the next.
	MaxConns int
}

// Data is what the worker knows of itself. Each result is encoded as one JSON
// document. Errors are shown to no client, except [*BadRequestError].
type Data interface {
	// Status is the document of worker status --json.
	Status(ctx context.Context) (any, error)
	// Jobs tells of each scheduled job when it is due and when it last went well.
	Jobs(ctx context.Context) (any, error)
	// Coverage is the document of worker gaps --json, for a list of symbols and
	// from a day on, both as the command takes them; "" is its default.
	Coverage(ctx context.Context, symbols, since string) (any, error)
	// Quotas is what is left of each provider's windows.
	Quotas(ctx context.Context) (any, error)
}

// Runs reads the ledger.
type Runs interface {
	// Page returns at most limit runs with IDs below before, 0 meaning all, of
	// all jobs if job is "", the newest first.
	Page(ctx context.Context, job string, before int64, limit int) ([]Item, error)
	// Run returns one run; [ErrNotFound] if there is none.
	Run(ctx context.Context, id int64) (any, error)
	// Units returns at most limit attempts of a run with IDs below before, 0
	// meaning all, the newest first.
	Units(ctx context.Context, run, before int64, limit int) ([]Item, error)
}

// Item is one document of a list and its place there.
type Item struct {
	ID       int64
	Document any
}

// Jobs starts runs.
type Jobs interface {
	// Period returns the period that a run of job is for: wanted, once it is
	// checked, or with "" the current one. It returns [ErrNotFound] for a job
	// that cannot be started, and a [*BadRequestError] for a wrong period.
	Period(job, wanted string) (string, error)
	// Start begins a run that goes on by itself, and returns its ID once its
	// period is claimed; 0 if ctx ends before that. It returns a [*HeldError]
	// if a run of the period goes on, and [ErrStopping] at the end.
	Start(ctx context.Context, job, period string) (run int64, err error)
}

// Audit writes down who did what, before it is done: without the row it is not
// done.
type Audit interface {
	Audit(ctx context.Context, e Entry) error
}

// Entry is a row of the audit.
type Entry struct {
	At time.Time
	// Actor is "token" or, where none is asked for, "anyone".
	Actor string
	// Action is what was done, such as "run"; Detail to what.
	Action, Detail string
	// Origin is the address from which the request came, without its port.
	Origin string
}

// Event is something that a log should hold.
type Event struct {
	// Text says what has happened: "wrong token", "not ready", "panic".
	Text string
	// ID is the request's, which its client has seen too; "" of none.
	ID                   string
	Remote, Method, Path string
	// Detail is more to it: the check's name, the stack of a panic.
	Detail string
	Err    error
}

// ErrNotFound says that there is no such thing.
var ErrNotFound = errors.New("not found")

// ErrStopping says that the process is about to end.
var ErrStopping = errors.New("the worker is being stopped")

// BadRequestError is a mistake of the client. Its text is shown to it.
type BadRequestError struct{ Err error }

// Error says what is wrong.
func (e *BadRequestError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *BadRequestError) Unwrap() error { return e.Err }

func badRequest(format string, args ...any) error {
	return &BadRequestError{fmt.Errorf(format, args...)}
}

// HeldError says that a run of the period goes on.
type HeldError struct {
	Owner string
	Since time.Time
}

// Error names the owner.
func (e *HeldError) Error() string {
	return fmt.Sprintf("run by %s since %s", e.Owner, e.Since.UTC().Format(time.RFC3339))
}

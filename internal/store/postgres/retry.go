package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	firstPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
	// tryTimeout bounds one transaction: a server that hangs does not keep
	// its own statement timeout.
	tryTimeout = statementTimeout + 5*time.Second
)

// retry runs op until it succeeds or fails in a way that repeating cannot
// heal, until ctx ends, or until the store's patience, counted from the first
// failure, is over.
func (db *DB) retry(ctx context.Context, op func(context.Context) error) error {
	var patience <-chan time.Time
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := op(ctx)
		if err == nil || ctx.Err() != nil || !heals(err) {
			return err
		}
		if patience == nil {
			timer := time.NewTimer(db.patience)
			defer timer.Stop()
			patience = timer.C
		}
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-patience:
			wait.Stop()
			return fmt.Errorf("gave up after %s: %w", db.patience, err)
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w while waiting for the database: %w", ctx.Err(), err)
		}
	}
}

// bounded gives each try of op the time of one transaction.
func bounded(op func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		return op(ctx)
	}
}

// heals reports whether a transaction that ended in err may succeed when it is
// run again on another connection.
func heals(err error) bool {
	if errors.Is(err, errCallUnknown) {
		return false
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return healingCode(server.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, context.DeadlineExceeded)
}

const (
	uniqueViolation       = "23505"
	insufficientPrivilege = "42501"
)

// isTaken reports whether a row was refused because its key is there already.
func isTaken(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == uniqueViolation
}

// healingCode knows the SQLSTATEs that time or another connection heals:
// lost connections (08), insufficient resources (53), and the ones listed.
// See https://www.postgresql.org/docs/current/errcodes-appendix.html.
func healingCode(code string) bool {
	switch code {
	case "40001", "40P01", // serialization failure, deadlock
		uniqueViolation,           // another writer stored the same row since it was looked for
		"25006",                   // read only: the server became a standby
		"25P03", "25P04", "55P03", // timeouts: idle in transaction, transaction, lock
		"57P01", "57P02", "57P03", "57P05": // shutdown, crash, starting up, idle session
		return true
	}
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53")
}

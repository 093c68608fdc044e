package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout leaves an unreachable server less than five seconds.
	connectTimeout = 4 * time.Second
	// statementTimeout ends a statement on the server; the client gives a
	// whole transaction a little more before it calls the server hung.
	statementTimeout = 60 * time.Second
	defaultConns     = 8
)

// config reads a database URL and fills in what it leaves open. A setting that
// the URL makes is left as it is. The search path is not touched: the tables
// must be found where the other programs of the same role find them.
func config(raw string, o Options) (*pgxpool.Config, error) {
	plain, err := plainURL(raw)
	if err != nil {
		return nil, err
	}
	c, err := pgxpool.ParseConfig(plain.String())
	if err != nil {
		return nil, fmt.Errorf("database URL for host %q: %w", plain.Host, parseCause(err))
	}
	c.ConnConfig.Tracer = o.Tracer
	if !plain.Query().Has("pool_max_conns") {
		c.MaxConns = o.MaxConns
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = connectTimeout
	}
	for name, value := range map[string]string{
		"application_name": o.Application,
		"timezone":         "UTC",
		// The planner overrates tables that were never analyzed and would
		// compile every statement.
		"jit":               "off",
		"lock_timeout":      "5s",
		"statement_timeout": strconv.FormatInt(statementTimeout.Milliseconds(), 10),
		// A process that is stopped inside a transaction must not hold its
		// locks for ever.
		"idle_in_transaction_session_timeout": "15s",
		// The server notices a client whose machine is gone in half a
		// minute and gives its claim free.
		"tcp_keepalives_idle":     "15",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "3",
	} {
		if _, set := c.ConnConfig.RuntimeParams[name]; !set {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	return c, nil
}

// plainURL turns a database URL, also one as SQLAlchemy writes it, into one
// for Postgres itself. Its errors never hold a part of the URL that could be
// the password.
func plainURL(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || strings.Contains(u.Path, "@") || u.Fragment != "" {
		return nil, errors.New("database URL cannot be read: characters such as @ : / ? # % in its user or password must be percent-encoded")
	}
	scheme, driver, _ := strings.Cut(u.Scheme, "+")
	if (scheme != "postgres" && scheme != "postgresql") || u.Opaque != "" {
		return nil, fmt.Errorf("database URL has the scheme %q: want postgres://, postgresql:// or postgresql+asyncpg://", u.Scheme)
	}
	u.Scheme = "postgres"
	if driver == "asyncpg" {
		u.RawQuery = fromAsyncpg(u.Query()).Encode()
	}
	return u, nil
}

// fromAsyncpg gives the parameters that only asyncpg and its SQLAlchemy
// dialect know their Postgres names, or drops them where they have none.
func fromAsyncpg(q url.Values) url.Values {
	if mode := q.Get("ssl"); mode != "" {
		q.Set("sslmode", mode)
	}
	for _, name := range []string{"ssl", "async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func", "statement_cache_size"} {
		q.Del(name)
	}
	return q
}

// parseCause leaves out the URL that the parser's own message repeats between
// backquotes.
func parseCause(err error) error {
	if parse := (*pgconn.ParseConfigError)(nil); !errors.As(err, &parse) {
		return err
	}
	const end = "`: "
	text := err.Error()
	return errors.New(text[strings.LastIndex(text, end)+len(end):])
}

// flatten puts a connection error, which lists every address that was tried
// on a line of its own, on one line without repeats.
func flatten(err error) string {
	var tried []string
	seen := map[string]bool{}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !seen[line] {
			seen[line] = true
			tried = append(tried, line)
		}
	}
	return strings.Join(tried, "; ")
}

package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// proxy stands between the store and the server and interferes with the next
// message that holds a COMMIT once it is told to.
type proxy struct {
	url   string
	next  atomic.Pointer[func(commit []byte, l *link)]
	turns atomic.Int64 // how often a client spoke after its server did
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	muted          atomic.Bool // nothing reaches the client any more
	answered       atomic.Bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{}
	var wg sync.WaitGroup
	address, stop := testenv.Between(t, target, &wg, func(client, server net.Conn) {
		l := &link{client: client, server: server}
		wg.Go(l.replies)
		wg.Go(func() { p.requests(l) })
	})
	p.url = address
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	return p
}

func (l *link) close() { _, _ = l.client.Close(), l.server.Close() }

func (l *link) replies() {
	defer l.close()
	buf := make([]byte, 1<<16)
	for {
		n, err := l.server.Read(buf)
		if err != nil {
			return
		}
		l.answered.Store(true)
		if !l.muted.Load() {
			_, _ = l.client.Write(buf[:n])
		}
	}
}

func (p *proxy) requests(l *link) {
	defer l.close()
	buf := make([]byte, 1<<16)
	for {
		n, err := l.client.Read(buf)
		if err != nil {
			return
		}
		if l.answered.Swap(false) {
			p.turns.Add(1)
		}
		if commits(buf[:n]) {
			if act := p.next.Swap(nil); act != nil {
				(*act)(buf[:n], l)
				return
			}
		}
		if _, err := l.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// commits finds the COMMIT of a call, which is sent by itself, that of a save,
// which comes behind the outcome of its ledger item, that of a pooler's
// protocol, and the note that a period is complete.
func commits(message []byte) bool {
	return bytes.Contains(message, []byte("commit\x00")) || bytes.Contains(message, []byte("\x00\x00\x00\x08complete")) || bytes.Contains(message, []byte("\x00\x00\x00\x06stored")) ||
		message[0] == 'Q' && bytes.HasSuffix(message, []byte("COMMIT\x00"))
}

// loseReply lets the next COMMIT be carried out, which the query is to show
// with "[1]", and cuts the connection instead of telling the client.
func (p *proxy) loseReply(t testing.TB, direct, shows string) {
	t.Helper()
	act := func(commit []byte, l *link) {
		l.muted.Store(true)
		_, _ = l.server.Write(commit)
		eventually(t, "the commit is carried out", func() bool { return query(t, direct, shows)[0] == "[1]" })
	}
	p.next.Store(&act)
}

const savedOnce = `SELECT count(*) FROM ingest_attempts`

// TestLostCommit loses the connection at COMMIT in each way that it can be
// lost. Every time the save finds out the truth: the rows and one attempt are
// stored, and they were inserted.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	for lost, lose := range map[string]func(t *testing.T, p *proxy, direct string){
		"the request never arrives": func(_ *testing.T, p *proxy, _ string) {
			act := func([]byte, *link) {}
			p.next.Store(&act)
		},
		"it is carried out and the reply is lost": func(t *testing.T, p *proxy, direct string) {
			p.loseReply(t, direct, savedOnce)
		},
		"it is carried out while the save is tried again": func(t *testing.T, p *proxy, direct string) {
			act := func(commit []byte, l *link) {
				_ = l.client.Close()
				eventually(t, "the second try meets the first", func() bool { return query(t, direct, waiting)[0] == "[1]" })
				_, _ = l.server.Write(commit)
				eventually(t, "the commit is carried out", func() bool { return query(t, direct, savedOnce)[0] == "[1]" })
			}
			p.next.Store(&act)
		},
	} {
		for what, tc := range map[string]struct {
			save func(run store.Run) (market.Changes, error)
			want market.Changes
			rows string // bars, facts, fundamentals, listed filings, filings, short interest
		}{
			"bars": {func(run store.Run) (market.Changes, error) {
				return run.SaveBars(t.Context(), series("AAPL", 200), day)
			}, market.Changes{Inserted: 200}, "[200 0 0 0 0 0"},
			"history": {func(run store.Run) (market.Changes, error) {
				return run.SaveHistory(t.Context(), series("AAPL", 200), market.Range{From: day - 999, To: day}, true)
			}, market.Changes{Inserted: 200}, "[200 0 0 0 0 0"},
			"facts": {func(run store.Run) (market.Changes, error) {
				return run.SaveFacts(t.Context(), "AAPL", facts(200), day)
			}, market.Changes{Inserted: 200}, "[0 200 0 0 0 0"},
			"fundamentals": {func(run store.Run) (market.Changes, error) {
				return run.SaveFundamentals(t.Context(), overview(), true)
			}, market.Changes{Inserted: 1}, "[0 0 1 0 0 0"},
			"index day": {func(run store.Run) (market.Changes, error) {
				return run.SaveIndexDay(t.Context(), "edgar_days", day, []market.ListedFiling{{Accession: "1", Form: "4", Filed: day}})
			}, market.Changes{Inserted: 1}, "[0 0 0 1 0 0"},
			"filing": {func(run store.Run) (market.Changes, error) {
				return run.SaveFiling(t.Context(), "AAPL", filing(1, day, 3))
			}, market.Changes{Inserted: 4}, "[0 0 0 0 1 0"},
			"short interest": {func(run store.Run) (market.Changes, error) {
				return run.SaveShortInterest(t.Context(), "finra", day, shortInterest(day, 200))
			}, market.Changes{Inserted: 200}, "[0 0 0 0 0 200"},
		} {
			t.Run(what+": "+lost, func(t *testing.T) {
				t.Parallel()
				direct := testenv.Postgres(t)
				p := newProxy(t, direct)
				db := migrated(t, p.url, postgres.Options{})
				run := begin(t, db, period)
				lose(t, p, direct)

				changes, err := tc.save(run)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "changes", tc.want, changes)
				if p.next.Load() != nil {
					t.Fatal("no COMMIT went through the proxy")
				}
				equal(t, "stored", []string{tc.rows + " 1 1]"}, query(t, direct, `
					SELECT (SELECT count(*) FROM ohlcv), (SELECT count(*) FROM fundamental_facts), (SELECT count(*) FROM fundamentals),
					       (SELECT count(*) FROM ingest_filings), (SELECT count(*) FROM insider_filings), (SELECT count(*) FROM short_interest),
					       (SELECT count(*) FROM ingest_items), (SELECT count(*) FROM ingest_attempts)`))
				_ = db.Close()
			})
		}
	}
}

const stored = `
	SELECT (SELECT count(*) FROM ohlcv), (SELECT count(*) FROM ingest_items), (SELECT count(*) FROM ingest_attempts)`

// TestLostCommitOfBarsAlone does the same where no attempt tells what became of
// the COMMIT.
func TestLostCommitOfBarsAlone(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"tried again": 0, "looked for": time.Nanosecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := testenv.Postgres(t)
			p := newProxy(t, direct)
			migrated(t, direct, postgres.Options{})
			db := open(t, p.url+"&default_query_exec_mode=simple_protocol", postgres.Options{Patience: patience})
			run := begin(t, db, period)
			p.loseReply(t, direct, `SELECT count(DISTINCT symbol) FROM ohlcv`)
			changes, err := run.SaveBars(t.Context(), series("AAPL", 200), 0)
			if err != nil || p.next.Load() != nil {
				t.Fatalf("saved: %v, the proxy saw the COMMIT: %t", err, p.next.Load() == nil)
			}
			equal(t, "changes", market.Changes{Inserted: 200}, changes)
			equal(t, "stored", []string{"[200 0 0]"}, query(t, direct, stored))
			_ = db.Close()
		})
	}
}

// TestLostCommitBesideAnotherSource does it where most bars differ from what is
// stored, and are not to be.
func TestLostCommitBesideAnotherSource(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	p := newProxy(t, direct)
	migrated(t, direct, postgres.Options{})
	db := open(t, p.url+"&default_query_exec_mode=simple_protocol", postgres.Options{})
	run := begin(t, db, period)
	s := series("AAPL", 200)
	s.Source, s.Bars = "tiingo", s.Bars[:199]
	save(t, run, s)
	s = series("AAPL", 200)
	s.Source = "ibkr"
	for i := range s.Bars {
		s.Bars[i].Volume--
	}
	p.loseReply(t, direct, `SELECT count(*) FROM ohlcv WHERE source = 'ibkr'`)
	changes, err := run.SaveBars(t.Context(), s, 0)
	if err != nil || p.next.Load() != nil {
		t.Fatalf("saved: %v, the proxy saw the COMMIT: %t", err, p.next.Load() == nil)
	}
	equal(t, "changes", market.Changes{Inserted: 1, Unchanged: 199}, changes)
	equal(t, "stored", []string{"[200 1 1]"}, query(t, direct, stored))
	_ = db.Close()
}

// TestLostCommitOfDaysAlone does it where the bars are there already, and only
// what is known of their days is not.
func TestLostCommitOfDaysAlone(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	p := newProxy(t, direct)
	migrated(t, direct, postgres.Options{})
	db := open(t, p.url+"&default_query_exec_mode=simple_protocol", postgres.Options{})
	run := begin(t, db, period)
	save(t, run, series("AAPL", 200))
	query(t, direct, `DELETE FROM ingest_coverage`)
	act := func([]byte, *link) {} // it never arrives
	p.next.Store(&act)
	changes, err := run.SaveBars(t.Context(), series("AAPL", 200), 0)
	if err != nil || p.next.Load() != nil {
		t.Fatalf("saved: %v, the proxy saw the COMMIT: %t", err, p.next.Load() == nil)
	}
	equal(t, "changes", market.Changes{Unchanged: 200}, changes)
	wantStoredDays(t, db, "AAPL", 200, 0)
	_ = db.Close()
}

// TestLostCommitIsLookedFor loses the reply to a COMMIT when there is no time
// left to try again.
func TestLostCommitIsLookedFor(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	p := newProxy(t, direct)
	migrated(t, direct, postgres.Options{})
	db := open(t, p.url, postgres.Options{Patience: time.Nanosecond})
	run := begin(t, db, period)
	p.loseReply(t, direct, savedOnce)
	equal(t, "changes", market.Changes{Inserted: 200}, save(t, run, series("AAPL", 200)))
	equal(t, "stored", []string{"[200 1 1]"}, query(t, direct, stored))
	_ = db.Close()
}

// TestCancelledAtCommit ends the context while the server carries COMMIT out.
// The save waits for it and tells the truth.
func TestCancelledAtCommit(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	run := begin(t, migrated(t, url, postgres.Options{}), period)
	query(t, url, `
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON ingest_attempts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`)
	blocker := connect(t, url)
	if _, err := blocker.Exec(t.Context(), `SELECT pg_advisory_lock(42)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := run.SaveBars(ctx, series("AAPL", 200), day)
		done <- err
	}()
	eventually(t, "the commit waits", func() bool { return query(t, url, waiting)[0] == "[1]" })
	cancel()
	_ = blocker.Close(context.Background())
	if err := <-done; err != nil {
		t.Error(err)
	}
	equal(t, "stored", []string{"[200 1 1]"}, query(t, url, stored))
}

// TestLostCallCounts loses the reply to the COMMIT of a call: it is counted
// once and the caller is told not to make it.
func TestLostCallCounts(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	p := newProxy(t, direct)
	db := migrated(t, p.url, postgres.Options{})
	p.loseReply(t, direct, `SELECT count(*) FROM ingest_calls`)
	if ok, err := db.RecordCall(t.Context(), "edgar", 5, time.Now().Add(-time.Hour)); ok || err == nil {
		t.Errorf("got %v, %v, want an error", ok, err)
	}
	n, err := db.CallsSince(t.Context(), "edgar", time.Now().Add(-time.Hour))
	if err != nil || n != 1 {
		t.Errorf("%d calls are counted, %v", n, err)
	}
	_ = db.Close()
}

// TestBackendsTerminated kills sessions at random, the claim's too, while bars
// are saved.
func TestBackendsTerminated(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db := migrated(t, url, postgres.Options{})
	run := begin(t, db, period)
	total, kills := 0, 0
	for i := range 40 {
		done := make(chan struct{})
		var inserted int
		go func() {
			defer close(done)
			s := series(market.Symbol(fmt.Sprintf("S%d", i)), 800)
			changes, err := run.SaveBars(t.Context(), s, day)
			if err != nil {
				t.Error(err)
			}
			inserted = changes.Inserted
		}()
		kills += len(query(t, url, fmt.Sprintf(`
			SELECT pg_sleep(%d / 2000.0);
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'worker' ORDER BY random() LIMIT 1`, i)))
		<-done
		total += inserted
	}
	if kills == 0 {
		t.Fatal("nothing was killed")
	}
	equal(t, "inserted", 40*800, total)
	equal(t, "stored", []string{"[32000 40 40]"}, query(t, url, stored))
	if err := run.End(t.Context(), "ok", nil); err != nil {
		t.Error(err)
	}
}

// TestServerGone stops, crashes and freezes the server in the middle of a save,
// which goes on by itself when it is back.
func TestServerGone(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	db := migrated(t, server.URL(), postgres.Options{})
	run := begin(t, db, period)
	save(t, run, series("FIRST", 10))
	for name, fault := range map[string]struct{ down, up func() }{
		"stopped": {server.Stop, server.Start},
		"crashed": {server.Kill, server.Start},
		"frozen":  {server.Pause, server.Continue},
	} {
		fault.down()
		symbol := market.Symbol(strings.ToUpper(name))
		done := make(chan error, 1)
		go func() {
			_, err := run.SaveBars(t.Context(), series(symbol, 500), day)
			done <- err
		}()
		select {
		case err := <-done:
			t.Errorf("%s: the save ended while the server was gone: %v", name, err)
		case <-time.After(300 * time.Millisecond):
		}
		fault.up()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the save did not go on", name)
		}
	}
	equal(t, "stored", []string{"[1510 4 4]"}, query(t, server.URL(), stored))
	eventually(t, "the claim is held again", func() bool { return len(query(t, server.URL(), claimant)) == 1 })

	impatient := open(t, server.URL(), postgres.Options{Patience: 200 * time.Millisecond})
	other := begin(t, impatient, "2026-03-13")
	server.Stop()
	if _, err := other.SaveBars(t.Context(), series("LATE", 5), day); err == nil || !strings.Contains(err.Error(), "gave up after 200ms") {
		t.Errorf("without patience: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := run.SaveBars(ctx, series("LATE", 5), day); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that ends: %v", err)
	}
}

const canary = "CANARY%2Fs3cret"

func leaks(err error) bool {
	return strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "s3cret")
}

// TestUnreachable finds no server, one that never answers, and one that does
// not know the password. Each error comes in time, names the address and keeps
// the password.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	real, err := url.Parse(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	real.User = url.UserPassword("postgres", "CANARY/s3cret")
	for name, tc := range map[string]struct{ url, want string }{
		"nobody listens":   {"postgres://u:" + canary + "@127.0.0.1:1/db", "127.0.0.1:1"},
		"nobody answers":   {"postgresql+asyncpg://u:" + canary + "@" + listener.Addr().String() + "/db", listener.Addr().String()},
		"no such host":     {"postgres://u:" + canary + "@host.invalid:5432/db", "host.invalid:5432"},
		"wrong password":   {real.String(), "password authentication failed"},
		"unknown database": {strings.Replace(testenv.Postgres(t), "/test_", "/no_such_", 1), "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			_, err := postgres.Open(t.Context(), tc.url, postgres.Options{})
			if err == nil {
				t.Fatal("no error")
			}
			if took := time.Since(started); took > 5*time.Second {
				t.Errorf("the error came after %s", took)
			}
			if !strings.Contains(err.Error(), tc.want) || leaks(err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q, want one line with %q and no password", err, tc.want)
			}
		})
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ url, want string }{
		{"postgres://u:CANARY/s3cret@localhost/db", "percent-encoded"},
		{"postgres://u:CANARY#s3cret@localhost/db", "percent-encoded"},
		{"postgres://u:CANARY?s3cret@localhost/db", "percent-encoded"},
		{"postgres://u:12/34CANARY@localhost/db", "percent-encoded"},
		{"postgres://u:CANARY%zz@localhost/db", "percent-encoded"},
		{"mysql://u:CANARY@localhost/db", `"mysql"`},
		{"host=localhost password=CANARY", "postgres://"},
		{"postgres:u:CANARY@localhost", "postgres://"},
		{"", "postgres://"},
		{"postgres://u:CANARY@localhost/db?sslmode=sometimes", "sslmode"},
		{"postgres://u:CANARY@localhost/db?pool_max_conns=many", "pool_max_conns"},
		{"postgres://u:CANARY@localhost/db?connect_timeout=soon", "connect_timeout"},
		{"postgres://u:CANARY@localhost/db?sslmode=require&sslrootcert=/no/such/file", "/no/such/file"},
	} {
		_, err := postgres.Open(t.Context(), tc.url, postgres.Options{})
		if err == nil || !strings.Contains(err.Error(), tc.want) || leaks(err) {
			t.Errorf("%q: %v, want %q and no password", tc.url, err, tc.want)
		}
	}
}

// TestServerErrorKeepsItsCode lets callers look at the cause.
func TestServerErrorKeepsItsCode(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	run := begin(t, migrated(t, url, postgres.Options{}), period)
	query(t, url, `ALTER TABLE ohlcv ADD CONSTRAINT small CHECK (open < 5)`)
	_, err := run.SaveBars(t.Context(), series("AAPL", 3), day)
	var server *pgconn.PgError
	if !errors.As(err, &server) || server.Code != "23514" || !strings.Contains(err.Error(), "AAPL") {
		t.Errorf("got %v", err)
	}
}

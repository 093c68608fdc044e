package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// rolePassword is the one of all users and roles of these tests.
const rolePassword = "r0le-passw0rd"

// restricted are servers on which the worker has the rights of deploy/ only.
type restricted struct {
	// admin may do all in this Redis.
	admin *redis.Client
	// redis is the URL of the user worker; owner, migrate, run and read are
	// those of the administrator and the three roles of the database.
	redis, owner, migrate, run, read string
}

func newRestricted(t *testing.T) restricted {
	t.Helper()
	r := restricted{}
	r.startRedis(t)
	r.owner = testenv.PostgresServer(t).URL()
	roles, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.exec(t, r.owner, string(roles))
	}
	for role, to := range map[string]*string{"worker_migrate": &r.migrate, "worker_run": &r.run, "worker_read": &r.read} {
		r.exec(t, r.owner, "ALTER ROLE "+role+" PASSWORD '"+rolePassword+"'")
		*to = as(t, r.owner, role)
	}
	return r
}

// startRedis starts one that has loaded users.acl, with the password of worker
// put in and an administrator added.
func (r *restricted) startRedis(t *testing.T) {
	t.Helper()
	rules, err := os.ReadFile("../../deploy/redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	server := testenv.RedisServer(t, "--aclfile", file).URL()
	hash := fmt.Sprintf("#%x", sha256.Sum256([]byte(rolePassword)))
	text := strings.Replace(string(rules), "#"+strings.Repeat("0", 64), hash, 1) + "user admin on " + hash + " ~* &* +@all\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	before := r.client(t, server)
	if err := before.Do(t.Context(), "ACL", "LOAD").Err(); err != nil {
		t.Fatal(err)
	}
	r.admin, r.redis = r.client(t, as(t, server, "admin")), as(t, server, "worker")
	if err := r.admin.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func (r *restricted) client(t *testing.T, address string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// as gives an address another user.
func as(t *testing.T, address, user string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, rolePassword)
	return u.String()
}

func (r *restricted) try(t *testing.T, address, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql)
	return err
}

func (r *restricted) exec(t *testing.T, address, sql string) {
	t.Helper()
	if err := r.try(t, address, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// The main ways through the program need no more than what deploy/ grants.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	r := newRestricted(t)
	w := newAltWorld(t, 3)
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Premium: true, Now: w.now, EDGAR: simulator.EDGARConfig{Symbols: altSymbols(), Forms: 3, Foreign: 5}})
	w.env["SA_REDIS__URL"], w.env["SA_DATABASE__URL"] = r.redis, r.run
	w.env["SA_DATABASE__MIGRATE"] = "false"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = "AAPL,MSFT,BRK.B"

	if s := w.run("run", "daily-bars"); s.code != exitFailed || !strings.Contains(s.err, "worker migrate") {
		t.Fatalf("before the migration: %+v", s)
	}
	if s := w.run("migrate"); s.code != exitFailed {
		t.Fatalf("the running worker's role migrates: %+v", s)
	}
	w.env["SA_DATABASE__URL"] = r.migrate
	if s := w.run("migrate", "--grant-run", "worker_run", "--grant-read", "worker_read"); s.code != exitOK {
		t.Fatal(s.err)
	}
	w.env["SA_DATABASE__URL"] = r.run
	// Nobody knows this one, and the worker may not look at it.
	if err := r.admin.XAdd(t.Context(), &redis.XAddArgs{Stream: "risk:odd", Values: []string{"a", "b"}}).Err(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"run", "daily-bars", "--date", "2026-03-11"},
		{"run", "daily-bars", "--date", "2026-03-11", "--force"},
		{"run", "fundamentals"},
		{"run", "altdata"},
		{"backfill", "--from", "2025-03-12", "--to", "2026-03-11"},
		{"backfill", "--from", "2025-03-12", "--to", "2026-03-11", "--reset", "--yes"},
		{"repair"},
		{"plan"},
		{"gaps"},
		{"why", "AAPL", "2026-03-11"},
		{"export", "facts", "--symbols", "AAPL"},
		{"status"},
		{"keys", "list"},
		{"keys", "show", "jobs:daily_bars:2026-03-11:done"},
		{"kill-switch", "activate", "--reason", "prices are wrong"},
		{"kill-switch", "deactivate", "--reason", "prices are right", "--force"},
		{"kill-switch", "status"},
		{"pdt", "record", "--symbol", "AAPL", "--date", "2026-03-12", "--order-id", "4711"},
		{"pdt", "count"},
		{"pdt", "list"},
		{"keys", "show", rediskey.KillSwitch},
		{"keys", "show", rediskey.PDTTrades},
		{"keys", "clear", "--yes"},
		{"doctor"},
	} {
		if s := w.run(args...); s.code != exitOK {
			t.Errorf("worker %s: exit %d: %s%s", strings.Join(args, " "), s.code, s.out, s.err)
		}
	}
	if s := w.run("keys", "list"); !strings.Contains(s.out, "risk:odd") || !strings.Contains(s.out, "may not look at it") {
		t.Errorf("worker keys list: exit %d: %s%s", s.code, s.out, s.err)
	}
	r.serve(t, w)
	r.noRefusals(t)
	w.env["SA_DATABASE__URL"] = r.read
	for _, args := range [][]string{{"status"}, {"gaps"}, {"export", "facts", "--symbols", "AAPL"}} {
		if s := w.run(args...); s.code != exitOK {
			t.Errorf("worker %s as a reader: exit %d: %s", args, s.code, s.err)
		}
	}
	r.everyTable(t)
	r.databaseRefuses(t)
}

// serve runs the worker until the newest session is in, with a client of /ws, a
// run that is asked for over HTTP, and a kill switch that alpha-oracle has made
// active.
func (r *restricted) serve(t *testing.T, w *world) {
	t.Helper()
	base, start := sessionDate().In(market.NewYork(), 20, 30), time.Now()
	w.now = func() time.Time { return base.Add(time.Since(start)) }
	if err := r.admin.Set(t.Context(), rediskey.KillSwitch, "active", 0).Err(); err != nil {
		t.Fatal(err)
	}
	v, db := w.listen(), w.open().db
	if a := v.ask("POST", "/api/v1/jobs/daily_bars/run", `{"period": "2026-03-10"}`); a.status != http.StatusAccepted {
		t.Errorf("a run over HTTP: %d: %s", a.status, a.body)
	}
	r.everyChannel(t, w, v)
	w.awaitPeriod(w.open(), "daily_bars", session, store.Complete)
	w.await("the kill switch is in the table", func() bool {
		state, err := db.KillSwitch(t.Context())
		return err == nil && state.Active && state.Pending == nil
	})
	if entries, err := db.Audit(t.Context(), "", 1000); err != nil || !slices.ContainsFunc(entries, func(e store.AuditEntry) bool { return strings.Contains(e.Detail, "2026-03-10") }) {
		t.Errorf("the run over HTTP is in no audit: %+v, %v", entries, err)
	}
	v.stop()
	if code := <-v.code; code != exitOK {
		t.Errorf("worker serve: exit %d: %s", code, v.errs.String())
	}
}

// everyChannel: a client of /ws hears what is said on each of them.
func (r *restricted) everyChannel(t *testing.T, w *world, v *listening) {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), v.base+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	for _, e := range rediskey.All() {
		if e.Type != rediskey.TypeChannel {
			continue
		}
		w.await("somebody listens to "+e.Pattern, func() bool {
			n, err := r.admin.Publish(t.Context(), e.Pattern, `{"from":"the test"}`).Result()
			return err == nil && n > 0
		})
		for heard := false; !heard; {
			_, text, err := c.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			heard = strings.Contains(string(text), `"`+e.Pattern+`"`) && strings.Contains(string(text), "the test")
		}
	}
}

// noRefusals: the server has refused the worker nothing.
func (r *restricted) noRefusals(t *testing.T) {
	t.Helper()
	entries, err := r.admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// Asked by the library of every server; it expects a refusal.
		if strings.HasPrefix(e.Object, "client|") || e.Object == "client" {
			continue
		}
		if e.Object == "risk:odd" {
			continue
		}
		t.Errorf("Redis has refused %s %s of %s (%s)", e.Reason, e.Object, e.Username, e.Context)
	}
}

func (r *restricted) databaseRefuses(t *testing.T) {
	t.Helper()
	for _, test := range []struct{ role, address, sql string }{
		{"run", r.run, "DELETE FROM ohlcv"},
		{"run", r.run, "TRUNCATE ohlcv"},
		{"run", r.run, "DELETE FROM fundamentals"},
		{"run", r.run, "DELETE FROM fundamental_facts"},
		{"run", r.run, "DELETE FROM short_interest"},
		{"run", r.run, "DELETE FROM ingest_runs"},
		{"run", r.run, "DELETE FROM kill_switch"},
		{"run", r.run, "TRUNCATE ingest_items"},
		{"run", r.run, "ALTER TABLE ohlcv ADD COLUMN x int"},
		{"run", r.run, "DROP TABLE ohlcv"},
		{"run", r.run, "CREATE TABLE x (n int)"},
		{"run", r.run, "INSERT INTO ingest_schema (version_id, is_applied) VALUES (99, true)"},
		{"run", r.run, "SELECT * FROM filings"},
		{"run", r.run, "UPDATE ingest_audit SET actor = 'nobody'"},
		{"run", r.run, "DELETE FROM ingest_audit"},
		{"run", r.run, "CREATE ROLE x"},
		{"read", r.read, "BEGIN READ WRITE; INSERT INTO ohlcv (symbol, timestamp, open, high, low, close, volume) VALUES ('X', now(), 1, 1, 1, 1, 1)"},
		{"read", r.read, "BEGIN READ WRITE; UPDATE ohlcv SET close = 1"},
		{"read", r.read, "BEGIN READ WRITE; DELETE FROM ingest_items"},
		{"migrate", r.migrate, "CREATE ROLE x"},
		{"migrate", r.migrate, "CREATE DATABASE x"},
	} {
		err := r.try(t, test.address, test.sql)
		if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "42501" {
			t.Errorf("%s: %s: %v", test.role, test.sql, err)
		}
	}
}

// everyTable: none was left out when the privileges were granted.
func (r *restricted) everyTable(t *testing.T) {
	t.Helper()
	r.exec(t, r.owner, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
			IF NOT has_table_privilege('worker_read', name, 'SELECT') THEN RAISE 'worker_read may not read %', name; END IF;
			IF name <> 'filings' AND NOT has_table_privilege('worker_run', name, 'SELECT') THEN RAISE 'worker_run may not read %', name; END IF;
		END LOOP; END $$`)
}

// What the worker has no need for is refused, key by key.
func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	r := restricted{}
	r.startRedis(t)
	worker := r.client(t, r.redis)
	for _, command := range []string{
		"FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET maxmemory", "CONFIG SET maxmemory 1", "SHUTDOWN", "SAVE",
		"ACL LIST", "MONITOR", "SCRIPT FLUSH", "FUNCTION FLUSH", "CLIENT KILL TYPE normal", "REPLICAOF NO ONE", "SWAPDB 0 1",
		"GET foreign", "SET foreign 1", "DEL foreign", "SET portfolio:x 1",
		"DEL risk:pdt:trades", "UNLINK risk:pdt:trades", "EXPIRE risk:pdt:trades 1", "SET risk:pdt:trades x", "RENAME risk:pdt:trades jobs:x",
		"DEL risk:kill_switch", "EXPIRE risk:kill_switch 1", "DEL system:status", "DEL rate_limit:alpha_vantage:tokens",
		"PUBLISH foreign x", "SUBSCRIBE foreign", "PSUBSCRIBE *",
	} {
		arguments := []any{}
		for word := range strings.FieldsSeq(command) {
			arguments = append(arguments, word)
		}
		err := worker.Do(t.Context(), arguments...).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%s: %v", command, err)
		}
	}
	script := worker.Eval(t.Context(), "return redis.call('DEL', 'risk:pdt:trades')", nil)
	if script.Err() == nil {
		t.Error("a script may delete risk:pdt:trades")
	}
	if err := r.client(t, strings.Replace(r.redis, "worker:"+rolePassword+"@", "", 1)).Get(t.Context(), "system:status").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
		t.Errorf("without a password: %v", err)
	}
}

// Every key and channel of the contract is within the worker's reach.
func TestRedisGrantsTheContract(t *testing.T) {
	t.Parallel()
	r := restricted{}
	r.startRedis(t)
	fill := strings.NewReplacer("{YYYY-MM-DD}", session, "{YYYY-Www}", "2026-W11", "{job}", "altdata", "{period}", "x", "{name}", "edgar", "{domain}", "universe", "{identifier}", "sp500", "*", "share")
	for _, e := range rediskey.All() {
		name := fill.Replace(e.Pattern)
		commands := [][]any{{"TYPE", name}, {"TTL", name}}
		switch kind, _, _ := strings.Cut(e.Type, " "); {
		case e.Type == rediskey.TypeChannel:
			commands = [][]any{{"PUBLISH", name, "x"}, {"SUBSCRIBE", name}}
		case kind == "string":
			commands = append(commands, []any{"GET", name}, []any{"SET", name, "x"})
		case kind == "set":
			commands = append(commands, []any{"SADD", name, "x"}, []any{"SMEMBERS", name}, []any{"EXPIRE", name, "9"})
		case kind == "sorted":
			commands = append(commands, []any{"ZADD", name, "1", "x"}, []any{"ZCOUNT", name, "1", "+inf"}, []any{"ZRANGE", name, "0", "-1"}, []any{"ZREMRANGEBYSCORE", name, "0", "1"}, []any{"ZREM", name, "x"})
		}
		for _, command := range commands {
			answer, err := r.admin.Do(t.Context(), append([]any{"ACL", "DRYRUN", "worker"}, command...)...).Text()
			if err != nil || answer != "OK" {
				t.Errorf("%v: %s %v", command, answer, err)
			}
		}
	}
}

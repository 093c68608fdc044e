package risk_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/store/sqlite"
	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func client(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// failpoint breaks the connection before a command is sent.
type failpoint struct {
	mu      sync.Mutex
	command string
	before  map[string]func() // what happens once before a command
}

var errBroken = errors.New("broken by the test")

// at makes the command fail from now on; "" none, "*" all.
func (f *failpoint) at(command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.command = command
}

func (f *failpoint) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *failpoint) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		name := cmd.Name()
		if name == "eval" && strings.Contains(fmt.Sprint(cmd.Args()...), "'PUBLISH'") {
			name = "publish"
		}
		f.mu.Lock()
		command, before := f.command, f.before[name]
		delete(f.before, name)
		f.mu.Unlock()
		if before != nil {
			before()
		}
		if command == "*" || command == name {
			return errBroken
		}
		return next(ctx, cmd)
	}
}

func (f *failpoint) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// table is a store that can be made to fail.
type table struct {
	store.DB

	mu   sync.Mutex
	fail string // read, change, copied or all
}

func (tb *table) at(what string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.fail = what
}

func (tb *table) broken(what string) error {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.fail == what || tb.fail == "all" {
		return errBroken
	}
	return nil
}

func (tb *table) KillSwitch(ctx context.Context) (store.KillSwitch, error) {
	if err := tb.broken("read"); err != nil {
		return store.KillSwitch{}, err
	}
	return tb.DB.KillSwitch(ctx)
}

func (tb *table) ChangeKillSwitch(ctx context.Context, c store.KillSwitchChange) (store.KillSwitch, bool, error) {
	if err := tb.broken("change"); err != nil {
		return store.KillSwitch{}, false, err
	}
	return tb.DB.ChangeKillSwitch(ctx, c)
}

func (tb *table) KillSwitchCopied(ctx context.Context, id int64) error {
	if err := tb.broken("copied"); err != nil {
		return err
	}
	return tb.DB.KillSwitchCopied(ctx, id)
}

// world is a kill switch on real servers, with what it has published.
type world struct {
	t   testing.TB
	rdb *redis.Client // without failpoints, as another program's
	pub *redis.PubSub
	// redisFail and table are where it fails.
	redisFail *failpoint
	table     *table
	k         *risk.KillSwitch

	mu    sync.Mutex
	ahead time.Duration // of the clock
}

// bothStores runs a test on each store.
func bothStores(t *testing.T, test func(w *world)) {
	t.Helper()
	opens := map[string]func(t testing.TB) (store.DB, error){
		"postgres": func(t testing.TB) (store.DB, error) {
			return postgres.Open(t.Context(), testenv.Postgres(t), postgres.Options{MaxConns: 4})
		},
		"sqlite": func(t testing.TB) (store.DB, error) {
			return sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "worker.db"), sqlite.Options{})
		},
	}
	for name, open := range opens {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			test(newWorld(t, db))
		})
	}
}

func newWorld(t testing.TB, db store.DB) *world {
	t.Helper()
	url := testenv.Redis(t)
	w := &world{t: t, rdb: client(t, url), redisFail: &failpoint{}, table: &table{DB: db}}
	// Channels are of the whole server, which other tests share; so their messages
	// are told apart by their reasons.
	w.pub = w.rdb.Subscribe(t.Context(), rediskey.KillSwitchChanged)
	if _, err := w.pub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.pub.Close() })
	hooked := client(t, url)
	hooked.AddHook(w.redisFail)
	w.k = &risk.KillSwitch{Redis: hooked, Table: w.table, Now: w.now}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// later lets time go by for the kill switch, though not for its table.
func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

func (w *world) order(reason string) risk.Order {
	return risk.Order{Actor: "alice", Reason: w.t.Name() + ": " + reason, Origin: "a test"}
}

// end deactivates it, without a cooldown.
func (w *world) end() error {
	_, err := w.k.Deactivate(w.t.Context(), w.order("over"), 0)
	return err
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) set(value string) {
	w.t.Helper()
	w.check(w.rdb.Set(w.t.Context(), rediskey.KillSwitch, value, 0).Err())
}

// copy is what Redis holds, "" if nothing.
func (w *world) copy() string {
	w.t.Helper()
	value, err := w.rdb.Get(w.t.Context(), rediskey.KillSwitch).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		w.t.Fatal(err)
	}
	return value
}

func (w *world) row() store.KillSwitch {
	w.t.Helper()
	row, err := w.table.DB.KillSwitch(w.t.Context())
	w.check(err)
	return row
}

// agree checks that the table, the copy and a reader say the same, and that no
// listener waits for word of it.
func (w *world) agree(active bool) {
	w.t.Helper()
	want := map[bool]string{true: "active", false: "inactive"}[active]
	row, s := w.row(), w.k.Read(w.t.Context())
	if row.Active != active || w.copy() != want || s.Active != active || len(s.Notes) != 0 || row.Pending != nil {
		w.t.Errorf("want %s: Redis %q, table %+v, read %+v", want, w.copy(), row, s)
	}
}

func (w *world) reconcile() []string {
	w.t.Helper()
	done, err := w.k.Reconcile(w.t.Context())
	w.check(err)
	return done
}

// messages are those that were published since the last call.
func (w *world) messages() (all []string) {
	w.t.Helper()
	// Messages of one server come in order, so this one ends what was before it.
	end := w.t.Name() + " end " + time.Now().String()
	w.check(w.rdb.Publish(w.t.Context(), rediskey.KillSwitchChanged, end).Err())
	for {
		m, err := w.pub.ReceiveMessage(w.t.Context())
		w.check(err)
		if m.Payload == end {
			return all
		}
		if strings.Contains(m.Payload, w.t.Name()+":") {
			all = append(all, m.Payload)
		}
	}
}

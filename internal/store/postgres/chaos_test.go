//go:build chaos

package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/store/postgres"
	"github.com/alpha-oracle/worker/internal/testenv"
)

const (
	// chaosWorker turns this test binary into a worker on the database of that
	// URL, chaosName names it.
	chaosWorker = "TEST_POSTGRES_CHAOS"
	chaosName   = "TEST_POSTGRES_CHAOS_NAME"

	chaosWorkers = 5
	chaosUnits   = 3
	// chaosLength is the lease, a tenth of the standard one.
	chaosLength = 1500 * time.Millisecond
	// chaosPoll is how often a worker looks for a period to run.
	chaosPoll = 100 * time.Millisecond
	// chaosMargin is what a takeover may take beside the lease.
	chaosMargin = 5 * time.Second
)

func numberFrom(t testing.TB, name string, standard uint64) uint64 {
	t.Helper()
	text, set := os.LookupEnv(name)
	if !set {
		return standard
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// chaosAudit writes down in which order runs begin and saves commit. A sequence
// is not undone, and the trigger of a save comes right before its commit.
const chaosAudit = `
	CREATE TABLE audit (n bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, kind text, job text, period text, run_id bigint);
	CREATE FUNCTION audit_save() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO audit (kind, job, period, run_id) VALUES ('save', NEW.job, NEW.period, NEW.run_id); RETURN NULL; END $$;
	CREATE FUNCTION audit_run() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO audit (kind, job, period, run_id) VALUES ('run', NEW.job, NEW.period, NEW.id); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER audit_save AFTER INSERT ON ingest_attempts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_save();
	CREATE TRIGGER audit_run AFTER INSERT ON ingest_runs FOR EACH ROW EXECUTE FUNCTION audit_run()`

// staleCommits counts the saves that were committed after a later run of the
// period had begun.
const staleCommits = `
	SELECT count(*) FROM audit s WHERE kind = 'save' AND EXISTS (
		SELECT FROM audit r WHERE r.kind = 'run' AND r.job = s.job AND r.period = s.period AND r.run_id > s.run_id AND r.n < s.n)`

// victim is one worker process and the network before it.
type victim struct {
	gate *testenv.Gate
	cmd  *exec.Cmd
	gone chan struct{}
}

// chaos is one trial.
type chaos struct {
	*testing.T
	url     string
	conn    *pgx.Conn
	random  *rand.Rand
	workers []*victim
	fenced  atomic.Int64 // writes of stale runs that were refused
	failed  atomic.Int64
}

// TestChaosLease lets five processes run the same periods, while the owner of one
// is stopped, killed, or cut off at random. Each period has one run that ended
// well, no save of a run was committed after the next had begun, and each period
// is taken over within the lease and five seconds.
//
// CHAOS_KILLS sets how many owners are lost (100), CHAOS_PERIODS how many periods
// there are at least (10,000, or a hundred for each loss), CHAOS_SEED which faults come in
// which order.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosLease(t *testing.T) {
	if url := os.Getenv(chaosWorker); url != "" {
		runPeriods(t, url, os.Getenv(chaosName))
		return
	}
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	kills := int(numberFrom(t, "CHAOS_KILLS", 100))
	least := int(numberFrom(t, "CHAOS_PERIODS", uint64(min(10_000, 100*kills))))
	fmt.Printf("chaos: replay with CHAOS_SEED=%d CHAOS_KILLS=%d CHAOS_PERIODS=%d\n", seed, kills, least)
	c := &chaos{T: t, url: testenv.Postgres(t), random: rand.New(rand.NewPCG(seed, 0))}
	migrated(t, c.url, postgres.Options{})
	query(t, c.url, chaosAudit)
	c.conn = connect(t, c.url)
	for i := range chaosWorkers {
		w := &victim{gate: testenv.NewGate(t, c.url)}
		c.workers = append(c.workers, w)
		c.start(i)
	}
	took := map[string][]time.Duration{}
	for done := 0; done < kills || c.count(complete) < least; {
		if done >= kills {
			time.Sleep(chaosPoll)
			continue
		}
		if name, d, ok := c.strike(); ok {
			took[name] = append(took[name], d)
			done++
		}
	}
	for _, w := range c.workers { // all stop in the middle of whatever they do
		_ = w.cmd.Process.Kill()
		<-w.gone
	}
	c.verify(took)
}

const complete = `SELECT count(*) FROM ingest_periods WHERE state = 'complete'`

func (c *chaos) count(sql string) (n int) {
	c.Helper()
	if err := c.conn.QueryRow(context.Background(), sql).Scan(&n); err != nil {
		c.Fatal(err)
	}
	return n
}

// start starts worker i and listens to what it says.
func (c *chaos) start(i int) {
	c.Helper()
	w := c.workers[i]
	exe, err := os.Executable()
	if err != nil {
		c.Fatal(err)
	}
	w.cmd, w.gone = exec.Command(exe, "-test.run=^TestChaosLease$", "-test.timeout=0"), make(chan struct{})
	w.cmd.Env = append(os.Environ(), chaosWorker+"="+w.gate.URL(), fmt.Sprintf("%s=worker-%d", chaosName, i))
	w.cmd.Stderr = os.Stderr
	out, err := w.cmd.StdoutPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		c.Fatal(err)
	}
	cmd, gone := w.cmd, w.gone
	c.Cleanup(func() { _ = cmd.Process.Kill() })
	go func() {
		defer close(gone)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch line := lines.Text(); {
			case line == "fenced":
				c.fenced.Add(1)
			case strings.HasPrefix(line, "failed"):
				c.failed.Add(1)
				c.Log(line)
			}
		}
		_ = cmd.Wait()
	}()
}

// strike takes the owner of a run away and measures how long it is until the next
// run of the period begins, by the server's clock. It is not ok if the period was
// complete before the blow fell.
func (c *chaos) strike() (fault string, took time.Duration, ok bool) {
	c.Helper()
	time.Sleep(time.Duration(c.random.Int64N(int64(chaosPoll))))
	var owner, period string
	var id int64
	err := c.conn.QueryRow(context.Background(), `
		SELECT id, owner, period FROM ingest_runs WHERE status = 'running' ORDER BY id DESC LIMIT 1`).Scan(&id, &owner, &period)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, false
	}
	if err != nil {
		c.Fatal(err)
	}
	i, err := strconv.Atoi(strings.TrimPrefix(owner, "worker-"))
	if err != nil {
		c.Fatal(err)
	}
	w := c.workers[i]
	fault = []string{"stopped", "killed", "frozen", "cut off"}[c.random.IntN(4)]
	struck := time.Now()
	switch fault {
	case "stopped":
		_ = w.cmd.Process.Signal(syscall.SIGSTOP)
	case "killed":
		_ = w.cmd.Process.Kill()
	case "frozen":
		w.gate.Freeze(true)
	case "cut off":
		w.gate.Freeze(true)
		w.gate.Cut(false)
	}
	took, ok = c.untilNext(id, period, struck)
	time.Sleep(time.Duration(c.random.Int64N(int64(chaosPoll))))
	switch fault {
	case "stopped":
		_ = w.cmd.Process.Signal(syscall.SIGCONT)
	case "killed":
		<-w.gone
		c.start(i)
	default:
		w.gate.Freeze(false)
	}
	return fault, took, ok
}

func (c *chaos) untilNext(id int64, period string, struck time.Time) (took time.Duration, ok bool) {
	c.Helper()
	for {
		var over bool
		var next *time.Time
		err := c.conn.QueryRow(context.Background(), `
			SELECT status IN ('ok', 'skipped') OR EXISTS (SELECT FROM ingest_periods p WHERE p.period = r.period AND p.state = 'complete' AND p.run_id <= r.id),
			       (SELECT min(started_at) FROM ingest_runs n WHERE n.period = r.period AND n.id > r.id)
			FROM ingest_runs r WHERE id = $1`, id).Scan(&over, &next)
		if err != nil {
			c.Fatal(err)
		}
		switch {
		case over:
			return 0, false
		case next != nil:
			return next.Sub(struck), next.After(struck)
		case time.Since(struck) > 4*(chaosLength+chaosMargin):
			c.Fatalf("%s of run %d is not taken over after %s", period, id, time.Since(struck))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *chaos) verify(took map[string][]time.Duration) {
	c.Helper()
	periods, stale := c.count(complete), c.count(staleCommits)
	fmt.Printf("chaos: %d periods, %d runs, %d saves; commits by a stale epoch: %d of %d attempts\n",
		periods, c.count(`SELECT count(*) FROM ingest_runs`), c.count(`SELECT count(*) FROM ingest_attempts`), stale, c.fenced.Load())
	var all []time.Duration
	for name, some := range took {
		slices.Sort(some)
		all = append(all, some...)
		fmt.Printf("chaos: takeover of an owner that was %-8s %4d: p50 %s p99 %s max %s\n", name, len(some), quantile(some, 50), quantile(some, 99), quantile(some, 100))
	}
	slices.Sort(all)
	fmt.Printf("chaos: takeover of all %d, with a lease of %s: p50 %s p99 %s max %s\n", len(all), chaosLength, quantile(all, 50), quantile(all, 99), quantile(all, 100))
	if worst := quantile(all, 100); worst > chaosLength+chaosMargin {
		c.Errorf("a takeover took %s, want %s at most", worst, chaosLength+chaosMargin)
	}
	if stale > 0 || c.fenced.Load() == 0 || c.failed.Load() > 0 {
		c.Errorf("%d commits of %d attempts by a stale epoch, %d failures", stale, c.fenced.Load(), c.failed.Load())
	}
	for what, sql := range map[string]string{
		"complete periods without exactly one run that ended well": `
			SELECT count(*) FROM ingest_periods p WHERE state = 'complete'
			AND (SELECT count(*) FROM ingest_runs r WHERE r.period = p.period AND r.status = 'ok') <> 1
			AND NOT EXISTS (SELECT FROM ingest_runs r WHERE r.period = p.period AND r.status IN ('running', 'interrupted') AND r.id = p.run_id)`,
		"periods with two runs that ended well": `
			SELECT count(*) FROM (SELECT FROM ingest_runs WHERE status = 'ok' GROUP BY period HAVING count(*) > 1) AS twice`,
		"complete periods with a unit missing": fmt.Sprintf(`
			SELECT count(*) FROM ingest_periods p WHERE state = 'complete'
			AND (SELECT count(*) FROM ingest_items i WHERE i.period = p.period) <> %d`, chaosUnits),
		"units that were stored twice": `
			SELECT count(*) FROM (SELECT FROM ingest_attempts WHERE outcome = 'stored' GROUP BY period, unit HAVING count(*) > 1) AS twice`,
		"runs that ended well before their period was complete": `
			SELECT count(*) FROM ingest_runs r WHERE status = 'ok'
			AND NOT EXISTS (SELECT FROM ingest_periods p WHERE p.period = r.period AND state = 'complete' AND p.run_id = r.id)`,
	} {
		if n := c.count(sql); n != 0 {
			c.Errorf("%s: %d", what, n)
		}
	}
}

func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(time.Millisecond)
}

// runPeriods is a worker: it runs period after period, several workers at once,
// until it is killed. It does not stop when its claim is lost, so that the fence
// is put to the test.
func runPeriods(t *testing.T, url, name string) {
	db, err := postgres.Open(t.Context(), url, postgres.Options{MaxConns: 3, Lease: store.Lease{Length: chaosLength}})
	for err != nil { // its network is frozen
		db, err = postgres.Open(t.Context(), url, postgres.Options{MaxConns: 3, Lease: store.Lease{Length: chaosLength}})
	}
	complete := map[int]bool{}
	for limit := 1 << 20; ; limit = 100 {
		known, err := db.Periods(t.Context(), job, limit)
		for _, p := range known {
			complete[int(p.Tick.Sub(chaosStart())/time.Minute)] = p.State == store.Complete
		}
		p := nextPeriod(complete)
		var run store.Run
		if err == nil {
			run, err = db.Begin(t.Context(), job, fmt.Sprintf("%06d", p), name)
		}
		if err != nil {
			if !errors.As(err, new(*store.HeldError)) {
				fmt.Println("not begun:", err)
			}
			time.Sleep(chaosPoll)
			continue
		}
		err = runPeriod(t.Context(), db, run, p)
		switch {
		case err == nil:
			complete[p] = true
		case errors.Is(err, store.ErrFenced):
			fmt.Println("fenced")
		default:
			fmt.Println("failed:", err)
		}
		_ = run.Release()
	}
}

// chaosStart is the tick of period 0.
func chaosStart() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

// nextPeriod is one of the first few that are not known to be complete.
func nextPeriod(complete map[int]bool) int {
	var free []int
	for p := 0; len(free) < chaosWorkers; p++ {
		if !complete[p] {
			free = append(free, p)
		}
	}
	return free[rand.IntN(len(free))]
}

// runPeriod stores what is missing. The journal decides whether it was this run
// that made the period complete.
func runPeriod(ctx context.Context, db *postgres.DB, run store.Run, p int) error {
	name := fmt.Sprintf("%06d", p)
	done, err := db.DoneUnits(ctx, job, name)
	for err != nil { // a question is not asked again by itself, as a save is
		time.Sleep(chaosPoll)
		done, err = db.DoneUnits(ctx, job, name)
	}
	for u := range chaosUnits {
		unit := market.Symbol(fmt.Sprintf("U%d.%s", u, name))
		if slices.Contains(done, unit) {
			continue
		}
		if _, err := run.SaveBars(ctx, series(unit, 20), day); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	}
	noted, err := run.NotePeriod(ctx, store.PeriodInfo{State: store.Complete, Tick: chaosStart().Add(time.Duration(p) * time.Minute)})
	if err != nil {
		return err
	}
	if !noted {
		return run.End(ctx, "skipped", nil)
	}
	return run.End(ctx, "ok", nil)
}

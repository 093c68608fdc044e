//go:build chaos

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/testenv"
	"github.com/alpha-oracle/worker/providers/simulator"
)

const (
	// soakScale is how fast the clock goes: a day takes 864 s.
	soakScale = 100
	// soakEvery is how often the memory is looked at.
	soakEvery = 10 * time.Second
	// soakIdle is how long after a run the worker is idle: its connections to
	// providers last for 5 s.
	soakIdle = 7 * time.Second
	// soakRuns is after how many runs their counts are compared.
	soakRuns = 5
	// soakSpread is by how much they may differ from those after the second.
	soakSpread = 2
)

// vitals are what an idle worker holds.
type vitals struct {
	run                         string
	goroutines, postgres, redis int
}

func (v vitals) String() string {
	return fmt.Sprintf("run %s: %d goroutines, %d connections to Postgres, %d to Redis", v.run, v.goroutines, v.postgres, v.redis)
}

// soak is a worker that serves for long.
type soak struct {
	*child
	file string
	rdb  *redis.Client
	// hours and memory are the samples: hours of the schedule and MiB.
	hours, memory []float64
	idle          []vitals
}

// TestSoakServe lets a worker serve for a day of the schedule. A symbol's bar does
// not come all day, so that it is asked for again and again. After each run the
// idle worker holds as many goroutines and connections as after the second, and
// the growth of its memory is printed.
//
// SOAK_SECONDS is how long it takes (864, a day).
//
//nolint:paralleltest // it takes the whole machine
func TestSoakServe(t *testing.T) {
	seconds := numberFrom(t, "SOAK_SECONDS", 24*60*60/soakScale)
	w := newWorld(t).withServers()
	w.env["SA_REDIS__URL"] = testenv.RedisServer(t).URL()
	friday := market.NewDate(time.Now().Year()+1, time.March, 1)
	for friday.Weekday() != time.Friday {
		friday++
	}
	symbols := market.SP500()[:20]
	c := w.newClock(friday.In(market.NewYork(), 18, 29), soakScale)
	w.simulate(simulator.Config{Key: canary, Now: c.now, Premium: true})
	w.sim.Fault(symbols[7], simulator.MissingLast, -1)
	for name, value := range map[string]string{
		"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY": "0",
		"SA_DATA__EDGAR__USER_AGENT":                 "Tests tests@example.com",
		"SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND":      "1000",
		"SA_DATA__FINRA__RATE_LIMIT_PER_MINUTE":      "60000",
		"SA_DATA__UNIVERSE__SYMBOLS":                 list(symbols),
		"SA_SCHEDULER__BIWEEKLY_ALTDATA_CRON":        "0 19 * * *",
		"SA_LOG__LEVEL":                              "info",
	} {
		w.env[name] = value
	}
	if m := w.run("migrate"); m.code != exitOK {
		t.Fatal(m.err)
	}
	s := &soak{file: filepath.Join(t.TempDir(), "vitals"), rdb: w.redis()}
	s.child = w.spawn(c, map[string]string{childVitals: s.file}, "serve")
	for began, end := time.Now(), time.Now().Add(time.Duration(seconds)*time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if time.Since(began) >= time.Duration(len(s.hours))*soakEvery {
			s.sample(time.Since(began) * soakScale)
		}
		s.look()
	}
	if code, took := s.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d after %s: %s", code, took, tail(s.errs.String()))
	}
	s.judge()
}

// sample notes how much memory the worker holds.
func (s *soak) sample(age time.Duration) {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatalf("it has ended: %v\n%s", err, tail(s.errs.String()))
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest + " none")[0])
	if err != nil {
		s.t.Fatal(err)
	}
	s.hours, s.memory = append(s.hours, age.Hours()), append(s.memory, float64(kib)/1024)
}

// look notes what the worker holds, once after each run, when it is idle.
func (s *soak) look() {
	s.t.Helper()
	id := s.query(fmt.Sprintf(`
		SELECT coalesce((SELECT max(id)::text FROM ingest_runs
		HAVING bool_and(status <> 'running') AND max(finished_at) < clock_timestamp() - interval '%d seconds'), '')`, int(soakIdle.Seconds())))
	if id == "" || len(s.idle) > 0 && s.idle[len(s.idle)-1].run == id {
		return
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	v := vitals{run: id}
	clients, err := s.rdb.ClientList(context.Background()).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	v.redis = strings.Count(clients, "\n") - 1 // without the one that asks
	if v.goroutines, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		s.t.Fatal(err)
	}
	v.postgres, err = strconv.Atoi(s.query(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'worker'`))
	if err != nil {
		s.t.Fatal(err)
	}
	s.idle = append(s.idle, v)
}

func (s *soak) judge() {
	s.t.Helper()
	for _, v := range s.idle {
		fmt.Printf("soak: idle after %s\n", v)
	}
	if len(s.idle) == 0 {
		s.t.Fatalf("never idle after a run:\n%s", tail(s.errs.String()))
	}
	for i, v := range s.idle {
		second := s.idle[min(1, i)]
		worst := max(abs(v.goroutines-second.goroutines), abs(v.postgres-second.postgres), abs(v.redis-second.redis))
		if worst > soakSpread && len(s.idle) >= soakRuns {
			s.t.Errorf("idle after %s; after %s", v, second)
		}
	}
	if len(s.hours) < 6 {
		return // too few for a line
	}
	from := len(s.hours) / 4
	slope, spread := fit(s.hours[from:], s.memory[from:])
	verdict := "it grows"
	if math.Abs(slope) <= spread || slope < 1 {
		verdict = "flat"
	}
	fmt.Printf("soak: %.1f hours of the schedule, %d samples, memory %.1f MiB at the end, slope %.3f ± %.3f MiB/h (95 %%): %s\n",
		s.hours[len(s.hours)-1], len(s.hours), s.memory[len(s.memory)-1], slope, spread, verdict)
}

func abs(n int) int { return max(n, -n) }

// fit is the slope of the line of least squares, and the half of its interval of
// 95 %.
func fit(x, y []float64) (slope, spread float64) {
	n := float64(len(x))
	var meanX, meanY, sxx, sxy, rest float64
	for i := range x {
		meanX, meanY = meanX+x[i]/n, meanY+y[i]/n
	}
	for i := range x {
		sxx += (x[i] - meanX) * (x[i] - meanX)
		sxy += (x[i] - meanX) * (y[i] - meanY)
	}
	slope = sxy / sxx
	for i := range x {
		d := y[i] - meanY - slope*(x[i]-meanX)
		rest += d * d
	}
	return slope, 2 * math.Sqrt(rest/(n-2)/sxx)
}

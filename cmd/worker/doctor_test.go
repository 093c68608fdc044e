package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// doctor runs the command and returns its findings by name.
func (w *world) doctor(args ...string) (map[string]check, int) {
	w.t.Helper()
	var list []check
	code := w.decode(&list, append([]string{"doctor"}, args...)...)
	found, failed := map[string]check{}, false
	for _, c := range list {
		found[c.Name] = c
		failed = failed || c.State == stateFailed
		if c.State != stateOK && c.Advice == "" {
			w.t.Errorf("%s says nothing of what to do: %+v", c.Name, c)
		}
	}
	if failed != (code == exitFailed) {
		w.t.Errorf("exit %d: %+v", code, list)
	}
	return found, code
}

func TestDoctorFindsWhatBreaksTheNextRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		env   map[string]string
		check string
		state string
		says  string
	}{
		{"all well", nil, "zone data", stateOK, "New_York"},
		{"all well", nil, "disk space", stateOK, "MB are free"},
		{"all well", nil, "schedule", stateOK, "next daily bars"},
		{"no key", map[string]string{"SA_ALPHA_VANTAGE_API_KEY": "", "SA_DATA__ALPHA_VANTAGE__BASE_URL": ""}, "alpha vantage key", stateFailed, "not set"},
		{"another key", map[string]string{"SA_ALPHA_VANTAGE_API_KEY": "", "SA_DATA__ALPHA_VANTAGE__BASE_URL": "", "SA_TIINGO_API_KEY": canary}, "alpha vantage key", stateWarning, "not set"},
		{"another key", map[string]string{"SA_TIINGO_API_KEY": canary}, "tiingo key", stateOK, "50 calls an hour"},
		{"a time that clocks skip", map[string]string{"SA_SCHEDULER__DAILY_BARS_CRON": "30 2 * * *"}, "schedule", stateWarning, "2:30"},
		{"no schedule", map[string]string{"SA_SCHEDULER__ENABLED": "false"}, "schedule", stateWarning, "false"},
		{"open to all", map[string]string{"SA_HTTP__ADDR": ":8080"}, "http address", stateFailed, "SA_HTTP__TOKEN"},
		{"open with a token", map[string]string{"SA_HTTP__ADDR": ":8080", "SA_HTTP__TOKEN": strings.Repeat("k", 32)}, "http address", stateOK, ":8080"},
	} {
		w := newWorld(t)
		for name, value := range test.env {
			w.env[name] = value
		}
		found, _ := w.doctor()
		if c := found[test.check]; c.State != test.state || !strings.Contains(c.Found, test.says) {
			t.Errorf("%s: %+v, want %s with %q", test.name, c, test.state, test.says)
		}
	}
}

func TestDoctorLooksAtSecretFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["SA_ALPHA_VANTAGE_API_KEY"], w.env["SA_ALPHA_VANTAGE_API_KEY_FILE"] = "", file
	for _, test := range []struct {
		dir, file os.FileMode
		state     string
	}{{0o755, 0o600, stateOK}, {0o755, 0o640, stateOK}, {0o755, 0o644, stateWarning}, {0o755, 0o620, stateWarning}, {0o700, 0o644, stateOK}} {
		if err := os.Chmod(dir, test.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, test.file); err != nil {
			t.Fatal(err)
		}
		found, _ := w.doctor()
		if c := found["secret files"]; c.State != test.state || !strings.Contains(c.Found, file) {
			t.Errorf("%s in %s: %+v, want %s", test.file, test.dir, c, test.state)
		}
	}
}

func TestDoctorWithServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.env["SA_DATABASE__MIGRATE"] = "false"
	found, code := w.doctor()
	if c := found["schema"]; c.State != stateFailed || code != exitFailed || !strings.Contains(c.Advice, "worker migrate") {
		t.Errorf("an old schema that is not to be changed: %+v", c)
	}
	if c := found["database clock"]; c.State != stateOK {
		t.Errorf("%+v", c)
	}
	base, start := time.Now().Add(time.Hour), time.Now()
	w.now = func() time.Time { return base.Add(time.Since(start)) }
	found, _ = w.doctor()
	for _, name := range []string{"clock", "database clock"} {
		if c := found[name]; c.State != stateWarning || !strings.Contains(c.Advice, "NTP") {
			t.Errorf("%s an hour off: %+v", name, c)
		}
	}
}

// Only --online makes a call, and it is one that the ledger knows.
func TestDoctorOnline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base, start := sessionDate().In(market.NewYork(), 23, 0), time.Now()
	w.now = func() time.Time { return base.Add(time.Since(start)) }
	w.simulate(simulator.Config{Key: canary, Through: sessionDate(), Now: w.now, Premium: true})
	if s := w.run("migrate"); s.code != exitOK {
		t.Fatal(s.err)
	}
	if w.doctor(); len(w.sim.Calls()) != 0 {
		t.Fatalf("%d calls", len(w.sim.Calls()))
	}
	found, code := w.doctor("--online")
	if c := found["alpha_vantage online"]; c.State != stateOK || code != exitOK || len(w.sim.Calls()) != 1 {
		t.Errorf("%+v after %d calls", c, len(w.sim.Calls()))
	}
	w.env["SA_ALPHA_VANTAGE_API_KEY"] = "another"
	found, code = w.doctor("--online")
	if c := found["alpha_vantage online"]; c.State != stateFailed || code != exitFailed || !strings.Contains(c.Advice, "SA_ALPHA_VANTAGE_API_KEY") {
		t.Errorf("a wrong key: %+v", c)
	}
}

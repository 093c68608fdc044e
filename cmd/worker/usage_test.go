package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		want []string // parts of the message
	}{
		{"a symbol that is SQL", []string{"--symbols", "AAPL;DROP"}, nil, []string{"--symbols", `"AAPL;DROP"`}},
		{"a symbol that is a path", []string{"--symbols", "../x"}, nil, []string{`"../x"`}},
		{"a symbol with a line break", []string{"--symbols", "A\nB"}, nil, []string{`"A\nB"`}},
		{"lower case", []string{"--symbols", "aapl"}, nil, []string{`"aapl"`, "AAPL"}},
		{"the index as a symbol", []string{"--symbols", "SP500"}, nil, []string{"SP500", "write sp500"}},
		{"the index in a list", []string{"--symbols", "sp500,AAPL"}, nil, []string{"sp500 stands alone"}},
		{"no symbol", []string{"--symbols", ""}, nil, []string{"--symbols"}},
		{"a file that is not there", []string{"--symbols", "@missing.txt"}, nil, []string{"missing.txt"}},
		{"a holiday", []string{"--date", "2026-07-03"}, nil, []string{"2026-07-03", "Independence Day", "2026-07-02", "2026-07-06"}},
		{"a weekend", []string{"--date", "2026-03-14"}, nil, []string{"weekend", "2026-03-13", "2026-03-16"}},
		{"the future", []string{"--date", "2034-03-13"}, nil, []string{"2034-03-13", "no final bars yet"}},
		{"before the calendar", []string{"--date", "1985-03-12"}, nil, []string{"1985", "1990"}},
		{"no date", []string{"--date", "12/03/2026"}, nil, []string{`"12/03/2026"`, "YYYY-MM-DD"}},
		{"a date that does not exist", []string{"--date", "2026-02-30"}, nil, []string{`"2026-02-30"`}},
		{"two dates", []string{"--date", "2026-03-12", "--date", "2026-03-13"}, nil, []string{"given twice", "2026-03-12", "2026-03-13"}},
		{"two lists", []string{"--symbols", "AAPL", "--symbols", "MSFT"}, nil, []string{"given twice"}},
		{"an argument", []string{"AAPL"}, nil, []string{"AAPL"}},
		{"an unknown flag", []string{"--dates", "x"}, nil, []string{"--dates"}},
		{"a bad scheme", nil, map[string]string{"SA_DATA__ALPHA_VANTAGE__BASE_URL": "ftp://x"}, []string{"SA_DATA__ALPHA_VANTAGE__BASE_URL", "ftp", "https"}},
		{"a database of another kind", nil, map[string]string{"SA_DATABASE__URL": "mysql://u:CANARYk3y9876@h/d"}, []string{"SA_DATABASE__URL", "mysql", "postgres"}},
		{"a redis of another kind", nil, map[string]string{"SA_REDIS__URL": "http://h"}, []string{"SA_REDIS__URL", "redis"}},
		{"a limit of nothing", nil, map[string]string{"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE": "0"}, []string{"RATE_LIMIT_PER_MINUTE", `"0"`}},
		{"a limit in words", nil, map[string]string{"SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY": "many"}, []string{"RATE_LIMIT_PER_DAY", `"many"`}},
		{"a key with a blank", nil, map[string]string{"SA_ALPHA_VANTAGE_API_KEY": "CANARYk3y9876 "}, nil},
		{"a misspelt name", nil, map[string]string{"SA_REDIS_URL": "redis://h"}, []string{"SA_REDIS_URL", "SA_REDIS__URL"}},
		{"an unknown level", nil, map[string]string{"SA_LOG__LEVEL": "loud"}, []string{"SA_LOG__LEVEL", "loud"}},
		{"a universe in the configuration", nil, map[string]string{"SA_DATA__UNIVERSE__SYMBOLS": "brk.b"}, []string{"SA_DATA__UNIVERSE__SYMBOLS", "BRK.B"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for name, value := range test.env {
				w.env[name] = value
			}
			s := w.run(append([]string{"run", "daily-bars"}, test.args...)...)
			if test.want == nil {
				if s.code == exitUsage {
					t.Errorf("refused: %s", s.err)
				}
				return
			}
			if s.code != exitUsage {
				t.Errorf("exit %d, want 2: %s", s.code, s.err)
			}
			for _, part := range test.want {
				if !strings.Contains(s.err, part) {
					t.Errorf("%q is not in: %s", part, s.err)
				}
			}
			if len(w.sim.Calls()) != 0 {
				t.Error("a call was made")
			}
		})
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "worker.yaml")
	text := "data:\n  alpha_vantage:\n    rate_limit_per_minute: 0\n    ratelimit_per_day: 25\nlog:\n  level: loud\nnonsense: 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(w.env, "SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE")
	delete(w.env, "SA_LOG__LEVEL")
	s := w.run("run", "daily-bars", "--config", file)
	for _, part := range []string{"RATE_LIMIT_PER_MINUTE", `"data.alpha_vantage.ratelimit_per_day"`, `did you mean "data.alpha_vantage.rate_limit_per_day"`, "loud", `"nonsense"`, file} {
		if !strings.Contains(s.err, part) {
			t.Errorf("%q is not in: %s", part, s.err)
		}
	}
	if s.code != exitUsage {
		t.Errorf("exit %d", s.code)
	}
}

func TestConfigurationOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, key := filepath.Join(dir, "worker.yaml"), filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte("data:\n  alpha_vantage:\n    rate_limit_per_minute: 7\n    rate_limit_per_day: 8\nalpha_vantage_api_key_file: "+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("from-a-file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig("", []string{"SA_CONFIG_FILE=" + file, "SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY=9"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.PerMinute != 7 || cfg.PerDay != 9 || cfg.Key.Reveal() != "from-a-file" || cfg.DataDir != "./data" {
		t.Errorf("per minute %d, per day %d, key %q, directory %s", cfg.PerMinute, cfg.PerDay, cfg.Key.Reveal(), cfg.DataDir)
	}
	if _, err := loadConfig("", []string{"SA_ALPHA_VANTAGE_API_KEY=x", "SA_ALPHA_VANTAGE_API_KEY_FILE=" + key}); err == nil {
		t.Error("a key given twice is accepted")
	}
	if _, err := loadConfig(filepath.Join(dir, "none.yaml"), nil); err == nil {
		t.Error("a file that is not there is accepted")
	}
}

func TestWithoutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	delete(w.env, "SA_ALPHA_VANTAGE_API_KEY")
	delete(w.env, "SA_DATA__ALPHA_VANTAGE__BASE_URL")
	s := w.run("run", "daily-bars", "--symbols", "AAPL")
	if s.code != exitUsage || !strings.Contains(s.err, "--demo") || !strings.Contains(s.err, "SA_ALPHA_VANTAGE_API_KEY") {
		t.Errorf("exit %d: %s", s.code, s.err)
	}
	if s := w.run(); s.code != exitUsage || !strings.Contains(s.err, "SA_ALPHA_VANTAGE_API_KEY") {
		t.Errorf("worker alone, which serves: exit %d: %s", s.code, s.err)
	}
	if dry := w.run("run", "daily-bars", "--symbols", "AAPL", "--dry-run"); dry.code != exitOK {
		t.Errorf("a dry run needs no key, but: exit %d: %s", dry.code, dry.err)
	}
}

func TestErrorsAsJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.run("run", "daily-bars", "--date", "2026-07-03", "--json")
	var got struct {
		Error    string `json:"error"`
		ExitCode int    `json:"exit_code"`
	}
	if err := json.Unmarshal([]byte(s.out), &got); err != nil || got.ExitCode != exitUsage || !strings.Contains(got.Error, "Independence Day") {
		t.Errorf("%v: %s", err, s.out)
	}
}

func TestHelpShowsExamples(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{{}, {"run", "daily-bars"}, {"status"}, {"keys", "list"}, {"keys", "show"}, {"keys", "clear"}, {"kill-switch"}, {"kill-switch", "deactivate"}, {"pdt"}, {"pdt", "record"}, {"doctor"}, {"migrate"}, {"simulate"}} {
		s := w.run(append(args, "--help")...)
		if s.code != exitOK || !strings.Contains(s.out, "Examples:") {
			t.Errorf("worker %s --help: exit %d: %s", strings.Join(args, " "), s.code, s.out)
		}
	}
	if s := w.run("run"); s.code != exitUsage {
		t.Errorf("without a job: exit %d", s.code)
	}
}

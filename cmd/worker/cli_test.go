package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// document reads standard output, which must be one JSON document.
func (s said) document(t *testing.T, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(s.out))
	if err := dec.Decode(into); err != nil {
		t.Fatalf("standard output is no JSON: %v\n%s\n%s", err, s.out, s.err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one document on standard output:\n%s", s.out)
	}
}

func TestAPasswordThatOccursInOutputLeavesItWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	if s := w.run("migrate"); s.code != exitOK {
		t.Fatal(s.err)
	}
	server := w.env["SA_REDIS__URL"]
	for _, password := range []string{"1000", "limit", "quotas", "database", "postgres"} {
		// A server without passwords takes any from a named user.
		w.env["SA_REDIS__URL"] = strings.Replace(server, "redis://", "redis://default:"+password+"@", 1)
		s := w.run("status", "--json")
		var st status
		s.document(t, &st)
		if len(st.Quotas) != 4 || st.Quotas[1].Limit != 100_000 || strings.Contains(s.out, secret.Redacted) {
			t.Errorf("password %q: %s", password, s.out)
		}
		if s := w.run("status"); !strings.Contains(s.out, "100000") || strings.Contains(s.out, secret.Redacted) {
			t.Errorf("password %q, in words: %s", password, s.out)
		}
	}
}

func TestJSONValuesAreRedactedAndNamesAreNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	rdb := w.redis()
	const key = "jobs:daily_bars:2026-03-12:done"
	if err := rdb.SAdd(t.Context(), key, "see "+canary+"!", "AAPL").Err(); err != nil {
		t.Fatal(err)
	}
	if s := w.run("migrate"); s.code != exitOK {
		t.Fatal(s.err)
	}
	var info struct{ Value []string }
	w.run("keys", "show", key, "--json").document(t, &info)
	if !slices.Equal(info.Value, []string{"AAPL", "see [redacted]!"}) {
		t.Errorf("value %q", info.Value)
	}
	if s := w.run("keys", "show", key); !strings.Contains(s.out, "see [redacted]!") {
		t.Errorf("in words: %s", s.out)
	}
}

func TestPasswordsInAURLAreSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_DATABASE__URL"] = "postgres://me@127.0.0.1:1/d?sslmode=disable&password=" + canary
	w.env["SA_ALPHA_VANTAGE_API_KEY"] = "another"
	cfg, err := loadConfig("", environOf(w.env))
	if err != nil {
		t.Fatal(err)
	}
	w.noCanary("a redacted text", secret.Redactor(cfg.secrets()...)("password "+canary))
	if s := w.run("status"); s.code != exitFailed {
		t.Errorf("exit %d: %s", s.code, s.err)
	}
}

func TestJSONAloneOnStandardOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{
		{"keys", "--json"},
		{"--nonsense", "--json"},
		{"status", "--nonsense", "--json"},
		{"run", "daily-bars", "--nonsense", "--json=true"},
		{"nonsense", "--json"},
		{"keys", "show", "--json"},
		{"simulate", "--per-day", "many", "--json"},
	} {
		s := w.run(args...)
		var problem struct {
			Error    string
			ExitCode int `json:"exit_code"`
		}
		s.document(t, &problem)
		if s.code != exitUsage || problem.ExitCode != exitUsage || problem.Error == "" {
			t.Errorf("worker %v: exit %d: %+v", args, s.code, problem)
		}
	}
	for _, args := range [][]string{{"status", "--nonsense"}, {"--nonsense", "--json=false"}, {"--nonsense", "--", "--json"}, {"keys"}} {
		if s := w.run(args...); s.code != exitUsage || s.out != "" {
			t.Errorf("worker %v: exit %d, standard output %q", args, s.code, s.out)
		}
	}
	if s := w.run("keys"); !strings.Contains(s.err, "keys show") {
		t.Errorf("no help: %s", s.err)
	}
}

func TestSimulateSaysItsAddress(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{true, false} {
		ctx, stop := context.WithCancel(t.Context())
		out, in := io.Pipe()
		done := make(chan int)
		go func() {
			done <- run(ctx, []string{"simulate", "--addr", "127.0.0.1:0", "--json=" + strconv.FormatBool(asJSON)},
				process{Stdin: strings.NewReader(""), Stdout: in, Stderr: io.Discard})
		}()
		var got struct{ URL string }
		var err error
		if asJSON {
			err = json.NewDecoder(out).Decode(&got)
		} else {
			got.URL, err = bufio.NewReader(out).ReadString('\n')
		}
		if err != nil || !strings.HasPrefix(got.URL, "http://127.0.0.1:") {
			t.Errorf("said %q, %v", got.URL, err)
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		stop()
		if code := <-done; code != exitOK {
			t.Errorf("exit %d", code)
		}
	}
}

func TestSimulateRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--per-second", "-1"}, "--per-second is -1"},
		{[]string{"--per-minute", "-1"}, "--per-minute is -1"},
		{[]string{"--per-day", "-1"}, "--per-day is -1"},
		{[]string{"--latency", "-1s"}, "--latency is -1s"},
		{[]string{"--through", "2034-03-13"}, "has not closed yet"},
		{[]string{"--through", "2026-03-14"}, "no session"},
		{[]string{"--through", "1985-03-12"}, "1990"},
		{[]string{"--fault", "AAPL=empty"}, "empty_object"},
	} {
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		s := w.runContext(ctx, append([]string{"simulate", "--addr", "127.0.0.1:0"}, test.args...)...)
		stop()
		if s.code != exitUsage || !strings.Contains(s.err, test.want) {
			t.Errorf("simulate %v: exit %d: %s", test.args, s.code, s.err)
		}
	}
}

func TestTheExamplesOfSimulateNameFaults(t *testing.T) {
	t.Parallel()
	a := &app{now: time.Now}
	words := strings.Fields(a.simulateCommand().Example)
	checked := 0
	for i, word := range words {
		if word != "--fault" {
			continue
		}
		checked++
		if err := addFault(simulator.New(simulator.Config{}), words[i+1]); err != nil {
			t.Errorf("--fault %s: %v", words[i+1], err)
		}
	}
	if checked != 2 {
		t.Errorf("%d faults in the examples", checked)
	}
}

func TestKeysShowCountsAllAndShowsSome(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	if s := w.run("migrate"); s.code != exitOK {
		t.Fatal(s.err)
	}
	const many = 3000
	pipe := w.redis().Pipeline()
	for i := range many {
		member := fmt.Sprintf("M%04d", i)
		pipe.SAdd(t.Context(), "a:set", member)
		pipe.ZAdd(t.Context(), "a:zset", redis.Z{Score: float64(i) + 0.5, Member: member})
		pipe.RPush(t.Context(), "a:list", member)
		pipe.HSet(t.Context(), "a:hash", member, i)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"set", "zset", "list", "hash"} {
		var info struct {
			Members   int
			Truncated bool
			Value     json.RawMessage
		}
		w.run("keys", "show", "a:"+kind, "--json").document(t, &info)
		if n := strings.Count(string(info.Value), `"M`); info.Members != many || !info.Truncated || n != shownMembers {
			t.Errorf("%s: %d members, truncated %t, %d shown", kind, info.Members, info.Truncated, n)
		}
		s := w.run("keys", "show", "a:"+kind)
		if !strings.Contains(s.out, "members  3000, of which 1000 are shown") || strings.Count(s.out, "\nM") != shownMembers {
			t.Errorf("%s in words: %.300s", kind, s.out)
		}
	}
	if s := w.run("keys", "show", "a:zset"); !strings.Contains(s.out, "\nM0007  7.5\n") {
		t.Errorf("no scores: %.300s", s.out)
	}
}

func TestKeysShowOfFewMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	if s := w.run("migrate"); s.code != exitOK {
		t.Fatal(s.err)
	}
	rdb, ctx := w.redis(), t.Context()
	const odd = "cache:\x1b[31m"
	err := errors.Join(
		rdb.SAdd(ctx, "a:set", "one", "two\nthree").Err(),
		rdb.ZAdd(ctx, "a:zset", redis.Z{Score: -2, Member: "x"}, redis.Z{Score: posInf(), Member: "y"}).Err(),
		rdb.HSet(ctx, "a:hash", "f\t", "v").Err(),
		rdb.Set(ctx, odd, "plain é", 0).Err(),
		rdb.Set(ctx, "a:string", "a\x00b\xff", 400*time.Millisecond).Err(),
	)
	if err != nil {
		t.Fatal(err)
	}
	if s := w.run("keys", "show", "a:string"); !strings.Contains(s.out, `value    "a\x00b\xff"`) || !strings.Contains(s.out, "expires  0s") {
		t.Errorf("string: %q", s.out)
	}
	for key, want := range map[string]string{
		"a:set":  "members  2\none\n\"two\\nthree\"\n",
		"a:zset": "members  2\nx  -2\ny  +Inf\n",
		"a:hash": "members  1\n\"f\\t\"  v\n",
		odd:      "value    plain é\n",
	} {
		if s := w.run("keys", "show", key); s.code != exitOK || !strings.HasSuffix(s.out, want) || strings.Contains(s.out, "\x1b") {
			t.Errorf("%q: exit %d: %q %s", key, s.code, s.out, s.err)
		}
		var info struct{ Truncated bool }
		asJSON := w.run("keys", "show", key, "--json")
		if asJSON.document(t, &info); asJSON.code != exitOK || info.Truncated {
			t.Errorf("%q: exit %d: %s", key, asJSON.code, asJSON.out)
		}
	}
	if s := w.run("keys", "list"); !strings.Contains(s.out, `"cache:\x1b[31m"`) || strings.Contains(s.out, "\x1b") {
		t.Errorf("list: %q", s.out)
	}
}

func posInf() float64 { f, _ := strconv.ParseFloat("+Inf", 64); return f }

func TestAWindowThatRedisDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var st struct {
		Quotas []map[string]any `json:"quotas"`
	}
	w.run("status", "--json").document(t, &st)
	left, shown := st.Quotas[0]["left"]
	if left != nil || !shown || st.Quotas[1]["left"] != 100_000.0 {
		t.Errorf("quotas %v", st.Quotas)
	}
	if s := w.run("status"); !strings.Contains(s.out, "fills up at the next run") {
		t.Errorf("in words: %s", s.out)
	}
}

// More runs of one session than a status lists must not hide another session.
func TestEmbeddedKeysOfEverySessionAreRebuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := sessionDate() - 1
	w.daily("--date", before.String(), "--symbols", "AAPL")
	w.daily("--date", session, "--symbols", "AAPL")
	db := w.open().db
	for range shownRuns + 2 {
		run, err := db.Begin(t.Context(), dailybars.Name, session, "a test")
		if err != nil {
			t.Fatal(err)
		}
		if err := run.End(t.Context(), "ok", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	s := w.run("keys", "list")
	for _, date := range []market.Date{before, sessionDate()} {
		if !strings.Contains(s.out, "jobs:daily_bars:"+date.String()+":done") {
			t.Errorf("%s is missing: %s", date, s.out)
		}
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestLostOutputIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"version"}, {"--help"}, {"keys", "list", "--json"}} {
		var errs syncBuffer
		code := run(t.Context(), args, process{Environ: environOf(w.env), Stdin: strings.NewReader(""), Stdout: full{}, Stderr: &errs})
		if code != exitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("worker %v: exit %d: %s", args, code, errs.String())
		}
	}
	code := run(t.Context(), []string{"keys", "show", "--json"}, process{Stdin: strings.NewReader(""), Stdout: full{}, Stderr: io.Discard})
	if code != exitUsage {
		t.Errorf("another failure before: exit %d", code)
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestValuesInTheFile(t *testing.T) {
	t.Parallel()
	cfg, err := loadConfig(writeConfig(t, "redis:\nlog: {}\ndata_dir:\ndata:\n  universe:\n    symbols: [AAPL, ON, 'TRUE']\n  alpha_vantage:\n    rate_limit_per_day:\nalpha_vantage_api_key: ~\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Universe != "AAPL,ON,TRUE" || cfg.PerDay != 25 || cfg.DataDir != "./data" || cfg.Key.IsSet() {
		t.Errorf("universe %q, %d a day, directory %q, key set %t", cfg.Universe, cfg.PerDay, cfg.DataDir, cfg.Key.IsSet())
	}
	if len(cfg.fromWhere) != 1 {
		t.Errorf("set: %v", cfg.fromWhere)
	}
	symbols, err := parseUniverse(cfg.Universe)
	if err != nil || len(symbols) != 3 {
		t.Errorf("symbols %v, %v", symbols, err)
	}
	// The environment still wins, also over a section without anything.
	cfg, err = loadConfig(writeConfig(t, "redis:\ndata: {universe: {symbols: [AAPL]}}\n"),
		[]string{"SA_REDIS__URL=redis://h", "SA_DATA__UNIVERSE__SYMBOLS=MSFT"})
	if err != nil || cfg.Universe != "MSFT" || cfg.RedisURL.Reveal() != "redis://h" {
		t.Errorf("universe %q, %v", cfg.Universe, err)
	}
}

func TestValuesInTheFileThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"alpha_vantage_api_key: 9876543210123456":              "put it in quotes",
		"alpha_vantage_api_key: 1e5":                           "put it in quotes",
		"alpha_vantage_api_key: true":                          "put it in quotes",
		"alpha_vantage_api_key: 2026-03-12":                    "put it in quotes",
		"alpha_vantage_api_key: [9876543210123456]":            "want one value",
		"data: {universe: {symbols: [AAPL, true]}}":            "item 2 reads as true: put it in quotes",
		"data: {alpha_vantage: {rate_limit_per_day: [5]}}":     "rate_limit_per_day: want one value",
		"database: {url: {host: x}}":                           `unknown key "database.url.host"`,
		"nonsense:":                                            `unknown key "nonsense"`,
		"data: {alpha_vantage: {rate_limit_per_minute: many}}": `"many"`,
	} {
		_, err := loadConfig(writeConfig(t, text+"\n"), nil)
		if err == nil || !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "9876543210123456") || strings.Contains(err.Error(), "9.8765") {
			t.Errorf("the value is shown: %v", err)
		}
	}
}

func TestAnEmptyNameOfASecretFileIsNone(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"SA_ALPHA_VANTAGE_API_KEY=abc", "X=y"} {
		cfg, err := loadConfig("", []string{"SA_ALPHA_VANTAGE_API_KEY_FILE=", more})
		if err != nil || cfg.Key.IsSet() != strings.HasSuffix(more, "abc") {
			t.Errorf("with %s: %v, set %t", more, err, cfg.Key.IsSet())
		}
	}
}

func TestABaseURLWithAPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, user := range []string{"me:" + canary, canary} {
		w.env["SA_DATA__ALPHA_VANTAGE__BASE_URL"] = "https://" + user + "@example.com"
		s := w.run("status")
		if s.code != exitUsage || !strings.Contains(s.err, "SA_DATA__ALPHA_VANTAGE__BASE_URL") || !strings.Contains(s.err, "password") {
			t.Errorf("exit %d: %s", s.code, s.err)
		}
	}
}

func TestDoctorSpeaksOfTheDataDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.env["SA_DATA_DIR"]
	find := func(name string) check {
		s := w.run("doctor", "--json")
		var checks []check
		s.document(t, &checks)
		i := slices.IndexFunc(checks, func(c check) bool { return c.Name == name })
		if s.code != exitFailed || i < 0 {
			t.Fatalf("exit %d, no %s: %s", s.code, name, s.out)
		}
		if failed := strings.Count(s.out, `"`+stateFailed+`"`); failed != 1 {
			t.Errorf("%d checks failed: %s", failed, s.out)
		}
		return checks[i]
	}
	// No user at all can make files here, the superuser included.
	w.env["SA_DATA_DIR"] = "/proc/self"
	if c := find("data directory"); c.State != stateFailed || !strings.Contains(c.Advice, "SA_DATA_DIR") {
		t.Errorf("a directory without files: %+v", c)
	}
	w.env["SA_DATA_DIR"] = writeConfig(t, "a file")
	if c := find("data directory"); c.State != stateFailed || !strings.Contains(c.Advice, "SA_DATA_DIR") {
		t.Errorf("a file: %+v", c)
	}
	w.env["SA_DATA_DIR"] = dir
	if err := os.Mkdir(filepath.Join(dir, databaseFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if c := find("connections"); c.State != stateFailed || strings.Contains(c.Advice, "server") || !strings.Contains(c.Advice, databaseFile) {
		t.Errorf("a database that does not open: %+v", c)
	}
}

func TestEveryCommandShowsAnExample(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{{"run"}, {"keys"}, {"version"}, {"keys", "show"}} {
		s := w.run(append(args, "-h")...)
		if s.code != exitOK || !strings.Contains(s.out, "Examples:") {
			t.Errorf("worker %v -h: exit %d: %s", args, s.code, s.out)
		}
	}
}

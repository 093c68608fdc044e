//go:build mutate

package limiter_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// mutation is a mistake that somebody could make in this package.
type mutation struct {
	name  string
	edits []edit
	// tests are those that should notice.
	tests string
}

// edit replaces a text that occurs in a file, everywhere there.
type edit struct{ file, before, after string }

var mutations = []mutation{
	{
		"Lua writes last_refill as text of 14 digits",
		[]edit{
			{"store.lua", "l{{.I}}{{end}}{{end}})", "tostring(l{{.I}}){{end}}{{end}})"},
			{"fast.lua", "KEYS[2], now)", "KEYS[2], tostring(now))"},
		},
		"TestScriptsFollowTheModel|TestFastPath",
	},
	{
		"the clock of the client",
		[]edit{
			{"redis.go", "s.Run(ctx, l.rdb, keys, args...)", "s.Run(ctx, l.rdb, append(append([]string{}, keys...), fmt.Sprint(l.o.Now().Unix()), fmt.Sprint(l.o.Now().Nanosecond()/1000)), args...)"},
			{"state.lua", "local time = {{.Clock}}", "local time = {KEYS[#KEYS - 1], KEYS[#KEYS]}"},
			{"fast.lua", "local time = {{.Clock}}", "local time = {KEYS[#KEYS - 1], KEYS[#KEYS]}"},
		},
		"TestScriptsFollowTheModel|TestNothingGoesAroundMidnight",
	},
	{
		"a clock that stepped back stops the refill",
		[]edit{{"state.lua", "elseif l{{.I}} > now + 1 then", "elseif false then"}},
		"TestScriptsFollowTheModel|TestGarbageHeals",
	},
	{
		"a lost level is full",
		[]edit{{"state.lua", "or {{.Cold}}", "or {{.Capacity}}"}},
		"TestLostKeys",
	},
	{
		"a lost level is zero",
		[]edit{{"state.lua", "or {{.Cold}}", "or 0"}},
		"TestLostKeys",
	},
	{
		"a debt is kept in tokens of our own rate",
		[]edit{{"store.lua", " * {{.Plain}} / rate{{.I}}", ""}, {"state.lua", "math.min(0, t{{.I}}) / {{.Plain}}", "math.min(0, t{{.I}}) / rate{{.I}}"}},
		"TestAPlainLimitWaits",
	},
	{
		"unused slots go back into the bucket",
		[]edit{{"dispatch.go", "l.unused.cost += s.cost", "l.unused.cost += s.cost\n\tgo l.rdb.IncrByFloat(context.Background(), l.keys[0], float64(s.cost))"}},
		"TestCancelledCallers",
	},
	{
		"callers who give up put their token back",
		[]edit{{"dispatch.go", "l.stats.Cancelled++", "l.stats.Cancelled++\n\tgo l.rdb.IncrByFloat(context.Background(), l.keys[0], float64(w.Cost))"}},
		"TestCancelledCallers",
	},
	{
		"the bucket holds the limit and refills it in a window",
		[]edit{{"window.go", "float64(w.Burst), rate}", "float64(w.Limit), float64(w.Limit) / w.Length.Seconds()}"}},
		"TestBucketKeeps|TestNoWindow|TestProcessesKeep",
	},
	{
		"a client that resends is accepted",
		[]edit{{"client.go", "n := c.Options().MaxRetries; n > 0", "n := c.Options().MaxRetries; n > 9"}},
		"TestNewRefuses|TestClientsThatResend",
	},
	{
		"the slots of a batch may all go at once",
		[]edit{{"dispatch.go", "a.arrived.Add(d)", "a.arrived.Add(0 * d)"}},
		"TestProcessesKeepTheCurve",
	},
	{
		"a refused call takes from the windows before the one that refuses",
		[]edit{{"take.lua", "\nif granted > 0 or changed then", "\nif refused and t1 then t1, changed = t1 - cost, true end\nif granted > 0 or changed then"}},
		"TestScriptsFollowTheModel|TestTokensAreConserved",
	},
	{
		"slots count from when they were asked for",
		[]edit{{"dispatch.go", "a.arrived.Add(d)", "a.began.Add(d)"}},
		"TestProcessesKeepTheCurve|TestSlotCounts",
	},
	{
		"no guard around midnight",
		[]edit{{"script.go", "guard = 2 * time.Second", "guard = 0 * time.Second"}},
		"TestNothingGoesAroundMidnight",
	},
	{
		"what has changed is not written",
		[]edit{{"take.lua", "if granted > 0 or changed then", "if granted > 0 then"}},
		"TestScriptsFollowTheModel|TestColdStart",
	},
	{
		"the slot of a caller who gives up is dropped",
		[]edit{{"dispatch.go", "l.slots = slices.Insert(l.slots, 0, w.slot)", "l.discard(w.slot)"}},
		"TestSlotThatWasHandedOver|TestEverySlot",
	},
	{
		"the rate stays after a pause",
		[]edit{{"state.lua", "share({{if gt .I 1}}math.max(from, l{{.I}}){{else}}l{{.I}}{{end}})", "1"}},
		"TestShareSlows|TestPauseOfOne",
	},
}

// TestMutations makes each mistake in a copy of the project. A mistake that no
// test notices is a test that is missing. Tests that fail anyway do not count.
func TestMutations(t *testing.T) {
	t.Parallel()
	var tests []string
	for _, m := range mutations {
		tests = append(tests, m.tests)
	}
	red := runMutated(t, mutation{tests: strings.Join(tests, "|")})
	if len(red) > 0 {
		t.Errorf("these fail without a mutation: %s", strings.Join(red, " "))
	}
	results := make([]string, len(mutations))
	next := make(chan int)
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for i := range next {
				failed := runMutated(t, mutations[i], append([]string{"-failfast"}, skip(red)...)...)
				results[i] = strings.Join(failed[:min(1, len(failed))], "")
			}
		})
	}
	for i := range mutations {
		next <- i
	}
	close(next)
	running.Wait()
	for i, m := range mutations {
		if results[i] == "" {
			results[i] = "SURVIVED"
			t.Errorf("nobody notices: %s", m.name)
		}
		fmt.Printf("%-66s %s\n", m.name, results[i])
	}
}

func skip(tests []string) []string {
	if len(tests) == 0 {
		return nil
	}
	return []string{"-skip", "^(" + strings.Join(tests, "|") + ")$"}
}

// failure is how a test says that it has failed, or that it hangs.
var failure = regexp.MustCompile(`(?m)^--- FAIL: (\w+)|^panic: test timed out after .*\n\s+running tests:\n\s+(\w+)`)

// runMutated returns which tests fail in a copy with the mistake, the first one
// first.
func runMutated(t *testing.T, m mutation, flags ...string) (failed []string) {
	t.Helper()
	dir := t.TempDir()
	if err := mutate(dir, m.edits); err != nil {
		t.Errorf("%s: %v", m.name, err)
		return []string{"NOT MADE"}
	}
	args := append([]string{"test", "-race", "-count=1", "-timeout", "4m", "-run", m.tests}, flags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./internal/limiter", "-rapid.shrinktime=1s")...)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	for _, found := range failure.FindAllStringSubmatch(string(text), -1) {
		failed = append(failed, found[1]+found[2])
	}
	if err != nil && len(failed) == 0 {
		t.Errorf("%s: no test has failed, but: %v\n%s", m.name, err, text)
		return []string{"DOES NOT RUN"}
	}
	return failed
}

// mutate copies the project, with the mistake.
func mutate(dir string, edits []edit) error {
	for _, part := range []string{"internal", "providers"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join("../..", part))); err != nil {
			return err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	for _, e := range edits {
		if err := e.apply(filepath.Join(dir, "internal/limiter")); err != nil {
			return err
		}
	}
	return nil
}

func (e edit) apply(dir string) error {
	path := filepath.Join(dir, e.file)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(e.before)) {
		return fmt.Errorf("%s does not hold %q", e.file, e.before)
	}
	return os.WriteFile(path, bytes.ReplaceAll(text, []byte(e.before), []byte(e.after)), 0o600)
}

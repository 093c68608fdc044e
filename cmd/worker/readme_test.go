package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/sweep"
)

var update = flag.Bool("update", false, "rewrite the README's tables")

const readme = "../../README.md"

// TestReadmeTables holds the README's tables to the program's own.
func TestReadmeTables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	want := replaceBetween(t, string(text), "settings", settingsTable())
	want = replaceBetween(t, want, "keys", rediskey.Table())
	if *update {
		if err := os.WriteFile(readme, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Error("the README's tables are not the program's: go test ./cmd/worker -run TestReadmeTables -update")
	}
}

func replaceBetween(t *testing.T, text, name, table string) string {
	t.Helper()
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, ok1 := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("the README has no %s...%s", begin, end)
	}
	return before + begin + strings.TrimRight(table, "\n") + "\n" + end + after
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for _, s := range settings() {
		standard := ""
		if s.standard != "" {
			standard = "`" + s.standard + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.env, standard, s.meaning)
	}
	return b.String()
}

func TestReadmeNamesEveryOutcomeAndCommand(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range sweep.Outcomes() {
		if !strings.Contains(string(text), "`"+string(o)+"`") {
			t.Errorf("the README does not name the outcome %s", o)
		}
	}
	a := &app{}
	for _, c := range a.rootCommand().Commands() {
		if c.IsAvailableCommand() && !strings.Contains(string(text), "worker "+c.Name()) {
			t.Errorf("the README does not name the command %s", c.Name())
		}
	}
}

package metrics_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/alpha-oracle/worker/internal/metrics"
)

var update = flag.Bool("update", false, "rewrite the table of docs/metrics.md")

const (
	page      = "../../docs/metrics.md"
	runbook   = "../../docs/runbook.md"
	rules     = "../../deploy/prometheus/alerts.yml"
	dashboard = "../../deploy/grafana/dashboard.json"
)

// exercised returns the families of metrics of which each has a series.
func exercised(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	m := newMetrics()
	m.Set(fullState())
	return families(t, m)
}

// TestPage holds docs/metrics.md to the registry.
func TestPage(t *testing.T) {
	t.Parallel()
	text := read(t, page)
	begin, end := "<!-- metrics:begin -->\n", "<!-- metrics:end -->"
	before, rest, ok1 := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no %s...%s", page, begin, end)
	}
	want := before + begin + table(exercised(t)) + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if want != text {
		t.Errorf("%s is not what the program has: go test ./internal/metrics -run TestPage -update", page)
	}
}

func table(all map[string]*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, metrics.Namespace) {
			continue
		}
		f := all[name]
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}

// Names and units are those that Prometheus' own conventions ask for.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, f := range exercised(t) {
		if !strings.HasPrefix(name, metrics.Namespace+"_") {
			continue
		}
		if counter := f.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, f.GetType())
		}
		if f.GetType() == dto.MetricType_HISTOGRAM && !strings.HasSuffix(name, "_seconds") {
			t.Errorf("%s: want a unit at the end", name)
		}
		for _, l := range f.GetMetric()[0].GetLabel() {
			// Prometheus gives each series labels job and instance of its own.
			if l.GetName() == "job" || l.GetName() == "instance" {
				t.Errorf("%s has the label %s", name, l.GetName())
			}
		}
	}
}

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal([]byte(read(t, rules)), &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 8 {
		t.Fatalf("%s has %d alerts", rules, len(all))
	}
	return all
}

// Every metric that an alert asks for exists, and every alert leads to a section
// of the runbook, which has no others.
func TestAlerts(t *testing.T) {
	t.Parallel()
	known := exercised(t)
	sections := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^## (Worker\w+)$`).FindAllStringSubmatch(read(t, runbook), -1) {
		sections[match[1]] = false
	}
	for _, a := range alerts(t) {
		mentions(t, a.Alert, a.Expr, known)
		if _, ok := sections[a.Alert]; !ok {
			t.Errorf("%s has no section in %s", a.Alert, runbook)
		}
		sections[a.Alert] = true
		if want := "docs/runbook.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want {
			t.Errorf("%s: runbook %q, want %q", a.Alert, a.Annotations["runbook"], want)
		}
		if a.Annotations["summary"] == "" || !slices.Contains([]string{"info", "warning", "critical"}, a.Labels["severity"]) {
			t.Errorf("%s has no summary, or the severity %q", a.Alert, a.Labels["severity"])
		}
	}
	for name, used := range sections {
		if !used {
			t.Errorf("%s has a section %s, which is no alert", runbook, name)
		}
	}
}

// mentions fails for a metric of ours in text that the registry does not have.
func mentions(t *testing.T, where, text string, known map[string]*dto.MetricFamily) {
	t.Helper()
	for _, name := range regexp.MustCompile(metrics.Namespace+`_\w+`).FindAllString(text, -1) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if known[name] == nil && known[base].GetType() != dto.MetricType_HISTOGRAM {
			t.Errorf("%s names %s, which does not exist", where, name)
		}
	}
}

// The rules do what the runbook says: promtool replays each fault.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	tests := "../../deploy/prometheus/alerts_test.yml"
	replayed := read(t, tests)
	for _, a := range alerts(t) {
		if !strings.Contains(replayed, "alertname: "+a.Alert+"\n") {
			t.Errorf("%s has no test of %s", tests, a.Alert)
		}
	}
	out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", rules).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool (make deps installs it): %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "test", "rules", tests).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Every panel of the dashboard asks for metrics that exist.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var board struct {
		Title, UID string
		Panels     []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || board.UID == "" || len(board.Panels) < 8 {
		t.Fatalf("title %q, uid %q, %d panels", board.Title, board.UID, len(board.Panels))
	}
	known, ids := exercised(t), map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: %+v", p.ID, p.Title, p)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			if !strings.Contains(target.Expr, metrics.Namespace) {
				t.Errorf("panel %q asks for nothing of ours: %s", p.Title, target.Expr)
			}
			mentions(t, p.Title, target.Expr, known)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

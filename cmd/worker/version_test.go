package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestVersionSaysWhatIsBuiltIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var b build
	if code := w.decode(&b, "version"); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if b.Version != version || b.Platform != runtime.GOOS+"/"+runtime.GOARCH || b.Go != runtime.Version() || b.Modules["github.com/spf13/cobra"] == "" {
		t.Errorf("%+v", b)
	}
}

// What speaks of the program alone works whatever is configured.
func TestCompletionAndManualPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["SA_REDIS__URL"] = "nonsense"
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if s := w.run("completion", shell); s.code != exitOK || !strings.Contains(s.out, "worker") {
			t.Errorf("%s: exit %d, %d bytes: %s", shell, s.code, len(s.out), s.err)
		}
	}
	if s := w.run("__complete", "run", "dai"); !strings.Contains(s.out, "daily-bars") {
		t.Errorf("complete: %+v", s)
	}
	dir := filepath.Join(t.TempDir(), "man1")
	if s := w.run("man", dir); s.code != exitOK {
		t.Fatalf("%+v", s)
	}
	page, err := os.ReadFile(filepath.Join(dir, "worker-run-daily-bars.1"))
	if err != nil || !strings.Contains(string(page), "symbols") || strings.Contains(string(page), "Auto generated") {
		t.Errorf("%v: %s", err, page)
	}
	if s := w.run("doctor"); s.code != exitUsage {
		t.Errorf("doctor with a wrong configuration: exit %d", s.code)
	}
}

package arch_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoBinaries keeps out what a build or a test run leaves behind.
func TestNoBinaries(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the files of the repository: %v", err)
	}
	names := strings.Split(strings.Trim(string(list), "\x00"), "\x00")
	if len(names) < 100 {
		t.Fatalf("only %d files: %v", len(names), names)
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(content, 0) >= 0 {
			t.Errorf("%s is no text: binaries do not belong here", name)
		}
	}
}

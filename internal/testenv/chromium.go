package testenv

import (
	"os/exec"
	"testing"
)

// Chromium returns the path of an installed Chromium or Chrome.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("testenv: chromium is missing: install it with `make deps` (apt-get install chromium)")
	return ""
}

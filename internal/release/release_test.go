package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func TestArchivesAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	files := []entry{{"worker", []byte("binary"), true}, {"man/worker.1", []byte("page"), false}}
	at := time.Date(2026, 3, 12, 10, 0, 0, 0, time.UTC)
	for name, write := range map[string]func(string, string, []entry, time.Time) error{"a.tar.gz": writeTar, "a.zip": writeZip} {
		var before []byte
		for range 2 {
			path := filepath.Join(t.TempDir(), name)
			if err := write(path, "dir", files, at); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil || before != nil && !bytes.Equal(before, content) {
				t.Errorf("%s: %v, or another content", name, err)
			}
			before = content
		}
		got := tarModes(t, before)
		if name == "a.zip" {
			got = zipModes(t, before)
		}
		if got["dir/worker"] != 0o755 || got["dir/man/worker.1"] != 0o644 || len(got) != 2 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func tarModes(t *testing.T, content []byte) map[string]os.FileMode {
	t.Helper()
	modes := map[string]os.FileMode{}
	plain, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil
	}
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return modes
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[header.Name] = header.FileInfo().Mode()
	}
}

func zipModes(t *testing.T, content []byte) map[string]os.FileMode {
	t.Helper()
	modes := map[string]os.FileMode{}
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.File {
		modes[f.Name] = f.Mode()
	}
	return modes
}

// The test's own binary stands for a release: it holds modules too.
func TestModulesOfABinary(t *testing.T) {
	t.Parallel()
	modules, err := modulesOf(os.Args[0])
	if err != nil || modules[0].Path != "std" || !strings.HasPrefix(modules[0].Version, "1.") {
		t.Fatalf("%v, %+v", err, modules)
	}
	bill, err := cycloneDX(append(modules, debug.Module{Path: "example.com/m", Version: "v1.2.3"}), "v9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		BOMFormat, SpecVersion string
		Metadata               struct{ Component struct{ PURL string } }
		Components             []struct{ Name, PURL string }
	}
	if err := json.Unmarshal(bill, &got); err != nil {
		t.Fatal(err)
	}
	last := got.Components[len(got.Components)-1]
	if got.BOMFormat != "CycloneDX" || got.SpecVersion != "1.6" || last.PURL != "pkg:golang/example.com/m@v1.2.3" ||
		got.Metadata.Component.PURL != "pkg:golang/github.com/alpha-oracle/worker@v9.9.9" {
		t.Errorf("%s", bill)
	}
}

func TestNoticesHoldEveryLicence(t *testing.T) {
	t.Parallel()
	text, err := notices(t.Context(), []debug.Module{{Path: "std", Version: "1"}, {Path: "github.com/spf13/cobra", Version: "v1"}})
	if err != nil || !strings.Contains(string(text), "The Go Authors") || !strings.Contains(string(text), "Apache License") {
		t.Errorf("%v: %d bytes", err, len(text))
	}
	if _, err := notices(t.Context(), []debug.Module{{Path: "example.com/none", Version: "v1"}}); err == nil || !strings.Contains(err.Error(), "example.com/none") {
		t.Errorf("a module without a licence: %v", err)
	}
}

func TestSixPlatforms(t *testing.T) {
	t.Parallel()
	if all := platforms(); len(all) != 6 || all[5].String() != "windows_arm64" || all[5].binary() != "worker.exe" || all[0].binary() != "worker" {
		t.Errorf("%v", all)
	}
}

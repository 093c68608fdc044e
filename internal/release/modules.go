package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
)

// modulesOf returns the modules that are in a binary of Go, and its compiler as the
// first of them: its standard library is in there too.
func modulesOf(binary string) ([]debug.Module, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	all := []debug.Module{{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Version == "" {
			return nil, fmt.Errorf("module %s has no version", m.Path)
		}
		all = append(all, *m)
	}
	return all, nil
}

// component is one of CycloneDX.
type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
}

func newComponent(kind, path, version string) component {
	purl := "pkg:golang/" + path + "@" + version
	return component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
}

// cycloneDX is the list of modules in the form of CycloneDX 1.6. It has no serial
// number and no time, so that the same binary gives the same list.
func cycloneDX(modules []debug.Module, version string) ([]byte, error) {
	type metadata struct {
		Component component `json:"component"`
	}
	bill := struct {
		Format     string      `json:"bomFormat"`
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   metadata    `json:"metadata"`
		Components []component `json:"components"`
	}{
		Format: "CycloneDX", Spec: "1.6", Version: 1,
		Metadata: metadata{newComponent("application", "github.com/alpha-oracle/"+program, version)},
	}
	for _, m := range modules {
		bill.Components = append(bill.Components, newComponent("library", m.Path, m.Version))
	}
	text, err := json.MarshalIndent(bill, "", "  ")
	return append(text, '\n'), err
}

// notices are the licences of all modules, whole, as most of them ask for.
func notices(ctx context.Context, modules []debug.Module) ([]byte, error) {
	dirs, err := moduleDirs(ctx)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	text.WriteString("This program contains the following, under the licences that follow each name.\n")
	var missing []error
	for _, m := range modules {
		licences, err := licencesIn(dirs[m.Path])
		if err != nil || len(licences) == 0 {
			missing = append(missing, fmt.Errorf("no licence of %s %s: %w", m.Path, m.Version, err))
			continue
		}
		fmt.Fprintf(&text, "\n%s\n%s %s\n", strings.Repeat("=", 80), m.Path, m.Version)
		for _, licence := range licences {
			fmt.Fprintf(&text, "%s\n%s\n", strings.Repeat("-", 80), bytes.TrimSpace(licence))
		}
	}
	return text.Bytes(), errors.Join(missing...)
}

// moduleDirs returns where the sources of each module are.
func moduleDirs(ctx context.Context) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-json", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("find the standard library: %w", err)
	}
	dirs := map[string]string{"std": strings.TrimSpace(string(root))}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var m struct{ Path, Dir string }
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return dirs, nil
		}
		if err != nil {
			return nil, err
		}
		dirs[m.Path] = m.Dir
	}
}

// licencesIn returns the texts of a module that have to go with it, in the order
// of their names.
func licencesIn(dir string) ([][]byte, error) {
	if dir == "" {
		return nil, errors.New("its sources are not in the module cache: go mod download")
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	name := regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright|unlicense)([-._].*)?$`)
	var texts [][]byte
	for _, f := range found {
		if !f.Type().IsRegular() || !name.MatchString(f.Name()) || strings.HasSuffix(f.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name())) //nolint:gosec // in the module cache
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// Command release builds what is published: for each platform an archive with the
// static binary, its licences, completions and manual pages; a list of all modules
// in it (CycloneDX); and the checksums. The same sources, version and compiler give
// the same bytes, wherever they are built.
//
//	go run ./internal/release -version v1.2.3 -out dist
//	go run ./internal/release -check
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const program = "worker"

// platform is an operating system and a processor, as Go names them.
type platform struct{ os, arch string }

func platforms() []platform {
	var all []platform
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, arch := range []string{"amd64", "arm64"} {
			all = append(all, platform{system, arch})
		}
	}
	return all
}

func (p platform) String() string { return p.os + "_" + p.arch }

func (p platform) binary() string {
	if p.os == "windows" {
		return program + ".exe"
	}
	return program
}

func main() {
	version := flag.String("version", "dev", "the version to build")
	out := flag.String("out", "dist", "the directory to write to; what is in it is removed")
	only := flag.String("only", "", "one platform, such as linux_arm64, instead of all")
	check := flag.Bool("check", false, "build for this machine from two directories, and compare")
	flag.Parse()
	ctx := context.Background()
	err := error(nil)
	if *check {
		err = compare(ctx, *version)
	} else {
		err = release(ctx, *version, *out, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release fills the directory out.
func release(ctx context.Context, version, out, only string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o750); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	at, err := commitTime(ctx)
	if err != nil {
		return err
	}
	pages, err := documents(ctx, work, at)
	if err != nil {
		return err
	}
	built := 0
	for _, p := range platforms() {
		if only != "" && only != p.String() {
			continue
		}
		built++
		if err := pack(ctx, p, version, work, out, pages, at); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if built == 0 {
		return fmt.Errorf("-only %s: want one of %v", only, platforms())
	}
	return sums(out)
}

// pack builds for one platform, and writes its archive and its list of modules.
func pack(ctx context.Context, p platform, version, work, out string, pages []entry, at time.Time) error {
	binary := filepath.Join(work, p.String(), p.binary())
	if err := build(ctx, ".", p, version, binary); err != nil {
		return err
	}
	modules, err := modulesOf(binary)
	if err != nil {
		return err
	}
	bill, err := cycloneDX(modules, version)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s_%s_%s", program, strings.TrimPrefix(version, "v"), p)
	if err := writeFile(filepath.Join(out, name+".cdx.json"), bill); err != nil {
		return err
	}
	licences, err := notices(ctx, modules)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary) //nolint:gosec // built by this program
	if err != nil {
		return err
	}
	files := append([]entry{{p.binary(), content, true}, {"NOTICES", licences, false}}, pages...)
	if p.os == "windows" {
		return writeZip(filepath.Join(out, name+".zip"), name, files, at)
	}
	return writeTar(filepath.Join(out, name+".tar.gz"), name, files, at)
}

// build compiles the program in the module at dir.
func build(ctx context.Context, dir string, p platform, version, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+version, "-o", binary, "./cmd/"+program)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOFLAGS=-mod=readonly", "GOAMD64=v1", "GOARM64=v8.0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// compare builds for this machine here and from a copy in another directory.
func compare(ctx context.Context, version string) error {
	work, err := os.MkdirTemp("", "release-check-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	elsewhere := filepath.Join(work, "another", "directory")
	for _, part := range []string{"cmd", "internal", "jobs", "providers"} {
		if err := os.CopyFS(filepath.Join(elsewhere, part), os.DirFS(part)); err != nil {
			return err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name) //nolint:gosec // one of the two above
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(elsewhere, name), text, 0o600); err != nil { //nolint:gosec // as above
			return err
		}
	}
	here := platform{runtime.GOOS, runtime.GOARCH}
	var hashes [][sha256.Size]byte
	for i, dir := range []string{".", elsewhere} {
		binary := filepath.Join(work, fmt.Sprint(i), here.binary())
		if err := build(ctx, dir, here, version, binary); err != nil {
			return err
		}
		content, err := os.ReadFile(binary) //nolint:gosec // built by this program
		if err != nil {
			return err
		}
		if bytes.Contains(content, []byte(work)) {
			return errors.New("the directory of the build is in the binary")
		}
		hashes = append(hashes, sha256.Sum256(content))
	}
	if hashes[0] != hashes[1] {
		return fmt.Errorf("two builds differ: %x and %x", hashes[0], hashes[1])
	}
	fmt.Printf("release: two builds are equal: %x\n", hashes[0])
	return nil
}

// commitTime is the time that everything in the archives has.
func commitTime(ctx context.Context) (time.Time, error) {
	text, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the commit: %w", err)
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	return at.UTC(), err
}

// documents are the files that are the same for all platforms: the program itself
// writes its manual pages and completions.
func documents(ctx context.Context, work string, at time.Time) ([]entry, error) {
	binary := filepath.Join(work, "host", platform{os: runtime.GOOS}.binary())
	if err := build(ctx, ".", platform{runtime.GOOS, runtime.GOARCH}, "release", binary); err != nil {
		return nil, err
	}
	all := []entry{}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(name) //nolint:gosec // one of these three
		if err != nil {
			return nil, err
		}
		all = append(all, entry{name, text, false})
	}
	for _, shell := range []string{"bash", "fish", "powershell", "zsh"} {
		text, err := exec.CommandContext(ctx, binary, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion %s: %w", shell, err)
		}
		all = append(all, entry{"completions/" + program + "." + shell, text, false})
	}
	pages := filepath.Join(work, "man")
	cmd := exec.CommandContext(ctx, binary, "man", pages)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", at.Unix()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("manual pages: %w: %s", err, out)
	}
	found, err := os.ReadDir(pages)
	if err != nil {
		return nil, err
	}
	for _, page := range found {
		text, err := os.ReadFile(filepath.Join(pages, page.Name())) //nolint:gosec // written by the program
		if err != nil {
			return nil, err
		}
		all = append(all, entry{"man/" + page.Name(), text, false})
	}
	return all, nil
}

// sums writes the checksums of all files in out, as sha256sum -c reads them.
func sums(out string) error {
	found, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, f := range found {
		content, err := os.ReadFile(filepath.Join(out, f.Name())) //nolint:gosec // written by this program
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(content), f.Name())
	}
	return writeFile(filepath.Join(out, "SHA256SUMS"), []byte(text.String()))
}

// Package arch_test holds the rules that no single package can hold: who may
// import whom, the limits of style that a compiler does not know, and that
// what is written about the program is true of the program.
package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/alpha-oracle/worker/"

	longestFunc = 80
)

// mayImport lists, for each package of ours, the packages of ours that it may
// import; "*" stands for all. A key that ends in "/" speaks for every folder
// below it that has no line of its own. Test files are free.
func mayImport() map[string][]string {
	return map[string][]string{
		"cmd/worker":                  {"*"},
		"jobs/":                       {"internal/market", "internal/sweep"},
		"internal/sweep":              {"internal/market"},
		"internal/market":             {},
		"internal/secret":             {},
		"internal/rediskey":           {"internal/market"},
		"internal/idempotency":        {"internal/market", "internal/rediskey"},
		"internal/limiter":            {"internal/rediskey"},
		"internal/cache":              {"internal/rediskey"},
		"internal/events":             {"internal/market", "internal/rediskey"},
		"internal/universe":           {"internal/market"},
		"internal/schedule":           {"internal/market"},
		"internal/runner":             {"internal/market", "internal/schedule", "internal/store", "internal/sweep"},
		"internal/risk":               {"internal/market", "internal/rediskey", "internal/store"},
		"internal/store":              {"internal/market"},
		"internal/store/":             {"internal/market", "internal/store"},
		"internal/web":                {"internal/market", "internal/events", "internal/secret"},
		"internal/embedded":           {"internal/market", "internal/rediskey", "internal/store", "internal/store/sqlite", "internal/secret"},
		"internal/metrics":            {"internal/market", "internal/sweep"},
		"internal/tracing":            {"internal/market", "internal/sweep"},
		"internal/alarm":              {"internal/market", "internal/schedule", "internal/secret", "internal/store"},
		"internal/testenv":            {},
		"internal/bench":              {},
		"bench/limiter":               {"internal/limiter"},
		"internal/arch":               {},
		"internal/release":            {},
		"providers":                   {"internal/market"},
		"providers/":                  {"internal/market", "providers", "providers/wire"},
		"providers/wire":              {"providers"},
		"providers/simulator/gateway": {"internal/market", "providers", "providers/simulator"},
		"providers/providertest":      {"internal/market", "providers", "providers/simulator", "providers/transport"},
	}
}

// file is one Go file of this module.
type file struct {
	name string // from the root, with slashes
	set  *token.FileSet
	tree *ast.File
}

func (f file) dir() string  { return path.Dir(f.name) }
func (f file) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f file) line(p token.Pos) int { return f.set.Position(p).Line }

// goFiles parses all Go files, whatever their build tags.
func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	walk(t, func(name string) {
		if path.Ext(name) != ".go" {
			return
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{name, set, tree})
	})
	if len(files) == 0 {
		t.Fatal("found no Go file")
	}
	return files
}

// walk calls visit with the name of each file outside hidden and built
// directories.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			visit(name)
		case name == "bin", name == "data", len(d.Name()) > 1 && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	rules := mayImport()
	for _, f := range goFiles(t) {
		allowed, ok := rules[f.dir()]
		if !ok {
			allowed, ok = rules[path.Dir(f.dir())+"/"]
		}
		if !ok {
			t.Errorf("%s has no rule: add one line to mayImport", f.dir())
		}
		if f.isTest() {
			continue
		}
		for _, spec := range f.tree.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			dep, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(allowed, dep) && !slices.Contains(allowed, "*") {
				t.Errorf("%s:%d: %s must not import %s", f.name, f.line(spec.Pos()), f.dir(), dep)
			}
		}
	}
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		for _, decl := range f.tree.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s:%d: init: let cmd/worker call what must be called", f.name, f.line(fn.Pos()))
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > longestFunc {
				t.Errorf("%s:%d: %s has %d lines, more than %d", f.name, f.line(fn.Pos()), fn.Name.Name, n, longestFunc)
			}
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		doc := f.tree.Doc.Text()
		documented[f.dir()] = documented[f.dir()] ||
			strings.HasPrefix(doc, "Package ") || strings.HasPrefix(doc, "Command ")
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// KEYS walks over every key of a Redis that others use too, and stops it for
// as long as that takes.
func TestNobodyAsksForAllKeys(t *testing.T) {
	t.Parallel()
	inScript := regexp.MustCompile(`(?i)redis\.p?call\(\s*["']keys["']`)
	walk(t, func(name string) {
		if ext := path.Ext(name); ext != ".lua" && ext != ".go" || strings.HasSuffix(name, "_test.go") {
			return
		}
		if inScript.MatchString(read(t, name)) {
			t.Errorf("%s: a script calls KEYS", name)
		}
	})
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && asksForAllKeys(call) {
				t.Errorf("%s:%d: calls KEYS: use SCAN, or better a key that you know", f.name, f.line(n.Pos()))
			}
			return true
		})
	}
}

// asksForAllKeys recognizes x.Keys(ctx, pattern) and x.Do(ctx, "keys", ...).
func asksForAllKeys(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) < 2 {
		return false
	}
	if method.Sel.Name == "Keys" {
		return true
	}
	command, ok := call.Args[1].(*ast.BasicLit)
	return ok && method.Sel.Name == "Do" && strings.EqualFold(strings.Trim(command.Value, "\"`"), "keys")
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, name))
	return err == nil
}

package example_test

import (
	"os"
	"strings"
	"testing"
)

// TestContributing: what CONTRIBUTING.md shows is this folder's code.
func TestContributing(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"example.go", "example_test.go"} {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "```go\n"+string(code)+"```\n") {
			t.Errorf("CONTRIBUTING.md does not show %s as it is: copy it between the fences", name)
		}
	}
}

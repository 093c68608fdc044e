package secret_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/alpha-oracle/worker/internal/secret"
)

func TestASecretInsideAnotherLeavesNoRest(t *testing.T) {
	t.Parallel()
	short, long := secret.New("hunter2222"), secret.New("hunter2222-and-more")
	for _, redact := range []func(string) string{secret.Redactor(short, long), secret.Redactor(long, short)} {
		if got := redact("key=hunter2222-and-more."); got != "key=[redacted]." {
			t.Errorf("redact = %q", got)
		}
	}
}

func TestRedactorFindsTheSpellingOfAURLsUser(t *testing.T) {
	t.Parallel()
	const password = "pass;word?x@y" // spelled in three ways: as a user's, a path's and a query's
	raw := (&url.URL{Scheme: "postgres", User: url.UserPassword("me", password), Host: "h"}).String()
	if got := secret.Redactor(secret.New(password))(raw); got != "postgres://me:[redacted]@h" {
		t.Errorf("redact(%q) = %q", raw, got)
	}
}

func TestAShortSecretIsRedactedWhereAURLHasIt(t *testing.T) {
	t.Parallel()
	redact := secret.Redactor(secret.New("1000"), secret.New("p@ss"), secret.New("postgres"), secret.New(""))
	for text, want := range map[string]string{
		"limit 100000 at :1000":                         "limit 100000 at :1000",
		"dial redis://:1000@h:1: refused":               "dial redis://:[redacted]@h:1: refused",
		"redis://u:p%40ss@h, redis://u:p@ss@h":          "redis://u:[redacted]@h, redis://u:[redacted]@h",
		"postgres://h/d?x=1&password=1000":              "postgres://h/d?x=1&password=[redacted]",
		"postgres://postgres:postgres@h: want postgres": "postgres://postgres:[redacted]@h: want postgres",
		":@": ":@",
	} {
		if got := redact(text); got != want {
			t.Errorf("redact(%q) = %q, want %q", text, got, want)
		}
	}
	if got := secret.Redactor(secret.New("12345678"))("a 12345678 b"); got != "a [redacted] b" {
		t.Errorf("eight bytes: %q", got)
	}
}

func TestJSONKeepsAllButStringValues(t *testing.T) {
	t.Parallel()
	shout := func(s string) string { return strings.ToUpper(s) }
	const document = `{"z":"a<b","a":[1e400,0.10,"x",null,true,[],{}],"m":{"z":"\u0061\n","k":{"z":"y"}},"z":"twice"}`
	const want = `{
  "z": "A<B",
  "a": [
    1e400,
    0.10,
    "X",
    null,
    true,
    [],
    {}
  ],
  "m": {
    "z": "A\n",
    "k": {
      "z": "Y"
    }
  },
  "z": "TWICE"
}
`
	got, err := secret.JSON([]byte(document), shout)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if _, err := secret.JSON([]byte(`{"a":`), shout); err == nil {
		t.Error("half a document is accepted")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":["secret",{"secret":1}]}`))
	f.Add([]byte(`"secret"`))
	f.Add([]byte(`"\ud800\u0000"`))
	f.Fuzz(func(t *testing.T, document []byte) {
		if !json.Valid(document) {
			t.Skip("not a document that a program would print")
		}
		got, err := secret.JSON(document, func(s string) string { return s })
		if err != nil {
			t.Fatal(err)
		}
		var before, after any
		if json.Unmarshal(document, &before) != nil {
			return // a number out of range
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q became %q: %v", document, got, err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
	})
}

package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/internal/secret"
)

const canary = `CANARYk3y+/="\`

func TestValueNeverPrintsItself(t *testing.T) {
	t.Parallel()
	v := secret.New(canary)
	asJSON, err := json.Marshal(map[string]any{"key": v})
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{string(asJSON), v.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, v), fmt.Sprintf(verb, &v), fmt.Sprintf(verb, struct{ K secret.Value }{v}))
	}
	for _, p := range printed {
		if strings.Contains(p, "CANARY") || strings.Contains(strings.ToLower(p), fmt.Sprintf("%x", "CANARY")) {
			t.Errorf("printed %q", p)
		}
	}
	if v.Reveal() != canary || !v.IsSet() {
		t.Error("Reveal lost the secret")
	}
	if (secret.Value{}).String() != "" || (secret.Value{}).IsSet() {
		t.Error("the zero Value is not empty")
	}
}

func TestRedactorFindsEverySpelling(t *testing.T) {
	t.Parallel()
	redact := secret.Redactor(secret.New(canary), secret.New(""), secret.New("abc"))
	forms := []string{
		canary,
		url.QueryEscape(canary),
		url.PathEscape(canary),
		strings.ToLower(url.QueryEscape(canary)),
		base64.StdEncoding.EncodeToString([]byte(canary)),
		base64.URLEncoding.EncodeToString([]byte(canary)),
		fmt.Sprintf("%x", canary),
		fmt.Sprintf("%X", canary),
		fmt.Sprintf("%q", canary),
	}
	for _, form := range forms {
		got := redact("before " + form + " after")
		if !strings.Contains(got, secret.Redacted) || strings.Contains(got, "CANARY") {
			t.Errorf("redact(%q) = %q", form, got)
		}
	}
	if got := redact("abc stays"); got != "abc stays" {
		t.Errorf("a short secret blacked out a word: %q", got)
	}
}

func TestURLPasswords(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"postgres://u:p%40ss@db/x":      "p@ss",
		"redis://:secret@localhost:1":   "secret",
		"postgres://db/x":               "",
		"postgres://u:pa ss%zz@db/x":    "pa ss%zz",
		"no url at all":                 "",
		"postgres://u:a@b%zz@host/data": "a@b%zz",

		"postgres://u@h/d?sslmode=require&password=p%26ss": "p&ss",
		"postgres://u:one@h/d?password=two&sslpassword=x":  "one two x",
		"postgres://u@h%zz/d?password=two":                 "two",
		"postgres://h/d?password=":                         "",
	} {
		var got []string
		for _, v := range secret.URLPasswords(raw) {
			got = append(got, v.Reveal())
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("URLPasswords(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestWriterRedactsAndReportsTheWholeLength(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := secret.Writer(&out, secret.Redactor(secret.New("hunter2222")))
	n, err := w.Write([]byte("password hunter2222\n"))
	if err != nil || n != len("password hunter2222\n") {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if got := out.String(); got != "password [redacted]\n" {
		t.Errorf("wrote %q", got)
	}
}

// Package secret keeps API keys and passwords out of every string that a
// person or a file gets to see.
package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Redacted is what is printed in a secret's place.
const Redacted = "[redacted]"

// minLength is the shortest text that is searched for everywhere: a shorter
// one would black out ordinary words and numbers.
const minLength = 8

// Value is a secret. However it is printed or encoded, it gives [Redacted];
// only Reveal gives the text.
type Value struct{ text string }

// New returns text as a secret.
func New(text string) Value { return Value{text} }

// Reveal returns the secret itself, for the one place that sends it.
func (v Value) Reveal() string { return v.text }

// IsSet reports whether there is a secret at all.
func (v Value) IsSet() bool { return v.text != "" }

// String returns [Redacted], or "" if there is no secret.
func (v Value) String() string {
	if v.text == "" {
		return ""
	}
	return Redacted
}

// Format implements [fmt.Formatter] for every verb, %#v and %x included.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// MarshalText implements [encoding.TextMarshaler], and with it JSON and YAML.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Redactor returns a function that replaces each secret in a text by
// [Redacted]: as it is, and as it looks in a URL, in base64, in hex and in a
// quoted string. A secret under eight bytes, or one that is a word of every
// message, is replaced only where a URL has its password: before the host and
// in a parameter.
func Redactor(secrets ...Value) func(string) string {
	var forms []form
	for _, s := range secrets {
		for _, spelling := range spellings(s.text) {
			forms = append(forms, formsOf(s.text, spelling)...)
		}
	}
	// The longest first, so that one that holds another is replaced whole.
	slices.SortStableFunc(forms, func(a, b form) int { return len(b.text) - len(a.text) })
	pairs := make([]string, 0, 2*len(forms))
	for _, f := range forms {
		pairs = append(pairs, f.text, f.instead)
	}
	return strings.NewReplacer(pairs...).Replace
}

// form is a text that holds a secret and what is printed in its place.
type form struct{ text, instead string }

func formsOf(secret, spelling string) []form {
	switch {
	case secret == "":
		return nil
	case len(secret) >= minLength && !isWord(secret):
		return []form{{spelling, Redacted}}
	}
	return []form{
		{":" + spelling + "@", ":" + Redacted + "@"},
		{"password=" + spelling, "password=" + Redacted},
	}
}

// isWord reports whether a password is a word that messages need. Such a one
// is the first that anybody would guess.
func isWord(s string) bool { return s == "postgres" || s == "password" || s == "database" }

func spellings(s string) []string {
	quoted := fmt.Sprintf("%q", s)
	hexed := hex.EncodeToString([]byte(s))
	return []string{
		s,
		url.QueryEscape(s),
		url.PathEscape(s),
		strings.ToLower(url.QueryEscape(s)),
		url.UserPassword("", s).String()[1:],
		quoted[1 : len(quoted)-1],
		// Unpadded, since a secret in the middle of a text has no padding.
		base64.RawStdEncoding.EncodeToString([]byte(s)),
		base64.RawURLEncoding.EncodeToString([]byte(s)),
		hexed,
		strings.ToUpper(hexed),
	}
}

// URLPasswords returns the passwords in a URL as secrets, that of the user
// first and then those in parameters, whether or not the rest of the URL is
// sound. Without any it returns nil.
func URLPasswords(raw string) []Value {
	var found []Value
	if password := userPassword(raw); password != "" {
		found = append(found, New(password))
	}
	_, query, _ := strings.Cut(raw, "?")
	// What of the parameters can be read is returned beside the error.
	parameters, _ := url.ParseQuery(query)
	// The names are those of PostgreSQL's connection URIs.
	for _, name := range []string{"password", "sslpassword"} {
		for _, password := range parameters[name] {
			if password != "" {
				found = append(found, New(password))
			}
		}
	}
	return found
}

func userPassword(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		password, _ := u.User.Password()
		return password
	}
	_, rest, found := strings.Cut(raw, "://")
	at := strings.LastIndex(rest, "@")
	if !found || at < 0 {
		return ""
	}
	_, password, _ := strings.Cut(rest[:at], ":")
	return password
}

// JSON returns a JSON document, indented, with redact applied to its string
// values. Names, numbers and their order stay as they are.
func JSON(document []byte, redact func(string) string) ([]byte, error) {
	var out bytes.Buffer
	// Redacting is no reason to refuse what the standard library accepts.
	lenient := jsontext.AllowDuplicateNames(true)
	loose := jsontext.AllowInvalidUTF8(true)
	dec := jsontext.NewDecoder(bytes.NewReader(document), lenient, loose)
	enc := jsontext.NewEncoder(&out, lenient, loose, jsontext.WithIndent("  "))
	for {
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("redact JSON: %w", err)
		}
		// In an object every other token is a name.
		in, read := dec.StackIndex(dec.StackDepth())
		isName := in == '{' && read%2 == 1
		if token.Kind() == '"' && !isName {
			token = jsontext.String(redact(token.String()))
		}
		if err := enc.WriteToken(token); err != nil {
			return nil, fmt.Errorf("redact JSON: %w", err)
		}
	}
}

// Writer returns w with every Write passed through redact. A secret that is
// cut in two by two writes is not found: write whole lines.
func Writer(w io.Writer, redact func(string) string) io.Writer {
	return writer{w, redact}
}

type writer struct {
	w      io.Writer
	redact func(string) string
}

func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

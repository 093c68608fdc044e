// Package secret keeps API keys and passwords out of every string that a
// person or a file gets to see.
package secret

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Redacted is what is printed in a secret's place.
const Redacted = "[redacted]"

// minLength is the shortest text that is searched for in output: a shorter
// one would black out ordinary words.
const minLength = 4

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
// quoted string. Texts under four bytes are not searched for.
func Redactor(secrets ...Value) func(string) string {
	var forms []string
	for _, s := range secrets {
		if len(s.text) >= minLength {
			forms = append(forms, spellings(s.text)...)
		}
	}
	// The longest first, so that one that holds another is replaced whole.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	forms = slices.Compact(forms)
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, Redacted)
	}
	return strings.NewReplacer(pairs...).Replace
}

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

// URLPassword returns the password of a URL as a secret, whether or not the
// rest of the URL is sound.
func URLPassword(raw string) Value {
	if u, err := url.Parse(raw); err == nil {
		password, _ := u.User.Password()
		return New(password)
	}
	_, rest, found := strings.Cut(raw, "://")
	at := strings.LastIndex(rest, "@")
	if !found || at < 0 {
		return Value{}
	}
	_, password, _ := strings.Cut(rest[:at], ":")
	return New(password)
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

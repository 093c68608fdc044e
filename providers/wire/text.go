package wire

import (
	"strings"
	"unicode"
)

// Printable replaces each control character of a vendor's message by a blank:
// they could forge a line of a log.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// PrintableASCII replaces whatever is no printable ASCII by "?", where a name or
// a message has no need of other letters.
func PrintableASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

package edgar

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/providers/wire"
)

// The texts of all errors of the decoders here quote nothing of the answer but
// the names of concepts, in printable letters.

// reader reads one document as a stream.
type reader struct {
	*jsontext.Decoder
	body *wire.Body
}

func newReader(body *wire.Body) reader {
	// Repeated names are looked for where they matter; the decoder would
	// have to remember every name there is.
	return reader{jsontext.NewDecoder(body, jsontext.AllowDuplicateNames(true)), body}
}

// expect reads a token of one kind.
func (r reader) expect(want jsontext.Kind, where string) error {
	err := wire.Expect(r.Decoder, want, where)
	r.body.Complete()
	return err
}

// object reads an object: member is called for each name and reads the value.
func (r reader) object(where string, member func(name string) error) error {
	if err := r.expect(jsontext.KindBeginObject, where); err != nil {
		return err
	}
	for r.PeekKind() == jsontext.KindString {
		token, err := r.ReadToken()
		if err != nil {
			return wire.Malformed(err)
		}
		r.body.Complete()
		if err := member(token.String()); err != nil {
			return err
		}
	}
	return r.expect(jsontext.KindEndObject, where)
}

// value reads a value whole. It is valid until the next one is read.
func (r reader) value() (jsontext.Value, error) {
	v, err := r.ReadValue()
	if err != nil {
		return nil, wire.Malformed(err)
	}
	r.body.Complete()
	return v, nil
}

// skip reads a value and keeps nothing of it.
func (r reader) skip() error {
	depth := r.StackDepth()
	for {
		if _, err := r.ReadToken(); err != nil {
			return wire.Malformed(err)
		}
		r.body.Complete()
		if r.StackDepth() <= depth {
			return nil
		}
	}
}

// members walks over an object that the decoder has found to be sound JSON. A
// name with an escape in it is refused: none that is looked for has one.
func members(object []byte, member func(name, value []byte) error) error {
	if object[0] != '{' {
		return errors.New("want an object")
	}
	for rest := blank(object[1:], ','); rest[0] != '}'; rest = blank(rest, ',') {
		name, after := cutValue(rest)
		value, next := cutValue(blank(after, ':'))
		name = name[1 : len(name)-1]
		for _, c := range name {
			if c == '\\' {
				return errors.New("a name with an escape")
			}
		}
		if err := member(name, value); err != nil {
			return err
		}
		rest = next
	}
	return nil
}

// blank skips blanks and one kind of mark.
func blank(b []byte, mark byte) []byte {
	for i, c := range b {
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' && c != mark {
			return b[i:]
		}
	}
	return nil
}

// cutValue returns the sound JSON value that b begins with, and what follows.
func cutValue(b []byte) (value, rest []byte) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return b[:i+1], b[i+1:]
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return b[:i], b[i:]
			}
			if depth--; depth == 0 {
				return b[:i+1], b[i+1:]
			}
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return b[:i], b[i:]
			}
		}
	}
	return b, nil
}

// text returns what stands between the quotes of a JSON text without escapes.
func text(value []byte) ([]byte, error) {
	if value[0] != '"' {
		return nil, errors.New("want a text")
	}
	value = value[1 : len(value)-1]
	for _, c := range value {
		if c == '\\' {
			return nil, errors.New("a text with an escape")
		}
	}
	return value, nil
}

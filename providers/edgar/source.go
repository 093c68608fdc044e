package edgar

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/providers"
)

// maxValue bounds what is read for one token or one fact, some hundred bytes in
// a sound answer, some thousand for a description. The decoder keeps what is
// unfinished in memory: without a bound, one endless text would fill it.
const maxValue = 64 << 10

// The texts of these errors, as of all errors of the decoders, quote nothing
// of the answer but the names of concepts, in printable letters.
var (
	errCut       = errors.New("the answer ends in the middle")
	errLongValue = errors.New("a value that does not end")
)

// source is an answer's body on its way to a decoder.
type source struct {
	from *bufio.Reader
	// err is the first error of the way. A connection that breaks is worth
	// another try, a document that ends early is not.
	err error
	// unused is what was read since the last value was complete.
	unused int
}

// complete notes that a value was read to its end.
func (s *source) complete() { s.unused = 0 }

func (s *source) note(err error) {
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
}

// fault returns the error for a document that was refused: that of the way if
// there was one, since what came after it is no one's fault.
func (s *source) fault(err error) error {
	if s.err != nil {
		return s.err
	}
	return &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: err}
}

// Read implements [io.Reader].
func (s *source) Read(p []byte) (int, error) {
	if s.unused > maxValue {
		return 0, errLongValue
	}
	n, err := s.from.Read(p)
	s.unused += n
	s.note(err)
	return n, err
}

// reader reads one document as a stream.
type reader struct {
	*jsontext.Decoder
	s *source
}

func newReader(s *source) reader {
	// Repeated names are looked for where they matter; the decoder would
	// have to remember every name there is.
	return reader{jsontext.NewDecoder(s, jsontext.AllowDuplicateNames(true)), s}
}

// expect reads a token of one kind.
func (r reader) expect(want jsontext.Kind, where string) error {
	token, err := r.ReadToken()
	if err != nil {
		return malformed(err)
	}
	r.s.complete()
	if token.Kind() != want {
		return fmt.Errorf("%s has the wrong shape", where)
	}
	return nil
}

// object reads an object: member is called for each name and reads the value.
func (r reader) object(where string, member func(name string) error) error {
	if err := r.expect(jsontext.KindBeginObject, where); err != nil {
		return err
	}
	for r.PeekKind() == jsontext.KindString {
		token, err := r.ReadToken()
		if err != nil {
			return malformed(err)
		}
		r.s.complete()
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
		return nil, malformed(err)
	}
	r.s.complete()
	return v, nil
}

// skip reads a value and keeps nothing of it.
func (r reader) skip() error {
	depth := r.StackDepth()
	for {
		if _, err := r.ReadToken(); err != nil {
			return malformed(err)
		}
		r.s.complete()
		if r.StackDepth() <= depth {
			return nil
		}
	}
}

// end refuses what comes after the document.
func (r reader) end() error {
	_, err := r.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err == nil, r.s.err == nil:
		return errors.New("more after the end of the document")
	}
	return malformed(err)
}

// malformed keeps of a syntax error the place alone: its text quotes the
// document.
func malformed(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errLongValue):
		return errLongValue
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errCut
	case errors.As(err, &syntax):
		return fmt.Errorf("no JSON document: wrong at byte %d", syntax.ByteOffset)
	}
	return errors.New("no JSON document")
}

// once refuses a name that came before.
func once(seen *bool, name string) error {
	if *seen {
		return fmt.Errorf("%s occurs twice", name)
	}
	*seen = true
	return nil
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

package massive

import (
	"bytes"
	"errors"
	"io"

	"github.com/alpha-oracle/worker/providers"
)

// maxValue bounds what is read for one row, about 120 bytes in a sound answer:
// the decoder keeps an unfinished value in memory.
const maxValue = 64 << 10

var errLongValue = errors.New("a value that does not end")

// source is an answer's body on its way to the decoder.
type source struct {
	from io.Reader
	// err is the first error of the way. A connection that breaks is worth
	// another try, a document that ends early is not.
	err error
	// unused is what was read since the last row was complete.
	unused int
}

// complete notes that a row was read to its end.
func (s *source) complete() { s.unused = 0 }

// Read implements [io.Reader].
func (s *source) Read(p []byte) (int, error) {
	if s.unused > maxValue {
		return 0, errLongValue
	}
	n, err := s.from.Read(p)
	s.unused += n
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// skipMark skips a byte order mark at the beginning.
func (s *source) skipMark() error {
	var mark [3]byte
	n, err := io.ReadFull(s, mark[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(mark[:n]) != "\uFEFF" {
		s.from = io.MultiReader(bytes.NewReader(mark[:n]), s.from)
	}
	return nil
}

// fault returns what err, the end of a decoder, means to the caller.
func (s *source) fault(err error) error {
	if s.err != nil {
		return s.err
	}
	return &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: err}
}

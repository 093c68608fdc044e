package alphavantage

import (
	"bytes"
	"errors"
	"io"

	"github.com/alpha-oracle/worker/providers"
)

// maxValue bounds what is read for one name or one bar, about 200 bytes in a
// sound answer. The decoder keeps an unfinished value in memory and moves it
// with every read: without a bound, one endless text would cost both.
const maxValue = 64 << 10

var errLongValue = errors.New("a value that does not end")

// emptyError is about an answer that is sound but holds nothing.
type emptyError struct{ text string }

func (e *emptyError) Error() string { return e.text }

// source is an answer's body on its way to a decoder.
type source struct {
	from io.Reader
	// err is the first error of the way. A connection that breaks is worth
	// another try, a document that ends early is not.
	err error
	// unused is what was read since the last value was complete.
	unused int
}

// complete notes that a value was read to its end.
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
	switch {
	case s.err != nil:
		return s.err
	case errors.As(err, new(*emptyError)):
		return found(providers.NoData, err.Error())
	}
	return &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: err}
}

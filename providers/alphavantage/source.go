package alphavantage

import (
	"errors"
	"io"
)

// maxValue bounds what is read for one name or one bar, about 200 bytes in a
// sound answer. The decoder keeps an unfinished value in memory and moves it
// with every read: without a bound, one endless text would cost both.
const maxValue = 64 << 10

var errLongValue = errors.New("a value that does not end")

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

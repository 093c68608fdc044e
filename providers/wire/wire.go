// Package wire holds the small parts that the clients of the vendors share to
// read an answer as a stream: a [Body] that tells a broken connection from a
// wrong document and bounds what one value can take in memory, the steps of a
// JSON decoder with errors that quote nothing of the answer, and texts that are
// fit for a log.
//
// An answer can hold the key, and nothing redacts the errors of its decoder: so
// no error that is made here holds a byte of it.
package wire

import (
	"bytes"
	"errors"
	"io"

	"github.com/alpha-oracle/worker/providers"
)

// MaxValue suits [NewBody] where values are rows or texts of market data: in a
// sound answer they have some hundred bytes, a description some thousand.
const MaxValue = 64 << 10

var (
	// ErrCut says that the document ends before it is complete.
	ErrCut = errors.New("the answer ends in the middle")
	// ErrLongValue says that a value is longer than the body's bound.
	ErrLongValue = errors.New("a value that does not end")
)

// Body is an answer's body on its way to a decoder. It is not safe for
// concurrent use.
type Body struct {
	from io.Reader
	max  int
	// err is the first error of the way. A connection that breaks is worth
	// another try, a document that ends early is not.
	err error
	// unused is what was read since the last value was complete.
	unused int
}

// NewBody returns the body that is read from from. A decoder keeps an unfinished
// value in memory and moves it with every read, so one endless text would cost
// both: more than about maxValue bytes without a call of [Body.Complete] are
// refused with [ErrLongValue]. 0 is no bound, for a reader that has its own.
func NewBody(from io.Reader, maxValue int) *Body {
	return &Body{from: from, max: maxValue}
}

// Read implements [io.Reader].
func (b *Body) Read(p []byte) (int, error) {
	if b.max > 0 && b.unused > b.max {
		return 0, ErrLongValue
	}
	n, err := b.from.Read(p)
	b.unused += n
	if err != nil && err != io.EOF && b.err == nil {
		b.err = err
	}
	return n, err
}

// Complete notes that a value was read to its end: the bound counts anew.
func (b *Body) Complete() { b.unused = 0 }

// Peek returns the next n bytes, fewer only if the body ends before them, and
// leaves them to be read. The error is one of the way.
func (b *Body) Peek(n int) ([]byte, error) {
	head := make([]byte, n)
	n, err := io.ReadFull(b, head)
	if b.err != nil {
		return nil, b.err
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	b.from = io.MultiReader(bytes.NewReader(head[:n]), b.from)
	return head[:n], nil
}

// SkipMark skips a byte order mark if the body begins with one. The error is one
// of the way.
func (b *Body) SkipMark() error {
	const mark = "\uFEFF"
	head, err := b.Peek(len(mark))
	if err == nil && string(head) == mark {
		_, err = io.ReadFull(b, make([]byte, len(mark)))
	}
	return err
}

// Fault returns what err, in which a decoder of the body ended, means to the
// caller of the provider: the error of the way if there was one, since what came
// after it is no one's fault; err if it is a *[providers.Error] already; else one
// of kind BadPayload. It returns nil for nil.
func (b *Body) Fault(provider string, err error) error {
	switch {
	case err == nil:
		return nil
	case b.err != nil:
		return b.err
	}
	if _, ok := errors.AsType[*providers.Error](err); ok {
		return err
	}
	return &providers.Error{Provider: provider, Kind: providers.BadPayload, Err: err}
}

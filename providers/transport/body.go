package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
)

// headSize is how much of an answer is looked at before it is handed on.
const headSize = 4 << 10

var errTooLarge = errors.New("answer too large")

// body is an answer's body: bounded in size, its errors put into our words,
// its try's timer stopped when it is closed.
type body struct {
	raw    io.Closer
	from   *bufio.Reader
	cancel context.CancelFunc
	say    func(error) error
}

func newBody(raw io.ReadCloser, most int64, cancel context.CancelFunc, say func(error) error) *body {
	return &body{
		raw:    raw,
		from:   bufio.NewReaderSize(&capped{from: raw, left: most}, headSize),
		cancel: cancel,
		say:    say,
	}
}

// head returns the first bytes without consuming them. A body that ends
// before its time within them is an error.
func (b *body) head() ([]byte, error) {
	head, err := b.from.Peek(headSize)
	if err != nil && err != io.EOF {
		return nil, b.say(err)
	}
	return head, nil
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if err != nil && err != io.EOF {
		err = b.say(err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *body) Close() error {
	defer b.cancel()
	return b.raw.Close()
}

// capped reads at most left bytes and fails on the first one beyond, so that
// a long answer is never taken for a complete short one.
type capped struct {
	from io.Reader
	left int64
}

// Read implements [io.Reader].
func (c *capped) Read(p []byte) (int, error) {
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.from.Read(p)
	if int64(n) > c.left {
		return int(c.left), errTooLarge
	}
	c.left -= int64(n)
	return n, err
}

package ibkr

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
)

// Feed lets a session with the open request 1 read a stream, and returns the
// bars that the request gets, and what ends the session.
func Feed(stream []byte, lots bool) (bars []market.Bar, decoded, ended error) {
	to := make(chan answer, 1)
	s := &session{notice: func(int, string) {}, pending: map[int]chan<- answer{1: to}, held: map[int]error{}, told: make(chan struct{})}
	in := bufio.NewReader(bytes.NewReader(stream))
	for ended == nil {
		var message fields
		if message, ended = readFrame(in); ended == nil {
			ended = s.dispatch(message)
		}
	}
	if s.until != nil {
		s.until.Stop()
	}
	decoded = errors.New("no answer")
	select {
	case a := <-to:
		if a.code == 0 && !a.lost {
			bars, decoded = decodeHistory(a.bars, lots)
		}
	default:
	}
	return bars, decoded, ended
}

// Remembered counts what a client remembers of its questions.
func (c *Client) Remembered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.repeats.mu.Lock()
	defer c.repeats.mu.Unlock()
	n := len(c.calls) + len(c.repeats.last)
	if c.session != nil {
		n += len(c.session.pending)
	}
	return n
}

// IsEnd reports whether err is one that may end a session.
func IsEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, new(*protocolError)) || errors.As(err, new(*providers.Error))
}

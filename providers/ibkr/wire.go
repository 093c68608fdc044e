package ibkr

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The framing and the message ids of the TWS protocol, as read from the sources
// of IB's TWS API.
const (
	// maxFrame is the greatest length of one message.
	maxFrame = 0xFFFFFF

	outHistory       = "20"
	outCancelHistory = "25"
	outStart         = "71"

	inError   = 4
	inNextID  = 9
	inHistory = 17
)

// protocolError says that what came is not what a gateway sends: nothing after
// it on the same connection can be trusted.
type protocolError struct{ reason string }

func (e *protocolError) Error() string { return e.reason }

// encode makes one message: its length in four bytes, then each field with a
// zero byte behind it.
func encode(values ...string) []byte {
	text := strings.Join(values, "\x00") + "\x00"
	message := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text)))
	return append(message, text...)
}

// readFrame reads one message, without its length. The error is io.EOF between
// two messages, io.ErrUnexpectedEOF within one, a *protocolError, or that of r.
func readFrame(r *bufio.Reader) (fields, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxFrame {
		return nil, &protocolError{fmt.Sprintf("message of %d bytes: want 1 to %d", size, maxFrame)}
	}
	// It grows with what comes, whatever the length promises.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(size)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if payload := body.Bytes(); payload[size-1] == 0 {
		return payload, nil
	}
	return nil, &protocolError{"message without a zero byte at its end"}
}

// fields are those of a message that are not read yet.
type fields []byte

// next takes the next field.
func (f *fields) next(name string) ([]byte, error) {
	field, rest, ok := bytes.Cut(*f, []byte{0})
	if !ok {
		return nil, &protocolError{"message without its field " + name}
	}
	*f = rest
	return field, nil
}

// number takes the next field, which must be an integer of 32 bits.
func (f *fields) number(name string) (int, error) {
	field, err := f.next(name)
	if err != nil {
		return 0, err
	}
	const most = 11 // -2147483648
	if len(field) > most {
		return 0, &protocolError{fmt.Sprintf("field %s of %d bytes: want a number", name, len(field))}
	}
	n, err := strconv.ParseInt(string(field), 10, 32)
	if err != nil {
		return 0, &protocolError{fmt.Sprintf("field %s is %q: want a number", name, field)}
	}
	return int(n), nil
}

package gateway

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Messages of the protocol, by their ids.
const (
	fromHistory       = "20"
	fromCancelHistory = "25"
	fromStart         = "71"

	toError    = "4"
	toNextID   = "9"
	toAccounts = "15"
	toHistory  = "17"

	maxFrame = 0xFFFFFF
)

// pack makes a message of fields.
func pack(fields ...string) []byte {
	return frame([]byte(strings.Join(fields, "\x00") + "\x00"))
}

// frame puts the length in front of a payload.
func frame(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

// unpack reads the fields of one message.
func unpack(r *bufio.Reader) ([]string, error) {
	payload, err := unframe(r)
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutSuffix(string(payload), "\x00")
	if !ok {
		return nil, fmt.Errorf("message %.40q does not end with a zero byte", payload)
	}
	return strings.Split(text, "\x00"), nil
}

func unframe(r *bufio.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxFrame {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(r, payload)
	return payload, err
}

// hello reads what a client begins with, and returns the versions that it
// offers.
func hello(r *bufio.Reader) (oldest, newest int, err error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return 0, 0, err
	}
	offer, err := unframe(r)
	if err != nil {
		return 0, 0, err
	}
	versions, _, _ := strings.Cut(string(offer), " ") // options may follow
	low, high, ok := strings.Cut(strings.TrimPrefix(versions, "v"), "..")
	oldest, errLow := strconv.Atoi(low)
	newest, errHigh := strconv.Atoi(high)
	if string(prefix[:]) != "API\x00" || !ok || errLow != nil || errHigh != nil {
		return 0, 0, fmt.Errorf("handshake %q %q, want API and versions such as v100..176", prefix, offer)
	}
	return oldest, newest, nil
}

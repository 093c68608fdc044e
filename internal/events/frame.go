package events

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"unicode/utf8"
)

// The first bytes of the frames that the hub writes itself: a whole message, or
// a control frame (RFC 6455, section 5.2). A server does not mask.
const (
	textFrame  = 0x81
	closeFrame = 0x88
	pingFrame  = 0x89
)

// frame returns a payload as a frame.
func frame(kind byte, payload []byte) []byte {
	header := make([]byte, 2, 10+len(payload))
	header[0] = kind
	switch n := len(payload); {
	case n < 126:
		header[1] = byte(n)
	case n <= 0xFFFF:
		header[1] = 126
		header = binary.BigEndian.AppendUint16(header, uint16(n))
	default:
		header[1] = 127
		header = binary.BigEndian.AppendUint64(header, uint64(n))
	}
	return append(header, payload...)
}

// envelope is a message as clients get it: a payload that is JSON as it was
// sent, any other as a text in an object.
func envelope(m Message) []byte {
	data := []byte(m.Payload)
	if !utf8.Valid(data) || !json.Valid(data) {
		data, _ = json.Marshal(map[string]string{"raw": m.Payload}) //nolint:errchkjson // a string has a JSON form
	}
	channel, _ := json.Marshal(m.Channel) //nolint:errchkjson // a string has a JSON form
	text := make([]byte, 0, len(data)+len(channel)+len(`{"channel":,"data":}`))
	text = append(append(text, `{"channel":`...), channel...)
	text = append(append(text, `,"data":`...), data...)
	return append(text, '}')
}

// wire is a connection on which the library writes its control frames and the
// hub whole batches: one at a time.
type wire struct {
	net.Conn
	mu sync.Mutex
}

// Write implements [net.Conn].
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Conn.Write(p)
}

// hijacking hands the library a wire.
type hijacking struct {
	http.ResponseWriter
	wire *wire
}

// Hijack implements [http.Hijacker].
func (h *hijacking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.wire = &wire{Conn: conn}
	rw.Writer.Reset(h.wire)
	return h.wire, rw, nil
}

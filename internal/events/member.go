package events

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// member is one client of a hub. The library makes the handshake, reads, and
// answers control frames; what all clients get is written past it, since it is
// the same bytes for all.
type member struct {
	hub   *Hub
	conn  *websocket.Conn
	wire  *wire
	queue chan []byte
	heard atomic.Bool

	once sync.Once
	done chan struct{}
	// farewell is the status that the client is told, 0 if it is not; it is
	// written before done is closed.
	farewell websocket.StatusCode
}

// offer queues frames for the client; false if it has too many already.
func (m *member) offer(frames []byte) bool {
	select {
	case m.queue <- frames:
		return true
	default:
		return false
	}
}

// end begins the end of the client. The first reason counts.
func (m *member) end(reason string, status websocket.StatusCode) {
	m.once.Do(func() {
		m.farewell = status
		m.hub.leave(m, reason)
		if status == 0 {
			_ = m.wire.Close() // a write that hangs ends with it
		}
		close(m.done)
	})
}

// read takes what the client says until it is gone.
func (m *member) read() {
	// It ends when write closes the connection.
	ctx := context.Background()
	for {
		kind, text, err := m.conn.Read(ctx)
		if err != nil {
			reason := "closed"
			if errors.Is(err, websocket.ErrMessageTooBig) {
				reason = "protocol"
			}
			m.end(reason, 0)
			_ = m.conn.CloseNow()
			return
		}
		m.heard.Store(true)
		var said struct{ Type string }
		if kind != websocket.MessageText || json.Unmarshal(text, &said) != nil || said.Type != "ping" {
			continue
		}
		if !m.offer(pong()) {
			m.end("slow", 0)
		}
	}
}

func pong() []byte { return frame(textFrame, []byte(`{"type":"pong"}`)) }

// write hands the client what is queued until it is gone.
func (m *member) write() {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for missed := 0; ; {
		var frames []byte
		select {
		case <-m.done:
			m.bye()
			return
		case frames = <-m.queue:
		case <-ticker.C:
			missed++
			if m.heard.Swap(false) {
				missed = 0
			}
			if missed == 2 {
				m.end("silent", 0)
				continue
			}
			frames = frame(pingFrame, nil)
		}
		switch err := m.send(frames, writeTime); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			m.end("slow", 0)
		case err != nil:
			m.end("closed", 0)
		}
	}
}

func (m *member) send(frames []byte, limit time.Duration) error {
	if err := m.wire.SetWriteDeadline(time.Now().Add(limit)); err != nil { //nolint:forbidigo // the deadline of a socket is in real time
		return err
	}
	_, err := m.wire.Write(frames)
	return err
}

func (m *member) bye() {
	if m.farewell != 0 {
		_ = m.send(frame(closeFrame, binary.BigEndian.AppendUint16(nil, uint16(m.farewell))), farewellTime)
	}
	_ = m.wire.Close()
}

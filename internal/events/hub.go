package events

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
)

const (
	// StandardClients is how many clients a hub has at most if its
	// configuration names no number.
	StandardClients = 1024

	// gather is how long messages are gathered after some were handed on: what
	// comes alone is never held back, of many a client is woken once.
	gather = 20 * time.Millisecond
	// queued is how many batches may wait for one client: at least 1.2 s.
	queued = 64
	// largest is what a message may have in bytes to be handed on.
	largest = 1 << 20
	// readLimit bounds what a client may say at once.
	readLimit = 4 << 10
	// writeTime bounds one write to a client, farewellTime its last one.
	writeTime    = 10 * time.Second
	farewellTime = time.Second
	// pingEvery is how often a client is asked for a sign of life. Twice
	// without an answer it is gone.
	pingEvery = 30 * time.Second
)

// HubConfig is what a [Hub] needs. Redis and Now must be set.
type HubConfig struct {
	Redis *redis.Client
	Now   func() time.Time
	// Origins are the pages that may connect, as browsers name them:
	// http://127.0.0.1:8080. They are compared letter by letter. A request
	// without an origin is not from a page.
	Origins []string
	// Token returns the token that a client has to show; with nil or "" none.
	Token func() string
	// MaxClients is how many clients there may be; 0: [StandardClients].
	MaxClients int
	// Ready and Lost are told of the subscription, see [Subscriber].
	Ready func(Gap)
	Lost  func(error)
}

// Hub is the handler of /ws. It hands each message of each channel of one
// subscription to all clients as a text {"channel": ..., "data": ...} that is
// made once, and answers {"type":"ping"} with {"type":"pong"}. A client that does
// not take its messages is dropped and holds nobody up. It is safe for
// concurrent use.
type Hub struct {
	c    HubConfig
	wake chan struct{}

	mu      sync.Mutex
	running context.Context //nolint:containedctx // clients live as long as Run, not as their request
	clients map[*member]struct{}
	joining int
	pending []byte
	stats   Stats
	all     sync.WaitGroup
}

// Stats counts what a hub has done since it was made.
type Stats struct {
	// Clients is how many there are now.
	Clients int
	// Messages were handed on; Oversized were larger than 1 MiB and dropped.
	Messages, Oversized uint64
	// Gaps is how often the subscription was lost and came back.
	Gaps uint64
	// Ended counts the clients that are gone and those that were refused, by
	// why: closed, slow, silent, protocol, shutdown; origin, token, full.
	Ended map[string]uint64
}

// NewHub returns a hub. It takes no client before Run.
func NewHub(c HubConfig) *Hub {
	if c.MaxClients == 0 {
		c.MaxClients = StandardClients
	}
	return &Hub{c: c, wake: make(chan struct{}, 1), clients: map[*member]struct{}{}, stats: Stats{Ended: map[string]uint64{}}}
}

// Run listens to Redis and serves clients until ctx ends, and returns when all
// of them are gone. It may be called once.
func (h *Hub) Run(ctx context.Context) error {
	h.mu.Lock()
	h.running = ctx
	h.mu.Unlock()
	h.all.Go(func() { h.handOn(ctx) })
	s := Subscriber{Redis: h.c.Redis, Channels: Channels(), Now: h.c.Now, Message: h.take, Ready: h.ready, Lost: h.c.Lost}
	err := s.Run(ctx)
	h.mu.Lock()
	all := maps.Clone(h.clients)
	h.mu.Unlock()
	for m := range all {
		m.end("shutdown", websocket.StatusGoingAway)
	}
	h.all.Wait()
	return err
}

func (h *Hub) ready(gap Gap) {
	if !gap.From.IsZero() {
		h.mu.Lock()
		h.stats.Gaps++
		h.mu.Unlock()
	}
	if h.c.Ready != nil {
		h.c.Ready(gap)
	}
}

// Stats returns the counts.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Clients, s.Ended = len(h.clients), maps.Clone(s.Ended)
	return s
}

func (h *Hub) count(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.Ended[reason]++
}

// take adds a message to those that are handed on next.
func (h *Hub) take(m Message) {
	if len(m.Payload) > largest {
		h.mu.Lock()
		h.stats.Oversized++
		h.mu.Unlock()
		return
	}
	text := frame(textFrame, envelope(m))
	h.mu.Lock()
	h.stats.Messages++
	h.pending = append(h.pending, text...)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// handOn gives the same bytes to all clients.
func (h *Hub) handOn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		h.mu.Lock()
		batch := h.pending
		h.pending = nil
		var slow []*member
		for m := range h.clients {
			if !m.offer(batch) {
				slow = append(slow, m)
			}
		}
		h.mu.Unlock()
		for _, m := range slow {
			m.end("slow", 0)
		}
		pause(ctx, gather)
	}
}

// ServeHTTP makes a client of a request. It returns at once; the client lives
// until it goes or Run ends.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	why := h.admit(r)
	if why == nil {
		why = h.reserve()
	}
	if why != nil {
		h.refuse(w, why)
		return
	}
	if err := h.join(w, r); err != nil {
		h.count("protocol")
	}
}

// reserve takes a place before the handshake, so that those who are in the
// middle of it count too.
func (h *Hub) reserve() *refusal {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.running == nil || h.running.Err() != nil:
		return &refusal{"shutdown", http.StatusServiceUnavailable, "the relay is not running"}
	case len(h.clients)+h.joining >= h.c.MaxClients:
		return &refusal{"full", http.StatusServiceUnavailable, "there are as many clients as may be"}
	}
	h.joining++
	return nil
}

func (h *Hub) join(w http.ResponseWriter, r *http.Request) error {
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.joining--
	}()
	m := &member{hub: h, queue: make(chan []byte, queued), done: make(chan struct{})}
	m.heard.Store(true)
	taken := &hijacking{ResponseWriter: w}
	conn, err := websocket.Accept(taken, r, &websocket.AcceptOptions{
		Subprotocols:       protocols(r),
		InsecureSkipVerify: true, // admit has checked the origin, letter by letter
		CompressionMode:    websocket.CompressionDisabled,
		OnPongReceived:     func(context.Context, []byte) { m.heard.Store(true) },
	})
	if err != nil {
		return err
	}
	conn.SetReadLimit(readLimit)
	m.conn, m.wire = conn, taken.wire
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running.Err() != nil {
		_ = taken.wire.Close()
		return errors.New("the relay has ended")
	}
	h.clients[m] = struct{}{}
	h.all.Go(m.read)
	h.all.Go(m.write)
	return nil
}

func (h *Hub) leave(m *member, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, m)
	h.stats.Ended[reason]++
}

package events_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// relay is a hub behind a server.
type relay struct {
	t     testing.TB
	hub   *events.Hub
	redis string
	url   string
	stop  func()
}

func newRelay(t testing.TB, c events.HubConfig) *relay {
	t.Helper()
	r := &relay{t: t, redis: testenv.RedisServer(t).URL()}
	ready := make(chan struct{}, 10)
	c.Redis, c.Now, c.Ready = client(t, r.redis), time.Now, func(events.Gap) { ready <- struct{}{} }
	r.hub = events.NewHub(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.hub.Run(ctx) })
	server := httptest.NewServer(r.hub)
	r.url = server.URL
	r.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		server.Close()
	})
	t.Cleanup(r.stop)
	await(t, ready)
	return r
}

func (r *relay) dial(o websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	conn, resp, err := websocket.Dial(r.t.Context(), r.url, &o)
	if err == nil {
		conn.SetReadLimit(-1)
	}
	return conn, resp, err
}

func (r *relay) client() *websocket.Conn {
	r.t.Helper()
	conn, _, err := r.dial(websocket.DialOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// next is the next message of a client.
func (r *relay) next(conn *websocket.Conn) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	kind, text, err := conn.Read(ctx)
	if err != nil || kind != websocket.MessageText {
		r.t.Fatalf("%v, %v", kind, err)
	}
	return string(text)
}

// until waits for what a hub counts.
func (r *relay) until(what string, holds func(events.Stats) bool) {
	r.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(30 * time.Second)
	for !holds(r.hub.Stats()) {
		select {
		case <-ticker.C:
		case <-deadline:
			r.t.Fatalf("no %s: %+v", what, r.hub.Stats())
		}
	}
}

// Each message of each channel goes to each client, as it was sent and in order.
func TestRelay(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{})
	clients := []*websocket.Conn{r.client(), r.client(), r.client()}
	rdb := client(t, r.redis)
	var want []string
	say := func(channel, payload, data string) {
		if err := rdb.Publish(t.Context(), channel, payload).Err(); err != nil {
			t.Fatal(err)
		}
		want = append(want, `{"channel":"`+channel+`","data":`+data+`}`)
	}
	for _, channel := range events.Channels() {
		say(channel, `{"a": 1.50, "b":"é<>&"}`, `{"a": 1.50, "b":"é<>&"}`)
	}
	for payload, data := range map[string]string{
		"hello \"you\"\n":             `{"raw":"hello \"you\"\n"}`,
		"":                            `{"raw":""}`,
		`{"a":NaN}`:                   `{"raw":"{\"a\":NaN}"}`,
		"{\"a\":\"\xff\"}":            `{"raw":"{\"a\":\"\ufffd\"}"}`,
		"5":                           "5",
		"[1,2]":                       "[1,2]",
		strings.Repeat(" ", 200):      `{"raw":"` + strings.Repeat(" ", 200) + `"}`,
		strings.Repeat("1", 70_000):   strings.Repeat("1", 70_000),
		`"` + strings.Repeat("é", 60): `{"raw":"\"` + strings.Repeat("é", 60) + `"}`,
	} {
		say("order:status", payload, data)
	}
	for _, conn := range clients {
		for _, text := range want {
			got := r.next(conn)
			if strings.ReplaceAll(got, `\ufffd`, "\ufffd") != strings.ReplaceAll(text, `\ufffd`, "\ufffd") {
				t.Errorf("got %.200s\nwant %.200s", got, text)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("no JSON: %.200s", got)
			}
		}
	}
	if s := r.hub.Stats(); s.Messages != uint64(len(want)) || s.Clients != 3 {
		t.Errorf("%+v", s)
	}
}

// What is too large to be kept for slow clients is dropped and counted.
func TestOversizedMessagesAreDropped(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{})
	conn, rdb := r.client(), client(t, r.redis)
	for _, payload := range []string{`"` + strings.Repeat("x", 1<<20) + `"`, "1"} {
		if err := rdb.Publish(t.Context(), "order:status", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.next(conn); got != `{"channel":"order:status","data":1}` {
		t.Errorf("%.100s", got)
	}
	if s := r.hub.Stats(); s.Oversized != 1 || s.Messages != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{})
	conn := r.client()
	for _, said := range []string{"", "ping", `{"type":"pong"}`, `{"type":5}`, "[]", `{"type":"ping","id":1}`} {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(said)); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if got := r.next(conn); got != `{"type":"pong"}` {
		t.Errorf("%s", got)
	}
	publish(t, r.redis, "order:status", "1")
	if got := r.next(conn); got != `{"channel":"order:status","data":1}` {
		t.Errorf("more than one answer: %s", got)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("x", 5000))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.Read(t.Context()); err == nil {
		t.Error("a client may say more than 4 KiB")
	}
	r.until("end of the client", func(s events.Stats) bool { return s.Clients == 0 && s.Ended["protocol"] == 1 })
}

// Who may come in: pages by their exact origin, everybody by the token.
func TestDoor(t *testing.T) {
	t.Parallel()
	const token, odd = "s3cret-T0KEN", "a/b c=d"
	secret := token
	var mu sync.Mutex
	current := func() string {
		mu.Lock()
		defer mu.Unlock()
		return secret
	}
	r := newRelay(t, events.HubConfig{Token: current, Origins: []string{"http://127.0.0.1:8080"}})
	for name, c := range map[string]struct {
		header    map[string][]string
		protocols []string
		query     string
		want      int
		answered  string
	}{
		"no token":               {want: 401},
		"a wrong one":            {header: map[string][]string{"Authorization": {"Bearer " + token + "x"}}, want: 401},
		"a part of it":           {header: map[string][]string{"Authorization": {"Bearer " + token[:5]}}, want: 401},
		"an empty one":           {header: map[string][]string{"Authorization": {"Bearer "}}, want: 401},
		"another scheme":         {header: map[string][]string{"Authorization": {"Basic " + token}}, want: 401},
		"in the address":         {query: "?token=" + token + "&access_token=" + token, want: 401},
		"a wrong protocol":       {protocols: []string{token}, want: 401},
		"header":                 {header: map[string][]string{"Authorization": {"Bearer " + token}}, want: 101},
		"header in small":        {header: map[string][]string{"Authorization": {"bearer " + token}}, want: 101},
		"protocol":               {protocols: []string{"bearer." + token}, want: 101, answered: "bearer." + token},
		"protocol beside ours":   {protocols: []string{"bearer." + token, events.Protocol}, want: 101, answered: events.Protocol},
		"the page":               {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"http://127.0.0.1:8080"}}, want: 101},
		"another page":           {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"http://evil.example"}}, want: 403},
		"the host as its origin": {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {r.url}}, want: 403},
		"another port":           {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"http://127.0.0.1:80"}}, want: 403},
		"another scheme's page":  {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"https://127.0.0.1:8080"}}, want: 403},
		"a longer name":          {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"http://127.0.0.1:8080.evil.example"}}, want: 403},
		"a file":                 {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"null"}}, want: 403},
		"two origins":            {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {"http://127.0.0.1:8080", "http://evil.example"}}, want: 403},
		"an empty origin":        {header: map[string][]string{"Authorization": {"Bearer " + token}, "Origin": {""}}, want: 403},
	} {
		conn, resp, err := websocket.Dial(t.Context(), r.url+"/"+c.query, &websocket.DialOptions{HTTPHeader: c.header, Subprotocols: c.protocols})
		if resp == nil || resp.StatusCode != c.want || (err == nil) != (c.want == 101) {
			t.Errorf("%s: %+v, %v", name, resp, err)
			continue
		}
		if err == nil {
			if conn.Subprotocol() != c.answered {
				t.Errorf("%s: answered %q", name, conn.Subprotocol())
			}
			_ = conn.CloseNow()
			continue
		}
		var problem struct{ Status int }
		if text, err := io.ReadAll(resp.Body); err != nil || json.Unmarshal(text, &problem) != nil || problem.Status != c.want || strings.Contains(string(text), token) {
			t.Errorf("%s: said %s, %v", name, text, err)
		}
	}
	if s := r.hub.Stats(); s.Ended["token"] != 7 || s.Ended["origin"] != 8 {
		t.Errorf("counted %v", s.Ended)
	}
	mu.Lock()
	secret = odd
	mu.Unlock()
	if _, resp, err := r.dial(websocket.DialOptions{Subprotocols: []string{"bearer.a%2Fb%20c%3Dd"}}); err != nil {
		t.Errorf("percent-encoded: %+v, %v", resp, err)
	}
	mu.Lock()
	secret = ""
	mu.Unlock()
	if _, _, err := r.dial(websocket.DialOptions{}); err != nil {
		t.Errorf("no token is wanted: %v", err)
	}
}

func TestPlainRequests(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{})
	resp, err := http.Get(r.url)
	if err != nil || resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("%+v, %v", resp, err)
	}
	_ = resp.Body.Close()
	r.stop()
	w := httptest.NewRecorder()
	r.hub.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ws", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("after its end: %d", w.Code)
	}
}

func TestMostClients(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{MaxClients: 2})
	first := r.client()
	r.client()
	if _, resp, err := r.dial(websocket.DialOptions{}); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a third one: %+v, %v", resp, err)
	}
	if err := first.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("a polite end: %v", err)
	}
	r.until("free place", func(s events.Stats) bool { return s.Clients == 1 && s.Ended["closed"] == 1 && s.Ended["full"] == 1 })
	r.client()
}

// A client that takes nothing is dropped; the others miss nothing meanwhile.
func TestSlowClientsAreDropped(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{})
	r.client() // which never reads
	reader, rdb := r.client(), client(t, r.redis)
	payload := `"` + strings.Repeat("x", 900_000) + `"`
	sent := 0
	for ; r.hub.Stats().Ended["slow"] == 0; sent++ {
		if sent == 2000 {
			t.Fatal("it is kept after 1.8 GB")
		}
		if err := rdb.Publish(t.Context(), "order:status", payload).Err(); err != nil {
			t.Fatal(err)
		}
		if got := r.next(reader); len(got) < len(payload) {
			t.Fatalf("message %d: %.100s", sent, got)
		}
	}
	if s := r.hub.Stats(); s.Clients != 1 || s.Ended["slow"] != 1 || len(s.Ended) != 1 {
		t.Errorf("%+v", s)
	}
}

// Clients stay while Redis is away, and the gap is counted.
func TestRelayWithoutRedis(t *testing.T) {
	t.Parallel()
	r := newRelay(t, events.HubConfig{})
	conn, rdb := r.client(), client(t, r.redis)
	if err := rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	r.until("gap", func(s events.Stats) bool { return s.Gaps == 1 })
	publish(t, r.redis, "trade:executed", `{"id":1}`)
	if got := r.next(conn); got != `{"channel":"trade:executed","data":{"id":1}}` {
		t.Errorf("%s", got)
	}
}

// When the hub ends its clients are told so, and nothing of it stays.
//
//nolint:paralleltest // it looks at all goroutines of the process
func TestShutdown(t *testing.T) {
	r := newRelay(t, events.HubConfig{})
	before := goleak.IgnoreCurrent()
	var clients []*websocket.Conn
	for range 50 {
		clients = append(clients, r.client())
	}
	for _, conn := range clients[:20] {
		_ = conn.CloseNow()
	}
	publish(t, r.redis, "order:status", "1")
	for _, conn := range clients[20:] {
		r.next(conn)
	}
	r.stop()
	for _, conn := range clients[20:] {
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("told %v", err)
		}
	}
	want := map[string]uint64{"closed": 20, "shutdown": 30}
	if s := r.hub.Stats(); s.Clients != 0 || !cmp.Equal(s.Ended, want) {
		t.Errorf("%+v", s)
	}
	goleak.VerifyNone(t, before)
}

// pipe hands a hub one end of a connection inside the process.
type pipe struct {
	http.ResponseWriter
	conn net.Conn
}

func (p *pipe) WriteHeader(int) {}

func (p *pipe) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return p.conn, bufio.NewReadWriter(bufio.NewReader(p.conn), bufio.NewWriter(p.conn)), nil
}

// inBubble runs a hub whose Redis is away in a bubble of synctest, which does
// not end before the last goroutine of it has.
func inBubble(t *testing.T, do func(t *testing.T, hub *events.Hub, join func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1, Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("away")
		}})
		defer func() { _ = rdb.Close() }()
		hub := events.NewHub(events.HubConfig{Redis: rdb, Now: time.Now})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = hub.Run(ctx) })
		synctest.Wait()
		do(t, hub, func() net.Conn {
			near, far := net.Pipe()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ws", nil)
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="} {
				r.Header.Set(name, value)
			}
			hub.ServeHTTP(&pipe{httptest.NewRecorder(), near}, r)
			return far
		})
		cancel()
		running.Wait()
	})
}

// A client that answers no ping is gone after two of them, one that answers
// stays.
func TestSilentClientsAreDropped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *events.Hub, join func() net.Conn) {
		began, silent, lively := time.Now(), join(), join()
		var answered, left sync.WaitGroup
		left.Go(func() {
			if pings, err := io.ReadAll(silent); err != nil || string(pings) != "\x89\x00\x89\x00" {
				t.Errorf("%x, %v", pings, err)
			}
			if took := time.Since(began); took != 90*time.Second {
				t.Errorf("dropped after %s", took)
			}
		})
		answered.Go(func() {
			ping := make([]byte, 2)
			for range 20 {
				if _, err := io.ReadFull(lively, ping); err != nil || string(ping) != "\x89\x00" {
					t.Errorf("%x, %v", ping, err)
				}
				if _, err := lively.Write([]byte("\x8a\x80mask")); err != nil {
					t.Error(err)
				}
			}
		})
		answered.Wait()
		left.Wait()
		if s := hub.Stats(); s.Clients != 1 || s.Ended["silent"] != 1 {
			t.Errorf("%+v", s)
		}
		_ = lively.Close()
		synctest.Wait()
	})
}

// Nothing is left of a thousand clients that come and go.
func TestNothingStaysOfClients(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *events.Hub, join func() net.Conn) {
		for range 1000 {
			if err := join().Close(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if s := hub.Stats(); s.Clients != 0 || s.Ended["closed"] != 1000 {
			t.Errorf("%+v", s)
		}
	})
}

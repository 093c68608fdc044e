package transport_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/transport"
)

// canary is the key of every test; a bug that prints it is found by [leaks].
const canary = "CANARYk3y+/="

// leaks reports whether text holds the key in any of its usual forms.
func leaks(text string) bool {
	for _, form := range []string{canary, url.QueryEscape(canary), base64.StdEncoding.EncodeToString([]byte(canary)), "CANARY"} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func redact(s string) string {
	return strings.NewReplacer(canary, "[redacted]", url.QueryEscape(canary), "[redacted]").Replace(s)
}

func sign(r *http.Request) {
	q := r.URL.Query()
	q.Set("apikey", canary)
	r.URL.RawQuery = q.Encode()
	r.Header.Set("X-Api-Key", canary)
}

// budget grants everything and remembers what it was asked.
type budget struct {
	mu        sync.Mutex
	tokens    int
	pauses    []time.Duration
	exhausted int
	wait      func(context.Context) error
	pauseErr  error
}

func (b *budget) Wait(ctx context.Context) error {
	if b.wait != nil {
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens++
	return ctx.Err()
}

func (b *budget) Pause(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pauses = append(b.pauses, d)
	return b.pauseErr
}

func (b *budget) Exhaust(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exhausted++
	return b.pauseErr
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer builds an answer without a network.
func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func newClient(t *testing.T, base string, next http.RoundTripper, b transport.Budget, o transport.Options) *http.Client {
	t.Helper()
	if o.Provider == "" {
		o.Provider = "acme"
	}
	o.Sign, o.Redact = sign, redact
	hc, err := transport.NewClient(base, next, b, o)
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	return hc
}

// get asks for path and reads the whole answer.
func get(ctx context.Context, hc *http.Client, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// wantKind checks the kind of err and that it holds nothing secret.
func wantKind(t *testing.T, err error, want providers.Kind) {
	t.Helper()
	_ = known(t, err, want)
}

// known is wantKind for those who look at more of the error.
func known(t *testing.T, err error, want providers.Kind) *providers.Error {
	t.Helper()
	var got *providers.Error
	if !errors.As(err, &got) {
		t.Fatalf("error = %v, want a *providers.Error", err)
	}
	if got.Kind != want {
		t.Errorf("kind of %q = %d, want %d", got, got.Kind, want)
	}
	if got.Provider != "acme" {
		t.Errorf("provider = %q, want acme", got.Provider)
	}
	if leaks(err.Error()) {
		t.Errorf("the key is in %q", err)
	}
	return got
}

func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// rawServer hands each connection to serve, with the number of the connection.
func rawServer(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				serve(c, bufio.NewReader(c))
			})
		}
	})
	return "http://" + l.Addr().String()
}

package transport_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/transport"
)

// A server that reads a request on a kept-alive connection and closes it makes
// net/http send a plain GET again by itself: a call that no permission was
// asked for.
func TestEveryRequestAtTheServerWasPaidFor(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	base := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		for first := true; ; first = false {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			seen.Add(1)
			if req.ContentLength != 0 || req.TransferEncoding != nil || req.Header.Get("Content-Length") != "" {
				t.Errorf("a GET announced a body: length %d, encoding %v", req.ContentLength, req.TransferEncoding)
			}
			if !first {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	b := &budget{}
	hc := newClient(t, base, nil, b, transport.Options{Attempts: 1})
	failed := 0
	for range 10 {
		if _, err := get(t.Context(), hc, base+"/query"); err != nil {
			wantKind(t, err, providers.Transient)
			failed++
		}
	}
	if int(seen.Load()) > b.tokens {
		t.Errorf("the server saw %d requests, the budget granted %d", seen.Load(), b.tokens)
	}
	if failed == 0 {
		t.Error("no request met a closed connection: the test does not bite")
	}
}

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 1)
	base := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		var head strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		heads <- head.String()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	hc := newClient(t, base, nil, &budget{}, transport.Options{})
	resp, err := hc.Get(base + "/query?symbol=IBM")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	head := <-heads
	if !strings.HasPrefix(head, "GET /query?apikey=CANARYk3y%2B%2F%3D&symbol=IBM HTTP/1.1\r\n") {
		t.Errorf("request line: %q", head)
	}
	for _, unwanted := range []string{"Transfer-Encoding", "Content-Length", "Referer"} {
		if strings.Contains(head, unwanted) {
			t.Errorf("the request has a header %s: %q", unwanted, head)
		}
	}
	if got := resp.Request.URL.String(); got != base+"/query?symbol=IBM" {
		t.Errorf("the answer's request is %q, want the unsigned one", got)
	}
	if resp.Request.Header.Get("X-Api-Key") != "" {
		t.Error("the answer's request carries the key")
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := server(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	var referer atomic.Value
	base := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/near":
			http.Redirect(w, r, "/here?apikey="+r.URL.Query().Get("apikey"), http.StatusFound)
		case "/echo":
			http.Redirect(w, r, other+"/?apikey="+r.URL.Query().Get("apikey"), http.StatusFound)
		case "/scheme":
			http.Redirect(w, r, "https://"+r.Host+"/here", http.StatusMovedPermanently)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/nowhere":
			w.WriteHeader(http.StatusFound)
		default:
			referer.Store(r.Referer())
			_, _ = io.WriteString(w, r.URL.Query().Get("apikey"))
		}
	})
	b := &budget{}
	hc := newClient(t, base, nil, b, transport.Options{Attempts: 3})

	text, err := get(t.Context(), hc, base+"/near")
	if err != nil || text != canary {
		t.Errorf("redirect within the host = %q, %v; want it followed and signed once", text, err)
	}
	if b.tokens != 2 {
		t.Errorf("a redirect took %d permissions, want one for each hop", b.tokens)
	}
	if referer.Load() != "" {
		t.Errorf("Referer = %q, want none", referer.Load())
	}
	for _, path := range []string{"/echo", "/scheme", "/loop", "/file", "/nowhere"} {
		_, err := get(t.Context(), hc, base+path)
		wantKind(t, err, providers.BadPayload)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests reached the other host, want none", n)
	}
}

func TestRequestElsewhereIsRefusedUnpaid(t *testing.T) {
	t.Parallel()
	b := &budget{}
	hc := newClient(t, "https://vendor.example", roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("a request went out")
		return nil, errors.New("unreachable")
	}), b, transport.Options{})
	for _, address := range []string{"http://vendor.example/x", "https://other.example/x", "https://vendor.example:444/x"} {
		_, err := get(t.Context(), hc, address)
		wantKind(t, err, providers.BadPayload)
	}
	if b.tokens != 0 {
		t.Errorf("%d permissions were taken, want none", b.tokens)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	base := server(t, func(w http.ResponseWriter, r *http.Request) {
		var size int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &size)
		w.Header().Set("Content-Encoding", "gzip")
		zipped := gzip.NewWriter(w)
		_, _ = zipped.Write(make([]byte, size))
		_ = zipped.Close()
	})
	hc := newClient(t, base, nil, &budget{}, transport.Options{MaxBody: limit, Attempts: 3})
	for _, tc := range []struct {
		size int
		ok   bool
	}{{0, true}, {limit - 1, true}, {limit, true}, {limit + 1, false}, {8 << 20, false}} {
		text, err := get(t.Context(), hc, fmt.Sprintf("%s/%d", base, tc.size))
		if tc.ok && (err != nil || len(text) != tc.size) {
			t.Errorf("%d bytes: got %d, %v", tc.size, len(text), err)
		}
		if !tc.ok {
			wantKind(t, err, providers.BadPayload)
			if len(text) > limit {
				t.Errorf("%d bytes: %d were delivered", tc.size, len(text))
			}
		}
	}
}

func TestSmallLimitFailsWithinTheHead(t *testing.T) {
	t.Parallel()
	b := &budget{}
	hc := newClient(t, "https://vendor.example", roundTripper(func(*http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat("x", 101)), nil
	}), b, transport.Options{MaxBody: 100, Attempts: 3})
	_, err := get(t.Context(), hc, "https://vendor.example/")
	wantKind(t, err, providers.BadPayload)
	if b.tokens != 1 {
		t.Errorf("%d tries, want 1: a larger answer does not get smaller", b.tokens)
	}
}

func TestCutBodies(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 4096)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, long)
	_ = z.Close()
	for name, tc := range map[string]struct {
		header, body string
		tries        int
	}{
		"length":       {"Content-Length: 70000\r\n", long, 1},
		"short length": {"Content-Length: 100\r\n", "tiny", 2},
		"chunk":        {"Transfer-Encoding: chunked\r\n", "10000\r\n" + long[:9000], 1},
		"gzip":         {"Content-Encoding: gzip\r\nConnection: close\r\n", zipped.String()[:zipped.Len()-9], 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := rawServer(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+tc.header+"\r\n"+tc.body)
				}
			})
			b := &budget{}
			hc := newClient(t, base, nil, b, transport.Options{Attempts: 2, MaxWait: time.Millisecond})
			_, err := get(t.Context(), hc, base)
			wantKind(t, err, providers.Transient)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("error = %v, want io.ErrUnexpectedEOF inside", err)
			}
			if b.tokens != tc.tries {
				t.Errorf("%d tries, want %d", b.tokens, tc.tries)
			}
		})
	}
}

func TestSlowAnswersAreBounded(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]int{"headers": -1, "head": 10, "body": 8192} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := server(t, func(w http.ResponseWriter, r *http.Request) {
				if head >= 0 {
					_, _ = w.Write(make([]byte, head))
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			hc := newClient(t, base, nil, &budget{}, transport.Options{Timeout: 50 * time.Millisecond})
			_, err := get(t.Context(), hc, base)
			wantKind(t, err, providers.Transient)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v, want context.DeadlineExceeded inside", err)
			}
		})
	}
}

func TestPostBodyIsSentOnEveryTry(t *testing.T) {
	t.Parallel()
	var tries atomic.Int64
	base := server(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if string(text) != "question" || r.ContentLength != 8 {
			t.Errorf("body = %q, length %d", text, r.ContentLength)
		}
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	hc := newClient(t, base, nil, &budget{}, transport.Options{Attempts: 2, MaxWait: time.Millisecond})
	resp, err := hc.Post(base, "text/plain", strings.NewReader("question"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if tries.Load() != 2 {
		t.Errorf("%d tries, want 2", tries.Load())
	}
}

func TestBodyThatCannotBeSentAgainIsRefused(t *testing.T) {
	t.Parallel()
	hc := newClient(t, "https://vendor.example", roundTripper(func(*http.Request) (*http.Response, error) {
		return answer(200, ""), nil
	}), &budget{}, transport.Options{})
	_, err := hc.Post("https://vendor.example/", "text/plain", io.MultiReader(strings.NewReader("x")))
	wantKind(t, err, providers.Transient)
}

func TestLocalAddresses(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"93.184.216.34:443":      true,
		"[2606:2800:220:1::]:80": true,
		"127.0.0.1:80":           false,
		"10.1.2.3:80":            false,
		"192.168.0.1:80":         false,
		"172.16.9.9:80":          false,
		"169.254.169.254:80":     false,
		"0.0.0.0:80":             false,
		"224.0.0.1:80":           false,
		"255.255.255.255:80":     false,
		"[::1]:80":               false,
		"[::]:80":                false,
		"[fe80::1]:80":           false,
		"[fd00::1]:80":           false,
		"[::ffff:127.0.0.1]:80":  false,
		"nonsense":               false,
	} {
		if err := transport.RefuseLocal(address); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed = %t", address, err, ok)
		}
	}
}

// The check stands at the dial, after the name was looked up, so that a public
// name which leads to this machine does not help.
func TestDialToThisMachineIsRefused(t *testing.T) {
	t.Parallel()
	var hits atomic.Int64
	base := server(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	b := &budget{}
	_, err := get(t.Context(), newClient(t, base, transport.Hardened(false), b, transport.Options{Attempts: 3}), base)
	wantKind(t, err, providers.Rejected)
	if hits.Load() != 0 || b.tokens != 1 {
		t.Errorf("%d requests arrived after %d tries, want none after 1", hits.Load(), b.tokens)
	}
	local := strings.Replace(base, "127.0.0.1", "localhost", 1)
	if _, err := get(t.Context(), newClient(t, local, nil, &budget{}, transport.Options{}), local); err != nil {
		t.Errorf("localhost by its own name: %v", err)
	}
}

func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	b := &budget{}
	hc := newClient(t, s.URL, nil, b, transport.Options{Attempts: 3})
	_, err := get(t.Context(), hc, s.URL)
	wantKind(t, err, providers.Transient)
	if b.tokens != 1 {
		t.Errorf("%d handshakes with a certificate that nobody signed, want 1", b.tokens)
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "vendor.example", "ftp://vendor.example", "https://", "https://u:" + canary + "@vendor.example", "http://%zz" + canary, "://" + canary} {
		_, err := transport.NewClient(base, nil, &budget{}, transport.Options{Provider: "acme"})
		if err == nil {
			t.Errorf("%q: no error", base)
			continue
		}
		if leaks(err.Error()) {
			t.Errorf("the error shows the base URL: %v", err)
		}
	}
}

func TestErrorsAndObserversNeverSeeTheKey(t *testing.T) {
	t.Parallel()
	closed := rawServer(t, func(net.Conn, *bufio.Reader) {})
	refused := "http://127.0.0.1:1"
	echo := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "your key is "+r.URL.Query().Get("apikey"))
	})
	check := func(status int, _ http.Header, head []byte) *providers.Error {
		if status != http.StatusForbidden {
			return nil
		}
		return &providers.Error{Kind: providers.Rejected, Err: errors.New(string(head))}
	}
	for name, base := range map[string]string{"closed": closed, "refused": refused, "echo": echo, "dns": "http://no-such-host.invalid"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen []transport.Attempt
			hc := newClient(t, base, nil, &budget{}, transport.Options{
				Attempts: 2, MaxWait: time.Millisecond, Check: check,
				Observe: func(_ context.Context, a transport.Attempt) { seen = append(seen, a) },
			})
			_, err := get(t.Context(), hc, base+"/query?symbol=IBM")
			for ; err != nil; err = errors.Unwrap(err) {
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); leaks(text) {
					t.Errorf("the key is in %s", text)
				}
			}
			if len(seen) == 0 || leaks(fmt.Sprintf("%+v", seen)) || seen[0].Err == nil || seen[0].Path != "/query" {
				t.Errorf("observed %+v", seen)
			}
		})
	}
}

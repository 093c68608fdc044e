package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const (
	requestID = "X-Request-Id"
	// maxBody bounds what a client may send.
	maxBody = 64 << 10
	// answerTime bounds the work for one answer, below writeTime.
	answerTime = 25 * time.Second
)

// gate is what each request passes, whatever its route: an id, headers, the
// host, the token, the origin, the size.
func (s *Server) gate() http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, http.StatusForbidden, "a page of another origin may change nothing here")
	}))
	routed := origins.Handler(http.HandlerFunc(s.route))
	return s.guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := s.mux.Handler(r)
		if s.open[pattern] || s.authorized(w, r) {
			routed.ServeHTTP(w, r)
		}
	}))
}

// guarded is the part of the gate that has nothing to do with routes.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer begin(r.Context())()
		setHeaders(w.Header())
		out := &response{ResponseWriter: w}
		defer s.recovered(out, r)
		if !s.knowsHost(r) {
			s.refuse(out, http.StatusMisdirectedRequest, "this server is not asked as %q: SA_HTTP__HOSTS lists its names", r.Host)
			return
		}
		r.Body = http.MaxBytesReader(out, r.Body, maxBody)
		next.ServeHTTP(out, r)
	})
}

func setHeaders(h http.Header) {
	h.Set(requestID, rand.Text())
	h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// response remembers whether an answer has begun. What it wraps is found by
// [http.ResponseController].
type response struct {
	http.ResponseWriter
	begun bool
}

func (w *response) WriteHeader(status int) {
	w.begun = w.begun || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Unwrap returns the connection's own writer.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recovered turns a panic into an answer, or cuts off one that has begun.
func (s *Server) recovered(w *response, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler { //nolint:errorlint // it is the value of a panic
		s.tell(w, r, "panic", string(debug.Stack()), fmt.Errorf("panic: %v", p))
		if !w.begun {
			s.refuse(w, http.StatusInternalServerError, "the log says more about this request")
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// knowsHost keeps out pages that have let their name point here: they can name
// no address, and no name that is ours.
func (s *Server) knowsHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(strings.TrimSuffix(host, "."), "[]"))
	if ip, err := netip.ParseAddr(host); err == nil {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		return ip.IsLoopback() || local != nil && addrOf(local.String()) == ip.Unmap()
	}
	return host == "localhost" || slices.Contains(s.Hosts, host)
}

// addrOf is the address of "address:port".
func addrOf(text string) netip.Addr {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// origin is the address that a request comes from.
func origin(r *http.Request) string { return addrOf(r.RemoteAddr).String() }

// authorized reports whether a request has the token. If not it has an answer.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	if !s.Token.IsSet() {
		return true
	}
	given, ok := tokenOf(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="worker"`)
		s.refuse(w, http.StatusUnauthorized, "this needs the header Authorization: Bearer, with the token of SA_HTTP__TOKEN")
		return false
	}
	// Hashes have one length, whatever the token's.
	want, got := sha256.Sum256([]byte(s.Token.Reveal())), sha256.Sum256([]byte(given))
	right := subtle.ConstantTimeCompare(want[:], got[:]) == 1
	tries, wait := s.tries.judge(addrOf(r.RemoteAddr), right, s.Now())
	switch {
	case wait > 0:
		s.write(w, problem{Status: http.StatusTooManyRequests, Detail: "too many wrong tokens came from this address", retry: wait})
	case !right:
		s.tell(w, r, "wrong token", fmt.Sprintf("try %d of %d", tries, mostTries), nil)
		pause(r.Context(), time.Duration(tries)*tryWait)
		w.Header().Set("WWW-Authenticate", `Bearer realm="worker", error="invalid_token"`)
		s.refuse(w, http.StatusUnauthorized, "this is not the token of SA_HTTP__TOKEN")
	default:
		return true
	}
	return false
}

// tokenOf is the token that a request shows: in its Authorization or, since a
// browser can set no header there, as the subprotocol bearer.TOKEN of a WebSocket.
func tokenOf(r *http.Request) (token string, ok bool) {
	if token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok || r.URL.Path != "/ws" {
		return token, ok
	}
	for offer := range strings.SplitSeq(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if token, ok = strings.CutPrefix(strings.TrimSpace(offer), "bearer."); ok {
			return token, true
		}
	}
	return "", false
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// route hands a request to its handler, with the time that its answer may take.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	h, pattern := s.mux.Handler(r)
	if pattern == "" {
		s.noRoute(w, r, h)
		return
	}
	if s.streams[pattern] {
		s.stream(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	s.mux.ServeHTTP(w, r.WithContext(ctx))
}

// noRoute says what the mux would say, in our own words.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	said := refusal{header: http.Header{}}
	h.ServeHTTP(&said, r)
	if said.status != http.StatusMethodNotAllowed {
		s.refuse(w, http.StatusNotFound, "there is nothing at %s: /api/v1/openapi.json lists what there is", r.URL.Path)
		return
	}
	allowed := said.header.Get("Allow")
	w.Header().Set("Allow", allowed)
	s.refuse(w, http.StatusMethodNotAllowed, "%s takes %s", r.URL.Path, allowed)
}

// refusal takes what the mux answers, without its words.
type refusal struct {
	header http.Header
	status int
}

func (r *refusal) Header() http.Header         { return r.header }
func (r *refusal) Write(p []byte) (int, error) { return len(p), nil }
func (r *refusal) WriteHeader(status int)      { r.status = status }

// stream lets an answer go on until the server stops.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)() //nolint:contextcheck // the server's own end
	s.mux.ServeHTTP(w, r.WithContext(ctx))
}

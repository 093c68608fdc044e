// Package transport is the one HTTP stack through which every vendor is
// reached. From the outside in: retry, budget, signature, network. Each try of
// a request, and each hop of a redirect, waits for a permission of its own, so
// the shared limit counts what the vendor counts. The key is added to a copy
// of the request in the innermost layer: neither http.Client nor any error
// ever sees it.
//
// Whatever goes wrong comes back as a *[providers.Error], which errors.As
// finds inside the *url.Error of http.Client, or as the error of the request's
// own context.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"

	"github.com/alpha-oracle/worker/providers"
)

// Budget says when the next request may go, for every replica together.
type Budget interface {
	// Wait returns when one request may be sent. A *providers.Error that it
	// returns is passed on as it is; any other error but that of ctx
	// becomes one of kind Unavailable.
	Wait(ctx context.Context) error
	// Pause holds back every caller for d, at most 15 minutes.
	Pause(ctx context.Context, d time.Duration) error
	// Exhaust notes that the vendor calls its day's quota spent.
	Exhaust(ctx context.Context) error
}

// Options tune a client; the zero value is safe.
type Options struct {
	// Provider is the vendor's name in errors.
	Provider string
	// Attempts is the greatest number of tries of one request; 0 means 1.
	Attempts int
	// MaxWait is the longest wait between two tries; 0 means one minute. A
	// vendor that asks for more ends the request, with RetryAfter set.
	MaxWait time.Duration
	// MaxBody is the greatest size of one answer in bytes, after
	// decompression; 0 means 32 MiB. A larger one is an error, never cut.
	MaxBody int64
	// Timeout bounds one try from the dial to the last byte of the body, not
	// counting the wait for the budget; 0 means one minute.
	Timeout time.Duration
	// Sign adds the key to the copy of the request that is sent. It must
	// replace a key that is there, since a redirect can carry one.
	Sign func(*http.Request)
	// Redact removes the key, in every form it can take, from a text.
	Redact func(string) string
	// Check judges an answer by its status, its header and at most the
	// first 4 KiB of its body, which it must not keep; nil means no
	// objection. Of the error only Kind, RetryAfter and the text of Err
	// are used. An answer without objection but with a status outside 2xx
	// is judged by its status.
	Check func(status int, h http.Header, head []byte) *providers.Error
	// Observe is told of every try, with the context of the request.
	Observe func(context.Context, Attempt)
	// Now is the clock for an HTTP date in Retry-After; nil means time.Now.
	Now func() time.Time
}

// Attempt is one try of one request, with nothing secret in it.
type Attempt struct {
	Method, Host, Path string
	// Status is 0 when there was no answer.
	Status int
	// Try counts from 1 within one request.
	Try int
	// Waited is the time spent waiting for the budget, Took the time from
	// there to the first 4 KiB of the answer.
	Waited, Took time.Duration
	// Err is nil when the answer was accepted.
	Err error
}

const (
	defaultWait    = time.Minute
	defaultTimeout = time.Minute
	defaultBody    = 32 << 20
	maxRedirects   = 3
)

func (o Options) withDefaults() Options {
	o.Attempts = max(o.Attempts, 1)
	if o.MaxWait <= 0 {
		o.MaxWait = defaultWait
	}
	if o.MaxBody <= 0 {
		o.MaxBody = defaultBody
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Redact == nil {
		o.Redact = func(s string) string { return s }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// NewClient returns the client for one vendor at baseURL, of which only the
// scheme and the host count: a request or a redirect to any other is refused
// before a byte is sent. With next == nil it dials by itself: HTTP/1.1, TLS 1.2
// or newer, every phase bounded, no proxy from the environment, and no
// address that is loopback, private or link-local unless the base URL names
// such an address, or localhost, literally.
func NewClient(baseURL string, next http.RoundTripper, b Budget, o Options) (*http.Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" || base.User != nil || (base.Scheme != "http" && base.Scheme != "https") {
		// The text of a wrong URL can hold a password or a key.
		return nil, fmt.Errorf("transport %s: base URL: want https://host or http://host, without user or password", o.Provider)
	}
	if next == nil {
		next = hardened(namesLocal(base.Hostname()))
	}
	s := &stack{base: base, next: next, budget: b, o: o.withDefaults()}
	s.retry = failsafe.With(retryPolicy(s.o.Attempts))
	return &http.Client{Transport: s, CheckRedirect: s.checkRedirect}, nil
}

// stack is the round tripper behind a client.
type stack struct {
	base   *url.URL
	next   http.RoundTripper
	budget Budget
	retry  failsafe.Executor[any]
	o      Options
}

// RoundTrip implements [http.RoundTripper].
func (s *stack) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }() // every try sends a copy of its own
	}
	if err := s.sameOrigin(req.URL); err != nil {
		return nil, err
	}
	var resp *http.Response
	try := 0
	err := s.retry.WithContext(req.Context()).Run(func() (err error) {
		try++
		resp, err = s.attempt(req, try)
		return err
	})
	if err != nil && resp != nil {
		_ = resp.Body.Close() // the request ended in the moment of its answer
	}
	if err != nil {
		return nil, unwrapFailure(err)
	}
	return resp, nil
}

// attempt waits for a permission, sends req once and tells the budget what
// the vendor says about its limits.
func (s *stack) attempt(req *http.Request, try int) (*http.Response, error) {
	asked := s.o.Now()
	if err := s.budget.Wait(req.Context()); err != nil {
		return nil, s.refusal(err)
	}
	sent := s.o.Now()
	resp, status, err := s.exchange(req)
	if s.o.Observe != nil {
		s.o.Observe(req.Context(), Attempt{
			Method: req.Method, Host: req.URL.Host, Path: s.o.Redact(req.URL.Path),
			Status: status, Try: try, Waited: sent.Sub(asked), Took: s.o.Now().Sub(sent), Err: unwrapFailure(err),
		})
	}
	if err != nil {
		return nil, s.react(req, err, try)
	}
	return resp, nil
}

// exchange sends one copy of req. Its error is a *failure or the error of the
// request's context.
func (s *stack) exchange(req *http.Request) (resp *http.Response, status int, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), s.o.Timeout)
	out, err := s.outgoing(ctx, req)
	if err != nil {
		cancel()
		return nil, 0, s.broken(req, err)
	}
	resp, err = s.next.RoundTrip(out)
	if err != nil {
		cancel()
		return nil, 0, s.broken(req, err)
	}
	resp.Request = req
	resp.Body = newBody(resp.Body, s.o.MaxBody, cancel, func(err error) error { return unwrapFailure(s.broken(req, err)) })
	if err := s.judge(resp); err != nil {
		_ = resp.Body.Close() // nothing of it is used
		return nil, resp.StatusCode, err
	}
	return resp, resp.StatusCode, nil
}

// outgoing returns the signed copy of req that goes to the network.
func (s *stack) outgoing(ctx context.Context, req *http.Request) (*http.Request, error) {
	out := req.Clone(ctx)
	out.Body = &once{}
	out.GetBody = nil
	if req.GetBody != nil {
		fresh, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = &once{from: fresh}
	} else if req.Body != nil && req.Body != http.NoBody {
		return nil, errors.New("a request with a body needs GetBody, since every try sends it anew")
	}
	// A redirect makes http.Client name the page it came from.
	out.Header.Del("Referer")
	if s.o.Sign != nil {
		s.o.Sign(out)
	}
	return out, nil
}

// once is a request body that net/http cannot know to be empty. Without it
// net/http sends a GET again by itself when a reused connection breaks, and
// the vendor counts a call that nobody paid for.
type once struct{ from io.ReadCloser }

// Read implements [io.Reader].
func (b *once) Read(p []byte) (int, error) {
	if b.from == nil {
		return 0, io.EOF
	}
	return b.from.Read(p)
}

// Close implements [io.Closer].
func (b *once) Close() error {
	if b.from == nil {
		return nil
	}
	return b.from.Close()
}

func (s *stack) sameOrigin(u *url.URL) error {
	if u.Scheme == s.base.Scheme && strings.EqualFold(u.Host, s.base.Host) {
		return nil
	}
	return s.newError(providers.BadPayload, 0, fmt.Sprintf("refused to go to %q: only %s://%s may be asked",
		u.Scheme+"://"+u.Host, s.base.Scheme, s.base.Host))
}

// checkRedirect ends a chain of redirects. Where one leads is judged like any
// other request, by RoundTrip.
func (s *stack) checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return s.newError(providers.BadPayload, 0, fmt.Sprintf("more than %d redirects", maxRedirects))
	}
	return nil
}

var _ http.RoundTripper = (*stack)(nil)

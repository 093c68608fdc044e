package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/alpha-oracle/worker/providers"
)

const (
	// The waits between tries grow from these.
	transientBase   = time.Second
	rateLimitedBase = 15 * time.Second

	minRetryAfter = time.Second
	maxPause      = 15 * time.Minute
	// maxRetryAfter keeps a nonsensical Retry-After from overflowing.
	maxRetryAfter = 7 * 24 * time.Hour
	// maxText bounds the part of an answer that an error quotes.
	maxText = 512
	// pauseTimeout bounds the call that passes a limit on to the budget.
	pauseTimeout = 5 * time.Second
)

// failure is a try that failed, with what the retry layer does about it.
type failure struct {
	err   *providers.Error
	again bool
	wait  time.Duration
}

// Error implements the error interface.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns what the caller of the stack gets to see.
func (f *failure) Unwrap() error { return f.err }

func unwrapFailure(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f.err
	}
	return err
}

// cause is the text of an error after redaction. The error itself is dropped,
// since its own text may hold the key; what remains are the few errors that
// callers compare with.
type cause struct {
	text string
	is   error
}

// Error implements the error interface.
func (c *cause) Error() string { return c.text }

// Unwrap returns one of the errors that callers compare with, or nil.
func (c *cause) Unwrap() error { return c.is }

func (s *stack) newError(kind providers.Kind, status int, text string) *providers.Error {
	text = s.o.Redact(text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return &providers.Error{Provider: s.o.Provider, Kind: kind, Status: status, Err: &cause{text: text}}
}

// refusal is the error for a request that the budget did not let go.
func (s *stack) refusal(err error) error {
	var known *providers.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return s.newError(providers.Unavailable, 0, "no permission for a call: "+err.Error())
}

// broken is the error for an exchange that the network or the clock ended. A
// request whose own context is over gets that context's error.
func (s *stack) broken(req *http.Request, err error) error {
	if ended := req.Context().Err(); ended != nil {
		return ended
	}
	f := &failure{again: true}
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errTooLarge):
		f.again = false
		f.err = s.newError(providers.BadPayload, 0, fmt.Sprintf("answer larger than %d bytes", s.o.MaxBody))
	case errors.Is(err, errLocalAddress):
		f.again = false
		f.err = s.newError(providers.Rejected, 0, fmt.Sprintf(
			"%s leads to a loopback, private or link-local address; to mean that, write the address itself in the base URL", s.base.Host))
	case errors.Is(err, context.DeadlineExceeded):
		f.err = s.newError(providers.Transient, 0, fmt.Sprintf("no complete answer within %s", s.o.Timeout))
		f.err.Err = &cause{text: f.err.Err.Error(), is: context.DeadlineExceeded}
	default:
		// Another handshake with the same certificate ends the same way.
		f.again = !errors.As(err, &certificate)
		f.err = s.newError(providers.Transient, 0, err.Error())
		if errors.Is(err, io.ErrUnexpectedEOF) {
			f.err.Err = &cause{text: f.err.Err.Error(), is: io.ErrUnexpectedEOF}
		}
	}
	return f
}

// judge decides what an answer is: by its body first, since vendors send
// errors with status 200, and by its status after that.
func (s *stack) judge(resp *http.Response) error {
	if location := resp.Header.Get("Location"); location != "" && isRedirect(resp.StatusCode) {
		// http.Client keeps this text, and the vendor may have echoed the key.
		resp.Header.Set("Location", s.o.Redact(location))
		return nil
	}
	head, err := resp.Body.(*body).head()
	if err != nil {
		var known *providers.Error
		if errors.As(err, &known) {
			return &failure{err: known, again: known.Kind == providers.Transient}
		}
		return err
	}
	found := s.complaint(resp, head)
	if found == nil {
		return nil
	}
	f := &failure{err: s.newError(found.Kind, resp.StatusCode, fmt.Sprint(found.Err))}
	f.err.RetryAfter = found.RetryAfter
	if asked, ok := retryAfter(resp.Header, s.o.Now()); ok {
		f.err.RetryAfter = max(asked, found.RetryAfter)
	}
	f.again = found.Kind == providers.Transient || found.Kind == providers.RateLimited
	return f
}

// complaint returns what is wrong with an answer, nil if nothing is.
func (s *stack) complaint(resp *http.Response, head []byte) *providers.Error {
	if s.o.Check != nil {
		if found := s.o.Check(resp.StatusCode, resp.Header, head); found != nil {
			return found
		}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	text := fmt.Sprintf("status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	return &providers.Error{Kind: kindOf(resp.StatusCode), Err: errors.New(strings.TrimSpace(text))}
}

func kindOf(status int) providers.Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return providers.RateLimited
	case status == http.StatusNotFound, status == http.StatusGone:
		return providers.NoData
	case status == http.StatusRequestTimeout, status >= 500:
		return providers.Transient
	case status >= 400:
		return providers.Rejected
	default:
		return providers.BadPayload
	}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// retryAfter reads the header Retry-After, in seconds or as a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		seconds = min(max(seconds, 0), int64(maxRetryAfter/time.Second))
		return max(time.Duration(seconds)*time.Second, minRetryAfter), true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), minRetryAfter), maxRetryAfter), true
}

// react fills in the wait before the next try and tells the budget of a limit
// that the vendor speaks of: all callers are to hold back, not just this one.
func (s *stack) react(req *http.Request, err error, try int) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	f.wait = f.err.RetryAfter
	if f.wait == 0 {
		f.wait = backoff(f.err.Kind, try, s.o.MaxWait)
	}
	f.again = f.again && f.wait <= s.o.MaxWait
	told := s.tell(req, f)
	if told != nil && !errors.Is(told, context.Canceled) {
		f.again = false
		f.err.Err = errors.Join(f.err.Err, s.newError(providers.Unavailable, 0, "hold back the budget: "+told.Error()))
	}
	return f
}

// tell passes a limit on to the budget even when the request is over.
func (s *stack) tell(req *http.Request, f *failure) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), pauseTimeout)
	defer cancel()
	switch {
	case f.err.Kind == providers.Quota:
		return s.budget.Exhaust(ctx)
	case f.err.Kind == providers.RateLimited, f.err.Status == http.StatusServiceUnavailable:
		return s.budget.Pause(ctx, min(f.wait, maxPause))
	}
	return nil
}

// backoff returns a random wait up to a bound that doubles with each try, so
// that callers which failed together do not come back together.
func backoff(kind providers.Kind, try int, longest time.Duration) time.Duration {
	base := transientBase
	if kind == providers.RateLimited {
		base = rateLimitedBase
	}
	bound := min(base<<min(try-1, 16), longest)
	return rand.N(bound) + 1
}

// retryPolicy is the only retry of the program on the way to a vendor.
func retryPolicy(attempts int) retrypolicy.RetryPolicy[any] {
	return retrypolicy.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool {
			var f *failure
			return errors.As(err, &f) && f.again
		}).
		WithDelayFunc(func(exec failsafe.ExecutionAttempt[any]) time.Duration {
			var f *failure
			if !errors.As(exec.LastError(), &f) {
				return 0
			}
			return f.wait
		}).
		WithMaxAttempts(attempts).
		ReturnLastFailure().
		Build()
}

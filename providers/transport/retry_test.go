package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/transport"
)

const vendor = "https://vendor.example/query"

func TestStatusDecidesKindAndRetry(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		kind   providers.Kind
		tries  int
		pauses int
	}{
		400: {providers.Rejected, 1, 0},
		401: {providers.Rejected, 1, 0},
		403: {providers.Rejected, 1, 0},
		404: {providers.NoData, 1, 0},
		406: {providers.Rejected, 1, 0},
		410: {providers.NoData, 1, 0},
		408: {providers.Transient, 3, 0},
		429: {providers.RateLimited, 3, 3},
		500: {providers.Transient, 3, 0},
		502: {providers.Transient, 3, 0},
		503: {providers.Transient, 3, 3},
		520: {providers.Transient, 3, 0},
		304: {providers.BadPayload, 1, 0},
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &budget{}
				hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
					return answer(status, "<html>"+canary), nil
				}), b, transport.Options{Attempts: 3})
				_, err := get(t.Context(), hc, vendor)
				if got := known(t, err, want.kind); got.Status != status {
					t.Errorf("status = %d, want %d", got.Status, status)
				}
				if b.tokens != want.tries || len(b.pauses) != want.pauses {
					t.Errorf("%d: %d tries, pauses %v; want %d and %d", status, b.tokens, b.pauses, want.tries, want.pauses)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	second := time.Second
	// The bubble's clock starts here.
	midnight := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		header string
		wait   time.Duration // between two tries; 0: no second try
		pause  time.Duration
		says   time.Duration
	}{
		"seconds":    {"30", 30 * second, 30 * second, 30 * second},
		"zero":       {"0", second, second, second},
		"negative":   {"-5", second, second, second},
		"date":       {midnight.Add(45 * second).Format(http.TimeFormat), 45 * second, 45 * second, 45 * second},
		"past date":  {midnight.Add(-time.Hour).Format(http.TimeFormat), second, second, second},
		"too long":   {"300", 0, 300 * second, 300 * second},
		"far longer": {"1000000000", 0, 15 * time.Minute, 7 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				b := &budget{}
				hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
					at = append(at, time.Now())
					if len(at) > 1 {
						return answer(200, "data"), nil
					}
					return answer(429, "", "Retry-After", tc.header), nil
				}), b, transport.Options{Attempts: 2, MaxWait: 2 * time.Minute})
				text, err := get(t.Context(), hc, vendor)
				if len(b.pauses) != 1 || b.pauses[0] != tc.pause {
					t.Errorf("pauses = %v, want one of %s", b.pauses, tc.pause)
				}
				if tc.wait == 0 {
					if got := known(t, err, providers.RateLimited); got.RetryAfter != tc.says || len(at) != 1 {
						t.Errorf("RetryAfter = %s after %d tries, want %s after 1", got.RetryAfter, len(at), tc.says)
					}
					return
				}
				if err != nil || text != "data" || len(at) != 2 {
					t.Fatalf("got %q, %v after %d tries", text, err, len(at))
				}
				if got := at[1].Sub(at[0]); got != tc.wait {
					t.Errorf("second try after %s, want %s", got, tc.wait)
				}
			})
		})
	}
}

func TestBackoffIsRandomGrowingAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		longest := map[int]time.Duration{}
		distinct := map[time.Duration]bool{}
		for range 200 {
			var last time.Time
			tries := 0
			hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
				tries++
				if tries > 1 {
					gap := time.Since(last)
					longest[tries] = max(longest[tries], gap)
					distinct[gap] = true
				}
				last = time.Now()
				return answer(429, "", "Retry-After", "soon"), nil
			}), &budget{}, transport.Options{Attempts: 4, MaxWait: 40 * time.Second})
			_, err := get(t.Context(), hc, vendor)
			wantKind(t, err, providers.RateLimited)
		}
		for try, bound := range map[int]time.Duration{2: 15 * time.Second, 3: 30 * time.Second, 4: 40 * time.Second} {
			if longest[try] > bound || longest[try] < bound*3/4 {
				t.Errorf("longest wait before try %d = %s, want just below %s", try, longest[try], bound)
			}
		}
		if len(distinct) < 500 {
			t.Errorf("%d distinct waits of 600: not spread", len(distinct))
		}
	})
}

func TestCheckDecides(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		found             providers.Error
		tries, exhausted  int
		pauses            int
		wantWaitBetweenIt time.Duration
	}{
		"limit note":  {providers.Error{Kind: providers.RateLimited, RetryAfter: 60 * time.Second}, 2, 0, 2, 60 * time.Second},
		"quota":       {providers.Error{Kind: providers.Quota}, 1, 1, 0, 0},
		"premium":     {providers.Error{Kind: providers.PremiumOnly}, 1, 0, 0, 0},
		"bad payload": {providers.Error{Kind: providers.BadPayload}, 1, 0, 0, 0},
		"unknown":     {providers.Error{Kind: providers.UnknownSymbol}, 1, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				found := tc.found
				found.Err = errors.New("we have detected your key as " + canary + strings.Repeat(".", 4096))
				b := &budget{}
				hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
					return answer(200, "note"), nil
				}), b, transport.Options{Attempts: 2, Check: func(status int, _ http.Header, head []byte) *providers.Error {
					if status != 200 || string(head) != "note" {
						t.Errorf("check saw %d %q", status, head)
					}
					return &found
				}})
				start := time.Now()
				_, err := get(t.Context(), hc, vendor)
				got := known(t, err, tc.found.Kind)
				if len(got.Error()) > 1000 || !strings.Contains(got.Error(), "[redacted]") {
					t.Errorf("text of %d bytes: %q", len(got.Error()), got)
				}
				if b.tokens != tc.tries || b.exhausted != tc.exhausted || len(b.pauses) != tc.pauses {
					t.Errorf("%d tries, %d exhausted, pauses %v", b.tokens, b.exhausted, b.pauses)
				}
				if waited := time.Since(start); waited != tc.wantWaitBetweenIt {
					t.Errorf("took %s, want %s", waited, tc.wantWaitBetweenIt)
				}
			})
		})
	}
}

func TestLimitThatCannotBePassedOnEndsTheRequest(t *testing.T) {
	t.Parallel()
	b := &budget{pauseErr: errors.New("redis is away, key " + canary)}
	hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
		return answer(429, ""), nil
	}), b, transport.Options{Attempts: 3})
	_, err := get(t.Context(), hc, vendor)
	wantKind(t, err, providers.RateLimited)
	if b.tokens != 1 || !strings.Contains(err.Error(), "redis is away") {
		t.Errorf("%d tries, %v; want one try and the reason", b.tokens, err)
	}
}

func TestHeadIsNotConsumed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 1000)
	var saw int
	hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
		return answer(200, long), nil
	}), &budget{}, transport.Options{Check: func(_ int, _ http.Header, head []byte) *providers.Error {
		saw = len(head)
		return nil
	}})
	text, err := get(t.Context(), hc, vendor)
	if err != nil || text != long || saw != 4096 {
		t.Errorf("got %d bytes, %v, check saw %d; want %d, nil, 4096", len(text), err, saw, len(long))
	}
}

func TestErrorsOfTheBudget(t *testing.T) {
	t.Parallel()
	quota := &providers.Error{Provider: "acme", Kind: providers.Quota, Err: errors.New("day spent")}
	for name, tc := range map[string]struct {
		err  error
		kind providers.Kind
	}{
		"ours":  {quota, providers.Quota},
		"other": {errors.New("redis at " + canary + " is away"), providers.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &budget{wait: func(context.Context) error { return tc.err }}
			hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
				t.Error("a request went out without permission")
				return nil, io.EOF
			}), b, transport.Options{Attempts: 3})
			_, err := get(t.Context(), hc, vendor)
			wantKind(t, err, tc.kind)
		})
	}
}

func TestEndOfTheContext(t *testing.T) {
	t.Parallel()
	never := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	hang := roundTripper(func(r *http.Request) (*http.Response, error) { return nil, never(r.Context()) })
	down := roundTripper(func(*http.Request) (*http.Response, error) {
		return answer(429, "", "Retry-After", "60"), nil
	})
	body := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp := answer(200, "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 5000)), hangingReader{r.Context()}))
		return resp, nil
	})
	for name, tc := range map[string]struct {
		next http.RoundTripper
		b    *budget
	}{
		"waiting for the budget": {hang, &budget{wait: never}},
		"waiting for the vendor": {hang, &budget{}},
		"waiting for a retry":    {down, &budget{}},
		"reading the body":       {body, &budget{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				hc := newClient(t, vendor, tc.next, tc.b, transport.Options{Attempts: 3, MaxWait: time.Hour})
				start := time.Now()
				_, err := get(ctx, hc, vendor)
				if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*providers.Error)) {
					t.Errorf("error = %v, want the context's own", err)
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("returned after %s, want 10s", took)
				}
			})
		})
	}
}

// What the vendor says about its limit concerns every caller, also when the
// one who heard it is gone.
func TestLimitIsPassedOnAfterTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	b := &budget{}
	hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
		cancel()
		return answer(429, "", "Retry-After", "30"), nil
	}), b, transport.Options{Attempts: 3})
	_, err := get(ctx, hc, vendor)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	if len(b.pauses) != 1 || b.pauses[0] != 30*time.Second {
		t.Errorf("pauses = %v, want one of 30s", b.pauses)
	}
}

func TestAnswerAfterTheEndOfTheContextIsClosed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	body := &closing{Reader: strings.NewReader("data")}
	hc := newClient(t, vendor, roundTripper(func(*http.Request) (*http.Response, error) {
		cancel()
		resp := answer(200, "")
		resp.Body = body
		return resp, nil
	}), &budget{}, transport.Options{Attempts: 3})
	if _, err := get(ctx, hc, vendor); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	if !body.closed {
		t.Error("the body was left open")
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

type hangingReader struct{ ctx context.Context }

func (r hangingReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

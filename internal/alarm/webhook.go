package alarm

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/alpha-oracle/worker/internal/secret"
)

// Headers of the webhook.
const (
	// HeaderTimestamp is when the event was sent, as Unix time in seconds.
	HeaderTimestamp = "X-Worker-Timestamp"
	// HeaderSignature is "v1=" and [Sign] in it.
	HeaderSignature = "X-Worker-Signature"
)

// mostRead is how much of an answer is read, so that its connection can be used
// again.
const mostRead = 4 << 10

// Webhook delivers events by POST, as JSON. It is safe for concurrent use.
type Webhook struct {
	// URL may hold a token; it is in no error.
	URL, Key secret.Value
	// Client bounds the time of a request.
	Client *http.Client
	// Now is the clock of the timestamp.
	Now func() time.Time
}

// Sign returns the signature of a body that is sent at timestamp: HMAC-SHA256
// over timestamp, a full stop and the body, in lower-case hex. The receiver
// computes the same, and refuses timestamps that are too old.
func Sign(key, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(timestamp + "."))
	_, _ = mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Send delivers an event. Any status outside 2xx is an error.
func (w Webhook) Send(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL.Reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("webhook: the URL cannot be used")
	}
	timestamp := strconv.FormatInt(w.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(HeaderTimestamp, timestamp)
	req.Header.Set(HeaderSignature, "v1="+Sign(w.Key.Reveal(), timestamp, body))
	if err := do(w.Client, req); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}

// Heartbeat is a URL that a monitor expects to be asked for regularly.
type Heartbeat struct {
	// URL often is a secret itself; it is in no error.
	URL secret.Value
	// Client bounds the time of a request.
	Client *http.Client
}

// Ping asks for the URL once. Any status outside 2xx is an error.
func (h Heartbeat) Ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL.Reveal(), http.NoBody)
	if err != nil {
		return errors.New("heartbeat: the URL cannot be used")
	}
	if err := do(h.Client, req); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}

// NewClient returns a client for both: it follows no redirect, so that nothing
// is sent to anybody who was not named, and no request takes longer than 10
// seconds.
func NewClient() *http.Client {
	return &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func do(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, mostRead)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("answered with status %d", resp.StatusCode)
	}
	return nil
}

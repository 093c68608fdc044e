package alarm_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/alarm"
	"github.com/alpha-oracle/worker/internal/secret"
)

const key = "shared-key-of-both"

// A receiver can check the signature with nothing but the key and the headers.
func TestWebhookIsSigned(t *testing.T) {
	t.Parallel()
	sent := alarm.Event{
		ID: "1", State: alarm.Raised, Kind: alarm.StaleBars, Severity: "critical", At: time.Unix(1e9, 0).UTC(), Sender: "host pid 7",
		Causes: []alarm.Cause{{Kind: alarm.StaleBars, Subject: "2026-03-12", Reason: "1 missing"}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(r.Header.Get("X-Worker-Timestamp") + "." + string(body)))
		if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); r.Header.Get("X-Worker-Signature") != want {
			t.Errorf("signature %q, want %q", r.Header.Get("X-Worker-Signature"), want)
		}
		if r.Header.Get("X-Worker-Timestamp") != "1000000042" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		var got map[string]any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		for _, name := range []string{"id", "state", "kind", "severity", "at", "sender", "causes"} {
			if got[name] == nil {
				t.Errorf("no %s in %s", name, body)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	hook := alarm.Webhook{
		URL: secret.New(server.URL + "/hook"), Key: secret.New(key), Client: alarm.NewClient(),
		Now: func() time.Time { return time.Unix(1e9+42, 0) },
	}
	if err := hook.Send(t.Context(), sent); err != nil {
		t.Error(err)
	}
}

// What goes wrong is said without the URL, in which there can be a token, and
// nothing is sent on to where a redirect leads.
func TestDeliveryErrorsHoldNoURL(t *testing.T) {
	t.Parallel()
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect/" + canary:
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		default:
			http.Error(w, "who is "+canary, http.StatusForbidden)
		}
	}))
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	defer server.Close()
	for name, tc := range map[string]struct{ url, says string }{
		"refused":  {server.URL + "/" + canary, "status 403"},
		"redirect": {server.URL + "/redirect/" + canary, "status 307"},
		"gone":     {gone.URL + "/" + canary, "refused"},
		"no URL":   {"http://[" + canary, "cannot be used"},
	} {
		hook := alarm.Webhook{URL: secret.New(tc.url), Key: secret.New(key), Client: alarm.NewClient(), Now: time.Now}
		beat := alarm.Heartbeat{URL: secret.New(tc.url), Client: alarm.NewClient()}
		for _, err := range []error{hook.Send(t.Context(), alarm.Event{}), beat.Ping(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), canary) {
				t.Errorf("%s: %v; want %q, without the token", name, err, tc.says)
			}
		}
	}
	if elsewhere > 0 {
		t.Errorf("%d requests went where a redirect led", elsewhere)
	}
}

func TestHeartbeatPings(t *testing.T) {
	t.Parallel()
	pings := 0
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/ping" {
			pings++
		}
	}))
	defer server.Close()
	if err := (alarm.Heartbeat{URL: secret.New(server.URL + "/ping"), Client: alarm.NewClient()}).Ping(t.Context()); err != nil || pings != 1 {
		t.Errorf("%d pings, %v", pings, err)
	}
}

package massive_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/massive"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const unspecified = 255 // left to the transport or the decoder
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   providers.Kind
		wait   time.Duration
	}{
		{"data", 200, `{"ticker":"AAPL","results":[{"v":1}],"status":"OK"}`, unspecified, 0},
		{"data that go on", 200, `{"ticker":"AAPL","results":[{"v":1`, unspecified, 0},
		{"late data", 200, `{"status":"DELAYED","results":[]}`, unspecified, 0},
		{"no key", 401, `{"status":"ERROR","request_id":"x","error":"API Key was not provided"}`, providers.Rejected, 0},
		{"no key with 200", 200, `{"status":"ERROR","error":"Unknown API Key"}`, providers.Rejected, 0},
		{"plan", 403, `{"status":"NOT_AUTHORIZED","message":"x"}`, providers.PremiumOnly, 0},
		{"forbidden", 403, `<html>`, providers.Rejected, 0},
		{"limit", 429, `{"status":"ERROR","error":"x"}`, providers.RateLimited, time.Minute},
		{"limit with 200", 200, `{"status":"ERROR","error":"You've exceeded the maximum requests per minute"}`, providers.RateLimited, time.Minute},
		{"limit without words", 429, "", providers.RateLimited, time.Minute},
		{"error with 200", 200, `{"status":"ERROR","error":"x"}`, providers.BadPayload, 0},
		{"wrong path", 404, "404 page not found", providers.BadPayload, 0},
		{"down", 503, "<html>", unspecified, 0},
		{"empty", 200, " \n", providers.BadPayload, 0},
		{"page", 200, "\uFEFF<html>", providers.BadPayload, 0},
	} {
		e := massive.Check(tc.status, http.Header{}, []byte(tc.body))
		switch {
		case tc.want == unspecified && e != nil:
			t.Errorf("%s: %v, want no objection", tc.name, e)
		case tc.want != unspecified && (e == nil || e.Kind != tc.want || e.RetryAfter != tc.wait):
			t.Errorf("%s: %+v, want kind %d, wait %s", tc.name, e, tc.want, tc.wait)
		}
	}
	if e := massive.Check(200, nil, []byte(`{"status":"ERROR","error":"a\nb\u0085c"}`)); strings.ContainsAny(e.Error(), "\n\u0085") {
		t.Errorf("%q holds control characters", e.Error())
	}
}

package edgar_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/edgar"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const (
		fine       = providers.Kind(255)
		threshold  = "<!DOCTYPE html>\n<title>SEC.gov | Request Rate Threshold Exceeded</title>"
		undeclared = "<html><h1>Your Request Originates from an Undeclared Automated Tool</h1>"
		missing    = `<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>`
	)
	for name, tc := range map[string]struct {
		status int
		head   string
		kind   providers.Kind
		wait   time.Duration
	}{
		"data":                         {200, `{"cik":1`, fine, 0},
		"data that names a block":      {200, `{"entityName":"Request Rate Threshold Exceeded, Undeclared Automated Tool"`, fine, 0},
		"form in XML":                  {200, `<?xml version="1.0"?><ownershipDocument>`, fine, 0},
		"index":                        {200, "Description: Daily Index", fine, 0},
		"empty":                        {200, "", fine, 0},
		"not modified":                 {304, "", fine, 0},
		"threshold":                    {403, threshold, providers.RateLimited, 10 * time.Minute},
		"threshold with 200":           {200, threshold, providers.RateLimited, 10 * time.Minute},
		"threshold with 503":           {503, threshold, providers.RateLimited, 10 * time.Minute},
		"threshold, mark and blanks":   {200, "\uFEFF\r\n " + strings.ToUpper(threshold), providers.RateLimited, 10 * time.Minute},
		"429":                          {429, "", providers.RateLimited, 10 * time.Minute},
		"429 in JSON":                  {429, "{}", providers.RateLimited, 10 * time.Minute},
		"undeclared":                   {403, undeclared, providers.Rejected, 0},
		"undeclared with 200":          {200, undeclared, providers.Rejected, 0},
		"undeclared, threshold beside": {403, threshold + undeclared, providers.Rejected, 0},
		"undeclared with 404":          {404, undeclared, providers.Rejected, 0},
		"no such key":                  {404, missing, providers.NoData, 0},
		"no such key with 200":         {200, missing, fine, 0}, // the decoder refuses it
		"404 page":                     {404, "<html>", providers.BadPayload, 0},
		"404 of nothing":               {404, "", providers.BadPayload, 0},
		"maintenance":                  {503, "<html>maintenance", fine, 0},
		"403 without a reason":         {403, "<html>Access Denied", fine, 0},
		"page":                         {200, "<HTML>", providers.BadPayload, 0},
		"page with a type":             {200, "<!DOCTYPE HTML PUBLIC>", providers.BadPayload, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := edgar.Check(tc.status, http.Header{}, []byte(tc.head))
			if tc.kind == fine {
				if got != nil {
					t.Errorf("found %v, want nothing", got)
				}
				return
			}
			if got == nil || got.Kind != tc.kind || got.RetryAfter != tc.wait {
				t.Fatalf("found %+v, want kind %d and a wait of %s", got, tc.kind, tc.wait)
			}
		})
	}
	if got := edgar.Check(403, nil, []byte(undeclared)); !strings.Contains(got.Err.Error(), "SA_DATA__EDGAR__USER_AGENT") {
		t.Errorf("%v does not say what to set", got)
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"Example admin@example.com", " Example/1.0 (a.b+c@mail.example.co.uk) ", "x@y.z"} {
		sign, err := edgar.Sign(good)
		if err != nil {
			t.Errorf("%q: %v", good, err)
			continue
		}
		r := &http.Request{Header: http.Header{"User-Agent": {"Go-http-client/1.1"}}}
		sign(r)
		if got := r.Header["User-Agent"]; len(got) != 1 || got[0] != strings.TrimSpace(good) {
			t.Errorf("%q: sent %q", good, got)
		}
	}
	for _, bad := range []string{
		"", "  ", "worker", "Example https://example.com", "Example admin@", "Example @example.com", "Example admin@localhost",
		"Example admin@example.", "Example admin @ example.com", "Example admin@.com", "Exämple admin@example.com",
		"Example admin@example.com\r\nX-Evil: 1", "a\tb@example.com",
	} {
		_, err := edgar.Sign(bad)
		if err == nil || !strings.Contains(err.Error(), "SA_DATA__EDGAR__USER_AGENT") || strings.ContainsAny(err.Error(), "\r\n\t") {
			t.Errorf("%q: error %v, want one that says what to set", bad, err)
		}
	}
}

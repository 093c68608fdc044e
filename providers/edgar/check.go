package edgar

import (
	"bytes"
	"net/http"
	"time"

	"github.com/alpha-oracle/worker/providers"
)

// blockTime is how long an address stays blocked that was too fast, as the SEC
// says it: until it has been slower than the limit for ten minutes.
const blockTime = 10 * time.Minute

// Check finds the pages that stand in place of an answer, by the beginning of
// the body and only then by the status, since a block page can come with
// status 200. It is the Check of the transport's options.
func Check(status int, h http.Header, head []byte) *providers.Error {
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\uFEFF")))
	isPage := len(text) > 0 && text[0] == '<'
	low := bytes.ToLower(text)
	says := func(sentence string) bool { return isPage && bytes.Contains(low, []byte(sentence)) }
	switch {
	case says("undeclared automated tool"):
		// Also when the page speaks of the rate beside it: who is not
		// known to the SEC does not get through by waiting.
		return found(providers.Rejected, "refused as an undeclared automated tool: SA_DATA__EDGAR__USER_AGENT must name "+
			"you and an address where you can be reached; some hosting networks are refused whatever it says")
	case says("request rate threshold exceeded"), status == http.StatusTooManyRequests:
		e := found(providers.RateLimited, "blocked for going over the SEC's limit, which counts all programs at this address")
		e.RetryAfter = blockTime
		return e
	case status == http.StatusNotFound && says("<code>nosuchkey</code>"),
		// The store behind EDGAR says so of what it does not have to those
		// who may not see its list.
		status == http.StatusForbidden && says("<code>accessdenied</code>"):
		return found(providers.NoData, "EDGAR has no such file")
	case status == http.StatusNotFound:
		return found(providers.BadPayload, "status 404 without the SEC's own words: is the base URL right?")
	case status >= 200 && status < 300 && (says("<html") || says("<!doctype html")):
		return found(providers.BadPayload, "an HTML page instead of data")
	}
	return nil
}

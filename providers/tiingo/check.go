package tiingo

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// windowWait suits the shortest window that the free plan counts, an hour: an
// earlier try meets the same hour again.
const windowWait = time.Hour

// Check finds the answers that are no data, by the beginning of the body and
// only then by the status: an allocation that is run over can be a plain sentence
// with status 200. It is the Check of the transport's options, and quotes the
// provider's message: that can hold the key, and the transport removes it.
func Check(status int, _ http.Header, head []byte) *providers.Error {
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\uFEFF")))
	message := complaint(text)
	low := strings.ToLower(message)
	good := status >= 200 && status < 300
	switch {
	case strings.Contains(low, "run over your"):
		return overrun(low, message)
	case status == http.StatusTooManyRequests:
		return overrun(low, "too many requests: "+message)
	case status == http.StatusUnauthorized, status == http.StatusForbidden,
		strings.Contains(low, "supply a token"), strings.Contains(low, "invalid token"):
		return found(providers.Rejected, fmt.Sprintf("the key is refused with status %d: %s", status, message))
	case status == http.StatusNotFound && strings.HasPrefix(low, "not found") && text[0] == '{':
		return found(providers.UnknownSymbol, message)
	case status == http.StatusNotFound, status == http.StatusGone:
		return found(providers.BadPayload, fmt.Sprintf("status %d without the provider's own words: is the base URL right?", status))
	case !good:
		return nil
	case len(text) == 0:
		return found(providers.BadPayload, "empty answer")
	case text[0] == '<':
		return found(providers.BadPayload, "an HTML page instead of data")
	case message != "":
		return found(providers.BadPayload, message)
	}
	return nil
}

// overrun is an allocation that is spent: the hour's, or a longer one.
func overrun(low, message string) *providers.Error {
	longer := strings.Contains(low, "daily") || strings.Contains(low, "day") || strings.Contains(low, "month")
	if longer && !strings.Contains(low, "hour") {
		return found(providers.Quota, message)
	}
	e := found(providers.RateLimited, message)
	e.RetryAfter = windowWait
	return e
}

// complaint returns the message that stands in place of data: a sentence, a
// text, or {"detail":"..."}; "" if there is none.
func complaint(text []byte) string {
	if len(text) == 0 || text[0] == '[' || text[0] == '<' {
		return ""
	}
	if text[0] != '{' {
		return wire.Printable(strings.Trim(string(text), "\""))
	}
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	_, err := dec.ReadToken()
	for err == nil && dec.PeekKind() == jsontext.KindString {
		var name jsontext.Token
		if name, err = dec.ReadToken(); err != nil {
			break
		}
		// The decoder's next step makes the name void.
		detail := name.String() == "detail"
		var value jsontext.Value
		if value, err = dec.ReadValue(); err == nil && detail && value.Kind() == jsontext.KindString {
			said, err := jsontext.AppendUnquote(nil, value)
			if err == nil {
				return wire.Printable(string(said))
			}
		}
	}
	return ""
}

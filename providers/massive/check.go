package massive

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

// windowWait suits a limit counted by the minute: an earlier try meets the same
// minute again.
const windowWait = time.Minute

// Check finds the answers that are no data, by the beginning of the body and
// only then by the status. It is the Check of the transport's options, and
// quotes the provider's message: that can hold the key, and the transport
// removes it.
//
// The status DELAYED stands for data, as OK does.
func Check(status int, _ http.Header, head []byte) *providers.Error {
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\uFEFF")))
	word, message := complaint(text)
	low := strings.ToLower(message)
	good := status >= 200 && status < 300
	switch {
	case word == "NOT_AUTHORIZED":
		return found(providers.PremiumOnly, "the key's plan does not hold this: "+message)
	case status == http.StatusTooManyRequests, word == "ERROR" && strings.Contains(low, "maximum requests"):
		e := found(providers.RateLimited, "too many requests: "+message)
		e.RetryAfter = windowWait
		return e
	case status == http.StatusUnauthorized, status == http.StatusForbidden, word == "ERROR" && strings.Contains(low, "api key"):
		return found(providers.Rejected, fmt.Sprintf("the key is refused with status %d: %s", status, message))
	case status == http.StatusNotFound, status == http.StatusGone:
		return found(providers.BadPayload, fmt.Sprintf("status %d: is the base URL right? %s", status, message))
	case !good:
		return nil
	case word == "ERROR":
		return found(providers.BadPayload, "an error with status 200: "+message)
	case len(text) == 0:
		return found(providers.BadPayload, "empty answer")
	case text[0] == '<':
		return found(providers.BadPayload, "an HTML page instead of data")
	}
	return nil
}

// complaint reads an object such as {"status":"ERROR","error":"..."} as far as
// it goes. In an answer with data, the status stands behind them.
func complaint(head []byte) (word, message string) {
	dec := jsontext.NewDecoder(bytes.NewReader(head))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginObject {
		return "", ""
	}
	for dec.PeekKind() == jsontext.KindString {
		token, err := dec.ReadToken()
		if err != nil {
			break
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			break
		}
		if value.Kind() != jsontext.KindString {
			continue
		}
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			break
		}
		switch name {
		case "status":
			word = string(text)
		case "error", "message":
			message = wire.Printable(string(text))
		}
	}
	return word, message
}

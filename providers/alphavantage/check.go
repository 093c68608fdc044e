package alphavantage

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

const (
	// burstWait suits "1 request per second", windowWait a limit counted
	// by the minute: an earlier try meets the same minute again.
	burstWait  = 2 * time.Second
	windowWait = time.Minute
)

// Check finds the answers that are no data, by the beginning of the body and
// only then by the status, since the provider fails with status 200. It is
// the Check of the transport's options, and quotes the provider's message:
// that can hold the key, and the transport removes it.
func Check(status int, _ http.Header, head []byte) *providers.Error {
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\uFEFF")))
	good := status >= 200 && status < 300
	switch {
	case len(text) > 0 && text[0] == '{':
		e := checkObject(text)
		if !good && e != nil && (e.Kind == providers.BadPayload || e.Kind == providers.NoData) {
			return nil // the status says more
		}
		return e
	case !good:
		return nil
	case len(text) == 0:
		return found(providers.BadPayload, "empty answer")
	case text[0] == '<':
		return found(providers.BadPayload, "an HTML page instead of data")
	case text[0] == '[' || string(text) == "null":
		return found(providers.BadPayload, "an answer in a shape that the provider does not have")
	}
	return nil
}

// checkObject looks for a message, or for a document that holds nothing. One
// that is no JSON, or goes on beyond the head, is left to the decoder.
func checkObject(head []byte) *providers.Error {
	message, hollow, err := look(head)
	switch {
	case message != nil:
		return message
	case err == nil && hollow:
		return found(providers.NoData, "an answer without data")
	}
	return nil
}

// look returns the first message of a document. hollow means that each object
// and array in the document is empty, and that nothing but the symbol stands
// beside them: an OVERVIEW is made of texts alone.
func look(head []byte) (message *providers.Error, hollow bool, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(head), jsontext.AllowDuplicateNames(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, false, err
	}
	hollow = true
	for dec.PeekKind() == jsontext.KindString {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, false, err
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, false, err
		}
		switch value.Kind() {
		case jsontext.KindString:
			if isMessage(name) {
				text, err := jsontext.AppendUnquote(nil, value)
				return classify(name, string(text)), false, err
			}
			hollow = hollow && strings.EqualFold(name, "symbol")
		case jsontext.KindBeginObject, jsontext.KindBeginArray:
			hollow = hollow && len(bytes.TrimSpace(value[1:len(value)-1])) == 0
		default:
			hollow = false
		}
	}
	_, err = dec.ReadToken()
	return nil, hollow, err
}

// isMessage reports whether a document's name stands before a message rather
// than data.
func isMessage(name string) bool {
	switch strings.ToLower(name) {
	case "information", "note", "error message", "detail":
		return true
	}
	return false
}

// classify tells the messages apart by their wording. The order matters: the
// message about one request a second also speaks of the 25 a day, and every
// one of them advertises the premium plans.
func classify(name, text string) *providers.Error {
	low := strings.ToLower(text)
	says := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(low, part) {
				return true
			}
		}
		return false
	}
	e := found(providers.BadPayload, fmt.Sprintf("%s: %s", name, wire.Printable(text)))
	switch {
	case says("spreading out your free api requests", "1 request per second"):
		e.Kind, e.RetryAfter = providers.RateLimited, burstWait
	case says("burst pattern"):
		e.Kind, e.RetryAfter = providers.RateLimited, windowWait
	case says("apikey is invalid", "api key is invalid", "invalid api key", "for demo purposes only", "could not satisfy the request accept"):
		e.Kind = providers.Rejected
	case says("premium endpoint", "premium feature", "premium function"):
		e.Kind = providers.PremiumOnly
	case says("per minute"):
		e.Kind, e.RetryAfter = providers.RateLimited, windowWait
	case says("per day", "daily rate limit"):
		e.Kind = providers.Quota
	case says("invalid api call"):
		e.Kind = providers.UnknownSymbol
	case says("does not exist"):
		e.Kind = providers.Rejected
	case strings.EqualFold(name, "note"):
		// Notes have only ever been about limits.
		e.Kind, e.RetryAfter = providers.RateLimited, windowWait
	}
	return e
}

func found(kind providers.Kind, text string) *providers.Error {
	return &providers.Error{Provider: Name, Kind: kind, Err: errors.New(text)}
}

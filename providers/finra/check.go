package finra

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// Check finds the errors that stand in place of an answer, by the beginning of
// the body and only then by the status. It is the Check of the transport's
// options.
//
// FINRA's own errors are JSON objects that name a status and a reason and repeat
// the question; what stands before its API sends pages.
func Check(status int, _ http.Header, head []byte) *providers.Error {
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\uFEFF")))
	if code, message := complaint(text); code != 0 && code/100 != 2 {
		return found(kindOf(code), fmt.Sprintf("refused with %d: %s", code, printable(message)))
	}
	switch {
	case status == http.StatusNotFound, status == http.StatusGone:
		return found(providers.BadPayload, fmt.Sprintf("status %d without FINRA's own words: is SA_DATA__FINRA__BASE_URL right?", status))
	case status >= 200 && status < 300 && bytes.HasPrefix(text, []byte("<")):
		return found(providers.BadPayload, "a page instead of data")
	}
	return nil
}

// kindOf says what the status in one of FINRA's errors means. None of them
// means that there are no rows: FINRA says that with an empty answer.
func kindOf(code int) providers.Kind {
	switch {
	case code == http.StatusTooManyRequests:
		return providers.RateLimited
	case code >= 500, code == http.StatusRequestTimeout:
		return providers.Transient
	}
	return providers.Rejected
}

// complaint reads an object such as {"statusCode":400,...,"message":"..."} as
// far as it goes: the head of an answer can end within it. The code is 0 if
// there is none.
func complaint(head []byte) (code int, message string) {
	if len(head) == 0 || head[0] != '{' {
		return 0, ""
	}
	d := jsontext.NewDecoder(bytes.NewReader(head))
	_, err := d.ReadToken()
	for err == nil && d.PeekKind() == jsontext.KindString {
		var name jsontext.Token
		if name, err = d.ReadToken(); err != nil {
			break
		}
		// The decoder's next step makes the name void.
		is := name.String()
		var value jsontext.Value
		if value, err = d.ReadValue(); err != nil {
			break
		}
		switch {
		case is == "statusCode" && value.Kind() == jsontext.KindNumber && len(value) == 3:
			_, err = fmt.Sscanf(string(value), "%d", &code)
		case is == "message" && value.Kind() == jsontext.KindString:
			text, _ := jsontext.AppendUnquote(nil, value) // the decoder has found it sound
			message = string(text)
		}
	}
	return code, message
}

// printable makes a text fit for a log: at most 200 printable ASCII letters.
func printable(text string) string {
	const limit = 200
	return wire.PrintableASCII(text[:min(len(text), limit)])
}

// Package edgar asks EDGAR, the filing system of the SEC: which issuer stands
// behind a symbol, which figures an issuer has reported, and what its insiders
// have reported on Forms 3, 4 and 5. Those are found in the indexes of days and
// quarters, see [Client.DailyIndex], and read in one call each, see
// [Client.Filing].
//
// Two hosts answer: www.sec.gov with files, data.sec.gov with figures. They
// need no key but a User-Agent that names a contact, see [Sign], and count the
// calls of both together: no more than 10 a second from one address, which is
// blocked for about ten minutes after that. What an answer means is read from
// its body first, since a block can come with any status; see [Check].
package edgar

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"strings"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// Name is the provider's name in the limiter and the ledger.
const Name = "edgar"

// MaxBody suits the transport's option of that name: the greatest size of one
// answer after decompression. The figures of a large bank are tens of MB.
const MaxBody = 256 << 20

// Options tune a [Client]; the zero value asks the SEC.
type Options struct {
	// BaseURL is where the files are; "" means https://www.sec.gov.
	BaseURL string
	// DataBaseURL is where the figures are; "" means https://data.sec.gov.
	DataBaseURL string
	// Data asks DataBaseURL; nil means with the client for BaseURL. The
	// transport goes to one host only, so two hosts take two clients, which
	// share one budget.
	Data *http.Client
}

// Client asks EDGAR. It is safe for concurrent use.
type Client struct {
	files, data       *http.Client
	filesURL, dataURL string
}

// New returns a client that asks through hc, which keeps to the limits and
// whose transport is made with [Sign], [Check] and [MaxBody].
func New(hc *http.Client, o Options) *Client {
	c := &Client{files: hc, data: o.Data, filesURL: "https://www.sec.gov", dataURL: "https://data.sec.gov"}
	if c.data == nil {
		c.data = hc
	}
	if o.BaseURL != "" {
		c.filesURL = strings.TrimRight(o.BaseURL, "/")
	}
	if o.DataBaseURL != "" {
		c.dataURL = strings.TrimRight(o.DataBaseURL, "/")
	}
	return c
}

// contact is an e-mail address, as far as it matters who can be written to.
var contact = regexp.MustCompile(`[^\s@<>()]+@[^\s@<>().]+(\.[^\s@<>().]+)+`)

// Sign returns the function that names userAgent in a request. The SEC wants a
// name and a contact address in it and blocks those who leave them out, so one
// without an address, or one that no header can hold, is an error.
func Sign(userAgent string) (func(*http.Request), error) {
	const remedy = "set SA_DATA__EDGAR__USER_AGENT to a name and a contact address, such as \"Example Research admin@example.com\""
	agent := strings.TrimSpace(userAgent)
	switch {
	case agent == "":
		return nil, errors.New("edgar: no user agent, without which the SEC refuses every call: " + remedy)
	case strings.ContainsFunc(agent, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, fmt.Errorf("edgar: user agent %q: only printable ASCII fits into a header: %s", agent, remedy)
	case !contact.MatchString(agent):
		return nil, fmt.Errorf("edgar: user agent %q holds no contact address: %s", agent, remedy)
	}
	return func(r *http.Request) { r.Header.Set("User-Agent", agent) }, nil
}

// jsonType is what is asked for where there is a choice.
const jsonType = "application/json"

// get asks for a document. The caller closes the body.
func get(ctx context.Context, hc *http.Client, address, accept string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		// The error quotes the URL, and a wrong one can hold a password.
		return nil, found(providers.Rejected, "the base URL is no URL")
	}
	req.Header = header
	req.Header.Set("Accept", accept)
	return hc.Do(req)
}

// document returns the reader of an answer that begins like a JSON object and
// says that it is JSON.
func document(resp *http.Response) (*wire.Body, error) {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != jsonType {
		return nil, found(providers.BadPayload, "the answer does not say that it is JSON")
	}
	body := wire.NewBody(resp.Body, wire.MaxValue)
	first, err := body.Peek(1)
	switch {
	case err != nil:
		return nil, err
	case len(first) == 0:
		return nil, body.Fault(Name, wire.ErrCut)
	case first[0] != '{':
		return nil, found(providers.BadPayload, "the answer is no JSON object")
	}
	return body, nil
}

func found(kind providers.Kind, text string) *providers.Error {
	return &providers.Error{Provider: Name, Kind: kind, Err: errors.New(text)}
}

// Package finra asks FINRA's Query API for the consolidated short interest:
// how many shares of each symbol were sold short at a settlement date.
//
// The data need no key. FINRA takes 20 calls a second from one address and
// sends JSON only to those who ask for it; without that it sends text. A page
// of an answer can be shorter than was asked for, since it ends at 3 MB too, and
// the rows come in no order. So a question is about the symbols of one
// settlement date, and an answer counts only if the rows are as many as the
// header Record-Total says and no symbol occurs twice; see
// [Client.ShortInterest].
//
// While FINRA publishes a settlement date, a part of its rows can be there
// already, and nothing in the answers says so. It is known from how many symbols
// have a row: nearly all companies of a large index have one every time, while
// funds and unknown symbols may have none. So rows are refused with
// [ErrPublishing], after a second look, if one of several questions about
// hundreds of symbols each gets no row at all, or if fewer than half of all
// symbols have one. Symbols without a row are taken as missing otherwise, see
// [Summary], and always if fewer than 20 are asked for: that is too few to judge
// by.
//
// FINRA writes symbols without a separator, BRKB for BRK.B, which cannot be
// read back. What a row is about is found among the symbols that were asked
// for, and never guessed.
package finra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/alpha-oracle/worker/providers"
)

// Name is the provider's name in the limiter and the ledger.
const Name = "finra"

// MaxBody suits the transport's option of that name: the greatest size of one
// answer. FINRA's own limit is 3 MB.
const MaxBody = 8 << 20

const (
	dataPath      = "/data/group/otcMarket/name/consolidatedShortInterest"
	partitionPath = "/partitions/group/otcMarket/name/consolidatedShortInterest"
)

// Options tune a [Client]; the zero value asks FINRA.
type Options struct {
	// BaseURL is where the API is; "" means https://api.finra.org.
	BaseURL string
}

// Client asks FINRA. It is safe for concurrent use.
type Client struct {
	hc   *http.Client
	base string
}

// New returns a client that asks through hc, which keeps to the limits and
// whose transport is made with [Check] and [MaxBody].
func New(hc *http.Client, o Options) *Client {
	c := &Client{hc: hc, base: "https://api.finra.org"}
	if o.BaseURL != "" {
		c.base = strings.TrimRight(o.BaseURL, "/")
	}
	return c
}

// ask sends a question, with a body unless it is nil. The caller closes the
// body of the answer.
func (c *Client) ask(ctx context.Context, method, path string, question any) (*http.Response, error) {
	var body []byte
	if question != nil {
		var err error
		if body, err = json.Marshal(question); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		// The error quotes the URL, and a wrong one can hold a password.
		return nil, found(providers.Rejected, "the base URL is no URL")
	}
	req.Header.Set("Accept", "application/json")
	if question != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.hc.Do(req)
}

// checkJSON refuses an answer that is not whole or says that it is something
// else, such as the text that FINRA sends by default.
func checkJSON(resp *http.Response) error {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode != http.StatusOK:
		return found(providers.BadPayload, "the answer has a status that none was asked with")
	case err != nil || kind != "application/json":
		return found(providers.BadPayload, "the answer does not say that it is JSON")
	}
	return nil
}

func found(kind providers.Kind, text string) *providers.Error {
	return &providers.Error{Provider: Name, Kind: kind, Err: errors.New(text)}
}

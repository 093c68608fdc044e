package universe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// fetchTime bounds a download from the first byte to the last: a run
	// waits for it.
	fetchTime = 20 * time.Second
	// maxRedirects is what file hosts need, with room.
	maxRedirects = 5
	// userAgent is sent since some file hosts refuse a program without one.
	userAgent = "alpha-oracle-worker"
)

// CheckSource reports what is wrong with a location of lists: an address begins
// with https://, or with http:// on this machine; anything else without :// in
// it is the path of a file. The error never shows the location, which may hold
// a secret.
func CheckSource(location string) error {
	if !isAddress(location) {
		return nil
	}
	u, err := url.Parse(location)
	switch {
	case err != nil:
		return errors.New("it is no address: want https://host/path, or the path of a file")
	case u.Hostname() == "":
		return errors.New("it names no host: want https://host/path, or the path of a file")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("http:// is for this machine only, since anybody on the way could change the list: write https://")
	}
	return fmt.Errorf("its scheme is %q: want https, or the path of a file", u.Scheme)
}

func isAddress(location string) bool { return strings.Contains(location, "://") }

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// describe names a location without what may be secret: an address without its
// user, path and parameters.
func describe(location string) string {
	if !isAddress(location) {
		return "file " + location
	}
	u, err := url.Parse(location)
	if err != nil {
		return "the source"
	}
	return u.Scheme + "://" + u.Host
}

// Fetch reads the list at location, see [CheckSource] and [Parse]. A download
// has 20 seconds and follows up to five redirects, to https only. The error
// names the file or the host, never the path, the parameters or the user of an
// address.
func Fetch(ctx context.Context, hc *http.Client, location string) ([]market.Symbol, error) {
	read := readFile
	if isAddress(location) {
		read = func(location string) ([]market.Symbol, error) { return download(ctx, hc, location) }
	}
	err := CheckSource(location)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(location), err)
	}
	symbols, err := read(location)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(location), err)
	}
	return symbols, nil
}

func readFile(name string) ([]market.Symbol, error) {
	// Opening a pipe would wait for whoever writes to it.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	file, err := os.Open(name) //nolint:gosec // reading the file that the operator names is the purpose
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return Parse(file)
}

func download(ctx context.Context, hc *http.Client, location string) ([]market.Symbol, error) {
	limited, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	symbols, err := get(limited, hc, location)
	switch {
	case err == nil:
		return symbols, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, fmt.Errorf("no complete answer within %s", fetchTime)
	}
	return nil, err
}

func get(ctx context.Context, hc *http.Client, location string) ([]market.Symbol, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, withoutAddress(err)
	}
	req.Header.Set("User-Agent", userAgent)
	careful := *hc
	careful.CheckRedirect = checkRedirect
	resp, err := careful.Do(req)
	if err != nil {
		return nil, withoutAddress(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered with status %d %s", resp.Request.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return Parse(resp.Body)
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" {
		return fmt.Errorf("it redirects to %s://%s: only https is followed", req.URL.Scheme, req.URL.Host)
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	// It would tell the next host the whole address, parameters included.
	req.Header.Del("Referer")
	return nil
}

// withoutAddress takes off what http.Client puts before an error: the address
// with its parameters.
func withoutAddress(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

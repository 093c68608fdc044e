package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

var errLocalAddress = errors.New("local address refused")

// hardened returns a transport with a bound on every phase. Its idle
// connections live shorter than the usual keep-alive of a server: a call on a
// connection that the server has just closed is lost and yet costs a
// permission.
func hardened(allowLocal bool) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if !allowLocal {
		dialer.Control = refuseLocal
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		IdleConnTimeout:        5 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              protocols,
	}
}

// refuseLocal judges the address that is really dialled, after the name was
// looked up, so a name that leads into the local network does not help.
func refuseLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || isLocal(at.Addr()) {
		return errLocalAddress
	}
	return nil
}

func isLocal(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate()
}

// namesLocal reports whether host is written as a local address.
func namesLocal(host string) bool {
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && isLocal(a)
}

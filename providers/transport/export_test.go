package transport

import "net/http"

// RefuseLocal is the check of a dialled address.
func RefuseLocal(address string) error { return refuseLocal("tcp", address, nil) }

// Hardened is the transport under a client that was given none.
func Hardened(allowLocal bool) *http.Transport { return hardened(allowLocal) }

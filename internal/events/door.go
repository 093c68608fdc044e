package events

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	// Protocol is the WebSocket subprotocol of /ws. A browser that sends its
	// token as another one may offer it beside that, and is answered with it.
	Protocol = "alpha-oracle.events"

	bearerProtocol = "bearer."
)

// refusal is why a request does not get in.
type refusal struct {
	reason string
	status int
	detail string
}

// admit checks who asks: first the page, then the token.
func (h *Hub) admit(r *http.Request) *refusal {
	if origins := r.Header.Values("Origin"); len(origins) > 1 || len(origins) == 1 && !slices.Contains(h.c.Origins, origins[0]) {
		return &refusal{"origin", http.StatusForbidden, "pages of this origin may not connect"}
	}
	if h.c.Token == nil {
		return nil
	}
	want := h.c.Token()
	if want != "" && !slices.ContainsFunc(tokens(r), func(got string) bool { return same(got, want) }) {
		return &refusal{"token", http.StatusUnauthorized, "want the token, as Authorization: Bearer TOKEN or, from a browser, as the subprotocol bearer.TOKEN"}
	}
	return nil
}

// tokens are those that a request holds. The address is no place for one: it
// gets into logs.
func tokens(r *http.Request) (found []string) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		found = append(found, strings.TrimSpace(token))
	}
	for _, offer := range offers(r) {
		if token, ok := strings.CutPrefix(offer, bearerProtocol); ok {
			found = append(found, token)
			// What a subprotocol cannot hold may be percent-encoded.
			if plain, err := url.PathUnescape(token); err == nil && plain != token {
				found = append(found, plain)
			}
		}
	}
	return found
}

func offers(r *http.Request) (all []string) {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			all = append(all, strings.TrimSpace(offer))
		}
	}
	return all
}

// protocols are what is answered to the offers: a browser that has made one
// wants one of them back.
func protocols(r *http.Request) []string {
	all := offers(r)
	if slices.Contains(all, Protocol) {
		return []string{Protocol}
	}
	return slices.DeleteFunc(all, func(offer string) bool { return !strings.HasPrefix(offer, bearerProtocol) })
}

// same compares in a time that tells nothing of the texts.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// refuse answers with problem details (RFC 9457).
func (h *Hub) refuse(w http.ResponseWriter, why *refusal) {
	h.count(why.reason)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	switch why.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "10")
	}
	w.WriteHeader(why.status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(why.status), "status": why.status, "detail": why.detail})
}

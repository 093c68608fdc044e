package ibkr

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/alpha-oracle/worker/providers"
)

// Codes of the gateway that the client knows by number (IB's TWS API
// documentation, message codes).
const (
	codeTooFast          = 100
	codeHistory          = 162
	codeHistoryNote      = 165
	codeExpired          = 166
	codeUnknownContract  = 200
	codeNotAllowed       = 203
	codeUnreadable       = 320
	codeInvalid          = 321
	codeClientID         = 326
	codeNotSubscribed    = 354
	codeRealTime         = 420
	codeOutdated         = 503
	codeNotConnected     = 504
	codeUnknownMessage   = 505
	codeBadMessage       = 509
	codeSocket           = 520
	codeLinkLost         = 1100
	codeLinkBackLost     = 1101 // what was asked before is lost
	codeLinkBack         = 1102
	codePortReset        = 1300
	codeFarmLost         = 2105
	codeFarmBack         = 2106
	codeFarmIdle         = 2107 // back as soon as it is asked
	codeServerLost       = 2110
	codePartlySubscribed = 10089
	codeNoPermission     = 10090
	codeDelayedShown     = 10167
	codeDelayedOff       = 10168
	codeNoTicks          = 10187
	codeRivalSession     = 10197
	codeEndFormat        = 10314
)

const (
	// pacingPause is how long nobody asks after a pacing violation: the length
	// of IB's window.
	pacingPause = 10 * time.Minute
	// ratePause is the same after too many messages or open requests.
	ratePause = time.Minute
	// rivalHold is how long a connection waits for another session of the same
	// user to end.
	rivalHold = time.Minute
	// maxText bounds the part of a gateway's text that an error quotes.
	maxText = 300
)

// verdict is what a code of the gateway means for a request.
type verdict struct {
	kind providers.Kind
	// again says that one more try, under a new id, can help.
	again bool
	// pause holds back all replicas, hold this connection.
	pause, hold time.Duration
	// remedy ends the error.
	remedy string
}

const (
	entitlementRemedy = "the account has no market data subscription or permission for it: see Market Data Subscriptions in IB's Client Portal"
	rivalRemedy       = "log the other session out, or give the worker a user of its own"
)

// judge tells what an error about a request for symbol means. Where data is
// missing for want of a subscription, the kind is NoData and not PremiumOnly: it
// is missing for one exchange or one symbol, and a run must go on to the others.
// For the same reason a request that does not pass the gateway's checks is
// Transient: what the gateway objects to can be the symbol.
func judge(symbol string, code int, text string) verdict {
	switch code {
	case codeHistory:
		return judgeHistory(symbol, text)
	case codeTooFast:
		return verdict{kind: providers.RateLimited, pause: ratePause}
	case codeUnknownContract:
		return verdict{kind: providers.UnknownSymbol}
	case codeExpired:
		return verdict{kind: providers.NoData}
	case codeNotAllowed, codeNotSubscribed, codePartlySubscribed, codeNoPermission, codeDelayedShown, codeDelayedOff:
		return verdict{kind: providers.NoData, remedy: entitlementRemedy}
	case codeUnreadable, codeEndFormat:
		return verdict{kind: providers.Rejected, remedy: "the gateway does not take such requests: update it or the worker"}
	case codeInvalid, codeRealTime:
		return verdict{kind: providers.Transient}
	case codeNoTicks, codeRivalSession:
		return verdict{kind: providers.Transient, again: true, hold: rivalHold, remedy: rivalRemedy}
	}
	return verdict{kind: providers.Transient, again: true}
}

// judgeHistory splits code 162, which stands for many things. The text is in the
// language of the gateway, so what does not depend on it counts as well: the
// names of services, the word IP, and the contract behind a failed query.
func judgeHistory(symbol, text string) verdict {
	lower := strings.ToLower(text)
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(lower, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("pacing", "violation", "violaci"):
		return verdict{kind: providers.RateLimited, pause: pacingPause}
	case has("simult", "gleichzeitig"):
		return verdict{kind: providers.RateLimited, pause: ratePause}
	case isAddressConflict(text):
		return verdict{kind: providers.Transient, again: true, hold: rivalHold, remedy: rivalRemedy}
	case has("permission", "permiso", "permessi", "autoris", "berechtigung", "subscri", "suscri"):
		return verdict{kind: providers.NoData, remedy: entitlementRemedy}
	case has("invalid step"):
		return verdict{kind: providers.Rejected}
	case has("no data", "sin datos", "no devolvi", "keine daten", "aucune donn", "nessun dato"),
		has("hmds") && has(": "+strings.ToLower(symbol)+"@"):
		return verdict{kind: providers.NoData}
	}
	return verdict{kind: providers.Transient, again: true}
}

// isAddressConflict recognizes "Trading TWS session is connected from a
// different IP address" in any language.
func isAddressConflict(text string) bool {
	words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	return slices.Contains(words, "TWS") && slices.Contains(words, "IP")
}

// isNote reports whether a code about a request does not end it.
func isNote(code int) bool {
	return code == codeHistoryNote || code >= 2100 && code < 2200
}

// ends reports whether a code ends the connection.
func ends(code int) bool {
	switch code {
	case codeClientID, codeOutdated, codeNotConnected, codePortReset, codeSocket:
		return true
	}
	return code >= codeUnknownMessage && code <= codeBadMessage
}

// readText makes a gateway's text UTF-8: on Windows it is Latin-1 (IB's TWS API
// documentation), and newer servers escape what is not ASCII.
func readText(raw []byte) string {
	text := string(raw)
	if !utf8.Valid(raw) {
		runes := make([]rune, len(raw))
		for i, b := range raw {
			runes[i] = rune(b)
		}
		text = string(runes)
	}
	return regexp.MustCompile(`\\u[0-9a-fA-F]{4}`).ReplaceAllStringFunc(text, func(escape string) string {
		code, err := strconv.ParseUint(escape[2:], 16, 16)
		if err != nil {
			return escape
		}
		return string(rune(code))
	})
}

// say is a code and its text in an error.
func say(code int, text, remedy string) error {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	if remedy != "" {
		remedy = "; " + remedy
	}
	return fmt.Errorf("gateway: code %d: %q%s", code, text, remedy)
}

// Package events speaks on the Redis channels that this program shares with
// alpha-oracle: typed messages, a subscription that says what it may have
// missed, the state of the feed in system:status, the breaker for stale data,
// and the relay of everything to WebSocket clients.
//
// A channel keeps nothing. A message reaches who listens at that moment, once as
// a rule and never or twice around a lost connection; see [Gap].
package events

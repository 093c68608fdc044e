// Package risk is the worker's share of alpha-oracle's risk controls: the kill
// switch, and the record of day trades.
//
// The kill switch is the row of the table kill_switch; the key risk:kill_switch
// in Redis is its fast copy, which alpha-oracle may have written too. It halts
// trading, not ingestion. Whoever is in doubt takes it for active: docs/adr/0012.
//
// Day trades are the sorted set risk:pdt:trades. Nothing else holds them, so
// nothing here deletes the key, and what still counts is never trimmed.
package risk

// Package idempotency keeps the done-sets in Redis in step with the ledger.
//
// The ledger, in the database, is the truth: a unit is done when the
// transaction that stored its rows has committed. A done-set repeats that for
// other programs and for people who look. So a set that has expired, was
// evicted, flushed, overwritten or comes from before a restore is put right
// when a run starts, and costs nobody a second fetch.
//
// Every set that this package touches has a lifetime afterwards, counted anew
// from then.
package idempotency

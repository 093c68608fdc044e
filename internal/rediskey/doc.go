// Package rediskey is the Redis contract with alpha-oracle: every key and every
// channel that the worker reads or writes, each made in one place. No other
// package spells a key.
//
// [All] is the contract as data, [Table] as the Markdown that the README
// shows, and [Match] finds the line of the contract that a real key belongs to.
//
// Symbols are members of sets, and parts of a key only where the contract says
// so (cache:fundamentals:AAPL). Two different things never share a key.
package rediskey

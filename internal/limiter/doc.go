// Package limiter decides when a call to a provider may go, for all processes
// that share one Redis. In no window that a provider counts does it let more
// calls go than the limit.
//
// # Sliding windows
//
// A limit of L calls in any window of length W is kept by a token bucket of
// capacity C = max(1, L/20) and rate R = 0.98 (L-C)/W; for L = 1 by C = 1 and
// R = 0.98/W. In any window of length W at most C + R W calls start, which is
// 0.02 (L-C) below L. (A bucket of capacity L and rate L/W, the usual choice,
// lets almost 2 L through.) The margin covers calls that reach the provider
// closer together than they started: by up to 0.02 W, 1.2 s of a minute. What
// is used of the limit in the long run is R W / L: 78 % of 5, 86 % of 8, 93 %
// of 20 and more.
//
// What it does not cover is a network that holds several calls back for longer
// and then lets them through together, such as connections that take seconds to
// set up.
//
// # Days
//
// A day window holds L calls from one local midnight to the next and is filled
// up at midnight only. When Redis has lost it, the count of the calls made
// comes from the ledger ([Options].Used); without one the day is closed. A call
// that would have to start after midnight is not booked on the old day; one that
// starts in the last instant before it may reach the provider in the new one.
//
// # Slots
//
// The state of a window is the two keys that alpha-oracle reads too: tokens,
// negative when promised ahead, and last_refill. A caller asks Redis once and
// is given a slot, the time at which its call may start, different from all
// others; it sleeps until then and does not ask again. All windows are booked
// by one script, or none is.
//
// Only Redis' clock counts. A slot is the delay that Redis gave, measured from
// the arrival of its reply on the monotonic clock, so the network can make a
// call later and never earlier.
//
// A process has at most one slot at a time; its other callers queue in the
// order in which they came. So whatever happens to a slot (a killed process, a
// caller that gave up, keys that were deleted, a pause by another process)
// costs or lets through at most one call per process.
//
// # When Redis cannot be asked
//
// Then no call goes: [Limiter.Wait] tries again with growing random pauses and
// gives up after [Options].Patience with [ErrUnavailable]. A request to Redis
// that failed counts as spent, because it may have been carried out. Windows
// that Redis has lost start empty.
//
// Redis Cluster is refused: the two keys of a window are in different slots of
// a cluster, where no script can change both at once.
package limiter

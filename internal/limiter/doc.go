// Package limiter decides when a call to a provider may go, for all processes
// that share one Redis. In no window that a provider counts does it let more
// calls go than the limit, also when processes are killed, when Redis goes away
// or when it loses its keys. docs/limiter.md shows the states, what is not
// covered, and the measured figures.
//
// # Windows
//
// A limit of L calls in any time W is kept by a token bucket of capacity C, the
// [Window].Burst, and rate R = (L-C+1)/(W+M) with the [Window].Margin M. In any
// half-open time W at most L calls start: C at once, and less than L-C+1 more
// while the bucket fills. (Capacity L with rate L/W, the usual choice, lets
// almost 2 L through.) With C = 1, the default, the calls go evenly and
// W/(W+M) of the limit can be used, 98.4 % for a minute; a higher burst costs
// part of that. The margin covers calls that reach the provider closer
// together than they started, by up to [Limiter.Slack].
//
// An exact window keeps the times of its last L calls instead: all of them may
// go at once, and W/(W+M) of the limit can be used.
//
// A day holds L calls from one local midnight to the next and is filled up at
// midnight only. No call starts within two seconds of midnight, since the
// provider's clock and the way there decide to which day it belongs.
//
// All windows are taken from in one script, or none is.
//
// # Slots
//
// A caller gets a slot: a time from which its call may start, different from
// all others. Slots are taken from Redis by the process, as many as it has
// callers and not further ahead than the [Options].Horizon, in one request; at
// the time of a slot the first of those who wait then gets it. So a caller that
// gives up leaves its slot to the next, and an urgent one that comes late goes
// before a hundred that wait. Of the processes that wait for a slow limit each
// is told when it is its turn to ask, so that each call costs one request to
// Redis.
//
// Only Redis' clock counts. A slot is the delay that Redis gave, measured from
// the arrival of its reply on the monotonic clock, so the network can make a
// call later and never earlier. A slot that was not used a moment after its time
// is lost: late calls of one process would meet those of others.
//
// The state of a window is the two keys that alpha-oracle reads too: tokens,
// negative when promised ahead, and last_refill. A program that refills them by
// the plain limit and takes one when there is one shares the limit. An exact
// window shows such a program that it is closed until the last call has left
// it. What else is kept is under rate_limit_ext.
//
// # When something is lost
//
// While Redis cannot be asked, no call goes: callers wait as long as
// [Options].Patience and get [ErrUnavailable]. With [Options].Replicas each
// process goes on with its share of the rate. A request that failed counts as
// spent and is not sent again, because it may have been carried out.
//
// A bucket whose keys are lost or unreadable starts empty and with a debt of
// one horizon, which is more than all slots that may be out. The level of a day
// or of an exact window comes from the ledger, [Options].Used, which is asked
// a moment later, when the calls whose slots were out are in it; without a
// ledger the window counts as full.
//
// A process that is killed costs the slots that it held, at most R times the
// horizon.
//
// Redis Cluster is refused with [ErrCluster]: the two keys of a window are in
// different slots of a cluster, where no script can change both at once.
package limiter

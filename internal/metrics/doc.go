// Package metrics are the figures of a running worker in the form that
// Prometheus scrapes. Counters are told what happens; what the database, Redis
// and the limits hold is read by [Metrics.Keep] every [Every], so that a scrape
// waits for no server.
//
// No label holds a symbol, an address or a text: labels are names of jobs,
// providers, limits and classes, from lists that are given at the start, so the
// number of series does not depend on how much is fetched. A name that is on no
// list counts as "other".
package metrics

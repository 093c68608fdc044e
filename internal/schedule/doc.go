// Package schedule answers, for a job with a cron spec: which periods are due
// now, which were missed and why, and when to look again. It has no clock, no
// I/O and no goroutine. Ticks are only hints; what counts is a journal of
// periods, which the caller keeps.
//
// A tick is a minute that the spec matches on the clocks of its zone:
//
//   - Each matched reading of the clock gives exactly one tick.
//   - A reading that is left out, when the clocks go forward, gives its tick at
//     the first instant after the gap. All of one gap, and the reading at its
//     end, are one tick.
//   - A reading that occurs twice, when the clocks go back, gives its tick the
//     first time only.
//
// In short: a reading ticks when the zone's clock first shows it or a later one.
// robfig/cron is used to read the fields of a spec and for nothing else, since
// its own search leaves out readings of the first kind and doubles those of the
// second.
package schedule

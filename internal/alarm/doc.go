// Package alarm says when somebody has to look at the worker, and tells them:
// by a signed webhook for each kind of trouble, and by a heartbeat that stops
// while bars are late, so that a monitor notices also when nobody is left to
// send an alarm.
//
// What is wrong is decided by pure functions over the journal and the coverage:
// [Deadlines] for late bars, [Lost] for periods, [Plan] for quotas. [Alarms]
// decides when to send what, and [Webhook] and [Heartbeat] send it.
package alarm

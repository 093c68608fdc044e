package store

import (
	"errors"
	"fmt"
	"time"
)

// Actions of the audit that are changes of the kill switch.
const (
	ActivateKillSwitch   = "kill_switch.activate"
	DeactivateKillSwitch = "kill_switch.deactivate"
)

// AuditEntry is a row of ingest_audit: something that was done by hand.
type AuditEntry struct {
	ID int64
	// At is when, in UTC, by the database's clock; SaveAudit does not read it.
	At time.Time
	// Actor is who: a person, or "system".
	Actor string
	// Action is what, as in kill_switch.activate; Detail is why, or the rest.
	Action, Detail string
	// Origin is the way it came in, such as a command line or an address.
	Origin string
}

// CheckAudit refuses an entry that does not say who did what. Texts it can
// always hold, see [Text].
func CheckAudit(e AuditEntry) error {
	if e.Actor == "" || e.Action == "" {
		return fmt.Errorf("audit of %q by %q: want an actor and an action", e.Action, e.Actor)
	}
	return nil
}

// KillSwitch is what the table kill_switch says; the zero value if it has no
// row. Of several rows, which another program may have left, an active one
// counts, else the one with the highest id.
type KillSwitch struct {
	Active bool
	// Activated and Deactivated are in UTC, zero where the table has none.
	Activated, Deactivated time.Time
	// Reason is that of the activation.
	Reason string
	// Pending is the newest change that KillSwitchCopied was not told of; nil if
	// there is none. Another program may have changed the table since.
	Pending *AuditEntry
}

// KillSwitchChange is a change of the kill switch that somebody asks for.
type KillSwitchChange struct {
	Active bool
	// Actor, Reason and Origin go to the audit, and Reason of an activation to
	// the table.
	Actor, Reason, Origin string
	// Since is when it was activated, if that is not now.
	Since time.Time
	// Cooldown is how long after its activation it cannot be deactivated.
	Cooldown time.Duration
}

// Entry is the row of the audit that the change makes.
func (c KillSwitchChange) Entry() AuditEntry {
	action := DeactivateKillSwitch
	if c.Active {
		action = ActivateKillSwitch
	}
	return AuditEntry{Actor: c.Actor, Action: action, Detail: c.Reason, Origin: c.Origin}
}

// Check refuses a change that does not say by whom and why.
func (c KillSwitchChange) Check() error {
	if c.Reason == "" {
		return errors.New("change kill switch: want a reason")
	}
	return CheckAudit(c.Entry())
}

// CooldownError refuses a deactivation that comes too early. Until is zero if
// the table does not know when the switch was activated.
type CooldownError struct{ Until time.Time }

// Error says until when.
func (e *CooldownError) Error() string {
	if e.Until.IsZero() {
		return "nobody knows since when the kill switch is active"
	}
	return "the kill switch was activated a short time ago and stays active until " + e.Until.UTC().Format(time.RFC3339)
}

// Cooled returns a *CooldownError if the change comes too early for the state s.
func (c KillSwitchChange) Cooled(s KillSwitch, now time.Time) error {
	switch {
	case c.Active || !s.Active || c.Cooldown <= 0:
		return nil
	case s.Activated.IsZero():
		return &CooldownError{}
	case now.Before(s.Activated.Add(c.Cooldown)):
		return &CooldownError{s.Activated.Add(c.Cooldown)}
	}
	return nil
}

package risk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// DefaultCooldown is how long an activation lasts at least.
	DefaultCooldown = time.Hour
	// System is the actor of what nobody has asked for.
	System = "system"

	defaultPatience = 5 * time.Second
	// grace is how long a copy may be behind a table that another program has
	// just made inactive: it writes the two one after the other.
	grace = time.Minute
	// cutOff is how long after our own deactivation an active copy is taken for the
	// one that it did not reach.
	cutOff = 5 * time.Minute
	// rounds bounds how often a copy is written that others write too.
	rounds = 5
)

// ErrTable is wrapped by the error of an activation that the table does not
// know of: Redis says active, and that counts.
var ErrTable = errors.New("the table kill_switch was not written")

// ErrCopy is wrapped by the error of a change that the table has, and Redis or
// its listeners may not have. [KillSwitch.Reconcile] makes up for it.
var ErrCopy = errors.New("the table kill_switch is changed, the copy in Redis may not be")

// Table is the truth about the kill switch, as [store.DB] has it.
type Table interface {
	KillSwitch(ctx context.Context) (store.KillSwitch, error)
	ChangeKillSwitch(ctx context.Context, c store.KillSwitchChange) (state store.KillSwitch, changed bool, err error)
	KillSwitchCopied(ctx context.Context, id int64) error
}

// KillSwitch reads and changes the kill switch. It is safe for concurrent use.
type KillSwitch struct {
	Redis redis.UniversalClient
	Table Table
	// Now is the clock that the table's times are compared with.
	Now func() time.Time
	// Patience bounds each question to the table and to Redis; 0 is 5 seconds.
	Patience time.Duration
}

func (k *KillSwitch) patience() time.Duration { return cmp.Or(k.Patience, defaultPatience) }

// State is what is known of the kill switch.
type State struct {
	// Active says that trading is halted: by the copy, or by the table, or
	// because neither can be read.
	Active bool
	Reason string
	// Activated and Deactivated are in UTC, zero if they are not known.
	Activated, Deactivated time.Time
	// Copy and Table are what the two say.
	Copy, Table string
	// Notes tell of what is not as it should be.
	Notes []string
}

// Read asks Redis and the table. It is active if either says so, and also if
// neither can be read: what went wrong is then the reason.
func (k *KillSwitch) Read(ctx context.Context) State {
	h, noCopy := k.look(ctx)
	row, noTable := k.row(ctx)
	s := State{
		Active: h.halts() || row.Active, Reason: row.Reason, Activated: row.Activated, Deactivated: row.Deactivated,
		Copy: h.says, Table: says(row.Active),
	}
	if !row.Active && h.halts() {
		s.Reason, s.Activated = h.reason, h.since
	}
	if noCopy != nil {
		s.Copy = Unreadable
		s.Notes = append(s.Notes, noCopy.Error())
	}
	if noTable != nil {
		s.Table = Unreadable
		s.Notes = append(s.Notes, noTable.Error())
	}
	switch {
	case noTable != nil && (noCopy != nil || h.says == Missing):
		s.Active, s.Reason = true, "it cannot be read, which counts as active: "+errors.Join(noCopy, noTable).Error()
	case h.says == Unclear:
		s.Notes = append(s.Notes, fmt.Sprintf("%s is neither %s nor %s nor JSON that says which: it counts as active", rediskey.KillSwitch, Active, Inactive))
		if !row.Active {
			s.Reason = h.doubt()
		}
	case noCopy == nil && noTable == nil && h.halts() != row.Active:
		s.Notes = append(s.Notes, fmt.Sprintf("Redis says %s, the table says %s", s.Copy, s.Table))
	}
	return s
}

func says(active bool) string {
	if active {
		return Active
	}
	return Inactive
}

func (k *KillSwitch) row(ctx context.Context) (store.KillSwitch, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	return k.Table.KillSwitch(ctx)
}

// Order is who asks for a change, and why.
type Order struct {
	// Actor is a person, or [System].
	Actor string
	// Reason must not be empty.
	Reason string
	// Origin is the way the order came in.
	Origin string
}

// Activate halts trading: in the table with an audit, then in Redis, then for
// all who listen. If it is active, its first time and reason stay; changed is
// then false.
//
// If the table cannot be written the copy is made active all the same, and the
// error wraps [ErrTable]. If Redis cannot, the error wraps [ErrCopy].
func (k *KillSwitch) Activate(ctx context.Context, o Order) (changed bool, err error) {
	c := store.KillSwitchChange{Active: true, Actor: o.Actor, Reason: o.Reason, Origin: o.Origin}
	if err := c.Check(); err != nil {
		return false, err
	}
	changed, err = k.change(ctx, c)
	if err == nil {
		return changed, k.settled(ctx)
	}
	err = fmt.Errorf("%w: %w", ErrTable, err)
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	// One that is active keeps its time and reason here, too.
	h, noCopy := k.look(ctx)
	if noCopy != nil || h.says != Active {
		h.raw = Active
		noCopy = k.Redis.Set(ctx, rediskey.KillSwitch, Active, 0).Err()
	}
	if noCopy != nil {
		return false, errors.Join(err, fmt.Errorf("write %s in Redis: %w", rediskey.KillSwitch, noCopy))
	}
	entry := c.Entry()
	entry.At = k.Now()
	_, untold := k.publish(ctx, h.raw, told(entry))
	return true, errors.Join(err, untold)
}

// Deactivate lets trading go on, in the same order. It is refused by a
// *[store.CooldownError] within cooldown of the activation; 0 is no cooldown.
// An activation that only Redis knows of is written into the table before, so
// that its cooldown counts, from now on if the time is not known.
func (k *KillSwitch) Deactivate(ctx context.Context, o Order, cooldown time.Duration) (changed bool, err error) {
	c := store.KillSwitchChange{Actor: o.Actor, Reason: o.Reason, Origin: o.Origin, Cooldown: cooldown}
	if err := c.Check(); err != nil {
		return false, err
	}
	h, err := k.look(ctx)
	if err != nil {
		return false, err
	}
	row, err := k.row(ctx)
	if err != nil {
		return false, err
	}
	if h.foreign(row) || h.forgotten(row, k.Now()) {
		if err := k.adopt(ctx, h); err != nil {
			return false, err
		}
	}
	if changed, err = k.change(ctx, c); err != nil {
		return false, err
	}
	return changed, k.settled(ctx, h.raw)
}

func (k *KillSwitch) change(ctx context.Context, c store.KillSwitchChange) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	_, changed, err := k.Table.ChangeKillSwitch(ctx, c)
	return changed, err
}

// settled brings the copy in line after a change, see settle.
func (k *KillSwitch) settled(ctx context.Context, known ...string) error {
	if _, err := k.settle(ctx, false, known...); err != nil {
		return fmt.Errorf("%w: %w", ErrCopy, err)
	}
	return nil
}

// Reconcile compares Redis with the table and tells what it has put right:
//
//   - a change of which Redis or its listeners were not told is told now;
//   - an active or unclear copy beside an inactive table is somebody else's
//     activation. It is written into the table and stays until a person
//     deactivates it. In the first minute after the table was made inactive it is
//     left alone, unless it is newer than that: whoever did that is about to write
//     the copy;
//   - whatever else the copy says, it becomes what the table says.
func (k *KillSwitch) Reconcile(ctx context.Context) (done []string, err error) {
	return k.settle(ctx, true)
}

// settle repeats itself until the copy and the table say the same, since both may
// be changed by others at any time. A copy that still is one of the known ones is
// older than the change, whatever it says about itself.
func (k *KillSwitch) settle(ctx context.Context, patient bool, known ...string) (done []string, err error) {
	for range rounds {
		// The copy first: whoever changes both changes the table first, so a copy
		// that is older than the row is found out by swap.
		h, err := k.look(ctx)
		if err != nil {
			return done, err
		}
		row, err := k.row(ctx)
		if err != nil {
			return done, err
		}
		if h.foreign(row) && !slices.Contains(known, h.raw) || patient && h.forgotten(row, k.Now()) {
			if patient && !h.since.After(row.Deactivated) && k.Now().Sub(row.Deactivated).Abs() < grace {
				return done, nil
			}
			if err := k.adopt(ctx, h); err != nil {
				return done, err
			}
			done = append(done, fmt.Sprintf("Redis said %s and the table did not: the table is active now", h.says))
			continue
		}
		if h.says == says(row.Active) {
			told, over, err := k.tell(ctx, h, row)
			done = append(done, told...)
			if err != nil || over {
				return done, err
			}
			continue
		}
		swapped, err := k.swap(ctx, h, says(row.Active))
		if err != nil {
			return done, err
		}
		if swapped {
			known = append(known, says(row.Active)) // nobody else's word
			done = append(done, fmt.Sprintf("Redis said %s: it says %s now, as the table does", h.says, says(row.Active)))
		}
	}
	return done, fmt.Errorf("%s in Redis and the table kill_switch go on being changed by others", rediskey.KillSwitch)
}

// foreign reports whether the copy halts by somebody else's hand: it does, and
// the table neither does nor did until our last change, of which the copy does
// not know yet.
func (h held) foreign(row store.KillSwitch) bool {
	if !h.halts() || row.Active {
		return false
	}
	ours := row.Pending != nil && row.Pending.Action == store.DeactivateKillSwitch
	return !ours || h.since.After(row.Deactivated)
}

// forgotten reports whether the copy halts beside a deactivation of ours that is
// pending for so long that the copy may well be newer.
func (h held) forgotten(row store.KillSwitch, now time.Time) bool {
	return h.halts() && !row.Active && row.Pending != nil && now.Sub(row.Pending.At).Abs() > cutOff
}

// adopt writes an activation that only Redis knows of into the table.
func (k *KillSwitch) adopt(ctx context.Context, h held) error {
	c := store.KillSwitchChange{
		Active: true, Actor: System, Origin: "redis", Since: h.since,
		Reason: cmp.Or(h.reason, "found active in Redis"),
	}
	if h.says == Unclear {
		c.Reason, c.Since = h.doubt(), time.Time{}
	}
	if c.Since.After(k.Now()) {
		c.Since = time.Time{}
	}
	_, err := k.change(ctx, c)
	return err
}

// tell publishes the pending change, unless somebody has changed the table since.
// It is not over if the copy is another one by now.
func (k *KillSwitch) tell(ctx context.Context, h held, row store.KillSwitch) (done []string, over bool, err error) {
	if row.Pending == nil {
		return nil, true, nil
	}
	if row.Active == (row.Pending.Action == store.ActivateKillSwitch) {
		if published, err := k.publish(ctx, h.raw, told(*row.Pending)); !published || err != nil {
			return nil, false, err
		}
		done = []string{"told the listeners of " + row.Pending.Action + " by " + row.Pending.Actor}
	}
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	return done, true, k.Table.KillSwitchCopied(ctx, row.Pending.ID)
}

func told(e store.AuditEntry) change {
	c := change{Action: "deactivate", Reason: e.Detail, Operator: "human", Timestamp: e.At.UTC().Format("2006-01-02T15:04:05.000000Z")}
	if e.Action == store.ActivateKillSwitch {
		c.Action = "activate"
	}
	if e.Actor == System {
		c.Operator = "system"
	}
	return c
}

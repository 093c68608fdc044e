package runner

import "time"

// stalled is after what time without a turn a loop counts as hung: it turns
// every half a minute while it waits, and its answers from the journal are
// waited for no longer than that of a note.
const stalled = 5 * time.Minute

// Stalled returns the tasks whose loops do not turn, though no run is the
// reason for that, in the order of Tasks. Before [Runner.Serve] there are none.
func (r *Runner) Stalled() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, t := range r.Tasks {
		last, begun := r.beats[t.Name]
		if begun && r.busy[t.Name] == 0 && r.Now().Sub(last) > stalled {
			names = append(names, t.Name)
		}
	}
	return names
}

func (r *Runner) beat(t *Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.beats == nil {
		r.beats = map[string]time.Time{}
	}
	r.beats[t.Name] = r.Now()
}

// setBusy counts the runs of a task; the end of one is a turn of its loop.
func (r *Runner) setBusy(t *Task, change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy == nil {
		r.busy = map[string]int{}
	}
	r.busy[t.Name] += change
	if _, begun := r.beats[t.Name]; begun {
		r.beats[t.Name] = r.Now()
	}
}

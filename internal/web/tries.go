package web

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// mostTries is how many wrong tokens an address may send before it is shut
	// out, even with the right one, for tryPenalty after the last.
	mostTries  = 10
	tryPenalty = time.Minute
	// tryWait is how long the answer to a wrong token waits, for each one before.
	tryWait = 25 * time.Millisecond
	// mostAddrs bounds the table; of sampled ones the oldest makes room.
	mostAddrs = 4096
	sampled   = 16
)

// tries counts wrong tokens by address; of IPv6 by the network of 64 bits, which
// one client has for itself.
type tries struct {
	mu   sync.Mutex
	seen map[netip.Addr]failures
}

type failures struct {
	n    int
	last time.Time
}

// judge counts a try. wait is for how long the address is shut out, 0 if it is
// not; n is the number of its wrong tokens.
func (t *tries) judge(addr netip.Addr, right bool, now time.Time) (n int, wait time.Duration) {
	addr = network(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.seen[addr]
	if now.Sub(f.last) >= tryPenalty {
		f = failures{}
	}
	switch {
	case f.n >= mostTries:
		return f.n, tryPenalty - now.Sub(f.last)
	case right:
		return f.n, 0
	}
	t.add(addr, failures{f.n + 1, now})
	return f.n + 1, 0
}

func (t *tries) add(addr netip.Addr, f failures) {
	if t.seen == nil {
		t.seen = map[netip.Addr]failures{}
	}
	if _, known := t.seen[addr]; !known && len(t.seen) >= mostAddrs {
		t.makeRoom()
	}
	t.seen[addr] = f
}

// makeRoom takes out the oldest of a few: who has as many addresses is not kept
// out by a table, and must not keep it busy.
func (t *tries) makeRoom() {
	var oldest netip.Addr
	looked := 0
	for addr, f := range t.seen { // in an order that nobody knows
		if looked == 0 || f.last.Before(t.seen[oldest].last) {
			oldest = addr
		}
		if looked++; looked == sampled {
			break
		}
	}
	delete(t.seen, oldest)
}

func network(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}

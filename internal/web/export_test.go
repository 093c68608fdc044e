package web

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// Gate is what the server serves, for tests without a network.
func (s *Server) Gate() http.Handler { return s.gate() }

// RunChecks runs the checks until ctx ends, and returns when none is left.
func (s *Server) RunChecks(ctx context.Context) { s.monitor.run(ctx) }

// JudgeMany judges wrong tokens from n addresses and returns how many are
// remembered.
func JudgeMany(n int, now time.Time) int {
	var t tries
	for i := range n {
		t.judge(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), false, now)
	}
	return len(t.seen)
}

// AdmitMany admits n starts with keys of their own and returns how many keys are
// remembered.
func AdmitMany(n int, now time.Time) int {
	var a admissions
	for i := range n {
		a.admit("job", time.Duration(i).String(), "", now.Add(time.Duration(i)*between))
	}
	return len(a.keys)
}

package testenv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// attributes make the program run as owner and be sent sig when the test
// binary dies.
func attributes(owner *syscall.Credential, sig syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Pdeathsig: sig}
}

// children lists the processes that pid has started.
func children(pid int) []int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}

	var found []int
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // gone by now
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && parent(stat) == pid {
			found = append(found, child)
		}
	}
	return found
}

// parent reads the parent from a line of proc(5) such as "7 (a b) S 1 ...": the
// name in parentheses may hold anything, also parentheses.
func parent(stat []byte) int {
	var (
		state string
		ppid  int
	)
	_, _ = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &ppid)
	return ppid
}

//go:build !linux

package testenv

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// attributes make the program run as owner. Only Linux can end it together
// with a test binary that is killed.
func attributes(owner *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner}
}

// children lists the processes that pid has started.
func children(pid int) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output() //nolint:noctx // takes milliseconds
	if err != nil {
		return nil
	}

	var found []int
	for line := range strings.Lines(string(out)) {
		var child, parent int
		if _, err := fmt.Sscan(line, &child, &parent); err == nil && parent == pid {
			found = append(found, child)
		}
	}
	return found
}

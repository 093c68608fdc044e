//go:build !linux && !darwin

package main

import "errors"

// freeSpace is what this user can still write below a directory, in bytes.
func freeSpace(string) (uint64, error) { return 0, errors.ErrUnsupported }

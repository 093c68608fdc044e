// Package bench measures the figures that this project promises, each beside
// its limit in the same run, and prints them. Its programs are tests under the
// build tag "bench", here and in cmd/worker: make bench runs them.
package bench

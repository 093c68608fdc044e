// Package market holds the words that every other package uses: symbols,
// dates, ISO weeks, bars and the calendar of the New York Stock Exchange. It
// knows no technology and never asks what time it is.
package market

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
)

// decode says in words what the value of a key means, where it is not plain.
func (a *app) decode(ctx context.Context, s *services, k keyInfo) ([]string, error) {
	name, isLimit := strings.CutPrefix(k.Key, "rate_limit:")
	switch {
	case isLimit && k.Type == "string":
		return a.decodeLimit(ctx, s, name, k)
	case k.Key == rediskey.PDTTrades && k.Type == "zset":
		return a.decodeDayTrades(ctx, s)
	case k.Key == rediskey.KillSwitch:
		state := a.killSwitch(s, nil).Read(ctx)
		if state.Active {
			return []string{"trading is halted: " + cmp.Or(printable(state.Reason), "no reason is given")}, nil
		}
		return []string{"trading is not halted"}, nil
	}
	return nil, nil
}

func (a *app) decodeDayTrades(ctx context.Context, s *services) ([]string, error) {
	trades, err := risk.DayTrades{Redis: s.rdb, Calendar: market.NYSE(), Now: a.now}.List(ctx)
	if err != nil {
		return nil, err
	}
	lines := make([]string, 0, len(trades))
	for _, t := range trades[:min(len(trades), shownMembers)] {
		line := dateOfScore(t.Score) + " " + printable(t.Symbol)
		if !t.Counts {
			line += ", counts no longer"
		}
		if t.Note != "" {
			line += ": " + t.Note
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// dateOfScore is the date of an ordinal.
func dateOfScore(score float64) string {
	if score != math.Trunc(score) || score < 1 || score > float64(market.NewDate(9999, time.December, 31)) {
		return fmt.Sprintf("score %v, no date,", score)
	}
	return market.Date(score).String()
}

// decodeLimit says how many calls of a rate limit may go now, and from when on
// the next one, if its limits are those of the configuration.
func (a *app) decodeLimit(ctx context.Context, s *services, name string, k keyInfo) ([]string, error) {
	name, part, _ := strings.Cut(name, ":")
	var lines []string
	text, _ := k.Value.(string)
	if at, err := strconv.ParseFloat(text, 64); part == "last_refill" && err == nil && at > 0 && at < 1e11 {
		lines = append(lines, "tokens are counted as of "+time.UnixMicro(int64(at*1e6)).UTC().Format(time.RFC3339Nano))
	}
	for _, q := range append(a.barQuotas(), a.edgarQuota(), a.finraQuota()) {
		if name != q.window.Name && (q.perDay == 0 || name != q.provider+dayWindow) {
			continue
		}
		limits, err := a.limitsOf(s, q)
		if err != nil {
			return nil, err
		}
		levels, err := limits.Levels(ctx)
		if err != nil {
			return nil, fmt.Errorf("read limit: %w", err)
		}
		for _, l := range levels {
			if l.Name == name && l.Known {
				lines = append(lines, a.nextCall(l.Tokens, limits.Rate()*l.Share, l.Limit, l.Reset))
			}
		}
	}
	return lines, nil
}

// nextCall is when the next call may go in a window with these tokens.
func (a *app) nextCall(tokens, perSecond float64, limit int, reset time.Time) string {
	left := fmt.Sprintf("%.2f tokens now (limit %d): ", tokens, limit)
	switch {
	case tokens >= 1:
		return left + "the next call may go now"
	case !reset.IsZero():
		return left + "the next call may go when the day starts anew, at " + reset.UTC().Format(time.RFC3339)
	}
	wait := time.Duration((1 - tokens) / perSecond * float64(time.Second))
	return left + "the next call may go at " + a.now().Add(wait).UTC().Format(time.RFC3339Nano)
}

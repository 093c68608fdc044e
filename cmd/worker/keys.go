package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/idempotency"
	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/jobs/dailybars"
	"github.com/alpha-oracle/worker/jobs/fundamentals"
)

const (
	// scanStep is how many keys one SCAN looks at.
	scanStep = 500
	// shownMembers bounds what keys show prints of one key.
	shownMembers = 1000
	// rebuiltRuns is how many of the newest runs are looked at for periods
	// whose done-set would still be alive in a server.
	rebuiltRuns = 200
)

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Look at the keys that the worker shares with alpha-oracle in Redis, or clear its own",
		Example: `  worker keys list
  worker keys show jobs:daily_bars:2026-03-12:done --json
  worker keys clear --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.helpThenUsage(cmd, "name one of list, show, clear")
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "The keys that exist, by meaning, with type, size, TTL and owner",
			Long: `Lists the keys under the prefixes of the contract, and says which have a wrong type,
expire although they must not, or are not part of it. It only scans, in small steps.`,
			Example: "  worker keys list", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.withServices(cmd.Context(), a.listKeys)
			},
		},
		&cobra.Command{
			Use: "show KEY", Short: "One key: meaning, type, TTL and value",
			Example: "  worker keys show jobs:daily_bars:2026-03-12:done", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.withServices(cmd.Context(), func(ctx context.Context, s *services) error {
					return a.showKey(ctx, s, args[0])
				})
			},
		},
		a.clearCommand())
	return cmd
}

// keyInfo describes one key.
type keyInfo struct {
	Key     string `json:"key"`
	Type    string `json:"type"`
	TTL     *int64 `json:"ttl_seconds,omitempty"`
	Meaning string `json:"meaning"`
	// Pattern is the key's line in the contract, Owner who writes it; both are
	// empty for one that has none.
	Pattern string `json:"pattern,omitempty"`
	Owner   string `json:"owner,omitempty"`
	// Size is the number of members, of a string that of bytes.
	Size int64 `json:"size"`
	// Problem is what is not as the contract says.
	Problem string `json:"problem,omitempty"`
	// Decoded is the value in words, where it is not plain.
	Decoded []string `json:"decoded,omitempty"`
	// Members is how many a set, sorted set, list or hash has. Truncated
	// tells that Value does not show all of them.
	Members   *int64 `json:"members,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
	Value     any    `json:"value,omitempty"`
}

// scored is a member of a sorted set. Score is a number, or for an infinite
// one, which JSON does not have, its name.
type scored struct {
	Member string `json:"member"`
	Score  any    `json:"score"`
}

func (a *app) listKeys(ctx context.Context, s *services) error {
	if err := s.rebuildEmbedded(ctx, a.now()); err != nil {
		return err
	}
	infos, err := contractKeys(ctx, s.rdb)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(infos)
	}
	t := a.newTable("key", "type", "size", "expires in", "meaning", "problem")
	for i, k := range infos {
		meaning := ""
		if i == 0 || infos[i-1].Pattern != k.Pattern {
			t.AppendSeparator()
			meaning = k.Meaning
			if k.Owner != "" {
				meaning += " (written by " + k.Owner + ")"
			}
		}
		t.AppendRow(table.Row{printable(k.Key), k.Type, k.Size, expiry(k.TTL), meaning, k.Problem})
	}
	a.printf("%s\n", t.Render())
	return nil
}

// contractKeys describes all keys under the prefixes of the contract, in its
// order, and those that have no line in it last.
func contractKeys(ctx context.Context, rdb *redis.Client) ([]keyInfo, error) {
	names, err := scanKeys(ctx, rdb, prefixes())
	if err != nil {
		return nil, err
	}
	infos, err := describe(ctx, rdb, names)
	if err != nil {
		return nil, err
	}
	place := map[string]int{"": math.MaxInt}
	for i, e := range rediskey.All() {
		if e.Type != rediskey.TypeChannel {
			place[e.Pattern] = i
		}
	}
	slices.SortStableFunc(infos, func(x, y keyInfo) int { return cmp.Compare(place[x.Pattern], place[y.Pattern]) })
	return infos, nil
}

// prefixes are the first parts of all keys of the contract.
func prefixes() []string {
	var found []string
	for _, e := range rediskey.All() {
		if e.Type == rediskey.TypeChannel {
			continue
		}
		first, _, _ := strings.Cut(e.Pattern, ":")
		found = append(found, first+":")
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// scanKeys returns the names of the keys that begin with one of the prefixes, in
// order. It walks over the keys of the server once, in small steps.
func scanKeys(ctx context.Context, rdb *redis.Client, prefixes []string) ([]string, error) {
	found := map[string]struct{}{} // SCAN may give a key twice
	scan := rdb.Scan(ctx, 0, globOf(prefixes), scanStep).Iterator()
	for scan.Next(ctx) {
		key := scan.Val()
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			found[key] = struct{}{}
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("scan Redis: %w", err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// globOf is a pattern that whatever has one of the prefixes matches, and little
// else: Redis has no alternatives in patterns, and one for each prefix would walk
// over all keys as often.
func globOf(prefixes []string) string {
	shortest := len(slices.MinFunc(prefixes, func(x, y string) int { return len(x) - len(y) }))
	var glob strings.Builder
	for i := range shortest - 1 {
		var letters []byte
		for _, p := range prefixes {
			letters = append(letters, p[i])
		}
		slices.Sort(letters)
		glob.WriteString("[" + string(slices.Compact(letters)) + "]")
	}
	return glob.String() + "*:*"
}

// noPermission is how Redis begins a refusal.
const noPermission = "NOPERM"

// describe asks for many keys at a time. A key that has gone meanwhile is left
// out.
func describe(ctx context.Context, rdb *redis.Client, names []string) ([]keyInfo, error) {
	infos := make([]keyInfo, 0, len(names))
	for some := range slices.Chunk(names, scanStep) {
		kinds, ttls := make([]*redis.StatusCmd, len(some)), make([]*redis.DurationCmd, len(some))
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range some {
				kinds[i], ttls[i] = p.Type(ctx, key), p.TTL(ctx, key)
			}
			return nil
		})
		if err != nil && !redis.HasErrorPrefix(err, noPermission) {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		first := len(infos)
		for i, key := range some {
			kind, err := kinds[i].Result()
			switch {
			case redis.HasErrorPrefix(err, noPermission):
				infos = append(infos, hiddenKey(key))
			case err != nil:
				return nil, fmt.Errorf("read keys: %w", err)
			case kind != "none":
				infos = append(infos, newKeyInfo(key, kind, ttls[i].Val()))
			}
		}
		if err := measure(ctx, rdb, infos[first:]); err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
	}
	return infos, nil
}

// hiddenKey is a key that the worker's user of Redis may not look at.
func hiddenKey(key string) keyInfo {
	info := newKeyInfo(key, "hidden", -1)
	info.Problem = "the user of SA_REDIS__URL may not look at it"
	return info
}

func newKeyInfo(key, kind string, ttl time.Duration) keyInfo {
	info := keyInfo{Key: key, Type: kind, Meaning: "not part of the contract"}
	if ttl >= 0 { // negative: it has none
		seconds := int64(ttl / time.Second)
		info.TTL = &seconds
	}
	entry, ok := rediskey.Match(key)
	if !ok {
		if slices.ContainsFunc(prefixes(), func(p string) bool { return strings.HasPrefix(key, p) }) {
			info.Problem = "its prefix is reserved for the keys of the contract"
		}
		return info
	}
	info.Meaning, info.Pattern, info.Owner = entry.Meaning, entry.Pattern, entry.Writer
	switch want := entry.RedisType(); {
	case want != "" && kind != want:
		info.Problem = "its type is " + kind + ", the contract says " + want
	case entry.Stays() && info.TTL != nil:
		info.Problem = "it expires, which it must not"
	}
	return info
}

// measure fills in the sizes, in one round trip and with commands that take the
// same time for every size.
func measure(ctx context.Context, rdb *redis.Client, infos []keyInfo) error {
	sizes := make([]*redis.IntCmd, len(infos))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range infos {
			switch k.Type {
			case "string":
				sizes[i] = p.StrLen(ctx, k.Key)
			case "set":
				sizes[i] = p.SCard(ctx, k.Key)
			case "zset":
				sizes[i] = p.ZCard(ctx, k.Key)
			case "list":
				sizes[i] = p.LLen(ctx, k.Key)
			case "hash":
				sizes[i] = p.HLen(ctx, k.Key)
			case "stream":
				sizes[i] = p.XLen(ctx, k.Key)
			}
		}
		return nil
	})
	for i, size := range sizes {
		if size != nil {
			infos[i].Size = size.Val()
		}
	}
	// One of them may be of another type by now, or of one that the worker has no
	// need for.
	if redis.HasErrorPrefix(err, "WRONGTYPE") || redis.HasErrorPrefix(err, noPermission) {
		return nil
	}
	return err
}

func expiry(ttl *int64) string {
	if ttl == nil {
		return "never"
	}
	return (time.Duration(*ttl) * time.Second).String()
}

func (a *app) showKey(ctx context.Context, s *services, key string) error {
	if err := s.rebuildEmbedded(ctx, a.now()); err != nil {
		return err
	}
	found, err := describe(ctx, s.rdb, []string{key})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("there is no key %q; worker keys list shows those that exist", key)
	}
	info := found[0]
	if err := info.read(ctx, s.rdb); err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	if info.Decoded, err = a.decode(ctx, s, info); err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(info)
	}
	a.printf("%s\n  meaning  %s\n  type     %s\n  expires  %s\n", printable(info.Key), info.Meaning, info.Type, expiry(info.TTL))
	if info.Owner != "" {
		a.printf("  owner    %s\n", info.Owner)
	}
	if info.Problem != "" {
		a.printf("  problem  %s\n", info.Problem)
	}
	for _, line := range info.Decoded {
		a.printf("  means    %s\n", line)
	}
	a.printValue(info)
	return nil
}

func (a *app) printValue(k keyInfo) {
	lines := k.lines()
	if k.Members == nil {
		a.printf("  value    %s\n", lines[0])
		return
	}
	some := ""
	if k.Truncated {
		some = fmt.Sprintf(", of which %d are shown", len(lines))
	}
	a.printf("  members  %d%s\n", *k.Members, some)
	for _, line := range lines {
		a.printf("%s\n", line)
	}
}

// lines is the value in words: one line for each member.
func (k keyInfo) lines() []string {
	var lines []string
	switch value := k.Value.(type) {
	case string:
		lines = append(lines, printable(value))
	case []string:
		for _, member := range value {
			lines = append(lines, printable(member))
		}
	case []scored:
		for _, member := range value {
			lines = append(lines, fmt.Sprintf("%s  %v", printable(member.Member), member.Score))
		}
	case map[string]string:
		for _, field := range slices.Sorted(maps.Keys(value)) {
			lines = append(lines, printable(field)+"  "+printable(value[field]))
		}
	}
	return lines
}

// printable quotes what a terminal would take for something else than text:
// anybody may have written it.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}

// read fills in the value, or as much of it as is shown.
func (k *keyInfo) read(ctx context.Context, rdb *redis.Client) error {
	var (
		count *redis.IntCmd
		shown int
		err   error
	)
	switch k.Type {
	case "string":
		k.Value, err = rdb.Get(ctx, k.Key).Result()
		return err
	case "set":
		var members []string
		members, err = someMembers(ctx, rdb, k.Key)
		count, shown, k.Value = rdb.SCard(ctx, k.Key), len(members), members
	case "zset":
		var members []scored
		members, err = lowestMembers(ctx, rdb, k.Key)
		count, shown, k.Value = rdb.ZCard(ctx, k.Key), len(members), members
	case "list":
		var items []string
		items, err = rdb.LRange(ctx, k.Key, 0, shownMembers-1).Result()
		count, shown, k.Value = rdb.LLen(ctx, k.Key), len(items), items
	case "hash":
		var fields map[string]string
		fields, err = someFields(ctx, rdb, k.Key)
		count, shown, k.Value = rdb.HLen(ctx, k.Key), len(fields), fields
	default:
		return fmt.Errorf("its type %s is none that the worker reads", k.Type)
	}
	members, countErr := count.Result()
	k.Members, k.Truncated = &members, members > int64(shown)
	return errors.Join(err, countErr)
}

// someMembers returns members of a set, sorted. SCAN's pages have no fixed
// length and may repeat a member.
func someMembers(ctx context.Context, rdb *redis.Client, key string) ([]string, error) {
	members := map[string]struct{}{}
	scan := rdb.SScan(ctx, key, 0, "", scanStep).Iterator()
	for len(members) < shownMembers && scan.Next(ctx) {
		members[scan.Val()] = struct{}{}
	}
	return slices.Sorted(maps.Keys(members)), scan.Err()
}

func someFields(ctx context.Context, rdb *redis.Client, key string) (map[string]string, error) {
	fields := map[string]string{}
	scan := rdb.HScan(ctx, key, 0, "", scanStep).Iterator()
	for len(fields) < shownMembers && scan.Next(ctx) {
		field := scan.Val()
		if scan.Next(ctx) {
			fields[field] = scan.Val()
		}
	}
	return fields, scan.Err()
}

func lowestMembers(ctx context.Context, rdb *redis.Client, key string) ([]scored, error) {
	found, err := rdb.ZRangeWithScores(ctx, key, 0, shownMembers-1).Result()
	members := make([]scored, len(found))
	for i, z := range found {
		members[i] = scored{fmt.Sprint(z.Member), z.Score}
		if math.IsInf(z.Score, 0) {
			members[i].Score = fmt.Sprint(z.Score)
		}
	}
	return members, err
}

// rebuildEmbedded fills the Redis inside this process, which starts empty,
// with the done-sets that would still be alive in a server.
func (s *services) rebuildEmbedded(ctx context.Context, now time.Time) error {
	if !s.embeddedRedis {
		return nil
	}
	sets := idempotency.New(s.rdb, s.db)
	if err := s.rebuildSets(ctx, dailybars.Name, now.Add(-rediskey.DailyBarsTTL), func(period string) *idempotency.Set {
		if session, err := market.ParseDate(period); err == nil {
			return sets.DailyBars(session)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := s.rebuildSets(ctx, fundamentals.Name, now.Add(-rediskey.FundamentalsTTL), func(period string) *idempotency.Set {
		if week, err := market.ParseWeek(period); err == nil {
			return sets.Fundamentals(week)
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := sets.Backfill().Rebuild(ctx); err != nil {
		return err
	}
	_, _, err := idempotency.NewLastRun(s.rdb, s.db).Get(ctx)
	return err
}

// rebuildSets fills the done-sets of a job's runs that were active since then.
func (s *services) rebuildSets(ctx context.Context, job string, since time.Time, setOf func(period string) *idempotency.Set) error {
	runs, err := s.db.Runs(ctx, job, rebuiltRuns)
	if err != nil {
		return err
	}
	rebuilt := map[string]bool{}
	for _, r := range runs {
		set := setOf(r.Period)
		if set == nil || rebuilt[r.Period] || lastActive(r).Before(since) {
			continue
		}
		rebuilt[r.Period] = true
		if _, err := set.Rebuild(ctx); err != nil {
			return err
		}
	}
	return nil
}

func lastActive(r store.RunInfo) time.Time {
	if r.Finished.IsZero() {
		return r.Started
	}
	return r.Finished
}

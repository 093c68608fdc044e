package limiter

import (
	"embed"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/rediskey"
)

const (
	// guard is how far from a day's reset no call starts: the provider's
	// clock and the way there decide on which side it is counted.
	guard = 2 * time.Second
	// longestLine bounds the advice on when to ask again.
	longestLine = 10 * time.Minute
	// slower is what a pause leaves of the rates, lowestShare the least
	// that all pauses leave, and recovery what comes back a second: 2 % of
	// the configured rate a minute.
	slower      = 0.7
	lowestShare = 0.1
	recovery    = 0.02 / 60
)

//go:embed *.lua
var sources embed.FS

// scripts are the limiter's Lua programs, written for its windows.
type scripts struct{ take, pause, exhaust, refund, levels *redis.Script }

func newScripts(windows []window, o Options) scripts {
	all := template.Must(template.ParseFS(sources, "*.lua"))
	days := daysOf(windows)
	script := func(name string, windows []window, own int) *redis.Script {
		return redis.NewScript(source(all, name, windows, o, own))
	}
	return scripts{
		take:    script("take.lua", windows, 6),
		pause:   script("pause.lua", windows[:1], 1),
		exhaust: script("exhaust.lua", days, 0),
		refund:  script("refund.lua", days, 2),
		levels:  script("levels.lua", windows, 0),
	}
}

// luaWindow is a window as the templates see it. Numbers are Lua literals.
type luaWindow struct {
	I                        int // from 1
	Tokens, Last             int // in KEYS and in what was held
	Bucket, Exact, Day, Long bool
	Rate, Plain              string
	Capacity, Cold, Deepest  string
	Limit, Reserve           int
	Span                     string
	SeenKey, ListKey         string
	Seen                     int
}

// program is what the templates see.
type program struct {
	Windows                             []luaWindow
	Days, Arguments, Fast, ReadOnly     bool
	Own                                 int // arguments before those of the windows
	Clock, Trace, TraceNow              string
	ShareKey, LineKey                   string
	ShareIndex                          int
	HorizonSeconds, Guard, LongestPause string
	LongestLine                         string
	Slower, LowestShare, Recovery       string
	Rate, Plain, Capacity, Deepest      string // of the only window
}

// source returns the text of one script for the windows; own is the number of
// arguments that come before those of the windows.
func source(all *template.Template, name string, windows []window, o Options, own int) string {
	if len(windows) == 0 {
		return ""
	}
	p := newProgram(windows, o, own)
	p.ReadOnly = name == "levels.lua"
	var text strings.Builder
	if err := all.ExecuteTemplate(&text, name, p); err != nil {
		panic(err) // the templates are part of the program
	}
	return text.String()
}

func newProgram(windows []window, o Options, own int) program {
	p := program{
		Own: own, Clock: o.clock,
		ShareKey: o.keys.Extension("share"), LineKey: o.keys.Extension("line."),
		HorizonSeconds: seconds(o.Horizon), Guard: seconds(guard),
		LongestPause: seconds(maxPause), LongestLine: seconds(longestLine),
		Slower: number(slower), LowestShare: number(lowestShare), Recovery: number(recovery),
	}
	if o.Trace > 0 {
		p.Trace, p.TraceNow = trace(o.keys, o.Trace, "now + delay"), trace(o.keys, o.Trace, "now")
	}
	for i, w := range windows {
		p.Windows = append(p.Windows, newLuaWindow(i, w, o))
		p.Days = p.Days || w.Daily != nil
		p.Arguments = p.Arguments || w.Daily != nil || w.Exact
	}
	p.ShareIndex = 2*len(windows) + 1
	for i := range p.Windows {
		if p.Windows[i].Exact {
			p.Windows[i].Seen = p.ShareIndex
			p.ShareIndex++
		}
	}
	only := p.Windows[0]
	p.Fast = len(windows) == 1 && only.Bucket
	p.Rate, p.Plain, p.Capacity, p.Deepest = only.Rate, only.Plain, only.Capacity, only.Deepest
	return p
}

func newLuaWindow(i int, w window, o Options) luaWindow {
	return luaWindow{
		I: i + 1, Tokens: 2*i + 1, Last: 2*i + 2,
		Bucket: w.Daily == nil && !w.Exact, Exact: w.Exact, Day: w.Daily != nil, Long: w.Exact && w.Length >= longWindow,
		Rate: number(w.rate), Plain: number(w.plain()), Capacity: number(w.capacity),
		Cold: number(-w.plain() * o.Horizon.Seconds()), Deepest: number(-w.deepest(o.Horizon)),
		Limit: w.Limit, Reserve: w.Reserve, Span: seconds(w.Length + w.Margin),
		SeenKey: w.keys.Extension("seen"), ListKey: w.keys.Extension("calls"),
	}
}

// trace is the Lua that notes a slot, given in seconds, and keeps the newest n.
func trace(keys rediskey.LimiterKeys, n int, slot string) string {
	key := "'" + keys.Extension("trace") + "'"
	return "call('RPUSH', " + key + ", string.format('%.0f', (" + slot + ") * 1000000)) " +
		"call('LTRIM', " + key + ", -" + strconv.Itoa(n) + ", -1)"
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

func seconds(d time.Duration) string { return number(d.Seconds()) }

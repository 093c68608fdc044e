package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"go.uber.org/zap/zapcore"

	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/universe"
	"github.com/alpha-oracle/worker/providers/alphavantage"
	"github.com/alpha-oracle/worker/providers/edgar"
	"github.com/alpha-oracle/worker/providers/massive"
	"github.com/alpha-oracle/worker/providers/tiingo"
)

const envPrefix = "SA_"

// setting is one row of the configuration: its name in the environment, from
// which its key in the file follows, its default and its meaning.
type setting struct {
	env, standard, meaning string
	// secret values may also be read from the file that env+"_FILE" names.
	secret bool
	// list values may be a list in the file.
	list bool
}

// key returns the setting's path in the configuration file:
// SA_DATA__UNIVERSE__SYMBOLS is data.universe.symbols.
func (s setting) key() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.env, envPrefix), "__", "."))
}

func settings() []setting {
	return []setting{
		{env: "SA_REDIS__URL", meaning: "Redis, redis:// or rediss://; empty: one inside the process", secret: true},
		{env: "SA_DATABASE__URL", meaning: "Postgres, postgres:// or postgresql://; empty: a SQLite file", secret: true},
		{env: "SA_DATABASE__MIGRATE", standard: "true", meaning: "false: only worker migrate changes the schema; what else needs a newer one refuses to start"},
		{env: "SA_DATA_DIR", standard: "./data", meaning: "directory of the embedded files"},
		{env: "SA_ALPHA_VANTAGE_API_KEY", meaning: "Alpha Vantage's key", secret: true},
		{env: "SA_DATA__ALPHA_VANTAGE__BASE_URL", standard: "https://www.alphavantage.co", meaning: "Alpha Vantage, or a simulator of it"},
		{env: "SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE", standard: "5", meaning: "calls in any 60 seconds"},
		{env: "SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY", standard: "25", meaning: "calls from midnight to midnight in New York; 0: no day limit (a premium key)"},
		{env: "SA_DATA__ALPHA_VANTAGE__FUNDAMENTALS", standard: "overview", meaning: "what one symbol's fundamentals cost: overview, and for a call more each, earnings and balance_sheet", list: true},
		{env: "SA_DATA__EDGAR__USER_AGENT", meaning: "name and contact address, which the SEC asks for: Example Research admin@example.com; empty: no facts from the SEC"},
		{env: "SA_DATA__EDGAR__BASE_URL", standard: "https://www.sec.gov", meaning: "the SEC's files, or a simulator of them"},
		{env: "SA_DATA__EDGAR__DATA_BASE_URL", standard: "https://data.sec.gov", meaning: "the SEC's figures, or a simulator of them"},
		{env: "SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND", standard: "8", meaning: "calls to the SEC in any second, of all hosts together; it blocks above 10"},
		{env: "SA_DATA__FINRA__BASE_URL", standard: "https://api.finra.org", meaning: "FINRA's data, or a simulator of them"},
		{env: "SA_DATA__FINRA__RATE_LIMIT_PER_MINUTE", standard: "60", meaning: "calls to FINRA in any 60 seconds"},
		{env: "SA_DATA__BARS__SOURCES", meaning: "the sources of bars, the preferred first: alpha_vantage, massive, tiingo, ibkr; empty: those of the first three that have a key", list: true},
		{env: "SA_DATA__BARS__CROSS_CHECK_PERCENT", standard: "0", meaning: "share of the calls for daily bars that is spent again on asking a second source, to compare; 0: none"},
		{env: "SA_MASSIVE_API_KEY", meaning: "Massive's key", secret: true},
		{env: "SA_DATA__MASSIVE__BASE_URL", standard: "https://api.massive.com", meaning: "Massive, or a simulator of it"},
		{env: "SA_DATA__MASSIVE__RATE_LIMIT_PER_MINUTE", standard: "5", meaning: "calls to Massive in any 60 seconds"},
		{env: "SA_DATA__MASSIVE__YEARS", standard: "2", meaning: "how many years of history Massive's plan holds"},
		{env: "SA_TIINGO_API_KEY", meaning: "Tiingo's key", secret: true},
		{env: "SA_DATA__TIINGO__BASE_URL", standard: "https://api.tiingo.com", meaning: "Tiingo, or a simulator of it"},
		{env: "SA_DATA__TIINGO__RATE_LIMIT_PER_HOUR", standard: "50", meaning: "calls to Tiingo in any 60 minutes"},
		{env: "SA_DATA__TIINGO__RATE_LIMIT_PER_DAY", standard: "1000", meaning: "calls to Tiingo from midnight to midnight in New York; 0: no day limit"},
		{env: "SA_BROKER__IBKR__HOST", standard: "127.0.0.1", meaning: "where TWS or IB Gateway is"},
		{env: "SA_BROKER__IBKR__PORT", standard: "4002", meaning: "its API socket"},
		{env: "SA_BROKER__IBKR__CLIENT_ID", standard: "1", meaning: "the trading system's client id; the worker's own is one above it"},
		{env: "SA_BROKER__IBKR__RATE_LIMIT_PER_SECOND", standard: "2", meaning: "requests for bars in any second"},
		{env: "SA_BROKER__IBKR__VOLUME_IN_LOTS", standard: "false", meaning: "true if the gateway counts volumes in lots of 100 shares"},
		{env: "SA_DATA__UNIVERSE__SYMBOLS", standard: "sp500", meaning: "sp500, a comma list, or @file", list: true},
		{env: "SA_DATA__UNIVERSE__SP500_SOURCE", meaning: "where the list of the S&P 500 is when Redis has none: an https:// address or a file, with JSON, CSV or one symbol a line; empty: the last good list, else the built-in one", secret: true},
		{env: "SA_SCHEDULER__ENABLED", standard: "true", meaning: "false: worker serve refuses to start"},
		{env: "SA_SCHEDULER__TIMEZONE", standard: "America/New_York", meaning: "the zone of the schedules"},
		{env: "SA_SCHEDULER__DAILY_BARS_CRON", standard: "30 18 * * 1-5", meaning: "when the newest session's bars are asked for first; five fields, 0 and 7 are Sunday"},
		{env: "SA_SCHEDULER__WEEKLY_FUNDAMENTALS_CRON", standard: "0 6 * * 6", meaning: "when the ISO week's fundamentals are"},
		{env: "SA_SCHEDULER__BIWEEKLY_ALTDATA_CRON", standard: "0 7 1,15 * *", meaning: "when alternative data are"},
		{env: "SA_RISK__KILL_SWITCH__COOLDOWN_MINUTES", standard: "60", meaning: "how long the kill switch stays active at least, unless it is deactivated with --force"},
		{env: "SA_ALARM__WEBHOOK_URL", meaning: "where alarms are sent to, by POST; empty: only to the log", secret: true},
		{env: "SA_ALARM__WEBHOOK_SECRET", meaning: "the key that they are signed with, 16 characters or more", secret: true},
		{env: "SA_ALARM__HEARTBEAT_URL", meaning: "asked for every 5 minutes while the bars are in by their deadline; empty: none", secret: true},
		{env: "SA_ALARM__BARS_DEADLINE", meaning: "how long after a session's bars are final (2 hours after its close) they have to be in, as 90m or 12h; empty: until the next session opens"},
		{env: "SA_HTTP__ADDR", standard: "127.0.0.1:8080", meaning: "where worker serve listens; another address than loopback needs SA_HTTP__TOKEN"},
		{env: "SA_HTTP__TOKEN", meaning: "bearer token that all routes but /livez and /readyz ask for, 16 characters or more; empty: none does", secret: true},
		{env: "SA_HTTP__HOSTS", meaning: "the names under which it is asked, besides localhost and its own address", list: true},
		{env: "SA_HTTP__PPROF_ADDR", meaning: "loopback address of the runtime's profiles; empty: there are none"},
		{env: "SA_LOG__LEVEL", standard: "info", meaning: "debug, info, warn or error"},
		{env: "SA_LOG__FORMAT", meaning: "json or console; empty: json when standard error is no terminal"},
	}
}

// config is what the program runs with, checked.
type config struct {
	RedisURL    secret.Value
	DatabaseURL secret.Value
	// NoMigrate leaves the schema to worker migrate.
	NoMigrate bool
	DataDir   string
	Key       secret.Value
	BaseURL   string
	PerMinute int
	PerDay    int
	// Functions are what is asked of Alpha Vantage for fundamentals.
	Functions []string
	EDGAR     edgarConfig
	FINRA     finraConfig
	// BarSources are the sources of bars as named; empty: those with a key.
	BarSources []string
	// CrossCheck is the share of calls, in percent, that is spent on comparing
	// sources.
	CrossCheck int
	Massive    massiveConfig
	Tiingo     tiingoConfig
	IBKR       ibkrConfig
	Universe   string
	// UniverseSource is where a list of the S&P 500 is: an address, in which
	// there may be a token, or a file.
	UniverseSource secret.Value
	Schedule       scheduleConfig
	// Cooldown is how long the kill switch stays active at least.
	Cooldown  time.Duration
	Alarm     alarmConfig
	HTTP      httpConfig
	Tracing   tracingConfig
	LogLevel  zapcore.Level
	LogFormat string

	// source is what ohlcv.source says; empty: the provider's name.
	source string
	// texts are the settings as they were read, by their names in the
	// environment.
	texts map[string]string
	// fromWhere tells for each setting that is not the default, by its name
	// in the environment, what set it.
	fromWhere map[string]string
}

// edgarConfig is how the SEC is asked; without a user agent it is not.
type edgarConfig struct {
	UserAgent, BaseURL, DataURL string
	PerSecond                   int
}

// finraConfig is how FINRA is asked.
type finraConfig struct {
	BaseURL   string
	PerMinute int
}

// massiveConfig is how Massive is asked.
type massiveConfig struct {
	Key              secret.Value
	BaseURL          string
	PerMinute, Years int
}

// tiingoConfig is how Tiingo is asked.
type tiingoConfig struct {
	Key             secret.Value
	BaseURL         string
	PerHour, PerDay int
}

// ibkrConfig is where Interactive Brokers' gateway is.
type ibkrConfig struct {
	Host                      string
	Port, ClientID, PerSecond int
	Lots                      bool
}

// barSources are the names of the sources of bars: those that are named, else
// those with a key, else Alpha Vantage, which says that it needs one.
func (c config) barSources() []string {
	if len(c.BarSources) > 0 {
		return c.BarSources
	}
	var names []string
	for _, s := range []struct {
		name string
		has  bool
	}{
		{alphavantage.Name, c.Key.IsSet() || isLocal(c.BaseURL)},
		{massive.Name, c.Massive.Key.IsSet()},
		{tiingo.Name, c.Tiingo.Key.IsSet()},
	} {
		if s.has {
			names = append(names, s.name)
		}
	}
	if len(names) == 0 {
		return []string{alphavantage.Name}
	}
	return names
}

// keyless returns the setting that the key of a source is missing from; "" if it
// needs none, as one on this machine, or has it.
func (c config) keyless(source string) string {
	for _, s := range []struct {
		name, env, url string
		key            secret.Value
	}{
		{alphavantage.Name, "SA_ALPHA_VANTAGE_API_KEY", c.BaseURL, c.Key},
		{massive.Name, "SA_MASSIVE_API_KEY", c.Massive.BaseURL, c.Massive.Key},
		{tiingo.Name, "SA_TIINGO_API_KEY", c.Tiingo.BaseURL, c.Tiingo.Key},
	} {
		if s.name == source && !s.key.IsSet() && !isLocal(s.url) {
			return s.env
		}
	}
	return ""
}

// usageError is a mistake of the person who called the program: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// loadConfig reads defaults, the file and the environment, in this order, and
// reports every problem at once.
func loadConfig(fileName string, environ []string) (config, error) {
	env := environment(environ)
	if fileName == "" {
		fileName = env["SA_CONFIG_FILE"]
	}
	l := loader{env: env, values: koanf.New("."), from: map[string]string{}}
	l.readFile(fileName)
	l.readEnvironment()
	c := l.build()
	if len(l.problems) > 0 {
		return c, usageError{fmt.Errorf("configuration: %w", errors.Join(l.problems...))}
	}
	return c, nil
}

func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// loader collects the values, where each is from, and what is wrong.
type loader struct {
	env      map[string]string
	values   *koanf.Koanf
	from     map[string]string
	problems []error
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

func (l *loader) readFile(name string) {
	if name == "" {
		return
	}
	if err := l.values.Load(file.Provider(name), yaml.Parser()); err != nil {
		l.problem("file %s: %w", name, err)
		return
	}
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.key()] = true
		known[s.key()+"_file"] = s.secret
		if err := l.takeFromFile(s); err != nil {
			l.problem("file %s: %s: %w", name, s.key(), err)
			l.values.Delete(s.key())
		} else if l.values.Exists(s.key()) {
			l.from[s.env] = "file " + name
		}
	}
	for _, key := range l.values.Keys() {
		if !known[key] && !l.isEmptySection(key) {
			l.problem("file %s: unknown key %q%s", name, key, l.nearest(key))
		}
	}
}

// takeFromFile brings a value as YAML has it into the form that a variable of
// the environment would have. Its errors never show a secret.
func (l *loader) takeFromFile(s setting) error {
	switch v := l.values.Get(s.key()).(type) {
	case nil:
		l.values.Delete(s.key())
	case []any:
		if !s.list {
			return errors.New("want one value, not a list")
		}
		text, err := commaList(v)
		if err != nil {
			return err
		}
		return l.values.Set(s.key(), text)
	case string, map[string]any: // keys below a setting are unknown ones
	default:
		// YAML has changed it: 007 is 7 by now, and 1e3 is 1000.
		if s.secret {
			return errors.New("it reads as a number, a date or a yes/no: put it in quotes")
		}
	}
	return nil
}

func commaList(values []any) (string, error) {
	texts := make([]string, len(values))
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			return "", fmt.Errorf("item %d reads as %v: put it in quotes", i+1, v)
		}
		texts[i] = text
	}
	return strings.Join(texts, ","), nil
}

// isEmptySection reports whether key is the name of a section of which the
// file sets nothing.
func (l *loader) isEmptySection(key string) bool {
	section, isSection := l.values.Get(key).(map[string]any)
	if len(section) > 0 || !isSection && l.values.Get(key) != nil {
		return false
	}
	return slices.ContainsFunc(settings(), func(s setting) bool { return strings.HasPrefix(s.key(), key+".") })
}

// nearest suggests the setting whose letters are those of key.
func (l *loader) nearest(key string) string {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", ".", "", "-", "").Replace(strings.ToLower(s))
	}
	for _, s := range settings() {
		if plain(s.key()) == plain(key) {
			return fmt.Sprintf(": did you mean %q?", s.key())
		}
	}
	return ": the README lists the known ones"
}

func (l *loader) readEnvironment() {
	for _, s := range settings() {
		// An empty variable is what a compose file makes of one that is not set.
		value := l.env[s.env]
		set, from := value != "", "environment"
		if path := l.env[s.env+"_FILE"]; path != "" && s.secret {
			if set {
				l.problem("%s and %s_FILE are both set: leave one out", s.env, s.env)
			}
			value, set = l.secretFile(s.env+"_FILE", path), true
		} else if path := l.values.String(s.key() + "_file"); path != "" && s.secret && !set {
			value, set, from = l.secretFile(s.key()+"_file", path), true, "file "+path
		}
		if set {
			l.from[s.env] = from
			if err := l.values.Load(confmap.Provider(map[string]any{s.key(): value}, "."), nil); err != nil {
				l.problem("%s: %w", s.env, err)
			}
		}
	}
	l.misspelt()
}

// misspelt refuses SA_ names that are one of ours but for their underscores:
// SA_REDIS_URL would otherwise be ignored without a word.
func (l *loader) misspelt() {
	plain := map[string]string{}
	for _, s := range settings() {
		plain[strings.ReplaceAll(s.env, "_", "")] = s.env
	}
	names := make([]string, 0, len(l.env))
	for name := range l.env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		meant, ok := plain[strings.ReplaceAll(name, "_", "")]
		if ok && meant != name && strings.HasPrefix(name, envPrefix) {
			l.problem("environment: %s is unknown: did you mean %s?", name, meant)
		}
	}
}

func (l *loader) secretFile(name, path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // reading the file that the operator names is the purpose
	if err != nil {
		l.problem("%s: %w", name, err)
	}
	return strings.TrimRight(string(text), "\r\n")
}

// text returns the value of a setting, or its default.
func (l *loader) text(env string) string {
	all := settings()
	s := all[slices.IndexFunc(all, func(s setting) bool { return s.env == env })]
	if l.values.Exists(s.key()) {
		return strings.TrimSpace(l.values.String(s.key()))
	}
	return s.standard
}

func (l *loader) texts() map[string]string {
	texts := map[string]string{}
	for _, s := range settings() {
		texts[s.env] = l.text(s.env)
	}
	return texts
}

func (l *loader) build() config {
	c := config{
		RedisURL:    l.url("SA_REDIS__URL", "redis", "rediss"),
		DatabaseURL: l.url("SA_DATABASE__URL", "postgres", "postgresql", "postgresql+asyncpg"),
		NoMigrate:   l.oneOf("SA_DATABASE__MIGRATE", "", "true", "false") == "false",
		DataDir:     l.text("SA_DATA_DIR"),
		Key:         l.apiKey("SA_ALPHA_VANTAGE_API_KEY"),
		BaseURL:     strings.TrimRight(l.url("SA_DATA__ALPHA_VANTAGE__BASE_URL", "http", "https").Reveal(), "/"),
		PerMinute:   l.count("SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_MINUTE", 1),
		Cooldown:    time.Duration(l.count("SA_RISK__KILL_SWITCH__COOLDOWN_MINUTES", 0)) * time.Minute,
		PerDay:      l.count("SA_DATA__ALPHA_VANTAGE__RATE_LIMIT_PER_DAY", 0),
		Functions:   l.functions("SA_DATA__ALPHA_VANTAGE__FUNDAMENTALS"),
		EDGAR: edgarConfig{
			UserAgent: l.userAgent("SA_DATA__EDGAR__USER_AGENT"),
			BaseURL:   strings.TrimRight(l.url("SA_DATA__EDGAR__BASE_URL", "http", "https").Reveal(), "/"),
			DataURL:   strings.TrimRight(l.url("SA_DATA__EDGAR__DATA_BASE_URL", "http", "https").Reveal(), "/"),
			PerSecond: l.count("SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND", 1),
		},
		FINRA: finraConfig{
			BaseURL:   strings.TrimRight(l.url("SA_DATA__FINRA__BASE_URL", "http", "https").Reveal(), "/"),
			PerMinute: l.count("SA_DATA__FINRA__RATE_LIMIT_PER_MINUTE", 1),
		},
		BarSources: l.barSources("SA_DATA__BARS__SOURCES"),
		CrossCheck: l.percent("SA_DATA__BARS__CROSS_CHECK_PERCENT"),
		Massive: massiveConfig{
			Key:       l.apiKey("SA_MASSIVE_API_KEY"),
			BaseURL:   strings.TrimRight(l.url("SA_DATA__MASSIVE__BASE_URL", "http", "https").Reveal(), "/"),
			PerMinute: l.count("SA_DATA__MASSIVE__RATE_LIMIT_PER_MINUTE", 1),
			Years:     l.count("SA_DATA__MASSIVE__YEARS", 1),
		},
		Tiingo: tiingoConfig{
			Key:     l.apiKey("SA_TIINGO_API_KEY"),
			BaseURL: strings.TrimRight(l.url("SA_DATA__TIINGO__BASE_URL", "http", "https").Reveal(), "/"),
			PerHour: l.count("SA_DATA__TIINGO__RATE_LIMIT_PER_HOUR", 1),
			PerDay:  l.count("SA_DATA__TIINGO__RATE_LIMIT_PER_DAY", 0),
		},
		IBKR: ibkrConfig{
			Host: l.text("SA_BROKER__IBKR__HOST"), Port: l.count("SA_BROKER__IBKR__PORT", 1),
			ClientID: l.count("SA_BROKER__IBKR__CLIENT_ID", 0), PerSecond: l.count("SA_BROKER__IBKR__RATE_LIMIT_PER_SECOND", 1),
			Lots: l.oneOf("SA_BROKER__IBKR__VOLUME_IN_LOTS", "", "false", "true") == "true",
		},
		Universe:       l.text("SA_DATA__UNIVERSE__SYMBOLS"),
		UniverseSource: l.source("SA_DATA__UNIVERSE__SP500_SOURCE"),
		Schedule:       l.schedules(),
		Alarm:          l.alarm(),
		HTTP:           l.http(),
		Tracing:        l.tracing(),
		LogLevel:       l.level("SA_LOG__LEVEL"),
		LogFormat:      l.oneOf("SA_LOG__FORMAT", "", "json", "console"),
		texts:          l.texts(),
		fromWhere:      l.from,
	}
	for _, name := range c.BarSources {
		if env := c.keyless(name); env != "" {
			l.problem("SA_DATA__BARS__SOURCES names %s, and %s is not set", name, env)
		}
	}
	if c.CrossCheck > 0 && len(c.barSources()) < 2 {
		l.problem("SA_DATA__BARS__CROSS_CHECK_PERCENT is %d: that takes two sources of bars (SA_DATA__BARS__SOURCES)", c.CrossCheck)
	}
	return c
}

func (l *loader) percent(env string) int {
	n := l.count(env, 0)
	if n > 100 {
		l.problem("%s is %d: want 0 to 100", env, n)
	}
	return n
}

// barSources reads the names of sources of bars.
func (l *loader) barSources(env string) []string {
	if l.text(env) == "" {
		return nil
	}
	var names []string
	for _, name := range strings.Split(l.text(env), ",") {
		name = strings.TrimSpace(name)
		if slices.Contains(names, name) || !slices.Contains(barSourceNames(), name) {
			l.problem("%s is %q: want some of %s, once each, with commas between them", env, l.text(env), strings.Join(barSourceNames(), ", "))
			return nil
		}
		names = append(names, name)
	}
	return names
}

// url checks the scheme and that there is a host. Its problems never show the
// value, which may hold a password.
func (l *loader) url(env string, schemes ...string) secret.Value {
	raw := l.text(env)
	if raw == "" {
		return secret.Value{}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		l.problem("%s is no URL: want %s://host...", env, schemes[0])
	case !slices.Contains(schemes, u.Scheme):
		l.problem("%s: its scheme is %q: want %s", env, u.Scheme, strings.Join(schemes, ", "))
	case u.Host == "" && !strings.HasPrefix(schemes[0], "postgres"):
		l.problem("%s names no host", env)
	case u.User != nil && schemes[0] == "http":
		l.problem("%s: leave out the user name and password", env)
	}
	return secret.New(raw)
}

func (l *loader) source(env string) secret.Value {
	location := l.text(env)
	if err := universe.CheckSource(location); err != nil {
		l.problem("%s: %w", env, err)
	}
	return secret.New(location)
}

func (l *loader) apiKey(env string) secret.Value {
	key := l.text(env)
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		l.problem("%s holds a blank or a character that is no part of a key: copy it once more", env)
	}
	return secret.New(key)
}

// maxCount is above every limit that a provider sells.
const maxCount = 1_000_000

func (l *loader) count(env string, least int) int {
	n, err := strconv.Atoi(l.text(env))
	if err != nil || n < least || n > maxCount {
		l.problem("%s is %q: want a whole number from %d to %d", env, l.text(env), least, maxCount)
	}
	return n
}

// functions reads which of Alpha Vantage's functions make up fundamentals: the
// overview first, since every row needs it.
func (l *loader) functions(env string) []string {
	var asked []string
	for _, name := range strings.Split(l.text(env), ",") {
		name = strings.TrimSpace(name)
		if slices.Contains(asked, name) || !slices.Contains([]string{overview, earnings, balanceSheet}, name) {
			l.problem("%s is %q: want %s, and behind it %s or %s, or both, once each, with commas between them",
				env, l.text(env), overview, earnings, balanceSheet)
			break
		}
		asked = append(asked, name)
	}
	if len(asked) > 0 && asked[0] != overview {
		l.problem("%s is %q: it has to begin with %s", env, l.text(env), overview)
	}
	return asked
}

func (l *loader) userAgent(env string) string {
	agent := l.text(env)
	if agent == "" {
		return ""
	}
	if _, err := edgar.Sign(agent); err != nil {
		l.problem("%s: %w", env, err)
	}
	return agent
}

func (l *loader) oneOf(env string, allowed ...string) string {
	if !slices.Contains(allowed, l.text(env)) {
		l.problem("%s is %q: want one of %s", env, l.text(env), strings.Join(allowed[1:], ", "))
	}
	return l.text(env)
}

func (l *loader) level(env string) zapcore.Level {
	level, err := zapcore.ParseLevel(l.text(env))
	if err != nil || level > zapcore.ErrorLevel {
		l.problem("%s is %q: want debug, info, warn or error", env, l.text(env))
	}
	return level
}

// secrets returns all values that no output may hold.
func (c config) secrets() []secret.Value {
	all := append(slices.Concat(c.Alarm.secrets(), c.Tracing.secrets()), c.Key, c.Massive.Key, c.Tiingo.Key, c.HTTP.Token)
	source := c.UniverseSource.Reveal()
	for _, url := range []string{c.RedisURL.Reveal(), c.DatabaseURL.Reveal(), c.BaseURL, source} {
		all = append(all, secret.URLPasswords(url)...)
	}
	// Hosts of lists have no common name for the parameter with the token.
	_, query, _ := strings.Cut(source, "?")
	parameters, _ := url.ParseQuery(query)
	for _, values := range parameters {
		for _, value := range values {
			all = append(all, secret.New(value))
		}
	}
	return all
}

// local reports whether the provider's address is this machine: a simulator,
// which needs no key.
func isLocal(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

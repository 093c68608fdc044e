package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// ZoneSetting is the setting that holds the zone of all schedules.
const ZoneSetting = "SA_SCHEDULER__TIMEZONE"

// field is one of the five of a spec.
type field struct {
	name      string
	low, high int
	option    cron.ParseOption
	bits      func(*cron.SpecSchedule) uint64
}

func fields() [5]field {
	return [...]field{
		{"minute", 0, 59, cron.Minute, func(s *cron.SpecSchedule) uint64 { return s.Minute }},
		{"hour", 0, 23, cron.Hour, func(s *cron.SpecSchedule) uint64 { return s.Hour }},
		{"day of month", 1, 31, cron.Dom, func(s *cron.SpecSchedule) uint64 { return s.Dom }},
		{"month", 1, 12, cron.Month, func(s *cron.SpecSchedule) uint64 { return s.Month }},
		{"day of week", 0, 6, cron.Dow, func(s *cron.SpecSchedule) uint64 { return s.Dow }},
	}
}

const (
	fiveFields = `write five fields: minute, hour, day of month, month, day of week, such as "30 18 * * 1-5"`

	longestSpec = 200
)

// Parse reads a cron spec of five fields in a zone of the IANA time zone
// database. Sunday is 0 or 7; names such as mon and jan are understood, and
// sun ends a range, as in fri-sun.
//
// setting is the name of the setting that holds the spec. The error begins with
// it, or with [ZoneSetting] if it is about the zone, and ends with the remedy.
func Parse(setting, spec, zone string) (Schedule, error) {
	loc, err := loadZone(zone)
	if err != nil {
		return Schedule{}, fmt.Errorf("%s: zone %s: %w", ZoneSetting, quote(zone), err)
	}
	s, err := parse(spec)
	if err != nil {
		return Schedule{}, fmt.Errorf("%s: cron spec %s: %w", setting, quote(spec), err)
	}
	s.zone = loc
	return s, nil
}

// loadZone refuses the two names that stand for no zone of the database.
func loadZone(name string) (*time.Location, error) {
	const remedy = "write a name of the IANA time zone database, such as America/New_York or UTC"
	if name == "" || name == "Local" {
		return nil, errors.New("it depends on the machine: " + remedy)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, errors.New("not known: " + remedy)
	}
	return loc, nil
}

func parse(spec string) (Schedule, error) {
	if err := checkForm(spec); err != nil {
		return Schedule{}, err
	}
	var sets [5]uint64
	texts := strings.Fields(spec)
	for i, f := range fields() {
		var err error
		if sets[i], err = f.parse(texts[i]); err != nil {
			return Schedule{}, err
		}
	}
	s := Schedule{spec: strings.Join(texts, " "), days: sets[2], months: sets[3], weekdays: sets[4]}
	for m := range 24 * 60 {
		if sets[0]&(1<<(m%60)) != 0 && sets[1]&(1<<(m/60)) != 0 {
			s.minutes = append(s.minutes, m)
		}
	}
	if _, ok := s.after(0); !ok {
		return Schedule{}, errors.New("it never fires: no month that it names has such a day: correct the day of month or the month")
	}
	return s, nil
}

// checkForm explains what is written for other programs.
func checkForm(spec string) error {
	switch n := len(strings.Fields(spec)); {
	case n == 0:
		return errors.New("it is empty: " + fiveFields)
	case len(spec) > longestSpec:
		return fmt.Errorf("it is longer than %d bytes: %s", longestSpec, fiveFields)
	case strings.Contains(spec, "TZ="):
		return errors.New("the zone is not part of it: set " + ZoneSetting + ", which holds for all schedules")
	case strings.Contains(spec, "@"):
		return errors.New("descriptors such as @daily or @every are not known: " + fiveFields)
	case n == 6 || n == 7:
		return fmt.Errorf("it has %d fields, and there are none for seconds or years: %s", n, fiveFields)
	case n != 5:
		return fmt.Errorf("it has %d fields: %s", n, fiveFields)
	}
	return nil
}

// parse reads the items of a field between commas.
func (f field) parse(text string) (uint64, error) {
	var set uint64
	for item := range strings.SplitSeq(text, ",") {
		one, err := f.item(item)
		if err != nil {
			return 0, fmt.Errorf("%s %s: %w: write numbers from %d to %d, ranges such as %d-%d, steps such as */2, and commas between them",
				f.name, quote(text), err, f.low, f.high, f.low, f.low+2)
		}
		set |= one
	}
	return set, nil
}

// form is that of an item: cron itself takes signs, empty items and a range
// from an asterisk.
var form = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[*?]|([0-9]{1,2}|[A-Za-z]{3})(?:-([0-9]{1,2}|[A-Za-z]{3}))?)(?:/([0-9]{1,2}))?$`)
})

// item reads one item, such as *, 5, 1-5 or */15.
func (f field) item(text string) (uint64, error) {
	m := form().FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s is not understood", quote(text))
	}
	low, high, step := m[1], m[2], 1
	if m[3] != "" {
		step, _ = strconv.Atoi(m[3]) // two digits at most
	}
	if step < 1 || step > f.high-f.low {
		return 0, fmt.Errorf("step %d does not fit between %d and %d", step, f.low, f.high)
	}
	if f.option == cron.Dow {
		return f.weekday(text, low, high, step)
	}
	return f.ask(text)
}

// weekday reads an item that may have Sunday as 7, which cron does not know.
func (f field) weekday(text, low, high string, step int) (uint64, error) {
	switch sunday := strings.EqualFold(high, "sun") && low != "0" && !strings.EqualFold(low, "sun"); {
	case low == "7" && (high == "" || high == "7"):
		return 1, nil
	case high != "7" && !sunday:
		return f.ask(text)
	}
	set, err := f.ask(low + "-6/" + strconv.Itoa(step))
	if err == nil && (7-bits.TrailingZeros64(set))%step == 0 {
		set |= 1
	}
	return set, err
}

// ask has cron read an item.
func (f field) ask(text string) (uint64, error) {
	parsed, err := cron.NewParser(f.option).Parse(text)
	if err != nil {
		return 0, err
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return 0, fmt.Errorf("%s is not understood", quote(text))
	}
	return f.bits(spec), nil
}

// quote quotes what was given, shortened.
func quote(s string) string {
	const longest = 60
	if len(s) > longest {
		return strconv.Quote(s[:longest]) + "..."
	}
	return strconv.Quote(s)
}

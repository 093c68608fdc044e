package sqlite

import (
	"database/sql"
	"time"

	"github.com/alpha-oracle/worker/internal/market"
)

const (
	// stampLayout has a fixed width in UTC, so that it sorts as text.
	stampLayout = "2006-01-02 15:04:05.000000-07:00"
	// midnight follows the date in a daily bar's timestamp.
	midnight = " 00:00:00+00:00"
)

func stampOf(t time.Time) string { return t.UTC().Format(stampLayout) }

// parseStamp reads a stamp; NULL is the zero time.
func parseStamp(s sql.NullString) (time.Time, error) {
	if !s.Valid {
		return time.Time{}, nil
	}
	t, err := time.Parse(stampLayout, s.String)
	return t.UTC(), err
}

func barStamp(d market.Date) string {
	return string(append(d.Time().AppendFormat(make([]byte, 0, 32), time.DateOnly), midnight...))
}

// parseBarStamp reports whether s is at midnight UTC, as a daily bar is. It is
// several times as fast as time.Parse, which matters since every reload and
// every reconciliation reads the stamps of all that it compares.
func parseBarStamp(s string) (market.Date, bool) {
	const width = len(time.DateOnly)
	if len(s) != width+len(midnight) || s[width:] != midnight || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	year, month, day := digits(s[:4]), digits(s[5:7]), digits(s[8:width])
	if year < 1 || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	date := market.NewDate(year, time.Month(month), day)
	return date, day <= 28 || date.Time().Day() == day // not 30 February
}

// digits returns the number that s writes, or -1.
func digits(s string) (n int) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = 10*n + int(s[i]-'0')
	}
	return n
}

// dateText returns the date, or nil for NULL if it is zero.
func dateText(d market.Date) any {
	if d.IsZero() {
		return nil
	}
	return d.String()
}

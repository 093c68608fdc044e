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

// parseBarStamp reports whether s is at midnight UTC, as a daily bar is.
func parseBarStamp(s string) (market.Date, bool) {
	if len(s) != len(time.DateOnly)+len(midnight) || s[len(time.DateOnly):] != midnight {
		return 0, false
	}
	date, err := market.ParseDate(s[:len(time.DateOnly)])
	return date, err == nil
}

// dateText returns the date, or nil for NULL if it is zero.
func dateText(d market.Date) any {
	if d.IsZero() {
		return nil
	}
	return d.String()
}

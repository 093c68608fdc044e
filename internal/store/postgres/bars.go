package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/store"
)

const (
	// pgEpoch is 2000-01-01, from which Postgres counts microseconds.
	pgEpoch      market.Date = 730120
	microsPerDay             = 24 * 60 * 60 * 1_000_000
)

// barsSQL casts each column so that a table made by another program is read
// whatever numeric types it chose.
const barsSQL = `
	SELECT timestamp::timestamptz, open::float8, high::float8, low::float8, close::float8, volume::int8, adjusted_close::float8
	FROM ohlcv WHERE symbol = $1 AND timestamp BETWEEN $2 AND $3 ORDER BY timestamp`

// collectBars reads the rows of barsSQL. A row that is not at midnight UTC is
// no daily bar and is left out.
func collectBars(rows pgx.Rows, capacity int) ([]market.Bar, error) {
	defer rows.Close()
	read := decodeBar
	if binary, err := isBinary(rows, 0); err != nil {
		return nil, err
	} else if !binary {
		read = scanBar
	}
	var bars []market.Bar
	for rows.Next() {
		bar, daily, err := read(rows)
		if err != nil {
			return nil, err
		}
		if bars == nil {
			bars = make([]market.Bar, 0, capacity)
		}
		if daily {
			bars = append(bars, bar)
		}
	}
	return bars, rows.Err()
}

// isBinary reports whether the column at first is in binary form, which all are
// unless a pooler demands otherwise; a text is the same in both. Rows of a query
// that has failed have no columns, and can't even be asked for them.
func isBinary(rows pgx.Rows, first int) (bool, error) {
	if err := rows.Err(); err != nil {
		return false, err
	}
	return rows.FieldDescriptions()[first].Format == pgx.BinaryFormatCode, nil
}

// decodeBar reads the binary form, several times as fast as Scan does, which
// matters since every reload reads all that it brings.
func decodeBar(rows pgx.Rows) (market.Bar, bool, error) {
	raw := rows.RawValues()
	for _, value := range raw[:6] {
		if len(value) != 8 {
			return scanBar(rows) // which says what is wrong
		}
	}
	micros := int64(binary.BigEndian.Uint64(raw[0]))
	bar := market.Bar{
		Date: pgEpoch + market.Date(micros/microsPerDay),
		Open: float(raw[1]), High: float(raw[2]), Low: float(raw[3]), Close: float(raw[4]),
		Volume: int64(binary.BigEndian.Uint64(raw[5])),
	}
	if raw[6] != nil {
		bar.AdjClose, bar.HasAdjClose = float(raw[6]), true
	}
	return bar, micros%microsPerDay == 0, nil
}

func float(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }

func scanBar(rows pgx.Rows) (market.Bar, bool, error) {
	var at time.Time
	var adj *float64
	var bar market.Bar
	if err := rows.Scan(&at, &bar.Open, &bar.High, &bar.Low, &bar.Close, &bar.Volume, &adj); err != nil {
		return bar, false, fmt.Errorf("read bar: %w", err)
	}
	bar.Date = market.DateOf(at.UTC())
	if adj != nil {
		bar.AdjClose, bar.HasAdjClose = *adj, true
	}
	return bar, at.Equal(bar.Date.Time()), nil
}

// barRows is what a SaveBars or a SaveHistory brings.
type barRows struct {
	series   market.Series
	answered market.Range // the zero Range if it answers for nothing
	stored   []market.Bar // in the range of the series
	diff     store.Diff
}

func (r *barRows) queueBegin(batch *pgx.Batch) { batch.Queue(beginSnapshotSQL) }

// queueCompare reads what is stored in the range of the series.
func (r *barRows) queueCompare(batch *pgx.Batch) {
	bars := r.series.Bars
	if len(bars) == 0 {
		return
	}
	from, to := bars[0].Date.Time(), bars[len(bars)-1].Date.Time()
	batch.Queue(barsSQL, string(r.series.Symbol), from, to).Query(func(rows pgx.Rows) (err error) {
		r.stored, err = collectBars(rows, len(bars))
		return err
	})
}

// sender is a connection or a pool.
type sender interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// judge notes the difference to what queueCompare has read. It takes a round
// trip more, or two, where the sources of the rows matter.
func (r *barRows) judge(ctx context.Context, conn sender) (err error) {
	r.diff, err = store.Judge(r.series, r.stored, func(window market.Range) (map[string]*market.Days, error) {
		there, batch := store.Present{}, &pgx.Batch{}
		queueSelect(batch, sourcesSQL, []market.Symbol{r.series.Symbol}, window.From.Time(), window.To.Time()).
			Query(func(rows pgx.Rows) error { return collectDates(rows, there) })
		err := conn.SendBatch(ctx, batch).Close()
		return there[r.series.Symbol], err
	})
	return err
}

func (r *barRows) changes() market.Changes { return r.diff.Changes() }

func (r *barRows) source() string { return r.series.Source }

func (r *barRows) write(ctx context.Context, conn *pgx.Conn, run int64) error {
	if err := r.judge(ctx, conn); err != nil || r.changes().Written() == 0 {
		return err
	}
	if len(r.diff.New) == len(r.series.Bars) {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"ohlcv"}, copyColumns(), copyRows(r.series))
		return err
	}
	batch := &pgx.Batch{}
	if len(r.diff.New)+len(r.diff.Changed) > 0 {
		queueUpsert(batch, r.series, r.diff)
	}
	if len(r.diff.Filled) > 0 {
		queueFill(batch, r.series.Symbol, r.diff.Filled)
	}
	if len(r.diff.Corrections) > 0 {
		queueCorrections(batch, r.series.Symbol, r.source(), run, r.diff.Corrections)
	}
	return conn.SendBatch(ctx, batch).Close()
}

func copyColumns() []string {
	return []string{"symbol", "timestamp", "open", "high", "low", "close", "volume", "adjusted_close", "source"}
}

// copyRows gives the series in the order of copyColumns.
func copyRows(series market.Series) pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(series.Bars), func(i int) ([]any, error) {
		bar := &series.Bars[i]
		return []any{
			string(series.Symbol), bar.Date.Time(), bar.Open, bar.High, bar.Low, bar.Close,
			bar.Volume, nullable(bar.AdjClose, bar.HasAdjClose), series.Source,
		}, nil
	})
}

// upsertSQL compares once more, for a writer that came in between.
const upsertSQL = `
	INSERT INTO ohlcv AS o (symbol, timestamp, open, high, low, close, volume, adjusted_close, source)
	SELECT $1, b.*, $9 FROM unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::int8[], $8::float8[]) AS b
	ON CONFLICT (symbol, timestamp) DO UPDATE
	SET open = EXCLUDED.open, high = EXCLUDED.high, low = EXCLUDED.low, close = EXCLUDED.close,
	    volume = EXCLUDED.volume, adjusted_close = EXCLUDED.adjusted_close, source = EXCLUDED.source
	WHERE (o.open, o.high, o.low, o.close, o.volume, o.adjusted_close)
	      IS DISTINCT FROM (EXCLUDED.open, EXCLUDED.high, EXCLUDED.low, EXCLUDED.close, EXCLUDED.volume, EXCLUDED.adjusted_close)`

func queueUpsert(batch *pgx.Batch, series market.Series, diff store.Diff) {
	n := len(diff.New) + len(diff.Changed)
	at, volume, adj := make([]time.Time, 0, n), make([]int64, 0, n), make([]*float64, 0, n)
	var prices [4][]float64
	for _, bars := range [][]market.Bar{diff.New, diff.Changed} {
		for i := range bars {
			bar := &bars[i]
			at, volume = append(at, bar.Date.Time()), append(volume, bar.Volume)
			for p, price := range [...]float64{bar.Open, bar.High, bar.Low, bar.Close} {
				prices[p] = append(prices[p], price)
			}
			adj = append(adj, nullable(bar.AdjClose, bar.HasAdjClose))
		}
	}
	batch.Queue(upsertSQL, string(series.Symbol), at, prices[0], prices[1], prices[2], prices[3], volume, adj, series.Source)
}

const fillSQL = `
	UPDATE ohlcv AS o SET volume = b.volume, adjusted_close = b.adjusted_close
	FROM unnest($2::timestamptz[], $3::int8[], $4::float8[]) AS b (at, volume, adjusted_close)
	WHERE o.symbol = $1 AND o.timestamp = b.at`

func queueFill(batch *pgx.Batch, symbol market.Symbol, bars []market.Bar) {
	at, volume, adj := make([]time.Time, len(bars)), make([]int64, len(bars)), make([]*float64, len(bars))
	for i := range bars {
		at[i], volume[i], adj[i] = bars[i].Date.Time(), bars[i].Volume, nullable(bars[i].AdjClose, bars[i].HasAdjClose)
	}
	batch.Queue(fillSQL, string(symbol), at, volume, adj)
}

func nullable(v float64, ok bool) *float64 {
	if !ok {
		return nil
	}
	return &v
}

const correctionsSQL = `
	INSERT INTO ingest_corrections (source, run_id, symbol, timestamp, field, old_value, new_value)
	SELECT $1, $2, c.* FROM unnest($3::text[], $4::timestamptz[], $5::text[], $6::float8[], $7::float8[]) AS c`

// queueCorrections writes corrections; those without a symbol are of symbol.
func queueCorrections(batch *pgx.Batch, symbol market.Symbol, source string, run int64, corrections []store.Correction) {
	var at []time.Time
	var symbols, field []string
	var was []*float64
	var is []float64
	for _, c := range corrections {
		symbols = append(symbols, string(cmp.Or(c.Symbol, symbol)))
		at, field = append(at, c.Date.Time()), append(field, c.Field)
		was, is = append(was, nullable(c.Old, c.HadOld)), append(is, c.New)
	}
	batch.Queue(correctionsSQL, source, run, symbols, at, field, was, is)
}

package sqlite

import (
	"context"
	"database/sql"
	"strings"
)

// insertRows is the number of rows of one statement: more gain little.
const insertRows = 50

// insertion is an INSERT of many rows.
type insertion struct {
	// head is the statement up to VALUES, row the parameters of one row:
	// those of first by their numbers, the others as "?".
	head, row string
	// tail follows the rows.
	tail string
	// first are the values that all rows share.
	first []any
	// args appends the values of a row.
	args func(args []any, row int) []any
}

// run inserts rows, numbered from 0.
func (s insertion) run(ctx context.Context, tx *sql.Tx, rows int) error {
	full := rows - rows%insertRows
	if err := s.chunks(ctx, tx, 0, full, insertRows); err != nil {
		return err
	}
	return s.chunks(ctx, tx, full, rows, rows-full)
}

// chunks inserts the rows of [from, to), size of them at once.
func (s insertion) chunks(ctx context.Context, tx *sql.Tx, from, to, size int) error {
	if from == to {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, s.head+strings.Repeat(s.row+",", size-1)+s.row+s.tail)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	var args []any
	for ; from < to; from += size {
		args = append(args[:0], s.first...)
		for i := range size {
			args = s.args(args, from+i)
		}
		if _, err := stmt.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

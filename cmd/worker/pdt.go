package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/risk"
)

const pdtHelp = `

Day trades are kept in risk:pdt:trades in Redis and nowhere else, so these commands
need SA_REDIS__URL. An account below 25,000 USD may make 3 within 5 sessions of the
exchange. No command deletes the record; what is older than 8 days and no longer
within the 5 sessions is taken out when a trade is recorded. See docs/risk.md.`

func (a *app) pdtCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pdt",
		Short: "Count, list and record day trades",
		Long:  "Reads and writes the record of day trades that alpha-oracle shares." + pdtHelp,
		Example: `  worker pdt count
  worker pdt record --symbol AAPL --order-id 4711`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.helpThenUsage(cmd, "name one of count, list, record")
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "count", Short: "How many day trades there are within the last 5 sessions, and how many may follow",
			Long:    "Counts the day trades of the last 5 sessions, the present one among them." + pdtHelp,
			Example: "  worker pdt count --json", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.withDayTrades(cmd.Context(), a.countDayTrades) },
		},
		&cobra.Command{
			Use: "list", Short: "All day trades that are kept",
			Long:    "Lists what is kept, also what cannot be read, which counts by its score all the same." + pdtHelp,
			Example: "  worker pdt list", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.withDayTrades(cmd.Context(), a.listDayTrades) },
		},
		a.recordDayTrade())
	return cmd
}

func (a *app) recordDayTrade() *cobra.Command {
	var symbol, date, order string
	cmd := &cobra.Command{
		Use: "record --symbol S", Short: "Record a day trade",
		Long: `Records a day trade. With --order-id it is recorded once, however often and by
whomever it is said; an order that is there for another symbol or date is refused.
Without, each call records another one.` + pdtHelp,
		Example: `  worker pdt record --symbol AAPL --order-id 4711
  worker pdt record --symbol AAPL --date 2026-03-12`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := market.ParseSymbol(symbol)
			if err != nil {
				return usagef("--symbol: %w", err)
			}
			var day market.Date
			if date != "" {
				if day, err = market.ParseDate(date); err != nil {
					return usagef("--date: %w", err)
				}
			}
			return a.withDayTrades(cmd.Context(), func(ctx context.Context, d risk.DayTrades) error {
				r, err := d.Record(ctx, s, day, order)
				if errors.As(err, new(*risk.InputError)) {
					return usagef("%w", err)
				}
				if err != nil {
					return err
				}
				return a.printRecorded(r)
			})
		},
	}
	cmd.Flags().StringVar(&symbol, "symbol", "", "what was traded (required)")
	cmd.Flags().StringVar(&date, "date", "", "the session, such as 2026-03-12 (default: today in New York)")
	cmd.Flags().StringVar(&order, "order-id", "", "the order, which is recorded once")
	return cmd
}

// withDayTrades opens Redis, and nothing else.
func (a *app) withDayTrades(ctx context.Context, do func(context.Context, risk.DayTrades) error) error {
	if !a.cfg.RedisURL.IsSet() {
		return usagef("SA_REDIS__URL is not set: day trades are kept in Redis alone, and what the one inside this process holds is lost at its end")
	}
	s := &services{}
	defer s.close()
	start, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := a.openRedis(start, s); err != nil {
		return err
	}
	return do(ctx, risk.DayTrades{Redis: s.rdb, Calendar: market.NYSE(), Now: a.now})
}

func (a *app) countDayTrades(ctx context.Context, d risk.DayTrades) error {
	c, err := d.Count(ctx)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.printJSON(map[string]any{
			"count": c.Trades, "remaining": c.Remaining, "allowed": risk.AllowedTrades,
			"sessions": risk.CountedSessions, "from": c.Window.From, "to": c.Window.To,
		})
	}
	a.printf("%d day trades since %s (the last %d sessions, until %s)\n", c.Trades, c.Window.From, risk.CountedSessions, c.Window.To)
	if c.Trades > risk.AllowedTrades {
		a.printf("%d more than the %d that an account below 25,000 USD may make\n", c.Trades-risk.AllowedTrades, risk.AllowedTrades)
		return nil
	}
	a.printf("%d of %d remain for an account below 25,000 USD\n", c.Remaining, risk.AllowedTrades)
	return nil
}

// dayTrade is a day trade as it is printed.
type dayTrade struct {
	Symbol     string      `json:"symbol"`
	Date       market.Date `json:"date"`
	RecordedAt string      `json:"recorded_at,omitempty"`
	OrderID    string      `json:"order_id,omitempty"`
	Score      any         `json:"score"`
	Counts     bool        `json:"counts"`
	Member     string      `json:"member"`
	Note       string      `json:"note,omitempty"`
}

func newDayTrade(t risk.DayTrade) dayTrade {
	return dayTrade{t.Symbol, t.Date, t.RecordedAt, t.OrderID, score(t.Score), t.Counts, t.Member, t.Note}
}

// score is a number, or the name of one that JSON does not have.
func score(f float64) any {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Sprint(f)
	}
	return f
}

func (a *app) listDayTrades(ctx context.Context, d risk.DayTrades) error {
	trades, err := d.List(ctx)
	if err != nil {
		return err
	}
	printed := make([]dayTrade, len(trades))
	for i, t := range trades {
		printed[i] = newDayTrade(t)
	}
	if a.asJSON {
		return a.printJSON(printed)
	}
	t := a.newTable("date", "symbol", "order", "recorded", "counts", "note")
	for _, d := range printed {
		counts, note := "no", d.Note
		if d.Counts {
			counts = "yes"
		}
		if note != "" {
			note += ": " + printable(d.Member) + fmt.Sprintf(" (score %v)", d.Score)
		}
		t.AppendRow(table.Row{d.Date, printable(d.Symbol), printable(d.OrderID), printable(d.RecordedAt), counts, note})
	}
	a.printf("%s\n", t.Render())
	return nil
}

func (a *app) printRecorded(r risk.Recorded) error {
	if a.asJSON {
		return a.printJSON(map[string]any{"recorded": !r.Known, "trade": r.Trade.Member, "date": r.Trade.Date, "score": score(r.Trade.Score), "trimmed": r.Trimmed})
	}
	word := "recorded"
	if r.Known {
		word = "known already, nothing was added"
	}
	a.printf("%s: %s\n", word, printable(r.Trade.Member))
	if r.Trimmed > 0 {
		a.printf("taken out: %d that count no longer\n", r.Trimmed)
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alpha-oracle/worker/internal/market"
)

func (a *app) exportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Print stored data",
		Example: "  worker export facts --as-of 2026-03-12 --symbols AAPL,MSFT",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.helpThenUsage(cmd, "name what to print: facts")
		},
	}
	cmd.AddCommand(a.exportFactsCommand())
	return cmd
}

// factFlags say which facts to print.
type factFlags struct {
	asOf, symbols, concepts once
}

func (a *app) exportFactsCommand() *cobra.Command {
	var f factFlags
	cmd := &cobra.Command{
		Use:   "facts",
		Short: "Print the reported facts as they were known on a day",
		Long: `Prints for each figure that an issuer has reported the version that was known
at the end of a day: what was restated later is shown as it was before. One CSV
row for each symbol, concept, unit and period, or with --json one document. On
Postgres the function fundamental_facts_as_of(date) returns the same rows.`,
		Example: `  worker export facts --as-of 2026-03-12 --symbols AAPL,MSFT
  worker export facts --concepts StockholdersEquity,Assets --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.exportFacts(cmd.Context(), f)
		},
	}
	cmd.Flags().Var(&f.asOf, "as-of", "day, as YYYY-MM-DD (default: today in New York)")
	cmd.Flags().Var(&f.symbols, "symbols", "a comma list, or @file (default: all that are stored)")
	cmd.Flags().Var(&f.concepts, "concepts", "a comma list of names such as Assets (default: all that are stored)")
	return cmd
}

func (a *app) exportFacts(ctx context.Context, f factFlags) error {
	day := a.today()
	var symbols []market.Symbol
	var concepts []string
	var err error
	if f.asOf.set {
		if day, err = market.ParseDate(f.asOf.value); err != nil {
			return usagef("--as-of: %w", err)
		}
	}
	if f.symbols.set {
		if symbols, err = a.givenSymbols(f.symbols); err != nil {
			return err
		}
		if symbols == nil {
			symbols = market.SP500()
		}
	}
	if f.concepts.set {
		for _, name := range strings.Split(f.concepts.value, ",") {
			concepts = append(concepts, strings.TrimSpace(name))
		}
	}
	return a.withServices(ctx, func(ctx context.Context, s *services) error {
		w := bufio.NewWriter(a.Stdout)
		print, end := a.factPrinter(w, day)
		if err := s.db.FactsAsOf(ctx, day, symbols, concepts, print); err != nil {
			return fmt.Errorf("read the facts known on %s: %w", day, err)
		}
		if err := end(); err != nil {
			return err
		}
		return w.Flush()
	})
}

// factPrinter returns what prints one fact, and what ends the document.
func (a *app) factPrinter(w *bufio.Writer, day market.Date) (each func(market.Symbol, market.Fact) error, end func() error) {
	if a.asJSON {
		return factsAsJSON(w, day)
	}
	table := csv.NewWriter(w)
	// An error of one write is that of all later ones, and of the end.
	_ = table.Write([]string{"symbol", "concept", "unit", "start", "end", "value", "filed", "accession_number"})
	each = func(symbol market.Symbol, f market.Fact) error {
		start := ""
		if !f.Start.IsZero() {
			start = f.Start.String()
		}
		return table.Write([]string{
			string(symbol), f.Concept, f.Unit, start, f.End.String(),
			strconv.FormatFloat(f.Value, 'f', -1, 64), f.Filed.String(), f.Accession,
		})
	}
	return each, func() error {
		table.Flush()
		return table.Error()
	}
}

// printedFact is one fact in a JSON document, with the columns of the function
// fundamental_facts_as_of.
type printedFact struct {
	Symbol    market.Symbol `json:"symbol"`
	Concept   string        `json:"concept"`
	Unit      string        `json:"unit"`
	Start     *market.Date  `json:"start"`
	End       market.Date   `json:"end"`
	Value     float64       `json:"value"`
	Filed     market.Date   `json:"filed"`
	Accession string        `json:"accession_number"`
}

// factsAsJSON writes the facts as they come: there can be millions.
func factsAsJSON(w *bufio.Writer, day market.Date) (each func(market.Symbol, market.Fact) error, end func() error) {
	_, _ = fmt.Fprintf(w, `{"as_of":%q,"facts":[`, day)
	first := true
	each = func(symbol market.Symbol, f market.Fact) error {
		p := printedFact{symbol, f.Concept, f.Unit, nil, f.End, f.Value, f.Filed, f.Accession}
		if !f.Start.IsZero() {
			p.Start = &f.Start
		}
		row, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if !first {
			_ = w.WriteByte(',')
		}
		first = false
		_, err = w.Write(row)
		return err
	}
	return each, func() error {
		_, err := w.WriteString("]}\n")
		return err
	}
}

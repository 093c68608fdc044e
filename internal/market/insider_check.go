package market

import (
	"math"
	"strings"
)

const (
	// longBefore is the age in days from which a report is marked as odd.
	// Forms are due within days; Form 5 within some weeks of a fiscal year.
	longBefore = 2 * 366
	// roundedBy is the difference in shares that rounding explains: of
	// fractions, holdings are often given without them.
	roundedBy = 1
)

// Examine sets the flags of the lines that can be told from the filing, and
// leaves those that the reader of the document has set. It changes nothing
// else.
func (f *InsiderFiling) Examine() {
	for i := range f.Lines {
		l := &f.Lines[i]
		l.Flags &^= SharesContradict | SharesExplained | DirectionContradicts | AfterFiling | LongBeforeFiling | NoCode
		if l.Holding {
			continue
		}
		if l.Code == "P" && l.AcquiredDisposed == "D" || l.Code == "S" && l.AcquiredDisposed == "A" {
			l.Flags |= DirectionContradicts
		}
		if l.Code == "" {
			l.Flags |= NoCode
		}
		switch {
		case l.Date.IsZero() || f.Filed.IsZero():
		case l.Date > f.Filed:
			l.Flags |= AfterFiling
		case f.Filed-l.Date > longBefore:
			l.Flags |= LongBeforeFiling
		}
	}
	for _, chain := range f.chains() {
		chain.compare()
	}
}

// position is what a filer keeps one running total for.
type position struct {
	derivative    bool
	title, nature string
	direct        Answer
	conversion    Amount
	expiration    Date
}

func (l *InsiderLine) position() position {
	p := position{derivative: l.Derivative, title: strings.ToLower(l.SecurityTitle), nature: strings.ToLower(l.Nature), direct: l.Direct}
	if l.Derivative {
		p.conversion, p.expiration = l.ConversionPrice, l.Expiration
	}
	return p
}

// chain is the transactions in one position, as runs of lines that state the
// same holdings: some filers give each line of a day the day's total.
type chain []run

type run struct {
	after  float64
	change float64 // by the shares of the lines
	lines  []*InsiderLine
}

// chains returns the positions in the order of their first lines. A line that
// does not say how many shares there were, or are, ends the chain before it.
func (f *InsiderFiling) chains() []chain {
	var all []chain
	at := map[position]int{}
	for i := range f.Lines {
		l := &f.Lines[i]
		if l.Holding {
			continue
		}
		signed, known := l.signed()
		if !known || !l.OwnedAfter.Known {
			delete(at, l.position())
			continue
		}
		j, open := at[l.position()]
		if !open {
			j = len(all)
			at[l.position()] = j
			all = append(all, nil)
		}
		all[j] = all[j].add(l, signed)
	}
	return all
}

func (c chain) add(l *InsiderLine, signed float64) chain {
	if n := len(c); n > 0 && c[n-1].after == l.OwnedAfter.Value {
		c[n-1].change += signed
		c[n-1].lines = append(c[n-1].lines, l)
		return c
	}
	return append(c, run{after: l.OwnedAfter.Value, change: signed, lines: []*InsiderLine{l}})
}

// signed is the number of shares, below zero if they were disposed of.
func (l *InsiderLine) signed() (shares float64, known bool) {
	switch l.AcquiredDisposed {
	case "A":
		return l.Shares.Value, l.Shares.Known
	case "D":
		return -l.Shares.Value, l.Shares.Known
	}
	return 0, false
}

// compare flags the runs that do not lead from the holdings before them to
// their own. A chain that only reads well from its end was written newest
// first: nothing in it is odd.
func (c chain) compare() {
	backwards := true
	var odd []run
	for i := 1; i < len(c); i++ {
		if !near(c[i].after-c[i-1].after, c[i].change) {
			odd = append(odd, c[i])
		}
		backwards = backwards && near(c[i-1].after-c[i].after, c[i-1].change)
	}
	if backwards {
		return
	}
	for _, r := range odd {
		flag := SharesContradict
		if r.explained() {
			flag = SharesExplained
		}
		for _, l := range r.lines {
			l.Flags |= flag
		}
	}
}

func (r run) explained() bool {
	for _, l := range r.lines {
		for _, n := range l.Notes {
			if n.Of == "sharesOwnedFollowingTransaction" {
				return true
			}
		}
	}
	return false
}

// near allows for rounding, also for that of large float64.
func near(a, b float64) bool {
	return math.Abs(a-b) <= roundedBy+1e-12*(math.Abs(a)+math.Abs(b))
}

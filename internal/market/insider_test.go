package market_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/alpha-oracle/worker/internal/market"
)

func amount(v float64) market.Amount { return market.Amount{Value: v, Known: true} }

// report is a Form 4 of issuer 1 by owner 2.
func report(number int, filed market.Date, lines ...market.InsiderLine) market.InsiderFiling {
	f := market.InsiderFiling{
		Accession: fmt.Sprintf("0000000002-24-%06d", number), Form: "4", Filed: filed, Period: at(5, 1), IssuerCIK: 1,
		Owners: []market.InsiderOwner{{CIK: 2}},
	}
	for i, l := range lines {
		l.Line = i + 1
		f.Lines = append(f.Lines, l)
	}
	return f
}

// amendment is a Form 4/A that amends what was filed on a day.
func amendment(number int, filed, original market.Date, lines ...market.InsiderLine) market.InsiderFiling {
	f := report(number, filed, lines...)
	f.Form, f.OriginalFiled = "4/A", original
	return f
}

func sale(shares, price, after float64) market.InsiderLine {
	return market.InsiderLine{
		SecurityTitle: "Common", Date: at(5, 1), Code: "S", AcquiredDisposed: "D", Shares: amount(shares), Price: amount(price),
		OwnedAfter: amount(after), Direct: market.AnswerYes,
	}
}

func holding(nature string, after float64) market.InsiderLine {
	return market.InsiderLine{Holding: true, SecurityTitle: "Common", Direct: market.AnswerNo, Nature: nature, OwnedAfter: amount(after)}
}

// replaced says which lines are superseded as "filing.line>filing.line", by the
// last digits of the accession numbers.
func replaced(filings ...market.InsiderFiling) []string {
	var out []string
	for old, by := range market.Supersede(filings) {
		out = append(out, fmt.Sprintf("%c.%d>%c.%d", old.Accession[19], old.Line, by.Accession[19], by.Line))
	}
	slices.Sort(out)
	return out
}

func TestSupersede(t *testing.T) {
	t.Parallel()
	day := at(5, 3)
	a, b, c := sale(100, 10, 900), sale(200, 11, 700), sale(50, 12, 650)
	with := func(l market.InsiderLine, change func(*market.InsiderLine)) market.InsiderLine { change(&l); return l }
	other := func(f market.InsiderFiling, change func(*market.InsiderFiling)) market.InsiderFiling {
		change(&f)
		return f
	}
	joint := func(f market.InsiderFiling) market.InsiderFiling {
		f.Owners = []market.InsiderOwner{{CIK: 2}, {CIK: 3}}
		return f
	}
	titled := func(l market.InsiderLine, title string) market.InsiderLine { l.SecurityTitle = title; return l }
	classB := func(l market.InsiderLine) market.InsiderLine { return titled(l, "Class B") }
	through := func(l market.InsiderLine, nature string) market.InsiderLine {
		l.Direct, l.Nature = market.AnswerNo, nature
		return l
	}
	indirect := func(l market.InsiderLine) market.InsiderLine { return through(l, "trust") }
	bought := func(shares, price, after float64) market.InsiderLine {
		l := sale(shares, price, after)
		l.Code, l.AcquiredDisposed = "P", "A"
		return l
	}
	original := report(1, day, a, b, c)
	for name, tc := range map[string]struct {
		filings []market.InsiderFiling
		want    []string
	}{
		"none":       {nil, nil},
		"repeats":    {[]market.InsiderFiling{original, amendment(2, at(5, 9), day, a, b, c)}, []string{"1.1>2.1", "1.2>2.2", "1.3>2.3"}},
		"equal lots": {[]market.InsiderFiling{report(1, day, a, a, a), amendment(2, at(5, 9), day, a, a)}, []string{"1.1>2.1", "1.2>2.2"}},
		"one line, other shares": {
			[]market.InsiderFiling{original, amendment(2, at(5, 9), day, with(b, func(l *market.InsiderLine) { l.Shares = amount(250) }))},
			[]string{"1.2>2.1"},
		},
		"one line, other price": {
			[]market.InsiderFiling{original, amendment(2, at(5, 9), day, with(c, func(l *market.InsiderLine) { l.Price = amount(9) }))},
			[]string{"1.3>2.1"},
		},
		"one line, other day": {
			[]market.InsiderFiling{original, amendment(2, at(5, 9), day, with(b, func(l *market.InsiderLine) { l.Date-- }))},
			[]string{"1.2>2.1"},
		},
		"one line, other code": {
			[]market.InsiderFiling{original, amendment(2, at(5, 9), day, with(b, func(l *market.InsiderLine) { l.Code, l.AcquiredDisposed = "P", "A" }))},
			[]string{"1.2>2.1"},
		},
		"all lines, one of them other in all": {
			[]market.InsiderFiling{original, amendment(2, at(5, 9), day, a, sale(7, 7, 7), c)},
			[]string{"1.1>2.1", "1.2>2.2", "1.3>2.3"},
		},
		"a line that was left out":  {[]market.InsiderFiling{original, amendment(2, at(5, 9), day, sale(7, 7, 7))}, nil},
		"without lines":             {[]market.InsiderFiling{original, amendment(2, at(5, 9), day)}, nil},
		"more lines":                {[]market.InsiderFiling{report(1, day, a), amendment(2, at(5, 9), day, a, sale(7, 7, 7))}, []string{"1.1>2.1"}},
		"twice":                     {[]market.InsiderFiling{original, amendment(2, at(5, 9), day, b), amendment(3, at(5, 10), day, b)}, []string{"1.2>2.1", "2.1>3.1"}},
		"names the amendment's day": {[]market.InsiderFiling{original, amendment(2, at(5, 9), day, b), amendment(3, at(5, 10), at(5, 9), b)}, []string{"1.2>2.1", "2.1>3.1"}},
		"holdings": {
			[]market.InsiderFiling{report(1, day, a, holding("trust", 5), holding("wife", 5)), amendment(2, at(5, 9), day, holding("wife", 9))},
			[]string{"1.3>2.1"},
		},
		"another day":          {[]market.InsiderFiling{other(original, func(f *market.InsiderFiling) { f.Period-- }), amendment(2, at(5, 9), day-1, a)}, nil},
		"no day, same period":  {[]market.InsiderFiling{original, amendment(2, at(5, 9), 0, a)}, []string{"1.1>2.1"}},
		"a day without filing": {[]market.InsiderFiling{original, amendment(2, at(5, 9), day-1, a)}, nil},
		"another issuer":       {[]market.InsiderFiling{original, other(amendment(2, at(5, 9), day, a), func(f *market.InsiderFiling) { f.IssuerCIK = 3 })}, nil},
		"another form":         {[]market.InsiderFiling{original, other(amendment(2, at(5, 9), day, a), func(f *market.InsiderFiling) { f.Form = "5/A" })}, nil},
		"another owner":        {[]market.InsiderFiling{original, other(amendment(2, at(5, 9), day, a), func(f *market.InsiderFiling) { f.Owners[0].CIK = 3 })}, nil},
		"one more owner":       {[]market.InsiderFiling{original, other(amendment(2, at(5, 9), day, a), func(f *market.InsiderFiling) { f.Owners = append(f.Owners, market.InsiderOwner{CIK: 3}) })}, []string{"1.1>2.1"}},
		"filed again as new":   {[]market.InsiderFiling{original, report(2, at(5, 9), a, b, c)}, nil},
		"amended the same day": {[]market.InsiderFiling{original, amendment(0, day, day, a)}, []string{"1.1>0.1"}},
		"before its original":  {[]market.InsiderFiling{original, amendment(2, day-1, day, a)}, nil},
		"of two filings of a day, the one it repeats": {
			[]market.InsiderFiling{report(1, day, a, sale(1, 1, 1)), report(2, day, a, b, c), amendment(3, at(5, 9), day, a, b, with(c, func(l *market.InsiderLine) { l.Price = amount(13) }))},
			[]string{"2.1>3.1", "2.2>3.2", "2.3>3.3"},
		},
		"of two filings of a day, the one it is like": {
			[]market.InsiderFiling{
				report(1, day, sale(50, 3, 333)), report(2, day, a, b, c),
				amendment(3, at(5, 9), day, a, b, sale(50, 13, 651), sale(7, 7, 7)),
			},
			[]string{"2.1>3.1", "2.2>3.2", "2.3>3.3"},
		},
		"one line, other shares and price": {[]market.InsiderFiling{original, amendment(2, at(5, 9), day, sale(250, 9, 700))}, []string{"1.2>2.1"}},
		"no day, one more owner":           {[]market.InsiderFiling{original, joint(amendment(2, at(5, 9), 0, a, b, c))}, []string{"1.1>2.1", "1.2>2.2", "1.3>2.3"}},
		"no day, one owner less":           {[]market.InsiderFiling{joint(original), amendment(2, at(5, 9), 0, a, b, c)}, []string{"1.1>2.1", "1.2>2.2", "1.3>2.3"}},
		"no day, an owner each": {
			[]market.InsiderFiling{joint(original), other(joint(amendment(2, at(5, 9), 0, a)), func(f *market.InsiderFiling) { f.Owners[0].CIK = 4 })}, nil,
		},
		"no day, one more owner, another period": {
			[]market.InsiderFiling{original, other(joint(amendment(2, at(5, 9), 0, a)), func(f *market.InsiderFiling) { f.Period-- })}, nil,
		},
		"no day, the same owners rather than one more": {
			[]market.InsiderFiling{report(1, day, a), joint(report(2, day, a)), joint(amendment(3, at(5, 9), 0, a))}, []string{"2.1>3.1"},
		},
		"an omitted sale":                   {[]market.InsiderFiling{report(1, day, a), amendment(2, at(5, 9), day, indirect(classB(sale(300, 10, 300))))}, nil},
		"an omitted sale of the security":   {[]market.InsiderFiling{report(1, day, a), amendment(2, at(5, 9), day, indirect(sale(300, 10, 300)))}, nil},
		"an omitted sale of another class":  {[]market.InsiderFiling{report(1, day, a), amendment(2, at(5, 9), day, classB(sale(300, 10, 300)))}, nil},
		"an omitted sale, two lines of two": {[]market.InsiderFiling{report(1, day, a, b), amendment(2, at(5, 9), day, indirect(sale(300, 5, 300)), b)}, []string{"1.2>2.2"}},
		"an omitted sale of just as many":   {[]market.InsiderFiling{report(1, day, a), amendment(2, at(5, 9), day, titled(a, "Preferred"))}, nil},
		"an omitted sale of a relative": {
			[]market.InsiderFiling{report(1, day, through(a, "trust")), amendment(2, at(5, 9), day, through(sale(300, 11, 5), "wife"))}, nil,
		},
		"its original is not here": {
			[]market.InsiderFiling{report(1, day, a), amendment(2, at(5, 9), day-1, sale(100, 9, 900))}, nil,
		},
		"another par value, and one line more": {
			[]market.InsiderFiling{
				report(1, day, titled(a, "Common Stock"), titled(b, "Common Stock")),
				amendment(2, at(5, 9), day, titled(a, "Common Stock, par value $0.01"), titled(b, "COMMON STOCK, $.01 par value per share"), classB(c)),
			},
			[]string{"1.1>2.1", "1.2>2.2"},
		},
		"a class named, and one line more": {
			[]market.InsiderFiling{
				report(1, day, titled(a, "Common Stock"), titled(b, "Common Stock")),
				amendment(2, at(5, 9), day, titled(a, "Common Stock  Class A"), titled(b, "Class A Common Stock"), titled(c, "Class A Common Stock")),
			},
			[]string{"1.1>2.1", "1.2>2.2"},
		},
		"a class named, of two that it can be": {
			[]market.InsiderFiling{
				report(1, day, titled(a, "Common Stock")),
				amendment(2, at(5, 9), day, titled(a, "Class A Common Stock"), titled(a, "Class B Common Stock")),
			},
			nil,
		},
		"the only one of its code, other in all": {
			[]market.InsiderFiling{report(1, day, bought(200, 11, 1100), a), amendment(2, at(5, 9), day, bought(250, 12, 1150))},
			[]string{"1.1>2.1"},
		},
		"the only one of its code, corrected twice": {
			[]market.InsiderFiling{
				report(1, day, bought(200, 11, 1100), a), amendment(2, at(5, 9), day, bought(250, 12, 1150)), amendment(3, at(5, 10), day, bought(260, 13, 1160)),
			},
			[]string{"1.1>2.1", "2.1>3.1"},
		},
		"one of two of its code, other in all": {
			[]market.InsiderFiling{report(1, day, bought(200, 11, 1100), bought(1, 1, 1)), amendment(2, at(5, 9), day, bought(250, 12, 1150))}, nil,
		},
		"two for the only one of its code": {
			[]market.InsiderFiling{report(1, day, bought(200, 11, 1100)), amendment(2, at(5, 9), day, bought(250, 12, 1150), bought(1, 1, 1))}, nil,
		},
		"the only one of its code in two filings": {
			[]market.InsiderFiling{report(1, day, bought(200, 11, 1100)), report(2, day, a), amendment(3, at(5, 9), day, bought(250, 12, 1150), a)}, []string{"2.1>3.2"},
		},
		"another period": {
			[]market.InsiderFiling{original, other(amendment(2, at(5, 9), day, a, b, c), func(f *market.InsiderFiling) { f.Period-- })},
			[]string{"1.1>2.1", "1.2>2.2", "1.3>2.3"},
		},
		"a copy": {[]market.InsiderFiling{original, original, amendment(2, at(5, 9), day, a)}, []string{"1.1>2.1"}},
	} {
		if diff := cmp.Diff(tc.want, replaced(tc.filings...)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		slices.Reverse(tc.filings)
		if diff := cmp.Diff(tc.want, replaced(tc.filings...)); diff != "" {
			t.Errorf("%s, in another order: %s", name, diff)
		}
	}
}

// All these say one title, and none of the others does.
func TestTitles(t *testing.T) {
	t.Parallel()
	for title, want := range map[string]bool{
		"Common Stock": true, "COMMON STOCK": true, " Common  Stock. ": true, "Common Stock, par value $0.01": true,
		"Common Stock, $.01 par value": true, "Common Stock ($0.0001 par value per share)": true, "Common Stock, no par value": true,
		"Common stock, par value US$1 per share": true, "Common Stock, without par value": true, "Common Stock par value $0.01 each share": true,
		"Common Stock, $0.01 per share par value": true, "Common Stock, nominal value of $1.25": true,
		"Common Stock 2": false, "Common Stock, Series 2, par value $0.01": false, "Common Stock, Class B, par value $0.01": false, "Stock": false,
		"Preferred Stock, par value $0.01": false, "Common Stock Value Units": false,
	} {
		// Two lines besides, so that neither place nor uniqueness tell.
		l := sale(100, 10, 900)
		l.SecurityTitle = "Common Stock"
		restated := l
		restated.SecurityTitle = title
		got := len(replaced(report(1, at(5, 3), l, l), amendment(2, at(5, 9), at(5, 3), restated))) == 1
		if got != want {
			t.Errorf("%q restates Common Stock: %v", title, got)
		}
	}
}

// counted returns the number of lines that are not superseded and the sum of
// their shares.
func counted(filings []market.InsiderFiling) (lines int, shares float64) {
	gone := market.Supersede(filings)
	for _, f := range filings {
		for _, l := range f.Lines {
			if _, superseded := gone[market.InsiderLineID{Accession: f.Accession, Line: l.Line}]; !superseded {
				lines++
				shares += l.Shares.Value
			}
		}
	}
	return lines, shares
}

// Whatever is repeated or corrected, and however often: nothing is counted
// twice, and nothing is lost.
func TestAmendmentsChangeNoSum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		day := at(5, 3)
		n := rapid.IntRange(1, 8).Draw(t, "lines")
		truth := make([]market.InsiderLine, n)
		for i := range truth {
			// Few values, so that equal lots are common; corrections below keep the
			// price, which tells the lots apart.
			truth[i] = sale(float64(rapid.IntRange(1, 2).Draw(t, "shares")), float64(10+i/2), float64(1000-i))
		}
		filings := []market.InsiderFiling{report(1, day, truth...)}
		for k := range rapid.IntRange(0, 5).Draw(t, "amendments") {
			var lines []market.InsiderLine
			whole := rapid.Bool().Draw(t, "whole")
			for i := range truth {
				if corrected := rapid.IntRange(0, 3).Draw(t, "corrected") == 0; corrected {
					truth[i].Shares = amount(float64(100*(k+1) + i))
				} else if !whole {
					continue
				}
				l := truth[i]
				l.SecurityTitle = rapid.SampledFrom([]string{"Common", "COMMON", "Common, par value $0.01", "Common ($.01 Par Value)"}).Draw(t, "title")
				lines = append(lines, l)
			}
			filings = append(filings, amendment(k+2, day+market.Date(k+1), day, lines...))
		}
		want := 0.0
		for _, l := range truth {
			want += l.Shares.Value
		}
		if lines, sum := counted(filings); lines != n || sum != want {
			t.Fatalf("%d lines with %v shares, want %d with %v", lines, sum, n, want)
		}
		gone := market.Supersede(filings)
		by := map[market.InsiderLineID]bool{}
		for old, new := range gone {
			if by[new] || old.Accession >= new.Accession {
				t.Fatalf("%v stands for two lines, or for a later one", new)
			}
			by[new] = true
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		r.Shuffle(len(filings), func(i, j int) { filings[i], filings[j] = filings[j], filings[i] })
		if diff := cmp.Diff(gone, market.Supersede(filings)); diff != "" {
			t.Fatalf("another order gives another result: %s", diff)
		}
	})
}

// Any filings at all: each line is replaced at most once, by a later filing of
// the same issuer, and replaces at most one, in whatever order they come.
func TestSupersedeIsOneToOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var filings []market.InsiderFiling
		issuer := map[string]int{}
		filed := map[string]market.Date{}
		for i := range rapid.IntRange(0, 8).Draw(t, "filings") {
			var lines []market.InsiderLine
			for range rapid.IntRange(0, 4).Draw(t, "lines") {
				l := sale(float64(rapid.IntRange(1, 2).Draw(t, "shares")), float64(rapid.IntRange(0, 2).Draw(t, "price")), 5)
				l.Holding, l.Derivative = rapid.Bool().Draw(t, "holding"), rapid.Bool().Draw(t, "derivative")
				l.Date += market.Date(rapid.IntRange(0, 1).Draw(t, "day"))
				l.SecurityTitle = rapid.SampledFrom([]string{"", "Common", "Class A Common", "Class B"}).Draw(t, "title")
				lines = append(lines, l)
			}
			f := report(i, at(5, 3+rapid.IntRange(0, 2).Draw(t, "filed")), lines...)
			f.IssuerCIK = rapid.IntRange(1, 2).Draw(t, "issuer")
			if rapid.Bool().Draw(t, "amends") {
				f.Form = "4/A"
				if rapid.Bool().Draw(t, "names a day") {
					f.OriginalFiled = at(5, 3+rapid.IntRange(0, 2).Draw(t, "original"))
				}
			}
			if rapid.Bool().Draw(t, "joint") {
				f.Owners = append(f.Owners, market.InsiderOwner{CIK: 3})
			}
			issuer[f.Accession], filed[f.Accession] = f.IssuerCIK, f.Filed
			filings = append(filings, f)
		}
		gone := market.Supersede(filings)
		by := map[market.InsiderLineID]bool{}
		for old, new := range gone {
			if by[new] || old.Accession == new.Accession || issuer[old.Accession] != issuer[new.Accession] || filed[old.Accession] > filed[new.Accession] {
				t.Fatalf("%v stands for %v", new, old)
			}
			by[new] = true
		}
		slices.Reverse(filings)
		if diff := cmp.Diff(gone, market.Supersede(filings)); diff != "" {
			t.Fatalf("another order gives another result: %s", diff)
		}
	})
}

func TestExamine(t *testing.T) {
	t.Parallel()
	noted := sale(50, 1, 777)
	noted.Notes = []market.InsiderNote{{ID: "F1", Of: "sharesOwnedFollowingTransaction"}}
	bought := sale(36, 1, 1000)
	bought.AcquiredDisposed = "A"
	unknown := sale(1, 1, 0)
	unknown.OwnedAfter = market.Amount{}
	other := sale(1, 1, 40)
	other.SecurityTitle = "Class B"
	late, old, nameless := sale(1, 1, 9), sale(1, 1, 9), sale(1, 1, 9)
	late.Date, old.Date, nameless.Code = at(5, 4), at(5, 3)-733, ""
	for name, tc := range map[string]struct {
		lines []market.InsiderLine
		want  map[int]market.InsiderFlags
	}{
		"sound":               {[]market.InsiderLine{sale(100, 1, 900), sale(50, 1, 850), sale(850, 1, 0)}, nil},
		"capitals":            {[]market.InsiderLine{sale(100, 1, 900), func() market.InsiderLine { l := sale(50, 1, 700); l.SecurityTitle = "COMMON"; return l }()}, map[int]market.InsiderFlags{2: market.SharesContradict}},
		"a point too many":    {[]market.InsiderLine{sale(1, 1, 125_218), sale(36, 1, 89_218), sale(18, 1, 89_200)}, map[int]market.InsiderFlags{2: market.SharesContradict}},
		"explained":           {[]market.InsiderLine{sale(100, 1, 900), noted}, map[int]market.InsiderFlags{2: market.SharesExplained}},
		"the day's total":     {[]market.InsiderLine{sale(1, 1, 900), sale(50, 1, 800), sale(30, 1, 800), sale(20, 1, 800)}, nil},
		"a wrong total":       {[]market.InsiderLine{sale(1, 1, 900), sale(50, 1, 800), sale(30, 1, 800)}, map[int]market.InsiderFlags{2: market.SharesContradict, 3: market.SharesContradict}},
		"newest first":        {[]market.InsiderLine{sale(850, 1, 0), sale(50, 1, 850), sale(100, 1, 900)}, nil},
		"rounded":             {[]market.InsiderLine{sale(100, 1, 900), sale(50.4, 1, 850)}, nil},
		"unknown in between":  {[]market.InsiderLine{sale(100, 1, 900), unknown, sale(50, 1, 10)}, nil},
		"another security":    {[]market.InsiderLine{sale(100, 1, 900), other, sale(50, 1, 850)}, nil},
		"a sale that adds":    {[]market.InsiderLine{bought}, map[int]market.InsiderFlags{1: market.DirectionContradicts}},
		"after the filing":    {[]market.InsiderLine{late}, map[int]market.InsiderFlags{1: market.AfterFiling}},
		"long before it":      {[]market.InsiderLine{old}, map[int]market.InsiderFlags{1: market.LongBeforeFiling}},
		"no code":             {[]market.InsiderLine{nameless}, map[int]market.InsiderFlags{1: market.NoCode}},
		"holdings have flags": {[]market.InsiderLine{holding("trust", 5), holding("trust", 9)}, nil},
	} {
		f := report(1, at(5, 3), tc.lines...)
		before := slices.Clone(f.Lines)
		f.Examine()
		got := map[int]market.InsiderFlags{}
		for i, l := range f.Lines {
			if l.Flags != 0 {
				got[l.Line] = l.Flags
			}
			l.Flags = 0
			if diff := cmp.Diff(before[i], l); diff != "" {
				t.Errorf("%s: it was mended: %s", name, diff)
			}
		}
		if len(got) != len(tc.want) || cmp.Diff(tc.want, got) != "" && len(got) > 0 {
			t.Errorf("%s: flags %v, want %v", name, got, tc.want)
		}
		again := f
		again.Examine()
		if diff := cmp.Diff(f, again); diff != "" {
			t.Errorf("%s: the second time differs: %s", name, diff)
		}
	}
	f := report(1, at(5, 3), sale(1, 1, 1))
	f.Lines[0].Flags = market.NoSuchNote | market.Inexact | market.SharesContradict
	f.Examine()
	if diff := cmp.Diff([]string{"no_such_note", "inexact"}, f.Lines[0].Flags.Names()); diff != "" {
		t.Error(diff)
	}
	if n := len((market.SharesContradict | market.SharesExplained | market.DirectionContradicts | market.AfterFiling | market.LongBeforeFiling |
		market.NoCode | market.NoSuchNote | market.Inexact).Names()); n != 8 {
		t.Errorf("%d names of 8 flags", n)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	for a, want := range map[market.Answer]string{market.AnswerUnknown: "unknown", market.AnswerNo: "no", market.AnswerYes: "yes"} {
		yes, known := a.Bool()
		if a.String() != want || yes != (want == "yes") || known != (want != "unknown") {
			t.Errorf("%s: %v %v, want %s", a, yes, known, want)
		}
	}
}

func TestIsInsiderForm(t *testing.T) {
	t.Parallel()
	for form, want := range map[string]bool{"3": true, "4": true, "5/A": true, "4/A": true, "424B2": false, "": false, "144": false, "3/B": false, "10-K/A": false} {
		if market.IsInsiderForm(form) != want {
			t.Errorf("%q: want %v", form, want)
		}
	}
}

func TestTakesFilings(t *testing.T) {
	t.Parallel()
	for day, want := range map[string]bool{
		"2026-03-12": true, "2026-03-14": false, "2026-03-15": false,
		"2026-04-03": true,                       // Good Friday: the exchange is closed
		"2025-10-13": false, "2025-11-11": false, // the exchange is open
		"2026-01-01": false, "2026-01-19": false, "2026-02-16": false, "2026-05-25": false, "2026-05-18": true, "2026-06-19": false,
		"2020-06-19": true, "2026-07-03": false, "2026-09-07": false, "2026-11-26": false, "2026-11-27": true, "2026-12-25": false,
		"2021-12-31": false, "2023-01-02": false, "2022-12-26": false, "2022-12-23": true,
	} {
		d, err := market.ParseDate(day)
		if err != nil {
			t.Fatal(err)
		}
		if market.TakesFilings(d) != want {
			t.Errorf("%s: want %v", day, want)
		}
	}
	if got, want := market.FilingsComplete(market.NewDate(2026, 3, 12)), time.Date(2026, 3, 13, 2, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("complete at %v, want %v", got, want)
	}
	if got, want := market.FilingsComplete(market.NewDate(2026, 1, 12)), time.Date(2026, 1, 13, 3, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("complete at %v, want %v", got, want)
	}
}

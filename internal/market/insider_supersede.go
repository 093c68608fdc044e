package market

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// InsiderLineID names a line of all filings.
type InsiderLineID struct {
	Accession string
	Line      int
}

// Supersede returns which lines are no longer to be counted and, for each, the
// line of an amendment that stands in its place. filings are those of one or
// more issuers, in any order; the result depends on no order.
//
// An amendment says when the original was filed, but not which filing that is:
// it amends those of the same issuer, form and owners (or some of them, where
// an amendment adds one or leaves one out) that were filed on the day, and what
// amends them already. If none of them is here, it amends nothing: what was
// filed on other days is not what it names. If it names no day, it amends those
// with the same period of report.
//
// Within those, a line of an amendment stands in the place of at most one line
// that is still counted, and only of one it restates: equal in all that counts;
// else of the same security, day, code and direction, with the same holdings
// after it or the same shares, or with the same owner and price, or with the
// same owner at the same place of an equal number of lines; else with the same
// figures but another day or code. What is left after that is restated where
// just one line is left on both sides: with the same figures, if all words of
// the one title are in the other; or with other figures, but of the same
// security, owner, day, code and direction, if no two originals are in
// question. A line that restates none is counted besides. So an amendment that
// repeats the whole replaces all of it, one with a few lines replaces those,
// one without lines none, and nothing is counted twice or lost. Capitals,
// punctuation and the par value make no other title.
//
// It reads Accession, Form, Filed, Accepted, Period, OriginalFiled, IssuerCIK,
// the owners' CIK and the lines without their footnotes, flags and underlying
// securities. Copies of a filing count once.
func Supersede(filings []InsiderFiling) map[InsiderLineID]InsiderLineID {
	ordered := byTime(filings)
	replaced := map[InsiderLineID]InsiderLineID{}
	families := map[familyName][]*InsiderFiling{}
	for _, f := range ordered {
		name := familyName{f.IssuerCIK, strings.TrimSuffix(f.Form, "/A")}
		if f.IsAmendment() {
			amend(f, f.amended(families[name]), replaced)
		}
		families[name] = append(families[name], f)
	}
	return replaced
}

type familyName struct {
	issuer int
	form   string
}

// byTime returns the filings in the order in which they were made: of one day,
// the amendments after what they can amend.
func byTime(filings []InsiderFiling) []*InsiderFiling {
	ordered := make([]*InsiderFiling, len(filings))
	for i := range filings {
		ordered[i] = &filings[i]
	}
	rank := func(f *InsiderFiling) int {
		if f.IsAmendment() {
			return 1
		}
		return 0
	}
	slices.SortFunc(ordered, func(a, b *InsiderFiling) int {
		return cmp.Or(
			cmp.Compare(a.Filed, b.Filed),
			cmp.Compare(rank(a), rank(b)),
			a.Accepted.Compare(b.Accepted),
			cmp.Compare(a.Accession, b.Accession),
		)
	})
	return slices.CompactFunc(ordered, func(a, b *InsiderFiling) bool { return a.Accession == b.Accession })
}

// amended returns those of the earlier filings that f amends.
func (f *InsiderFiling) amended(earlier []*InsiderFiling) []*InsiderFiling {
	day := f.OriginalFiled
	var amended []*InsiderFiling
	for _, e := range earlier {
		meant := e.Filed == day || e.IsAmendment() && e.OriginalFiled == day
		if day.IsZero() {
			meant = e.Period == f.Period
		}
		if _, some := f.owners(e); some && meant {
			amended = append(amended, e)
		}
	}
	return amended
}

// owners reports whether two filings have the same owners, and whether one has
// all those of the other.
func (f *InsiderFiling) owners(other *InsiderFiling) (same, some bool) {
	within := func(a, b *InsiderFiling) bool {
		for _, o := range a.Owners {
			if !slices.ContainsFunc(b.Owners, func(p InsiderOwner) bool { return p.CIK == o.CIK }) {
				return false
			}
		}
		return true
	}
	a, b := within(f, other), within(other, f)
	return a && b, a || b
}

// likeness is what two lines must have in common for one to restate the other.
type likeness struct {
	derivative, holding        bool
	title, nature              string
	date                       Date
	code, ad                   string
	direct                     Answer
	shares, price, after, exer Amount
	place                      int
}

// parValue is what titles say of it: "par value $0.01 per share", "$.01 par
// value", "no par value".
var parValue = regexp.MustCompile(`(\b(no|without)\s+|((us)?\$\s*\d*\.?\d+|\b\d*\.\d+)(\s+per\s+share)?[\s,]+)?` +
	`\b(par|nominal)\s+value\b([\s,]*(\bof\s+)?(us)?\$?\s*\d*\.?\d+)?(\s+(per|each)\s+share\b)?`)

// words returns a text without capitals, punctuation and par value.
func words(text string) string {
	text = strings.ToLower(text)
	if strings.Contains(text, "value") {
		text = parValue.ReplaceAllString(text, " ")
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), " ")
}

// What follows are the parts that likenesses are made of.
func kind(l *InsiderLine) likeness {
	return likeness{derivative: l.Derivative, holding: l.Holding, title: words(l.SecurityTitle)}
}

func event(l *InsiderLine) likeness {
	k := kind(l)
	k.date, k.code, k.ad = l.Date, l.Code, l.AcquiredDisposed
	return k
}

func owned(l *InsiderLine) likeness {
	k := event(l)
	k.direct, k.nature = l.Direct, words(l.Nature)
	return k
}

func whole(l *InsiderLine) likeness {
	k := owned(l)
	k.shares, k.price, k.exer = l.Shares, l.Price, l.ConversionPrice
	return k
}

func left(l *InsiderLine) likeness {
	k := owned(l)
	k.after = l.OwnedAfter
	return k
}

// likenesses returns the ways to recognise a line, the surest one first. A way
// returns false for a line that does not have what it looks at. The place
// counts only among filings of equally many lines, if more than one.
func likenesses() []func(l *InsiderLine, placed bool) (likeness, bool) {
	type way = func(l *InsiderLine, placed bool) (likeness, bool)
	return []way{
		func(l *InsiderLine, placed bool) (likeness, bool) {
			k := whole(l)
			k.after, k.place = l.OwnedAfter, l.Line
			return k, placed
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := whole(l)
			k.after = l.OwnedAfter
			return k, true
		},
		func(l *InsiderLine, _ bool) (likeness, bool) { return whole(l), !l.Holding },
		// Holdings run on from line to line, so they tell lots of one size or
		// of one price apart.
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := left(l)
			k.shares = l.Shares
			return k, l.OwnedAfter.Known && l.Shares.Known
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := left(l)
			k.price = l.Price
			return k, l.OwnedAfter.Known && l.Price.Value > 0
		},
		func(l *InsiderLine, _ bool) (likeness, bool) { return left(l), l.OwnedAfter.Known },
		func(l *InsiderLine, placed bool) (likeness, bool) {
			k := event(l)
			k.direct, k.place = l.Direct, l.Line
			return k, placed
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := event(l)
			k.shares = l.Shares
			return k, l.Shares.Known
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := event(l)
			k.direct, k.price = l.Direct, l.Price
			return k, l.Price.Value > 0
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := kind(l)
			k.direct, k.nature = l.Direct, words(l.Nature)
			return k, l.Holding
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := kind(l)
			k.shares, k.price = l.Shares, l.Price
			return k, l.Shares.Known && l.Price.Value > 0
		},
		func(l *InsiderLine, placed bool) (likeness, bool) {
			k := kind(l)
			k.direct, k.date, k.code, k.place = l.Direct, l.Date, l.Code, l.Line
			return k, placed && !l.Holding
		},
	}
}

// amend notes which lines of the targets those of f replace.
func amend(f *InsiderFiling, targets []*InsiderFiling, replaced map[InsiderLineID]InsiderLineID) {
	ways := likenesses()
	targets = f.closest(targets, ways[1])
	used := make([]bool, len(f.Lines))
	for _, way := range ways {
		for _, target := range targets {
			amendBy(way, f, target, used, replaced)
		}
	}
	amendOnly(retitled, f, targets, used, replaced)
	originals := 0
	for _, target := range targets {
		if !target.IsAmendment() {
			originals++
		}
	}
	if originals <= 1 {
		amendOnly(refigured, f, targets, used, replaced)
	}
}

// retitled recognises a line by all but its title.
func retitled(l *InsiderLine) (likeness, bool) {
	k := whole(l)
	k.title, k.after = "", l.OwnedAfter
	return k, l.Shares.Known || l.OwnedAfter.Known
}

// refigured recognises a transaction whatever its figures. Two originals may
// each have had such a one, so it takes a single original to rely on it.
func refigured(l *InsiderLine) (likeness, bool) { return owned(l), !l.Holding }

// closest orders filings by how many lines they have in common with f: an
// owner with more lines than a form holds files several on one day. It keeps
// the order of time among equals, so that an amendment that was amended itself
// comes after its original, of which no line is left then; but those of just
// the same owners come first.
func (f *InsiderFiling) closest(targets []*InsiderFiling, way func(*InsiderLine, bool) (likeness, bool)) []*InsiderFiling {
	mine := map[likeness]bool{}
	for i := range f.Lines {
		k, _ := way(&f.Lines[i], false)
		mine[k] = true
	}
	common := make(map[string]int, len(targets))
	for _, t := range targets {
		for i := range t.Lines {
			if k, _ := way(&t.Lines[i], false); mine[k] {
				common[t.Accession]++
			}
		}
	}
	others := func(t *InsiderFiling) int {
		if same, _ := f.owners(t); same {
			return 0
		}
		return 1
	}
	ordered := slices.Clone(targets)
	slices.SortStableFunc(ordered, func(a, b *InsiderFiling) int {
		return cmp.Or(cmp.Compare(common[b.Accession], common[a.Accession]), cmp.Compare(others(a), others(b)))
	})
	return ordered
}

// amendBy pairs the lines of f that are not used yet with those of the target
// that are still counted, the first with the first, by one likeness.
func amendBy(way func(*InsiderLine, bool) (likeness, bool), f, target *InsiderFiling, used []bool, replaced map[InsiderLineID]InsiderLineID) {
	placed := len(f.Lines) == len(target.Lines) && len(f.Lines) > 1
	free := map[likeness][]int{}
	for i := range target.Lines {
		l := &target.Lines[i]
		if _, gone := replaced[InsiderLineID{target.Accession, l.Line}]; gone {
			continue
		}
		if k, ok := way(l, placed); ok {
			free[k] = append(free[k], l.Line)
		}
	}
	for i := range f.Lines {
		l := &f.Lines[i]
		k, ok := way(l, placed)
		if used[i] || !ok || len(free[k]) == 0 {
			continue
		}
		used[i] = true
		replaced[InsiderLineID{target.Accession, free[k][0]}] = InsiderLineID{f.Accession, l.Line}
		free[k] = free[k][1:]
	}
}

// amendOnly pairs the lines that are left and the only ones of a likeness, both
// in f and in all the targets, if their titles can mean the same.
func amendOnly(way func(*InsiderLine) (likeness, bool), f *InsiderFiling, targets []*InsiderFiling, used []bool, replaced map[InsiderLineID]InsiderLineID) {
	type free struct {
		id    InsiderLineID
		title string
		index int
	}
	olds, news := map[likeness][]free{}, map[likeness][]free{}
	add := func(to map[likeness][]free, f *InsiderFiling, i int) {
		l := &f.Lines[i]
		if k, ok := way(l); ok {
			to[k] = append(to[k], free{InsiderLineID{f.Accession, l.Line}, words(l.SecurityTitle), i})
		}
	}
	for _, target := range targets {
		for i := range target.Lines {
			if _, gone := replaced[InsiderLineID{target.Accession, target.Lines[i].Line}]; !gone {
				add(olds, target, i)
			}
		}
	}
	for i := range f.Lines {
		if !used[i] {
			add(news, f, i)
		}
	}
	for k, by := range news {
		old := olds[k]
		if len(old) == 1 && len(by) == 1 && (hasWords(old[0].title, by[0].title) || hasWords(by[0].title, old[0].title)) {
			used[by[0].index] = true
			replaced[old[0].id] = by[0].id
		}
	}
}

// hasWords reports whether all words of one text are in the other.
func hasWords(text, all string) bool {
	there := strings.Fields(all)
	for _, w := range strings.Fields(text) {
		if !slices.Contains(there, w) {
			return false
		}
	}
	return true
}

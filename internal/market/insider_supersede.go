package market

import (
	"cmp"
	"slices"
	"strings"
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
// amends them already. If none was filed on that day, or it names none, it
// amends those with the same period of report and just the same owners.
//
// Within those, a line of an amendment stands in the place of at most one line
// that is still counted, and only of one it restates: equal in all that counts;
// else of the same security, day, code and direction, with the same holdings
// after it, at the same place of an equal number of lines, or with the same
// shares or price; else with the same figures but another day or code. A line
// that restates none is counted besides. So an amendment that repeats the whole
// replaces all of it, one with a few lines replaces those, one without lines
// none, and nothing is counted twice or lost.
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
	var named, like []*InsiderFiling
	for _, e := range earlier {
		same, some := f.owners(e)
		day := f.OriginalFiled
		if some && !day.IsZero() && (e.Filed == day || e.IsAmendment() && e.OriginalFiled == day) {
			named = append(named, e)
		}
		if same && e.Period == f.Period {
			like = append(like, e)
		}
	}
	if len(named) > 0 {
		return named
	}
	return like
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

// likenesses returns the ways to recognise a line, the surest one first. A way
// returns false for a line that does not have what it looks at. The place
// counts only among filings of equally many lines.
func likenesses() []func(l *InsiderLine, placed bool) (likeness, bool) {
	type way = func(l *InsiderLine, placed bool) (likeness, bool)
	kind := func(l *InsiderLine) likeness {
		return likeness{derivative: l.Derivative, holding: l.Holding, title: strings.ToLower(l.SecurityTitle)}
	}
	event := func(l *InsiderLine) likeness {
		k := kind(l)
		k.date, k.code, k.ad = l.Date, l.Code, l.AcquiredDisposed
		return k
	}
	whole := func(l *InsiderLine) likeness {
		k := event(l)
		k.direct, k.nature = l.Direct, strings.ToLower(l.Nature)
		k.shares, k.price, k.exer = l.Shares, l.Price, l.ConversionPrice
		return k
	}
	left := func(l *InsiderLine) likeness {
		k := event(l)
		k.after, k.direct, k.nature = l.OwnedAfter, l.Direct, strings.ToLower(l.Nature)
		return k
	}
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
			k.place = l.Line
			return k, placed
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := event(l)
			k.shares = l.Shares
			return k, l.Shares.Known
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := event(l)
			k.price = l.Price
			return k, l.Price.Value > 0
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := kind(l)
			k.direct, k.nature = l.Direct, strings.ToLower(l.Nature)
			return k, l.Holding
		},
		func(l *InsiderLine, _ bool) (likeness, bool) {
			k := kind(l)
			k.shares, k.price = l.Shares, l.Price
			return k, l.Shares.Known && l.Price.Value > 0
		},
		func(l *InsiderLine, placed bool) (likeness, bool) {
			k := likeness{derivative: l.Derivative, holding: l.Holding, date: l.Date, code: l.Code, place: l.Line}
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
}

// closest orders filings by how many lines they have in common with f: an
// owner with more lines than a form holds files several on one day. It keeps
// the order of time among equals, so that an amendment that was amended itself
// comes after its original, of which no line is left then.
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
	ordered := slices.Clone(targets)
	slices.SortStableFunc(ordered, func(a, b *InsiderFiling) int {
		return cmp.Compare(common[b.Accession], common[a.Accession])
	})
	return ordered
}

// amendBy pairs the lines of f that are not used yet with those of the target
// that are still counted, the first with the first, by one likeness.
func amendBy(way func(*InsiderLine, bool) (likeness, bool), f, target *InsiderFiling, used []bool, replaced map[InsiderLineID]InsiderLineID) {
	placed := len(f.Lines) == len(target.Lines)
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

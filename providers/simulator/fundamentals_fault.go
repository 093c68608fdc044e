package simulator

import (
	"net/http"
	"slices"
	"strings"
)

// The faults of OVERVIEW, EARNINGS and BALANCE_SHEET that the daily bars do not
// have; [FaultsOf] says which fault is whose. A fault of a value is one of PERatio,
// or of the newest quarter's reportedEPS or totalShareholderEquity.
const (
	AllNull         Fault = "all_null"         // None behind every name
	JSONNull        Fault = "json_null"        // null without quotes in place of a text
	JSONNumber      Fault = "json_number"      // a number without quotes
	Capitals        Fault = "capitals"         // sector and industry; the data are right
	RunningYear     Fault = "running_year"     // a year that has not ended, before the others
	RepeatedRows    Fault = "repeated_rows"    // the data are right
	ConflictingRows Fault = "conflicting_rows" // one quarter twice, with two values
)

// FaultsOf returns the names of the faults that a function of /query has. A
// planned fault waits for a call of a function that has it.
func FaultsOf(function string) []string {
	if !isStatement(function) {
		return Faults()
	}
	var names []string
	for _, s := range statementShapes(function) {
		names = append(names, string(s.fault))
	}
	return names
}

// allFaults returns the names of the faults of all functions.
func allFaults() []string {
	names := Faults()
	for _, function := range statementFunctions() {
		for _, name := range FaultsOf(function) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// shapeOf returns how the question is answered with a fault; nil if its
// function does not have the fault.
func (q question) shapeOf(f Fault) func(reply) {
	if !isStatement(q.function) {
		return shapeOf(f)
	}
	for _, s := range statementShapes(q.function) {
		if s.fault == f {
			return s.serve
		}
	}
	return nil
}

// statementShapes is the whole list of a function: what is said about all
// answers alike, and what is done to the function's own.
func statementShapes(function string) []shape {
	shared := slices.Concat(messages(), empties(), forms(), ways())
	own := statementValues(function)
	shared = slices.DeleteFunc(shared, func(s shape) bool {
		return s.fault == PremiumFull || s.fault == EmptySeries ||
			slices.ContainsFunc(own, func(o shape) bool { return o.fault == s.fault })
	})
	return append(shared, own...)
}

func statementValues(function string) []shape {
	number, date := "PERatio", "LatestQuarter"
	switch function {
	case earningsFunction:
		number, date = "reportedEPS", "fiscalDateEnding"
	case balanceFunction:
		number, date = "totalShareholderEquity", "fiscalDateEnding"
	}
	value := func(f Fault, name, text string, bare bool) shape {
		return restate(f, func(s *statement) { *s.newest().entry(name) = entry{name, text, bare} })
	}
	all := []shape{
		restate(WrongSymbol, func(s *statement) { s.top[0].text = "WRONG" }),
		value(BadDate, date, "2026-02-30", false),
		value(BadNumber, number, "12,5", false),
		value(NaN, number, "NaN", false),
		value(Exponent, number, "1e3", false),
		value(BadUTF8, number, "1\xff", false),
		value(NUL, number, "1\x00", false),
		value(JSONNull, number, "null", true),
		value(JSONNumber, number, "12.5", true),
		restate(RenamedField, func(s *statement) { s.newest().entry(number).name += "X" }),
		restate(ExtraField, func(s *statement) { s.add(entry{name: "Extra", text: "1"}) }),
		restate(RepeatedField, func(s *statement) { s.add(entry{name: number, text: "1"}) }),
		restate(AllNull, (*statement).forget),
	}
	if function == overviewFunction {
		return append(all, restate(Capitals, func(s *statement) {
			for _, name := range [...]string{"Sector", "Industry"} {
				s.top.entry(name).text = strings.ToUpper(s.top.entry(name).text)
			}
		}))
	}
	all = append(all, rowValues(number)...)
	if function == earningsFunction {
		all = append(all, restate(RunningYear, func(s *statement) {
			annual := &s.lists[0].rows
			year := slices.Clone((*annual)[0])
			end := &year.entry("fiscalDateEnding").text
			if (*end)[5:7] == (*annual)[1].entry("fiscalDateEnding").text[5:7] {
				*end = "2026-02-28" // when no year of the simulator ends
				*annual = slices.Insert(*annual, 0, year)
			}
		}))
	}
	return all
}

// rowValues are those of an answer with lists.
func rowValues(number string) []shape {
	return []shape{
		restate(EmptyReports, func(s *statement) { s.lists[0].rows, s.lists[1].rows = nil, nil }),
		restate(Unsorted, func(s *statement) { slices.Reverse(s.lists[0].rows); slices.Reverse(s.lists[1].rows) }),
		restate(RepeatedRows, func(s *statement) {
			for i := range s.lists {
				s.lists[i].rows = slices.Insert(s.lists[i].rows, 0, s.lists[i].rows[:2]...)
			}
		}),
		restate(ConflictingRows, func(s *statement) {
			twin := slices.Clone(s.newest())
			twin.entry(number).text = "0.01"
			s.lists[1].rows = append(s.lists[1].rows, twin)
		}),
	}
}

// restate is a fault of a statement that is right but for one change.
func restate(f Fault, change func(*statement)) shape {
	return shape{f, func(a reply) {
		s := a.statement()
		if !s.hollow() {
			change(s)
		}
		a.send(http.StatusOK, "application/json", s.json())
	}}
}

// hollow reports whether there is too little for a fault.
func (s *statement) hollow() bool {
	return len(s.top) == 0 || slices.ContainsFunc(s.lists, func(l list) bool { return len(l.rows) < 2 })
}

// newest is the record that speaks of the newest quarter.
func (s *statement) newest() record {
	if s.lists == nil {
		return s.top
	}
	return s.lists[1].rows[0]
}

// add puts an entry at the end of the newest record.
func (s *statement) add(e entry) {
	if s.lists == nil {
		s.top = append(s.top, e)
		return
	}
	row := &s.lists[1].rows[0]
	*row = append(*row, e)
}

// forget makes all null but what says whose the answer is.
func (s *statement) forget() {
	for i := range s.top[1:] {
		s.top[i+1].text = "None"
	}
	for _, l := range s.lists {
		for _, r := range l.rows {
			for i := range r[1:] {
				r[i+1].text = "None"
			}
		}
	}
}

// entry returns the entry of a name that is there.
func (r record) entry(name string) *entry {
	return &r[slices.IndexFunc(r, func(e entry) bool { return e.name == name })]
}

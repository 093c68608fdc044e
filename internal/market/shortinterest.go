package market

import (
	"fmt"
	"math"
)

// Count is a number of shares that a provider can leave out; the zero Count is
// null.
type Count struct {
	Value int64
	Known bool
}

// Ratio is a figure that there is not always; the zero Ratio is null.
type Ratio struct {
	Value float64
	Known bool
	// Raw is what the provider writes where there is no figure, such as
	// 999.99. It is 0 if Known, and if the provider wrote nothing.
	Raw float64
}

// ShortInterest is how many shares of a symbol were sold short and not bought
// back at a settlement date, summed over the members of FINRA.
type ShortInterest struct {
	Symbol Symbol
	// Settlement is the date that is counted; the number is published about
	// seven business days later, see [Calendar.PublishedAt].
	Settlement Date
	// Shares is the short interest.
	Shares int64
	// Previous is that of the settlement date before, as it is known now. It
	// differs from the Shares of that date after a revision or a split.
	Previous Count
	// AvgDailyVolume is the mean volume of a day between the two dates, in
	// shares.
	AvgDailyVolume Count
	// DaysToCover is Shares over AvgDailyVolume. FINRA rounds it to two
	// digits and up to 1.00 at least.
	DaysToCover Ratio
	// ChangePct is by how much Shares differs from Previous, in percent of
	// Previous: 20.13 is 20.13 %.
	ChangePct Ratio
	// RevisionFlag is R if Previous was revised, SplitFlag is S if the shares
	// were split since the date before; "" for neither. They are as FINRA
	// writes them, so there can be others.
	RevisionFlag, SplitFlag string
}

// noDaysToCover is FINRA's greatest number of days to cover, which it also
// writes if there was no volume: it is no ratio in either case.
const noDaysToCover = 999.99

// Normal brings the figures to one rule, from what the provider has written:
//
//   - DaysToCover of 999.99 or more and any ChangePct from a Previous of zero
//     (FINRA writes 100) are no figures: they become null, and Raw keeps them.
//   - A figure that was left out is computed as FINRA does it: rounded to two
//     digits, DaysToCover up to 1.00 at least. It stays null where the division
//     has no result, where a number for it is unknown, and from 999.99 days.
//   - Every other figure stays as it was delivered.
//
// A row that is normal already stays as it is.
func (s ShortInterest) Normal() ShortInterest {
	if s.DaysToCover.Known && s.DaysToCover.Value >= noDaysToCover {
		s.DaysToCover = Ratio{Raw: s.DaysToCover.Value}
	}
	if s.ChangePct.Known && s.Previous == (Count{Known: true}) {
		s.ChangePct = Ratio{Raw: s.ChangePct.Value}
	}
	if s.DaysToCover == (Ratio{}) && s.AvgDailyVolume.Value > 0 {
		if days := max(1, cents(float64(s.Shares)/float64(s.AvgDailyVolume.Value))); days < noDaysToCover {
			s.DaysToCover = Ratio{Value: days, Known: true}
		}
	}
	if s.ChangePct == (Ratio{}) && s.Previous.Value > 0 {
		change := (float64(s.Shares) - float64(s.Previous.Value)) / float64(s.Previous.Value)
		s.ChangePct = Ratio{Value: cents(100 * change), Known: true}
	}
	return s
}

// cents rounds to two digits.
func cents(v float64) float64 { return math.Round(v*100) / 100 }

// Correction returns the short interest that the row gives for the settlement
// date before its own; ok is false if it corrects none. Shares of before and
// after a split cannot be compared, so a row with both flags corrects none.
//
// FINRA's own row of the date before stays as it was published: read again, it
// must not undo a correction.
func (s ShortInterest) Correction() (shares int64, ok bool) {
	if s.RevisionFlag != "R" || s.SplitFlag != "" || !s.Previous.Known {
		return 0, false
	}
	return s.Previous.Value, true
}

// Corrected returns the row with the short interest that a later row gives for
// its date, and the figures that follow from it computed by the rule of
// [ShortInterest.Normal].
func (s ShortInterest) Corrected(shares int64) ShortInterest {
	s.Shares, s.DaysToCover, s.ChangePct = shares, Ratio{}, Ratio{}
	return s.Normal()
}

// maxFlag bounds the flags.
const maxFlag = 8

// Validate reports whether the row can be one of a settlement date: a symbol
// and a date; no negative number; finite figures, no change below -100 %, no
// figure beside what stands for none; flags of at most 8 letters and digits.
// The error is a *[PayloadError].
func (s ShortInterest) Validate() error {
	if reason := s.fault(); reason != "" {
		return &PayloadError{Reason: fmt.Sprintf("short interest of %s at %v: %s", quote(string(s.Symbol)), s.Settlement, reason)}
	}
	return nil
}

func (s *ShortInterest) fault() string {
	switch {
	case !isSymbol(string(s.Symbol)):
		return "the symbol is malformed"
	case s.Settlement <= 0:
		return "the date is missing"
	case s.Shares < 0 || s.Previous.Value < 0 || s.AvgDailyVolume.Value < 0:
		return fmt.Sprintf("%d shares, %d before, %d a day: none can be below zero", s.Shares, s.Previous.Value, s.AvgDailyVolume.Value)
	case !s.Previous.Known && s.Previous.Value != 0 || !s.AvgDailyVolume.Known && s.AvgDailyVolume.Value != 0:
		return "a number that is not known has a value"
	case !s.DaysToCover.isSound(0) || !s.ChangePct.isSound(-100):
		return fmt.Sprintf("%+v days to cover, a change of %+v %%: want finite figures, the change not below -100", s.DaysToCover, s.ChangePct)
	case !isFlag(s.RevisionFlag) || !isFlag(s.SplitFlag):
		return fmt.Sprintf("flags %s and %s: want at most %d capital letters and digits", quote(s.RevisionFlag), quote(s.SplitFlag), maxFlag)
	}
	return ""
}

// isSound is false for NaN, which compares as neither.
func (r Ratio) isSound(least float64) bool {
	inRange := func(v float64) bool { return v >= least && v <= math.MaxFloat64 }
	if r.Known {
		return inRange(r.Value) && r.Raw == 0
	}
	return r.Value == 0 && inRange(r.Raw)
}

func isFlag(s string) bool { return s == "" || isCode(s, maxFlag) }

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// FundamentalsRow is a row of the table fundamentals; nil is null.
type FundamentalsRow struct {
	Figures          [market.NumFields]*float64 // in the order of the columns
	Sector, Industry *string
	Metadata         *string // JSON
}

// The members of the metadata that are ours.
const (
	fieldsMember   = "fields"
	detailsMember  = "details"
	sectorColumn   = "sector"
	industryColumn = "industry"
)

// Read returns what the row says. A value that is no finite number counts as
// null. Where the metadata, which another program may have written, does not
// tell the origin of a value, that is zero.
func (r *FundamentalsRow) Read(symbol market.Symbol, date market.Date) market.Fundamentals {
	f := market.Fundamentals{Symbol: symbol, Date: date}
	document := object(r.Metadata)
	origins := members(document[fieldsMember])
	for i, value := range r.Figures {
		if value != nil && isNumber(*value) {
			f.Figures[i] = market.Figure{Value: *value, Known: true, Origin: origin(origins[market.Field(i).String()])}
		}
	}
	f.Sector = label(r.Sector, origins[sectorColumn])
	f.Industry = label(r.Industry, origins[industryColumn])
	if err := json.Unmarshal(document[detailsMember], &f.Details); err != nil {
		f.Details = nil
	}
	return f
}

func label(text *string, raw json.RawMessage) market.Label {
	if text == nil || *text == "" {
		return market.Label{}
	}
	return market.Label{Text: *text, Origin: origin(raw)}
}

// origin reads the origin of a value, zero if raw is none.
func origin(raw json.RawMessage) market.Origin {
	var o market.Origin
	if err := json.Unmarshal(raw, &o); err != nil {
		return market.Origin{}
	}
	return o
}

// object reads a JSON object, empty if document is none.
func object(document *string) map[string]json.RawMessage {
	if document == nil {
		return map[string]json.RawMessage{}
	}
	return members(json.RawMessage(*document))
}

func members(raw json.RawMessage) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return map[string]json.RawMessage{}
	}
	return all
}

// MergeFundamentals merges row into the stored row of the same symbol and date,
// nil if there is none. It returns the row to write, nil if what is stored says
// as much already. Members of the stored metadata that are not ours are kept.
func MergeFundamentals(stored *FundamentalsRow, row market.Fundamentals) (*FundamentalsRow, error) {
	var had market.Fundamentals
	var metadata *string
	if stored != nil {
		had, metadata = stored.Read(row.Symbol, row.Date), stored.Metadata
	}
	merged := had.Merge(row)
	if stored != nil && sameFundamentals(&had, &merged) {
		return nil, nil //nolint:nilnil // nothing to write
	}
	w := &FundamentalsRow{Sector: textOrNull(merged.Sector.Text), Industry: textOrNull(merged.Industry.Text)}
	for i, figure := range merged.Figures {
		if figure.Known {
			w.Figures[i] = &figure.Value
		}
	}
	document, err := encodeMetadata(object(metadata), &merged)
	w.Metadata = textOrNull(string(document))
	return w, err
}

func sameFundamentals(a, b *market.Fundamentals) bool {
	return a.Figures == b.Figures && a.Sector == b.Sector && a.Industry == b.Industry && maps.Equal(a.Details, b.Details)
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// encodeMetadata writes the origins and the details into document.
func encodeMetadata(document map[string]json.RawMessage, f *market.Fundamentals) ([]byte, error) {
	origins := members(document[fieldsMember])
	set := func(column string, known bool, o market.Origin) error {
		if !known || o == (market.Origin{}) {
			delete(origins, column)
			return nil
		}
		return encodeMember(origins, column, o)
	}
	errs := []error{
		set(sectorColumn, f.Sector.Text != "", f.Sector.Origin),
		set(industryColumn, f.Industry.Text != "", f.Industry.Origin),
	}
	for i, figure := range f.Figures {
		errs = append(errs, set(market.Field(i).String(), figure.Known, figure.Origin))
	}
	errs = append(errs, encodeMember(document, fieldsMember, origins))
	if len(f.Details) > 0 {
		errs = append(errs, encodeMember(document, detailsMember, f.Details))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(document)
}

func encodeMember(object map[string]json.RawMessage, name string, value any) error {
	raw, err := json.Marshal(value)
	object[name] = raw
	return err
}

// SourcesOf names the providers of a row in ascending order, with commas
// between them.
func SourcesOf(row market.Fundamentals) string {
	sources := map[string]bool{}
	for _, figure := range row.Figures {
		if figure.Known {
			sources[figure.Source] = true
		}
	}
	for _, l := range []market.Label{row.Sector, row.Industry} {
		if l.Text != "" {
			sources[l.Source] = true
		}
	}
	delete(sources, "")
	return strings.Join(slices.Sorted(maps.Keys(sources)), ",")
}

// CheckFundamentals refuses a row that no store can hold as it is: without a
// symbol or a date, with a value that is no number or a text that is none. A
// row of nulls is refused because saving it would make the symbol done for
// nothing; SaveAttempt records such an answer.
func CheckFundamentals(row market.Fundamentals) error {
	switch {
	case row.Symbol == "":
		return errors.New("fundamentals without a symbol")
	case !storable(row.Date):
		return errors.New("fundamentals without a date")
	case row.Empty():
		return errors.New("no figure and no label: an empty answer is recorded as an attempt, not saved")
	}
	for i, figure := range row.Figures {
		if !figure.Known {
			continue
		}
		if !isNumber(figure.Value) {
			return fmt.Errorf("%s: the value is not a finite number", market.Field(i))
		}
		if err := checkOrigin(figure.Origin); err != nil {
			return fmt.Errorf("%s: %w", market.Field(i), err)
		}
	}
	for column, l := range map[string]market.Label{sectorColumn: row.Sector, industryColumn: row.Industry} {
		if err := checkOrigin(l.Origin); err != nil || !isText(l.Text) {
			return errors.Join(fmt.Errorf("%s: bytes that are no text, or a bad origin", column), err)
		}
	}
	for name, text := range row.Details {
		if !isText(name, text) {
			return fmt.Errorf("detail %q: bytes that are no text", name)
		}
	}
	return nil
}

func checkOrigin(o market.Origin) error {
	if !isText(o.Source) {
		return errors.New("the source holds bytes that are no text")
	}
	for _, d := range []market.Date{o.Filed, o.Period} {
		if !d.IsZero() && !storable(d) {
			return fmt.Errorf("day %d is in no year of four digits", d)
		}
	}
	return nil
}

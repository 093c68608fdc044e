package wire

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Malformed keeps of an error of the JSON decoder what is wrong and where, and
// drops its text, which quotes the document. It returns [ErrCut] for a document
// that ends early and [ErrLongValue] for a value beyond the bound of a [Body].
func Malformed(err error) error {
	switch {
	case errors.Is(err, ErrLongValue):
		return ErrLongValue
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return ErrCut
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("a name occurs twice in one object")
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("no JSON document: wrong at byte %d", syntax.ByteOffset)
	}
	if _, ok := errors.AsType[*json.SemanticError](err); ok {
		return errors.New("a value is of another type than the provider's")
	}
	return errors.New("no JSON document")
}

// Expect reads the next token, which must be of kind want. where names in the
// error what should begin or end there, such as "the answer".
func Expect(dec *jsontext.Decoder, want jsontext.Kind, where string) error {
	token, err := dec.ReadToken()
	switch {
	case err != nil:
		return Malformed(err)
	case token.Kind() != want:
		return fmt.Errorf("%s has the wrong shape at byte %d", where, dec.InputOffset())
	}
	return nil
}

// End refuses whatever but blanks comes after the document.
func End(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("more after the end of the document")
	}
	return nil
}

// Once notes in seen that name occurred, and refuses it if it had before. It is
// for decoders that allow repeated names, since they would have to remember
// every name of a large object.
func Once(seen *bool, name string) error {
	if *seen {
		return fmt.Errorf("%s occurs twice", name)
	}
	*seen = true
	return nil
}

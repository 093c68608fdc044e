package edgar

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/alpha-oracle/worker/providers/wire"
)

const (
	// maxDepth bounds how deep elements are nested; forms reach six.
	maxDepth = 64
	// maxAttributes bounds those of one element; forms have one.
	maxAttributes = 32
)

// xmlKind is the kind of an [xmlScanner]'s token.
type xmlKind uint8

const (
	xmlEnd   xmlKind = iota // of the document
	xmlOpen                 // <x>
	xmlClose                // </x>, also after <x/>
	xmlText                 // with its references resolved, or a CDATA section
)

// xmlScanner cuts a document into tokens. It takes the part of XML 1.0 that
// data need and is strict about it: what is not well-formed is refused, and so
// is a document type, with which entities could be declared. Names are ASCII;
// prefixes are cut off, whatever they stand for. Comments and processing
// instructions are passed over, line ends left as they are.
//
// The slices that it hands out stay valid.
type xmlScanner struct {
	doc []byte // in UTF-8
	at  int
	// open are the names of the elements around, with their prefixes.
	open [][]byte
	// name is the local name of the element that was opened last, attrs are
	// its attributes.
	name  []byte
	attrs []xmlAttr
	// text is that of a text token.
	text []byte
	// closing says that the element that was opened last has no content.
	closing, rooted bool
}

type xmlAttr struct{ name, value []byte }

// newXML returns a scanner of a document in US-ASCII, UTF-8 or ISO-8859-1, as
// its declaration says, in UTF-8 if it has none.
func newXML(doc []byte) (*xmlScanner, error) {
	doc = bytes.TrimPrefix(doc, []byte("\uFEFF"))
	s := &xmlScanner{doc: doc}
	encoding := "utf-8"
	if bytes.HasPrefix(doc, []byte("<?xml")) && len(doc) > 5 && isBlank(doc[5]) {
		var err error
		if encoding, err = s.declaration(); err != nil {
			return nil, err
		}
	}
	if err := s.decode(encoding); err != nil {
		return nil, err
	}
	return s, nil
}

// declaration reads <?xml version="1.0" encoding="..." standalone="..."?>.
func (s *xmlScanner) declaration() (encoding string, err error) {
	bad := errors.New("the XML declaration is malformed")
	s.at = len("<?xml")
	if err := s.attributes(); err != nil || !bytes.HasPrefix(s.doc[s.at:], []byte("?>")) {
		return "", bad
	}
	s.at += len("?>")
	encoding = "utf-8"
	order := [...]string{"version", "encoding", "standalone"}
	next := 0
	for i, a := range s.attrs {
		for next < len(order) && string(a.name) != order[next] {
			next++
		}
		if next++; next > len(order) || i == 0 && string(a.name) != "version" {
			return "", bad
		}
		switch v := string(a.value); string(a.name) {
		case "version":
			if v != "1.0" {
				return "", errors.New("an XML version other than 1.0")
			}
		case "encoding":
			encoding = string(bytes.ToLower(a.value))
		case "standalone":
			if v != "yes" && v != "no" {
				return "", bad
			}
		}
	}
	if len(s.attrs) == 0 {
		return "", bad
	}
	return encoding, nil
}

// decode turns the document into UTF-8 and refuses bytes that no document may
// hold.
func (s *xmlScanner) decode(encoding string) error {
	plain := true
	for _, c := range s.doc {
		if c < ' ' && !isBlank(c) {
			return errors.New("a control character in XML")
		}
		plain = plain && c < utf8.RuneSelf
	}
	switch encoding {
	case "utf-8":
		if !utf8.Valid(s.doc) || bytes.Contains(s.doc, []byte("\uFFFE")) || bytes.Contains(s.doc, []byte("\uFFFF")) {
			return errors.New("the XML is not in UTF-8")
		}
	case "us-ascii", "ascii":
		if !plain {
			return errors.New("the XML is not in ASCII as it says")
		}
	case "iso-8859-1", "latin1":
		if plain {
			return nil
		}
		decoded := make([]byte, 0, len(s.doc)+len(s.doc)/8)
		for _, c := range s.doc {
			decoded = utf8.AppendRune(decoded, rune(c))
		}
		s.doc = decoded // the declaration is ASCII: at still fits
	default:
		return errors.New("the XML is in an encoding other than ASCII, UTF-8 and ISO-8859-1")
	}
	return nil
}

// next returns the kind of the next token.
func (s *xmlScanner) next() (xmlKind, error) {
	if s.closing {
		s.closing = false
		s.open = s.open[:len(s.open)-1]
		return xmlClose, nil
	}
	for {
		rest := s.doc[s.at:]
		switch {
		case len(rest) == 0:
			if len(s.open) > 0 || !s.rooted {
				return 0, wire.ErrCut
			}
			return xmlEnd, nil
		case rest[0] != '<':
			done, err := s.chars()
			if done || err != nil {
				return xmlText, err
			}
		case len(rest) == 1:
			return 0, wire.ErrCut
		case rest[1] == '/':
			return xmlClose, s.endTag()
		case rest[1] == '?':
			if err := s.instruction(); err != nil {
				return 0, err
			}
		case rest[1] == '!':
			done, err := s.declared()
			if done || err != nil {
				return xmlText, err
			}
		default:
			return xmlOpen, s.startTag()
		}
	}
}

// chars reads text; done is false for what stands outside of the root.
func (s *xmlScanner) chars() (done bool, err error) {
	text := s.doc[s.at:]
	if i := bytes.IndexByte(text, '<'); i >= 0 {
		text = text[:i]
	}
	if len(s.open) == 0 {
		if !isBlankText(text) {
			return false, s.wrong("text outside of the document")
		}
		s.at += len(text)
		return false, nil
	}
	if bytes.Contains(text, []byte("]]>")) {
		return false, s.wrong("the end of a CDATA section without its beginning")
	}
	if s.text, err = s.resolve(text); err != nil {
		return false, err
	}
	s.at += len(text)
	return true, nil
}

// startTag reads <name attribute="value"> or the same with /> at its end.
func (s *xmlScanner) startTag() error {
	if len(s.open) == 0 && s.rooted {
		return s.wrong("a second root")
	}
	if len(s.open) == maxDepth {
		return s.wrong("elements nested too deep")
	}
	s.at++
	qualified, local, err := s.qualifiedName()
	if err != nil {
		return err
	}
	if err := s.attributes(); err != nil {
		return err
	}
	switch rest := s.doc[s.at:]; {
	case bytes.HasPrefix(rest, []byte(">")):
		s.at++
	case bytes.HasPrefix(rest, []byte("/>")):
		s.at += 2
		s.closing = true
	case len(rest) < 2:
		return wire.ErrCut
	default:
		return s.wrong("a malformed tag")
	}
	s.rooted = true
	s.name = local
	s.open = append(s.open, qualified)
	return nil
}

func (s *xmlScanner) endTag() error {
	s.at += 2
	name, _, err := s.qualifiedName()
	if err != nil {
		return err
	}
	s.blanks()
	switch {
	case s.at == len(s.doc):
		return wire.ErrCut
	case s.doc[s.at] != '>':
		return s.wrong("a malformed tag")
	case len(s.open) == 0 || !bytes.Equal(s.open[len(s.open)-1], name):
		return s.wrong("a closing tag that does not fit")
	}
	s.at++
	s.open = s.open[:len(s.open)-1]
	return nil
}

// attributes reads those of a tag into attrs, up to what ends the tag.
func (s *xmlScanner) attributes() error {
	s.attrs = s.attrs[:0]
	for {
		apart := s.blanks()
		if s.at == len(s.doc) {
			return wire.ErrCut
		}
		if c := s.doc[s.at]; c == '>' || c == '/' || c == '?' {
			return nil
		}
		if !apart || len(s.attrs) == maxAttributes {
			return s.wrong("a malformed tag")
		}
		if err := s.attribute(); err != nil {
			return err
		}
	}
}

func (s *xmlScanner) attribute() error {
	name, _, err := s.qualifiedName()
	if err != nil {
		return err
	}
	for _, a := range s.attrs {
		if bytes.Equal(a.name, name) {
			return s.wrong("an attribute twice")
		}
	}
	s.blanks()
	if s.at == len(s.doc) || s.doc[s.at] != '=' {
		return s.wrong("an attribute without a value")
	}
	s.at++
	s.blanks()
	if s.at == len(s.doc) || s.doc[s.at] != '"' && s.doc[s.at] != '\'' {
		return s.wrong("an attribute without a value")
	}
	value := s.doc[s.at+1:]
	end := bytes.IndexByte(value, s.doc[s.at])
	if end < 0 {
		return wire.ErrCut
	}
	value = value[:end]
	if bytes.IndexByte(value, '<') >= 0 {
		return s.wrong("a tag within an attribute")
	}
	s.at++
	if value, err = s.resolve(value); err != nil {
		return err
	}
	s.at += end + 1
	s.attrs = append(s.attrs, xmlAttr{name, value})
	return nil
}

// attr returns the value of an attribute of the element opened last.
func (s *xmlScanner) attr(name string) []byte {
	for _, a := range s.attrs {
		if string(a.name) == name {
			return a.value
		}
	}
	return nil
}

// qualifiedName reads a name and cuts its prefix off.
func (s *xmlScanner) qualifiedName() (qualified, local []byte, err error) {
	from := s.at
	for s.at < len(s.doc) && isNameByte(s.doc[s.at]) {
		s.at++
	}
	qualified = s.doc[from:s.at]
	prefix, local, prefixed := bytes.Cut(qualified, []byte(":"))
	if !prefixed {
		prefix, local = nil, qualified
	}
	if !isName(local) || prefixed && !isName(prefix) {
		return nil, nil, s.wrong("a malformed name")
	}
	return qualified, local, nil
}

// isName refuses what a name cannot begin with, and a second prefix.
func isName(name []byte) bool {
	return len(name) > 0 && (isLetter(name[0]) || name[0] == '_') && bytes.IndexByte(name, ':') < 0
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isNameByte(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ':'
}

// instruction passes over <?target ...?>. A declaration has its place at the
// beginning alone.
func (s *xmlScanner) instruction() error {
	from := s.at
	s.at += 2
	name, _, err := s.qualifiedName()
	if err != nil {
		return err
	}
	end := bytes.Index(s.doc[s.at:], []byte("?>"))
	switch {
	case end < 0:
		return wire.ErrCut
	case bytes.EqualFold(name, []byte("xml")):
		s.at = from
		return s.wrong("an XML declaration that is not at the beginning")
	case end > 0 && !isBlank(s.doc[s.at]):
		return s.wrong("a malformed processing instruction")
	}
	s.at += end + 2
	return nil
}

// declared reads what begins with <!: a comment, for which done is false, or a
// CDATA section.
func (s *xmlScanner) declared() (done bool, err error) {
	const comment, cdata = "<!--", "<![CDATA["
	rest := s.doc[s.at:]
	switch {
	case bytes.HasPrefix(rest, []byte(comment)):
		end := bytes.Index(rest[len(comment):], []byte("--"))
		if end < 0 || len(comment)+end+2 == len(rest) {
			return false, wire.ErrCut
		}
		if rest[len(comment)+end+2] != '>' {
			return false, s.wrong("two hyphens in a comment")
		}
		s.at += len(comment) + end + len("-->")
		return false, nil
	case bytes.HasPrefix(rest, []byte(cdata)) && len(s.open) > 0:
		end := bytes.Index(rest, []byte("]]>"))
		if end < 0 {
			return false, wire.ErrCut
		}
		s.text = rest[len(cdata):end]
		s.at += end + len("]]>")
		return true, nil
	case len(rest) < len(cdata):
		return false, wire.ErrCut
	}
	return false, s.wrong("a document type or a declaration, which no form has")
}

// resolve replaces the references of a text. There are five names; others
// would have to be declared, which is refused.
func (s *xmlScanner) resolve(text []byte) ([]byte, error) {
	i := bytes.IndexByte(text, '&')
	if i < 0 {
		return text, nil
	}
	out := make([]byte, 0, len(text))
	for ; i >= 0; i = bytes.IndexByte(text, '&') {
		out = append(out, text[:i]...)
		text = text[i+1:]
		end := bytes.IndexByte(text[:min(len(text), 16)], ';')
		if end < 0 {
			return nil, s.wrong("an ampersand that is no reference")
		}
		r, ok := reference(text[:end])
		if !ok {
			return nil, s.wrong("a reference to what is not known")
		}
		out = utf8.AppendRune(out, r)
		text = text[end+1:]
	}
	return append(out, text...), nil
}

func reference(name []byte) (rune, bool) {
	switch string(name) {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "apos":
		return '\'', true
	case "quot":
		return '"', true
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(string(digits), base, 32)
	r := rune(n)
	ok := err == nil && n <= utf8.MaxRune && utf8.ValidRune(r) && (r >= ' ' || isBlank(byte(r))) && r != 0xFFFE && r != 0xFFFF
	return r, ok
}

// children reads what is left of the element that was just opened, and calls
// child for each element in it, which must read that to its end.
func (s *xmlScanner) children(child func(name []byte) error) error {
	for {
		kind, err := s.next()
		switch {
		case err != nil:
			return err
		case kind == xmlClose:
			return nil
		case kind == xmlText && !isBlankText(s.text):
			return s.wrong("text where only elements belong")
		case kind == xmlOpen:
			if err := child(s.name); err != nil {
				return err
			}
		}
	}
}

// content reads the element that was just opened to its end and returns its
// text, also that of elements within it, as footnotes have for their looks.
func (s *xmlScanner) content() ([]byte, error) {
	var text []byte
	for depth := len(s.open); len(s.open) >= depth; {
		kind, err := s.next()
		if err != nil {
			return nil, err
		}
		if kind == xmlText {
			text = join(text, s.text)
		}
	}
	return text, nil
}

// skip reads the element that was just opened to its end.
func (s *xmlScanner) skip() error {
	for depth := len(s.open); len(s.open) >= depth; {
		if _, err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

// join appends to a text, which is copied only if there is more than one part.
func join(text, more []byte) []byte {
	if len(text) == 0 {
		return more
	}
	return append(text[:len(text):len(text)], more...)
}

func (s *xmlScanner) blanks() bool {
	from := s.at
	for s.at < len(s.doc) && isBlank(s.doc[s.at]) {
		s.at++
	}
	return s.at > from
}

// wrong names the place, since it must not quote the document.
func (s *xmlScanner) wrong(what string) error {
	return fmt.Errorf("no XML document: %s at byte %d", what, s.at)
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func isBlankText(text []byte) bool {
	for _, c := range text {
		if !isBlank(c) {
			return false
		}
	}
	return true
}

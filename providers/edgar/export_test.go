package edgar

// XMLTokens returns what the scanner makes of a document: "<name",
// "@attribute=value", ">" and texts with an apostrophe before them.
func XMLTokens(doc []byte) ([]string, error) {
	x, err := newXML(doc)
	if err != nil {
		return nil, err
	}
	var tokens []string
	for {
		kind, err := x.next()
		switch {
		case err != nil:
			return nil, err
		case kind == xmlEnd:
			return tokens, nil
		case kind == xmlOpen:
			tokens = append(tokens, "<"+string(x.name))
			for _, a := range x.attrs {
				tokens = append(tokens, "@"+string(a.name)+"="+string(a.value))
			}
		case kind == xmlClose:
			tokens = append(tokens, ">")
		case kind == xmlText:
			tokens = append(tokens, "'"+string(x.text))
		}
	}
}

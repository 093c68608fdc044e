package market

// ListedFiling is a filing as an index of the SEC lists it.
type ListedFiling struct {
	// Accession is the number of the filing, as in 0001640147-22-000123.
	Accession string
	// Form is its type, such as "4" or "4/A".
	Form  string
	Filed Date
	// Filers are the wanted ones among those under whose numbers (CIK) the
	// filing is listed, in ascending order. A report of an insider is listed
	// under its issuer and under each owner, and an issuer can be an owner
	// too, so none of Filers is the issuer for certain.
	Filers []int
}

// PendingFiling is a listed filing that is still to be fetched.
type PendingFiling struct {
	ListedFiling
	// Failures is how often it was fetched in vain in the same way: the
	// greatest number of attempts with one outcome, of those outcomes that the
	// document itself can be guilty of.
	Failures int
	// Outcome is that outcome, Message what its newest attempt says; both are
	// "" if Failures is 0.
	Outcome, Message string
}

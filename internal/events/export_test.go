package events

// WithMember is for the tests of its bytes.
var WithMember = withMember

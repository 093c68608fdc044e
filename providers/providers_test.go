package providers_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/alpha-oracle/worker/providers"
)

func TestKinds(t *testing.T) {
	t.Parallel()
	for kind, want := range map[providers.Kind]struct {
		outcome string
		stops   bool
	}{
		providers.Transient:     {"provider_error", false},
		providers.RateLimited:   {"limit_note", false},
		providers.Quota:         {"quota", true},
		providers.NoData:        {"no_data", false},
		providers.UnknownSymbol: {"unknown_symbol", false},
		providers.PremiumOnly:   {"premium_only", true},
		providers.BadPayload:    {"bad_payload", false},
		providers.Rejected:      {"provider_error", true},
		providers.Unavailable:   {"provider_error", true},
		providers.Kind(200):     {"provider_error", false},
	} {
		e := &providers.Error{Provider: "acme", Kind: kind, Err: io.ErrUnexpectedEOF}
		if e.Outcome() != want.outcome || e.Stops() != want.stops {
			t.Errorf("kind %d: %s, stops %t; want %+v", kind, e.Outcome(), e.Stops(), want)
		}
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	e := &providers.Error{Provider: "acme", Kind: providers.Transient, Err: io.ErrUnexpectedEOF}
	if got := e.Error(); got != "acme: unexpected EOF" {
		t.Errorf("text = %q", got)
	}
	e.Op = "daily bars AAPL"
	if got := e.Error(); got != "acme: daily bars AAPL: unexpected EOF" {
		t.Errorf("text = %q", got)
	}
	var found *providers.Error
	if err := fmt.Errorf("run: %w", e); !errors.As(err, &found) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v hides the error or its cause", err)
	}
}

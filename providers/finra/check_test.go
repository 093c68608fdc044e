package finra_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/finra"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const fine = providers.Kind(255)
	says := func(code string) string {
		return `{"statusCode":` + code + `,"statusDescription":"x","requestId":"1","message":"Invalid \"field\".\nSee below.","dataRequest":{"fields":["statusCode"`
	}
	for name, tc := range map[string]struct {
		status int
		head   string
		kind   providers.Kind
		says   string
	}{
		"rows":                 {200, `[{"statusCode":400}]`, fine, ""},
		"none":                 {200, `[]`, fine, ""},
		"204":                  {204, ``, fine, ""},
		"no partitions":        {200, says("200"), fine, ""},
		"partitions":           {200, `{"datasetGroup":"otcMarket","availablePartitions":[`, fine, ""},
		"400":                  {400, says("400"), providers.Rejected, `refused with 400: Invalid "field".?See below.`},
		"400 with 200":         {200, says("400"), providers.Rejected, "refused with 400"},
		"401":                  {401, says("401"), providers.Rejected, "refused with 401"},
		"410 that means 401":   {410, says("410"), providers.Rejected, "refused with 410"},
		"404":                  {404, says("404"), providers.Rejected, "refused with 404"},
		"408":                  {408, says("408"), providers.Transient, "refused with 408"},
		"429":                  {429, says("429"), providers.RateLimited, "refused with 429"},
		"500":                  {500, says("500"), providers.Transient, "refused with 500"},
		"503 with 200":         {200, "\uFEFF \r\n" + says("503"), providers.Transient, "refused with 503"},
		"the body counts":      {404, says("503"), providers.Transient, "refused with 503"},
		"message in front":     {400, `{"message":"first","statusCode":400}`, providers.Rejected, "refused with 400: first"},
		"cut in the code":      {400, `{"statusCode":40`, fine, ""},
		"code as text":         {400, `{"statusCode":"400"}`, fine, ""},
		"long message":         {400, `{"statusCode":400,"message":"` + strings.Repeat("é", 300) + `"}`, providers.Rejected, "refused with 400: ??"},
		"429 page":             {429, "<html>", fine, ""},
		"503 page":             {503, "<html>", fine, ""},
		"403 page":             {403, "<html>", fine, ""},
		"404 page":             {404, "<html>", providers.BadPayload, "SA_DATA__FINRA__BASE_URL"},
		"410 of nothing":       {410, "", providers.BadPayload, "SA_DATA__FINRA__BASE_URL"},
		"page":                 {200, "<HTML>", providers.BadPayload, "a page"},
		"page after a mark":    {202, "\uFEFF\n<!DOCTYPE html>", providers.BadPayload, "a page"},
		"text":                 {200, `"settlementDate","symbolCode"`, fine, ""}, // the client refuses it
		"nothing":              {200, "", fine, ""},
		"object of no meaning": {200, "{}", fine, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := finra.Check(tc.status, http.Header{}, []byte(tc.head))
			if tc.kind == fine {
				if got != nil {
					t.Errorf("found %v, want nothing", got)
				}
				return
			}
			if got == nil || got.Kind != tc.kind || !strings.Contains(got.Err.Error(), tc.says) {
				t.Fatalf("found %+v, want kind %d and %q", got, tc.kind, tc.says)
			}
			if text := got.Err.Error(); len(text) > 300 || strings.ContainsAny(text, "\n\r") {
				t.Errorf("%q does not fit into a log", text)
			}
		})
	}
}

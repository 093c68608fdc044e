package alphavantage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/alphavantage"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const fine = providers.Kind(255)
	for name, tc := range map[string]struct {
		status int
		head   string
		kind   providers.Kind
		wait   time.Duration
	}{
		"data":                      {200, document(goodBar), fine, 0},
		"data, cut":                 {200, document(goodBar)[:90], fine, 0},
		"csv":                       {200, "timestamp,open", fine, 0},
		"burst names the day too":   {200, `{"Information": "Spreading out your free API requests (1 request per second) helps; 25 requests per day."}`, providers.RateLimited, 2 * time.Second},
		"burst pattern":             {200, `{"Information": "Burst pattern detected."}`, providers.RateLimited, time.Minute},
		"day":                       {200, `{"Information": "key X: our standard API rate limit is 25 requests per day"}`, providers.Quota, 0},
		"day in a note":             {200, `{"Note": "25 calls per day"}`, providers.Quota, 0},
		"day under another name":    {200, `{"Error Message": "daily rate limit reached"}`, providers.Quota, 0},
		"note of minute and day":    {200, `{"Note": "5 calls per minute and 500 calls per day"}`, providers.RateLimited, time.Minute},
		"note nobody has seen":      {200, `{"Note": "hello"}`, providers.RateLimited, time.Minute},
		"premium":                   {200, `{"Information": "This is a premium endpoint. 75 requests per minute with a plan."}`, providers.PremiumOnly, 0},
		"premium outputsize":        {200, `{"Information": "The outputsize=full parameter value is a premium feature"}`, providers.PremiumOnly, 0},
		"demo":                      {200, `{"Information": "The **demo** API key is for demo purposes only"}`, providers.Rejected, 0},
		"bad key":                   {200, `{"Error Message": "the parameter apikey is invalid or missing"}`, providers.Rejected, 0},
		"bad key, other name":       {200, `{"Information": "The parameter APIKEY is invalid or missing"}`, providers.Rejected, 0},
		"bad symbol":                {200, `{"Error Message": "Invalid API call. Please retry or visit the documentation"}`, providers.UnknownSymbol, 0},
		"bad function":              {200, `{"Error Message": "This API function (X) does not exist."}`, providers.Rejected, 0},
		"accept":                    {406, `{"detail": "Could not satisfy the request Accept header."}`, providers.Rejected, 0},
		"unknown information":       {200, `{"Information": "hello"}`, providers.BadPayload, 0},
		"unknown, status":           {500, `{"detail": "hello"}`, fine, 0},
		"message that is no text":   {200, `{"Note": {"a": 1}}`, fine, 0},
		"message with a mark":       {200, "\uFEFF \n{\"Note\": \"x\"}", providers.RateLimited, time.Minute},
		"message after data":        {200, `{"symbol": "X", "Note": "x"}`, providers.RateLimited, time.Minute},
		"empty object":              {200, `{}`, providers.NoData, 0},
		"empty object, blanks":      {200, "{\n }\n", providers.NoData, 0},
		"empty quote":               {200, `{"Global Quote": {}}`, providers.NoData, 0},
		"empty reports":             {200, `{"symbol": "X", "annualReports": [], "quarterlyReports": [ ]}`, providers.NoData, 0},
		"empty earnings":            {200, `{"symbol": "X", "annualEarnings": [], "quarterlyEarnings": []}`, providers.NoData, 0},
		"overview":                  {200, sheet(), fine, 0},
		"overview, empty list":      {200, sheet(`"Officers": []`), fine, 0},
		"overview of nulls":         {200, `{"Symbol": "X", "PERatio": null}`, fine, 0},
		"symbol alone":              {200, `{"Symbol": "X"}`, providers.NoData, 0},
		"symbol that is no text":    {200, `{"symbol": 1, "annualReports": []}`, fine, 0},
		"message beside figures":    {200, sheet(`"Note": "x"`), providers.RateLimited, time.Minute},
		"one report":                {200, `{"symbol": "X", "annualReports": [1], "quarterlyReports": []}`, fine, 0},
		"empty object, status":      {404, `{}`, fine, 0},
		"no JSON":                   {200, `{nonsense`, fine, 0},
		"broken escape":             {200, `{"Note": "\ud800"}`, fine, 0},
		"empty":                     {200, "", providers.BadPayload, 0},
		"blanks":                    {200, " \r\n", providers.BadPayload, 0},
		"empty, status":             {503, "", fine, 0},
		"page":                      {200, "<!DOCTYPE html>", providers.BadPayload, 0},
		"page, status":              {520, "<!DOCTYPE html>", fine, 0},
		"null":                      {200, "null", providers.BadPayload, 0},
		"array":                     {200, "[]", providers.BadPayload, 0},
		"limit with a status":       {503, `{"Note": "5 calls per minute"}`, providers.RateLimited, time.Minute},
		"control characters inside": {200, `{"Note": "a\nlevel=error\u001b[31m"}`, providers.RateLimited, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := alphavantage.Check(tc.status, nil, []byte(tc.head))
			if tc.kind == fine {
				if got != nil {
					t.Errorf("found %v, want nothing", got)
				}
				return
			}
			if got == nil || got.Kind != tc.kind || got.RetryAfter != tc.wait {
				t.Fatalf("found %+v, want kind %d and a wait of %s", got, tc.kind, tc.wait)
			}
			if strings.ContainsAny(got.Err.Error(), "\n\r\x1b") {
				t.Errorf("control characters in %q", got.Err)
			}
		})
	}
}

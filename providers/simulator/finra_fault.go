package simulator

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
)

// The faults of FINRA that no other provider has. Those of the same name as
// elsewhere are HTML, HTML503, Forbidden, NotFoundPage, TooManyRequests,
// EmptyBody, EmptyObject, EmptyArray, Null, WrongContentType, ByteOrderMark,
// BadUTF8, Trailing, TruncatedLength, TruncatedClose, TruncatedGzip, Reset,
// SlowHeaders, GzipBomb, RedirectElsewhere, RedirectLoop, BadDate, BadNumber,
// NullValue, NaN, HugeNumber, Exponent, NegativeVolume, RenamedField,
// ExtraField and RepeatedField.
const (
	BadRequest    Fault = "bad_request"    // status 400 and JSON that repeats the question
	Unauthorized  Fault = "unauthorized"   // status 401 and JSON
	ServerError   Fault = "server_error"   // status 500 and JSON
	ErrorWith200  Fault = "error_with_200" // an error of status 400, with status 200
	NoContent     Fault = "no_content"     // status 204
	PlainText     Fault = "plain_text"     // lines in place of JSON
	ShortPage     Fault = "short_page"     // a third of the rows; the next page has more
	TotalChanges  Fault = "total_changes"  // another number of rows on every page
	TotalMissing  Fault = "total_missing"  // no number of rows
	TotalTooLarge Fault = "total_too_large"
	TotalTooSmall Fault = "total_too_small"
	RepeatedRow   Fault = "repeated_row"   // one row twice, another one not at all
	SharedCode    Fault = "shared_code"    // two securities of one spelling
	UnstableOrder Fault = "unstable_order" // another order on every page
	WrongDate     Fault = "wrong_date"     // a row of another settlement date
	UnaskedSymbol Fault = "unasked_symbol" // a row of another symbol
)

// finraShape is a fault and the way it is served.
type finraShape struct {
	fault Fault
	serve func(finraReply)
}

// FINRAFaults returns the names of all faults of FINRA.
func FINRAFaults() []string {
	var names []string
	for _, s := range finraShapes() {
		names = append(names, string(s.fault))
	}
	return names
}

func finraShapeOf(f Fault) func(finraReply) {
	for _, s := range finraShapes() {
		if s.fault == f {
			return s.serve
		}
	}
	return nil
}

func finraShapes() []finraShape {
	return slices.Concat(finraErrors(), finraForms(), finraWays(), finraPages(), finraValues())
}

func finraErrors() []finraShape {
	says := func(f Fault, status, code int, message string) finraShape {
		return finraShape{f, func(a finraReply) { a.refuseAs(status, code, message) }}
	}
	page := func(f Fault, status int) finraShape {
		return finraShape{f, func(a finraReply) {
			a.sendAs(status, "text/html", []byte("<html>\r\n<head><title>"+strconv.Itoa(status)+"</title></head>\r\n<body>gateway</body>\r\n</html>\r\n"))
		}}
	}
	return []finraShape{
		says(BadRequest, http.StatusBadRequest, http.StatusBadRequest, "Invalid date field format.\nThe field must be yyyy-MM-dd."),
		says(Unauthorized, http.StatusUnauthorized, http.StatusUnauthorized, "No credentials."),
		says(ServerError, http.StatusInternalServerError, http.StatusInternalServerError, "Something went wrong."),
		says(ErrorWith200, http.StatusOK, http.StatusBadRequest, "Invalid filter."),
		says(TooManyRequests, http.StatusTooManyRequests, http.StatusTooManyRequests, "Too many requests."),
		page(HTML, http.StatusOK),
		page(HTML503, http.StatusServiceUnavailable),
		page(Forbidden, http.StatusForbidden),
		page(NotFoundPage, http.StatusNotFound),
	}
}

func finraForms() []finraShape {
	document := func(f Fault, make func(finraReply) []byte) finraShape {
		return finraShape{f, func(a finraReply) {
			a.w.Header().Set("Record-Total", strconv.Itoa(a.sheet().total))
			a.sendAs(http.StatusOK, "application/json", make(a))
		}}
	}
	text := func(f Fault, text string) finraShape {
		return finraShape{f, func(a finraReply) { a.sendAs(http.StatusOK, "application/json", []byte(text)) }}
	}
	return []finraShape{
		{NoContent, func(a finraReply) { a.w.WriteHeader(http.StatusNoContent) }},
		text(EmptyBody, ""),
		text(EmptyObject, "{}"),
		text(EmptyArray, "[]"),
		text(Null, "null"),
		{PlainText, func(a finraReply) { a.sendAs(http.StatusOK, "text/plain", a.sheet().text(a.Fields)) }},
		{WrongContentType, func(a finraReply) { a.sendAs(http.StatusOK, "text/plain", a.body()) }},
		document(ByteOrderMark, func(a finraReply) []byte { return append([]byte("\uFEFF"), a.body()...) }),
		document(BadUTF8, func(a finraReply) []byte {
			return bytes.Replace(a.body(), []byte("Simulated"), []byte("Simu\xfflated"), 1)
		}),
		document(Trailing, func(a finraReply) []byte { return append(a.body(), "[]\n"...) }),
	}
}

func finraWays() []finraShape {
	const json = "Content-Type: application/json\r\nRecord-Total: 1\r\n"
	cut := func(f Fault, header string) finraShape {
		return finraShape{f, func(a finraReply) {
			body := a.body()
			a.raw(json+header, len(body), body[:len(body)*2/3])
		}}
	}
	// The status that makes a client ask in the same way again.
	redirect := func(f Fault, where func(finraReply) string) finraShape {
		return finraShape{f, func(a finraReply) { http.Redirect(a.w, a.r, where(a), http.StatusTemporaryRedirect) }}
	}
	return []finraShape{
		cut(TruncatedLength, "Content-Length: %d\r\n"),
		cut(TruncatedClose, ""),
		{TruncatedGzip, func(a finraReply) {
			zipped := zip(a.body())
			a.raw(json+"Content-Encoding: gzip\r\n", 0, zipped[:len(zipped)*2/3])
		}},
		{Reset, func(a finraReply) {
			body := a.body()
			a.w.Header().Set("Content-Type", "application/json")
			_, _ = a.w.Write(body[:len(body)/2])
			a.reset()
		}},
		{SlowHeaders, func(a finraReply) { <-a.r.Context().Done() }},
		{GzipBomb, func(a finraReply) {
			a.w.Header().Set("Content-Type", "application/json")
			a.bomb()
		}},
		redirect(RedirectElsewhere, func(a finraReply) string { return a.s.c.Elsewhere + a.r.URL.Path }),
		redirect(RedirectLoop, func(a finraReply) string { return a.r.URL.RequestURI() }),
	}
}

// finraEdit is a fault of a page that is right but for one change. The
// partitions are right, and so is a page without rows.
func finraEdit(f Fault, change func(finraReply, *finraSheet)) finraShape {
	return finraShape{f, func(a finraReply) {
		if !a.isData() {
			a.partitions()
			return
		}
		s := a.sheet()
		if len(s.rows) > 0 {
			change(a, s)
		}
		a.sendSheet(s)
	}}
}

func finraPages() []finraShape {
	return []finraShape{
		finraEdit(ShortPage, func(_ finraReply, s *finraSheet) { s.rows = s.rows[:(len(s.rows)+2)/3] }),
		{TotalChanges, func(a finraReply) {
			s := a.sheet()
			s.total += a.number
			a.sendSheet(s)
		}},
		finraEdit(TotalMissing, func(_ finraReply, s *finraSheet) { s.noTotal = true }),
		{TotalTooLarge, func(a finraReply) {
			s := a.sheet()
			s.total++
			a.sendSheet(s)
		}},
		finraEdit(TotalTooSmall, func(_ finraReply, s *finraSheet) { s.total-- }),
		finraEdit(RepeatedRow, func(_ finraReply, s *finraSheet) { s.rows[len(s.rows)-1] = s.rows[0] }),
		finraEdit(SharedCode, func(_ finraReply, s *finraSheet) {
			twin := slices.Clone(s.rows[0])
			twin.set("issueName", `"Another Company"`)
			s.rows = append(s.rows, twin)
			s.total++
		}),
		{UnstableOrder, func(a finraReply) {
			a.salt = uint64(a.Offset)
			a.sendSheet(a.sheet())
		}},
	}
}

func finraValues() []finraShape {
	first := func(f Fault, name, value string) finraShape {
		return finraEdit(f, func(_ finraReply, s *finraSheet) { s.rows[0].set(name, value) })
	}
	const current = "currentShortPositionQuantity"
	return []finraShape{
		first(WrongDate, "settlementDate", `"2018-01-12"`),
		first(UnaskedSymbol, "symbolCode", `"UNASKED"`),
		first(BadDate, "settlementDate", `"2026-02-30"`),
		first(BadNumber, current, `"None"`),
		first(NullValue, current, "null"),
		first(NaN, current, "NaN"),
		first(NegativeVolume, "averageDailyVolumeQuantity", "-1"),
		first(HugeNumber, "daysToCoverQuantity", "1e999"),
		finraEdit(Exponent, func(_ finraReply, s *finraSheet) { // the data are right
			change, err := strconv.ParseFloat(s.rows[0].get("changePercent"), 64)
			if err == nil {
				s.rows[0].set("changePercent", strconv.FormatFloat(change, 'e', -1, 64))
			}
		}),
		finraEdit(RenamedField, func(_ finraReply, s *finraSheet) { s.rows[0][s.rows[0].index(current)].name = "current" }),
		finraEdit(ExtraField, func(_ finraReply, s *finraSheet) { s.rows[0] = append(s.rows[0], finraField{"extra", `{"a":[1]}`}) }),
		finraEdit(RepeatedField, func(_ finraReply, s *finraSheet) {
			s.rows[0] = append(s.rows[0], finraField{current, "1"})
		}),
	}
}

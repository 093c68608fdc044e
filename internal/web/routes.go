package web

import (
	"bytes"
	_ "embed"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// route is one line of the table. What is not marked open needs the token.
type route struct {
	pattern string
	handler http.Handler
	open    bool
	// streams: the answer has no end of its own.
	streams bool
}

//go:embed openapi.json
var openAPI []byte

//go:embed index.html
var index []byte

func (s *Server) routes() []route {
	table := []route{
		{pattern: "GET /livez", handler: http.HandlerFunc(s.livez), open: true},
		{pattern: "GET /readyz", handler: http.HandlerFunc(s.readyz), open: true},
		{pattern: "GET /{$}", handler: static("text/html; charset=utf-8", index)},
		{pattern: "GET /api/v1/openapi.json", handler: static("application/json", bytes.ReplaceAll(openAPI, []byte("{version}"), []byte(s.Version)))},
		{pattern: "GET /api/v1/status", handler: s.document(func(r *http.Request) (any, error) { return s.Data.Status(r.Context()) })},
		{pattern: "GET /api/v1/jobs", handler: s.document(func(r *http.Request) (any, error) { return s.Data.Jobs(r.Context()) })},
		{pattern: "GET /api/v1/quotas", handler: s.document(func(r *http.Request) (any, error) { return s.Data.Quotas(r.Context()) })},
		{pattern: "GET /api/v1/coverage", handler: s.document(s.coverage, "symbols", "since")},
		{pattern: "GET /api/v1/runs", handler: s.document(s.runs, "job", "limit", "cursor")},
		{pattern: "GET /api/v1/runs/{id}", handler: s.document(s.run, "limit", "cursor")},
		{pattern: "POST /api/v1/jobs/{job}/run", handler: http.HandlerFunc(s.trigger)},
	}
	if s.Metrics != nil {
		table = append(table, route{pattern: "GET /metrics", handler: s.Metrics})
	}
	if s.WebSocket != nil {
		table = append(table, route{pattern: "GET /ws", handler: s.WebSocket, streams: true})
	}
	return table
}

func static(contentType string, text []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(text)
	})
}

// document serves what get returns, a few at a time, and refuses parameters
// that are not among known.
func (s *Server) document(get func(*http.Request) (any, error), known ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkQuery(r.URL.RawQuery, known); err != nil {
			s.fail(w, r, err)
			return
		}
		select {
		case s.reading <- struct{}{}:
		case <-r.Context().Done():
			s.fail(w, r, r.Context().Err())
			return
		}
		defer func() { <-s.reading }()
		document, err := get(r)
		s.answer(w, r, http.StatusOK, document, err)
	})
}

func checkQuery(raw string, known []string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return badRequest("the query cannot be read: %w", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return badRequest("unknown parameter %q: want %q", name, known)
		}
		if len(values) > 1 {
			return badRequest("parameter %s is given twice", name)
		}
	}
	return nil
}

func (s *Server) coverage(r *http.Request) (any, error) {
	return s.Data.Coverage(r.Context(), r.URL.Query().Get("symbols"), r.URL.Query().Get("since"))
}

const (
	standardLimit = 50
	mostLimit     = 500
)

// page reads limit and cursor.
func page(r *http.Request) (limit int, before int64, err error) {
	limit = standardLimit
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostLimit {
			return 0, 0, badRequest("limit is %q: want a whole number from 1 to %d", text, mostLimit)
		}
	}
	if text := r.URL.Query().Get("cursor"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			return 0, 0, badRequest("cursor is %q: want that of the page before", text)
		}
	}
	return limit, before, nil
}

// cut leaves the documents of a page, for which one more was asked than fits,
// and the cursor of the next; "" if it is the last.
func cut(items []Item, limit int) (documents []any, next string) {
	if len(items) > limit {
		items = items[:limit]
		next = strconv.FormatInt(items[limit-1].ID, 10)
	}
	documents = make([]any, len(items))
	for i, item := range items {
		documents[i] = item.Document
	}
	return documents, next
}

type runList struct {
	Runs []any  `json:"runs"`
	Next string `json:"next,omitempty"`
}

func (s *Server) runs(r *http.Request) (any, error) {
	limit, before, err := page(r)
	if err != nil {
		return nil, err
	}
	items, err := s.Runs.Page(r.Context(), r.URL.Query().Get("job"), before, limit+1)
	if err != nil {
		return nil, err
	}
	list, next := cut(items, limit)
	return runList{list, next}, nil
}

type runDetail struct {
	Run   any    `json:"run"`
	Units []any  `json:"units"`
	Next  string `json:"next,omitempty"`
}

func (s *Server) run(r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return nil, badRequest("run %q: want a number", r.PathValue("id"))
	}
	limit, before, err := page(r)
	if err != nil {
		return nil, err
	}
	detail := runDetail{}
	if detail.Run, err = s.Runs.Run(r.Context(), id); err != nil {
		return nil, err
	}
	items, err := s.Runs.Units(r.Context(), id, before, limit+1)
	if err != nil {
		return nil, err
	}
	detail.Units, detail.Next = cut(items, limit)
	return detail, nil
}

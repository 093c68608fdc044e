package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/alpha-oracle/worker/internal/secret"
)

// problem is an error as RFC 9457 has it. RequestID is that of the log's line.
type problem struct {
	Type      string     `json:"type"`
	Title     string     `json:"title"`
	Status    int        `json:"status"`
	Detail    string     `json:"detail,omitempty"`
	RequestID string     `json:"request_id"`
	Owner     string     `json:"owner,omitempty"`
	Since     *time.Time `json:"since,omitempty"`

	retry time.Duration
}

// refuse answers with a problem.
func (s *Server) refuse(w http.ResponseWriter, status int, format string, args ...any) {
	s.write(w, problem{Status: status, Detail: fmt.Sprintf(format, args...)})
}

func (s *Server) write(w http.ResponseWriter, p problem) {
	p.Type, p.Title, p.RequestID = "about:blank", http.StatusText(p.Status), w.Header().Get(requestID)
	if p.retry > 0 {
		// Rounded up: a second too early would be refused again.
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
	s.encode(w, "application/problem+json", p.Status, p)
}

// fail answers for an error of those who know. Only what is meant for clients
// is shown to them; the log has the rest.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	held, isHeld := errors.AsType[*HeldError](err)
	bad, isBad := errors.AsType[*BadRequestError](err)
	switch {
	case isHeld:
		s.write(w, problem{Status: http.StatusConflict, Detail: held.Error(), Owner: held.Owner, Since: &held.Since})
	case errors.As(err, new(*http.MaxBytesError)):
		s.refuse(w, http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody)
	case isBad:
		s.refuse(w, http.StatusBadRequest, "%s", bad)
	case errors.Is(err, ErrNotFound):
		s.refuse(w, http.StatusNotFound, "%s", err)
	case errors.Is(err, ErrStopping):
		s.write(w, problem{Status: http.StatusServiceUnavailable, Detail: ErrStopping.Error(), retry: drained})
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.tell(w, r, "no answer in time", "", err)
		s.write(w, problem{Status: http.StatusServiceUnavailable, Detail: "there was no answer in time", retry: drained})
	default:
		s.tell(w, r, "request failed", "", err)
		s.refuse(w, http.StatusInternalServerError, "the log says more about this request")
	}
}

// answer encodes a document.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, document any, err error) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.encode(w, "application/json", status, document)
}

func (s *Server) encode(w http.ResponseWriter, contentType string, status int, document any) {
	text, err := json.Marshal(document)
	if err == nil {
		text, err = secret.JSON(text, s.Redact)
	}
	if err != nil {
		s.Tell(Event{Text: "a document cannot be encoded", ID: w.Header().Get(requestID), Err: err})
		status, text, contentType = http.StatusInternalServerError, []byte("{}\n"), "application/problem+json"
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func (s *Server) tell(w http.ResponseWriter, r *http.Request, text, detail string, err error) {
	s.Tell(Event{
		Text: text, ID: w.Header().Get(requestID), Remote: origin(r), Method: r.Method, Path: r.URL.Path, Detail: detail, Err: err,
	})
}

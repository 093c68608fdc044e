package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	w := newWorld(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, addr := range []string{"127.0.0.1:" + port, ":" + port, "0.0.0.0:" + port, "[::]:" + port} {
		w.env["SA_HTTP__ADDR"] = addr
		if s := w.run("healthcheck"); s.code != exitFailed || !strings.Contains(s.err, "503") {
			t.Errorf("%s, not ready: %+v", addr, s)
		}
		if s := w.run("healthcheck", "--path", "/livez"); s.code != exitOK || s.out+s.err != "" {
			t.Errorf("%s, alive: %+v", addr, s)
		}
	}
	server.Close()
	if s := w.run("healthcheck"); s.code != exitFailed || !strings.Contains(s.err, "refused") {
		t.Errorf("nobody there: %+v", s)
	}
	w.env["SA_HTTP__ADDR"] = "8080"
	if s := w.run("healthcheck"); s.code != exitUsage || !strings.Contains(s.err, "SA_HTTP__ADDR") {
		t.Errorf("no address: %+v", s)
	}
	if s := w.run("healthcheck", "--path", "/"); s.code != exitUsage {
		t.Errorf("another path: %+v", s)
	}
}

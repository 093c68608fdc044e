package universe_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/alpha-oracle/worker/internal/universe"
)

// token is a secret in an address that no error may show.
const token = "T0K3Nabcdef"

func TestCheckSource(t *testing.T) {
	t.Parallel()
	for _, location := range []string{
		"", "/etc/sp500.csv", "sp500.txt", "https://lists.example/sp500.csv?token=x", "HTTPS://lists.example/x", "https://user:pass@lists.example",
		"http://localhost:8090/x", "http://127.0.0.1/x", "http://[::1]:80/x",
	} {
		if err := universe.CheckSource(location); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
	for location, want := range map[string]string{
		"http://lists.example/" + token:        "write https://",
		"http://10.0.0.1/" + token:             "write https://",
		"http://localhost.example/" + token:    "write https://",
		"ftp://lists.example/" + token:         `"ftp"`,
		"https:///" + token:                    "no host",
		"https://?token=" + token:              "no host",
		"https://lists.example:" + token + "/": "no address",
		"://" + token:                          "no address",
	} {
		err := universe.CheckSource(location)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", location, err)
		}
		if _, fetched := universe.Fetch(t.Context(), nil, location); fetched == nil || !strings.Contains(fetched.Error(), err.Error()) || strings.Contains(fetched.Error(), token) {
			t.Errorf("fetch %s: %v", location, fetched)
		}
	}
}

func TestFetchFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, pipe := filepath.Join(dir, "good"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(good, []byte("AAPL\nBRK-B\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := universe.Fetch(t.Context(), nil, good); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{filepath.Join(dir, "none"), dir, pipe} {
		if got, err := universe.Fetch(t.Context(), nil, name); err == nil || !strings.Contains(err.Error(), "file "+name) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// lists answers as hosts of lists do, well and badly.
func lists() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) {
		if r.Referer() != "" || r.UserAgent() == "" {
			http.Error(w, "", http.StatusTeapot)
			return
		}
		_, _ = w.Write([]byte("AAPL\nMSFT\n"))
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/good", http.StatusFound)
	})
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/good?token="+token, http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/round?token="+token, http.StatusFound)
	})
	mux.HandleFunc("/forbidden", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("AAPL\nMSFT\n"))
	})
	mux.HandleFunc("/nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) })
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("AAPL\nMSFT\n"))
	})
	return mux
}

func TestFetchAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(lists())
	t.Cleanup(server.Close)
	for path, want := range map[string]string{
		"/good": "", "/moved": "",
		"/plain":     "only https",
		"/round":     "more than 5 times",
		"/forbidden": "status 403 Forbidden",
		"/nothing":   "status 204",
		"/page":      "HTML",
		"/cut":       "unexpected EOF",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			address := strings.Replace(server.URL, "https://", "https://user:"+token+"@", 1) + path + "?token=" + token
			got, err := universe.Fetch(t.Context(), server.Client(), address)
			if want == "" {
				if err != nil || len(got) != 2 {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err == nil || got != nil {
				t.Fatalf("%v, %v", got, err)
			}
			if !strings.HasPrefix(err.Error(), server.URL+": ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) {
				t.Errorf("want the host and %q, and no secret: %v", want, err)
			}
		})
	}
}

func TestFetchFollowsFiveRedirects(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "/", http.StatusFound)
	}))
	t.Cleanup(server.Close)
	if _, err := universe.Fetch(t.Context(), server.Client(), server.URL); err == nil || asked.Load() != 6 {
		t.Errorf("asked %d times, want 6: %v", asked.Load(), err)
	}
}

// A plain address of this machine may not lead elsewhere unprotected either.
func TestFetchFromThisMachine(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(lists())
	t.Cleanup(server.Close)
	if got, err := universe.Fetch(t.Context(), server.Client(), server.URL+"/good"); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := universe.Fetch(t.Context(), server.Client(), server.URL+"/moved"); err == nil || !strings.Contains(err.Error(), "only https") {
		t.Errorf("%v, %v", got, err)
	}
	server.Close()
	if _, err := universe.Fetch(t.Context(), server.Client(), server.URL+"/good?token="+token); err == nil ||
		!strings.Contains(err.Error(), server.URL) || strings.Contains(err.Error(), token) {
		t.Errorf("nobody answers: %v", err)
	}
}

// silent is a host that takes the question and never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestFetchGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := universe.Fetch(t.Context(), &http.Client{Transport: silent{}}, "https://lists.example/?token="+token)
		if err == nil || err.Error() != "https://lists.example: no complete answer within 20s" {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := universe.Fetch(ctx, &http.Client{Transport: silent{}}, "https://lists.example/"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

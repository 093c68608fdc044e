package events_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/alpha-oracle/worker/internal/events"
	"github.com/alpha-oracle/worker/internal/testenv"
)

// page connects as a dashboard does, with the token as a subprotocol, and
// shows what comes.
const page = `<!DOCTYPE html><title>events</title><p id="state">connecting</p><p id="said"></p><script>
const show = (id, text) => document.getElementById(id).textContent = text;
const socket = new WebSocket("ws://" + location.host + "/ws", ["alpha-oracle.events", "bearer.t0k3n"]);
socket.onopen = () => socket.send('{"type":"ping"}');
socket.onclose = e => show("state", "closed " + e.code);
socket.onmessage = e => {
	const m = JSON.parse(e.data);
	if (m.type === "pong") show("state", "connected");
	else show("said", m.channel + " " + m.data.reason);
};
</script>`

// browser starts a Chromium of the test's own.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := testenv.Chromium(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); end() })
	return ctx
}

// A page in a browser sees what any program says on a channel; the same page of
// another origin does not get in.
func TestBrowser(t *testing.T) {
	t.Parallel()
	redis := testenv.RedisServer(t).URL()
	ready := make(chan struct{}, 1)
	c := events.HubConfig{
		Redis: client(t, redis), Now: time.Now, Token: func() string { return "t0k3n" },
		Ready: func(events.Gap) { ready <- struct{}{} },
	}
	var hub *events.Hub
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(w, r) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(page)) })
	ours, theirs := httptest.NewServer(mux), httptest.NewServer(mux)
	t.Cleanup(ours.Close)
	t.Cleanup(theirs.Close)
	c.Origins = []string{ours.URL}
	hub = events.NewHub(c)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	await(t, ready)

	tab := browser(t)
	has := func(id, text string) chromedp.Action[chromedp.Void] {
		return chromedp.Poll[chromedp.Void](`document.getElementById("` + id + `").textContent === "` + text + `"`)
	}
	if err := chromedp.Do(tab, chromedp.Navigate(ours.URL), has("state", "connected")); err != nil {
		t.Fatalf("the page does not connect: %v, %+v", err, hub.Stats())
	}
	out, err := exec.CommandContext(t.Context(), "redis-cli", "-u", redis, "PUBLISH", "risk:alert", `{"reason":"seen by a person"}`).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli: %v, %s", err, out)
	}
	if err := chromedp.Do(tab, has("said", "risk:alert seen by a person")); err != nil {
		t.Fatalf("the page does not show the message: %v, %+v", err, hub.Stats())
	}
	if err := chromedp.Do(tab, chromedp.Navigate(theirs.URL), has("state", "closed 1006")); err != nil || hub.Stats().Ended["origin"] != 1 {
		t.Errorf("a page of another origin: %v, %+v", err, hub.Stats())
	}
}
